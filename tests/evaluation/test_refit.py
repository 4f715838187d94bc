"""The refitted permutation test where it is easily wrong: sparse responses, clusters, supervised steps, sessions."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from neuroalign.encoding import RidgeEncoder
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.evaluation import cross_validate, noise_ceiling
from neuroalign.evaluation.refit import arrangements, separable
from neuroalign.preprocess import Delayer, Labelled, Standardizer


def test_arrangements_that_cannot_be_scored_count_as_high():
    hits = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal((30, 3)), np.zeros((30, 1))
        y[np.arange(5) * 6 + rng.integers(0, 6, 5)] = 1  # one event a fold: most arrangements leave a fold without any
        result = cross_validate(
            Ridge(10.0), X, y, cv=5, test="shuffle", scorer="r", n_permutations=39, random_state=seed
        )
        hits += bool(result.p.values[0] <= 0.2)
    assert hits <= stats.binom.ppf(0.999, 20, 0.2)


def test_clusters_are_not_broken_up():
    hits = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(12), 8)
        X, y = (rng.standard_normal((12, k))[group] + rng.standard_normal((96, k)) for k in (3, 1))
        result = cross_validate(
            Ridge(1.0), X, y, groups=group, cv=4, test="permutation", n_permutations=39, scorer="r", random_state=seed
        )
        hits += bool(result.p.values[0] <= 0.05)
    assert hits <= stats.binom.ppf(0.999, 40, 0.05)


def test_nothing_is_exchanged_between_groups():
    within = np.repeat([0, 1], 6)
    for order in arrangements("shuffle", 10, np.random.default_rng(0), units=np.arange(12), runs=None, within=within):
        assert (within[order] == within).all()


def test_no_shift_of_a_run_comes_again_before_all_were_there():
    runs = np.repeat([0, 1, 2], [20, 12, 1])
    orders = arrangements("circular", 39, np.random.default_rng(0), units=np.arange(33), runs=runs)
    orders = np.stack(list(orders))
    first, second = -orders[:, 0] % 20, -(orders[:, 20] - 20) % 12
    for order, one, other in zip(orders, first, second, strict=True):
        moved = np.concatenate([np.roll(np.arange(20), one), 20 + np.roll(np.arange(12), other), [32]])
        np.testing.assert_array_equal(order, moved)
    # After the first round the data as they are count as one shift of 20, and of 12.
    assert sorted(first[:19]) == [*range(1, 20)]
    assert np.bincount(first).tolist() == [1, *[2] * 19]
    assert np.bincount(second[:35]).tolist() == [2, *[3] * 11]


def test_all_shifts_of_a_single_run_give_an_exact_p():
    rng = np.random.default_rng(0)
    X, y = (np.convolve(rng.standard_normal(43), np.ones(4), "valid")[:, None] for _ in range(2))
    X, y = (xr.DataArray(v, dims=("time", "unit"), coords={"time": np.arange(40.0)}) for v in (X, y))
    halves = np.arange(20), np.arange(20, 40)
    options = {"cv": [halves, halves[::-1]], "scorer": "r"}
    result = cross_validate(Ridge(1.0), X, y, test="circular", n_permutations=39, random_state=0, **options)
    scores = [cross_validate(Ridge(1.0), X, y.copy(data=np.roll(y, k, 0)), **options).score.item() for k in range(40)]
    np.testing.assert_allclose(result.p, np.mean([score >= scores[0] - 1e-9 for score in scores]))


def test_only_steps_that_ignore_the_responses_are_shared():
    assert separable(RidgeEncoder())
    assert separable(make_pipeline(Standardizer(), Delayer([0, 1]), RidgeEncoder()))
    assert not separable(make_pipeline(Labelled(SelectKBest(f_regression, k=2)), RidgeEncoder()))
    assert not separable(make_pipeline(SelectKBest(f_regression, k=2), RidgeEncoder()))
    assert not separable(RidgeEncoder(alpha_per_target=False))
    assert not separable(Ridge())


def test_a_ceiling_of_another_score_is_refused():
    rng = np.random.default_rng(0)
    ids = np.repeat([f"s{k}" for k in range(20)], 2)
    along = {"stimulus_id": ("trial", ids), "trial": np.arange(40)}
    X = xr.DataArray(np.repeat(rng.standard_normal((20, 2)), 2, 0), dims=("trial", "unit"), coords=along)
    y = xr.DataArray(X.values + rng.standard_normal((40, 2)), dims=("trial", "voxel"), coords=along)
    with pytest.raises(ConfigError, match="another score"):
        cross_validate(RidgeEncoder(), X, y, scorer="r", ceiling=noise_ceiling(y, random_state=0))
    cross_validate(RidgeEncoder(), X, y, scorer="r", ceiling=noise_ceiling(y, scorer="r", random_state=0))


def sessions(order=("a", "b"), step=1, n=60):
    time = np.concatenate([np.arange(n) * step / 10.0] * len(order))
    coords = {"time": time, "run": ("time", ["1"] * len(time)), "session": ("time", np.repeat(list(order), n))}
    values = np.random.default_rng(0).standard_normal((len(time), 2))
    return xr.DataArray(values, dims=("time", "unit"), coords=coords, attrs={"sfreq": 10.0})


def test_sessions_are_compared_too():
    with pytest.raises(AlignmentError, match="session"):
        RidgeEncoder().fit(sessions(), sessions(("b", "a")).rename(unit="voxel"))


def test_groups_reach_the_inner_folds_of_a_pipeline(monkeypatch):
    seen = []
    fit = RidgeEncoder._fit

    def spy(self, X, Y, samples, groups):
        seen.append(None if groups is None else np.asarray(groups))
        return fit(self, X, Y, samples, groups)

    monkeypatch.setattr(RidgeEncoder, "_fit", spy)
    X = sessions("abcd")
    cross_validate(make_pipeline(Standardizer(), RidgeEncoder()), X, X.rename(unit="voxel"), groups="session", cv=2)
    assert len(seen) == 2
    assert all(groups is not None for groups in seen)


def test_a_decimated_clock_is_refused_by_time_models():
    with pytest.raises(SchemaError, match="sample by sample"):
        Delayer([0, 1]).fit_transform(sessions(step=2))
