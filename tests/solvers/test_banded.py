"""banded_ridge_cv against scikit-learn on scaled features, himalaya, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import KFold

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import SCORERS
from neuroalign.solvers import banded_ridge_cv, ridge_cv
from neuroalign.solvers._band_weights import candidates
from neuroalign.solvers._banded_gradient import DualProblem, PrimalProblem

GRID = np.logspace(-2, 4, 8)


def data(n, sizes, t=6, seed=0, dtype="f8", noise=2.0):
    """Features with an offset; target i follows band i (of as many as there are)."""
    rng = np.random.default_rng(seed)
    bands = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.standard_normal((n, len(bands))) + 3
    own = bands[:, None] == np.arange(t) % len(sizes)
    y = x @ (own * rng.standard_normal((len(bands), t))) + noise * rng.standard_normal((n, t)) + 5
    return x.astype(dtype), y.astype(dtype), bands


def kfold(n, k=4, seed=None):
    return list(KFold(k, shuffle=seed is not None, random_state=seed).split(np.zeros(n)))


def explicit(x, y, bands, gammas, folds, scorer="r2", intercept=True):
    """Scores (candidate, alpha, target) of scikit-learn on features scaled by sqrt(gamma)."""
    x, y, score, t = x.astype("f8"), y.astype("f8"), SCORERS[scorer], y.shape[1]
    out = np.zeros((len(gammas), len(GRID), y.shape[1]))
    for g, gamma in enumerate(gammas):
        scaled = x * np.sqrt(gamma)[bands]
        for train, test in folds:  # every alpha is a target of its own to scikit-learn
            model = Ridge(alpha=np.repeat(GRID, t), fit_intercept=intercept, solver="svd")
            guess = model.fit(scaled[train], np.tile(y[train], len(GRID))).predict(scaled[test])
            out[g] += score(np.tile(y[test], len(GRID)), guess).reshape(len(GRID), t) / len(folds)
    return out


@pytest.mark.parametrize(("dtype", "tolerance"), [("f8", 1e-9), ("f4", 2e-5)])
@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(("n", "sizes"), [(80, (10, 8, 12)), (60, (50, 20, 30)), (61, (45,)), (160, (2,) * 8)])
def test_the_explicit_search(n, sizes, scorer, dtype, tolerance):
    x, y, bands = data(n, sizes, dtype=dtype)
    folds = kfold(n)
    result = banded_ridge_cv(
        x, y, bands=bands, alphas=GRID, folds=folds, scorer=scorer, n_iter=len(sizes) + 3, random_state=0
    )
    assert len(result.candidates) == (1 if len(sizes) == 1 else len(sizes) + 3)
    scores = explicit(x, y, bands, result.candidates, folds, scorer)
    np.testing.assert_allclose(result.scores, scores.max(axis=1), atol=tolerance)
    np.testing.assert_allclose(result.cv_scores, scores.max(axis=(0, 1)), atol=tolerance)
    if dtype == "f8":
        np.testing.assert_array_equal(result.gammas, result.candidates[scores.max(axis=1).argmax(axis=0)].T)
    for j in range(y.shape[1]):
        scale = np.sqrt(result.gammas[:, j])[bands]
        model = Ridge(alpha=result.alphas[j], solver="svd").fit(x.astype("f8") * scale, y[:, j].astype("f8"))
        np.testing.assert_allclose(result.coef[:, j], model.coef_ * scale, atol=10 * tolerance)
        np.testing.assert_allclose(result.intercept[j], model.intercept_, atol=100 * tolerance)
    assert result.coef.dtype == result.intercept.dtype == dtype


@pytest.mark.parametrize("sizes", [(8, 6), (50, 30)])
def test_himalaya(sizes):
    ridge = pytest.importorskip("himalaya.ridge")
    kernel = pytest.importorskip("himalaya.kernel_ridge")
    score = pytest.importorskip("himalaya.scoring").r2_score
    x, y, bands = data(60, sizes)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    gammas = np.random.default_rng(1).dirichlet([1.0] * len(sizes), size=6)
    options = {"n_iter": gammas, "alphas": GRID, "cv": KFold(4), "score_func": score, "progress_bar": False}
    parts = [x[:, bands == b] for b in range(len(sizes))]
    mine = banded_ridge_cv(x, y, bands=bands, alphas=GRID, folds=kfold(60), gammas=gammas, fit_intercept=False)
    deltas, coef, scores = ridge.solve_group_ridge_random_search(parts, y, return_weights=True, warn=False, **options)
    np.testing.assert_allclose(mine.scores, scores, atol=1e-9)
    np.testing.assert_allclose(np.log(mine.gammas / mine.alphas), deltas, atol=1e-9)
    np.testing.assert_allclose(mine.coef, coef, atol=1e-8)
    grams = np.stack([part @ part.T for part in parts])
    deltas, dual, scores = kernel.solve_multiple_kernel_ridge_random_search(grams, y, return_weights="dual", **options)[
        :3
    ]
    mine = banded_ridge_cv(None, y, kernels=grams, alphas=GRID, folds=kfold(60), gammas=gammas, fit_intercept=False)
    np.testing.assert_allclose(mine.scores, scores, atol=1e-9)
    predicted = sum(np.exp(d) * (gram @ dual) for d, gram in zip(deltas, grams, strict=True))
    own = sum(g * (gram @ mine.coef) for g, gram in zip(mine.gammas, grams, strict=True))
    np.testing.assert_allclose(own, predicted, atol=1e-7)


def test_one_band_is_ridge():
    for p in (9, 90):
        x, y, _ = data(60, (p,))
        usual = ridge_cv(x, y, alphas=GRID, folds=kfold(60))
        banded = banded_ridge_cv(x, y, bands=["only"] * p, alphas=GRID, folds=kfold(60))
        np.testing.assert_allclose(banded.scores[0], usual.cv_scores, atol=1e-10)
        np.testing.assert_array_equal(banded.alphas, usual.alphas)
        np.testing.assert_allclose(banded.coef, usual.coef, atol=1e-9)
        np.testing.assert_allclose(banded.intercept, usual.intercept, atol=1e-8)
        np.testing.assert_array_equal(banded.edge, usual.edge)
        assert (banded.gammas == 1).all()


@pytest.mark.parametrize("sizes", [(20,) * 3, (10,) * 8, (150,) * 3])
def test_the_true_band_wins(sizes):
    x, y, bands = data(200, sizes, t=8, noise=1.0)
    result = banded_ridge_cv(x, y, bands=bands, alphas=GRID, folds=kfold(200), n_iter=25, random_state=0)
    truth = np.arange(8) % len(sizes)
    np.testing.assert_array_equal(result.gammas.argmax(axis=0), truth)
    assert (result.gammas.max(axis=0) > 0.6).all()
    flat = ridge_cv(x, y, alphas=GRID, folds=kfold(200))
    assert (result.cv_scores > flat.cv_scores).all()


@pytest.mark.parametrize(
    "folds", [kfold(80, 5, seed=1), [(np.arange(30), np.arange(35, 80))], [(np.r_[0:40, 0:40], np.arange(40, 80))]]
)
@pytest.mark.parametrize("sizes", [(5, 4), (60, 40)])
@pytest.mark.parametrize("intercept", [True, False])
def test_any_kind_of_fold(folds, sizes, intercept):
    x, y, bands = data(80, sizes)
    result = banded_ridge_cv(
        x, y, bands=bands, alphas=GRID, folds=folds, n_iter=4, random_state=0, fit_intercept=intercept, tile=4
    )
    scores = explicit(x, y, bands, result.candidates, folds, intercept=intercept)
    np.testing.assert_allclose(result.scores, scores.max(axis=1), atol=1e-9)
    assert intercept or not result.intercept.any()


@pytest.mark.parametrize("sizes", [(6, 5), (60, 50)])
def test_bad_targets_and_dead_bands(sizes):
    x, y, bands = data(60, sizes, t=5)
    options = {"bands": np.r_[bands, [7, 7]], "alphas": GRID, "folds": kfold(60), "n_iter": 8, "random_state": 0}
    x = np.c_[x, np.full(60, 0.1), np.zeros(60)]  # a band that never changes
    clean = banded_ridge_cv(x, y, **options)
    assert (clean.gammas[2] == 0).all()
    assert not clean.coef[-2:].any()
    np.testing.assert_allclose(clean.gammas.sum(axis=0), 1)
    bad = y.copy()
    bad[3, 1], bad[:, 2] = np.nan, 0.1
    result = banded_ridge_cv(x, bad, **options)
    for name in ("cv_scores", "alphas", "gammas", "scores"):
        values = getattr(result, name)
        assert np.isnan(values[..., [1, 2]]).all()
        np.testing.assert_allclose(values[..., [0, 3, 4]], getattr(clean, name)[..., [0, 3, 4]], atol=1e-9)
    assert np.isnan(result.coef[:, 1]).all()
    assert not result.coef[:, 2].any()
    assert result.intercept[2] == 0.1
    given = banded_ridge_cv(x, y, **{**options, "gammas": [[0, 0, 1.0]]})
    assert not given.coef.any()
    np.testing.assert_allclose(given.intercept, y.mean(axis=0))
    refined = banded_ridge_cv(x, bad, **{**options, "search": "gradient"})
    assert (refined.gammas[2, [0, 3, 4]] == 0).all()


@pytest.mark.parametrize("search", ["random", "gradient"])
def test_features_that_never_change(search):
    _, y, _ = data(60, (2, 1))
    options = {"bands": ["a", "a", "b"], "alphas": GRID, "folds": kfold(60), "random_state": 0}
    result = banded_ridge_cv(np.full((60, 3), 2.0), y, search=search, **options)
    assert not result.coef.any()
    assert not result.gammas.any()
    np.testing.assert_allclose(result.intercept, y.mean(axis=0))
    assert (result.cv_scores <= 0).all()


@pytest.mark.parametrize("sizes", [(8, 6, 5), (60, 40, 30)])
@pytest.mark.parametrize("scorer", ["r2", "r"])
def test_gradient_search_never_loses(sizes, scorer):
    x, y, bands = data(90, sizes, t=4)
    options = {"bands": bands, "alphas": GRID, "folds": kfold(90), "scorer": scorer, "n_iter": 6, "random_state": 0}
    random = banded_ridge_cv(x, y, **options)
    better = banded_ridge_cv(x, y, search="gradient", **options)
    assert (better.cv_scores >= random.cv_scores).all()
    assert (better.cv_scores > random.cv_scores + 1e-6).any()
    np.testing.assert_array_equal(better.scores, random.scores)
    for j in range(4):  # the score is that of the weights that are given
        scale, score = np.sqrt(better.gammas[:, j])[bands], 0.0
        for train, test in kfold(90):
            model = Ridge(alpha=better.alphas[j], solver="svd").fit(x[train] * scale, y[train, j])
            score += float(SCORERS[scorer](y[test, j], model.predict(x[test] * scale))) / 4
        assert better.cv_scores[j] == pytest.approx(score, abs=1e-7)
        full = Ridge(alpha=better.alphas[j], solver="svd").fit(x * scale, y[:, j])
        np.testing.assert_allclose(better.coef[:, j], full.coef_ * scale, atol=1e-7)
    grams = [x[:, bands == b] @ x[:, bands == b].T for b in range(3)]
    options.pop("bands")
    kernel = banded_ridge_cv(None, y, kernels=grams, search="gradient", **options)
    np.testing.assert_allclose(kernel.cv_scores, better.cv_scores, atol=1e-5)


def test_gradient_and_hessian_are_the_derivatives():
    rng = np.random.default_rng(0)
    x, new, band = rng.standard_normal((40, 9)), rng.standard_normal((15, 9)), np.repeat([0, 1, 2], 3)
    y, truth = rng.standard_normal((40, 2)), rng.standard_normal((15, 2))
    parts = [(x[:, band == b], new[:, band == b]) for b in range(3)]
    primal = PrimalProblem(x.T @ x, new, band, 3), x.T @ y
    dual = DualProblem([a @ a.T for a, _ in parts], [b @ a.T for a, b in parts]), y
    for delta in ([-1.0, 0.5, -3.0], [2.0, -6.0, 1.0]):
        scale = np.sqrt(np.exp(delta))[band]
        model = Ridge(alpha=1.0, fit_intercept=False, solver="svd").fit(x * scale, y)
        for problem, statistic in (primal, dual):
            at = problem(np.exp(delta), statistic, truth)
            np.testing.assert_allclose(at.predicted, model.predict(new * scale), atol=1e-9)
            np.testing.assert_allclose(at.error, np.square(truth - at.predicted).sum(axis=0))
            for b, step in enumerate(1e-5 * np.eye(3)):
                above, below = (problem(np.exp(delta + sign * step), statistic, truth) for sign in (1, -1))
                np.testing.assert_allclose(at.gradient[:, b], (above.error - below.error) / 2e-5, rtol=1e-5, atol=1e-6)
                numeric = (above.gradient - below.gradient) / 2e-5
                np.testing.assert_allclose(at.hessian[:, b], numeric, rtol=1e-5, atol=1e-6)


def test_kernels_that_are_not_linear():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 6))
    y = np.c_[np.sin(2 * x[:, 0]), x[:, 3] ** 2] + 0.1 * rng.standard_normal((120, 2)) + 4
    kernels = [rbf_kernel(x[:, :3], gamma=0.3), rbf_kernel(x[:, 3:], gamma=0.3)]
    inside, new = np.arange(90), np.arange(90, 120)
    train = [k[np.ix_(inside, inside)] for k in kernels]
    for dtype in ("f8", "f4"):
        result = banded_ridge_cv(
            None,
            y[inside].astype(dtype),
            kernels=[k.astype(dtype) for k in train],
            alphas=np.logspace(-4, 2, 8),
            folds=kfold(90),
            n_iter=12,
            random_state=0,
        )
        assert (result.gammas.argmax(axis=0) == [0, 1]).all()
        cross = [k[np.ix_(new, inside)] for k in kernels]
        predicted = sum(g * (k @ result.coef) for g, k in zip(result.gammas, cross, strict=True)) + result.intercept
        assert (SCORERS["r2"](y[new], predicted) > 0.5).all()


def test_function_as_scorer_and_tiles():
    x, y, bands = data(60, (6, 5), t=9)
    options = {"bands": bands, "alphas": GRID, "folds": kfold(60), "n_iter": 5, "random_state": 0}
    named = banded_ridge_cv(x, y, **options)
    called = banded_ridge_cv(x, y, scorer=SCORERS["r2"], tile=2, **options)
    np.testing.assert_allclose(called.scores, named.scores, atol=1e-10)
    np.testing.assert_allclose(called.coef, named.coef, atol=1e-10)


def test_blocks_of_targets_change_nothing(monkeypatch):
    x, y, bands = data(60, (6, 5), t=9)
    options = {"bands": bands, "alphas": GRID, "folds": kfold(60), "n_iter": 5, "random_state": 0, "tile": 2}
    whole = banded_ridge_cv(x, y, **options)
    monkeypatch.setattr("neuroalign.solvers._banded_search._BUDGET", 1)
    small = banded_ridge_cv(x, y, **options)
    for name in ("coef", "intercept", "alphas", "gammas", "scores"):
        np.testing.assert_allclose(getattr(small, name), getattr(whole, name), atol=1e-12)


@pytest.mark.parametrize("unit", [1e-13, 1e12])
@pytest.mark.parametrize("sizes", [(6, 5), (50, 40)])
def test_units_do_not_matter(unit, sizes):
    x, y, bands = data(60, sizes, dtype="f4")
    options = {"bands": bands, "folds": kfold(60), "n_iter": 5, "random_state": 0}
    a = banded_ridge_cv(x, y, alphas=GRID, **options)
    b = banded_ridge_cv(x * np.float32(unit), y * np.float32(unit), alphas=GRID * unit**2, **options)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    np.testing.assert_allclose(a.coef, b.coef, atol=1e-4)


def test_steep_bands_in_float32():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    x = np.c_[rng.standard_normal((300, 40)) * np.arange(1, 41) ** -1.5 @ turn + 50, rng.standard_normal((300, 20))]
    y = x @ (rng.standard_normal((60, 30)) * np.r_[np.full(40, 3.0), np.full(20, 0.3)][:, None])
    y += 0.3 * rng.standard_normal((300, 30))
    bands, grid = np.repeat([0, 1], [40, 20]), np.logspace(-6, 3, 12)
    options = {"bands": bands, "alphas": grid, "folds": kfold(300), "n_iter": 8, "random_state": 0}
    double = banded_ridge_cv(x.astype("f4").astype("f8"), y.astype("f4").astype("f8"), **options)
    single = banded_ridge_cv(x.astype("f4"), y.astype("f4"), **options)
    np.testing.assert_allclose(single.scores, double.scores, atol=1e-5)
    assert (single.alphas == double.alphas).mean() >= 0.95


@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(6, 25),
    sizes=st.lists(st.integers(1, 15), min_size=1, max_size=8),
    t=st.integers(1, 5),
    k=st.integers(2, 4),
    seed=st.integers(0, 999),
)
def test_any_shape(n, sizes, t, k, seed):
    x, y, bands = data(n, tuple(sizes), t, seed)
    folds = kfold(n, k, seed)
    result = banded_ridge_cv(x, y, bands=bands, alphas=[0.1, 10.0, 1e3], folds=folds, n_iter=3, random_state=seed)
    for j in np.flatnonzero(~np.isnan(result.alphas)):
        scale = np.sqrt(result.gammas[:, j])[bands]
        model = Ridge(alpha=result.alphas[j], solver="svd").fit(x * scale, y[:, j])
        np.testing.assert_allclose(result.coef[:, j], model.coef_ * scale, atol=1e-7)
    np.testing.assert_allclose(np.nansum(result.gammas, axis=0)[~np.isnan(result.alphas)], 1)


def test_candidates():
    table = candidates(3, 50, 0, np.ones(3, bool))
    np.testing.assert_allclose(table.sum(axis=1), 1)
    np.testing.assert_array_equal(table[:4], np.r_[np.full((1, 3), 1 / 3), np.eye(3)])
    np.testing.assert_array_equal(table, candidates(3, 50, np.random.default_rng(0), np.ones(3, bool)))
    assert not candidates(3, 9, 0, np.array([True, False, True]))[:, 1].any()
    assert candidates(3, 2, 0, np.ones(3, bool)).shape == (2, 3)


def test_bands_by_slices_and_inputs_left_alone():
    x, y, bands = data(60, (6, 5))
    before = x.copy(), y.copy()
    options = {"alphas": GRID, "folds": kfold(60), "n_iter": 5, "random_state": 0}
    a = banded_ridge_cv(x, y, bands=bands, **options)
    b = banded_ridge_cv(x, y, bands=[slice(0, 6), slice(6, None)], **options)
    order = np.random.default_rng(0).permutation(11)
    c = banded_ridge_cv(x[:, order], y, bands=np.array(["a", "b"])[bands][order], **options)
    np.testing.assert_array_equal(a.coef, b.coef)
    swap = [0, 1] if c.bands[0] == "a" else [1, 0]
    np.testing.assert_allclose(c.scores[:1], a.scores[:1], atol=1e-12)
    np.testing.assert_allclose(c.scores[1:3][swap], a.scores[1:3], atol=1e-12)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_torch():
    torch = pytest.importorskip("torch")
    for sizes in ((6, 5), (40, 30)):
        x, y, bands = data(60, sizes)
        y[2, 1], y[:, 3] = np.nan, 1.0
        options = {"bands": bands, "alphas": GRID, "folds": kfold(60, seed=0), "n_iter": 5, "random_state": 0}
        arrays = banded_ridge_cv(x, y, **options)
        tensors = banded_ridge_cv(torch.from_numpy(x), torch.from_numpy(y), **options)
        for name in ("coef", "intercept", "alphas", "gammas", "scores", "cv_scores"):
            assert isinstance(getattr(tensors, name), torch.Tensor)
            np.testing.assert_allclose(getattr(tensors, name).numpy(), getattr(arrays, name), atol=1e-8)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"bands": [0, 1]}, ConfigError, "mark every feature"),
        ({"bands": None}, ConfigError, "no bands"),
        ({"bands": [slice(0, 2), slice(1, 4)]}, ConfigError, "share out"),
        ({"search": "grid"}, ConfigError, "Unknown search"),
        ({"n_iter": 0}, ConfigError, "n_iter"),
        ({"max_iter": 0}, ConfigError, "max_iter"),
        ({"tile": 0}, ConfigError, "tile"),
        ({"gammas": [[1.0, 0.0, 0.0]]}, ConfigError, "band weights"),
        ({"gammas": [[-1.0, 2.0]]}, ConfigError, "band weights"),
        ({"alphas": [-1.0]}, ConfigError, "finite numbers >= 0"),
        ({"scorer": "accuracy"}, ConfigError, "Unknown scorer"),
        ({"kernels": [np.eye(10)]}, ConfigError, "stand for X and bands"),
        ({"X": None, "bands": None, "kernels": []}, ConfigError, "no kernels"),
        ({"X": None, "bands": None, "kernels": [np.eye(9)]}, SchemaError, "samples by samples"),
        ({"X": np.full((10, 4), np.nan)}, SchemaError, "NaN"),
        ({"X": np.zeros((9, 4))}, SchemaError, "number of samples"),
    ],
)
def test_refusals(change, error, words):
    arguments = {"X": np.eye(10, 4), "Y": np.eye(10, 3), "alphas": [1.0], "folds": [(np.arange(5), np.arange(5, 10))]}
    arguments |= {"bands": [0, 0, 1, 1], **change}
    with pytest.raises(error, match=words):
        banded_ridge_cv(arguments.pop("X"), arguments.pop("Y"), **arguments)
