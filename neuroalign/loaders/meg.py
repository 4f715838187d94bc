"""MEG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from neuroalign.loaders._labels import Request
from neuroalign.loaders._sensors import read_sensors

__all__ = ["read_meg"]


def read_meg(
    path: str | Path,
    *,
    channels: str | Sequence[str] | None = None,
    units: str | Mapping[str, str] | None = None,
    lazy: bool = True,
    keep_phi: bool = False,
    allow_truncated: bool = False,
    events: str = "auto",
    montage: str | Path | None = None,
    **mne_options: Any,
) -> xr.Dataset:
    """Read an MEG file: FIF (raw, epochs or averages), CTF, KIT, 4D/BTi, or a FieldTrip struct.

    Parameters
    ----------
    path : path-like
        ``.fif``, ``.fif.gz``, a ``.ds`` folder (CTF), ``.sqd`` or ``.con`` (KIT), ``.mat`` (FieldTrip), or the data
        file of a 4D/BTi recording, whose configuration lies beside it or is named by ``config=``.
    channels : str or sequence of str, optional
        Names of channels, or types (``"mag"``, ``"grad"``, ``"meg"`` for both, ``"eeg"``, ...), in the order wanted.
        By default all channels of the file.
    units, lazy, keep_phi, allow_truncated, events, montage
        As in `read_eeg`; a montage places the EEG channels.
    **mne_options
        Options of MNE's reader, for example ``proj=False`` of averages. Files: ``mrk=``, ``elp=`` and ``hsp=`` of KIT,
        ``config=`` and ``head_shape=`` of 4D/BTi; by whole path, or by name where they lie beside the recording.

    Returns
    -------
    Dataset
        Variable ``meg`` with dims (channel, time), float32; for epochs and averages (trial, channel, time).
        Magnetometers in T, gradiometers in T/m, EEG in V: where they are mixed, ``units`` is a channel coordinate.

    Raises
    ------
    IntegrityError
        If the file is missing, cut or damaged, or changed between opening and reading.
    SchemaError
        If it holds raw MaxShield data (the message says how to apply SSS), or no MEG.
    ConfigError
        If the format or an option is unknown.

    Notes
    -----
    MEG sensors lie in the ``device`` frame and EEG electrodes in the ``head`` frame; with both in one recording
    ``attrs["coord_frame"]`` is ``"mixed"`` and the channel coordinate ``frame`` tells. The transform between them is
    in ``attrs["mne_info"]``.
    """
    request = Request(
        modality="meg",
        channels=channels,
        units=units,
        lazy=lazy,
        keep_phi=keep_phi,
        allow_truncated=allow_truncated,
        events=events,
        montage=montage,
        mne_options=mne_options,
    )
    return read_sensors(path, request)
