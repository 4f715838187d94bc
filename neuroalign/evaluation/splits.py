"""Splitters with scikit-learn's interface: by group, contiguous with a gap, by stimulus, chronological.

All are deterministic: two calls of `split` on the same input give the same folds. When `groups` is not passed, labels
are taken from the coordinates of labelled inputs.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.evaluation._labels import codes, find_runs, n_samples, named

__all__ = ["ChronologicalSplit", "ContiguousSplit", "GroupSplit", "StimulusSplit", "check_no_leakage"]

Index = NDArray[np.int64]
Fold = tuple[Index, Index]


@dataclass(frozen=True)
class GroupSplit:
    """Leave whole groups out; folds hold about the same number of samples.

    Parameters
    ----------
    n_splits : int, optional
        Number of folds, at most the number of groups. By default every group is left out once.
    by : str, default "run"
        The coordinate that names the groups when `groups` is not passed to `split`.

    Examples
    --------
    >>> [test.tolist() for _, test in GroupSplit().split(range(4), groups=["a", "b", "a", "b"])]
    [[0, 2], [1, 3]]
    """

    n_splits: int | None = None
    by: str = "run"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: ArrayLike | None = None) -> int:
        """Give the number of folds."""
        return _check_n_splits(self.n_splits) if self.n_splits is not None else int(self._codes(X, y, groups).max()) + 1

    def split(self, X: Any, y: Any = None, groups: ArrayLike | None = None) -> Iterator[Fold]:
        """Yield the training and test indices of each fold."""
        number = self._codes(X, y, groups)
        fold_of = _balance(np.bincount(number), self.get_n_splits(X, y, groups))
        yield from _by_fold(fold_of[number])

    def _codes(self, X: Any, y: Any, groups: ArrayLike | None) -> Index:
        return _group_codes(self.by if groups is None else groups, X, y, "groups")


@dataclass(frozen=True)
class StimulusSplit:
    """Keep all presentations of a stimulus on one side; folds hold about the same number of stimuli.

    Parameters
    ----------
    n_splits : int, default 5
        Number of folds, at most the number of stimuli.
    random_state : int or numpy.random.Generator, optional
        Shuffles the stimuli before they are dealt out. By default they are taken in the order in which they first
        appear, in contiguous parts. A Generator is copied, never advanced.

    Examples
    --------
    >>> [test.tolist() for _, test in StimulusSplit(2).split(range(4), groups=["cat", "dog", "dog", "cat"])]
    [[0, 3], [1, 2]]
    """

    n_splits: int = 5
    random_state: int | np.random.Generator | None = None

    def get_n_splits(self, X: Any = None, y: Any = None, groups: ArrayLike | None = None) -> int:
        """Give the number of folds."""
        return _check_n_splits(self.n_splits)

    def split(self, X: Any, y: Any = None, groups: ArrayLike | None = None) -> Iterator[Fold]:
        """Yield the training and test indices of each fold."""
        number = _group_codes("stimulus_id" if groups is None else groups, X, y, "stimuli")
        n_stimuli, k = int(number.max()) + 1, _check_n_splits(self.n_splits)
        _check_enough(n_stimuli, k, "stimuli")
        order = np.arange(n_stimuli)
        if self.random_state is not None:
            # A copy, so that a second call gives the same folds.
            order = np.random.default_rng(copy.deepcopy(self.random_state)).permutation(n_stimuli)
        fold_of = np.empty(n_stimuli, dtype=np.int64)
        for fold, stimuli in enumerate(np.array_split(order, k)):
            fold_of[stimuli] = fold
        yield from _by_fold(fold_of[number])


@dataclass(frozen=True)
class ContiguousSplit:
    """Hold out uninterrupted blocks of samples; optionally purge their neighbours from training.

    Runs are respected: with at least as many runs as folds a test block is made of whole runs, with fewer it lies
    inside one. Samples of another run are no neighbours, so the gap ends at a run's edge.

    Parameters
    ----------
    n_splits : int, default 5
        Number of folds.
    gap : int, default 0
        Number of samples left out of training on each side of the test block, such as the span of the delays.

    Examples
    --------
    >>> [(train.tolist(), test.tolist()) for train, test in ContiguousSplit(2, gap=1).split(range(6))]
    [([4, 5], [0, 1, 2]), ([0, 1], [3, 4, 5])]
    """

    n_splits: int = 5
    gap: int = 0

    def get_n_splits(self, X: Any = None, y: Any = None, groups: ArrayLike | None = None) -> int:
        """Give the number of folds."""
        return _check_n_splits(self.n_splits)

    def split(self, X: Any, y: Any = None, groups: ArrayLike | None = None) -> Iterator[Fold]:
        """Yield the training and test indices of each fold; `groups` are run labels."""
        n = n_samples(X)
        edges, gap = _run_edges(X, y, groups), _check_gap(self.gap)
        for start, stop in _blocks(n, _check_n_splits(self.n_splits), edges):
            low = max(start - gap, edges[np.searchsorted(edges, start, side="right") - 1])
            high = min(stop + gap, edges[np.searchsorted(edges, stop, side="left")])
            train = np.concatenate([np.arange(low), np.arange(high, n)])
            yield _nonempty(train, gap), np.arange(start, stop)


@dataclass(frozen=True)
class ChronologicalSplit:
    """Train on the past only: each test block comes after everything that was trained on.

    Parameters
    ----------
    n_splits : int, default 5
        Number of folds; samples are cut into one block more, the first of which is only trained on.
    gap : int, default 0
        Number of samples left out between training and test, within a run.

    Examples
    --------
    >>> [(train.tolist(), test.tolist()) for train, test in ChronologicalSplit(2).split(range(6))]
    [([0, 1], [2, 3]), ([0, 1, 2, 3], [4, 5])]
    """

    n_splits: int = 5
    gap: int = 0

    def get_n_splits(self, X: Any = None, y: Any = None, groups: ArrayLike | None = None) -> int:
        """Give the number of folds."""
        return _check_n_splits(self.n_splits, least=1)

    def split(self, X: Any, y: Any = None, groups: ArrayLike | None = None) -> Iterator[Fold]:
        """Yield the training and test indices of each fold; samples are in order of time, `groups` are run labels."""
        edges, gap = _run_edges(X, y, groups), _check_gap(self.gap)
        for start, stop in _blocks(n_samples(X), self.get_n_splits() + 1, edges)[1:]:
            low = max(start - gap, edges[np.searchsorted(edges, start, side="right") - 1])
            yield _nonempty(np.arange(low), gap), np.arange(start, stop)


def check_no_leakage(train_ids: ArrayLike, test_ids: ArrayLike, *, name: str = "stimulus") -> None:
    """Refuse a split that has the same stimulus (or another group) on both sides.

    Parameters
    ----------
    train_ids, test_ids : array_like
        The labels of the training and of the test samples.
    name : str, default "stimulus"
        What the labels are, for the message.

    Raises
    ------
    AlignmentError
        If a label is on both sides; the first of them are named.

    Examples
    --------
    >>> check_no_leakage(["cat", "cat"], ["dog"])
    """
    shared = np.intersect1d(np.asarray(train_ids), np.asarray(test_ids))
    if shared.size:
        more = f" and {shared.size - 5} more" if shared.size > 5 else ""
        raise AlignmentError(
            f"The same {name} is in training and in test.",
            expected=f"every {name} on one side of the split",
            got=f"{', '.join(map(repr, shared[:5].tolist()))}{more} on both sides",
            fix=f"split by {name}, for example cv=StimulusSplit(5), or name another coordinate as groups=",
        )


def _check_n_splits(n_splits: int, least: int = 2) -> int:
    if isinstance(n_splits, bool) or not isinstance(n_splits, (int, np.integer)) or n_splits < least:
        raise ConfigError("Not a number of folds.", expected=f"an integer >= {least}", got=n_splits, where="n_splits")
    return int(n_splits)


def _check_gap(gap: int) -> int:
    if isinstance(gap, bool) or not isinstance(gap, (int, np.integer)) or gap < 0:
        raise ConfigError("Not a gap.", expected="an integer number of samples >= 0", got=gap, where="gap")
    return int(gap)


def _check_enough(n: int, n_splits: int, what: str) -> None:
    if n < n_splits:
        raise ConfigError(
            f"More folds than {what}.",
            expected=f"n_splits <= {n} {what}",
            got=f"n_splits={n_splits}",
            fix="ask for fewer folds" if n > 1 else f"one cannot split a single one of the {what}; split otherwise",
        )


def _nonempty(train: Index, gap: int) -> Index:
    if train.size == 0:
        raise ConfigError("Nothing is left to train on.", got=f"gap={gap}", fix="make the gap or n_splits smaller")
    return train


def _group_codes(labels: str | ArrayLike, X: Any, y: Any, what: str) -> Index:
    number = codes(named(labels, X, y, role="groups"), "group")
    _check_enough(int(number.max(initial=-1)) + 1, 2, what)
    return number


def _by_fold(fold_of: Index) -> Iterator[Fold]:
    for fold in range(int(fold_of.max()) + 1):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def _balance(sizes: Index, n_splits: int) -> Index:
    """Deal groups to folds, the largest first, each to the fold with the fewest samples so far."""
    _check_enough(len(sizes), n_splits, "groups")
    if n_splits == len(sizes):
        return np.arange(n_splits)
    load, fold_of = np.zeros(n_splits, dtype=np.int64), np.empty(len(sizes), dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of[group] = np.argmin(load)
        load[fold_of[group]] += sizes[group]
    return fold_of


def _run_edges(X: Any, y: Any, groups: ArrayLike | None) -> Index:
    """Positions where a run starts, and the number of samples; a change of label is an edge."""
    n = n_samples(X)
    runs = find_runs(X, y) if groups is None else codes(named(groups, X, y, role="groups"), "run")
    inner = np.flatnonzero(np.diff(np.zeros(n) if runs is None else runs)) + 1
    return np.concatenate([[0], inner, [n]]).astype(np.int64)


def _blocks(n: int, k: int, edges: Index) -> list[tuple[int, int]]:
    """Cut samples into k contiguous blocks of about the same size that respect the edges of runs."""
    _check_enough(n, k, "samples")
    n_runs = len(edges) - 1
    if n_runs >= k:
        cuts, last = [0], 0
        for i in range(1, k):  # the free edge nearest to the ideal cut, leaving one for each cut to come
            free = np.arange(last + 1, n_runs - (k - i) + 1)
            last = int(free[np.argmin(np.abs(edges[free] - i * n / k))])
            cuts.append(int(edges[last]))
        return list(zip(cuts, [*cuts[1:], n], strict=True))
    lengths, pieces = np.diff(edges), np.ones(n_runs, dtype=np.int64)
    for _ in range(k - n_runs):
        pieces[np.argmax(lengths / pieces)] += 1
    bounds = [np.linspace(edges[r], edges[r + 1], pieces[r] + 1).round().astype(int) for r in range(n_runs)]
    return [(int(a), int(b)) for cut in bounds for a, b in itertools.pairwise(cut)]
