"""Plain files without a parser: where each sample lies in a file, and how the numbers become values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import IntegrityError
from neuroalign.loaders._integrity import cut

__all__ = ["Layout", "read_stretch"]

#: Bytes read and converted at once: the file's numbers and their float64 values stay in the processor's cache.
_PIECE = 2**18
# A stretch of the file is read whole unless most of its bytes belong to channels that nobody asked for.
_SPARSE = 8

#: Numbers of trigger channels are cut to 17 bits, as MNE does; the higher ones hold the state of the amplifier.
_TRIGGER_BITS = 2**17 - 1

PerChannel = float | tuple[float, ...]


@dataclass(frozen=True)
class Layout:
    """Where the samples of a plain recording lie: small, and without anything that is open.

    Sample ``s`` of channel ``c`` lies at ``start + (s // block) * stride + slot[c] * channel_step +
    (s % block) * sample_step``, and its value is ``(number * gain + offset) * unit``, in float64.

    Attributes
    ----------
    path : str
        The file that holds the samples.
    dtype : str
        NumPy's name of the numbers in the file, with byte order; ``"<i3"`` for the 24 bits of BDF.
    n_samples : int
        Samples of each channel.
    start : int
        Byte of the first sample of slot 0.
    block : int
        Samples of one channel that lie in one block (a data record, a buffer, or the whole file).
    stride : int
        Bytes from a block to the next.
    channel_step, sample_step : int
        Bytes from a slot to the next, and from a sample to the next of the same channel.
    slots : tuple of int
        Place of each channel among the slots of a block; empty where each channel has the slot of its number.
    gain, offset, unit : float or tuple of float
        For all channels or one a channel.
    triggers : tuple of int
        Channels whose numbers are taken as they are, but for the bits above the 17th.
    """

    path: str
    dtype: str
    n_samples: int
    start: int
    block: int
    stride: int
    channel_step: int
    sample_step: int
    slots: tuple[int, ...] = ()
    gain: PerChannel = 1.0
    offset: PerChannel = 0.0
    unit: PerChannel = 1.0
    triggers: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Bytes of one number."""
        return int(self.dtype[2:])

    @property
    def by_sample(self) -> bool:
        """Whether the channels of one sample lie side by side, rather than the samples of one channel."""
        return self.channel_step < self.sample_step

    def places(self, picks: NDArray[np.intp]) -> NDArray[np.intp]:
        """Slots of some channels."""
        return np.asarray(self.slots, dtype=np.intp)[picks] if self.slots else picks

    def end(self, n_channels: int) -> int:
        """The byte after the last sample."""
        last, inner = divmod(self.n_samples - 1, self.block)
        slot = int(self.places(np.arange(n_channels)).max())
        return self.start + last * self.stride + slot * self.channel_step + inner * self.sample_step + self.width

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """Cut samples [start, stop) into runs of whole blocks, or parts of one: (block, n_blocks, first, n) each."""
        most = max(1, _PIECE * self.block // self.stride)
        while start < stop:
            number, first = divmod(start, self.block)
            n_blocks, n = 1, min(self.block - first, stop - start, most)
            if n == self.block:
                n_blocks = min((stop - start) // n, max(1, most // n))
            yield number, n_blocks, first, n
            start += n_blocks * n


def read_stretch(layout: Layout, picks: NDArray[np.intp], start: int, stop: int, out: NDArray[np.floating]) -> None:
    """Read consecutive samples of some channels.

    Parameters
    ----------
    layout : Layout
        Where they lie.
    picks : ndarray of int
        Channels.
    start, stop : int
        Samples.
    out : ndarray of float, shape (n_picks, stop - start)
        Takes the values.

    Raises
    ------
    IntegrityError
        If the file ends before the last sample.
    """
    slots = layout.places(picks)
    triggers = np.isin(picks, layout.triggers)
    factors = list(_factors(layout, picks, triggers))
    at = 0
    with _opened(layout.path) as file:
        for number, n_blocks, first, n in layout.pieces(start, stop):
            numbers = _numbers(file, layout, slots, number, n_blocks, first, n)  # (block, channel, sample)
            if triggers.any():
                numbers = np.where(triggers[:, None], numbers.astype(np.int32) & _TRIGGER_BITS, numbers)
            size = n_blocks * n
            target = out[:, at : at + size].reshape(len(picks), n_blocks, n)  # splitting an axis makes a view
            target[...] = _values(numbers, *factors).astype(out.dtype, copy=False).transpose(1, 0, 2)
            at += size


def _factors(
    layout: Layout, picks: NDArray[np.intp], triggers: NDArray[np.bool_]
) -> Iterator[NDArray[np.float64] | None]:
    """Gain, offset and unit of some channels, as columns; None for what changes nothing."""
    for value, neutral in ((layout.gain, 1.0), (layout.offset, 0.0), (layout.unit, 1.0)):
        if value == neutral:
            yield None
            continue
        column = np.asarray(value)[picks] if isinstance(value, tuple) else np.full(len(picks), value)
        column[triggers] = neutral
        yield column[:, None]


def _values(
    numbers: NDArray[Any],
    gain: NDArray[np.float64] | None,
    offset: NDArray[np.float64] | None,
    unit: NDArray[np.float64] | None,
) -> NDArray[Any]:
    """Turn numbers into values, in MNE's order of operations, so that they are the same to the last bit."""
    if gain is None and offset is None and unit is None:
        return numbers
    values = np.multiply(numbers, 1.0 if gain is None else gain, dtype=np.float64)
    if offset is not None:
        values += offset
    if unit is not None:
        values *= unit
    return values


def _numbers(
    file: FileIO, layout: Layout, slots: NDArray[np.intp], number: int, n_blocks: int, first: int, n: int
) -> NDArray[Any]:
    """Read the numbers of some blocks as they are in the file: (block, channel, sample)."""
    low, high = int(slots.min()), int(slots.max())
    at = layout.start + number * layout.stride + first * layout.sample_step + low * layout.channel_step
    span = (high - low) * layout.channel_step + (n - 1) * layout.sample_step + layout.width
    length = (n_blocks - 1) * layout.stride + span
    wanted = n_blocks * len(slots) * n * layout.width
    if layout.by_sample or length <= _SPARSE * wanted:
        data = _bytes(file, layout, at, length)
        strides = (layout.stride, layout.channel_step, layout.sample_step)
        every = _view(data, layout, (n_blocks, high - low + 1, n), strides)
        return every if (np.diff(slots) == 1).all() else every[:, slots - low]
    rows = np.empty((n_blocks, len(slots), n * layout.width), dtype=np.uint8)
    for i in range(n_blocks):
        for k, slot in enumerate(slots):
            place = at + i * layout.stride + (int(slot) - low) * layout.channel_step
            rows[i, k] = _bytes(file, layout, place, n * layout.width)
    return _view(rows.ravel(), layout, (n_blocks, len(slots), n), (*rows.strides[:2], layout.width))


def _opened(path: str) -> FileIO:
    try:
        return FileIO(path)
    except OSError as error:
        raise IntegrityError("The file cannot be opened again.", got=str(error), where=path) from error


def _bytes(file: FileIO, layout: Layout, at: int, length: int) -> NDArray[np.uint8]:
    data = np.empty(length, dtype=np.uint8)
    file.seek(at)
    found = file.readinto(data.data)
    if found != length:
        raise cut(Path(layout.path), at + length, at + found)
    return data


def _view(data: NDArray[np.uint8], layout: Layout, shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[Any]:
    if layout.dtype != "<i3":
        return np.ndarray(shape, layout.dtype, buffer=data, strides=strides)
    wide = np.zeros((*shape, 4), dtype=np.uint8)
    wide[..., 1:] = np.ndarray((*shape, 3), np.uint8, buffer=data, strides=(*strides, 1))
    return wide.view("<i4")[..., 0] >> 8  # the shift brings the sign down
