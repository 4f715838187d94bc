"""Recordings of MNE to Datasets, and back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign import schema
from neuroalign.align._lags import true_stretches
from neuroalign.convert._events import recorded_gaps
from neuroalign.convert._info import channel_units
from neuroalign.convert._recording import Channels, from_recording
from neuroalign.errors import ConfigError, SchemaError, require
from neuroalign.schema._names import table_along

__all__ = ["from_mne", "to_mne"]

_GAP = "BAD_ACQ_SKIP"
_FRAME_CODES = {"unknown": 0, "device": 1, "head": 4, "mri": 5, "mri_voxel": 6, "mni_tal": 7, "ras": 8}
#: Columns of events and trials that have a place of their own in MNE, or that were derived on the way in.
_ANNOTATED = {"onset", "duration", "trial_type", "channels", "value", "subject", "session", "task", "run"}
_NOT_METADATA = {"onset", "value", "trial_type", "trial", "valid", "nave", "kind"}


def from_mne(
    recording: Any,
    *,
    modality: str | None = None,
    events: str = "auto",
    keep_phi: bool = False,
    dtype: Any = np.float32,
) -> xr.Dataset:
    """Label a recording that MNE holds.

    Parameters
    ----------
    recording : mne.io.BaseRaw, mne.BaseEpochs, mne.Evoked or list of mne.Evoked
        The recording. Averages must share their channels and times.
    modality : {'eeg', 'ieeg', 'meg'}, optional
        Names the variable. By default MEG where there are magnetometers or gradiometers, else iEEG where there are
        electrodes in the brain, else EEG.
    events : {'auto', 'annotations', 'stim', 'none'}
        As in `neuroalign.loaders.read_eeg`.
    keep_phi : bool
        Keep names, dates and free text of the header in ``attrs["mne_info"]``.
    dtype : dtype
        Type of the values.

    Returns
    -------
    Dataset
        Dims (channel, time), or (trial, channel, time) for epochs and averages, in SI units; in memory.

    Raises
    ------
    ConfigError
        If this is no recording of MNE.
    SchemaError
        If averages differ in their channels or times.

    Examples
    --------
    >>> import mne, numpy as np
    >>> raw = mne.io.RawArray(np.zeros((1, 10)), mne.create_info(["Cz"], 100.0, "eeg"), verbose="error")
    >>> from_mne(raw)["eeg"].sizes
    Frozen({'channel': 1, 'time': 10})
    """
    mne = require("mne", "eeg")
    if isinstance(recording, mne.Evoked):
        recording = [recording]
    whole = isinstance(recording, mne.io.BaseRaw | mne.BaseEpochs)
    averages = isinstance(recording, list) and recording and all(isinstance(r, mne.Evoked) for r in recording)
    if not (whole or averages):
        raise ConfigError("Not a recording of MNE.", expected="Raw, Epochs or Evoked", got=type(recording).__name__)
    first = recording[0] if averages else recording
    types = list(map(str, first.get_channel_types()))
    units = channel_units(first.info)
    gaps = recorded_gaps(recording) if hasattr(recording, "first_samp") else ()
    channels = Channels(list(first.ch_names), types, units, [1.0] * len(types), first.info, gaps)
    values = _values(recording, np.dtype(dtype))
    for start, stop in gaps:
        values[:, start:stop] = np.nan
    ds = from_recording(
        recording, values, channels, modality=modality or _modality(types), events=events, keep_phi=keep_phi
    )
    return schema.stamp(schema.validate(ds, nan="keep"), "from_mne")


def _modality(types: list[str]) -> str:
    if {"mag", "grad"} & set(types):
        return "meg"
    return "ieeg" if {"seeg", "ecog", "dbs"} & set(types) else "eeg"


def _values(recording: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not isinstance(recording, list):
        return np.asarray(recording.get_data(verbose="ERROR"), dtype=dtype)
    first = recording[0]
    for other in recording[1:]:
        if other.ch_names != first.ch_names or not np.array_equal(other.times, first.times):
            raise SchemaError(
                "The averages differ in their channels or times.",
                expected=f"those of {first.comment!r}",
                got=other.comment,
                fix="convert them one by one",
            )
    return np.stack([average.data.astype(dtype) for average in recording])


def to_mne(obj: xr.Dataset | xr.DataArray) -> Any:
    """Give a recording back to MNE.

    Parameters
    ----------
    obj : Dataset or DataArray
        A sensor recording: (channel, time), or (trial, channel, time). A lazy one is read.

    Returns
    -------
    mne.io.RawArray, mne.EpochsArray or list of mne.EvokedArray
        Averages (those with the coordinate ``nave``) become Evokeds. Names, types, units, positions, bad channels,
        the reference, projections, compensation and the device-to-head transform are those of the recording;
        events become annotations, and columns of trials metadata. What the Dataset says wins over what its
        ``attrs["mne_info"]`` says, since it may have been selected, filtered or resampled.

    Raises
    ------
    SchemaError
        If the object is no sensor recording, or its clock has holes.

    Notes
    -----
    Samples that were not recorded (``valid`` is false) become zeros under an annotation ``BAD_ACQ_SKIP``, as in MNE.
    Events that were read from trigger channels are not written again as annotations: the channels hold them.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign.schema import sensors
    >>> ds = sensors(np.ones((2, 50)), modality="eeg", sfreq=100, channel=["Cz", "Pz"], units="uV")
    >>> to_mne(ds).get_data()[0, :2]
    array([1.e-06, 1.e-06])
    """
    mne = require("mne", "eeg")
    ds = _as_dataset(obj)
    modality = schema.modality_of(ds)
    if modality not in schema.SENSOR_MODALITIES or not {"channel", "time"} <= set(ds[modality].dims):
        raise SchemaError(
            "Only sensor recordings go to MNE.",
            expected="a variable eeg, ieeg or meg with dims (channel, time) or (trial, channel, time)",
            got={str(name): tuple(map(str, v.dims)) for name, v in ds.data_vars.items()},
        )
    variable = ds[modality]
    ticks, sfreq = schema.clock(ds)
    if (np.diff(ticks) != 1).any():
        raise SchemaError(
            "The clock has holes, which MNE cannot express.",
            expected="consecutive samples",
            got=f"{int((np.diff(ticks) != 1).sum())} jumps",
            fix="convert the stretches one by one",
        )
    info = _info(ds, sfreq)
    if "trial" not in variable.dims:
        return _to_raw(mne, ds, variable.transpose("channel", "time"), info, int(ticks[0]))
    values = variable.transpose("trial", "channel", "time").values.astype(np.float64)
    to_trials = _to_averages if "nave" in ds.coords else _to_epochs
    return to_trials(mne, ds, values, info, int(ticks[0]) / sfreq)


def _as_dataset(obj: xr.Dataset | xr.DataArray) -> xr.Dataset:
    if isinstance(obj, xr.Dataset):
        return obj
    return obj.to_dataset(name=obj.name or "values").assign_attrs(obj.attrs)


def _info(ds: xr.Dataset, sfreq: float) -> Any:
    """Measurement info of the channels that are there, by what their coordinates say."""
    mne = require("mne", "eeg")
    names, kinds = ds["channel"].values.tolist(), _column(ds, "channel_type", "misc")
    info = mne.create_info(names, sfreq, kinds, verbose="ERROR")
    stored = ds.attrs.get("mne_info")
    if stored is not None:
        info = _restored(mne, json.loads(stored), info)
    with info._unlock():  # the only door that MNE leaves for these
        info["sfreq"] = sfreq
        info["lowpass"] = min(float(ds.attrs.get("lowpass", info["lowpass"])), sfreq / 2)
        info["highpass"] = float(ds.attrs.get("highpass", info["highpass"]))
        info["line_freq"] = ds.attrs.get("line_freq", info["line_freq"])
    changed = {n: k for n, k, old in zip(names, kinds, info.get_channel_types(), strict=True) if k != old}
    info.set_channel_types(changed, on_unit_change="ignore", verbose="ERROR")
    _place(info, ds)
    if "bad" in ds.coords:
        info["bads"] = ds["channel"].values[ds["bad"].values.astype(bool)].tolist()
    return info


def _column(ds: xr.Dataset, name: str, missing: str) -> list[str]:
    return ds[name].values.tolist() if name in ds.coords else [missing] * ds.sizes["channel"]


def _restored(mne: Any, content: dict[str, Any], plain: Any) -> Any:
    """Info of the file for the channels that are still there, and a plain entry for those made since."""
    kept = mne.Info.from_json_dict(content)
    where = {name: i for i, name in enumerate(kept["ch_names"])}
    chs = [kept["chs"][where[n]] if n in where else plain["chs"][i] for i, n in enumerate(plain["ch_names"])]
    gone = any(name not in where for name in plain["ch_names"])
    with kept._unlock():
        kept["bads"] = []
        kept["chs"] = [dict(ch) for ch in chs]
        # Compensation and projections name channels; they hold only while all of these are the channels of the file.
        kept["comps"] = [] if gone else kept["comps"]
        kept["projs"] = [] if gone else kept["projs"]
    kept._update_redundant()
    return kept


def _place(info: Any, ds: xr.Dataset) -> None:
    """Positions of the Dataset, where they are not those of the info; x, y and z alone, without orientation."""
    if not {"x", "y", "z"} <= set(ds.coords):
        return
    xyz = np.column_stack([ds[axis].values.astype(float) for axis in "xyz"])
    frames = ds["frame"].values.tolist() if "frame" in ds.coords else [ds.attrs.get("coord_frame")] * len(xyz)
    for ch, position, frame in zip(info["chs"], xyz, frames, strict=True):
        if np.isfinite(position).all() and not np.allclose(ch["loc"][:3], position, atol=1e-7):
            ch["loc"][:3] = position
            ch["coord_frame"] = _FRAME_CODES.get(str(frame), 0)


def _to_raw(mne: Any, ds: xr.Dataset, variable: xr.DataArray, info: Any, first: int) -> Any:
    values = variable.values.astype(np.float64)
    gaps = _gaps(ds)
    for start, stop in gaps:
        values[:, start:stop] = 0.0
    raw = mne.io.RawArray(values, info, first_samp=first, verbose="ERROR")
    sfreq = info["sfreq"]
    offset = (first - int(ds.attrs.get("first_sample", first))) / sfreq
    notes = _annotations(mne, ds, offset, len(raw.times) / sfreq)
    if gaps and _GAP not in set(notes.description):
        starts, stops = np.array(gaps).T
        notes.append(starts / sfreq, (stops - starts) / sfreq, [_GAP] * len(gaps))
    return raw.set_annotations(notes, verbose="ERROR")


def _gaps(ds: xr.Dataset) -> list[tuple[int, int]]:
    if "valid" not in ds.coords or ds["valid"].dims != ("time",):
        return []
    return true_stretches(~ds["valid"].values.astype(bool))


def _annotations(mne: Any, ds: xr.Dataset, offset: float, duration: float) -> Any:
    table = table_along(ds, "event")
    if "onset" not in table or ds.attrs.get("events_from") == "stim":
        return mne.Annotations([], [], [])
    onset = table["onset"].to_numpy(float) - offset
    length = table["duration"].to_numpy(float) if "duration" in table else np.zeros(len(table))
    length = np.where(np.isfinite(length), length, 0.0)
    # What began before the first sample and lasts into the recording is cut to it, as MNE does on cropping.
    start, stop = np.maximum(onset, 0.0), onset + length
    inside = (onset < duration) & ((onset >= 0) | (stop > 0))
    length = np.where(onset < 0, stop, length)
    text = table["trial_type"].astype(str) if "trial_type" in table else pd.Series(["event"] * len(table))
    channels = [
        tuple(filter(None, str(names).split(","))) for names in table.get("channels", pd.Series([""] * len(table)))
    ]
    extras = [_plain(row) for row in table.drop(columns=list(_ANNOTATED & set(table))).to_dict("records")]
    rows = np.flatnonzero(inside)
    return mne.Annotations(
        start[rows], length[rows], text.to_numpy(object)[rows].astype(str), ch_names=[channels[i] for i in rows],
        extras=[extras[i] for i in rows],
    )  # fmt: skip


def _plain(row: Mapping[Any, Any]) -> dict[str, Any] | None:
    kept = {str(k): v for k, v in row.items() if isinstance(v, str | int | float) and v == v and v != ""}
    return kept or None


def _codes(table: pd.DataFrame) -> tuple[NDArray[np.int64], dict[str, int]]:
    """One integer code an event type: those of the file where they tell the types apart, else 1, 2, ..."""
    names = table["trial_type"].astype(str) if "trial_type" in table else pd.Series(["event"] * len(table))
    if "value" in table and pd.api.types.is_numeric_dtype(table["value"]) and table["value"].notna().all():
        pairs = set(zip(names, table["value"].astype(int), strict=True))
        if len(pairs) == names.nunique() == len({code for _, code in pairs}):
            return table["value"].to_numpy(np.int64), dict(sorted(pairs))
    codes, unique = pd.factorize(names)
    return codes + 1, {name: k + 1 for k, name in enumerate(unique)}


def _to_epochs(mne: Any, ds: xr.Dataset, values: NDArray[np.float64], info: Any, tmin: float) -> Any:
    table = table_along(ds, "trial")
    codes, event_id = _codes(table)
    onset = table["onset"].to_numpy(float) if "onset" in table else np.arange(len(table), dtype=float)
    samples = np.rint(onset * info["sfreq"]).astype(np.int64)
    if len(np.unique(samples)) < len(samples):  # onsets of several runs count from the start of each
        samples = np.arange(len(samples), dtype=np.int64)
    columns = table.drop(columns=list(_NOT_METADATA & set(table))).rename(columns=lambda n: n.removeprefix("metadata_"))
    with warnings.catch_warnings():  # events in another than rising order are as they were recorded
        warnings.simplefilter("ignore", RuntimeWarning)
        epochs = mne.EpochsArray(
            values,
            info,
            np.column_stack([samples, np.zeros_like(samples), codes]),
            tmin,
            event_id,
            proj=False,
            metadata=columns if len(columns.columns) else None,
            verbose="ERROR",
            **_selection(ds, len(values)),
        )
    epochs.baseline = _baseline(ds)
    return epochs


def _selection(ds: xr.Dataset, n: int) -> dict[str, Any]:
    """Which of the events of the file became epochs, where the drop log still tells."""
    log = [tuple(filter(None, str(entry).split(","))) for entry in ds.attrs.get("drop_log", [])]
    kept = [k for k, reasons in enumerate(log) if not reasons]
    return {"drop_log": tuple(log), "selection": np.array(kept)} if len(kept) == n else {}


def _baseline(ds: xr.Dataset) -> tuple[float, float] | None:
    """Give the window that was taken off already; MNE is told of it and does not take it off again."""
    window = ds.attrs.get("baseline") or []
    if len(window) != 2:
        return None
    times = ds["time"].values
    ends = [float(w) if isinstance(w, int | float) and w == w else None for w in window]
    return (
        float(times[0]) if ends[0] is None else ends[0],
        float(times[-1]) if ends[1] is None else ends[1],
    )


def _to_averages(mne: Any, ds: xr.Dataset, values: NDArray[np.float64], info: Any, tmin: float) -> list[Any]:
    table = table_along(ds, "trial")
    out = []
    for row, average in zip(table.to_dict("records"), values, strict=True):
        evoked = mne.EvokedArray(
            average,
            info.copy(),
            tmin,
            comment=str(row.get("trial_type", "")),
            nave=int(row["nave"]),
            kind=str(row.get("kind", "average")),
            verbose="ERROR",
        )
        evoked.baseline = _baseline(ds)
        out.append(evoked)
    return out
