"""Checked cross-validation folds over rows or segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError

__all__ = ["Fold", "as_pairs", "check_folds", "is_partition"]


@dataclass(frozen=True)
class Fold:
    """One fold: what is trained on, what is tested on, and what is left out of training.

    `excluded` is None when the training statistics cannot be had as "all minus excluded" (repeated samples), or when
    that would cost more than summing the training samples themselves.
    """

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    excluded: NDArray[np.intp] | None


def check_folds(folds: Iterable[tuple[ArrayLike, ArrayLike]], n: int, what: str = "samples") -> list[Fold]:
    """Validate pairs of (train, test) indices into `n` samples or segments.

    Raises
    ------
    ConfigError
        If there is no fold, an index is out of range, a side is empty, or the two sides share a sample.
    """
    pairs = as_pairs(folds)
    if not pairs:
        raise ConfigError("There are no folds.", expected="a list of (train, test) index pairs", got=0, where="folds")
    return [_check_fold(pair, n, what, f"folds[{i}]") for i, pair in enumerate(pairs)]


def as_pairs(folds: Iterable[tuple[ArrayLike, ArrayLike]]) -> list[tuple[ArrayLike, ArrayLike]]:
    """List the folds; refuse what is none, such as a number of folds, which only estimators know how to cut.

    Raises
    ------
    ConfigError
        If it is no iterable of pairs.
    """
    if isinstance(folds, str) or not isinstance(folds, Iterable):
        raise ConfigError(
            "Folds are pairs of indices.",
            expected="a list of (train, test) index pairs",
            got=folds,
            where="folds",
            fix="pass neuroalign.evaluation.resolve_cv(5, X), or list(KFold(5).split(X))",
        )
    return list(folds)


def _check_fold(pair: tuple[ArrayLike, ArrayLike], n: int, what: str, where: str) -> Fold:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ConfigError("A fold is a pair.", expected="(train indices, test indices)", got=pair, where=where)
    train, test = (_indices(side, n, what, where) for side in pair)
    shared = np.intersect1d(train, test)
    if shared.size:
        raise ConfigError(
            f"{shared.size} {what} are both trained and tested on.",
            expected="disjoint train and test",
            got=shared[:5],
            where=where,
        )
    counts = np.bincount(train, minlength=n)
    excluded = np.flatnonzero(counts == 0)
    if counts.max() > 1 or excluded.size > train.size:
        return Fold(train, test, None)
    return Fold(train, test, excluded)


def _indices(side: ArrayLike, n: int, what: str, where: str) -> NDArray[np.intp]:
    index = np.asarray(side)
    if index.dtype == bool and index.shape == (n,):
        index = np.flatnonzero(index)
    if index.ndim != 1 or index.size == 0 or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= n:
        raise ConfigError(
            "A side of a fold is not a list of indices.",
            expected=f"one or more of the {n} {what}, 0 .. {n - 1}",
            got=index,
            where=where,
        )
    return np.sort(index).astype(np.intp)


def is_partition(folds: Sequence[Fold], n: int) -> bool:
    """Whether every sample is excluded in exactly one fold, so that the sum over folds is the total."""
    counts = np.zeros(n, dtype=np.intp)
    for fold in folds:
        if fold.excluded is None:
            return False
        counts[fold.excluded] += 1
    return bool((counts == 1).all())
