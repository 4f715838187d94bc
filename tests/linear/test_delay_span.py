"""What delays reach beside a stretch that is left out is not trained on, outside and inside; runs are whole."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.pipeline import make_pipeline

from neuroalign.decoding import TRFDecoder
from neuroalign.encoding import BandedRidgeEncoder, RidgeEncoder, TRFEncoder
from neuroalign.evaluation import ContiguousSplit, cross_validate, partition_variance, select_model
from neuroalign.preprocess import Delayer, Standardizer
from neuroalign.protocol import load_model
from neuroalign.solvers import ridge_cv


def series(n=120, sfreq=2.0, **coords):
    rng = np.random.default_rng(0)
    time = {"time": np.arange(n) / sfreq} | {name: ("time", values) for name, values in coords.items()}
    walk = rng.normal(size=(n + 9, 5)).cumsum(axis=0)
    x, y = walk[9:] - walk[:-9], rng.normal(size=(n, 3)).cumsum(axis=0)
    attrs = {"sfreq": sfreq, "units": "a.u."}
    features = xr.DataArray(x, dims=("time", "unit"), coords=time, attrs=attrs)
    return features, xr.DataArray(y, dims=("time", "voxel"), coords=time, attrs=attrs)


GRID = np.logspace(0, 4, 9)
DELAYS = [([1, 2, 5], "samples", 4), ([0.5, 2.5], "s", 4), ([-1, 3], "samples", 4)]


@pytest.mark.parametrize(("delays", "units", "span"), DELAYS)
@pytest.mark.filterwarnings("ignore:The grid of alphas")
def test_inner_folds(delays, units, span, tmp_path):
    X, y = series()
    delayed = Standardizer().fit_transform(Delayer(delays, units=units).fit_transform(X))
    model = RidgeEncoder(alphas=GRID, cv=4).fit(delayed, y)
    values = delayed.values.reshape(len(X), -1)
    found = {
        gap: ridge_cv(values, y.values, alphas=GRID, folds=list(ContiguousSplit(4, gap=gap).split(values))).cv_scores
        for gap in (0, span)
    }
    np.testing.assert_allclose(model.cv_scores_, found[span], rtol=1e-9)
    assert np.abs(found[span] - found[0]).min() > 1e-6
    again = load_model(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(delayed), model.predict(delayed))
    banded = BandedRidgeEncoder(alphas=[10.0], cv=4, n_iter=1, random_state=0).fit(delayed, y)
    wide = BandedRidgeEncoder(alphas=[10.0], cv=ContiguousSplit(4, gap=span), n_iter=1, random_state=0).fit(delayed, y)
    np.testing.assert_array_equal(banded.cv_scores_, wide.cv_scores_)


@pytest.mark.parametrize(("delays", "units", "span"), DELAYS)
def test_outer_folds_of_delayed_features(delays, units, span):
    X, y = series()
    model = make_pipeline(Delayer(delays, units=units), RidgeEncoder(alphas=[10.0]))
    result = cross_validate(model, X, y)
    same = cross_validate(model, X, y, cv=ContiguousSplit(5, gap=span))
    none = cross_validate(model, X, y, cv=ContiguousSplit(5))
    np.testing.assert_array_equal(result.data["fold_score"], same.data["fold_score"])
    assert (result.data["fold_score"] != none.data["fold_score"]).all()
    layers = {"a": X, "b": X[:, ::-1] ** 2}
    chosen = select_model(model, layers, y)
    np.testing.assert_array_equal(chosen["candidate_score"][0], same.score)


@pytest.mark.parametrize("cls", [TRFEncoder, TRFDecoder])
def test_outer_folds_of_response_functions(cls):
    X, y = series()
    model = cls(tmin=-0.5, tmax=2.0, alphas=[10.0])
    result = cross_validate(model, X, y)
    same = cross_validate(model, X, y, cv=ContiguousSplit(5, gap=5))
    np.testing.assert_array_equal(result.data["fold_score"], same.data["fold_score"])
    plain = cross_validate(cls(tmin=-0.5, tmax=2.0, sfreq=2.0, alphas=[10.0]), X.values, y.values)
    assert np.isfinite(plain.score).all()
    parts = partition_variance(
        TRFEncoder(tmax=1.0, alphas=[10.0]), {"a": X[:, :2], "b": X[:, 2:]}, y, cv=4, split=False
    )
    wide = partition_variance(
        TRFEncoder(tmax=1.0, alphas=[10.0]),
        {"a": X[:, :2], "b": X[:, 2:]},
        y,
        cv=ContiguousSplit(4, gap=2),
        split=False,
    )
    np.testing.assert_array_equal(parts["total"], wide["total"])


def test_runs_are_left_out_whole():
    X, y = series(run=np.repeat([1, 2, 3, 4], 30))
    model = make_pipeline(Delayer([1, 5]), RidgeEncoder(alphas=[10.0], cv="run"))
    by_default, by_run = (cross_validate(model, X, y, cv=cv).data["fold_score"] for cv in (None, "run"))
    np.testing.assert_array_equal(by_default, by_run)
