"""Find the labels that splits, repeats and tests go by, and take samples from labelled or plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.schema import RUN_NAMES, sample_dim

#: Names under which a stimulus may be known along the sample dimension.
STIMULUS_NAMES = ("stimulus_id", "stimulus")
#: Sample dimensions whose neighbours are close in time.
TIME_DIMS = ("time", "sample")

Labelled = xr.DataArray | xr.Dataset


def parts(data: Any) -> list[Any]:
    """List the arrays of an input that may be a mapping of feature spaces."""
    if data is None:
        return []
    return list(data.values()) if isinstance(data, Mapping) and not isinstance(data, xr.Dataset) else [data]


def without_values(*data: Any) -> dict[int, Any]:
    """Give what says how many samples there are and how they are labelled, in any of several inputs."""
    return dict(enumerate(_emptied(part) for one in data for part in parts(one)))


def _emptied(part: Any) -> Any:
    if not isinstance(part, (xr.DataArray, xr.Dataset)):
        return np.empty((n_samples(part), 0))
    return part.isel({dim: slice(0) for dim in part.dims if dim != sample_dim(part)})


def n_samples(data: Any) -> int:
    """Count the samples of a labelled object (along its sample dimension), a mapping of them, or an array."""
    first = parts(data)[0] if parts(data) else data
    if isinstance(first, (xr.DataArray, xr.Dataset)):
        return int(first.sizes[sample_dim(first)])
    if hasattr(first, "shape") and len(first.shape):
        return int(first.shape[0])
    if hasattr(first, "__len__"):
        return len(first)
    raise SchemaError("Samples cannot be counted.", expected="an array with samples first, or labels", got=type(first))


def take(data: Any, index: NDArray[np.int64]) -> Any:
    """Select samples by position, whatever the kind of input."""
    if isinstance(data, (xr.DataArray, xr.Dataset)):
        return data.isel({sample_dim(data): index})
    if isinstance(data, Mapping):
        return {name: take(part, index) for name, part in data.items()}
    if hasattr(data, "iloc"):
        return data.iloc[index]
    return np.asarray(data)[index]


def find(name: str, *data: Any) -> NDArray[Any] | None:
    """Give the values of a coordinate along the sample dimension, from the first input that has it."""
    for obj in (part for one in data for part in parts(one)):
        if not isinstance(obj, (xr.DataArray, xr.Dataset)) or name not in obj.coords:
            continue
        if obj.coords[name].dims == (sample_dim(obj),):
            return np.asarray(obj.coords[name].values)
    return None


def find_stimulus(*data: Any) -> NDArray[Any] | None:
    """Give the stimulus of each sample, or None when it is not labelled."""
    for name in STIMULUS_NAMES:
        values = find(name, *data)
        if values is not None:
            return values
    return None


def find_runs(*data: Any) -> NDArray[np.int64] | None:
    """Number the runs (subject, session, run and story together) by sample, or None when there are not two."""
    found = [values for name in RUN_NAMES if (values := find(name, *data)) is not None]
    if not found:
        return None
    combined = np.zeros(len(found[0]), dtype=np.int64)
    for values in found:
        number = codes(values, "run")
        combined = combined * (int(number.max(initial=0)) + 1) + number
    runs = codes(combined, "run")
    return runs if runs.max(initial=0) > 0 else None


def named(labels: str | ArrayLike, *data: Any, role: str) -> NDArray[Any]:
    """Turn the name of a coordinate, or one label a sample, into an array of labels.

    Raises
    ------
    ConfigError
        If no input has that coordinate along its samples; the message lists those there are.
    SchemaError
        If the number of labels is not the number of samples.
    """
    n = n_samples(data[0])
    if isinstance(labels, str):
        values = find_stimulus(*data) if labels in STIMULUS_NAMES else find(labels, *data)
        if values is None:
            raise ConfigError(
                f"No coordinate {labels!r} along the samples.",
                expected=f"one of {along_samples(*data)}",
                got=labels,
                where=role,
                fix=f"add it with y.assign_coords({labels}=(sample_dim, values)), or pass one label a sample",
            )
    else:
        values = np.asarray(labels)
    if values.shape != (n,):
        raise SchemaError("Not one label a sample.", expected=f"shape ({n},)", got=values.shape, where=role)
    return values


def along_samples(*data: Any) -> list[str]:
    """List the coordinates that lie along the sample dimension."""
    labelled = [obj for one in data for obj in parts(one) if isinstance(obj, (xr.DataArray, xr.Dataset))]
    return sorted({str(name) for obj in labelled for name, c in obj.coords.items() if c.dims == (sample_dim(obj),)})


def codes(labels: ArrayLike, where: str) -> NDArray[np.int64]:
    """Number labels 0, 1, 2, ... in the order in which they first appear.

    Raises
    ------
    SchemaError
        If a label is missing (None or NaN): such a sample could be put on either side.
    """
    values = np.asarray(labels)
    if values.ndim != 1:
        raise SchemaError(
            "Labels are not one-dimensional.", expected="shape (n_samples,)", got=values.shape, where=where
        )
    numbers, _ = pd.factorize(values)
    if (numbers < 0).any():
        first = int(np.argmax(numbers < 0))
        raise SchemaError(
            "A label is missing.",
            expected=f"a {where} label for every sample",
            got=f"{values[first]!r} at sample {first}",
            where=where,
            fix="drop these samples first",
        )
    return numbers.astype(np.int64)


def is_time_series(*data: Any) -> bool:
    """Tell whether samples are neighbours in time (sample dimension ``time`` or ``sample``)."""
    labelled = [obj for one in data for obj in parts(one) if isinstance(obj, (xr.DataArray, xr.Dataset))]
    return any(sample_dim(obj) in TIME_DIMS for obj in labelled)
