"""The structure of MATLAB 5 files, walked before a library parses them: damage in it can hang or crash the process.

Only tags, dimensions and names are looked at; values are passed over. Compressed elements are decompressed on the way,
a piece at a time, which compares their checksum.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from neuroalign.errors import IntegrityError
from neuroalign.loaders._nifti_read import check_memory

__all__ = ["check_elements"]

_MATRIX, _COMPRESSED = 14, 15
#: Type of stored data -> bytes a value.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_NUMBERS = range(6, 16)
_COMPLEX = 0x0800
_DEEPEST = 64
_CHUNK = 1 << 18


class _Damage(ValueError):
    """Something in the structure cannot be."""


class _Plain:
    """Forward reader of a stretch of a file."""

    def __init__(self, handle: BinaryIO, size: int) -> None:
        self._handle, self.left = handle, size

    def read(self, n: int) -> bytes:
        """Exactly `n` bytes."""
        if n > self.left:
            raise _Damage(f"{n} bytes where {self.left} are left")
        self.left -= n
        return self._handle.read(n)

    def skip(self, n: int) -> None:
        """Pass over `n` bytes."""
        if n > self.left:
            raise _Damage(f"{n} bytes where {self.left} are left")
        self.left -= n
        self._handle.seek(n, 1)


class _Inflated:
    """Forward reader of a compressed element; `count` is told how many bytes came out."""

    def __init__(self, handle: BinaryIO, size: int, count: Callable[[int], None]) -> None:
        self._handle, self._size, self._count = handle, size, count
        self._inflate, self._ready = zlib.decompressobj(), b""

    def _more(self) -> bool:
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail
            if not data:
                data = self._handle.read(min(self._size, _CHUNK))
                self._size -= len(data)
            if not data:
                raise _Damage("the end of a compressed element is missing")
            out = self._inflate.decompress(data, 4 * _CHUNK)
            if out:
                self._count(len(out))
                self._ready += out
                return True
        return False

    def read(self, n: int) -> bytes:
        """Exactly `n` bytes."""
        while len(self._ready) < n:
            if not self._more():
                raise _Damage(f"{n} bytes where {len(self._ready)} are left")
        out, self._ready = self._ready[:n], self._ready[n:]
        return out

    def skip(self, n: int) -> None:
        """Pass over `n` bytes."""
        while n > len(self._ready):
            n -= len(self._ready)
            self._ready = b""
            if not self._more():
                raise _Damage(f"{n} bytes beyond the end of a compressed element")
        self._ready = self._ready[n:]

    def finish(self) -> None:
        """Go on to the end, where the checksum is."""
        self._ready = b""
        while self._more():
            self._ready = b""


def check_elements(path: Path, max_bytes: int) -> None:
    """Walk all elements of a MATLAB 5 file.

    Parameters
    ----------
    path : Path
        The file; its elements end where it ends (see `check_mat`).
    max_bytes : int
        Refuse files that unpack to more.

    Raises
    ------
    IntegrityError
        If a size, type or count contradicts another, or a checksum does not fit.
    ConfigError
        If the file unpacks to more than `max_bytes`.
    """
    total = 0

    def count(n: int) -> None:
        nonlocal total
        total += n
        check_memory(str(path), total, max_bytes)

    size = path.stat().st_size
    with path.open("rb") as handle:
        order = "<" if handle.read(128)[126:128] == b"IM" else ">"
        at = 128
        try:
            while at < size:
                handle.seek(at)
                kind, n = struct.unpack(order + "II", handle.read(8))
                _element(handle, kind, n, order, count)
                at += 8 + (n if kind == _COMPRESSED else -(-n // 8) * 8)
        except (_Damage, zlib.error, struct.error, RecursionError) as error:
            raise IntegrityError(
                "The MATLAB file is damaged inside.",
                expected="elements whose types, sizes and counts agree",
                got=f"{error}, in the element at byte {at}",
                where=str(path),
                fix="copy or download the file again",
            ) from error


def _element(handle: BinaryIO, kind: int, n: int, order: str, count: Callable[[int], None]) -> None:
    if kind == _MATRIX:
        _matrix(_Plain(handle, n), n, order, 0)
    elif kind == _COMPRESSED:
        inflated = _Inflated(handle, n, count)
        inner, size = struct.unpack(order + "II", inflated.read(8))
        if inner == _MATRIX:
            _matrix(inflated, size, order, 0)
        elif inner not in _SIZES:
            raise _Damage(f"a compressed element of type {inner}")
        inflated.finish()
    elif kind not in _SIZES:
        raise _Damage(f"an element of type {kind}")


Reader = _Plain | _Inflated


def _tag(reader: Reader, order: str) -> tuple[int, int, bytes | None]:
    """Type and size of the next part; small parts of up to four bytes come with their data."""
    head = reader.read(8)
    first, second = struct.unpack(order + "II", head)
    if first >> 16:
        if first >> 16 > 4:
            raise _Damage(f"a small part of {first >> 16} bytes")
        return first & 0xFFFF, first >> 16, head[4 : 4 + (first >> 16)]
    return first, second, None


def _part(reader: Reader, order: str, types: tuple[int, ...], most: int = 1 << 20) -> tuple[int, bytes]:
    """Type and bytes of a short part, such as dimensions or a name."""
    kind, n, data = _tag(reader, order)
    if kind not in types or n > most:
        raise _Damage(f"type {kind} and {n} bytes where {types} was expected")
    if data is None:
        data = reader.read(n)
        reader.skip(-n % 8)
    return kind, data


def _values(reader: Reader, order: str, n: int | None) -> None:
    """Pass over numbers; `n` of them, or any number of characters."""
    kind, size, data = _tag(reader, order)
    if kind not in _SIZES or size % _SIZES[kind] or (n is not None and size != n * _SIZES[kind]):
        raise _Damage(f"{size} bytes of type {kind} for {n} values")
    if data is None:
        reader.skip(size + -size % 8)


def _matrix(reader: Reader, size: int, order: str, depth: int) -> None:
    """Walk one array; those inside cells and structs follow one another in the same way."""
    if size == 0:  # how an empty array inside a cell is written
        return
    if depth > _DEEPEST:
        raise _Damage(f"arrays inside {_DEEPEST} others")
    flags = struct.unpack(order + "II", _exactly(_part(reader, order, (6,))[1], 8))[0]
    kind, is_complex = flags & 0xFF, bool(flags & _COMPLEX)
    if kind == _OPAQUE:
        for _ in range(3):
            _part(reader, order, (1,))
        _nested(reader, order, 1, depth)
        return
    shape = _part(reader, order, (5,))[1]
    if len(shape) % 4 or len(shape) < 8:
        raise _Damage(f"{len(shape)} bytes of dimensions")
    dims = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    if min(dims) < 0:
        raise _Damage(f"dimensions {dims}")
    _part(reader, order, (1, 2, 16))  # the name
    _content(reader, order, kind, is_complex, dims, depth)


def _exactly(data: bytes, n: int) -> bytes:
    if len(data) != n:
        raise _Damage(f"{len(data)} bytes where {n} belong")
    return data


def _content(reader: Reader, order: str, kind: int, is_complex: bool, dims: tuple[int, ...], depth: int) -> None:
    n = math.prod(dims)
    if kind in _NUMBERS:
        for _ in range(1 + is_complex):
            _values(reader, order, n)
    elif kind == _CHAR:
        _values(reader, order, None)
    elif kind == _CELL:
        _nested(reader, order, n, depth)
    elif kind in (_STRUCT, _OBJECT):
        if kind == _OBJECT:
            _part(reader, order, (1,))
        length = struct.unpack(order + "i", _exactly(_part(reader, order, (5,))[1], 4))[0]
        names = _part(reader, order, (1,))[1]
        if length < 1 or len(names) % length:
            raise _Damage(f"{len(names)} bytes of field names of {length} each")
        _nested(reader, order, n * (len(names) // length), depth)
    elif kind == _SPARSE:
        _sparse(reader, order, is_complex, dims)
    elif kind == _FUNCTION:
        _nested(reader, order, 1, depth)
    else:
        raise _Damage(f"an array of class {kind}")


def _nested(reader: Reader, order: str, n: int, depth: int) -> None:
    for _ in range(n):
        kind, size, data = _tag(reader, order)
        if kind != _MATRIX or data is not None:
            raise _Damage(f"type {kind} inside a cell or struct")
        _matrix(reader, size, order, depth + 1)


def _sparse(reader: Reader, order: str, is_complex: bool, dims: tuple[int, ...]) -> None:
    rows = _part(reader, order, (5,), most=1 << 31)[1]
    ends = _part(reader, order, (5,), most=1 << 31)[1]
    columns = struct.unpack(f"{order}{len(ends) // 4}i", ends[: len(ends) // 4 * 4])
    falls = any(b < a for a, b in itertools.pairwise(columns))
    if len(dims) != 2 or len(columns) != dims[1] + 1 or columns[0] != 0 or falls or columns[-1] > len(rows) // 4:
        raise _Damage(f"a sparse array of {dims} with {len(columns)} column ends")
    for _ in range(1 + is_complex):
        _values(reader, order, None)
