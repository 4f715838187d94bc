"""pls_cv against a model of scikit-learn for every fold and number of components."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.model_selection import KFold

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import SCORERS
from neuroalign.solvers import pls_cv

GRID = [1, 2, 3, 5, 8]


def data(n=60, p=20, t=6):
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((n, 3))
    x = latent @ rng.standard_normal((3, p)) + 0.5 * rng.standard_normal((n, p)) + 2
    return x, latent @ rng.standard_normal((3, t)) + rng.standard_normal((n, t)) - 4


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("p", [20, 90])
def test_the_loop_of_scikit_learn(p, scorer, scale):
    x, y = data(p=p)
    folds = list(KFold(4).split(x))
    result = pls_cv(x, y, n_components=GRID, folds=folds, scorer=scorer, scale=scale)
    scores = np.zeros((len(GRID), y.shape[1]))
    for train, test in folds:
        for i, number in enumerate(GRID):
            model = PLSRegression(number, scale=scale, max_iter=5000).fit(x[train], y[train])
            scores[i] += SCORERS[scorer](y[test], model.predict(x[test])) / 4
    np.testing.assert_allclose(result.scores, scores, atol=1e-6)
    assert result.n_components == GRID[scores.mean(axis=1).argmax()]
    np.testing.assert_allclose(result.cv_scores, scores[scores.mean(axis=1).argmax()], atol=1e-6)
    model = PLSRegression(result.n_components, scale=scale, max_iter=5000).fit(x, y)
    np.testing.assert_allclose(x @ result.coef + result.intercept, model.predict(x), atol=1e-6)
    assert not result.edge


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_give_tensors(dtype):
    torch = pytest.importorskip("torch")
    x, y = (part.astype(dtype) for part in data())
    folds = list(KFold(4).split(x))
    plain = pls_cv(x, y, n_components=GRID, folds=folds)
    for one, other in ((torch.as_tensor(x), y), (x, torch.as_tensor(y))):
        tensors = pls_cv(one, other, n_components=GRID, folds=folds)
        for name in ("coef", "intercept", "scores", "cv_scores"):
            assert getattr(tensors, name).dtype == torch.float64
            np.testing.assert_array_equal(getattr(tensors, name), getattr(plain, name))
        assert (tensors.n_components, tensors.edge) == (plain.n_components, plain.edge)


def test_bad_targets_and_order_of_the_grid():
    x, y = data()
    folds = list(KFold(4).split(x))
    clean = pls_cv(x, y[:, [0, 3, 4, 5]], n_components=GRID, folds=folds)
    y[3, 1], y[:, 2] = np.nan, 1.0
    result = pls_cv(x, y, n_components=GRID[::-1], folds=folds)
    np.testing.assert_array_equal(np.isnan(result.cv_scores), [0, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(result.scores[::-1][:, [0, 3, 4, 5]], clean.scores, atol=1e-6)
    assert result.n_components == clean.n_components
    assert np.isnan(result.coef[:, 1]).all()
    assert not result.coef[:, 2].any()
    assert result.intercept[2] == 1.0
    assert pls_cv(x, y, n_components=[1, 2], folds=folds).edge


def test_constant_targets_only():
    x, _ = data()
    result = pls_cv(x, np.full((60, 2), 3.0), n_components=[2, 1], folds=list(KFold(3).split(x)))
    assert np.isnan(result.cv_scores).all()
    assert not result.coef.any()
    np.testing.assert_array_equal(result.intercept, 3.0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"n_components": [0, 1]}, ConfigError, "from 1 to 2"),
        ({"n_components": [3]}, ConfigError, "from 1 to 2"),
        ({"n_components": [1, 1]}, ConfigError, "different integers"),
        ({"n_components": [1.5]}, ConfigError, "different integers"),
        ({"Y": np.full((10, 1), np.nan)}, SchemaError, "Every target"),
        ({"Y": np.ones((9, 1))}, SchemaError, "number of samples"),
        ({"scorer": "mse"}, ConfigError, "Unknown scorer"),
    ],
)
def test_refusals(change, error, words):
    rng = np.random.default_rng(0)
    arguments = {"X": rng.standard_normal((10, 2)), "Y": rng.standard_normal((10, 3)), "n_components": [1]}
    arguments |= {"folds": [(np.arange(5), np.arange(5, 10))]} | change
    with pytest.raises(error, match=words):
        pls_cv(arguments.pop("X"), arguments.pop("Y"), **arguments)
