"""Banded ridge encoding models: several feature spaces, each with a weight of its own."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from neuroalign.errors import ConfigError, warns_once
from neuroalign.linear import AlphaGrid, RidgeModel
from neuroalign.linear._chunked import BandedChunks
from neuroalign.linear._grid import GridModel
from neuroalign.linear._ridge import pair_labels
from neuroalign.protocol import Labels, Samples, check_shape
from neuroalign.solvers import banded_ridge_cv
from neuroalign.solvers.banded import KeptPaths


class BandedRidgeEncoder(GridModel, RidgeModel):  # type: ignore[override]
    """Predict brain responses from several feature spaces, with a penalty for each of them.

    The weight of every band and the penalty are chosen for every target by inner folds, so that a space that does not
    help a target is left out of it. Bands are first brought to the same total variance, so that their weights can be
    compared and neither units nor numbers of features matter.

    Parameters
    ----------
    alphas : array_like or AlphaGrid, optional
        Grid of penalties on ``X'X`` of the centred and scaled bands. By default a wide grid scaled by their mean
        eigenvalue, as in `RidgeEncoder`. Each target has band weights and a penalty of its own; an
        `neuroalign.linear.AlphaGrid` shares or pools both, which is safer with few samples.
    cv : int, str, splitter or list of (train, test), optional
        Inner folds, as in `RidgeEncoder`.
    scorer : {'r2', 'r', 'ev'} or callable
        Chooses weights and penalty and is what `score` reports.
    search : {'random', 'gradient'}
        How band weights are searched, see `neuroalign.solvers.banded_ridge_cv`; the gradient search takes a few
        decompositions for every target.
    n_iter : int
        Number of band weights to try: equal ones, each band alone, then random ones.
    random_state : int, optional
        Seed of the random ones.
    nan : {'mask', 'raise'}
        Targets that are not finite get NaN scores and a warning, or are refused.
    unlabelled : {'refuse', 'allow'}
        What to do when only one of X and y carries labels.

    Attributes
    ----------
    coef_ : DataArray or ndarray
        Weights of the features as given, (*feature dims, *target dims).
    band_weights_ : DataArray or ndarray
        Weight of each band, (band, *target dims); sums to 1 over the bands.
    intercept_, alphas_, cv_scores_ : DataArray or ndarray
        One value a target.
    bands_ : ndarray
        Names of the bands.
    alpha_edges_ : list of float
        Share of targets at the smallest and at the largest penalty of the grid.

    References
    ----------
    Nunez-Elizalde, A. O., Huth, A. G. and Gallant, J. L. (2019). Voxelwise encoding models with non-spherical
    multivariate normal priors. NeuroImage 197, 482-492. Dupre la Tour, T. et al. (2022). Feature-space selection with
    banded ridge regression. NeuroImage 264, 119728.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neuroalign.align import join
    >>> rng = np.random.default_rng(0)
    >>> ids = {"stimulus": [f"image-{n}" for n in range(80)]}
    >>> vision, words = (xr.DataArray(rng.normal(size=(80, 6)), dims=("stimulus", "unit"), coords=ids) for _ in "ab")
    >>> y = xr.DataArray(vision.values[:, :2] + rng.normal(size=(80, 2)), dims=("stimulus", "voxel"), coords=ids)
    >>> X, y = join({"vision": vision, "semantics": words}, y)
    >>> encoder = BandedRidgeEncoder(random_state=0).fit(X, y)
    >>> bool((encoder.band_weights_.sel(band="vision") > 0.5).all())
    True
    """

    fit_intercept = True
    _bands: ArrayLike | None = None  # what the call of fit says

    def __init__(
        self,
        *,
        alphas: ArrayLike | AlphaGrid | None = None,
        cv: Any = None,
        scorer: Any = "r2",
        search: str = "random",
        n_iter: int = 30,
        random_state: int | None = None,
        nan: str = "mask",
        unlabelled: str = "refuse",
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.scorer = scorer
        self.search = search
        self.n_iter = n_iter
        self.random_state = random_state
        self.nan = nan
        self.unlabelled = unlabelled

    @warns_once
    def fit(self, X: Any, y: Any, groups: ArrayLike | None = None, *, bands: ArrayLike | None = None) -> Self:
        """Learn from features and responses.

        Parameters
        ----------
        X : DataArray or array, shape (n_samples, n_features)
            Features. Bands are read from the coordinate ``band``, which `neuroalign.align.join` makes.
        y : DataArray or array, shape (n_samples,) or (n_samples, n_targets)
            Responses.
        groups : array_like, shape (n_samples,), optional
            Groups that the inner folds keep together.
        bands : array_like, shape (n_features,), optional
            The band of each feature, where X does not say. Without both, all features are one band.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ConfigError
            If `bands` does not mark every feature.
        """
        self._bands = bands
        try:
            return super().fit(X, y, groups)
        finally:
            del self._bands

    @property
    def band_weights_(self) -> Any:
        """Weight of each band, (band, *target dims)."""
        full = self._full(self.solution_gammas_)
        if not self.labelled_:
            return full.reshape(len(full), *self.target_labels_.shape)
        return pair_labels(self._band_labels(), self.target_labels_).wrap(full).assign_attrs(units="1")

    def predict_bands(self, X: Any) -> Any:
        """Predict responses from each band on its own.

        Parameters
        ----------
        X : DataArray or array, shape (n_samples, n_features)
            Features given to `fit`.

        Returns
        -------
        DataArray or ndarray
            Dims (band, sample, *targets). Their sum over bands plus `intercept_` is what `predict` gives.
        """
        check_is_fitted(self)
        values, samples = self._open_x(X, fitting=False)
        inside = [self.feature_bands_ == band for band in range(len(self.bands_))]
        # In float64: far from zero, the intercept takes back most of what the bands add up to.
        added = [values[:, part].astype(np.float64) @ self.solution_coef_[part] for part in inside]
        parts = self._full(np.stack(added))
        if samples.dim is None:
            return parts.reshape(*parts.shape[:2], *self.target_labels_.shape)
        along = {n: ((samples.dim,), v) for n, v in samples.coords.items() if n not in self.target_labels_.dims}
        front = Labels(("band", samples.dim), parts.shape[:2], {**self._band_labels().coords, **along})
        return pair_labels(front, self.target_labels_).wrap(parts)

    def _band_labels(self) -> Labels:
        return Labels(("band",), (len(self.bands_),), {"band": (("band",), self.bands_)})

    def _stored(self) -> dict[str, tuple[str, Labels]]:
        # The features have a coordinate band, so that the dimension of the weights needs another name in a store.
        names = Labels(("space",), (len(self.bands_),), {"space": (("space",), self.bands_)})
        return super()._stored() | {"band_weights": ("solution_gammas_", names)}

    def _plan_chunks(self, X: NDArray[Any], samples: Samples, groups: ArrayLike | None, dtype: str) -> Any:
        if self.random_state is None:
            raise ConfigError(
                "Without a seed every block of targets would try band weights of its own.",
                expected="an integer",
                got=None,
                where="random_state",
                fix=f"{type(self).__name__}(random_state=0)",
            )
        whole = super()._plan_chunks(X, samples, groups, dtype)
        if type(self)._fit is not BandedRidgeEncoder._fit:  # a subclass that does more
            return whole
        return BandedChunks(X, samples, groups)

    _kept: KeptPaths | None = None  # while blocks are fitted

    _state_names = RidgeModel._state_names | {"solution_gammas_", "bands_", "feature_bands_"}
    _block_state = RidgeModel._block_state | {"solution_gammas_"}

    def _check_state(self) -> None:
        super()._check_state()
        check_shape(self, "feature_bands_", (self.n_features_in_,))
        n_bands = len(self.bands_)
        if self.feature_bands_.dtype.kind not in "iu" or set(self.feature_bands_.tolist()) != set(range(n_bands)):
            raise ValueError("feature_bands_ does not number the bands")
        check_shape(self, "solution_gammas_", (n_bands, self.solution_alphas_.size), finite=self._learned())

    def _name_bands(self) -> NDArray[Any]:
        """The band of each feature: as given, as the coordinate says, or one for all."""
        features = self.feature_labels_
        known = features.coords.get("band")
        if self._bands is not None:
            labels = np.asarray(self._bands)
            if labels.shape != (features.size,):
                raise ConfigError(
                    "bands must mark every feature.", expected=(features.size,), got=labels.shape, where="bands"
                )
            return labels
        if known is None:
            return np.full(features.size, "features", dtype=object)
        dims, values = known
        shape = tuple(n if dim in dims else 1 for dim, n in zip(features.dims, features.shape, strict=True))
        order = np.argsort([features.dims.index(dim) for dim in dims])
        return np.broadcast_to(np.transpose(values, order).reshape(shape), features.shape).ravel()

    def _fit(self, X: NDArray[Any], Y: NDArray[Any], samples: Samples, groups: ArrayLike | None) -> None:
        if self.standardize:
            raise ConfigError(
                "Banded models scale whole bands, not features within the folds.",
                expected="AlphaGrid(standardize=False)",
                got="standardize=True",
                where="alphas",
                fix="make_pipeline(neuroalign.preprocess.Standardizer(), BandedRidgeEncoder())",
            )
        names = self._name_bands()
        text, first, code = np.unique(names.astype(str), return_index=True, return_inverse=True)
        order = np.argsort(first)
        self.bands_ = names[first[order]]
        self.feature_bands_ = np.argsort(order)[code.ravel()]
        scale = self._scales(X, len(text))[self.feature_bands_]
        mean = X.mean(axis=0, dtype=np.float64)  # far from zero, a scaled float32 would be rounded once more
        scaled = ((X - mean) / scale).astype(X.dtype)
        result = banded_ridge_cv(
            scaled,
            Y,
            bands=self.feature_bands_,
            alphas=self._grid(scaled),
            folds=self._pairs(X, samples, groups),
            scorer=self.scorer,
            search=self.search,
            n_iter=self.n_iter,
            alpha_per_target=self.alpha_per_target,
            random_state=self.random_state,
            kept=self._kept,
        )
        self.solution_gammas_ = np.asarray(result.gammas)
        self._store(result, Y)
        # Weights are given for the features as they came.
        self.solution_coef_ = (np.asarray(result.coef) / scale[:, None]).astype(result.coef.dtype)
        self.solution_intercept_ = self.solution_intercept_ - mean @ self.solution_coef_

    def _scales(self, X: NDArray[Any], n_bands: int) -> NDArray[np.float64]:
        """Square root of the total variance of each band; 1 for a constant one."""
        low = X.min(axis=0).astype(np.float64)
        spread = np.maximum(X.max(axis=0) - low, 0.0)
        size = float(spread.max()) or 1.0  # squares of femtotesla would underflow
        variance = np.square((X.astype(np.float64) - low) / size).mean(axis=0)
        variance -= np.square((X.astype(np.float64) - low).mean(axis=0) / size)
        variance[spread == 0] = 0.0
        total = np.bincount(self.feature_bands_, weights=np.maximum(variance, 0.0), minlength=n_bands)
        return np.where(total > 0, np.sqrt(total) * size, 1.0)
