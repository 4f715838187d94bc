"""Scores per target against scikit-learn, scipy and hand values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import SCORERS, explained_variance, get_scorer, pearson_r, r2_score


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((50, 7)) * 10.0 ** np.arange(-3, 4) + 5
    return y, 0.5 * y + rng.standard_normal(y.shape)


def test_against_sklearn_and_scipy(pair):
    y, p = pair
    raw = {"multioutput": "raw_values"}
    np.testing.assert_allclose(r2_score(y, p), sklearn.metrics.r2_score(y, p, **raw), rtol=1e-12)
    np.testing.assert_allclose(explained_variance(y, p), sklearn.metrics.explained_variance_score(y, p, **raw))
    np.testing.assert_allclose(pearson_r(y, p), scipy.stats.pearsonr(y, p).statistic, rtol=1e-12)


@pytest.mark.parametrize("name", SCORERS)
def test_axis_dtype_and_unscorable_targets(name, pair):
    y, p = pair
    score = SCORERS[name]
    full = score(y, p)
    np.testing.assert_array_equal(score(y.T, p.T, axis=1), full)
    np.testing.assert_array_equal(score(y.T, p.T, axis=-1), full)
    np.testing.assert_allclose(score(y.astype("f4"), p.astype("f4"))[3:], full[3:], rtol=1e-4)
    y, p = y.copy(), p.copy()
    y[:, 0], y[3, 1], p[2, 2], y[1, 3] = 0.1, np.nan, np.inf, -np.inf
    result = score(y, p)
    assert np.isnan(result[:4]).all()
    np.testing.assert_array_equal(result[4:], full[4:])
    assert result.dtype == np.float64
    assert score(y[:, 5], p[:, 5]).shape == ()
    assert score(y.reshape(50, 7, 1), p.reshape(50, 7, 1)).shape == (7, 1)


@pytest.mark.parametrize("name", SCORERS)
def test_one_sample_cannot_be_scored(name):
    assert np.isnan(SCORERS[name](np.ones((1, 2)), np.ones((1, 2)))).all()
    with pytest.raises(SchemaError, match="no samples"):
        SCORERS[name](np.ones((0, 2)), np.ones((0, 2)))


def test_constant_prediction():
    y = np.arange(5.0)
    assert pearson_r(y, np.full(5, 0.1)) == 0.0
    assert explained_variance(y, np.full(5, 7.0)) == pytest.approx(0.0)
    assert r2_score(y, np.full(5, 2.0)) == pytest.approx(0.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 2**16), st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_invariances(n, t, seed, gain, offset):
    rng = np.random.default_rng(seed)
    y, p = rng.standard_normal((2, n, t))
    np.testing.assert_allclose(pearson_r(y, p * gain + offset * gain), pearson_r(y, p), atol=1e-9)
    np.testing.assert_allclose(explained_variance(y, p + offset), explained_variance(y, p), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(r2_score(y * gain, p * gain), r2_score(y, p), rtol=1e-9)
    assert (r2_score(y, p) <= explained_variance(y, p) + 1e-12).all()
    assert (np.abs(pearson_r(y, p)) <= 1).all()
    np.testing.assert_array_equal(r2_score(y, y), 1.0)
    order = rng.permutation(n)
    np.testing.assert_allclose(r2_score(y[order], p[order]), r2_score(y, p), rtol=1e-9, atol=1e-12)


def test_tiny_units_do_not_underflow():
    rng = np.random.default_rng(1)
    y, p = rng.standard_normal((2, 20))
    assert pearson_r(y * 1e-180, p * 1e-180) == pytest.approx(pearson_r(y, p))


def test_wrong_input():
    with pytest.raises(SchemaError, match="differ in shape"):
        r2_score(np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(SchemaError, match="not real numbers"):
        r2_score(["a", "b"], ["a", "b"])
    with pytest.raises(SchemaError, match="no samples"):
        r2_score(1.0, 1.0)
    with pytest.raises(ConfigError, match=r"\['ev', 'r', 'r2'\]"):
        get_scorer("R2")
    with pytest.raises(ConfigError, match="Unknown scorer"):
        get_scorer(3)
    assert get_scorer("ev") is explained_variance
    assert get_scorer(pearson_r) is pearson_r
