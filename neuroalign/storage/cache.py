"""A cache on disk that several processes share: one computation a key, and damage is noticed and repaired."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neuroalign.errors import ConfigError, IntegrityError, warn
from neuroalign.storage import locks, store
from neuroalign.storage.manifest import Verify

__all__ = ["Cache"]

_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Cache:
    """Results by key, in a folder.

    Parameters
    ----------
    root : path-like
        The folder. It is made when the first result is stored.
    timeout : float
        Seconds to wait for another process that computes the same key.
    verify : {"full", "sizes", "none"}
        How much of an entry is checked when it is found.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> cache = Cache(tempfile.mkdtemp())
    >>> cache.get_or_compute("k1", lambda: np.arange(3))
    array([0, 1, 2])
    >>> "k1" in cache
    True
    """

    def __init__(self, root: str | os.PathLike[str], *, timeout: float = 3600.0, verify: Verify = "full") -> None:
        self.root = Path(root)
        self.timeout = timeout
        self.verify: Verify = verify

    def path(self, key: str) -> Path:
        """Folder of an entry.

        Parameters
        ----------
        key : str
            Letters, digits, ``_`` and ``-``; usually a `content_key`.

        Returns
        -------
        pathlib.Path
            Where the entry is or would be.

        Raises
        ------
        ConfigError
            If the key has other characters.
        """
        if not _KEY.fullmatch(key):
            raise ConfigError("This is not a cache key.", expected="letters, digits, _ and - (at most 128)", got=key)
        return self.root / key[:2] / key

    def __contains__(self, key: str) -> bool:
        return store.is_store(self.path(key))

    def get_or_compute(
        self,
        key: str,
        fn: Callable[[], store.Storable],
        *,
        lazy: bool = False,
        seed: int | None = None,
        inputs: Iterable[str | os.PathLike[str]] | Mapping[str, str] = (),
    ) -> Any:
        """Return the entry of a key; compute and store it first when it is absent or damaged.

        Parameters
        ----------
        key : str
            The key: a `content_key` of everything that the result depends on.
        fn : callable
            Computes the result. It is called by one process at a time for a key.
        lazy : bool
            Leave data variables on disk until they are used.
        seed : int, optional
            For the manifest.
        inputs : iterable of paths, or mapping
            For the manifest.

        Returns
        -------
        xarray object or numpy.ndarray
            The stored result, read back, so that a first and a later call give the same.

        Raises
        ------
        IntegrityError
            If another process holds the key for longer than `timeout`, or the disk is full.
        """
        path = self.path(key)
        if store.is_store(path):
            with suppress(IntegrityError):  # looked at again under the lock
                return store.open(path, verify=self.verify, lazy=lazy)
        with self._locked(key):
            if path.exists():
                try:
                    return store.open(path, verify=self.verify, lazy=lazy)
                except IntegrityError as error:
                    _quarantine(path, error)
            store.save(fn(), path, seed=seed, inputs=inputs)
            return store.open(path, verify="sizes", lazy=lazy)

    def remove(self, key: str) -> None:
        """Forget an entry.

        Parameters
        ----------
        key : str
            Its key. Nothing happens when it is absent.
        """
        path = self.path(key)
        if path.exists():
            with self._locked(key):
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        folder = self.root / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise IntegrityError(
                f"The cache cannot be written ({error.strerror}).", where=self.root, fix="use another cache folder"
            ) from error
        with locks.hold(folder / f"{key}.lock", timeout=self.timeout, what="this cache entry"):
            yield


def _quarantine(path: Path, error: IntegrityError) -> None:
    """Move a damaged entry out of the way, keep it for a look, and say so once."""
    bad = path.with_name(f"{path.name}.bad")
    if bad.exists():
        shutil.rmtree(bad, ignore_errors=True)
    os.replace(path, bad)
    warn(
        f"A cache entry was damaged and is computed again ({error.problem} {error.where}); kept as {bad}", stacklevel=3
    )
