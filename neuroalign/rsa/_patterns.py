"""From labelled data to arrays: which rows are which condition, which dimensions are features, which fold is which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError
from neuroalign.schema import sample_dim

#: Dimensions that are kept, one RDM for each entry, unless they are named as features.
KEPT = ("subject", "session", "model", "layer", "time")


@dataclass(frozen=True)
class Patterns:
    """Measurements by row, with what each row is.

    Attributes
    ----------
    values : ndarray, shape (..., n_rows, n_features)
        Floating-point measurements.
    names : ndarray, shape (n_conditions,)
        Condition labels: in order of appearance if every row is a condition of its own, else sorted.
    codes : ndarray of int, shape (n_rows,)
        Condition of each row, an index into `names`.
    folds : ndarray of int, shape (n_rows,), or None
        Fold of each row.
    lead : dict
        Leading dimensions in order, each with its coordinates.
    units : str
        Units of the measurements.
    """

    values: NDArray[np.floating]
    names: NDArray[Any]
    codes: NDArray[np.int64]
    folds: NDArray[np.int64] | None
    lead: dict[str, dict[Any, xr.DataArray]]
    units: str = "1"

    @property
    def repeated(self) -> bool:
        """Whether a condition was measured more than once."""
        return len(self.codes) > len(self.names)


def from_array(values: NDArray[Any], condition: ArrayLike | None, folds: ArrayLike | None) -> Patterns:
    """Describe a plain array (..., n_rows, n_features); without labels every row is a condition."""
    if values.ndim < 2:
        raise SchemaError("Patterns need two dimensions.", expected="(n_conditions, n_features)", got=values.shape)
    n = values.shape[-2]
    labels = np.arange(n) if condition is None else _column("condition", condition, n)
    names, codes = _encode(labels)
    fold_codes = None if folds is None else np.unique(_column("folds", folds, n), return_inverse=True)[1]
    return Patterns(_floating(values), names, codes, fold_codes, {})


def from_labelled(
    data: xr.DataArray,
    condition: str | ArrayLike | None,
    folds: str | ArrayLike | None,
    dim: str | Iterable[str] | None,
) -> Patterns:
    """Describe a DataArray with a sample dimension and feature dimensions."""
    sample = sample_dim(data)
    if "valid" in data.coords and data["valid"].dims == (sample,):
        data = data.isel({sample: data["valid"].values.astype(bool)})
    features, lead = _split_dims(data, sample, dim)
    labels = _condition_labels(data, sample, condition)
    names, codes = _encode(labels)
    moved = data.transpose(*lead, sample, *features)
    values = moved.values.reshape(*moved.shape[: len(lead) + 1], -1)
    coords = {d: {k: c for k, c in data.coords.items() if c.dims == (d,)} for d in lead}
    fold_codes = _fold_codes(data, sample, folds)
    return Patterns(_floating(values), names, codes, fold_codes, coords, str(data.attrs.get("units", "1")))


def _floating(values: NDArray[Any]) -> NDArray[np.floating]:
    if values.dtype.kind not in "fiub":
        raise SchemaError("Patterns are not numbers.", expected="real numbers", got=f"dtype {values.dtype}")
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def _column(name: str, given: ArrayLike, n: int) -> NDArray[Any]:
    labels = np.asarray(given)
    if labels.shape != (n,):
        raise SchemaError(f"Wrong number of labels in {name}=.", expected=f"{n}, one for each row", got=labels.shape)
    return labels


def _encode(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    names, codes = np.unique(labels, return_inverse=True)
    if len(names) == len(labels):  # one row a condition: the order of the data is meant
        names, codes = labels, np.arange(len(labels))
    if len(names) < 2:
        raise SchemaError("An RDM needs at least two conditions.", got=names.tolist())
    return names, codes


def _split_dims(data: xr.DataArray, sample: str, dim: str | Iterable[str] | None) -> tuple[list[str], list[str]]:
    others = [str(d) for d in data.dims if d != sample]
    if dim is None:
        features = [d for d in others if d not in KEPT]
    else:
        features = [dim] if isinstance(dim, str) else list(dim)
        unknown = [d for d in features if d not in others]
        if unknown:
            raise SchemaError("Unknown feature dimension in dim=.", expected=f"some of {others}", got=unknown)
    if not features:
        raise SchemaError(
            "No dimension of this data holds features.",
            expected=f"a dimension besides {sample!r} and {KEPT}, such as channel, voxel or unit",
            got=f"dims {tuple(data.dims)}",
            fix="name it: dim='time' takes the time course as the pattern",
        )
    return features, [d for d in others if d not in features]


def _condition_labels(data: xr.DataArray, sample: str, condition: str | ArrayLike | None) -> NDArray[Any]:
    if condition is not None and not isinstance(condition, str):
        return _column("condition", condition, data.sizes[sample])
    wanted = (condition,) if condition else ("stimulus_id", "stimulus", "condition", sample)
    for name in wanted:
        # Rows of a trial or time axis are not conditions; rows of a stimulus axis are.
        if name in data.coords and data[name].dims == (sample,) and (name not in ("trial", "time") or condition):
            return np.asarray(data[name].values)
    raise SchemaError(
        "It is not known which row is which condition.",
        expected=f"a coordinate {' or '.join(map(repr, wanted))} along {sample!r}",
        got=f"coordinates {[str(k) for k, c in data.coords.items() if sample in c.dims]}",
        fix="name the coordinate: rdm(data, condition='trial_type'), or add it with data.assign_coords(...)",
    )


def _fold_codes(data: xr.DataArray, sample: str, folds: str | ArrayLike | None) -> NDArray[np.int64] | None:
    if folds is None:
        return None
    if isinstance(folds, str):
        if folds not in data.coords or data[folds].dims != (sample,):
            raise SchemaError(
                f"No coordinate {folds!r} along {sample!r} to take folds from.",
                got=f"coordinates {[str(k) for k, c in data.coords.items() if sample in c.dims]}",
                fix="folds='run' needs a coordinate 'run' on each trial",
            )
        labels = np.asarray(data[folds].values)
    else:
        labels = _column("folds", folds, data.sizes[sample])
    labels = labels.astype(str) if labels.dtype.kind == "O" else labels
    return np.unique(labels, return_inverse=True)[1]
