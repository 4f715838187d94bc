"""What is kept of MNE's measurement info: units, positions, frames, and the info itself without people and dates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["channel_positions", "channel_units", "frame_of", "info_json"]

_UNITS = {107: "V", 112: "T", 201: "T/m", 114: "C", 101: "Hz", 110: "rad"}
_FRAMES = {1: "device", 4: "head", 5: "mri", 6: "mri_voxel", 7: "mni_tal", 8: "ras", 2: "isotrak", 3: "hpi"}
#: Where people, places and dates hide, and what is large and of no use without the raw file.
_PHI = (
    "subject_info", "meas_date", "experimenter", "description", "proj_name", "proj_id", "file_id", "meas_id",
    "utc_offset", "helium_info", "device_info", "acq_pars", "acq_stim", "xplotter_layout", "hpi_results",
)  # fmt: skip
_GEOMETRY = ("chs", "dig", "projs", "comps", "ch_names")
_LARGE = ("hpi_meas", "cross_talk", "fine_calibration")


def channel_units(info: Any) -> list[str]:
    """Give the SI unit of each channel, as MNE gives its values.

    Parameters
    ----------
    info : mne.Info
        Measurement info.

    Returns
    -------
    list of str
        One a channel; ``"1"`` for pure numbers such as trigger codes.
    """
    return [_UNITS.get(int(ch["unit"]), "1") for ch in info["chs"]]


def channel_positions(info: Any) -> tuple[NDArray[np.float64], list[str]]:
    """Give the position of each channel and the frame it is given in.

    Parameters
    ----------
    info : mne.Info
        Measurement info.

    Returns
    -------
    positions : ndarray, shape (n_channels, 3)
        In m; NaN where unknown.
    frames : list of str
        Such as ``"head"``; empty where unknown.
    """
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
    for record in content.get("proc_history") or []:
        # MNE writes this sparse matrix as the text that Python prints for it, and cannot save it afterwards.
        record.get("max_info", {}).get("sss_ctc", {}).pop("decoupler", None)
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


def frame_of(frames: Sequence[str]) -> str:
    """Name the frame that positions are given in.

    Parameters
    ----------
    frames : sequence of str
        One a channel; empty where unknown.

    Returns
    -------
    str
        The one frame of all known positions, or ``"mixed"``, or ``"unknown"``.
    """
    known = sorted({frame for frame in frames if frame})
    return known[0] if len(known) == 1 else ("mixed" if known else "unknown")
