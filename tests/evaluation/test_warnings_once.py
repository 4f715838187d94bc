"""One call, one warning of a kind: what the fits of all folds have to say is summed up, wherever they run."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from sklearn.pipeline import make_pipeline

from neuroalign.encoding import BandedRidgeEncoder, RidgeEncoder
from neuroalign.errors import NeuroalignWarning, gather_warnings, tell, warn, warns_once
from neuroalign.evaluation import cross_validate, partition_variance, select_model
from neuroalign.preprocess import Standardizer


def labelled(n=40, p=4, t=10, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    ids = {"stimulus": [f"s{k}" for k in range(n)]}
    X = xr.DataArray(rng.normal(size=(n, p)), dims=("stimulus", "unit"), coords=ids)
    y = xr.DataArray(X.values @ rng.normal(size=(p, t)), dims=("stimulus", "voxel"), coords=ids)
    y = y + noise * rng.normal(size=y.shape)
    y[3, 0] = np.nan  # in one fold's test samples, and in the training samples of the others
    y[:, 1] = np.nan
    y[:, 2] = 7.0
    return X, y


def heard(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    assert {w.category for w in caught} <= {NeuroalignWarning}
    assert {w.filename for w in caught} <= {__file__}  # they point at the caller
    return [str(w.message) for w in caught]


MODEL = RidgeEncoder(alphas=[1e6, 1e7], cv=3)
LOST = "2 of 10 targets hold NaN or Inf and 1 of 10 targets are constant; they get NaN scores. This sums up 5 fits."


@pytest.mark.parametrize("model", [MODEL, make_pipeline(Standardizer(), MODEL)], ids=["plain", "pipeline"])
@pytest.mark.parametrize("executor", ["serial", "processes", "threads"])
def test_folds_warn_once(model, executor):
    X, y = labelled()
    if executor == "threads":
        with ThreadPoolExecutor(3) as pool:
            told = heard(lambda: cross_validate(model, X, y, cv=5, executor=pool))
    else:
        told = heard(lambda: cross_validate(model, X, y, cv=5, executor=executor))
    assert len(told) == 2
    assert LOST in told
    (narrow,) = (text for text in told if "too narrow" in text)
    assert "sums up 5 fits" in narrow


def test_permutations_add_nothing():
    X, y = labelled()
    plain = heard(lambda: cross_validate(MODEL, X, y, cv=5))
    tested = heard(lambda: cross_validate(MODEL, X, y, cv=5, test="permutation", n_permutations=7, random_state=0))
    assert tested == plain
    X, y = labelled(n=60, p=30, noise=4.0)  # responses without a relation to the features ask for the largest penalty
    model, y = RidgeEncoder(alphas=[1e-6, 30.0, 1e6], cv=3), y[:, 3:]
    assert heard(lambda: cross_validate(model, X, y, test="permutation", n_permutations=9, random_state=0)) == []


def test_selection_and_partition_warn_once():
    X, y = labelled()
    layers = {"a": X, "b": X[:, ::-1] ** 2}
    told = heard(lambda: select_model(MODEL, layers, y, cv=4, inner=2))
    assert sorted("too narrow" in text for text in told) == [False, True]
    assert all("This sums up 24 fits." in text for text in told)  # four folds of two layers, and two in each
    spaces = {"a": X, "b": (X**2).assign_coords(X.coords)}
    told = heard(lambda: partition_variance(RidgeEncoder(alphas=[1e6, 1e7]), spaces, y, cv=2))
    assert len(told) == 2
    assert all("This sums up 6 fits." in text for text in told)


@pytest.mark.parametrize("model", [MODEL, BandedRidgeEncoder(alphas=[1e6, 1e7], n_iter=3, random_state=0)])
def test_a_fit_points_at_its_caller(model):
    X, y = labelled()
    told = heard(lambda: model.fit(X, y))
    assert len(told) == 2
    assert "2 of 10 targets hold NaN or Inf and 1 of 10 targets are constant; they get NaN scores." in told


def test_a_target_counts_once():
    def text(flag):
        return f"{int(flag.sum())} of {flag.size}."

    @warns_once
    def outer():
        for k in (0, 1, 1):
            warn(text, flag=np.arange(4) == k)
        warn(text, flag=np.ones(2, bool))  # of other targets
        for _ in range(3):
            warn("once")

    assert heard(outer) == ["2 of 4. This sums up 3 fits.", "2 of 2.", "once"]
    with gather_warnings() as held:
        outer()
    assert [str(notice) for notice in held] == ["2 of 4. This sums up 3 fits.", "2 of 2.", "once"]
    with pytest.warns(NeuroalignWarning) as caught:
        tell([*held, *held])
    assert [str(w.message) for w in caught] == ["2 of 4. This sums up 6 fits.", "2 of 2. This sums up 2 fits.", "once"]
