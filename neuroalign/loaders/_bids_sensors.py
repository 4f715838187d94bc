"""Sensor recordings of a BIDS data set, with what their sidecars say about channels and positions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign import schema
from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.loaders._labels import MEG_TYPES, Request
from neuroalign.loaders._layout import Recording, sensor_file
from neuroalign.loaders._sensors import read_sensors
from neuroalign.loaders._sidecars import nearest, number_in
from neuroalign.loaders._study import Study
from neuroalign.loaders._text import read_json
from neuroalign.loaders.events import read_tsv
from neuroalign.loaders.ieeg import BIDS_TYPES, IEEG_TYPES, apply_table, contact_coords

__all__ = ["read_sensor_run"]

_NOT_IN_VOLTS = ("gsr", "temperature", "resp", "pupil")


def read_sensor_run(
    study: Study, recording: Recording, sidecar: Mapping[str, Any], space: str | None, options: dict[str, Any]
) -> xr.Dataset:
    """Read an EEG, iEEG or MEG file with its channels.tsv, electrodes.tsv and coordsystem.json.

    Parameters
    ----------
    study : Study
        The data set.
    recording : Recording
        A recording in it.
    sidecar : mapping
        Its merged JSON sidecars.
    space : str or None
        Space of the electrode positions, where there are several.
    options : dict
        Options of the reader.

    Returns
    -------
    Dataset
        As from `neuroalign.loaders.read_eeg`.

    Raises
    ------
    IntegrityError
        If the file is damaged, or shorter than its sidecar says.
    SchemaError
        If sidecars are wrong or contradict the file.
    """
    channels = nearest(study, recording, "channels")
    table = read_tsv(channels[0][0], required=("name", "type", "units"), text=("name", "units")) if channels else None
    has_events = bool(nearest(study, recording, "events")) and recording.suffix not in ("epo", "ave")
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
    path = sensor_file(recording) if recording.suffix == recording.modality else recording.path
    ds = read_sensors(path, request)
    if recording.suffix not in ("epo", "ave"):
        _check_sidecar(recording, ds, sidecar, allow_truncated=request.allow_truncated)
    if recording.modality == "ieeg":
        ds = ds.assign_coords({k: v for k, v in contact_coords(ds).items() if k not in ds.coords})
    if table is not None:
        ds = _with_notes(apply_table(_with_types(ds, table), table), table, ("status_description", "group"))
        ds = schema.stamp(ds, "apply_channels", sources=[channels[0][0]])
    return _with_sidecar(_with_positions(study, recording, ds, space), sidecar)


def _with_types(ds: xr.Dataset, table: pd.DataFrame) -> xr.Dataset:
    """Name skin, temperature, breath and pupil, which readers call misc for not being in volts."""
    told = {n: BIDS_TYPES.get(str(t).upper()) for n, t in zip(table["name"], table["type"], strict=True)}
    kinds = [
        told[name] if kind == "misc" and told.get(name) in _NOT_IN_VOLTS else kind
        for name, kind in zip(ds["channel"].values.tolist(), ds["channel_type"].values.tolist(), strict=True)
    ]
    return ds.assign_coords(channel_type=("channel", np.array(kinds, dtype=object)))


def _with_notes(ds: xr.Dataset, table: pd.DataFrame, names: Iterable[str], prefix: str = "") -> xr.Dataset:
    """Take more columns of a table of channels as coordinates, where they say anything."""
    rows = table.set_index("name").reindex(ds["channel"].values)
    for name in names:
        if name not in rows or not rows[name].notna().any():
            continue
        values = rows[name].to_numpy()
        if values.dtype == object:
            values = np.array(["" if v is None or v != v else str(v) for v in values], dtype=object)
        ds = ds.assign_coords({f"{prefix}{name}": ("channel", values)})
    return ds


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
    sfreq, told = ds.attrs["sfreq"], number_in(sidecar, "SamplingFrequency")
    if told is not None and not math.isclose(told, sfreq, rel_tol=1e-3):
        raise SchemaError(
            "File and sidecar disagree about the sampling rate.",
            expected=f"SamplingFrequency {told:g} Hz",
            got=f"{sfreq:g} Hz",
            where=recording.path,
        )
    length, told = ds.sizes["time"] / sfreq, number_in(sidecar, "RecordingDuration")
    # Durations are rounded in many data sets, mostly to seconds.
    if told is not None and length < told - max(1.0, 0.01 * told) and not allow_truncated:
        raise IntegrityError(
            "The recording is shorter than its sidecar says.",
            expected=f"RecordingDuration {told:g} s",
            got=f"{length:g} s",
            where=recording.path,
            fix="copy or download it again; allow_truncated=True reads what is there",
        )


def _with_sidecar(ds: xr.Dataset, sidecar: Mapping[str, Any]) -> xr.Dataset:
    line = number_in(sidecar, "PowerLineFrequency")
    if line is not None:
        ds = ds.assign_attrs(line_freq=line)
    reference = sidecar.get("iEEGReference", sidecar.get("EEGReference"))
    if "reference" not in ds.coords and isinstance(reference, str) and reference not in ("", "n/a"):
        values = [reference if kind in ("eeg", *IEEG_TYPES) else "" for kind in ds["channel_type"].values]
        ds = ds.assign_coords(reference=("channel", np.array(values, dtype=object)))
    return ds


def _with_positions(study: Study, recording: Recording, ds: xr.Dataset, space: str | None) -> xr.Dataset:
    """Take electrode positions, in m, in the frame that coordsystem.json names."""
    files = nearest(study, recording, "electrodes", extra=("space",))
    if not files or recording.modality == "meg":
        return ds
    path, entities = _choose_space(recording, files, space)
    systems = nearest(study, recording, "coordsystem", ".json", extra=("space",))
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
    ds = _with_notes(ds, table, [c for c in table.columns if c not in ("name", "x", "y", "z")], prefix="electrode_")
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
