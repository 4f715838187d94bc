"""Second moments of a delayed design without the delayed design.

Row t of the design holds ``x[t - lag]`` for every lag, zero where that lies outside the segment. Two lags that are both
moved by one sample meet the same products except at the ends of the segment, so X'X of all pairs of lags follows from
the row of the first lag and a rank-two correction a segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.solvers._arrays import Array, from_numpy, is_torch, namespace, take, zeros

__all__ = ["LagSums", "delayed_chunks", "flip_lags", "lag_sums", "weighted_sum"]

_CHUNK = 2**18  # elements of the delayed design that exist at a time (2 MB)


@dataclass(frozen=True)
class LagSums:
    """Sums over some segments of F features and C targets; columns of the design are lag-major, (n_lags * F).

    n : number of samples.
    first : (F, n_lags * F) products of the features at the first lag with all columns.
    enter, leave : (n_segments, n_lags * F) samples that a step to the next lag brings in (negative lags) or pushes
        out (other lags).
    xy : (n_lags * F, C) products with the targets.
    x, y : (n_lags * F,) and (C,) column sums.
    """

    n: float
    first: Array
    enter: Array
    leave: Array
    xy: Array
    x: Array
    y: Array

    def gram(self) -> Array:
        """X'X of the delayed design, (n_lags * F, n_lags * F)."""
        f, width = self.first.shape
        lags = width // f
        step = (self.enter.T @ self.enter - self.leave.T @ self.leave).reshape(lags, f, lags, f)
        first = self.first.reshape(f, lags, f)
        gram = zeros((lags, f, lags, f), "float64", self.first)
        gram[0] = first
        for i in range(1, lags):
            gram[i, :, 0] = first[:, i].T
            gram[i, :, 1:] = gram[i - 1, :, :-1] + step[i - 1, :, :-1]
        return gram.reshape(width, width)


def lag_sums(xs: Sequence[Array], ys: Sequence[Array], lags: NDArray[np.intp]) -> LagSums:
    """Sum over segments x (n, F), y (n, C), both float64."""
    xp, f = namespace(xs[0]), xs[0].shape[1]
    reversed_products = zeros((f * lags.size, f + ys[0].shape[1] + 1), "float64", xs[0])
    for x, y in zip(xs, ys, strict=True):
        ones = zeros((len(x), 1), "float64", x) + 1.0
        right = xp.concatenate([_window(x, -int(lags[0]), len(x)), y, ones], axis=1)
        for lo, design in delayed_chunks(x, lags):
            reversed_products += design.T @ right[lo : lo + len(design)]
    products = flip_lags(reversed_products, lags.size)
    return LagSums(
        n=float(sum(len(x) for x in xs)),
        first=products[:, :f].T,
        enter=xp.stack([_ends(x, -lags - 1, lags < 0) for x in xs]),
        leave=xp.stack([_ends(x, len(x) - 1 - lags, lags >= 0) for x in xs]),
        xy=products[:, f:-1],
        x=products[:, -1],
        y=sum((y.sum(axis=0) for y in ys[1:]), start=ys[0].sum(axis=0)),
    )


def weighted_sum(parts: Sequence[LagSums], weights: Sequence[int]) -> LagSums:
    """Sum of parts that count once, several times or (weight 0) not at all."""
    used = [(part, float(weight)) for part, weight in zip(parts, weights, strict=True) if weight]
    xp = namespace(used[0][0].x)
    added = {
        name: sum((getattr(part, name) * w for part, w in used[1:]), start=getattr(used[0][0], name) * used[0][1])
        for name in ("n", "first", "xy", "x", "y")
    }
    ends = {
        name: xp.concatenate([getattr(part, name) * w**0.5 for part, w in used], axis=0) for name in ("enter", "leave")
    }
    return LagSums(**added, **ends)


def delayed_chunks(x: Array, lags: NDArray[np.intp]) -> Iterator[tuple[int, Array]]:
    """Yield (first row, rows of the delayed design) of one segment, a chunk at a time, the LAST lag first.

    Windows of a signal run forward in time and lags backward; `flip_lags` puts the columns in order.
    """
    (n, f), count = x.shape, lags.size
    padded = _window(x, -int(lags[-1]), n + count - 1)
    step = max(64, _CHUNK // (f * count))
    for lo in range(0, n, step):
        part = padded[lo : min(lo + step, n) + count - 1]
        yield lo, _windows(part, count).reshape(-1, count * f)


def flip_lags(columns: Array, n_lags: int) -> Array:
    """Reverse the order of the lags along the first axis (n_lags * F, ...)."""
    order = np.arange(columns.shape[0]).reshape(n_lags, -1)[::-1].ravel()
    return take(columns, order)


def _windows(x: Array, count: int) -> Array:
    """All windows of `count` rows, shape (rows, count, F), as a view."""
    if is_torch(x):
        return x.unfold(0, count, 1).transpose(1, 2)
    return np.lib.stride_tricks.sliding_window_view(x, count, axis=0).transpose(0, 2, 1)


def _window(x: Array, start: int, length: int) -> Array:
    """``x[start : start + length]``, zero where that lies outside x."""
    out = zeros((length, x.shape[1]), "float64", x)
    lo, hi = max(start, 0), min(start + length, len(x))
    if lo < hi:
        out[lo - start : hi - start] = x[lo:hi]
    return out


def _ends(x: Array, rows: NDArray[np.intp], concerned: NDArray[np.bool_]) -> Array:
    """Given rows of x, one for each lag and flattened (n_lags * F,); zero where not concerned or outside x."""
    inside = concerned & (rows >= 0) & (rows < len(x))
    picked = take(x, np.where(inside, rows, 0).astype(np.intp)) * from_numpy(inside[:, None].astype(np.float64), x)
    return picked.reshape(-1)
