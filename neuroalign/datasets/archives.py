"""Unpack archives that may be hostile: regular files and folders only, inside the root, within caps."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Any

from neuroalign.errors import IntegrityError
from neuroalign.storage import publish

__all__ = ["safe_extract"]

_SLACK = 1 << 20  # bytes that any archive may unpack to, however small it is
_BLOCK = 1 << 20
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
)
_MAGIC = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))


def safe_extract(
    archive: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    max_entries: int = 100_000,
    max_ratio: float = 200.0,
) -> Path:
    """Unpack a tar (plain, gz, bz2, xz) or zip archive into a folder that appears only when all went well.

    Parameters
    ----------
    archive : path-like
        The archive.
    root : path-like
        The folder to make. An earlier one is replaced.
    max_entries : int
        Most files and folders.
    max_ratio : float
        Most bytes that come out for each byte of the archive.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    IntegrityError
        If an entry is a link, device or pipe, leaves the root, clashes with another, or if the archive is damaged or
        exceeds a cap. Nothing is left behind.
    """
    archive = Path(archive)
    with publish(root) as folder:
        folder.mkdir()
        unpacker = _Unpacker(archive, folder, max_entries, max_ratio)
        try:
            with archive.open("rb") as file:
                magic = file.read(6)
            if magic.startswith(b"PK"):  # by its start: a tar may end in a zip
                unpacker.unpack_zip()
            else:
                unpacker.unpack_tar(magic)
        except IntegrityError:
            raise
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the archive
            raise _refuse("The archive is damaged.", archive, got=f"{type(error).__name__}: {error}") from error
    return Path(root)


def _refuse(problem: str, archive: Path, *, entry: str | None = None, **facts: Any) -> IntegrityError:
    where = archive if entry is None else f"{archive}: {entry!r}"
    return IntegrityError(problem, where=where, fix="do not trust this archive; get it from its source again", **facts)


class _Budget(io.RawIOBase):
    """Decompressed bytes of a tar, refused beyond the cap: not even a header may be read without end."""

    def __init__(self, source: IO[bytes], archive: Path, limit: int) -> None:
        self.source, self.archive, self.left, self.limit = source, archive, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.source.read(len(buffer))
        self.left -= len(data)
        if self.left < 0:
            raise _refuse("The archive unpacks to too much.", self.archive, expected=f"at most {self.limit} bytes")
        buffer[: len(data)] = data
        return len(data)


class _Unpacker:
    def __init__(self, archive: Path, folder: Path, max_entries: int, max_ratio: float) -> None:
        self.archive, self.folder, self.max_entries = archive, folder.resolve(), max_entries
        self.limit = int(max_ratio * archive.stat().st_size) + _SLACK
        self.total = 0
        self.seen: dict[str, bool] = {}  # folded name -> is it a folder

    def unpack_tar(self, magic: bytes) -> None:
        opener: Any = next((function for start, function in _MAGIC if magic.startswith(start)), open)
        with closing(opener(self.archive, "rb")) as source:
            # headers count too: 512 bytes for each entry, and as much padding
            budget = io.BufferedReader(_Budget(source, self.archive, self.limit + 1024 * self.max_entries))
            with tarfile.open(fileobj=budget, mode="r|") as tar:
                for member in tar:
                    self._tar_member(tar, member)
            while budget.read(_BLOCK):  # to the end, so that the checksum of the compression is looked at
                pass

    def _tar_member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        kind = "folder" if member.isdir() else "file" if member.isreg() and not member.issparse() else "other"
        target = self._admit(member.name, kind, member.size if kind == "file" else 0)
        data_filter = getattr(tarfile, "data_filter", None)  # absent from 3.11.0 to 3.11.3
        if data_filter is not None:
            data_filter(member, str(self.folder))
        if kind == "file":
            source = tar.extractfile(member)
            if source is None:
                raise _refuse("An entry has no content.", self.archive, entry=member.name)
            self._write(source, target, member.size, member.name)

    def unpack_zip(self) -> None:
        with zipfile.ZipFile(self.archive) as archive:
            for info in archive.infolist():
                mode = stat.S_IFMT(info.external_attr >> 16)
                plain = mode in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG) and not info.flag_bits & 1
                kind = "other" if not plain else "folder" if info.is_dir() else "file"
                target = self._admit(info.orig_filename, kind, info.file_size)
                if kind == "file":
                    with archive.open(info) as source:
                        self._write(source, target, info.file_size, info.filename)

    def _admit(self, name: str, kind: str, size: int) -> Path:
        """Check an entry before a byte of it is read, and give the path to write."""
        if len(self.seen) >= self.max_entries:
            raise _refuse("The archive has too many entries.", self.archive, expected=f"at most {self.max_entries}")
        if kind == "other":
            raise _refuse(
                "An entry is not a plain file.", self.archive, entry=name, expected="files and folders, not encrypted"
            )
        parts = PurePosixPath(name).parts
        hostile = name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name) or set(name) & set("\\\0")
        target = self.folder.joinpath(*parts) if parts and not hostile else None
        if target is None or not (target.resolve().is_relative_to(self.folder)):
            if kind == "folder" and name.rstrip("/") == ".":
                return self.folder
            raise _refuse("An entry leaves the folder.", self.archive, entry=name)
        self._check_clash(parts, kind, name)
        self.total += size
        if self.total > self.limit:
            raise _refuse("The archive unpacks to too much.", self.archive, expected=f"at most {self.limit} bytes")
        (target if kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
        return target

    def _check_clash(self, parts: tuple[str, ...], kind: str, name: str) -> None:
        """Refuse names that are one file on some systems, and files used as folders."""
        folded = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        for parent in _parents(folded):
            if not self.seen.setdefault(parent, True):
                raise _refuse("An entry lies inside a file.", self.archive, entry=name)
        if folded in self.seen and not (kind == "folder" and self.seen[folded]):
            raise _refuse("Two entries have the same name.", self.archive, entry=name)
        self.seen[folded] = kind == "folder"

    def _write(self, source: IO[bytes], target: Path, size: int, name: str) -> None:
        left = size
        with target.open("xb") as file:
            while block := source.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    break
                file.write(block)
        if left != 0:
            raise _refuse(
                "An entry has another length than it says.", self.archive, entry=name, expected=f"{size} bytes"
            )


def _parents(folded: str) -> Iterator[str]:
    parts = folded.split("/")
    for k in range(1, len(parts)):
        yield "/".join(parts[:k])
