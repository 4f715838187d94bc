"""Closed forms, pooled penalties, the reach of the default grid, and features far from zero."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuroalign.encoding import RidgeEncoder
from neuroalign.errors import ConfigError, NeuroalignWarning
from neuroalign.metrics import r2_score
from neuroalign.solvers import default_alphas, ridge_cv


def data(n=60, p=6, t=4):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, p))
    return x, x @ rng.standard_normal((p, t)) + rng.standard_normal((n, t))


@pytest.mark.parametrize("cv", ["loo", "gcv"])
def test_closed_forms(cv):
    x, y = data()
    grid = np.logspace(-2, 3, 6)
    model, result = RidgeEncoder(cv=cv, alphas=grid).fit(x, y), ridge_cv(x, y, alphas=grid, folds=cv)
    np.testing.assert_array_equal(model.alphas_, result.alphas)
    np.testing.assert_allclose(model.cv_scores_, result.cv_scores)


@pytest.mark.parametrize("cv", ["loo", "gcv"])
def test_closed_forms_are_for_independent_samples(cv):
    x, y = data()
    twice = np.repeat(np.arange(30), 2)
    with pytest.raises(ConfigError, match="both sides"):
        RidgeEncoder(cv=cv).fit(x, y, groups=twice)
    RidgeEncoder(cv=cv).fit(x, y, groups=np.arange(60))
    trials = {"stimulus_id": ("trial", twice)}
    labelled = [xr.DataArray(part, dims=("trial", "unit"), coords=trials) for part in (x, y)]
    with pytest.raises(ConfigError, match="one sample a stimulus"):
        RidgeEncoder(cv=cv).fit(*labelled)
    series = [xr.DataArray(part, dims=("time", "unit"), coords={"time": np.arange(60) / 10}) for part in (x, y)]
    with pytest.warns(NeuroalignWarning, match="time series"):
        RidgeEncoder(cv=cv).fit(*series)


def test_pooled():
    x, y = data()
    model = RidgeEncoder(alpha_per_target="pooled", cv=4).fit(x, y)
    assert np.isfinite(model.alphas_).all()
    assert not model.separable_targets
    with pytest.raises(ConfigError, match="held-out folds"):
        RidgeEncoder(alpha_per_target="pooled", cv="loo").fit(x, y)


def test_the_default_grid_reaches_what_wants_to_be_nothing():
    x, _ = data()
    model = RidgeEncoder().fit(x, np.random.default_rng(1).standard_normal((60, 40)))
    assert model.alphas_.max() > default_alphas(x)[-1]


@pytest.mark.parametrize("offset", [0, 1e3, 1e5])
def test_features_far_from_zero(offset):
    """In float32, 1e5 standard deviations from zero."""
    x = (data(n=400, p=20)[0] + offset).astype("f4")
    y = ((x.astype("f8") - offset) @ np.random.default_rng(2).standard_normal((20, 3))).astype("f4")
    model = RidgeEncoder().fit(x[:300], y[:300])
    predicted = model.predict(x[300:])
    assert predicted.dtype == np.float32
    assert r2_score(y[300:], predicted).min() > 1 - 1e-6
