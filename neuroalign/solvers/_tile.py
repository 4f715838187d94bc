"""The target stage of a ridge path: a tile of targets is loaded, scored on every fold and alpha, and refitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import (
    Array,
    Buffers,
    cast,
    column_dot,
    column_mean,
    contiguous,
    dtype_name,
    extremes,
    from_numpy,
    namespace,
    take,
    to_numpy,
    zeros,
)
from neuroalign.solvers._pairs import pair_sums
from neuroalign.solvers._plan import FoldBasis, Plan
from neuroalign.solvers._score import Moments, call_scorer, score_moments

__all__ = ["Tile", "load_tile", "refit_tile", "score_tile"]


@dataclass(frozen=True)
class Tile:
    """Some targets, centred over all samples and divided by a power of two.

    y : (n, t) in the working dtype, rows in the order of the plan.
    mean, unit : (t,) float64; a target is ``y * unit + mean``.
    bad : (t,) targets with NaN or infinity (zero in `y`).
    flat : (t,) constant targets.
    total : (t, k) Y'X of all rows in their eigenbasis.
    left_out : Y'X of the excluded rows of every fold, None where the training rows are summed instead.
    rest : (t,) float64 mean of the rows of `y`: what rounding left of it, or all of it without an intercept.
    """

    y: Array
    mean: NDArray[np.float64]
    unit: NDArray[np.float64]
    bad: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    total: Array
    left_out: list[Array | None]
    rest: Array


def load_tile(plan: Plan, y: Array, buffers: Buffers | None = None, *, left_out: bool = True) -> Tile:
    """Centre and scale some targets, and multiply them with the features once.

    With `buffers` the tile is valid until the next one is loaded. Without `left_out` the sums that only the folds need
    are not made.
    """
    xp = namespace(y)
    y = cast(y if plan.order is None else take(y, plan.order), plan.dtype)
    low, high = extremes(y)
    bad = ~(xp.isfinite(low) & xp.isfinite(high))
    flat = low == high
    # The mean is off by a rounding error, a constant that the folds take out. That of a constant target is its value:
    # exactly zero remains, no rounding error to fit.
    mean = xp.where(bad, xp.zeros_like(low), xp.where(flat, low, cast(column_mean(y), plan.dtype)))
    spread = xp.where(bad | flat, xp.ones_like(low), xp.maximum(high - mean, mean - low))
    if not plan.intercept:
        mean = mean * 0.0
    unit = np.exp2(np.round(np.log2(to_numpy(cast(spread, "float64")))))
    centred = zeros(tuple(y.shape), plan.dtype, y) if buffers is None else buffers.get("tile", tuple(y.shape), y)
    xp.subtract(y, mean, out=centred)
    centred *= cast(from_numpy(1.0 / unit, y), plan.dtype)
    if bool(bad.any()):
        centred[:, bad] = 0.0
    total, parts = _products(plan, centred, plan.folds if left_out else [])
    rest, mean = column_mean(centred), to_numpy(cast(mean, "float64"))
    return Tile(centred, mean, unit, to_numpy(bad), to_numpy(flat), total, parts, rest)


def _products(plan: Plan, y: Array, folds: list[FoldBasis]) -> tuple[Array, list[Array | None]]:
    """Y'X of all rows, and of the rows that each fold leaves out (primal only)."""
    if plan.dual:
        return y.T @ plan.x, [None] * len(folds)
    left_out: list[Array | None] = [
        None if fold.excluded is None else take(y, fold.excluded).T @ take(plan.x, fold.excluded) for fold in folds
    ]
    if not (plan.partition and folds):
        return y.T @ plan.x, left_out
    total: Array = left_out[0]
    for part in left_out[1:]:
        total = total + part
    return total, left_out


def score_tile(plan: Plan, tile: Tile, scorer: str | Scorer, buffers: Buffers) -> NDArray[np.float64]:
    """Scores of held-out rows, shape (n_folds, n_alphas, t); NaN where a target is constant there or not finite."""
    scores = []
    for fold, left_out in zip(plan.folds, tile.left_out, strict=True):
        train_mean, b = _rotated(plan, tile, fold, left_out)
        if callable(scorer):
            scores.append(_score_predictions(tile, fold, b, train_mean, scorer, buffers))
        else:
            moments = _moments(fold, b, tile, left_out, train_mean, scorer, buffers)
            scores.append(score_moments(scorer, moments))
    stacked = np.stack(scores)
    stacked[:, :, tile.bad | tile.flat] = np.nan
    return stacked


def _rotated(plan: Plan, tile: Tile, fold: FoldBasis, left_out: Array | None) -> tuple[Array, Array]:
    """Training mean (t,) of the targets, and their training statistics in the eigenbasis (t, k)."""
    if fold.shift is None or fold.excluded is None or left_out is None:
        y = take(tile.y, fold.train)
        mean = column_mean(y) if plan.intercept else column_mean(y[:1]) * 0.0
        small = cast(mean, plan.dtype)
        if fold.shift is None:
            return mean, (y - small).T @ fold.rotate
        s = y.T @ take(plan.x, fold.train)
    else:  # all rows have a mean of zero but for rounding
        out = take(tile.y, fold.excluded)
        n, n_out = tile.y.shape[0], out.shape[0]
        mean = (n * tile.rest - n_out * column_mean(out)) / (n - n_out) if plan.intercept else tile.rest * 0.0
        small = cast(mean, plan.dtype)
        s = tile.total - left_out
    return mean, s @ fold.rotate - small[:, None] * fold.shift


def _predictions(fold: FoldBasis, b: Array, buffers: Buffers) -> Array:
    """Centred predictions of the test rows for every alpha, (n_alphas, t, r); valid until the next call."""
    t, r = b.shape[0], fold.rows.shape[1]
    basis = buffers.get("basis", (sum(len(part) for _, part in fold.blocks), t, r), b)
    done = 0
    for columns, part in fold.blocks:  # part (q, width)
        weighted = buffers.get("weighted", (len(part), t, part.shape[1]), b)
        namespace(b).multiply(b[None, :, columns], part[:, None, :], out=weighted)
        out = basis[done : done + len(part)].reshape(len(part) * t, r)
        namespace(b).matmul(weighted.reshape(len(part) * t, part.shape[1]), fold.rows[columns], out=out)
        done += len(part)
    if fold.mix is None:
        return basis
    mixed = buffers.get("mixed", (fold.mix.shape[0], t, r), b)
    namespace(b).matmul(fold.mix, basis.reshape(done, t * r), out=mixed.reshape(fold.mix.shape[0], t * r))
    return mixed


def _moments(
    fold: FoldBasis,
    b: Array,
    tile: Tile,
    left_out: Array | None,
    train_mean: Array,
    scorer: str,
    buffers: Buffers,
) -> Moments:
    """Sums over the test rows of every alpha."""
    y_test = take(tile.y, fold.test)
    test_mean = column_mean(y_test)
    y = buffers.get("test", tuple(y_test.shape), b)
    namespace(b).subtract(y_test, cast(test_mean, dtype_name(y_test)), out=y)
    total = to_numpy(column_dot(y, y))
    if fold.pairs is None:
        error, square, product = _residuals(fold, b, y, total, scorer, buffers)
    else:
        if fold.test_shift is None or left_out is None:
            reached = y.T @ fold.rows.T
        else:
            reached = left_out @ fold.rotate - cast(test_mean, dtype_name(b))[:, None] * fold.test_shift
        square, product = pair_sums(fold.pairs, b, reached, buffers)
        error = np.maximum(total - 2.0 * product + square, 0.0)
    bias = to_numpy(test_mean - train_mean) - to_numpy(cast(fold.mean_weights @ b.T, "float64"))
    total = np.where(_constant(y_test, to_numpy(test_mean), total), np.nan, total)
    return Moments(y.shape[0], total, error, bias, np.maximum(square, 0.0), product)


def _constant(y: Array, mean: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which columns are constant; only those whose centred squares may be a rounded mean are looked at again."""
    n, flat = y.shape[0], np.zeros(total.size, dtype=bool)
    suspects = np.flatnonzero(total <= n * (4.0 * n * np.finfo(dtype_name(y)).eps * mean) ** 2)
    if suspects.size:
        low, high = extremes(take(y.T, suspects).T)
        flat[suspects] = to_numpy(low == high)
    return flat


def _residuals(
    fold: FoldBasis, b: Array, y: Array, total: NDArray[np.float64], scorer: str, buffers: Buffers
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Error, square and product from predictions, without a difference of large sums. The correlation needs all."""
    xp = namespace(b)
    beyond: NDArray[np.float64] | float = 0.0
    y = contiguous(y.T)  # (t, n_test)
    if fold.project is not None:
        y = y @ fold.project  # the rest of y is out of reach of any prediction: a constant part of the error
        beyond = total - to_numpy(cast(xp.einsum("tr,tr->t", y, y), "float64"))
    predicted = _predictions(fold, b, buffers)
    square = product = np.zeros(())
    if scorer == "r":
        square = to_numpy(cast(xp.einsum("atr,atr->at", predicted, predicted), "float64"))
        product = to_numpy(cast(xp.einsum("atr,tr->at", predicted, y), "float64"))
    predicted -= y
    return to_numpy(cast(xp.einsum("atr,atr->at", predicted, predicted), "float64")) + beyond, square, product


def _score_predictions(
    tile: Tile, fold: FoldBasis, b: Array, train_mean: Array, scorer: Scorer, buffers: Buffers
) -> NDArray[np.float64]:
    """Scores of a function of (y_true, y_pred), in the units of the caller."""
    truth = to_numpy(cast(take(tile.y, fold.test), "float64")) * tile.unit + tile.mean
    centred, mean = _predictions(fold, b, buffers), fold.mean_weights @ b.T  # (n_alphas, t, n_test), (n_alphas, t)
    scores = []
    for rows, offset in zip(centred, mean, strict=True):
        predicted = to_numpy(cast(rows.T, "float64") + (cast(offset, "float64") + train_mean))
        scores.append(call_scorer(scorer, truth, predicted * tile.unit + tile.mean))
    return np.stack(scores)


def refit_tile(plan: Plan, tile: Tile, alphas: NDArray[np.float64]) -> tuple[Array, NDArray[np.float64]]:
    """Coefficients (p, t) and float64 intercepts (t,) on all rows, with one alpha for every target.

    A target without an alpha (NaN) gets NaN, unless it is constant and centred: then every alpha gives zero.
    """
    known = ~tile.bad & (~np.isnan(alphas) | (tile.flat if plan.intercept else False))
    penalty = from_numpy(np.where(np.isnan(alphas), 1.0, alphas) / plan.scale**2, plan.values)
    weights = cast(1.0 / (plan.values[None, :] + penalty[:, None]), plan.dtype)  # (t, k)
    weights *= tile.total
    weights *= cast(from_numpy(np.where(known, tile.unit / plan.scale, np.nan)[:, None], weights), plan.dtype)
    coef = plan.back @ weights.T
    if not plan.intercept:
        return coef, np.where(known, 0.0, np.nan)
    offset = to_numpy(from_numpy(plan.x_mean, coef) @ cast(coef, "float64"))
    mean = tile.mean + tile.unit * to_numpy(tile.rest)
    return coef, np.where(known, mean - offset, np.nan)
