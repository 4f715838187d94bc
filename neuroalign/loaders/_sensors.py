"""From a sensor file to a Dataset: find the format, check the bytes, open with MNE, label, validate."""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign import convert, schema
from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders import _fieldtrip, _integrity, _lazy, _mne, _nwb
from neuroalign.loaders._brainvision import check_brainvision
from neuroalign.loaders._direct import Layout
from neuroalign.loaders._direct_formats import find_layout, trigger_recording
from neuroalign.loaders._edf import check_edf, mixed_rates
from neuroalign.loaders._formats import SUFFIXES, companions, find_format
from neuroalign.loaders._integrity_vendors import VENDORS, check_vendor
from neuroalign.loaders._labels import Request, channel_types, label, select
from neuroalign.loaders._montage import apply_montage

__all__ = ["SUFFIXES", "find_format", "read_sensors"]


def read_sensors(path: str | Path, request: Request) -> xr.Dataset:
    """Read one sensor file; see `neuroalign.loaders.read_eeg`."""
    if request.events not in ("auto", "annotations", "stim", "none"):
        raise ConfigError("Unknown source of events.", expected="auto, annotations, stim or none", got=request.events)
    path, kind = find_format(path, request.mne_options)
    if kind == "nwb":
        return _nwb.read(path, request)
    options, beside = companions(path, kind, request.mne_options)
    request = replace(request, mne_options=options)
    declared = _check(path, kind, request)
    declared.files = [*dict.fromkeys([*declared.files, *beside])]
    reader = _reader(path, kind, declared, request)
    recording, notes, source = _open(path, reader, declared, request)
    reader = source.reader
    first = recording[0] if isinstance(recording, list) else recording
    types = channel_types(path, first, declared, reader, request, notes)
    keep = select(first.ch_names, types, request)
    labels = label(path, first, types, keep, declared, reader, request)
    notes += apply_montage(path, labels, request.montage)
    layout = find_layout(path.absolute(), reader, recording, declared)
    values = _array(recording, source, keep, labels, layout)
    with _mne.read_errors(path):
        ds = convert.from_recording(
            recording if layout is None else _with_events(first, layout, request.events),
            values,
            labels,
            modality=request.modality,
            events=request.events,
            keep_phi=request.keep_phi,
        )
    ds = ds.assign_attrs(format=reader)
    if not declared.onsets:
        ds = ds.drop_vars("onset", errors="ignore")
    for note in notes:
        ds = schema.log(ds, f"{path.name}: {note}")
    if declared.problem is not None:
        ds = _note_truncation(ds, path, declared.problem)
    # Before loading: a lazy recording is checked on a part of it, without the copies that the whole would take.
    ds = schema.validate(ds, request.modality, nan="keep" if labels.gaps else "raise")
    if not request.lazy:
        ds = ds.load()
    params = {"channels": request.channels, "units": request.units, "lazy": request.lazy}
    params["montage"] = None if request.montage is None else Path(request.montage).name
    options = {k: Path(v).name if isinstance(v, str) and Path(v).is_absolute() else v for k, v in options.items()}
    given = {k: v for k, v in {**params, **options}.items() if v is not None and v is not True}
    return schema.stamp(ds, f"read_{request.modality}", sources=[f for f, *_ in source.files], **given)


def _check(path: Path, kind: str, request: Request) -> _integrity.Declared:
    allow_truncated = request.allow_truncated
    with _mne.read_errors(path):
        if kind in VENDORS:
            return check_vendor(path, kind, request.mne_options)
        if kind == "fieldtrip":
            return _fieldtrip.declare(path, request.mne_options.get("data_name"))
        if kind in ("edf", "bdf"):
            return check_edf(path, allow_truncated=allow_truncated)
        if kind == "brainvision":
            return check_brainvision(path, allow_truncated=allow_truncated)
        if kind == "fif":
            return _integrity.scan_fif(path, allow_truncated=allow_truncated)
        if kind == "ctf":
            return _integrity.Declared(sorted(p for p in path.rglob("*") if p.is_file()))
        if kind == "eeglab":
            _integrity.check_mat(path)
        if kind == "kit":
            _integrity.check_kit(path)
        return _integrity.Declared([path])


def _reader(path: Path, kind: str, declared: _integrity.Declared, request: Request) -> str:
    if kind != "fif":
        return kind
    if _integrity.FIF_MAXSHIELD in declared.blocks and not request.mne_options.get("allow_maxshield"):
        raise SchemaError(
            "The file holds raw MaxShield data, which must not be analysed as it is.",
            expected="data after signal-space separation (SSS)",
            got="internal active shielding, without SSS",
            where=path,
            fix="read it with allow_maxshield=True and put it through neuroalign.preprocess.MaxwellFilter before "
            "anything else; or run MaxFilter, and open what it saves",
        )
    for blocks, reader in (
        (_integrity.FIF_EPOCHS, "fif-epochs"),
        (_integrity.FIF_RAW | {_integrity.FIF_MAXSHIELD}, "fif"),
        (_integrity.FIF_AVERAGE, "fif-average"),
    ):
        if blocks & declared.blocks:
            return reader
    raise SchemaError(
        "The FIF file holds no recording.", expected="raw data, epochs or averages", got="other content", where=path
    )


def _open(
    path: Path, reader: str, declared: _integrity.Declared, request: Request
) -> tuple[Any, list[str], _lazy.Source]:
    options = dict(request.mne_options)
    _check_options(path, reader, options)
    # MNE resamples slower signals; it does so window by window (with other values) unless all is read at once.
    # It opens a folder of EGI anew for each window, with warnings and printed remarks.
    if reader == "mff" or (reader in ("edf", "bdf") and mixed_rates(path)):
        options["preload"] = True
    try:
        frozen = json.dumps(options, sort_keys=True)
    except TypeError:
        raise ConfigError("An option of MNE cannot be kept.", expected="numbers, text and lists", got=options) from None
    try:
        recording, notes = _mne.open_quietly(str(path), reader, json.loads(frozen))
    except IntegrityError as error:
        if reader == "kit" and "contains epochs" in str(error.__cause__):
            raise SchemaError(
                "The KIT file is not a continuous recording.",
                expected="raw data",
                got="epochs or markers",
                where=path,
                fix="pass a file of markers as mrk= with the recording",
            ) from error
        if reader != "eeglab" or "trials" not in str(error.__cause__):
            raise
        reader = "eeglab-epochs"  # only MNE can tell, by refusing to read it as continuous
        recording, notes = _mne.open_quietly(str(path), reader, json.loads(frozen))
    first = recording[0] if isinstance(recording, list) else recording
    files = [*declared.files, *_data_files(recording)]
    source = _lazy.Source(str(path.absolute()), reader, frozen, _lazy.fingerprint(Path(f).absolute() for f in files))
    _check_size(path, first, reader, source)
    _lazy.remember(source, recording)
    return recording, notes, source


def _check_options(path: Path, reader: str, options: Mapping[str, Any]) -> None:
    readers = [name for name in _mne.READERS if name.split("-")[0] == reader.split("-")[0]]
    known = {p for name in (reader, *readers) for p in inspect.signature(_mne.function_of(name)).parameters}
    known -= {"preload", "verbose", "units", "fname", "input_fname", "vhdr_fname", "directory", "pdf_fname"}
    if unknown := sorted(set(options) - known):
        own = [*inspect.signature(Request).parameters, "channel_type", "electrodes"]
        close = difflib.get_close_matches(unknown[0], sorted({*known, *own} - {"retype", "mne_options"}), n=1)
        raise ConfigError(
            "Unknown option.",
            expected=f"options of our reader, or of MNE's: {', '.join(sorted(known))}",
            got=unknown,
            where=path,
            fix=f"did you mean {close[0]}=?" if close else None,
        )


def _data_files(recording: Any) -> list[Path]:
    names = getattr(recording, "filenames", None) or [getattr(recording, "filename", None)]
    found = [Path(name) for name in names if name is not None and Path(name).is_file()]
    return found + [twin for file in found if file.suffix == ".set" and (twin := file.with_suffix(".fdt")).is_file()]


def _n_times(first: Any) -> int:
    return int(first.n_times) if hasattr(first, "n_times") else len(first.times)  # raw data count their times anew


def _check_size(path: Path, first: Any, reader: str, source: _lazy.Source) -> None:
    """Refuse impossible shapes before anything is allocated, and files without their end."""
    n_channels, n_times, sfreq = len(first.ch_names), _n_times(first), first.info["sfreq"]
    total = sum(size for _, size, _ in source.files)
    if n_channels < 1 or n_times < 1 or not (np.isfinite(sfreq) and sfreq > 0):
        raise _integrity.damaged(path, "no samples", "channels, samples and a rate", (n_channels, n_times, sfreq))
    if n_channels * n_times > 2048 * total:
        raise _integrity.damaged(path, "size", f"what {total} bytes can hold", f"{n_channels} x {n_times} values")
    for file in _data_files(first)[1:] if reader == "fif" else []:
        _integrity.scan_fif(file)
    if reader == "eeglab":
        for file in (Path(f) for f, *_ in source.files if f.endswith((".fdt", ".dat"))):
            if file.stat().st_size != 4 * n_channels * n_times:  # continuous: float32
                raise _integrity.cut(file, 4 * n_channels * n_times, file.stat().st_size)
    if reader == "ctf":
        _integrity.check_ctf(path, n_channels, n_times)
    if hasattr(first, "annotations") and hasattr(first, "first_samp"):
        with _mne.read_errors(path):
            first[:, n_times - 1]


def _array(
    recording: Any,
    source: _lazy.Source,
    keep: list[int],
    labels: convert.Channels,
    layout: Layout | None,
) -> Any:
    first = recording[0] if isinstance(recording, list) else recording
    shape: tuple[int, ...] = (len(keep), _n_times(first))
    if not hasattr(recording, "first_samp") or isinstance(recording, list):
        shape = (len(recording), *shape)
    same = keep == list(range(len(first.ch_names)))
    scale: float | tuple[float, ...] = tuple(labels.scale)
    if len(set(labels.scale)) == 1:
        scale = labels.scale[0]
    return _lazy.wrap(
        _lazy.SensorArray(
            source, shape, picks=None if same else tuple(keep), scale=scale, gaps=labels.gaps, layout=layout
        )
    )


def _with_events(raw: Any, layout: Layout, events: str) -> Any:
    """What to take the events of a plain recording from: itself, or its trigger channels alone."""
    annotated = events == "auto" and len(raw.annotations)
    return raw if annotated or events in ("annotations", "none") else trigger_recording(raw, layout)


def _note_truncation(ds: xr.Dataset, path: Path, problem: IntegrityError) -> xr.Dataset:
    message = re.sub(r"\s+", " ", f"{path.name}: {problem.problem} Expected {problem.expected}, got {problem.got}.")
    return schema.log(ds.assign_attrs(truncated=1), f"{message} Read {ds.sizes['time']} samples.")
