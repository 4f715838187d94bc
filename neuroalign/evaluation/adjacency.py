"""Which sites are neighbours: channels by their positions, voxels by their grid, times by their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import Delaunay, cKDTree

from neuroalign.errors import ConfigError, SchemaError

__all__ = ["adjacency", "joint_adjacency"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: Dimensions whose neighbours are those before and after.
ORDERED = ("time", "lag", "freq", "frequency", "layer")
#: Edges of the triangulation longer than this many times the median go around the sensors, not between them.
LONGEST = 3.0


def adjacency(values: xr.DataArray, dim: str, *, kind: str = "auto", radius: float | None = None) -> sparse.csr_array:
    """Tell which entries along a dimension are neighbours.

    Parameters
    ----------
    values : DataArray
        Has the dimension, and the coordinates along it that `kind` goes by.
    dim : str
        The dimension, such as ``"channel"``.
    kind : {"auto", "order", "delaunay", "distance", "grid", "none"}, default "auto"
        ``order``: the entries before and after. ``delaunay``: channels that share an edge of a triangulation of their
        positions (``x y z``), seen from above the head; only channels of one type are neighbours. ``distance``:
        entries at most `radius` apart. ``grid``: voxels that share a face (``k j i``). ``none``: no neighbours.
        ``auto``: order for times, lags, frequencies and layers, the grid for voxels, and a triangulation for channels.
    radius : float, optional
        ``distance``: the largest distance of neighbours, in the unit of the positions.

    Returns
    -------
    scipy.sparse.csr_array of bool, shape (n, n)
        Symmetric, without a diagonal.

    Raises
    ------
    ConfigError
        If the kind is not known, or cannot be told from the labels.
    SchemaError
        If positions are missing.

    Examples
    --------
    >>> series = xr.DataArray([0.0, 1.0, 2.0], dims="time")
    >>> adjacency(series, "time").toarray().astype(int)
    array([[0, 1, 0],
           [1, 0, 1],
           [0, 1, 0]])
    """
    if dim not in values.dims:
        raise ConfigError("No such dimension.", expected=list(values.dims), got=dim, where="dim")
    kind = _guess(values, dim) if kind == "auto" else kind
    if kind not in _PAIRS:
        raise ConfigError("Unknown kind of neighbours.", expected=["auto", *_PAIRS], got=kind, where="kind")
    if (radius is None) == (kind == "distance"):
        fix = "radius= with a distance" if kind == "distance" else "kind='distance'"
        raise ConfigError("A radius belongs to distances.", got=f"kind={kind!r}, radius={radius}", fix=fix)
    return _symmetric(_PAIRS[kind](values, dim, radius), values.sizes[dim])


def joint_adjacency(values: xr.DataArray, dims: list[str], given: Any) -> sparse.csr_array:
    """Join the neighbours along each dimension: entries that differ in one of them only, by a neighbour."""
    given = _by_dim(given, dims)
    total = sparse.csr_array((1, 1), dtype=bool)
    for dim in dims:
        one = given.get(dim, "auto")
        one = adjacency(values, dim, kind=one) if isinstance(one, str) else _checked(one, values.sizes[dim], dim)
        n, m = total.shape[0], one.shape[0]
        total = sparse.csr_array(sparse.kron(total, sparse.eye_array(m)) + sparse.kron(sparse.eye_array(n), one))
    return total.astype(bool)


def _by_dim(given: Any, dims: list[str]) -> Mapping[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        unknown = [dim for dim in given if dim not in dims]
        if unknown:
            raise ConfigError("No such dimension.", expected=dims, got=unknown, where="adjacency")
        return given
    space = [dim for dim in dims if dim not in ORDERED] or dims
    if len(space) > 1:
        raise ConfigError(
            "Whose neighbours are these?",
            expected=f"a mapping with entries for some of {dims}",
            got=type(given).__name__,
            where="adjacency",
            fix=f"adjacency={{{space[0]!r}: ...}}",
        )
    return {space[0]: given}


def _checked(matrix: Any, n: int, dim: str) -> sparse.csr_array:
    given = sparse.csr_array(matrix)
    if given.shape != (n, n):
        raise ConfigError(
            "The neighbours are not those of the values.", expected=(n, n), got=given.shape, where=f"adjacency[{dim!r}]"
        )
    rows, cols = given.nonzero()
    return _symmetric(np.stack([rows, cols], axis=1), n)


def _symmetric(pairs: Index, n: int) -> sparse.csr_array:
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    both = np.vstack([pairs, pairs[:, ::-1]])
    matrix = sparse.csr_array((np.ones(len(both), bool), (both[:, 0], both[:, 1])), shape=(n, n))
    matrix.sum_duplicates()
    return matrix.astype(bool)


def _guess(values: xr.DataArray, dim: str) -> str:
    if dim in ORDERED:
        return "order"
    if _along(values, dim, "kji") is not None:
        return "grid"
    if dim == "channel" and _along(values, dim, "xyz") is not None:
        return "delaunay"
    raise ConfigError(
        f"It is not known which entries of {dim!r} are neighbours.",
        expected="positions of channels (x y z), or the grid of voxels (k j i)",
        got=[str(name) for name in values.coords],
        where="adjacency",
        fix=f"adjacency={{{dim!r}: matrix}}, or {{{dim!r}: 'none'}} for no neighbours",
    )


def _along(values: xr.DataArray, dim: str, names: str) -> Array | None:
    if any(name not in values.coords or values[name].dims != (dim,) for name in names):
        return None
    return np.stack([values[name].values.astype(float) for name in names], axis=1)


def _positions(values: xr.DataArray, dim: str, names: str) -> Array:
    points = _along(values, dim, names)
    where = f"coordinates {' '.join(names)} along {dim}"
    if points is None:
        raise SchemaError("Entries have no positions.", expected=where, got=[str(name) for name in values.coords])
    lost = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if lost.size:
        name = values[dim].values[lost[0]] if dim in values.coords else int(lost[0])
        raise SchemaError(
            "Some positions are not known.",
            expected=f"finite {where}",
            got=f"{lost.size} of {len(points)} without, such as {name}",
            fix=f"leave them out, or adjacency={{{dim!r}: matrix}}",
        )
    return points


def _order(values: xr.DataArray, dim: str, radius: float | None) -> Index:
    start = np.arange(values.sizes[dim] - 1)
    return np.stack([start, start + 1], axis=1)


def _none(values: xr.DataArray, dim: str, radius: float | None) -> Index:
    return np.zeros((0, 2), dtype=np.int64)


def _grid(values: xr.DataArray, dim: str, radius: float | None) -> Index:
    places = _positions(values, dim, "kji").astype(np.int64)
    return cKDTree(places).query_pairs(1.0, p=1, output_type="ndarray").astype(np.int64).reshape(-1, 2)


def _distance(values: xr.DataArray, dim: str, radius: float | None) -> Index:
    points = _positions(values, dim, "xyz")
    return cKDTree(points).query_pairs(float(radius or 0.0), output_type="ndarray").astype(np.int64).reshape(-1, 2)


def _delaunay(values: xr.DataArray, dim: str, radius: float | None) -> Index:
    points = _positions(values, dim, "xyz")
    types = values["channel_type"].values.astype(str) if "channel_type" in values.coords else np.zeros(len(points))
    groups = [np.flatnonzero(types == kind) for kind in np.unique(types)]
    return np.concatenate([rows[_triangulate(points[rows])] for rows in groups])


def _triangulate(points: Array) -> Index:
    """Edges of a triangulation of points on a head, flattened around the top (azimuthal equidistant)."""
    n = len(points)
    if n < 4:
        return np.array([(a, b) for a in range(n) for b in range(a)], dtype=np.int64).reshape(-1, 2)
    centred = points - _centre(points)
    away = np.arccos(np.clip(centred[:, 2] / np.linalg.norm(centred, axis=1), -1, 1))
    angle = np.arctan2(centred[:, 1], centred[:, 0])
    flat = away[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    corners = Delaunay(flat, qhull_options="QJ Pp").simplices
    edges = np.unique(np.sort(np.vstack([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]]), axis=1), axis=0)
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    return edges[length <= LONGEST * np.median(length)].astype(np.int64)


def _centre(points: Array) -> Array:
    """Centre of the sphere that fits best: |p|^2 = 2 p.c + const is linear in c."""
    shift = points.mean(axis=0)
    moved = points - shift
    design = np.column_stack([2 * moved, np.ones(len(moved))])
    return shift + np.linalg.lstsq(design, np.square(moved).sum(axis=1), rcond=1e-6)[0][:3]


_PAIRS: dict[str, Any] = {
    "delaunay": _delaunay,
    "distance": _distance,
    "grid": _grid,
    "none": _none,
    "order": _order,
}
