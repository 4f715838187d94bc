"""Any scikit-learn transformer, with labels."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import scipy.sparse
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone

from neuroalign.align import check_same_samples
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.protocol import LabelledTransformer, Labels, Samples, open_samples

__all__ = ["Labelled"]


class Labelled(LabelledTransformer):
    """Wrap a scikit-learn transformer so that labels survive it.

    Sample labels are kept. Feature labels are kept where the transformer says (``get_feature_names_out``) that each
    output is one of the inputs, as in a scaler or a feature selector; else the outputs get new labels along ``unit``.

    Parameters
    ----------
    transformer : transformer
        For example ``sklearn.decomposition.PCA(10)``. It is cloned, never changed.

    Attributes
    ----------
    transformer_ : transformer
        The fitted clone.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from sklearn.decomposition import PCA
    >>> x = xr.DataArray(np.eye(3), dims=("stimulus", "unit"), coords={"stimulus": ["cat", "dog", "fox"]})
    >>> Labelled(PCA(2)).fit_transform(x).coords["stimulus"].values.tolist()
    ['cat', 'dog', 'fox']
    """

    ignores_targets = False  # what is inside may select features by the responses

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the transformer.

        Parameters
        ----------
        X : DataArray or array, shape (n_samples, n_features)
            Data. Several feature dimensions of a DataArray are put side by side.
        y : DataArray or array, optional
            Targets, for supervised transformers. Labels, where both have them, must agree.

        Returns
        -------
        self
            The fitted transformer.

        Raises
        ------
        ConfigError
            If there is nothing to wrap, or it cannot transform.
        """
        if not (hasattr(self.transformer, "fit") and hasattr(self.transformer, "transform")):
            raise ConfigError(
                "There is no transformer to wrap.",
                expected="an object with fit and transform, such as StandardScaler()",
                got=repr(self.transformer),
                fix="Labelled(StandardScaler())",
            )
        values, _, self.feature_labels_ = self._open(X, fitting=True)
        if isinstance(y, xr.DataArray):
            if isinstance(X, xr.DataArray):
                check_same_samples(X, y)
            targets, _, labels = open_samples(y)
            y = targets if labels.dims else targets[:, 0]
        self.transformer_ = clone(self.transformer)
        self.transformer_.fit(values, y)
        return self

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        out = self.transformer_.transform(X)
        if scipy.sparse.issparse(out):
            out = out.toarray()
        out = np.asarray(out)
        if out.ndim != 2 or len(out) != len(X):
            raise SchemaError(
                f"{type(self.transformer).__name__} changes the samples.",
                expected=f"an output of shape ({len(X)}, n_features)",
                got=out.shape,
            )
        return out

    def _out_labels(self, labels: Labels, n: int) -> Labels:
        before = [f"x{i}" for i in range(int(np.prod(labels.shape)))]
        after = self._names_out(before, n)
        if after == before:
            return labels
        position = {name: i for i, name in enumerate(before)}
        if len(labels.dims) == 1 and all(name in position for name in after):
            rows = [position[name] for name in after]
            coords = {name: (dims, values[rows]) for name, (dims, values) in labels.coords.items()}
            return Labels(labels.dims, (n,), coords, labels.name, labels.attrs)
        return Labels(("unit",), (n,), {"unit": (("unit",), np.array(after, dtype=object))}, labels.name, {})

    def _names_out(self, before: list[str], n: int) -> list[str]:
        kind = type(self.transformer_).__name__.lower()
        try:
            names = [str(name) for name in self.transformer_.get_feature_names_out(before)]
        except (AttributeError, ValueError):  # not offered, or only for names that it made up itself
            names = []
        return names if len(names) == n else [f"{kind}{i}" for i in range(n)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if hasattr(self.transformer, "__sklearn_tags__"):
            inner = self.transformer.__sklearn_tags__()
            tags.target_tags.required = inner.target_tags.required
        return tags
