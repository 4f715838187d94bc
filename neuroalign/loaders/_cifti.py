"""CIFTI-2: a matrix behind a NIfTI-2 header, and XML that says what its rows and columns are.

nibabel parses the XML; the matrix is read here, so that it can stay on disk without an open file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign import schema
from neuroalign.convert import cifti_record
from neuroalign.errors import IntegrityError, SchemaError, require
from neuroalign.loaders._acquisition import Written, read_sidecar, repetition_time, sidecar_attrs, space_of
from neuroalign.loaders._nifti import CIFTI_INTENTS, NiftiFile, header_of
from neuroalign.loaders._nifti_read import check_memory, check_unchanged, outer
from neuroalign.loaders._xml import damaged, nibabel_errors, scan_xml

__all__ = ["is_cifti", "read_cifti"]

_XML_CODE = 32
_MAX_EXPONENT = 12


def is_cifti(path: Path) -> bool:
    """Tell by the header whether an uncompressed file is CIFTI-2.

    Parameters
    ----------
    path : Path
        A ``.nii`` file.

    Returns
    -------
    bool
        Whether its intent is one of connectivity.
    """
    return path.name.lower().endswith(".nii") and int(header_of(path)["intent_code"]) in CIFTI_INTENTS


def read_cifti(
    path: Path, *, tr: float | None, space: str | None, lazy: bool, verify: bool, keep_phi: bool, max_bytes: int
) -> xr.Dataset:
    """Read a series, maps or labels on grayordinates or parcels.

    Parameters
    ----------
    path : Path
        The file.
    tr, space, lazy, verify, keep_phi, max_bytes
        As in `read_fmri`.

    Returns
    -------
    Dataset
        Of the data model.
    """
    file = _open(path, verify)
    header = _axes_of(path, file)
    with nibabel_errors(path):
        rows, columns = header.get_axis(0), header.get_axis(1)
        record = {"cifti": cifti_record(header, keep_phi=keep_phi)}
        site, coords, extra = _columns(path, columns)
    values = _Matrix(file, max_bytes)
    check_memory(path, 4 * values.shape[0] * values.shape[1] if not lazy else 0, max_bytes)
    data: Any = indexing.LazilyIndexedArray(values) if lazy else values.read((slice(None), slice(None)))
    common: dict[str, Any] = {"space": space or space_of(path.name), "attrs": extra | record}
    if not hasattr(rows, "step"):
        return _maps(path, rows, data, site, coords, common)
    sidecar = read_sidecar(path)
    start = {"start_time": float(rows.start)} if rows.start else {}
    written = Written(float(rows.step), "sec", "SeriesStep")
    common["attrs"] |= start | sidecar_attrs(sidecar)
    ds = _bold(data, site, coords, common, repetition_time(path, written, sidecar, tr))
    if tr is not None and abs(tr - written.value) > 1e-3:
        ds = schema.log(ds, f"{path}: tr={tr:g} s was taken, although the series has {written.value:g} s")
    return ds


def _open(path: Path, strict: bool) -> NiftiFile:
    header = header_of(path)
    dims = [int(n) for n in header["dim"]]
    dtype = header.get_data_dtype()
    if int(header["sizeof_hdr"]) != 540 or dims[0] != 6 or dims[1:5] != [1, 1, 1, 1] or min(dims[5:7]) < 1:
        raise damaged(path, "dimensions", "a NIfTI-2 header with dim = [6, 1, 1, 1, 1, rows, columns]", dims)
    if dtype.kind not in "iuf":
        raise damaged(path, "type of the numbers", "integers or floats", dtype)
    offset, stat = float(header["vox_offset"]), path.stat()
    with nibabel_errors(path):
        slope, inter = header.get_slope_inter()
    file = NiftiFile(
        path=str(path),
        shape=(1, 1, dims[6], dims[5]),  # rows are fastest on disk
        ndim=4,
        dtype=dtype.str,
        offset=int(offset) if 556 <= offset <= stat.st_size else 0,
        slope=1.0 if slope is None else float(slope),
        inter=0.0 if inter is None else float(inter),
        affine=(),
        zoom_t=0.0,
        time_unit="unknown",
        header="",
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )
    if not file.offset or file.end > file.size or (strict and file.end < file.size):
        raise IntegrityError(
            "The header does not match the size of the file: the file is cut or its header is wrong.",
            expected=f"{file.end} bytes for {dims[5]} x {dims[6]} of {file.dtype} from byte {offset:.15g}",
            got=f"{file.size} bytes",
            where=path,
            fix="copy or download the file again",
        )
    return file


def _xml(path: Path, file: NiftiFile) -> bytes:
    """Cut the XML out of the extensions between header and matrix."""
    with path.open("rb") as handle:
        block = handle.read(file.offset)
    order = file.dtype[0] if file.dtype[0] in "<>" else "<"
    at = 544
    while block[540:541] != b"\0" and at + 8 <= len(block):
        size, code = struct.unpack_from(order + "ii", block, at)
        if size < 8 or at + size > len(block):
            raise damaged(path, "size of an extension", f"8 to {len(block) - at} bytes", size)
        if code == _XML_CODE:
            return block[at + 8 : at + size].rstrip(b"\0")
        at += size
    raise damaged(path, "extensions", "the XML of CIFTI-2", "none")


def _axes_of(path: Path, file: NiftiFile) -> Any:
    """Parse the XML; what it counts must agree with the matrix before any axis is built from it."""
    parser = require("nibabel.cifti2.parse_cifti2", "fmri").Cifti2Parser()
    xml = _xml(path, file)
    scan_xml(path, xml)
    with nibabel_errors(path):
        parser.parse(string=xml)
        header = parser.header
        if not str(header.version).startswith("2"):
            raise damaged(path, "version", "CIFTI-2", header.version)
        if sorted(header.matrix.mapped_indices) != [0, 1]:
            raise damaged(path, "axes", "one for rows and one for columns", list(header.matrix.mapped_indices)[:5])
        maps = [header.matrix.get_index_map(dim) for dim in (0, 1)]
        for index_map in maps:  # nibabel allocates by these counts
            _check_counts(path, index_map)
        found = tuple(header.matrix.get_data_shape())
    kinds = [index_map.indices_map_to_data_type.removeprefix("CIFTI_INDEX_TYPE_") for index_map in maps]
    if (
        len(kinds) != 2
        or kinds[0] not in ("SERIES", "SCALARS", "LABELS")
        or kinds[1] not in ("BRAIN_MODELS", "PARCELS")
    ):
        raise SchemaError(
            "This kind of CIFTI matrix is not a recording, maps or labels.",
            expected="rows SERIES, SCALARS or LABELS and columns BRAIN_MODELS or PARCELS",
            got=kinds,
            where=path,
            fix="connectivity matrices: nibabel.load(path).get_fdata(), and read_table for what it holds",
        )
    if found != (file.shape[3], file.shape[2]):
        raise damaged(path, "size of the matrix", f"{found} as its XML counts", (file.shape[3], file.shape[2]))
    if kinds[0] == "SERIES" and maps[0].series_unit != "SECOND":
        raise SchemaError(
            "The rows are not points in time.",
            expected="a series in SECOND",
            got=maps[0].series_unit,
            where=path,
            fix="read it with nibabel, and read_table for what it holds",
        )
    return header


def _check_counts(path: Path, index_map: Any) -> None:
    if index_map.series_exponent is not None and abs(int(index_map.series_exponent)) > _MAX_EXPONENT:
        raise damaged(path, "SeriesExponent", f"-{_MAX_EXPONENT} to {_MAX_EXPONENT}", index_map.series_exponent)
    at = 0
    for model in index_map.brain_models:
        members = model.vertex_indices if model.model_type == "CIFTI_MODEL_TYPE_SURFACE" else model.voxel_indices_ijk
        if model.index_offset != at or model.index_count != len(members):
            raise damaged(
                path,
                f"members of {model.brain_structure}",
                f"{model.index_count} from {model.index_offset}",
                f"{len(members)} from {at}",
            )
        at += len(members)


def _columns(path: Path, columns: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Name of the sites, their coordinates, and attributes of the volume of their voxels."""
    extra: dict[str, Any] = {}
    if columns.affine is not None and columns.volume_shape is not None:
        extra = {
            "affine": np.asarray(columns.affine, dtype=float).ravel().tolist(),
            "volume_shape": [int(n) for n in columns.volume_shape],
        }
    if hasattr(columns, "vertices"):  # parcels
        names = columns.name.tolist()
        if len(set(names)) < len(names):
            raise SchemaError("Names of parcels repeat.", expected="unique names", got=names[:5], where=path)
        parts = [(name, index) for vertices in columns.vertices for name, index in vertices.items() if len(index)]
        counts = {
            "n_vertices": [sum(map(len, vertices.values())) for vertices in columns.vertices],
            "n_voxels": [len(voxels) for voxels in columns.voxels],
        }
        voxels = [np.reshape(v, (-1, 3)) for v in columns.voxels]
        _check_inside(path, parts, np.concatenate(voxels), columns)
        return "roi", {"roi": names, **counts}, extra
    structure = columns.name.astype(object)
    surface = columns.vertex >= 0
    parts = [(name, columns.vertex[surface & (structure == name)]) for name in columns.nvertices]
    _check_inside(path, parts, columns.voxel[~surface], columns)
    return "grayordinate", {"structure": structure, "vertex": columns.vertex, "ijk": columns.voxel}, extra


def _check_inside(path: Path, parts: Sequence[tuple[str, Any]], voxels: NDArray[Any], columns: Any) -> None:
    for name, index in parts:
        numbers = np.asarray(index)
        size = int(columns.nvertices.get(name, 0))
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < size:
            raise damaged(path, f"vertices of {name}", f"0 to {size - 1}", f"{numbers.min()} to {numbers.max()}")
    if voxels.size and ((voxels < 0) | (voxels >= np.asarray(columns.volume_shape))).any():
        raise damaged(path, "voxels", f"inside {tuple(columns.volume_shape)}", voxels.max(axis=0).tolist())


def _bold(data: Any, site: str, coords: dict[str, Any], common: dict[str, Any], tr: float) -> xr.Dataset:
    if site == "grayordinate":
        return schema.fmri_grayordinates(data, tr=tr, **coords, **_with_volume(common))
    attrs = common["attrs"] | ({"space": common["space"]} if common["space"] else {})
    counts = {name: values for name, values in coords.items() if name != "roi"}
    return schema.fmri_regions(data, roi=coords["roi"], tr=tr, coords=counts, attrs=attrs)


def _with_volume(common: dict[str, Any]) -> dict[str, Any]:
    attrs = dict(common["attrs"])
    affine = attrs.pop("affine", None)
    volume = {
        "affine": None if affine is None else np.reshape(affine, (4, 4)),
        "volume_shape": attrs.pop("volume_shape", None),
    }
    return {**common, "attrs": attrs, **volume}


def _maps(path: Path, rows: Any, data: Any, site: str, coords: dict[str, Any], common: dict[str, Any]) -> xr.Dataset:
    labels: dict[str, Any]
    if site == "grayordinate":
        sites = schema.fmri_grayordinates(
            np.zeros((1, len(coords["vertex"])), np.float32), tr=1.0, **coords, **_with_volume(common)
        ).coords
        labels = {str(name): (c.dims, c.values) for name, c in sites.items() if name != "time"}
    else:
        labels = coords
    names = rows.name.tolist()
    if not hasattr(rows, "label"):
        return schema.maps(data, map_name=names, dim=site, coords=labels, **common)
    if site == "roi":
        raise SchemaError("Labels of parcels are not read.", expected="a dense label file (.dlabel.nii)", where=path)
    values = np.asarray(data)
    keys = np.rint(values).astype(np.int64)
    if not (keys == values).all() or np.abs(keys).max(initial=0) > np.iinfo(np.int32).max:
        raise damaged(path, "labels", "whole numbers", f"{values.min()} to {values.max()}")
    tables = [{int(key): str(entry[0]) for key, entry in table.items()} for table in rows.label.tolist()]
    return schema.label_maps(keys, map_name=names, dim=site, coords=labels, names=tables, **common)


class _Matrix(BackendArray):
    """Lazy (row, column) float32 array over the matrix of a CIFTI file: a path and a few numbers."""

    def __init__(self, file: NiftiFile, max_bytes: int) -> None:
        self.file, self.max_bytes = file, max_bytes
        self.shape = (file.shape[3], file.shape[2])
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.read)

    def read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        """Read an outer selection."""
        picks = [np.arange(n)[k] for n, k in zip(self.shape, key, strict=True)]
        check_memory(self.file.path, 4 * picks[0].size * picks[1].size, self.max_bytes)
        check_unchanged(self.file)
        stored = np.memmap(self.file.path, self.file.dtype, "r", self.file.offset, self.shape[::-1])
        return self.file.scale(np.asarray(outer(stored, key[::-1]))).T
