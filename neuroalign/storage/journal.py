"""Add files to a finished store, all at once as far as anybody can tell.

New and changed files are written under a hidden folder of the store. One rename then puts a record of them in place:
from that moment the addition counts, and whoever opens the store next finishes it if its writer died. The files are
moved to their names, the manifest last, and the record is removed. A reader looks at record and manifest before and
after it reads, and reads again when they changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from neuroalign.errors import IntegrityError
from neuroalign.storage import atomic, locks

__all__ = ["LOCK", "Lineage", "commit", "consistent", "finish", "stage", "stamp"]

MANIFEST = "manifest.json"
RECORD = ".append.json"
LOCK = ".lock"
WAIT_SECONDS = 60.0
PATIENCE_SECONDS = 0.5
_STAGED = re.compile(r"\.append\.[0-9a-f]{32}\.partial")

Stamp = tuple[int, int, int] | None
T = TypeVar("T")


def stamp(folder: Path) -> Stamp:
    """Identity of the manifest of a folder: changes with every commit."""
    try:
        info = os.stat(os.path.join(folder, MANIFEST))
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size


def consistent(folder: Path, read: Callable[[], T]) -> T:
    """Read one state of a store while another process may add to it.

    Parameters
    ----------
    folder : pathlib.Path
        The store.
    read : callable
        Reads what is wanted. Its result counts only if nothing was added meanwhile; neither does its error.

    Returns
    -------
    object
        What `read` gave.

    Raises
    ------
    IntegrityError
        If `read` raised it, or additions never stop.
    """
    end = time.monotonic() + WAIT_SECONDS
    while True:
        if _record_stays(folder):
            with locks.hold(folder / LOCK, timeout=WAIT_SECONDS, what="this store"):
                finish(folder)
        before, failure = stamp(folder), None
        try:
            result = read()
        except IntegrityError as error:
            failure = error
        if not (folder / RECORD).exists() and stamp(folder) == before:  # in this order
            if failure is not None:
                raise failure
            return result
        if time.monotonic() > end:
            raise IntegrityError(
                "Other processes kept adding to the store.", where=folder, fix="open it when they are done"
            ) from failure


def _record_stays(folder: Path) -> bool:
    """Give a writer at work a moment to move its files; a record that stays may be that of a dead one."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while (folder / RECORD).exists():
        if time.monotonic() > patience:
            return True
        time.sleep(0.01)
    return False


def stage(folder: Path) -> Path:
    """Make the hidden folder for new files; remove those of writers that died. The caller holds the lock."""
    for name in os.listdir(folder):
        if _STAGED.fullmatch(name):
            atomic.discard(folder / name)
    staged = folder / f".append.{uuid.uuid4().hex}.partial"
    atomic.operation_hook("open", staged)
    staged.mkdir()
    return staged


def commit(folder: Path, staged: Path, before: Stamp) -> None:
    """Make staged files part of the store. The caller holds the lock.

    Parameters
    ----------
    folder : pathlib.Path
        The store.
    staged : pathlib.Path
        What `stage` gave, with the new files at their future relative paths, a manifest among them.
    before : tuple
        `stamp` of the store that the new manifest continues.

    Raises
    ------
    IntegrityError
        If the store was replaced in the meantime.
    """
    names = [p.relative_to(staged).as_posix() for p in staged.rglob("*") if p.is_file()]
    # chunks, then the metadata that speaks of them from the inside out, then the manifest
    names.sort(key=lambda n: (n == MANIFEST, n.endswith("zarr.json"), -n.count("/"), n))
    atomic.flush(staged)
    if stamp(folder) != before:
        raise IntegrityError("The store was replaced while it was added to.", where=folder, fix="append again")
    atomic.write_file(staged / RECORD, json.dumps({"staged": staged.name, "files": names}).encode())
    atomic.fsync(staged / RECORD)
    atomic.replace(staged / RECORD, folder / RECORD)  # from here on it counts
    atomic.fsync(folder)
    finish(folder)


def finish(folder: Path) -> None:
    """Move the files of a committed addition to their names. The caller holds the lock.

    Parameters
    ----------
    folder : pathlib.Path
        The store. Nothing happens without a record.

    Raises
    ------
    IntegrityError
        If the record is damaged, or the store cannot be written.
    """
    record = folder / RECORD
    try:
        content = json.loads(record.read_bytes())
        staged, names = folder / content["staged"], content["files"]
        sane = _STAGED.fullmatch(staged.name) and all(map(_is_inside, names))
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sane = False
    if not sane:
        raise IntegrityError("The record of an addition is damaged.", where=record, fix="restore the store")
    try:
        touched = {folder}
        for name in names:
            if (staged / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                atomic.replace(staged / name, folder / name)
            touched |= {folder / parent for parent in PurePosixPath(name).parents}
        for place in sorted(touched):
            atomic.fsync(place)
        atomic.remove(record)
    except OSError as error:
        raise IntegrityError(
            f"Something was added to this store but could not be put in place ({error.strerror}).",
            where=folder,
            fix="open the store once where it can be written",
        ) from error
    shutil.rmtree(staged, ignore_errors=True)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and name == path.as_posix() and "\\" not in name


@dataclass
class Lineage:
    """The store that an array was opened from. It may grow meanwhile, but not become another.

    Attributes
    ----------
    folder : pathlib.Path
        The store.
    origin : str
        Checksum of the manifest that it began with.
    seen : tuple or None
        `stamp` when it was last looked at.
    """

    folder: Path
    origin: str
    seen: Stamp

    def check(self) -> None:
        """Refuse to go on when another store stands at the path.

        Raises
        ------
        IntegrityError
            If it was replaced or removed.
        """
        now = stamp(self.folder)
        if now == self.seen:
            return
        try:
            content = json.loads((self.folder / MANIFEST).read_bytes())
            origin = content.get("origin", content["checksum"])
        except (OSError, ValueError, KeyError, AttributeError):
            origin = None
        if origin != self.origin:
            raise IntegrityError(
                "The store was replaced or removed after it was opened.", where=self.folder, fix="open it again"
            )
        self.seen = now
