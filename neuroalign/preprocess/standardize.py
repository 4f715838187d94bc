"""Z-score features."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from neuroalign.errors import ConfigError
from neuroalign.protocol import LabelledTransformer, Labels, Samples

__all__ = ["Standardizer"]


class Standardizer(LabelledTransformer):
    """Take off the mean of every feature and divide by its standard deviation.

    Parameters
    ----------
    with_mean : bool
        Take off the mean.
    with_std : bool
        Divide by the standard deviation (of the population, ``ddof=0``). Constant features stay as they are, so that
        they become zero.
    by : str, optional
        Name of a sample coordinate, for example ``"run"``. Each group of samples is then standardized by its own
        mean and deviation, on `transform` too, so that groups that `fit` never saw can be transformed. By default
        the mean and deviation of the data given to `fit` are used for all data.

    Attributes
    ----------
    mean_, scale_ : ndarray, shape (n_features,)
        Learned by `fit` (over all groups together where `by` is given).

    Examples
    --------
    >>> import numpy as np
    >>> Standardizer().fit_transform(np.array([[1.0, 5.0], [3.0, 5.0]]))
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    def __init__(self, *, with_mean: bool = True, with_std: bool = True, by: str | None = None) -> None:
        self.with_mean = with_mean
        self.with_std = with_std
        self.by = by

    def inverse_transform(self, X: Any) -> Any:
        """Undo `transform`.

        Parameters
        ----------
        X : DataArray or array, shape (n_samples, n_features)
            Standardized data.

        Returns
        -------
        DataArray or array
            Data on the original scale, samples first.

        Raises
        ------
        ConfigError
            If groups were standardized each by its own deviation, which is not kept.
        """
        check_is_fitted(self)
        if self.by is not None:
            raise ConfigError("This cannot be undone.", expected="by=None", got=f"by={self.by!r}")
        values, samples, labels = self._open(X, fitting=False)
        out = (values * self.scale_ + self.mean_).astype(values.dtype, copy=False)
        return labels.wrap(out, samples) if isinstance(X, xr.DataArray) else out

    def _fit(self, X: NDArray[Any], samples: Samples) -> None:
        self._groups(samples)
        self.mean_, self.scale_ = self._moments(X)

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        groups = self._groups(samples)
        if groups is None:
            return ((X - self.mean_) / self.scale_).astype(X.dtype, copy=False)
        out = np.empty_like(X)
        for rows in groups:
            mean, scale = self._moments(X[rows])
            out[rows] = (X[rows] - mean) / scale
        return out

    def _out_labels(self, labels: Labels, n: int) -> Labels:
        units = {"units": "z"} if self.with_std and "units" in labels.attrs else {}
        return Labels(labels.dims, labels.shape, labels.coords, labels.name, labels.attrs | units)

    def _moments(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        full_mean = X.mean(axis=0, dtype=np.float64)
        mean = full_mean if self.with_mean else np.zeros_like(full_mean)
        if not self.with_std:
            return mean, np.ones_like(full_mean)
        # Rounding gives equal values a tiny deviation; equality is what makes a feature constant.
        constant = X.max(axis=0) == X.min(axis=0)
        if self.with_mean:
            mean = np.where(constant, X[0].astype(np.float64), mean)
        scale = X.std(axis=0, dtype=np.float64)
        return mean, np.where(constant | (scale == 0), 1.0, scale)

    def _groups(self, samples: Samples) -> list[NDArray[np.intp]] | None:
        if self.by is None:
            return None
        labels = samples.get(self.by)
        if labels is None:
            raise ConfigError(
                f"The samples have no coordinate {self.by!r}.",
                expected=f"a DataArray with {self.by!r} along its sample dimension",
                got=list(samples.coords) if samples.dim else "an array without labels",
                fix=f"x.assign_coords({self.by}=...), or by=None",
            )
        names = np.asarray(labels).astype(str)
        return [np.flatnonzero(names == name) for name in np.unique(names)]
