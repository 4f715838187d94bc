"""Second moments of a delayed design without the delayed design.

Row t of the design holds ``x[t - lag]`` for every lag, and a padding where that lies outside the segment. Two lags that
are both moved by one sample meet the same products except at the ends of the segment, so X'X of all pairs of lags
follows from the row of the first lag and a rank-two correction a segment. Products with the targets, and those of the
first lag, are correlations: short blocks are multiplied in the frequency domain and summed there, so that a sum over
segments is transformed back once.

Zeros are the padding. Where the columns are centred anyway, features may be shifted by a constant when minus that
constant is the padding: every column moves by the same amount as a whole, and no digits go to large offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from neuroalign.solvers._arrays import Array, cast, column_dot, is_torch, namespace, take, zeros

__all__ = ["LagSums", "delayed_chunks", "flip_lags", "lag_sums", "weighted_sum"]

_CHUNK = 2**18  # elements of the delayed design that exist at a time (2 MB)
_SPECTRUM = 2**20  # elements of the blocks that are transformed at a time (8 MB)
_FEW_LAGS = 8  # fewer lags than this are summed without Fourier transforms


@dataclass(frozen=True)
class LagSums:
    """Sums over some segments of F features and C targets; columns of the design are lag-major, (n_lags * F).

    n : number of samples.
    first : (F, n_lags * F) products of the features at the first lag with all columns.
    enter, leave : (n_segments, n_lags * F) samples that a step to the next lag brings in and pushes out.
    xy : (n_lags * F, C) products with the targets.
    x, y, yy : (n_lags * F,), (C,) and (C,) column sums, the last one of squares.
    """

    n: float
    first: Array
    enter: Array
    leave: Array
    xy: Array
    x: Array
    y: Array
    yy: Array

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


def lag_sums(segments: Iterable[tuple[Array, Array]], lags: NDArray[np.intp], pad: Array | None = None) -> LagSums:
    """Sum over segments x (n, F), y (n, C), both float64; `pad` (F,) stands for x outside a segment (default zero)."""
    sums: _Products | None = None
    n, enter, leave, y_sum, y_square = 0, [], [], 0.0, 0.0
    for x, y in segments:
        pad = zeros((x.shape[1],), "float64", x) if pad is None else pad
        ones = zeros((len(x), 1), "float64", x) + 1.0
        right = namespace(x).concatenate([_window(x, -int(lags[0]), len(x), pad), y, ones], axis=1)
        if sums is None:
            sums = (_Direct if lags.size < _FEW_LAGS else _Spectral)(x, right, lags, pad)
        sums.add(x, right)
        n += len(x)
        enter.append(_rows(x, -lags - 1, pad))
        leave.append(_rows(x, len(x) - 1 - lags, pad))
        y_sum, y_square = y_sum + y.sum(axis=0), y_square + column_dot(y, y)
    if sums is None or pad is None:
        raise ValueError("no segments")
    products, f = flip_lags(sums.total(), lags.size), pad.shape[0]
    stack = namespace(products).stack
    return LagSums(
        n=float(n),
        first=products[:, :f].T,
        enter=stack(enter),
        leave=stack(leave),
        xy=products[:, f:-1],
        x=products[:, -1],
        y=y_sum,
        yy=y_square,
    )


class _Direct:
    """Products of the delayed design, last lag first, with the columns at its right: (n_lags * F, columns)."""

    def __init__(self, x: Array, right: Array, lags: NDArray[np.intp], pad: Array) -> None:
        self._lags, self._pad = lags, pad
        self._sum = zeros((lags.size * x.shape[1], right.shape[1]), "float64", x)

    def add(self, x: Array, right: Array) -> None:
        for lo, design in delayed_chunks(x, self._lags, self._pad):
            self._sum += design.T @ right[lo : lo + len(design)]

    def total(self) -> Array:
        return self._sum


class _Spectral:
    """The same as sums of cross-spectra of blocks of samples (n_lags - 1 more samples of the features each)."""

    def __init__(self, x: Array, right: Array, lags: NDArray[np.intp], pad: Array) -> None:
        self._lags, self._pad = lags, pad
        self._length = 1 << int(4 * lags.size - 1).bit_length()
        bins = self._length // 2 + 1
        self._sum = zeros((bins, x.shape[1], right.shape[1]), "complex128", x)

    def add(self, x: Array, right: Array) -> None:
        xp, count, size = namespace(x), self._lags.size, self._length - self._lags.size + 1
        full, rest = divmod(len(x), size)
        blocks = full + (rest > 0)
        parts = zeros((blocks, self._length, right.shape[1]), "float64", x)
        parts[:full, :size] = right[: full * size].reshape(full, size, right.shape[1])
        parts[full:, :rest] = right[full * size :]
        padded = _window(x, -int(self._lags[-1]), blocks * size + count - 1, self._pad)
        windows = _windows(padded, self._length)[::size]  # (blocks, length, F)
        step = max(1, _SPECTRUM // (self._length * (x.shape[1] + right.shape[1])))
        for lo in range(0, blocks, step):
            left, other = (_rfft(side[lo : lo + step]) for side in (windows, parts))
            self._sum += xp.moveaxis(left.conj(), 0, 2) @ xp.moveaxis(other, 0, 1)

    def total(self) -> Array:
        """Back from the frequencies; a shift of a window to the right is a step to an earlier lag."""
        out = _irfft(self._sum.conj(), self._length)[: self._lags.size]
        return out.reshape(-1, out.shape[2])


_Products = _Direct | _Spectral


def _rfft(values: Array) -> Array:
    """Transform along axis 1."""
    if is_torch(values):
        return namespace(values).fft.rfft(values, dim=1)
    return scipy.fft.rfft(values, axis=1)


def _irfft(values: Array, length: int) -> Array:
    """Transform back along axis 0."""
    if is_torch(values):
        return namespace(values).fft.irfft(values, n=length, dim=0)
    return scipy.fft.irfft(values, n=length, axis=0)


def weighted_sum(parts: Sequence[LagSums], weights: Sequence[int]) -> LagSums:
    """Sum of parts that count once, several times or (weight 0) not at all."""
    used = [(part, float(weight)) for part, weight in zip(parts, weights, strict=True) if weight]
    xp = namespace(used[0][0].x)
    added: dict[str, Any] = {
        name: sum((getattr(part, name) * w for part, w in used[1:]), start=getattr(used[0][0], name) * used[0][1])
        for name in ("n", "first", "xy", "x", "y", "yy")
    }
    ends = {
        name: xp.concatenate([getattr(part, name) * w**0.5 for part, w in used], axis=0) for name in ("enter", "leave")
    }
    return LagSums(**added, **ends)


def delayed_chunks(x: Array, lags: NDArray[np.intp], pad: Array | None = None) -> Iterator[tuple[int, Array]]:
    """Yield (first row, rows of the delayed design) of one segment, a chunk at a time, the LAST lag first.

    Windows of a signal run forward in time and lags backward; `flip_lags` puts the columns in order.
    """
    (n, f), count = x.shape, lags.size
    padded = _window(x, -int(lags[-1]), n + count - 1, zeros((f,), "float64", x) if pad is None else pad)
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


def _window(x: Array, start: int, length: int, pad: Array) -> Array:
    """``x[start : start + length]``, the padding where that lies outside x."""
    out = zeros((length, x.shape[1]), "float64", x)
    lo, hi = max(start, 0), min(start + length, len(x))
    if lo < hi:
        out[lo - start : hi - start] = x[lo:hi]
        out[: lo - start], out[hi - start :] = pad, pad
    else:
        out[:] = pad
    return out


def _rows(x: Array, rows: NDArray[np.intp], pad: Array) -> Array:
    """Given rows of x, one for each lag and flattened (n_lags * F,); the padding where they lie outside x."""
    padded = namespace(x).concatenate([x, cast(pad, "float64")[None]], axis=0)
    return take(padded, np.where((rows >= 0) & (rows < len(x)), rows, len(x)).astype(np.intp)).reshape(-1)
