"""One door for every supported file, folder or BIDS data set."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from neuroalign import storage
from neuroalign.errors import ConfigError, IntegrityError, require
from neuroalign.loaders import _fieldtrip
from neuroalign.loaders._arrays import refuse_pickle
from neuroalign.loaders._betas import is_betas
from neuroalign.loaders._formats import FOLDERS, SUFFIXES, find_format, is_sensor_file
from neuroalign.loaders._layout import is_bids, is_openfmri
from neuroalign.loaders._mne import read_errors
from neuroalign.loaders.betas import read_betas
from neuroalign.loaders.bids import read_bids
from neuroalign.loaders.covariance import read_covariance
from neuroalign.loaders.eeg import read_eeg
from neuroalign.loaders.events import EVENT_SUFFIXES
from neuroalign.loaders.fmri import read_fmri
from neuroalign.loaders.ieeg import read_ieeg
from neuroalign.loaders.meg import read_meg
from neuroalign.loaders.source import read_source
from neuroalign.loaders.spikes import SPIKE_SUFFIXES, read_spikes
from neuroalign.loaders.stimuli import KINDS, read_stimuli
from neuroalign.loaders.table import TABLE_SUFFIXES, read_table

__all__ = ["load"]

#: Modality -> reader of one file.
READERS: dict[str, Callable[..., Any]] = {
    "eeg": read_eeg,
    "ieeg": read_ieeg,
    "meg": read_meg,
    "fmri": read_fmri,
    "spikes": read_spikes,
}

_VOLUMES = (".nii", ".nii.gz", ".gii")
_MEG_ONLY = ("ctf", "kit", "bti")
_COVARIANCES = ("-cov.fif", "-cov.fif.gz", "_cov.fif", "_cov.fif.gz")
_IEEG_TYPES = {"seeg", "ecog", "dbs"}
_BIDS_SUFFIX = {"eeg": "eeg", "ieeg": "ieeg", "meg": "meg", "bold": "fmri"}


def load(
    path: str | os.PathLike[str], *, modality: str | None = None, lazy: bool = True, **options: Any
) -> xr.Dataset | xr.DataArray | xr.DataTree:
    """Read any supported file, folder or BIDS data set.

    Parameters
    ----------
    path : str or path-like
        - the root of a BIDS data set or derivative, a folder in it, or of files with BIDS names: as `read_bids`;
        - a folder or table of stimuli (``stimuli.tsv``): as `read_stimuli`;
        - a store written by neuroalign, or any ``.zarr`` folder;
        - ``.vhdr``, ``.edf``, ``.bdf``, ``.fif``, ``.set``, ``.cnt``, ``.raw``, ``.mff``, ``.eeg``, ``.lay``, ``.nwb``,
          ``.ds``, ``.sqd``, ``.con``, 4D/BTi files with their configuration, and ``.mat`` with a FieldTrip struct: as
          `read_eeg`, `read_ieeg` or `read_meg`;
        - ``-lh.stc``, ``-rh.stc``: as `read_source`; ``-cov.fif``: as `read_covariance`;
        - single-trial responses of GLMsingle (``TYPED_FITHRF_GLMDENOISE_RR.hdf5``) and NSD
          (``betas_session01.nii.gz``), by their names: as `read_betas`;
        - ``.nii``, ``.nii.gz``, ``.gii`` and CIFTI-2 (``.dtseries.nii`` and its kin): as `read_fmri`;
        - ``.npy``, ``.npz``, ``.mat``, ``.csv``, ``.tsv``, ``.parquet``: as `read_table`;
        - with ``modality="spikes"``, ``.txt``, ``.csv``, ``.tsv``, ``.npy``, ``.npz``, ``.mat``, ``.nwb``: as
          `read_spikes`.
    modality : {'eeg', 'ieeg', 'meg', 'fmri', 'spikes'}, optional
        Which recordings of a data set, or what a sensor file is. By default the latter is told by the ending of a
        BIDS name (``_ieeg.edf``), by the format (NWB is iEEG), or by the channel types of FIF and FieldTrip files (MEG
        before iEEG before EEG); files that do not say are EEG.
    lazy : bool
        Leave values on disk until they are used, where the format allows.
    **options
        Options of the reader, such as ``subject=``, ``mask=``, ``dims=``, ``units=``.

    Returns
    -------
    Dataset, DataArray or DataTree
        What the reader gives.

    Raises
    ------
    IntegrityError
        If there is no such path (names that are close are listed), or the file is damaged or could run code.
    ConfigError
        If the kind of file, the modality or an option is unknown.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "words.csv"
    >>> _ = file.write_text("stimulus,d0,d1\\ncat,1,2\\nball,3,4\\n")
    >>> load(file).dims
    ('stimulus', 'unit')
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(
            "Nothing that can be read.",
            expected="the path of one file or folder",
            got=type(path).__name__,
            fix="load each of them; neuroalign.loaders.read_fmri takes images in memory, and both files of a surface",
        )
    path = Path(path).expanduser()
    if modality is not None and modality not in READERS:
        raise ConfigError("Unknown modality.", expected=" or ".join(READERS), got=modality)
    if not path.exists():
        raise _missing(path)
    read, extra = _folder_reader(path, modality) if path.is_dir() else _file_reader(path, modality, options)
    return _call(read, path, {"modality": modality, "lazy": lazy} if extra else {"lazy": lazy}, options)


def _missing(path: Path) -> IntegrityError:
    folder = path.parent
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    close += [name for name in names if name.split(".")[0] == path.name.split(".")[0] and name not in close][:3]
    return IntegrityError(
        "There is no such file or folder.",
        got=path.name,
        where=str(folder) if folder.is_dir() else f"{folder}, which does not exist either",
        fix=f"did you mean {' or '.join(close)}?" if close else "check the path",
    )


def _call(read: Callable[..., Any], path: Path, given: dict[str, Any], options: dict[str, Any]) -> Any:
    """Call a reader with the options it knows; `lazy` only where it makes a difference."""
    parameters = inspect.signature(read).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    unknown = [name for name in options if name not in known]
    if unknown and not free:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        raise ConfigError(
            f"{read.__name__} has no option {unknown[0]!r}.",
            expected=", ".join(known),
            got=unknown,
            where=str(path),
            fix=f"did you mean {close[0]}=?" if close else None,
        )
    given = {name: value for name, value in given.items() if name in known or free}
    return read(path, **given, **options)


def _open_store(path: Path, *, verify: str = "sizes", lazy: bool = True) -> Any:
    """Open a store; an atlas that lies beside it is named by its whole path, so that it can be drawn."""
    obj = storage.open(path, verify=verify, lazy=lazy)  # type: ignore[arg-type]
    atlas = obj.attrs.get("atlas")
    if isinstance(atlas, str) and (path.parent / atlas).is_file():
        obj = obj.assign_attrs(atlas=str(path.parent.resolve() / atlas))
        for variable in obj.data_vars.values() if isinstance(obj, xr.Dataset) else ():
            variable.attrs.update({"atlas": obj.attrs["atlas"]} if "atlas" in variable.attrs else {})
    return obj


def _folder_reader(path: Path, modality: str | None) -> tuple[Callable[..., Any], bool]:
    """The reader of a folder, and whether it wants to know the modality."""
    if (path / "model.json").is_file():
        raise ConfigError("This is a saved model.", got=path.name, where=str(path), fix="neuroalign.load_model(path)")
    if is_bids(path) or is_openfmri(path):  # before stores: a data set may carry a manifest too
        return read_bids, True
    if (path / "manifest.json").is_file():
        return _open_store, False
    if path.suffix.lower() == ".zarr" or any((path / name).is_file() for name in ("zarr.json", ".zgroup")):
        return read_table, False
    if path.suffix.lower() in FOLDERS:
        return _sensor_reader(path, modality, {}), False
    # Text files alone may be anything, such as notes beside data.
    kinds = {KINDS.get(p.suffix.lower(), "text") for p in path.iterdir()}
    if (path / "stimuli.tsv").is_file() or kinds - {"text"}:
        return read_stimuli, False
    raise ConfigError(
        "This folder is nothing that can be read.",
        expected="a BIDS data set (dataset_description.json), stimuli (stimuli.tsv or images), a store (manifest.json,"
        " .zarr), a CTF (.ds) or an EGI recording (.mff)",
        got=sorted(p.name for p in path.iterdir())[:10],
        where=str(path),
        fix="name a file in it, or the root of the data set",
    )


def _file_reader(path: Path, modality: str | None, options: dict[str, Any]) -> tuple[Callable[..., Any], bool]:
    """The reader of a file; its modality is settled here."""
    refuse_pickle(path)
    name = path.name.lower()
    if modality == "spikes":
        return read_spikes, False
    if is_betas(path) and modality in (None, "fmri"):
        return read_betas, False
    if name.endswith(_VOLUMES):
        return _of_modality(path, modality, "fmri"), False
    if name == "stimuli.tsv":
        return read_stimuli, False
    if name.endswith(".stc"):
        return read_source, False
    if name.endswith(_COVARIANCES):
        return read_covariance, False
    if name.endswith(EVENT_SUFFIXES):
        raise ConfigError(
            "Events are a table, not a recording.", got=path.name, where=str(path), fix="read_events(path, sfreq=...)"
        )
    if is_sensor_file(path) or "config" in options:
        return _sensor_reader(path, modality, options), False
    if name.endswith(TABLE_SUFFIXES):
        return read_table, False
    if name.endswith(SPIKE_SUFFIXES):
        raise ConfigError(
            "A list of text may be anything.",
            expected="modality='spikes' for spike times",
            got=path.name,
            where=str(path),
            fix="load(path, modality='spikes', units=..., stop=...)",
        )
    supported = [*SUFFIXES, *_VOLUMES, *TABLE_SUFFIXES, ".stc"]
    close = difflib.get_close_matches(path.suffix.lower(), supported, n=1, cutoff=0.8)
    raise ConfigError(
        "Unknown kind of file.",
        expected=" ".join(dict.fromkeys(supported)) + ", a 4D/BTi file beside its config, or a folder",
        got=path.name,
        where=str(path),
        fix=f"is it a {close[0]} file?"
        if close
        else "convert it, for example with mne or nibabel; for 4D/BTi pass config=",
    )


def _of_modality(path: Path, modality: str | None, only: str) -> Callable[..., Any]:
    if modality not in (None, only):
        raise ConfigError(
            "The file is of another modality.", expected=only, got=f"modality={modality!r}", where=str(path)
        )
    return READERS[only]


def _sensor_reader(path: Path, modality: str | None, options: dict[str, Any]) -> Callable[..., Any]:
    header, kind = find_format(path, options)
    if kind in _MEG_ONLY:
        return READERS[modality or "meg"]  # EEG and iEEG are recorded with MEG hardware too
    if modality is not None:
        return READERS[modality] if modality != "fmri" else _of_modality(path, modality, "eeg, ieeg or meg")
    named = _BIDS_SUFFIX.get(path.name.split(".")[0].rsplit("_", 1)[-1].lower())
    if named in ("eeg", "ieeg", "meg"):
        return READERS[named]
    if kind in ("fif", "fieldtrip"):
        return READERS[_typed_modality(header, kind, options)]
    return read_ieeg if kind == "nwb" else read_eeg


def _typed_modality(path: Path, kind: str, options: dict[str, Any]) -> str:
    with read_errors(path):
        if kind == "fif":
            mne = require("mne", "eeg")
            try:
                types = set(mne.io.read_info(path, verbose="error").get_channel_types())
            except ValueError:
                return "eeg"  # no recording, or not whole: the reader says what it is
        else:
            types = set(_fieldtrip.channel_kinds(path, options.get("data_name")))
    if types & {"mag", "grad"}:
        return "meg"
    return "ieeg" if types & _IEEG_TYPES else "eeg"
