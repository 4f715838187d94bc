"""Which sidecars of a BIDS data set apply to a recording, and what they say together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuroalign.errors import SchemaError
from neuroalign.loaders._entities import parse_name
from neuroalign.loaders._layout import FOLDER_OF, Recording
from neuroalign.loaders._study import Study, check_link
from neuroalign.loaders._text import read_json
from neuroalign.loaders.events import read_tsv

__all__ = ["describe_study", "describe_subject", "in_raw", "merged_json", "nearest", "number_in"]

#: Words in the names of columns that tell who a person is, or when someone was seen.
_PERSONAL = re.compile(
    r"names?|firstname|lastname|surname|initials|birth|birthday|birthdate|dob|date|acq|operator|experimenter|phone"
    r"|e?mail|address"
)


def _applies(path: Path, recording: Recording, suffix: str, extensions: Iterable[str], extra: Iterable[str]) -> Any:
    parsed = parse_name(path.name)
    if parsed is None or parsed[1] != suffix or parsed[2] not in extensions:
        return None
    entities = {k: v for k, v in parsed[0].items() if k not in extra}
    return parsed[0] if all(recording.entities.get(k) == v for k, v in entities.items()) else None


def _levels(root: Path, recording: Recording) -> list[Path]:
    """Folders from that of the file up to the root."""
    levels = [recording.path.parent]
    while levels[-1] != root and levels[-1].parent != levels[-1]:
        levels.append(levels[-1].parent)
    return levels


def in_raw(study: Study, recording: Recording) -> tuple[Study, Recording] | None:
    """Give the place of a recording of a derivative in the raw data set, if that is known."""
    if study.raw is None:
        return None
    inside = recording.path.relative_to(study.root)
    if len(inside.parts) == 1:  # files without folders
        folders = [f"{key}-{recording.entities[key]}" for key in ("sub", "ses") if key in recording.entities]
        inside = Path(*folders, FOLDER_OF[recording.modality], inside.name)
    return replace(study, root=study.raw, raw=None), replace(recording, path=study.raw / inside)


def nearest(
    study: Study, recording: Recording, suffix: str, extension: str = ".tsv", *, extra: Iterable[str] = ()
) -> list[tuple[Path, dict[str, str]]]:
    """Find the sidecars of the nearest folder that has any.

    Parameters
    ----------
    study : Study
        The data set.
    recording : Recording
        The recording.
    suffix, extension : str
        Of the sidecar, such as ``"events"`` and ``".tsv"``.
    extra : iterable of str
        Entities that the sidecar may have and the recording not, such as ``space`` of electrodes.

    Returns
    -------
    list of (Path, dict)
        The files that fit best, with their entities: more than one only where they differ in `extra`.

    Raises
    ------
    SchemaError
        If two files apply equally.
    """
    extra = tuple(extra)
    for folder in _levels(study.root, recording):
        fits = [
            (path, entities)
            for path in sorted(folder.glob(f"*{suffix}{extension}"))
            if (entities := _applies(path, recording, suffix, (extension,), extra)) is not None
        ]
        if fits:
            depth = {p: len([k for k in e if k not in extra]) for p, e in fits}
            best = [(p, e) for p, e in fits if depth[p] == max(depth.values())]
            if len({tuple(e.get(k) for k in extra) for _, e in best}) < len(best):
                raise SchemaError(
                    "Two sidecars apply equally.",
                    expected="one file a folder",
                    got=[p.name for p, _ in best],
                    where=recording.path,
                )
            return [(check_link(study, p), e) for p, e in best]
    return []


def merged_json(study: Study, recording: Recording, suffix: str) -> dict[str, Any]:
    """Merge the JSON sidecars of a recording, the nearer over the farther (the inheritance principle)."""
    merged: dict[str, Any] = {}
    if recording.mates:  # the left hemisphere speaks for both
        recording = replace(recording, entities={**recording.entities, "hemi": "L"})
    # Surfaces have sidecars such as _bold.dtseries.json too.
    extensions = (".json", re.sub(r"\.(nii|gii|tsv)(\.gz)?$", "", recording.extension) + ".json")
    for folder in reversed(_levels(study.root, recording)):
        fits = [
            (len(entities), path)
            for path in folder.glob(f"*{suffix}*.json")
            if (entities := _applies(path, recording, suffix, extensions, ())) is not None
        ]
        for _, path in sorted(fits):
            merged |= read_json(check_link(study, path))
    return merged


def number_in(content: Mapping[str, Any], name: str) -> float | None:
    """A finite number of a JSON object; None where there is none."""
    value = content.get(name)
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if known else None  # type: ignore[arg-type]


def describe_study(study: Study) -> dict[str, Any]:
    """What dataset_description.json says, as attributes: name, version, kind, licence, DOI, and what made it."""
    path = study.root / "dataset_description.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    names = {
        "Name": "bids_name",
        "BIDSVersion": "bids_version",
        "DatasetType": "bids_type",
        "License": "bids_license",
        "DatasetDOI": "bids_doi",
    }
    attrs: dict[str, Any] = {v: content[k] for k, v in names.items() if isinstance(content.get(k), str) and content[k]}
    made = content.get("GeneratedBy", content.get("PipelineDescription", []))
    tools = [made] if isinstance(made, dict) else made if isinstance(made, list) else []
    told = [f"{t['Name']} {t.get('Version', '')}".strip() for t in tools if isinstance(t, dict) and "Name" in t]
    return attrs | ({"bids_generated_by": told} if told else {})


def describe_subject(study: Study, recording: Recording, *, keep_phi: bool) -> dict[str, Any]:
    """Columns of participants.tsv, sessions.tsv and scans.tsv for a recording, as attributes.

    Names, dates and times of people are left out unless `keep_phi`.
    """
    for place in ((study, recording), in_raw(study, recording)):
        if place is None:
            continue
        root, (own, run) = place[0].root, place
        subject = root / f"sub-{run.entities['sub']}"
        session = subject / f"ses-{run.entities['ses']}" if "ses" in run.entities else subject
        tables = {
            "participant": (root / "participants.tsv", "participant_id", f"sub-{run.entities['sub']}"),
            "session": (
                subject / f"sub-{run.entities['sub']}_sessions.tsv",
                "session_id",
                f"ses-{run.entities.get('ses')}",
            ),
            "scan": (
                session / f"{'_'.join(p.name for p in dict.fromkeys((subject, session)))}_scans.tsv",
                "filename",
                run.path.relative_to(session).as_posix() if run.path.is_relative_to(session) else "",
            ),
        }
        attrs: dict[str, Any] = {}
        for prefix, (path, key, value) in tables.items():
            if path.is_file():
                attrs |= _row(check_link(own, path), key, value, prefix, keep_phi)
        if attrs:
            return attrs
    return {}


def _row(path: Path, key: str, value: str, prefix: str, keep_phi: bool) -> dict[str, Any]:
    table = read_tsv(path, required=(key,), text=(key,))
    rows = table[table[key] == value]
    if len(rows) > 1:
        raise SchemaError("A table names the same thing twice.", expected=f"one row for {value}", where=path)
    if not len(rows):
        return {}
    kept = {}
    for name in rows.columns.drop(key):
        cell = rows[name].iloc[0]
        personal = any(map(_PERSONAL.fullmatch, re.split(r"[^a-z]+", str(name).lower())))
        if (keep_phi or not personal) and cell is not None and cell == cell:
            kept[f"{prefix}_{name}"] = cell.item() if hasattr(cell, "item") else cell
    return kept
