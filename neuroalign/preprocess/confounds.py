"""Take drift and confounds out of fMRI runs, in one projection that knows its degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.preprocess import _nuisance
from neuroalign.preprocess._trees import first_run, transform_runs
from neuroalign.protocol import LabelledTransformer, Labels, Samples, open_samples
from neuroalign.schema import clock, stamp
from neuroalign.schema._provenance import provenance

__all__ = ["ConfoundRegressor", "regress_out"]

_SCALES = (None, "z", "%")
_EXPLAINED = 1e-10  # residuals smaller than this, relative to the site, are rounding


def regress_out(
    y: NDArray[Any], basis: NDArray[np.float64], *, standardize: str | None = None, keep_mean: bool = False
) -> NDArray[np.float64]:
    """Residuals of one run on an orthonormal basis.

    Parameters
    ----------
    y : ndarray, shape (n_times, n_sites)
        Measured responses. A site that is NaN stays NaN.
    basis : ndarray, shape (n_times, rank)
        Orthonormal columns that span the constant and everything else to take out.
    standardize : {None, 'z', '%'}
        Divide by the deviation of the residuals (``ddof=0``), or give them in percent of the mean of `y`.
    keep_mean : bool
        Add the mean of `y` to the residuals.

    Returns
    -------
    ndarray, shape (n_times, n_sites)
        Residuals. In percent, sites whose mean is not positive are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> regress_out(np.array([[99.0], [101.0]]), np.full((2, 1), 0.5**0.5), standardize="%").ravel().round(6)
    array([-1.,  1.])
    """
    out = y.astype(np.float64)  # always a copy
    mean, size = out.mean(axis=0), _root_mean_square(out)
    out -= basis @ (basis.T @ out)
    deviation = _root_mean_square(out)
    explained = deviation <= _EXPLAINED * size
    if explained.any():
        out[:, explained] = 0.0
    if standardize == "z":
        out /= np.where(explained, 1.0, deviation)
    elif standardize == "%":
        out *= 100 / np.where(mean > 0, mean, np.nan)
    elif keep_mean:
        out += mean
    return out


def _root_mean_square(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.einsum("ts,ts->s", x, x) / len(x))


class ConfoundRegressor(LabelledTransformer):
    """Take drift and confounds out of fMRI runs, each run on its own, in one projection.

    Parameters
    ----------
    confounds : None, sequence of str, or array of shape (n_times, n_confounds)
        None takes the variable ``confounds`` (time, confound) of a Dataset, where it has one; names choose among
        them, and an empty list leaves them all in. A DataArray must have the times of the run.
    detrend : int
        Highest power of time that is taken out: 0 for the mean alone, 1 for a line, 2 for a parabola, ...
    high_pass : float, optional
        Cosines take out what is slower than this (Hz).
    standardize : {None, 'z', '%'}
        Scale of the result: that of the data, standard deviations of the residuals (``ddof=0``), or percent of the
        mean that each site has in the run.
    keep_mean : bool
        Add the mean of each run to the residuals.
    sample_mask : array_like of bool, shape (n_times,), optional
        True for the volumes that are used, in addition to the coordinates ``sample_mask`` and ``valid`` of the data.
    sfreq : float, optional
        Sampling rate in Hz (1 / TR), needed for `high_pass` where the data have no time coordinate.

    Notes
    -----
    Drift and confounds are regressed out together: one after the other would bring filtered variance back in [1]_.
    Regressors that are copies of others, or constant, add nothing; the rank is what counts. Volumes that are not used
    are left out of the fit and come out as NaN, with ``valid=False`` along time. The coordinate ``dof`` along time
    holds the degrees of freedom that are left in the run of each volume: volumes used less the rank of the regressors
    with the constant.

    A run ends where a coordinate ``run``, ``session`` or ``subject`` changes, or where the clock does not go on. A gap
    of the clock inside a run stands for volumes that were taken out: it gives the same residuals as a `sample_mask`.

    References
    ----------
    .. [1] Lindquist, M. A., et al. (2019). Modular preprocessing pipelines can reintroduce artifacts into fMRI data.
       Human Brain Mapping 40.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign.schema import fmri_regions
    >>> motion = np.array([0.0, 1.0, 0.0, 2.0, 1.0, 0.0])
    >>> run = fmri_regions(100 + 3 * motion[:, None] + np.arange(6.0)[:, None], roi=["V1"], tr=2.0)
    >>> clean = ConfoundRegressor(motion).fit_transform(run)
    >>> clean["bold"].values.round(6).ravel().tolist(), int(clean["dof"][0])
    ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3)
    """

    def __init__(
        self,
        confounds: Sequence[str] | ArrayLike | xr.DataArray | None = None,
        *,
        detrend: int = 1,
        high_pass: float | None = None,
        standardize: str | None = None,
        keep_mean: bool = False,
        sample_mask: ArrayLike | None = None,
        sfreq: float | None = None,
    ) -> None:
        self.confounds = confounds
        self.detrend = detrend
        self.high_pass = high_pass
        self.standardize = standardize
        self.keep_mean = keep_mean
        self.sample_mask = sample_mask
        self.sfreq = sfreq

    def fit(self, X: Any, y: Any = None) -> Self:
        """Remember the sites; each run is cleaned on its own by `transform`.

        Parameters
        ----------
        X : Dataset, DataTree, DataArray or array, shape (n_times, n_sites)
            Run or runs.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The transformer.
        """
        X = first_run(X)
        return super().fit(_bold(X) if isinstance(X, xr.Dataset) else X)

    def transform(self, X: Any) -> Any:
        """Take drift and confounds out.

        Parameters
        ----------
        X : Dataset, DataTree, DataArray or array, shape (n_times, n_sites)
            Run or runs, with any dimensions beside time.

        Returns
        -------
        Dataset, DataTree, DataArray or array
            Labelled as X, with ``dof`` (and ``valid``, where volumes are not used) along time.

        Raises
        ------
        ConfigError
            If options, confounds or the mask do not fit.
        AlignmentError
            If confounds have other rows or times than the run.
        SchemaError
            If confounds or sites lack single values, or no degrees of freedom are left.
        """
        check_is_fitted(self)
        if isinstance(X, xr.DataTree):
            return transform_runs(self, X)
        if isinstance(X, xr.Dataset):
            return self._dataset(X)
        if isinstance(X, xr.DataArray):
            return self._labelled(X, X)
        return super().transform(X)

    def _dataset(self, X: xr.Dataset) -> xr.Dataset:
        out = self._labelled(_bold(X), X)
        known = provenance(out) | {k: v for k, v in out.attrs.items() if k == "units"}
        return X.drop_vars("valid", errors="ignore").assign(bold=out).assign_attrs(known)

    def _labelled(self, X: xr.DataArray, source: xr.Dataset | xr.DataArray) -> xr.DataArray:
        values, samples, labels = self._open(X, fitting=False)
        out, along, names = self._clean(X, source, values)
        units = {"units": self.standardize} if self.standardize else {}
        labels = Labels(labels.dims, labels.shape, labels.coords, labels.name, {**X.attrs, **labels.attrs, **units})
        wrapped = labels.wrap(out, Samples(samples.n, "time", {**samples.coords, **along}, samples.sfreq))
        return stamp(
            wrapped.transpose(*X.dims),
            "ConfoundRegressor",
            confounds=names,
            detrend=self.detrend,
            high_pass=self.high_pass,
            standardize=self.standardize,
            keep_mean=self.keep_mean,
        )

    def _clean(
        self, X: xr.DataArray, source: xr.Dataset | xr.DataArray, values: NDArray[Any]
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]], list[str]]:
        """Clean values (time, site) and give the new coordinates along time, and the names of the confounds."""
        self._check_options(X)
        table, names = _nuisance.confound_table(source, self.confounds)
        mask = _nuisance.used_volumes(source, self.sample_mask)
        keep = np.ones(len(values), dtype=bool) if mask is None else mask
        samples, sfreq = self._clock(X)
        dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
        out, dof = np.full(values.shape, np.nan, dtype=dtype), np.zeros(len(values), dtype=np.int64)
        for piece in _nuisance.run_slices(X):
            rows: Any = piece if keep[piece].all() else piece.start + np.flatnonzero(keep[piece])
            slow = _nuisance.slow_regressors(samples[piece], sfreq, self.detrend, self.high_pass)[keep[piece]]
            basis = self._basis(np.column_stack([slow, table[rows]]), piece)
            dof[piece] = len(basis) - basis.shape[1]
            for sites in _nuisance.tiles(len(basis), values.shape[1]):
                block = values[rows, sites]
                _nuisance.check_sites(block)
                out[rows, sites] = regress_out(block, basis, standardize=self.standardize, keep_mean=self.keep_mean)
        if self.standardize == "%" and out.size and np.isnan(out).all():
            raise SchemaError(
                "No site has a positive mean.",
                expected="BOLD with its mean, for percent signal change",
                got="means of 0 or less",
                fix="pass the data as scanned, or standardize='z'",
            )
        along = {"dof": dof} | ({} if mask is None else {"valid": keep})
        return out, along, names

    def _basis(self, regressors: NDArray[np.float64], piece: slice) -> NDArray[np.float64]:
        n = len(regressors)
        basis = _nuisance.nuisance_basis(regressors) if n else np.empty((0, 1))
        if n <= basis.shape[1]:
            raise SchemaError(
                "The run has too few volumes for its regressors.",
                expected=f"more than {basis.shape[1]} volumes that are used",
                got=f"{n} of {piece.stop - piece.start} volumes",
                where=f"volumes {piece.start} to {piece.stop - 1}",
                fix="pass fewer confounds, a lower high_pass, or leave the run out",
            )
        return basis

    def _check_options(self, X: xr.DataArray) -> None:
        if self.standardize not in _SCALES:
            raise ConfigError("Unknown scale.", expected="None, 'z' or '%'", got=self.standardize)
        if self.standardize and self.keep_mean:
            raise ConfigError("keep_mean has no meaning here.", expected="standardize=None", got=self.standardize)
        if "dof" in X.coords:
            raise ConfigError(
                "The run was cleaned before.",
                expected="all drift and confounds in one projection",
                got="a coordinate dof",
                fix="pass all confounds at once, or drop_vars('dof') if you know what was taken out",
            )
        if self.standardize == "%" and X.attrs.get("units") in ("%", "z"):
            raise ConfigError("The data were rescaled before.", expected="units a.u.", got=X.attrs["units"])

    def _clock(self, X: xr.DataArray) -> tuple[NDArray[np.int64], float | None]:
        if "time" in X.coords and X.sizes["time"] > 1:
            return clock(X)
        return np.arange(X.sizes["time"]), self.sfreq

    def _open(self, X: Any, *, fitting: bool) -> tuple[NDArray[Any], Samples, Labels]:
        if not isinstance(X, xr.DataArray):
            return super()._open(X, fitting=fitting)
        values, samples, labels = open_samples(X, "time")
        if fitting:
            self.n_features_in_ = labels.size
        else:
            self.feature_labels_.check_same(labels, "The sites of X")
        return values, samples, labels

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        plain = xr.DataArray(X, dims=("time", "site"))
        return self._clean(plain, plain, X)[0]


def _bold(ds: xr.Dataset) -> xr.DataArray:
    if "bold" not in ds.data_vars or "time" not in ds["bold"].dims:
        raise AlignmentError("There is no fMRI run.", expected="a variable bold over time", got=list(ds.data_vars))
    return ds["bold"]
