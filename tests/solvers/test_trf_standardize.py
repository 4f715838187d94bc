"""Response functions whose features are scaled inside the folds, against ridge on the explicit delayed design."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from neuroalign.decoding import TRFDecoder
from neuroalign.encoding import BandedRidgeEncoder, TRFEncoder
from neuroalign.errors import ConfigError
from neuroalign.linear import AlphaGrid
from neuroalign.metrics import SCORERS
from neuroalign.protocol import load_model
from neuroalign.solvers import default_alphas, trf_cv, trf_errors, trf_predict

GRID = np.logspace(-1, 4, 6)
LAGS = np.arange(-1, 4)
FOLDS = [([1, 2, 3], [0]), ([0, 2, 3], [1]), ([0, 1], [2, 3])]


def segments(seed=0, f=3, t=4, lengths=(60, 85, 70, 90)):
    """Features whose deviations differ by decades, and from segment to segment."""
    rng = np.random.default_rng(seed)
    units = 10 ** rng.uniform(-3, 3, f)
    weights = rng.standard_normal((f, t))
    xs = [rng.standard_normal((n, f)) * rng.uniform(0.3, 3, f) + 1 for n in lengths]
    ys = [np.roll(x, 1, axis=0) @ weights + 3 * rng.standard_normal((len(x), t)) + 5 for x in xs]
    return [x * units for x in xs], ys


def delayed(x, lags=LAGS):
    out = np.zeros((len(x), len(lags), x.shape[1]))
    for place, lag in enumerate(lags):
        rows = np.arange(len(x)) - lag
        inside = (rows >= 0) & (rows < len(x))
        out[inside, place] = x[rows[inside]]
    return out.reshape(len(x), -1)


def solution(xs, ys, alpha, intercept):
    """Ridge on the delayed design over the deviations of the features, in the units of the features."""
    size = np.tile(np.concatenate(xs).std(axis=0), len(LAGS))
    design = np.concatenate([delayed(x) for x in xs]) / size
    model = Ridge(alpha, fit_intercept=intercept, solver="svd").fit(design, np.concatenate(ys))
    return model.coef_.T / size[:, None], model.intercept_


@pytest.mark.parametrize("torch", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("scorer", [*SCORERS, "function"])
def test_the_explicit_design(scorer, intercept, torch):
    xs, ys = segments()
    score = SCORERS["r2" if scorer == "function" else scorer]
    scores = np.zeros((len(GRID), 4))
    for train, test in FOLDS:
        for place, alpha in enumerate(GRID):
            coef, offset = solution([xs[i] for i in train], [ys[i] for i in train], alpha, intercept)
            predicted = np.concatenate([delayed(xs[i]) @ coef + offset for i in test])
            scores[place] += score(np.concatenate([ys[i] for i in test]), predicted) / len(FOLDS)
    tables = xs, ys
    if torch:
        tensor = pytest.importorskip("torch").as_tensor
        tables = [tensor(x) for x in xs], [tensor(y) for y in ys]
    options = {"lags": LAGS, "alphas": GRID, "folds": FOLDS, "fit_intercept": intercept}
    given = score if scorer == "function" else scorer
    result = trf_cv(*tables, scorer=given, standardize=True, **options)
    np.testing.assert_allclose(np.asarray(result.scores), scores, atol=1e-9)
    np.testing.assert_array_equal(np.asarray(result.alphas), GRID[scores.argmax(axis=0)])
    coef, offset = solution(xs, ys, np.asarray(result.alphas), intercept)
    size = np.concatenate(xs).std(axis=0)[:, None]
    np.testing.assert_allclose(np.asarray(result.coef) * size, coef.reshape(5, 3, 4) * size, atol=1e-9)
    np.testing.assert_allclose(np.asarray(result.intercept), np.broadcast_to(offset, 4), atol=1e-8)
    other = trf_cv(*tables, scorer=given, **options)
    assert np.abs(np.asarray(other.scores) - scores).max() > 0.01


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_units_do_not_matter(dtype):
    xs, ys = ([part.astype(dtype) for part in side] for side in segments())
    factor = np.array([1e-15, 1e12, 7.0], dtype)
    options = {"lags": LAGS, "alphas": GRID, "folds": FOLDS, "standardize": True}
    one, two = trf_cv(xs, ys, **options), trf_cv([x * factor for x in xs], ys, **options)
    np.testing.assert_array_equal(one.alphas, two.alphas)
    tolerance = 1e-8 if dtype == "f8" else 1e-5
    np.testing.assert_allclose(two.scores, one.scores, atol=tolerance)
    first, second = (
        trf_predict(x, result.coef, lags=LAGS) + result.intercept for x, result in ((xs[0], one), (xs[0] * factor, two))
    )
    np.testing.assert_allclose(second, first, atol=10 * tolerance)


def test_what_is_left_out_teaches_nothing():
    """Neither test segments nor what the gap leaves out beside them."""
    xs, ys = segments()
    last = []
    options = {"lags": LAGS, "alphas": GRID, "standardize": True, "folds": [([0, 1], [2])]}
    for factor in (1.0, 100.0):
        other = [*xs[:3], factor * xs[3]]
        last.append(trf_cv(other, ys, **options).scores)
    np.testing.assert_allclose(last[1], last[0], atol=1e-8)
    seen = []
    long = [np.concatenate(xs[:2]), xs[2]]
    for factor in (1.0, 100.0):
        other = [np.r_[long[0][:-20], factor * long[0][-20:]], long[1]]
        answers = [np.concatenate(ys[:2]), ys[2]]
        gap = {**options, "folds": [([0], [1])], "runs": [0, 0], "gap": 24}
        seen.append(trf_cv(other, answers, **gap).scores)
    np.testing.assert_allclose(seen[1], seen[0], atol=1e-8)


def test_constant_features():
    xs, ys = segments()
    options = {"lags": LAGS, "alphas": GRID, "folds": FOLDS, "standardize": True}
    usual = trf_cv(xs, ys, **options)
    more = trf_cv([np.c_[x, np.full(len(x), 3.0)] for x in xs], ys, **options)
    assert not more.coef[:, 3].any()
    np.testing.assert_allclose(more.scores, usual.scores, atol=1e-10)
    rare = [np.c_[x, (np.arange(len(x)) % 7 == 0) * float(i == 0)] for i, x in enumerate(xs)]
    result = trf_cv(rare, ys, **{**options, "folds": FOLDS[:1]})  # constant in the training segments
    np.testing.assert_allclose(result.scores, trf_cv(xs, ys, **{**options, "folds": FOLDS[:1]}).scores, atol=1e-10)
    assert result.coef[:, 3].any()


def test_errors_scale_every_draw_anew():
    xs, ys = segments()
    options = {"lags": LAGS, "alphas": 30.0, "n_resamples": 20, "random_state": 0}
    errors = trf_errors(xs, ys, standardize=True, **options)
    factor = np.array([1e-6, 1e4, 7.0])
    scaled = trf_errors([x * factor for x in xs], ys, standardize=True, **options)
    np.testing.assert_allclose(scaled * factor[:, None], errors, rtol=1e-6)
    rng = np.random.default_rng(0)
    draws = [
        solution([xs[i] for i in drawn], [ys[i] for i in drawn], 30.0, True)[0]
        for drawn in (rng.integers(4, size=4) for _ in range(20))
    ]
    np.testing.assert_allclose(errors, (np.std(draws, axis=0, ddof=1) * (4 / 3) ** 0.5).reshape(5, 3, 4), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:The grid of alphas")
@pytest.mark.parametrize("cls", [TRFEncoder, TRFDecoder])
@pytest.mark.parametrize("alphas", [None, GRID])
def test_models(cls, alphas, tmp_path):
    x, y = (np.concatenate(side) for side in segments())
    factor = np.array([1e-6, 1e4, 7.0])
    grid = AlphaGrid(alphas, standardize=True)
    one, two = (cls(tmax=0.02, sfreq=100.0, cv=4, alphas=grid).fit(x * scale, y) for scale in (1.0, factor))
    assert one.standardize
    np.testing.assert_allclose(two.alphas_, one.alphas_, rtol=1e-9)
    np.testing.assert_allclose(two.predict(x * factor), one.predict(x), rtol=1e-7)
    known = default_alphas(x / x.std(axis=0)) if alphas is None else GRID
    assert np.isclose(one.alphas_[:, None], known).any(axis=1).all()
    again = load_model(one.save(tmp_path / "model"))
    assert again.alphas.standardize is True
    if cls is TRFEncoder:
        intervals = [
            model.response_interval(rows, y, n_resamples=10, random_state=0)
            for model, rows in ((one, x), (two, x * factor))
        ]
        np.testing.assert_allclose(intervals[1] * factor[:, None, None], intervals[0], rtol=1e-5, atol=1e-12)


def test_banded_models_refuse():
    x, y = (np.concatenate(side) for side in segments())
    with pytest.raises(ConfigError, match="whole bands"):
        BandedRidgeEncoder(alphas=AlphaGrid(standardize=True), random_state=0).fit(x, y)
