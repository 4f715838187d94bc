"""Volumes -> the cortical surface."""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path
from typing import Any, Self
from xml.parsers.expat import ExpatError

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from neuroalign.errors import AlignmentError, ConfigError, IntegrityError, SchemaError, require
from neuroalign.preprocess._nuisance import tiles
from neuroalign.preprocess._trees import first_run, transform_runs
from neuroalign.protocol import LabelledTransformer, Labels, Samples, open_samples, save_model
from neuroalign.schema import stamp
from neuroalign.schema._names import OF_SITES
from neuroalign.schema._provenance import provenance

__all__ = ["SurfaceSampler"]

Mesh = tuple[NDArray[np.float64], NDArray[np.int64]]

_KINDS = ("auto", "line", "ball", "depth")
_INTERPOLATIONS = ("linear", "nearest_most_frequent")
#: A vertex has a value where at least this part of what is sampled around it lies in voxels that hold numbers.
_LEAST = 0.5


class SurfaceSampler(LabelledTransformer):
    """Sample volumes at the vertices of a cortical surface, through `nilearn.surface.vol_to_surf`.

    Parameters
    ----------
    left, right : mesh, optional
        Surface of each hemisphere, in the mm of the volumes: a path (GIFTI or FreeSurfer), a nibabel GIFTI image, a
        Dataset of `neuroalign.schema.surface_mesh`, or a pair (points, triangles). One of the two is enough.
    left_inner, right_inner : mesh, optional
        The white surface that belongs to a pial one. Samples then lie between the two.
    radius : float
        Distance (mm) within which samples are taken around a vertex, where there is no inner surface.
    interpolation : {'linear', 'nearest_most_frequent'}
        Mean of interpolated values, or (for labels) the most frequent of the nearest ones.
    kind : {'auto', 'line', 'ball', 'depth'}
        Where samples lie: along the normal, in a ball, or between the two surfaces. ``'auto'`` is ``'depth'`` with
        inner surfaces and ``'line'`` without.
    space : str, optional
        Name of the mesh, such as ``fsaverage5``; it becomes the space of the result.

    Attributes
    ----------
    positions_ : ndarray, shape (n_vertices, 3)
        Where the vertices lie, left hemisphere first (mm).
    hemi_ : ndarray of str, shape (n_vertices,)
        Hemisphere of each vertex.

    Notes
    -----
    Voxels outside a mask, and those that are NaN, do not count: a vertex takes the weighted mean of the others, and is
    NaN where they make up less than half of what is sampled, or where it lies outside the volume. A label is NaN where
    most of what is sampled is missing; there all vertices must lie in the volume.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign.schema import fmri_volume
    >>> x = np.broadcast_to(np.arange(5.0), (1, 5, 5, 5))  # the value of a voxel is its x
    >>> triangle = np.array([[1.0, 2, 2], [2, 2, 2], [1.5, 3, 2]]), np.array([[0, 1, 2]])
    >>> sampler = SurfaceSampler(triangle, radius=1.0)
    >>> sampler.fit_transform(fmri_volume(x, affine=np.eye(4), tr=2.0))["bold"].values.round(3).tolist()
    [[1.0, 2.0, 1.5]]
    """

    def __init__(
        self,
        left: Any = None,
        right: Any = None,
        *,
        left_inner: Any = None,
        right_inner: Any = None,
        radius: float = 3.0,
        interpolation: str = "linear",
        kind: str = "auto",
        space: str | None = None,
    ) -> None:
        self.left = left
        self.right = right
        self.left_inner = left_inner
        self.right_inner = right_inner
        self.radius = radius
        self.interpolation = interpolation
        self.kind = kind
        self.space = space

    def fit(self, X: Any, y: Any = None) -> Self:
        """Read the meshes and remember the grid.

        Parameters
        ----------
        X : Dataset, DataTree or DataArray
            Volumes (time, k, j, i) or voxels (time, voxel) with ``affine`` in attrs; also trials.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The transformer.

        Raises
        ------
        ConfigError
            If options or meshes are not valid.
        IntegrityError
            If the file of a mesh is missing or damaged.
        SchemaError
            If the data do not say where their voxels lie.
        """
        return super().fit(_volumes(first_run(X)))

    def transform(self, X: Any) -> Any:
        """Sample volumes at the vertices.

        Parameters
        ----------
        X : Dataset, DataTree or DataArray
            Volumes or voxels on the grid given to `fit`. Each run of a DataTree may have its own.

        Returns
        -------
        Dataset, DataTree or DataArray
            Dims (time, vertex) with ``hemi``, ``node`` and ``x y z`` (mm); a Dataset keeps what does not belong to
            voxels.
        """
        check_is_fitted(self)
        if isinstance(X, xr.DataTree):
            return transform_runs(self, X)
        if not isinstance(X, xr.Dataset):
            return self._labelled(_volumes(X))
        name = str(_volumes(X).name)
        out = self._labelled(X[name])
        gone = [n for n in X.variables if set(X[n].dims) & {"k", "j", "i", "voxel"}]
        rest = X.drop_vars(gone).assign({name: out})
        rest.attrs = self._attrs(X.attrs) | provenance(out)
        return rest

    def _labelled(self, X: xr.DataArray) -> xr.DataArray:
        values, samples, labels = self._open(X, fitting=False)
        n = len(self.hemi_)
        node = np.concatenate([np.arange(np.sum(self.hemi_ == side)) for side in ("L", "R")])
        columns = {"vertex": np.arange(n), "hemi": self.hemi_, "node": node}
        columns |= {axis: self.positions_[:, m] for m, axis in enumerate("xyz")}
        coords: dict[str, Any] = {name: (("vertex",), column) for name, column in columns.items()}
        sites = Labels(("vertex",), (n,), coords, labels.name, self._attrs({**X.attrs, **labels.attrs}))
        options = {name: getattr(self, name) for name in ("radius", "interpolation", "kind", "space")}
        return stamp(sites.wrap(self._transform(values, samples), samples), "SurfaceSampler", **options)

    def _attrs(self, attrs: dict[Any, Any]) -> dict[str, Any]:
        kept = {str(k): v for k, v in attrs.items() if k not in (*OF_SITES, "space")}
        return kept | ({"space": self.space} if self.space else {})

    def save(self, path: str | Path) -> Path:
        """Save the fitted transformer with its meshes.

        Parameters
        ----------
        path : path
            Folder to write. It appears whole or not at all.

        Returns
        -------
        Path
            The folder.
        """
        check_is_fitted(self)
        plain = copy.copy(self)
        for name in ("left", "right", "left_inner", "right_inner"):
            mesh = getattr(self, name)
            setattr(plain, name, None if mesh is None else [*_mesh(mesh, name)])
        return save_model(plain, path)

    def _open(self, X: Any, *, fitting: bool) -> tuple[NDArray[Any], Samples, Labels]:
        values, samples, labels = open_samples(X)
        _check_grid(labels)
        if fitting:
            self.n_features_in_ = labels.size
        else:
            self.feature_labels_.check_same(labels, "The voxels of X")
            if not np.allclose(labels.attrs["affine"], self.feature_labels_.attrs["affine"], atol=1e-4):
                raise AlignmentError(
                    "The volumes lie elsewhere than at fit.",
                    expected=self.feature_labels_.attrs["affine"],
                    got=labels.attrs["affine"],
                )
        return values, samples, labels

    def _fit(self, X: NDArray[Any], samples: Samples) -> None:
        for name, known in (("kind", _KINDS), ("interpolation", _INTERPOLATIONS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"Unknown {name}.", expected=" or ".join(known), got=getattr(self, name))
        if not (np.isfinite(self.radius) and self.radius > 0):
            raise ConfigError("Not a radius.", expected="more than 0 mm", got=self.radius)
        meshes = self._meshes()
        if not meshes:
            raise ConfigError("There is no surface.", expected="left= or right=", got="neither")
        if self.kind == "depth" and any(inner is None for _, inner in meshes.values()):
            raise ConfigError("kind='depth' needs inner surfaces.", expected="left_inner=, right_inner=", got="none")
        self.positions_ = np.concatenate([outer[0] for outer, _ in meshes.values()])
        self.hemi_ = np.repeat([*meshes], [len(outer[0]) for outer, _ in meshes.values()]).astype(object)

    def _meshes(self) -> dict[str, tuple[Mesh, Mesh | None]]:
        out = {}
        for side, name in (("L", "left"), ("R", "right")):
            outer, inner = (getattr(self, n) for n in (name, f"{name}_inner"))
            if outer is None and inner is not None:
                raise ConfigError(f"{name}_inner= has no outer surface.", expected=f"{name}=", got=None)
            if outer is not None:
                pair = _mesh(outer, name), None if inner is None else _mesh(inner, f"{name}_inner")
                if pair[1] is not None and len(pair[1][0]) != len(pair[0][0]):
                    raise ConfigError(
                        f"{name}_inner= is not the inner side of {name}=.",
                        expected=f"{len(pair[0][0])} vertices",
                        got=f"{len(pair[1][0])}",
                    )
                out[side] = pair
        return out

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        out = np.empty((len(X), len(self.hemi_)), dtype=X.dtype if X.dtype.kind == "f" else np.float64)
        meshes = self._meshes()
        grid = _Grid(self.feature_labels_)
        for rows in tiles(grid.size, len(X)):
            block = grid.fill(X[rows])  # (i, j, k, sample)
            out[rows] = np.concatenate([self._sample(block, grid.affine, *pair) for pair in meshes.values()]).T
        return out

    def _sample(self, block: NDArray[Any], affine: NDArray[Any], outer: Mesh, inner: Mesh | None) -> NDArray[Any]:
        """Values (vertex, sample) of volumes (i, j, k, sample) in which NaN is missing."""
        there = np.isfinite(block)
        if there.all():
            return self._project(block, affine, outer, inner)
        if self.interpolation != "linear":
            nothing = np.nanmin(block, initial=0.0) - 1  # a label that no voxel has
            found = self._project(np.where(there, block, nothing), affine, outer, inner)
            return np.where(found == nothing, np.nan, found)
        same = bool((there == there[..., :1]).all())
        weight = self._project((there[..., :1] if same else there).astype(np.float64), affine, outer, inner)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self._project(np.where(there, block, 0.0), affine, outer, inner) / weight
        return np.where(weight >= _LEAST, ratio, np.nan)

    def _project(self, volumes: NDArray[Any], affine: NDArray[Any], outer: Mesh, inner: Mesh | None) -> NDArray[Any]:
        nib, surface = require("nibabel", "fmri"), require("nilearn.surface", "fmri")
        options = {name: getattr(self, name) for name in ("radius", "interpolation", "kind")}
        options["inner_mesh"] = None if inner is None else surface.InMemoryMesh(*inner)
        try:
            with warnings.catch_warnings():
                # The mean of a vertex outside the volume is one of nothing: NaN, as documented.
                warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
                image = nib.Nifti1Image(volumes, affine)
                sampled = surface.vol_to_surf(image, surface.InMemoryMesh(*outer), **options)
        except ValueError as error:
            raise SchemaError(
                "The surface cannot be sampled.",
                expected="vertices inside the volumes",
                got=str(error),
                fix="check that mesh and volumes are in the same space; interpolation='linear' gives NaN outside",
            ) from error
        return np.asarray(sampled).reshape(len(outer[0]), -1)


class _Grid:
    """Puts flat sites back into volumes."""

    def __init__(self, sites: Labels) -> None:
        self.affine = np.reshape(sites.attrs["affine"], (4, 4)).astype(np.float64)
        if sites.dims == ("k", "j", "i"):
            self.shape, self.at = sites.shape, np.arange(sites.size)
        else:
            self.shape = tuple(int(n) for n in sites.attrs["volume_shape"])[::-1]
            self.at = np.ravel_multi_index([np.asarray(sites.coords[axis][1]) for axis in "kji"], self.shape)
        self.size = int(np.prod(self.shape))

    def fill(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Volumes (i, j, k, sample) of values (sample, site); NaN elsewhere."""
        out = np.full((len(values), self.size), np.nan)
        out[:, self.at] = values
        return out.reshape(-1, *self.shape).T


def _volumes(X: Any) -> xr.DataArray:
    if isinstance(X, xr.Dataset) and "bold" in X.data_vars:
        return X["bold"]
    if isinstance(X, xr.DataArray):
        return X
    raise SchemaError(
        "There are no volumes.",
        expected="a Dataset with bold, or a DataArray, on voxels",
        got=list(X.data_vars) if isinstance(X, xr.Dataset) else type(X).__name__,
    )


def _check_grid(sites: Labels) -> None:
    voxels = sites.dims == ("voxel",) and {"i", "j", "k"} <= set(sites.coords) and "volume_shape" in sites.attrs
    if (sites.dims == ("k", "j", "i") or voxels) and "affine" in sites.attrs:
        return
    raise SchemaError(
        "The data do not say where their voxels lie.",
        expected="dims (k, j, i), or voxel with i j k and attrs['volume_shape']; and attrs['affine']",
        got=f"dims {sites.dims}, coordinates {list(sites.coords)}, attrs {list(sites.attrs)}",
        fix="build them with neuroalign.schema.fmri_volume or fmri_masked",
    )


def _mesh(mesh: Any, name: str) -> Mesh:
    """Points (mm) and triangles of any description of a mesh."""
    if isinstance(mesh, str | os.PathLike):
        mesh = _mesh_file(Path(mesh))
    if isinstance(mesh, xr.Dataset) and "triangle" in mesh:
        mesh = _one_side(mesh, name)
    elif hasattr(mesh, "agg_data"):
        mesh = mesh.agg_data(("pointset", "triangle"))
    elif hasattr(mesh, "coordinates") and hasattr(mesh, "faces"):
        mesh = mesh.coordinates, mesh.faces
    if isinstance(mesh, tuple | list) and len(mesh) == 2:
        points, triangles = np.asarray(mesh[0], dtype=np.float64), np.asarray(mesh[1])
        shaped = points.ndim == triangles.ndim == 2 and points.shape[1:] == triangles.shape[1:] == (3,)
        named = shaped and triangles.dtype.kind in "iu" and triangles.size and triangles.min() >= 0
        if named and triangles.max() < len(points) and np.isfinite(points).all():
            return points, triangles.astype(np.int64)
    raise ConfigError(
        f"{name}= is not a mesh.",
        expected="a path, a GIFTI image, a Dataset of surface_mesh, or points (n, 3) in mm and triangles (m, 3)",
        got=type(mesh).__name__,
    )


def _one_side(mesh: xr.Dataset, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Points and triangles of one hemisphere of a mesh that may have both."""
    wanted = mesh["hemi"].values == name[0].upper()
    if not wanted.any():
        raise ConfigError(f"The mesh has no {name} hemisphere.", expected=name[0].upper(), got=mesh["hemi"].values[:1])
    points = np.column_stack([mesh[axis].values for axis in "xyz"])[wanted]
    corners = mesh["triangle"].values
    return points, (np.cumsum(wanted) - 1)[corners[wanted[corners].all(axis=1)]]


def _mesh_file(path: Path) -> Any:
    surface = require("nilearn.surface", "fmri")
    try:
        if not path.is_file():
            raise FileNotFoundError(f"no file {path.name}")
        return surface.load_surf_mesh(path)
    except (OSError, ValueError, TypeError, IndexError, KeyError, AttributeError, ExpatError) as error:
        raise IntegrityError(
            "The mesh cannot be read.", expected="a GIFTI or FreeSurfer surface", got=str(error), where=path
        ) from error
