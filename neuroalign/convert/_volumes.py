"""Volumes, voxels in a mask and regions back to NIfTI images, with the header that they came with."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from neuroalign import schema
from neuroalign.convert._pick import as_read, pick, split, time_step
from neuroalign.errors import ConfigError, SchemaError, require

__all__ = ["nifti_header", "to_nifti"]

_GEOMETRY = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_MEANING = (
    "dim_info", "intent_p1", "intent_p2", "intent_p3", "intent_code", "intent_name", "slice_start", "slice_end",
    "slice_code", "slice_duration", "toffset", "cal_max", "cal_min", "descrip", "aux_file",
)  # fmt: skip
_PHI = ("db_name",)
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
_LARGEST_NIFTI1 = 32767


def nifti_header(header: Any, *, keep_phi: bool = False) -> str:
    """Serialise what a NIfTI header says beyond shape and values, for the way back.

    Parameters
    ----------
    header : nibabel.Nifti1Header
        Or one of NIfTI-2.
    keep_phi : bool
        Keep ``db_name``, where old writers put names of people.

    Returns
    -------
    str
        JSON object: fields by name, ``version``, and ``dtype`` with ``slope`` and ``inter`` of the stored numbers.
    """
    content: dict[str, Any] = {"version": 2 if int(header["sizeof_hdr"]) == 540 else 1}
    for name in _GEOMETRY + _MEANING + (_PHI if keep_phi else ()):
        if name in header:
            content[name] = _plain(header[name])
    slope, inter = (_plain(header[name]) if name in header else None for name in ("scl_slope", "scl_inter"))
    return json.dumps(content | {"dtype": header.get_data_dtype().str[1:], "slope": slope, "inter": inter})


def _plain(field: NDArray[Any]) -> Any:
    if field.dtype.kind == "S":
        return bytes(field.item()).rstrip(b"\0").decode("latin-1")
    numbers = [n if math.isfinite(n) else None for n in np.atleast_1d(field).tolist()]
    return numbers if field.ndim else numbers[0]


def to_nifti(
    obj: xr.Dataset | xr.DataArray,
    variable: str | None = None,
    *,
    atlas: Any = None,
    fill: float = 0.0,
    dtype: DTypeLike | None = None,
    **indexers: Any,
) -> Any:
    """Give a NIfTI image of a volume, of voxels in a mask, or of regions.

    Parameters
    ----------
    obj : Dataset or DataArray
        Values of dims (k, j, i), (voxel,) with ``i j k`` and ``volume_shape``, or (roi,); with up to one more
        dimension, such as ``time`` or ``trial``, which becomes the fourth of the image. ``affine`` in attrs.
    variable : str, optional
        Of a Dataset; by default the only one, or ``bold``, ``map``, ``label`` or ``score``.
    atlas : nibabel image, optional
        Volume of labels; needed for regions. They are matched by the coordinate ``label`` along ``roi``, or else by
        rising order.
    fill : float
        Value of voxels outside the mask or all regions, for example NaN.
    dtype : dtype or 'source', optional
        Type of the numbers in a file; ``'source'`` takes that of the file that was read. By default float32, or int32
        for labels. Whole numbers that fit an integer type are stored as they are; nibabel scales others to its range.
    **indexers
        Selection by label, for example ``band="semantics"``, ``time=12.0``, ``roi=["V1", "V2"]``.

    Returns
    -------
    nibabel.Nifti1Image
        In memory; NIfTI-2 where the source was or an axis is longer than 32767. Affine, codes and units are those of
        the source, for the voxels that are left; intent, description and display range go with unchanged values.

    Raises
    ------
    SchemaError
        If it is not known where the values lie.
    ConfigError
        If a variable, label or `dtype` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign import schema
    >>> ds = schema.fmri_volume(np.ones((5, 4, 3, 2)), affine=np.diag([3.0, 3, 3, 1]), tr=1.5)
    >>> image = to_nifti(ds)
    >>> image.shape, [float(zoom) for zoom in image.header.get_zooms()]
    ((2, 3, 4, 5), [3.0, 3.0, 3.0, 1.5])
    """
    nib = require("nibabel", "fmri")
    array = pick(obj, variable, indexers)
    stored = _stored_type(array, dtype)
    if "voxel" in array.dims:
        rows, dim = split(array, ("voxel",), "an image")
        values, matrix = _from_voxels(rows, fill), schema.affine(array)
    elif "roi" in array.dims:
        rows, dim = split(array, ("roi",), "an image")
        values, matrix = _from_regions(rows, atlas, fill)
    else:
        rows, dim = split(_with_axes(array), ("k", "j", "i"), "an image")
        values, matrix = rows.values, schema.affine(array)
    image = _fitting(values.T if dim else values[0].T, stored)  # (i, j, k[, row])
    source = {} if "roi" in array.dims else json.loads(array.attrs.get("nifti_header", "{}"))
    kind = nib.Nifti2Image if source.get("version") == 2 or max(image.shape) > _LARGEST_NIFTI1 else nib.Nifti1Image
    header = kind.header_class()
    header.set_data_shape(image.shape)
    _restore(header, source, _GEOMETRY + (_MEANING if as_read(array) else ()))
    _place(header, source, matrix)
    _set_clock(header, array, dim)
    header.set_data_dtype(stored)
    return kind(image, matrix, header)


def _stored_type(array: xr.DataArray, dtype: DTypeLike | None) -> np.dtype[Any]:
    if dtype is None:
        return np.dtype({"b": np.uint8, "i": np.int32, "u": np.int32}.get(array.dtype.kind, np.float32))
    if not (isinstance(dtype, str) and dtype == "source"):
        return np.dtype(dtype)
    if "nifti_header" not in array.attrs or not as_read(array):
        raise ConfigError("The type of the source is not known.", expected="values as read", fix="pass dtype='f4'")
    return np.dtype(json.loads(array.attrs["nifti_header"])["dtype"])


def _fitting(values: NDArray[Any], stored: np.dtype[Any]) -> NDArray[Any]:
    """Whole numbers as integers where the file will hold integers, so that nibabel does not scale them."""
    if stored.kind not in "iu" or values.dtype.kind != "f":
        return values.astype(stored) if stored.kind in "iu" else values
    if not np.isfinite(values).all():
        raise ConfigError("NaN and Inf have no integer.", expected="finite values", got=str(stored), fix="dtype='f4'")
    limits = np.iinfo(stored)
    whole = values.size and limits.min <= values.min() and values.max() <= limits.max and (values % 1 == 0).all()
    return values.astype(stored) if whole else values


def _with_axes(array: xr.DataArray) -> xr.DataArray:
    """Give back the axes that ``isel(k=3)`` dropped; refuse what is no volume."""
    dropped = [name for name in "kji" if name not in array.dims]
    unknown = [name for name in dropped if name not in array.coords]
    if unknown or len(dropped) == 3:
        raise SchemaError(
            "These values have no place in a volume.",
            expected="dims (k, j, i), (voxel,) or (roi,), with up to one more",
            got=f"dims {tuple(array.dims)}",
            fix="surfaces go to GIFTI: .neuro.to_gifti(); CIFTI grayordinates to CIFTI: .neuro.to_cifti()",
        )
    return array.expand_dims(dropped)


def _from_voxels(rows: xr.DataArray, fill: float) -> NDArray[Any]:
    missing = [name for name in "ijk" if name not in rows.coords]
    shape = tuple(int(n) for n in rows.attrs.get("volume_shape", ()))
    if missing or len(shape) != 3:
        raise SchemaError(
            "These voxels cannot be put back into a volume.",
            expected="voxel coordinates i, j, k and the attributes volume_shape and affine",
            got=f"missing coordinates {missing}" if missing else f"volume_shape {shape}",
            fix="keep the coordinates and attrs of the recording, or draw plots.bars",
        )
    index = np.ravel_multi_index([rows[name].values.astype(int) for name in "kji"], shape[::-1])
    volumes = np.full((len(rows), math.prod(shape)), fill, dtype=np.result_type(rows.dtype, np.min_scalar_type(fill)))
    volumes[:, index] = rows.values
    return volumes.reshape(len(rows), *shape[::-1])


def _from_regions(rows: xr.DataArray, atlas: Any, fill: float) -> tuple[NDArray[Any], NDArray[np.float64]]:
    if not hasattr(atlas, "dataobj"):
        raise ConfigError(
            "Where the regions lie is not known.", expected="atlas=, a nibabel image of labels", got=atlas
        )
    regions = np.rint(np.asarray(atlas.dataobj, dtype=float)).astype(int).squeeze().T  # (k, j, i)
    found = np.unique(regions[regions > 0])
    codes = rows["label"].values.astype(int) if "label" in rows.coords else found
    if len(codes) != rows.shape[1] or not np.isin(codes, found).all():
        raise SchemaError(
            "The regions do not match the atlas.",
            expected=f"{len(found)} labels, from {found[:3].tolist()} ... to {found[-1:].tolist()}",
            got=f"{rows.shape[1]} regions",
            fix="give the atlas' label of each region: values.assign_coords(label=('roi', [...]))",
        )
    place = np.full(max(found.max(), codes.max()) + 1, len(codes))
    place[codes] = np.arange(len(codes))
    # One entry more than regions: voxels outside all of them.
    index = np.where(regions > 0, place[np.maximum(regions, 0)], len(codes))
    outside = np.full((len(rows), 1), fill, dtype=np.float32)
    return np.concatenate([rows.values, outside], axis=1)[:, index], np.asarray(atlas.affine)


def _restore(header: Any, source: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        value = source.get(name)
        if isinstance(value, str):
            header[name] = value.encode("latin-1")
        elif isinstance(value, list):
            header[name] = [n if n is not None else 0 for n in value]
        elif value is not None:
            header[name] = value


def _place(header: Any, source: dict[str, Any], matrix: NDArray[np.float64]) -> None:
    """Move sform and qform to the voxels that are left, where some were cut away."""
    if not source:
        header.set_xyzt_units("mm")
        return
    before = header.get_best_affine()
    if np.allclose(before, matrix, rtol=1e-6, atol=1e-6):
        return
    window = np.linalg.inv(before) @ matrix
    codes = {name: int(header[f"{name}_code"]) for name in ("qform", "sform")}
    if codes["qform"]:
        header.set_qform(header.get_qform() @ window, codes["qform"])
    if codes["sform"]:
        header.set_sform(header.get_sform() @ window, codes["sform"])
    header["pixdim"][1:4] = np.linalg.norm(matrix[:3, :3], axis=0)
    header["slice_start"] = header["slice_end"] = header["slice_code"] = header["dim_info"] = 0


def _set_clock(header: Any, array: xr.DataArray, dim: str | None) -> None:
    """Write the repetition time, in the unit of the source where that was true."""
    if dim is None:
        return
    space_unit = int(header["xyzt_units"]) & 0x07
    step = time_step(array) if dim == "time" else None
    if step is None:
        header["pixdim"][4], header["xyzt_units"] = (0 if dim == "time" else 1), space_unit
        return
    unit = int(header["xyzt_units"]) & 0x38
    written = float(header["pixdim"][4]) * _SECONDS.get(unit, math.nan)
    if not math.isclose(written, step, rel_tol=1e-6):
        header["pixdim"][4], header["xyzt_units"] = step, space_unit | 8
    first = float(array["time"].values[0]) if "time" in array.coords else 0.0
    header["toffset"] = float(header["toffset"]) + first / _SECONDS[int(header["xyzt_units"]) & 0x38]
