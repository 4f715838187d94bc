"""Fit an estimator on the training samples of each fold and predict the held-out ones."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone

from neuroalign.compute import get_executor, map_chunks
from neuroalign.errors import SchemaError
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


def predict_folds(
    estimator: Any, X: Any, y: Any, folds: list[Fold], *, groups: NDArray[Any] | None, executor: str | Executor
) -> list[NDArray[Any]]:
    """Predict the held-out samples of every fold; arrays of shape (n_test, n_targets)."""
    jobs = _jobs(estimator, X, y, folds, groups)
    n_targets = template(y).size
    return [_checked(guess, len(test), n_targets) for guess, (_, test) in zip(_map(executor, jobs), folds, strict=True)]


def wants_labels(estimator: Any) -> bool:
    """Tell whether an estimator, or one inside a pipeline or search, takes labelled objects."""
    inside = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else []
    return any(isinstance(part, (LabelledEstimator, LabelledTransformer)) for part in (estimator, *inside))


def _jobs(estimator: Any, X: Any, y: Any, folds: list[Fold], groups: NDArray[Any] | None) -> Iterator[_Job]:
    labelled = wants_labels(estimator)
    flat = not labelled and np.ndim(y) == 1
    if not labelled:
        X, y = matrix(X) if isinstance(X, xr.DataArray) else X, matrix(y)
    for train, test in folds:
        chosen = None if groups is None else groups[train]
        yield _Job(clone(estimator), take(X, train), take(y, train), take(X, test), chosen, labelled, flat)


def _map(executor: str | Executor, jobs: Iterable[_Job]) -> Iterable[Any]:
    if executor == "serial":
        return map(_fit_predict, jobs)  # lazily: one fold's copies at a time
    if not isinstance(executor, Executor):
        with get_executor(executor) as workers:
            return _map(workers, jobs)
    work = list(jobs)
    return map_chunks(_fit_predict, work, executor=executor, names=[f"fold {n}" for n in range(len(work))])


def _fit_predict(job: _Job) -> Any:
    fit = job.estimator.fit
    options: dict[str, Any] = {}
    if job.groups is not None and "groups" in inspect.signature(fit).parameters:
        options = {"groups": job.groups}
    elif job.groups is not None and hasattr(job.estimator, "steps"):  # a pipeline hands it on under the step's name
        name, last = job.estimator.steps[-1]
        if "groups" in inspect.signature(last.fit).parameters:
            options = {f"{name}__groups": job.groups}
    return _labelled(job, options) if job.labelled else _plain(job, options)


def _labelled(job: _Job, options: dict[str, Any]) -> Any:
    guess = job.estimator.fit(job.X_train, job.y_train, **options).predict(job.X_test)
    if isinstance(guess, xr.DataArray) and isinstance(job.y_train, xr.DataArray):
        targets = [d for d in job.y_train.dims if d != sample_dim(job.y_train)]
        guess = guess.transpose(sample_dim(guess), *targets)
    return np.asarray(guess)


def _plain(job: _Job, options: dict[str, Any]) -> Any:
    """Fit the targets that are finite; the others are predicted as NaN."""
    finite = np.isfinite(job.y_train).all(axis=0)
    out = np.full((n_samples(job.X_test), job.y_train.shape[1]), np.nan)
    if finite.any():
        y = job.y_train[:, 0] if job.flat else job.y_train[:, finite]
        out[:, finite] = np.asarray(job.estimator.fit(job.X_train, y, **options).predict(job.X_test)).reshape(
            len(out), -1
        )
    return out


def _checked(guess: Any, n: int, n_targets: int) -> NDArray[Any]:
    values = np.asarray(guess)
    if values.shape[:1] != (n,) or values.size != n * n_targets:
        raise SchemaError(
            "The estimator's predictions do not have the shape of the responses.",
            expected=f"{n} samples x {n_targets} targets",
            got=values.shape,
            where="predict",
        )
    return values.reshape(n, n_targets)
