"""Standard deviations of features in the training rows of folds, and the eigenbases of a fold that is scaled by them.

A fold divides its features by ``s``, their deviation in its training rows. Its Gram matrix is that of the features as
they are with ``1 / s`` on both sides, so that no feature is scaled anew where statistics of all rows are at hand.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from neuroalign.solvers._arrays import Array, Index, as_slice, cast, eigh, extremes, from_numpy, take, to_numpy, zeros
from neuroalign.solvers._folds import Fold

__all__ = ["HARDLY", "deviations", "gains", "own_fold", "scaled_dual_fold"]

#: A feature that varies this many times less in the training rows than in all rows has lost its digits to differences
#: of statistics of all rows: its fold is made from the training rows themselves.
HARDLY = 32.0

_COLUMNS = 256  # features in float64 at a time
_ROUNDING = 8 * float(np.finfo(np.float64).eps)  # of its values, below which a range is none

_Basis = tuple[Array, Array, None, Array]  # values (k,), rotate (n_train, k), no shift, test rows (n_test, k)


def deviations(x: Array, rows: Index | None = None) -> NDArray[np.float64]:
    """Standard deviation (ddof 0) of each feature in all or some rows, (p,); infinity where it is constant."""
    out = np.empty(x.shape[1])
    for lo in range(0, out.size, _COLUMNS):
        part = x[:, lo : lo + _COLUMNS]
        out[lo : lo + _COLUMNS] = _deviation(cast(part if rows is None else take(part, rows), "float64"))
    return out


def _deviation(part: Array) -> NDArray[np.float64]:
    low, high = (to_numpy(side) for side in extremes(part))
    spread = high - low
    varies = spread > _ROUNDING * np.maximum(abs(low), abs(high))
    unit = from_numpy(np.where(varies, spread, 1.0), part)  # squares neither overflow nor underflow
    centred = (part - part.mean(axis=0)) / unit
    return np.where(varies, to_numpy((centred * centred).mean(axis=0) ** 0.5 * unit), np.inf)


def gains(x: Array, whole: NDArray[np.float64], fold: Fold) -> NDArray[np.float64]:
    """What features that were divided by their deviations in all rows have to be multiplied by in a fold, (p,).

    Zero where a feature is constant in the training rows, so that it gets no weight.
    """
    own = deviations(x, as_slice(fold.train))
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(whole) | np.isinf(own), 0.0, whole / own)


def scaled_dual_fold(
    columns: Iterable[tuple[slice, Array]], gain: NDArray[np.float64], fold: Fold, intercept: bool
) -> _Basis:
    """Dual eigenbasis of a fold whose features are multiplied by `gain`, from chunks of all features."""
    train, test = as_slice(fold.train), as_slice(fold.test)
    across: Array | None = None
    for here, chunk in columns:
        part, held_out = (take(chunk, rows) * from_numpy(gain[here], chunk) for rows in (train, test))
        if intercept:
            mean = part.mean(axis=0)
            part, held_out = part - mean, held_out - mean
        if across is None:
            across = zeros((part.shape[0], part.shape[0]), "float64", chunk)
            beside = zeros((held_out.shape[0], part.shape[0]), "float64", chunk)
        across += part @ part.T
        beside += held_out @ part.T
    values, vectors = eigh(across)
    return values, vectors, None, beside @ vectors


def own_fold(x: Array, mean: NDArray[np.float64], gain: NDArray[np.float64], fold: Fold, intercept: bool) -> _Basis:
    """The same for fewer features than training rows, from ``(x - mean) * gain`` of its own rows."""
    factor, middle = from_numpy(gain, x), from_numpy(mean, x)
    train, test = (
        (cast(take(x, as_slice(rows)), "float64") - middle) * factor for rows in (fold.train, fold.test)
    )  # (n_train, p), (n_test, p)
    if intercept:
        centre = train.mean(axis=0)
        train, test = train - centre, test - centre
    values, vectors = eigh(train.T @ train)
    size = values**0.5
    return values, train @ vectors / size, None, test @ vectors * size
