"""Band weights and penalties that targets choose alone, together, or drawn towards each other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from sklearn.model_selection import KFold

from neuroalign.errors import ConfigError
from neuroalign.metrics import r2_score
from neuroalign.solvers import banded_ridge_cv, default_alphas

WAYS = (True, False, "pooled")


def bands_of(n, t, n_bands, alike, seed):
    """Bands of 15 features and unit variance; targets of all bands alike, or each of one band, half of them noise."""
    rng = np.random.default_rng(seed)
    bands = np.repeat(np.arange(n_bands), 15)
    x = rng.standard_normal((n, len(bands))) * np.tile(np.arange(1, 16) ** -0.5, n_bands)
    share = np.ones((len(bands), t)) if alike else 4.0 * (bands[:, None] == rng.integers(n_bands, size=t))
    share = share if alike else share * (np.arange(t) % 2)
    return x, x @ (0.7 * share * rng.standard_normal((len(bands), t))) + rng.standard_normal((n, t)), bands


def held_out(x, y, bands, train, test):
    """Mean R2 on test samples of the three ways to choose."""
    size = [np.sqrt(x[train][:, bands == band].var(axis=0).sum()) for band in range(bands.max() + 1)]
    x = x / np.array(size)[bands]
    grid, folds = default_alphas(x[train], 14, decades=(-3, 4)), list(KFold(5).split(train))
    options = {"bands": bands, "alphas": grid, "folds": folds, "n_iter": 12, "random_state": 0}
    means = []
    for way in WAYS:
        fit = banded_ridge_cv(x[train], y[train], alpha_per_target=way, **options)
        means.append(r2_score(y[test], x[test] @ fit.coef + fit.intercept).mean())
    return means


@pytest.mark.parametrize("n", [40, 80])
@pytest.mark.parametrize("n_bands", [2, 3])
@pytest.mark.parametrize("alike", [True, False])
def test_few_samples(n, n_bands, alike):
    """Pooling keeps up with the better of the two where targets are alike, and where they differ."""
    scores = []
    for seed in range(4):
        x, y, bands = bands_of(n + 300, 60, n_bands, alike, seed)
        scores.append(held_out(x, y, bands, np.arange(n), np.arange(n, n + 300)))
    each, shared, pooled = np.mean(scores, axis=0)
    assert (shared > each) == alike
    assert pooled > max(each, shared) - 0.02


def test_few_stimuli_of_real_fmri(real_data):
    folder = real_data("objects81-fmri-alexnet-w2v")
    y = np.load(folder / "roi_data.npz")["betas"].astype("f8")[:, ::8]
    spaces = []
    for name in ("alexnet", "word2vec"):
        table = scipy.io.loadmat(folder / f"{name}.mat")
        spaces.append(np.hstack([value for key, value in table.items() if not key.startswith("__")]).astype("f8"))
    x, bands = np.hstack(spaces), np.repeat([0, 1], [space.shape[1] for space in spaces])
    for n in (20, 40):
        scores = []
        for seed in range(4):
            order = np.random.default_rng(seed).permutation(81)
            scores.append(held_out(x, y, bands, order[:n], order[n:]))
        each, shared, pooled = np.mean(scores, axis=0)
        assert pooled > max(each, shared) - 0.02


@pytest.mark.parametrize("scorer", ["r2", "r"])
def test_shared_choice_is_that_of_the_best_mean(scorer):
    x, y, bands = bands_of(60, 9, 2, True, 0)
    y[:, 4] = 1.0
    grid = np.logspace(-2, 3, 6)
    options = {"bands": bands, "folds": list(KFold(4).split(x)), "scorer": scorer}
    shared = banded_ridge_cv(x, y, alphas=grid, n_iter=8, random_state=0, alpha_per_target=False, **options)
    means = {}
    for number, gamma in enumerate(shared.candidates):
        for alpha in grid:
            alone = banded_ridge_cv(x, y, alphas=[alpha], gammas=[gamma], **options)
            means[number, alpha] = np.nanmean(alone.cv_scores)
    number, alpha = max(means, key=means.get)
    known = np.arange(9) != 4
    np.testing.assert_array_equal(shared.gammas[:, known], np.repeat(shared.candidates[number][:, None], 8, axis=1))
    np.testing.assert_allclose(shared.alphas[known], alpha)
    assert np.isnan(shared.alphas[4])
    assert shared.pooling == 1.0
    assert np.nanmean(shared.cv_scores) == pytest.approx(means[number, alpha])
    best = banded_ridge_cv(x, y, alphas=[alpha], gammas=[shared.candidates[number]], **options)
    np.testing.assert_allclose(shared.coef, best.coef, atol=1e-10)
    each = banded_ridge_cv(x, y, alphas=grid, n_iter=8, random_state=0, **options)
    np.testing.assert_array_equal(shared.scores, each.scores)
    assert each.pooling == 0.0


def test_pooled_choices_between_the_two():
    x, y, bands = bands_of(80, 12, 2, False, 0)
    options = {"bands": bands, "alphas": np.logspace(-2, 3, 6), "folds": list(KFold(4).split(x)), "random_state": 0}
    each = banded_ridge_cv(x, y[:, 1::2], **options)
    pooled = banded_ridge_cv(x, y[:, 1::2], alpha_per_target="pooled", **options)
    assert pooled.pooling < 0.5  # targets of clear and different bands stay with them
    np.testing.assert_array_equal(pooled.gammas.argmax(axis=0), each.gammas.argmax(axis=0))
    same = x @ np.random.default_rng(0).standard_normal((30, 1)) + np.random.default_rng(1).standard_normal((80, 12))
    assert banded_ridge_cv(x, same, alpha_per_target="pooled", **options).pooling > 0.5
    for j in range(12):  # the score is that of the choice
        fit = banded_ridge_cv(x, same, alpha_per_target="pooled", **options)
        alone = {**options, "alphas": [fit.alphas[j]], "gammas": [fit.gammas[:, j]]}
        assert banded_ridge_cv(x, same[:, j : j + 1], **alone).cv_scores[0] == pytest.approx(fit.cv_scores[j])


def test_equal_scores_take_the_first_candidate_and_the_larger_penalty():
    x, y, bands = bands_of(40, 3, 2, True, 0)
    options = {"bands": bands, "folds": list(KFold(4).split(x)), "gammas": [[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]]}
    for way in (False, "pooled"):
        constant = banded_ridge_cv(
            x, y, alphas=[1.0, 10.0, 0.1], scorer=lambda y, p: np.zeros(y.shape[1]), alpha_per_target=way, **options
        )
        np.testing.assert_array_equal(constant.alphas, 10.0)
        np.testing.assert_array_equal(constant.gammas, 0.5)


def test_refusals():
    x, y, bands = bands_of(40, 3, 2, True, 0)
    options = {"bands": bands, "alphas": [1.0], "folds": list(KFold(4).split(x))}
    with pytest.raises(ConfigError, match="each target on its own"):
        banded_ridge_cv(x, y, search="gradient", alpha_per_target="pooled", **options)
    with pytest.raises(ConfigError, match="share alphas"):
        banded_ridge_cv(x, y, alpha_per_target="some", **options)
    with pytest.raises(ConfigError, match="held-out folds"):
        banded_ridge_cv(x, y, alpha_per_target="pooled", **{**options, "folds": options["folds"][:1]})


def test_too_many_candidates_to_pool():
    x, y, bands = bands_of(20, 2, 2, True, 0)
    options = {"bands": bands, "alphas": np.logspace(-2, 2, 41), "folds": list(KFold(2).split(x))}
    with pytest.raises(ConfigError, match="101 times 41"):
        banded_ridge_cv(x, y, n_iter=101, alpha_per_target="pooled", random_state=0, **options)
