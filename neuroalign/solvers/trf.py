"""Temporal response functions: ridge regression on lagged features of many segments, without a delayed matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.metrics import get_scorer
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import (
    Array,
    Buffers,
    cast,
    contiguous,
    dtype_name,
    eigh,
    from_numpy,
    namespace,
    to_numpy,
)
from neuroalign.solvers._deviations import deviations
from neuroalign.solvers._folds import Fold, check_folds
from neuroalign.solvers._grid import POOLED, check_alphas, choose, choose_pooled, edge_fractions, mean_over_folds
from neuroalign.solvers._lagged import LagSums, delayed_chunks, flip_lags
from neuroalign.solvers._memory import in_shrinking_tiles, tells_of_memory
from neuroalign.solvers._pairs import make_pairs, pair_sums
from neuroalign.solvers._path import check_choice
from neuroalign.solvers._score import Moments, call_scorer, score_moments
from neuroalign.solvers._segments import Segments, check_lags, check_runs, check_segments, constant, make_segments

__all__ = ["TRFCVResult", "solve_segments", "trf_cv", "trf_predict"]

_BLOCK = 2**21  # elements of (n_alphas, n_lags * F, C) that exist at a time


@dataclass(frozen=True)
class TRFCVResult:
    """Response functions with the penalties that cross-validation chose.

    Arrays are of the backend of the input (numpy or torch).

    Attributes
    ----------
    coef : Array, shape (n_lags, n_features, n_targets)
        Response functions, refitted on all segments; NaN for targets for which no alpha could be chosen. Constant
        targets have zero weights, because every alpha gives them.
    intercept : Array of float64, shape (n_targets,)
        Offsets; zero with ``fit_intercept=False``.
    lags : ndarray of int, shape (n_lags,)
        Lags in samples, rising.
    alphas : Array of float64, shape (n_targets,)
        The chosen penalties; NaN for targets without a score.
    scores : Array of float64, shape (n_alphas, n_targets)
        Mean score over the folds for every alpha, in the order of the grid.
    cv_scores : Array of float64, shape (n_targets,)
        The row of `scores` at the chosen alpha.
    edge : ndarray of float64, shape (2,)
        Share of scored targets whose alpha is the smallest and the largest of the grid.
    pooling : float
        Share of the variance between the targets' curves of scores that is taken away before the choice: 0 for an
        alpha for every target, 1 for a shared one.
    """

    coef: Array
    intercept: Array
    lags: NDArray[np.intp]
    alphas: Array
    scores: Array
    cv_scores: Array
    edge: NDArray[np.float64]
    pooling: float = 0.0

    @property
    def n_unscored(self) -> int:
        """Number of targets without a score (constant, NaN or infinity)."""
        return int(np.isnan(to_numpy(self.cv_scores)).sum())


def trf_cv(
    X: Sequence[ArrayLike | Array],
    Y: Sequence[ArrayLike | Array],
    *,
    lags: ArrayLike,
    alphas: ArrayLike,
    folds: Iterable[tuple[ArrayLike, ArrayLike]],
    scorer: str | Scorer = "r",
    fit_intercept: bool = True,
    alpha_per_target: bool | str = True,
    standardize: bool = False,
    runs: ArrayLike | None = None,
    gap: int = 0,
) -> TRFCVResult:
    """Temporal response functions with the penalty of every target chosen by cross-validation over segments.

    The prediction at sample t is the sum over lags of ``X[t - lag] @ coef[lag]`` plus the intercept; what lies outside
    a segment counts as zero. The solution is that of ridge regression on the explicit delayed design, but X'X comes
    from lagged products and a correction at the ends of each segment: memory does not grow with samples times lags.

    Parameters
    ----------
    X : sequence of array-like or torch.Tensor, each (n_samples, n_features)
        Features of every segment (trial or run), finite; lengths may differ.
    Y : sequence of array-like or torch.Tensor, each (n_samples, n_targets)
        Targets of every segment. A target with NaN or infinity gets NaN results, and does not affect others.
    lags : array-like of int, shape (n_lags,)
        Consecutive rising lags in samples. At lag 3 the target follows the feature by three samples; negative lags
        let the target precede it (as for decoders).
    alphas : array-like, shape (n_alphas,)
        Grid of penalties on X'X of the centred delayed design, >= 0.
    folds : iterable of (train, test)
        Index arrays or masks over segments.
    scorer : {"r2", "r", "ev"} or callable, default "r"
        Scores the held-out segments of a fold, end to end, and so chooses alpha; a callable takes float64
        ``(y_true, y_pred)`` of shape (n_test_samples, n_targets) and returns (n_targets,).
    fit_intercept : bool, default True
        Fit an unpenalised offset.
    alpha_per_target : bool or "pooled", default True
        Choose an alpha for every target; False shares the alpha of the best mean score; ``"pooled"`` draws every target
        towards all of them, as in `ridge_cv`.
    standardize : bool, default False
        Divide every feature, at all lags alike, by its standard deviation in the training segments of a fold, and for
        the final weights in all segments. Weights are those of the features as given; one that is constant in the
        training segments gets none.
    runs : array-like, shape (n_segments,), optional
        Run of each segment. Segments of a run follow each other without a break: they are apart in the folds, and one
        piece in the final fit.
    gap : int, default 0
        Samples of a run on either side of a test segment that are not trained on, so that what the lags and the slow
        parts of the signals share does not reach from one into the other. Needs `runs`.

    Returns
    -------
    TRFCVResult
        Response functions, chosen penalties and scores.

    Raises
    ------
    SchemaError
        If shapes do not match, or X holds NaN or infinity.
    ConfigError
        If lags, the grid, the folds or the scorer are not valid.

    References
    ----------
    Crosse et al. (2016), The multivariate temporal response function (mTRF) toolbox, Frontiers in Human Neuroscience
    10. Willmore & Smyth (2003), Methods for first-order kernel estimation, Network 14.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((200, 1)) for _ in range(4)]
    >>> Y = [np.roll(x, 2, axis=0) + 1 for x in X]
    >>> folds = [([1, 2, 3], [0]), ([0, 2, 3], [1])]
    >>> result = trf_cv(X, Y, lags=range(4), alphas=[0.1, 10.0], folds=folds)
    >>> result.coef[:, 0, 0].round(1) + 0.0
    array([0., 0., 1., 0.])
    """
    xs, ys = check_segments(X, Y)
    delays, grid = check_lags(lags), check_alphas(alphas)
    get_scorer(scorer)
    split = check_folds(folds, len(xs), "segments")
    check_choice(alpha_per_target, len(split))
    options: dict[str, Any] = {"intercept": fit_intercept, "runs": check_runs(runs, len(xs)), "gap": gap}

    def solve(here: slice) -> TRFCVResult:
        data = make_segments(xs, [y[:, here] for y in ys], delays, split, **options)
        return _solve(data, grid, scorer, alpha_per_target, standardize, dtype_name(*xs, *ys))

    if alpha_per_target is not True:  # the targets go together
        return tells_of_memory(solve)(slice(None))
    parts: list[TRFCVResult] = []
    in_shrinking_tiles(lambda here, _: parts.append(solve(here)), ys[0].shape[1], ys[0].shape[1])
    return parts[0] if len(parts) == 1 else _side_by_side(parts, grid)


def _side_by_side(parts: list[TRFCVResult], grid: NDArray[np.float64]) -> TRFCVResult:
    """The result of all targets from those of some."""
    names = ("coef", "intercept", "alphas", "scores", "cv_scores")
    xp = namespace(parts[0].coef)
    joined = {name: xp.concatenate([getattr(part, name) for part in parts], axis=-1) for name in names}
    return replace(parts[0], **joined, edge=edge_fractions(to_numpy(joined["alphas"]), grid))


def _solve(
    data: Segments,
    grid: NDArray[np.float64],
    scorer: str | Scorer,
    alpha_per_target: bool | str,
    standardize: bool,
    small: str,
) -> TRFCVResult:
    of_folds = np.stack([_score_fold(data, fold, grid, scorer, standardize) for fold in data.folds])
    of_folds[:, :, data.bad | data.flat] = np.nan
    scores, pooling = mean_over_folds(of_folds), 0.0 if alpha_per_target is True else 1.0
    if alpha_per_target == POOLED:
        best, cv_scores, pooling = choose_pooled(of_folds, scores, grid)
    else:
        best, cv_scores = choose(scores, grid, per_target=alpha_per_target is True)
    scaled_by = np.arange(data.n) if standardize else None
    coef, intercept = solve_segments(data, data.whole(), best, scaled_by=scaled_by, dtype=small)
    like = coef
    return TRFCVResult(
        coef=coef,
        intercept=intercept,
        lags=data.lags,
        alphas=from_numpy(best, like),
        scores=from_numpy(scores, like),
        cv_scores=from_numpy(cv_scores, like),
        edge=edge_fractions(best, grid),
        pooling=pooling,
    )


@dataclass(frozen=True)
class _Centred:
    """Centred second moments of a set of segments."""

    gram: Array  # (d, d)
    xy: Array  # (d, C)
    x: Array  # (d,) mean
    y: Array  # (C,) mean
    size: float  # largest sum of squares before it was centred


def _centre(sums: LagSums, intercept: bool) -> _Centred:
    x, y = (sums.x / sums.n, sums.y / sums.n) if intercept else (sums.x * 0.0, sums.y * 0.0)
    gram = sums.gram()
    size = float(gram.diagonal().max())
    gram = gram - sums.n * x[:, None] * x[None, :]
    return _Centred(gram, sums.xy - sums.n * x[:, None] * y[None, :], x, y, size)


def _eigenbasis(data: Segments, moments: _Centred, scaled_by: NDArray[np.intp] | None) -> tuple[Array, Array]:
    """Eigenvalues (k,) of a Gram matrix, of features over their deviations in some segments, and vectors (d, k)."""
    gram = moments.gram
    if scaled_by is None:
        return eigh(gram, moments.size)
    rows = namespace(gram).concatenate([data.xs[i] for i in scaled_by], axis=0)
    gain = from_numpy(np.tile(1.0 / deviations(rows), data.lags.size)[:, None], gram)
    values, vectors = eigh(gram * gain * gain.T)
    return values, gain * vectors


def _score_fold(
    data: Segments, fold: Fold, grid: NDArray[np.float64], scorer: str | Scorer, standardize: bool
) -> NDArray[np.float64]:
    """Scores of the test segments, shape (n_alphas, C)."""
    train = _centre(data.sums(fold.train), data.intercept)
    values, vectors = _eigenbasis(data, train, fold.train if standardize else None)
    b = vectors.T @ train.xy  # (k, C)
    weights = 1.0 / (values[None, :] + from_numpy(grid, values)[:, None])  # (n_alphas, k)
    if callable(scorer):
        return np.stack([_score_predictions(data, fold, train, vectors @ (w[:, None] * b), scorer) for w in weights])
    test = _TestMoments.of(data, fold, train, vectors)
    pairs = make_pairs(to_numpy(values), test.gram, grid, to_numpy(values) / test.n, "float64")
    if pairs is not None:
        squares, products = pair_sums(pairs, contiguous(b.T), contiguous(test.xy.T), Buffers())
        return score_moments(scorer, test.moments(b, weights, products, squares, slice(None)))
    step = max(1, _BLOCK // (grid.size * max(b.shape[0], 1)))
    parts = [test.part(b, weights, slice(lo, lo + step)) for lo in range(0, b.shape[1], step)]
    return np.concatenate([score_moments(scorer, part) for part in parts], axis=1)


@dataclass(frozen=True)
class _TestMoments:
    """Centred second moments of the test segments in the eigenbasis of the training segments."""

    n: int
    gram: Array  # (k, k)
    xy: Array  # (k, C)
    x: Array  # (k,) test mean minus training mean
    bias: NDArray[np.float64]  # (C,) the same for the targets
    total: NDArray[np.float64]  # (C,)

    @classmethod
    def of(cls, data: Segments, fold: Fold, train: _Centred, vectors: Array) -> _TestMoments:
        sums = data.sums(fold.test)
        test = _centre(sums, True)
        total = to_numpy(sums.yy - sums.n * test.y * test.y).clip(min=0.0)
        return cls(
            n=round(sums.n),
            gram=vectors.T @ test.gram @ vectors,
            xy=vectors.T @ test.xy,
            x=(test.x - train.x) @ vectors,
            bias=to_numpy(test.y - train.y),
            total=np.where(constant([data.ys[i] for i in fold.test]), np.nan, total),
        )

    def part(self, b: Array, weights: Array, here: slice) -> Moments:
        """Moments of some targets for every alpha, from the predictions in the eigenbasis."""
        xp = namespace(b)
        solved = weights[:, :, None] * b[None, :, here]  # (n_alphas, k, targets)
        product = to_numpy(xp.einsum("akt,kt->at", solved, self.xy[:, here]))
        predicted = to_numpy(xp.einsum("akt,akt->at", solved, self.gram @ solved))
        return self.moments(b, weights, product, predicted, here)

    def moments(
        self, b: Array, weights: Array, product: NDArray[np.float64], predicted: NDArray[np.float64], here: slice
    ) -> Moments:
        """Moments of some targets for every alpha, from products with predictions and their squares (n_alphas, t)."""
        total, predicted = self.total[here], predicted.clip(min=0.0)
        return Moments(
            n=self.n,
            total=total,
            error=(total - 2.0 * product + predicted).clip(min=0.0),
            bias=self.bias[here] - to_numpy((weights * self.x) @ b[:, here]),
            predicted=predicted,
            product=product,
        )


def _score_predictions(data: Segments, fold: Fold, train: _Centred, coef: Array, scorer: Scorer) -> NDArray[np.float64]:
    """Score of a function of (y_true, y_pred), in the units of the caller."""
    offset = to_numpy(_offset(data, train, coef))
    predicted = [to_numpy(_predict(cast(data.xs[i], "float64"), coef, data.lags)) + offset for i in fold.test]
    truth = [to_numpy(data.targets(data.ys[i]) + data.y_mean) for i in fold.test]
    return call_scorer(scorer, np.concatenate(truth), np.concatenate(predicted))


def _offset(data: Segments, moments: _Centred, coef: Array) -> Array:
    """Intercepts (C,) of weights (n_lags * F, C)."""
    x_mean = (moments.x.reshape(data.lags.size, -1) + data.x_mean).reshape(-1)
    return data.y_mean + moments.y - x_mean @ coef if data.intercept else data.y_mean


def solve_segments(
    data: Segments,
    sums: LagSums,
    alphas: NDArray[np.float64],
    *,
    scaled_by: NDArray[np.intp] | None = None,
    dtype: str = "float64",
) -> tuple[Array, Array]:
    """Response functions (n_lags, F, C) and float64 intercepts (C,) from sums over segments.

    Penalties are those of features as they are, or over their deviations in the segments `scaled_by`.
    The intercepts are those of the rounded response functions: features may be far from zero.
    """
    known = ~data.bad & (~np.isnan(alphas) | (data.flat if data.intercept else False))
    moments = _centre(sums, data.intercept)
    values, vectors = _eigenbasis(data, moments, scaled_by)
    penalty = from_numpy(np.where(np.isnan(alphas), 1.0, alphas), values)
    coef = cast(vectors @ ((vectors.T @ moments.xy) / (values[:, None] + penalty[None, :])), dtype)
    xp, known = namespace(coef), from_numpy(known, coef)
    intercept = xp.where(known, _offset(data, moments, cast(coef, "float64")), float("nan"))
    return xp.where(known, coef, float("nan")).reshape(data.lags.size, -1, coef.shape[1]), intercept


def _predict(x: Array, coef: Array, lags: NDArray[np.intp]) -> Array:
    """Delayed design of one segment times weights (n_lags * F, C)."""
    flipped = flip_lags(coef, lags.size)
    return namespace(x).concatenate([design @ flipped for _, design in delayed_chunks(x, lags)], axis=0)


def trf_predict(x: Array, coef: Array, *, lags: ArrayLike) -> Array:
    """Predict one segment from its lagged features, a few rows of the delayed design at a time.

    Parameters
    ----------
    x : ndarray or torch.Tensor, shape (n_samples, n_features)
        Features of an unbroken segment; what lies outside counts as zero.
    coef : ndarray or torch.Tensor, shape (n_lags, n_features, n_targets)
        Response functions.
    lags : array-like of int, shape (n_lags,)
        Consecutive rising lags in samples.

    Returns
    -------
    ndarray or torch.Tensor of float64, shape (n_samples, n_targets)
        Predictions without an intercept.

    Examples
    --------
    >>> trf_predict(np.array([[1.0], [0.0], [0.0]]), np.array([[[1.0]], [[0.5]]]), lags=[0, 1])[:, 0]
    array([1. , 0.5, 0. ])
    """
    return _predict(cast(x, "float64"), cast(coef.reshape(-1, coef.shape[2]), "float64"), check_lags(lags))
