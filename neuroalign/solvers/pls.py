"""Partial least squares with the number of components chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import get_scorer
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import Array, from_numpy, is_torch, matrix, to_numpy
from neuroalign.solvers._folds import check_folds
from neuroalign.solvers._grid import choose, mean_over_folds

__all__ = ["PLSCVResult", "pls_cv"]


@dataclass(frozen=True)
class PLSCVResult:
    """Weights of partial least squares; arrays are of the backend of the input.

    Attributes
    ----------
    coef : Array of float64, shape (n_features, n_targets)
        Weights, refitted on all samples; NaN for targets with NaN or infinity.
    intercept : Array of float64, shape (n_targets,)
        Offsets.
    n_components : int
        The chosen number.
    scores : Array of float64, shape (n_grid, n_targets)
        Mean score over the folds for every number of components, in the order of the grid.
    cv_scores : Array of float64, shape (n_targets,)
        The row of `scores` at the chosen number.
    edge : bool
        Whether the chosen number is the largest of a grid of several.
    """

    coef: Array
    intercept: Array
    n_components: int
    scores: Array
    cv_scores: Array
    edge: bool


def pls_cv(
    X: ArrayLike | Array,
    Y: ArrayLike | Array,
    *,
    n_components: ArrayLike,
    folds: Iterable[tuple[ArrayLike, ArrayLike]],
    scorer: str | Scorer = "r2",
    scale: bool = True,
) -> PLSCVResult:
    """Partial least squares of all targets together, with the number of components chosen by cross-validation.

    One model a fold serves the whole grid, because components come one after the other and none changes those before.
    The components are scikit-learn's `PLSRegression`, so that tensors are computed with on the CPU, in numpy.

    Parameters
    ----------
    X : array-like or torch.Tensor, shape (n_samples, n_features)
        Features, finite.
    Y : array-like or torch.Tensor, shape (n_samples, n_targets)
        Targets. Those with NaN or infinity are left out and get NaN results.
    n_components : array-like of int, shape (n_grid,)
        Numbers of components to choose from, each at most the rank that a training set can have.
    folds : iterable of (train, test)
        Index arrays or masks.
    scorer : {"r2", "r", "ev"} or callable, default "r2"
        The number of the best mean score over all targets is chosen, the smallest among equals.
    scale : bool, default True
        Divide features and targets by their standard deviation over the training samples.

    Returns
    -------
    PLSCVResult
        Weights, the chosen number and scores.

    Raises
    ------
    SchemaError
        If the shapes do not match, X holds NaN or infinity, or no target is finite.
    ConfigError
        If the grid, the folds or the scorer are not valid.

    References
    ----------
    Wold, Sjostrom and Eriksson (2001), PLS-regression: a basic tool of chemometrics, Chemometrics 58.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.standard_normal((60, 2))
    >>> X, Y = latent @ rng.standard_normal((2, 30)), latent @ rng.standard_normal((2, 4))
    >>> test = np.arange(60) < 30
    >>> result = pls_cv(X, Y, n_components=[1, 2], folds=[(test, ~test), (~test, test)])
    >>> result.n_components, result.cv_scores.round(2)
    (2, array([1., 1., 1., 1.]))
    """
    features = matrix(X, "X", like=X if is_torch(X) else Y, finite=True)
    x, y = (to_numpy(part).astype(np.float64, copy=False) for part in (features, matrix(Y, "Y", like=features)))
    if len(x) != len(y):
        raise SchemaError("X and Y differ in their number of samples.", expected=len(x), got=len(y), where="Y")
    score = get_scorer(scorer)
    split = check_folds(folds, len(x))
    grid = _check_grid(n_components, min(x.shape[1], *(fold.train.size - 1 for fold in split)))
    known = np.isfinite(y).all(axis=0)
    if not known.any():
        raise SchemaError("Every target holds NaN or infinity.", where="Y", fix="drop samples that are not finite")
    scores = np.full((len(split), grid.size, y.shape[1]), np.nan)
    for i, fold in enumerate(split):
        for j, (coef, offset) in enumerate(_fits(x[fold.train], y[fold.train][:, known], grid, scale)):
            scores[i, j, known] = score(y[fold.test][:, known], x[fold.test] @ coef + offset)
    mean = mean_over_folds(scores)
    best, cv_scores = choose(mean, -grid.astype(np.float64), per_target=False)  # the fewest components among equals
    chosen = int(grid[0] if np.isnan(best).all() else -np.nanmax(best))
    ((coef, offset),) = _fits(x, y[:, known], np.array([chosen]), scale)
    weights, intercept = np.full((x.shape[1], y.shape[1]), np.nan), np.full(y.shape[1], np.nan)
    weights[:, known], intercept[known] = coef, offset
    weights, intercept, mean, cv_scores = (from_numpy(part, features) for part in (weights, intercept, mean, cv_scores))
    return PLSCVResult(weights, intercept, chosen, mean, cv_scores, bool(grid.size > 1 and chosen == grid.max()))


def _fits(
    x: NDArray[np.float64], y: NDArray[np.float64], grid: NDArray[np.intp], scale: bool
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Weights (p, t) and offsets (t,) for every number of components, from one model of the largest."""
    from sklearn.cross_decomposition import PLSRegression

    varies = (y != y[:1]).any(axis=0)
    results = []
    if not varies.any():
        return [(np.zeros((x.shape[1], y.shape[1])), y[0])] * grid.size
    model = PLSRegression(int(grid.max()), scale=scale, max_iter=5000).fit(x, y[:, varies])
    x_scale = x.std(axis=0, ddof=1) if scale else np.ones(x.shape[1])
    y_scale = y[:, varies].std(axis=0, ddof=1) if scale else np.ones(int(varies.sum()))
    x_scale = np.where(x_scale > 0, x_scale, 1.0)
    for number in grid.tolist():
        coef = np.zeros((x.shape[1], y.shape[1]))
        rotations, loadings = model.x_rotations_[:, :number], model.y_loadings_[:, :number]
        coef[:, varies] = rotations @ loadings.T * y_scale / x_scale[:, None]
        results.append((coef, y.mean(axis=0) - x.mean(axis=0) @ coef))
    return results


def _check_grid(n_components: ArrayLike, largest: int) -> NDArray[np.intp]:
    grid = np.atleast_1d(np.asarray(n_components))
    valid = grid.ndim == 1 and grid.size > 0 and grid.dtype.kind in "iu" and np.unique(grid).size == grid.size
    if not valid or grid.min() < 1 or grid.max() > largest:
        raise ConfigError(
            "n_components must be a grid of numbers of components.",
            expected=f"different integers from 1 to {largest}, the rank that a training set can have",
            got=n_components,
            where="n_components",
        )
    return grid.astype(np.intp)
