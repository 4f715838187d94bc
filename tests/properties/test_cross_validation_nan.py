"""Row 9 of the fault table: targets that cannot be scored are NaN and counted, and change nothing for the others."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.linear_model import LinearRegression

from neuroalign.evaluation import cross_validate, noise_ceiling, permutation_test

N, T = 24, 4
values = st.sampled_from([np.nan, np.inf, -np.inf])
places = npst.arrays(bool, (N, T), elements=st.booleans().map(lambda hit: hit), fill=st.just(False))


def spoil(seed, where, value, constant):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, 2))
    y = X @ rng.standard_normal((2, T)) + rng.standard_normal((N, T))
    y[where] = value
    y[:, constant] = 0.1
    y[:, 0] = X[:, 0] + rng.standard_normal(N)  # one target is always whole
    return X, y


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), where=places, value=values, constant=st.lists(st.integers(1, T - 1), max_size=2))
def test_every_target_is_as_if_alone(seed, where, value, constant):
    X, y = spoil(seed, where, value, constant)
    result = cross_validate(LinearRegression(), X, y, cv=3)
    hopeless = ~np.isfinite(y).all(axis=0) | (y == y[:1]).all(axis=0)
    np.testing.assert_array_equal(np.isnan(result.score), hopeless)
    assert result.data.attrs["n_nan_targets"] == hopeless.sum()
    for t in np.flatnonzero(~hopeless):
        alone = cross_validate(LinearRegression(), X, y[:, t], cv=3)
        np.testing.assert_allclose(result.score[t], alone.score[0], rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), where=places, value=values, constant=st.lists(st.integers(1, T - 1), max_size=2))
def test_ceilings_and_tests_too(seed, where, value, constant):
    X, y = spoil(seed, where, value, constant)
    hopeless = ~np.isfinite(y).all(axis=0) | (y == y[:1]).all(axis=0)
    ceiling = noise_ceiling(y, repeats=np.arange(N) // 2, method="explainable_variance")
    p = permutation_test(y, np.tile(X[:, :1], T), n_permutations=9, random_state=0).p
    for values_of in (ceiling, p):
        np.testing.assert_array_equal(np.isnan(values_of), hopeless)
