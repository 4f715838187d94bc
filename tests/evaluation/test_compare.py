import warnings

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.signal import lfilter
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, RepeatedKFold
from sklearn.pipeline import make_pipeline

from neuroalign.encoding import BandedRidgeEncoder, RidgeEncoder
from neuroalign.errors import AlignmentError, ConfigError, NeuroalignWarning, SchemaError
from neuroalign.evaluation import bootstrap_compare, compare_models, cross_validate, select_model
from neuroalign.evaluation.compare import _halvings, _inflation, _units, compare_procedures, prepare
from neuroalign.evaluation.cross_validate import _held_out, _plan
from neuroalign.preprocess import Delayer


class Plain(BaseEstimator):
    """Ridge without an intercept, in two lines."""

    def __init__(self, penalty=5):
        self.penalty = penalty

    def fit(self, X, y):
        self.coef_ = np.linalg.solve(X.T @ X + self.penalty * np.eye(X.shape[1]), X.T @ y)
        return self

    def predict(self, X):
        return X @ self.coef_


def data(seed=0, n=48, n_targets=3, noise=2.0):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 3))
    a, b = (latent + rng.standard_normal((n, 3)) for _ in range(2))
    return a, b, latent @ rng.standard_normal((3, n_targets)) + noise * rng.standard_normal((n, n_targets))


def weighted_score(y, p, w, scorer):
    if scorer == "r":
        return [np.corrcoef(np.repeat(u, w), np.repeat(v, w))[0, 1] for u, v in zip(y.T, p.T, strict=True)]
    y, p = np.repeat(y, w, axis=0), np.repeat(p, w, axis=0)
    if scorer == "ev":
        return 1 - np.var(y - p, axis=0) / np.var(y, axis=0)
    return 1 - np.square(y - p).sum(axis=0) / np.square(y - y.mean(axis=0)).sum(axis=0)


def difference_and_variance(y, a, b, fold, block, scorer):
    """Every sample is counted twice, and those of one block once."""

    def score(counts):
        each = [
            np.subtract(*(weighted_score(y[fold == f], p[fold == f], counts[fold == f], scorer) for p in (a, b)))
            for f in np.unique(fold)
        ]
        return np.mean(each, axis=0)

    whole, variance = score(np.full(len(y), 2)), 0
    for f in np.unique(fold):
        members = np.unique(block[fold == f])
        n = len(members)
        lowered = np.stack([score(np.where(block == k, 1, 2)) for k in members])
        added = 2 * (lowered.mean(axis=0) - lowered) * (n - 0.5) / n
        variance = variance + n / (n - 1) * np.square(added).sum(axis=0)
    return whole, variance


@pytest.mark.parametrize("scorer", ["r2", "r", "ev"])
def test_the_variance_is_the_slow_obvious_one(scorer):
    a, b, y = data(n_targets=6)
    y[:, 3:] = np.random.default_rng(5).standard_normal((48, 3))
    block, folds = np.arange(48) // 2, list(KFold(3).split(y))
    options = {"cv": folds, "scorer": scorer, "random_state": 4}
    out = compare_models((Ridge(), a), (Ridge(2.0), b), y, blocks=block, n_halvings=3, level=0.9, **options)
    stratum, unit = _units(block, _plan(a, y, folds, None, None, 0), y)

    def predicted(alpha, X, rows):
        made = np.full(y.shape, np.nan)
        for train, test in folds:
            inside, outside = np.intersect1d(train, rows), np.intersect1d(test, rows)
            made[outside] = Ridge(alpha).fit(X[inside], y[inside]).predict(X[outside])
        return made[rows]

    def compared(rows, scorer=scorer):
        """All samples together; but for R2 less the means of their folds, which costs degrees of freedom."""
        arrays, fold = (y[rows], predicted(1.0, a, rows), predicted(2.0, b, rows)), stratum[rows]
        lost = 1.0
        if scorer != "r2":
            arrays = [x - np.stack([x[fold == f].mean(axis=0) for f in range(3)])[fold] for x in arrays]
            lost = len(rows) / (len(rows) - 3)
        d, v = difference_and_variance(*arrays, np.zeros(len(rows)), block[rows], scorer)
        return d, v * lost

    between, within, loss = 0, 0, 0
    for halves in _halvings(stratum, unit, 3, np.random.default_rng(4)):
        (d1, v1), (d2, v2) = (compared(rows) for rows in halves)
        between, within = between + (d1 - d2) ** 2 / 2, within + (v1 + v2) / 2
        loss = loss + sum(compared(rows, "r2")[1] for rows in halves) / 2
    everything = np.arange(48)
    (difference, fixed), (_, whole_loss) = (compared(everything, each) for each in (scorer, "r2"))
    guesses = predicted(1.0, a, everything), predicted(2.0, b, everything)
    if scorer == "r":
        difference, by_fold = difference_and_variance(y, *guesses, stratum, block, "r")
        fixed = (fixed + by_fold) / 2
    ratio = between / within
    r = np.mean([weighted_score(y[s], g[s], 1, "r") for g in guesses for s in (stratum == f for f in range(3))], axis=0)
    signal = r * np.sqrt(24) > 2
    left = np.clip(loss / 3 / (4 * whole_loss), 0.5, 1.5)
    left = np.where(signal, left, 1.3 if scorer == "r" else 0.8)
    left = np.where(ratio > 1, left, np.minimum(left, 1))
    assert 0 < signal.sum() < 6
    variance = (1 + left * (ratio - 1)) * fixed
    np.testing.assert_allclose(out.difference, difference)
    np.testing.assert_allclose(out.inflation, variance / fixed)
    freedom = 1 / ((left * ratio * fixed / variance) ** 2 / 3 + 1 / (24 - 1))
    assert 0.5 < left.min() < 0.9
    np.testing.assert_allclose(out.p, 2 * stats.t.sf(np.abs(difference) / np.sqrt(variance), freedom))
    half = stats.t.ppf(0.95, freedom) * np.sqrt(variance)
    np.testing.assert_allclose(out.ci, [difference - half, difference + half])
    np.testing.assert_allclose(out.score_a - out.score_b, difference)
    if scorer != "ev":
        found = [cross_validate(Ridge(k), X, y, cv=folds, scorer=scorer) for k, X in ((1.0, a), (2.0, b))]
        scores = [one.score if scorer == "r" else one.data.score_pooled for one in found]
        np.testing.assert_allclose([out.score_a, out.score_b], scores)


def test_inflation_takes_off_no_more_than_was_found():
    ratio, part = np.array([0.5, 0.5, 1.0, 2.0, 2.0, 0.0]), np.array([1.5, 0.5, 0.7, 0.5, 1.5, 1.0])
    inflation, freedom = _inflation(ratio, part, 20, 99)
    np.testing.assert_allclose(inflation, [0.5, 0.75, 1.0, 1.5, 2.5, 0.0])
    share = np.array([1.0, 0.25 / 0.75, 0.7, 1 / 1.5, 3 / 2.5, 1.0])
    np.testing.assert_allclose(freedom, 1 / (share**2 / 20 + 1 / 99))


@pytest.mark.parametrize("scorer", ["r2", "r"])
def test_neighbours_in_time_widen_the_interval(scorer):
    rng = np.random.default_rng(3)
    n = 400
    steps = rng.standard_normal((n, 4)), rng.standard_normal((n, 4)), rng.standard_normal((n, 30))
    a, b, noise = (lfilter([1.0], [1.0, -0.8], one, axis=0) for one in steps)
    y = (a + b) @ rng.standard_normal((4, 30)) + 4 * noise
    options = {"cv": 4, "n_halvings": 2, "random_state": 0, "scorer": scorer}
    followed = compare_models((Plain(), a), (Plain(), b), y, blocks=5, **options)
    alone = compare_models((Plain(), a), (Plain(), b), y, blocks=np.arange(n) // 5, **options)
    np.testing.assert_allclose(followed.difference, alone.difference)
    assert (np.diff(followed.ci.values, axis=0) > 1.1 * np.diff(alone.ci.values, axis=0)).all()


def test_halves_keep_blocks_and_repeats_whole_and_folds_in_balance():
    rng = np.random.default_rng(0)
    stimulus = rng.permutation(np.repeat(np.arange(30), 2))
    y = xr.DataArray(rng.standard_normal((60, 2)), dims=("trial", "voxel"), coords={"stimulus_id": ("trial", stimulus)})
    plan = _plan(y, y, 3, None, None, 0)
    stratum, unit = _units(3, plan, y)
    assert all(len(np.unique(unit[stimulus == s])) == 1 for s in range(30))
    for halves in _halvings(stratum, unit, 5, rng):
        np.testing.assert_array_equal(np.sort(np.concatenate(halves)), np.arange(60))
        assert not np.intersect1d(unit[halves[0]], unit[halves[1]]).size
        per_fold = [[len(np.unique(unit[rows][stratum[rows] == f])) for f in range(3)] for rows in halves]
        assert np.abs(np.subtract(*per_fold)).max() <= 1
        assert abs(np.subtract(*map(len, halves))) <= 6
    drawn = [tuple(one) for one, _ in _halvings(stratum, unit, 5, rng)]
    assert len(set(drawn)) > 1


def test_what_training_adds_is_left_where_nothing_is_learned():
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((160, 4))
    a, b = (latent + rng.standard_normal((160, 4)) for _ in range(2))
    useless, useful = rng.standard_normal((2, 160, 40))
    useful += 2 * latent @ rng.standard_normal((4, 40))
    y = np.hstack([useless, useful])
    plan = _plan(a, y, 4, None, None, 0)
    for penalty in (5, 1000):  # strong penalties shrink errors of weights as well
        pair = [
            lambda rows, folds, X=X, penalty=penalty: _held_out(Plain(penalty), X[rows], y[rows], folds, "serial")
            for X in (a, b)
        ]
        whole, known, measured = (
            compare_procedures(pair, y, plan, prepare(plan, y, None, 1, 8, 0.95, 0), scorer="r", left=left)
            for left in (100.0, 0.8, None)  # where training takes something off, 1 is left at most
        )
        more = np.isfinite(whole.inflation.values) & (whole.inflation.values > 1)
        share = [((one.inflation.values - 1) / (whole.inflation.values - 1) * 100) for one in (known, measured)]
        useless, useful = more & (np.arange(80) < 40), more & (np.arange(80) >= 40)
        assert useless.sum() > 20
        assert np.mean(share[1][useless] > 1.29) > 0.9
        assert np.median(share[1][useful]) < 0.7
        # Of a choice 0.8 is left where there is signal.
        assert np.mean(np.isclose(share[0][useless], 1.3)) > 0.9
        assert np.mean(np.isclose(share[0][useful], 0.8)) > 0.9


def test_it_holds_its_level_where_fixed_models_do_not():
    ours, fixed = [], []
    for seed in range(40):
        a, b, y = data(seed, n=60, n_targets=8, noise=4.0)
        out = compare_models((Plain(), a), (Plain(), b), y, cv=3, scorer="r", n_halvings=10, random_state=seed)
        ours.append(out.p <= 0.05)
        held = [cross_validate(Plain(), X, y, cv=3, scorer="r").data for X in (a, b)]
        guesses = [one["prediction"].values for one in held]
        options = {"folds": held[0]["fold_id"].values, "scorer": "r", "random_state": seed}
        fixed.append(bootstrap_compare(held[0]["observed"].values, *guesses, **options).p <= 0.05)
    assert 0.01 < np.mean(ours) < 0.08
    assert np.mean(fixed) > 0.1


def test_a_better_model_is_found_in_labelled_data():
    a, _, _ = data(n=80)
    y = a @ np.array([[1.0, 0, 1], [0, 1, 1], [1, 1, 0]]) + np.random.default_rng(2).standard_normal((80, 3))
    ids = {"stimulus_id": ("stimulus", [f"s{k}" for k in range(80)]), "run": ("stimulus", np.arange(80) // 5)}
    other = np.random.default_rng(1).standard_normal(a.shape)
    X, Z = (xr.DataArray(v, dims=("stimulus", "unit"), coords=ids) for v in (a, other))
    targets = xr.DataArray(y, dims=("stimulus", "voxel"), coords=ids | {"voxel": list("abc")})
    models = (RidgeEncoder(), X), (RidgeEncoder(), Z)
    out = compare_models(*models, targets, cv=4, blocks="run", n_halvings=10, random_state=0)
    assert (out.p < 0.01).all()
    assert (out.ci.sel(bound="low") > 0).all()
    assert out.voxel.values.tolist() == ["a", "b", "c"]
    again = compare_models(*models, targets, cv=4, blocks="run", n_halvings=10, random_state=0)
    xr.testing.assert_equal(out, again)


def test_one_split_and_targets_that_cannot_be_scored():
    a, b, y = data(n=60)
    y[:, 1], y[3, 2] = 2.0, np.nan
    split = [(np.arange(30), np.arange(30, 60))]
    out = compare_models((Ridge(), a), (Ridge(), b), y, cv=split, n_halvings=4, random_state=0)
    assert np.isfinite(out.p[0])
    assert np.isnan(out.p[1:]).all()
    assert np.isnan(out.ci[:, 1:]).all()


def test_the_same_model_twice_has_no_interval():
    a, _, y = data()
    out = compare_models((Ridge(), a), (Ridge(), a), y, cv=3, n_halvings=2)
    assert (out.difference == 0).all()
    assert (out.p == 1).all()
    assert np.isnan(out.ci).all()


def test_constant_predictions_are_compared_without_roundoff():
    a, _, y = data(n=60)
    for scorer in ("r", "ev"):
        pair = (DummyRegressor(), a), (DummyRegressor(strategy="median"), a)
        out = compare_models(*pair, y + 3, cv=3, scorer=scorer, n_halvings=4, random_state=0)
        np.testing.assert_allclose(out.difference, 0, atol=1e-12)
        assert (out.p == 1).all()
        assert np.isnan(out.inflation).all()
    far, near = (
        compare_models((Ridge(), a), (DummyRegressor(), a), y + shift, cv=3, scorer="r", n_halvings=4, random_state=0)
        for shift in (3, 0)
    )
    np.testing.assert_allclose(far.p, near.p)


def test_refusals():
    a, b, y = data(n=24)
    models = (Ridge(), a), (Ridge(), b)
    for options, error, message in (
        ({"cv": 3, "blocks": 8}, ConfigError, "halved"),
        ({"cv": 8}, ConfigError, "halved"),
        ({"cv": [(np.arange(12), np.arange(12, 24))], "blocks": 4}, ConfigError, "halved"),
        ({"cv": 3, "blocks": np.repeat(np.arange(6), [1, 7] * 3)}, ConfigError, "halved"),
        ({"cv": RepeatedKFold(n_splits=3, n_repeats=2)}, ConfigError, "held out more than once"),
        ({"cv": 3, "blocks": 0}, ConfigError, "number of samples"),
        ({"cv": 3, "blocks": np.arange(5)}, SchemaError, "one label a sample"),
        ({"cv": 3, "n_halvings": 1}, ConfigError, "halvings"),
        ({"cv": 3, "level": 95}, ConfigError, "coverage"),
        ({"cv": 3, "n_halvings": 3.0}, ConfigError, "halvings"),
        ({"cv": 3, "scorer": "auc"}, ConfigError, "scorer"),
        ({"cv": [(np.arange(3), np.arange(3, 13)), (np.arange(13), np.arange(13, 24))]}, ConfigError, "trained on"),
    ):
        with pytest.raises(error, match=message):
            compare_models(*models, y, **options)
    with pytest.raises(ConfigError, match="different scores"):
        compare_models((RidgeEncoder(scorer="r"), a), (RidgeEncoder(), b), y)


def test_samples_in_no_fold_need_no_halves():
    a, b, y = data(n=50)
    folds = [(np.arange(24), np.arange(24, 48)), (np.arange(24, 48), np.arange(24))]
    options = {"cv": folds, "n_halvings": 3, "random_state": 0}
    more = compare_models((Ridge(), a), (Ridge(), b), y, **options)
    less = compare_models((Ridge(), a[:48]), (Ridge(), b[:48]), y[:48], **options)
    np.testing.assert_allclose(more.difference, less.difference)
    assert np.isfinite(more.p).all()


def test_labels_of_either_model_count():
    a, b, y = data(n=40)
    ids = np.array([f"s{k}" for k in range(40)])
    labelled, turned = (
        xr.DataArray(v, dims=("stimulus", "unit"), coords={"stimulus": names})
        for v, names in ((a, ids), (b, ids[::-1]))
    )
    for one, other in ((labelled, turned), (turned, labelled)):
        with pytest.raises(AlignmentError, match="features of a and those of b differ in stimulus"):
            compare_models((Ridge(), one), (Ridge(), other), y)
    targets = xr.DataArray(y, dims=("stimulus", "voxel"), coords={"stimulus": ids})
    banded = BandedRidgeEncoder(n_iter=2, random_state=0)
    for spaces in ({"p": labelled, "q": turned}, {"p": turned, "q": labelled}, {"p": labelled, "q": labelled[:30]}):
        with pytest.raises(AlignmentError, match=r"[pq] and y"):
            cross_validate(banded, spaces, targets)
        with pytest.raises(AlignmentError, match=r"[pq] and y"):
            compare_models((banded, spaces), (banded, spaces), targets)
    twice = xr.DataArray(b, dims=("trial", "unit"), coords={"stimulus_id": ("trial", ids.repeat(2)[:40])})
    split = [(np.arange(0, 40, 2), np.arange(1, 40, 2))]
    for pair in (((Ridge(), a), (Ridge(), twice)), ((Ridge(), twice), (Ridge(), a))):
        with pytest.raises(AlignmentError, match="training and in test"):
            compare_models(*pair, y, cv=split)


def test_blocks_may_be_named_by_labels_of_either_features():
    a, b, y = data(n=60)
    run = np.repeat(np.arange(12), 5)
    labelled = xr.DataArray(b, dims=("trial", "unit"), coords={"block": ("trial", run)})
    options = {"cv": 2, "n_halvings": 3, "random_state": 0}
    named = compare_models((Ridge(), a), (Ridge(), labelled), y, blocks="block", **options)
    xr.testing.assert_equal(named, compare_models((Ridge(), a), (Ridge(), b), y, blocks=run, **options))


def test_the_delays_of_either_model_are_left_out():
    a, b, y = (xr.DataArray(v, dims=("time", dim)) for v, dim in zip(data(n=120), ("u", "u", "voxel"), strict=True))
    a, b, y = (v.assign_coords(time=np.arange(120) / 10).assign_attrs(sfreq=10.0) for v in (a, b, y))
    late = make_pipeline(Delayer([0, 1, 2, 3, 4]), RidgeEncoder(alphas=[10.0]))
    options = {"cv": 3, "n_halvings": 3, "random_state": 0, "blocks": 5}
    one = compare_models((late, a), (RidgeEncoder(alphas=[10.0]), b), y, **options)
    other = compare_models((RidgeEncoder(alphas=[10.0]), b), (late, a), y, **options)
    np.testing.assert_allclose(one.difference, -other.difference)
    np.testing.assert_allclose(one.p, other.p)


def test_halves_that_are_too_small_are_named():
    a, b, y = (np.repeat(v, 2, axis=0) for v in data(n=8))
    ids = np.repeat(np.arange(8), 2)
    X = {"one": a, "two": b}
    with pytest.raises(ConfigError, match="half of the samples") as refused:
        select_model(Ridge(), X, y, rival={"one": b, "two": a}, cv=2, inner=2, repeats=ids, n_halvings=2)
    assert "fewer folds" in str(refused.value)


def test_single_samples_of_a_time_series_are_warned_of():
    a, b, y = (xr.DataArray(v, dims=("time", dim)) for v, dim in zip(data(n=80), ("u", "u", "voxel"), strict=True))
    options = {"cv": 2, "n_halvings": 2, "random_state": 0}
    with pytest.warns(NeuroalignWarning, match="neighbours in time"):
        compare_models((Ridge(), a), (Ridge(), b), y, **options)
    results = [cross_validate(Ridge(), X, y, cv=2) for X in (a, b)]
    with pytest.warns(NeuroalignWarning, match="neighbours in time") as told:
        results[0].compare(results[1], random_state=0)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare_models((Ridge(), a), (Ridge(), b), y, blocks=10, **options)
        results[0].compare(results[1], blocks=10)
