"""Hard numbers: steep spectra, large offsets, copied features; against dense float64 solutions of the same data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import KFold

from neuroalign.metrics import r2_score
from neuroalign.solvers import banded_ridge_cv, kernel_ridge_cv, ridge, ridge_cv, trf_cv


def dense(x, y, grid, folds):
    """Centred QR-free SVD path in float64; one decomposition a fold, all alphas."""
    x, y = x.astype("f8"), y.astype("f8")
    scores = []
    for train, test in folds:
        mean, offset = x[train].mean(axis=0), y[train].mean(axis=0)
        u, s, v = np.linalg.svd(x[train] - mean, full_matrices=False)
        b, rows = u.T @ (y[train] - offset), (x[test] - mean) @ v.T
        scores.append([r2_score(y[test], rows @ ((s / (s**2 + a))[:, None] * b) + offset) for a in grid])
    return np.mean(scores, axis=0)


def steep(n, p, t, dtype, offset=0.0, power=3.0, seed=0):
    """Features whose variances fall as k**-power in a hidden rotation; targets that use all of them."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((p, p)))[0]
    x = rng.standard_normal((n, p)) * np.arange(1, p + 1) ** (-power / 2) @ rotation
    y = x @ rotation.T @ rng.standard_normal((p, t)) + 0.3 * rng.standard_normal((n, t))
    return (x + offset * x.std()).astype(dtype), (y + offset).astype(dtype)


@pytest.mark.parametrize("shape", [(300, 60, 40), (120, 200, 40)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("f8", 1e-8), ("f4", 1e-5)])
@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("low", [-4, -9])
def test_steep_spectrum(shape, dtype, offset, tolerance, low):
    x, y = steep(*shape, dtype, offset)
    grid = np.logspace(low, 3, 15)
    folds = list(KFold(5).split(x))
    result = ridge_cv(x, y, alphas=grid, folds=folds)
    scores = dense(x, y, grid, folds)
    np.testing.assert_allclose(result.scores, scores, atol=tolerance)
    assert (result.alphas == grid[scores.argmax(axis=0)]).mean() >= 0.97


@pytest.mark.parametrize("n", [200, 30])
def test_copied_features_share_the_weight(n):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 10))
    y = x @ rng.standard_normal((10, 6)) + rng.standard_normal((n, 6))
    twice = np.c_[x, x, np.full(n, 0.1), x]  # and a constant one
    coef, _ = ridge(twice, y, alpha=1e-3)
    expected, _ = ridge(x, y, alpha=1e-3 / 3)
    for part in (coef[:10], coef[10:20], coef[21:]):
        np.testing.assert_allclose(part, expected / 3, atol=1e-9)
    assert not coef[20].any()
    folds = list(KFold(4).split(x))
    grid = np.logspace(-6, 3, 10)
    a, b = ridge_cv(twice, y, alphas=3 * grid, folds=folds), ridge_cv(x, y, alphas=grid, folds=folds)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-8)
    np.testing.assert_array_equal(a.alphas, 3 * b.alphas)


def test_constant_features_only():
    y = np.random.default_rng(0).standard_normal((20, 3))
    result = ridge_cv(np.full((20, 4), 0.1), y, alphas=[1e-30, 1.0], folds=list(KFold(4).split(y)))
    assert not result.coef.any()
    np.testing.assert_allclose(result.intercept, y.mean(axis=0))
    r = ridge_cv(np.full((20, 4), 0.1), y, alphas=[0.0, 1.0], folds=list(KFold(4).split(y)), scorer="r")
    np.testing.assert_array_equal(r.cv_scores, 0.0)


def test_zero_alpha_is_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 6)), rng.standard_normal((50, 3))
    x = np.c_[x, x[:, :2]]
    coef, intercept = ridge(x, y, alpha=0.0)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(coef, np.linalg.pinv(centred) @ (y - y.mean(axis=0)), atol=1e-10)
    np.testing.assert_allclose(x @ coef + intercept, centred @ coef + y.mean(axis=0), atol=1e-10)


def test_a_loud_run_does_not_drown_the_others():
    """Training statistics are all minus the excluded rows: a run 1000 times larger must cancel."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 5))
    x[60:] *= 1000
    y = x @ rng.standard_normal((5, 4)) + rng.standard_normal((80, 4))
    folds = list(KFold(4).split(x))
    grid = np.logspace(-2, 2, 5)
    np.testing.assert_allclose(ridge_cv(x, y, alphas=grid, folds=folds).scores, dense(x, y, grid, folds), rtol=1e-7)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
def test_targets_that_are_constant_in_a_fold(value, dtype, intercept):
    """A fold without variance has no score, however its mean is rounded; one with hardly any variance has."""
    rng = np.random.default_rng(0)
    n, half = 6000, np.arange(6000) < 3000
    X = rng.standard_normal((n, 5))
    y = (value + rng.standard_normal((n, 3))).astype(dtype)
    y[half, 1] = value
    y[half, 2] = value
    y[17, 2] += abs(value) * 1e-3 + 1e-3
    folds = [(~half, half), (half, ~half)]
    options = {"alphas": [1.0], "fit_intercept": intercept, "scorer": "r2"}
    both = ridge_cv(X.astype(dtype), y, folds=folds, **options).scores[0]
    known, unknown = (ridge_cv(X.astype(dtype), y, folds=[fold], **options).scores[0] for fold in (folds[1], folds[0]))
    assert np.isnan(unknown[1])
    assert np.isfinite(unknown[[0, 2]]).all()
    np.testing.assert_allclose(both[1], known[1], atol=1e-10 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("p", [1, 3, 60])
def test_features_that_vary_only_where_they_are_tested_predict_nothing(p, dtype):
    """Training statistics are then differences of equal numbers, whose rounding is no feature to learn from."""
    rng = np.random.default_rng(0)
    x, y = np.full((40, p), 0.3), rng.standard_normal((40, 5)).astype(dtype)
    x[:10] += 0.1 * rng.standard_normal((10, p))
    x, folds = x.astype(dtype), [(np.arange(10, 40), np.arange(10))]
    mean = 1 - np.square(y[:10] - y[10:].mean(axis=0)).sum(axis=0) / np.square(y[:10] - y[:10].mean(axis=0)).sum(axis=0)
    events = np.zeros((40, p))
    events[3:5] = rng.standard_normal((2, p))
    runs = [np.split(part, 4) for part in (events.astype(dtype), y)]
    for scorer, alpha, expected in (("r", 1e-3, 0.0), ("r2", 0.0, mean)):
        options = {"alphas": [alpha], "folds": folds, "scorer": scorer}
        for result in (
            ridge_cv(x, y, **options),
            banded_ridge_cv(x, y, bands=[0] * p, n_iter=1, **options),
            kernel_ridge_cv(x.astype("f8") @ x.T.astype("f8"), y, **options),
            trf_cv(*runs, lags=range(2), **options | {"folds": [([1, 2, 3], [0])]}),
        ):
            np.testing.assert_allclose(result.scores[0], expected, atol=1e-5)
