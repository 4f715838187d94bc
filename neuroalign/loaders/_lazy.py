"""Lazy sensor arrays: a path, a reader and a shape. The file is opened again when values are read: by MNE, or directly
where it is plain."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign.errors import IntegrityError
from neuroalign.loaders import _mne
from neuroalign.loaders._direct import Layout, read_stretch

__all__ = ["SensorArray", "Source", "fingerprint", "open_source", "remember", "wrap"]

#: Seconds read at once: bounds the float64 copy that MNE makes.
_BLOCK_S = 10.0
#: Values read at once where no copy is made: bounds what is read in vain when single samples are asked for.
_BLOCK_VALUES = 2**22
_MOST_OPEN = 8

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Source:
    """What is needed to open a recording again: small, hashable, and without anything that is open.

    Attributes
    ----------
    path : str
        The file or folder.
    reader : str
        A key of `neuroalign.loaders._mne.READERS`.
    options : str
        Keyword arguments of the reader, as JSON.
    files : tuple of (path, bytes, mtime_ns)
        All files of the recording as they were on opening.
    """

    path: str
    reader: str
    options: str
    files: Stamp


def fingerprint(paths: Iterable[str | Path]) -> Stamp:
    """Size and modification time of each file."""
    entries = []
    for path in sorted({str(p) for p in paths}):
        info = Path(path).stat()
        entries.append((path, info.st_size, info.st_mtime_ns))
    return tuple(entries)


def check_unchanged(source: Source) -> None:
    """Refuse to read from files that are not those that were opened."""
    for path, size, mtime_ns in source.files:
        try:
            info = Path(path).stat()
            now: tuple[int, int] | None = (info.st_size, info.st_mtime_ns)
        except OSError:
            now = None
        if now != (size, mtime_ns):
            raise IntegrityError(
                "The file changed after it was opened.",
                expected=f"{size} bytes, modified at {mtime_ns} ns",
                got="no such file" if now is None else f"{now[0]} bytes, modified at {now[1]} ns",
                where=path,
                fix="open it again",
            )


# Open MNE objects hold headers (and, in formats that MNE cannot read in parts, the data). Each has its own lock,
# because MNE does not promise that one object may be read from two threads.
_open: OrderedDict[Source, tuple[Any, threading.Lock]] = OrderedDict()
_open_lock = threading.Lock()


def remember(source: Source, recording: Any) -> None:
    """Keep an open recording for the next reads."""
    with _open_lock:
        _open[source] = (recording, threading.Lock())
        _open.move_to_end(source)
        while len(_open) > _MOST_OPEN:
            _open.popitem(last=False)


def open_source(source: Source) -> tuple[Any, threading.Lock]:
    """Give the open recording of a source, and the lock to hold while reading from it."""
    check_unchanged(source)
    with _open_lock:
        if source in _open:
            _open.move_to_end(source)
            return _open[source]
    recording, _ = _mne.open_quietly(source.path, source.reader, json.loads(source.options))
    remember(source, recording)
    with _open_lock:
        return _open.get(source, (recording, threading.Lock()))


class SensorArray(BackendArray):
    """Lazy float32 array over a recording: (channel, time), or (trial, channel, time) for epochs and averages.

    Parameters
    ----------
    source : Source
        Where the values are.
    shape : tuple of int
        Shape of the array, after the choice of channels.
    picks : tuple of int or None
        Channels of the file; None for all of them in order.
    scale : float or tuple of float
        Factor from MNE's values to SI, for all channels or one a channel.
    gaps : tuple of (start, stop)
        Samples that were not recorded (MNE gives zeros); they read as NaN.
    layout : Layout or None
        Where the samples of a plain recording lie, to be read without MNE.
    """

    def __init__(
        self,
        source: Source,
        shape: tuple[int, ...],
        *,
        picks: tuple[int, ...] | None = None,
        scale: float | tuple[float, ...] = 1.0,
        gaps: tuple[tuple[int, int], ...] = (),
        layout: Layout | None = None,
    ) -> None:
        self.source, self.shape, self.picks, self.scale, self.gaps = source, shape, picks, scale, gaps
        self.layout = layout
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        wanted = [_positions(k, n) for n, k in zip(self.shape, key, strict=True)]
        flat = [np.atleast_1d(w) for w in wanted]
        if all(f.size for f in flat):
            unique, back = zip(*(_sorted_unique(f) for f in flat), strict=True)
            values = self._values(*unique)
            for axis, order in enumerate(back):
                values = values if order is None else values.take(order, axis=axis)
        else:
            values = np.empty([f.size for f in flat], dtype=np.float32)
        return values.reshape([w.size for w in wanted if w.ndim])

    def _values(self, *wanted: NDArray[np.intp]) -> NDArray[np.float32]:
        *lead, rows, times = wanted
        picks = rows if self.picks is None else np.asarray(self.picks)[rows]
        if self.layout is not None:
            check_unchanged(self.source)
            block = max(1, _BLOCK_VALUES // picks.size)
            values = _in_stretches(partial(read_stretch, self.layout, picks), picks.size, times, block)
        else:
            values = self._through_mne(lead, picks, times)
        if self.scale != 1.0:
            factor = self.scale if isinstance(self.scale, float) else np.asarray(self.scale)[rows][:, None]
            np.multiply(values, factor, out=values, casting="same_kind")
        for start, stop in self.gaps:
            values[..., np.searchsorted(times, start) : np.searchsorted(times, stop)] = np.nan
        return values

    def _through_mne(
        self, lead: list[NDArray[np.intp]], picks: NDArray[np.intp], times: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        recording, lock = open_source(self.source)
        with lock, _mne.read_errors(self.source.path):
            if lead:
                return _mne.read_trials(recording, lead[0], picks, times)

            def read(start: int, stop: int, out: NDArray[np.float32]) -> None:
                out[...] = recording[picks, start:stop][0]

            return _in_stretches(read, picks.size, times, max(1, round(_BLOCK_S * recording.info["sfreq"])))


def _in_stretches(
    read: Callable[[int, int, NDArray[np.float32]], None], n_rows: int, times: NDArray[np.intp], block: int
) -> NDArray[np.float32]:
    """Read sorted sample numbers, consecutive ones at once and straight into the result."""
    out = np.empty((n_rows, times.size), dtype=np.float32)
    for a, b in _windows(times, block):
        start, stop = int(times[a]), int(times[b - 1]) + 1
        if stop - start == b - a:
            read(start, stop, out[:, a:b])
        else:
            span = np.empty((n_rows, stop - start), dtype=np.float32)
            read(start, stop, span)
            out[:, a:b] = span[:, times[a:b] - start]
    return out


def _positions(key: Any, n: int) -> NDArray[np.intp]:
    """Turn one part of an index into positions on an axis of length `n`."""
    if isinstance(key, slice):
        return np.arange(*key.indices(n))
    index = np.asarray(key)
    return np.where(index < 0, index + n, index)


def _sorted_unique(index: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp] | None]:
    """Sort and deduplicate an index; the order that restores it is None where it was in order already."""
    if (index[1:] > index[:-1]).all():
        return index, None
    unique, back = np.unique(index, return_inverse=True)
    return unique, back


def _windows(times: NDArray[np.intp], block: int) -> Iterator[tuple[int, int]]:
    """Cut sorted sample numbers into stretches [a, b) that span at most `block` samples without long holes."""
    holes: Iterable[int] = []
    if times[-1] - times[0] >= len(times):
        holes = np.flatnonzero(np.diff(times) > max(1, block // 10)) + 1
    for first, last in zip([0, *holes], [*holes, len(times)], strict=True):
        a = int(first)
        while a < last:
            b = int(np.searchsorted(times, times[a] + block))
            yield a, min(b, int(last))
            a = min(b, int(last))


def wrap(array: BackendArray) -> Any:
    """Make a lazy array ready for `xarray.Variable`: read when needed, kept once read whole, safe to assign to."""
    lazy: Any = indexing.LazilyIndexedArray(array)
    return indexing.MemoryCachedArray(indexing.CopyOnWriteArray(lazy))
