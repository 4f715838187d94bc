"""The picture that fits the values, for ``.neuro.plot()``, ``result.plot()`` and reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from neuroalign.plots._data import SITE_DIMS, Labelled, as_array, as_dataset
from neuroalign.plots.bars import bars
from neuroalign.plots.rdms import rdm, rdm_grid
from neuroalign.plots.rsa import is_rsa, rsa_bars
from neuroalign.plots.scores import distribution, layer_profile
from neuroalign.plots.sensors import topomap
from neuroalign.plots.timecourses import has_sensors, response_function, timecourse
from neuroalign.plots.volumes import brain

# A longer recording is drawn by its first stretch: more samples than pixels show nothing, and it may not fit in memory.
SHOWN_SAMPLES = 4000
# Types of channels that lie in or on the brain.
IMPLANTED = {"seeg", "ecog", "dbs"}
# More bars than this cannot be told apart.
MOST_BARS = 120


def auto(values: Labelled, **options: Any) -> Any:
    """Draw the picture that fits the dims and coordinates of the values.

    RDMs become matrices and response functions butterflies; sites over time become time courses; EEG and MEG
    channels with positions a topomap; voxels in their volume, regions with an atlas or coordinates and iEEG contacts
    with positions a brain; layers a profile; up to 120 other sites bars, and more a histogram. Trials are averaged.

    Parameters
    ----------
    values : DataArray or Dataset
        What to draw. Of a Dataset, the variable ``score``.
    **options
        Options of the function chosen.

    Returns
    -------
    matplotlib Axes
        The axes drawn on (an array of them for several RDMs).

    Examples
    --------
    >>> import xarray as xr
    >>> scores = xr.DataArray([0.1, 0.3], dims="roi", coords={"roi": ["EVC", "PFS"]}, name="score")
    >>> ax = auto(scores)
    >>> [tick.get_text() for tick in ax.get_xticklabels()]
    ['EVC', 'PFS']
    """
    values = as_dataset(values)
    function = choose(values)
    if isinstance(values, xr.Dataset):
        return function(values, **options)
    return function(_shorten(values, function), **options)


def choose(values: Labelled) -> Callable[..., Any]:
    """Give the function that `auto` calls."""
    if isinstance(values, xr.Dataset) and is_rsa(values):
        return rsa_bars
    array = as_array(values)
    dims = set(map(str, array.dims))
    if "pair" in dims:
        return rdm if dims <= {"pair", "time"} else rdm_grid
    if "lag" in dims:
        return response_function
    if "layer" in dims:
        return layer_profile
    if {"k", "j", "i"} <= dims or (_is_placed(array) and not has_sensors(array) and "time" not in dims - _SAMPLED):
        return brain
    if len(dims - _SAMPLED - {"time"}) > 1:  # no axis for a third meaning
        return distribution
    if "time" in dims and not (dims & {"voxel", "vertex", "grayordinate"}):
        return timecourse
    if has_sensors(array):
        return topomap
    return _for_sites(array)


_SAMPLED = {"trial", "stimulus", "repeat", "fold"}


def _for_sites(array: xr.DataArray) -> Callable[..., Any]:
    site = next((dim for dim in SITE_DIMS if dim in array.dims), None)
    by = "roi" if "roi" in array.coords and array["roi"].ndim == 1 else site
    if by is None or _n_labels(array, by) > MOST_BARS:
        return distribution

    def draw(values: Labelled, **options: Any) -> Any:
        return bars(values, **({"by": by} | options))

    return draw


def _n_labels(array: xr.DataArray, name: str) -> int:
    return len(set(array[name].values.tolist())) if name in array.coords else array.sizes[name]


def _is_placed(array: xr.DataArray) -> bool:
    """Tell whether the values can be placed in a brain."""
    placed = all(axis in array.coords and np.isfinite(array[axis].values.astype(float)).any() for axis in "xyz")
    if "voxel" in array.dims:
        return all(axis in array.coords for axis in "ijk") and {"affine", "volume_shape"} <= set(array.attrs)
    if "roi" in array.dims:
        return "atlas" in array.attrs or placed
    types = set(array["channel_type"].values.astype(str)) if "channel_type" in array.coords else set()
    return "channel" in array.dims and placed and bool(types) and types <= IMPLANTED


def _shorten(array: xr.DataArray, function: Callable[..., Any]) -> xr.DataArray:
    """Average trials (and the times of volumes and voxels), and cut long recordings, before they are loaded."""
    over = [str(dim) for dim in array.dims if dim in _SAMPLED and array.ndim > 1]
    if function is brain and "time" in array.dims:
        over.append("time")
    if over:
        array = array.mean(over, keep_attrs=True)
    if "time" in array.dims and array.sizes["time"] > SHOWN_SAMPLES:
        array = array.isel(time=slice(0, SHOWN_SAMPLES))
    return array
