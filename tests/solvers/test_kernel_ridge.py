"""Kernel ridge against ridge on features, scikit-learn and himalaya."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.model_selection import KFold

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import SCORERS, r2_score
from neuroalign.solvers import kernel_matrix, kernel_ridge_cv, kernel_ridge_predict, ridge_cv

GRID = np.logspace(-3, 3, 7)
KERNELS = [("linear", {}), ("rbf", {"gamma": 0.05}), ("polynomial", {"gamma": 0.1, "degree": 2, "coef0": 1.0})]


def data(n=60, p=8, t=5, dtype="f8"):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, p)) + 1
    y = np.tanh(x @ rng.standard_normal((p, t))) * 3 + rng.standard_normal((n, t)) + 4
    return x.astype(dtype), y.astype(dtype)


def folds(n=60, seed=None):
    return list(KFold(4, shuffle=seed is not None, random_state=seed).split(np.zeros(n)))


@pytest.mark.parametrize(("kernel", "options"), KERNELS)
def test_kernel_matrix_of_scikit_learn(kernel, options):
    x, _ = data()
    np.testing.assert_allclose(
        kernel_matrix(x[:20], x[20:], kernel=kernel, **options),
        pairwise_kernels(x[:20], x[20:], metric=kernel, **options),
        atol=1e-10,
    )
    np.testing.assert_allclose(kernel_matrix(x, kernel=kernel), pairwise_kernels(x, metric=kernel), atol=1e-9)


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("scorer", [*SCORERS, r2_score])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("p", [8, 100])
def test_linear_kernel_is_ridge(p, intercept, scorer, seed):
    x, y = data(p=p)
    options = {"alphas": GRID, "folds": folds(seed=seed), "scorer": scorer, "fit_intercept": intercept}
    mine, primal = kernel_ridge_cv(x, y, kernel="linear", **options), ridge_cv(x, y, **options)
    np.testing.assert_allclose(mine.scores, primal.scores, atol=1e-8)
    np.testing.assert_allclose(mine.alphas, primal.alphas)
    np.testing.assert_allclose(x.T @ mine.dual_coef, primal.coef, atol=1e-8)
    np.testing.assert_allclose(mine.intercept, primal.intercept, atol=1e-7)
    np.testing.assert_allclose(
        kernel_ridge_predict(mine, kernel_matrix(x[:7], x)), x[:7] @ primal.coef + primal.intercept, atol=1e-8
    )


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize(("kernel", "options"), KERNELS)
def test_kernel_ridge_of_scikit_learn(kernel, options, dtype):
    x, y = data(dtype=dtype)
    result = kernel_ridge_cv(x, y, alphas=GRID, folds=folds(seed=0), kernel=kernel, fit_intercept=False, **options)
    wide = x.astype("f8"), y.astype("f8")
    scores = np.zeros((len(GRID), y.shape[1]))
    for train, test in folds(seed=0):
        for i, alpha in enumerate(GRID):
            model = KernelRidge(alpha=alpha, kernel=kernel, **options).fit(wide[0][train], wide[1][train])
            scores[i] += r2_score(wide[1][test], model.predict(wide[0][test])) / 4
    tolerance = 1e-8 if dtype == "f8" else 3e-5
    np.testing.assert_allclose(result.scores, scores, atol=tolerance, rtol=tolerance)
    if dtype == "f8":
        model = KernelRidge(alpha=result.alphas, kernel=kernel, **options).fit(*wide)
        new = kernel_matrix(x[:9] + 0.1, x, kernel=kernel, **options)
        np.testing.assert_allclose(kernel_ridge_predict(result, new), model.predict(x[:9] + 0.1), atol=1e-7)


def test_himalaya():
    peer = pytest.importorskip("himalaya.kernel_ridge")
    x, y = data(p=100)
    options = {"score_func": pytest.importorskip("himalaya.scoring").r2_score}
    model = peer.KernelRidgeCV(alphas=GRID, cv=KFold(4), fit_intercept=True, solver_params=options).fit(x, y)
    mine = kernel_ridge_cv(x, y, alphas=GRID, folds=folds(), kernel="linear")
    np.testing.assert_allclose(mine.alphas, model.best_alphas_)
    np.testing.assert_allclose(mine.cv_scores, model.cv_scores_, atol=1e-8)
    np.testing.assert_allclose(kernel_ridge_predict(mine, x @ x.T), model.predict(x), atol=1e-8)


def test_precomputed_function_and_unit():
    x, y = data(p=100)
    linear = kernel_ridge_cv(x, y, alphas=GRID, folds=folds(), kernel="linear")
    for unit in (1.0, 1e-20, 1e15):
        given = kernel_ridge_cv(x @ x.T * unit, y, alphas=GRID * unit, folds=folds())
        np.testing.assert_allclose(given.scores, linear.scores, atol=1e-8)
        np.testing.assert_allclose(given.dual_coef * unit, linear.dual_coef, atol=1e-8)
        np.testing.assert_allclose(given.alphas, linear.alphas * unit)
        np.testing.assert_array_equal(given.edge, linear.edge)
    made = kernel_ridge_cv(x, y, alphas=GRID, folds=folds(), kernel=lambda a, b: a @ b.T)
    np.testing.assert_allclose(made.scores, linear.scores, atol=1e-10)


def test_torch_and_bad_targets():
    torch = pytest.importorskip("torch")
    x, y = data()
    y[3, 1], y[:, 2] = np.nan, 1.0
    mine = kernel_ridge_cv(x, y, alphas=GRID, folds=folds(), kernel="rbf", alpha_per_target="pooled", tile=2)
    np.testing.assert_array_equal(np.isnan(mine.cv_scores), [0, 1, 1, 0, 0])
    tensors = kernel_ridge_cv(
        torch.from_numpy(x), torch.from_numpy(y), alphas=GRID, folds=folds(), kernel="rbf", alpha_per_target="pooled"
    )
    np.testing.assert_allclose(tensors.dual_coef.numpy(), mine.dual_coef, atol=1e-9)
    np.testing.assert_allclose(tensors.scores.numpy(), mine.scores, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"K": np.ones((10, 3))}, SchemaError, "symmetric kernel"),
        ({"K": np.triu(np.ones((10, 10)))}, SchemaError, "not symmetric"),
        ({"K": np.eye(9)}, SchemaError, "number of samples"),
        ({"kernel": "cosine"}, ConfigError, "Unknown kernel"),
        ({"alpha_per_target": "some"}, ConfigError, "share alphas"),
        ({"K": np.full((10, 10), np.nan)}, SchemaError, "NaN"),
    ],
)
def test_refusals(change, error, words):
    arguments = {"K": np.eye(10), "Y": np.eye(10, 3), "alphas": [1.0], "folds": [(np.arange(5), np.arange(5, 10))]}
    arguments.update(change)
    with pytest.raises(error, match=words):
        kernel_ridge_cv(arguments.pop("K"), arguments.pop("Y"), **arguments)
    with pytest.raises(SchemaError, match="number of features"):
        kernel_matrix(np.eye(3), np.eye(2))
    result = kernel_ridge_cv(np.eye(4), np.eye(4), alphas=[1.0], folds=[([0, 1], [2, 3])])
    with pytest.raises(SchemaError, match="new and training"):
        kernel_ridge_predict(result, np.eye(3))
