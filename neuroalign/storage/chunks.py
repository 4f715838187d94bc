"""Numbers out of the chunks and shards of a Zarr v3 array, read as bytes.

A window of a recording lies in one or two chunks; a general reader spends more time on its way to them than on
decoding. Whatever `storage.save` writes as numbers is read here; other arrays are left to zarr.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import IntegrityError

__all__ = ["Grid", "grid_of", "read"]

_KEPT_BYTES = 32 << 20  # decoded chunks that are kept for the next window
_PACKED, _PLAIN = ("bytes", "zstd", "crc32c"), ("bytes", "crc32c")
_NUMBERS = {np.dtype(name).name for name in "?bhiqBHIQefdFD"}
_ABSENT = 2**64 - 1

Selection = tuple[slice | NDArray[np.intp], ...]
Decode = Callable[[NDArray[Any], Selection], NDArray[Any]]


@dataclass(frozen=True)
class Grid:
    """How the numbers of an array are cut into files.

    Attributes
    ----------
    shape : tuple of int
        Shape of the array.
    dtype : str
        Type of the stored numbers, little-endian.
    chunks : tuple of int
        Shape of what is decoded as a whole.
    shards : tuple of int or None
        Shape of what a file holds; None when each chunk is a file.
    compressed : bool
        Whether chunks are compressed (zstd).
    """

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    compressed: bool = True

    @property
    def per_shard(self) -> tuple[int, ...]:
        """Chunks of a shard, along each dimension."""
        files = self.shards or self.chunks
        return tuple(n // step for n, step in zip(files, self.chunks, strict=True))


def grid_of(metadata: Mapping[str, Any]) -> Grid | None:
    """Tell how an array is stored, from its ``zarr.json``.

    Parameters
    ----------
    metadata : mapping
        The metadata.

    Returns
    -------
    Grid or None
        None when the array is not numbers with the codecs that `storage.save` writes.
    """
    plain = metadata["data_type"] in _NUMBERS and metadata["chunk_grid"]["name"] == "regular"
    keys = metadata["chunk_key_encoding"]
    if not plain or (keys["name"], keys["configuration"]["separator"]) != ("default", "/"):
        return None
    outer, codecs = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]), metadata["codecs"]
    chunks, shards = outer, None
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        inside = codecs[0]["configuration"]
        names = tuple(codec["name"] for codec in inside["index_codecs"])
        if names != ("bytes", "crc32c") or inside["index_location"] != "end":
            return None
        chunks, shards, codecs = tuple(inside["chunk_shape"]), outer, inside["codecs"]
    inner = tuple(codec["name"] for codec in codecs)
    if inner not in (_PACKED, _PLAIN):
        return None
    if codecs[0].get("configuration", {}).get("endian", "little") != "little":
        return None
    dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
    return Grid(tuple(metadata["shape"]), dtype.str, chunks, shards, inner == _PACKED)


def read(folder: Path, grid: Grid, key: tuple[Any, ...], *, dtype: Any = None, decode: Decode | None = None) -> Any:
    """Read a part of an array.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the Zarr array.
    grid : Grid
        How it is stored.
    key : tuple
        Integers, slices or integer arrays, one a dimension (outer indexing).
    dtype : dtype, optional
        Type of the result; by default the stored one.
    decode : callable, optional
        ``decode(stored, positions)`` gives the values of a piece; `positions` are those in the whole array, one slice
        or integer array a dimension.

    Returns
    -------
    numpy.ndarray
        The values.

    Raises
    ------
    IntegrityError, OSError, ValueError
        If a chunk is missing, cut or changed.
    """
    picks = [_pick(k, n) for k, n in zip(key, grid.shape, strict=True)]
    out = np.empty([_length(p) for p in picks], dtype=np.dtype(dtype or grid.dtype).newbyteorder("="))
    parts = [list(_parts(pick, step)) for pick, step in zip(picks, grid.chunks, strict=True)]
    outer = any(isinstance(pick, np.ndarray) for pick in picks)
    for cut in itertools.product(*parts):
        index, target, inside = (tuple(column) for column in zip(*cut, strict=True)) if cut else ((), (), ())
        whole = math.prod(map(_length, inside)) == math.prod(grid.chunks)
        block = _chunk(folder, grid, index, keep=not whole)
        piece = block[_index(inside, outer)]
        if decode is not None:
            piece = decode(piece, tuple(_shifted(s, i * n) for s, i, n in zip(inside, index, grid.chunks, strict=True)))
        out[_index(target, outer)] = piece
    return out.reshape([n for n, k in zip(out.shape, key, strict=True) if not isinstance(k, (int, np.integer))])


def _pick(key: Any, n: int) -> slice | NDArray[np.intp]:
    """One part of an index as a slice with a positive step, or as positions."""
    if isinstance(key, slice):
        start, stop, step = key.indices(n)
        return slice(start, max(start, stop), step) if step > 0 else np.arange(start, stop, step)
    index = np.asarray(key)
    if index.size and not (-n <= index.min() and index.max() < n):
        raise IndexError(f"position {index.max()} of {n}")
    index = np.where(index < 0, index + n, index)
    return slice(int(index), int(index) + 1, 1) if index.ndim == 0 else index


def _length(pick: slice | NDArray[np.intp]) -> int:
    return len(range(pick.start, pick.stop, pick.step)) if isinstance(pick, slice) else pick.size


def _parts(pick: slice | NDArray[np.intp], step: int) -> Iterator[tuple[int, Any, Any]]:
    """Cut a selection at the borders of chunks: number of the chunk, where the piece goes, what it is in the chunk."""
    if isinstance(pick, slice):
        wanted = range(pick.start, pick.stop, pick.step)
        done = 0
        while done < len(wanted):
            number = wanted[done] // step
            count = min(len(wanted) - done, math.ceil(((number + 1) * step - wanted[done]) / pick.step))
            first = wanted[done] - number * step
            yield number, slice(done, done + count), slice(first, first + (count - 1) * pick.step + 1, pick.step)
            done += count
        return
    numbers = pick // step
    for number in np.unique(numbers):
        where = np.flatnonzero(numbers == number)
        yield int(number), where, pick[where] - number * step


def _index(selection: Selection, outer: bool) -> Any:
    if not outer:
        return selection
    return np.ix_(*(np.arange(s.start, s.stop, s.step) if isinstance(s, slice) else s for s in selection))


def _shifted(selection: Any, by: int) -> Any:
    if isinstance(selection, slice):
        return slice(selection.start + by, selection.stop + by, selection.step)
    return selection + by


class _Recent:
    """The chunks decoded last, up to a number of bytes, by file, its identity and their position in it."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size, self.lock = limit, 0, threading.Lock()
        self.blocks: OrderedDict[Any, NDArray[Any]] = OrderedDict()

    def get(self, key: Any) -> NDArray[Any] | None:
        with self.lock:
            block = self.blocks.get(key)
            if block is not None:
                self.blocks.move_to_end(key)
            return block

    def put(self, key: Any, block: NDArray[Any]) -> None:
        with self.lock:
            if key not in self.blocks:
                self.blocks[key] = block
                self.size += block.nbytes
            while self.size > self.limit:
                self.size -= self.blocks.popitem(last=False)[1].nbytes


_recent = _Recent(_KEPT_BYTES)


def _chunk(folder: Path, grid: Grid, index: tuple[int, ...], *, keep: bool) -> NDArray[Any]:
    """Values of a chunk, read-only. The file is looked at each time, so that its loss is noticed."""
    where = tuple(divmod(i, n) for i, n in zip(index, grid.per_shard, strict=True))
    name = os.path.join(folder, "c", *(str(file) for file, _ in where))
    with open(name, "rb", buffering=0) as handle:
        info = os.fstat(handle.fileno())
        position = tuple(inner for _, inner in where)
        key = (name, info.st_ino, info.st_size, info.st_mtime_ns, position)
        block = _recent.get(key)
        if block is None:
            start, length = _place(handle.fileno(), info.st_size, grid, position, name)
            block = _decoded(_bytes_at(handle.fileno(), start, length, name), grid, name)
            if keep:
                _recent.put(key, block)
    return block


def _bytes_at(descriptor: int, start: int, length: int, name: str) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    data = os.read(descriptor, length)
    while len(data) < length and (more := os.read(descriptor, length - len(data))):
        data += more
    if len(data) != length:
        raise _damaged(name, f"{length} bytes from byte {start}", f"{len(data)}")
    return data


def _place(descriptor: int, size: int, grid: Grid, position: tuple[int, ...], name: str) -> tuple[int, int]:
    """First byte and length of a chunk in its file."""
    if grid.shards is None:
        return 0, size
    index_bytes = 16 * math.prod(grid.per_shard) + 4
    if size < index_bytes:
        raise _damaged(name, f"an index of {index_bytes} bytes at the end", f"a file of {size} bytes")
    raw = _checked(_bytes_at(descriptor, size - index_bytes, index_bytes, name), name)
    start, length = np.frombuffer(raw, "<u8").reshape(*grid.per_shard, 2)[position].tolist()
    if start == _ABSENT or start + length > size - index_bytes:
        raise _damaged(name, f"chunk {position} within {size} bytes", "no such chunk" if start == _ABSENT else start)
    return start, length


def _checked(data: bytes, name: str) -> bytes:
    """Bytes without the CRC-32C that follows them."""
    import google_crc32c

    body, stated = data[:-4], int.from_bytes(data[-4:], "little")
    if len(data) < 4 or (found := google_crc32c.value(body)) != stated:
        raise _damaged(name, f"checksum {stated:08x}", f"{found:08x}" if len(data) >= 4 else f"{len(data)} bytes")
    return body


def _decoded(data: bytes, grid: Grid, name: str) -> NDArray[Any]:
    from numcodecs import zstd

    body = _checked(data, name)
    if not grid.compressed:
        return np.frombuffer(body, grid.dtype).reshape(grid.chunks)
    block = np.zeros(grid.chunks, grid.dtype)
    if block.nbytes:  # into memory of the right size: what a forged header declares is never allocated
        zstd.decompress(body, block.reshape(-1).view(np.uint8))
    block.flags.writeable = False
    return block


def _damaged(name: str, expected: str, got: object) -> IntegrityError:
    return IntegrityError(
        "A stored chunk is damaged: its checksum or length does not fit.",
        expected=expected,
        got=got,
        where=name,
        fix="restore it or make it again",
    )
