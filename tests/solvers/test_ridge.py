"""ridge and ridge_cv against scikit-learn, himalaya and the loop that they replace."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import SCORERS
from neuroalign.solvers import banded_ridge_cv, default_alphas, kernel_ridge_cv, pls_cv, ridge, ridge_cv, trf_cv

GRID = np.logspace(-2, 4, 9)


def data(n, p, t, seed=0, dtype="f8", noise=3.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) + 3
    y = x @ rng.standard_normal((p, t)) / np.sqrt(p) * 3 + noise * rng.standard_normal((n, t)) + 5
    return x.astype(dtype), y.astype(dtype)


def kfold(n, k=4, seed=None):
    return list(KFold(k, shuffle=seed is not None, random_state=seed).split(np.zeros(n)))


def the_loop(x, y, grid, folds, scorer, intercept=True):
    """Every fold, every alpha, scikit-learn's SVD solution in float64: slow and obvious."""
    x, y = x.astype("f8"), y.astype("f8")
    score = SCORERS[scorer]
    scores = np.zeros((len(grid), y.shape[1]))
    for train, test in folds:
        for i, alpha in enumerate(grid):
            model = Ridge(alpha=alpha, fit_intercept=intercept, solver="svd").fit(x[train], y[train])
            scores[i] += score(y[test], model.predict(x[test]).reshape(len(test), -1)) / len(folds)
    best = grid[scores.argmax(axis=0)]
    model = Ridge(alpha=best, fit_intercept=intercept, solver="svd").fit(x, y)
    return scores, best, model.coef_.reshape(y.shape[1], -1).T, model.intercept_


def agrees(result, expected, tolerance):
    scores, best, coef, intercept = expected
    np.testing.assert_allclose(result.scores, scores, atol=tolerance, rtol=tolerance)
    np.testing.assert_array_equal(result.alphas, best)
    np.testing.assert_allclose(result.coef, coef, atol=tolerance * max(1, np.abs(coef).max()))
    np.testing.assert_allclose(result.intercept, intercept, atol=30 * tolerance)
    np.testing.assert_allclose(result.cv_scores, scores.max(axis=0), atol=tolerance)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "p"), [(60, 10), (60, 100), (61, 45), (60, 2)])
def test_the_loop_of_scikit_learn(n, p, intercept, scorer, dtype):
    x, y = data(n, p, 7, dtype=dtype)
    folds = kfold(n)
    result = ridge_cv(x, y, alphas=GRID, folds=folds, scorer=scorer, fit_intercept=intercept)
    agrees(result, the_loop(x, y, GRID, folds, scorer, intercept), 1e-9 if dtype == "f8" else 2e-5)
    assert result.coef.dtype == dtype
    assert result.intercept.dtype == result.scores.dtype == np.float64


@pytest.mark.parametrize("p", [8, 90])
@pytest.mark.parametrize(
    "folds",
    [
        kfold(80, 5, seed=1),  # shuffled
        list(GroupKFold(3).split(np.zeros(80), groups=np.arange(80) % 7)),
        [(np.r_[0:20, 30:80], np.arange(22, 28)), (np.arange(40), np.arange(45, 80))],  # gaps, little training data
        list(ShuffleSplit(3, test_size=0.3, random_state=0).split(np.zeros(80))),  # overlapping test sets
        [(np.r_[0:40, 0:40, 5], np.arange(40, 80))],  # samples drawn twice
        [(np.arange(80) < 60, np.arange(80) >= 60)],  # masks
    ],
)
def test_any_kind_of_fold(folds, p):
    x, y = data(80, p, 5)
    result = ridge_cv(x, y, alphas=GRID, folds=folds)
    folds = [tuple(np.flatnonzero(side) if np.asarray(side).dtype == bool else side for side in fold) for fold in folds]
    agrees(result, the_loop(x, y, GRID, folds, "r2"), 1e-9)


@pytest.mark.parametrize("p", [20, 60])
def test_himalaya(p):
    himalaya = pytest.importorskip("himalaya.ridge")
    x, y = data(50, p, 30)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solving .*ridge is slower")
        options = {"score_func": pytest.importorskip("himalaya.scoring").r2_score}
        peer = himalaya.RidgeCV(alphas=GRID, fit_intercept=False, cv=KFold(5), solver_params=options).fit(x, y)
    mine = ridge_cv(x, y, alphas=GRID, folds=kfold(50, 5), fit_intercept=False)
    np.testing.assert_allclose(mine.alphas, peer.best_alphas_)
    np.testing.assert_allclose(mine.coef, peer.coef_, atol=1e-9)
    np.testing.assert_allclose(mine.cv_scores, peer.cv_scores_, atol=1e-9)


def test_sklearn_ridge_cv_of_one_target():
    x, y = data(70, 12, 1)
    folds = kfold(70, 5)
    peer = RidgeCV(alphas=GRID, cv=folds, scoring="r2").fit(x, y[:, 0])
    mine = ridge_cv(x, y, alphas=GRID, folds=folds)
    assert mine.alphas[0] == peer.alpha_
    np.testing.assert_allclose(mine.coef[:, 0], peer.coef_, atol=1e-10)
    assert mine.cv_scores[0] == pytest.approx(peer.best_score_)


@pytest.mark.parametrize("p", [12, 100])
@pytest.mark.parametrize("alpha", [3.0, np.logspace(-2, 2, 5)])
@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_with_given_alphas(p, alpha, intercept):
    x, y = data(40, p, 5)
    coef, offset = ridge(x, y, alpha=alpha, fit_intercept=intercept)
    peer = Ridge(alpha=alpha, fit_intercept=intercept, solver="svd").fit(x, y)
    np.testing.assert_allclose(coef, peer.coef_.T, atol=1e-9)
    np.testing.assert_allclose(offset, np.broadcast_to(peer.intercept_, 5), atol=1e-8)


@pytest.mark.parametrize("p", [10, 80])
def test_shared_alpha_is_the_best_mean(p):
    x, y = data(60, p, 20)
    folds = kfold(60)
    each = ridge_cv(x, y, alphas=GRID, folds=folds)
    shared = ridge_cv(x, y, alphas=GRID, folds=folds, alpha_per_target=False, tile=3)
    np.testing.assert_allclose(shared.scores, each.scores, atol=1e-12)
    best = each.scores.mean(axis=1).argmax()
    assert (shared.alphas == GRID[best]).all()
    np.testing.assert_allclose(shared.cv_scores, each.scores[best], atol=1e-12)
    np.testing.assert_allclose(shared.coef, ridge(x, y, alpha=GRID[best])[0], atol=1e-12)


@pytest.mark.parametrize("p", [10, 80])
@pytest.mark.parametrize("scorer", SCORERS)
def test_function_as_scorer(p, scorer):
    x, y = data(60, p, 6)
    folds = kfold(60)
    named = ridge_cv(x, y, alphas=GRID, folds=folds, scorer=scorer)
    called = ridge_cv(x, y, alphas=GRID, folds=folds, scorer=SCORERS[scorer])
    np.testing.assert_allclose(called.scores, named.scores, atol=1e-10)
    mse = ridge_cv(x, y, alphas=GRID, folds=folds, scorer=lambda a, b: -np.mean((a - b) ** 2, axis=0))
    model = Ridge(alpha=GRID[4]).fit(x[folds[0][0]], y[folds[0][0]])
    first = ridge_cv(x, y, alphas=GRID, folds=folds[:1], scorer=lambda a, b: -np.mean((a - b) ** 2, axis=0))
    error = -np.mean((model.predict(x[folds[0][1]]) - y[folds[0][1]]) ** 2, axis=0)
    np.testing.assert_allclose(first.scores[4], error, rtol=1e-9)  # in the units of the caller
    assert (mse.scores < 0).all()


@pytest.mark.parametrize("p", [6, 80])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_bad_targets_do_not_touch_others(p, dtype):
    x, y = data(60, p, 8, dtype=dtype)
    folds = kfold(60)
    clean = ridge_cv(x, y, alphas=GRID, folds=folds)
    y = y.copy()
    y[3, 1], y[5, 2], y[:, 4], y[folds[1][1], 6] = np.nan, np.inf, 0.1, 2.0
    result = ridge_cv(x, y, alphas=GRID, folds=folds)
    np.testing.assert_array_equal(np.isnan(result.cv_scores), [0, 1, 1, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(np.isnan(result.alphas), np.isnan(result.cv_scores))
    assert np.isnan(result.scores[:, [1, 2, 4]]).all()
    assert result.n_unscored == 3
    assert np.isnan(result.coef[:, [1, 2]]).all()
    assert np.isnan(result.intercept[[1, 2]]).all()
    assert not result.coef[:, 4].any()  # every alpha gives a constant target these weights
    assert result.intercept[4] == y[0, 4]
    same = [0, 3, 5, 7]
    for name in ("scores", "alphas", "coef", "intercept"):
        got, expected = getattr(result, name)[..., same], getattr(clean, name)[..., same]
        np.testing.assert_allclose(got, expected, atol=1e-12 if dtype == "f8" else 1e-5)
    # constant within one fold: that fold is left out of the mean
    rest = [fold for i, fold in enumerate(folds) if i != 1]
    np.testing.assert_allclose(
        result.scores[:, 6], ridge_cv(x, y[:, 6:7], alphas=GRID, folds=rest).scores[:, 0], atol=1e-5
    )


def test_permuting_test_rows_changes_nothing_learned():
    x, y = data(60, 10, 4)
    train, test = np.arange(40), np.arange(40, 60)
    order = np.r_[train, np.random.default_rng(0).permutation(test)]
    a = ridge_cv(x, y, alphas=GRID, folds=[(train, test)])
    b = ridge_cv(x[order], y[order], alphas=GRID, folds=[(train, test)])
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-12)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("p", [5, 80])
@pytest.mark.parametrize("intercept", [True, False])
def test_inputs_are_left_alone(dtype, p, intercept):
    x, y = data(60, p, 3, dtype=dtype)
    y[2, 1] = np.nan
    before = x.copy(), y.copy()
    ridge_cv(x, y, alphas=GRID, folds=kfold(60), fit_intercept=intercept)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_shift_of_the_data_changes_nothing():
    x, y = data(60, 10, 4)
    a = ridge_cv(x, y, alphas=GRID, folds=kfold(60))
    b = ridge_cv(x + 1e4, y - 1e4, alphas=GRID, folds=kfold(60))
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-9)
    np.testing.assert_allclose(a.coef, b.coef, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-13, 1e12])
@pytest.mark.parametrize("p", [10, 80])
def test_units_of_the_data_do_not_matter(unit, p):
    x, y = data(60, p, 4, dtype="f4")
    a = ridge_cv(x, y, alphas=GRID, folds=kfold(60))
    b = ridge_cv(x * np.float32(unit), y * np.float32(unit), alphas=GRID * unit**2, folds=kfold(60))
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    np.testing.assert_allclose(a.coef, b.coef, atol=1e-5)


def test_edges_are_reported():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4))
    y = np.c_[x @ rng.standard_normal((4, 3)), rng.standard_normal((60, 1)), np.ones(60)]
    result = ridge_cv(x, y, alphas=[1e-6, 1.0, 1e9], folds=kfold(60))
    np.testing.assert_allclose(result.edge, [0.75, 0.25])
    assert (ridge_cv(x, y, alphas=2.0, folds=kfold(60)).edge == 0).all()


def test_grid_order_is_kept():
    x, y = data(60, 5, 3)
    up, down = (ridge_cv(x, y, alphas=grid, folds=kfold(60)) for grid in (GRID, GRID[::-1]))
    np.testing.assert_allclose(up.scores, down.scores[::-1], atol=1e-14)
    np.testing.assert_array_equal(up.alphas, down.alphas)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(4, 30),
    p=st.integers(1, 40),
    t=st.integers(1, 9),
    k=st.integers(2, 4),
    tile=st.integers(1, 10),
    seed=st.integers(0, 2**16),
    scorer=st.sampled_from(sorted(SCORERS)),
)
def test_any_shape(n, p, t, k, tile, seed, scorer):
    x, y = data(n, p, t, seed)
    folds = kfold(n, k, seed)
    grid = np.array([0.1, 10.0, 1e3])
    result = ridge_cv(x, y, alphas=grid, folds=folds, scorer=scorer, tile=tile)
    scores = np.zeros((len(folds), 3, t))
    for f, (train, test) in enumerate(folds):
        for i, alpha in enumerate(grid):
            model = Ridge(alpha=alpha, solver="svd").fit(x[train], y[train])
            scores[f, i] = SCORERS[scorer](y[test], model.predict(x[test]).reshape(len(test), t))
    defined = ~np.isnan(scores)
    if scorer != "r":  # two samples correlate by +1 or -1 whatever the alpha: a tie up to rounding
        mean = np.where(defined, scores, 0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
        expected = np.where(defined.any(axis=0), mean, np.nan)
        np.testing.assert_allclose(result.scores, expected, rtol=1e-6, atol=1e-8)
    chosen = ~np.isnan(result.alphas)
    if chosen.any():
        peer = Ridge(alpha=result.alphas[chosen], solver="svd").fit(x, y[:, chosen])
        np.testing.assert_allclose(result.coef[:, chosen], peer.coef_.reshape(-1, p).T, atol=1e-8)


def test_default_alphas_scale_with_the_features():
    x, _ = data(50, 7, 1)
    values = np.linalg.eigvalsh(np.cov(x.T) * 49)
    grid = default_alphas(x, n=5, decades=(-2, 2))
    np.testing.assert_allclose(grid, values.mean() * np.logspace(-2, 2, 5))
    np.testing.assert_allclose(default_alphas(10 * x + 3, n=5), 100 * default_alphas(x, n=5))
    wide = default_alphas(x[:4], n=1, decades=(0, 1))
    np.testing.assert_allclose(wide, np.linalg.eigvalsh(np.cov(x[:4].T) * 3)[-3:].mean())
    assert (default_alphas(np.ones((5, 2)), n=3) > 0).all()
    with pytest.raises(ConfigError, match="grid"):
        default_alphas(x, n=0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"X": np.full((10, 2), np.nan)}, SchemaError, "X holds NaN or infinity"),
        ({"X": np.zeros((9, 2))}, SchemaError, "number of samples"),
        ({"X": np.zeros(10)}, SchemaError, r"pass X\[:, None\]"),
        ({"Y": np.zeros(10)}, SchemaError, r"pass Y\[:, None\]"),
        ({"Y": np.zeros((10, 0))}, SchemaError, "at least one"),
        ({"X": np.array([["a"] * 2] * 10)}, SchemaError, "real numbers"),
        ({"X": np.ones((10, 2)) * 1j}, SchemaError, "real numbers"),
        ({"alphas": []}, ConfigError, "finite numbers >= 0"),
        ({"alphas": [-1.0]}, ConfigError, "finite numbers >= 0"),
        ({"alphas": [1.0, np.nan]}, ConfigError, "finite numbers >= 0"),
        ({"alphas": [1.0, 1.0]}, ConfigError, "twice"),
        ({"alphas": "many"}, ConfigError, "numbers"),
        ({"folds": []}, ConfigError, "no folds"),
        ({"folds": [([0, 1], [1, 2])]}, ConfigError, "both trained and tested"),
        ({"folds": [([0, 1], [10])]}, ConfigError, "0 .. 9"),
        ({"folds": [([0, 1], [])]}, ConfigError, "list of indices"),
        ({"folds": [[0, 1, 2]]}, ConfigError, "pair"),
        ({"folds": 5}, ConfigError, "pairs of indices"),
        ({"folds": None}, ConfigError, "pairs of indices"),
        ({"alpha_per_target": np.True_}, ConfigError, "type bool"),
        ({"alpha_per_target": 1}, ConfigError, "type int"),
        ({"alpha_per_target": np.array([True, False])}, ConfigError, "type ndarray"),
        ({"alpha_per_target": "Pooled"}, ConfigError, "'pooled'"),
        ({"scorer": "accuracy"}, ConfigError, "Unknown scorer"),
        ({"tile": 0}, ConfigError, "tile"),
    ],
)
def test_refusals(change, error, words):
    arguments = {"X": np.eye(10, 2), "Y": np.eye(10, 3), "alphas": [1.0], "folds": [(np.arange(5), np.arange(5, 10))]}
    arguments.update(change)
    with pytest.raises(error, match=words):
        ridge_cv(arguments.pop("X"), arguments.pop("Y"), **arguments)


@pytest.mark.parametrize("folds", [5, None, "loo"])
def test_other_solvers_refuse_what_are_no_folds(folds):
    x, y = data(20, 3, 2)
    for solve in (
        lambda: kernel_ridge_cv(x @ x.T, y, alphas=[1.0], folds=folds),
        lambda: banded_ridge_cv(x, y, bands=[0, 0, 1], alphas=[1.0], folds=folds),
        lambda: trf_cv([x], [y], lags=[0], alphas=[1.0], folds=folds),
        lambda: pls_cv(x, y, n_components=[1], folds=folds),
    ):
        with pytest.raises(ConfigError, match="pairs of indices"):
            solve()


@pytest.mark.parametrize("alpha", [-1.0, np.nan, [1.0, 2.0], [[1.0, 1.0, 1.0]]])
def test_ridge_refuses(alpha):
    with pytest.raises(ConfigError, match="alpha"):
        ridge(np.eye(4), np.eye(4, 3), alpha=alpha)
