"""Forward reading of plain and gzip files, with the checksums of gzip compared."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from neuroalign.errors import IntegrityError

__all__ = ["GZIP_MAX_RATIO", "Stream", "inflater"]

#: The most that the deflate format can compress; a header that declares more is wrong.
GZIP_MAX_RATIO = 1032

_CHUNK = 1 << 18
_SCRATCH = 8 << 20


def inflater() -> tuple[Callable[..., Any], tuple[type[Exception], ...]]:
    """Give the maker of decompressors and its errors: of isal where it is installed, which is faster, else of zlib."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.decompressobj, (zlib.error,)
    errors: Any = (zlib.error, isal_zlib.error)
    return isal_zlib.decompressobj, errors


class Stream:
    """Forward reader of a plain or gzip file that checks every gzip trailer it passes.

    Parameters
    ----------
    path : str
        The file, for messages.
    handle : file
        The file, open for reading bytes.
    compressed : bool
        Whether it is gzip, of one or more members.
    """

    def __init__(self, path: str, handle: BinaryIO, compressed: bool) -> None:
        self._path, self._handle, self._compressed = path, handle, compressed
        self._make, self._errors = inflater()
        self._inflate = self._make(wbits=31)
        self._pending = b""
        self._out = memoryview(b"")
        self._ended = False

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(
            "The compressed stream is damaged.",
            expected="a gzip stream with a valid checksum and length at its end",
            got=what,
            where=self._path,
            fix="copy or download the file again",
        )

    def _inflate_some(self) -> bytes:
        """Return the next decompressed bytes, or b"" when the last member has ended and its checksum matched."""
        while not self._ended:
            if self._inflate.eof:
                self._next_member()
                continue
            data = self._pending or self._handle.read(_CHUNK)
            try:
                out = self._inflate.decompress(data, 4 * _CHUNK)
            except self._errors as error:
                raise self._damaged(str(error)) from error
            self._pending = self._inflate.unconsumed_tail
            if out:
                return out
            if not data and not self._inflate.eof:
                raise self._damaged("the stream stops before its end: the file is cut")
        return b""

    def _next_member(self) -> None:
        rest = self._inflate.unused_data or self._handle.read(_CHUNK)
        while rest and not rest.strip(b"\0"):  # zero padding after the last member is allowed by gzip
            rest = self._handle.read(_CHUNK)
        if not rest:
            self._ended = True
        elif rest[:1] != b"\x1f":
            raise self._damaged(f"{len(rest)} or more bytes that are not gzip after the end")
        else:
            self._inflate, self._pending = self._make(wbits=31), rest

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer as far as the file goes and return the number of bytes written."""
        if not self._compressed:
            return self._read_plain(buffer)
        done = 0
        while done < len(buffer):
            if not self._out:
                self._out = memoryview(self._inflate_some())
                if not self._out:
                    break
            n = min(len(buffer) - done, len(self._out))
            buffer[done : done + n] = self._out[:n]
            self._out = self._out[n:]
            done += n
        return done

    def _read_plain(self, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            n = self._handle.readinto(buffer[done:])  # type: ignore[attr-defined]
            if not n:
                break
            done += n
        return done

    def skip(self, n: int) -> int:
        """Pass over n bytes; return how many there were."""
        if not self._compressed:
            self._handle.seek(n, os.SEEK_CUR)
            return n
        scratch = memoryview(bytearray(min(n, _SCRATCH)))
        done = 0
        while done < n:
            got = self.readinto(scratch[: min(n - done, len(scratch))])
            if not got:
                break
            done += got
        return done
