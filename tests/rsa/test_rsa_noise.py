from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.rsa import _noise, rdm


@pytest.mark.parametrize("method", ["full", "diagonal", "ledoit_wolf"])
@pytest.mark.parametrize("n_repeats", [2, 5])
def test_expected_covariance_is_the_true_one(method, n_repeats):
    rng = np.random.default_rng(0)
    groups = np.tile(np.arange(50), n_repeats)
    found = np.mean(
        [_noise.noise_covariance(rng.normal(size=(len(groups), 4)), groups, method) for _ in range(200)], axis=0
    )
    # 200 draws with 50 df and more: the standard error of a variance is below sqrt(2 / 10000) = .014
    np.testing.assert_allclose(found, np.eye(4), atol=0.05)
    assert abs(np.trace(found) / 4 - 1) < 0.03


def test_residuals_have_the_right_degrees_of_freedom():
    groups = np.repeat(np.arange(6), 3)
    res, df = _noise.residuals(np.random.default_rng(0).normal(size=(18, 5)), groups)
    assert df == 12
    np.testing.assert_allclose([res[groups == g].mean(0) for g in range(6)], 0, atol=1e-15)


@pytest.mark.parametrize("shape", [(40, 8), (12, 30)])
def test_ledoit_wolf_agrees_with_scikit_learn(shape):
    rng = np.random.default_rng(0)
    res = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1]))
    theirs, _ = ledoit_wolf(res, assume_centered=True)
    np.testing.assert_allclose(_noise.ledoit_wolf(res, shape[0]), theirs)
    np.testing.assert_allclose(_noise.ledoit_wolf(res, shape[0] // 2), 2 * theirs)  # with half the df


def test_whitening_gives_unit_noise():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 6))
    covariance = a @ a.T
    white = _noise.whiten(rng.normal(size=(20000, 6)) @ a.T, covariance)
    np.testing.assert_allclose(np.cov(white.T), np.eye(6), atol=0.05)


def test_noise_within_runs_does_not_contain_run_offsets():
    rng = np.random.default_rng(0)
    labels, runs = np.tile(np.repeat(np.arange(10), 2), 4), np.repeat(np.arange(4), 20)
    x = rng.normal(size=(80, 3)) + 100 * rng.normal(size=(4, 3))[runs]
    white = rdm(x, method="crossnobis", condition=labels, folds=runs, noise="diagonal")
    plain = rdm(x, method="crossnobis", condition=labels, folds=runs)
    assert 0.5 < np.std(white) / np.std(plain) < 2


def test_time_resolved_noise_is_the_average_over_time():
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(7, 30, 4)), np.repeat(np.arange(10), 3)
    alone = [_noise.noise_covariance(part, groups, "full") for part in x]
    np.testing.assert_allclose(_noise.noise_covariance(x, groups, "full"), np.mean(alone, 0))


def test_what_cannot_be_estimated_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(SchemaError, match="without repeats"):
        _noise.noise_covariance(rng.normal(size=(5, 3)), np.arange(5), "full")
    with pytest.raises(ConfigError, match="Unknown noise"):
        _noise.noise_covariance(rng.normal(size=(6, 3)), np.repeat(np.arange(3), 2), "mcd")
    x = rng.normal(size=(6, 3))
    x[0, 0] = np.nan
    with pytest.raises(SchemaError, match="1 values that are not finite"):
        _noise.noise_covariance(x, np.repeat(np.arange(3), 2), "full")
    with pytest.raises(SchemaError, match="not positive definite"):
        _noise.whiten(x, np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1.0]]))
    with pytest.raises(SchemaError, match=r"no noise variance(.|\n)*first at \[1\]"):
        _noise.whiten(x, np.array([1.0, 0.0, 1.0]))
    few = rng.normal(size=(6, 8))
    with pytest.raises(SchemaError, match="ledoit_wolf"):
        rdm(few, method="crossnobis", condition=[0, 1, 2] * 2, folds=[0] * 3 + [1] * 3, noise="full")
