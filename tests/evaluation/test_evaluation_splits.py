import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, LeaveOneGroupOut, TimeSeriesSplit, cross_val_score

from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.evaluation import (
    ChronologicalSplit,
    ContiguousSplit,
    GroupSplit,
    StimulusSplit,
    check_no_leakage,
)


def same_folds(a, b):
    for (train_a, test_a), (train_b, test_b) in zip(a, b, strict=True):
        np.testing.assert_array_equal(train_a, train_b)
        np.testing.assert_array_equal(test_a, test_b)


def test_contiguous_without_gap_is_kfold():
    for n, k in ((10, 5), (12, 4), (30, 3)):
        same_folds(ContiguousSplit(k).split(np.zeros((n, 1))), KFold(k).split(np.zeros((n, 1))))


def test_group_split_leaves_one_out_like_scikit_learn():
    groups = np.array([2, 0, 1, 1, 0, 2, 2])
    mine = sorted(test.tolist() for _, test in GroupSplit().split(groups, groups=groups))
    theirs = sorted(test.tolist() for _, test in LeaveOneGroupOut().split(groups, groups=groups))
    assert mine == theirs


def test_group_split_is_as_balanced_as_group_kfold():
    groups = np.random.default_rng(0).integers(0, 17, 200)
    sizes = sorted(len(test) for _, test in GroupSplit(5).split(groups, groups=groups))
    theirs = sorted(len(test) for _, test in GroupKFold(5).split(groups, groups=groups))
    assert sizes[-1] - sizes[0] <= theirs[-1] - theirs[0]


def test_chronological_is_time_series_split():
    same_folds(
        ChronologicalSplit(4, gap=2).split(np.zeros((50, 1))), TimeSeriesSplit(4, gap=2).split(np.zeros((50, 1)))
    )


def test_gap_is_purged_on_both_sides_but_not_across_runs():
    runs = np.repeat([0, 1], [6, 6])
    folds = list(ContiguousSplit(4, gap=2).split(runs, groups=runs))
    assert [test.tolist() for _, test in folds] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert folds[0][0].tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert folds[1][0].tolist() == [0, 6, 7, 8, 9, 10, 11]
    assert folds[2][0].tolist() == [0, 1, 2, 3, 4, 5, 11]


def test_blocks_are_whole_runs_when_there_are_enough():
    runs = np.repeat(np.arange(5), [3, 9, 4, 4, 4])
    tests = [test for _, test in ContiguousSplit(3).split(runs, groups=runs)]
    for test in tests:
        assert set(runs[test]).isdisjoint(np.delete(runs, test))


def test_chronological_gap_ends_at_the_edge_of_a_run():
    runs = np.repeat([0, 1], 4)
    ((train, test),) = ChronologicalSplit(1, gap=3).split(runs, groups=runs)
    assert train.tolist() == [0, 1, 2, 3]
    assert test.tolist() == [4, 5, 6, 7]


def test_stimulus_split_shuffles_stimuli_and_stays_the_same():
    ids = np.repeat([f"s{i}" for i in range(20)], 3)
    split = StimulusSplit(4, random_state=3)
    same_folds(split.split(ids, groups=ids), split.split(ids, groups=ids))
    by_generator = StimulusSplit(4, random_state=np.random.default_rng(3))
    same_folds(by_generator.split(ids, groups=ids), by_generator.split(ids, groups=ids))
    same_folds(split.split(ids, groups=ids), by_generator.split(ids, groups=ids))
    first = next(iter(split.split(ids, groups=ids)))[1]
    plain = next(iter(StimulusSplit(4).split(ids, groups=ids)))[1]
    assert first.tolist() != plain.tolist()
    assert plain.tolist() == list(range(15))


def test_labels_come_from_coordinates():
    y = xr.DataArray(
        np.zeros((2, 6)),
        dims=("channel", "trial"),
        coords={"stimulus_id": ("trial", list("abcabc")), "run": ("trial", [0, 0, 0, 1, 1, 1])},
    )
    assert [test.tolist() for _, test in GroupSplit().split(y)] == [[0, 1, 2], [3, 4, 5]]
    assert [test.tolist() for _, test in StimulusSplit(3).split(y)] == [[0, 3], [1, 4], [2, 5]]
    assert [test.tolist() for _, test in ContiguousSplit(2).split(y)] == [[0, 1, 2], [3, 4, 5]]


def test_in_scikit_learn():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.standard_normal(40)
    groups = np.repeat(np.arange(8), 5)
    assert cross_val_score(Ridge(), X, y, cv=GroupSplit(4), groups=groups).shape == (4,)
    assert cross_val_score(Ridge(), X, y, cv=StimulusSplit(4), groups=groups).shape == (4,)
    assert cross_val_score(Ridge(), X, y, cv=ContiguousSplit(4, gap=1)).shape == (4,)
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=ChronologicalSplit(3)).fit(X, y)
    assert search.n_splits_ == 3


@pytest.mark.parametrize(
    ("split", "groups", "error"),
    [
        (GroupSplit(), None, ConfigError),
        (GroupSplit(4), [0, 0, 1, 1, 2, 2], ConfigError),
        (GroupSplit(), [0] * 6, ConfigError),
        (GroupSplit(), [0, 1], SchemaError),
        (GroupSplit(), [0.0, np.nan, 1, 1, 1, 1], SchemaError),
        (StimulusSplit(1), [0, 0, 1, 1, 2, 2], ConfigError),
        (StimulusSplit(5), ["a", "b", "a", "b", "a", "b"], ConfigError),
        (ContiguousSplit(7), None, ConfigError),
        (ContiguousSplit(2, gap=-1), None, ConfigError),
        (ContiguousSplit(2, gap=3), None, ConfigError),
        (ContiguousSplit(2.5), None, ConfigError),
        (ChronologicalSplit(0), None, ConfigError),
        (ChronologicalSplit(2, gap=2), None, ConfigError),
    ],
)
def test_refusals(split, groups, error):
    with pytest.raises(error):
        list(split.split(np.zeros((6, 2)), groups=groups))


def test_leakage_is_refused_by_name():
    with pytest.raises(AlignmentError, match=r"'cat'.*on both sides"):
        check_no_leakage(["cat", "dog"], ["cow", "cat"])
    check_no_leakage(np.array(["cat", "dog"], dtype=object), ["cow"])
