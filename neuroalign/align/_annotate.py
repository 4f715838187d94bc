"""Bring what is known of stimuli to the trials and events that showed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.schema import inherit, stamp

T = TypeVar("T", xr.Dataset, xr.DataArray)


def annotate(obj: T, stimuli: xr.Dataset | xr.DataArray, columns: Sequence[str] | None = None) -> T:
    """Give trials (or events) the columns of the stimulus table, by stimulus id.

    Parameters
    ----------
    obj : Dataset or DataArray
        With a coordinate ``stimulus_id`` along ``trial``, ``event`` or another dimension.
    stimuli : Dataset or DataArray
        A stimulus table (`neuroalign.loaders.read_stimuli`), or features with coordinates along ``stimulus``.
    columns : sequence of str, optional
        Which coordinates along ``stimulus`` to bring; by default all of them.

    Returns
    -------
    Dataset or DataArray
        With one more coordinate a column. Where `obj` has another coordinate of that name, the new one is called
        ``stimulus_*``. An event with an empty id showed no stimulus, and gets an empty text or NaN.

    Raises
    ------
    AlignmentError
        If `obj` has no stimulus ids, or ids that the table lacks.
    ConfigError
        If the table has no such column.

    Examples
    --------
    >>> import pandas as pd
    >>> from neuroalign.schema import stimulus_table
    >>> table = stimulus_table(pd.DataFrame({"stimulus_id": ["cat", "car"], "category": ["animal", "thing"]}))
    >>> trials = xr.DataArray([1.0, 2.0, 3.0], dims="trial").assign_coords(stimulus_id=("trial", ["car", "cat", "car"]))
    >>> annotate(trials, table)["category"].values.tolist()
    ['thing', 'animal', 'thing']
    """
    if "stimulus_id" not in obj.coords or obj["stimulus_id"].ndim != 1:
        raise AlignmentError(
            "There are no stimulus ids.",
            expected="a coordinate stimulus_id along trial or event",
            got=f"coordinates {list(obj.coords)}",
            fix="name the column with the ids stimulus_id",
        )
    dim = obj["stimulus_id"].dims[0]
    known = {str(n): c.values for n, c in stimuli.coords.items() if c.dims == ("stimulus",) and n != "stimulus"}
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise ConfigError("The table has no such column.", expected=list(known), got=unknown)
    at = _rows(obj["stimulus_id"].values.astype(str), stimuli)
    new = {}
    for name in known if columns is None else columns:
        values = _take(known[name], at)
        taken = name in obj.coords or name in obj.dims or (isinstance(obj, xr.Dataset) and name in obj.data_vars)
        if taken and name in obj.coords and obj[name].dims == (dim,) and _equal(obj[name].values, values):
            continue
        new[f"stimulus_{name}" if taken else name] = (dim, values)
    return stamp(inherit(obj.assign_coords(new), stimuli, obj), "annotate", columns=list(new))


def _rows(ids: NDArray[np.str_], stimuli: xr.Dataset | xr.DataArray) -> NDArray[np.int64]:
    """Row of each id in the table, -1 for an empty id."""
    if "stimulus" not in stimuli.coords:
        raise AlignmentError(
            "The stimuli have no ids.", expected="a coordinate stimulus", got=f"coordinates {list(stimuli.coords)}"
        )
    index = pd.Index(stimuli["stimulus"].values.astype(str))
    if not index.is_unique:
        raise AlignmentError(
            "Stimulus ids repeat in the table.", expected="unique ids", got=index[index.duplicated()][:5].tolist()
        )
    at = index.get_indexer(ids)
    lost = pd.unique(pd.Series(ids[(at < 0) & (ids != "")])).tolist()
    if lost:
        raise AlignmentError(
            f"{len(lost)} stimuli are not in the table.",
            expected=f"the {len(index)} ids of the table, such as {index[:3].tolist()}",
            got=lost[:5],
            fix="check how stimulus ids are written, or add them to the table",
        )
    return at


def _take(values: NDArray[np.generic], at: NDArray[np.int64]) -> NDArray[np.generic]:
    if (at >= 0).all():
        return values[at]
    if values.dtype.kind in "biuf":
        return np.where(at >= 0, values[at].astype(np.float64), np.nan)
    return np.array([values[row] if row >= 0 else "" for row in at], dtype=object)


def _equal(a: NDArray[np.generic], b: NDArray[np.generic]) -> bool:
    return bool(pd.Series(a).equals(pd.Series(b)) or (a.astype(str) == b.astype(str)).all())
