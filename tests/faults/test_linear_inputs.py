"""Nasty inputs of linear models and their evaluation (rows 9, 14 and 19): refused in words, or as if alone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from sklearn.model_selection import KFold

from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.encoding import BandedRidgeEncoder, PriorRidgeEncoder, RidgeEncoder, TRFEncoder
from neuroalign.errors import AlignmentError, ConfigError, NeuroalignWarning, SchemaError
from neuroalign.evaluation import cross_validate, noise_ceiling, partition_variance
from neuroalign.linear import AlphaGrid

MODELS = [
    RidgeEncoder(),
    RidgeDecoder(),
    RidgeDecoder(renormalise=True),
    BandedRidgeEncoder(n_iter=3, random_state=0),
    PriorRidgeEncoder(),
    TRFEncoder(sfreq=1.0, tmax=1.0),
    TRFDecoder(sfreq=1.0, tmax=1.0),
]


def labelled(n=40, repeats=1):
    rng = np.random.default_rng(0)
    ids = {"stimulus": [f"s{k // repeats}" for k in range(n)]}
    X = xr.DataArray(rng.normal(size=(n, 5)), dims=("stimulus", "unit"), coords=ids)
    y = xr.DataArray(X.values @ rng.normal(size=(5, 4)), dims=("stimulus", "voxel"), coords=ids)
    return X, y + rng.normal(size=y.shape)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_bad_targets_and_features(model):
    """Targets that cannot be learned are NaN, counted, and change nothing for the others."""
    X, y = (part.values for part in labelled())
    bad = y.copy()
    bad[:, 0], bad[3, 1], bad[:, 2] = np.nan, np.inf, 5.0
    with pytest.warns(NeuroalignWarning, match="2 of 4 targets hold NaN or Inf and 1 of 4 targets are constant"):
        scores = model.fit(X, bad).score_map(X, bad)
    found = model.predict(X)
    assert np.isnan(scores[:3]).all()
    assert np.isnan(found[:, :2]).all()
    np.testing.assert_allclose(found[:, 2], 5.0)
    if not isinstance(model, PriorRidgeEncoder):  # whose hyperparameters are of all targets together
        np.testing.assert_allclose(found[:, 3], model.fit(X, y[:, 3]).predict(X), rtol=1e-9)
    flat = X.copy()
    flat[:, 0] = 3.0
    coef = model.fit(flat, y).coef_
    if not isinstance(model, TRFEncoder | TRFDecoder):  # whose constant features still start and end
        np.testing.assert_allclose(coef[0], 0.0, atol=1e-12)
    assert np.isfinite(model.fit(np.repeat(X, 40, axis=1), y).predict(np.repeat(X, 40, axis=1))).all()
    assert np.isfinite(model.fit(np.ones((40, 3)), y).predict(np.ones((2, 3)))).all()
    with pytest.raises(SchemaError, match="No target is finite"):
        model.fit(X, y * np.nan)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X * np.nan, y)


def test_partition_of_targets_that_cannot_be_learned():
    X, y = labelled()
    y[:, 0], y[3, 1], y[:, 2] = np.nan, np.inf, 5.0
    spaces = {"a": X[:, :2], "b": X[:, 2:]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parts = partition_variance(RidgeEncoder(), spaces, y)
    assert [w.category for w in caught] == [NeuroalignWarning]
    for name in ("unique", "shared", "total", "split"):
        assert np.isnan(parts[name][..., :3]).all()
    alone = partition_variance(RidgeEncoder(), spaces, y[:, 3:])
    np.testing.assert_allclose(parts["split"][..., 3:], alone["split"], rtol=1e-9)


def test_repeats_on_both_sides_of_inner_folds_are_told():
    """Outer folds are refused; inner ones choose too small penalties, which is said once."""
    X, y = labelled(repeats=2)
    halves = [(np.arange(0, 40, 2), np.arange(1, 40, 2))]
    with pytest.raises(AlignmentError, match="stimulus is in training and in test"):
        cross_validate(RidgeEncoder(), X, y, cv=halves)
    for cls in (RidgeEncoder, RidgeDecoder, BandedRidgeEncoder):
        with pytest.warns(NeuroalignWarning, match="test of inner folds"):
            cls(cv=halves).fit(X, y)
        cls(cv=5).fit(X, y)
    with pytest.warns(NeuroalignWarning, match="in training and in test of inner") as caught:
        cross_validate(RidgeEncoder(cv=KFold(5, shuffle=True, random_state=0)), X, y, cv=4)
    assert len(caught) == 1
    with pytest.warns(NeuroalignWarning, match="The same group"):
        RidgeEncoder(cv=halves).fit(X.values, y.values, groups=np.arange(40) // 2)


@pytest.mark.parametrize("folds", [5, "loo"])
def test_scorers_that_give_no_score_a_target(folds):
    X, y = (part.values for part in labelled())
    for scorer in (lambda a, b: 0.0, lambda a, b: np.zeros(3), lambda a, b: "good"):
        with pytest.raises(ConfigError, match="one score a target"):
            RidgeEncoder(cv=folds, scorer=scorer).fit(X, y)
        for model in (BandedRidgeEncoder(scorer=scorer, n_iter=2), TRFEncoder(scorer=scorer, sfreq=1.0)):
            with pytest.raises(ConfigError, match="one score a target"):
                model.fit(X, y)


def test_missing_labels():
    X, y = labelled()
    for missing in ([None] * 40, np.full(40, np.nan), [*range(39), None]):
        with pytest.raises(SchemaError, match="label is missing"):
            RidgeEncoder().fit(X, y, groups=missing)
        with pytest.raises(SchemaError, match="label is missing"):
            cross_validate(RidgeEncoder(), X, y, groups=missing)


@pytest.mark.parametrize("alphas", [[np.nan], [-1.0], [], "x", [1.0, 1.0], [[1.0, 2.0]], np.inf])
def test_grids_that_are_none(alphas):
    X, y = (part.values for part in labelled())
    for model in (RidgeEncoder(), RidgeDecoder(), BandedRidgeEncoder(), TRFEncoder(sfreq=1.0)):
        with pytest.raises(ConfigError, match="alphas"):
            model.set_params(alphas=alphas).fit(X, y)
    with pytest.raises(ConfigError, match="alphas"):
        TRFEncoder(sfreq=1.0, alphas=AlphaGrid(alphas)).fit(X, y)


def test_ceiling_by_the_sample_dimension():
    y = labelled(repeats=2)[1]
    by_dim = noise_ceiling(y, repeats="stimulus", method="explainable_variance")
    as_trials = y.rename(stimulus="trial").assign_coords(stimulus_id=("trial", y["stimulus"].values))
    np.testing.assert_array_equal(
        by_dim, noise_ceiling(as_trials, repeats="stimulus_id", method="explainable_variance")
    )
