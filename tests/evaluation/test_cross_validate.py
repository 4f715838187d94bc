import os
import signal

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuroalign.compute import get_executor
from neuroalign.encoding import RidgeEncoder
from neuroalign.errors import AlignmentError, ConfigError, NeuroalignError, NeuroalignWarning, SchemaError
from neuroalign.evaluation import ContiguousSplit, cross_validate, noise_ceiling
from neuroalign.evaluation.refit import arrangements
from neuroalign.schema import history


class Remember(RegressorMixin, BaseEstimator):
    """Predicts the mean of the training responses and keeps what it was given."""

    seen: list = []

    def fit(self, X, y, groups=None):
        self.mean_ = np.mean(y, axis=0)
        type(self).seen.append((type(X), np.shape(X), np.shape(y), None if groups is None else np.asarray(groups)))
        return self

    def predict(self, X):
        return np.broadcast_to(self.mean_, (len(X), *np.shape(self.mean_))).copy()


@pytest.fixture(autouse=True)
def forget():
    Remember.seen = []


def trials(seed=0, n_stimuli=60, n_repeats=3, noise=2.0):
    """EEG-like epochs: the first ten of twenty (channel, time) targets follow the features."""
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"s{i}" for i in range(n_stimuli)], n_repeats)
    features, weights = rng.standard_normal((n_stimuli, 6)), rng.standard_normal((6, 20))
    weights[:, 10:] = 0
    y = np.repeat(features @ weights, n_repeats, axis=0) + noise * rng.standard_normal((len(ids), 20))
    order = rng.permutation(len(ids))
    along = {"stimulus_id": ("trial", ids[order]), "trial": np.arange(len(ids))}
    X = xr.DataArray(np.repeat(features, n_repeats, 0)[order], dims=("trial", "unit"), coords=along)
    sites = {"channel": list("abcd"), "x": ("channel", np.arange(4.0)), "time": np.arange(5) / 10}
    y = xr.DataArray(y[order].reshape(-1, 4, 5), dims=("trial", "channel", "time"), coords=along | sites)
    return X, y.assign_attrs(units="V", sfreq=10.0, tmin=0.0).transpose("channel", "trial", "time")


def series(seed=0, n=400):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    y = X @ rng.standard_normal((3, 4)) * [1, 1, 0, 0] + 2 * rng.standard_normal((n, 4))
    along = {"time": np.arange(n) / 10, "run": ("time", np.arange(n) * 4 // n)}
    X = xr.DataArray(X, dims=("time", "unit"), coords=along, attrs={"sfreq": 10.0})
    y = xr.DataArray(y.T, dims=("roi", "time"), coords=along | {"roi": list("abcd")}, attrs={"sfreq": 10.0})
    return X, y


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 5)), rng.standard_normal((60, 3))
    y[:, 0] += X[:, 0]
    result = cross_validate(Ridge(), X, y, cv=5)
    assert result.score.dims == ("target",)
    for t in range(3):
        theirs = cross_val_score(Ridge(), X, y[:, t], cv=KFold(5), scoring="r2")
        np.testing.assert_allclose(result.data.fold_score[:, t], theirs)
        np.testing.assert_allclose(result.score[t], theirs.mean())
    one = cross_validate(Ridge(), X, y[:, 0], cv=5)
    assert one.score.shape == (1,)
    np.testing.assert_allclose(one.score[0], result.score[0])


def test_a_pipeline_of_scikit_learn_takes_labelled_data():
    X, y = trials()
    result = cross_validate(make_pipeline(StandardScaler(), RidgeCV()), X, y)
    assert result.score.dims == ("channel", "time")
    assert (result.score[:2] > result.score[2:].max()).all()


def test_averages_of_repeats_are_scored():
    X, y = trials()
    result = cross_validate(LinearRegression(), X, y, cv=4, groups="stimulus_id", repeats="stimulus_id")
    ids, flat = y.stimulus_id.values, y.transpose("trial", ...).values.reshape(180, 20)
    expected = []
    for fold in range(4):
        # folds hold stimuli in order of first appearance, dealt by size; take them from the result
        held = result.data.stimulus_id.values[result.data.fold_id.values == fold]
        test = np.isin(ids, held)
        guess = LinearRegression().fit(X.values[~test], flat[~test]).predict(X.values[test])
        mean, mean_guess = (np.stack([v[ids[test] == s].mean(0) for s in held]) for v in (flat[test], guess))
        expected.append(1 - np.square(mean - mean_guess).sum(0) / np.square(mean - mean.mean(0)).sum(0))
    np.testing.assert_allclose(result.score.values.ravel(), np.mean(expected, axis=0))
    single = cross_validate(LinearRegression(), X, y, cv=4, repeats=False)
    assert (single.score[:2] < result.score[:2]).all()
    assert single.data.prediction.dims == ("trial", "channel", "time")


def test_a_perfect_model_reaches_the_ceiling():
    X, y = trials(n_stimuli=240, n_repeats=4, noise=2.0)
    for scorer in ("r2", "r"):
        result = cross_validate(LinearRegression(), X, y, cv=3, ceiling="explainable_variance", scorer=scorer)
        np.testing.assert_allclose(result.normalised[:2], 1, atol=0.25)
        assert abs(result.normalised[:2].mean() - 1) < 0.03


def test_the_ceiling_is_for_what_was_averaged():
    X, y = trials(n_repeats=4)
    options = {"ceiling": "explainable_variance"}
    average = cross_validate(Ridge(), X, y, **options).ceiling
    xr.testing.assert_allclose(average, noise_ceiling(y, method="explainable_variance"))
    single = cross_validate(Ridge(), X, y, repeats=False, **options).ceiling
    xr.testing.assert_allclose(single, noise_ceiling(y, method="explainable_variance", level="single"))
    given = cross_validate(Ridge(), X, y, ceiling=average)
    xr.testing.assert_allclose(given.normalised, given.score / average.where(average >= 0.05))


def refitted(X, y, orders, **options):
    """The slow obvious version: cross-validate every arrangement by itself."""
    dim = "trial" if "trial" in y.dims else "time"
    null = []
    for order in orders:
        moved = y.copy(data=y.isel({dim: order}).transpose(*y.dims).values)
        null.append(cross_validate(Ridge(), X, moved, **options).score.values)
    return np.array(null)


def test_true_effects_are_significant_and_others_are_not():
    X, y = trials()
    result = cross_validate(RidgeEncoder(), X, y, test="permutation", n_permutations=199, random_state=0)
    assert result.significant[:2].all()
    assert result.significant[2:].sum() <= 1
    assert (result.p_fwer >= result.p).all()
    assert (result.q >= result.p).all()


def test_every_arrangement_goes_through_the_whole_cross_validation():
    X, y = trials(n_stimuli=20)
    result = cross_validate(Ridge(), X, y, test="permutation", n_permutations=30, random_state=0)
    rng = np.random.default_rng(0).spawn(2)[1]
    null = refitted(X, y, arrangements("shuffle", 30, rng, units=pd.factorize(y["stimulus_id"].values)[0], runs=None))
    np.testing.assert_allclose(result.p, ((null >= result.score.values - 1e-9).sum(0) + 1) / 31)
    np.testing.assert_allclose(result.data.null_max, null.max(axis=(1, 2)))


def test_targets_fitted_side_by_side_give_the_same_as_one_by_one(monkeypatch):
    X, y = trials(n_stimuli=20)
    options = {"test": "permutation", "n_permutations": 12, "random_state": 0}
    together = cross_validate(RidgeEncoder(), X, y, **options)
    monkeypatch.setattr("neuroalign.evaluation.refit.BATCH_BYTES", 1)
    np.testing.assert_allclose(together.p, cross_validate(RidgeEncoder(), X, y, **options).p)


def test_repeats_of_a_stimulus_move_together():
    units = np.array([0, 0, 1, 1, 2, 3, 3])
    with pytest.warns(NeuroalignWarning, match="1 of 4 stimuli"):
        orders = list(arrangements("shuffle", 20, np.random.default_rng(0), units=units, runs=None))
    for order in orders:
        assert sorted(order) == list(range(7))
        assert order[4] == 4  # no other stimulus was shown once
        for first in (0, 2, 5):
            assert units[order[first]] == units[order[first + 1]]


@pytest.mark.parametrize("seed", [1, 2])
def test_p_of_cross_validated_scores_is_uniform_by_chance(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((40, 5)), rng.standard_normal((40, 400))
    p = cross_validate(RidgeEncoder(), X, y, test="permutation", n_permutations=99, random_state=seed).p.values
    for level in (0.05, 0.2, 0.5):
        low, high = stats.binom.interval(0.9999, p.size, level)
        assert low <= (p <= level).sum() <= high
    single = cross_validate(RidgeEncoder(), X, y, cv=[(np.arange(25), np.arange(25, 40))], test="shuffle").p.values
    low, high = stats.binom.interval(0.9999, p.size, 0.05)
    assert low <= (single <= 0.05).sum() <= high


def test_time_series_are_shifted_within_runs():
    X, y = series()
    result = cross_validate(Ridge(), X, y, test="permutation", n_permutations=60, random_state=0)
    assert result.data.attrs["n_folds"] == 4
    assert result.data.prediction.dims == ("time", "roi")
    assert result.significant.values.tolist() == [True, True, False, False]
    rng = np.random.default_rng(0).spawn(2)[1]
    runs = y["run"].values
    null = refitted(X, y, arrangements("circular", 60, rng, units=np.arange(400), runs=runs))
    np.testing.assert_allclose(result.p, ((null >= result.score.values - 1e-9).sum(0) + 1) / 61)
    with pytest.warns(NeuroalignWarning, match="p will be too small"):
        cross_validate(Ridge(), X, y, test="shuffle", n_permutations=9)


@pytest.mark.parametrize("scheme", ["circular", "block"])
def test_samples_stay_in_their_run(scheme):
    runs = np.repeat([0, 1], [30, 50])
    for order in arrangements(scheme, 10, np.random.default_rng(0), units=np.arange(80), runs=runs):
        assert sorted(order) == list(range(80))
        assert (runs[order] == runs).all()
        assert (order != np.arange(80)).any()


def test_nothing_learned_depends_on_the_held_out_samples():
    X, y = trials()
    train, test = np.arange(100), np.arange(100, 180)
    y = y.drop_vars("stimulus_id")
    X = X.drop_vars("stimulus_id")
    first = cross_validate(Ridge(), X, y, cv=[(train, test)])
    scrambled = y.copy()
    scrambled[:, test] = scrambled[:, test[::-1]].values
    second = cross_validate(Ridge(), X, scrambled, cv=[(train, test)])
    np.testing.assert_array_equal(first.data.prediction, second.data.prediction)


def test_neuroalign_estimators_get_labels_and_choose_inside():
    X, y = trials()
    result = cross_validate(RidgeEncoder(scorer="r"), X, y, ceiling="split_half_sb", random_state=0)
    assert result.data.attrs["scorer"] == "r"
    assert (result.score[:2] > 0.3).all()
    plain = cross_validate(RidgeCV(np.logspace(-3, 5, 30)), X, y, scorer="r")
    np.testing.assert_allclose(result.score[:2], plain.score[:2], atol=0.05)


@pytest.mark.filterwarnings("ignore:.*they get NaN scores:neuroalign.errors.NeuroalignWarning")
@pytest.mark.parametrize("estimator", [Ridge(), RidgeEncoder()])
def test_nan_and_constant_targets(estimator):
    X, y = trials()
    clean = cross_validate(
        estimator, X, y, test="permutation", ceiling="split_half_sb", n_permutations=20, random_state=0
    )
    y[1, 5, 2], y[2, :, 0] = np.nan, 3.3
    result = cross_validate(
        estimator, X, y, test="permutation", ceiling="split_half_sb", n_permutations=20, random_state=0
    )
    spoilt = np.zeros((4, 5), bool)
    spoilt[1, 2] = spoilt[2, 0] = True
    for name in ("score", "ceiling", "p", "q", "p_fwer", "normalised"):
        assert np.isnan(result.data[name].values[spoilt]).all()
    assert not result.significant.values[spoilt].any()
    assert result.data.attrs["n_nan_targets"] == 2
    np.testing.assert_allclose(result.score.values[~spoilt], clean.score.values[~spoilt], atol=1e-6)
    np.testing.assert_allclose(result.p.values[~spoilt], clean.p.values[~spoilt])


def test_same_seed_same_result_whatever_the_executor():
    X, y = trials(n_stimuli=20)
    options = {"test": "permutation", "ceiling": "split_half_sb", "n_permutations": 50, "random_state": 3}
    serial = cross_validate(Ridge(), X, y, **options).data
    with get_executor("processes", 1) as workers:
        xr.testing.assert_allclose(cross_validate(Ridge(), X, y, executor=workers, **options).data, serial, rtol=1e-6)
    other = cross_validate(Ridge(), X, y, **(options | {"random_state": 4})).data
    assert not np.array_equal(other.null_max, serial.null_max)


def test_groups_reach_fits_that_take_them():
    X, y = trials()
    cross_validate(Remember(), X, y)
    kind, shape, target_shape, groups = Remember.seen[0]
    assert (kind, shape, target_shape) == (np.ndarray, (144, 6), (144, 20))
    assert len(groups) == 144
    Remember.seen = []
    cross_validate(Remember(), X.values, y.transpose("trial", ...).values)
    assert Remember.seen[0][3] is None


def test_leaks_are_refused():
    X, y = trials()
    with pytest.raises(AlignmentError, match=r"same stimulus .* in training and in test"):
        cross_validate(Ridge(), X, y, cv=KFold(5))
    with pytest.raises(AlignmentError, match="same stimulus"):
        cross_validate(Ridge(), X, y, cv=[(np.arange(90), np.arange(90, 180))], groups="stimulus_id")
    cross_validate(Ridge(), X, y, cv=GroupKFold(5))
    days = np.arange(180) // 36
    with pytest.raises(AlignmentError, match="same group"):
        cross_validate(Ridge(), X, y, cv=ContiguousSplit(3), groups=days)
    with pytest.raises(AlignmentError, match="same stimuli are in training and in test"):
        cross_validate(Ridge(), X, y, groups=days)


def test_nan_in_features_is_named_before_anything_is_fitted():
    X, y = trials()
    X[5, 2] = np.nan
    with pytest.raises(SchemaError, match=f"trial 5 \\({X.stimulus_id.values[5]}\\)"):
        cross_validate(Ridge(), X, y)


def test_provenance_and_geometry():
    X, y = trials()
    data = cross_validate(Ridge(), X, y, random_state=7).data
    assert data.score.x.values.tolist() == [0, 1, 2, 3]
    assert (data.attrs["sfreq"], data.attrs["tmin"], data.score.attrs["units"]) == (10.0, 0.0, "1")
    step = history(data)["steps"][-1]
    assert (step["step"], step["seed"], step["estimator"]) == ("cross_validate", 7, "Ridge")


class Mortal(Ridge):
    """Takes its worker down where the first response says so."""

    def fit(self, X, y):
        if y[0, 0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)


def test_a_worker_that_dies_is_named_and_the_other_folds_end():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 2)), rng.standard_normal((20, 1))
    y[10, 0] = 0  # the first training sample of the fold that tests the first half
    with pytest.raises(NeuroalignError, match=r"died[\s\S]*fold 0; 1 of 2 fits"):
        cross_validate(Mortal(), X, y, cv=2, executor="processes")


class Crooked(Remember):
    def predict(self, X):
        return super().predict(X)[:, :2]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scorer": "auc"}, ConfigError, "scorer"),
        ({"ceiling": "best"}, ConfigError, "noise ceiling"),
        ({"ceiling": 0.5}, ConfigError, "ceiling"),
        ({"test": "t"}, ConfigError, "Unknown test"),
        ({"groups": "image"}, ConfigError, "No coordinate 'image'"),
        ({"groups": [1, 2]}, SchemaError, "one label a sample"),
        ({"cv": 60}, ConfigError, "single held-out sample"),
        ({"executor": "moon"}, ConfigError, "executor"),
        ({"repeats": False, "test": "permutation"}, ConfigError, "cannot be exchanged"),
    ],
)
def test_refusals(options, error, message):
    X, y = trials()
    with pytest.raises(error, match=message):
        cross_validate(Ridge(), X, y, **options)


def test_wrong_shapes_are_refused():
    X, y = trials()
    with pytest.raises(AlignmentError, match="number of samples"):
        cross_validate(Ridge(), X[:-1], y)
    with pytest.raises((SchemaError, ValueError), match="shape"):
        cross_validate(Crooked(), X, y)
    with pytest.raises(SchemaError, match="repeated presentations"):
        cross_validate(Ridge(), X.values, y.transpose("trial", ...).values, ceiling="split_half_sb")


def test_inputs_that_do_not_belong_together_are_refused():
    X, y = trials()
    with pytest.raises(AlignmentError, match="differ in stimulus_id"):
        cross_validate(Ridge(), X.isel(trial=slice(None, None, -1)), y)
    with pytest.raises(SchemaError, match=r"y\['eeg'\]"):
        cross_validate(Ridge(), X, y.to_dataset(name="eeg"))
    y[:, 3] = np.nan
    with pytest.raises(SchemaError, match="1 samples without any value"):
        cross_validate(Ridge(), X, y)
