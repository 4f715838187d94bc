"""How arrays are cut into chunks and shards on disk, by what the dimensions mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["chunk_shape", "shard_shape", "tiles_of"]

WINDOW_SECONDS = 4.0  # training windows take all channels of a few seconds
SHARD_SECONDS = 300.0  # one file for five minutes: 60 times fewer files
SITES = 4096  # voxels, vertices: all times of a block of sites
STIMULI = 256
_SITE_DIMS = ("voxel", "vertex", "grayordinate")
_MAX_CHUNK = 64 << 20
_MAX_SHARD = 64 << 20
_SMALL = 1 << 20


def chunk_shape(
    dims: tuple[str, ...], shape: tuple[int, ...], itemsize: int, attrs: Mapping[str, Any]
) -> tuple[int, ...]:
    """Shape of a chunk: the piece that is decoded as a whole.

    Parameters
    ----------
    dims : tuple of str
        Dimension names.
    shape : tuple of int
        Lengths.
    itemsize : int
        Bytes an element.
    attrs : mapping
        Attributes of the variable; ``sfreq`` sets the length of a window of time.

    Returns
    -------
    tuple of int
        One positive length a dimension.

    Examples
    --------
    >>> chunk_shape(("channel", "time"), (64, 3_600_000), 4, {"sfreq": 1000.0})
    (64, 4000)
    >>> chunk_shape(("time", "voxel"), (600, 37320), 4, {})
    (600, 4096)
    """
    lengths = dict(zip(dims, (max(1, n) for n in shape), strict=True))
    if itemsize * math.prod(lengths.values()) > _SMALL:
        if set(dims) == {"channel", "time"}:
            lengths["time"] = min(lengths["time"], _window(attrs))
        for dim in _SITE_DIMS:
            if dim in lengths:
                lengths[dim] = min(lengths[dim], SITES)
        if "stimulus" in lengths:
            lengths["stimulus"] = min(lengths["stimulus"], STIMULI)
    while itemsize * math.prod(lengths.values()) > _MAX_CHUNK and max(lengths.values()) > 1:
        # the first dimension first: rows are what is read together
        dim = next((d for d in dims if lengths[d] > 1), dims[0])
        lengths[dim] = math.ceil(lengths[dim] / 2)
    return tuple(lengths.values())


def _window(attrs: Mapping[str, Any]) -> int:
    try:
        return max(1, round(WINDOW_SECONDS * float(attrs["sfreq"])))
    except (KeyError, TypeError, ValueError):
        return 4096


def shard_shape(
    dims: tuple[str, ...], shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int
) -> tuple[int, ...] | None:
    """Shape of a shard (a file that holds several chunks), or None when a chunk is a file.

    Parameters
    ----------
    dims : tuple of str
        Dimension names.
    shape, chunks : tuple of int
        Lengths of the array and of a chunk.
    itemsize : int
        Bytes an element.

    Returns
    -------
    tuple of int or None
        Whole multiples of the chunk.

    Examples
    --------
    >>> shard_shape(("channel", "time"), (64, 3_600_000), (64, 4000), 4)
    (64, 260000)
    """
    if set(dims) != {"channel", "time"}:
        return None
    axis = dims.index("time")
    by_size = _MAX_SHARD // (itemsize * math.prod(chunks))
    wanted = min(round(SHARD_SECONDS / WINDOW_SECONDS), by_size, math.ceil(shape[axis] / chunks[axis]))
    if wanted < 2:
        return None
    return tuple(n * wanted if k == axis else n for k, n in enumerate(chunks))


def tiles_of(shape: tuple[int, ...], unit: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array into tiles that are whole multiples of a unit and about 64 MB, in C order.

    Parameters
    ----------
    shape, unit : tuple of int
        Lengths of the array and of a unit (chunk or shard).
    itemsize : int
        Bytes an element.

    Yields
    ------
    tuple of slice
        One slice a dimension. No tile for an array without elements.
    """
    size = list(unit)
    for axis in reversed(range(len(shape))):
        room = max(1, _MAX_SHARD // (itemsize * math.prod(size)))
        size[axis] *= min(room, math.ceil(shape[axis] / size[axis]) or 1)
    counts = [math.ceil(n / step) for n, step in zip(shape, size, strict=True)]
    for flat in range(math.prod(counts)):
        index = []
        for count in reversed(counts):
            flat, position = divmod(flat, count)
            index.append(position)
        yield tuple(
            slice(k * step, min((k + 1) * step, n)) for k, step, n in zip(reversed(index), size, shape, strict=True)
        )
