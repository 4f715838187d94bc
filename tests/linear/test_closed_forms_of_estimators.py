"""Closed forms as inner folds, wherever a model is used; refused where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.encoding import BandedRidgeEncoder, PriorRidgeEncoder, RidgeEncoder, TRFEncoder
from neuroalign.errors import ConfigError
from neuroalign.evaluation import cross_validate, partition_variance, select_model
from neuroalign.preprocess import Standardizer
from neuroalign.solvers import default_alphas, ridge_cv


def labelled(n=40, dim="stimulus"):
    rng = np.random.default_rng(0)
    ids = {dim: [f"s{k}" for k in range(n)]}
    X = xr.DataArray(rng.normal(size=(n, 5)), dims=(dim, "unit"), coords=ids)
    y = xr.DataArray(X.values @ rng.normal(size=(5, 4)), dims=(dim, "voxel"), coords=ids)
    return X, y + rng.normal(size=y.shape)


MODELS = [RidgeEncoder(), RidgeDecoder(), RidgeDecoder(renormalise=True), RidgeEncoder(alpha_per_target=False)]


@pytest.mark.parametrize("cv", ["loo", "gcv"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore:The grid of alphas")
def test_inside_cross_validation_and_pipelines(model, cv):
    X, y = labelled()
    model = model.set_params(cv=cv, alphas=default_alphas(X.values))
    piped = cross_validate(make_pipeline(Standardizer(), model), X, y)
    alone = cross_validate(model, X, y)
    assert (alone.score > 0).all()
    np.testing.assert_allclose(piped.score, alone.score, atol=0.3)
    train = slice(8, None)
    fitted = model.fit(X[train], y[train])
    share = model.get_params()["alpha_per_target"]
    values = (part.values[train] for part in (X, y))
    result = ridge_cv(*values, alphas=model.alphas, folds=cv, alpha_per_target=share)
    np.testing.assert_array_equal(fitted.alphas_, result.alphas)
    np.testing.assert_allclose(alone.data["prediction"].sel(stimulus="s3"), fitted.predict(X[3:4])[0], rtol=1e-9)
    scores = cross_val_score(make_pipeline(StandardScaler(), model), X.values, y.values)
    assert np.isfinite(scores).all()
    assert np.isfinite(
        GridSearchCV(model, {"alpha_per_target": [True, False]}, cv=3).fit(X.values, y.values).best_score_
    )


@pytest.mark.parametrize("cv", ["loo", "gcv"])
def test_inside_other_procedures(cv):
    X, y = labelled()
    layers = {"a": X[:, :2], "b": X[:, 2:]}
    assert np.isfinite(partition_variance(RidgeEncoder(cv=cv), layers, y)["total"]).all()
    assert set(select_model(RidgeEncoder(cv=cv), layers, y)["chosen"].values) <= {"a", "b"}
    assert PriorRidgeEncoder(cv=cv).fit_prior(X, y).fit(X[:10], y[:10]).score(X[10:], y[10:]) > 0


@pytest.mark.parametrize("cv", ["loo", "gcv"])
def test_where_there_is_none(cv):
    X, y = labelled()
    for model in (
        BandedRidgeEncoder(cv=cv, random_state=0),
        TRFEncoder(cv=cv, sfreq=1.0),
        TRFDecoder(cv=cv, sfreq=1.0),
    ):
        with pytest.raises(ConfigError, match="no closed form here"):
            model.fit(X.values, y.values)
    with pytest.raises(ConfigError, match="no closed form here"):
        cross_validate(RidgeEncoder(), X, y, cv=cv)
    named = X.assign_coords({cv: ("stimulus", np.arange(40) // 10)})  # a coordinate of that name comes first
    assert cross_validate(RidgeEncoder(), named, y, cv=cv).data.sizes["fold"] == 4
    twice = X.assign_coords(stimulus=[f"s{k // 2}" for k in range(40)])
    for model in (RidgeEncoder(cv=cv), RidgeDecoder(cv=cv, renormalise=True)):
        with pytest.raises(ConfigError, match="on both sides"):
            model.fit(twice, y.assign_coords(stimulus=twice["stimulus"]))
        with pytest.raises(ConfigError, match="on both sides"):
            cross_validate(model, X, y, groups=np.arange(40) // 4)
