"""The squares of predictions from pairs of directions, against the predictions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from neuroalign.metrics import SCORERS
from neuroalign.solvers import ridge_cv
from neuroalign.solvers._arrays import Buffers
from neuroalign.solvers._pairs import make_pairs, pair_sums


def predicted(rows, values, alphas, b):
    return np.stack([rows @ (b / (values + alpha)).T for alpha in alphas])  # (n_alphas, n, t)


@settings(max_examples=60, deadline=None)
@given(
    k=st.integers(1, 150),
    n=st.integers(1, 40),
    power=st.floats(0, 3),
    copies=st.booleans(),
    low=st.integers(-8, 0),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**16),
)
def test_sums_of_predictions(k, n, power, copies, low, dtype, seed):
    rng = np.random.default_rng(seed)
    values = np.sort(np.arange(1, k + 1.0) ** -power)
    values *= 1 + 1e-3 * rng.random(k)
    values = np.sort(np.repeat(values, 2)[:k] if copies else values)  # degenerate: every other value is a copy
    rows = rng.standard_normal((n, k)) * values**0.5
    b = (rng.standard_normal((3, k)) * values**0.5).astype(dtype)
    y = rng.standard_normal((n, 3))
    alphas = np.logspace(low, 2, 5)
    pairs = make_pairs(values, rows.T @ rows, alphas, values / n, dtype)
    if pairs is None:
        return
    square, product = pair_sums(pairs, b, (y.T @ rows).astype(dtype), Buffers())
    exact = predicted(rows, values, alphas, b.astype("f8"))
    tolerance = 3e-5 if dtype == "float32" else 1e-9
    scale = np.maximum(np.square(exact).sum(axis=1), np.square(y).sum(axis=0))
    assert (np.abs(square - np.square(exact).sum(axis=1)) / scale).max() < tolerance
    assert (np.abs(product - (exact * y).sum(axis=1)) / scale).max() < tolerance


def test_what_would_cancel_is_refused():
    """Test rows that are huge where the training rows are next to nothing."""
    values = np.array([1e-9, 1.1e-9, 1.0])
    rows = np.random.default_rng(0).standard_normal((20, 3)) * 1e3
    assert make_pairs(values, rows.T @ rows, np.array([1e-8, 1.0]), values / 20, "float32") is None
    assert make_pairs(np.empty(0), np.empty((0, 0)), np.array([1.0]), np.empty(0), "float32") is None


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("f4", 1e-5), ("f8", 1e-9)])
@pytest.mark.parametrize(("n", "p"), [(120, 30), (120, 93), (120, 160)])
@pytest.mark.parametrize("kind", ["flat", "steep", "one-hot", "copies", "constant"])
def test_scores_with_and_without(kind, n, p, dtype, tolerance, scorer, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, p))
    if kind == "steep":
        x *= np.arange(1, p + 1) ** -1.5
    elif kind == "one-hot":
        x = np.eye(p)[rng.integers(0, p, n)]
    elif kind == "copies":
        x[:, p // 2 :] = x[:, : p - p // 2]
    elif kind == "constant":
        x[:, ::2] = 3.0
    y = x @ rng.standard_normal((p, 20)) / x.std() / np.sqrt(p) * np.linspace(0, 3, 20) + rng.standard_normal((n, 20))
    options = {"alphas": np.logspace(-5, 6, 25), "folds": list(KFold(5).split(x)), "scorer": scorer}
    data = x.astype(dtype), y.astype(dtype)
    calls = []
    monkeypatch.setattr("neuroalign.solvers._plan.make_pairs", lambda *a: calls.append(make_pairs(*a)) or calls[-1])
    fast = ridge_cv(*data, **options)
    assert any(pairs is not None for pairs in calls)
    monkeypatch.setattr("neuroalign.solvers._plan.make_pairs", lambda *a: None)
    slow = ridge_cv(*data, **options)
    size = np.maximum(1, np.abs(slow.scores))
    assert (np.abs(fast.scores - slow.scores) / size).max() < tolerance
    at_choice = np.take_along_axis(slow.scores, fast.scores.argmax(axis=0)[None], axis=0)
    assert (slow.cv_scores - at_choice).max() < tolerance  # another alpha only where the scores tie
