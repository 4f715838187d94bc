"""Retrieval measures against loops, hand values and chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import top_k_accuracy_score

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import SIMILARITIES, relative_median_rank, retrieval_ranks, top_k_accuracy, two_versus_two


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean"])
def test_two_versus_two_is_the_loop_over_pairs(metric):
    rng = np.random.default_rng(0)
    y = rng.standard_normal((12, 6))
    p = y + 2 * rng.standard_normal(y.shape)
    distance = cdist(p, y, metric)
    right = [
        distance[i, i] + distance[j, j] < distance[i, j] + distance[j, i]
        for i, j in itertools.combinations(range(12), 2)
    ]
    assert two_versus_two(y, p, metric) == pytest.approx(np.mean(right))
    assert two_versus_two(y, y, metric) == 1.0


def test_two_versus_two_ties_and_chance():
    rng = np.random.default_rng(1)
    y = rng.standard_normal((40, 8))
    assert two_versus_two(y, np.tile(y[:1], (40, 1))) == 0.5  # one pattern for everything: all ties
    values = [two_versus_two(y, rng.standard_normal(y.shape)) for _ in range(50)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("similarity", [*SIMILARITIES, lambda a, b: a @ b.T])
def test_ranks_are_the_sorted_position(similarity):
    rng = np.random.default_rng(2)
    candidates = rng.standard_normal((20, 5))
    query = candidates[:9] + rng.standard_normal((9, 5))
    function = SIMILARITIES.get(similarity, similarity) if isinstance(similarity, str) else similarity
    values = function(query, candidates)
    expected = [int(np.flatnonzero(np.argsort(-row) == i)[0]) for i, row in enumerate(values)]
    np.testing.assert_array_equal(retrieval_ranks(query, candidates, similarity=similarity), expected)


def test_similarities_are_those_of_scipy():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((4, 6)), rng.standard_normal((5, 6)) + 10
    np.testing.assert_allclose(SIMILARITIES["correlation"](a, b), 1 - cdist(a, b, "correlation"), atol=1e-12)
    np.testing.assert_allclose(SIMILARITIES["cosine"](a, b), 1 - cdist(a, b, "cosine"), atol=1e-12)
    np.testing.assert_allclose(SIMILARITIES["euclidean"](a, b), -cdist(a, b), atol=1e-12)


def test_top_k_against_sklearn():
    rng = np.random.default_rng(4)
    query, candidates = rng.standard_normal((2, 30, 4))
    values = SIMILARITIES["correlation"](query, candidates)
    for k in (1, 5, 30):
        expected = top_k_accuracy_score(np.arange(30), values, k=k, labels=np.arange(30)) if k < 30 else 1.0
        assert top_k_accuracy((query, candidates), k) == pytest.approx(expected)
        assert top_k_accuracy(retrieval_ranks(query, candidates), k) == pytest.approx(expected)


def test_ties_give_the_middle_rank_and_no_free_hit():
    ranks = retrieval_ranks(np.ones((3, 2)), np.ones((5, 2)), similarity="cosine")
    np.testing.assert_array_equal(ranks, 2.0)
    assert relative_median_rank(ranks, 5) == 0.5
    assert top_k_accuracy(ranks, 1) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(2, 12), st.integers(2, 6), st.integers(0, 2**16))
def test_rank_properties(n_queries, n_candidates, d, seed):
    rng = np.random.default_rng(seed)
    query, candidates = rng.standard_normal((n_queries, d)), rng.standard_normal((n_candidates, d))
    correct = rng.integers(n_candidates, size=n_queries)
    ranks = retrieval_ranks(query, candidates, correct=correct, similarity="cosine")
    assert ((ranks >= 0) & (ranks <= n_candidates - 1)).all()
    order = rng.permutation(n_candidates)  # the order of the candidates must not matter
    moved = retrieval_ranks(query, candidates[order], correct=np.argsort(order)[correct], similarity="cosine")
    np.testing.assert_array_equal(ranks, moved)
    np.testing.assert_array_equal(retrieval_ranks(3 * query, candidates, correct=correct, similarity="cosine"), ranks)
    assert 0 <= relative_median_rank(ranks, n_candidates) <= 1
    accuracies = [top_k_accuracy(ranks, k) for k in range(1, n_candidates + 1)]
    assert accuracies == sorted(accuracies)
    assert accuracies[-1] == 1.0


def test_relative_median_rank_by_hand():
    assert relative_median_rank([0, 1, 4], 11) == 0.1
    assert relative_median_rank(np.arange(100), 100) == 0.5


def test_wrong_input():
    y = np.eye(3)
    with pytest.raises(ConfigError, match="Unknown similarity"):
        two_versus_two(y, y, "pearson")
    with pytest.raises(SchemaError, match="same two or more samples"):
        two_versus_two(y[:1], y[:1])
    with pytest.raises(SchemaError, match="NaN or infinity"):
        two_versus_two(y, np.full((3, 3), np.nan))
    with pytest.raises(SchemaError, match="undefined"):
        two_versus_two(y[:, :1], y[:, :1])  # the correlation of one value
    with pytest.raises(SchemaError, match="undefined"):
        retrieval_ranks(np.full((2, 3), 0.1), y)
    with pytest.raises(SchemaError, match="right candidate"):
        retrieval_ranks(y, y[:2])
    with pytest.raises(SchemaError, match="differ in length"):
        retrieval_ranks(y, y[:, :2])
    with pytest.raises(SchemaError, match="wrong shape"):
        retrieval_ranks(y, y, similarity=lambda a, b: a[:, :1])
    with pytest.raises(SchemaError, match="table"):
        retrieval_ranks(y[0], y)
    with pytest.raises(ConfigError, match="positive integer"):
        top_k_accuracy([0, 1], 0)
    with pytest.raises(SchemaError, match="Ranks"):
        top_k_accuracy([], 1)
    with pytest.raises(SchemaError, match="beyond"):
        relative_median_rank([5], 5)
    with pytest.raises(ConfigError, match="one candidate"):
        relative_median_rank([0], 1)
