"""Temporal response functions: ridge regression on lagged features of many segments, without a delayed matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import get_scorer
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import (
    Array,
    cast,
    column_dot,
    dtype_name,
    eigh,
    from_numpy,
    is_torch,
    matrix,
    namespace,
    to_numpy,
)
from neuroalign.solvers._folds import Fold, check_folds
from neuroalign.solvers._grid import check_alphas, choose, edge_fractions, mean_over_folds
from neuroalign.solvers._lagged import LagSums, delayed_chunks, flip_lags, lag_sums, weighted_sum
from neuroalign.solvers._score import Moments, score_moments

__all__ = ["TRFCVResult", "trf_cv"]

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
    intercept : Array, shape (n_targets,)
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
    """

    coef: Array
    intercept: Array
    lags: NDArray[np.intp]
    alphas: Array
    scores: Array
    cv_scores: Array
    edge: NDArray[np.float64]

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
    alpha_per_target: bool = True,
    runs: ArrayLike | None = None,
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
    alpha_per_target : bool, default True
        Choose an alpha for every target; False shares the alpha of the best mean score.
    runs : array-like, shape (n_segments,), optional
        Run of each segment. Segments of a run follow each other without a break: they are apart in the folds, and one
        piece in the final fit.

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
    xs, ys, like = _check_segments(X, Y)
    delays, grid = _check_lags(lags), check_alphas(alphas)
    get_scorer(scorer)
    split = check_folds(folds, len(xs), "segments")
    small = dtype_name(*xs, *ys)
    data = _prepare(xs, ys, delays, split, fit_intercept)
    scores = mean_over_folds(np.stack([_score_fold(data, fold, grid, scorer) for fold in split]))
    scores[:, data.bad | data.flat] = np.nan
    best, cv_scores = choose(scores, grid, per_target=alpha_per_target)
    coef, intercept = _refit(data, best, None if runs is None else np.asarray(runs))
    return TRFCVResult(
        coef=cast(coef, small),
        intercept=cast(from_numpy(intercept, like), small),
        lags=delays,
        alphas=from_numpy(best, like),
        scores=from_numpy(scores, like),
        cv_scores=from_numpy(cv_scores, like),
        edge=edge_fractions(best, grid),
    )


@dataclass(frozen=True)
class _Data:
    """Checked float64 segments, and their sums over groups that no fold tells apart."""

    xs: list[Array]
    ys: list[Array]  # centred by y_mean
    y_mean: NDArray[np.float64]
    bad: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    lags: NDArray[np.intp]
    intercept: bool
    groups: list[LagSums]
    group_of: NDArray[np.intp]  # (n_segments,)

    def sums(self, segments: NDArray[np.intp]) -> LagSums:
        """Sums over segments; a segment may count more than once."""
        first = [int(np.flatnonzero(self.group_of == g)[0]) for g in range(len(self.groups))]
        counts = np.bincount(segments, minlength=len(self.xs))
        return weighted_sum(self.groups, counts[first].tolist())


def _prepare(xs: list[Array], ys: list[Array], lags: NDArray[np.intp], split: list[Fold], intercept: bool) -> _Data:
    xp = namespace(xs[0])
    bad = (
        sum((to_numpy((~xp.isfinite(y)).any(axis=0)).astype(int) for y in ys), start=np.zeros(ys[0].shape[1], int)) > 0
    )
    good = from_numpy(~bad, xs[0])
    ys = [xp.where(good, cast(y, "float64"), 0.0) for y in ys]
    flat = np.all([to_numpy((y == ys[0][:1]).all(axis=0)) for y in ys], axis=0)
    mean = sum((y.sum(axis=0) for y in ys[1:]), start=ys[0].sum(axis=0)) / sum(len(y) for y in ys)
    mean = xp.where(from_numpy(flat, mean), ys[0][0], mean) if intercept else mean * 0.0
    ys, xs = [y - mean for y in ys], [cast(x, "float64") for x in xs]
    pattern = np.array(
        [np.bincount(side, minlength=len(xs)) for fold in split for side in (fold.train, fold.test)]
    )  # (2 * n_folds, n_segments): segments with equal columns are never told apart
    unique, group_of = np.unique(pattern, axis=1, return_inverse=True)
    groups = []
    for g in range(unique.shape[1]):
        members = np.flatnonzero(group_of.ravel() == g)
        groups.append(lag_sums([xs[i] for i in members], [ys[i] for i in members], lags))
    return _Data(xs, ys, to_numpy(mean), bad, flat, lags, intercept, groups, group_of.ravel())


@dataclass(frozen=True)
class _Centred:
    """Centred second moments of a set of segments."""

    gram: Array  # (d, d)
    xy: Array  # (d, C)
    x: Array  # (d,) mean
    y: Array  # (C,) mean


def _centre(sums: LagSums, intercept: bool) -> _Centred:
    x, y = (sums.x / sums.n, sums.y / sums.n) if intercept else (sums.x * 0.0, sums.y * 0.0)
    gram = sums.gram() - sums.n * x[:, None] * x[None, :]
    return _Centred(gram, sums.xy - sums.n * x[:, None] * y[None, :], x, y)


def _score_fold(data: _Data, fold: Fold, grid: NDArray[np.float64], scorer: str | Scorer) -> NDArray[np.float64]:
    """Scores of the test segments, shape (n_alphas, C)."""
    train = _centre(data.sums(fold.train), data.intercept)
    values, vectors = eigh(train.gram)
    b = vectors.T @ train.xy  # (k, C)
    step = max(1, _BLOCK // (grid.size * max(b.shape[0], 1)))
    weights = 1.0 / (values[None, :] + from_numpy(grid, values)[:, None])  # (n_alphas, k)
    if callable(scorer):
        return np.stack([_score_predictions(data, fold, train, vectors @ (w[:, None] * b), scorer) for w in weights])
    test = _TestMoments.of(data, fold, train, vectors)
    parts = [test.part(b, weights, lo, lo + step) for lo in range(0, b.shape[1], step)]
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
    def of(cls, data: _Data, fold: Fold, train: _Centred, vectors: Array) -> _TestMoments:
        sums = data.sums(fold.test)
        test = _centre(sums, True)
        y = namespace(test.y).concatenate([data.ys[i] for i in fold.test], axis=0)
        flat = to_numpy((y == y[:1]).all(axis=0))
        y = y - test.y
        return cls(
            n=len(y),
            gram=vectors.T @ test.gram @ vectors,
            xy=vectors.T @ test.xy,
            x=(test.x - train.x) @ vectors,
            bias=to_numpy(test.y - train.y),
            total=np.where(flat, np.nan, to_numpy(column_dot(y, y))),
        )

    def part(self, b: Array, weights: Array, lo: int, hi: int) -> Moments:
        """Moments of targets lo to hi for every alpha."""
        xp = namespace(b)
        solved = weights[:, :, None] * b[None, :, lo:hi]  # (n_alphas, k, targets)
        product = to_numpy(xp.einsum("akt,kt->at", solved, self.xy[:, lo:hi]))
        predicted = to_numpy(xp.einsum("akt,akt->at", solved, self.gram @ solved)).clip(min=0.0)
        total = self.total[lo:hi]
        return Moments(
            n=self.n,
            total=total,
            error=(total - 2.0 * product + predicted).clip(min=0.0),
            bias=self.bias[lo:hi] - to_numpy(xp.einsum("k,akt->at", self.x, solved)),
            predicted=predicted,
            product=product,
        )


def _score_predictions(data: _Data, fold: Fold, train: _Centred, coef: Array, scorer: Scorer) -> NDArray[np.float64]:
    """Score of a function of (y_true, y_pred), in the units of the caller."""
    offset = data.y_mean + to_numpy(train.y - train.x @ coef)
    predicted = [to_numpy(_predict(data.xs[i], coef, data.lags)) + offset for i in fold.test]
    truth = [to_numpy(data.ys[i]) + data.y_mean for i in fold.test]
    return np.asarray(scorer(np.concatenate(truth), np.concatenate(predicted)), dtype=np.float64)


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
    return _predict(cast(x, "float64"), cast(coef.reshape(-1, coef.shape[2]), "float64"), _check_lags(lags))


def _whole(data: _Data, runs: NDArray[Any] | None) -> LagSums:
    """Sums over everything, with the segments of a run joined."""
    every = np.arange(len(data.xs))
    if runs is None or len(np.unique(runs)) == len(runs):
        return data.sums(every)
    if runs.shape != every.shape:
        raise SchemaError("Not one run a segment.", expected=every.shape, got=runs.shape, where="runs")
    join = namespace(data.xs[0]).concatenate
    pieces = [np.flatnonzero(runs == run) for run in dict.fromkeys(runs.tolist())]
    xs, ys = ([join([part[i] for i in piece], axis=0) for piece in pieces] for part in (data.xs, data.ys))
    return lag_sums(xs, ys, data.lags)


def _refit(data: _Data, alphas: NDArray[np.float64], runs: NDArray[Any] | None) -> tuple[Array, NDArray[np.float64]]:
    """Response functions (n_lags, F, C) and intercepts (C,) on all segments."""
    known = ~data.bad & (~np.isnan(alphas) | (data.flat if data.intercept else False))
    whole = _centre(_whole(data, runs), data.intercept)
    values, vectors = eigh(whole.gram)
    penalty = from_numpy(np.where(np.isnan(alphas), 1.0, alphas), values)
    coef = vectors @ ((vectors.T @ whole.xy) / (values[:, None] + penalty[None, :]))
    coef = namespace(coef).where(from_numpy(known, coef), coef, float("nan"))
    intercept = data.y_mean + to_numpy(whole.y - whole.x @ coef) if data.intercept else np.where(known, 0.0, np.nan)
    return coef.reshape(data.lags.size, -1, coef.shape[1]), intercept


def _check_lags(lags: ArrayLike) -> NDArray[np.intp]:
    values = np.atleast_1d(np.asarray(list(lags) if isinstance(lags, range) else lags))
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iu" or (np.diff(values) != 1).any():
        raise ConfigError(
            "lags must be consecutive rising integers, in samples.",
            expected="for example range(-3, 10)",
            got=values,
            where="lags",
        )
    return values.astype(np.intp)


def _check_segments(
    X: Sequence[ArrayLike | Array], Y: Sequence[ArrayLike | Array]
) -> tuple[list[Array], list[Array], Array]:
    for segments, name in ((X, "X"), (Y, "Y")):
        if not isinstance(segments, list | tuple) or not segments:
            raise SchemaError(
                f"{name} must be a list of segments.",
                expected="one (n_samples, n_columns) array for each segment",
                got=type(segments).__name__,
                where=name,
                fix=f"pass [{name}] for a single segment",
            )
    if len(X) != len(Y):
        raise SchemaError("X and Y differ in their number of segments.", expected=len(X), got=len(Y), where="Y")
    like = next((segment for segment in (*X, *Y) if is_torch(segment)), X[0])
    xs = [matrix(x, f"X[{i}]", like=like, finite=True) for i, x in enumerate(X)]
    ys = [matrix(y, f"Y[{i}]", like=like) for i, y in enumerate(Y)]
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        expected = ((len(x), xs[0].shape[1]), (len(x), ys[0].shape[1]))
        if (tuple(x.shape), tuple(y.shape)) != expected:
            raise SchemaError(
                "Segments do not fit together.",
                expected=f"X {expected[0]} and Y {expected[1]}",
                got=f"X {tuple(x.shape)} and Y {tuple(y.shape)}",
                where=f"segment {i}",
            )
    return xs, ys, xs[0]
