"""Put the features of stimuli into time: on the clock of a recording, where its events say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign.align._concat import concat
from neuroalign.align._epochs import _events, _name
from neuroalign.align._join import Features
from neuroalign.align._streams import Source, open_source
from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.schema import RUN_NAMES, clock, inherit, modality_of, stamp

_ATTRS = ("subject", "session", "task", "run")


@dataclass(frozen=True)
class _Options:
    """How events become features; see `place`."""

    shape: str
    by: str
    where: Mapping[str, Any] | None
    missing: str
    drop: bool
    oversample: int
    max_bytes: int


@dataclass(frozen=True)
class _Grid:
    """The clock of one run.

    Attributes
    ----------
    samples : ndarray of int64, shape (n_times,)
        Sample numbers.
    sfreq : float
        In Hz.
    zero : float
        Sample number (not whole) of second 0 of the onsets.
    shares : bool
        Whether values stand for the time up to the next sample (volumes) or for a moment (sensors).
    lead : int
        Samples between the start of the recording and the first volume, which is taken in the middle of it.
    """

    samples: NDArray[np.int64]
    sfreq: float
    zero: float
    shares: bool
    lead: int


def place(
    features: Features,
    recording: xr.Dataset | xr.DataTree,
    *,
    shape: str = "impulse",
    by: str = "stimulus_id",
    where: Mapping[str, Any] | None = None,
    missing: str = "raise",
    drop: bool = False,
    oversample: int = 1,
    max_bytes: int = 8 * 2**30,
) -> xr.DataArray:
    """Turn events and the features of their stimuli into features in time, on the clock of the recording.

    Parameters
    ----------
    features : DataArray, Dataset or mapping of name to DataArray
        - (stimulus, unit): of images or words. Several feature spaces are put side by side, as by `join`.
        - (stimulus, time, unit), or (time, unit) for each stimulus id: of sounds and films, with their own clock.
          Second 0 is the onset. Frames of NaN at the end are the end of a shorter stimulus.
    recording : Dataset or DataTree
        With events and a regular clock. The runs of a DataTree follow one another, as by `concat`.
    shape : {'impulse', 'hold'}
        For features without time: at the onset alone, or over the ``duration`` of the event.
    by : str
        Event column with the ids, for example ``"trial_type"`` for features of conditions.
    where : mapping, optional
        Keep only events whose column equals the value (or is one of the values).
    missing : {'raise', 'zero'}
        What to do about events whose id has no features: refuse, or take them as rest, with all features 0.
    drop : bool
        Leave out what lies outside the recording instead of refusing; the events are named in
        ``attrs["drop_log"]``. The part of a stimulus that lies inside stays in its place.
    oversample : int
        Steps of the result in one sample of the recording.
    max_bytes : int
        Refuse to allocate more than this.

    Returns
    -------
    DataArray
        Dims (time, unit): 0 where there is no stimulus, the sum where stimuli overlap. Times and runs are those of the
        recording, so that `join` fits it exactly (for ``oversample=1``).

    Raises
    ------
    AlignmentError
        If events have no features, or lie outside the recording or in a gap; they are named.
    ConfigError
        If an option is unknown, or the result would be too large.

    Notes
    -----
    Onsets count in seconds from the first sample of the recording. In sensors and spike counts an onset is rounded to
    the nearest sample, as in `epochs`, and a held stimulus covers its duration in whole samples, at least one.

    fMRI volumes stand for the time up to the next volume. A held stimulus gives each volume the share of that time
    that it covers, exactly; an impulse goes to the nearest volume. Volumes lie at their ``time`` plus
    ``attrs["start_time"]``; what was shown between the start of the run and the first volume counts to it. Blocks are
    convolved well as they are. Impulses, short events between volumes, sounds and films are not: place them on a finer
    clock, convolve, and return to the clock of the volumes::

        X = place(features, bold, shape="hold", oversample=16)
        X = Resampler(bold.attrs["sfreq"]).fit_transform(HRFConvolver().fit_transform(X))

    Features with their own clock are resampled in the exact ratio of the rates with an anti-alias filter without
    delay: sample ``n`` is the value at its time after the (rounded) onset. The ends are mirrored, as by `Resampler`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from neuroalign.schema import features, sensors
    >>> events = pd.DataFrame({"onset": [0.02, 0.05], "duration": [0.02, 0.01], "stimulus_id": ["dog", "cat"]})
    >>> eeg = sensors(np.zeros((1, 7)), modality="eeg", sfreq=100, channel=["Cz"], units="V", events=events)
    >>> place(features([[1.0], [5.0]], stimulus=["cat", "dog"]), eeg, shape="hold").values.ravel()
    array([0., 0., 5., 5., 0., 1., 0.])
    """
    if shape not in ("impulse", "hold"):
        raise ConfigError("Unknown shape.", expected="impulse or hold", got=shape)
    if missing not in ("raise", "zero"):
        raise ConfigError("Unknown policy for missing features.", expected="raise or zero", got=missing)
    if not (isinstance(oversample, int) and oversample >= 1):
        raise ConfigError("Not a number of steps.", expected="oversample >= 1", got=oversample)
    options = _Options(shape, by, where, missing, drop, oversample, max_bytes)
    tree = recording if isinstance(recording, xr.DataTree) else xr.DataTree(recording)
    runs = [node.to_dataset() for node in tree.leaves if node.has_data]
    if not runs:
        raise AlignmentError("The tree holds no recordings.", expected="Datasets at its leaves", got="none")
    source = open_source(features)
    placed = [_place_run(source, ds, options) for ds in runs]
    if len(placed) == 1 and isinstance(recording, xr.Dataset):
        out = placed[0]["features"].assign_attrs(placed[0].attrs)
    else:
        out = concat(placed)["features"].assign_attrs(placed[0].attrs)
        names = [str(ds.attrs.get("run", n)) for n, ds in enumerate(placed, start=1)]
        logs = zip(names, (ds.attrs["drop_log"] for ds in placed), strict=True)
        out.attrs["drop_log"] = [f"run {name}: {text}" for name, texts in logs for text in texts]
    out = inherit(out.rename(source.name), *source.parents, *runs)
    for name in _ATTRS:
        out.attrs.pop(name, None)
    return stamp(out, "place", shape=shape, by=by, where=where, missing=missing, drop=drop, oversample=oversample)


def _place_run(source: Source, ds: xr.Dataset, options: _Options) -> xr.Dataset:
    grid, coords = _grid(ds, options.oversample)
    events = _events(ds, options.where)
    needed = grid.samples.size * source.n_units * source.dtype.itemsize
    if needed > options.max_bytes:
        raise ConfigError(
            "The features in time would be too large.",
            expected=f"at most {options.max_bytes} bytes (max_bytes=)",
            got=f"{needed} bytes: {grid.samples.size} times x {source.n_units} units",
            fix="take fewer units (a projection), or lower the rate of the recording first",
        )
    values = np.zeros((grid.samples.size, source.n_units), dtype=source.dtype)
    share = {row: _add(values, source, events, row, grid, options) for row in _known(events, source, options)}
    outside = [row for row, inside in share.items() if inside < 1]
    if outside and not (options.drop and max(share.values())):
        _refuse(events, sorted(outside), grid)
    attrs = {
        **{name: ds.attrs[name] for name in _ATTRS if name in ds.attrs},
        **source.attrs,
        "sfreq": grid.sfreq,
        "first_sample": int(ds.attrs.get("first_sample", 0)) * options.oversample,
        "drop_log": [_name(events, row) for row in sorted(outside)],
    }
    out = xr.DataArray(values, dims=("time", "unit"), coords={**coords, **source.coords})
    return xr.Dataset({"features": out}, attrs=attrs)


def _add(
    values: NDArray[np.floating], source: Source, events: pd.DataFrame, row: int, grid: _Grid, options: _Options
) -> float:
    """Add one event to `values`, as far as it lies within the recording; tell what share of it does."""
    samples, piece = _piece(source, events, row, grid, options)
    start = grid.samples[0]
    samples = np.where((samples >= start - grid.lead) & (samples < start), start, samples)
    at = np.searchsorted(grid.samples, samples)
    inside = grid.samples[np.minimum(at, grid.samples.size - 1)] == samples
    if grid.lead:  # several samples may have become the first
        np.add.at(values, at[inside], piece[inside])
    else:
        values[at[inside]] += piece[inside]
    return float(inside.mean()) if inside.size else 1.0


def _grid(ds: xr.Dataset, oversample: int) -> tuple[_Grid, dict[str, Any]]:
    """The clock of a run, refined, with the coordinates that go with it."""
    if "time" not in ds.dims:
        raise AlignmentError(
            "The recording has no regular clock.",
            expected="a dimension time",
            got=dict(ds.sizes),
            fix="count the spikes first: neuroalign.align.bin_spikes(ds, sfreq=100)" if "spike" in ds.dims else None,
        )
    samples, sfreq = clock(ds)
    if (np.diff(samples) <= 0).any():
        raise AlignmentError(
            "The clock of the recording does not increase.",
            expected="one run a Dataset",
            got="sample numbers that repeat or go back",
            fix="pass the runs as a DataTree",
        )
    fine = (samples[:, None] * oversample + np.arange(oversample)).ravel()
    start = float(ds.attrs.get("start_time", 0.0))
    zero = (int(ds.attrs.get("first_sample", 0)) - start * sfreq) * oversample
    times = ds["time"].values if oversample == 1 else fine / (sfreq * oversample)
    coords: dict[str, Any] = {"time": ("time", times)}
    for name in RUN_NAMES:
        if name in ds.coords and ds[name].dims == ("time",):
            coords[name] = ("time", np.repeat(ds[name].values, oversample))
    whole = samples[0] == int(ds.attrs.get("first_sample", 0))
    lead = int(np.ceil(fine[0] - zero)) if whole and zero < fine[0] else 0
    return _Grid(fine, sfreq * oversample, zero, modality_of(ds) == "fmri", lead), coords


def _known(events: pd.DataFrame, source: Source, options: _Options) -> list[int]:
    """Rows of the events with features, in an order that does not depend on that of the table."""
    if options.by not in events:
        raise AlignmentError(
            "The events do not say which stimulus they are.",
            expected=f"a column {options.by!r}",
            got=list(events.columns),
            fix="pass by= with the column that holds the ids",
        )
    ids = events[options.by].astype(str)
    known = ids.isin(source.ids)
    if not known.all() and (options.missing == "raise" or not known.any()):
        names = pd.unique(ids[~known]).tolist()
        raise AlignmentError(
            f"{int((~known).sum())} of {len(events)} events have no features.",
            expected=f"ids of the features, such as {source.ids[:3]}",
            got=f"{names[:5]}" + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
            where=f"event column {options.by!r}",
            fix="leave them out by where=, or pass missing='zero' if they are rest"
            if known.any()
            else "check how the ids are written, or name their column by by=",
        )
    keys = ["onset", options.by, *(["duration"] if "duration" in events else [])]
    return [int(row) for row in events[known].sort_values(keys, kind="stable").index]


def _piece(
    source: Source, events: pd.DataFrame, row: int, grid: _Grid, options: _Options
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Sample numbers and values (sample, unit) of one event."""
    begin = grid.zero + float(events["onset"].iloc[row]) * grid.sfreq
    nearest = int(np.rint(begin))
    name = str(events[options.by].iloc[row])
    if source.timed:
        offset, values = source.stream(name, grid.sfreq)
        return nearest + offset + np.arange(len(values)), values
    vector = source.vector(name)
    if options.shape == "impulse":
        return np.array([nearest]), vector[None]
    length = _duration(events, row) * grid.sfreq
    if not grid.shares:
        samples = nearest + np.arange(max(int(np.rint(length)), 1))
        return samples, np.broadcast_to(vector, (samples.size, vector.size))
    # Onsets are rounded in most files: less than a thousandth of a sample is not meant.
    end, lowest = begin + length, int(np.floor(begin + 1e-3))
    samples = np.arange(lowest, max(int(np.ceil(end - 1e-3)), lowest + 1))
    share = np.minimum(samples + 1, end) - np.maximum(samples, begin)
    return samples, (share[:, None] * vector).astype(vector.dtype)


def _duration(events: pd.DataFrame, row: int) -> float:
    value = float(events["duration"].iloc[row]) if "duration" in events else np.nan
    if not (np.isfinite(value) and value > 0):
        raise AlignmentError(
            "An event has no duration to hold its stimulus for.",
            expected="a duration > 0 s",
            got=value if "duration" in events else "no column duration",
            where=_name(events, row),
            fix="pass shape='impulse', or leave the event out by where=",
        )
    return value


def _refuse(events: pd.DataFrame, outside: list[int], grid: _Grid) -> None:
    names = ", ".join(_name(events, n) for n in outside[:10]) + (" ..." if len(outside) > 10 else "")
    first, last = (grid.samples[[0, -1]] - grid.zero) / grid.sfreq
    raise AlignmentError(
        f"{len(outside)} of {len(events)} events go beyond the recording.",
        expected=f"stimuli within {first:g} to {last + 1 / grid.sfreq:g} s of its start, without gaps",
        got=names,
        fix="check the unit of onset (seconds), or pass drop=True to leave out what lies outside",
    )
