"""Take labels off an object and put them back on an array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.align import first_difference
from neuroalign.errors import AlignmentError, SchemaError
from neuroalign.schema import TRAVELLING, clock, sample_dim

Coords = dict[str, tuple[tuple[str, ...], NDArray[Any]]]


@dataclass(frozen=True)
class Samples:
    """The labels of the samples of one object.

    Parameters
    ----------
    n : int
        Number of samples.
    dim : str or None
        Name of the sample dimension; None for plain arrays.
    coords : dict
        Coordinates along it, name to values.
    sfreq : float or None
        Sampling rate in Hz where samples are times.
    """

    n: int
    dim: str | None = None
    coords: dict[str, NDArray[Any]] = field(default_factory=dict)
    sfreq: float | None = None

    def get(self, name: str) -> NDArray[Any] | None:
        """Give the values of a coordinate, or None."""
        return self.coords.get(name)


@dataclass(frozen=True)
class Labels:
    """Everything but the samples: dimensions, coordinates, name and attributes of features or targets.

    Parameters
    ----------
    dims : tuple of str
        Dimension names without the sample dimension.
    shape : tuple of int
        Their sizes.
    coords : dict
        Name to (dims, values).
    name : str or None
        Name of the DataArray.
    attrs : dict
        Attributes that stay true of predictions and scores (geometry, clock).
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    coords: Coords
    name: str | None = None
    attrs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def plain(cls, shape: tuple[int, ...], dim: str = "target") -> Labels:
        """Labels of an array without names: dimensions target, target_1, ... without coordinates."""
        return cls(tuple(dim if n == 0 else f"{dim}_{n}" for n in range(len(shape))), shape, {})

    def wrap(self, values: NDArray[Any], samples: Samples | None = None) -> xr.DataArray:
        """Put labels on values.

        Parameters
        ----------
        values : ndarray, shape (n_samples, n) or (n,)
            With a leading sample axis if `samples` is given.
        samples : Samples, optional
            Labels of the leading axis.

        Returns
        -------
        DataArray
            Dims (sample dimension, *dims) or dims.
        """
        coords: dict[str, Any] = dict(self.coords)
        dims, shape = self.dims, self.shape
        if samples is not None:
            dim = samples.dim or "sample"
            dims, shape = (dim, *dims), (samples.n, *shape)
            # a sample label named like a dimension of the targets gives way to it
            coords |= {name: ((dim,), labels) for name, labels in samples.coords.items() if name not in self.dims}
        return xr.DataArray(values.reshape(shape), dims=dims, coords=coords, name=self.name, attrs=dict(self.attrs))

    @property
    def size(self) -> int:
        """Number of features or targets."""
        return int(np.prod(self.shape, dtype=np.int64))

    def arrange(self, obj: xr.DataArray) -> xr.DataArray:
        """Bring the dimensions of an object into this order, where it has just these and a sample dimension."""
        rest = [dim for dim in obj.dims if dim not in self.dims]
        return obj.transpose(*rest, *self.dims) if len(rest) == 1 and obj.ndim == len(self.dims) + 1 else obj

    def check_same(self, other: Labels, what: str) -> None:
        """Refuse other labels than these, naming the first difference.

        Parameters
        ----------
        other : Labels
            Labels that came.
        what : str
            Whose they are, for the message.

        Raises
        ------
        AlignmentError
            If dimensions, sizes or names differ.
        """
        if (self.dims, self.shape) != (other.dims, other.shape):
            raise AlignmentError(
                f"{what} have another shape than at fit.",
                expected=dict(zip(self.dims, self.shape, strict=True)),
                got=dict(zip(other.dims, other.shape, strict=True)),
            )
        for dim in self.dims:
            if dim in self.coords and dim in other.coords:
                difference = first_difference(self.coords[dim][1], other.coords[dim][1])
                if difference is not None:
                    raise AlignmentError(
                        f"{what} have other names along {dim} than at fit.",
                        expected="the same names in the same order",
                        got=difference,
                        fix=f"x.sel({dim}=...) in the order of the data given to fit",
                    )


def open_samples(obj: xr.DataArray, dim: str | None = None) -> tuple[NDArray[Any], Samples, Labels]:
    """Take the labels off a DataArray.

    Parameters
    ----------
    obj : DataArray
        With a sample dimension.
    dim : str, optional
        The sample dimension; by default the one that `neuroalign.schema.sample_dim` finds.

    Returns
    -------
    values : ndarray, shape (n_samples, n)
        All other dimensions stacked.
    samples : Samples
        Labels of the samples.
    labels : Labels
        Labels of everything else.
    """
    samples, labels = read_labels(obj, dim)
    return obj.transpose(samples.dim, ...).values.reshape(samples.n, labels.size), samples, labels


def read_labels(obj: xr.DataArray, dim: str | None = None) -> tuple[Samples, Labels]:
    """Look at the labels of a DataArray; its values may stay on disk.

    Parameters
    ----------
    obj : DataArray
        With a sample dimension.
    dim : str, optional
        The sample dimension; by default the one that `neuroalign.schema.sample_dim` finds.

    Returns
    -------
    samples : Samples
        Labels of the samples.
    labels : Labels
        Labels of everything else.
    """
    dim = dim or sample_dim(obj)
    if dim not in obj.dims:
        raise SchemaError("No such sample dimension.", expected=dim, got=obj.dims)
    rest = tuple(str(d) for d in obj.dims if d != dim)
    along: dict[str, NDArray[Any]] = {}
    coords: Coords = {}
    for name, coord in obj.coords.items():
        if coord.dims == (dim,):
            along[str(name)] = coord.values
        elif coord.dims and set(coord.dims) <= set(rest):
            coords[str(name)] = (tuple(map(str, coord.dims)), coord.values)
    sfreq = clock(obj)[1] if dim == "time" and "time" in obj.coords and obj.sizes["time"] > 1 else None
    shape, name = tuple(obj.sizes[d] for d in rest), None if obj.name is None else str(obj.name)
    return Samples(obj.sizes[dim], dim, along, sfreq), Labels(rest, shape, coords, name, _travelling(obj.attrs))


def _travelling(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: attrs[name] for name in TRAVELLING if name in attrs}
