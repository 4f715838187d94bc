"""Features far from zero in float32: nothing is lost but what the numbers themselves cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.encoding import BandedRidgeEncoder, PriorRidgeEncoder, RidgeEncoder, TRFEncoder
from neuroalign.metrics import r2_score

MODELS = [
    RidgeEncoder(alphas=[1e-6], cv=4),
    RidgeDecoder(alphas=[1e-6], cv=4),
    BandedRidgeEncoder(alphas=[1e-6], cv=4, n_iter=2, random_state=0),
    PriorRidgeEncoder(),
    TRFEncoder(sfreq=1.0, alphas=[1e-6]),
    TRFDecoder(sfreq=1.0, alphas=[1e-6]),
]


def far(offset, n=400, p=20, t=30):
    """Exact linear responses to float32 features that are `offset` standard deviations away from zero."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(n, p)) + offset).astype("f4")
    wide = X.astype("f8")
    return X, ((wide - wide.mean(axis=0)) @ rng.normal(size=(p, t))).astype("f4")


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_predictions(model, offset):
    X, y = far(offset)
    model.fit(X[:300], y[:300])
    predicted = model.predict(X[300:])
    assert predicted.dtype == np.float32
    assert r2_score(y[300:].astype("f8"), predicted.astype("f8")).min() > 1 - 1e-7
    one_by_one = np.concatenate([model.predict(X[k : k + 1]) for k in range(300, 305)])
    np.testing.assert_allclose(one_by_one, predicted[:5], atol=2e-5)
    if hasattr(model, "predict_bands"):
        added = model.predict_bands(X[300:]).sum(axis=0) + model.intercept_
        assert r2_score(y[300:].astype("f8"), added).min() > 1 - 1e-9


@pytest.mark.parametrize("offset", [0.0, 1e5])
@pytest.mark.parametrize(
    "model", [RidgeDecoder(alphas=[10.0], cv=4), TRFDecoder(alphas=[10.0], sfreq=1.0)], ids=["ridge", "trf"]
)
@pytest.mark.parametrize("t", [6, 30])
def test_patterns_of_decoders(model, t, offset):
    """Also where decoded features depend on each other: rounding is not inverted."""
    X, y = far(offset, t=t)
    y[:, 1], y[:, 2] = y[:, 0], 2 * y[:, 0] - y[:, 3]
    found = model.fit(X, y).patterns_
    expected = model.fit(X.astype("f8") - offset, y.astype("f8")).patterns_
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
