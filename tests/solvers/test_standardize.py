"""Features scaled inside the folds, against scikit-learn's scaler and ridge in every fold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuroalign.errors import ConfigError
from neuroalign.metrics import SCORERS
from neuroalign.solvers import default_alphas, ridge, ridge_chunk, ridge_cv, ridge_plan

GRID = np.logspace(-2, 4, 9)


def data(n=80, p=9, t=6, seed=0, dtype="f8"):
    """Features whose deviations differ by decades, and drift so that folds differ in theirs."""
    rng = np.random.default_rng(seed)
    drift = 1 + np.linspace(0, 2, n)[:, None] * rng.uniform(0, 1, p)
    x = rng.standard_normal((n, p)) * drift + 3
    y = x @ rng.standard_normal((p, t)) / np.sqrt(p) * 2 + 4 * rng.standard_normal((n, t)) + 5
    return (x * 10 ** rng.uniform(-3, 3, p)).astype(dtype), y.astype(dtype)


def kfold(n, k=4):
    return list(KFold(k).split(np.zeros(n)))


def pipeline(alpha, intercept):
    """Without an intercept nothing is centred, but the deviation is still about the mean."""
    return make_pipeline(StandardScaler(with_mean=intercept), Ridge(alpha, fit_intercept=intercept, solver="svd"))


def the_loop(x, y, grid, folds, scorer, intercept=True):
    x, y = x.astype("f8"), y.astype("f8")
    scores = np.zeros((len(grid), y.shape[1]))
    for train, test in folds:
        for i, alpha in enumerate(grid):
            model = pipeline(alpha, intercept).fit(x[train], y[train])
            scores[i] += SCORERS[scorer](y[test], model.predict(x[test])) / len(folds)
    return scores, grid[scores.argmax(axis=0)]


def refitted(x, y, best, intercept):
    steps = pipeline(best, intercept).fit(x.astype("f8"), y.astype("f8")).named_steps
    coef = steps["ridge"].coef_.T / steps["standardscaler"].scale_[:, None]
    offset = steps["ridge"].intercept_ - (steps["standardscaler"].mean_ @ coef if intercept else 0.0)
    return coef, offset


def agrees(result, x, y, expected, intercept, tolerance):
    scores, best = expected
    np.testing.assert_allclose(result.scores, scores, atol=tolerance, rtol=tolerance)
    np.testing.assert_array_equal(result.alphas, best)
    coef, offset = refitted(x, y, best, intercept)
    size = x.std(axis=0)[:, None]
    np.testing.assert_allclose(result.coef * size, coef * size, atol=tolerance * np.abs(coef * size).max())
    np.testing.assert_allclose(result.intercept, offset, atol=100 * tolerance)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("p", [2, 9, 45, 100])
def test_the_loop_of_scikit_learn(p, intercept, scorer, dtype):
    x, y = data(p=p, dtype=dtype)
    folds = kfold(80)
    result = ridge_cv(x, y, alphas=GRID, folds=folds, scorer=scorer, fit_intercept=intercept, standardize=True)
    expected = the_loop(x, y, GRID, folds, scorer, intercept)
    agrees(result, x, y, expected, intercept, 1e-9 if dtype == "f8" else 3e-5)
    other = ridge_cv(x, y, alphas=GRID, folds=folds, scorer=scorer, fit_intercept=intercept)
    assert np.abs(other.scores - result.scores).max() > 0.01  # it is not the same model


@pytest.mark.parametrize("p", [8, 90])
@pytest.mark.parametrize(
    "folds",
    [
        [(np.r_[0:20, 30:80], np.arange(22, 28)), (np.arange(40), np.arange(45, 80))],  # gaps, little training data
        list(KFold(5, shuffle=True, random_state=0).split(np.zeros(80))),
        [(np.r_[0:40, 0:40, 5], np.arange(40, 80))],  # samples drawn twice
    ],
)
def test_any_kind_of_fold(folds, p):
    x, y = data(p=p)
    result = ridge_cv(x, y, alphas=GRID, folds=folds, standardize=True)
    agrees(result, x, y, the_loop(x, y, GRID, folds, "r2"), True, 1e-9)


@pytest.mark.parametrize("p", [9, 100])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_torch(p, dtype):
    torch = pytest.importorskip("torch")
    x, y = data(p=p, dtype=dtype)
    folds = kfold(80)
    options = {"alphas": GRID, "folds": folds, "standardize": True}
    mine, tensors = ridge_cv(x, y, **options), ridge_cv(torch.as_tensor(x), torch.as_tensor(y), **options)
    assert isinstance(tensors.coef, torch.Tensor)
    np.testing.assert_array_equal(tensors.alphas.numpy(), mine.alphas)
    tolerance = 1e-10 if dtype == "f8" else 1e-5
    np.testing.assert_allclose(tensors.scores.numpy(), mine.scores, atol=tolerance)
    np.testing.assert_allclose(x @ tensors.coef.numpy(), x @ mine.coef, atol=30 * tolerance)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("p", [9, 100])
@pytest.mark.parametrize("how", [{}, {"fit_intercept": False}, {"alpha_per_target": "pooled"}])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_units_do_not_matter(p, how, dtype, seed):
    x, y = data(p=p, seed=seed, dtype=dtype)
    factor = (10 ** np.random.default_rng(seed).uniform(-15, 15, p)).astype(dtype)
    options = {"alphas": [1.0, 30.0, 1e3], "folds": kfold(80), "standardize": True, **how}
    one, two = ridge_cv(x, y, **options), ridge_cv(x * factor, y, **options)
    tolerance = 1e-7 if dtype == "f8" else 1e-4
    np.testing.assert_allclose(two.scores, one.scores, atol=tolerance)
    clear = np.sort(one.scores, axis=0)
    clear = clear[-1] - clear[-2] > tolerance if one.pooling == 0 else np.full(6, one.pooling == two.pooling)
    np.testing.assert_array_equal(two.alphas[clear], one.alphas[clear])
    same = two.alphas == one.alphas
    first, second = (a.astype("f8") @ b.coef.astype("f8") + b.intercept for a, b in ((x, one), (x * factor, two)))
    np.testing.assert_allclose(second[:, same], first[:, same], atol=30 * tolerance)


@pytest.mark.parametrize("p", [9, 100])
def test_test_rows_teach_nothing(p):
    """What is learned of the first fold is what its training rows say, whatever is in the rows that it leaves out."""
    x, y = data(p=p)
    train, test = np.arange(50), np.arange(55, 80)  # with a gap
    options = {"alphas": GRID, "folds": [(train, test)], "standardize": True}
    rng = np.random.default_rng(1)
    moved = x.copy()
    moved[50:55] = 1e3 * rng.standard_normal((5, p))  # in no side of the fold
    kept = ridge_cv(x, y, scorer=lambda a, b: b.sum(axis=0), **options).scores
    np.testing.assert_allclose(
        ridge_cv(moved, y, scorer=lambda a, b: b.sum(axis=0), **options).scores, kept, rtol=1e-7, atol=1e-6
    )
    order = np.r_[train, 50:55, rng.permutation(test)]
    np.testing.assert_allclose(
        ridge_cv(x[order], y[order], scorer=lambda a, b: b.sum(axis=0), **options).scores, kept, rtol=1e-9
    )
    other = moved.copy()
    other[60:] *= 100.0  # the first test rows stay: their predictions must, too
    first = ridge_cv(other, y, scorer=lambda a, b: b[:5].sum(axis=0), **options).scores
    np.testing.assert_allclose(
        ridge_cv(x, y, scorer=lambda a, b: b[:5].sum(axis=0), **options).scores, first, rtol=1e-7, atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("p", [9, 100])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6])
def test_a_feature_that_hardly_varies_in_the_training_rows(size, p, dtype, backend):
    x, y = data(p=p)
    tame = x[10:, 3] - x[10:, 3].mean()
    y[10:] += 5 * tame[:, None] / tame.std()
    x[:, 3] = np.r_[x[:10, 3] - x[:10, 3].mean(), size * tame]  # nothing but tails outside of one run
    x, y = x.astype(dtype), y.astype(dtype)
    folds = [(np.arange(20, 80), np.arange(10, 20))]
    tables = (x, y) if backend == "numpy" else map(pytest.importorskip("torch").as_tensor, (x, y))
    result = ridge_cv(*tables, alphas=GRID, folds=folds, standardize=True)
    scores, _ = the_loop(x, y, GRID, folds, "r2")
    np.testing.assert_allclose(np.asarray(result.scores), scores, atol=1e-9 if dtype == "f8" else 3e-5)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("case", ["spectrum", "offset", "twins", "wide"])
def test_ill_conditioned_features(case, dtype):
    rng = np.random.default_rng(0)
    p = 200 if case == "wide" else 40
    turned = np.linalg.qr(rng.standard_normal((p, p)))[0]
    base = rng.standard_normal((120, p))
    steep = (base * np.arange(1, p + 1) ** -3.0) @ turned
    x = {"offset": base + 1e4, "twins": np.c_[base[:, :20], base[:, :20]]}.get(case, steep)
    y = (x - x.mean(axis=0)) / x.std(axis=0) @ rng.standard_normal((p, 5)) / 6 + rng.standard_normal((120, 5))
    x, y = x.astype(dtype), y.astype(dtype)
    result = ridge_cv(x, y, alphas=GRID, folds=kfold(120), standardize=True)
    scores, best = the_loop(x, y, GRID, kfold(120), "r2")
    np.testing.assert_allclose(result.scores, scores, atol=1e-8 if dtype == "f8" else 3e-6)
    np.testing.assert_array_equal(result.alphas, best)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("p", [9, 100])
def test_constant_features(p, intercept, dtype):
    x, y = data(p=p, dtype=dtype)
    folds = kfold(80)
    options = {"alphas": GRID, "folds": folds, "fit_intercept": intercept, "standardize": True}
    without = ridge_cv(x, y, **options)
    extra = np.c_[x, np.full(80, 0.1, dtype), np.full(80, 1e6, dtype)]
    result = ridge_cv(extra, y, **options)
    tolerance = 1e-9 if dtype == "f8" else 2e-5
    np.testing.assert_allclose(result.scores, without.scores, atol=tolerance)
    assert not result.coef[p:].any()
    some = np.r_[np.random.default_rng(0).standard_normal(20), np.full(60, 0.1)].astype(dtype)[:, None]
    first = [folds[0]]  # constant in its training rows: as if it were not there
    result = ridge_cv(np.c_[x, some], y, **{**options, "folds": first})
    np.testing.assert_allclose(result.scores, ridge_cv(x, y, **{**options, "folds": first}).scores, atol=tolerance)
    assert np.isfinite(result.coef).all()
    assert result.coef[p].any()
    nothing = ridge_cv(np.full((80, p), 0.3, dtype), y, **options)
    assert not nothing.coef.any()
    assert (nothing.scores <= tolerance).all()


def test_rounding_is_not_variance():
    x, y = data()
    noisy = np.where(np.arange(80) % 2, 0.3, 0.1 + 0.2)[:, None]
    assert noisy.std() > 0
    result = ridge_cv(np.c_[x, noisy], y, alphas=GRID, folds=kfold(80), standardize=True)
    assert not result.coef[-1].any()
    np.testing.assert_allclose(
        result.scores, ridge_cv(x, y, alphas=GRID, folds=kfold(80), standardize=True).scores, atol=1e-10
    )


@pytest.mark.parametrize("p", [9, 100])
@pytest.mark.parametrize("intercept", [True, False])
def test_given_penalties(p, intercept):
    x, y = data(p=p)
    coef, offset = ridge(x, y, alpha=7.0, fit_intercept=intercept, standardize=True)
    expected, shift = refitted(x, y, 7.0, intercept)
    np.testing.assert_allclose(coef, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(offset, np.broadcast_to(shift, 6), atol=1e-8)


@pytest.mark.parametrize("p", [9, 100])
@pytest.mark.parametrize("intercept", [True, False])
def test_generalised_cross_validation_is_that_of_scaled_features(p, intercept):
    x, y = data(p=p)
    scaled = x / x.std(axis=0)
    one = ridge_cv(x, y, alphas=GRID, folds="gcv", fit_intercept=intercept, standardize=True)
    two = ridge_cv(scaled, y, alphas=GRID, folds="gcv", fit_intercept=intercept)
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-9)
    np.testing.assert_allclose(one.coef * x.std(axis=0)[:, None], two.coef, atol=1e-9)


def test_leave_one_out_is_refused_and_has_folds_in_its_place():
    x, y = data(n=30)
    with pytest.raises(ConfigError, match="no closed form"):
        ridge_cv(x, y, alphas=GRID, folds="loo", standardize=True)
    with pytest.raises(ConfigError, match="no closed form"):
        ridge_plan(x, alphas=GRID, folds="loo", standardize=True)


@pytest.mark.parametrize("p", [9, 100])
def test_blocks_of_targets(p):
    x, y = data(p=p, t=12)
    options = {"alphas": GRID, "folds": kfold(80), "standardize": True}
    whole, plan = ridge_cv(x, y, **options), ridge_plan(x, **options)
    for lo in range(0, 12, 5):
        part = ridge_chunk(plan, y[:, lo : lo + 5])
        np.testing.assert_array_equal(part.alphas, whole.alphas[lo : lo + 5])
        np.testing.assert_allclose(part.coef, whole.coef[:, lo : lo + 5], rtol=1e-9)
        np.testing.assert_allclose(part.scores, whole.scores[:, lo : lo + 5], atol=1e-12)


@pytest.mark.parametrize("p", [9, 100])
def test_the_default_grid_is_that_of_scaled_features(p):
    x, _ = data(p=p)
    x[:, 1] = 4.0
    scaled = StandardScaler().fit_transform(x)
    np.testing.assert_allclose(default_alphas(x, standardize=True), default_alphas(scaled))
