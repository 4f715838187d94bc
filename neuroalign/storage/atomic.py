"""Write whole results or none: a temporary sibling, fsync, rename.

Every low-level operation that changes the disk is announced to `operation_hook` just before it happens, so that a
test can let the k-th one fail, for every k, and look at what is left.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neuroalign.errors import IntegrityError

__all__ = [
    "adopt",
    "discard",
    "flush",
    "fsync",
    "publish",
    "recover",
    "refuse_foreign",
    "remove",
    "replace",
    "sweep",
    "translate",
    "write_bytes",
    "write_file",
    "write_json",
    "write_text",
]

STALE_SECONDS = 24 * 3600.0
_TEMPORARY = re.compile(r"^\.(?P<name>.+)\.[0-9a-f]{32}\.(?P<kind>partial|old)$")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


#: A folder with one of these is an earlier result and may be replaced.
OURS = ("manifest.json", "model.json")


def _no_hook(operation: str, path: Path) -> None:
    """Do nothing: the hook outside of tests."""


operation_hook: Callable[[str, Path], None] = _no_hook


def replace(source: Path, target: Path) -> None:
    """Rename a file or folder, onto a file where there is one."""
    operation_hook("replace", target)
    os.replace(source, target)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds."""
    operation_hook("remove", path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Push a file, or the names in a folder, to the disk."""
    operation_hook("fsync", path)
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder to flush it
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Write a file in place, inside a folder that is not published yet.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    data : bytes
        Its content.
    """
    operation_hook("open", path)
    with path.open("wb") as file:
        operation_hook("write", path)
        file.write(data)


def flush(path: Path) -> None:
    """Push a file, or every file and folder under a folder, to the disk."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                fsync(Path(folder, name))
            fsync(Path(folder))
    else:
        fsync(path)


@contextmanager
def publish(path: str | os.PathLike[str], *, needed: int | None = None) -> Iterator[Path]:
    """Write a file or folder under a temporary name, and give it its own name only when it is whole.

    The block creates a file or a folder at the path that it is given. When the block ends well, everything is
    flushed to the disk and renamed to `path`; an earlier result is replaced in that moment and never changed in
    place. When the block raises, the temporary is removed and the earlier result stays as it was. Temporaries that
    a killed process left more than 24 hours ago are removed on the way.

    Parameters
    ----------
    path : path-like
        Where the result goes. Missing parent folders are made.
    needed : int, optional
        Bytes before compression, where known: named in the error when the disk is full.

    Yields
    ------
    pathlib.Path
        A sibling ``.{name}.{uuid}.partial`` that does not exist yet.

    Raises
    ------
    IntegrityError
        If the disk is full, over quota, read-only or failing, if the block wrote nothing, or if the path is a folder
        that neuroalign did not write.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with publish(folder / "scores.txt") as temporary:
    ...     _ = temporary.write_text("0.7")
    >>> [p.name for p in folder.iterdir()]
    ['scores.txt']
    """
    target = Path(os.path.abspath(path))
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    refuse_foreign(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        yield temporary
        if not (temporary.exists() or temporary.is_symlink()):
            raise IntegrityError("Nothing was written.", expected=f"a file or folder at {temporary.name}", where=target)
        if target.exists() and target.is_dir() != temporary.is_dir():
            kinds = ("folder", "file") if target.is_dir() else ("file", "folder")
            raise IntegrityError(
                f"A {kinds[0]} stands where a {kinds[1]} should go.", where=target, fix="choose another path"
            )
        flush(temporary)
        _swap_in(temporary, target)
    except OSError as error:
        discard(temporary)
        translated = translate(error, target, needed)
        if translated is error:
            raise
        raise translated from error
    except BaseException:
        discard(temporary)
        raise


def refuse_foreign(target: Path) -> None:
    """Refuse to replace a folder that is not an earlier result: nothing of the user's is ever deleted."""
    if not target.is_dir() or any((target / name).is_file() for name in OURS):
        return
    found = sorted(p.name for p in target.iterdir())
    if found:
        raise IntegrityError(
            "The folder holds something else and is not replaced.",
            expected=f"a new or empty folder, or an earlier result (with {' or '.join(OURS)})",
            got=found[:5],
            where=target,
            fix="choose another path, or remove the folder yourself",
        )


def adopt(folder: Path, target: Path) -> None:
    """Give a finished folder beside the target its name. Unlike in `publish`, the folder stays when that fails.

    Parameters
    ----------
    folder : pathlib.Path
        The folder, on the same disk.
    target : pathlib.Path
        Its name from now on; an earlier result is replaced.

    Raises
    ------
    IntegrityError
        If the disk is full, read-only or failing, or something else stands at the target.
    """
    refuse_foreign(target)
    try:
        flush(folder)
        _swap_in(folder, target)
    except OSError as error:
        translated = translate(error, target, None)
        if translated is error:
            raise
        raise translated from error


def discard(temporary: Path) -> None:
    """Remove a temporary file or folder, whatever state it is in."""
    absent = 0
    for _ in range(100):  # a writer's threads may still be closing their files, or about to make one
        with suppress(OSError):  # a disk that fails must not hide the first error
            if temporary.exists() or temporary.is_symlink():
                remove(temporary)
        absent = absent + 1 if not temporary.exists() else 0
        if absent == 2:
            return
        time.sleep(0.02)


def _swap_in(temporary: Path, target: Path) -> None:
    """Rename onto the target; a folder (or a change of kind) goes aside first, and comes back if that fails."""
    for _ in range(100):  # another process may publish the same name between two steps
        if target.is_dir() or (target.exists() and temporary.is_dir()):
            aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
            try:
                replace(target, aside)
            except FileNotFoundError:
                continue
        else:
            aside = None
        try:
            replace(temporary, target)
        except OSError as error:
            occupied = error.errno in _OCCUPIED and target.is_dir()
            if aside is not None and not target.exists():
                os.replace(aside, target)
            elif aside is not None and occupied:
                remove(aside)
            if occupied:
                continue
            raise
        fsync(target.parent)
        if aside is not None:
            remove(aside)
        return
    raise IntegrityError("Other processes kept writing the same result.", where=target, fix="write to another path")


def translate(error: OSError, target: Path, needed: int | None) -> OSError:
    """Turn an error of the disk into an `IntegrityError` that tells what is missing; leave others as they are."""
    if isinstance(error, IntegrityError):
        return error
    at = Path(str(error.filename)) if error.filename is not None else target
    inside = at.is_relative_to(target.parent) or target.is_relative_to(at)
    kept = "The earlier result was kept." if target.exists() else "Nothing was left under the final name."
    if error.errno in _NO_SPACE:
        return IntegrityError(
            f"The disk is full or a quota or size limit was reached while writing. {kept}",
            expected="room for the result" if needed is None else f"room for {needed} bytes before compression",
            got=f"{_free(target)} bytes free ({error.strerror})",
            where=target,
            fix="free some space or write to another disk, then run again",
        )
    if error.errno == errno.EIO:
        return IntegrityError(f"The disk failed while writing ({error.strerror}). {kept}", where=target)
    if error.errno in _NOT_WRITABLE and inside:
        return IntegrityError(
            f"This place cannot be written ({error.strerror}). {kept}",
            expected="a folder with write permission",
            where=target,
            fix="choose another output folder",
        )
    return error


def _free(target: Path) -> int:
    folder = next(p for p in (target, *target.parents) if p.is_dir())
    return shutil.disk_usage(folder).free


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left beside a path more than 24 hours ago.

    Parameters
    ----------
    path : path-like
        A path that was given to `publish`.
    """
    target = Path(path)
    with suppress(OSError):  # another process may sweep the same folder
        for sibling, kind in _leftovers(target):
            old = time.time() - _newest(sibling) > STALE_SECONDS
            if old and (kind == "partial" or target.exists()):
                remove(sibling)


def _leftovers(target: Path) -> Iterator[tuple[Path, str]]:
    with os.scandir(target.parent) as entries:
        for entry in entries:
            match = _TEMPORARY.match(entry.name) if entry.name.startswith(f".{target.name}.") else None
            if match is not None and match["name"] == target.name:
                yield Path(entry.path), match["kind"]


def _newest(path: Path) -> float:
    times = [path.lstat().st_mtime]
    for folder, _, names in os.walk(path):
        times += [os.lstat(os.path.join(folder, name)).st_mtime for name in names]
    return max(times)


def recover(path: str | os.PathLike[str]) -> bool:
    """Bring a result back that was moved aside by a process which died before it could put the new one in place.

    Parameters
    ----------
    path : path-like
        A path that was given to `publish`.

    Returns
    -------
    bool
        True when the path was absent and the earlier result is there again.
    """
    target = Path(path)
    if target.exists() or not target.parent.is_dir():
        return False
    aside = [sibling for sibling, kind in _leftovers(target) if kind == "old"]
    if not aside:
        return False
    replace(max(aside, key=lambda sibling: sibling.lstat().st_mtime), target)
    return True


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write bytes to a file atomically.

    Parameters
    ----------
    path : path-like
        The file.
    data : bytes
        Its content.
    """
    with publish(path, needed=len(data)) as temporary:
        write_file(temporary, data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text to a file atomically, as UTF-8 with the line ends that it has.

    Parameters
    ----------
    path : path-like
        The file.
    text : str
        Its content.
    """
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write a JSON file atomically, indented, keys in the order given.

    Parameters
    ----------
    path : path-like
        The file.
    obj : object
        Anything that `json.dumps` takes.
    """
    write_text(path, json.dumps(obj, indent=2, ensure_ascii=False) + "\n")
