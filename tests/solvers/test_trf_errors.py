"""Standard errors of response functions: against many data sets, and against refits of drawn segments."""

from __future__ import annotations

import numpy as np
import pytest

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.solvers import trf_cv, trf_errors

LAGS = range(-1, 4)
WEIGHTS = np.array([0.0, 1.0, 0.5, -0.5, 0.0])


def draw(rng, n_segments=12, n=150):
    """One smooth feature, and a target in slow noise, which neighbouring samples share."""
    xs, ys = [], []
    for _ in range(n_segments):
        x = np.convolve(rng.standard_normal(n + 8), np.ones(3), "same")
        noise = np.convolve(rng.standard_normal(n + 10), np.ones(10), "valid")[:n]
        y = sum(w * x[4 - lag : 4 - lag + n] for w, lag in zip(WEIGHTS, LAGS, strict=True)) + noise
        xs.append(x[4 : 4 + n, None])
        ys.append(y[:, None])
    return xs, ys


def fit(xs, ys, alpha):
    return trf_cv(xs, ys, lags=LAGS, alphas=[alpha], folds=[(np.arange(1, len(xs)), [0])]).coef


def test_spread_over_data_sets():
    rng = np.random.default_rng(0)
    sets = [draw(rng) for _ in range(120)]
    true = np.std([fit(*data, 10.0) for data in sets], axis=0, ddof=1)
    found = [trf_errors(*data, lags=LAGS, alphas=10.0, n_resamples=60, random_state=1) for data in sets[:20]]
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(found), axis=0)), true, rtol=0.2)


def test_refits_of_drawn_segments():
    xs, ys = draw(np.random.default_rng(0), n_segments=5)
    found = trf_errors(xs, ys, lags=LAGS, alphas=[3.0], n_resamples=25, random_state=7)
    rng, refits = np.random.default_rng(7), []
    nothing = np.array([[1e-3], [-1e-3]])  # a segment to be tested on; it moves the means a little
    for _ in range(25):
        drawn = rng.integers(5, size=5)
        refits.append(fit([np.zeros((2, 1)), *(xs[i] for i in drawn)], [nothing, *(ys[i] for i in drawn)], 3.0))
    np.testing.assert_allclose(found, np.std(refits, axis=0, ddof=1) * np.sqrt(5 / 4), rtol=0.02)
    again = trf_errors(xs, ys, lags=LAGS, alphas=[3.0], n_resamples=25, random_state=np.random.default_rng(7))
    np.testing.assert_array_equal(found, again)


def test_targets_that_were_not_learned():
    xs, ys = draw(np.random.default_rng(0), n_segments=4)
    ys = [np.concatenate([y, y * 0 + 2, y], axis=1) for y in ys]
    ys[1][3, 2] = np.nan
    found = trf_errors(xs, ys, lags=LAGS, alphas=[1.0, np.nan, 1.0], random_state=0)[:, 0]
    assert (found[:, 0] > 0).all()
    assert not found[:, 1].any()  # a constant target has no weights, whatever is drawn
    assert np.isnan(found[:, 2]).all()
    single = trf_errors([x.astype("f4") for x in xs], [y.astype("f4") for y in ys], lags=LAGS, alphas=1.0)
    assert single.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"n": 2}, SchemaError, "Too few segments"),
        ({"n_resamples": 1}, ConfigError, "number of draws"),
        ({"alphas": [1.0, 2.0]}, ConfigError, "one penalty"),
        ({"alphas": -1.0}, ConfigError, "one penalty"),
        ({"lags": [1, 3]}, ConfigError, "consecutive"),
    ],
)
def test_refusals(change, error, words):
    xs, ys = draw(np.random.default_rng(0), n_segments=change.pop("n", 4), n=20)
    with pytest.raises(error, match=words):
        trf_errors(xs, ys, **{"lags": LAGS, "alphas": 1.0, **change})
