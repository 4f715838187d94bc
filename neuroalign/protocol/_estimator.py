"""Base class of every encoder and decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from neuroalign.align import check_same_samples
from neuroalign.errors import ConfigError, LabelsLostError, SchemaError, warn, warns_once
from neuroalign.metrics import get_scorer
from neuroalign.protocol._labels import Labels, Samples, open_samples
from neuroalign.protocol._save import Saveable, check_shape

FLOATS = [np.float64, np.float32]


class LabelledEstimator(Saveable, RegressorMixin, BaseEstimator, ABC):
    """Regression from one labelled array to another.

    Subclasses have the parameters ``scorer``, ``nan`` and ``unlabelled`` among their own, and write two methods on
    plain arrays: ``_fit(X, Y, samples, groups)`` and ``_predict(X, samples)``.

    Notes
    -----
    numpy in gives numpy out; DataArray in gives DataArray out, with the sample labels of `X` and the target labels
    that `y` had at fit. `y` may have several target dimensions.
    """

    scorer: Any
    nan: str
    unlabelled: str

    @warns_once
    def fit(self, X: Any, y: Any, groups: ArrayLike | None = None) -> Self:
        """Learn from features and responses.

        Parameters
        ----------
        X : DataArray or array, shape (n_samples, n_features)
            Inputs. A DataArray may have several feature dimensions, in any order.
        y : DataArray or array, shape (n_samples,) or (n_samples, n_targets)
            Outputs. A DataArray may have several target dimensions, in any order.
        groups : array_like, shape (n_samples,), optional
            Groups that the inner folds keep together. By default they are taken from coordinates.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        AlignmentError
            If sample labels of X and y differ.
        LabelsLostError
            If only one of X and y carries labels.
        SchemaError
            If X is not finite, or no target is.
        """
        self._check_choices()
        values, samples = self._open_x(X, fitting=True)
        targets, along = self._open_y(X, y)
        # Inner folds may go by labels that only one of the two carries.
        samples = replace(samples, coords={**along, **samples.coords})
        check_consistent_length(values, targets)
        if samples.n < 2:
            raise SchemaError("Too few samples.", expected="at least 2", got="n_samples=1 (1 sample)")
        self.masked_targets_ = self._mask(targets)
        keep = ~self.masked_targets_
        self._fit(values, np.ascontiguousarray(targets[:, keep]), samples, groups)
        return self

    def predict(self, X: Any) -> Any:
        """Predict responses.

        Parameters
        ----------
        X : DataArray or array, shape (n_samples, n_features)
            Inputs with the features given to `fit`.

        Returns
        -------
        DataArray or array
            Dims (sample, *targets). Targets that could not be learned are NaN.
        """
        check_is_fitted(self)
        values, samples = self._open_x(X, fitting=False)
        known = self._predict(values, samples)
        keep = ~self.masked_targets_
        if keep.all():
            full = known
        else:
            full = np.full((len(known), len(keep)), np.nan, dtype=known.dtype)
            full[:, keep] = known
        if samples.dim is not None:
            return self.target_labels_.wrap(full, samples)
        return full.reshape(len(full), *self.target_labels_.shape)

    def score_map(self, X: Any, y: Any) -> Any:
        """Score every target.

        Parameters
        ----------
        X, y : DataArray or array
            As in `fit`.

        Returns
        -------
        DataArray or array
            One score a target; NaN for targets that are constant or not finite.
        """
        check_is_fitted(self)
        labelled = isinstance(X, xr.DataArray), isinstance(y, xr.DataArray)
        self._check_labels(*labelled)
        labels = self.target_labels_
        if all(labelled):
            check_same_samples(X, y)
        if isinstance(y, xr.DataArray):
            observed, _, labels = open_samples(self.target_labels_.arrange(y))
            self.target_labels_.check_same(labels, "The targets of y")
        else:
            observed = np.asarray(y).reshape(len(y), -1)
        predicted = np.asarray(self.predict(X)).reshape(-1, self.target_labels_.size)
        scores = np.asarray(get_scorer(self.scorer)(observed, predicted))
        return labels.wrap(scores).assign_attrs(units="1") if all(labelled) else scores.reshape(labels.shape)

    def score(self, X: Any, y: Any, sample_weight: None = None) -> float:
        """Mean score over targets, leaving out those without a score.

        Parameters
        ----------
        X, y : DataArray or array
            As in `fit`.
        sample_weight : None
            Not used; here for scikit-learn.

        Returns
        -------
        float
            Mean of `score_map`.

        Raises
        ------
        ConfigError
            If samples are weighted.
        """
        if sample_weight is not None:
            raise ConfigError("Samples cannot be weighted.", expected="sample_weight=None", got=type(sample_weight))
        scores = np.asarray(self.score_map(X, y))
        valid = np.isfinite(scores)
        if not valid.any():
            return float("nan")
        return float(scores[valid].mean())

    @abstractmethod
    def _fit(self, X: NDArray[Any], Y: NDArray[Any], samples: Samples, groups: ArrayLike | None) -> None:
        """Learn from arrays of shape (n_samples, n_features) and (n_samples, n_targets)."""

    @abstractmethod
    def _predict(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        """Predict an array of shape (n_samples, n_targets)."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags

    def _check_choices(self) -> None:
        for name, value, allowed in (
            ("nan", self.nan, ("mask", "raise")),
            ("unlabelled", self.unlabelled, ("refuse", "allow")),
        ):
            if value not in allowed:
                raise ConfigError(f"Unknown value of {name}.", expected=" or ".join(allowed), got=value)
        get_scorer(self.scorer)

    def _open_x(self, X: Any, *, fitting: bool) -> tuple[NDArray[Any], Samples]:
        _refuse_containers(X, "X", self)
        if fitting:
            self.labelled_ = isinstance(X, xr.DataArray)
        if not isinstance(X, xr.DataArray):
            values = validate_data(self, X, reset=fitting, dtype=FLOATS)
            if fitting:
                self.feature_labels_ = Labels.plain(values.shape[1:], "unit")
            return values, Samples(len(values))
        values, samples, labels = open_samples(X if fitting else self.feature_labels_.arrange(X))
        values = check_array(values, dtype=FLOATS, input_name="X", ensure_all_finite=False, ensure_min_features=0)
        _refuse_nan(X, values)
        if fitting:
            if not values.shape[1]:
                raise SchemaError("X has no features.", expected="at least one", got=dict(X.sizes))
            self.n_features_in_ = values.shape[1]
            self.feature_labels_ = labels
        else:
            self.feature_labels_.check_same(labels, "The features of X")
        return values, samples

    def _open_y(self, X: Any, y: Any) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        _refuse_containers(y, "y", self)
        self._check_labels(isinstance(X, xr.DataArray), isinstance(y, xr.DataArray))
        if isinstance(y, xr.DataArray):
            if isinstance(X, xr.DataArray):
                check_same_samples(X, y)
            values, samples, self.target_labels_ = open_samples(y)
            along = samples.coords if isinstance(X, xr.DataArray) else {}
            return check_array(values, dtype=FLOATS, input_name="y", ensure_all_finite=False), along
        values = check_array(y, dtype=FLOATS, input_name="y", ensure_all_finite=False, ensure_2d=False, allow_nd=True)
        self.target_labels_ = Labels.plain(values.shape[1:])
        return values.reshape(len(values), -1), {}

    def _check_labels(self, x: bool, y: bool) -> None:
        if x != y and self.unlabelled == "refuse":
            kept, lost = ("X", "y") if x else ("y", "X")
            raise LabelsLostError(
                f"{lost} has lost its labels, {kept} still has them.",
                expected="both as DataArrays, or both as plain arrays",
                got=f"{kept} labelled, {lost} a plain array",
                fix="wrap the step that dropped them, as in Labelled(StandardScaler()), or pass unlabelled='allow'",
            )

    _state_names = frozenset(
        {"labelled_", "feature_labels_", "target_labels_", "masked_targets_", "n_features_in_", "feature_names_in_"}
    )

    def _check_state(self) -> None:
        if not (isinstance(self.feature_labels_, Labels) and isinstance(self.target_labels_, Labels)):
            raise TypeError("feature_labels_ and target_labels_ are not labels")
        if not isinstance(self.labelled_, bool) or self.feature_labels_.size != self.n_features_in_:
            raise ValueError("labelled_ or n_features_in_ does not fit feature_labels_")
        check_shape(self, "masked_targets_", (self.target_labels_.size,))
        if self.masked_targets_.dtype != bool:
            raise TypeError("masked_targets_ is not boolean")

    def _mask(self, targets: NDArray[Any]) -> NDArray[np.bool_]:
        masked = ~np.isfinite(targets).all(axis=0)
        if masked.all():
            raise SchemaError(
                "No target is finite.", expected="at least one", got="Input y contains NaN or infinity in every target"
            )
        if masked.any() and self.nan == "raise":
            raise SchemaError(
                f"{int(masked.sum())} of {masked.size} targets hold NaN or Inf.",
                expected="finite responses",
                got="nan='raise'",
                fix="nan='mask' leaves them out",
            )
        flat = (targets == targets[:1]).all(axis=0)
        if masked.any() or flat.any():
            warn(_lost, masked=masked, flat=flat)
        return masked


def _lost(masked: NDArray[np.bool_], flat: NDArray[np.bool_]) -> str:
    parts = [
        f"{int(flag.sum())} of {flag.size} targets {what}"
        for flag, what in ((masked, "hold NaN or Inf"), (flat, "are constant"))
        if flag.any()
    ]
    return f"{' and '.join(parts)}; they get NaN scores."


def _refuse_containers(obj: Any, name: str, taker: Any) -> None:
    """Refuse what holds several variables or runs, of which the caller must say which; and masks that would be lost."""
    if np.ma.is_masked(obj):
        raise SchemaError(
            f"{name} is a masked array, whose masked values would be taken for data.",
            expected="missing values as NaN",
            got=f"{np.ma.count_masked(obj)} masked values",
            where=name,
            fix=f"{name}.astype(float).filled(np.nan)",
        )
    if not isinstance(obj, xr.Dataset | xr.DataTree):
        return
    tree = isinstance(obj, xr.DataTree)
    names = [str(n) for n in (next((leaf for leaf in obj.leaves if leaf.has_data), obj) if tree else obj).data_vars]
    first = names[0] if names else "name"
    raise ConfigError(
        f"{type(taker).__name__} takes one variable, not a whole {type(obj).__name__}.",
        expected=f"{name} as a DataArray or array",
        got=f"{type(obj).__name__} with {', '.join(names) or 'no variable'}",
        fix=f"join the runs first (neuroalign.align.concat, epochs), and pass its ['{first}']"
        if tree
        else f"pass {name}['{first}']",
    )


def _refuse_nan(X: xr.DataArray, values: NDArray[Any]) -> None:
    finite = np.isfinite(values)
    if finite.all():
        return
    row, column = np.argwhere(~finite)[0]
    raise SchemaError(
        "X contains NaN or infinity.",
        expected="finite features",
        got=f"{int((~finite).sum())} values that are not finite",
        where=f"first in sample {row}, feature {column} of {X.name or 'X'}",
        fix="drop the samples that are not valid before the join",
    )
