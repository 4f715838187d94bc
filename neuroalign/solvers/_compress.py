"""Fewer products than penalties: a low-rank form of the shrinkage of a whole grid.

The prediction at penalty a is ``sum_j rows[:, j] b_j / (value_j + a)``. Eigenvalues are cut into blocks; inside a block
the table ``1 / (value_j + a)`` over alphas and eigenvalues is smooth in both, so a few functions of the eigenvalue span
it: one product for each function makes basis predictions, and a small mix of them makes the predictions of all alphas.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOLERANCE", "Block", "Compressed", "best_cuts", "compress"]

# Largest error of a shrinkage factor, relative to the largest one of the same alpha, by working precision.
TOLERANCE = {"float32": 1e-6, "float64": 1e-11}
_MIX_COST = 4.0  # a mixing operation costs this many operations of a large product
_POINTS = 20  # eigenvalues at which the rank of a block is found
_CUTS = 28  # at most this many places where the spectrum may be cut


@dataclass(frozen=True)
class Block:
    """Some consecutive eigenvalues, and the functions of them that make basis predictions."""

    columns: slice
    basis: NDArray[np.float64]  # (q, width)


@dataclass(frozen=True)
class Compressed:
    """Blocks and how their basis predictions, end to end, mix to those of the alphas (None: they are them)."""

    blocks: list[Block]
    mix: NDArray[np.float64] | None  # (n_alphas, sum of q)


def compress(
    values: NDArray[np.float64], alphas: NDArray[np.float64], cuts: NDArray[np.float64], tolerance: float
) -> Compressed:
    """Factor the shrinkage ``1 / (value + alpha)`` block by block.

    Parameters
    ----------
    values : ndarray, shape (k,)
        Rising positive eigenvalues.
    alphas : ndarray, shape (n_alphas,)
        Penalties.
    cuts : ndarray, shape (n_blocks - 1,)
        Where the spectrum is cut, see `best_cuts`; without cuts the result is exact.
    tolerance : float
        Largest error of a factor ``value / (value + alpha)``, relative to the largest factor of the same alpha.

    Returns
    -------
    Compressed
        Blocks and mix.
    """
    if cuts.size == 0 or values.size == 0:
        return Compressed([Block(slice(0, values.size), 1.0 / (values + alphas[:, None]))], None)
    places = np.unique(np.r_[0, np.searchsorted(values, cuts), values.size])
    blocks, mixes = [], []
    for lo, hi in pairwise(places.tolist()):
        table, scale = _tables(values[None, lo:hi], values[-1], alphas)
        u, s, v = np.linalg.svd(table[0], full_matrices=False)
        q = int(_ranks(u[None], s[None], v[None], tolerance)[0])
        blocks.append(Block(slice(lo, hi), v[:q]))
        mixes.append(u[:, :q] * s[:q] / scale[0][:, None])
    return Compressed(blocks, np.concatenate(mixes, axis=1))


def best_cuts(values: NDArray[np.float64], alphas: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Where to cut a spectrum into the blocks of least cost, by dynamic programming over candidate places.

    Returns
    -------
    ndarray, shape (n_blocks - 1,)
        Rising eigenvalues at which a new block begins; empty where one product for every alpha is cheapest.
    """
    if values.size < 2 or alphas.size < 4:
        return np.empty(0)
    edges = np.geomspace(values[0], values[-1], _CUTS)
    places = np.unique(np.r_[0, np.searchsorted(values, edges[1:-1]), values.size])
    best = np.full(places.size, np.inf)
    best[0], came = 0.0, np.zeros(places.size, dtype=int)
    for i in range(places.size - 1):
        ends = places[i + 1 :]
        points = np.geomspace(values[places[i]], values[ends - 1], _POINTS, axis=1)
        u, s, v = np.linalg.svd(_tables(points, values[-1], alphas)[0], full_matrices=False)
        width = ends - places[i]
        cost = best[i] + np.minimum(_ranks(u, s, v, tolerance), width) * (width + _MIX_COST * alphas.size)
        better = np.flatnonzero(cost < best[i + 1 :]) + i + 1
        best[better], came[better] = cost[better - i - 1], i
    if best[-1] >= alphas.size * values.size:
        return np.empty(0)
    cuts = [places.size - 1]
    while came[cuts[-1]] > 0:
        cuts.append(int(came[cuts[-1]]))
    return values[places[cuts[:0:-1]]] if len(cuts) > 1 else values[:1]


def _tables(
    values: NDArray[np.float64], largest: float, alphas: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shrinkage tables (blocks, n_alphas, width) of blocks of rising values (blocks, width), and their row scales.

    A row is scaled to its largest shrinkage factor over that of the largest eigenvalue: where a penalty leaves next to
    nothing of a block, it needs next to no precision.
    """
    scale = values[:, -1:] * ((largest + alphas) / largest)  # (blocks, n_alphas)
    return scale[:, :, None] / (values[:, None, :] + alphas[:, None]), scale


def _ranks(
    u: NDArray[np.float64], s: NDArray[np.float64], v: NDArray[np.float64], tolerance: float
) -> NDArray[np.intp]:
    """Smallest rank whose largest error is within tolerance, for a stack of decomposed tables."""
    rest = np.zeros((len(u), u.shape[1], v.shape[2]))
    ranks = np.ones(len(u), dtype=np.intp)
    for q in range(s.shape[1] - 1, 0, -1):
        rest += u[:, :, q, None] * (s[:, q, None, None] * v[:, None, q])
        ranks = np.maximum(ranks, np.where(np.abs(rest).max(axis=(1, 2)) > tolerance, q + 1, 1))
    return ranks
