"""Ridge regression with labels: the body of `RidgeEncoder` and `RidgeDecoder`."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError, warn
from neuroalign.evaluation.folds import resolve_cv
from neuroalign.protocol import LabelledEstimator, Labels, Samples, check_shape
from neuroalign.solvers import default_alphas, ridge_cv

#: A grid given by the user that ends where more than this share of targets wants to be gets a warning.
EDGE_SHARE = 0.1


class LinearModel(LabelledEstimator):
    """What ridge and TRF models have in common: per-target alphas and scores, put back under their labels."""

    alphas: ArrayLike | None
    cv: Any
    alpha_per_target: bool = True

    @property
    def separable_targets(self) -> bool:
        """Whether each target is fitted on its own, so that further targets change nothing for it."""
        return self.alpha_per_target

    @property
    def alphas_(self) -> Any:
        """Chosen penalty of every target; NaN where a target could not be learned."""
        return self._per_target(self.solution_alphas_, units="a.u.")

    @property
    def cv_scores_(self) -> Any:
        """Mean score over the inner folds of every target, at its chosen penalty."""
        return self._per_target(self.solution_scores_, units="1")

    @property
    def intercept_(self) -> Any:
        """Intercept of every target."""
        return self._per_target(self.solution_intercept_)

    def _full(self, values: NDArray[Any]) -> NDArray[Any]:
        """Spread (..., known targets) over all targets, NaN for those left out."""
        keep = ~self.masked_targets_
        if keep.all():
            return values
        full = np.full((*values.shape[:-1], len(keep)), np.nan, dtype=values.dtype)
        full[..., keep] = values
        return full

    def _per_target(self, values: NDArray[Any], **attrs: str) -> Any:
        full = self._full(values)
        if not self.labelled_:
            return full.reshape(self.target_labels_.shape)
        return self.target_labels_.wrap(full).assign_attrs(attrs)

    _state_names = LabelledEstimator._state_names | {
        "solution_coef_",
        "solution_intercept_",
        "solution_alphas_",
        "solution_scores_",
        "alpha_edges_",
    }

    def _check_state(self) -> None:
        super()._check_state()
        known = int((~self.masked_targets_).sum())
        for name in ("solution_alphas_", "solution_scores_", "solution_intercept_"):
            check_shape(self, name, (known,))

    def _learned(self) -> NDArray[np.bool_]:
        """Whether weights of a target have to be finite, (known targets,)."""
        return np.isfinite(self.solution_alphas_)

    def _check_scored(self, result: Any, Y: NDArray[Any]) -> None:
        """Refuse targets that vary, but in no test fold: no penalty can be chosen for them."""
        lost = np.isnan(result.alphas) & (Y[:1] != Y).any(axis=0)
        if not lost.any():
            return
        if lost.all():
            raise SchemaError(
                "No penalty could be chosen: no inner test fold holds two different values of any target.",
                expected="inner test folds of >= 2 samples",
                got=f"n_samples={len(Y)} in {type(self).__name__}(cv={self.cv})",
                fix="give more samples, or fewer folds (cv=2)",
            )
        warn(
            f"{int(lost.sum())} of {lost.size} targets are constant in every inner test fold; they get NaN scores.",
            stacklevel=5,
        )

    def _store(self, result: Any, Y: NDArray[Any]) -> None:
        self._check_scored(result, Y)
        self.solution_intercept_ = np.asarray(result.intercept)
        self.solution_alphas_ = np.asarray(result.alphas)
        self.solution_scores_ = np.asarray(result.cv_scores)
        low, high = (float(share) for share in result.edge)
        self.alpha_edges_ = [low, high]
        if self.alphas is not None and np.size(self.alphas) > 1 and low + high > EDGE_SHARE:
            warn(
                f"The grid of alphas may be too narrow: {low:.0%} of targets chose its smallest value, {high:.0%} its "
                "largest. Widen it, or leave alphas=None for a grid that is scaled to the features.",
                stacklevel=5,
            )


class RidgeModel(LinearModel):
    """Ridge regression with a penalty chosen by inner folds; see `neuroalign.encoding.RidgeEncoder`."""

    def __init__(
        self,
        *,
        alphas: ArrayLike | None = None,
        cv: Any = None,
        scorer: Any = "r2",
        alpha_per_target: bool = True,
        fit_intercept: bool = True,
        nan: str = "mask",
        unlabelled: str = "refuse",
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.scorer = scorer
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept
        self.nan = nan
        self.unlabelled = unlabelled

    @property
    def coef_(self) -> Any:
        """Weights: DataArray (*feature dims, *target dims), or array (n_features, *targets)."""
        return self._per_feature(self.solution_coef_)

    def _check_state(self) -> None:
        super()._check_state()
        shape = (self.n_features_in_, self.solution_alphas_.size)
        check_shape(self, "solution_coef_", shape, finite=self._learned())

    def _per_feature(self, values: NDArray[Any]) -> Any:
        full = self._full(values)
        targets = self.target_labels_
        if not self.labelled_:
            return full.reshape(len(full), *targets.shape)
        return pair_labels(self.feature_labels_, targets).wrap(full)

    def _fit(self, X: NDArray[Any], Y: NDArray[Any], samples: Samples, groups: ArrayLike | None) -> None:
        result = ridge_cv(
            X,
            Y,
            alphas=default_alphas(X) if self.alphas is None else self.alphas,
            folds=resolve_cv(self.cv, as_labelled(X, samples), None, groups),
            scorer=self.scorer,
            fit_intercept=self.fit_intercept,
            alpha_per_target=self.alpha_per_target,
        )
        self.solution_coef_ = np.asarray(result.coef)
        self._store(result, Y)

    def _predict(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        return X @ self.solution_coef_.astype(X.dtype, copy=False) + self.solution_intercept_.astype(X.dtype)


def as_labelled(X: NDArray[Any], samples: Samples) -> xr.DataArray | NDArray[Any]:
    """Give an array its sample labels, from which inner folds are made."""
    if samples.dim is None:
        return X
    coords = {name: (samples.dim, values) for name, values in samples.coords.items()}
    return xr.DataArray(X, dims=(samples.dim, "__feature__"), coords=coords)  # a name that no coordinate has


def pair_labels(features: Labels, targets: Labels) -> Labels:
    """Join feature and target labels; a name that both use gets the suffix ``_out`` on the target's side."""
    rename = {
        name: f"{name}_out" for name in {*targets.dims, *targets.coords} if name in {*features.dims, *features.coords}
    }
    dims = tuple(rename.get(d, d) for d in targets.dims)
    coords = {
        rename.get(name, name): (tuple(rename.get(d, d) for d in along), values)
        for name, (along, values) in targets.coords.items()
    }
    return Labels((*features.dims, *dims), (*features.shape, *targets.shape), {**features.coords, **coords}, None, {})
