"""Ridge regression of many targets on shared features, with a penalty per target chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import Array, Buffers, cast, dtype_name, from_numpy, is_torch, matrix, to_numpy
from neuroalign.solvers._closed import as_folds, predict_left_out
from neuroalign.solvers._deviations import deviations
from neuroalign.solvers._grid import check_alphas, edge_fractions
from neuroalign.solvers._path import TILE, Weights, check_choice, check_scorer, check_tile, in_tiles, solve_path
from neuroalign.solvers._plan import Plan, make_plan
from neuroalign.solvers._tile import load_tile

__all__ = ["RidgeCVResult", "default_alphas", "ridge", "ridge_cv", "ridge_loo"]

_TILE = TILE
_COLUMNS = 256  # features at a time
_LARGEST = 1e140  # sums of squares beyond are infinite, or zero for its inverse


@dataclass(frozen=True)
class RidgeCVResult:
    """Ridge weights with the penalties that cross-validation chose.

    Arrays are of the backend of the input (numpy or torch).

    Attributes
    ----------
    coef : Array, shape (n_features, n_targets)
        Weights, refitted on all samples; NaN for targets for which no alpha could be chosen. Constant targets have
        zero weights, because every alpha gives them.
    intercept : Array of float64, shape (n_targets,)
        Offsets; zero with ``fit_intercept=False``.
    alphas : Array of float64, shape (n_targets,)
        The chosen penalties; NaN for targets without a score.
    scores : Array of float64, shape (n_alphas, n_targets)
        Mean score over the folds for every alpha, in the order of the grid.
    cv_scores : Array of float64, shape (n_targets,)
        The row of `scores` at the chosen alpha.
    edge : ndarray of float64, shape (2,)
        Share of scored targets whose alpha is the smallest and the largest of the grid. A large share says that the
        grid should reach further.
    pooling : float
        Share of the variance between the targets' curves of scores that is taken away before the choice: 0 for an
        alpha for every target, 1 for a shared one.
    """

    coef: Array
    intercept: Array
    alphas: Array
    scores: Array
    cv_scores: Array
    edge: NDArray[np.float64]
    pooling: float = 0.0

    @property
    def n_unscored(self) -> int:
        """Number of targets without a score (constant, NaN or infinity)."""
        return int(np.isnan(to_numpy(self.cv_scores)).sum())


def ridge_cv(
    X: ArrayLike | Array,
    Y: ArrayLike | Array,
    *,
    alphas: ArrayLike,
    folds: Iterable[tuple[ArrayLike, ArrayLike]] | str,
    scorer: str | Scorer = "r2",
    fit_intercept: bool = True,
    alpha_per_target: bool | str = True,
    standardize: bool = False,
    tile: int | None = None,
) -> RidgeCVResult:
    """Ridge regression with the penalty of every target chosen by cross-validation.

    Minimises ``||y - X w||^2 + alpha ||w||^2`` for every target, the unit of alpha being that of scikit-learn: a
    plain penalty on X'X of the centred data. Each fold is centred by its own training samples. A fold costs one
    symmetric eigendecomposition, of X'X when there are at least as many training samples as features and of XX'
    otherwise; all alphas are scored from it. Decompositions are in float64. When X and Y are float32, products with
    targets are in float32, of features that were rotated in float64, which keeps ill-conditioned directions precise.

    Parameters
    ----------
    X : array-like or torch.Tensor, shape (n_samples, n_features)
        Features, finite.
    Y : array-like or torch.Tensor, shape (n_samples, n_targets)
        Targets. A target with NaN or infinity gets NaN results, and does not affect others.
    alphas : array-like, shape (n_alphas,)
        Grid of penalties, >= 0.
    folds : iterable of (train, test), or {"loo", "gcv"}
        Index arrays or masks; they may leave samples out of both sides (gaps). ``"loo"`` leaves out every sample in
        turn and scores their predictions together; ``"gcv"`` is generalised cross-validation, whose error takes the
        place of that of the predictions in R2. Both are closed forms that need one decomposition, and both are too
        good where neighbouring samples are alike, as in time series.
    scorer : {"r2", "r", "ev"} or callable, default "r2"
        Scores held-out predictions and so chooses alpha; a callable takes float64 ``(y_true, y_pred)`` of shape
        (n_test, n_tile) and returns (n_tile,).
    fit_intercept : bool, default True
        Fit an unpenalised offset.
    alpha_per_target : bool or "pooled", default True
        Choose an alpha for every target; False shares the alpha of the best mean score. ``"pooled"`` draws the curve of
        every target towards the mean curve, and keeps of their difference what repeats over the folds (empirical
        Bayes): safer than True with few samples, and finer than False. It holds the scores of all folds,
        ``n_folds * n_alphas * n_targets`` numbers. Three folds or more tell signal from noise best.
    standardize : bool, default False
        Divide every feature by its standard deviation in the training samples of a fold (``ddof=0``), and for the
        final weights in all samples, so that the penalty does not depend on the units of the features. It is the same
        as scaling anew inside every fold; weights are those of the features as given. A feature that is constant in
        the training samples gets no weight there. Not with ``folds="loo"``.
    tile : int, optional
        Number of targets that are worked on at a time. On a device that runs out of memory it is halved, with a
        warning.

    Returns
    -------
    RidgeCVResult
        Weights, chosen penalties and scores. A fold in which a target is constant is left out of its mean score.

    Raises
    ------
    SchemaError
        If the shapes do not match, or X holds NaN or infinity.
    ConfigError
        If the grid, the folds, the scorer or the tile are not valid.

    References
    ----------
    Dupre la Tour et al. (2022), Feature-space selection with banded ridge regression, NeuroImage 264.
    Golub, Heath and Wahba (1979), Generalized cross-validation as a method for choosing a good ridge parameter,
    Technometrics 21.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 3))
    >>> Y = X @ rng.standard_normal((3, 2)) + 5
    >>> test = np.arange(60) < 30
    >>> result = ridge_cv(X, Y, alphas=[1e-3, 1.0, 1e3], folds=[(test, ~test), (~test, test)])
    >>> result.coef.shape, result.alphas
    ((3, 2), array([0.001, 0.001]))
    """
    x, y = _check(X, Y)
    grid, step, (split, closed) = check_alphas(alphas), check_tile(tile, y), as_folds(folds, standardize)
    score = check_scorer(scorer, closed)
    check_choice(alpha_per_target, len(split or ()))
    dtype = dtype_name(x, y)
    plan = make_plan(
        x,
        split,
        grid,
        intercept=fit_intercept,
        dtype=dtype,
        whole_rows=callable(score),
        standardize=standardize,
    )
    path = solve_path(plan, y, grid, closed=closed, scorer=score, alpha_per_target=alpha_per_target, step=step)
    coef, intercept = path.weights.arrays()
    return RidgeCVResult(
        coef=coef,
        intercept=intercept,
        alphas=from_numpy(path.alphas, x),
        scores=from_numpy(path.scores, x),
        cv_scores=from_numpy(path.cv_scores, x),
        edge=edge_fractions(path.alphas, grid),
        pooling=path.pooling,
    )


def ridge(
    X: ArrayLike | Array,
    Y: ArrayLike | Array,
    *,
    alpha: ArrayLike,
    fit_intercept: bool = True,
    standardize: bool = False,
) -> tuple[Array, Array]:
    """Ridge regression with given penalties.

    Minimises ``||y - X w||^2 + alpha ||w||^2`` for every target from one float64 eigendecomposition of X'X or XX',
    whichever is smaller.

    Parameters
    ----------
    X : array-like or torch.Tensor, shape (n_samples, n_features)
        Features, finite.
    Y : array-like or torch.Tensor, shape (n_samples, n_targets)
        Targets. A target with NaN or infinity gets NaN weights, and does not affect others.
    alpha : float or array-like, shape (n_targets,)
        Penalty for all targets or one for each, >= 0. Zero gives the least-squares solution of smallest norm.
    fit_intercept : bool, default True
        Fit an unpenalised offset.
    standardize : bool, default False
        Penalise the weights of features divided by their standard deviation (``ddof=0``); constant ones get none.

    Returns
    -------
    coef : Array, shape (n_features, n_targets)
        Weights of the features as given.
    intercept : Array of float64, shape (n_targets,)
        Offsets; zero with ``fit_intercept=False``.

    Raises
    ------
    SchemaError
        If the shapes do not match, or X holds NaN or infinity.
    ConfigError
        If a penalty is negative or not finite, or there is not one for each target.

    Examples
    --------
    >>> coef, intercept = ridge([[0.0], [1.0], [2.0]], [[1.0], [3.0], [5.0]], alpha=2.0)
    >>> coef, intercept
    (array([[1.]]), array([2.]))
    """
    y, penalty, plan = _given(X, Y, alpha, fit_intercept, standardize)
    fit = Weights.empty(plan.back.shape[0], y, plan.dtype)

    def refit(here: slice, buffers: Buffers) -> None:
        fit.refit(plan, load_tile(plan, y[:, here], buffers, left_out=False), penalty[here], here.start)

    in_tiles(refit, y, check_tile(None, y))
    return fit.arrays()


def ridge_loo(
    X: ArrayLike | Array, Y: ArrayLike | Array, *, alpha: ArrayLike, fit_intercept: bool = True
) -> NDArray[np.float64]:
    """Predict every sample by the ridge regression on all others, in closed form.

    Parameters
    ----------
    X, Y, alpha, fit_intercept
        As in `ridge`.

    Returns
    -------
    ndarray, shape (n_samples, n_targets)
        Held-out predictions. A target with NaN or infinity gets NaN.

    Raises
    ------
    SchemaError
        If the shapes do not match, or X holds NaN or infinity.
    ConfigError
        If a penalty is negative or not finite, or there is not one for each target.

    References
    ----------
    Golub, Heath and Wahba (1979), Generalized cross-validation as a method for choosing a good ridge parameter,
    Technometrics 21.

    Examples
    --------
    >>> ridge_loo([[0.0], [1.0], [2.0]], [[1.0], [3.0], [5.0]], alpha=0.0).ravel()
    array([1., 3., 5.])
    """
    y, penalty, plan = _given(X, Y, alpha, fit_intercept)
    predicted = np.empty(tuple(y.shape))

    def predict(here: slice, buffers: Buffers) -> None:
        part = load_tile(plan, y[:, here], buffers, left_out=False)
        predicted[:, here] = predict_left_out(plan, part, penalty[here] / plan.scale**2)

    in_tiles(predict, y, check_tile(None, y))
    return predicted


def _given(
    X: ArrayLike | Array, Y: ArrayLike | Array, alpha: ArrayLike, fit_intercept: bool, standardize: bool = False
) -> tuple[Array, NDArray[np.float64], Plan]:
    """Checked targets, a penalty for each target, and the plan of all samples."""
    x, y = _check(X, Y)
    penalty = np.asarray(alpha, dtype=np.float64)
    if penalty.shape not in ((), (y.shape[1],)) or not np.isfinite(penalty).all() or (penalty < 0).any():
        raise ConfigError(
            "alpha must be one penalty, or one for each target.",
            expected=f"finite, >= 0, one or {y.shape[1]}",
            got=alpha,
            where="alpha",
        )
    penalty = np.broadcast_to(penalty, y.shape[1])
    return (
        y,
        penalty,
        make_plan(x, None, penalty, intercept=fit_intercept, dtype=dtype_name(x, y), standardize=standardize),
    )


def default_alphas(
    X: ArrayLike | Array, n: int = 20, *, decades: tuple[float, float] = (-4.0, 4.0), standardize: bool = False
) -> NDArray[np.float64]:
    """A grid of penalties that fits the scale of the features.

    Parameters
    ----------
    X : array-like or torch.Tensor, shape (n_samples, n_features)
        Features, finite.
    n : int, default 20
        Number of penalties.
    decades : (float, float), default (-4, 4)
        Powers of ten of the first and last penalty, relative to the mean eigenvalue of X'X of the centred features
        over its ``min(n_samples - 1, n_features)`` directions.
    standardize : bool, default False
        For features that are divided by their standard deviations.

    Returns
    -------
    ndarray of float64, shape (n,)
        Rising penalties, evenly spaced in logarithm, in the unit of `ridge_cv`.

    Raises
    ------
    SchemaError
        If X is not a finite table, or its values are too large or too small to be squared.
    ConfigError
        If n is not positive or the decades do not rise.

    Examples
    --------
    >>> default_alphas([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], n=3, decades=(-2, 2))
    array([2.e-02, 2.e+00, 2.e+02])
    """
    x = matrix(X, "X", finite=True)
    if n < 1 or not decades[0] < decades[1]:
        raise ConfigError("Not a grid.", expected="n >= 1 and rising decades", got=(n, decades), where="default_alphas")
    # Each scaled feature that varies has a variance of one.
    trace = float(x.shape[0] * np.isfinite(deviations(x)).sum()) if standardize else _centred_trace(x)
    scale = trace / max(1, min(x.shape[0] - 1, x.shape[1]))
    return np.logspace(*decades, n) * (scale if scale > 0 else 1.0)


def _centred_trace(x: Array) -> float:
    trace, largest = 0.0, 0.0
    for lo in range(0, x.shape[1], _COLUMNS):
        part = cast(x[:, lo : lo + _COLUMNS], "float64")
        part = part - part.mean(axis=0)
        largest = max(largest, float(abs(part).max()))
        trace += float((part * part).sum()) if largest < _LARGEST else np.inf
    if largest and not _LARGEST**-1 < largest < _LARGEST:
        raise SchemaError(
            "The features cannot be squared.",
            expected=f"values of {_LARGEST**-1:.0e} to {_LARGEST:.0e} around their mean",
            got=f"{largest:.0e}",
            where="X",
            fix="scale them, for example with neuroalign.preprocess.Standardizer",
        )
    return trace


def _check(X: ArrayLike | Array, Y: ArrayLike | Array) -> tuple[Array, Array]:
    x = matrix(X, "X", like=X if is_torch(X) else Y, finite=True)
    y = matrix(Y, "Y", like=x)
    if x.shape[0] != y.shape[0]:
        raise SchemaError("X and Y differ in their number of samples.", expected=x.shape[0], got=y.shape[0], where="Y")
    return x, y
