"""Responses as a (sample, target) matrix and back to labelled targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import AlignmentError, SchemaError
from neuroalign.schema import sample_dim


def template(y: Any) -> xr.DataArray:
    """Make an empty DataArray with the target dimensions and labels of responses (any kind of array)."""
    if isinstance(y, xr.DataArray):
        targets = y.variable.dims
        dim = sample_dim(y)
        kept = [d for d in targets if d != dim]
        coords = {name: c for name, c in y.coords.items() if dim not in c.dims and c.ndim and set(c.dims) <= set(kept)}
        return xr.DataArray(np.full([y.sizes[d] for d in kept], np.nan), dims=kept, coords=coords, name=y.name)
    shape = np.shape(y)[1:] if np.ndim(y) > 1 else (1,)
    dims = ["target"] if len(shape) == 1 else [f"target_{i}" for i in range(len(shape))]
    return xr.DataArray(np.full(shape, np.nan), dims=dims)


def matrix(y: Any) -> NDArray[Any]:
    """Give responses as floats of shape (n_samples, n_targets), targets in C order of their dimensions."""
    if np.ma.is_masked(y):
        raise SchemaError(
            "Masked values would be taken for data.",
            expected="missing values as NaN",
            got=type(y).__name__,
            fix="y.astype(float).filled(np.nan)",
        )
    if isinstance(y, xr.DataArray):
        y = y.transpose(sample_dim(y), ...).to_numpy()
    values = np.asarray(y)
    if values.ndim == 0 or values.shape[0] == 0:
        raise SchemaError("There are no samples.", expected="samples along the first axis", got=values.shape)
    if values.dtype.kind not in "fiub":
        raise SchemaError("Responses are not real numbers.", expected="floats", got=f"dtype {values.dtype}")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    return values.reshape(len(values), -1)


def restore(values: ArrayLike, like: xr.DataArray, dim: str | None = None) -> xr.DataArray:
    """Give values of shape (n_targets,), or (n, n_targets) with a new first dimension, the labels of a template."""
    array = np.asarray(values)
    shape = like.shape if dim is None else (array.shape[0], *like.shape)
    dims = like.dims if dim is None else (dim, *like.dims)
    return xr.DataArray(array.reshape(shape), dims=dims, coords=like.coords)


def matched(first: Any, other: Any, names: tuple[str, str]) -> Any:
    """Bring `other` to the dimension order of `first`, or say where their shapes or labels differ."""
    if isinstance(first, xr.DataArray) and isinstance(other, xr.DataArray):
        if set(first.dims) != set(other.dims):
            raise AlignmentError(
                f"{names[0]} and {names[1]} differ in dimensions.", expected=first.dims, got=other.dims, where=names[1]
            )
        other = other.transpose(*first.dims)
        for dim in first.dims:
            if dim in first.indexes and dim in other.indexes and not first.indexes[dim].equals(other.indexes[dim]):
                raise AlignmentError(
                    f"{names[0]} and {names[1]} differ in their labels.",
                    expected=f"{first.indexes[dim][:3].tolist()}...",
                    got=f"{other.indexes[dim][:3].tolist()}...",
                    where=f"dimension {dim!r}",
                )
    if np.shape(first) != np.shape(other):
        raise AlignmentError(
            f"{names[0]} and {names[1]} differ in shape.", expected=np.shape(first), got=np.shape(other), where=names[1]
        )
    return other


def tiles(n_targets: int, bytes_per_target: int, budget: int = 2**26) -> list[slice]:
    """Cut targets into slices whose working memory stays below a budget in bytes."""
    width = int(min(max(1, budget // max(1, bytes_per_target)), max(1, n_targets)))
    return [slice(start, min(start + width, n_targets)) for start in range(0, n_targets, width)]
