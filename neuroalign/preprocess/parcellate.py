"""Sites -> regions of an atlas, and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.preprocess._nuisance import tiles
from neuroalign.preprocess._parcels import assign_regions
from neuroalign.preprocess._trees import first_run, transform_runs
from neuroalign.protocol import LabelledTransformer, Labels, Samples, open_samples, save_model
from neuroalign.schema import stamp
from neuroalign.schema._names import OF_SITES
from neuroalign.schema._provenance import provenance

__all__ = ["Parcellator", "region_means"]

_SITES = ("voxel", "vertex", "grayordinate", "k", "j", "i")


def region_means(x: NDArray[Any], matrix: scipy.sparse.csr_array) -> NDArray[Any]:
    """Weighted means of sites, over those that hold numbers.

    Parameters
    ----------
    x : ndarray, shape (n_samples, n_sites)
        Values; NaN is missing.
    matrix : sparse array, shape (n_sites, n_rois)
        Weights.

    Returns
    -------
    ndarray, shape (n_samples, n_rois)
        NaN where a region has no site with a number.
    """
    out = np.empty((len(x), matrix.shape[1]), dtype=x.dtype if x.dtype.kind == "f" else np.float64)
    total = np.asarray(matrix.sum(axis=0), dtype=np.float64)
    for rows in tiles(x.shape[1], len(x)):
        block = x[rows].astype(np.float64)
        there = np.isfinite(block)
        # (sample, roi): the weight of the sites that hold numbers
        weight = total if there.all() else there.astype(np.float64) @ matrix
        block[~there] = 0.0
        with np.errstate(invalid="ignore", divide="ignore"):
            out[rows] = np.where(weight > 0, (block @ matrix) / weight, np.nan)
    return out


class Parcellator(LabelledTransformer):
    """Average sites (voxels, vertices, grayordinates) over the regions of an atlas.

    Parameters
    ----------
    atlas : object, optional
        Region of each site. By default the coordinate ``roi`` of the sites. Otherwise

        - an array with one label a site, whole numbers (0 outside) or text ("" outside);
        - for voxels, a labels image (nibabel), or what `neuroalign.loaders.read_fmri` gives for one, on the same grid;
        - for surfaces and grayordinates, what `neuroalign.loaders.read_fmri` gives for a GIFTI or CIFTI file of labels
          (with one map), such an image of nibabel, or ``{"L": labels, "R": labels}`` with GIFTI images or arrays.
          Sites are matched by hemisphere or structure and vertex.
    labels : sequence of str, or mapping of int to str, optional
        Names of the regions, in the order of their labels in the atlas or by label. By default those that the atlas
        has, or the labels themselves.
    weights : array_like, shape (n_sites,), or str, optional
        Weight of each site in the mean of its region, such as its area, or the name of a coordinate with weights.

    Attributes
    ----------
    index_ : ndarray of int, shape (n_sites,)
        Region of each site, -1 outside all.
    names_ : ndarray of str, shape (n_rois,)
        Regions.
    weights_ : ndarray, shape (n_sites,)
        Weights, 0 outside all regions.
    matrix_ : sparse array, shape (n_sites, n_rois)
        Weights of the mean; each column adds up to 1.

    Notes
    -----
    Means are taken over the sites that hold numbers; ``n_voxels`` along ``roi`` counts the sites of a region that hold
    any. A region of the atlas without such a site is NaN, so that all subjects have the same regions. ``x y z`` is the
    centre of the sites of a region (mm), ``hemi`` their hemisphere where it is one.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign.schema import fmri_surface
    >>> run = fmri_surface(np.array([[1.0, 3.0, 5.0, 9.0]]), hemi=["L", "L", "R", "R"], tr=2.0)
    >>> step = Parcellator(["V1", "V1", "", "MT"])
    >>> regions = step.fit_transform(run)
    >>> regions["roi"].values.tolist(), regions["bold"].values.tolist(), regions["n_voxels"].values.tolist()
    (['MT', 'V1'], [[9.0, 2.0]], [1, 2])
    >>> step.inverse_transform(regions["bold"]).values.tolist()
    [[2.0, 2.0, nan, 9.0]]
    """

    def __init__(
        self,
        atlas: Any = None,
        *,
        labels: Sequence[str] | Mapping[int, str] | None = None,
        weights: ArrayLike | str | None = None,
    ) -> None:
        self.atlas = atlas
        self.labels = labels
        self.weights = weights

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Give each site its region.

        Parameters
        ----------
        X : Dataset, DataTree, DataArray or array, shape (n_samples, n_sites)
            Data on sites; only their labels are looked at. Named maps (map_name, site) will do as well as time courses.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The transformer.

        Raises
        ------
        SchemaError
            If the atlas has another grid, affine or space than the data, or is none.
        AlignmentError
            If it has other sites.
        ConfigError
            If labels or weights do not fit.
        """
        X = first_run(X)
        return super().fit(X[_variable(X)] if isinstance(X, xr.Dataset) else X)

    def transform(self, X: Any) -> Any:
        """Average sites over regions.

        Parameters
        ----------
        X : Dataset, DataTree, DataArray or array, shape (n_samples, n_sites)
            Data on the sites given to `fit`. Each run of a DataTree may have its own.

        Returns
        -------
        Dataset, DataTree, DataArray or array
            Dims (sample dimension, roi); a Dataset keeps what does not belong to sites.
        """
        check_is_fitted(self)
        if isinstance(X, xr.DataTree):
            return transform_runs(self, X)
        if isinstance(X, xr.Dataset):
            name = _variable(X)
            out = self.transform(X[name])
            gone = [n for n in X.variables if set(X[n].dims) & set(_SITES)]
            kept = {k: v for k, v in X.attrs.items() if k not in OF_SITES}
            rest = X.drop_vars(gone).assign({name: out})
            rest.attrs = {**kept, **provenance(out)}
            return rest
        if not isinstance(X, xr.DataArray):
            return super().transform(X)
        values, samples, labels = self._open(X, fitting=False)
        regions = self._regions(values, labels)
        attrs = {k: v for k, v in {**X.attrs, **labels.attrs}.items() if k not in OF_SITES}
        out = Labels(("roi",), (len(self.names_),), regions, labels.name, attrs).wrap(
            self._transform(values, samples), samples
        )
        return stamp(out, type(self).__name__, n_rois=len(self.names_), weights=_described(self.weights))

    def inverse_transform(self, X: Any) -> Any:
        """Give each site the value of its region.

        Parameters
        ----------
        X : DataArray, or array of shape (..., n_rois)
            Values of regions: responses, or a map of scores with the single dimension ``roi``.

        Returns
        -------
        DataArray or array
            The dimension ``roi`` replaced by those of the sites; NaN outside all regions.

        Raises
        ------
        AlignmentError
            If X has other regions than the atlas.
        """
        check_is_fitted(self)
        if not isinstance(X, xr.DataArray):
            values = np.asarray(X)
            if values.ndim < 1 or values.shape[-1] != len(self.names_):
                raise AlignmentError("X has other regions.", expected=f"(..., {len(self.names_)})", got=values.shape)
            return self._paint(values)
        if "roi" not in X.dims:
            raise AlignmentError("X has no regions.", expected="a dimension roi", got=X.dims)
        turned = X.transpose(..., "roi")
        names = (("roi",), np.asarray(turned["roi"].values)) if "roi" in X.coords else (("roi",), self.names_)
        mine = Labels(("roi",), (len(self.names_),), {"roi": (("roi",), self.names_)})
        mine.check_same(Labels(("roi",), (X.sizes["roi"],), {"roi": names}), "The regions of X")
        sites = self.feature_labels_
        values = self._paint(turned.values)
        rest = {n: c.variable for n, c in turned.coords.items() if "roi" not in c.dims}
        coords = {n: c for n, c in sites.coords.items() if n not in rest}
        shape = (*turned.shape[:-1], *sites.shape)
        out = xr.DataArray(
            values.reshape(shape), dims=(*turned.dims[:-1], *sites.dims), coords={**rest, **coords}, name=X.name
        )
        return out.assign_attrs({**{k: v for k, v in sites.attrs.items() if k in OF_SITES}, **X.attrs})

    @property
    def matrix_(self) -> scipy.sparse.csr_array:
        """Weights of the mean, (n_sites, n_rois); each column adds up to 1."""
        check_is_fitted(self)
        matrix = self._weighted()
        return scipy.sparse.csr_array(matrix / np.maximum(matrix.sum(axis=0), np.finfo(np.float64).tiny))

    def save(self, path: str | Path) -> Path:
        """Save the fitted transformer; the atlas is kept as the regions of its sites.

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
        plain.atlas = np.array([*self.names_, ""], dtype=str)[self.index_]
        plain.labels = None
        plain.weights = None if self.weights is None else self.weights_
        return save_model(plain, path)

    def _open(self, X: Any, *, fitting: bool) -> tuple[NDArray[Any], Samples, Labels]:
        if not isinstance(X, xr.DataArray):
            values = validate_data(
                self, X, reset=fitting, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan"
            )
            return values, Samples(len(values)), Labels.plain(values.shape[1:], "unit")
        values, samples, labels = open_samples(X, "map_name" if "map_name" in X.dims else None)
        if fitting:
            self.n_features_in_ = labels.size
        else:
            self.feature_labels_.check_same(labels, "The sites of X")
        return values, samples, labels

    def _fit(self, X: NDArray[Any], samples: Samples) -> None:
        index, names = assign_regions(self.atlas, self.labels, self.feature_labels_)
        self.index_, self.names_ = index, np.array(names, dtype=object)
        self.weights_ = np.where(index >= 0, self._site_weights(), 0.0)

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        return region_means(X, self._weighted())

    def _site_weights(self) -> NDArray[np.float64]:
        n, weights = self.feature_labels_.size, self.weights
        if weights is None:
            return np.ones(n)
        if isinstance(weights, str):
            if weights not in self.feature_labels_.coords:
                raise ConfigError("No such weights.", expected=[*self.feature_labels_.coords], got=weights)
            weights = self.feature_labels_.coords[weights][1]
        values = np.asarray(weights, dtype=np.float64).ravel()
        if values.shape != (n,) or not np.isfinite(values).all() or (values < 0).any():
            raise ConfigError(
                "weights= does not fit the sites.",
                expected=f"{n} finite numbers of 0 or more",
                got=f"shape {np.shape(weights)}",
            )
        return values

    def _weighted(self) -> scipy.sparse.csr_array:
        rows = np.flatnonzero(self.index_ >= 0)
        entries = (self.weights_[rows], (rows, self.index_[rows]))
        return scipy.sparse.csr_array(entries, shape=(len(self.index_), len(self.names_)))

    def _paint(self, values: NDArray[Any]) -> NDArray[Any]:
        values = values if values.dtype.kind == "f" else values.astype(np.float64)
        out = np.take(values, np.maximum(self.index_, 0), axis=-1)
        out[..., self.index_ < 0] = np.nan
        return out

    def _regions(self, values: NDArray[Any], sites: Labels) -> dict[str, Any]:
        """Coordinates along roi: names, how many sites hold numbers, centre, hemisphere."""
        inside = self.index_ >= 0
        n = len(self.names_)
        counts = np.bincount(self.index_[inside & np.isfinite(values).any(axis=0)], minlength=n)
        coords: dict[str, Any] = {"roi": self.names_, "n_voxels": counts}
        coords |= _centres(_positions(sites), self.index_, n)
        if "hemi" in sites.coords:
            sides = sites.coords["hemi"][1].astype(str)
            found = [set(sides[self.index_ == region]) for region in range(n)]
            coords["hemi"] = np.array([side.pop() if len(side) == 1 else "" for side in found], dtype=object)
        return {name: (("roi",), column) for name, column in coords.items()}


def _variable(ds: xr.Dataset) -> str:
    names = [str(n) for n, v in ds.data_vars.items() if set(v.dims) & set(_SITES)]
    if len(names) != 1:
        raise SchemaError(
            "Not one variable on sites.",
            expected=f"one with a dimension among {', '.join(_SITES)}",
            got=names or list(ds.data_vars),
            fix="pass the variable itself, for example ds['bold']",
        )
    return names[0]


def _positions(sites: Labels) -> dict[str, NDArray[Any]]:
    """Coordinates x y z of all sites in mm, where they are known."""
    if {"x", "y", "z"} <= set(sites.coords) and len(sites.dims) == 1:
        return {axis: np.asarray(sites.coords[axis][1], dtype=np.float64) for axis in "xyz"}
    if sites.dims != ("k", "j", "i") or "affine" not in sites.attrs:
        return {}
    k, j, i = np.unravel_index(np.arange(sites.size), sites.shape)
    xyz = np.column_stack([i, j, k, np.ones(sites.size)]) @ np.reshape(sites.attrs["affine"], (4, 4)).T
    return {axis: xyz[:, m] for m, axis in enumerate("xyz")}


def _centres(positions: dict[str, NDArray[Any]], index: NDArray[np.int64], n: int) -> dict[str, NDArray[Any]]:
    out = {}
    for axis, values in positions.items():
        rows = np.flatnonzero((index >= 0) & np.isfinite(values))
        count = np.bincount(index[rows], minlength=n)
        total = np.bincount(index[rows], weights=values[rows], minlength=n)
        out[axis] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return out


def _described(weights: Any) -> Any:
    return weights if weights is None or isinstance(weights, str) else "given"
