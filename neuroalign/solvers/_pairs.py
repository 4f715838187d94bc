"""Squared length of a prediction at every penalty, from one product of targets.

The centred prediction of the test rows at penalty a is ``rows @ (d * b)`` with ``d_j = 1 / (value_j + a)``; its square
is the sum over pairs of directions of ``G_jk b_j b_k d_j d_k``, with G the Gram matrix of the test rows. Since
``d_j d_k = (d_j - d_k) / (value_k - value_j)``, the penalty can be taken out of the matrix: with
``F_jk = G_jk / (value_k - value_j)`` the sum is ``2 sum_j (d_j - c) b_j (F b)_j``, for any c, as F is antisymmetric.
One product ``F b`` serves all penalties, and the test rows are no longer needed.

Pairs of nearly equal values would lose their digits in the difference. They are few, beside the diagonal, and
``(d_j^2 + d_k^2) / 2`` stands for ``d_j d_k``, which is off by less than half the square of their relative distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.solvers._arrays import Array, Buffers, cast, from_numpy, namespace, to_numpy

__all__ = ["Pairs", "make_pairs", "pair_sums"]

# Values closer than this, relative to the larger one, are near; balances the two errors of each working precision.
_NEAR = {"float32": 4e-3, "float64": 5e-6}
# Largest expected sum of what cancels, relative to the noise of a target, times the rounding error: as float32 allows.
_LOSS = {"float32": 16.0, "float64": 1e4}
_CHUNK = 64  # rows of near pairs in one product


@dataclass(frozen=True)
class Pairs:
    """What the squares of all predictions of a fold are made of.

    far : (k, k) F transposed, zero for near pairs.
    near : columns, rows and Gram matrix (columns, rows) of near pairs.
    shrinkage : (k, n_alphas) d; twice : 2 (d - c); squared : d^2.
    """

    far: Array
    near: list[tuple[slice, slice, Array]]
    shrinkage: Array
    twice: Array
    squared: Array


def make_pairs(
    values: NDArray[np.float64], gram: Array, alphas: NDArray[np.float64], power: NDArray[np.float64], dtype: str
) -> Pairs | None:
    """Divide the Gram matrix of the test rows by the differences of the eigenvalues.

    Parameters
    ----------
    values : ndarray, shape (k,)
        Rising positive eigenvalues of the training rows.
    gram : Array of float64, shape (k, k)
        Gram matrix of the centred test rows in the eigenbasis.
    alphas : ndarray, shape (n_alphas,)
        Penalties.
    power : ndarray, shape (k,)
        Square of b that white noise of one unit a test row gives in every direction.
    dtype : {"float32", "float64"}
        Of the products with targets.

    Returns
    -------
    Pairs or None
        None where too many digits would cancel.
    """
    if values.size == 0:
        return None
    table = 1.0 / (values[:, None] + alphas)  # (k, n_alphas)
    lowest = table - 1.0 / (values[-1] + alphas)  # c is the smallest d: nothing gets larger, much gets smaller
    rising, xp = from_numpy(values, gram), namespace(gram)
    apart = rising[None, :] - rising[:, None]
    close = abs(apart) <= _NEAR[dtype] * xp.maximum(rising[None, :], rising[:, None])
    far = xp.where(close, xp.zeros_like(gram), gram / xp.where(close, xp.ones_like(gram), apart))
    size, weight = from_numpy(power, gram), from_numpy(lowest[:, alphas.argmin()] ** 2 * power, gram)
    if not float(weight @ (far * far) @ size) <= _LOSS[dtype] ** 2:
        return None
    near = []
    for lo in range(0, values.size, _CHUNK):
        hi = min(lo + _CHUNK, values.size)
        first = int(np.searchsorted(values, values[lo] * (1 - _NEAR[dtype])))
        last = int(np.searchsorted(values, values[hi - 1] / (1 - _NEAR[dtype]), side="right"))
        columns, rows = slice(first, last), slice(lo, hi)
        part = xp.where(close[columns, rows], gram[columns, rows], xp.zeros_like(gram[columns, rows]))
        near.append((columns, rows, cast(part, dtype)))
    tables = (cast(from_numpy(part, gram), dtype) for part in (table, 2.0 * lowest, table**2))
    return Pairs(cast(-far, dtype), near, *tables)


def pair_sums(
    pairs: Pairs, b: Array, product: Array, buffers: Buffers
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Square of the predictions and their product with the target, each (n_alphas, t).

    Parameters
    ----------
    pairs : Pairs
        Of the fold.
    b : Array, shape (t, k)
        Training statistics.
    product : Array, shape (t, k)
        Test rows times centred targets; overwritten.
    buffers : Buffers
        Scratch.
    """
    xp = namespace(b)
    product *= b
    linear = product @ pairs.shrinkage
    part = buffers.get("pairs", tuple(b.shape), b)
    xp.matmul(b, pairs.far, out=part)
    part *= b
    square = part @ pairs.twice
    for columns, rows, gram in pairs.near:
        part[:, rows] = b[:, columns] @ gram
    part *= b
    square += part @ pairs.squared
    return to_numpy(cast(square, "float64")).T, to_numpy(cast(linear, "float64")).T
