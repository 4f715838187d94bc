"""Many latents from one decomposition, and decoded features in the range of the training features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.decoding.patterns import activation_patterns, patterns_from_cross
from neuroalign.metrics import retrieval_ranks, top_k_accuracy


def latents(n: int = 400, t: int = 40, noise: float = 8.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Brain responses that mix latents of very different strengths, units and offsets."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, t))
    brain = (z * np.geomspace(0.3, 3, t)) @ rng.normal(size=(t, 80)) + noise * rng.normal(size=(n, 80))
    return brain, z * np.linspace(0.5, 2, t) + np.arange(t)


@pytest.mark.parametrize("p", [20, 200])
def test_thousands_of_latents_cost_one_factorisation(p: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, calls, eigh = np.random.default_rng(0), [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda gram: (calls.append(1), eigh(gram))[1])
    x, counts = rng.normal(size=(60, p)), []
    for t in (1, 3000):
        calls.clear()
        RidgeDecoder(cv=4).fit(x, x @ rng.normal(size=(p, t)))
        counts.append(len(calls))
    assert counts[0] == 5  # all rows, and one a fold
    assert counts[1] == counts[0]


@pytest.mark.parametrize(("n", "p"), [(50, 12), (15, 40)])
def test_patterns_of_more_latents_than_directions(n: int, p: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    coef = rng.normal(size=(p, 60)) * np.geomspace(1e-9, 1e6, 60)
    coef[:, 3], coef[:, 5] = 0.0, np.nan
    x -= x.mean(axis=0)
    found, known = activation_patterns(x, coef), np.arange(60) != 5
    size = np.where(np.arange(60) == 3, 1.0, np.linalg.norm(x @ coef, axis=0))[known]
    decoded = x @ coef[:, known] / size
    expected = x.T @ np.linalg.pinv(decoded, rcond=1e-6).T / size
    np.testing.assert_allclose(found[:, known] * size, expected * size, atol=1e-7)
    assert np.isnan(found[:, 5]).all()


def test_moments_of_the_training_features_come_back() -> None:
    brain, z = latents()
    plain = RidgeDecoder(cv=5).fit(brain[:300], z[:300])
    model = RidgeDecoder(cv=5, renormalise=True).fit(brain[:300], z[:300])
    shrunk, decoded = plain.predict(brain[300:]), model.predict(brain[300:])
    assert (shrunk.std(axis=0)[:20] < 0.8 * z[:300].std(axis=0)[:20]).all()
    np.testing.assert_allclose(decoded.std(axis=0) / z[:300].std(axis=0), 1, atol=0.45)
    assert np.abs(decoded.std(axis=0) / z[:300].std(axis=0) - 1).mean() < 0.12
    np.testing.assert_allclose(decoded.mean(axis=0), z[:300].mean(axis=0), atol=0.5)
    np.testing.assert_array_equal(model.alphas_, plain.alphas_)
    np.testing.assert_array_equal(model.cv_scores_, plain.cv_scores_)
    np.testing.assert_allclose(brain @ model.coef_ + model.intercept_, model.predict(brain), rtol=1e-9)
    for a, b in zip(decoded.T, shrunk.T, strict=True):  # each feature is stretched, nothing else
        assert np.corrcoef(a, b)[0, 1] > 1 - 1e-9


def test_retrieval_by_distance_gains() -> None:
    brain, z = latents(t=30, noise=12.0)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    found = {}
    for renormalise in (False, True):
        decoded = RidgeDecoder(cv=5, renormalise=renormalise).fit(brain[:250], z[:250]).predict(brain[250:])
        found[renormalise] = top_k_accuracy(retrieval_ranks(decoded, z[250:], similarity="euclidean"), k=5)
    assert found[True] > found[False]
    assert found[True] > 10 * 5 / 150 / 3


def test_constant_features_and_labels_stay(tmp_path) -> None:
    brain, z = latents(n=80, t=3)
    z[:, 1] = 4.0
    with pytest.warns(UserWarning, match="constant"):
        model = RidgeDecoder(cv=4, renormalise=True).fit(brain, z)
    np.testing.assert_allclose(model.predict(brain)[:, 1], 4.0)
    again = RidgeDecoder.load(model.save(tmp_path / "model"))
    assert again.renormalise is True
    np.testing.assert_array_equal(again.predict(brain), model.predict(brain))


@pytest.mark.parametrize("cv", ["loo", "gcv"])
@pytest.mark.parametrize("n", [40, 200])
def test_closed_forms_are_stretched_by_what_leaves_out_every_sample(cv: str, n: int) -> None:
    brain, z = latents(n=n, t=6)
    model = RidgeDecoder(cv=cv, renormalise=True).fit(brain, z)
    plain = RidgeDecoder(cv=cv).fit(brain, z)
    np.testing.assert_array_equal(model.alphas_, plain.alphas_)
    held_out = np.empty_like(z)
    for k in range(n):
        rest = np.delete(np.arange(n), k)
        for target, alpha in enumerate(plain.alphas_):
            single = Ridge(alpha=alpha, solver="svd").fit(brain[rest], z[rest, target])
            held_out[k, target] = single.predict(brain[k : k + 1])[0]
    gain = z.std(axis=0) / held_out.std(axis=0)
    np.testing.assert_allclose(model.coef_, plain.coef_ * gain, rtol=1e-6)
    expected = (plain.predict(brain) - held_out.mean(axis=0)) * gain + z.mean(axis=0)
    np.testing.assert_allclose(model.predict(brain), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("t", [3, 10, 60])
def test_patterns_from_products_are_those_from_signals(t: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, coef = rng.normal(size=(200, 10)), (rng.normal(size=(10, t)) * np.geomspace(1e-9, 1e6, t)).astype(dtype)
    coef[:, 0], coef[:, 2] = 0.0, np.nan
    x -= x.mean(axis=0)
    expected, found = activation_patterns(x, coef), patterns_from_cross(x.T @ (x @ coef), coef)
    known = np.arange(t) != 2
    size = np.where(known & (np.arange(t) > 0), np.linalg.norm(x @ coef, axis=0), 1.0)
    np.testing.assert_allclose((found * size)[:, known], (expected * size)[:, known], atol=1e-6)
    assert (found[:, 0] == 0).all()
    assert np.isnan(found[:, 2]).all()


def test_many_latents_of_a_time_series_cost_no_more_than_the_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, sizes = np.random.default_rng(0), []
    for name in ("eigh", "svd", "pinv"):
        of = getattr(np.linalg, name)
        monkeypatch.setattr(
            np.linalg, name, lambda a, *rest, of=of, **o: (sizes.append(min(a.shape)), of(a, *rest, **o))[1]
        )
    x = rng.normal(size=(120, 5))
    counts = []
    for t in (2, 1000):
        sizes.clear()
        TRFDecoder(tmax=2.0, sfreq=1.0, cv=4).fit(x, x @ rng.normal(size=(5, t)))
        assert max(sizes) <= 15  # channels times lags
        counts.append(sizes.count(15))
    assert counts == [5, 7]  # all samples, one a fold; and for patterns of many the weights themselves
