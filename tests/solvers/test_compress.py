"""The low-rank form of the shrinkage against the table that it replaces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from neuroalign.solvers import ridge_cv
from neuroalign.solvers._compress import TOLERANCE, best_cuts, compress


def table(compressed, width):
    """The shrinkage table (n_alphas, k) that the blocks stand for."""
    if compressed.mix is None:
        return compressed.blocks[0].basis
    basis = np.zeros((compressed.mix.shape[1], width))
    row = 0
    for block in compressed.blocks:
        basis[row : row + len(block.basis), block.columns] = block.basis
        row += len(block.basis)
    return compressed.mix @ basis


@settings(max_examples=40, deadline=None)
@given(
    k=st.integers(1, 400),
    n_alphas=st.integers(1, 30),
    power=st.floats(0, 4),
    low=st.integers(-9, 1),
    dtype=st.sampled_from(sorted(TOLERANCE)),
    shrunk=st.floats(0.3, 1.0),
)
def test_the_table_is_kept(k, n_alphas, power, low, dtype, shrunk):
    tolerance = TOLERANCE[dtype]
    whole = np.sort(1000.0 * np.arange(1, k + 1) ** -power)
    alphas = np.logspace(low, 5, n_alphas)
    values = shrunk * whole  # the spectrum of a fold, cut where that of all rows was
    result = compress(values, alphas, best_cuts(whole, alphas, tolerance), tolerance)
    exact = values / (values + alphas[:, None])
    error = np.abs(table(result, k) * values - exact).max(axis=1) / exact.max(axis=1)
    assert error.max() <= 2 * tolerance
    columns = [i for block in result.blocks for i in range(k)[block.columns]]
    assert columns == list(range(k))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("scorer", ["r2", "r"])
@pytest.mark.parametrize("p", [150, 400])
def test_scores_with_and_without(dtype, tolerance, scorer, p, monkeypatch):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((300, p)) * np.arange(1, p + 1) ** -0.5).astype(dtype)
    y = (x @ rng.standard_normal((p, 50)) + rng.standard_normal((300, 50)) * 2).astype(dtype)
    options = {"alphas": np.logspace(-3, 4, 40), "folds": list(KFold(5).split(x)), "scorer": scorer}
    monkeypatch.setattr("neuroalign.solvers._plan.make_pairs", lambda *arguments: None)  # predictions are formed
    fast = ridge_cv(x, y, **options)
    monkeypatch.setattr("neuroalign.solvers._plan.best_cuts", lambda *arguments: np.empty(0))
    slow = ridge_cv(x, y, **options)
    assert np.abs(fast.scores - slow.scores).max() < tolerance
    assert dtype == "float64" or np.abs(fast.scores - slow.scores).max() > 0  # it was another way
    assert (fast.alphas == slow.alphas).mean() >= 0.98
