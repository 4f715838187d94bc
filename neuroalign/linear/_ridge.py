"""Ridge regression with labels: the body of `RidgeEncoder` and `RidgeDecoder`."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import warn
from neuroalign.evaluation.folds import resolve_cv
from neuroalign.protocol import LabelledEstimator, Labels, Samples
from neuroalign.solvers import default_alphas, ridge_cv

#: A grid given by the user that ends where more than this share of targets wants to be gets a warning.
EDGE_SHARE = 0.1


class LinearModel(LabelledEstimator):
    """What ridge and TRF models have in common: per-target alphas and scores, put back under their labels."""

    alphas: ArrayLike | None
    alpha_per_target: bool = True

    @property
    def separable_targets(self) -> bool:
        """Whether each target is fitted on its own, so that further targets change nothing for it."""
        return self.alpha_per_target

    @property
    def alphas_(self) -> Any:
        """Chosen penalty of every target; NaN where a target could not be learned."""
        return self._per_target(self.solution_alphas_)

    @property
    def cv_scores_(self) -> Any:
        """Mean score over the inner folds of every target, at its chosen penalty."""
        return self._per_target(self.solution_scores_)

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

    def _per_target(self, values: NDArray[Any]) -> Any:
        full = self._full(values)
        return self.target_labels_.wrap(full) if self.labelled_ else full.reshape(self.target_labels_.shape)

    def _store(self, result: Any) -> None:
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
        self._store(result)

    def _predict(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        return X @ self.solution_coef_.astype(X.dtype, copy=False) + self.solution_intercept_.astype(X.dtype)


def as_labelled(X: NDArray[Any], samples: Samples) -> xr.DataArray | NDArray[Any]:
    """Give an array its sample labels, from which inner folds are made."""
    if samples.dim is None:
        return X
    coords = {name: (samples.dim, values) for name, values in samples.coords.items()}
    return xr.DataArray(X, dims=(samples.dim, "feature"), coords=coords)


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
