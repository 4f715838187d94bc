"""Events, gaps and trials of MNE's recordings as tables."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from neuroalign.errors import require

__all__ = ["recorded_gaps", "recording_events", "trial_table"]


def recording_events(raw: Any, source: str) -> pd.DataFrame:
    """Events of a continuous recording.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.
    source : {'auto', 'annotations', 'stim', 'none'}
        Annotations, trigger channels (which are read whole), or annotations where there are any and else triggers.

    Returns
    -------
    DataFrame
        ``onset`` (s after the first sample), ``duration``, ``trial_type`` and ``value``, sorted by onset.
    """
    frames = []
    if source in ("auto", "annotations") and len(raw.annotations):
        frames.append(_annotation_events(raw))
    if source == "stim" or (source == "auto" and not frames):
        frames.append(_stim_events(raw))
    if not frames or frames[0].empty:
        return frames[0] if frames else pd.DataFrame({"onset": [], "duration": [], "trial_type": []})
    return frames[0].sort_values("onset", kind="stable").reset_index(drop=True)


def _annotation_events(raw: Any) -> pd.DataFrame:
    notes = raw.annotations
    # Onsets of a Raw count from sample 0 of its clock, with or without a measurement date.
    frame = pd.DataFrame(
        {
            "onset": notes.onset - raw.first_time,
            "duration": notes.duration,
            "trial_type": [str(d) for d in notes.description],
        }
    )
    codes = [re.fullmatch(r"(?:Stimulus|Response)/[SR]\s*(\d+)", text) for text in frame["trial_type"]]
    if any(codes):
        frame["value"] = [float(c[1]) if c else np.nan for c in codes]
    if any(notes.ch_names):
        frame["channels"] = [",".join(names) for names in notes.ch_names]
    extras = pd.DataFrame([dict(extra) for extra in getattr(notes, "extras", None) or []])
    return _beside(frame, extras, "extra")


def _beside(frame: pd.DataFrame, more: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Add columns; those whose name is taken get a prefix."""
    if not len(more.columns):
        return frame
    renamed = more.rename(columns={name: f"{prefix}_{name}" for name in more.columns if name in frame.columns})
    return pd.concat([frame, renamed.reset_index(drop=True)], axis=1)


def _stim_channels(raw: Any) -> list[str]:
    names = [n for n, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind == "stim"]
    # Composite trigger channels of Neuromag hold what the single lines hold.
    return next(([n] for n in ("STI101", "STI 014", "STI014") if n in names), names)


def _stim_events(raw: Any) -> pd.DataFrame:
    mne = require("mne", "eeg")
    frames = []
    names = _stim_channels(raw)
    for name in names:
        found = mne.find_events(raw, stim_channel=name, shortest_event=1, verbose="ERROR")
        frame = pd.DataFrame({"onset": (found[:, 0] - raw.first_samp) / raw.info["sfreq"]})
        frame["duration"], frame["trial_type"], frame["value"] = 0.0, found[:, 2].astype(str), found[:, 2]
        frames.append(frame.assign(stim_channel=name) if len(names) > 1 else frame)
    if not frames:
        return pd.DataFrame({"onset": [], "duration": [], "trial_type": []})
    return pd.concat(frames, ignore_index=True)


def recorded_gaps(raw: Any) -> tuple[tuple[int, int], ...]:
    """Find the samples that acquisition skipped, which MNE fills with zeros.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.

    Returns
    -------
    tuple of (start, stop)
        Stretches of samples, counted from the first.
    """
    notes, sfreq = raw.annotations, raw.info["sfreq"]
    found = []
    for onset, duration, text in zip(notes.onset, notes.duration, notes.description, strict=True):
        if text == "BAD_ACQ_SKIP":
            start = round((onset - raw.first_time) * sfreq)
            found.append((start, start + round(duration * sfreq)))
    return tuple(found)


def trial_table(recording: Any) -> pd.DataFrame:
    """List the trials of epochs, or the conditions of averages.

    Parameters
    ----------
    recording : mne.BaseEpochs or list of mne.Evoked
        The recording.

    Returns
    -------
    DataFrame
        One row a trial or condition, with all that the recording says about it.
    """
    if isinstance(recording, list):
        return pd.DataFrame(
            {
                "trial_type": [str(average.comment) for average in recording],
                "nave": [int(average.nave) for average in recording],
                "kind": [str(average.kind) for average in recording],
            }
        )
    codes = {int(code): str(name) for name, code in recording.event_id.items()}
    events = np.asarray(recording.events)
    frame = pd.DataFrame({"onset": events[:, 0] / recording.info["sfreq"], "value": events[:, 2]})
    frame["trial_type"] = [codes.get(int(code), str(code)) for code in events[:, 2]]
    if recording.metadata is not None:
        frame = _beside(frame, recording.metadata, "metadata")
    return frame
