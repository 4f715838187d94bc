"""Label measures against scikit-learn and hand values."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import information_transfer_rate, nmcc


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**16))
def test_nmcc_against_sklearn(n, n_classes, seed):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(n_classes, size=(2, n))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A single label was found", category=UserWarning)
        expected = matthews_corrcoef(y, p)
    assert nmcc(y, p) == pytest.approx((expected + 1) / 2)
    assert nmcc(y, p) == pytest.approx(nmcc(p, y))
    assert 0 <= nmcc(y, p) <= 1


def test_nmcc_by_hand():
    assert nmcc(["a", "b", "a"], ["a", "b", "a"]) == 1.0
    assert nmcc([0, 1, 0, 1], [1, 0, 1, 0]) == 0.0
    assert nmcc([0] * 90 + [1] * 10, [0] * 100) == 0.5  # 90 % right, yet it has told nothing
    with pytest.raises(SchemaError, match="same length"):
        nmcc([0, 1], [0])
    with pytest.raises(SchemaError, match="same length"):
        nmcc([], [])


def test_information_transfer_rate_by_hand():
    assert information_transfer_rate(1.0, 2, 60) == 60.0
    assert information_transfer_rate(1.0, 4, 10) == 20.0
    # N = 4, P = .8: 2 + .8 log2 .8 + .2 log2(.2 / 3) = 2 - .25754 - .78138 bits
    assert information_transfer_rate(0.8, 4, 1) == pytest.approx(0.96108, abs=1e-5)
    assert information_transfer_rate(0.25, 4, 10) == 0.0
    assert information_transfer_rate(0.1, 4, 10) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 50), st.floats(0, 1), st.floats(0, 1))
def test_rate_rises_with_accuracy(n_classes, a, b):
    low, high = sorted((a, b))
    assert information_transfer_rate(low, n_classes, 1) <= information_transfer_rate(high, n_classes, 1) + 1e-9


@pytest.mark.parametrize("arguments", [(1.1, 2, 1), (-0.1, 2, 1), (0.5, 1, 1), (0.5, 2, -1), (np.nan, 2, 1)])
def test_rate_refuses(arguments):
    with pytest.raises(ConfigError):
        information_transfer_rate(*arguments)
