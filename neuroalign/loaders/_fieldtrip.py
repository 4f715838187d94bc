"""FieldTrip structs in MATLAB files, as objects of MNE with the types and positions that the struct tells."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroalign import schema
from neuroalign.errors import ConfigError, IntegrityError, SchemaError, require
from neuroalign.loaders._integrity import Declared, check_mat

__all__ = ["channel_kinds", "declare", "find", "read"]

#: FieldTrip's channel types -> MNE's. Axial gradiometers measure T, as magnetometers do.
_TYPES = {
    "eeg": "eeg", "megmag": "mag", "megaxial": "mag", "meggrad": "mag", "mag": "mag", "megplanar": "grad",
    "ref": "ref_meg", "refmag": "ref_meg", "refgrad": "ref_meg", "refplanar": "ref_meg", "seeg": "seeg",
    "ecog": "ecog", "ieeg": "seeg", "dbs": "dbs", "eog": "eog", "veog": "eog", "heog": "eog", "ecg": "ecg",
    "emg": "emg", "trigger": "stim", "digital trigger": "stim", "analog trigger": "stim", "stim": "stim",
    "resp": "resp",
}  # fmt: skip
_STRUCT, _COMPRESSED, _MATRIX = 2, 15, 14
_HEAD = 1 << 16
_MAX_BYTES = 8 * 2**30


def find(path: Path) -> str | None:
    """Name the variable of a MATLAB file that is a FieldTrip recording; None where there is none.

    Only the names of fields are looked at: ``label``, ``time``, and ``trial`` or ``avg``.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(520)
        if head[:10] == b"MATLAB 5.0":
            fields = _fields(file, path.stat().st_size, "<" if head[126:128] == b"IM" else ">")
        elif b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:]):
            fields = _fields_of_hdf5(path)
        else:
            fields = {}
    found = [n for n, names in fields.items() if {"label", "time"} <= names and names & {"trial", "avg"}]
    return ("data" if "data" in found else found[0]) if found else None


def _fields(file: BinaryIO, size: int, order: str) -> dict[str, set[str]]:
    """Field names of the structs in a MATLAB 5 file, from the first bytes of each element."""
    out: dict[str, set[str]] = {}
    at = 128
    while at + 8 <= size:
        file.seek(at)
        kind, count = struct.unpack(order + "II", file.read(8))
        body = file.read(min(count, _HEAD))
        try:
            if kind == _COMPRESSED:
                kind, body = _MATRIX, zlib.decompressobj().decompress(body, _HEAD)[8:]
            if kind == _MATRIX:
                out |= _struct_fields(body, order)
        except (zlib.error, struct.error):
            pass  # a damaged file, which its reader will refuse
        at += 8 + (count if kind == _COMPRESSED else -(-count // 8) * 8)
    return out


def _struct_fields(body: bytes, order: str) -> dict[str, set[str]]:
    parts: list[bytes] = []
    at = 0
    for _ in range(5):  # flags, dimensions, name, length of a field name, field names
        kind, count = struct.unpack_from(order + "II", body, at)
        if kind >> 16:  # up to 4 bytes are packed into the tag
            parts.append(body[at + 4 : at + 4 + (kind >> 16)])
            at += 8
        else:
            parts.append(body[at + 8 : at + 8 + count])
            at += 8 + -(-count // 8) * 8
        if len(parts) == 1 and struct.unpack_from(order + "I", parts[0])[0] & 0xFF != _STRUCT:
            return {}
    length = struct.unpack(order + "i", parts[3])[0]
    names = [parts[4][k : k + length].split(b"\0")[0].decode("latin-1") for k in range(0, len(parts[4]), length or 1)]
    return {parts[2].decode("latin-1"): set(names)}


def _fields_of_hdf5(path: Path) -> dict[str, set[str]]:
    h5py = require("h5py", "eeg")
    try:
        with h5py.File(path, "r") as file:
            return {name: set(item) for name, item in file.items() if isinstance(item, h5py.Group) and name[:1] != "#"}
    except (OSError, RuntimeError, KeyError, ValueError):
        return {}  # a damaged file, which its reader will refuse


def read(fname: str, *, data_name: str | None = None, preload: bool = True, verbose: str | None = None) -> Any:
    """Read a FieldTrip struct: one trial is continuous, several are epochs, ``avg`` is an average.

    Parameters
    ----------
    fname : str
        The ``.mat`` file.
    data_name : str, optional
        Name of the variable. By default the one that looks like a recording.
    preload, verbose
        As of MNE's readers; MATLAB files are read whole.

    Returns
    -------
    mne.io.RawArray, mne.EpochsArray or list of mne.EvokedArray
        Values as they are in the file; `declare` tells their units.
    """
    path = Path(fname)
    content = _load(path, data_name)
    info = _info(path, content)
    if "trial" not in content:
        recording: Any = [_average(path, content, info)]
    else:
        trials, times = _trials(path, content)
        recording = _continuous(trials[0], times, info) if len(trials) == 1 else _epochs(content, trials, times, info)
    return recording


def declare(path: Path, data_name: str | None = None) -> Declared:
    """What a struct says about its channels, and whether it says when its trials began."""
    content = _load(path, data_name, without=("trial", "avg", "var", "dof"))
    told = _stated(content, "chanunit")
    units = [told.get(name, "") for name in content["label"]]
    units = ["" if unit.lower() in ("unknown", "nan") else unit for unit in units]
    return Declared([path], content["label"], units, onsets="sampleinfo" in content)


def channel_kinds(path: Path, data_name: str | None = None) -> list[str]:
    """MNE's channel type of each channel of a struct."""
    return _kinds(_load(path, data_name, without=("trial", "avg", "var", "dof")))


def _load(path: Path, data_name: str | None, without: tuple[str, ...] = ()) -> dict[str, Any]:
    check_mat(path, _MAX_BYTES)
    name = data_name or find(path)
    if name is None:
        raise ConfigError(
            "No FieldTrip recording in the MATLAB file.",
            expected="a struct with label, time, and trial or avg",
            where=path,
            fix="pass data_name=, or read arrays with read_table",
        )
    ignored = ["previous", "cfg", *without]
    found = require("pymatreader", "eeg").read_mat(str(path), variable_names=[name], ignore_fields=ignored).get(name)
    if not isinstance(found, dict) or not {"label", "time"} <= set(found):
        got = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise SchemaError(
            f"The variable {name!r} is not a FieldTrip recording.",
            expected="one struct with label, time, and trial or avg",
            got=got,
            where=path,
        )
    labels = found["label"]
    return {**found, "label": [labels] if isinstance(labels, str) else list(map(str, labels))}


def _trials(path: Path, content: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values (trial, channel, time) and their common times."""
    trials, times = content["trial"], content["time"]
    kept = isinstance(trials, np.ndarray) and trials.ndim == 3  # ft_timelockanalysis with keeptrials
    trials = list(trials) if kept or isinstance(trials, list) else [trials]
    times = list(times) if isinstance(times, list) else [times]
    shapes = {np.atleast_2d(trial).shape for trial in trials}
    spans = {(len(np.atleast_1d(t)), round(float(np.atleast_1d(t)[0]), 9)) for t in times}
    if len(shapes) != 1 or len(spans) != 1:
        raise SchemaError(
            "Trials differ in length or in their start.",
            expected="the same times in every trial",
            got=sorted(spans)[:5],
            where=path,
            fix="cut them to one length in FieldTrip: ft_redefinetrial with cfg.toilim",
        )
    values = np.stack([np.atleast_2d(np.asarray(trial, dtype=np.float64)) for trial in trials])
    time = np.atleast_1d(np.asarray(times[0], dtype=np.float64))
    if values.shape[1:] != (len(content["label"]), len(time)):
        raise IntegrityError(
            "The parts of the struct do not fit.",
            expected=f"{len(content['label'])} channels x {len(time)} times",
            got=values.shape[1:],
            where=path,
        )
    return values, time


def _sfreq(path: Path, content: Mapping[str, Any]) -> float:
    times = content["time"]
    time = np.atleast_1d(np.asarray(times[0] if isinstance(times, list) else times, dtype=np.float64))
    measured = (len(time) - 1) / (time[-1] - time[0]) if len(time) > 1 and time[-1] > time[0] else float("nan")
    stated = content.get("fsample")
    sfreq = float(np.atleast_1d(stated)[0]) if stated is not None else measured
    if not np.isfinite(sfreq) or sfreq <= 0 or (np.isfinite(measured) and abs(measured / sfreq - 1) > 1e-3):
        raise IntegrityError(
            "The sampling rate cannot be true.", expected="fsample that fits time", got=(stated, measured), where=path
        )
    return sfreq


def _stated(content: Mapping[str, Any], field: str) -> dict[str, str]:
    """What the header, gradiometers and electrodes say of each channel.

    The header comes last: it describes the values, while ``grad`` may be balanced to other units.
    """
    out: dict[str, str] = {}
    for part in (content.get("elec"), content.get("grad"), content.get("hdr"), content):
        if isinstance(part, Mapping) and "label" in part and field in part:
            values = [part[field]] if isinstance(part[field], str) else part[field]
            labels = [part["label"]] if isinstance(part["label"], str) else part["label"]
            if len(values) == len(labels):
                out |= {str(n): str(v) for n, v in zip(labels, values, strict=True)}
    return out


def _kinds(content: Mapping[str, Any]) -> list[str]:
    """EEG where the struct does not say."""
    told = _stated(content, "chantype")
    return [_TYPES.get(told.get(name, "eeg").lower(), "misc") for name in content["label"]]


def _info(path: Path, content: Mapping[str, Any]) -> Any:
    mne = require("mne", "eeg")
    info = mne.create_info(content["label"], _sfreq(path, content), _kinds(content), verbose="ERROR")
    for ch in info["chs"]:
        ch["loc"][:] = np.nan
    where = {name: k for k, name in enumerate(content["label"])}
    for part in (content.get("elec"), content.get("grad")):
        if not isinstance(part, Mapping) or "chanpos" not in part or part.get("unit") not in schema.UNITS:
            continue  # positions without a unit are no positions
        factor = schema.to_si(part["unit"])[1]
        # Frames other than Neuromag's head have no name in MNE's list, or another origin.
        frame = 4 if part.get("coordsys", "neuromag" if part is content.get("elec") else "") == "neuromag" else 0
        for name, xyz in zip(part["label"], np.atleast_2d(part["chanpos"]), strict=True):
            if name in where:
                ch = info["chs"][where[name]]
                ch["loc"][:3], ch["coord_frame"] = xyz * factor, frame
    return info


def _continuous(values: NDArray[np.float64], times: NDArray[np.float64], info: Any) -> Any:
    mne = require("mne", "eeg")
    return mne.io.RawArray(values, info, first_samp=round(float(times[0]) * info["sfreq"]), verbose="ERROR")


def _epochs(content: Mapping[str, Any], values: NDArray[np.float64], times: NDArray[np.float64], info: Any) -> Any:
    mne = require("mne", "eeg")
    n = len(values)
    table = content.get("trialinfo")
    codes = np.ones(n, dtype=np.int64)
    metadata = None
    if isinstance(table, Mapping):  # a MATLAB table
        metadata = pd.DataFrame({str(k): list(v) for k, v in table.items() if np.ndim(v) == 1 and len(v) == n})
    elif table is not None and len(np.atleast_1d(table)) == n:
        columns = np.asarray(table, dtype=np.float64).reshape(n, -1)
        metadata = pd.DataFrame({f"trialinfo_{k + 1}": column for k, column in enumerate(columns.T)})
        if np.isfinite(columns[:, 0]).all() and (columns[:, 0] == np.round(columns[:, 0])).all():
            codes = columns[:, 0].astype(np.int64)
    start = round(float(times[0]) * info["sfreq"])
    spans = content.get("sampleinfo")
    if spans is not None and np.shape(np.atleast_2d(spans)) == (n, 2):
        samples = np.atleast_2d(np.asarray(spans, dtype=np.int64))[:, 0] - 1 - start
    else:
        samples = np.arange(n)  # MNE wants different ones; `declare` says that they mean nothing
    events = np.stack([samples, np.zeros(n, dtype=np.int64), codes], axis=1)
    if len(set(samples)) < n:
        raise SchemaError("Two trials begin at the same sample.", expected="different trials", got=samples[:10])
    return mne.EpochsArray(
        values, info, events, tmin=start / info["sfreq"], metadata=metadata, proj=False, verbose="ERROR"
    )


def _average(path: Path, content: Mapping[str, Any], info: Any) -> Any:
    mne = require("mne", "eeg")
    values, times = _trials(path, {**content, "trial": content["avg"]})
    count = content.get("dof")
    nave = int(np.nanmax(count)) if count is not None and np.size(count) else 1
    return mne.EvokedArray(values[0], info, tmin=float(times[0]), nave=nave, comment=path.stem, verbose="ERROR")
