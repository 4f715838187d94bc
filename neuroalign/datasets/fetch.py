"""Get a public set: from a local copy where one is set, else by https, every file checked by its sha256."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import numpy as np

from neuroalign.compute import notice
from neuroalign.compute import progress as progress_bar
from neuroalign.datasets.archives import safe_extract
from neuroalign.datasets.cards import Card, CardFile, read_card
from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError
from neuroalign.storage import content_key, publish, sha256_file

__all__ = ["LOCAL_COPY", "download", "fetch", "fetch_card", "local_copy"]

LOCAL_COPY = "NEUROALIGN_TEST_DATA"
_TIMEOUT = (20, 60)  # seconds to connect, and between two packets


def fetch(name: str, *, out: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """Get the files of a public set.

    A folder ``$NEUROALIGN_TEST_DATA/<name>`` is used where it exists. Otherwise the files are downloaded by https
    into the cache of the user, once. Every file is checked by its sha256 in both cases.

    Parameters
    ----------
    name : str
        One of `list_datasets`.
    out : path-like, optional
        Folder for the files, instead of the cache.
    progress : bool
        Show the licence and a bar when stderr is a terminal.

    Returns
    -------
    pathlib.Path
        The folder with the files.

    Raises
    ------
    ConfigError
        If the set is unknown, or a file has no public address: the error says how to get it.
    IntegrityError
        If a file is not what the card says, or cannot be downloaded. A file that was there before is kept.
    """
    card = read_card(name)
    notice(f"{card.name}. Licence: {card.licence} Cite: {card.paper}", show=None if progress else False)
    folder = local_copy(card)
    if folder is None:
        return fetch_card(card, _default_folder(card) if out is None else Path(out), progress=progress)
    return folder if out is None else _copy(card, folder, Path(out))


def local_copy(card: Card) -> Path | None:
    """Find and check the copy of a set below ``$NEUROALIGN_TEST_DATA``.

    Parameters
    ----------
    card : Card
        The card of the set.

    Returns
    -------
    pathlib.Path or None
        The folder; None when the variable is not set or has no such folder.

    Raises
    ------
    IntegrityError
        If a file there is missing or is not what the card says.
    """
    root = os.environ.get(LOCAL_COPY)
    folder = None if not root else Path(root) / card.name
    if folder is None or not folder.is_dir():
        return None
    for file in card.files:
        if not (folder / file.name).is_file():
            raise IntegrityError(
                f"The local copy of {card.name} lacks a file.",
                expected=file.name,
                where=folder,
                fix=f"add the file, or unset {LOCAL_COPY} to download the set",
            )
        check_file(folder / file.name, file)
    return folder


def _copy(card: Card, source: Path, folder: Path) -> Path:
    for file in card.files:
        with publish(folder / file.name) as temporary:
            temporary.write_bytes((source / file.name).read_bytes())
    return folder


def _default_folder(card: Card) -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("neuroalign", appauthor=False)) / "datasets" / card.name


def fetch_card(card: Card, folder: Path, *, progress: bool = True, loopback_for_tests: bool = False) -> Path:
    """Download what is missing of a set into a folder.

    Parameters
    ----------
    card : Card
        The card.
    folder : pathlib.Path
        Where the files go. Files that are there and intact are not downloaded again.
    progress : bool
        Show a bar when stderr is a terminal.
    loopback_for_tests : bool
        Allow plain http, but from 127.0.0.1 only: for tests of this function.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ConfigError
        If a file has no public address.
    IntegrityError
        If a download fails or gives something else.
    """
    missing = [file for file in card.files if not _is_intact(folder / file.name, file)]
    for file in missing:
        if file.url is not None:
            download(file, folder / file.name, progress=progress, loopback_for_tests=loopback_for_tests)
        if file.unpack is not None:
            safe_extract(folder / file.name, folder / file.unpack)
    for file in missing:
        if file.url is None:
            raise ConfigError(
                f"{file.name} of {card.name} has no public address of its own. {file.obtain}",
                expected=f"sha256 {file.sha256}",
                got="another file" if (folder / file.name).exists() else "no file",
                where=folder / file.name,
                fix=f"put it there, or set {LOCAL_COPY} to a folder that has {card.name}/{file.name}",
            )
    return folder


def _is_intact(path: Path, file: CardFile) -> bool:
    if not path.is_file():
        return False
    try:
        check_file(path, file)
    except IntegrityError:
        return False
    return True


def check_file(path: Path, file: CardFile) -> None:
    """Compare a file with its entry in the card, or raise an `IntegrityError`."""
    found = sha256_file(path)
    if found == file.sha256 or (file.content is not None and _npz_key(path) == file.content):
        return
    raise IntegrityError(
        "A file is not the one that the card describes.",
        expected=f"{file.bytes} bytes, sha256 {file.sha256}",
        got=f"{path.stat().st_size} bytes, sha256 {found}{_looks_like(path)}",
        where=path,
        fix="remove it and fetch again; if the source has changed, the card must be renewed",
    )


def _npz_key(path: Path) -> str | None:
    """Key of the arrays in a file, whatever the compression; None when it is no .npz."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return content_key({name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, AttributeError, EOFError):
        return None


def _looks_like(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    return " (a web page)" if start.startswith((b"<!doctype html", b"<html")) else ""


def download(file: CardFile, path: Path, *, progress: bool = True, loopback_for_tests: bool = False) -> None:
    """Download one file; it gets its name only when its sha256 is right.

    Parameters
    ----------
    file : CardFile
        What to get, with its url.
    path : pathlib.Path
        Where it goes. An earlier file is replaced in the last moment only.
    progress : bool
        Show a bar when stderr is a terminal.
    loopback_for_tests : bool
        Allow plain http, but from 127.0.0.1 only.

    Raises
    ------
    IntegrityError
        If the server cannot be reached, redirects away from https, or sends something else.
    """
    import pooch

    url = str(file.url)
    getter = _Getter(file, progress=progress, loopback=loopback_for_tests)
    getter.check_address(url)
    with publish(path, needed=file.bytes) as temporary, _quiet(pooch.get_logger()):
        try:
            pooch.retrieve(url, f"sha256:{file.sha256}", fname=temporary.name, path=temporary.parent, downloader=getter)
        except NeuroalignError:
            raise
        except ValueError as error:  # pooch: another hash
            raise IntegrityError(
                "The download is not the file that the card describes.",
                expected=f"{file.bytes} bytes, sha256 {file.sha256}",
                got=getter.summary(),
                where=url,
                fix="try again; if the source has changed, the card must be renewed",
            ) from error


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Getter:
    """A downloader for pooch: https at every step, no more bytes than expected, our progress bar."""

    def __init__(self, file: CardFile, *, progress: bool, loopback: bool) -> None:
        self.file, self.progress, self.loopback = file, progress, loopback
        self.received, self.start, self.kind = 0, b"", ""

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> bool | None:
        import requests

        try:
            with requests.get(url, stream=True, timeout=_TIMEOUT, hooks={"response": self._check_step}) as response:
                if response.status_code != 200:
                    raise self._failed(url, f"HTTP {response.status_code} {response.reason}")
                self.kind = response.headers.get("content-type", "")
                if not check_only:
                    with Path(output_file).open("wb") as target:
                        self._receive(url, response, target)
        except requests.RequestException as error:
            raise self._failed(url, f"{type(error).__name__}: {error}") from error
        return True if check_only else None

    def _receive(self, url: str, response: Any, target: BinaryIO) -> None:
        show = None if self.progress else False
        with progress_bar(self.file.name, self.file.bytes, show=show, unit="bytes") as advance:
            for block in response.iter_content(1 << 16):
                self.start = self.start or block[:256]
                self.received += len(block)
                if self.received > self.file.bytes:
                    raise self._failed(url, f"more than the {self.file.bytes} bytes of the card{self._page()}")
                target.write(block)
                advance(len(block))

    def check_address(self, url: str) -> None:
        """Refuse every address that is not https."""
        parts = urlsplit(url)
        if parts.scheme == "https" or (self.loopback and parts.scheme == "http" and parts.hostname == "127.0.0.1"):
            return
        raise IntegrityError("Files are downloaded by https only.", expected="https://", got=url, where=self.file.name)

    def _check_step(self, response: Any, *args: Any, **kwargs: Any) -> None:
        if "location" in response.headers and 300 <= response.status_code < 400:
            self.check_address(urljoin(response.url, response.headers["location"]))

    def _page(self) -> str:
        page = self.start.lstrip().lower().startswith((b"<!doctype html", b"<html")) or "text/html" in self.kind
        return " (a web page: is a login or proxy in between?)" if page else ""

    def summary(self) -> str:
        """What came."""
        return f"{self.received} bytes{self._page() or ' with another sha256'}"

    def _failed(self, url: str, got: str) -> IntegrityError:
        return IntegrityError(
            f"{self.file.name} could not be downloaded.",
            expected=f"{self.file.bytes} bytes",
            got=got,
            where=url,
            fix=f"check the connection and try again, or set {LOCAL_COPY} to a folder that has the set",
        )
