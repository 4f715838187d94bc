import numpy as np
import pytest
import xarray as xr
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from neuroalign.errors import ConfigError, NeuroalignWarning
from neuroalign.evaluation import ContiguousSplit, GroupSplit, StimulusSplit, resolve_cv


def trials(**coords):
    n = len(next(iter(coords.values()))) if coords else 12
    return xr.DataArray(
        np.zeros((n, 2)), dims=("trial", "unit"), coords={name: ("trial", v) for name, v in coords.items()}
    )


def held_out(folds):
    return [test.tolist() for _, test in folds]


def test_numbers_make_contiguous_folds_without_labels():
    assert held_out(resolve_cv(3, np.zeros((6, 1)))) == [[0, 1], [2, 3], [4, 5]]
    assert len(resolve_cv(None, np.zeros((20, 1)))) == 5
    assert len(resolve_cv(None, np.zeros((5, 1)))) == 2  # a fold of one sample cannot be scored


def test_stimuli_come_before_runs():
    X = trials(stimulus_id=list("abcabc"), run=[0, 0, 0, 1, 1, 1])
    assert held_out(resolve_cv(None, X)) == [[0, 3], [1, 4], [2, 5]]
    assert held_out(resolve_cv(2, X)) == [[0, 1, 3, 4], [2, 5]]


def test_runs_where_stimuli_do_not_repeat():
    X = trials(stimulus_id=list("abcdef"), run=[0, 0, 0, 1, 1, 1])
    assert held_out(resolve_cv(None, X)) == [[0, 1, 2], [3, 4, 5]]
    assert held_out(resolve_cv(3, X)) == [[0, 1], [2], [3, 4, 5]] or len(resolve_cv(3, X)) == 3


def test_runs_of_two_sessions_are_told_apart():
    X = trials(session=[1, 1, 2, 2], run=[1, 1, 1, 1])
    assert held_out(resolve_cv(None, X)) == [[0, 1], [2, 3]]


def test_name_of_a_coordinate_leaves_each_value_out():
    X, y = np.zeros((6, 2)), trials(run=[2, 2, 0, 0, 1, 1])
    assert held_out(resolve_cv("run", X, y)) == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ConfigError, match=r"one of \['run'\]"):
        resolve_cv("story", X, y)


def test_time_series_get_blocks_with_a_gap():
    X = xr.DataArray(np.zeros((2, 12)), dims=("unit", "time"))
    folds = resolve_cv(3, X, gap=1)
    assert folds[1][0].tolist() == [0, 1, 2, 9, 10, 11]


def test_groups_rule_numbers_and_the_default():
    groups = np.array([0, 1, 0, 1])
    assert held_out(resolve_cv(None, np.zeros((4, 1)), groups=groups)) == [[0, 2], [1, 3]]


def test_splitters_ours_and_theirs():
    X = trials(stimulus_id=list("abcabc"), run=[0, 0, 0, 1, 1, 1])
    stimuli = X.stimulus_id.values
    assert held_out(resolve_cv(GroupSplit(), X, groups=stimuli)) == [[0, 1, 2], [3, 4, 5]]  # by="run" is meant
    assert held_out(resolve_cv(StimulusSplit(3), X)) == [[0, 3], [1, 4], [2, 5]]
    assert held_out(resolve_cv(ContiguousSplit(2), X, groups=stimuli)) == [[0, 1, 2], [3, 4, 5]]
    assert sorted(held_out(resolve_cv(GroupKFold(3), X, groups=stimuli))) == [[0, 3], [1, 4], [2, 5]]
    assert held_out(resolve_cv(KFold(2), X.T)) == [[0, 1, 2], [3, 4, 5]]  # samples are not the first axis
    assert len(resolve_cv(StratifiedKFold(2), np.zeros((4, 1)), np.array([0, 0, 1, 1]))) == 2


def test_pairs_of_indices_or_masks():
    pairs = [([0, 1], [2, 3]), (np.array([False, False, True, True]), np.array([True, True, False, False]))]
    assert held_out(resolve_cv(pairs, np.zeros((4, 1)))) == [[2, 3], [0, 1]]


@pytest.mark.parametrize(
    "cv",
    [
        1,
        True,
        2.5,
        [],
        [([0, 1], [1, 2])],
        [([0, 1], [])],
        [([0, 1], [7])],
        [([0, -1], [2])],
        [([0.5], [2])],
        [[0, 1, 2]],
        ["ab"],
    ],
)
def test_refusals(cv):
    with pytest.raises(ConfigError):
        resolve_cv(cv, np.zeros((4, 1)))


def test_shuffled_time_warns():
    X = xr.DataArray(np.zeros((60, 2)), dims=("time", "unit"))
    with pytest.warns(NeuroalignWarning, match="shuffle a time series"):
        resolve_cv(KFold(3, shuffle=True, random_state=0), X)
    resolve_cv(KFold(3), X)


def test_mapping_of_feature_spaces():
    X = {"a": trials(run=[0, 0, 1, 1]), "b": trials(run=[0, 0, 1, 1])}
    assert held_out(resolve_cv(None, X)) == [[0, 1], [2, 3]]
