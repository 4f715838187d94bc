from __future__ import annotations

import itertools

import numpy as np
import pytest

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.rsa import _compare, compare, evaluate, from_square, permutation_test, rdm, reorder
from neuroalign.rsa.form import pair_positions
from neuroalign.rsa.permutation import _Pooled


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("method", _compare.METHODS)
def test_shuffling_is_that_of_conditions(rng, method):
    names = [f"c{i}" for i in range(8)]
    values = np.triu(rng.random((4, 8, 8)), 1)
    values += values.swapaxes(-1, -2)
    data, model = from_square(values[1:], names).rename(dim_0="subject"), from_square(values[0], names)
    pairs = np.triu_indices(8, 1)
    pooled = _Pooled(method, model.values[None], data.values[None], pairs)
    np.testing.assert_allclose(pooled(None)[0, 0], compare(model, data, method=method).mean())
    order = rng.permutation(8)
    shuffled = reorder(data, np.array(names)[order])
    expected = _compare.similarity(method, model.values[None], shuffled.values, pairs).mean()
    np.testing.assert_allclose(pooled(pair_positions(order, 8))[0, 0], expected)


def test_p_approaches_that_of_all_permutations(rng):
    a, b = rdm(rng.normal(size=(2, 5, 3)))
    b = b + 0.7 * a
    rows, columns = np.triu_indices(5, 1)
    full = np.zeros((5, 5))
    full[rows, columns] = full[columns, rows] = b
    null = [np.corrcoef(a, full[np.ix_(p, p)][rows, columns])[0, 1] for p in itertools.permutations(range(5))]
    exact = np.mean(np.array(null) >= np.corrcoef(a, b)[0, 1] - 1e-12)
    found = permutation_test(a, b, compare="pearson", n=4000, random_state=0)
    np.testing.assert_allclose(found["p"].item(), exact, atol=0.025)


def test_true_model_is_found_and_others_are_not(rng):
    truth = rng.normal(size=(12, 6))
    models = {"good": rdm(truth), "none": rdm(rng.normal(size=(12, 6)))}
    data = rdm(truth + 0.5 * rng.normal(size=(4, 12, 6)))
    found = permutation_test(models, data, n=199, random_state=0)
    assert found["p"].sel(model="good").item() == pytest.approx(1 / 200)
    assert found["p"].sel(model="none").item() > 0.01
    assert (found["p_fwer"] >= found["p"]).all()
    np.testing.assert_allclose(found["score"], evaluate(models, data, n=10, random_state=0).score)


def test_false_positive_rate(rng):
    p, fwer = [], []
    for _ in range(100):
        found = permutation_test(rdm(rng.normal(size=(3, 8, 4))), rdm(rng.normal(size=(8, 4))), n=99, random_state=rng)
        p += found["p"].values.tolist()
        fwer.append(found["p_fwer"].values.min())
    assert abs(np.mean(np.array(p) <= 0.05) - 0.05) < 0.04
    assert abs(np.mean(np.array(fwer) <= 0.05) - 0.05) < 0.07


def test_what_cannot_be_shuffled_is_refused(rng):
    a = rdm(rng.normal(size=(6, 4)))
    with pytest.raises(ConfigError, match="At least one"):
        permutation_test(a, a, n=0)
    broken = a.copy()
    broken[2] = np.nan
    with pytest.warns(UserWarning, match="missing"), pytest.raises(SchemaError, match="complete RDMs"):
        permutation_test(a, broken, n=10)
