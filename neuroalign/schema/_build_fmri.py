"""Constructors of fMRI runs on the voxel grid, in a mask and in regions, and where their voxels lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError
from neuroalign.schema._build import _columns, _labels, _time_axis, _variable
from neuroalign.schema._clock import check_sfreq
from neuroalign.schema._names import travel

AFFINE_TOLERANCE = 0.05  # mm at the farthest corner of the volume: well below a voxel, above float32 rounding


def _fmri(
    var: xr.Variable, units: str, tr: float, coords: dict[str, Any], events: pd.DataFrame | None, attrs: dict[str, Any]
) -> xr.Dataset:
    check_sfreq(1 / tr if tr else 0)
    coords["time"] = ("time", _time_axis(var.shape[0], 1 / tr))
    if events is not None:
        coords |= _columns(events, "event", {*coords, "event"})
    ds = xr.Dataset({"bold": var}, coords=coords)
    base = {"units": units, "tr": float(tr), "sfreq": 1 / float(tr), "first_sample": 0}
    return travel(ds.assign_attrs(base | {k: v for k, v in attrs.items() if v is not None}), "bold")


def _flat_affine(matrix: ArrayLike) -> list[float]:
    array = np.asarray(matrix, dtype=np.float64)
    if array.shape != (4, 4) or not np.isfinite(array).all():
        raise SchemaError("Not an affine.", expected="a finite 4 x 4 matrix in mm", got=f"shape {array.shape}")
    return array.ravel().tolist()


def affine(obj: xr.Dataset | xr.DataArray) -> NDArray[np.float64]:
    """Give the voxel-to-world matrix, of the voxels that are left where a volume was sliced.

    Parameters
    ----------
    obj : Dataset or DataArray
        fMRI data with ``affine`` in its attrs. The coordinates ``i j k`` of a volume say which voxels of the file
        its own are; without them, all of them.

    Returns
    -------
    ndarray, shape (4, 4)
        From (i, j, k, 1), counted in the object, to mm. For voxels in a mask, from their coordinates ``i j k``.

    Raises
    ------
    SchemaError
        If there is none, or the voxels that are left are not equally spaced.

    Examples
    --------
    >>> import numpy as np
    >>> ds = fmri_volume(np.ones((1, 4, 4, 4)), affine=np.diag([3.0, 3, 3, 1]), tr=2.0)
    >>> affine(ds.isel(i=slice(1, None, 2)))[0].tolist()
    [6.0, 0.0, 0.0, 3.0]
    """
    flat = obj.attrs.get("affine")
    if flat is None or len(flat) != 16:
        raise SchemaError("No affine.", expected="attrs['affine'] with 16 numbers", got=flat)
    return np.asarray(flat, dtype=np.float64).reshape(4, 4) @ _window(obj)


def _window(obj: xr.Dataset | xr.DataArray) -> NDArray[np.float64]:
    """From positions in a sliced volume to voxels of the file, (4, 4)."""
    matrix = np.eye(4)
    if {"voxel", "grayordinate"} & {*obj.coords, *obj.dims}:
        return matrix
    for axis, name in enumerate("ijk"):
        if name not in obj.coords or obj[name].dims not in ((), (name,)) or not obj[name].size:
            continue
        index = np.atleast_1d(obj[name].values).astype(np.float64)
        steps = np.diff(index)
        step = float(steps[0]) if steps.size else 1.0
        if step == 0 or (np.abs(steps - step) > 1e-9 * np.abs(step)).any():
            raise SchemaError(
                f"The voxels along {name} are not equally spaced, so that no affine says where they lie.",
                expected="a range of voxels, with a step",
                got=index[:10].tolist(),
                fix=f"select a range, such as ds.isel({name}=slice(4, 20))",
            )
        matrix[axis, axis], matrix[axis, 3] = step, index[0]
    return matrix


def corner_distance(a: NDArray[Any], b: NDArray[Any], shape: tuple[int, ...]) -> float:
    """Largest distance (mm) between the corners of a (k, j, i) grid under two affines."""
    k, j, i = ((0, n - 1) for n in shape)
    corners = np.array([(x, y, z, 1) for x in i for y in j for z in k], dtype=float)
    return float(np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).max())


def fmri_volume(
    values: Any,
    *,
    affine: ArrayLike,
    tr: float,
    units: str = "a.u.",
    space: str | None = None,
    events: pd.DataFrame | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build an fMRI run as volumes.

    Parameters
    ----------
    values : array, shape (n_times, n_k, n_j, n_i)
        The file's order (i fastest), in memory or lazy.
    affine : array_like, shape (4, 4)
        From (i, j, k, 1) to mm.
    tr : float
        Repetition time in s.
    units : str
        ``a.u.`` for scanner units, ``%`` or ``z``.
    space : str, optional
        Name of the space, for example ``MNI152NLin2009cAsym``.
    events : DataFrame, optional
        At least ``onset`` in s after the first volume.
    attrs : mapping, optional
        More attributes.

    Returns
    -------
    Dataset
        Variable ``bold`` with dims (time, k, j, i). Their coordinates are the voxel numbers of the file, so that
        `affine` still holds after slicing.
    """
    var, si = _variable(values, ("time", "k", "j", "i"), units)
    coords: dict[str, Any] = {name: (name, np.arange(var.shape[1 + n])) for n, name in enumerate("kji")}
    return _fmri(var, si, tr, coords, events, {"affine": _flat_affine(affine), "space": space, **(attrs or {})})


def fmri_masked(
    values: Any,
    *,
    ijk: ArrayLike,
    affine: ArrayLike,
    tr: float,
    volume_shape: Sequence[int],
    units: str = "a.u.",
    space: str | None = None,
    roi: ArrayLike | None = None,
    events: pd.DataFrame | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build an fMRI run inside a mask.

    Parameters
    ----------
    values : array, shape (n_times, n_voxels)
        In memory or lazy.
    ijk : array_like of int, shape (n_voxels, 3)
        Voxel indices.
    volume_shape : sequence of int
        Shape (n_i, n_j, n_k) of the volume, enough to unmask.
    roi : array_like of str, shape (n_voxels,), optional
        Region of each voxel.
    affine, tr, units, space, events, attrs
        As in `fmri_volume`.

    Returns
    -------
    Dataset
        Variable ``bold`` with dims (time, voxel) and voxel coordinates ``i j k`` and ``x y z`` (mm).
    """
    var, si = _variable(values, ("time", "voxel"), units)
    index = np.asarray(ijk, dtype=np.int64)
    if index.shape != (var.shape[1], 3):
        raise SchemaError("Wrong shape of voxel indices.", expected=(var.shape[1], 3), got=index.shape)
    matrix = np.asarray(_flat_affine(affine)).reshape(4, 4)
    xyz = index @ matrix[:3, :3].T + matrix[:3, 3]
    coords: dict[str, Any] = {"voxel": ("voxel", np.arange(len(index)))}
    coords |= {axis: ("voxel", index[:, n]) for n, axis in enumerate("ijk")}
    coords |= {axis: ("voxel", xyz[:, n]) for n, axis in enumerate("xyz")}
    if roi is not None:
        coords["roi"] = ("voxel", _labels("voxel", roi, len(index)))
    extra = {"affine": matrix.ravel().tolist(), "space": space, "volume_shape": [int(n) for n in volume_shape]}
    return _fmri(var, si, tr, coords, events, extra | dict(attrs or {}))


def fmri_regions(
    values: Any,
    *,
    roi: ArrayLike,
    tr: float,
    units: str = "a.u.",
    coords: Mapping[str, ArrayLike] | None = None,
    events: pd.DataFrame | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build an fMRI run as regional time courses.

    Parameters
    ----------
    values : array, shape (n_times, n_rois)
        In memory or lazy.
    roi : array_like of str, shape (n_rois,)
        Unique region names.
    coords : mapping of str to array_like, optional
        More coordinates along ``roi``, such as ``hemi``, ``network``, ``n_voxels``, ``x y z`` (mm).
    tr, units, events, attrs
        As in `fmri_volume`.

    Returns
    -------
    Dataset
        Variable ``bold`` with dims (time, roi).
    """
    var, si = _variable(values, ("time", "roi"), units)
    n = var.shape[1]
    labels: dict[str, Any] = {"roi": ("roi", _labels("roi", roi, n))}
    labels |= {name: ("roi", _labels("roi", values_, n)) for name, values_ in (coords or {}).items()}
    return _fmri(var, si, tr, labels, events, dict(attrs or {}))
