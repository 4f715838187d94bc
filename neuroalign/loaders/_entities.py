"""Entities of BIDS file names: parse them, check a query for them, compare both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neuroalign.errors import ConfigError

__all__ = ["ENTITIES", "Query", "check_query", "parse_name", "same_value"]

#: Entities in the order of BIDS file names, by their long names in queries.
ENTITIES = {
    "subject": "sub", "session": "ses", "task": "task", "acquisition": "acq", "ceagent": "ce", "reconstruction": "rec",
    "direction": "dir", "run": "run", "echo": "echo", "part": "part", "recording": "recording", "processing": "proc",
    "hemisphere": "hemi", "space": "space", "split": "split", "resolution": "res", "density": "den",
    "description": "desc",
}  # fmt: skip
_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")
_VALUE = re.compile(r"[A-Za-z0-9]+")


def parse_name(name: str) -> tuple[dict[str, str], str, str] | None:
    """Split a BIDS file name into entities, suffix and extension; None where it is not one.

    Examples
    --------
    >>> parse_name("sub-01_task-rest_run-2_bold.nii.gz")
    ({'sub': '01', 'task': 'rest', 'run': '2'}, 'bold', '.nii.gz')
    """
    stem, dot, extension = name.partition(".")
    *pairs, suffix = stem.split("_")
    suffix = suffix.removeprefix("desc-") if suffix == "desc-events" else suffix  # as fMRI derivatives wrote them
    entities: dict[str, str] = {}
    for pair in pairs:
        match = _ENTITY.fullmatch(pair)
        if match is None or match[1] in entities:
            return None
        entities[match[1]] = match[2]
    return (entities, suffix, dot + extension) if _VALUE.fullmatch(suffix) else None


def check_query(query: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Translate long names to short ones and refuse values that cannot be part of a file name.

    Parameters
    ----------
    query : mapping
        Entity (long or short name) -> value, several values, or None for any.

    Returns
    -------
    dict
        Short name -> values.

    Raises
    ------
    ConfigError
        If an entity is unknown or given twice, or its value is not letters and digits.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for name, value in query.items():
        if value is None:
            continue
        key = ENTITIES.get(name, name)
        if key not in ENTITIES.values():
            raise ConfigError("Unknown BIDS entity.", expected=", ".join(ENTITIES), got=name)
        if key in wanted:
            raise ConfigError("An entity is given twice.", expected="one value, or a list", got=name)
        several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
        wanted[key] = tuple(_check_value(name, key, v) for v in (value if several else [value]))
        if not wanted[key]:
            raise ConfigError("No value for an entity.", expected="a value, or None for all", got=value, where=name)
    return wanted


def _check_value(name: str, key: str, value: Any) -> str:
    text = str(value).removeprefix(f"{key}-")
    if isinstance(value, bool) or not _VALUE.fullmatch(text):
        raise ConfigError(
            f"Not a value of a BIDS entity: {name}.", expected="letters and digits", got=str(value), where=name
        )
    return text


class Query:
    """Compares entities with what is wanted.

    Parameters
    ----------
    wanted : mapping
        As from `check_query`.
    there : sequence of mapping
        Entities of all files in question.
    """

    def __init__(self, wanted: Mapping[str, Sequence[str]], there: Sequence[Mapping[str, str]]) -> None:
        self.wanted = wanted
        self._known = {key: {entities.get(key) for entities in there} for key in wanted}

    def fits(self, entities: Mapping[str, str]) -> bool:
        """Whether a file is wanted; ``1`` means ``01`` too, where no file has ``1``."""
        return all(
            (have := entities.get(key)) in values
            or any(same_value(have, v) for v in values if v not in self._known[key])
            for key, values in self.wanted.items()
        )

    def missing(self, found: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
        """Values that no file has."""
        have = {key: {entities.get(key) for entities in found} for key in self.wanted}
        lost = {
            k: [v for v in values if not any(same_value(h, v) for h in have[k])] for k, values in self.wanted.items()
        }
        return {key: values for key, values in lost.items() if values}


def same_value(have: str | None, wanted: str) -> bool:
    """Compare values of an entity, numbers without their leading zeros."""
    if have is None:
        return wanted == "none"
    numbers = have.isdecimal() and wanted.isdecimal()
    return have == wanted or (numbers and have.lstrip("0") == wanted.lstrip("0"))
