from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist

from neuroalign.errors import ConfigError, NeuroalignWarning, SchemaError
from neuroalign.rsa import _distances, conditions, rdm, reorder, square


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def trials(rng, n_conditions=6, n_runs=4, n_repeats=2, n_channels=7, n_times=3):
    n = n_conditions * n_runs * n_repeats
    ids = np.tile([f"s{i}" for i in range(n_conditions)], n_runs * n_repeats).astype(object)
    return xr.DataArray(
        rng.normal(size=(n, n_channels, n_times)),
        dims=("trial", "channel", "time"),
        coords={
            "stimulus_id": ("trial", ids),
            "run": ("trial", np.repeat(np.arange(n_runs), n_conditions * n_repeats)),
            "time": np.arange(n_times) / 100,
        },
        attrs={"units": "V"},
    )


def slow_crossnobis(x, labels, runs, precision):
    """Loop over pairs of conditions and pairs of runs, weighting differences by the inverse of their noise."""
    names, out = sorted(set(labels)), []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            differences, weights = [], []
            for run in sorted(set(runs)):
                one, two = x[(labels == a) & (runs == run)], x[(labels == b) & (runs == run)]
                if len(one) and len(two):
                    differences.append(one.mean(0) - two.mean(0))
                    weights.append(1 / (1 / len(one) + 1 / len(two)))
            above = below = 0.0
            for r in range(len(differences)):
                for s in range(len(differences)):
                    if r != s:
                        above += weights[r] * weights[s] * (differences[r] @ precision @ differences[s])
                        below += weights[r] * weights[s]
            out.append(above / below / x.shape[1] if below else np.nan)
    return np.array(out)


@pytest.mark.parametrize("method", ["euclidean", "sqeuclidean", "correlation", "cosine"])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_plain_distances_agree_with_scipy(rng, method, offset):
    x = rng.normal(size=(12, 9)) + offset
    np.testing.assert_allclose(rdm(x, method=method), pdist(x, method), rtol=1e-9, atol=1e-12)


def test_mahalanobis_agrees_with_scipy(rng):
    x, a = rng.normal(size=(8, 5)), rng.normal(size=(20, 5))
    covariance = a.T @ a / 20
    expected = pdist(x, "mahalanobis", VI=np.linalg.inv(covariance)) ** 2 / 5
    np.testing.assert_allclose(rdm(x, method="mahalanobis", noise=covariance), expected)
    variances = np.diag(covariance)
    np.testing.assert_allclose(
        rdm(x, method="mahalanobis", noise=variances), pdist(x / np.sqrt(variances), "sqeuclidean") / 5
    )


def test_float32_stays_and_is_close(rng):
    x = rng.normal(size=(30, 50)).astype(np.float32) + 10
    found = rdm(x, method="correlation")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pdist(x, "correlation"), atol=2e-5)
    assert rdm(x.astype(np.int16)).dtype.kind == "f"


def test_labelled_trials_are_averaged_and_times_kept(rng):
    x = trials(rng)
    found = rdm(x, method="correlation")
    assert found.dims == ("time", "pair")
    assert conditions(found).tolist() == [f"s{i}" for i in range(6)]
    means = x.groupby("stimulus_id").mean("trial").transpose("time", "stimulus_id", "channel").values
    for i in range(3):
        np.testing.assert_allclose(found[i], pdist(means[i], "correlation"))
    assert found.attrs["n_channels"] == 7
    assert found.attrs["cross_validated"] == 0
    assert found["time"].values.tolist() == x["time"].values.tolist()


def test_order_of_trials_does_not_matter(rng):
    x = trials(rng)
    shuffled = x.isel(trial=rng.permutation(x.sizes["trial"]))
    for method in ("euclidean", "crossnobis"):
        xr.testing.assert_allclose(rdm(x, method=method), rdm(shuffled, method=method))


def test_stimuli_keep_their_order_and_meet_by_label(rng):
    names = np.array(["dog", "cat", "car", "ant"], dtype=object)
    x = xr.DataArray(rng.normal(size=(4, 3, 5)), {"stimulus": names}, ("stimulus", "token", "unit"))
    found = rdm(x)
    assert conditions(found).tolist() == names.tolist()
    np.testing.assert_allclose(found, pdist(x.values.reshape(4, 15)))
    xr.testing.assert_allclose(reorder(rdm(x.sortby("stimulus")), names), found)


@pytest.mark.parametrize(("units", "squared"), [("V", "V^2"), ("T/m", "(T/m)^2"), ("1", "1")])
def test_units_are_stated(rng, units, squared):
    x = trials(rng).assign_attrs(units=units)
    assert rdm(x, method="euclidean").attrs["units"] == units
    assert rdm(x, method="sqeuclidean").attrs["units"] == squared
    assert rdm(x, method="correlation").attrs["units"] == "1"
    assert rdm(x, method="crossnobis").attrs["units"] == squared
    assert rdm(x, method="crossnobis", noise="ledoit_wolf").attrs["units"] == "1"


def test_default_is_cross_validated_when_runs_repeat_the_conditions(rng):
    x = trials(rng)
    assert rdm(x).attrs["method"] == "crossnobis"
    assert rdm(x.drop_vars("run")).attrs["method"] == "euclidean"
    one_run = x.assign_coords(run=("trial", np.repeat(np.arange(x.sizes["trial"] // 48 + 1), 48)[: x.sizes["trial"]]))
    assert rdm(one_run).attrs["method"] == "euclidean"


def test_invalid_trials_are_left_out(rng):
    x = trials(rng)
    valid = rng.random(x.sizes["trial"]) > 0.2
    broken = x.where(xr.DataArray(valid, dims="trial")).assign_coords(valid=("trial", valid))
    xr.testing.assert_allclose(rdm(broken), rdm(x.isel(trial=valid)))


def test_balanced_crossnobis_agrees_with_the_loop(rng):
    x = trials(rng)
    found = rdm(x, method="crossnobis", folds="run")
    for i in range(3):
        slow = slow_crossnobis(x.values[..., i], x["stimulus_id"].values, x["run"].values, np.eye(7))
        np.testing.assert_allclose(found[i], slow)


def test_unbalanced_crossnobis_agrees_with_the_loop(rng):
    x = trials(rng, n_times=1)[..., 0].isel(trial=rng.random(48) > 0.35)
    a = rng.normal(size=(30, 7))
    covariance = a.T @ a / 30
    found = rdm(x, method="crossnobis", folds="run", noise=covariance)
    slow = slow_crossnobis(x.values, x["stimulus_id"].values, x["run"].values, np.linalg.inv(covariance))
    np.testing.assert_allclose(found, slow)


def test_both_ways_of_crossnobis_agree_on_balanced_data(rng):
    means, counts = rng.normal(size=(5, 9, 11)), np.full((5, 9), 3)
    np.testing.assert_allclose(_distances._balanced(means, counts), _distances._unbalanced(means, counts))


def test_crossnobis_agrees_with_rsatoolbox(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_module = pytest.importorskip("rsatoolbox.data")
        from rsatoolbox.rdm import calc_rdm
    x = trials(rng, n_times=1)[..., 0]
    a = rng.normal(size=(30, 7))
    covariance = a.T @ a / 30
    dataset = data_module.Dataset(
        x.values, obs_descriptors={"stim": x["stimulus_id"].values.tolist(), "run": x["run"].values.tolist()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = calc_rdm(
            dataset, "crossnobis", descriptor="stim", noise=np.linalg.inv(covariance), cv_descriptor="run"
        )
        plain = calc_rdm(dataset, "correlation", descriptor="stim")
    np.testing.assert_allclose(rdm(x, method="crossnobis", noise=covariance), theirs.dissimilarities[0])
    np.testing.assert_allclose(rdm(x, method="correlation"), plain.dissimilarities[0])


@pytest.mark.parametrize("noise", [None, "diagonal", "ledoit_wolf"])
@pytest.mark.parametrize("balanced", [True, False])
def test_crossnobis_is_unbiased_on_noise_with_run_offsets(noise, balanced):
    rng, means = np.random.default_rng(1), []
    for _ in range(30):
        x = trials(rng, n_conditions=8, n_runs=3, n_repeats=3, n_channels=5, n_times=1)[..., 0]
        x = x + xr.DataArray(5 * rng.normal(size=(3, 5))[x["run"].values], dims=("trial", "channel"))
        if not balanced:
            x = x.isel(trial=np.r_[0:8, 12:72])  # whole and part repeats are gone
        found = rdm(x, method="crossnobis", folds="run", noise=noise)
        assert (found < 0).any()
        means.append(float(found.mean()))
    error = np.std(means) / np.sqrt(len(means))
    assert abs(np.mean(means)) < 3.5 * error


def test_crossnobis_finds_the_true_distance():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(6, 20))
    means = truth + rng.normal(size=(1500, 3, 6, 20))  # (repetition, fold, condition, channel)
    found = _distances.crossnobis(means, np.ones((3, 6), dtype=int))
    expected = pdist(truth, "sqeuclidean") / 20
    error = found.std(0) / np.sqrt(1500)
    assert (np.abs(found.mean(0) - expected) < 4.5 * error).all()


def test_time_resolved_equals_one_time_after_the_other(rng):
    x = trials(rng, n_times=4)
    covariance = np.diag(rng.random(7) + 0.5)
    whole = rdm(x, method="crossnobis", noise=covariance)
    for i in range(4):
        np.testing.assert_allclose(whole[i], rdm(x.isel(time=i), method="crossnobis", noise=covariance))
    np.testing.assert_allclose(rdm(x, dim="time").sizes["channel"], 7)


def test_pairs_that_never_share_two_runs_are_nan(rng):
    x = trials(rng, n_times=1)[..., 0]
    keep = (x["stimulus_id"] != "s0") | (x["run"] == 0)
    with pytest.warns(NeuroalignWarning, match="5 of 15 pairs.*'s0' and 's1'"):
        found = rdm(x.isel(trial=keep.values), method="crossnobis")
    matrix = square(found)
    assert np.isnan(matrix.sel(condition="s0").drop_sel(condition_2="s0")).all()
    assert np.isfinite(matrix.drop_sel(condition="s0", condition_2="s0")).all()


@pytest.mark.parametrize("method", ["correlation", "cosine"])
def test_constant_pattern_is_nan_with_one_warning(rng, method):
    x = rng.normal(size=(5, 8))
    x[2] = 0.1 if method == "correlation" else 0.0
    expected = pdist(np.delete(x, 2, 0), method)
    with pytest.warns(NeuroalignWarning, match=r"Constant pattern.*\[2\]") as caught:
        found = rdm(x, method=method)
    assert len(caught) == 1
    assert np.isnan(found).sum() == 4
    np.testing.assert_allclose(found[np.isfinite(found)], expected)


@pytest.mark.parametrize("method", ["euclidean", "sqeuclidean", "correlation", "cosine"])
def test_missing_values_harm_only_their_condition(rng, method):
    x = rng.normal(size=(2, 5, 8))
    x[1, 3, 2] = np.nan
    with pytest.warns(NeuroalignWarning, match="Missing values"):
        found = rdm(x, method=method)
    np.testing.assert_allclose(found[0], pdist(x[0], method))
    assert np.isnan(found[1]).sum() == 4
    np.testing.assert_allclose(found[1][np.isfinite(found[1])], pdist(np.delete(x[1], 3, 0), method))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "euclid"}, ConfigError, "Unknown dissimilarity"),
        ({"method": "mahalanobis"}, ConfigError, "need the noise"),
        ({"method": "crossnobis", "folds": "block"}, SchemaError, "No coordinate 'block'"),
        ({"method": "correlation", "noise": "diagonal"}, ConfigError, "no effect"),
        ({"method": "crossnobis", "noise": "oas"}, ConfigError, "noise estimator"),
        ({"method": "crossnobis", "noise": np.eye(3)}, SchemaError, "Wrong size"),
        ({"condition": "colour"}, SchemaError, "which condition"),
        ({"dim": "voxel"}, SchemaError, "dim="),
        ({"dim": []}, SchemaError, "features"),
        ({"condition": ["a", "b"]}, SchemaError, "Wrong number of labels"),
    ],
)
def test_wrong_options_are_refused(rng, options, error, message):
    with pytest.raises(error, match=message):
        rdm(trials(rng), **options)


def test_unlabelled_or_unfit_data_are_refused(rng):
    with pytest.raises(SchemaError, match="which condition"):
        rdm(trials(rng).drop_vars("stimulus_id"))
    with pytest.raises(SchemaError, match="sample dimension"):
        rdm(xr.DataArray(np.zeros((2, 2)), dims=("a", "b")))
    with pytest.raises(ConfigError, match="need folds"):
        rdm(rng.normal(size=(4, 3)), method="crossnobis")
    with pytest.raises(ConfigError, match="no coordinates to name"):
        rdm(rng.normal(size=(4, 3)), condition="stimulus_id")
    with pytest.raises(SchemaError, match="two folds"):
        rdm(rng.normal(size=(4, 3)), folds=[0, 0, 0, 0])
    with pytest.raises(SchemaError, match="two conditions"):
        rdm(rng.normal(size=(4, 3)), condition=["a"] * 4)
    with pytest.raises(SchemaError, match="not numbers"):
        rdm(np.array([["a", "b"], ["c", "d"]]))


def test_plain_arrays_with_conditions_and_folds(rng):
    x = trials(rng, n_times=1)[..., 0]
    found = rdm(x.values, condition=x["stimulus_id"].values, folds=x["run"].values)
    np.testing.assert_allclose(found, rdm(x))
