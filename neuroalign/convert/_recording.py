"""From an open MNE recording, and values that may be lazy, to a Dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from neuroalign import schema
from neuroalign.convert._events import recording_events, trial_table
from neuroalign.convert._info import channel_positions, frame_of, info_json

__all__ = ["Channels", "from_recording"]

_AVERAGE_REFERENCE = 10  # kind of a projection


@dataclass
class Channels:
    """What is known about the channels of a recording.

    Attributes
    ----------
    names : list of str
        Channel names.
    types : list of str
        MNE's names of channel types.
    units : list of str
        SI units.
    scale : list of float
        Factors from MNE's values to these units.
    info : mne.Info
        Measurement info of these channels alone.
    gaps : tuple of (start, stop)
        Samples that were not recorded.
    """

    names: list[str]
    types: list[str]
    units: list[str]
    scale: list[float]
    info: Any
    gaps: tuple[tuple[int, int], ...] = ()


def from_recording(
    recording: Any, values: Any, channels: Channels, *, modality: str, events: str, keep_phi: bool
) -> xr.Dataset:
    """Label values with all that an MNE recording says about them.

    Parameters
    ----------
    recording : mne.io.BaseRaw, mne.BaseEpochs or list of mne.Evoked
        The recording; its values are not touched.
    values : array
        In SI units, in memory or lazy: (channel, time), or (trial, channel, time) for epochs and averages.
    channels : Channels
        What the values are.
    modality : {'eeg', 'ieeg', 'meg'}
        Names the variable.
    events : {'auto', 'annotations', 'stim', 'none'}
        Where the events of a continuous recording come from.
    keep_phi : bool
        Keep names, dates and free text in ``attrs["mne_info"]``.

    Returns
    -------
    Dataset
        Of the data model.
    """
    info = channels.info
    first = recording[0] if isinstance(recording, list) else recording
    xyz, frames = channel_positions(info)
    coords: dict[str, Any] = {"bad": np.array([name in info["bads"] for name in channels.names], dtype=bool)}
    frame = frame_of(frames)
    if frame == "mixed":
        coords["frame"] = frames
    if any(int(p["kind"]) == _AVERAGE_REFERENCE and p["active"] for p in info["projs"]):
        coords["reference"] = ["average" if kind == "eeg" else "" for kind in channels.types]
    attrs: dict[str, Any] = {"coord_frame": frame, "mne_info": info_json(info, keep_phi=keep_phi)}
    attrs |= {k: float(info[k]) for k in ("line_freq", "highpass", "lowpass") if info[k] is not None}
    common: dict[str, Any] = {
        "modality": modality,
        "sfreq": float(info["sfreq"]),
        "channel": channels.names,
        "units": channels.units[0] if len(set(channels.units)) == 1 else channels.units,
        "channel_type": channels.types,
        "positions": xyz,
        "coords": coords,
    }
    if hasattr(first, "annotations") and hasattr(first, "first_samp"):
        table = recording_events(first, events)
        if len(table):
            attrs["events_from"] = "stim" if events == "stim" or not len(first.annotations) else "annotations"
        ds = schema.sensors(values, first_sample=int(first.first_samp), events=table, attrs=attrs, **common)
        return _mark_gaps(ds, channels.gaps)
    if first.baseline is not None:
        attrs["baseline"] = [float(b) if b is not None else float("nan") for b in first.baseline]
    if not isinstance(recording, list):
        attrs["drop_log"] = [",".join(reasons) for reasons in recording.drop_log]
    start = round(float(first.times[0]) * common["sfreq"])
    return schema.epochs(values, first_sample=start, trials=trial_table(recording), attrs=attrs, **common)


def _mark_gaps(ds: xr.Dataset, gaps: tuple[tuple[int, int], ...]) -> xr.Dataset:
    if not gaps:
        return ds
    valid = np.ones(ds.sizes["time"], dtype=bool)
    for start, stop in gaps:
        valid[start:stop] = False
    return ds.assign_coords(valid=("time", valid))
