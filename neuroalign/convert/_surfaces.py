"""Values on cortical surfaces back to GIFTI images, with the metadata and label tables that they came with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.convert._pick import as_read, kept_meta, pick, split
from neuroalign.errors import ConfigError, SchemaError, require

__all__ = ["SIDES", "gifti_record", "named_sides", "to_gifti"]

#: Hemisphere -> what GIFTI calls it.
SIDES = {"L": "CortexLeft", "R": "CortexRight"}
_PRIMARY = "AnatomicalStructurePrimary"


def gifti_record(images: Mapping[str, Any], *, keep_phi: bool = False) -> str:
    """Serialise what GIFTI images say beyond their values, for the way back.

    Parameters
    ----------
    images : mapping of {'L', 'R'} to nibabel.GiftiImage
        One or both hemispheres.
    keep_phi : bool
        Keep metadata that name people, dates and folders.

    Returns
    -------
    str
        JSON object by hemisphere: ``meta``, ``labels``, ``n_nodes``, and ``arrays`` (one entry where all are alike).
    """
    return json.dumps({side: _record(image, keep_phi) for side, image in images.items()})


def named_sides(image: Any) -> set[str]:
    """Hemispheres that the metadata of a GIFTI image name, of the file or of its arrays."""
    written = {str(part.meta.get(_PRIMARY)) for part in (image, *image.darrays)}
    return {side for side, name in SIDES.items() if name in written}


def _record(image: Any, keep_phi: bool) -> dict[str, Any]:
    arrays = []
    for array in image.darrays:
        entry = {"intent": int(array.intent), "encoding": int(array.encoding), "meta": kept_meta(array.meta, keep_phi)}
        if (system := array.coordsys) is not None and (system.dataspace or system.xformspace):
            entry["coordsys"] = [int(system.dataspace), int(system.xformspace), np.asarray(system.xform).tolist()]
        arrays.append(entry)
    alike = all(entry == arrays[0] for entry in arrays)
    return {
        "meta": kept_meta(image.meta, keep_phi),
        "labels": [[int(e.key), str(e.label), [e.red, e.green, e.blue, e.alpha]] for e in image.labeltable.labels],
        "n_nodes": _n_nodes(image),
        "arrays": arrays[:1] if alike else arrays,
    }


def _n_nodes(image: Any) -> int | None:
    """Vertices of the mesh; None where the arrays list them, which may leave some out."""
    codes = require("nibabel", "fmri").nifti1.intent_codes
    listed = any(a.intent == codes.code["NIFTI_INTENT_NODE_INDEX"] for a in image.darrays)
    return None if listed else int(image.darrays[0].dims[0])


def to_gifti(
    obj: xr.Dataset | xr.DataArray,
    variable: str | None = None,
    *,
    fill: float = np.nan,
    n_nodes: int | None = None,
    **indexers: Any,
) -> dict[str, Any]:
    """Give GIFTI images of values on the cortical surface, by hemisphere.

    Parameters
    ----------
    obj : Dataset or DataArray
        Values along ``vertex`` with the coordinates ``hemi`` and ``node``, and up to one more dimension, such as
        ``time`` or ``map_name``, of which each entry becomes an array; or a Dataset with a mesh.
    variable : str, optional
        Of a Dataset; by default the only one, or ``bold``, ``map``, ``label`` or ``score``.
    fill : float
        Value of vertices that are not among the data, such as a medial wall that was left out.
    n_nodes : int, optional
        Vertices of the mesh of a hemisphere, where neither the data nor its source say.
    **indexers
        Selection by label, for example ``hemi="L"``, ``map_name="curv"``.

    Returns
    -------
    dict of {'L', 'R'} to nibabel.GiftiImage
        In memory, values as float32, labels as int32 with their table. The format has no repetition time with a
        unit: put it into the JSON sidecar.

    Raises
    ------
    SchemaError
        If it is not known where the values lie.
    ConfigError
        If a variable or label does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign import schema
    >>> ds = schema.fmri_surface(np.ones((5, 4)), hemi=["L", "L", "R", "R"], tr=1.5)
    >>> images = to_gifti(ds)
    >>> {side: len(image.darrays) for side, image in images.items()}
    {'L': 5, 'R': 5}
    """
    require("nibabel", "fmri")
    record = json.loads(obj.attrs.get("gifti", "{}"))
    if isinstance(obj, xr.Dataset) and "triangle" in obj and variable in (None, "triangle"):
        return {side: _mesh(obj, side, record.get(side, {})) for side in _present(obj)}
    array = pick(obj, variable, indexers)
    if "vertex" not in array.dims or not {"hemi", "node"} <= set(array.coords):
        raise SchemaError(
            "These values have no place on a surface.",
            expected="a dimension vertex with the coordinates hemi and node",
            got=f"dims {tuple(array.dims)}, coordinates {list(array.coords)}",
            fix="volumes go to NIfTI: .neuro.to_nifti(); CIFTI grayordinates to CIFTI: .neuro.to_cifti()",
        )
    rows, dim = split(array, ("vertex",), "a surface")
    out = {}
    for side in _present(rows):
        part = rows.isel(vertex=np.flatnonzero(rows["hemi"].values == side))
        known = record.get(side, {})
        values = _dense(part, fill, n_nodes or known.get("n_nodes"))
        out[side] = _image(values, part, dim, side, known)
    return out


def _present(obj: Any) -> list[str]:
    return [side for side in SIDES if (obj["hemi"].values == side).any()]


def _dense(part: xr.DataArray, fill: float, n_nodes: int | None) -> NDArray[Any]:
    """Values (row, node) of all nodes of one hemisphere."""
    node = part["node"].values
    if n_nodes is None:
        if not np.array_equal(np.sort(node), np.arange(len(node))):
            raise ConfigError(
                "How many vertices the mesh has is not known.",
                expected="all vertices of the hemisphere, or n_nodes=",
                got=f"{len(node)} vertices, up to number {node.max()}",
                fix="pass n_nodes=, for example n_nodes=32492",
            )
        n_nodes = len(node)
    if node.max() >= n_nodes:
        raise ConfigError(
            "The mesh has too few vertices.", expected=f"more than {node.max()}", got=f"n_nodes={n_nodes}"
        )
    whole = part.dtype.kind in "iub"
    values = np.full((len(part), n_nodes), 0 if whole else fill, dtype=np.int32 if whole else np.float32)
    values[:, node] = part.values
    return values


def _image(values: NDArray[Any], part: xr.DataArray, dim: str | None, side: str, known: dict[str, Any]) -> Any:
    nib = require("nibabel", "fmri")
    entries = _entries(part, dim, known.get("arrays", []) if as_read(part) else [])
    arrays = [_array(row, entry) for row, entry in zip(values, entries, strict=True)]
    meta = known.get("meta", {})
    if not any(_PRIMARY in content for content in (meta, *(entry["meta"] for entry in entries))):
        meta = {**meta, _PRIMARY: SIDES[side]}
    table = nib.gifti.GiftiLabelTable()
    for key, name, colour in known.get("labels", []) if part.dtype.kind in "iu" else []:
        label = nib.gifti.GiftiLabel(key, *colour)
        label.label = name
        table.labels.append(label)
    return nib.GiftiImage(meta=nib.gifti.GiftiMetaData(meta), labeltable=table, darrays=arrays)


def _entries(part: xr.DataArray, dim: str | None, source: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each row's array says of itself: as its source did, or by the labels of the rows."""
    codes = require("nibabel", "fmri").nifti1.intent_codes
    kind = "LABEL" if part.dtype.kind in "iu" else "TIME_SERIES" if dim == "time" else "NONE"
    names = [""] * len(part)
    if dim not in (None, "time"):
        labels = part[dim].values if dim in part.coords else range(len(part))
        names = [str(label) if dim == "map_name" else f"{dim} {label}" for label in labels]
    if len(source) == len(part):
        return source
    if len(source) == 1 and dim == "time":
        return source * len(part)
    plain = {"intent": int(codes.code[f"NIFTI_INTENT_{kind}"]), "encoding": 3}
    by_name = {entry["meta"].get("Name"): entry for entry in source}
    return [by_name.get(name) or {**plain, "meta": {"Name": name} if name else {}} for name in names]


def _array(values: NDArray[Any], entry: dict[str, Any]) -> Any:
    gifti = require("nibabel", "fmri").gifti
    system = gifti.GiftiCoordSystem(*entry["coordsys"]) if "coordsys" in entry else gifti.GiftiCoordSystem()
    return gifti.GiftiDataArray(
        values,
        intent=entry["intent"],
        datatype="NIFTI_TYPE_INT32" if values.dtype.kind in "iu" else "NIFTI_TYPE_FLOAT32",
        encoding=entry["encoding"] if entry["encoding"] != 4 else 3,  # data in files of their own come inside
        coordsys=system,
        meta=gifti.GiftiMetaData(entry["meta"]),
    )


def _mesh(ds: xr.Dataset, side: str, known: dict[str, Any]) -> Any:
    nib = require("nibabel", "fmri")
    own = np.flatnonzero(ds["hemi"].values == side)
    points = np.column_stack([ds[axis].values[own] for axis in "xyz"]).astype(np.float32)
    row = np.full(ds.sizes["vertex"], -1)
    row[own] = np.arange(len(own))
    corners = row[ds["triangle"].values]
    corners = corners[(corners >= 0).all(axis=1)].astype(np.int32)
    codes = nib.nifti1.intent_codes
    entries = known.get("arrays") or [
        {"intent": int(codes.code["NIFTI_INTENT_POINTSET"]), "encoding": 3, "meta": {_PRIMARY: SIDES[side]}},
        {"intent": int(codes.code["NIFTI_INTENT_TRIANGLE"]), "encoding": 3, "meta": {}},
    ]
    values = {int(codes.code["NIFTI_INTENT_POINTSET"]): points, int(codes.code["NIFTI_INTENT_TRIANGLE"]): corners}
    arrays = [_array(values[entry["intent"]], entry) for entry in entries]
    return nib.GiftiImage(meta=nib.gifti.GiftiMetaData(known.get("meta", {})), darrays=arrays)
