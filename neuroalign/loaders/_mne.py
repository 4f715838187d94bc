"""MNE does the parsing: how files are opened, read in parts, and what is kept of their headers."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroalign.errors import IntegrityError, NeuroalignError, SchemaError, require

__all__ = [
    "READERS",
    "channel_positions",
    "channel_units",
    "info_json",
    "open_quietly",
    "read_errors",
    "read_trials",
    "recording_events",
    "trial_table",
]

#: Reader -> function of MNE.
READERS = {
    "brainvision": "io.read_raw_brainvision",
    "edf": "io.read_raw_edf",
    "bdf": "io.read_raw_bdf",
    "fif": "io.read_raw_fif",
    "fif-epochs": "read_epochs",
    "fif-average": "read_evokeds",
    "eeglab": "io.read_raw_eeglab",
    "eeglab-epochs": "io.read_epochs_eeglab",
    "ctf": "io.read_raw_ctf",
    "kit": "io.read_raw_kit",
}
_WITHOUT_PRELOAD = ("fif-average", "eeglab-epochs")
_UNITS = {107: "V", 112: "T", 201: "T/m", 114: "C", 101: "Hz", 110: "rad"}
_FRAMES = {1: "device", 4: "head", 5: "mri", 6: "mri_voxel", 7: "mni_tal", 8: "ras", 2: "isotrak", 3: "hpi"}
#: Where people, places and dates hide, and what is large and of no use without the raw file.
_PHI = (
    "subject_info", "meas_date", "experimenter", "description", "proj_name", "proj_id", "file_id", "meas_id",
    "utc_offset", "helium_info", "device_info", "acq_pars", "acq_stim", "xplotter_layout", "hpi_results",
)  # fmt: skip
_GEOMETRY = ("chs", "dig", "projs", "comps", "ch_names")
_LARGE = ("hpi_meas", "cross_talk", "fine_calibration")
#: Said by MNE about files that are read correctly, or checked by us before MNE sees them.
_HARMLESS = re.compile(
    "does not conform to MNE naming|different (high|low)pass filters|Number of records from the header|"
    "Online software filter|not conform to MNE|Invalid measurement date|software filters detected|"
    "Highpass cutoff frequency|is not in the expected format|Setting channel types to misc"
)


# Warning filters belong to the process: two threads that change them at once would undo each other.
_filters = threading.Lock()


@contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """Turn whatever a parser raises over damaged bytes into one error that names the file."""
    try:
        yield
    except (NeuroalignError, Warning):
        raise
    except FileNotFoundError as error:
        raise IntegrityError("A file is missing.", got=str(error), where=path) from error
    except Exception as error:  # MNE raises anything over damaged bytes, down to a bare Exception
        raise IntegrityError(
            "MNE cannot read the file.",
            expected="a whole file of this format",
            got=f"{type(error).__name__}: {error}",
            where=path,
            fix="copy or download it again, or open it with mne itself to see what it holds",
        ) from error


def open_quietly(path: str, reader: str, options: dict[str, Any]) -> tuple[Any, list[str]]:
    """Open a recording with MNE.

    Parameters
    ----------
    path : str
        File or folder.
    reader : str
        A key of `READERS`.
    options : dict
        Keyword arguments of MNE's function.

    Returns
    -------
    recording : mne.io.BaseRaw, mne.BaseEpochs or list of mne.Evoked
        The open recording.
    notes : list of str
        What MNE warned about and a user should know.

    Raises
    ------
    IntegrityError
        If MNE cannot read the file.
    SchemaError
        If channel names repeat, or MNE does not know an option.
    """
    mne = require("mne", "eeg")
    function = attrgetter(READERS[reader])(mne)
    packed = path.endswith(".gz")
    if reader not in _WITHOUT_PRELOAD:
        options = {"preload": packed, **options}
    with (
        _filters,
        warnings.catch_warnings(record=True) as caught,
        read_errors(path),
        tempfile.TemporaryDirectory() as folder,
    ):
        warnings.simplefilter("always")
        # MNE jumps back and forth, and each jump back decompresses from the start: 8 s for 2 MB of averages.
        source = _unpacked(path, folder) if packed and reader != "fif" else path
        recording = function(source, verbose="WARNING", **options)
    notes = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning | UserWarning)]
    for note in notes:
        if "not unique" in note:
            raise SchemaError(
                "Channel names repeat.", expected="unique names", got=note, where=path, fix="rename them in the file"
            )
    return recording, [note for note in notes if not _HARMLESS.search(note)]


def _unpacked(path: str, folder: str) -> str:
    target = Path(folder) / Path(path).name.removesuffix(".gz")
    with gzip.open(path, "rb") as packed, target.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 2**20)
    return str(target)


def read_trials(
    recording: Any, trials: NDArray[np.intp], picks: NDArray[np.intp], times: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Read some trials of epochs, or conditions of averages; all indices sorted.

    Returns
    -------
    ndarray, shape (n_trials, n_channels, n_times)
        In MNE's units.
    """
    out = np.empty((trials.size, picks.size, times.size), dtype=np.float32)
    for k, trial in enumerate(trials):
        if isinstance(recording, list):
            values = recording[trial].data[picks]
        else:
            values = recording[int(trial)].get_data(picks=picks, copy=False, verbose="ERROR")[0]
        out[k] = values[:, times]
    return out


def channel_units(info: Any) -> list[str]:
    """SI unit of each channel as MNE gives its values; ``"1"`` for pure numbers such as trigger codes."""
    return [_UNITS.get(int(ch["unit"]), "1") for ch in info["chs"]]


def channel_positions(info: Any) -> tuple[NDArray[np.float64], list[str]]:
    """Give positions in m, shape (n_channels, 3), NaN where unknown, and the frame of each ("" where unknown)."""
    xyz = np.array([ch["loc"][:3] for ch in info["chs"]], dtype=np.float64).reshape(-1, 3)
    # All zeros is how older files write "not known".
    xyz[~np.isfinite(xyz).all(axis=1) | (xyz == 0).all(axis=1)] = np.nan
    known = np.isfinite(xyz[:, 0])
    frames = [_FRAMES.get(int(ch["coord_frame"]), "unknown") for ch in info["chs"]]
    return xyz, [frame if k else "" for frame, k in zip(frames, known, strict=True)]


def info_json(info: Any, *, keep_phi: bool) -> str:
    """Serialise a measurement info for the way back to MNE.

    Parameters
    ----------
    info : mne.Info
        Measurement info.
    keep_phi : bool
        Keep names, dates, free text and device numbers.

    Returns
    -------
    str
        JSON of ``Info.to_json_dict``. Raw head-position fits and calibration files are left out for their size.
    """
    content = info.to_json_dict()
    for key in _LARGE if keep_phi else _LARGE + _PHI:
        content[key] = [] if isinstance(content.get(key), list) else None
    if not keep_phi:
        content |= {key: _scrub(value) for key, value in content.items() if key not in _GEOMETRY}
    return json.dumps(content)


def _scrub(content: Any) -> Any:
    """Blank names and dates inside nested records, such as the history of SSS processing."""
    if isinstance(content, list):
        return [_scrub(item) for item in content]
    if not isinstance(content, dict):
        return content
    blank = {"experimenter": "", "date": [0, 0], "secs": 0, "usecs": 0, "machid": [0, 0]}
    return {key: blank[key] if key in blank and value is not None else _scrub(value) for key, value in content.items()}


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
    if not frames:
        return pd.DataFrame({"onset": [], "duration": [], "trial_type": []})
    return frames[0].sort_values("onset", kind="stable").reset_index(drop=True)


def _annotation_events(raw: Any) -> pd.DataFrame:
    notes = raw.annotations
    # MNE counts from the measurement date where there is one, and from the first sample otherwise.
    shift = raw.first_time if notes.orig_time is not None else 0.0
    frame = pd.DataFrame(
        {"onset": notes.onset - shift, "duration": notes.duration, "trial_type": [str(d) for d in notes.description]}
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
    """Stretches (start, stop) of samples that acquisition skipped and that MNE fills with zeros."""
    notes, sfreq = raw.annotations, raw.info["sfreq"]
    shift = raw.first_time if notes.orig_time is not None else 0.0
    found = []
    for onset, duration, text in zip(notes.onset, notes.duration, notes.description, strict=True):
        if text == "BAD_ACQ_SKIP":
            start = round((onset - shift) * sfreq)
            found.append((start, start + round(duration * sfreq)))
    return tuple(found)


def trial_table(recording: Any) -> pd.DataFrame:
    """One row a trial (or an averaged condition), with all that the file says about it."""
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


def frame_of(frames: Sequence[str]) -> str:
    """Name of the one frame of all known positions, or ``"mixed"``, or ``"unknown"``."""
    known = sorted({frame for frame in frames if frame})
    return known[0] if len(known) == 1 else ("mixed" if known else "unknown")
