"""Say what is in a file."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign.loaders import list_recordings, load
from neuroalign.loaders._entities import ENTITIES
from neuroalign.loaders._layout import is_bids

_QUERY = {*signature(list_recordings).parameters, *ENTITIES, *ENTITIES.values()}


def inspect(path: str | Path, *, modality: str | None = None, **options: Any) -> str:
    """Describe a recording, table, data set or store in a few lines.

    Parameters
    ----------
    path : path
        Any file or folder that `neuroalign.load` opens.
    modality : str, optional
        Modality, where the file does not tell.
    **options
        Options of the reader; of a BIDS data set also which recordings (see `neuroalign.loaders.list_recordings`).

    Returns
    -------
    str
        Sizes, clock, units, events, sources and notes. Of a BIDS data set a table with one row a recording, unless
        options of a reader ask for the recordings themselves.
    """
    if is_bids(Path(path)) and all(name in _QUERY for name in options):
        table = list_recordings(path, modality=modality, **options).dropna(axis=1, how="all")
        return table.to_string(index=False, na_rep="-", float_format="{:.10g}".format)
    obj = load(Path(path), modality=modality, **options)
    if isinstance(obj, xr.DataTree):
        parts = [(node.path, node.to_dataset()) for node in obj.leaves if node.has_data]
        return "\n\n".join(f"{name}\n{ds.neuro.summary()}" for name, ds in parts) or "an empty tree"
    if isinstance(obj, xr.DataArray):
        return f"{obj.neuro.summary()}\n{_values(obj)}"
    text = obj.neuro.summary()
    small = [v for v in obj.data_vars.values() if v.variable._in_memory and v.dtype.kind in "fiu"]
    return "\n".join([text, *(f"{v.name}: {_values(v)}" for v in small)])


def _values(array: xr.DataArray) -> str:
    values = array.values
    if values.dtype.kind not in "fiu" or not values.size:
        return f"values:  {values.dtype}"
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "values:  none is finite"
    missing = values.size - finite.size
    note = f", {missing} not finite" if missing else ""
    return f"values:  {finite.min():.4g} to {finite.max():.4g}, mean {finite.mean():.4g}{note}"
