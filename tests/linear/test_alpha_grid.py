"""How the targets of a temporal response function share penalties."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from neuroalign.decoding import TRFDecoder
from neuroalign.encoding import TRFEncoder
from neuroalign.errors import ConfigError, IntegrityError
from neuroalign.linear import AlphaGrid
from neuroalign.protocol import load_model
from neuroalign.solvers import default_alphas, trf_cv

GRID = np.logspace(-2, 4, 7)


def recording(n=600, t=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return x, np.roll(x, 1, axis=0) @ rng.normal(size=(2, t)) + rng.normal(size=(n, t)) * np.geomspace(0.3, 30, t)


@pytest.mark.filterwarnings("ignore:The grid of alphas")
@pytest.mark.parametrize("cls", [TRFEncoder, TRFDecoder])
@pytest.mark.parametrize("alphas", [None, GRID])
@pytest.mark.parametrize("per_target", [True, False, "pooled"])
def test_it_is_the_solver(cls, alphas, per_target):
    x, y = recording()
    model = cls(tmax=0.02, sfreq=100.0, cv=4, alphas=AlphaGrid(alphas, per_target)).fit(
        x, y, groups=np.arange(600) // 150
    )
    pieces = np.split(np.arange(600), 4)
    result = trf_cv(
        [x[p] for p in pieces],
        [y[p] for p in pieces],
        lags=model.lag_samples_,
        alphas=default_alphas(x) if alphas is None else alphas,
        folds=[(np.delete(np.arange(4), k), [k]) for k in range(4)],
        alpha_per_target=per_target,
    )
    np.testing.assert_array_equal(model.alphas_, result.alphas)
    np.testing.assert_allclose(model.cv_scores_, result.cv_scores)
    assert model.alpha_per_target == per_target
    assert model.separable_targets is (per_target is True)
    assert (len(set(model.alphas_.tolist())) == 1) or per_target is not False


@pytest.mark.filterwarnings("ignore:The grid of alphas")
def test_it_is_cloned_searched_and_saved(tmp_path):
    x, y = recording()
    model = TRFEncoder(tmax=0.02, sfreq=100.0, alphas=AlphaGrid(GRID, per_target=False))
    fitted = clone(model).fit(x, y)
    again = load_model(fitted.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(x), fitted.predict(x))
    np.testing.assert_array_equal(again.alphas.alphas, GRID)
    assert again.alphas.per_target is False
    text = (tmp_path / "model" / "model.json").read_text()
    (tmp_path / "model" / "model.json").write_text(text.replace('"AlphaGrid"', '"system"'))
    with pytest.raises(IntegrityError, match="damaged"):
        load_model(tmp_path / "model")
    choices = [AlphaGrid(GRID, share) for share in (True, False)]
    search = GridSearchCV(model, {"alphas": choices}, cv=2).fit(x, y)
    assert search.best_params_["alphas"] in choices


def test_a_narrow_grid_is_told():
    x, y = recording()
    with pytest.warns(UserWarning, match="100% of targets chose its smallest value"):
        TRFEncoder(tmax=0.02, sfreq=100.0, alphas=AlphaGrid([1e5, 1e6], per_target=False)).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TRFEncoder(tmax=0.02, sfreq=100.0, alphas=AlphaGrid(per_target=False)).fit(x, y)
    with pytest.raises(ConfigError, match="alpha_per_target"):
        TRFEncoder(alphas=AlphaGrid(per_target="some"), sfreq=1.0).fit(x, y)
    with pytest.raises(ConfigError, match=">= 0"):
        TRFEncoder(alphas=AlphaGrid([-1.0]), sfreq=1.0).fit(x, y)
