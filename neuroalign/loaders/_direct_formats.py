"""Which recordings are plain, and where their samples lie; all others are read by MNE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuroalign.errors import require
from neuroalign.loaders import _mne
from neuroalign.loaders._brainvision import binary_format
from neuroalign.loaders._direct import Layout, PerChannel, read_stretch
from neuroalign.loaders._edf import signal_table
from neuroalign.loaders._integrity import Declared
from neuroalign.loaders._labels import factor_of_mne

__all__ = ["find_layout", "trigger_recording"]

#: Types of FIF tags -> numbers in the file.
_FIF_NUMBERS = {2: ">i2", 3: ">i4", 4: ">f4", 5: ">f8", 16: ">i2"}
_TAG_BYTES = 16


def find_layout(path: Path, reader: str, recording: Any, declared: Declared) -> Layout | None:
    """Describe where the samples of a plain recording lie.

    Parameters
    ----------
    path : Path
        The file that was opened.
    reader : str
        A key of `neuroalign.loaders._mne.READERS`.
    recording : mne.io.BaseRaw, mne.BaseEpochs or list of mne.Evoked
        What MNE made of it.
    declared : Declared
        What the header says.

    Returns
    -------
    Layout or None
        None where the file is not plain, or where MNE reads other values from its first and last sample.
    """
    finder = _FINDERS.get(reader)
    if finder is None or declared.problem is not None or recording.preload:
        return None
    layout = finder(path, recording, declared)
    if layout is None or layout.end(len(recording.ch_names)) > Path(layout.path).stat().st_size:
        return None
    return layout if _agrees(layout, recording, path) else None


def trigger_recording(raw: Any, layout: Layout) -> Any:
    """Give the trigger channels of a plain recording as a recording in memory.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording. Searching it for events would convert all its channels, once for each trigger channel.
    layout : Layout
        Where its samples lie.

    Returns
    -------
    mne.io.BaseRaw
        The triggers alone, without annotations; the recording itself where it has none.
    """
    mne = require("mne", "eeg")
    picks = np.flatnonzero([kind == "stim" for kind in raw.get_channel_types()])
    if not picks.size:
        return raw
    values = np.empty((picks.size, layout.n_samples))  # float64: large numbers stay whole
    read_stretch(layout, picks, 0, layout.n_samples, values)
    return mne.io.RawArray(values, mne.pick_info(raw.info, picks), first_samp=raw.first_samp, verbose="ERROR")


def _agrees(layout: Layout, raw: Any, path: Path) -> bool:
    picks = np.arange(len(raw.ch_names))
    for sample in (0, layout.n_samples - 1):
        with _mne.read_errors(path):
            expected = raw[:, sample : sample + 1][0]
        found = np.empty((len(picks), 1), dtype=np.float32)
        read_stretch(layout, picks, sample, sample + 1, found)
        if not np.allclose(found, expected, rtol=1e-6, atol=0, equal_nan=True):
            return False
    return True


def _same(values: Sequence[float]) -> PerChannel:
    """One number where all are equal: the description travels with every task."""
    return float(values[0]) if len(set(values)) == 1 else tuple(map(float, values))


def _calibration(raw: Any) -> PerChannel:
    return _same([ch["cal"] * ch["range"] for ch in raw.info["chs"]])


def _brainvision(path: Path, raw: Any, declared: Declared) -> Layout | None:
    found = binary_format(path)
    if found is None or len(raw.filenames) != 1:
        return None
    dtype, multiplexed = found
    n, n_times, width = len(raw.ch_names), int(raw.n_times), int(dtype[2:])
    steps = (width, n * width) if multiplexed else (n_times * width, width)
    return Layout(
        str(raw.filenames[0]), dtype, n_times, 0, n_times, n * n_times * width, *steps, gain=_calibration(raw)
    )


def _eeglab(path: Path, raw: Any, declared: Declared) -> Layout | None:
    data = Path(raw.filenames[0])
    if data.suffix != ".fdt":
        return None
    n, n_times = len(raw.ch_names), int(raw.n_times)
    return Layout(str(data), "<f4", n_times, 0, n_times, 4 * n * n_times, 4, 4 * n, gain=_calibration(raw))


def _fif(path: Path, raw: Any, declared: Declared) -> Layout | None:
    info, buffers = raw.info, declared.buffers
    if len(raw.filenames) != 1 or path.suffix != ".fif" or not buffers:
        return None
    if info["comps"] or any(projection["active"] for projection in info["projs"]):
        return None
    starts, kinds, sizes = (np.array(column) for column in zip(*buffers, strict=True))
    dtype = _FIF_NUMBERS.get(int(kinds[0]))
    if dtype is None or (kinds != kinds[0]).any():
        return None
    frame, size = int(dtype[2:]) * len(raw.ch_names), int(sizes[0])
    even = (sizes[:-1] == size).all() and (np.diff(starts) == size + _TAG_BYTES).all() and (sizes % frame == 0).all()
    if not even or sizes.sum() != frame * raw.n_times:  # pauses are buffers that are not there
        return None
    steps = (int(dtype[2:]), frame)
    start, block = int(starts[0]), size // frame
    return Layout(str(path), dtype, int(raw.n_times), start, block, size + _TAG_BYTES, *steps, gain=_calibration(raw))


def _edf(path: Path, raw: Any, declared: Declared) -> Layout | None:
    table = signal_table(path)
    place = {name: i for i, name in enumerate(table.names)}
    if not table.continuous or not set(raw.ch_names) <= set(place):
        return None
    rows = [place[name] for name in raw.ch_names]
    block = table.counts[rows[0]]
    ends = np.cumsum(table.counts)
    starts = (ends - table.counts)[rows]
    even = all(table.counts[i] == block for i in rows) and ((starts - starts.min()) % block == 0).all()
    if not even or raw.n_times != table.n_records * block:
        return None
    triggers = tuple(i for i, kind in enumerate(raw.get_channel_types()) if kind == "stim")
    scaled = any((table.gains[rows[i]], table.offsets[rows[i]]) != (1.0, 0.0) for i in triggers)
    if scaled and table.width == 2:  # MNE scales these before it cuts the upper bits
        return None
    # The scale of a trigger does not count; that of another channel in its place often makes it one for all.
    other = next((row for i, row in enumerate(rows) if i not in triggers), rows[0])
    rows = [other if i in triggers else row for i, row in enumerate(rows)]
    slots = tuple(int(s) for s in (starts - starts.min()) // block)
    return Layout(
        str(path),
        f"<i{table.width}",
        int(raw.n_times),
        table.header_bytes + int(starts.min()) * table.width,
        block,
        int(ends[-1]) * table.width,
        block * table.width,
        table.width,
        slots=() if slots == tuple(range(len(slots))) else slots,
        gain=_same([table.gains[row] for row in rows]),
        offset=_same([table.offsets[row] for row in rows]),
        unit=_same([factor_of_mne("edf", table.units[row]) for row in rows]),
        triggers=triggers,
    )


_FINDERS: dict[str, Callable[[Path, Any, Declared], Layout | None]] = {
    "brainvision": _brainvision,
    "eeglab": _eeglab,
    "edf": _edf,
    "bdf": _edf,
    "fif": _fif,
}
