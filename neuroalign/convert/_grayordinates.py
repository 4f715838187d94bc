"""CIFTI-2: what its axes say, as labels, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.convert._pick import kept_meta, pick, split, time_step
from neuroalign.errors import SchemaError, require

__all__ = ["cifti_record", "to_cifti"]


def cifti_record(header: Any, *, keep_phi: bool = False) -> str:
    """Serialise what the axes of a CIFTI-2 header say beyond the coordinates of their sites, for the way back.

    Parameters
    ----------
    header : nibabel.cifti2.Cifti2Header
        Of rows (time points or maps) and columns (grayordinates or parcels).
    keep_phi : bool
        Keep metadata that name people, dates and folders.

    Returns
    -------
    str
        JSON object: ``meta``, ``n_vertices`` by structure, ``start`` of a series (s), ``maps`` (name and metadata),
        ``labels`` (a table a map) and ``parcels`` (vertices by structure, and voxels, by name).
    """
    axes = require("nibabel.cifti2.cifti2_axes", "fmri")
    rows, columns = header.get_axis(0), header.get_axis(1)
    content: dict[str, Any] = {
        "meta": kept_meta(header.matrix.metadata or {}, keep_phi),
        "n_vertices": {str(name): int(n) for name, n in columns.nvertices.items()},
    }
    if isinstance(rows, axes.SeriesAxis):
        content["start"] = float(rows.start)
    else:
        names = zip(rows.name.tolist(), rows.meta.tolist(), strict=True)
        content["maps"] = [[name, kept_meta(meta, keep_phi)] for name, meta in names]
    if isinstance(rows, axes.LabelAxis):
        content["labels"] = [
            [[int(key), str(name), [float(c) for c in colour]] for key, (name, colour) in table.items()]
            for table in rows.label.tolist()
        ]
    if isinstance(columns, axes.ParcelsAxis):
        content["parcels"] = {
            str(name): {
                "vertices": {str(part): np.asarray(index).tolist() for part, index in vertices.items()},
                "voxels": np.asarray(voxels).tolist(),
            }
            for name, voxels, vertices in zip(columns.name, columns.voxels, columns.vertices, strict=True)
        }
    return json.dumps(content)


def to_cifti(obj: xr.Dataset | xr.DataArray, variable: str | None = None, **indexers: Any) -> Any:
    """Give a CIFTI-2 image of values on grayordinates, or on the parcels of a CIFTI file.

    Parameters
    ----------
    obj : Dataset or DataArray
        Values along ``grayordinate`` with the coordinates ``structure``, ``vertex`` and, with voxels, ``i j k``; or
        along ``roi``, read from a parcellated file. Up to one more dimension becomes the rows: ``time`` a series,
        any other one maps.
    variable : str, optional
        Of a Dataset; by default the only one, or ``bold``, ``map``, ``label`` or ``score``.
    **indexers
        Selection by label, for example ``map_name="thickness"``, ``structure="CIFTI_STRUCTURE_CORTEX_LEFT"``.

    Returns
    -------
    nibabel.Cifti2Image
        In memory, float32; its intent says which ending the file should have.

    Raises
    ------
    SchemaError
        If it is not known where the values lie, grayordinates of one structure do not follow each other, or time
        points are not equally spaced.
    ConfigError
        If a variable or label does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign import schema
    >>> ds = schema.fmri_grayordinates(
    ...     np.ones((3, 2)), structure=["CIFTI_STRUCTURE_CORTEX_LEFT"] * 2, vertex=[0, 5], tr=0.72,
    ...     attrs={"cifti": '{"n_vertices": {"CIFTI_STRUCTURE_CORTEX_LEFT": 32492}}'},
    ... )
    >>> to_cifti(ds).shape
    (3, 2)
    """
    nib = require("nibabel", "fmri")
    array = pick(obj, variable, indexers)
    record = json.loads(array.attrs.get("cifti", "{}"))
    site = "grayordinate" if "grayordinate" in array.dims else "roi"
    if site not in array.dims or (site == "roi" and "parcels" not in record):
        raise SchemaError(
            "These values have no place in CIFTI.",
            expected="a dimension grayordinate, or roi with the parcels of a CIFTI file",
            got=f"dims {tuple(array.dims)}" + (" without parcels" * (site in array.dims)),
            fix="volumes go to NIfTI: .neuro.to_nifti(); surfaces to GIFTI: .neuro.to_gifti()",
        )
    rows, dim = split(array, (site,), "CIFTI")
    columns = _brain_models(rows, record) if site == "grayordinate" else _parcels(rows, record)
    header = nib.Cifti2Header.from_axes((_rows(rows, dim, record), columns))
    for name, text in record.get("meta", {}).items():
        header.matrix.metadata = header.matrix.metadata or nib.cifti2.Cifti2MetaData()
        header.matrix.metadata[name] = text
    image = nib.Cifti2Image(rows.values.astype(np.float32), header)
    image.nifti_header.set_intent(_intent(rows, dim, site))
    return image


def _rows(rows: xr.DataArray, dim: str | None, record: dict[str, Any]) -> Any:
    axes = require("nibabel.cifti2.cifti2_axes", "fmri")
    if dim == "time":
        return _series(rows, record)
    names = [str(rows.name or "map")]
    if dim is not None:
        labels = rows[dim].values if dim in rows.coords else range(len(rows))
        names = [str(label) if dim == "map_name" else f"{dim} {label}" for label in labels]
    elif "map_name" in rows.coords:
        names = [str(rows["map_name"].item())]
    known = record.get("maps", []) if rows.name in ("map", "label") else []
    place = [name for name, _ in known]
    where = list(range(len(names))) if names == place else [place.index(n) if n in place else -1 for n in names]
    meta = [known[w][1] if w >= 0 else {} for w in where] if known else [{} for _ in names]
    if rows.dtype.kind not in "iu" or "labels" not in record:
        return axes.ScalarAxis(names, np.array(meta, dtype=object))
    tables = [{key: (name, tuple(colour)) for key, name, colour in record["labels"][w]} for w in where]
    return axes.LabelAxis(names, np.array(tables, dtype=object), np.array(meta, dtype=object))


def _series(rows: xr.DataArray, record: dict[str, Any]) -> Any:
    axes = require("nibabel.cifti2.cifti2_axes", "fmri")
    times = rows["time"].values if "time" in rows.coords else np.empty(0)
    step = time_step(rows)
    if step is None and times.size > 1:
        raise SchemaError("The time points are not equally spaced.", expected="equal steps", got=times[:5])
    if step is None:
        raise SchemaError("No repetition time.", expected="attrs['tr'] in s", got=rows.attrs.get("tr"))
    start = float(record.get("start", 0.0)) + (float(times[0]) if times.size else 0.0)
    return axes.SeriesAxis(start, step, len(rows), "SECOND")


def _volume(rows: xr.DataArray) -> dict[str, Any]:
    matrix, shape = rows.attrs.get("affine"), rows.attrs.get("volume_shape")
    return {
        "affine": None if matrix is None else np.reshape(matrix, (4, 4)),
        "volume_shape": None if shape is None else tuple(int(n) for n in shape),
    }


def _brain_models(rows: xr.DataArray, record: dict[str, Any]) -> Any:
    axes = require("nibabel.cifti2.cifti2_axes", "fmri")
    structure, vertex = rows["structure"].values.astype(str), rows["vertex"].values
    starts = np.flatnonzero(structure[1:] != structure[:-1]) + 1
    pieces = structure[np.concatenate([[0], starts])]
    if len(set(pieces)) < len(pieces):
        raise SchemaError(
            "The grayordinates of a structure do not follow each other.",
            expected="all of one structure, then all of the next",
            got=f"{len(pieces)} pieces of {len(set(pieces))} structures",
            fix="sort them: ds.sortby('grayordinate')",
        )
    sizes = {name: int(n) for name, n in record.get("n_vertices", {}).items()}
    unknown = sorted(set(structure[vertex >= 0]) - set(sizes))
    if unknown:
        raise SchemaError(
            "How many vertices the meshes have is not known.",
            expected="attrs['cifti'] of the file that was read, a JSON object with n_vertices",
            got=f"nothing for {unknown}",
            fix="""ds.assign_attrs(cifti='{"n_vertices": {"CIFTI_STRUCTURE_CORTEX_LEFT": 32492, ...}}')""",
        )
    ijk: NDArray[Any] = np.column_stack([rows[axis].values for axis in "ijk"]).astype(int)
    return axes.BrainModelAxis(structure, voxel=ijk, vertex=vertex.astype(int), nvertices=sizes, **_volume(rows))


def _parcels(rows: xr.DataArray, record: dict[str, Any]) -> Any:
    axes = require("nibabel.cifti2.cifti2_axes", "fmri")
    names = [str(name) for name in rows["roi"].values]
    unknown = [name for name in names if name not in record["parcels"]]
    if unknown:
        raise SchemaError("Parcels that were not in the file.", expected=list(record["parcels"])[:5], got=unknown[:5])
    voxels, vertices = np.empty(len(names), dtype=object), np.empty(len(names), dtype=object)
    for n, name in enumerate(names):
        members = record["parcels"][name]
        voxels[n] = np.array(members["voxels"], dtype=int).reshape(-1, 3)
        vertices[n] = {part: np.array(index, dtype=int) for part, index in members["vertices"].items()}
    return axes.ParcelsAxis(names, voxels, vertices, nvertices=record["n_vertices"], **_volume(rows))


def _intent(rows: xr.DataArray, dim: str | None, site: str) -> str:
    dense = site == "grayordinate"
    if dim == "time":
        return "ConnDenseSeries" if dense else "ConnParcelSries"
    if rows.dtype.kind in "iu":
        return "ConnDenseLabel"
    return "ConnDenseScalar" if dense else "ConnParcelScalr"
