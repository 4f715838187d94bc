"""Activation patterns, and decoders on simulated and real recordings."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuroalign.align import lagged
from neuroalign.datasets import PREPARE
from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.decoding.patterns import activation_patterns
from neuroalign.metrics import pearson_r
from neuroalign.preprocess import Resampler


def haufe(design: np.ndarray, coef: np.ndarray) -> np.ndarray:
    """Equation 6, densely: cov(x) W cov(s)^-1."""
    decoded = design @ coef
    return np.cov(design.T) @ coef @ np.linalg.inv(np.atleast_2d(np.cov(decoded.T)))


def mixed(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Channels that mix two signals and one strong distractor."""
    rng = np.random.default_rng(seed)
    signals, distractor = rng.normal(size=(n, 2)), 5 * rng.normal(size=(n, 1))
    mixing = rng.normal(size=(2, 6))
    x = signals @ mixing + distractor @ np.ones((1, 6)) + 0.3 * rng.normal(size=(n, 6)) + 100
    return x, signals, mixing


def test_patterns_of_a_ridge_decoder() -> None:
    x, signals, mixing = mixed()
    model = RidgeDecoder().fit(x, signals)
    np.testing.assert_allclose(model.patterns_, haufe(x, model.coef_), rtol=1e-8)
    np.testing.assert_allclose(model.patterns_, activation_patterns(x - x.mean(axis=0), model.coef_), rtol=1e-12)
    # patterns show how signals are mixed into channels; weights, busy with the distractor, do not
    by_pattern, by_weight = (np.corrcoef(v.ravel(), mixing.T.ravel())[0, 1] for v in (model.patterns_, model.coef_))
    assert by_pattern > 0.95
    assert by_pattern > by_weight
    one = RidgeDecoder().fit(x, signals[:, 0])
    assert one.patterns_.shape == one.coef_.shape == (6,)
    np.testing.assert_allclose(one.patterns_, haufe(x, one.coef_[:, None])[:, 0], rtol=1e-8)


def test_patterns_have_labels() -> None:
    x, signals, _ = mixed()
    ids = {"stimulus": np.arange(300)}
    brain = xr.DataArray(x.reshape(300, 3, 2), dims=("stimulus", "channel", "time"), coords=ids).assign_coords(
        channel=list("abc")
    )
    features = xr.DataArray(signals, dims=("stimulus", "unit"), coords=ids | {"unit": ["size", "colour"]})
    model = RidgeDecoder().fit(brain.transpose("time", "stimulus", "channel"), features)
    assert model.patterns_.dims == model.coef_.dims == ("time", "channel", "unit")
    assert model.patterns_["channel"].values.tolist() == list("abc")
    np.testing.assert_allclose(
        model.patterns_.transpose("channel", "time", "unit").values.reshape(6, 2),
        RidgeDecoder().fit(x, signals).patterns_,
        rtol=1e-6,
    )


def test_a_constant_signal_leaves_other_patterns_alone() -> None:
    x, signals, _ = mixed()
    usual = RidgeDecoder().fit(x, signals).patterns_
    with pytest.warns(UserWarning, match="constant"):
        model = RidgeDecoder().fit(x, np.column_stack([signals, np.ones(300)]))
    np.testing.assert_allclose(model.patterns_[:, :2], usual, rtol=1e-7)
    np.testing.assert_array_equal(model.patterns_[:, 2], 0)


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_patterns_of_a_trf_decoder(offset: float) -> None:
    rng = np.random.default_rng(0)
    run = np.repeat([0, 1, 2], [90, 140, 70])
    stimulus = rng.normal(size=(300, 2))
    x = lagged(stimulus, [2, 3], run) @ rng.normal(size=(4, 5)) + rng.normal(size=(300, 5)) + offset
    clock = {"time": np.concatenate([np.arange(90), np.arange(140), np.arange(70)]) / 20, "run": ("time", run)}
    brain, features = (xr.DataArray(v, dims=("time", d), coords=clock) for v, d in ((x, "channel"), (stimulus, "unit")))
    model = TRFDecoder(tmin=-0.05, tmax=0.25, alphas=[50.0]).fit(brain, features)
    lags = np.arange(-1, 6)
    design = lagged(x, (-lags).tolist(), run)
    weights = model.coef_.transpose("lag", "channel", "unit").values.reshape(-1, 2)
    np.testing.assert_allclose(model.predict(brain), design @ weights + model.intercept_.values, atol=1e-8)
    expected = haufe(design, weights).reshape(7, 5, 2)
    np.testing.assert_allclose(model.patterns_.transpose("lag", "channel", "unit"), expected, rtol=1e-6, atol=1e-9)
    strength = np.abs(model.patterns_).sum(("channel", "unit"))
    assert set(np.round(strength["lag"].values[np.argsort(strength.values)[-2:]], 6)) == {0.1, 0.15}


def test_the_decoder_looks_into_the_future_of_the_brain_only() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 2)), rng.normal(size=(100, 1))
    model = TRFDecoder(tmin=0.1, tmax=0.3, sfreq=10.0, alphas=[1.0]).fit(x, y)
    changed = x.copy()
    changed[50] += 10
    differ = np.flatnonzero(model.predict(changed)[:, 0] != model.predict(x)[:, 0])
    assert differ.tolist() == [47, 48, 49]


def test_the_attended_talker_is_reconstructed(real_data) -> None:
    tables = PREPARE["cocktail"](real_data("cocktail-party-eeg"))
    slow = Resampler(32.0)
    eeg = slow.fit_transform(tables["eeg"]["eeg"].isel(channel=slice(0, None, 4)).astype("f4"))
    attended, unattended = (slow.fit_transform(tables[name]) for name in ("attended", "unattended"))
    assert eeg.sizes["time"] == attended.sizes["time"] == 5 * 1920
    right = []
    for trial in range(1, 6):
        inside = attended["run"].values == trial
        train = {"time": ~inside}
        model = TRFDecoder(tmin=0.0, tmax=0.25, cv="run").fit(eeg.isel(train), attended.isel(train))
        guess = model.predict(eeg.isel(time=inside))
        assert guess.dims == ("time", "unit")
        r = [float(pearson_r(talker.values[inside], guess.values)[0]) for talker in (attended, unattended)]
        right.append(r[0] > r[1])
    assert sum(right) >= 4
