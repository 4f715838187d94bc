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
    contiguous,
    dtype_name,
    from_numpy,
    mean64,
    namespace,
    take,
    to_numpy,
)
from neuroalign.solvers._plan import FoldBasis, Plan
from neuroalign.solvers._score import Moments, score_moments

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
    """

    y: Array
    mean: NDArray[np.float64]
    unit: NDArray[np.float64]
    bad: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    total: Array
    left_out: list[Array | None]


def load_tile(plan: Plan, y: Array, *, left_out: bool = True) -> Tile:
    """Centre and scale some targets, and multiply them with the features once.

    Without `left_out` the sums that only the folds need are not made.
    """
    xp = namespace(y)
    y = contiguous(cast(y if plan.order is None else take(y, plan.order), plan.dtype))
    bad = ~xp.isfinite(y).all(axis=0)
    if bool(bad.any()):
        y = xp.where(bad, xp.zeros_like(y), y)
    flat = (y == y[:1]).all(axis=0)
    # Rounded to the working precision, the mean is off by a constant, which the folds take out. That of a constant
    # target is its value: exactly zero remains, no rounding error to fit.
    mean = xp.where(flat, y[0], cast(mean64(y), plan.dtype))
    centred = y - mean
    spread = abs(centred).max(axis=0) if xp is np else abs(centred).amax(axis=0)
    unit = np.exp2(np.round(np.log2(np.where(to_numpy(flat), 1.0, to_numpy(cast(spread, "float64"))))))
    if not plan.intercept:
        centred, mean = y, mean * 0.0
    centred = centred * cast(from_numpy(1.0 / unit, y), plan.dtype)
    total, parts = _products(plan, centred, plan.folds if left_out else [])
    return Tile(centred, to_numpy(cast(mean, "float64")), unit, to_numpy(bad), to_numpy(flat), total, parts)


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
            moments = _moments(fold, b, take(tile.y, fold.test), train_mean, scorer, buffers)
            scores.append(score_moments(scorer, moments))
    stacked = np.stack(scores)
    stacked[:, :, tile.bad | tile.flat] = np.nan
    return stacked


def _rotated(plan: Plan, tile: Tile, fold: FoldBasis, left_out: Array | None) -> tuple[Array, Array]:
    """Training mean (t,) of the targets, and their training statistics in the eigenbasis (t, k)."""
    y = take(tile.y, fold.train)
    mean = mean64(y) if plan.intercept else mean64(y[:1]) * 0.0
    small = cast(mean, plan.dtype)
    if fold.shift is None:
        return mean, (y - small).T @ fold.rotate
    s = y.T @ take(plan.x, fold.train) if left_out is None else tile.total - left_out
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


def _moments(fold: FoldBasis, b: Array, y_test: Array, train_mean: Array, scorer: str, buffers: Buffers) -> Moments:
    """Sums over the test rows of every alpha. Residuals are formed: no difference of large sums."""
    xp, n = namespace(b), y_test.shape[0]
    test_mean = mean64(y_test)
    y = y_test - cast(test_mean, dtype_name(y_test))
    flat = to_numpy((y_test == y_test[:1]).all(axis=0))
    total = to_numpy(column_dot(y, y))
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
    error = to_numpy(cast(xp.einsum("atr,atr->at", predicted, predicted), "float64")) + beyond
    bias = to_numpy(test_mean - train_mean) - to_numpy(cast(fold.mean_weights @ b.T, "float64"))
    return Moments(n, np.where(flat, np.nan, total), error, bias, square, product)


def _score_predictions(
    tile: Tile, fold: FoldBasis, b: Array, train_mean: Array, scorer: Scorer, buffers: Buffers
) -> NDArray[np.float64]:
    """Scores of a function of (y_true, y_pred), in the units of the caller."""
    truth = to_numpy(cast(take(tile.y, fold.test), "float64")) * tile.unit + tile.mean
    centred, mean = _predictions(fold, b, buffers), fold.mean_weights @ b.T  # (n_alphas, t, n_test), (n_alphas, t)
    scores = []
    for rows, offset in zip(centred, mean, strict=True):
        predicted = to_numpy(cast(rows.T, "float64") + (cast(offset, "float64") + train_mean))
        scores.append(np.asarray(scorer(truth, predicted * tile.unit + tile.mean), dtype=np.float64))
    return np.stack(scores)


def refit_tile(plan: Plan, tile: Tile, alphas: NDArray[np.float64]) -> tuple[Array, NDArray[np.float64]]:
    """Coefficients (p, t) and float64 intercepts (t,) on all rows, with one alpha for every target.

    A target without an alpha (NaN) gets NaN, unless it is constant and centred: then every alpha gives zero.
    """
    xp = namespace(tile.y)
    known = ~tile.bad & (~np.isnan(alphas) | (tile.flat if plan.intercept else False))
    penalty = from_numpy(np.where(np.isnan(alphas), 1.0, alphas) / plan.scale**2, plan.values)
    weights = cast(1.0 / (plan.values[None, :] + penalty[:, None]), plan.dtype)  # (t, k)
    coef = plan.back @ (weights * tile.total).T
    coef = coef * cast(from_numpy(tile.unit / plan.scale, coef), plan.dtype)
    coef = xp.where(from_numpy(known, coef), coef, float("nan"))
    intercept = tile.mean - to_numpy(from_numpy(plan.x_mean, coef) @ cast(coef, "float64"))
    return coef, np.where(known, intercept if plan.intercept else 0.0, np.nan)
