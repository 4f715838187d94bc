"""How arrays are cut into chunks and shards on disk, by what the dimensions mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import xarray as xr

from neuroalign.errors import ConfigError

__all__ = [
    "LAYOUTS",
    "Chunks",
    "check_chunks",
    "chunk_shape",
    "prefer_chunks",
    "preferred_chunks",
    "shard_shape",
    "tiles_of",
]

WINDOW_SECONDS = 2.0  # training windows take all channels of a few seconds
LINE_SECONDS = 60.0  # work on single channels takes a few of them for long
LINE_CHANNELS = 16
SHARD_SECONDS = 300.0  # one file for five minutes: 60 times fewer files
SITES = 4096  # voxels, vertices: all times of a block of sites
STIMULI = 256
_SITE_DIMS = ("voxel", "vertex", "grayordinate")
_MAX_CHUNK = 64 << 20
_MAX_SHARD = 64 << 20
_SMALL = 1 << 20
_MAX_TRIALS = 64  # in a file
_DASK_CHUNK = 8 << 20

#: Names of layouts, for sensors: all channels of 2 s, or 16 channels of a minute.
LAYOUTS = ("windows", "channels")
Chunks = str | Mapping[str, int] | None


def check_chunks(chunks: Chunks, dims: Iterable[str]) -> None:
    """Refuse a layout that is not known, or that names dimensions which no variable has.

    Parameters
    ----------
    chunks : str, mapping or None
        A name of `LAYOUTS`, or lengths by dimension.
    dims : iterable of str
        All dimensions of the object.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if chunks is None or (isinstance(chunks, str) and chunks in LAYOUTS):
        return
    known = list(dict.fromkeys(dims))
    if not isinstance(chunks, Mapping):
        raise ConfigError(
            "Unknown layout of chunks.", expected=f"{' or '.join(LAYOUTS)}, or {{dim: length}}", got=chunks
        )
    for dim, length in chunks.items():
        if dim not in known:
            raise ConfigError("chunks= names a dimension that is not there.", expected=known, got=dim)
        if isinstance(length, bool) or not isinstance(length, int) or not (length > 0 or length == -1):
            raise ConfigError("Not a length of a chunk.", expected="1 or more, or -1 for all", got=length, where=dim)


def chunk_shape(
    dims: tuple[str, ...], shape: tuple[int, ...], itemsize: int, attrs: Mapping[str, Any], chunks: Chunks = None
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
    chunks : str or mapping, optional
        A name of `LAYOUTS`, or lengths by dimension (-1: all); by default ``"windows"``.

    Returns
    -------
    tuple of int
        One positive length a dimension.

    Examples
    --------
    >>> chunk_shape(("channel", "time"), (64, 3_600_000), 4, {"sfreq": 1000.0})
    (64, 2000)
    >>> chunk_shape(("channel", "time"), (64, 3_600_000), 4, {"sfreq": 1000.0}, "channels")
    (16, 60000)
    >>> chunk_shape(("time", "voxel"), (600, 37320), 4, {})
    (600, 4096)
    """
    lengths = dict(zip(dims, (max(1, n) for n in shape), strict=True))
    if isinstance(chunks, Mapping):
        given = {dim: n for dim, n in chunks.items() if dim in lengths and n != -1}
        lengths |= {dim: min(lengths[dim], n) for dim, n in given.items()}
    elif itemsize * math.prod(lengths.values()) > _SMALL:
        for dim, length in _meant(dims, lengths, itemsize, attrs, chunks == "channels").items():
            lengths[dim] = min(lengths[dim], length)
    while itemsize * math.prod(lengths.values()) > _MAX_CHUNK and max(lengths.values()) > 1:
        # the first dimension first: rows are what is read together
        dim = next((d for d in dims if lengths[d] > 1), dims[0])
        lengths[dim] = math.ceil(lengths[dim] / 2)
    return tuple(lengths.values())


def _meant(
    dims: tuple[str, ...], lengths: Mapping[str, int], itemsize: int, attrs: Mapping[str, Any], by_channel: bool
) -> dict[str, int]:
    """Lengths that follow from what the dimensions mean."""
    if set(dims) == {"channel", "time"}:
        if by_channel:
            return {"channel": LINE_CHANNELS, "time": _samples(attrs, LINE_SECONDS)}
        return {"time": _samples(attrs, WINDOW_SECONDS)}
    wanted = {dim: SITES for dim in _SITE_DIMS if dim in dims}
    if "stimulus" in dims:
        wanted["stimulus"] = STIMULI
    elif dims[0] == "trial" and not wanted:  # trials are drawn at random: about a megabyte of them
        each = itemsize * math.prod(lengths.values()) // lengths["trial"]
        wanted["trial"] = max(1, _SMALL // max(1, each))
    return wanted


def _samples(attrs: Mapping[str, Any], seconds: float) -> int:
    try:
        return max(1, round(seconds * float(attrs["sfreq"])))
    except (KeyError, TypeError, ValueError, OverflowError):
        return round(seconds * 1024)


def shard_shape(
    dims: tuple[str, ...], shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int, attrs: Mapping[str, Any]
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
    attrs : mapping
        Attributes of the variable; ``sfreq`` sets how much is five minutes.

    Returns
    -------
    tuple of int or None
        Whole multiples of the chunk.

    Examples
    --------
    >>> shard_shape(("channel", "time"), (64, 3_600_000), (64, 2000), 4, {"sfreq": 1000.0})
    (64, 262000)
    """
    if set(dims) == {"channel", "time"}:
        axis = dims.index("time")
        most = max(1, _samples(attrs, SHARD_SECONDS) // chunks[axis])
    elif dims[:1] == ("trial",):
        axis, most = 0, _MAX_TRIALS
    else:
        return None
    by_size = _MAX_SHARD // (itemsize * math.prod(chunks))
    wanted = min(most, by_size, math.ceil(shape[axis] / chunks[axis]))
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


def preferred_chunks(
    dims: tuple[str, ...], shape: tuple[int, ...], unit: tuple[int, ...], itemsize: int
) -> dict[str, int]:
    """Lengths for dask: whole units, about 8 MB together, longer along time (sensors) or the first dimension.

    Parameters
    ----------
    dims : tuple of str
        Dimension names.
    shape, unit : tuple of int
        Lengths of the array and of what is read as a whole.
    itemsize : int
        Bytes an element.

    Returns
    -------
    dict of str to int
        For ``encoding["preferred_chunks"]``, which ``xarray.open_dataset(..., chunks={})`` follows.

    Examples
    --------
    >>> preferred_chunks(("channel", "time"), (64, 3_600_000), (64, 2000), 4)
    {'channel': 64, 'time': 32000}
    """
    if not dims:
        return {}
    axis = dims.index("time") if set(dims) == {"channel", "time"} else 0
    room = max(1, _DASK_CHUNK // max(1, itemsize * math.prod(unit)))
    lengths = [max(1, min(n, size)) for n, size in zip(unit, shape, strict=True)]
    lengths[axis] = max(1, min(unit[axis] * room, shape[axis]))
    return dict(zip(dims, lengths, strict=True))


def prefer_chunks(ds: xr.Dataset) -> xr.Dataset:
    """Say how lazy variables are best cut for dask, where they do not say so.

    Parameters
    ----------
    ds : Dataset
        Any Dataset.

    Returns
    -------
    Dataset
        A shallow copy with ``encoding["preferred_chunks"]``: about 8 MB, all channels of a stretch of time, or whole
        rows of the first dimension.
    """
    ds = ds.copy(deep=False)
    for variable in ds.data_vars.values():
        small = variable.nbytes <= _DASK_CHUNK  # one piece, whatever is preferred
        if small or variable.variable._in_memory or "preferred_chunks" in variable.encoding:
            continue
        dims = tuple(map(str, variable.dims))
        axis = dims.index("time") if set(dims) == {"channel", "time"} else 0
        unit = tuple(1 if k == axis else n for k, n in enumerate(variable.shape))
        variable.encoding["preferred_chunks"] = preferred_chunks(dims, variable.shape, unit, variable.dtype.itemsize)
    return ds
