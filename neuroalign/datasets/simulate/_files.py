"""Recordings on disk: BrainVision, FIF and NIfTI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.datasets.simulate._settings import BOLD
from neuroalign.datasets.simulate._sites import FIDUCIALS, Sites, volume_affine
from neuroalign.errors import require

__all__ = ["write_brainvision", "write_fif", "write_mask", "write_volumes"]

_RESOLUTION = 0.1  # µV a step of the 16-bit integers

_HEADER = """Brain Vision Data Exchange Header File Version 1.0
; Simulated by neuroalign

[Common Infos]
Codepage=UTF-8
DataFile={stem}.eeg
MarkerFile={stem}.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels={n}
SamplingInterval={interval:g}

[Binary Infos]
BinaryFormat=INT_16

[Channel Infos]
{channels}
"""

_MARKERS = """Brain Vision Data Exchange Marker File, Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile={stem}.eeg

[Marker Infos]
Mk1=New Segment,,1,1,0
{markers}
"""


def write_brainvision(
    path: Path, data: NDArray[np.float64], sites: Sites, *, sfreq: float, onsets: NDArray[np.int64], codes: list[int]
) -> None:
    """Write header, markers and 16-bit samples beside each other.

    Parameters
    ----------
    path : Path
        The header, ending with ``.vhdr``.
    data : array, shape (n_channels, n_samples)
        In V.
    sites : Sites
        Gives the channel names.
    sfreq : float
        Samples per second.
    onsets, codes : sequences of int
        Sample and number of each picture.
    """
    channels = "\n".join(f"Ch{k}={name},,{_RESOLUTION},µV" for k, name in enumerate(sites.names, 1))
    marks = zip(onsets, codes, strict=True)
    markers = "\n".join(f"Mk{k}=Stimulus,S{code:>3},{onset + 1},1,0" for k, (onset, code) in enumerate(marks, 2))
    header = _HEADER.format(stem=path.stem, n=len(data), interval=1e6 / sfreq, channels=channels)
    path.write_text(header, encoding="utf-8", newline="\r\n")
    path.with_suffix(".vmrk").write_text(
        _MARKERS.format(stem=path.stem, markers=markers), encoding="utf-8", newline="\r\n"
    )
    steps = np.clip(np.rint(data * (1e6 / _RESOLUTION)), -32768, 32767).astype("<i2")
    path.with_suffix(".eeg").write_bytes(np.ascontiguousarray(steps.T).tobytes())


def _coil_frame(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two tangents and the normal of a sensor, as the nine numbers that FIF stores."""
    side = np.cross([0.0, 1.0, 0.0], normal)
    side /= np.linalg.norm(side)
    return np.concatenate([side, np.cross(normal, side), normal])


def _meg_info(mne: Any, sites: Sites, sfreq: float) -> Any:
    info = mne.create_info(list(sites.names), sfreq, "mag")
    centre = np.array([0.0, 0.0, 0.04])
    for channel, position in zip(info["chs"], sites.positions, strict=True):
        normal = (position - centre) / np.linalg.norm(position - centre)
        channel["loc"] = np.concatenate([position, _coil_frame(normal)])
        channel["coil_type"] = 3024  # a square magnetometer of 21 mm (Vectorview type T3)
        channel["coord_frame"] = 1  # device
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", np.eye(4))
        info["line_freq"] = 50.0
    montage = mne.channels.make_dig_montage(
        nasion=FIDUCIALS["NAS"], lpa=FIDUCIALS["LPA"], rpa=FIDUCIALS["RPA"], coord_frame="head"
    )
    return info.set_montage(montage)


def write_fif(path: Path, data: NDArray[np.float64], sites: Sites, *, sfreq: float) -> None:
    """Write magnetometers as FIF, single precision.

    Parameters
    ----------
    path : Path
        Ends with ``_meg.fif``.
    data : array, shape (n_channels, n_samples)
        In T.
    sites : Sites
        Names and positions in device coordinates.
    sfreq : float
        Samples per second.
    """
    mne = require("mne", "eeg")
    raw = mne.io.RawArray(data, _meg_info(mne, sites, sfreq), verbose="error")
    raw.save(path, fmt="single", verbose="error")


def write_volumes(path: Path, volumes: NDArray[np.float32]) -> None:
    """Write an fMRI run, shape (n_i, n_j, n_k, n_volumes), as scaled 16-bit integers."""
    nibabel = require("nibabel", "fmri")
    image = nibabel.Nifti1Image(volumes, volume_affine())
    image.set_data_dtype(np.int16)
    image.header.set_zooms((BOLD.voxel_size,) * 3 + (BOLD.tr,))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)


def write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a brain mask of zeros and ones."""
    nibabel = require("nibabel", "fmri")
    image = nibabel.Nifti1Image(mask.astype(np.uint8), volume_affine())
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
