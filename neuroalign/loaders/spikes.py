"""Spike times: lists of times, and tables of times and neurons."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign import schema
from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders._arrays import read_mat, read_npy, read_npz, refuse_pickle
from neuroalign.loaders._nwb_spikes import read_units
from neuroalign.loaders._spike_tables import spikes_of_arrays, spikes_of_text
from neuroalign.loaders.events import check_onsets, read_events

__all__ = ["SPIKE_SUFFIXES", "read_spikes"]

SPIKE_SUFFIXES = (".txt", ".csv", ".tsv", ".npy", ".npz", ".mat", ".nwb")
"""File names that `read_spikes` knows."""

#: The clock of spikes whose times are not sample numbers: no recorder is finer than a microsecond.
CLOCK = 1e6
_ARRAY_READERS = {".npy": read_npy, ".npz": read_npz, ".mat": read_mat}
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": None}


def read_spikes(
    path: str | os.PathLike[str],
    *,
    units: str | None = None,
    stop: float | None = None,
    start: float | None = None,
    sfreq: float | None = None,
    times: str | None = None,
    neurons: str | None = None,
    events: str | os.PathLike[str] | None = None,
    max_bytes: int = 8 * 2**30,
) -> xr.Dataset:
    """Read spike times.

    Parameters
    ----------
    path : str or path-like
        - ``.txt``, ``.csv``, ``.tsv``: one time a line, or a table with a column of times and one of neurons, named by
          a header. Lines that start with ``#`` or ``%`` are comments. Cells are separated by white space in ``.txt``.
        - ``.npy``: the times of one neuron.
        - ``.npz``, ``.mat``: an array of times, and one with the neuron of each spike.
        - ``.nwb``: the table of units, with its columns; trials become events.
    units : str
        ``s``, ``ms``, ``us``, or ``samples`` (of `sfreq`). It is never guessed; NWB has seconds.
    stop : float
        When the recording ended, in s. The last spike does not say: a neuron may have been silent. In NWB by default
        the end of the ``obs_intervals``, where all units have one and the same; a window that is asked for cuts.
    start : float, optional
        When the recording began, in s; by default 0.
    sfreq : float, optional
        Rate of the clock that numbers the samples, in Hz; times are rounded to the nearest sample. By default
        1 MHz; it must be given for ``units="samples"``.
    times, neurons : str, optional
        Column or array with the times, and with the neuron of each spike. By default the only one, or a usual name
        such as ``spike_times`` and ``spike_clusters``. Without neurons, all spikes are of one, named after the file.
    events : path-like, optional
        An events.tsv; its onsets count from `start`.
    max_bytes : int
        Refuse to allocate more than this.

    Returns
    -------
    Dataset
        As from `neuroalign.schema.spikes`.

    Raises
    ------
    IntegrityError
        If the file is missing, cut or damaged, or could run code.
    SchemaError
        If the unit or the window is not given, a time is not a number, the times of a neuron decrease, or a spike lies
        outside the window; with the number of the line.
    ConfigError
        If columns or options are unknown.

    Warns
    -----
    NeuroalignWarning
        If a neuron fires faster than neurons can: its times may be in another unit.

    Notes
    -----
    A list of text that was cut cannot be told from a shorter one.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "cell.txt"
    >>> _ = file.write_text("# times in ms\\n1.5\\n12\\n40.25\\n")
    >>> ds = read_spikes(file, units="ms", stop=0.1)
    >>> ds["spike_time"].values.tolist(), ds["neuron"].values.tolist()
    ([0.0015, 0.012, 0.04025], ['cell'])
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if not path.is_file():
        raise IntegrityError("There is no such file.", expected=" ".join(SPIKE_SUFFIXES), where=str(path))
    refuse_pickle(path)
    if suffix == ".nwb":
        return _from_nwb(path, units, start, stop, sfreq, events)
    if suffix in _DELIMITERS:
        table = spikes_of_text(path, _DELIMITERS[suffix], times, neurons)
    elif suffix in _ARRAY_READERS:
        table = spikes_of_arrays(path, _ARRAY_READERS[suffix](path, max_bytes), times, neurons)
    else:
        raise ConfigError(
            "Unknown kind of file.", expected=" ".join(SPIKE_SUFFIXES), got=suffix or "no suffix", where=str(path)
        )
    _check_order(path, table)
    rate, samples = _to_clock(path, table["time"].to_numpy(), units, sfreq)
    begin = 0.0 if start is None else start
    ds = schema.spikes(
        samples,
        neuron=table["neuron"].to_numpy(),
        sfreq=rate,
        n_samples=_length(path, samples, rate, begin, stop),
        first_sample=round(begin * rate),
        events=None if events is None else _events(Path(events), float(stop or 0) - begin),
    )
    sources = [path] if events is None else [path, Path(events)]
    return schema.stamp(schema.validate(ds, "spikes"), "read_spikes", sources=sources, units=units)


def _from_nwb(
    path: Path, units: str | None, start: float | None, stop: float | None, sfreq: float | None, events: Any
) -> xr.Dataset:
    if units not in (None, "s") or events is not None:
        raise ConfigError(
            "NWB files say their units and trials themselves.",
            expected="neither units= nor events=",
            got=f"units={units!r}, events={events}",
            where=str(path),
        )
    ds = schema.validate(read_units(path, start=start, stop=stop, sfreq=sfreq, clock=CLOCK), "spikes")
    return schema.stamp(ds, "read_spikes", sources=[path])


def _length(path: Path, samples: NDArray[np.int64], rate: float, start: float, stop: float | None) -> int:
    last = f"the last spike is at {samples.max() / rate:g} s" if samples.size else "no spikes"
    if stop is None:
        raise SchemaError(
            "It is not known when the recording of spikes ended.",
            expected="stop= in s",
            got=last,
            where=str(path),
            fix="pass stop=, so that silence can be told from the end",
        )
    if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
        raise ConfigError("Not a window.", expected="start < stop, in s", got=f"start={start}, stop={stop}")
    return round(stop * rate) - round(start * rate)


def _events(path: Path, duration: float) -> pd.DataFrame:
    table = read_events(path)
    check_onsets(table["onset"].to_numpy(), duration, where=path)
    return table


def _to_clock(
    path: Path, values: NDArray[Any], units: str | None, sfreq: float | None
) -> tuple[float, NDArray[np.int64]]:
    """The rate of the clock, and the times as sample numbers."""
    if units is None:
        shown = f"times such as {', '.join(f'{v:.10g}' for v in values[:3].tolist())}" if values.size else "no times"
        raise SchemaError(
            "The unit of the spike times is not known.",
            expected="s, ms, us or samples",
            got=shown,
            where=str(path),
            fix="pass units='s', 'ms', 'us', or units='samples' with sfreq=",
        )
    if sfreq is not None and not (math.isfinite(sfreq) and sfreq > 0):
        raise ConfigError("Not a sampling rate.", expected="sfreq > 0 Hz", got=sfreq)
    if units == "samples":
        if sfreq is None:
            raise SchemaError("Samples of which clock?", expected="sfreq= in Hz", got=None, where=str(path))
        if not np.array_equal(values, np.rint(values)):
            raise SchemaError(
                "Sample numbers are whole numbers.",
                expected="integers, for units='samples'",
                got=values[values != np.rint(values)][:3].tolist(),
                where=str(path),
            )
        return float(sfreq), values.astype(np.int64)
    si, factor = schema.to_si(units)
    if si != "s":
        raise SchemaError("Not a unit of time.", expected="s, ms, us or samples", got=units, where=str(path))
    rate = CLOCK if sfreq is None else float(sfreq)
    # One factor, so that 6700 us are 6700 samples of 1 MHz and not a rounding error more.
    per_unit = rate / round(1 / factor) if factor < 1 else rate * factor
    exact = np.asarray(values, dtype=np.float64) * per_unit
    if exact.size and np.abs(exact).max() > 2**62:
        raise SchemaError("A time is too large.", expected="seconds, and their parts", got=f"{values.max():g} {units}")
    return rate, np.rint(exact).astype(np.int64)


def _check_order(path: Path, table: pd.DataFrame) -> None:
    """Refuse times of a neuron that decrease: they are of trials, each with its own zero, or damaged."""
    for name, times in table.groupby("neuron", sort=False)["time"]:
        back = np.flatnonzero(np.diff(times.to_numpy()) < 0)
        if back.size:
            at = times.index[back[0] + 1]
            line = f", line {table['line'][at]}" if "line" in table else f", spike {at}"
            raise SchemaError(
                f"The spike times of neuron {name!r} decrease.",
                expected="times that never decrease",
                got=f"{times[at]:.10g} after {times.iloc[back[0]]:.10g}",
                where=f"{path}{line}",
                fix="if each trial starts at 0, add its onset to its times first",
            )
