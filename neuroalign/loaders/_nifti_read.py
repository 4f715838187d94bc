"""Voxels of NIfTI: a stream of volumes, and a lazy array that holds no open file.

They are read here because nibabel stops before the checksum at the end of a gzip stream, and because a memory map
inside a lazy array is copied by value when it is pickled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign.errors import ConfigError, IntegrityError
from neuroalign.loaders._nifti import LoadedImage, NiftiFile
from neuroalign.loaders._stream import Stream

__all__ = ["NiftiArray", "check_memory", "check_unchanged", "iter_volumes", "outer", "verify_stream"]

_BLOCK_BYTES = 8 << 20
_MAX_EXCESS = 1 << 20


def check_unchanged(file: NiftiFile) -> None:
    """Refuse to read from a file that is not the one that was opened."""
    try:
        stat = os.stat(file.path)
    except OSError as error:
        raise IntegrityError("The file is gone since it was opened.", got=str(error), where=file.path) from error
    if (stat.st_size, stat.st_mtime_ns) != (file.size, file.mtime_ns):
        raise IntegrityError("The file changed after it was opened.", where=file.path, fix="open it again")


def _cut(file: NiftiFile, got: int) -> IntegrityError:
    return IntegrityError(
        "The file holds fewer voxels than its header declares.",
        expected=f"{file.end} bytes",
        got=f"about {got} bytes",
        where=file.path,
        fix="copy or download the file again",
    )


def iter_volumes(
    file: NiftiFile | LoadedImage, start: int = 0, stop: int | None = None, *, remarks: list[str] | None = None
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Stream stored volumes in blocks of about 8 MiB.

    Parameters
    ----------
    file : NiftiFile or LoadedImage
        The file.
    start, stop : int
        First volume and the one after the last.
    remarks : list of str, optional
        Given: go on to the end of the file after the last volume, so that a gzip checksum is compared, and add what
        is odd but harmless.

    Yields
    ------
    first : int
        Index of the first volume of the block.
    block : array of shape (n, k * j * i)
        Stored numbers; the memory is used again for the next block.

    Raises
    ------
    IntegrityError
        If the file is cut, damaged, much longer than declared (with `remarks`) or changed since it was opened.
    """
    if isinstance(file, LoadedImage):
        yield 0, file.values.reshape(len(file.values), -1)
        return
    check_unchanged(file)
    stop = file.shape[0] if stop is None else stop
    n_block = max(1, min(stop - start, _BLOCK_BYTES // max(file.volume_bytes, 1)))
    buffer = np.empty((n_block, file.volume_bytes), dtype=np.uint8)
    with open(file.path, "rb") as handle:
        stream = Stream(file.path, handle, file.compressed)
        skipped = stream.skip(file.offset + start * file.volume_bytes)
        if skipped < file.offset + start * file.volume_bytes:
            raise _cut(file, skipped)
        for first in range(start, stop, n_block):
            part = buffer[: min(n_block, stop - first)]
            got = stream.readinto(part.data.cast("B"))
            if got < part.nbytes:
                raise _cut(file, file.offset + first * file.volume_bytes + got)
            yield first, part.view(file.dtype)
        if remarks is not None:
            remarks += _check_tail(file, stream, (file.shape[0] - stop) * file.volume_bytes)


def _check_tail(file: NiftiFile, stream: Stream, remaining: int) -> list[str]:
    """Read to the end. A little more than declared is a sloppy writer when the checksum fits; more is not."""
    if stream.skip(remaining) < remaining:
        raise _cut(file, file.end - remaining)
    excess = stream.skip(_MAX_EXCESS + 1) if file.compressed else 0
    if excess > _MAX_EXCESS:
        raise IntegrityError(
            "The file goes on long after the last voxel that its header declares.",
            expected=f"{file.end} bytes",
            got=f"more than {file.end + excess}",
            where=file.path,
            fix="copy or download the file again, or pass verify=False to ignore what follows the image",
        )
    return [f"{file.path}: {excess} bytes follow the image and were ignored"] if excess else []


def verify_stream(file: NiftiFile) -> list[str]:
    """Read a file to its end once, keeping nothing, so that each later read is known to be sound.

    Parameters
    ----------
    file : NiftiFile
        The file. An uncompressed one carries no checksum and is not read.

    Returns
    -------
    list of str
        What is odd but harmless.

    Raises
    ------
    IntegrityError
        If the stream is cut, damaged or much longer than declared.
    """
    remarks: list[str] = []
    if file.compressed:
        for _ in iter_volumes(file, 0, 0, remarks=remarks):
            pass
    return remarks


class NiftiArray(BackendArray):
    """Lazy (time, k, j, i) float32 array over a NIfTI file, for ``xarray.core.indexing.LazilyIndexedArray``.

    It holds a path and a few numbers, so that it is small to pickle. An uncompressed file is mapped for the time of
    one read; a compressed one is streamed up to the last volume asked for.

    Parameters
    ----------
    file : NiftiFile
        The file.
    max_bytes : int
        Refuse a single read that would take more memory than this.
    """

    def __init__(self, file: NiftiFile, max_bytes: int) -> None:
        self.file, self.max_bytes = file, max_bytes
        self.shape = file.shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        picks = [np.arange(n)[k] for n, k in zip(self.shape, key, strict=True)]
        check_memory(self.file.path, 4 * int(np.prod([p.size for p in picks], dtype=object)), self.max_bytes)
        check_unchanged(self.file)
        if self.file.compressed:
            return self._read_stream(picks, key)
        stored = np.memmap(self.file.path, self.file.dtype, "r", self.file.offset, self.shape)
        return self.file.scale(np.asarray(outer(stored, key)))

    def _read_stream(self, picks: list[NDArray[np.intp]], key: tuple[Any, ...]) -> NDArray[np.float32]:
        times = np.atleast_1d(picks[0])
        out = np.empty((times.size, *(s for p in picks[1:] for s in p.shape)), dtype=np.float32)
        if times.size:
            lo, hi = int(times.min()), int(times.max()) + 1
            for first, block in iter_volumes(self.file, lo, hi):
                rows = np.flatnonzero((times >= first) & (times < first + len(block)))
                volumes = block.reshape(-1, *self.shape[1:])[times[rows] - first]
                out[rows] = self.file.scale(outer(volumes, (slice(None), *key[1:])))
        return out if picks[0].ndim else out[0]


def outer(array: NDArray[Any], key: tuple[Any, ...]) -> NDArray[Any]:
    """Index each axis on its own; slices and integers first, because they cost nothing."""
    view = array[tuple(slice(None) if isinstance(k, np.ndarray) else k for k in key)]
    axis = 0
    for k in key:
        if isinstance(k, np.ndarray):
            view = np.take(view, k, axis=axis)
        axis += not isinstance(k, int | np.integer)
    return view


def check_memory(where: object, n_bytes: int, max_bytes: int) -> None:
    """Refuse to allocate more than `max_bytes`.

    Parameters
    ----------
    where : object
        The file, for the message.
    n_bytes : int
        What the read would take.
    max_bytes : int
        The limit.

    Raises
    ------
    ConfigError
        If `n_bytes` is larger.
    """
    if n_bytes > max_bytes:
        raise ConfigError(
            "Reading this would take more memory than allowed.",
            expected=f"at most max_bytes={max_bytes}",
            got=f"{n_bytes} bytes ({n_bytes / 2**30:.1f} GiB)",
            where=where,
            fix="select fewer volumes or voxels first (lazy reading, mask=, atlas=), or raise max_bytes=",
        )
