"""Row 14 of the fault table: whatever the samples, no splitter puts the same thing on both sides."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.evaluation import (
    ChronologicalSplit,
    ContiguousSplit,
    GroupSplit,
    StimulusSplit,
    check_no_leakage,
    resolve_cv,
)

labels = st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=60).filter(lambda x: len(set(x)) > 1)
modest = settings(max_examples=60, deadline=None)


def check(folds, n):
    for train, test in folds:
        assert train.size
        assert test.size
        assert np.intersect1d(train, test).size == 0
        assert np.all(np.diff(train) > 0)
        assert np.all(np.diff(test) > 0)
        assert 0 <= min(train[0], test[0]) <= max(train[-1], test[-1]) < n


def covers_once(folds, n):
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(n))


@modest
@given(ids=labels, k=st.integers(2, 6), seed=st.none() | st.integers(0, 9))
def test_no_stimulus_or_group_on_both_sides(ids, k, seed):
    ids = np.array(ids)
    k = min(k, len(set(ids.tolist())))
    for splitter in (StimulusSplit(k, random_state=seed), GroupSplit(k), GroupSplit()):
        folds = list(splitter.split(ids, groups=ids))
        assert len(folds) == splitter.get_n_splits(ids, groups=ids)
        check(folds, len(ids))
        covers_once(folds, len(ids))
        for train, test in folds:
            check_no_leakage(ids[train], ids[test])


@modest
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), k=st.integers(2, 6), gap=st.integers(0, 4))
def test_contiguous_blocks_keep_their_distance(lengths, k, gap):
    runs = np.repeat(np.arange(len(lengths)), lengths)
    try:
        folds = list(ContiguousSplit(k, gap).split(runs, groups=runs))
    except ConfigError:
        return  # too few samples, or the gap takes all of them
    check(folds, len(runs))
    covers_once(folds, len(runs))
    for train, test in folds:
        assert np.all(np.diff(test) == 1)
        for run in set(runs[test].tolist()):
            distance = np.abs(train[runs[train] == run][:, None] - test[runs[test] == run])
            assert distance.size == 0 or distance.min() > gap


@modest
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), k=st.integers(1, 5), gap=st.integers(0, 4))
def test_chronological_folds_never_see_the_future(lengths, k, gap):
    runs = np.repeat(np.arange(len(lengths)), lengths)
    try:
        folds = list(ChronologicalSplit(k, gap).split(runs, groups=runs))
    except ConfigError:
        return
    check(folds, len(runs))
    for train, test in folds:
        assert train.max() < test.min()
        same_run = runs[train] == runs[test[0]]
        assert not same_run.any() or test[0] - train[same_run].max() > gap


@modest
@given(ids=labels, runs=st.integers(1, 4), k=st.none() | st.integers(2, 3), data=st.data())
def test_resolved_folds_never_share_a_repeated_stimulus(ids, runs, k, data):
    n = len(ids)
    X = xr.DataArray(
        np.zeros((n, 1)),
        dims=("trial", "unit"),
        coords={"stimulus_id": ("trial", np.array(ids)), "run": ("trial", np.arange(n) * runs // n)},
    )
    if k is not None and k > len(set(ids)):
        return
    folds = resolve_cv(k, X)
    check(folds, n)
    if len(set(ids)) < n:
        for train, test in folds:
            check_no_leakage(np.array(ids)[train], np.array(ids)[test])


@modest
@given(train=labels, test=labels)
def test_leakage_is_found_exactly_when_there_is_one(train, test):
    if set(train) & set(test):
        with pytest.raises(AlignmentError):
            check_no_leakage(train, test)
    else:
        check_no_leakage(train, test)
