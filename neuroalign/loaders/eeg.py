"""EEG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from neuroalign.loaders._labels import Request
from neuroalign.loaders._sensors import read_sensors

__all__ = ["read_eeg"]


def read_eeg(
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
    """Read an EEG file; continuous, epochs or averages.

    The bytes are parsed by MNE-Python. Sizes and header fields are checked first.

    Parameters
    ----------
    path : path-like
        ``.vhdr`` (BrainVision), ``.edf``, ``.bdf``, ``.fif``, ``.fif.gz``, ``.set`` (EEGLAB), ``.cnt`` (Neuroscan),
        ``.raw`` and ``.mff`` (EGI), ``.eeg`` (Nihon Kohden), ``.lay`` (Persyst), ``.nwb``, or ``.mat`` (a FieldTrip
        struct). Files beside a header, such as ``.eeg`` and ``.vmrk`` of BrainVision, ``.fdt`` or ``.dat``, lead to it.
    channels : str or sequence of str, optional
        Names of channels, or types (``"eeg"``, ``"eog"``, ...), in the order wanted. By default all channels of the
        file except MEG channels.
    units : str or dict, optional
        What the numbers in the file are, where the file does not say or is wrong, for example ``"uV"``, for all
        channels or by channel name.
    lazy : bool
        Read values when they are needed; otherwise now. The values are the same.
    keep_phi : bool
        Keep names, dates and free text of the header in ``attrs["mne_info"]``.
    allow_truncated : bool
        Read what is there of a file that is cut, with a warning, instead of refusing it.
    events : {'auto', 'annotations', 'stim', 'none'}
        Take events from annotations, from trigger channels (which are read whole for it), or from annotations where
        there are any and else from trigger channels; or take none.
    montage : str or path-like, optional
        Positions of the channels: name of a montage of MNE such as ``"standard_1020"``, or a file of positions such
        as ``.elc``, ``.sfp``, ``.locs`` or ``.txt``. Names may differ in case, "EEG " before and "-Ref" after. Files
        that state no unit are fit to a head of 95 mm.
    **mne_options
        Options of MNE's reader, for example ``eog=["VEOG"]``, ``exclude=["DC01"]``, or ``data_format="int16"`` of
        Neuroscan; ``data_name=`` of a FieldTrip struct; ``series=``, ``intervals=`` and ``position_units=`` of NWB
        (see Notes).

    Returns
    -------
    Dataset
        Variable ``eeg`` with dims (channel, time), float32 in V; for epochs and averages (trial, channel, time).
        Channel coordinates ``channel_type``, ``x y z`` (m, NaN where unknown), ``bad``; events along ``event`` with
        ``onset`` in s after the first sample; attrs ``sfreq``, ``first_sample``, ``coord_frame``, ``mne_info``.

    Raises
    ------
    IntegrityError
        If the file is missing, cut or damaged, or changed between opening and reading.
    SchemaError
        If a unit is unknown, names repeat, or there is no EEG in the file.
    ConfigError
        If the format or an option is unknown.

    Warns
    -----
    NeuroalignWarning
        If values are implausible for their unit, or MNE reports something about the file.

    Notes
    -----
    Of NWB files, the one ElectricalSeries is read, or the one that ``series=`` names; a table of ``intervals=`` (by
    default ``"trials"``) becomes events. Positions of electrodes are in microns, as the NWB standard has it, unless
    ``position_units=`` says otherwise. Neuroscan's positions are places on a screen and are left out. MATLAB files and
    ``.mff`` folders are read whole, all others when values are needed.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> header = ["Brain Vision Data Exchange Header File Version 1.0", "[Common Infos]", "DataFile=a.eeg"]
    >>> header += ["DataFormat=BINARY", "DataOrientation=MULTIPLEXED", "NumberOfChannels=1", "SamplingInterval=4000"]
    >>> header += ["[Binary Infos]", "BinaryFormat=INT_16", "[Channel Infos]", "Ch1=Cz,,0.5,µV", ""]
    >>> _ = (folder / "a.vhdr").write_text(chr(10).join(header), encoding="latin-1")
    >>> np.arange(-40, 40, dtype="<i2").tofile(folder / "a.eeg")
    >>> ds = read_eeg(folder / "a.vhdr")
    >>> ds.sizes["time"], ds.attrs["sfreq"], ds.attrs["units"], float(ds["eeg"][0, 0])
    (80, 250.0, 'V', -1.9999999494757503e-05)
    """
    request = Request(
        modality="eeg",
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
