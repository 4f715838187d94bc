"""Constructors beyond the voxel grid: cortical surfaces, CIFTI grayordinates, and named maps of either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError
from neuroalign.schema._build import _labels, _variable
from neuroalign.schema._build_fmri import _flat_affine, _fmri
from neuroalign.schema._names import travel

HEMISPHERES = ("L", "R")


def _vertex_coords(n: int, hemi: str | ArrayLike, node: ArrayLike | None) -> dict[str, Any]:
    sides = np.full(n, hemi, dtype=object) if isinstance(hemi, str) else _labels("vertex", hemi, n)
    unknown = sorted({str(side) for side in sides} - set(HEMISPHERES))
    if unknown:
        raise SchemaError("Unknown hemisphere.", expected="L or R", got=unknown[:5], fix="pass hemi='L' or hemi='R'")
    if node is None:  # vertices of whole hemispheres, numbered from 0 in each
        index = np.empty(n, dtype=np.int64)
        for side in HEMISPHERES:
            index[sides == side] = np.arange(np.count_nonzero(sides == side))
    else:
        index = np.asarray(node, dtype=np.int64)
    if index.shape != (n,) or (index < 0).any():
        raise SchemaError(
            "Wrong vertex numbers.", expected=f"{n} numbers from 0", got=f"shape {index.shape}", fix="pass node="
        )
    if len(set(zip(sides.tolist(), index.tolist(), strict=True))) < n:
        raise SchemaError("Vertices repeat.", expected="each (hemi, node) once", got=f"{n} vertices")
    return {"vertex": ("vertex", np.arange(n)), "hemi": ("vertex", sides), "node": ("vertex", index)}


def _points(dim: str, n: int, positions: ArrayLike | None) -> dict[str, Any]:
    if positions is None:
        return {}
    xyz = np.asarray(positions, dtype=np.float64)
    if xyz.shape != (n, 3):
        raise SchemaError("Wrong shape of positions.", expected=f"({n}, 3) in mm", got=xyz.shape)
    return {axis: (dim, xyz[:, m]) for m, axis in enumerate("xyz")}


def fmri_surface(
    values: Any,
    *,
    hemi: str | ArrayLike,
    tr: float,
    node: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    units: str = "a.u.",
    space: str | None = None,
    events: pd.DataFrame | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build an fMRI run on the cortical surface.

    Parameters
    ----------
    values : array, shape (n_times, n_vertices)
        In memory or lazy; left hemisphere first where there are two.
    hemi : {'L', 'R'} or array_like of str, shape (n_vertices,)
        Hemisphere, of all vertices or of each.
    tr : float
        Repetition time in s.
    node : array_like of int, shape (n_vertices,), optional
        Number of each vertex in the mesh of its hemisphere; by default all of them, from 0.
    positions : array_like, shape (n_vertices, 3), optional
        Where the vertices lie on a mesh, in mm.
    units : str
        ``a.u.`` for scanner units, ``%`` or ``z``.
    space : str, optional
        Name of the mesh, for example ``fsaverage5`` or ``fsLR32k``.
    events : DataFrame, optional
        At least ``onset`` in s after the first volume.
    attrs : mapping, optional
        More attributes.

    Returns
    -------
    Dataset
        Variable ``bold`` with dims (time, vertex) and the vertex coordinates ``hemi`` and ``node``.

    Raises
    ------
    SchemaError
        If shapes, hemispheres or vertex numbers do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> ds = fmri_surface(np.ones((2, 4)), hemi=["L", "L", "R", "R"], tr=1.5, space="fsaverage5")
    >>> ds["bold"].dims, ds["node"].values.tolist()
    (('time', 'vertex'), [0, 1, 0, 1])
    """
    var, si = _variable(values, ("time", "vertex"), units)
    n = var.shape[1]
    coords = _vertex_coords(n, hemi, node) | _points("vertex", n, positions)
    return _fmri(var, si, tr, coords, events, {"space": space, **(attrs or {})})


def _grayordinate_coords(
    n: int, structure: ArrayLike, vertex: ArrayLike, ijk: ArrayLike | None, matrix: NDArray[np.float64] | None
) -> dict[str, Any]:
    names = _labels("grayordinate", structure, n)
    nodes = np.asarray(vertex, dtype=np.int64)
    index = np.full((n, 3), -1) if ijk is None else np.asarray(ijk, dtype=np.int64)
    if nodes.shape != (n,) or index.shape != (n, 3):
        raise SchemaError(
            "Wrong shape of grayordinates.", expected=f"({n},) and ({n}, 3)", got=f"{nodes.shape} and {index.shape}"
        )
    voxel = nodes < 0
    if ((index >= 0).all(axis=1) != voxel).any():
        raise SchemaError(
            "A grayordinate must be a vertex or a voxel.",
            expected="vertex >= 0 with i j k = -1, or vertex = -1 with i j k >= 0",
            got=f"{int(((index >= 0).all(axis=1) != voxel).sum())} that are both or neither",
        )
    coords: dict[str, Any] = {"grayordinate": np.arange(n), "structure": names, "vertex": nodes}
    coords |= {axis: index[:, m] for m, axis in enumerate("ijk")}
    if voxel.any():
        if matrix is None:
            raise SchemaError("Voxels without an affine.", expected="affine= from (i, j, k, 1) to mm", got=None)
        xyz = np.where(voxel[:, None], index @ matrix[:3, :3].T + matrix[:3, 3], np.nan)
        coords |= {axis: xyz[:, m] for m, axis in enumerate("xyz")}
    return {name: ("grayordinate", labels) for name, labels in coords.items()}


def fmri_grayordinates(
    values: Any,
    *,
    structure: ArrayLike,
    vertex: ArrayLike,
    tr: float,
    ijk: ArrayLike | None = None,
    affine: ArrayLike | None = None,
    volume_shape: Sequence[int] | None = None,
    units: str = "a.u.",
    space: str | None = None,
    events: pd.DataFrame | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build an fMRI run on CIFTI grayordinates: vertices of the cortex and voxels below it.

    Parameters
    ----------
    values : array, shape (n_times, n_grayordinates)
        In memory or lazy.
    structure : array_like of str, shape (n_grayordinates,)
        CIFTI names, for example ``CIFTI_STRUCTURE_CORTEX_LEFT``.
    vertex : array_like of int, shape (n_grayordinates,)
        Number in the mesh of the structure; -1 for voxels.
    tr : float
        Repetition time in s.
    ijk : array_like of int, shape (n_grayordinates, 3), optional
        Voxel indices; -1 for vertices. Left out where there are only vertices.
    affine : array_like, shape (4, 4), optional
        From (i, j, k, 1) to mm; needed with voxels.
    volume_shape : sequence of int, optional
        Shape (n_i, n_j, n_k) of the volume of the voxels.
    units, space, events, attrs
        As in `fmri_surface`.

    Returns
    -------
    Dataset
        Variable ``bold`` with dims (time, grayordinate) and the coordinates ``structure``, ``vertex``, ``i j k``
        and, with voxels, ``x y z`` (mm; NaN for vertices).

    Raises
    ------
    SchemaError
        If shapes do not fit, or a grayordinate is both a vertex and a voxel or neither.

    Examples
    --------
    >>> import numpy as np
    >>> names = ["CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_THALAMUS_LEFT"]
    >>> ijk = [[-1, -1, -1], [4, 5, 6]]
    >>> ds = fmri_grayordinates(np.ones((3, 2)), structure=names, vertex=[7, -1], ijk=ijk, affine=np.eye(4), tr=2.0)
    >>> ds["bold"].dims, ds["z"].values.tolist()
    (('time', 'grayordinate'), [nan, 6.0])
    """
    var, si = _variable(values, ("time", "grayordinate"), units)
    matrix = None if affine is None else np.asarray(_flat_affine(affine)).reshape(4, 4)
    coords = _grayordinate_coords(var.shape[1], structure, vertex, ijk, matrix)
    extra = {
        "space": space,
        "affine": None if matrix is None else matrix.ravel().tolist(),
        "volume_shape": None if volume_shape is None else [int(n) for n in volume_shape],
    }
    return _fmri(var, si, tr, coords, events, extra | dict(attrs or {}))


def maps(
    values: Any,
    *,
    map_name: ArrayLike,
    dim: str,
    coords: Mapping[str, Any],
    units: str = "a.u.",
    space: str | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build named maps over the sites of a recording: statistics, curvature, myelin, labels.

    Parameters
    ----------
    values : array, shape (n_maps, n_sites)
        In memory or lazy.
    map_name : array_like of str, shape (n_maps,)
        Names of the maps.
    dim : {'vertex', 'grayordinate', 'roi', 'voxel'}
        What a site is.
    coords : mapping
        Coordinates of the sites, as in the recording that they belong to: arrays, or ``(dims, array)``.
    units, space, attrs
        As in `fmri_surface`.

    Returns
    -------
    Dataset
        Variable ``map`` with dims (map_name, `dim`).

    Examples
    --------
    >>> import numpy as np
    >>> maps(np.ones((1, 3)), map_name=["curv"], dim="vertex", coords={"hemi": ["L"] * 3})["map"].sizes
    Frozen({'map_name': 1, 'vertex': 3})
    """
    var, si = _variable(values, ("map_name", dim), units)
    labels: dict[str, Any] = {"map_name": ("map_name", _labels("map", map_name, var.shape[0]))}
    for name, entry in coords.items():
        labels[str(name)] = entry if isinstance(entry, tuple) else (dim, _labels(dim, entry, var.shape[1]))
    labels.setdefault(dim, (dim, np.arange(var.shape[1])))
    ds = xr.Dataset({"map": var}, coords=labels)
    given = {"units": si, "space": space, **(attrs or {})}
    return travel(ds.assign_attrs({name: value for name, value in given.items() if value is not None}), "map")


def label_maps(
    values: ArrayLike,
    *,
    map_name: ArrayLike,
    dim: str,
    coords: Mapping[str, Any],
    names: Sequence[Mapping[int, str]],
    space: str | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build maps of region labels over the sites of a recording.

    Parameters
    ----------
    values : array_like of int, shape (n_maps, n_sites)
        Label of each site.
    map_name, dim, coords, space, attrs
        As in `maps`.
    names : sequence of mapping of int to str
        Names of the labels, one mapping a map.

    Returns
    -------
    Dataset
        Variable ``label`` (int32) with dims (map_name, `dim`), and their names as the coordinate ``roi`` of the same
        dims, empty for labels without a name.

    Examples
    --------
    >>> ds = label_maps([[0, 2]], map_name=["aparc"], dim="vertex", coords={"hemi": ["L", "L"]}, names=[{2: "V1"}])
    >>> ds["roi"].values.tolist()
    [['', 'V1']]
    """
    keys = np.asarray(values)
    if keys.ndim != 2 or keys.dtype.kind not in "iu" or len(names) != len(keys):
        raise SchemaError(
            "Not maps of labels.",
            expected="integers (n_maps, n_sites), and names for each map",
            got=f"{keys.dtype} of shape {keys.shape}, {len(names)} mappings",
        )
    ds = maps(np.zeros(keys.shape, np.float32), map_name=map_name, dim=dim, coords=coords, units="1", space=space)
    roi = np.empty(keys.shape, dtype=object)
    for row, (found, table) in enumerate(zip(keys, names, strict=True)):
        unique, inverse = np.unique(found, return_inverse=True)
        roi[row] = np.array([str(table.get(int(key), "")) for key in unique], dtype=object)[inverse]
    ds = ds.assign(label=(("map_name", dim), keys.astype(np.int32), ds["map"].attrs)).drop_vars("map")
    ds = ds.assign_coords(roi=(("map_name", dim), roi)).assign_attrs(attrs or {})
    return travel(ds, "label")


def surface_mesh(
    points: ArrayLike,
    triangles: ArrayLike,
    *,
    hemi: str | ArrayLike,
    space: str | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build the mesh of one hemisphere, or of both.

    Parameters
    ----------
    points : array_like, shape (n_vertices, 3)
        Positions in mm.
    triangles : array_like of int, shape (n_triangles, 3)
        Rows of `points` at the corners.
    hemi : {'L', 'R'} or array_like of str, shape (n_vertices,)
        Hemisphere, of all vertices or of each.
    space, attrs
        As in `fmri_surface`.

    Returns
    -------
    Dataset
        Vertex coordinates ``hemi node x y z`` and the variable ``triangle`` with dims (face, corner): positions
        along ``vertex``.

    Raises
    ------
    SchemaError
        If a triangle names a vertex that does not exist, or a position is not finite.
    """
    xyz, corners = np.asarray(points, dtype=np.float64), np.asarray(triangles, dtype=np.int64)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not np.isfinite(xyz).all():
        raise SchemaError(
            "Not the points of a mesh.", expected="finite (n_vertices, 3) in mm", got=f"shape {xyz.shape}"
        )
    n = len(xyz)
    if corners.ndim != 2 or corners.shape[1] != 3 or (corners.size and not 0 <= corners.min() <= corners.max() < n):
        raise SchemaError(
            "Not the triangles of this mesh.",
            expected=f"(n_triangles, 3) vertex numbers from 0 to {n - 1}",
            got=f"shape {corners.shape}" + (f", {corners.min()} to {corners.max()}" if corners.size else ""),
        )
    ds = xr.Dataset(
        {"triangle": (("face", "corner"), corners.astype(np.int32))},
        coords=_vertex_coords(n, hemi, None) | _points("vertex", n, xyz),
    )
    given = {"space": space, **(attrs or {})}
    return ds.assign_attrs({name: value for name, value in given.items() if value is not None})
