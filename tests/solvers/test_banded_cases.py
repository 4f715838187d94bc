"""Awkward bands: constant, doubled, without weight, still in one fold; and searches on tensors and in float32."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from neuroalign.solvers import banded_ridge_cv

GRID = np.logspace(-2, 4, 8)
SIZES = [(8, 6), (60, 40)]  # more samples than features, and fewer
SEARCHES = ["random", "gradient"]


def data(sizes, n=72, t=5, seed=0):
    """Target i follows band i (of as many as there are)."""
    rng = np.random.default_rng(seed)
    bands = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.standard_normal((n, len(bands))) + 3
    own = bands[:, None] == np.arange(t) % len(sizes)
    return x, x @ (own * rng.standard_normal((len(bands), t))) + rng.standard_normal((n, t)) + 5, bands


def options(bands, n=72, **more):
    folds = list(KFold(4).split(np.zeros(n)))
    return {"bands": bands, "alphas": GRID, "folds": folds, "n_iter": 6, "random_state": 0, **more}


def r2(truth, guess):
    return 1 - np.square(truth - guess).sum(axis=0) / np.square(truth - truth.mean(axis=0)).sum(axis=0)


def scores_of(result, x, y, bands, folds):
    """Cross-validated R2 (t,) of scikit-learn at the chosen band weights and penalties."""
    out = np.zeros(y.shape[1])
    for j in range(y.shape[1]):
        scale = np.sqrt(result.gammas[:, j])[bands]
        for train, test in folds:
            model = Ridge(alpha=result.alphas[j], solver="svd").fit(x[train] * scale, y[train, j])
            out[j] += r2(y[test, j], model.predict(x[test] * scale)) / len(folds)
    return out


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("sizes", SIZES)
def test_a_constant_feature_in_a_living_band(sizes, search):
    x, y, bands = data(sizes)
    expected = banded_ridge_cv(x, y, search=search, **options(bands))
    wider = np.insert(x, 2, 0.1, axis=1)
    result = banded_ridge_cv(wider, y, search=search, **options(np.insert(bands, 2, 0)))
    assert not result.coef[2].any()
    np.testing.assert_allclose(np.delete(result.coef, 2, axis=0), expected.coef, atol=1e-6)
    np.testing.assert_allclose(result.cv_scores, expected.cv_scores, atol=1e-8)


@pytest.mark.parametrize("sizes", SIZES)
def test_no_weight_is_no_band(sizes):
    x, y, bands = data(sizes)
    result = banded_ridge_cv(x, y, gammas=[[0.0, 1.0]], **options(bands))
    inside = bands == 1
    alone = banded_ridge_cv(x[:, inside], y, **options(bands[inside]))
    assert not result.coef[~inside].any()
    np.testing.assert_allclose(result.coef[inside], alone.coef, atol=1e-9)
    np.testing.assert_allclose(result.cv_scores, alone.cv_scores, atol=1e-10)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("sizes", SIZES)
def test_one_band_wins_all_targets(sizes, search):
    x, _, bands = data(sizes, n=200)
    rng = np.random.default_rng(1)
    y = x[:, bands == 0] @ rng.standard_normal((sizes[0], 4)) + 0.1 * rng.standard_normal((200, 4))
    result = banded_ridge_cv(x, y, search=search, **options(bands, n=200))
    assert (result.gammas[0] > 0.9).all()
    assert abs(result.coef[bands == 1]).max() < 0.1 * abs(result.coef[bands == 0]).max()
    np.testing.assert_allclose(
        result.cv_scores, scores_of(result, x, y, bands, options(bands, n=200)["folds"]), atol=1e-7
    )


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("still", ["train", "test"])
def test_a_band_that_is_still_in_one_fold(sizes, search, still):
    x, y, bands = data(sizes)
    inside, settings = bands == 1, options(bands, search=search)
    rows = settings["folds"][1][still == "test"]
    x[np.ix_(rows, inside)] = x[0, inside]
    result = banded_ridge_cv(x, y, **settings)
    np.testing.assert_allclose(result.cv_scores, scores_of(result, x, y, bands, settings["folds"]), atol=1e-7)
    assert np.isfinite(result.coef).all()


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("sizes", SIZES)
def test_a_band_twice(sizes, search):
    x, y, bands = data(sizes)
    twice, names = np.c_[x, x[:, bands == 0]], np.r_[bands, np.full(sizes[0], 2)]
    result = banded_ridge_cv(twice, y, search=search, **options(names))
    np.testing.assert_allclose(result.cv_scores, scores_of(result, twice, y, names, options(names)["folds"]), atol=1e-7)
    first, second = result.coef[names == 0], result.coef[names == 2]
    np.testing.assert_allclose(first * result.gammas[2], second * result.gammas[0], atol=1e-8)  # shared by weight
    joined = np.array([[1.0, 0.5], [0.3, 2.0]])  # the two copies act as one band of their summed weight
    split = np.c_[joined * [0.25, 1.0], joined[:, 0] * 0.75]
    one = banded_ridge_cv(x, y, gammas=joined, **options(bands))
    two = banded_ridge_cv(twice, y, gammas=split, **options(names))
    np.testing.assert_allclose(two.scores, one.scores, atol=1e-9)
    np.testing.assert_allclose(two.coef[names == 0] + two.coef[names == 2], one.coef[bands == 0], atol=1e-8)


@pytest.mark.parametrize("way", [True, False, "pooled", "gradient"])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_target_with_nan_changes_no_other(sizes, way):
    x, y, bands = data(sizes)
    settings = options(bands, search="gradient") if way == "gradient" else options(bands, alpha_per_target=way)
    bad = np.c_[y[:, :2], np.full(72, 2.0), y[:, 2:], y[:, 0]]
    bad[5, 5] = np.nan
    keep = [0, 1, 3, 4, 6]
    clean = banded_ridge_cv(x, bad[:, keep], **settings)
    result = banded_ridge_cv(x, bad, **settings)
    for name in ("alphas", "gammas", "cv_scores", "coef", "intercept"):
        np.testing.assert_allclose(getattr(result, name)[..., keep], getattr(clean, name), atol=1e-8)
        assert name in ("coef", "intercept") or np.isnan(getattr(result, name)[..., [2, 5]]).all()
    assert np.isnan(result.coef[:, 5]).all()
    assert not result.coef[:, 2].any()


@pytest.mark.parametrize("sizes", SIZES)
def test_gradient_search_in_float32_and_on_tensors(sizes):
    torch = pytest.importorskip("torch")
    x, y, bands = data(sizes)
    double = banded_ridge_cv(x, y, search="gradient", **options(bands))
    single = banded_ridge_cv(x.astype("f4"), y.astype("f4"), search="gradient", **options(bands))
    assert single.coef.dtype == np.float32
    np.testing.assert_allclose(single.cv_scores, double.cv_scores, atol=1e-4)
    tensors = banded_ridge_cv(torch.from_numpy(x), torch.from_numpy(y), search="gradient", **options(bands))
    for name in ("coef", "intercept", "alphas", "gammas", "cv_scores"):
        assert isinstance(getattr(tensors, name), torch.Tensor)
        np.testing.assert_allclose(getattr(tensors, name).numpy(), getattr(double, name), atol=1e-7)


@pytest.mark.parametrize("way", [False, "pooled"])
def test_shared_choices_in_float32_and_on_tensors(way):
    torch = pytest.importorskip("torch")
    x, y, bands = data((8, 6))
    double = banded_ridge_cv(x, y, **options(bands, alpha_per_target=way))
    single = banded_ridge_cv(x.astype("f4"), y.astype("f4"), **options(bands, alpha_per_target=way))
    tensors = banded_ridge_cv(torch.from_numpy(x), torch.from_numpy(y), **options(bands, alpha_per_target=way))
    np.testing.assert_allclose(single.gammas, double.gammas, atol=1e-6)
    np.testing.assert_allclose(single.coef, double.coef, atol=1e-4)
    np.testing.assert_allclose(tensors.coef.numpy(), double.coef, atol=1e-10)
    assert tensors.pooling == pytest.approx(double.pooling, abs=1e-9)
    assert single.pooling == pytest.approx(double.pooling, abs=1e-3)


@pytest.mark.parametrize("sizes", [(8, 6, 5), (50, 30, 10)])
def test_gradient_search_against_another_minimiser(sizes):
    """From the same start, L-BFGS-B on the obvious loss finds what Newton's steps find, but for other local minima."""
    x, y, bands = data(sizes, t=6)
    settings = options(bands, n_iter=5)
    found = banded_ridge_cv(x, y, search="gradient", **settings)
    start = banded_ridge_cv(x, y, **settings)
    centred = [
        (x[train] - x[train].mean(axis=0), x[test] - x[train].mean(axis=0), train, test)
        for train, test in settings["folds"]
    ]

    def loss(delta, j):
        scale, total = np.exp(delta / 2)[bands], 0.0
        for inside, outside, train, test in centred:
            a, b, offset = inside * scale, outside * scale, y[train, j].mean()
            w = np.linalg.solve(a.T @ a + np.eye(len(bands)), a.T @ (y[train, j] - offset))
            total += 1 - r2(y[test, j], b @ w + offset)
        return total / len(centred)

    lost = np.zeros(y.shape[1])
    for j in range(y.shape[1]):
        delta = np.log(np.maximum(start.gammas[:, j], 1e-2 * start.gammas[:, j].max()) / start.alphas[j])
        peer = scipy.optimize.minimize(loss, delta, args=(j,), method="L-BFGS-B", options={"maxiter": 40})
        lost[j] = 1 - peer.fun - found.cv_scores[j]
    assert np.sort(lost)[-2] < 1e-4
    assert lost.mean() < 3e-3
    assert (found.cv_scores > start.cv_scores + 1e-3).any()
