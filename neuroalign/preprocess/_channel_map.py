"""Sparse (channel_out, channel_in) matrices: applied block by block, lazily, and kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.sparse
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign.errors import SchemaError

__all__ = ["ChannelMap", "map_channels"]

#: Bytes of float64 that are worked on at once.
_BLOCK = 32 * 2**20
_PARTS = ("select", "spread", "mean")


@dataclass(frozen=True)
class ChannelMap:
    """A linear map of channels, kept as ``select - spread @ mean``.

    An average over n channels that is taken off each of them has n * n weights, but only 3 * n in these parts.

    Attributes
    ----------
    inputs, outputs : list of str
        Names of channels.
    select : csr_array, shape (n_outputs, n_inputs)
        Channels that make up each output.
    spread : csr_array, shape (n_outputs, n_means)
        Which mean is taken off each output.
    mean : csr_array, shape (n_means, n_inputs)
        Weights of the means.
    """

    inputs: list[str]
    outputs: list[str]
    select: scipy.sparse.csr_array
    spread: scipy.sparse.csr_array
    mean: scipy.sparse.csr_array

    @property
    def matrix(self) -> scipy.sparse.csr_array:
        """The whole matrix, shape (n_outputs, n_inputs)."""
        return scipy.sparse.csr_array(self.select - self.spread @ self.mean)

    @property
    def donors(self) -> NDArray[np.intp]:
        """Inputs that go into another output than their own."""
        mixed = self.select[np.flatnonzero(np.diff(self.select.indptr) > 1)]
        return np.union1d(mixed.indices, self.mean.indices).astype(np.intp)

    def rows(self, rows: NDArray[np.intp]) -> tuple[Self, NDArray[np.intp]]:
        """Give the map to some outputs from the inputs that these need, and the positions of those."""
        select, spread = self.select[rows], self.spread[rows]
        means = np.unique(spread.indices)
        spread, mean = spread[:, means], self.mean[means]
        columns = np.union1d(select.indices, mean.indices).astype(np.intp)
        names = [self.inputs[n] for n in columns], [self.outputs[n] for n in rows]
        return type(self)(*names, select[:, columns], spread, mean[:, columns]), columns

    def apply(self, x: NDArray[Any]) -> NDArray[Any]:
        """Map values of shape (..., n_inputs, n_times) to (..., n_outputs, n_times), in float64 and in blocks."""
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        *lead, n_inputs, n_times = x.shape
        out = np.empty((*lead, len(self.outputs), n_times), dtype=dtype)
        step = max(1, _BLOCK // (8 * max(1, n_inputs)))
        for row in np.ndindex(*lead):
            for start in range(0, n_times, step):
                block = np.ascontiguousarray(x[row][:, start : start + step], dtype=np.float64)
                result = self.select @ block
                if self.spread.nnz:
                    result -= self.spread @ (self.mean @ block)
                out[row][:, start : start + step] = result
        return out

    def to_dict(self) -> dict[str, Any]:
        """Give the map as lists: names, and (row, column, weight) of the parts."""
        parts = {}
        for name in _PARTS:
            coo = getattr(self, name).tocoo()
            parts[name] = {"row": coo.row.tolist(), "column": coo.col.tolist(), "weight": coo.data.tolist()}
        return {"inputs": list(self.inputs), "outputs": list(self.outputs), **parts}

    def to_json(self) -> str:
        """Give `to_dict` as text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Build a map from what `to_dict` gave; a ValueError or KeyError if it is damaged."""
        inputs, outputs = list(content["inputs"]), list(content["outputs"])
        n_means = 1 + max([-1, *content["mean"]["row"]])
        shapes = {
            "select": (len(outputs), len(inputs)),
            "spread": (len(outputs), n_means),
            "mean": (n_means, len(inputs)),
        }
        parts = []
        for name in _PARTS:
            entry = content[name]
            where = (np.asarray(entry["row"], dtype=np.intp), np.asarray(entry["column"], dtype=np.intp))
            weights = np.asarray(entry["weight"], dtype=np.float64)
            parts.append(scipy.sparse.csr_array(scipy.sparse.coo_array((weights, where), shape=shapes[name])))
        return cls(inputs, outputs, *parts)


def map_channels(variable: xr.Variable, channel_map: ChannelMap, checked: NDArray[np.intp], valid: Any) -> xr.Variable:
    """Apply a map to a recording; one that is lazy stays so.

    Parameters
    ----------
    variable : Variable
        With the dimensions ``channel`` and ``time``, and any others.
    channel_map : ChannelMap
        The map.
    checked : ndarray of int
        Inputs that may not hold NaN or Inf, because they would spread.
    valid : Variable or None
        Where samples are not valid, anything may be held.

    Returns
    -------
    Variable
        The same dimensions in the same order.

    Raises
    ------
    SchemaError
        If values that would spread are not finite; for a lazy recording when it is read.
    """
    turned = variable.transpose(..., "channel", "time")
    array = _MappedArray(turned, channel_map, checked, valid)
    if variable._in_memory:
        data: Any = array.read(tuple(slice(None) for _ in turned.dims))
    else:
        lazy: Any = indexing.LazilyIndexedArray(array)
        data = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(lazy))
    out = xr.Variable(turned.dims, data, variable.attrs).transpose(*variable.dims)
    # A recording of dask comes back as one, cut along time as before.
    return out if variable.chunks is None else out.chunk({"time": variable.chunksizes["time"]})


class _MappedArray(BackendArray):
    """Channels of a lazy recording, mapped when they are read."""

    def __init__(self, source: xr.Variable, channel_map: ChannelMap, checked: NDArray[np.intp], valid: Any) -> None:
        self.source, self.map, self.checked, self.valid = source, channel_map, checked, valid
        self.shape = (*source.shape[:-2], len(channel_map.outputs), source.shape[-1])
        self.dtype = source.dtype if source.dtype.kind == "f" else np.dtype(np.float64)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.read)

    def read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Read some of the outputs."""
        wanted = [np.arange(n)[k] for n, k in zip(self.shape, key, strict=True)]
        flat = [np.atleast_1d(w) for w in wanted]
        part, columns = self.map.rows(flat[-2])
        out = np.empty([f.size for f in flat], dtype=self.dtype)
        axis = 0 if out.ndim > 2 else -1  # several trials at once, or a stretch of time
        step = max(1, _BLOCK * out.shape[axis] * out.shape[-2] // (8 * max(1, out.size * len(columns))))
        for start in range(0, out.shape[axis], step):
            where: list[Any] = [slice(None)] * out.ndim
            where[axis] = slice(start, start + step)
            index = [f[w] for f, w in zip(flat, where, strict=True)]
            index[-2] = columns
            here = {dim: _as_slice(i) for dim, i in zip(self.source.dims, index, strict=True)}
            x = self.source.isel(here).values
            self._check(x, columns, here)
            out[tuple(where)] = part.apply(x)
        return out.reshape([w.size for w in wanted if w.ndim])

    def _check(self, x: NDArray[Any], columns: NDArray[np.intp], here: Mapping[Any, Any]) -> None:
        looked_at = np.flatnonzero(np.isin(columns, self.checked))
        fine = np.isfinite(x[..., looked_at, :])
        if fine.all():
            return
        dims = [dim for dim in self.source.dims if dim != "channel"]
        whole = xr.Variable(dims, fine.all(axis=-2))
        if self.valid is not None:
            whole = whole | ~self.valid.isel({dim: here[dim] for dim in self.valid.dims})
        if whole.values.all():
            return
        each = fine.all(axis=-1).reshape(-1, len(looked_at)).all(axis=0)
        raise SchemaError(
            "Channels of the reference hold NaN or Inf, which would spread to the others.",
            expected="finite values, but where channels are bad or samples not valid",
            got=[self.map.inputs[n] for n in columns[looked_at[~each]]],
            fix="mark them as bad: ds.assign_coords(bad=ds['bad'] | ds['channel'].isin([...]))",
        )


def _as_slice(index: NDArray[np.intp]) -> Any:
    """Give an unbroken range as a slice, which reads without copies."""
    if index.size and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index
