"""trf_cv against ridge on the explicit delayed design, and against MNE."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import SCORERS
from neuroalign.solvers import ridge_cv, trf_cv
from neuroalign.solvers._lagged import lag_sums, weighted_sum

GRID = np.logspace(-1, 4, 6)
LAGS = [range(6), range(-4, 5), range(-7, -2), range(3, 9), range(1), range(-30, 31)]
FOLDS = [([0, 1, 2], [3, 4]), ([2, 3, 4], [0, 1]), ([0, 3], [1, 2])]


def delayed(x, lags):
    """Slow and obvious: row t, lag l holds x[t - l]."""
    out = np.zeros((len(x), len(lags), x.shape[1]))
    for i, lag in enumerate(lags):
        for t in range(len(x)):
            if 0 <= t - lag < len(x):
                out[t, i] = x[t - lag]
    return out.reshape(len(x), -1)


def data(lags, lengths=(50, 33, 4, 70, 41), f=3, c=5, seed=0, dtype="f8"):
    rng = np.random.default_rng(seed)
    xs = [(rng.standard_normal((n, f)) + 3).astype(dtype) for n in lengths]
    w = rng.standard_normal((len(lags) * f, c))
    ys = [(delayed(x, lags) @ w + 10 * rng.standard_normal((len(x), c)) + 4).astype(dtype) for x in xs]
    return xs, ys


def the_loop(xs, ys, lags, folds, scorer, intercept=True):
    designs = [delayed(x.astype("f8"), lags) for x in xs]
    ys = [y.astype("f8") for y in ys]
    scores = np.zeros((len(folds), len(GRID), ys[0].shape[1]))
    for f, (train, test) in enumerate(folds):
        x, y = (np.concatenate([side[i] for i in train]) for side in (designs, ys))
        x_test, y_test = (np.concatenate([side[i] for i in test]) for side in (designs, ys))
        for a, alpha in enumerate(GRID):
            model = Ridge(alpha=alpha, fit_intercept=intercept, solver="svd").fit(x, y)
            scores[f, a] = SCORERS[scorer](y_test, model.predict(x_test).reshape(y_test.shape))
    scores = scores.mean(axis=0)
    best = GRID[scores.argmax(axis=0)]
    model = Ridge(alpha=best, fit_intercept=intercept, solver="svd").fit(np.concatenate(designs), np.concatenate(ys))
    coef = model.coef_.reshape(ys[0].shape[1], -1).T.reshape(len(lags), xs[0].shape[1], -1)
    return scores, best, coef, model.intercept_


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("lags", LAGS)
def test_the_explicit_design(lags, intercept, scorer):
    xs, ys = data(lags)
    result = trf_cv(xs, ys, lags=lags, alphas=GRID, folds=FOLDS, scorer=scorer, fit_intercept=intercept)
    scores, best, coef, offset = the_loop(xs, ys, lags, FOLDS, scorer, intercept)
    np.testing.assert_allclose(result.scores, scores, atol=1e-10)
    np.testing.assert_array_equal(result.alphas, best)
    np.testing.assert_allclose(result.coef, coef, atol=1e-10)
    np.testing.assert_allclose(result.intercept, offset, atol=1e-9)
    np.testing.assert_array_equal(result.lags, list(lags))
    called = trf_cv(xs, ys, lags=lags, alphas=GRID, folds=FOLDS, scorer=SCORERS[scorer], fit_intercept=intercept)
    np.testing.assert_allclose(called.scores, scores, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.integers(-12, 12),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(0, 2**16),
)
def test_moments_are_those_of_the_explicit_design(lengths, first, count, f, seed):
    rng = np.random.default_rng(seed)
    lags = np.arange(first, first + count)
    xs = [rng.standard_normal((n, f)) for n in lengths]
    ys = [rng.standard_normal((n, 2)) for n in lengths]
    sums = lag_sums(zip(xs, ys, strict=True), lags)
    design = np.concatenate([delayed(x, lags) for x in xs])
    np.testing.assert_allclose(sums.gram(), design.T @ design, atol=1e-12)
    np.testing.assert_allclose(sums.xy, design.T @ np.concatenate(ys), atol=1e-12)
    np.testing.assert_allclose(sums.x, design.sum(axis=0), atol=1e-12)
    np.testing.assert_allclose(sums.y, np.concatenate(ys).sum(axis=0), atol=1e-12)
    twice = weighted_sum([sums, lag_sums([(xs[0], ys[0])], lags), sums], [1, 2, 0])
    edge = delayed(xs[0], lags)
    np.testing.assert_allclose(twice.gram(), design.T @ design + 2 * edge.T @ edge, atol=1e-12)


def test_long_segments_go_through_in_chunks():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9000, 8)), rng.standard_normal((9000, 3))
    lags = np.arange(-3, 13)
    design = np.zeros((9000, 16, 8))
    for i, lag in enumerate(lags):
        lo, hi = max(lag, 0), min(9000 + lag, 9000)
        design[lo:hi, i] = x[lo - lag : hi - lag]
    design = design.reshape(9000, -1)
    sums = lag_sums([(x, y)], lags)
    np.testing.assert_allclose(sums.gram(), design.T @ design, atol=1e-9)
    np.testing.assert_allclose(sums.xy, design.T @ y, atol=1e-9)


@pytest.mark.parametrize("lags", [range(8), range(-3, 5)])
def test_mne_receptive_field(lags):
    mne = pytest.importorskip("mne")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 3))
    y = delayed(x, lags) @ rng.standard_normal((len(lags) * 3, 2)) + rng.standard_normal((400, 2))
    solver = mne.decoding.TimeDelayingRidge(lags[0], lags[-1], 1.0, alpha=50.0, fit_intercept=False)
    with mne.use_log_level("error"):
        peer = mne.decoding.ReceptiveField(lags[0], lags[-1], 1.0, estimator=solver, fit_intercept=False)
        peer.fit(x[:, None], y[:, None])
    nothing = np.zeros((10, 3)), np.zeros((10, 2))  # a segment of zeros to test on, which adds nothing to the refit
    mine = trf_cv(
        [x, nothing[0]],
        [y, nothing[1]],
        lags=lags,
        alphas=[50.0],
        folds=[([1], [0])],
        fit_intercept=False,
    )
    np.testing.assert_allclose(mine.coef.transpose(2, 1, 0), peer.coef_, atol=1e-8)


@pytest.mark.parametrize("lags", [range(-2, 6), range(10)])
def test_mtrfpy(lags):
    """mTRFpy averages X'X over trials and takes it times the time step; its weights are per second."""
    mtrf = pytest.importorskip("mtrf")
    xs, ys = data(lags, lengths=(300, 280, 250))
    sfreq, lam = 64.0, 3.0
    peer = mtrf.TRF()
    peer.train(xs, ys, sfreq, lags[0] / sfreq, lags[-1] / sfreq, lam, verbose=False)
    mine = trf_cv(xs, ys, lags=lags, alphas=[lam * sfreq * len(xs)], folds=[([1, 2], [0])])
    np.testing.assert_allclose(peer.times * sfreq, list(lags))
    np.testing.assert_allclose(peer.weights / sfreq, mine.coef.transpose(1, 0, 2), atol=1e-9)
    np.testing.assert_allclose(np.ravel(peer.bias) / sfreq, mine.intercept, atol=1e-8)


@pytest.mark.parametrize("lags", [range(-3, 12), range(40)])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_smooth_features_with_large_offsets(lags, kind):
    """Envelopes with a k^-3 spectrum, 100 sd away from zero: as exact as the dense design in float64."""
    rng = np.random.default_rng(0)
    xs, ys = [], []
    for n in (700, 512, 333):
        spectrum = np.fft.rfft(rng.standard_normal((n, 2)), axis=0) / np.arange(1, n // 2 + 2)[:, None] ** 1.5
        x = np.fft.irfft(spectrum, n=n, axis=0)
        x = (x / x.std(axis=0) + [100.0, -100.0]).astype(kind)
        y = np.roll(x, 4, axis=0) @ rng.standard_normal((2, 3)) + 3 * rng.standard_normal((n, 3)) + [300.0, 0.0, -300.0]
        xs.append(x)
        ys.append(y.astype(kind))
    folds = [([0, 1], [2]), ([0, 2], [1]), ([1, 2], [0])]
    result = trf_cv(xs, ys, lags=lags, alphas=GRID, folds=folds)
    scores, best, coef, offset = the_loop(xs, ys, lags, folds, "r")
    np.testing.assert_allclose(result.scores, scores, atol=1e-8)
    np.testing.assert_array_equal(result.alphas, best)
    np.testing.assert_allclose(result.coef, coef, atol=1e-6)
    # The intercept goes with the rounded weights: what counts is what both give where the features are.
    found, expected = (
        b + np.einsum("lft,f->t", w.astype("f8"), [100.0, -100.0])
        for w, b in ((result.coef, result.intercept), (coef, offset))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6 if kind == "f4" else 1e-9)


def test_no_delayed_design_in_memory():
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((6000, 8)).astype("f4") for _ in range(4)]
    ys = [rng.standard_normal((6000, 4)).astype("f4") for _ in range(4)]
    folds = [([0, 1], [2, 3]), ([2, 3], [0, 1])]
    trf_cv(xs, ys, lags=range(60), alphas=[1.0], folds=folds)  # what is loaded on first use
    tracemalloc.start()
    try:
        trf_cv(xs, ys, lags=range(60), alphas=[1.0, 10.0], folds=folds)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    design = 24000 * 60 * 8 * 4
    assert peak < design / 2


@pytest.mark.parametrize("gap", [0, 1, 7, 60])
def test_gap_between_stretches_of_a_run(gap):
    lags = range(-2, 6)
    xs, ys = data(lags, lengths=(50, 40, 60, 45, 30))
    runs, split = ["a", "a", "a", "a", "b"], [([0, 2, 3, 4], [1]), ([0, 1, 4], [3]), ([1, 3, 4], [0, 2])]
    result = trf_cv(xs, ys, lags=lags, alphas=GRID, folds=split, runs=runs, gap=gap)
    rows = np.cumsum([0, *(len(x) for x in xs)])
    expected = []
    for train, test in split:
        kept_x, kept_y = [], []
        for i in train:
            place = np.arange(rows[i], rows[i + 1])
            near = [np.arange(rows[j] - gap, rows[j + 1] + gap) for j in test if runs[j] == runs[i]]
            kept = ~np.isin(place, np.concatenate([*near, [-1]]))
            if kept.any():
                kept_x.append(xs[i][kept])
                kept_y.append(ys[i][kept])
        n = len(kept_x)
        parts = [*kept_x, *(xs[i] for i in test)], [*kept_y, *(ys[i] for i in test)]
        fold = [(np.arange(n), np.arange(n, len(parts[0])))]
        expected.append(trf_cv(*parts, lags=lags, alphas=GRID, folds=fold).scores)
    np.testing.assert_allclose(result.scores, np.mean(expected, axis=0), atol=1e-10)
    whole = trf_cv(xs, ys, lags=lags, alphas=[1.0], folds=split, runs=runs)
    again = trf_cv(xs, ys, lags=lags, alphas=[1.0], folds=split, runs=runs, gap=gap)
    np.testing.assert_array_equal(whole.coef, again.coef)  # nothing is left out of the final fit


def test_torch_gives_the_same():
    torch = pytest.importorskip("torch")
    for lags in (range(-2, 5), range(-3, 12)):
        xs, ys = data(lags)
        mine = trf_cv(xs, ys, lags=lags, alphas=GRID, folds=FOLDS, runs=[0, 0, 0, 1, 1], gap=2)
        tensors = [[torch.as_tensor(part) for part in side] for side in (xs, ys)]
        other = trf_cv(*tensors, lags=lags, alphas=GRID, folds=FOLDS, runs=[0, 0, 0, 1, 1], gap=2)
        assert isinstance(other.coef, torch.Tensor)
        for name in ("coef", "intercept", "alphas", "scores", "cv_scores"):
            np.testing.assert_allclose(getattr(other, name).numpy(), getattr(mine, name), atol=1e-9)


def test_shared_alpha():
    xs, ys = data(range(6))
    each = trf_cv(xs, ys, lags=range(6), alphas=GRID, folds=FOLDS)
    shared = trf_cv(xs, ys, lags=range(6), alphas=GRID, folds=FOLDS, alpha_per_target=False)
    assert (shared.alphas == GRID[each.scores.mean(axis=1).argmax()]).all()
    np.testing.assert_allclose(shared.scores, each.scores, atol=1e-12)


def test_targets_in_blocks(monkeypatch):
    xs, ys = data(range(6))
    whole = trf_cv(xs, ys, lags=range(6), alphas=GRID, folds=FOLDS)
    monkeypatch.setattr("neuroalign.solvers.trf._BLOCK", 1)
    split = trf_cv(xs, ys, lags=range(6), alphas=GRID, folds=FOLDS)
    np.testing.assert_allclose(split.scores, whole.scores, atol=1e-12)


def test_float32_stays_float32_outside():
    xs, ys = data(range(6), dtype="f4")
    result = trf_cv(xs, ys, lags=range(6), alphas=GRID, folds=FOLDS)
    scores, best, coef, _ = the_loop(xs, ys, range(6), FOLDS, "r")
    assert result.coef.dtype == np.float32
    np.testing.assert_allclose(result.scores, scores, atol=1e-10)
    np.testing.assert_array_equal(result.alphas, best)
    np.testing.assert_allclose(result.coef, coef, atol=1e-5)


def test_bad_targets_do_not_touch_others():
    xs, ys = data(range(6))
    clean = trf_cv(xs, ys, lags=range(6), alphas=GRID, folds=FOLDS)
    ys = [y.copy() for y in ys]
    ys[1][3, 0] = np.nan
    for y in ys:
        y[:, 2] = 0.1
    result = trf_cv(xs, ys, lags=range(6), alphas=GRID, folds=FOLDS)
    np.testing.assert_array_equal(np.isnan(result.cv_scores), [1, 0, 1, 0, 0])
    assert result.n_unscored == 2
    assert np.isnan(result.coef[..., 0]).all()
    assert np.isnan(result.intercept[0])
    assert not result.coef[..., 2].any()
    assert result.intercept[2] == 0.1
    np.testing.assert_allclose(result.coef[..., [1, 3, 4]], clean.coef[..., [1, 3, 4]], atol=1e-12)


def test_lags_never_cross_a_segment():
    xs, ys = data(range(6))
    order = [3, 1, 4, 0, 2]
    a = trf_cv(xs, ys, lags=range(6), alphas=GRID, folds=[([0, 1, 2], [3, 4])])
    folds = [([order.index(i) for i in (0, 1, 2)], [order.index(i) for i in (3, 4)])]
    b = trf_cv([xs[i] for i in order], [ys[i] for i in order], lags=range(6), alphas=GRID, folds=folds)
    np.testing.assert_allclose(a.coef, b.coef, atol=1e-12)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"lags": [0, 2]}, ConfigError, "consecutive"),
        ({"lags": [2, 1]}, ConfigError, "consecutive"),
        ({"lags": [0.5, 1.5]}, ConfigError, "consecutive"),
        ({"lags": []}, ConfigError, "consecutive"),
        ({"X": np.zeros((9, 2))}, SchemaError, r"pass \[X\]"),
        ({"X": [np.zeros((9, 2))]}, SchemaError, "number of segments"),
        ({"X": [np.zeros((9, 2)), np.zeros((8, 2))]}, SchemaError, "segment 1"),
        ({"X": [np.zeros((9, 2)), np.zeros((9, 3))]}, SchemaError, "segment 1"),
        ({"X": [np.zeros((9, 2)), np.full((9, 2), np.nan)]}, SchemaError, r"X\[1\] holds NaN"),
        ({"folds": [([0], [2])]}, ConfigError, "segments"),
        ({"scorer": "mse"}, ConfigError, "Unknown scorer"),
        ({"gap": -1}, ConfigError, "number of samples"),
        ({"gap": 9, "runs": [0, 0]}, ConfigError, "leaves nothing to train on"),
        ({"runs": [0]}, SchemaError, "one run a segment"),
    ],
)
def test_refusals(change, error, words):
    arguments = {"X": [np.eye(9, 2)] * 2, "Y": [np.eye(9, 1)] * 2, "lags": [0], "alphas": [1.0], "folds": [([0], [1])]}
    arguments.update(change)
    with pytest.raises(error, match=words):
        trf_cv(arguments.pop("X"), arguments.pop("Y"), **arguments)


@pytest.mark.parametrize("scorer", ["r", "r2"])
def test_shared_and_pooled_alphas(scorer):
    """Against the curves of the folds: the best mean, and what ridge regression on the explicit design does."""
    lags = range(-1, 3)
    xs, ys = data(lags)
    single = trf_cv(xs, ys, lags=lags, alphas=GRID, folds=FOLDS, scorer=scorer)
    shared = trf_cv(xs, ys, lags=lags, alphas=GRID, folds=FOLDS, scorer=scorer, alpha_per_target=False)
    pooled = trf_cv(xs, ys, lags=lags, alphas=GRID, folds=FOLDS, scorer=scorer, alpha_per_target="pooled")
    assert (single.pooling, shared.pooling) == (0.0, 1.0)
    np.testing.assert_array_equal(shared.alphas, GRID[single.scores.mean(axis=1).argmax()])
    edges = np.cumsum([0, *map(len, xs)])
    rows = [[np.concatenate([np.arange(edges[i], edges[i + 1]) for i in side]) for side in fold] for fold in FOLDS]
    design, y = np.concatenate([delayed(x, lags) for x in xs]), np.concatenate(ys)
    expected = ridge_cv(design, y, alphas=GRID, folds=rows, scorer=scorer, alpha_per_target="pooled")
    assert pooled.pooling == pytest.approx(expected.pooling, abs=1e-9)
    np.testing.assert_array_equal(pooled.alphas, expected.alphas)
    for result in (shared, pooled):
        place = (GRID[:, None] == result.alphas).argmax(axis=0)
        np.testing.assert_allclose(result.cv_scores, single.scores[place, range(y.shape[1])])
    with pytest.raises(ConfigError, match="alpha_per_target"):
        trf_cv(xs, ys, lags=lags, alphas=GRID, folds=FOLDS, alpha_per_target="some")
