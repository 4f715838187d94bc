"""A ridge path in two steps: what all targets share, once; then any number of blocks of targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import Array, dtype_name, from_numpy, matrix
from neuroalign.solvers._closed import as_folds
from neuroalign.solvers._grid import check_alphas, edge_fractions, mean_over_folds
from neuroalign.solvers._path import check_choice, check_scorer, check_tile, refit_path, score_path, solve_path
from neuroalign.solvers._plan import Plan, make_plan
from neuroalign.solvers._together import Choice, choose_together
from neuroalign.solvers.ridge import RidgeCVResult

__all__ = [
    "Choice",
    "RidgePlan",
    "check_choice",
    "choose_together",
    "edge_fractions",
    "mean_over_folds",
    "ridge_chunk",
    "ridge_plan",
    "ridge_refit",
    "ridge_scores",
]


@dataclass(frozen=True)
class RidgePlan:
    """What `ridge_cv` computes before it looks at a target.

    Attributes
    ----------
    plan : object
        Eigenbases of all samples and of each fold.
    alphas : ndarray of float64
        The grid.
    scorer : str or callable
        What chooses from it.
    closed : {"loo", "gcv"} or None
        Closed form in place of folds.
    n_samples, n_features : int
        Shape of the features.
    """

    plan: Plan
    alphas: NDArray[np.float64]
    scorer: str | Scorer
    closed: str | None
    n_samples: int
    n_features: int


def ridge_plan(
    X: ArrayLike | Array,
    *,
    alphas: ArrayLike,
    folds: Iterable[tuple[ArrayLike, ArrayLike]] | str | None,
    scorer: str | Scorer = "r2",
    fit_intercept: bool = True,
    standardize: bool = False,
    dtype: str | None = None,
) -> RidgePlan:
    """Prepare `ridge_cv` for targets that come block by block.

    Parameters
    ----------
    X : array-like or torch.Tensor, shape (n_samples, n_features)
        Features, finite.
    alphas, folds, scorer, fit_intercept, standardize : object
        As in `ridge_cv`. ``folds=None`` is a plan for `ridge_refit` only.
    dtype : {"float32", "float64"}, optional
        Of the products with targets; by default that of X.

    Returns
    -------
    RidgePlan
        For `ridge_chunk`, or `ridge_scores` and `ridge_refit`; about
        ``(n_folds + 1) * n_features * (n_samples + n_features)`` numbers.

    Raises
    ------
    SchemaError
        If X holds NaN or infinity.
    ConfigError
        If the grid, the folds or the scorer are not valid.
    """
    x, grid = matrix(X, "X", finite=True), check_alphas(alphas)
    split, closed = (None, None) if folds is None else as_folds(folds, standardize)
    score, working = check_scorer(scorer, closed), dtype or dtype_name(x)
    plan = make_plan(
        x,
        split,
        grid,
        intercept=fit_intercept,
        dtype=working,
        whole_rows=callable(score),
        standardize=standardize,
    )
    return RidgePlan(plan, grid, score, closed, *map(int, x.shape))


def ridge_chunk(plan: RidgePlan, Y: ArrayLike | Array) -> RidgeCVResult:
    """Fit a block of targets, each with a penalty of its own.

    Parameters
    ----------
    plan : RidgePlan
        From `ridge_plan`.
    Y : array-like or torch.Tensor, shape (n_samples, n_targets)
        The block; a target with NaN or infinity gets NaN results.

    Returns
    -------
    RidgeCVResult
        What `ridge_cv` gives for these targets.

    Raises
    ------
    SchemaError
        If the number of samples differs from that of the features.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, test = rng.standard_normal((60, 3)), np.arange(60) < 30
    >>> plan = ridge_plan(X, alphas=[1e-3, 1.0, 1e3], folds=[(test, ~test), (~test, test)])
    >>> ridge_chunk(plan, X @ rng.standard_normal((3, 2)) + 5).alphas
    array([0.001, 0.001])
    """
    y = _open(plan, Y)
    path = solve_path(
        plan.plan,
        y,
        plan.alphas,
        closed=plan.closed,
        scorer=plan.scorer,
        alpha_per_target=True,
        step=check_tile(None, y),
    )
    coef, intercept = path.weights.arrays()
    return RidgeCVResult(
        coef=coef,
        intercept=intercept,
        alphas=from_numpy(path.alphas, coef),
        scores=from_numpy(path.scores, coef),
        cv_scores=from_numpy(path.cv_scores, coef),
        edge=edge_fractions(path.alphas, plan.alphas),
        pooling=path.pooling,
    )


def ridge_scores(plan: RidgePlan, Y: ArrayLike | Array) -> NDArray[np.float64]:
    """Score every penalty for a block of targets that choose together with others.

    Parameters
    ----------
    plan : RidgePlan
        From `ridge_plan`.
    Y : array-like or torch.Tensor, shape (n_samples, n_targets)
        The block.

    Returns
    -------
    ndarray of float64, shape (n_folds, n_alphas, n_targets)
        Scores of held-out samples, NaN where there is none; a closed form counts as one fold.

    Raises
    ------
    SchemaError
        If the number of samples differs from that of the features.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, test = rng.standard_normal((60, 3)), np.arange(60) < 30
    >>> plan = ridge_plan(X, alphas=[1e-3, 1.0, 1e3], folds=[(test, ~test), (~test, test)])
    >>> ridge_scores(plan, X @ rng.standard_normal((3, 2))).shape
    (2, 3, 2)
    """
    y = _open(plan, Y)
    return score_path(plan.plan, y, plan.alphas, closed=plan.closed, scorer=plan.scorer, step=check_tile(None, y))


def ridge_refit(plan: RidgePlan, Y: ArrayLike | Array, alphas: ArrayLike) -> tuple[Array, Array]:
    """Fit a block of targets with penalties that were chosen.

    Parameters
    ----------
    plan : RidgePlan
        From `ridge_plan`.
    Y : array-like or torch.Tensor, shape (n_samples, n_targets)
        The block.
    alphas : array-like, shape (n_targets,)
        A penalty for each target, of any size; NaN gives NaN weights.

    Returns
    -------
    coef : Array, shape (n_features, n_targets)
        Weights.
    intercept : Array of float64, shape (n_targets,)
        Offsets.

    Raises
    ------
    SchemaError
        If the number of samples differs from that of the features.

    Examples
    --------
    >>> plan = ridge_plan(np.array([[0.0], [1.0], [2.0]]), alphas=[1.0], folds=None)
    >>> ridge_refit(plan, [[1.0], [3.0], [5.0]], [2.0])
    (array([[1.]]), array([2.]))
    """
    y = _open(plan, Y)
    return refit_path(plan.plan, y, np.asarray(alphas, np.float64), step=check_tile(None, y)).arrays()


def _open(plan: RidgePlan, Y: ArrayLike | Array) -> Array:
    y = matrix(Y, "Y", like=plan.plan.x)
    if y.shape[0] != plan.n_samples:
        raise SchemaError(
            "X and Y differ in their number of samples.", expected=plan.n_samples, got=y.shape[0], where="Y"
        )
    return y
