"""The target stage of a ridge path: a tile of targets is loaded, scored on every fold and alpha, and refitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import (
    Array,
    cast,
    column_dot,
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
    total : (k, t) statistics of all rows in their eigenbasis.
    left_out : X'Y of the excluded rows of every fold, None where the training rows are summed instead.
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
    y = cast(y if plan.order is None else take(y, plan.order), "float64")
    bad = ~xp.isfinite(y).all(axis=0)
    if bool(bad.any()):
        y = xp.where(bad, 0.0, y)
    flat = (y == y[:1]).all(axis=0)  # centred by its value: exactly zero, no rounding error to fit
    mean = xp.where(flat, y[0], mean64(y))
    y = y - mean
    spread = np.sqrt(to_numpy(column_dot(y, y)) / y.shape[0])
    unit = np.exp2(np.round(np.log2(np.where(spread > 0, spread, 1.0))))
    if not plan.intercept:
        y = y + mean
        mean = mean * 0.0
    centred = cast(y / from_numpy(unit, y), plan.dtype)
    total, parts = _products(plan, centred, plan.folds if left_out else [])
    return Tile(centred, to_numpy(mean), unit, to_numpy(bad), to_numpy(flat), total, parts)


def _products(plan: Plan, y: Array, folds: list[FoldBasis]) -> tuple[Array, list[Array | None]]:
    """X'Y of all rows, and of the rows that each fold leaves out (primal only)."""
    if plan.dual:
        return plan.x.T @ y, [None] * len(folds)
    left_out: list[Array | None] = [
        None if fold.excluded is None else take(plan.x, fold.excluded).T @ take(y, fold.excluded) for fold in folds
    ]
    if not (plan.partition and folds):
        return plan.x.T @ y, left_out
    total: Array = left_out[0]
    for part in left_out[1:]:
        total = total + part
    return total, left_out


def score_tile(plan: Plan, tile: Tile, alphas: NDArray[np.float64], scorer: str | Scorer) -> NDArray[np.float64]:
    """Scores of held-out rows, shape (n_folds, n_alphas, t); NaN where a target is constant there or not finite."""
    scores = np.empty((len(plan.folds), alphas.size, tile.bad.size))
    for i, fold in enumerate(plan.folds):
        train_mean, b = _rotated(plan, tile, fold, tile.left_out[i])
        weights = _shrinkage(fold.values, alphas / plan.scale**2, plan.dtype)
        if callable(scorer):
            scores[i] = _score_predictions(tile, fold, b, weights, train_mean, scorer)
        else:
            scores[i] = score_moments(scorer, _moments(fold, b, weights, take(tile.y, fold.test), train_mean, scorer))
    scores[:, :, tile.bad | tile.flat] = np.nan
    return scores


def _rotated(plan: Plan, tile: Tile, fold: FoldBasis, left_out: Array | None) -> tuple[Array, Array]:
    """Training mean (t,) of the targets, and their training statistics in the eigenbasis (k, t)."""
    y = take(tile.y, fold.train)
    mean = mean64(y) if plan.intercept else mean64(y) * 0.0
    small = cast(mean, plan.dtype)
    if fold.shift is None:
        return mean, fold.rotate @ (y - small)
    s = take(plan.x, fold.train).T @ y if left_out is None else tile.total - left_out
    return mean, fold.rotate @ s - fold.shift[:, None] * small


def _shrinkage(values: Array, alphas: NDArray[np.float64], dtype: str) -> Array:
    """``1 / (value + alpha)``, shape (n_alphas, k)."""
    return cast(1.0 / (values[None, :] + from_numpy(alphas, values)[:, None]), dtype)


def _moments(fold: FoldBasis, b: Array, weights: Array, y_test: Array, train_mean: Array, scorer: str) -> Moments:
    """Sums over the test rows of every alpha. Residuals are formed: no difference of large sums."""
    n, t = y_test.shape
    test_mean = mean64(y_test)
    y = cast(cast(y_test, "float64") - test_mean, dtype_name(y_test))
    total = column_dot(y, y)
    beyond: NDArray[np.float64] | float = 0.0
    if fold.project is not None:
        y = fold.project.T @ y  # the rest of y is out of reach of any prediction: a constant part of the error
        beyond = to_numpy(total - column_dot(y, y))
    sums = np.zeros((4, weights.shape[0], t))  # error, mean, predicted, product
    for a, row in enumerate(weights):
        weighted = b * row[:, None]
        predicted = fold.rows @ weighted  # (r, t)
        error = y - predicted
        sums[0, a] = to_numpy(column_dot(error, error)) + beyond
        sums[1, a] = to_numpy(fold.rows_mean @ weighted)
        if scorer == "r":
            sums[2, a] = to_numpy(column_dot(predicted, predicted))
            sums[3, a] = to_numpy(column_dot(predicted, y))
    total = np.where(to_numpy((y_test == y_test[:1]).all(axis=0)), np.nan, to_numpy(total))
    return Moments(n, total, sums[0], to_numpy(test_mean - train_mean) - sums[1], sums[2], sums[3])


def _score_predictions(
    tile: Tile, fold: FoldBasis, b: Array, weights: Array, train_mean: Array, scorer: Scorer
) -> NDArray[np.float64]:
    """Scores of a function of (y_true, y_pred), in the units of the caller."""
    rows = fold.rows + fold.rows_mean
    truth = to_numpy(cast(take(tile.y, fold.test), "float64")) * tile.unit + tile.mean
    scores = []
    for row in weights:
        predicted = to_numpy(cast(rows @ (b * row[:, None]), "float64") + train_mean)
        scores.append(np.asarray(scorer(truth, predicted * tile.unit + tile.mean), dtype=np.float64))
    return np.stack(scores)


def refit_tile(plan: Plan, tile: Tile, alphas: NDArray[np.float64]) -> tuple[Array, NDArray[np.float64]]:
    """Coefficients (p, t) and float64 intercepts (t,) on all rows, with one alpha for every target.

    A target without an alpha (NaN) gets NaN, unless it is constant and centred: then every alpha gives zero.
    """
    xp = namespace(tile.y)
    known = ~tile.bad & (~np.isnan(alphas) | (tile.flat if plan.intercept else False))
    penalty = from_numpy(np.where(np.isnan(alphas), 1.0, alphas) / plan.scale**2, plan.values)
    weights = cast(1.0 / (plan.values[:, None] + penalty[None, :]), plan.dtype)  # (k, t)
    coef = plan.back @ (weights * tile.total)
    coef = coef * cast(from_numpy(tile.unit / plan.scale, coef), plan.dtype)
    coef = xp.where(from_numpy(known, coef), coef, float("nan"))
    intercept = tile.mean - to_numpy(from_numpy(plan.x_mean, coef) @ cast(coef, "float64"))
    return coef, np.where(known, intercept if plan.intercept else 0.0, np.nan)
