"""One writer at a time, among processes: a lock file and the name of who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from neuroalign.errors import IntegrityError

__all__ = ["hold"]


@contextmanager
def hold(lock: Path, *, timeout: float, what: str) -> Iterator[None]:
    """Hold a lock while the block runs. The system frees it when the process dies.

    Parameters
    ----------
    lock : pathlib.Path
        The lock file, in a folder that exists.
    timeout : float
        Seconds to wait for another holder.
    what : str
        What is locked, for the error.

    Raises
    ------
    IntegrityError
        If another process holds it for longer, or the file cannot be made.
    """
    owner = lock.with_suffix(".owner")
    guard = FileLock(lock, timeout=timeout)
    try:
        guard.acquire()
    except Timeout as error:
        raise IntegrityError(
            f"Another process holds {what} for more than {timeout:g} s.",
            got=_describe(owner),
            where=lock,
            fix=f"wait for that process; if its machine is gone, delete {lock}",
        ) from error
    except OSError as error:
        raise IntegrityError(f"The lock of {what} cannot be taken ({error.strerror}).", where=lock) from error
    try:
        with suppress(OSError):  # the name is for people; a full disk must not stop a holder who only reads
            owner.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        guard.release()


def _describe(owner: Path) -> str:
    try:
        holder = json.loads(owner.read_text())
        age = time.time() - owner.stat().st_mtime
        return f"process {holder['pid']} on {holder['host']}, since {age:.0f} s"
    except (OSError, ValueError, KeyError, TypeError):
        return "a holder that left no name"
