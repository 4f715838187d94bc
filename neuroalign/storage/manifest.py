"""The manifest of a finished folder: which files belong to it, how long they are, and their sha256.

It is written last. A folder without a manifest is not finished.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from neuroalign._version import __version__
from neuroalign.errors import ConfigError, IntegrityError
from neuroalign.storage import atomic, journal
from neuroalign.storage.journal import MANIFEST
from neuroalign.storage.keys import sha256_file

__all__ = ["MANIFEST", "VERIFY_LEVELS", "Verify", "check", "extend_manifest", "verify", "write_manifest"]

#: 1: numbers as they are. 2: values packed in integers, which earlier versions do not unpack.
SCHEMA_VERSION = 2
Verify = Literal["full", "sizes", "none"]
VERIFY_LEVELS: tuple[Verify, ...] = ("full", "sizes", "none")


def write_manifest(
    folder: str | os.PathLike[str],
    *,
    seed: int | None = None,
    inputs: Iterable[str | os.PathLike[str]] | Mapping[str, str] = (),
    schema_version: int = 1,
    **extra: Any,
) -> dict[str, Any]:
    """Write the manifest of a folder whose files are all there.

    Parameters
    ----------
    folder : path-like
        The folder. Files that begin with a dot are left out.
    seed : int, optional
        The seed behind its content.
    inputs : iterable of paths, or mapping of name to sha256
        What it was made from. Paths are hashed; only their last part is stored.
    schema_version : int
        The oldest version of the format that has all that is in it.
    **extra : object
        Further JSON-safe entries.

    Returns
    -------
    dict
        The manifest as written.
    """
    folder = Path(folder)
    content: dict[str, Any] = {
        "schema_version": schema_version,
        "created_by": _versions(),
        "seed": seed,
        "inputs": _hashes(inputs),
        **extra,
        "files": _entries(folder),
    }
    return _write(folder, content)


def extend_manifest(
    staged: Path,
    earlier: Mapping[str, Any],
    *,
    inputs: Iterable[str | os.PathLike[str]] | Mapping[str, str] = (),
    **changes: Any,
) -> dict[str, Any]:
    """Write the manifest of a folder to which staged files are about to be added.

    Parameters
    ----------
    staged : pathlib.Path
        The new and changed files; their manifest is written among them.
    earlier : mapping
        The manifest so far.
    inputs : iterable of paths, or mapping of name to sha256
        What the addition was made from.
    **changes : object
        Further entries that change.

    Returns
    -------
    dict
        The manifest as written. ``origin`` is the checksum of the first one.
    """
    content: dict[str, Any] = {
        **{key: value for key, value in earlier.items() if key != "checksum"},
        "created_by": _versions(),
        "inputs": {**earlier["inputs"], **_hashes(inputs)},
        "origin": earlier.get("origin", earlier["checksum"]),
        **changes,
    }
    content["files"] = dict(sorted({**earlier["files"], **_entries(staged)}.items()))
    return _write(staged, content)


def _write(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    content["checksum"] = _checksum(content)
    # in place: the folder is usually published as a whole, and a cut manifest fails its own checksum
    atomic.write_file(folder / MANIFEST, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return content


def _hashes(inputs: Iterable[str | os.PathLike[str]] | Mapping[str, str]) -> dict[str, str]:
    return dict(inputs) if isinstance(inputs, Mapping) else {Path(p).name: sha256_file(p) for p in inputs}


def _entries(folder: Path) -> dict[str, list[Any]]:
    return {name: [(folder / name).stat().st_size, sha256_file(folder / name)] for name in _files(folder)}


def _versions() -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in ("numpy", "xarray", "zarr")}
    return {"neuroalign": __version__, "python": platform.python_version(), **packages}


def _files(folder: Path) -> list[str]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if not n.startswith(".")]
        found += [Path(parent, n).relative_to(folder).as_posix() for n in names if not n.startswith(".")]
    return sorted(name for name in found if name != MANIFEST)


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def verify(folder: str | os.PathLike[str], level: Verify = "sizes") -> dict[str, Any]:
    """Check a finished folder against its manifest.

    Parameters
    ----------
    folder : path-like
        The folder.
    level : {"sizes", "full", "none"}
        ``sizes``: every file is there and has its length, and the small metadata files have their sha256; ``full``:
        every file has its sha256; ``none``: only the manifest itself is checked.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    IntegrityError
        If the folder has no manifest (it is not finished), or a file is missing, cut or changed.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_text("hello")
    >>> _ = write_manifest(folder, seed=1)
    >>> verify(folder, "full")["files"]["a.txt"][0]
    5
    """
    return journal.consistent(Path(folder), lambda: check(Path(folder), level))


def check(folder: Path, level: Verify) -> dict[str, Any]:
    """As `verify`, for callers that see to it themselves that nothing is added meanwhile."""
    if level not in VERIFY_LEVELS:
        raise ConfigError("Unknown level of verification.", expected=" | ".join(VERIFY_LEVELS), got=level)
    content = _read(folder)
    if level != "none":
        for name, (size, sha256) in content["files"].items():
            _check_file(folder / name, size, sha256 if level == "full" or name.endswith(".json") else None)
    return content


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IntegrityError(
            "This is not a finished result: it has no manifest.",
            expected=f"a folder with {MANIFEST}",
            got="nothing there" if not folder.exists() else "a folder or file without it",
            where=folder,
            fix="check the path, or make the result again",
        ) from error
    try:
        content = json.loads(raw)
        intact = content["checksum"] == _checksum(content) and all(map(_entry_is_sane, content["files"].items()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, "a manifest", f"{len(raw)} bytes that are not one") from error
    if not intact:
        raise _damaged(path, "a manifest with its own checksum", "another checksum")
    if content["schema_version"] > SCHEMA_VERSION:
        raise IntegrityError(
            "This was written by a newer neuroalign.",
            expected=f"schema version {SCHEMA_VERSION} or older (this is neuroalign {__version__})",
            got=f"schema version {content['schema_version']}",
            where=folder,
            fix="pip install --upgrade neuroalign",
        )
    return content


def _entry_is_sane(item: tuple[str, list[Any]]) -> bool:
    name, (size, sha256) = item
    parts = PurePosixPath(name)
    return not parts.is_absolute() and ".." not in parts.parts and isinstance(size, int) and len(sha256) == 64


def _damaged(path: Path, expected: str, got: str) -> IntegrityError:
    return IntegrityError(
        "A stored result is damaged.", expected=expected, got=got, where=path, fix="restore it or make it again"
    )


def _check_file(path: Path, size: int, sha256: str | None) -> None:
    try:
        length = path.stat().st_size
    except OSError as error:
        raise _damaged(path, f"a file of {size} bytes", "no file") from error
    if length != size:
        raise _damaged(path, f"{size} bytes", f"{length} bytes")
    if sha256 is not None and (found := sha256_file(path)) != sha256:
        raise _damaged(path, f"sha256 {sha256}", f"sha256 {found}")
