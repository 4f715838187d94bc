"""Which region each site belongs to, from any atlas: a volume, a surface, grayordinates, or plain labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign.convert._surfaces import named_sides
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.protocol import Labels
from neuroalign.schema._build_fmri import AFFINE_TOLERANCE, corner_distance

_CORTEX = {"L": "CIFTI_STRUCTURE_CORTEX_LEFT", "R": "CIFTI_STRUCTURE_CORTEX_RIGHT"}
Coords = dict[str, tuple[tuple[str, ...], NDArray[Any]]]
_KEYS = ("structure", "vertex", "i", "j", "k")


@dataclass(frozen=True)
class Atlas:
    """Labels at the places of an atlas.

    Attributes
    ----------
    codes : ndarray, shape (n_places,)
        Integers (0 outside) or text ("" outside).
    at : ndarray of int, shape (n_sites,)
        Place of each site; -1 for sites that the atlas does not have.
    names : dict of int to str
        Names that the atlas itself gives to its labels.
    """

    codes: NDArray[Any]
    at: NDArray[np.intp]
    names: Mapping[int, str]


def assign_regions(atlas: Any, labels: Any, sites: Labels) -> tuple[NDArray[np.int64], list[str]]:
    """Give each site its region.

    Parameters
    ----------
    atlas : object
        As in `neuroalign.preprocess.Parcellator`.
    labels : sequence of str, mapping of int to str, or None
        Names of the regions.
    sites : Labels
        The sites of the data.

    Returns
    -------
    index : ndarray of int, shape (n_sites,)
        Number of the region, -1 outside all.
    names : list of str
        Names of all regions of the atlas, in the order of their labels.
    """
    found = _open(atlas, sites)
    codes = _checked(found.codes)
    kinds = np.unique(codes[codes != (0 if codes.dtype.kind == "i" else "")])
    if codes.dtype.kind == "U" and all(kind.isdigit() for kind in kinds):
        kinds = kinds[np.argsort(kinds.astype(np.int64), kind="stable")]
    if not kinds.size:
        raise SchemaError("The atlas has no region.", expected="labels other than 0 or ''", got="none")
    names = _names(kinds, labels, found.names)
    if (repeated := sorted({n for n in names if names.count(n) > 1})) != []:
        raise ConfigError("Names of regions repeat.", expected="unique names", got=repeated[:5], fix="pass labels=")
    number = {kind: position for position, kind in enumerate(kinds.tolist())}
    of_place = np.array([number.get(code, -1) for code in codes.tolist()] + [-1])
    index = of_place[found.at]  # a place of -1 is the last entry, outside
    if (index < 0).all():
        raise AlignmentError(
            "No site lies in a region of the atlas.", expected="an atlas of the same sites", got=f"{len(index)} outside"
        )
    return index, names


def _checked(codes: NDArray[Any]) -> NDArray[Any]:
    if codes.dtype.kind in "OUS":
        return np.array([str(code) for code in codes], dtype=str)
    whole = np.isfinite(codes).all() and (codes == np.rint(codes)).all() and (codes >= 0).all()
    if codes.dtype.kind not in "biuf" or not whole:
        raise SchemaError(
            "This is not an atlas of labels.",
            expected="whole numbers, 0 outside and positive in some region; or text, '' outside",
            got=f"{codes.dtype} values from {np.nanmin(codes):g} to {np.nanmax(codes):g}",
            fix="set background labels to 0",
        )
    return codes.astype(np.int64)


def _names(kinds: NDArray[Any], labels: Any, own: Mapping[int, str]) -> list[str]:
    if labels is None:
        return [str(own.get(kind, kind)) for kind in kinds.tolist()]
    if isinstance(labels, Mapping):
        named: Mapping[Any, str] = labels
    else:
        labels = list(labels) if isinstance(labels, Iterable) else [labels]
        if len(labels) != len(kinds):
            raise ConfigError(
                "labels= does not fit the atlas.",
                expected=f"{len(kinds)} names, for the labels {kinds[:10].tolist()}",
                got=f"{len(labels)} names",
                fix="pass one name a label that occurs (without background), or a mapping {label: name}",
            )
        named = dict(zip(kinds.tolist(), labels, strict=True))
    if missing := [kind for kind in kinds.tolist() if kind not in named]:
        raise ConfigError("labels= does not fit the atlas.", expected="a name for each label", got=f"none: {missing}")
    return [str(named[kind]) for kind in kinds.tolist()]


def _open(atlas: Any, sites: Labels) -> Atlas:
    if isinstance(atlas, str | os.PathLike):
        raise ConfigError(
            "A Parcellator takes no paths.",
            expected="labels, an image or a Dataset",
            got=str(atlas),
            fix="pass neuroalign.loaders.read_fmri(path), or nibabel.load(path)",
        )
    if atlas is None:
        return _from_coordinate(sites)
    if isinstance(atlas, Mapping) and not isinstance(atlas, xr.Dataset):
        return _from_hemispheres(atlas, sites)
    if isinstance(atlas, xr.Dataset | xr.DataArray):
        return _from_labelled(atlas, sites)
    if hasattr(atlas, "darrays"):
        return _from_hemispheres({_side(atlas, sites): atlas}, sites)
    if hasattr(getattr(atlas, "header", None), "get_axis"):
        return _from_cifti(atlas, sites)
    if hasattr(atlas, "dataobj") and hasattr(atlas, "affine"):
        values = np.asanyarray(atlas.dataobj)
        values = values.reshape(values.shape[:3]) if values.size == np.prod(values.shape[:3]) else values
        return Atlas(values.ravel(), _grid_places(sites, values.shape, np.asarray(atlas.affine)), {})
    codes = np.asarray(atlas)
    if codes.shape not in ((sites.size,), sites.shape):
        raise AlignmentError("The atlas has another number of sites.", expected=sites.shape, got=codes.shape)
    return Atlas(codes.ravel(), np.arange(sites.size), {})


def _from_coordinate(sites: Labels) -> Atlas:
    if "roi" not in sites.coords or len(sites.dims) != 1 or sites.dims == ("roi",):
        raise ConfigError(
            "The sites have no regions.",
            expected="a coordinate roi along the sites, or atlas=",
            got=f"dims {sites.dims}, coordinates {list(sites.coords)}",
            fix="pass atlas=labels, an image or a Dataset; or read with atlas= (read_fmri)",
        )
    return Atlas(sites.coords["roi"][1], np.arange(sites.size), {})


def _from_hemispheres(images: Mapping[str, Any], sites: Labels) -> Atlas:
    """GIFTI labels or arrays, one a hemisphere; regions of the two are different ones, whatever their names."""
    if not images or set(images) - set(_CORTEX):
        raise ConfigError("Unknown hemispheres.", expected="{'L': labels, 'R': labels}", got=list(images))
    opened = {side: _gifti_table(images[side]) for side in sorted(images)}
    values = {side: _checked(codes) for side, (codes, _) in opened.items()}
    kinds = {side: np.unique(codes[codes > 0]).tolist() for side, codes in values.items()}
    named = {side: {k: opened[side][1].get(k, str(k)) for k in kinds[side]} for side in opened}
    both = len(opened) == 2
    if both and set(named["L"].values()) & set(named["R"].values()):
        named = {side: {k: f"{side}_{name}" for k, name in own.items()} for side, own in named.items()}
    if both and set(kinds["L"]) & set(kinds["R"]):
        shift = kinds["L"][-1]
        values["R"] = np.where(values["R"] > 0, values["R"] + shift, 0)
        named["R"] = {k + shift: name for k, name in named["R"].items()}
    places = pd.concat([_keys(len(v), structure=_CORTEX[side], vertex=np.arange(len(v))) for side, v in values.items()])
    names = {k: name for own in named.values() for k, name in own.items()}
    return Atlas(np.concatenate([*values.values()]), _find(places, _site_keys(sites)), names)


def _gifti_table(image: Any) -> tuple[NDArray[Any], dict[int, str]]:
    if not hasattr(image, "darrays"):
        return np.asarray(image).ravel(), {}
    if len(image.darrays) != 1:
        raise SchemaError("An atlas has one map.", expected="one data array", got=f"{len(image.darrays)} in the GIFTI")
    values = np.asarray(image.darrays[0].data)
    return values, {int(k): str(v) for k, v in image.labeltable.get_labels_as_dict().items()}


def _side(image: Any, sites: Labels) -> str:
    """Hemisphere of one GIFTI image: as it says, or the only one that the data have."""
    there = named_sides(image) or (set(sites.coords["hemi"][1].tolist()) if "hemi" in sites.coords else set())
    if len(there) != 1:
        raise ConfigError(
            "The hemisphere of the atlas is unknown.", expected="{'L': image, 'R': image}", got="one GIFTI image"
        )
    return str(there.pop())


def _from_cifti(image: Any, sites: Labels) -> Atlas:
    axes = [image.header.get_axis(n) for n in range(2)]
    if image.shape[0] != 1 or not hasattr(axes[0], "label"):
        raise SchemaError(
            "An atlas has one map of labels.",
            expected="a dlabel file with one map",
            got=f"{image.shape[0]} maps",
            fix="read it with neuroalign.loaders.read_fmri and choose one: atlas.isel(map_name=[0])",
        )
    table = {int(k): str(v[0]) for k, v in axes[0].label[0].items()}
    voxel = np.asarray(axes[1].voxel)
    places = _keys(len(voxel), structure=axes[1].name, vertex=axes[1].vertex, ijk=voxel)
    return Atlas(np.asarray(image.dataobj).ravel(), _find(places, _site_keys(sites)), table)


def _from_labelled(atlas: xr.Dataset | xr.DataArray, sites: Labels) -> Atlas:
    attrs = dict(atlas.attrs)
    if isinstance(atlas, xr.Dataset):
        name = next((name for name in ("label", "map") if name in atlas.data_vars), None)
        if name is None:
            raise SchemaError("This is no atlas.", expected="a variable label or map", got=list(atlas.data_vars))
        attrs, atlas = {**atlas.attrs, **atlas[name].attrs}, atlas[name]
    if "map_name" in atlas.dims:
        if atlas.sizes["map_name"] != 1:
            names = atlas["map_name"].values.tolist() if "map_name" in atlas.coords else atlas.sizes["map_name"]
            raise SchemaError("An atlas has one map.", expected="one", got=names, fix="atlas.sel(map_name=name)")
        atlas = atlas.isel(map_name=0)
    spaces = (attrs.get("space"), sites.attrs.get("space"))
    if all(spaces) and spaces[0] != spaces[1]:
        raise SchemaError("The atlas is in another space than the data.", expected=spaces[1], got=spaces[0])
    if atlas.dims == ("k", "j", "i"):
        values = atlas.values.T  # (i, j, k)
        return Atlas(
            values.ravel(), _grid_places(sites, values.shape, np.reshape(attrs.get("affine", ()), (-1, 4))), {}
        )
    if atlas.ndim != 1:
        raise SchemaError("An atlas has one label a site.", expected="one dimension", got=atlas.dims)
    coords: Coords = {
        str(n): ((str(atlas.dims[0]),), c.values) for n, c in atlas.coords.items() if c.dims == atlas.dims
    }
    table = {}
    if "roi" in coords and atlas.dtype.kind in "iu":  # as read_fmri gives the names of labels
        table = {k: n for k, n in zip(atlas.values.tolist(), map(str, coords["roi"][1]), strict=True) if n}
    own = Labels((str(atlas.dims[0]),), (atlas.sizes[atlas.dims[0]],), coords)
    return Atlas(atlas.values, _find(_site_keys(own), _site_keys(sites)), table)


def _grid_places(sites: Labels, shape: tuple[int, ...], affine: NDArray[Any]) -> NDArray[np.intp]:
    """Where each voxel of the data lies in a flat (i, j, k) array, once grid and affine are the same."""
    volume = sites.dims == ("k", "j", "i")
    if not volume and not {"i", "j", "k"} <= set(sites.coords):
        raise AlignmentError("The sites are no voxels.", expected="dims k j i, or coordinates i j k", got=sites.dims)
    grid = sites.shape[::-1] if volume else tuple(sites.attrs.get("volume_shape", shape))
    if tuple(shape) != tuple(grid):
        raise SchemaError(
            "The atlas has another grid than the data.",
            expected=f"{grid} voxels (i, j, k)",
            got=tuple(shape),
            fix="resample the atlas to the data, for example with nilearn.image.resample_to_img",
        )
    _check_affine(sites, affine, grid)
    if volume:
        return np.arange(sites.size).reshape(grid).T.ravel()
    ijk = [np.asarray(sites.coords[axis][1]) for axis in "ijk"]
    inside = np.min(ijk, axis=0) >= 0  # grayordinates that are vertices have -1
    return np.where(inside, np.ravel_multi_index([np.maximum(a, 0) for a in ijk], grid), -1)


def _check_affine(sites: Labels, affine: NDArray[Any], grid: tuple[int, ...]) -> None:
    if "affine" not in sites.attrs or affine.shape != (4, 4):
        whose = "data" if "affine" not in sites.attrs else "atlas"
        raise SchemaError(f"The {whose} do not say where their voxels lie.", expected="attrs['affine']", got=None)
    mine = np.reshape(sites.attrs["affine"], (4, 4))
    distance = corner_distance(affine, mine, grid[::-1])
    if not distance <= AFFINE_TOLERANCE:
        raise SchemaError(
            f"The atlas lies elsewhere than the data: their affines differ by {distance:.3g} mm.",
            expected=f"the affine of the data within {AFFINE_TOLERANCE} mm: {mine.round(4).tolist()}",
            got=affine.round(4).tolist(),
            fix="resample the atlas to the data; a flipped first column means left and right are swapped",
        )


def _keys(n: int, *, structure: Any, vertex: Any, ijk: Any = -1) -> pd.DataFrame:
    """One row a place: structure, vertex (-1 for voxels) and i j k (-1 for vertices)."""
    cells = np.broadcast_to(np.asarray(ijk), (n, 3))
    names = np.broadcast_to(np.asarray(structure, dtype=object), n)
    return pd.DataFrame(
        {"structure": names, "vertex": np.asarray(vertex)} | {a: cells[:, m] for m, a in enumerate("ijk")}
    )


def _site_keys(sites: Labels) -> pd.DataFrame:
    coords = {name: values for name, (_, values) in sites.coords.items()}
    if "hemi" in coords and "node" in coords:
        sides = [_CORTEX.get(str(side), str(side)) for side in coords["hemi"]]
        return _keys(sites.size, structure=sides, vertex=coords["node"])
    if "structure" in coords and "vertex" in coords:
        ijk = np.column_stack([coords[a] for a in "ijk"]) if {*"ijk"} <= set(coords) else -1
        return _keys(sites.size, structure=coords["structure"], vertex=coords["vertex"], ijk=ijk)
    raise AlignmentError(
        "The sites cannot be matched with the atlas.",
        expected="coordinates hemi and node, or structure and vertex",
        got=f"dims {sites.dims}, coordinates {list(coords)}",
        fix="pass one label a site as an array, in the order of the sites",
    )


def _find(places: pd.DataFrame, wanted: pd.DataFrame) -> NDArray[np.intp]:
    return pd.MultiIndex.from_frame(places[[*_KEYS]]).get_indexer(pd.MultiIndex.from_frame(wanted[[*_KEYS]]))
