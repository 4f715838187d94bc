"""float32 values that came from 16-bit integers, as those integers again: half the bytes, the same values.

An amplifier or scanner writes ``k * scale + offset`` with a whole number k. The step is found from the values, every
value is compared bit for bit with what it will read as, and what does not fit is not packed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MISSING", "InexactError", "Packing", "find"]

MISSING = -32768  # stands for NaN
_MOST = 65536  # codes of 16 bits
_BLOCK = 1 << 20

Floats = NDArray[np.float32]


class InexactError(ValueError):
    """A value that the integers of an array cannot give back."""


@dataclass(frozen=True)
class Packing:
    """How integers become values: ``float32((k + zero) * scale + offset)``, computed in float64.

    Attributes
    ----------
    axis : int or None
        Dimension along which the numbers differ; None where one triple serves all.
    scale, offset : ndarray of float64, shape (n,)
        Value of one step, and value at ``k + zero = 0``.
    zero : ndarray of int64, shape (n,)
        Whole numbers added to the stored ones, so that zero stays exactly zero.
    missing : bool
        Whether -32768 stands for NaN.
    """

    axis: int | None
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    zero: NDArray[np.int64]
    missing: bool

    def note(self) -> dict[str, Any]:
        """As JSON; Python writes and reads float64 exactly."""
        numbers = {name: getattr(self, name).tolist() for name in ("scale", "offset", "zero")}
        return {"axis": self.axis, **numbers, "missing": self.missing}

    @classmethod
    def from_note(cls, note: dict[str, Any]) -> Packing:
        """Read what `note` gave."""
        scale, offset = (np.asarray(note[name], dtype=np.float64) for name in ("scale", "offset"))
        return cls(note["axis"], scale, offset, np.asarray(note["zero"], dtype=np.int64), bool(note["missing"]))

    def unpack(self, stored: NDArray[np.int16], positions: Any = slice(None)) -> Floats:
        """Values of stored integers.

        Parameters
        ----------
        stored : ndarray of int16
            A part of the array.
        positions : slice or integer array
            Which positions along the axis it covers.

        Returns
        -------
        ndarray of float32
            The values; NaN where they are missing.
        """
        out = np.empty(stored.shape, np.float32)
        for rows, numbers in self._blocks(stored.shape, positions):
            self._unpack(stored[rows], out[rows], *numbers)
        return out

    def _unpack(self, stored: NDArray[np.int16], out: Floats, scale: Any, offset: Any, zero: Any) -> None:
        values = np.add(stored, zero, dtype=np.float64)
        values *= scale
        if np.any(offset):
            values += offset
        out[...] = values
        if self.missing:
            out[stored == MISSING] = np.nan

    def pack(self, values: Floats, positions: Any = slice(None)) -> NDArray[np.int16]:
        """Integers of values, each compared with what it will read as.

        Parameters
        ----------
        values : ndarray of float32
            A part of the array.
        positions : slice or integer array
            Which positions along the axis it covers.

        Returns
        -------
        ndarray of int16
            What to store.

        Raises
        ------
        InexactError
            If a value is not one that these integers give.
        """
        out = np.empty(values.shape, np.int16)
        for rows, numbers in self._blocks(values.shape, positions):
            self._pack(values[rows], out[rows], *numbers)
        return out

    def _pack(self, values: Floats, out: NDArray[np.int16], scale: Any, offset: Any, zero: Any) -> None:
        gone = np.isnan(values)
        exact = np.where(gone, offset, values).astype(np.float64)
        exact -= offset
        exact /= np.where(scale == 0, 1.0, scale)
        np.rint(exact, out=exact)
        exact -= zero
        low = MISSING + 1 if self.missing else MISSING
        if exact.size and not (low <= exact.min() and exact.max() <= 32767):
            raise InexactError("values lie outside the range of 16 bits")
        out[...] = exact
        if gone.any():
            if not self.missing:
                raise InexactError("all 65536 codes are in use, none is left for NaN")
            out[gone] = MISSING
        back = np.empty(values.shape, np.float32)
        self._unpack(out, back, scale, offset, zero)
        if not ((back.view(np.int32) == np.ascontiguousarray(values).view(np.int32)) | gone).all():
            raise InexactError("values lie between the steps")

    def _blocks(self, shape: tuple[int, ...], positions: Any) -> Iterator[tuple[Any, list[Any]]]:
        """Rows of the first dimension that make about a million values, with their scale, offset and zero."""
        if self.axis is None:
            numbers: list[Any] = [self.scale[0], self.offset[0], self.zero[0]]
        else:
            across = [-1 if k == self.axis else 1 for k in range(len(shape))]
            numbers = [part[positions].reshape(across) for part in (self.scale, self.offset, self.zero)]
        if not shape:
            yield ..., numbers
            return
        step = max(1, _BLOCK * shape[0] // max(1, math.prod(shape)))
        for start in range(0, shape[0], step):
            rows = slice(start, start + step)
            yield rows, [part[rows] for part in numbers] if self.axis == 0 else numbers


def find(tiles: Iterable[tuple[Any, Floats]], axis: int | None, n_rows: int) -> Packing | None:
    """Find the integers behind an array.

    Parameters
    ----------
    tiles : iterable of (positions, values)
        The array piece by piece; `positions` is a slice along `axis` (ignored where that is None).
    axis : int or None
        Dimension along which scale and offset may differ.
    n_rows : int
        Its length; 1 where it is None.

    Returns
    -------
    Packing or None
        None when the values are not steps of one size, or need more than 16 bits.
    """
    rows = [_Row() for _ in range(n_rows)]
    gone = False
    for positions, values in tiles:
        lanes = [values.reshape(-1)] if axis is None else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        for row, lane in zip(rows if axis is None else rows[positions], lanes, strict=True):
            for start in range(0, lane.size, _BLOCK):
                part = lane[start : start + _BLOCK]
                missing = np.isnan(part)
                if missing.any():
                    gone, part = True, part[~missing]
                if part.size and not row.see(np.ascontiguousarray(part, dtype=np.float32)):
                    return None
    fits = [row.fit() for row in rows]
    if any(fit is None for fit in fits):
        return None
    full = any(fit[3] - fit[2] == _MOST - 1 for fit in fits if fit is not None)
    if full and gone:
        return None
    low = MISSING if full else MISSING + 1
    scale, offset, first, last = (np.array(column) for column in zip(*fits, strict=True))
    within = (first >= low) & (last <= 32767)
    zero = np.where(within, 0, np.where(full, first - low, (first + last) // 2))
    return Packing(axis, scale.astype(np.float64), offset.astype(np.float64), zero.astype(np.int64), not full)


class _Row:
    """The values seen in one channel, each at its number of steps from the first."""

    def __init__(self) -> None:
        self.known: Floats = np.empty(0, np.float32)
        self.table: Floats | None = None
        self.start, self.step = 0.0, 0.0

    def see(self, values: Floats) -> bool:
        """Take note of finite values; False when they cannot lie on one grid of 65536 steps."""
        if self.table is not None and self._fits(self.table, values):
            return True
        known = np.unique(np.concatenate([self._values(), values]))
        if known.size > _MOST or not np.isfinite(known[[0, -1]]).all():
            return False
        self.known = known
        if known.size == 1:
            return True
        found = _grid(known.astype(np.float64))
        if found is None:
            return False
        self.step, steps = found
        self.start = float(known[0])
        self.table = np.full(2 * _MOST, np.nan, np.float32)
        self.table[steps + _MOST] = known
        return True

    def _fits(self, table: Floats, values: Floats) -> bool:
        steps = np.subtract(values, self.start, dtype=np.float64)
        steps /= self.step
        steps = np.rint(steps, out=steps)
        if not (steps.min() >= -_MOST and steps.max() < _MOST):
            return False
        cells = steps.astype(np.int32)
        cells += _MOST
        there = table[cells]
        new = np.isnan(there)
        if new.any():
            table[cells[new]] = values[new]
            there = table[cells]
        return bool((there == values).all())

    def _values(self) -> Floats:
        if self.table is None:
            return self.known
        return self.table[~np.isnan(self.table)]

    def fit(self) -> tuple[float, float, int, int] | None:
        """Scale, offset, first and last number of steps from the offset."""
        values = self._values()
        if values.size < 2:
            return (0.0, float(values[0]) if values.size else 0.0, 0, 0)
        assumed = _grid(values.astype(np.float64))
        if assumed is None:
            return None
        return _exact(values, *assumed)


def _grid(values: NDArray[np.float64]) -> tuple[float, NDArray[np.int64]] | None:
    """Step of sorted different values, and how many steps each lies above the first."""
    gaps = np.diff(values)
    noise = float(np.spacing(np.float32(np.abs(values[[0, -1]]).max())))
    step = _common_step(np.unique(gaps[gaps <= 8 * gaps.min()]), noise)
    if step is None:
        return None
    for most in (1.5, 4.0, 10.0, 30.0, 100.0, 1000.0, np.inf):  # small gaps first: their number of steps is certain
        near = gaps <= most * step
        if near.any():
            step = float(gaps[near].sum() / np.rint(gaps[near] / step).sum())
    steps = np.concatenate([[0.0], np.cumsum(np.rint(gaps / step))])
    if np.abs(values - values[0] - steps * step).max() > 0.25 * step + noise or steps[-1] >= _MOST:
        return None
    return step, steps.astype(np.int64)


def _common_step(gaps: NDArray[np.float64], noise: float) -> float | None:
    """Largest step of which all gaps are multiples, but for the rounding of float32; as in Euclid's algorithm."""
    step, error = float(gaps[0]), noise
    for _ in range(32):
        counts = np.rint(gaps / step)
        rest = np.abs(gaps - counts * step)
        blur = noise + counts * error
        off = rest > 1.5 * blur
        if not off.any():
            return step
        best = np.flatnonzero(off)[np.argmin(blur[off])]
        step, error = float(rest[best]), float(blur[best])
        if step <= 2 * error:
            return None
    return None


def _exact(values: Floats, step: float, steps: NDArray[np.int64]) -> tuple[float, float, int, int] | None:
    """Scale and offset that give every value to the last bit, where there are such numbers."""
    wide = values.astype(np.float64)
    low = (wide + np.nextafter(values, np.float32(-np.inf))) / 2  # whatever lies between rounds to the value
    high = (wide + np.nextafter(values, np.float32(np.inf))) / 2
    nearest = int(np.argmin(np.abs(wide)))
    for offset, zero in (
        (wide[nearest], steps[nearest]),
        (0.0, -round((wide[0] + (wide[-1] - steps[-1] * step)) / 2 / step)),
    ):
        if offset != 0.0 and abs(offset) > 0.5 * step:
            continue
        counts = steps - zero
        scale = _between(*_slopes(low - offset, high - offset, counts))
        if scale is not None:
            return scale, float(offset), int(counts[0]), int(counts[-1])
    return _line(low, high, steps - steps[steps.size // 2], step)


def _slopes(low: NDArray[np.float64], high: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Bounds of a scale for which ``counts * scale`` lies between `low` and `high`."""
    up, down = counts > 0, counts < 0
    least = np.concatenate([low[up] / counts[up], high[down] / counts[down]])
    most = np.concatenate([high[up] / counts[up], low[down] / counts[down]])
    here = counts == 0
    if (low[here] > 0).any() or (high[here] < 0).any():
        return 1.0, 0.0
    return float(least.max(initial=-np.inf)), float(most.min(initial=np.inf))


def _between(least: float, most: float) -> float | None:
    """Shortest decimal number strictly between two bounds: most often what the file states."""
    if not least < most:
        return None
    for digits in range(1, 17):
        short = float(f"{(least + most) / 2:.{digits}g}")
        if least < short < most:
            return short
    return (least + most) / 2


def _line(
    low: NDArray[np.float64], high: NDArray[np.float64], counts: NDArray[np.int64], step: float
) -> tuple[float, float, int, int] | None:
    """Scale and offset at once. The room left for the offset is concave in the scale; it is made as large as it can."""

    def room(scale: float) -> float:
        return float((high - counts * scale).min() - (low - counts * scale).max())

    reach = float((high - low).max()) / max(1, np.abs(counts).max())
    left, right = step - 2 * reach, step + 2 * reach
    for _ in range(80):
        a, b = left + (right - left) / 3, right - (right - left) / 3
        left, right = (a, right) if room(a) < room(b) else (left, b)
    scale = (left + right) / 2
    if room(scale) < 0:
        return None
    offset = ((high - counts * scale).min() + (low - counts * scale).max()) / 2
    return scale, float(offset), int(counts[0]), int(counts[-1])
