"""Models whose features are scaled inside the folds: on arrays, in stores, and after saving."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.model_selection import GridSearchCV

import neuroalign as na
from neuroalign import storage
from neuroalign.decoding import RidgeDecoder
from neuroalign.encoding import RidgeEncoder
from neuroalign.errors import ConfigError
from neuroalign.linear import fit_to_store
from neuroalign.solvers import default_alphas, ridge_cv

FOLDS = [(np.r_[0:30, 60:90], np.arange(30, 60)), (np.arange(60), np.arange(60, 90))]


def data(p=6, t=5):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, p)) * np.linspace(1, 3, 90)[:, None] + 2
    y = x @ rng.standard_normal((p, t)) + 3 * rng.standard_normal((90, t))
    return x * 10 ** rng.uniform(-3, 3, p), y


@pytest.mark.parametrize("kind", [RidgeEncoder, RidgeDecoder])
@pytest.mark.parametrize("p", [6, 120])
def test_units_do_not_matter(kind, p):
    x, y = data(p)
    factor = 10 ** np.random.default_rng(1).uniform(-6, 6, p)
    options = [{}, {"renormalise": True}, {"alpha_per_target": "pooled"}] if kind is RidgeDecoder else [{}]
    for more in options:
        one = kind(cv=FOLDS, standardize=True, **more).fit(x, y)
        two = kind(cv=FOLDS, standardize=True, **more).fit(x * factor, y)
        np.testing.assert_allclose(two.alphas_, one.alphas_)  # the default grid is that of scaled features, too
        np.testing.assert_allclose(two.predict(x * factor), one.predict(x), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(two.cv_scores_, one.cv_scores_, atol=1e-8)
        np.testing.assert_allclose(two.coef_ * factor[:, None], one.coef_, rtol=1e-4, atol=1e-8)
    plain = kind(cv=FOLDS).fit(x, y), kind(cv=FOLDS).fit(x * factor, y)
    assert np.abs(plain[1].predict(x * factor) - plain[0].predict(x)).max() > 0.1


def test_it_is_the_solver_with_the_grid_of_scaled_features():
    x, y = data()
    model = RidgeEncoder(cv=FOLDS, standardize=True).fit(x, y)
    grid = default_alphas(x / x.std(axis=0), 27, decades=(-4.0, 7.0))
    result = ridge_cv(x, y, alphas=grid, folds=FOLDS, standardize=True)
    np.testing.assert_allclose(model.alphas_, result.alphas)
    np.testing.assert_allclose(model.coef_, result.coef, rtol=1e-9)
    with pytest.raises(ConfigError, match="no closed form"):
        RidgeEncoder(cv="loo", standardize=True).fit(x, y)
    with pytest.raises(ConfigError, match="no closed form"):
        RidgeDecoder(cv="gcv", standardize=True, renormalise=True).fit(x, y)
    search = GridSearchCV(RidgeEncoder(cv=3), {"standardize": [False, True]}, cv=2).fit(x, y)
    assert search.best_params_["standardize"] in (False, True)


def test_rows_that_are_left_out_by_an_outer_fold_teach_nothing():
    x, y = data()
    rng, test = np.random.default_rng(2), np.arange(70, 90)
    other = x.copy()
    other[test] = 100 * x[rng.permutation(test)]
    first, second = (RidgeEncoder(cv=3, standardize=True).fit(rows[:70], y[:70]) for rows in (x, other))
    np.testing.assert_array_equal(first.coef_, second.coef_)


@pytest.mark.parametrize("p", [6, 120])
def test_stores_and_files(p, tmp_path):
    x, y = data(p, 40)
    ids = {"stimulus": [f"image-{k}" for k in range(90)]}
    X, Y = (xr.DataArray(part, dims=("stimulus", dim), coords=ids) for part, dim in ((x, "unit"), (y, "voxel")))
    encoder = RidgeEncoder(cv=FOLDS, standardize=True).fit(X, Y)
    path = fit_to_store(RidgeEncoder(cv=FOLDS, standardize=True), X, Y, tmp_path / "r.zarr", chunk=16)
    ds = storage.open(path)
    np.testing.assert_array_equal(ds["alphas"], encoder.alphas_)
    np.testing.assert_allclose(ds["coef"], encoder.coef_, rtol=1e-6)
    decoder = RidgeDecoder(cv=FOLDS, standardize=True).fit(X, Y)
    for number, model in enumerate((encoder, decoder)):
        model.save(tmp_path / str(number))
        loaded = na.load_model(tmp_path / str(number))
        assert loaded.standardize is True
        xr.testing.assert_equal(loaded.predict(X), model.predict(X))
