"""Leave-one-out and generalised cross-validation of a ridge path, from the eigenbasis of all rows alone.

With orthonormal directions Q of the centred rows and f = value / (value + a), the fit of a target is ``Q (f * z)`` with
``z = Q'y``, and row i weighs ``1/n + sum_j Q_ij^2 f_j`` in its own fit. The residual of a row that is left out is its
residual divided by one minus that weight. Both are formed from 1 - f, so that they keep their digits where f is near 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import Array, Buffers, cast, column_dot, from_numpy, namespace, to_numpy
from neuroalign.solvers._folds import as_pairs
from neuroalign.solvers._plan import Plan
from neuroalign.solvers._score import Moments, call_scorer, score_moments
from neuroalign.solvers._tile import Tile

__all__ = ["CLOSED", "as_folds", "predict_left_out", "score_closed"]

CLOSED = ("loo", "gcv")  # names that stand in for folds


def as_folds(
    folds: Iterable[tuple[ArrayLike, ArrayLike]] | str,
    standardize: bool = False,
) -> tuple[list[tuple[ArrayLike, ArrayLike]] | None, str | None]:
    """Tell folds from the name of a closed form; one of the two is None.

    Every fold of leave-one-out has deviations of its own, for which there is no closed form. Generalised
    cross-validation is a function of the smoother of all rows, and that of scaled features is as good as any.
    """
    if not isinstance(folds, str):
        return as_pairs(folds), None
    if folds not in CLOSED:
        raise ConfigError("Unknown folds.", expected="(train, test) pairs, 'loo' or 'gcv'", got=folds, where="folds")
    if folds == "loo" and standardize:
        raise ConfigError(
            "Leave-one-out has no closed form when each fold is standardized by its own samples.",
            expected="(train, test) pairs or 'gcv'",
            got=folds,
            where="folds",
            fix="pass folds, or scale the features before with standardize=False",
        )
    return None, folds


def score_closed(
    plan: Plan, tile: Tile, folds: str, scorer: str | Scorer, alphas: NDArray[np.float64], buffers: Buffers
) -> NDArray[np.float64]:
    """Scores of all alphas, (n_alphas, t); NaN where a target is constant or not finite.

    Parameters
    ----------
    plan : Plan
        Of all rows.
    tile : Tile
        Targets.
    folds : {"loo", "gcv"}
        Leave-one-out, whose predictions of all samples are scored together, or generalised cross-validation, whose
        error stands in for that of the predictions in R2.
    scorer : str or callable
        Its score; R2 for "gcv".
    alphas : ndarray, shape (n_alphas,)
        Penalties in the units of the plan.
    buffers : Buffers
        Scratch.
    """
    values = to_numpy(plan.values)
    left = alphas[:, None] / (values + alphas[:, None])  # 1 - f, (n_alphas, k)
    z = tile.total if plan.dual else tile.total * cast(plan.values**-0.5, plan.dtype)  # (t, k)
    with np.errstate(divide="ignore", invalid="ignore"):  # a weight of one: no score
        scores = _gcv(plan, tile, z, left) if folds == "gcv" else _loo(plan, tile, z, left, scorer, buffers)
    scores[:, tile.bad | tile.flat] = np.nan
    return np.where(np.isfinite(scores), scores, np.nan)


def _full_rank(plan: Plan) -> bool:
    """Whether the directions span all that is left of a centred target."""
    return plan.values.shape[0] >= plan.x.shape[0] - plan.intercept


def _centred(plan: Plan, tile: Tile) -> Array:
    return tile.y - cast(tile.y.mean(axis=0), plan.dtype) if plan.intercept else tile.y


def _gcv(plan: Plan, tile: Tile, z: Array, left: NDArray[np.float64]) -> NDArray[np.float64]:
    n, k = plan.x.shape
    squares = to_numpy(cast(z, "float64")) ** 2
    y = _centred(plan, tile)
    energy = to_numpy(column_dot(y, y))
    rest = 0.0 if _full_rank(plan) else np.maximum(energy - squares.sum(axis=1), 0.0)
    error = left**2 @ squares.T + rest
    freedom = (n - plan.intercept - k + left.sum(axis=1)) / n
    return 1.0 - error / freedom[:, None] ** 2 / _spread(tile)


def _spread(tile: Tile) -> NDArray[np.float64]:
    """Sum of squares of the centred targets."""
    y = tile.y - tile.y.mean(axis=0)
    return to_numpy(column_dot(y, y))


def _loo(
    plan: Plan, tile: Tile, z: Array, left: NDArray[np.float64], scorer: str | Scorer, buffers: Buffers
) -> NDArray[np.float64]:
    xp, n = namespace(z), plan.x.shape[0]
    q = plan.x if plan.dual else plan.x * cast(plan.values**-0.5, plan.dtype)  # (n, k)
    squares = to_numpy(cast(q, "float64")) ** 2
    free = left @ squares.T  # one minus the weight of every row, (n_alphas, n)
    rest = None
    if not _full_rank(plan):
        rest = _centred(plan, tile) - q @ z.T
        free = free + (1.0 - plan.intercept / n - squares.sum(axis=1))
    scores = []
    error = buffers.get("error", (n, z.shape[0]), z)
    for row, share in zip(left, free, strict=True):
        xp.matmul(q, (z * cast(from_numpy(row, z), plan.dtype)).T, out=error)
        if rest is not None:
            error += rest
        error /= cast(from_numpy(share[:, None], z), plan.dtype)
        scores.append(_score(tile, error, scorer))
    return np.stack(scores)


def predict_left_out(plan: Plan, tile: Tile, alphas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Predictions of all rows, each by the model of the others, in the units of the caller; (n, t).

    Parameters
    ----------
    plan : Plan
        Of all rows.
    tile : Tile
        Targets.
    alphas : ndarray, shape (t,)
        A penalty for each target, in the units of the plan.
    """
    values, n = to_numpy(plan.values), plan.x.shape[0]
    left = alphas[:, None] / (values + alphas[:, None])  # 1 - f, (t, k)
    scale = None if plan.dual else cast(plan.values**-0.5, plan.dtype)
    z, q = (tile.total, plan.x) if scale is None else (tile.total * scale, plan.x * scale)
    squares = to_numpy(cast(q, "float64")) ** 2
    free = squares @ left.T  # one minus the weight of every row in its own fit, (n, t)
    error = to_numpy(cast(q @ (z * cast(from_numpy(left, z), plan.dtype)).T, "float64"))
    if not _full_rank(plan):
        error = error + to_numpy(cast(_centred(plan, tile) - q @ z.T, "float64"))
        free = free + (1.0 - plan.intercept / n - squares.sum(axis=1))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # a row that decides its own fit: no prediction
        predicted = to_numpy(cast(tile.y, "float64")) - error / free
    predicted[:, tile.bad] = np.nan
    return predicted * tile.unit + tile.mean


def _score(tile: Tile, error: Array, scorer: str | Scorer) -> NDArray[np.float64]:
    """Score of the predictions that are off by `error`, (t,)."""
    if callable(scorer):
        truth, off = (to_numpy(cast(part, "float64")) * tile.unit for part in (tile.y, error))
        return call_scorer(scorer, truth + tile.mean, truth - off + tile.mean)
    bias = to_numpy(cast(error.mean(axis=0), "float64"))
    y = tile.y - tile.y.mean(axis=0)
    error = error - error.mean(axis=0)
    predicted = y - error
    total, rest, square, product = (
        to_numpy(column_dot(a, b)) for a, b in ((y, y), (error, error), (predicted, predicted), (y, predicted))
    )
    return score_moments(scorer, Moments(y.shape[0], total, rest, bias, square, product))
