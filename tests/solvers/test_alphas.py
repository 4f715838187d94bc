"""Converted penalties give the coefficients of the packages whose units they are in."""

from __future__ import annotations

import numpy as np
import pytest

from neuroalign.errors import ConfigError
from neuroalign.solvers import convert_alpha, ridge

UNITS = ["sklearn", "mne", "mtrf", "huth", "huth_normalised"]
OPTIONS = {"sfreq": 64.0, "n_trials": 3, "largest_singular_value": 7.0}


def trials(n_trials=1, n=200):
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((n, 2)) for _ in range(n_trials)]
    ys = [x @ rng.standard_normal((2, 3)) + rng.standard_normal((n, 3)) for x in xs]
    return xs, ys


@pytest.mark.parametrize("source", UNITS)
@pytest.mark.parametrize("target", UNITS)
def test_there_and_back(source, target):
    values = np.array([[0.0, 1e-3], [5.0, 1e6]])
    there = convert_alpha(values, source=source, target=target, **OPTIONS)
    assert there.shape == values.shape
    np.testing.assert_allclose(convert_alpha(there, source=target, target=source, **OPTIONS), values)
    if source == target:
        np.testing.assert_allclose(there, values)


@pytest.mark.parametrize("n_trials", [1, 3])
def test_mtrf(n_trials):
    mtrf = pytest.importorskip("mtrf")
    xs, ys = trials(n_trials)
    model = mtrf.TRF(direction=1)
    model.train(xs, ys, fs=64, tmin=0.0, tmax=0.0, regularization=2.0)
    alpha = convert_alpha(2.0, source="mtrf", target="sklearn", sfreq=64.0, n_trials=n_trials)
    coef, intercept = ridge(np.concatenate(xs), np.concatenate(ys), alpha=float(alpha))
    np.testing.assert_allclose(model.weights[:, 0] / 64, coef, atol=1e-9)
    np.testing.assert_allclose(model.bias.ravel() / 64, intercept, atol=1e-9)


def test_mne():
    mne = pytest.importorskip("mne")
    (x,), (y,) = trials()
    peer = mne.decoding.ReceptiveField(0.0, 0.0, 1.0, estimator=30.0, fit_intercept=True)
    with mne.use_log_level("error"):
        peer.fit(x[:, None], y[:, None])
    coef, _ = ridge(x, y, alpha=float(convert_alpha(30.0, source="mne", target="sklearn")))
    np.testing.assert_allclose(peer.coef_[..., 0].T, coef, atol=1e-9)


@pytest.mark.parametrize("unit", ["huth", "huth_normalised"])
def test_huth(unit):
    (x,), (y,) = trials()
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    u, s, v = np.linalg.svd(x, full_matrices=False)
    a = 0.3 * s[0] if unit == "huth_normalised" else 0.3
    expected = v.T @ ((s / (s**2 + a**2))[:, None] * (u.T @ y))  # singular values against the square of the penalty
    alpha = convert_alpha(0.3, source=unit, target="sklearn", largest_singular_value=s[0])
    np.testing.assert_allclose(ridge(x, y, alpha=float(alpha), fit_intercept=False)[0], expected, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "spm"}, "Unknown unit"),
        ({"target": "spm"}, "Unknown unit"),
        ({"source": "mtrf"}, "sfreq"),
        ({"source": "mtrf", "sfreq": 64.0, "n_trials": 0}, "n_trials"),
        ({"target": "huth_normalised"}, "largest_singular_value"),
        ({"alpha": -1.0}, "Not penalties"),
        ({"alpha": np.nan}, "Not penalties"),
    ],
)
def test_refusals(change, words):
    options = {"alpha": 1.0, "source": "sklearn", "target": "huth"} | change
    with pytest.raises(ConfigError, match=words):
        convert_alpha(options.pop("alpha"), **options)
