"""Ridge regression with labels: the body of `RidgeEncoder` and `RidgeDecoder`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError, warn
from neuroalign.evaluation.folds import CLOSED_FORMS, check_independent, resolve_cv, warn_of_shared
from neuroalign.evaluation.splits import Fold
from neuroalign.linear._chunked import RidgeChunks, WholeFit
from neuroalign.protocol import LabelledEstimator, Labels, Samples, check_shape
from neuroalign.solvers import default_alphas, ridge_cv, ridge_plan
from neuroalign.solvers.chunked import check_choice

#: A grid given by the user that ends where more than this share of targets wants to be gets a warning.
EDGE_SHARE = 0.1
#: Number of penalties of the default grid, and its powers of ten. It reaches 3 decades above `default_alphas`: further
#: penalties cost next to nothing, and suit targets that want to be shrunk to nothing. Below, float32 scores would tie.
DEFAULT_GRID: tuple[int, tuple[float, float]] = (27, (-4.0, 7.0))

_ROWS = 2048  # rows that are centred in float64 at a time


class LinearModel(LabelledEstimator):
    """What ridge and TRF models have in common: per-target alphas and scores, put back under their labels."""

    alphas: Any
    cv: Any
    alpha_per_target: bool | str = True
    standardize: bool = False

    @property
    def separable_targets(self) -> bool:
        """Whether each target is fitted on its own, so that further targets change nothing for it."""
        return self.alpha_per_target is True

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

    # What is learned of each target alone, so that blocks of targets can be fitted one by one; `_stored` names all.
    _block_state: ClassVar[frozenset[str]] = frozenset(
        {"solution_coef_", "solution_intercept_", "solution_alphas_", "solution_scores_"}
    )

    def _plan_chunks(self, X: NDArray[Any], samples: Samples, groups: ArrayLike | None, dtype: str) -> Any:
        """What all blocks of targets share; its ``fit(model, Y, place)`` gives a copy of the model with a solution."""
        if not self.separable_targets:
            raise ConfigError(
                f"{type(self).__name__} cannot be fitted block by block where its targets choose penalties together.",
                expected="a penalty for each target",
                got=self.alpha_per_target,
                fix="fit it in memory, on as many targets at a time as fit",
            )
        return WholeFit(X, samples, groups)

    def _stored(self) -> dict[str, tuple[str, Labels]]:
        """What a store holds for each target: its name there, the attribute, and labels of its other dimensions."""
        none = Labels((), (), {})
        return {
            "coef": ("solution_coef_", self.feature_labels_),
            "intercept": ("solution_intercept_", none),
            "alphas": ("solution_alphas_", none),
            "cv_scores": ("solution_scores_", none),
        }

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
        warn(_unscored, lost=self._everywhere(lost))

    def _keep(self, result: Any) -> None:
        self.solution_coef_ = np.asarray(result.coef)
        self.solution_intercept_ = np.asarray(result.intercept)
        self.solution_alphas_ = np.asarray(result.alphas)
        self.solution_scores_ = np.asarray(result.cv_scores)
        low, high = (float(share) for share in result.edge)
        self.alpha_edges_ = [low, high]

    def _store(self, result: Any, Y: NDArray[Any]) -> None:
        self._check_scored(result, Y)
        self._keep(result)
        grid = self._given_alphas()
        if sum(self.alpha_edges_) > EDGE_SHARE and grid is not None and np.size(grid) > 1:
            ends = np.min(grid), np.max(grid)
            low, high = (self._everywhere(self.solution_alphas_ == end) for end in ends)
            warn(_narrow, low=low, high=high, scored=self._everywhere(np.isfinite(self.solution_alphas_)))

    def _given_alphas(self) -> ArrayLike | None:
        """The user's grid, if any."""
        return self.alphas

    def _everywhere(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Spread flags of known targets over all targets."""
        full = np.zeros(self.masked_targets_.size, dtype=bool)
        full[~self.masked_targets_] = flags
        return full


def _unscored(lost: NDArray[np.bool_]) -> str:
    return f"{int(lost.sum())} of {lost.size} targets are constant in every inner test fold; they get NaN scores."


def _narrow(low: NDArray[np.bool_], high: NDArray[np.bool_], scored: NDArray[np.bool_]) -> str:
    return narrow_grid(low.sum() / scored.sum(), high.sum() / scored.sum())


def narrow_grid(low: float, high: float) -> str:
    """Say which shares of targets chose the ends of the grid."""
    return (
        f"The grid of alphas may be too narrow: {low:.0%} of targets chose its smallest value, {high:.0%} its "
        "largest. Widen it, or leave alphas=None for a grid that is scaled to the features."
    )


class RidgeModel(LinearModel):
    """Ridge regression with a penalty chosen by inner folds; see `neuroalign.encoding.RidgeEncoder`."""

    def __init__(
        self,
        *,
        alphas: ArrayLike | None = None,
        cv: Any = None,
        scorer: Any = "r2",
        alpha_per_target: bool | str = True,
        fit_intercept: bool = True,
        standardize: bool = False,
        nan: str = "mask",
        unlabelled: str = "refuse",
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.scorer = scorer
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept
        self.standardize = standardize
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
        self._solve(X, Y, self._folds(X, samples, groups))

    def _solve(self, X: NDArray[Any], Y: NDArray[Any], folds: Any) -> None:
        result = ridge_cv(
            X,
            Y,
            alphas=self._grid(X),
            folds=folds,
            scorer=self.scorer,
            fit_intercept=self.fit_intercept,
            alpha_per_target=self.alpha_per_target,
            standardize=self.standardize,
        )
        self._store(result, Y)

    def _plan_chunks(self, X: NDArray[Any], samples: Samples, groups: ArrayLike | None, dtype: str) -> Any:
        if (type(self)._fit, type(self)._solve) != (RidgeModel._fit, RidgeModel._solve):  # a subclass that does more
            return super()._plan_chunks(X, samples, groups, dtype)
        return self._ridge_chunks(X, samples, groups, dtype)

    def _ridge_chunks(self, X: NDArray[Any], samples: Samples, groups: ArrayLike | None, dtype: str) -> RidgeChunks:
        folds = self._folds(X, samples, groups)
        check_choice(self.alpha_per_target, 0 if isinstance(folds, str) else len(folds))
        plan = ridge_plan(
            X,
            alphas=self._grid(X),
            folds=folds,
            scorer=self.scorer,
            fit_intercept=self.fit_intercept,
            standardize=self.standardize,
            dtype=dtype,
        )
        return RidgeChunks(plan, None if self.alpha_per_target is True else self.alpha_per_target)

    def _grid(self, X: NDArray[Any]) -> ArrayLike:
        given = self._given_alphas()
        if given is not None:
            return given
        return default_alphas(X, DEFAULT_GRID[0], decades=DEFAULT_GRID[1], standardize=self.standardize)

    def _folds(self, X: NDArray[Any], samples: Samples, groups: ArrayLike | None) -> Any:
        if isinstance(self.cv, str) and self.cv in CLOSED_FORMS:
            check_independent(self.cv, as_labelled(X, samples), groups)
            return self.cv
        return self._pairs(X, samples, groups)

    def _pairs(self, X: NDArray[Any], samples: Samples, groups: ArrayLike | None) -> list[Fold]:
        """Inner folds as index pairs; what delays reach beside a test stretch is not trained on."""
        gap = int(self.feature_labels_.attrs.get("delay_span", 0))
        labelled = as_labelled(X, samples)
        folds = resolve_cv(self.cv, labelled, None, groups, gap=gap)
        warn_of_shared(folds, labelled, groups)
        return folds

    def _predict(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        # Far from zero, a float32 product would lose what differs between rows: the mean row is predicted in float64.
        mean, coef = X.mean(axis=0, dtype=np.float64), self.solution_coef_.astype(X.dtype, copy=False)
        offset = mean @ self.solution_coef_ + self.solution_intercept_
        predicted = np.empty((len(X), offset.size), X.dtype)
        for lo in range(0, len(X), _ROWS):
            rows = (X[lo : lo + _ROWS] - mean).astype(X.dtype, copy=False)
            predicted[lo : lo + _ROWS] = rows @ coef + offset
        return predicted


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
