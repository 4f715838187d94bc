"""Leave-one-out and generalised cross-validation against the loop, the hat matrix and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut

from neuroalign.errors import ConfigError
from neuroalign.metrics import SCORERS, r2_score
from neuroalign.solvers import ridge_cv, ridge_loo

GRID = np.logspace(-2, 3, 6)


def data(n, p, t=5, dtype="f8", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) + 2
    y = x @ rng.standard_normal((p, t)) / np.sqrt(p) + 2 * rng.standard_normal((n, t)) + 7
    return x.astype(dtype), y.astype(dtype)


def left_out(x, y, alpha, intercept):
    """Every sample predicted by a model of the others."""
    predicted = np.empty_like(y)
    for train, test in LeaveOneOut().split(x):
        predicted[test] = (
            Ridge(alpha=alpha, fit_intercept=intercept, solver="svd").fit(x[train], y[train]).predict(x[test])
        )
    return predicted


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("scorer", [*SCORERS, r2_score])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("p", [4, 29, 30, 31, 80])
def test_loo_is_the_loop(p, intercept, scorer, dtype):
    x, y = data(30, p, dtype=dtype)
    result = ridge_cv(x, y, alphas=GRID, folds="loo", scorer=scorer, fit_intercept=intercept)
    score = SCORERS.get(scorer, scorer) if isinstance(scorer, str) else scorer
    wide = x.astype("f8"), y.astype("f8")
    expected = np.stack([score(wide[1], left_out(*wide, alpha, intercept)) for alpha in GRID])
    np.testing.assert_allclose(
        result.scores, expected, rtol=1e-8 if dtype == "f8" else 2e-4, atol=1e-8 if dtype == "f8" else 1e-5
    )
    if dtype == "f8":
        np.testing.assert_array_equal(result.alphas, GRID[expected.argmax(axis=0)])
        best = Ridge(alpha=result.alphas, fit_intercept=intercept, solver="svd").fit(x, y)
        np.testing.assert_allclose(result.coef, best.coef_.T, atol=1e-9)


@pytest.mark.parametrize("p", [6, 60])
@pytest.mark.parametrize("intercept", [True, False])
def test_gcv_is_the_formula(p, intercept):
    x, y = data(40, p)
    result = ridge_cv(x, y, alphas=GRID, folds="gcv", fit_intercept=intercept)
    xc, yc = (x - x.mean(axis=0), y - y.mean(axis=0)) if intercept else (x, y)
    spread = np.square(y - y.mean(axis=0)).sum(axis=0)
    for alpha, scores in zip(GRID, result.scores, strict=True):
        hat = xc @ np.linalg.solve(xc.T @ xc + alpha * np.eye(p), xc.T) + intercept / 40
        error = np.square(yc - hat @ yc).sum(axis=0) / (1 - np.trace(hat) / 40) ** 2
        np.testing.assert_allclose(scores, 1 - error / spread, atol=1e-9)
    single = ridge_cv(x.astype("f4"), y.astype("f4"), alphas=GRID, folds="gcv", fit_intercept=intercept)
    np.testing.assert_allclose(single.scores, result.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("p", [8, 70])
def test_ridge_cv_of_scikit_learn(p):
    x, y = data(50, p)
    peer = RidgeCV(alphas=GRID, alpha_per_target=True, store_cv_results=True).fit(x, y)
    mine = ridge_cv(x, y, alphas=GRID, folds="loo")
    np.testing.assert_array_equal(mine.alphas, peer.alpha_)
    np.testing.assert_allclose(mine.coef, peer.coef_.T, atol=1e-9)
    spread = np.square(y - y.mean(axis=0)).sum(axis=0)
    np.testing.assert_allclose(mine.scores, 1 - (peer.cv_results_.sum(axis=0) / spread[:, None]).T, atol=1e-8)


@pytest.mark.parametrize("folds", ["loo", "gcv"])
@pytest.mark.parametrize("p", [5, 50])
def test_bad_targets_and_tiles(folds, p):
    x, y = data(30, p)
    clean = ridge_cv(x, y, alphas=GRID, folds=folds)
    y[3, 1], y[:, 2] = np.nan, 4.0
    result = ridge_cv(x, y, alphas=GRID, folds=folds, tile=2)
    np.testing.assert_array_equal(np.isnan(result.cv_scores), [0, 1, 1, 0, 0])
    np.testing.assert_allclose(result.scores[:, [0, 3, 4]], clean.scores[:, [0, 3, 4]], atol=1e-10)
    assert not result.coef[:, 2].any()
    assert result.intercept[2] == 4.0
    shared = ridge_cv(x, y, alphas=GRID, folds=folds, alpha_per_target=False)
    assert np.unique(shared.alphas[[0, 3, 4]]).size == 1


def test_a_row_of_its_own_has_no_score_without_a_penalty():
    x, y = np.eye(6), np.arange(12.0).reshape(6, 2)
    result = ridge_cv(x, y, alphas=[0.0, 1.0], folds="loo", fit_intercept=False)
    assert np.isnan(result.scores[0]).all()
    assert np.isfinite(result.scores[1]).all()


@pytest.mark.parametrize("folds", ["loo", "gcv"])
def test_torch(folds):
    torch = pytest.importorskip("torch")
    for p in (4, 40):
        x, y = data(30, p)
        mine, tensors = (ridge_cv(a, b, alphas=GRID, folds=folds) for a, b in ((x, y), map(torch.from_numpy, (x, y))))
        np.testing.assert_allclose(tensors.scores.numpy(), mine.scores, atol=1e-10)
        np.testing.assert_allclose(tensors.coef.numpy(), mine.coef, atol=1e-10)


def test_refusals():
    x, y = data(10, 2)
    with pytest.raises(ConfigError, match="'loo' or 'gcv'"):
        ridge_cv(x, y, alphas=GRID, folds="runs")
    with pytest.raises(ConfigError, match="no predictions"):
        ridge_cv(x, y, alphas=GRID, folds="gcv", scorer="r")
    with pytest.raises(ConfigError, match="held-out folds"):
        ridge_cv(x, y, alphas=GRID, folds="loo", alpha_per_target="pooled")


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("p", [4, 29, 30, 80])
def test_predictions_of_left_out_samples_are_those_of_the_loop(p, intercept, dtype):
    x, y = data(30, p, dtype=dtype)
    y[:, 1], y[3, 2] = 3.0, np.nan
    alphas = np.logspace(-1, 3, 5)
    found = ridge_loo(x, y, alpha=alphas, fit_intercept=intercept)
    wide = x.astype("f8"), y.astype("f8")
    for k in (0, 1, 3, 4):
        expected = left_out(wide[0], wide[1][:, k : k + 1], alphas[k], intercept)[:, 0]
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-9 if dtype == "f8" else 1e-4, atol=1e-4)
    assert np.isnan(found[:, 2]).all()
    with pytest.raises(ConfigError, match="penalty"):
        ridge_loo(x, y, alpha=-1.0)
