"""File names of BIDS data sets: entities, queries, and which sidecars apply to a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders._text import read_json

__all__ = ["ENTITIES", "Recording", "find_recordings", "is_bids", "merged_json", "nearest", "parse_name"]

#: Entities in the order of BIDS file names, by their long names in queries.
ENTITIES = {
    "subject": "sub", "session": "ses", "task": "task", "acquisition": "acq", "ceagent": "ce", "reconstruction": "rec",
    "direction": "dir", "run": "run", "echo": "echo", "part": "part", "recording": "recording", "processing": "proc",
    "hemisphere": "hemi", "space": "space", "split": "split", "resolution": "res", "density": "den",
    "description": "desc",
}  # fmt: skip
_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")
_VALUE = re.compile(r"[A-Za-z0-9]+")
#: Folder -> (suffix of its recordings, modality).
_FOLDERS = {"eeg": "eeg", "ieeg": "ieeg", "meg": "meg", "func": "bold"}
MODALITIES = {"eeg": "eeg", "ieeg": "ieeg", "meg": "meg", "func": "fmri"}
_EXTENSIONS = {
    "eeg": (".vhdr", ".edf", ".bdf", ".set", ".fif"),
    "ieeg": (".vhdr", ".edf", ".bdf", ".set", ".fif"),
    "meg": (".fif", ".ds", ".sqd", ".con"),
    "bold": (".nii", ".nii.gz"),
}


@dataclass(frozen=True)
class Recording:
    """One recording of a data set: its file, its entities and its modality."""

    path: Path
    entities: Mapping[str, str]
    modality: str


def is_bids(folder: Path) -> bool:
    """Tell whether a folder is the root of a BIDS data set."""
    if not folder.is_dir():
        return False
    return (folder / "dataset_description.json").is_file() or any(
        (p / s).is_dir() for p in folder.glob("sub-*") for s in _FOLDERS
    )


def parse_name(name: str) -> tuple[dict[str, str], str, str] | None:
    """Split a BIDS file name into entities, suffix and extension; None where it is not one.

    Examples
    --------
    >>> parse_name("sub-01_task-rest_run-2_bold.nii.gz")
    ({'sub': '01', 'task': 'rest', 'run': '2'}, 'bold', '.nii.gz')
    """
    stem, dot, extension = name.partition(".")
    *pairs, suffix = stem.split("_")
    entities: dict[str, str] = {}
    for pair in pairs:
        match = _ENTITY.fullmatch(pair)
        if match is None or match[1] in entities:
            return None
        entities[match[1]] = match[2]
    return (entities, suffix, dot + extension) if _VALUE.fullmatch(suffix) else None


def check_query(query: Mapping[str, Any]) -> dict[str, str]:
    """Translate long names to short ones and refuse values that cannot be part of a file name.

    Raises
    ------
    ConfigError
        If an entity is unknown or its value is not letters and digits.
    """
    wanted: dict[str, str] = {}
    for name, value in query.items():
        if value is None:
            continue
        key = ENTITIES.get(name, name)
        if key not in ENTITIES.values():
            raise ConfigError("Unknown BIDS entity.", expected=", ".join(ENTITIES), got=name)
        text = str(value).removeprefix(f"{key}-")
        if not _VALUE.fullmatch(text):
            raise ConfigError(
                f"Not a value of a BIDS entity: {name}.", expected="letters and digits", got=str(value), where=name
            )
        wanted[key] = text
    return wanted


def find_recordings(root: Path, query: Mapping[str, Any], modality: str | None) -> list[Recording]:
    """List the recordings of a data set that fit a query.

    Parameters
    ----------
    root : Path
        Folder with ``sub-*`` folders.
    query : mapping
        Entity (long or short name) -> value, or None for any.
    modality : {'eeg', 'ieeg', 'meg', 'fmri'} or None
        Kind of recording.

    Returns
    -------
    list of Recording
        Sorted by file name.

    Raises
    ------
    ConfigError
        If the query is not valid.
    IntegrityError
        If the folder is missing.
    SchemaError
        If nothing fits; with what there is.
    """
    wanted = check_query(query)
    if modality is not None and modality not in MODALITIES.values():
        raise ConfigError("Unknown modality.", expected=", ".join(MODALITIES.values()), got=modality)
    if not root.is_dir():
        raise IntegrityError("There is no such folder.", got=str(root), where=root.parent)
    everything = _scan(root)
    found = [
        r
        for r in everything
        if modality in (None, r.modality) and all(_same(r.entities.get(k), v) for k, v in wanted.items())
    ]
    if not found:
        what = {k: sorted({r.entities[k] for r in everything if k in r.entities}) for k in [*wanted, "sub"]}
        what["modality"] = sorted({r.modality for r in everything})
        raise SchemaError(
            "No recording of the data set fits.",
            expected=" ".join(f"{k}-{v}" for k, v in wanted.items()) + (f" ({modality})" if modality else ""),
            got=what if everything else "no recordings at all in sub-*/[ses-*/]{eeg,ieeg,meg,func}",
            where=root,
        )
    return found


def _same(have: str | None, wanted: str) -> bool:
    if have is None:
        return False
    return have == wanted or (have.isdigit() and wanted.isdigit() and int(have) == int(wanted))


def _scan(root: Path) -> list[Recording]:
    found = []
    for folder in sorted([*root.glob("sub-*"), *root.glob("sub-*/ses-*")]):
        for kind, suffix in _FOLDERS.items():
            for path in sorted((folder / kind).glob(f"*_{suffix}.*")):
                parsed = parse_name(path.name)
                if parsed is None or parsed[1] != suffix or parsed[2] not in _EXTENSIONS[suffix]:
                    continue
                # MNE follows a split FIF file from its first part.
                if parsed[0].get("split", "1").lstrip("0") in ("1", ""):
                    found.append(Recording(path, parsed[0], MODALITIES[kind]))
    return found


def _applies(
    path: Path, recording: Recording, suffix: str, extension: str, extra: Iterable[str]
) -> dict[str, str] | None:
    parsed = parse_name(path.name)
    if parsed is None or parsed[1:] != (suffix, extension):
        return None
    entities = {k: v for k, v in parsed[0].items() if k not in extra}
    return parsed[0] if all(recording.entities.get(k) == v for k, v in entities.items()) else None


def _levels(root: Path, recording: Recording) -> list[Path]:
    """Folders from that of the file up to the root."""
    levels = [recording.path.parent]
    while levels[-1] != root and levels[-1].parent != levels[-1]:
        levels.append(levels[-1].parent)
    return levels


def nearest(
    root: Path, recording: Recording, suffix: str, extension: str = ".tsv", *, extra: Iterable[str] = ()
) -> list[tuple[Path, dict[str, str]]]:
    """Find the sidecars of the nearest folder that has any.

    Parameters
    ----------
    root : Path
        Root of the data set.
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
    for folder in _levels(root, recording):
        fits = [
            (path, entities)
            for path in sorted(folder.glob(f"*{suffix}{extension}"))
            if (entities := _applies(path, recording, suffix, extension, extra)) is not None
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
            return best
    return []


def merged_json(root: Path, recording: Recording, suffix: str) -> dict[str, Any]:
    """Merge the JSON sidecars of a recording, the nearer over the farther (the inheritance principle)."""
    merged: dict[str, Any] = {}
    for folder in reversed(_levels(root, recording)):
        fits = [
            (len(entities), path)
            for path in folder.glob(f"*{suffix}.json")
            if (entities := _applies(path, recording, suffix, ".json", ())) is not None
        ]
        for _, path in sorted(fits):
            merged |= read_json(path)
    return merged
