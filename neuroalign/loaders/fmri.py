"""Read fMRI: volumes whole and lazy, inside a mask or averaged over an atlas; surfaces; CIFTI grayordinates."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from neuroalign import schema
from neuroalign.errors import ConfigError
from neuroalign.loaders._acquisition import Written, read_sidecar, repetition_time, sidecar_attrs, space_of
from neuroalign.loaders._cifti import is_cifti, read_cifti
from neuroalign.loaders._gifti import other_hemisphere, read_gifti
from neuroalign.loaders._grids import Grid, inside_of, on_grid, regions_of
from neuroalign.loaders._nifti import LoadedImage, NiftiFile, open_nifti
from neuroalign.loaders._nifti_read import NiftiArray, check_memory, iter_volumes, verify_stream

__all__ = ["read_fmri"]


def read_fmri(
    path: Any,
    *,
    mask: Any = None,
    atlas: Any = None,
    space: str | None = None,
    tr: float | None = None,
    labels: Iterable[str] | Mapping[int, str] | None = None,
    hemi: str | None = None,
    pair: bool = False,
    lazy: bool = True,
    verify: bool = True,
    keep_phi: bool = False,
    max_bytes: int = 8 * 2**30,
) -> xr.Dataset:
    """Read a NIfTI, GIFTI or CIFTI-2 image as labelled data.

    Parameters
    ----------
    path : str, path-like, sequence of two of them, or nibabel image
        A ``.nii`` or ``.nii.gz`` file, 4-D, or 3-D (one map); a ``.gii`` file (time series, maps, labels or a mesh),
        or the two of a pair; a CIFTI-2 file such as ``.dtseries.nii`` or ``.pscalar.nii``; or a volume in memory.
        Stored scaling is applied; values come as float32.
    mask : path or nibabel image, optional
        Volume with zeros outside and one other value inside. The run is streamed through it into (time, voxel).
    atlas : path or nibabel image, optional
        Volume of integer labels, 0 outside. The run is streamed into region means, (time, roi). Together with `mask`
        the voxels stay and carry the name of their region in the coordinate ``roi``.
    space : str, optional
        Name of the space; by default the entity ``space-`` of the file name.
    tr : float, optional
        Repetition time in s. By default ``RepetitionTime`` of the JSON sidecar beside the file, which must agree with
        the header (in CIFTI, the series axis) within 1 ms, or else the header alone.
    labels : sequence of str, or mapping of int to str, optional
        Names of the regions, in the order of their labels in `atlas` or by label. By default the labels themselves.
    hemi : {'L', 'R'}, optional
        Hemisphere of a GIFTI file that says it neither in ``AnatomicalStructurePrimary`` nor in its name
        (``hemi-L``, ``lh.``, ``_lh``, ``.L.``).
    pair : bool
        Read the GIFTI file of the other hemisphere too, found by the name.
    lazy : bool
        Whether whole volumes and CIFTI matrices stay on disk until they are used. With a mask or atlas, from GIFTI
        (XML) and for labels the result is always in memory.
    verify : bool
        Read compressed files to their end, which compares their checksum and catches every flipped bit; refuse an
        uncompressed file with bytes after the last value. Lazy opening of a ``.nii.gz`` then costs one pass over it.
    keep_phi : bool
        Keep header fields and metadata that may name people, dates and folders.
    max_bytes : int
        Refuse to allocate more than this for one result.

    Returns
    -------
    Dataset
        Variable ``bold`` with dims (time, k, j, i) in file order, (time, voxel), (time, roi), (time, vertex) or
        (time, grayordinate); attrs ``tr``, ``affine`` (except regions), ``space`` and, where the sidecar has them,
        ``slice_timing`` and ``start_time``: the clock counts volumes, and values are those of ``time + start_time``.
        A 3-D image gives the variable ``map`` with dims (k, j, i), (voxel) or (roi); maps of GIFTI and CIFTI have
        dims (map_name, site); labels are the variable ``label``, with their names as the coordinate ``roi``; a mesh
        has positions (mm) and the variable ``triangle``. Headers are kept for the way back (`neuroalign.convert`).

    Raises
    ------
    IntegrityError
        If a file is missing, cut or damaged, declares more than it can hold, defines XML entities, or points at data
        outside its folder.
    SchemaError
        If the repetition time is unknown, contradictory or outside 0.1-20 s, if the grid or space of the mask or
        atlas is not that of the run (affines may differ by 0.05 mm at the farthest corner), or if the hemisphere is
        unknown.
    ConfigError
        If `labels` does not fit the atlas, the result is larger than `max_bytes`, or an option is not for this kind
        of file.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np, nibabel as nib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> image = nib.Nifti1Image(np.arange(48, dtype="i2").reshape(2, 2, 2, 6), np.diag([3.0, 3, 3, 1]))
    >>> nib.save(image, folder / "run_bold.nii.gz")
    >>> read_fmri(folder / "run_bold.nii.gz", tr=2.0)["bold"].sizes
    Frozen({'time': 6, 'k': 2, 'j': 2, 'i': 2})
    """
    volume = {"mask": mask, "atlas": atlas, "labels": labels}
    surface = {"hemi": hemi, "pair": pair or None}
    options: dict[str, Any] = {"space": space, "tr": tr, "keep_phi": keep_phi, "max_bytes": max_bytes}
    if hasattr(path, "dataobj"):
        _refuse("a volume in memory", **surface)
        image = LoadedImage.of(path, keep_phi=keep_phi)
        return _read_volumes(image, image.path, **volume, space=space, tr=tr, lazy=False, max_bytes=max_bytes)
    paths = _paths(path)
    if all(p.name.lower().endswith(".gii") for p in paths) and len(paths) <= 2:
        _refuse("a surface", **volume)
        paths = [*paths, other_hemisphere(paths[0])] if pair and len(paths) == 1 else paths
        ds, sources = read_gifti(paths, hemi=hemi, **options)
        return schema.stamp(ds, "read_fmri", sources=sources)
    if len(paths) != 1:
        raise ConfigError(
            "Only the two GIFTI files of a pair are read together.",
            expected="two .gii files",
            got=[p.name for p in paths],
        )
    _refuse("volumes and grayordinates", **surface)
    if is_cifti(paths[0]):
        _refuse("grayordinates", **volume)
        ds = read_cifti(paths[0], lazy=lazy, verify=verify, **options)
        return schema.stamp(ds, "read_fmri", sources=paths)
    file = open_nifti(paths[0], strict=verify, keep_phi=keep_phi)
    options = {"space": space, "tr": tr, "lazy": lazy, "max_bytes": max_bytes, "remarks": [] if verify else None}
    return _read_volumes(file, paths[0], **volume, **options)


def _paths(path: Any) -> list[Path]:
    given = [path] if isinstance(path, str | os.PathLike) else path
    if isinstance(given, Sequence) and given and all(isinstance(p, str | os.PathLike) for p in given):
        return [Path(p) for p in given]
    raise ConfigError(
        "Nothing that can be read.", expected="a path, two paths, or a volume of nibabel", got=type(path).__name__
    )


def _refuse(kind: str, **options: Any) -> None:
    given = [f"{name}=" for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"Not an option for {kind}.", got=", ".join(given), fix="leave it out")


def _read_volumes(
    file: NiftiFile | LoadedImage,
    path: str | Path,
    *,
    mask: Any,
    atlas: Any,
    labels: Any,
    space: str | None,
    tr: float | None,
    lazy: bool,
    max_bytes: int,
    remarks: list[str] | None = None,
) -> xr.Dataset:
    """Read volumes whole, in a mask or over an atlas; `remarks` asks for the check of checksums."""
    space = space or space_of(Path(path).name)
    sidecar = read_sidecar(path) if isinstance(path, Path) else {}
    tr = _repetition_time(file, sidecar, tr) if file.ndim == 4 else 1.0
    grids = {
        name: on_grid(image, name, file, space, remarks)
        for name, image in (("mask", mask), ("atlas", atlas))
        if image is not None
    }
    common: dict[str, Any] = {"tr": tr, "space": space, "attrs": sidecar_attrs(sidecar)}
    header = {"nifti_header": file.header}
    if "mask" in grids:
        common["attrs"] |= header
        ds = _masked(file, grids["mask"], grids.get("atlas"), labels, max_bytes, remarks, **common)
    elif "atlas" in grids:
        ds = _regions(file, grids["atlas"], labels, max_bytes, remarks, **common)
    else:
        common["attrs"] |= header
        ds = schema.fmri_volume(_volume(file, lazy, remarks, max_bytes), affine=file.matrix, **common)
    for remark in remarks or []:
        ds = schema.log(ds, remark)
    sources = [Path(image) for image in (path, mask, atlas) if isinstance(image, str | os.PathLike)]
    if isinstance(file, LoadedImage):
        sources = sources[1:]
    return schema.stamp(ds if file.ndim == 4 else _as_map(ds), "read_fmri", sources=sources)


def _repetition_time(file: NiftiFile | LoadedImage, sidecar: dict[str, Any], tr: float | None) -> float:
    return repetition_time(file.path, Written(file.zoom_t, file.time_unit), sidecar, tr)


def _as_map(ds: xr.Dataset) -> xr.Dataset:
    """Drop the time axis of a 3-D image: a statistic or anatomy has no clock."""
    ds = ds.isel(time=0, drop=True).rename(bold="map")
    for name in ("tr", "sfreq", "first_sample"):
        ds.attrs.pop(name, None)
        ds["map"].attrs.pop(name, None)
    return ds


def _volume(file: NiftiFile | LoadedImage, lazy: bool, remarks: list[str] | None, max_bytes: int) -> Any:
    if lazy and isinstance(file, NiftiFile):
        if remarks is not None:
            remarks += verify_stream(file)
        return indexing.LazilyIndexedArray(NiftiArray(file, max_bytes))
    check_memory(file.path, 4 * math.prod(file.shape), max_bytes)
    out = np.empty(file.shape, dtype=np.float32)
    for first, block in iter_volumes(file, remarks=remarks):
        out[first : first + len(block)] = file.scale(block).reshape(-1, *file.shape[1:])
    return out


def _masked(
    file: NiftiFile | LoadedImage,
    mask: Grid,
    atlas: Grid | None,
    labels: Any,
    max_bytes: int,
    remarks: Any,
    **common: Any,
) -> xr.Dataset:
    index = np.flatnonzero(inside_of(mask))
    check_memory(file.path, 4 * file.shape[0] * index.size, max_bytes)
    out = np.empty((file.shape[0], index.size), dtype=np.float32)
    for first, block in iter_volumes(file, remarks=remarks):
        out[first : first + len(block)] = file.scale(block[:, index])
    kji = np.unravel_index(index, file.shape[1:])
    roi = None
    if atlas is not None:
        values, names = regions_of(atlas, labels)
        lookup = dict(zip(np.unique(values[values != 0]).tolist(), names, strict=True)) | {0: ""}
        roi = [lookup[v] for v in values.ravel()[index].tolist()]
    ijk = np.column_stack(kji[::-1])
    return schema.fmri_masked(out, ijk=ijk, affine=file.matrix, volume_shape=file.shape[:0:-1], roi=roi, **common)


def _regions(
    file: NiftiFile | LoadedImage,
    atlas: Grid,
    labels: Any,
    max_bytes: int,
    remarks: Any,
    *,
    space: str | None,
    **common: Any,
) -> xr.Dataset:
    values, names = regions_of(atlas, labels)
    flat = values.ravel()
    order = np.argsort(flat, kind="stable")[np.count_nonzero(flat == 0) :]  # voxels, region after region
    starts = np.flatnonzero(np.diff(flat[order], prepend=0))
    counts = np.diff(starts, append=order.size)
    check_memory(file.path, 4 * file.shape[0] * len(names), max_bytes)
    out = np.empty((file.shape[0], len(names)), dtype=np.float32)
    for first, block in iter_volumes(file, remarks=remarks):
        # Scaling is linear, so the mean of the stored numbers can be scaled instead of every voxel.
        sums = np.add.reduceat(block[:, order].astype(np.float64), starts, axis=1)
        out[first : first + len(block)] = sums / counts * file.slope + file.inter
    common["attrs"] = {**common["attrs"], "atlas": Path(atlas.name).name} | ({"space": space} if space else {})
    coords = {"n_voxels": counts, "label": flat[order][starts]}
    return schema.fmri_regions(out, roi=names, coords=coords, **common)
