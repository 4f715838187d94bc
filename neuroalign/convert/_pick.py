"""Which values of a labelled object go out: a variable, and a selection by label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from neuroalign.errors import ConfigError, SchemaError

__all__ = ["PERSONAL", "as_read", "kept_meta", "pick", "split", "time_step"]

#: Taken from a Dataset with several variables when none is named.
_MAIN = ("bold", "map", "label", "score")
#: Metadata of GIFTI and CIFTI that name people, dates or the folders of a lab.
PERSONAL = frozenset({"UserName", "Date", "WorkingDirectory", "Provenance", "ParentProvenance"})


def pick(obj: xr.Dataset | xr.DataArray, variable: str | None, indexers: Mapping[str, Any]) -> xr.DataArray:
    """Take one variable, with the attributes of its Dataset, and select from it by label.

    Parameters
    ----------
    obj : Dataset or DataArray
        Where the values are.
    variable : str or None
        Of a Dataset; by default the only one, or ``bold``, ``map``, ``label`` or ``score``.
    indexers : mapping
        Labels by name of dimension (``time`` to the nearest sample), or values of a coordinate to keep the sites of.

    Returns
    -------
    DataArray
        The selection.

    Raises
    ------
    ConfigError
        If there is no such variable, dimension, coordinate or label.
    """
    array = _variable(obj, variable)
    for name, value in indexers.items():
        array = _select(array, name, value)
    return array


def _variable(obj: xr.Dataset | xr.DataArray, variable: str | None) -> xr.DataArray:
    if isinstance(obj, xr.DataArray):
        if variable not in (None, obj.name):
            raise ConfigError("This DataArray has another name.", expected=obj.name, got=variable, fix="leave it out")
        return obj
    names = list(map(str, obj.data_vars))
    known = names if len(names) == 1 else [name for name in _MAIN if name in names]
    name = variable if variable is not None else (known[0] if known else "")
    if name not in names:
        raise ConfigError(
            "Which variable?" if variable is None else "No such variable.",
            expected=" or ".join(names) or "a variable",
            got=variable,
            fix=f"pass variable={names[0]!r}" if names else None,
        )
    return obj[name].assign_attrs({**obj.attrs, **obj[name].attrs})


def _select(array: xr.DataArray, name: str, value: Any) -> xr.DataArray:
    if name not in array.dims and name not in array.coords:
        raise ConfigError(
            f"There is no dimension or coordinate {name!r}.",
            expected=", ".join(map(str, (*array.dims, *(c for c in array.coords if c not in array.dims)))),
            got=name,
        )
    nearest = name == "time" and np.isscalar(value)
    try:
        if name in array.indexes:
            return array.sel({name: value}, method="nearest") if nearest else array.sel({name: value})
        if name in array.dims:
            return array.isel({name: value})
    except (KeyError, IndexError) as error:
        labels = array[name].values if name in array.coords else np.arange(array.sizes[name])
        raise ConfigError(
            f"There is no such {name}.", expected=f"one of {labels[:10].tolist()}", got=f"{value!r} ({error})"
        ) from None
    kept = np.isin(array[name].values, value)
    if array[name].ndim != 1 or not kept.any():
        raise ConfigError(
            f"Nothing has this {name}.", expected=f"one of {np.unique(array[name].values)[:10].tolist()}", got=value
        )
    return array.isel({array[name].dims[0]: np.flatnonzero(kept)})


def as_read(array: xr.DataArray) -> bool:
    """Tell whether values are those of the file, so that all that its header says of them applies.

    Scores and estimates of responses keep the place and often the name of a run, but not its time.
    """
    return array.name in ("map", "label") or (array.name == "bold" and "time" in array.coords)


def split(array: xr.DataArray, space: tuple[str, ...], target: str) -> tuple[xr.DataArray, str | None]:
    """Order dimensions as (row, *space), where a row is one image, and name the dimension of the rows.

    Parameters
    ----------
    array : DataArray
        The values.
    space : tuple of str
        Dimensions of one image.
    target : str
        What is made, for the message.

    Returns
    -------
    array : DataArray, dims (row, *space)
        With ``row`` in front.
    dim : str or None
        What the rows were; None where there was a single image.
    """
    rows = [str(dim) for dim in array.dims if dim not in space]
    if len(rows) > 1:  # axes of length one carry no information
        array = array.isel({dim: 0 for dim in rows if array.sizes[dim] == 1}, drop=True)
        rows = [dim for dim in rows if dim in array.dims]
    if len(rows) > 1:
        raise SchemaError(
            f"Too many dimensions for {target}.",
            expected=f"at most one besides {', '.join(space)}",
            got=f"{rows} of sizes {[array.sizes[dim] for dim in rows]}",
            fix=f"select one, for example {rows[-1]}=...",
        )
    ordered = array if rows else array.expand_dims("row")
    dim = rows[0] if rows else None
    return ordered.transpose(dim or "row", *space), dim


def time_step(array: xr.DataArray) -> float | None:
    """Seconds from one volume to the next, ``tr`` where the times agree; None where they are not equally spaced."""
    steps = np.diff(array["time"].values) if "time" in array.coords else np.empty(0)
    tr = array.attrs.get("tr")
    if not steps.size:
        return float(tr) if tr else None
    if not np.allclose(steps, steps[0], rtol=1e-6) or steps[0] <= 0:
        return None
    return float(tr) if tr and math.isclose(steps[0], tr, rel_tol=1e-6) else float(steps[0])


def kept_meta(content: Mapping[str, Any], keep_phi: bool) -> dict[str, str]:
    """Metadata of a GIFTI or CIFTI file as text, without people, dates and folders unless `keep_phi`."""
    return {str(k): str(v) for k, v in content.items() if keep_phi or k not in PERSONAL}
