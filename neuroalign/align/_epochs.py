"""Cut a continuous recording into epochs around its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign.align._concat import concat
from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.schema import MODALITIES, clock, modality_of, spike_counts, stamp, time_index
from neuroalign.schema import epochs as build_epochs
from neuroalign.schema._names import table_along

_FROM_ATTRS = ("subject", "session", "task", "run")


def epochs(
    recording: xr.Dataset | xr.DataTree,
    *,
    tmin: float,
    tmax: float,
    baseline: tuple[float | None, float | None] | None = None,
    where: Mapping[str, Any] | None = None,
    drop: bool = False,
) -> xr.Dataset:
    """Cut epochs around events.

    Parameters
    ----------
    recording : Dataset or DataTree
        Continuous sensors, or spike counts, with events (coordinates along ``event``). The runs of a DataTree are cut
        one by one.
    tmin, tmax : float
        Window around the onset in s, both ends included, on the recording's clock.
    baseline : (float or None, float or None), optional
        Window whose mean is taken off each trial and channel; None is the edge of the epoch.
    where : mapping, optional
        Keep only events whose column equals the value (or is one of the values), for example
        ``{"trial_type": "image"}``.
    drop : bool
        Leave out events whose window goes beyond the recording instead of refusing; they are named in
        ``attrs["drop_log"]``.

    Returns
    -------
    Dataset
        Dims (trial, channel, time), or (trial, neuron, time); every event column as a coordinate along ``trial``.

    Raises
    ------
    AlignmentError
        If there are no events, or a window goes beyond the recording or over a gap.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from neuroalign.schema import sensors
    >>> events = pd.DataFrame({"onset": [0.2, 0.5], "stimulus_id": ["cat", "dog"]})
    >>> ds = sensors(np.zeros((1, 100)), modality="eeg", sfreq=100, channel=["Cz"], units="V", events=events)
    >>> epochs(ds, tmin=-0.1, tmax=0.2)["eeg"].shape
    (2, 1, 31)
    """
    if isinstance(recording, xr.DataTree):
        options: dict[str, Any] = {"tmin": tmin, "tmax": tmax, "baseline": baseline, "where": where, "drop": drop}
        runs = [node.to_dataset() for node in recording.leaves if node.has_data]
        if not runs:
            raise AlignmentError("The tree holds no recordings.", expected="Datasets at its leaves", got="none")
        return concat([epochs(ds, **options) for ds in runs])
    if tmax <= tmin:
        raise ConfigError("Empty window.", expected="tmin < tmax", got=f"tmin={tmin}, tmax={tmax}")
    values, table = _recording(recording), _events(recording, where)
    samples, sfreq = clock(recording)
    first, last = round(tmin * sfreq), round(tmax * sfreq)
    # Onsets count from the first sample of the file, whatever part of it is at hand.
    onset = recording.attrs.get("first_sample", 0) + np.rint(table["onset"].to_numpy(float) * sfreq).astype(np.int64)
    start, inside = _windows(samples, onset, first, last)
    if not inside.all():
        _refuse_or_note(table, inside, drop, samples, sfreq)
    kept = table[inside].reset_index(drop=True)
    array = _cut(values, start[inside], last - first + 1)
    if baseline is not None:
        array -= _baseline(array, time_index(array.shape[2], sfreq, first), baseline)
    out = _build(recording, array, kept, sfreq, first)
    out = out.assign_attrs(
        baseline=[] if baseline is None else ["none" if b is None else float(b) for b in baseline],
        drop_log=[_name(table, int(n)) for n in np.flatnonzero(~inside)],
    )
    return stamp(out, "epochs", tmin=tmin, tmax=tmax, baseline=baseline, where=where, drop=drop)


def _recording(ds: xr.Dataset) -> xr.DataArray:
    modality = modality_of(ds)
    dims = set(ds[MODALITIES[modality]].dims) if modality is not None else set()
    if dims not in ({"channel", "time"}, {"neuron", "time"}):
        raise AlignmentError(
            "Only continuous sensors and spike counts can be cut into epochs.",
            expected="a variable with dims (channel, time) or (time, neuron)",
            got=ds.sizes,
            fix="count the spikes first: neuroalign.align.bin_spikes(ds, sfreq=100)" if dims == {"spike"} else None,
        )
    return ds[MODALITIES[str(modality)]].transpose(..., "time")


def _events(ds: xr.Dataset, where: Mapping[str, Any] | None) -> pd.DataFrame:
    frame = table_along(ds, "event")
    if "onset" not in frame or frame.empty:
        raise AlignmentError(
            "The recording has no events.",
            expected="coordinates onset, ... along event",
            got=f"coordinates {list(ds.coords)}",
            fix="load it with its events.tsv (read_bids), or pass events= to neuroalign.schema.sensors",
        )
    for column, wanted in (where or {}).items():
        if column not in frame:
            raise AlignmentError("No such event column.", expected=f"one of {list(frame)}", got=column)
        frame = frame[frame[column].isin([wanted] if np.ndim(wanted) == 0 else list(wanted))]
    if frame.empty:
        raise AlignmentError("No event is left.", expected=f"events with {dict(where or {})}", got="none")
    for name in _FROM_ATTRS:
        if name in ds.attrs and name not in frame:
            frame = frame.assign(**{name: str(ds.attrs[name])})
    return frame.reset_index(drop=True)


def _windows(
    samples: NDArray[np.int64], onset: NDArray[np.int64], first: int, last: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Positions of the first sample of each window, and whether the window lies in one unbroken stretch."""
    start = np.searchsorted(samples, onset + first)
    stop = np.searchsorted(samples, onset + last)
    inside = (onset + first >= samples[0]) & (onset + last <= samples[-1])
    n = len(samples) - 1
    exact = samples[np.minimum(start, n)] == onset + first
    return start, inside & exact & (samples[np.minimum(stop, n)] == onset + last) & (stop - start == last - first)


def _name(table: pd.DataFrame, row: int) -> str:
    entry = table.iloc[row]
    label = f" ({entry['stimulus_id']})" if "stimulus_id" in table else ""
    return f"event {row}{label} at {entry['onset']:g} s"


def _refuse_or_note(
    table: pd.DataFrame, inside: NDArray[np.bool_], drop: bool, samples: NDArray[np.int64], sfreq: float
) -> None:
    outside = np.flatnonzero(~inside)
    names = ", ".join(_name(table, int(n)) for n in outside[:10]) + (" ..." if len(outside) > 10 else "")
    if drop and inside.any():
        return
    raise AlignmentError(
        f"{len(outside)} of {len(inside)} epochs go beyond the recording.",
        expected=f"windows within {samples[0] / sfreq:g} to {samples[-1] / sfreq:g} s without gaps",
        got=names,
        fix="check the unit of onset (seconds), shorten the window, or pass drop=True to leave them out",
    )


def _cut(values: xr.DataArray, start: NDArray[np.int64], length: int) -> NDArray[np.floating]:
    n_times = values.sizes["time"]
    lazy = not values.variable._in_memory
    if lazy and len(start) * length > n_times / 2:  # most of it is wanted: one read beats many
        values, lazy = values.copy(data=values.values), False
    dtype = values.dtype if values.dtype.kind == "f" else np.float32
    out = np.empty((len(start), values.shape[0], length), dtype=dtype)
    for row, position in enumerate(start.tolist()):
        window = slice(position, position + length)
        out[row] = values[:, window].values if lazy else values.values[:, window]
    return out


def _baseline(
    array: NDArray[np.floating], times: NDArray[np.float64], window: tuple[float | None, float | None]
) -> NDArray[np.floating]:
    low = times[0] if window[0] is None else window[0]
    high = times[-1] if window[1] is None else window[1]
    half = 0.5 * (times[1] - times[0])  # window ends count as inside within half a sample
    chosen = (times >= low - half) & (times <= high + half)
    if low > high or not chosen.any():
        raise ConfigError("Empty baseline.", expected=f"a window in {times[0]:g} to {times[-1]:g} s", got=window)
    return array[..., chosen].mean(axis=-1, keepdims=True)


def _build(ds: xr.Dataset, array: NDArray[np.floating], trials: pd.DataFrame, sfreq: float, first: int) -> xr.Dataset:
    modality = str(modality_of(ds))
    if modality == "spikes":
        return _build_counts(ds, array, trials, sfreq, first)
    channel = {str(n): c.values for n, c in ds.coords.items() if c.dims == ("channel",)}
    units: Any = channel.pop("units").tolist() if "units" in channel else ds.attrs.get("units", "a.u.")
    kinds = channel.pop("channel_type", None)
    attrs = {k: v for k, v in ds.attrs.items() if k not in ("sfreq", "first_sample", "units", *_FROM_ATTRS)}
    return build_epochs(
        array,
        modality=modality,
        sfreq=sfreq,
        channel=channel.pop("channel"),
        units=units,
        first_sample=first,
        trials=trials,
        channel_type=None if kinds is None else kinds.tolist(),
        coords=channel,
        attrs=attrs,
    )


def _build_counts(
    ds: xr.Dataset, array: NDArray[np.floating], trials: pd.DataFrame, sfreq: float, first: int
) -> xr.Dataset:
    neuron = {str(n): c.values for n, c in ds.coords.items() if c.dims == ("neuron",)}
    return spike_counts(
        array,
        sfreq=sfreq,
        neuron=neuron.pop("neuron"),
        first_sample=first,
        coords=neuron,
        trials=trials.assign(valid=np.isfinite(array).all(axis=(1, 2))),
        units=ds.attrs.get("units", "1"),
        attrs={k: v for k, v in ds.attrs.items() if k not in ("sfreq", "first_sample", "units", *_FROM_ATTRS)},
    )
