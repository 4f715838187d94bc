"""Provenance as flat, JSON-safe attributes: where data came from and what was done to it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr

from neuroalign.errors import warn

T = TypeVar("T", xr.Dataset, xr.DataArray)

# Hashing a long recording would make opening it slow; above this only name and size are kept.
HASH_LIMIT = 64 * 2**20
_TRACKED = ("neuroalign", "numpy", "scipy", "xarray", "scikit-learn", "mne", "nibabel", "nilearn", "torch")


@functools.cache
def _version(package: str) -> str | None:
    if package == "neuroalign":
        from neuroalign._version import __version__

        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def describe_source(path: str | Path) -> str:
    """Name, size and (up to 64 MiB) sha256 of a file; folders by name alone."""
    path = Path(path)
    if not path.is_file():
        return json.dumps({"name": path.name})
    info = path.stat()
    entry: dict[str, Any] = {"name": path.name, "bytes": info.st_size}
    if info.st_size <= HASH_LIMIT:
        entry["sha256"] = _sha256(path, info.st_size, info.st_mtime_ns)
    return json.dumps(entry)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "tolist") and getattr(value, "size", 1000) <= 64:
        return value.tolist()
    return f"<{type(value).__name__}>"


def stamp(obj: T, step: str, *, sources: Iterable[str | Path] = (), seed: int | None = None, **params: Any) -> T:
    """Record a step in the provenance of an object.

    Parameters
    ----------
    obj : Dataset or DataArray
        The result of the step. It is not changed; a shallow copy comes back.
    step : str
        What was done, for example ``"read_eeg"``.
    sources : iterable of path
        Files that went in. Their names, sizes and sha256 are kept, not their folders.
    seed : int, optional
        The seed of the random numbers, if any were drawn.
    **params
        Parameters of the step.

    Returns
    -------
    Dataset or DataArray
        The same data with ``neuro_steps``, ``neuro_sources`` and ``neuro_versions`` in its attrs.

    Examples
    --------
    >>> import xarray as xr
    >>> history(stamp(xr.Dataset(), "scale", factor=2))["steps"]
    [{'step': 'scale', 'factor': 2}]
    """
    entry: dict[str, Any] = {"step": step, **_jsonable(params)}
    if seed is not None:
        entry["seed"] = int(seed)
    known = list(obj.attrs.get("neuro_sources", []))
    known += [text for text in map(describe_source, sources) if text not in known]
    versions = [f"{name} {version}" for name in _TRACKED if (version := _version(name))]
    steps = [*obj.attrs.get("neuro_steps", []), json.dumps(entry)]
    return obj.assign_attrs(neuro_steps=steps, neuro_sources=known, neuro_versions=versions)


def provenance(obj: Any) -> dict[str, Any]:
    """Attributes of a labelled object that say where it comes from."""
    return {name: value for name, value in obj.attrs.items() if str(name).startswith("neuro_")}


def inherit(obj: T, *parents: Any) -> T:
    """Give a result the provenance of everything that it was made from.

    Parameters
    ----------
    obj : Dataset or DataArray
        The result.
    *parents : object
        What went in; those without provenance are passed over.

    Returns
    -------
    Dataset or DataArray
        The same data with the sources, steps and notes of all parents, each once and in their order.

    Examples
    --------
    >>> import xarray as xr
    >>> parts = [stamp(xr.Dataset(), step) for step in ("left", "right")]
    >>> [entry["step"] for entry in history(inherit(xr.Dataset(), *parts))["steps"]]
    ['left', 'right']
    """
    merged = {}
    for name in ("neuro_sources", "neuro_steps", "neuro_log"):
        entries = [e for part in (*parents, obj) for e in getattr(part, "attrs", {}).get(name, [])]
        if entries:
            merged[name] = list(dict.fromkeys(entries))
    return obj.assign_attrs(merged)


def history(obj: xr.Dataset | xr.DataArray) -> dict[str, Any]:
    """Read the provenance of an object.

    Parameters
    ----------
    obj : Dataset or DataArray
        Any object of the data model.

    Returns
    -------
    dict
        ``sources`` (list of dict with name, bytes, sha256), ``steps`` (list of dict with step and parameters),
        ``versions`` (dict) and ``log`` (list of str: what was warned about).
    """
    attrs = obj.attrs
    return {
        "sources": [json.loads(text) for text in attrs.get("neuro_sources", [])],
        "steps": [json.loads(text) for text in attrs.get("neuro_steps", [])],
        "versions": dict(text.split(" ", 1) for text in attrs.get("neuro_versions", [])),
        "log": list(attrs.get("neuro_log", [])),
    }


def log(obj: T, message: str) -> T:
    """Warn about something, and keep the message with the data.

    Parameters
    ----------
    obj : Dataset or DataArray
        What it is about.
    message : str
        What is unusual, and how it was handled.

    Returns
    -------
    Dataset or DataArray
        The same data with the message in ``neuro_log``.

    Warns
    -----
    NeuroalignWarning
        Always.
    """
    warn(message, stacklevel=3)
    return obj.assign_attrs(neuro_log=[*obj.attrs.get("neuro_log", []), message])
