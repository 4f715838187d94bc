"""Any shape gives a finite model or is refused (row 19 of the faults)."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from neuroalign.align import lagged
from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.errors import NeuroalignError, SchemaError

ALL = [RidgeEncoder(), RidgeDecoder(), TRFEncoder(tmax=0.2, sfreq=10.0), TRFDecoder(tmax=0.2, sfreq=10.0)]


def features(rng: np.random.Generator, n: int, p: int, kind: str) -> np.ndarray:
    x = rng.normal(size=(n, p))
    if kind == "low rank":
        return x[:, :1] * rng.normal(size=p)
    if kind == "duplicated":
        return np.repeat(x[:, : (p + 1) // 2], 2, axis=1)[:, :p]
    if kind == "constant":
        x[:, 0] = 3.0
    if kind == "all constant":
        x[:] = 0.1
    return x


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(10, 30),
    p=st.integers(1, 60),
    t=st.integers(0, 4),
    kind=st.sampled_from(["plain", "low rank", "duplicated", "constant", "all constant"]),
    which=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_every_model_is_finite_and_solves_its_equation(
    n: int, p: int, t: int, kind: str, which: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = features(rng, n, p, kind), rng.normal(size=(n, t) if t else n) + 2
    model = ALL[which].fit(x, y)
    predicted = model.predict(x)
    assert predicted.shape == y.shape
    assert np.isfinite(predicted).all()
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.score(x, y))
    if which % 2:
        assert np.isfinite(model.patterns_).all()
    if which < 2:
        expected = Ridge(alpha=np.ravel(model.alphas_), solver="svd").fit(x, y.reshape(n, -1)).predict(x)
        np.testing.assert_allclose(predicted.reshape(n, -1), expected.reshape(n, -1), rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=2, max_size=6).filter(lambda v: sorted(v)[-2] >= 5),
    first=st.integers(-6, 6),
    n_lags=st.integers(1, 8),
    backward=st.booleans(),
    seed=st.integers(0, 9),
)
def test_irregular_runs_equal_the_explicit_design(
    lengths: list[int], first: int, n_lags: int, backward: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n, lags = sum(lengths), np.arange(first, first + n_lags)
    coords = {
        "time": np.concatenate([np.arange(m) for m in lengths]) / 10,
        "run": ("time", np.repeat(np.arange(len(lengths)), lengths)),
    }
    x, y = (
        xr.DataArray(rng.normal(1, 1, (n, 2)), dims=("time", d), coords=coords, attrs={"sfreq": 10.0}) for d in "ab"
    )
    cls = TRFDecoder if backward else TRFEncoder
    model = cls(tmin=lags[0] / 10, tmax=lags[-1] / 10, alphas=[2.0]).fit(x, y)
    design = lagged(x.values, (-lags if backward else lags).tolist(), coords["run"][1])
    expected = Ridge(alpha=2.0).fit(design, y.values)
    np.testing.assert_allclose(model.predict(x), expected.predict(design), atol=1e-8)
    np.testing.assert_allclose(
        model.coef_.transpose("lag", "a", "b").values.reshape(-1, 2), expected.coef_.T, atol=1e-8
    )


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((0, 3), (0, 2)),
        ((20, 0), (20, 2)),
        ((20, 3), (20, 0)),
        ((20, 3), (20, 0, 2)),
        ((20, 3), (19, 2)),
        ((1, 3), (1,)),
    ],
)
def test_empty_and_unequal_shapes_are_refused(estimator: RidgeEncoder, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sample|feature|target|minimum"):
        estimator.fit(np.zeros(x), np.zeros(y))
    names = ("time", "a", "b")
    with pytest.raises(ValueError, match=r"sample|feature|target|minimum|rate"):
        estimator.fit(xr.DataArray(np.zeros(x), dims=names[: len(x)]), xr.DataArray(np.zeros(y), dims=names[: len(y)]))


def test_objects_without_samples_are_refused() -> None:
    x = xr.DataArray(np.zeros((20, 3)), dims=("row", "column"))
    with pytest.raises(SchemaError, match="sample"):
        RidgeEncoder().fit(x, x)
    text = np.full((20, 2), "a")
    for bad in (text, np.full((20, 2), 1j)):
        with pytest.raises((ValueError, NeuroalignError)):
            RidgeEncoder().fit(np.zeros((20, 3)), bad)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_features_that_cannot_be_squared_are_refused(size):
    rng = np.random.default_rng(0)
    x, y = size * rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    for model in (RidgeEncoder(), RidgeDecoder(), TRFEncoder(sfreq=1.0), TRFDecoder(sfreq=1.0)):
        with pytest.raises(SchemaError, match="cannot be squared"):
            model.fit(x, y)
        near = x / size * size**0.15  # 1e-30 and 1e30: far from any unit of a recording, and still right
        assert np.isfinite(model.fit(near, y).score(near, y))


def test_nothing_to_decode():
    with pytest.warns(UserWarning, match="3 of 3 targets are constant"):
        model = RidgeDecoder(renormalise=True).fit(np.random.default_rng(0).normal(size=(20, 2)), np.ones((20, 3)))
    np.testing.assert_array_equal(model.predict(np.zeros((2, 2))), np.ones((2, 3)))
    assert (model.patterns_ == 0).all()
