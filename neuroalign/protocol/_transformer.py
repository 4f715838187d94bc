"""Base class of every labelled transformer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from neuroalign.errors import SchemaError
from neuroalign.protocol._estimator import FLOATS, _refuse_containers, _refuse_nan
from neuroalign.protocol._labels import Labels, Samples, open_samples
from neuroalign.protocol._save import Saveable
from neuroalign.schema import stamp


class LabelledTransformer(Saveable, TransformerMixin, BaseEstimator, ABC):
    """Feature transformer that keeps labels.

    Subclasses write ``_fit(X, samples)`` and ``_transform(X, samples)`` on arrays of shape (n_samples, n_features),
    and ``_out_labels(labels, n)`` where the features change.

    Notes
    -----
    numpy in gives numpy out; DataArray in gives DataArray out, with the sample dimension first.
    """

    #: Whether nothing is learned from the responses.
    ignores_targets = True

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from data.

        Parameters
        ----------
        X : DataArray or array, shape (n_samples, n_features)
            Data. A DataArray may have several feature dimensions, in any order.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The fitted transformer.
        """
        values, samples, labels = self._open(X, fitting=True)
        self.feature_labels_ = labels
        self._fit(values, samples)
        return self

    def transform(self, X: Any) -> Any:
        """Transform data.

        Parameters
        ----------
        X : DataArray or array, shape (n_samples, n_features)
            Data with the features given to `fit`.

        Returns
        -------
        DataArray or array
            Transformed data, samples first.
        """
        check_is_fitted(self)
        values, samples, labels = self._open(X, fitting=False)
        out = self._transform(values, samples)
        if not isinstance(X, xr.DataArray):
            return out
        wrapped = self._out_labels(labels, int(np.prod(out.shape[1:]))).wrap(out, self._out_samples(samples, len(out)))
        wrapped.attrs = {**X.attrs, **wrapped.attrs}
        params = {name: value for name, value in self.get_params(deep=False).items() if not callable(value)}
        return stamp(wrapped, type(self).__name__, **params)

    def _fit(self, X: NDArray[Any], samples: Samples) -> None:
        """Learn from an array; nothing by default."""

    @abstractmethod
    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        """Transform an array of shape (n_samples, n_features)."""

    def _out_labels(self, labels: Labels, n: int) -> Labels:
        """Labels of the output features; by default those of the input."""
        return labels

    def _out_samples(self, samples: Samples, n: int) -> Samples:
        """Labels of the output samples; by default those of the input."""
        return samples

    def _open(self, X: Any, *, fitting: bool) -> tuple[NDArray[Any], Samples, Labels]:
        _refuse_containers(X, "X", self)
        if not isinstance(X, xr.DataArray):
            values = validate_data(self, X, reset=fitting, dtype=FLOATS)
            return values, Samples(len(values)), Labels.plain(values.shape[1:], "unit")
        values, samples, labels = open_samples(X)
        values = check_array(values, dtype=FLOATS, input_name="X", ensure_all_finite=False, ensure_min_features=0)
        _refuse_nan(X, values)
        if fitting:
            if not values.shape[1]:
                raise SchemaError("X has no features.", expected="at least one", got=dict(X.sizes))
            self.n_features_in_ = values.shape[1]
        else:
            self.feature_labels_.check_same(labels, "The features of X")
        return values, samples, labels
