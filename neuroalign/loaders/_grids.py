"""Masks and atlases: one volume of labels, and whether it lies on the grid of a run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.loaders._acquisition import space_of
from neuroalign.loaders._nifti import LoadedImage, NiftiFile, open_nifti
from neuroalign.loaders._nifti_read import iter_volumes
from neuroalign.schema._build_fmri import AFFINE_TOLERANCE, corner_distance

__all__ = [
    "Grid",
    "grid_from_image",
    "grid_from_path",
    "inside_of",
    "on_grid",
    "regions_of",
]


@dataclass(frozen=True)
class Grid:
    """One volume of labels: a mask or an atlas."""

    values: NDArray[Any]  # (k, j, i)
    affine: NDArray[np.float64]
    name: str
    space: str | None


def inside_of(mask: Grid) -> NDArray[np.bool_]:
    """Voxels (k, j, i) of a mask, which holds zeros and one other value."""
    inside = mask.values != 0
    if not inside.any():
        raise SchemaError("The mask holds no voxel.", expected="some voxels that are not 0", where=mask.name)
    kept = np.unique(mask.values[inside])
    if kept.size > 1:
        raise SchemaError(
            "This is not a mask.",
            expected="zeros and one other value",
            got=f"{kept.size} different values from {kept[0]} to {kept[-1]}",
            where=mask.name,
            fix="threshold it first, or pass a volume of region labels as atlas=",
        )
    return inside


def regions_of(atlas: Grid, labels: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Integer labels (k, j, i) and the names of the labels that occur, in rising order."""
    values = np.rint(atlas.values).astype(np.int64)
    if (values != atlas.values).any() or (values < 0).any() or not values.any():
        raise SchemaError(
            "This is not an atlas of labels.",
            expected="whole numbers, 0 outside and positive in some region",
            got=f"{atlas.values.dtype} values from {atlas.values.min()} to {atlas.values.max()}",
            where=atlas.name,
        )
    found = np.unique(values[values != 0]).tolist()
    if labels is None:
        return values, [str(v) for v in found]
    named = dict(labels) if isinstance(labels, Mapping) else dict(zip(found, labels := list(labels), strict=False))
    missing = [v for v in found if v not in named]
    extra = 0 if isinstance(labels, Mapping) else len(labels) - len(found)
    if missing or extra > 0:
        raise ConfigError(
            "labels= does not fit the atlas.",
            expected=f"{len(found)} names, for the labels {found[:10]}{' ...' if len(found) > 10 else ''}",
            got=f"{len(labels)} names" + (f"; none for {missing[:10]}" if missing else ""),
            where=atlas.name,
            fix="pass one name a label that occurs (without background), or a mapping {label: name}",
        )
    return values, [str(named[v]) for v in found]


def on_grid(image: Any, role: str, file: NiftiFile | LoadedImage, space: str | None, remarks: list[str] | None) -> Grid:
    """Read a mask or atlas and make sure that it lies on the grid of the run."""
    grid = (
        grid_from_path(Path(image), remarks) if isinstance(image, str | os.PathLike) else grid_from_image(image, role)
    )
    if grid.values.shape != file.shape[1:]:
        raise SchemaError(
            f"The {role} has another grid than the run.",
            expected=f"{file.shape[:0:-1]} voxels (i, j, k)",
            got=f"{grid.values.shape[::-1]}",
            where=f"{grid.name} and {file.path}",
            fix=f"resample the {role} to the run, for example with nilearn.image.resample_to_img",
        )
    distance = corner_distance(grid.affine, file.matrix, file.shape[1:])
    if distance > AFFINE_TOLERANCE:
        raise SchemaError(
            f"The {role} lies elsewhere than the run: their affines differ by {distance:.3g} mm.",
            expected=f"the affine of the run within {AFFINE_TOLERANCE} mm: {file.matrix.round(4).tolist()}",
            got=grid.affine.round(4).tolist(),
            where=f"{grid.name} and {file.path}",
            fix=f"resample the {role} to the run; a flipped first column means left and right are swapped",
        )
    if space and grid.space and space != grid.space:
        raise SchemaError(
            f"The {role} is in another space than the run.",
            expected=space,
            got=grid.space,
            where=f"{grid.name} and {file.path}",
            fix=f"use a {role} in the space of the run, or pass space= if the file name is wrong",
        )
    if not np.isfinite(grid.values).all():
        raise SchemaError(f"The {role} holds values that are not finite.", where=grid.name)
    return grid


def grid_from_path(path: Path, remarks: list[str] | None) -> Grid:
    """Read the one volume of a file; `remarks` asks for the check of its checksum."""
    file = open_nifti(path, strict=remarks is not None)
    if file.shape[0] != 1:
        raise SchemaError(
            "A mask or atlas has one volume.", expected="3-D", got=f"{file.shape[0]} volumes", where=str(path)
        )
    (values,) = [file.scale(block[0]) for _, block in iter_volumes(file, remarks=remarks)]
    return Grid(values.reshape(file.shape[1:]), file.matrix, str(path), space_of(path.name))


def grid_from_image(image: Any, role: str) -> Grid:
    """Take the one volume of a nibabel image in memory."""
    if not (hasattr(image, "dataobj") and hasattr(image, "affine")):
        raise ConfigError(
            f"{role}= cannot be used: it does not say where its voxels lie.",
            expected="a path or a nibabel image",
            got=type(image).__name__,
            fix="wrap the array: nibabel.Nifti1Image(array, affine)",
        )
    values = np.asanyarray(image.dataobj)
    if values.ndim > 3 and values.size == math.prod(values.shape[:3]):
        values = values.reshape(values.shape[:3])
    name = image.get_filename() if hasattr(image, "get_filename") else None
    space = space_of(Path(name).name) if name else None
    return Grid(values.T, np.asarray(image.affine), name or f"the {role} image", space)
