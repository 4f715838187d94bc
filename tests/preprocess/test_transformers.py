"""Labelled transformers: scikit-learn's contract, labels, run edges, slow references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuroalign import load_model, schema
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.preprocess import BandEnvelope, Delayer, HRFConvolver, Labelled, Standardizer, hrf_kernel

ORDER_MATTERS = {
    "check_methods_sample_order_invariance": "samples are points in time, whose order matters",
    "check_methods_subset_invariance": "samples are points in time, whose neighbours matter",
}


@parametrize_with_checks(
    [
        Standardizer(),
        Standardizer(with_mean=False),
        Delayer(),
        HRFConvolver(sfreq=0.5),
        BandEnvelope(20, 40, sfreq=100.0),
        Labelled(StandardScaler()),
        Labelled(PCA(1)),
    ],
    expected_failed_checks=lambda e: ORDER_MATTERS if isinstance(e, Delayer | HRFConvolver | BandEnvelope) else {},
)
def test_scikit_learn_contract(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def features(n: int = 24, units: int = 3, *, runs: int = 2, sfreq: float = 0.5, seed: int = 0) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    each = n // runs
    return xr.DataArray(
        rng.normal(3, 2, (n, units)),
        dims=("time", "unit"),
        coords={
            "time": np.tile(schema.time_index(each, sfreq), runs),
            "run": ("time", np.repeat([f"{r + 1:02d}" for r in range(runs)], each).astype(object)),
            "unit": [f"u{i}" for i in range(units)],
        },
        attrs={"sfreq": sfreq, "units": "a.u."},
    )


# Standardizer


def test_standardizer_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    X, new = rng.normal(5, 3, (50, 4)), rng.normal(0, 1, (7, 4))
    for mean in (True, False):
        for std in (True, False):
            ours = Standardizer(with_mean=mean, with_std=std).fit(X)
            theirs = StandardScaler(with_mean=mean, with_std=std).fit(X)
            np.testing.assert_allclose(ours.transform(new), theirs.transform(new), rtol=1e-12)
            np.testing.assert_allclose(ours.inverse_transform(ours.transform(new)), new)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, -1e-30])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_constant_features_become_zero_quietly(value: float, kind: type) -> None:
    X = np.column_stack([np.full(1001, value), np.arange(1001)]).astype(kind)
    out = Standardizer().fit_transform(X)
    assert out.dtype == kind
    np.testing.assert_array_equal(out[:, 0], 0)


def test_standardizer_by_run_uses_each_run_alone() -> None:
    x = features(24, runs=3)
    out = Standardizer(by="run").fit(x.isel(time=slice(8))).transform(x)
    for run in np.unique(x["run"]):
        part = out.values[x["run"].values == run]
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(part.std(axis=0), 1)
    assert out.attrs["units"] == "z"
    assert out["run"].identical(x["run"])
    with pytest.raises(ConfigError, match="session"):
        Standardizer(by="session").fit(x)
    with pytest.raises(ConfigError, match="without labels"):
        Standardizer(by="run").fit(x.values)
    with pytest.raises(ConfigError, match="undone"):
        Standardizer(by="run").fit(x).inverse_transform(x)


def test_standardizer_keeps_all_labels_and_several_dims() -> None:
    x = xr.DataArray(
        np.random.default_rng(0).normal(size=(5, 2, 3)),
        dims=("channel", "trial", "time"),
        coords={"channel": list("abcde"), "stimulus_id": ("trial", ["cat", "dog"])},
    )
    out = Standardizer().fit_transform(x)
    assert out.dims == ("trial", "channel", "time")
    assert out["channel"].values.tolist() == list("abcde")
    assert out["stimulus_id"].values.tolist() == ["cat", "dog"]
    assert schema.history(out)["steps"][-1]["step"] == "Standardizer"
    back = Standardizer().fit(x).inverse_transform(out)
    np.testing.assert_allclose(back.transpose(*x.dims).values, x.values)


def test_nan_and_other_features_are_refused() -> None:
    x = features()
    with pytest.raises(SchemaError, match="NaN"):
        Standardizer().fit(x.where(x > 0))
    with pytest.raises(AlignmentError, match="unit"):
        Standardizer().fit(x).transform(x.assign_coords(unit=["a", "b", "c"]))


# Labelled


def test_labels_survive_a_scaler() -> None:
    x = features()
    out = Labelled(StandardScaler()).fit_transform(x)
    np.testing.assert_allclose(out.values, StandardScaler().fit_transform(x.values))
    assert set(out.coords) == set(x.coords)
    assert out["unit"].values.tolist() == ["u0", "u1", "u2"]


def test_selected_features_keep_their_labels() -> None:
    x = features(40, 5).assign_coords(layer=("unit", ["c1", "c1", "c2", "c2", "c3"]))
    y = xr.DataArray(2 * x.values[:, 3] - 2 * x.values[:, 1], dims="time", coords={"time": x["time"], "run": x["run"]})
    out = Labelled(SelectKBest(f_regression, k=2)).fit(x, y).transform(x)
    assert out["unit"].values.tolist() == ["u1", "u3"]
    assert out["layer"].values.tolist() == ["c1", "c2"]


def test_new_features_get_new_labels() -> None:
    x = features(30, 3)
    out = Labelled(PCA(3)).fit_transform(x)
    assert out["unit"].values.tolist() == ["pca0", "pca1", "pca2"]
    assert "units" in out.attrs
    assert Labelled(FunctionTransformer(np.abs)).fit_transform(x).dims == ("time", "unit")


def test_labelled_takes_sparse_output_and_refuses_lost_samples() -> None:
    x = np.array([[0], [1], [2]])
    assert Labelled(OneHotEncoder()).fit_transform(x).shape == (3, 3)
    with pytest.raises(SchemaError, match="changes the samples"):
        Labelled(FunctionTransformer(lambda v: v[1:])).fit_transform(x)
    with pytest.raises(ConfigError, match="no transformer"):
        Labelled("pca").fit(x)


def test_labelled_in_a_pipeline() -> None:
    x = features(30, 4)
    out = make_pipeline(Standardizer(), Labelled(PCA(2)), Delayer((0, 1))).fit_transform(x)
    assert out.dims == ("time", "lag", "unit")
    assert out["run"].identical(x["run"])


# Delayer


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    delays=st.lists(st.integers(-4, 4), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 9),
)
def test_delays_equal_the_obvious_loop(lengths: list[int], delays: list[int], seed: int) -> None:
    n = sum(lengths)
    values = np.random.default_rng(seed).normal(size=(n, 2))
    run = np.repeat(np.arange(len(lengths)), lengths)
    start = np.concatenate([np.arange(m) for m in lengths])
    x = xr.DataArray(values, dims=("time", "unit"), coords={"time": start / 2.0, "run": ("time", run)})
    out = Delayer(delays).fit_transform(x.assign_attrs(sfreq=2.0))
    expected = np.zeros((n, len(delays), 2))
    for t in range(n):
        for d, delay in enumerate(delays):
            if 0 <= t - delay < n and run[t - delay] == run[t]:
                expected[t, d] = values[t - delay]
    np.testing.assert_array_equal(out.values, expected)
    assert out["lag"].values.tolist() == delays
    if len(lengths) == 1:
        np.testing.assert_array_equal(Delayer(delays).fit_transform(values), expected.reshape(n, -1))


def test_delays_in_seconds_and_across_gaps() -> None:
    x = features(12, 1, runs=1, sfreq=0.5)
    seconds = Delayer((0, 2.0, 4.0), units="s").fit(x)
    assert seconds.lags_.tolist() == [0, 1, 2]
    assert seconds.transform(x)["lag"].values.tolist() == [0, 2, 4]
    gap = x.isel(time=[0, 1, 2, 6, 7])
    assert Delayer((1,)).fit_transform(gap).values.ravel()[3] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delays": (0.5,)}, "whole numbers"),
        ({"delays": ()}, "No delays"),
        ({"delays": (1, 1)}, "different"),
        ({"delays": (1.0,), "units": "s"}, "multiples of 1 / sfreq"),
        ({"delays": (1,), "units": "ms"}, "Unknown unit"),
    ],
)
def test_wrong_delays_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Delayer(**options).fit(features())


def test_time_transformers_refuse_trials() -> None:
    x = xr.DataArray(np.ones((4, 3)), dims=("trial", "unit"))
    for transformer in (Delayer(), HRFConvolver(sfreq=0.5)):
        with pytest.raises(SchemaError, match="not points in time"):
            transformer.fit(x)


# HRFConvolver


def test_convolution_equals_the_obvious_loop_within_runs() -> None:
    x = features(60, 3, runs=3)
    out = HRFConvolver("glover").fit_transform(x)
    kernel = hrf_kernel("glover", 0.5)
    for run in range(3):
        rows = slice(20 * run, 20 * run + 20)
        for unit in range(3):
            expected = np.convolve(x.values[rows, unit], kernel)[:20]
            np.testing.assert_allclose(out.values[rows, unit], expected, atol=1e-12)
    assert out.dims == x.dims
    assert out["run"].identical(x["run"])


def test_many_taps_give_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 2))
    out = HRFConvolver(sfreq=20.0).fit_transform(x)
    kernel = hrf_kernel("spm", 20.0)
    np.testing.assert_allclose(out[:, 0], np.convolve(x[:, 0], kernel)[:1000], atol=1e-10)


def test_sampling_rate_is_needed_and_compared() -> None:
    with pytest.raises(ConfigError, match="needs the sampling rate"):
        HRFConvolver().fit(np.ones((5, 1)))
    with pytest.raises(ConfigError, match="1 / TR, not TR"):
        HRFConvolver(sfreq=2.0).fit(features())


def test_fitted_transformers_are_saved(tmp_path: Path) -> None:
    x = features()
    for n, transformer in enumerate((Standardizer(), Delayer((0, 2)), HRFConvolver("glover"))):
        transformer.fit(x).save(tmp_path / f"{n}")
        xr.testing.assert_equal(load_model(tmp_path / f"{n}").transform(x), transformer.transform(x))
