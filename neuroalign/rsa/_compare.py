"""Comparators of RDM vectors as inner products, with weights for resampled conditions.

Every comparator but Kendall's tau is an inner product of two embedded vectors. A bootstrap over conditions gives
condition i the multiplicity m_i; the pair (i, j) then weighs m_i m_j and pairs of copies of one condition are left
out. An `Embedding` holds what does not change from sample to sample, so that a sample costs a few passes and a GEMM.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import ConfigError
from neuroalign.rsa._kendall import tau_matrix

Array = NDArray[np.floating]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

RANKED = ("spearman", "rho-a", "kendall-tau-a", "kendall-tau-b")
KENDALL = ("kendall-tau-a", "kendall-tau-b")
METHODS = ("pearson", "cosine", "whitened-cosine", *RANKED)


def check_method(method: str) -> None:
    """Refuse a comparator that does not exist."""
    if method not in METHODS:
        raise ConfigError("Unknown comparator of RDMs.", expected=", ".join(METHODS), got=method)


def is_flat(x: Array) -> NDArray[np.bool_]:
    """Tell rows (..., p) that hold one value only (up to rounding), or nothing finite."""
    low = np.min(x, axis=-1, initial=np.inf, where=np.isfinite(x))
    high = np.max(x, axis=-1, initial=-np.inf, where=np.isfinite(x))
    size = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(invalid="ignore"):
        return ~(high - low > 8 * np.finfo(x.dtype).eps * size)


@dataclass
class Embedding:
    """RDM vectors made ready for one comparator.

    Attributes
    ----------
    method : str
        The comparator, not one of Kendall's.
    x : ndarray, shape (r, p)
        Finite dissimilarities.
    pairs : tuple of two ndarrays of int, shape (p,)
        Conditions of each pair; needed by whitened-cosine.
    """

    method: str
    x: Array
    pairs: Pairs | None = None
    _order: NDArray[np.int64] = field(init=False, repr=False)
    _low: NDArray[np.int64] = field(init=False, repr=False)
    _high: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.method in RANKED:
            self._order, self._low, self._high = _sort(self.x)

    def ranks(self, weights: Array | None = None) -> Array:
        """Centred mid-ranks among `weights` (..., p) copies of each entry: (..., r, p)."""
        r, p = self.x.shape
        if weights is None:
            return (self._low + self._high) / 2 - (np.arange(r)[:, None] * (p + 1) + p / 2)
        w = weights
        below = np.zeros((*w.shape[:-1], r, p + 1))
        np.cumsum(w[..., self._order], axis=-1, out=below[..., 1:])
        flat = below.reshape(*w.shape[:-1], r * (p + 1))
        out = np.take(flat, self._low, axis=-1)
        out += np.take(flat, self._high, axis=-1)
        out -= w.sum(-1)[..., None, None]
        out /= 2
        return out

    def unit(self, multiplicity: NDArray[np.int64] | None, weights: Array | None) -> tuple[Array, Array]:
        """Embed with unit size: similarity of rows is ``left @ right.T``.

        Parameters
        ----------
        multiplicity : ndarray of int, shape (n_samples, n_conditions), or None
            Copies of each condition; None for the data as they are.
        weights : ndarray, shape (n_samples, p), or None
            Copies of each pair.

        Returns
        -------
        left, right : ndarray, shape ([n_samples,] r, p)
            NaN in rows that are constant within the sample.
        """
        x = self.ranks(weights) if self.method in RANKED else self.x
        rounding: float | Array = 0.0
        if self.method == "pearson":
            mean = x.mean(1) if weights is None else (weights / weights.sum(-1, keepdims=True)) @ x.T
            x = x - mean[..., None]
            rounding = 1e-26 * x.shape[-1] * mean**2  # a constant is not exactly zero after its mean is taken away
        left = x if weights is None else x * weights[..., None, :]
        right = x if self.method != "whitened-cosine" else _whiten_pairs(x, left, self.pairs, multiplicity)
        size = np.einsum("...rp,...rp->...r", left, right)
        limit = size
        if self.method == "rho-a":  # the size of ranks without ties: two copies of one pair are no tie
            w = np.ones(x.shape[-1]) if weights is None else weights
            limit = ((w.sum(-1) ** 3 - (w**3).sum(-1)) / 12)[..., None] + 0 * size
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.where(size > rounding, 1 / np.sqrt(limit), np.nan)[..., None]
        return left * scale, right * scale


def _sort(x: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Order each row, and find where its group of equal values begins and ends in cumulated weights, flat."""
    rows, p = x.shape
    order = np.argsort(x, axis=1)
    shift = np.arange(rows)[:, None] * (p + 1)  # rows of the cumulated weights are one longer
    ordered = np.take_along_axis(x, order, 1)
    steps = ordered[:, 1:] != ordered[:, :-1]
    low = np.empty((rows, p), dtype=np.int64)
    if steps.all():
        np.put_along_axis(low, order, np.arange(p) + shift, 1)
        return order, low, low + 1
    place, high = np.arange(1, p), np.empty((rows, p), dtype=np.int64)
    begins, ends = np.zeros((rows, p), dtype=np.int64), np.full((rows, p), p)
    begins[:, 1:] = np.where(steps, place, 0)
    ends[:, :-1] = np.where(steps, place, p)
    np.put_along_axis(low, order, np.maximum.accumulate(begins, axis=1) + shift, 1)
    np.put_along_axis(high, order, np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1] + shift, 1)
    return order, low, high


def _whiten_pairs(x: Array, weighted: Array, pairs: Pairs | None, multiplicity: NDArray[np.int64] | None) -> Array:
    """Multiply by the inverse covariance of distance estimates whose conditions have independent noise.

    That covariance is 4 for a pair with itself, 1 for pairs that share a condition and 0 else: 2 I + B'B with the
    incidence B of conditions in pairs. By Woodbury its inverse is (I - B'(2 I + BB')^-1 B) / 2, which needs one
    system of the size of the conditions; copies of a condition behave alike and share an equation.
    """
    if pairs is None:
        raise ConfigError("whitened-cosine needs to know the conditions of each pair.")
    a, b = pairs
    n = int(max(a.max(), b.max())) + 1
    copies = np.ones(n) if multiplicity is None else multiplicity[..., :n].astype(np.float64)  # (..., n)
    there = copies > 0
    m = np.where(there, copies, 1.0)
    joined = np.zeros((n, n))
    joined[a, b] = joined[b, a] = 1.0
    squares = np.zeros((*weighted.shape[:-1], n, n))
    squares[..., a, b] = weighted
    sums = squares.sum(-2) + squares.sum(-1)  # (..., r, n): m_i sum_j m_j x_ij, 0 for absent conditions
    system = joined * (there[..., :, None] & there[..., None, :])
    system[..., np.arange(n), np.arange(n)] = (2 + copies @ joined) / m
    solved = np.linalg.solve(system, np.swapaxes(sums / m[..., None, :], -1, -2))
    solved = np.swapaxes(solved, -1, -2) / m[..., None, :]
    return (x - solved[..., a] - solved[..., b]) / 2


def similarity(method: str, a: Array, b: Array, pairs: Pairs | None = None) -> Array:
    """Compare each row of `a` with each row of `b`, without missing values: (m, p), (k, p) -> (m, k)."""
    if method in KENDALL:
        return tau_matrix(a, b, adjust=method == "kendall-tau-b")
    left = Embedding(method, a, pairs).unit(None, None)[0]
    return left @ Embedding(method, b, pairs).unit(None, None)[1].T


def by_mask(masks: NDArray[np.bool_]) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Group equal rows of masks (r, p): the row numbers of each group, and its mask."""
    groups: dict[bytes, list[int]] = {}
    for i, mask in enumerate(masks):
        groups.setdefault(mask.tobytes(), []).append(i)
    return [(np.array(rows), masks[rows[0]]) for rows in groups.values()]


def compare_rows(method: str, a: Array, b: Array, pairs: Pairs | None = None) -> Array:
    """Compare rows that may miss values: each two on the pairs that both have.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    a : ndarray, shape (m, p)
        First RDMs.
    b : ndarray, shape (k, p)
        Second RDMs.
    pairs : tuple of two ndarrays of int, optional
        Conditions of each pair.

    Returns
    -------
    ndarray, shape (m, k)
        NaN where fewer than three pairs are common, or where one of the two is constant on them.
    """
    out = np.full((len(a), len(b)), np.nan)
    for rows, mask_a in by_mask(np.isfinite(a)):
        for columns, mask_b in by_mask(np.isfinite(b)):
            common = mask_a & mask_b
            if common.sum() < 3:
                continue
            x, y = a[rows][:, common], b[columns][:, common]
            good_x, good_y = ~is_flat(x), ~is_flat(y)
            if good_x.any() and good_y.any():
                inside = None if pairs is None else (pairs[0][common], pairs[1][common])
                found = similarity(method, x[good_x], y[good_y], inside)
                out[np.ix_(rows[good_x], columns[good_y])] = found
    return out
