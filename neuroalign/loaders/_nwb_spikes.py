"""Spikes of NWB files: the table of units, through pynwb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign import schema
from neuroalign.errors import SchemaError
from neuroalign.loaders._nwb import _events, open_nwb

__all__ = ["read_units"]

_APART = ("spike_times", "obs_intervals", "waveforms", "electrodes", "electrode_group")
#: Observed intervals that differ by less than this (s) are the same.
_SAME = 1e-6


def read_units(path: Path, *, start: float | None, stop: float | None, sfreq: float | None, clock: float) -> xr.Dataset:
    """Read the units of an NWB file; see `neuroalign.loaders.read_spikes`.

    Parameters
    ----------
    path : Path
        The file.
    start, stop : float or None
        The window in s; by default the ``obs_intervals`` of the units, where all have one and the same.
    sfreq : float or None
        Rate of the clock; by default from the ``resolution`` of the spike times.
    clock : float
        Rate where the file does not say.

    Returns
    -------
    Dataset
        As from `neuroalign.schema.spikes`, with columns of the table along ``neuron`` and trials as events.

    Raises
    ------
    SchemaError
        If there are no units, or it is not known when they were observed.
    """
    with open_nwb(path) as nwb:
        table = nwb.units
        if table is None or "spike_times" not in table.colnames:
            raise SchemaError("The NWB file holds no spikes.", expected="a table of units with spike_times", where=path)
        times = [np.asarray(table["spike_times"][row], dtype=np.float64) for row in range(len(table))]
        neurons = np.asarray(table.id[:])
        begin, end = _window(path, neurons, _intervals(table), start, stop, times)
        rate = float(sfreq or (1 / table.resolution if table.resolution and table.resolution > 0 else clock))
        coords = {name: values for name in table.colnames if (values := _plain(table, name)) is not None}
        events = _events(path, nwb, "trials", begin, "auto")
    for name, spikes in zip(neurons.tolist(), times, strict=True):
        _check(path, name, spikes)
    told = start is None and stop is None
    kept = times if told else [t[(t >= begin) & (t < end)] for t in times]
    samples = np.rint(np.concatenate([*kept, np.empty(0)]) * rate).astype(np.int64)
    first, last = round(begin * rate), round(end * rate)
    ds = schema.spikes(
        samples,
        neuron=np.repeat(neurons, [len(t) for t in kept]),
        neurons=neurons,
        sfreq=rate,
        first_sample=first,
        # The end of an observed interval may be the time of the last spike.
        n_samples=last - first + int(told and bool((samples == last).any())),
        coords=coords,
        events=events,
    )
    left = sum(map(len, times)) - sum(map(len, kept))
    return schema.log(ds, f"{path.name}: {left} spikes outside {begin:g} to {end:g} s were left out") if left else ds


def _intervals(table: Any) -> list[NDArray[np.float64]]:
    """Observed intervals of each unit, (n_intervals, 2) in s; none where the file does not say."""
    if "obs_intervals" not in table.colnames:
        return [np.empty((0, 2))] * len(table)
    return [np.asarray(table["obs_intervals"][row], dtype=np.float64).reshape(-1, 2) for row in range(len(table))]


def _window(
    path: Path,
    neurons: NDArray[Any],
    observed: list[NDArray[np.float64]],
    start: float | None,
    stop: float | None,
    times: list[NDArray[np.float64]],
) -> tuple[float, float]:
    known = [spans for spans in observed if len(spans)]
    if start is None and stop is None and known and len(known) == len(observed):
        if all(spans.shape == (1, 2) and np.abs(spans - known[0]).max() < _SAME for spans in known):
            return float(known[0][0, 0]), float(known[0][0, 1])
        raise SchemaError(
            "The units were observed in several intervals.",
            expected="one interval, the same for all units",
            got=f"{[spans.tolist() for spans in known[:3]]}",
            where=path,
            fix="pass start= and stop= of a window in which all were observed",
        )
    if stop is None:
        last = max((t.max() for t in times if t.size), default=0.0)
        raise SchemaError(
            "It is not known when the recording of spikes ended.",
            expected="stop= in s, or obs_intervals in the file",
            got=f"the last spike is at {last:g} s",
            where=path,
            fix="pass stop=, so that silence can be told from the end",
        )
    begin = 0.0 if start is None else start
    for name, spans in zip(neurons.tolist(), observed, strict=True):
        if len(spans) and not ((spans[:, 0] <= begin + _SAME) & (spans[:, 1] >= stop - _SAME)).any():
            raise SchemaError(
                f"Unit {name} was not observed throughout the window.",
                expected=f"start= and stop= within {spans.tolist()}",
                got=f"{begin:g} to {stop:g} s",
                where=path,
            )
    return begin, stop


def _check(path: Path, name: Any, times: NDArray[np.float64]) -> None:
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise SchemaError(
            f"The spike times of unit {name} are not in order.",
            expected="finite times that never decrease",
            got="NaN, or a time before its predecessor",
            where=path,
        )


def _plain(table: Any, name: str) -> NDArray[Any] | None:
    """A column with one number or text a unit, or None."""
    if name in _APART or f"{name}_index" in table.colnames:
        return None
    try:
        values = pd.Series([table[name][row] for row in range(len(table))])
    except (TypeError, ValueError):
        return None
    if not values.map(lambda value: isinstance(value, str | bool | int | float | np.generic)).all():
        return None
    return values.to_numpy() if values.dtype.kind in "biuf" else np.array([str(v) for v in values], dtype=object)
