"""Fit an estimator on the training samples of each fold and predict the held-out ones."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone

from neuroalign.compute import run_pieces
from neuroalign.errors import ConfigError, NeuroalignError, Notice, SchemaError, gather_warnings, tell
from neuroalign.evaluation._labels import n_samples, take
from neuroalign.evaluation._targets import matrix, template
from neuroalign.evaluation.splits import Fold
from neuroalign.protocol import LabelledEstimator, LabelledTransformer
from neuroalign.schema import sample_dim


@dataclass(frozen=True)
class _Job:
    """One fold's work; `flat` marks plain responses with a single axis."""

    estimator: Any
    X_train: Any
    y_train: Any
    X_test: Any
    groups: NDArray[Any] | None
    labelled: bool
    flat: bool
    spaces: list[NDArray[np.int64]] | None = None


def predict_folds(
    estimator: Any, X: Any, y: Any, folds: list[Fold], *, groups: NDArray[Any] | None, executor: str | Executor
) -> list[NDArray[Any]]:
    """Predict the held-out samples of every fold; arrays of shape (n_test, n_targets)."""
    return predict_many([(estimator, X, None)], y, folds, groups=groups, executor=executor)[0]


#: An estimator, its features, and the columns of feature spaces whose shares in the predictions are wanted.
Model = tuple[Any, Any, list[NDArray[np.int64]] | None]


def predict_many(
    models: list[Model], y: Any, folds: list[Fold], *, groups: NDArray[Any] | None, executor: str | Executor
) -> list[list[NDArray[Any]]]:
    """Predict the held-out samples of every fold by every model; arrays of shape (n_test, n_targets).

    With spaces, arrays of shape (1 + n_spaces, n_test, n_targets): the predictions, and what each space adds to them.
    """
    n, n_targets = len(folds), template(y).size
    told: list[Notice] = []
    made = _map(executor, lambda k: _job(models[k // n], y, folds[k % n], groups), n * len(models), n, told)
    guesses = [
        [_checked(next(made), len(test), n_targets, None if spaces is None else len(spaces)) for _, test in folds]
        for _, _, spaces in models
    ]
    tell(told, stacklevel=3)
    return guesses


def wants_labels(estimator: Any) -> bool:
    """Tell whether an estimator, or one inside a pipeline or search, takes labelled objects."""
    inside = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else []
    return any(isinstance(part, (LabelledEstimator, LabelledTransformer)) for part in (estimator, *inside))


def _job(model: Model, y: Any, fold: Fold, groups: NDArray[Any] | None) -> _Job:
    (estimator, X, spaces), (train, test) = model, fold
    labelled = wants_labels(estimator)
    flat = not labelled and np.ndim(y) == 1
    if not labelled:
        X, y = matrix(X) if isinstance(X, xr.DataArray) else X, matrix(y)
    chosen = None if groups is None else groups[train]
    return _Job(clone(estimator), take(X, train), take(y, train), take(X, test), chosen, labelled, flat, spaces)


def _map(
    executor: str | Executor, job: Callable[[int], _Job], n: int, n_folds: int, told: list[Notice]
) -> Iterator[Any]:
    """Results in order; one fold's copies at a time. Workers go on with the other folds when one fails or dies.

    What the fits warn of goes to `told`: workers would say it where nobody listens.
    """
    if executor == "serial":
        results = (_piece(job(k), None) for k in range(n))
    else:
        outcome = run_pieces(_piece, job, n, executor=executor)
        if outcome.failures:
            raise _failed(outcome.failures, n, n_folds) from outcome.failures[min(outcome.failures)]
        results = (outcome.results[k] for k in range(n))
    for result, notices in results:
        told += notices
        yield result


def _piece(job: _Job, shared: None) -> tuple[Any, list[Notice]]:
    with gather_warnings() as notices:
        return _fit_predict(job), notices


def _failed(failures: dict[int, BaseException], n: int, n_folds: int) -> NeuroalignError:
    """One error for all fits that failed, with what the first of them said."""
    first = failures[min(failures)]
    names = [f"fold {k % n_folds}" + (f" of model {k // n_folds}" if n > n_folds else "") for k in sorted(failures)]
    place = f"{', '.join(names)}; {n - len(failures)} of {n} fits ended or were not tried"
    if isinstance(first, NeuroalignError):
        where = place if first.where is None else f"{first.where} ({place})"
        return type(first)(first.problem, expected=first.expected, got=first.got, where=where, fix=first.fix)
    return NeuroalignError(f"{type(first).__name__}: {first}", where=place)


def _fit_predict(job: _Job) -> Any:
    fit = job.estimator.fit
    options: dict[str, Any] = {}
    if job.groups is not None and "groups" in inspect.signature(fit).parameters:
        options = {"groups": job.groups}
    elif job.groups is not None and hasattr(job.estimator, "steps"):  # a pipeline hands it on under the step's name
        name, last = job.estimator.steps[-1]
        if "groups" in inspect.signature(last.fit).parameters:
            options = {f"{name}__groups": job.groups}
    predict = (_labelled if job.labelled else _plain)(job, options)
    return predict(job.X_test) if job.spaces is None else _by_space(job, predict, job.spaces)


def _labelled(job: _Job, options: dict[str, Any]) -> Callable[[Any], NDArray[Any]]:
    model = job.estimator.fit(job.X_train, job.y_train, **options)

    def predict(X: Any, method: str = "predict") -> NDArray[Any]:
        guess = getattr(model, method)(X)
        if isinstance(guess, xr.DataArray) and isinstance(job.y_train, xr.DataArray):
            targets = [d for d in job.y_train.dims if d != sample_dim(job.y_train)]
            first = ["band"] if method == "predict_bands" else []
            guess = guess.transpose(*first, sample_dim(job.X_test), *targets)
        return np.asarray(guess)

    return predict


def _plain(job: _Job, options: dict[str, Any]) -> Callable[[Any], NDArray[Any]]:
    """Fit the targets that are finite; the others are predicted as NaN."""
    finite = np.isfinite(job.y_train).all(axis=0)
    if finite.any():
        y = job.y_train[:, 0] if job.flat else job.y_train[:, finite]
        job.estimator.fit(job.X_train, y, **options)

    def predict(X: Any) -> NDArray[Any]:
        out = np.full((n_samples(X), job.y_train.shape[1]), np.nan)
        if finite.any():
            out[:, finite] = np.asarray(job.estimator.predict(X)).reshape(len(out), -1)
        return out

    return predict


def _by_space(job: _Job, predict: Any, spaces: list[NDArray[np.int64]]) -> NDArray[Any]:
    """Predictions, and what each space adds: that of the model itself, or what is left when the others are zero.

    What a feature of several spaces adds is divided between them.
    """
    whole = predict(job.X_test)
    if hasattr(job.estimator, "predict_bands"):
        parts = predict(job.X_test, "predict_bands")
        names = np.asarray(job.X_test["band"].values)
        order = list(dict.fromkeys(names.tolist()))
        inside = [dict.fromkeys(names[columns].tolist()) for columns in spaces]
        holders = Counter(band for bands in inside for band in bands)
        added = [sum(parts[order.index(band)] / holders[band] for band in bands) for bands in inside]
        return np.stack([whole, *added])
    shared = np.maximum(sum(_marked(columns, job.X_test) for columns in spaces), 1)
    nothing = predict(_weighted(job.X_test, 0.0 * shared))
    added = [predict(_weighted(job.X_test, _marked(columns, job.X_test) / shared)) - nothing for columns in spaces]
    off = np.abs(sum(added) + nothing - whole)
    largest = np.nanmax(np.abs(whole), initial=0.0, where=np.isfinite(whole)) + np.finfo(np.float32).tiny
    if (off[np.isfinite(off)] > 1e-3 * largest).any():
        raise ConfigError(
            "What each feature space adds to this model's predictions cannot be told.",
            expected="a linear model, or one with a method predict_bands",
            got=type(job.estimator).__name__,
            where="split",
            fix="split=False",
        )
    return np.stack([whole, *added])


def _marked(columns: NDArray[np.int64], X: Any) -> NDArray[np.float64]:
    return np.isin(np.arange(np.size(X) // n_samples(X)), columns).astype(np.float64)


def _weighted(X: Any, weights: NDArray[np.float64]) -> Any:
    """The features, each times its weight."""
    if isinstance(X, xr.DataArray):
        (dim,) = (str(d) for d in X.dims if d != sample_dim(X))
        return X.copy(data=(X.transpose(..., dim) * weights).transpose(*X.dims).values.astype(np.result_type(X, "f4")))
    return X * weights


def _checked(guess: Any, n: int, n_targets: int, n_spaces: int | None) -> NDArray[Any]:
    values, lead = np.asarray(guess), () if n_spaces is None else (1 + n_spaces,)
    if values.shape[: len(lead) + 1] != (*lead, n) or values.size != int(np.prod((*lead, n, n_targets))):
        raise SchemaError(
            "The estimator's predictions do not have the shape of the responses.",
            expected=f"{n} samples x {n_targets} targets",
            got=values.shape,
            where="predict",
        )
    return values.reshape(*lead, n, n_targets)
