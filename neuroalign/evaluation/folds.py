"""One meaning of ``cv=`` everywhere: a number, a splitter, the name of a coordinate, or index pairs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, warn
from neuroalign.evaluation._labels import codes, find, find_runs, find_stimulus, is_time_series, n_samples, named
from neuroalign.evaluation.splits import ChronologicalSplit, ContiguousSplit, Fold, GroupSplit, StimulusSplit

__all__ = ["CLOSED_FORMS", "check_independent", "delay_span", "refuse_closed_form", "resolve_cv", "warn_of_shared"]

DEFAULT_FOLDS = 5
#: Names that stand in for the inner folds of ridge models.
CLOSED_FORMS = ("loo", "gcv")


def resolve_cv(
    cv: Any = None, X: Any = None, y: Any = None, groups: ArrayLike | None = None, *, gap: int = 0
) -> list[Fold]:
    """Turn what a user says about folds into a list of index pairs.

    Parameters
    ----------
    cv : int, splitter, str or iterable of (train, test), optional
        A number of folds; a splitter with scikit-learn's interface; the name of a coordinate of `X` or `y`, each
        value of which is left out once (``"run"``); or index pairs. By default 5 folds, or as many as there are
        groups if fewer. A number or the default splits by `groups` if given, else by stimulus if stimuli repeat,
        else by run or story if there are several, else into contiguous blocks.
    X : array, DataArray, Dataset or mapping of these
        Features; samples along the sample dimension, or along the first axis.
    y : array or DataArray, optional
        Responses with the same samples.
    groups : array_like, shape (n_samples,), optional
        Labels that must not be on both sides.
    gap : int, default 0
        Samples purged around contiguous test blocks (used when `cv` is None or a number), such as `delay_span`.

    Returns
    -------
    list of (ndarray, ndarray)
        Training and test indices of each fold, never empty and never overlapping.

    Raises
    ------
    ConfigError
        If `cv` is none of these, or cannot be done with these samples.

    Examples
    --------
    >>> [test.tolist() for _, test in resolve_cv(2, np.zeros((4, 1)))]
    [[0, 1], [2, 3]]
    """
    n = n_samples(X)
    if isinstance(cv, str):
        if find(cv, X, y) is None:
            refuse_closed_form(cv)
        folds = list(GroupSplit(by=cv).split(X, y))
    elif cv is None or (isinstance(cv, (int, np.integer)) and not isinstance(cv, bool)):
        folds = list(_default(None if cv is None else int(cv), X, y, groups, gap))
    elif hasattr(cv, "split") and hasattr(cv, "get_n_splits"):
        folds = _from_splitter(cv, X, y, groups)
    elif isinstance(cv, Iterable):
        folds = list(cv)
    else:
        raise ConfigError(
            "Unknown kind of cv.", expected="int, splitter, coordinate name or (train, test) pairs", got=cv, where="cv"
        )
    folds = [_check_pair(pair, n) for pair in folds]
    if not folds:
        raise ConfigError("There are no folds.", expected=">= 1 (train, test) pair", got=cv, where="cv")
    if is_time_series(X, y):
        _warn_if_shuffled(folds)
    return folds


def check_independent(cv: str, X: Any, groups: ArrayLike | None = None) -> None:
    """Refuse closed forms, which leave out samples one by one, where samples belong together; warn of time series.

    Parameters
    ----------
    cv : {"loo", "gcv"}
        The closed form.
    X : array or DataArray
        Features; samples along the sample dimension, or along the first axis.
    groups : array_like, shape (n_samples,), optional
        Labels that must not be on both sides.

    Raises
    ------
    ConfigError
        If a group, or else a stimulus, has several samples.
    """
    labels, name = (find_stimulus(X), "stimulus") if groups is None else (np.asarray(groups), "group")
    if labels is not None and len(np.unique(labels)) < len(labels):
        raise ConfigError(
            f"Samples of one {name} would be on both sides, because {cv!r} leaves them out one by one.",
            expected=f"one sample a {name}",
            got=f"{len(labels)} samples of {len(np.unique(labels))}",
            where="cv",
            fix="cv=5 (or any number), which keeps them together; or average them first",
        )
    if is_time_series(X):
        warn(
            f"cv={cv!r} leaves single samples of a time series out: penalties will be too small, because neighbours in "
            "time are alike. Use a number of contiguous folds, or leave runs out.",
            stacklevel=5,
        )


def delay_span(estimator: Any, X: Any) -> int:
    """Say how many samples a model reaches beside a test block: what folds leave out.

    Parameters
    ----------
    estimator : estimator
        A model or pipeline, whose steps may have a method ``delay_span``.
    X : DataArray or array
        Features.

    Returns
    -------
    int
        Samples between the first and the last delay; 0 for models without delays.
    """
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    return max((step.delay_span(X) for step in steps if hasattr(step, "delay_span")), default=0)


def refuse_closed_form(cv: str) -> None:
    """Refuse the name of a closed form where folds are needed.

    Parameters
    ----------
    cv : str
        The name of a coordinate, or of a closed form.

    Raises
    ------
    ConfigError
        If it is a closed form.
    """
    if cv in CLOSED_FORMS:
        raise ConfigError(
            "There is no closed form here.",
            expected="a number of folds, a splitter, the name of a coordinate, or (train, test) pairs",
            got=f"cv={cv!r}, which chooses the penalty of RidgeEncoder and RidgeDecoder",
            where="cv",
            fix="cv=5",
        )


def warn_of_shared(folds: list[Fold], X: Any, groups: ArrayLike | None = None) -> None:
    """Warn where what belongs together is on both sides of inner folds, which choose penalties by it.

    Parameters
    ----------
    folds : list of (ndarray, ndarray)
        From `resolve_cv`.
    X : array or DataArray
        Features; samples along the sample dimension, or along the first axis.
    groups : array_like, shape (n_samples,), optional
        Labels that must not be on both sides; by default the stimuli.
    """
    name = "stimulus" if groups is None else "group"
    labels = named(groups, X, role="groups") if groups is not None else find_stimulus(X)
    if labels is None or is_time_series(X):
        return
    number = codes(labels, name)
    if any(np.isin(number[test], number[train]).any() for train, test in folds):
        warn(
            f"The same {name} is in training and in test of inner folds: penalties will be too small. A number (cv=5) "
            f"keeps each {name} on one side."
        )


def _default(cv: int | None, X: Any, y: Any, groups: ArrayLike | None, gap: int) -> Iterable[Fold]:
    if cv is not None and cv < 2:
        raise ConfigError("Not a number of folds.", expected="an integer >= 2", got=cv, where="cv")
    stimuli, runs = find_stimulus(X, y), find_runs(X, y)
    if groups is not None:
        return GroupSplit(_number(cv, groups)).split(X, groups=groups)
    repeated = stimuli is not None and 1 < len(np.unique(stimuli)) < len(stimuli)
    if stimuli is not None and repeated and not is_time_series(X, y):
        return StimulusSplit(_number(cv, stimuli)).split(X, groups=stimuli)
    if runs is not None and (cv is None or cv <= runs.max() + 1):
        return GroupSplit(_number(cv, runs)).split(X, groups=runs)
    return ContiguousSplit(cv or max(2, min(DEFAULT_FOLDS, n_samples(X) // 2)), gap).split(X, y)


def _number(cv: int | None, labels: ArrayLike) -> int:
    return (
        int(cv) if cv is not None else min(DEFAULT_FOLDS, int(codes(np.asarray(labels), "group").max(initial=-1)) + 1)
    )


def _from_splitter(cv: Any, X: Any, y: Any, groups: ArrayLike | None) -> list[Fold]:
    if isinstance(cv, (ContiguousSplit, ChronologicalSplit)):
        return list(cv.split(X, y))  # here groups would mean runs, which come from the labels
    if isinstance(cv, (GroupSplit, StimulusSplit)):
        own = find_stimulus(X, y) if isinstance(cv, StimulusSplit) else find(cv.by, X, y)
        return list(cv.split(X, y, groups if own is None else own))  # what the splitter goes by comes before groups
    # Other splitters count along the first axis, which need not be the sample dimension of a labelled object.
    plain_y = np.asarray(y) if y is not None and np.ndim(y) == 1 else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The groups parameter is ignored")
        return list(cv.split(np.zeros((n_samples(X), 1)), plain_y, None if groups is None else np.asarray(groups)))


def _check_pair(pair: Any, n: int) -> Fold:
    try:
        train, test = (_as_index(side, n) for side in pair)
    except (TypeError, ValueError) as error:
        raise ConfigError("A fold is not a pair of index arrays.", got=f"{pair!r} ({error})", where="cv") from error
    if train.size == 0 or test.size == 0:
        raise ConfigError("A fold is empty on one side.", got=f"{train.size} train, {test.size} test", where="cv")
    both = np.intersect1d(train, test)
    if both.size:
        raise ConfigError(
            "A sample is in training and in test of one fold.", got=f"samples {both[:5].tolist()}", where="cv"
        )
    return train, test


def _as_index(side: Any, n: int) -> NDArray[np.int64]:
    index = np.asarray(side)
    if index.dtype == bool and index.shape == (n,):
        return np.flatnonzero(index)
    if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
        raise ValueError("not a 1-d array of integers, nor one boolean a sample")
    index = index.astype(np.int64)
    if index.size and (index.min() < 0 or index.max() >= n):
        raise ValueError(f"indices outside 0 to {n - 1}")
    return index


def _warn_if_shuffled(folds: list[Fold]) -> None:
    """Warn when test samples have their neighbours in training nearly everywhere: time was shuffled."""
    for _, test in folds:
        n_pieces = 1 + int((np.diff(np.sort(test)) > 1).sum())
        if n_pieces > max(2, test.size // 4):
            warn(
                f"The folds shuffle a time series (a test fold of {test.size} samples lies in {n_pieces} pieces): "
                "scores will be too good, because neighbours in time are alike. Use ContiguousSplit or leave runs out.",
                stacklevel=3,
            )
            return
