"""BIDS data sets: recordings with all that their sidecars say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign import schema
from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders import _layout
from neuroalign.loaders._labels import MEG_TYPES, Request
from neuroalign.loaders._layout import Recording
from neuroalign.loaders._nifti import open_nifti
from neuroalign.loaders._sensors import read_sensors
from neuroalign.loaders._text import read_json
from neuroalign.loaders.events import read_events, read_tsv
from neuroalign.loaders.fmri import _repetition_time as repetition_time
from neuroalign.loaders.fmri import read_fmri
from neuroalign.loaders.ieeg import BIDS_TYPES, IEEG_TYPES, apply_table, contact_coords

__all__ = ["read_bids"]

_ALWAYS = ("sub", "ses", "run")


def read_bids(
    root: str | Path,
    *,
    subject: str | None = None,
    session: str | None = None,
    task: str | None = None,
    run: str | int | None = None,
    modality: str | None = None,
    space: str | None = None,
    entities: Mapping[str, str] | None = None,
    **options: Any,
) -> xr.Dataset | xr.DataTree:
    """Read recordings of a BIDS data set: EEG, iEEG, MEG or fMRI (BOLD).

    Parameters
    ----------
    root : path-like
        Folder with the ``sub-*`` folders; a raw data set or a derivative.
    subject, session, task, run : str, optional
        Which recordings; by default all of them. ``"01"`` and ``"sub-01"`` mean the same, and so do runs ``1`` and
        ``"01"``.
    modality : {'eeg', 'ieeg', 'meg', 'fmri'}, optional
        Kind of recording.
    space : str, optional
        Space of electrode positions, or of the BOLD volumes of a derivative.
    entities : mapping, optional
        More entities, such as ``{"acquisition": "ecog"}``.
    **options
        Options of the reader: ``channels``, ``units``, ``lazy``, ``keep_phi``, ``allow_truncated`` for sensors;
        ``mask``, ``atlas``, ``tr``, ``lazy``, ``verify`` for fMRI. ``mask="auto"`` (the default) takes the one
        ``desc-brain_mask`` that belongs to the run, beside it or in ``derivatives``; ``mask=None`` gives volumes.

    Returns
    -------
    Dataset or DataTree
        A Dataset where exactly one recording fits, and otherwise a tree such as ``/sub-01/ses-01/run-01`` (with
        levels for the modality, the task and others where they differ).

        Events carry all columns of events.tsv, and ``subject``, ``session``, ``task`` and ``run``, which also stand
        in ``attrs``. Types, units (where the file does not say), status and reference come from channels.tsv;
        positions (converted to m) from electrodes.tsv, in the frame that coordsystem.json names.

    Raises
    ------
    ConfigError
        If the query is not valid.
    IntegrityError
        If a file is missing, cut or damaged, or shorter than its sidecar says.
    SchemaError
        If nothing fits, or sidecars are wrong or contradict the file.

    References
    ----------
    .. [1] Gorgolewski, K. J. et al. (2016). The brain imaging data structure. Scientific Data 3, 160044.
    """
    folder = Path(root).expanduser()
    query = {"subject": subject, "session": session, "task": task, "run": run, **(entities or {})}
    found = _layout.find_recordings(folder, query, modality)
    if space is not None:
        found = _in_space(found, space)
    if "bold" not in {r.path.name.split(".")[0].rsplit("_", 1)[-1] for r in found}:
        options = {k: v for k, v in options.items() if k != "mask"}
    if len(found) == 1:
        return _read(folder, found[0], space, options)
    names = _node_names(found)
    return xr.DataTree.from_dict({name: _read(folder, r, space, options) for name, r in zip(names, found, strict=True)})


def _in_space(found: list[Recording], space: str) -> list[Recording]:
    """Keep volumes of one space; sensors have a space only in their electrodes."""
    value = _layout.check_query({"space": space})["space"]
    kept = [r for r in found if r.modality != "fmri" or r.entities.get("space", value) == value]
    if not kept:
        spaces = sorted({r.entities["space"] for r in found if "space" in r.entities})
        raise SchemaError("No volumes in this space.", expected=spaces, got=space)
    return kept


def _node_names(found: list[Recording]) -> list[str]:
    """Paths in the tree: subject and session, then what differs, then the run."""
    varying = [
        key for key in _layout.ENTITIES.values()
        if key not in (*_ALWAYS, "split") and len({r.entities.get(key) for r in found}) > 1
    ]  # fmt: skip
    used = {key for r in found for key in r.entities}
    modalities = len({r.modality for r in found}) > 1
    names = []
    for r in found:
        parts = [f"{key}-{r.entities.get(key, 'none')}" for key in ("sub", "ses") if key in used]
        parts += [r.modality] if modalities else []
        parts += [f"{key}-{r.entities.get(key, 'none')}" for key in [*varying, "run"] if key in used]
        names.append("/" + "/".join(parts))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SchemaError(
            "Two files hold the same recording.",
            expected="one file a recording",
            got=[r.path.name for r, name in zip(found, names, strict=True) if name == twice],
        )
    return names


def _read(root: Path, recording: Recording, space: str | None, options: Mapping[str, Any]) -> xr.Dataset:
    suffix = recording.path.name.split(".")[0].rsplit("_", 1)[-1]
    sidecar = _layout.merged_json(root, recording, suffix)
    read = _read_bold if recording.modality == "fmri" else _read_sensor_run
    ds = read(root, recording, sidecar, space, dict(options))
    ds = _with_events(root, recording, ds)
    names = {"subject": "sub", "session": "ses", "task": "task", "run": "run"}
    attrs = {name: recording.entities[key] for name, key in names.items() if key in recording.entities}
    ds = ds.assign_attrs({**attrs, "bids_file": recording.path.relative_to(root).as_posix()})
    taken = set(ds.coords)
    own = {name: value for name, value in attrs.items() if name not in taken}
    if "event" in ds.dims:
        n = ds.sizes["event"]
        ds = ds.assign_coords({k: ("event", np.full(n, v, dtype=object)) for k, v in own.items()})
    return ds


def _with_events(root: Path, recording: Recording, ds: xr.Dataset) -> xr.Dataset:
    """Replace events by those of events.tsv, where there is one."""
    files = _layout.nearest(root, recording, "events")
    if not files or "time" not in ds.dims:
        return ds
    path = files[0][0]
    events = read_events(path, duration=ds.sizes["time"] / ds.attrs["sfreq"])
    ds = ds.drop_vars([name for name, coord in ds.coords.items() if "event" in coord.dims])
    coords = {}
    for name in map(str, events.columns):
        values = events[name].to_numpy()
        if values.dtype == object:
            values = np.array(["" if v is None else str(v) for v in values], dtype=object)
        coords[f"event_{name}" if name in (*ds.coords, *ds.dims, *ds.data_vars, "event") else name] = ("event", values)
    return schema.stamp(ds.assign_coords(coords), "read_events", sources=[path])


def _read_sensor_run(
    root: Path, recording: Recording, sidecar: Mapping[str, Any], space: str | None, options: dict[str, Any]
) -> xr.Dataset:
    channels = _layout.nearest(root, recording, "channels")
    table = read_tsv(channels[0][0], required=("name", "type", "units"), text=("name", "units")) if channels else None
    has_events = bool(_layout.nearest(root, recording, "events"))
    known = {k: options.pop(k) for k in ("channels", "units", "lazy", "keep_phi", "allow_truncated") if k in options}
    events = options.pop("events", "none" if has_events else "auto")
    request = Request(
        modality=recording.modality,
        events=events,
        retype=_retyper(recording, table),
        stated_units=_stated_units(table),
        mne_options=options,
        **known,
    )
    ds = read_sensors(recording.path, request)
    _check_sidecar(recording, ds, sidecar, allow_truncated=request.allow_truncated)
    if recording.modality == "ieeg":
        ds = ds.assign_coords(contact_coords(ds))
    if table is not None:
        ds = schema.stamp(apply_table(ds, table), "apply_channels", sources=[channels[0][0]])
    return _with_sidecar(_with_positions(root, recording, ds, space), sidecar)


def _stated_units(table: pd.DataFrame | None) -> dict[str, str]:
    if table is None:
        return {}
    return {
        n: u for n, u in zip(table["name"], table["units"], strict=True) if isinstance(u, str) and u in schema.UNITS
    }


def _retyper(recording: Recording, table: pd.DataFrame | None) -> Any:
    """Types of channels.tsv; MEG sensors keep the type that their coil gives them."""
    inside = {"SEEG", "ECOG", "DBS"}

    def retype(names: list[str], types: list[str]) -> dict[str, str]:
        if table is None:
            return {n: "seeg" for n, t in zip(names, types, strict=True) if t == "eeg" and recording.modality == "ieeg"}
        told = {n: str(t).upper() for n, t in zip(table["name"], table["type"], strict=True)}
        if not set(told) & set(names):
            raise SchemaError(
                "No channel of the file is in channels.tsv.",
                expected=names[:5],
                got=list(told)[:5],
                where=recording.path,
            )
        changes = {}
        for name, kind in zip(names, types, strict=True):
            new = BIDS_TYPES.get(told.get(name, ""), kind)
            if recording.modality == "ieeg" and told.get(name) == "EEG" and not inside & set(told.values()):
                new = "seeg"  # older data sets write EEG for contacts
            if kind not in MEG_TYPES and new not in MEG_TYPES:
                changes[name] = new
        return changes

    return retype


def _check_sidecar(recording: Recording, ds: xr.Dataset, sidecar: Mapping[str, Any], *, allow_truncated: bool) -> None:
    """Refuse a file whose rate or length is not what its sidecar says."""
    sfreq, told = ds.attrs["sfreq"], sidecar.get("SamplingFrequency")
    if isinstance(told, int | float) and not math.isclose(told, sfreq, rel_tol=1e-3):
        raise SchemaError(
            "File and sidecar disagree about the sampling rate.",
            expected=f"SamplingFrequency {told:g} Hz",
            got=f"{sfreq:g} Hz",
            where=recording.path,
        )
    length, told = ds.sizes["time"] / sfreq, sidecar.get("RecordingDuration")
    # Durations are rounded in many data sets, mostly to seconds.
    if isinstance(told, int | float) and length < told - max(1.0, 0.01 * told) and not allow_truncated:
        raise IntegrityError(
            "The recording is shorter than its sidecar says.",
            expected=f"RecordingDuration {told:g} s",
            got=f"{length:g} s",
            where=recording.path,
            fix="copy or download it again; allow_truncated=True reads what is there",
        )


def _with_sidecar(ds: xr.Dataset, sidecar: Mapping[str, Any]) -> xr.Dataset:
    line = sidecar.get("PowerLineFrequency")
    if isinstance(line, int | float):
        ds = ds.assign_attrs(line_freq=float(line))
    reference = sidecar.get("iEEGReference", sidecar.get("EEGReference"))
    if "reference" not in ds.coords and isinstance(reference, str) and reference not in ("", "n/a"):
        values = [reference if kind in ("eeg", *IEEG_TYPES) else "" for kind in ds["channel_type"].values]
        ds = ds.assign_coords(reference=("channel", np.array(values, dtype=object)))
    return ds


def _with_positions(root: Path, recording: Recording, ds: xr.Dataset, space: str | None) -> xr.Dataset:
    """Take electrode positions, in m, in the frame that coordsystem.json names."""
    files = _layout.nearest(root, recording, "electrodes", extra=("space",))
    if not files or recording.modality == "meg":
        return ds
    path, entities = _choose_space(recording, files, space)
    systems = _layout.nearest(root, recording, "coordsystem", ".json", extra=("space",))
    system = next((p for p, e in systems if e.get("space") == entities.get("space")), None)
    table = read_tsv(path, required=("name", "x", "y", "z"), text=("name",))
    if system is None:
        return schema.log(
            ds, f"{path.name} has no coordsystem.json: unit and frame are unknown, positions are left out"
        )
    content = read_json(system)
    prefix = "iEEG" if recording.modality == "ieeg" else "EEG"
    unit, frame = content.get(f"{prefix}CoordinateUnits"), content.get(f"{prefix}CoordinateSystem")
    if unit not in ("m", "cm", "mm"):
        return schema.log(ds, f"{system.name}: positions in {unit!r} cannot be given in m and are left out")
    for axis in "xyz":
        if table[axis].dtype == object and table[axis].notna().any():
            raise SchemaError("A position is not a number.", expected=f"{unit}, or n/a", got=axis, where=path)
    factor = schema.to_si(unit)[1]
    ds = apply_table(ds, table[["name", "x", "y", "z"]], factor=factor, frame=str(frame or "unknown"))
    return schema.stamp(ds, "apply_electrodes", sources=[path, system], unit=unit)


def _choose_space(
    recording: Recording, files: list[tuple[Path, dict[str, str]]], space: str | None
) -> tuple[Path, dict[str, str]]:
    spaces = {entities.get("space", ""): (path, entities) for path, entities in files}
    if space is not None and space in spaces:
        return spaces[space]
    if space is None and ("" in spaces or len(spaces) == 1):
        return spaces[""] if "" in spaces else files[0]
    raise SchemaError(
        "Electrode positions are given in several spaces."
        if space is None
        else "No electrode positions in this space.",
        expected=f"space= one of {sorted(s for s in spaces if s)}",
        got=space,
        where=recording.path,
    )


def _read_bold(
    root: Path, recording: Recording, sidecar: Mapping[str, Any], space: str | None, options: dict[str, Any]
) -> xr.Dataset:
    mask = options.pop("mask", "auto")
    if isinstance(mask, str) and mask == "auto":
        mask = _brain_mask(root, recording) if options.get("atlas") is None else None
    beside = recording.path.with_name(recording.path.name.split(".")[0] + ".json")
    if options.get("tr") is None and "RepetitionTime" in sidecar and not beside.is_file():
        # Inherited from a folder above, where read_fmri does not look; it must agree with the header all the same.
        options["tr"] = repetition_time(open_nifti(recording.path), dict(sidecar), None)
    known = ("atlas", "labels", "tr", "lazy", "verify", "max_bytes")
    if unknown := sorted(set(options) - set(known)):
        raise ConfigError("Unknown option for fMRI.", expected=", ".join(("mask", *known)), got=unknown)
    return read_fmri(recording.path, mask=mask, space=recording.entities.get("space"), **options)


def _brain_mask(root: Path, recording: Recording) -> Path | None:
    """Find the brain mask that belongs to a run: beside it, or in the derivatives."""
    entities = recording.entities
    inside = Path(f"sub-{entities['sub']}") / (f"ses-{entities['ses']}" if "ses" in entities else "") / "func"
    for folders in ([recording.path.parent], sorted((root / "derivatives").glob(f"*/{inside}"))):
        fits: dict[Path, int] = {}
        for path in (p for folder in folders for p in sorted(folder.glob("*_desc-brain_mask.nii*"))):
            parsed = _layout.parse_name(path.name)
            if parsed is None:
                continue
            own = {k: v for k, v in parsed[0].items() if k != "desc"}
            free = () if "space" in entities else ("space", "res")
            if all(entities.get(k) == v for k, v in own.items() if k not in free):
                fits[path] = len(own)
        best = [path for path, depth in fits.items() if depth == max(fits.values())]
        if len(best) > 1:
            raise SchemaError(
                "Several brain masks belong to the run.",
                expected="one",
                got=[path.name for path in best],
                where=recording.path,
                fix="pass mask=path, or mask=None for volumes",
            )
        if best:
            return best[0]
    return None
