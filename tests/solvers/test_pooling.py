"""Alphas that are pooled over targets, and devices that are too small."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import scipy.io
from sklearn.model_selection import KFold

from neuroalign.errors import ConfigError, NeuroalignWarning
from neuroalign.metrics import r2_score
from neuroalign.solvers import _path, banded_ridge_cv, default_alphas, ridge, ridge_cv, trf_cv
from neuroalign.solvers._grid import choose, choose_pooled

WAYS = (True, False, "pooled")


def held_out(x, y, train, test):
    """Mean R2 on test samples of the three ways to choose."""
    folds = list(KFold(5).split(train))
    means = []
    for way in WAYS:
        fit = ridge_cv(x[train], y[train], alphas=default_alphas(x[train], 15), folds=folds, alpha_per_target=way)
        means.append(r2_score(y[test], x[test] @ fit.coef + fit.intercept).mean())
    return means


@pytest.mark.parametrize(("n", "noise"), [(10, 0.05), (20, 0.02), (40, 0.01)])  # folds of 2 samples say little
@pytest.mark.parametrize("alike", [True, False])
def test_few_samples(n, noise, alike):
    """Pooling keeps up with the better of the two where targets are alike, and where they differ."""
    scores = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n + 300, 30)) * np.arange(1, 31) ** -0.5
        strength = np.full(80, 0.7) if alike else np.where(np.arange(80) % 2, 6.0, 0.0)
        y = x @ rng.standard_normal((30, 80)) * strength + rng.standard_normal((n + 300, 80))
        scores.append(held_out(x, y, np.arange(n), np.arange(n, n + 300)))
    each, shared, pooled = np.mean(scores, axis=0)
    assert pooled > max(each, shared) - noise
    assert pooled > min(each, shared)


def test_few_stimuli_of_real_fmri(real_data):
    folder = real_data("objects81-fmri-alexnet-w2v")
    y = np.load(folder / "roi_data.npz")["betas"].astype("f8")[:, ::4]
    tables = scipy.io.loadmat(folder / "word2vec.mat")
    x = np.hstack([value for key, value in tables.items() if not key.startswith("__")]).astype("f8")
    for n in (15, 40):
        scores = []
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(81)
            scores.append(held_out(x, y, order[:n], order[n:]))
        each, shared, pooled = np.mean(scores, axis=0)
        assert pooled > max(each, shared) - 0.02
        assert pooled > min(each, shared)


def test_weights_at_the_ends_are_the_other_ways():
    rng = np.random.default_rng(0)
    of_folds, grid = rng.standard_normal((4, 6, 9)), np.logspace(0, 5, 6)
    of_folds[:, :, 2] = np.nan
    of_folds[1, :, 3] = np.nan
    scores = np.nanmean(of_folds[:, :, [0, 1, 3, 4, 5, 6, 7, 8]], axis=0)
    scores = np.insert(scores, 2, np.nan, axis=1)
    alphas, cv_scores, weight = choose_pooled(of_folds, scores, grid)
    assert 0 <= weight <= 1
    assert np.isnan(alphas[2])
    assert np.isnan(cv_scores[2])
    known = np.delete(np.arange(9), 2)
    places = [int(np.flatnonzero(grid == alphas[t])[0]) for t in known]
    np.testing.assert_array_equal(cv_scores[known], scores[places, known])
    clear = np.zeros((4, 6, 9)) + np.eye(6, 9)[None]  # every fold agrees on what each target wants
    alphas, _, weight = choose_pooled(clear, clear.mean(axis=0), grid)
    np.testing.assert_array_equal(alphas[:6], choose(clear.mean(axis=0), grid, per_target=True)[0][:6])
    assert weight < 1
    same = np.zeros((4, 6, 9)) + np.arange(6.0)[:, None] + 0.1 * rng.standard_normal((4, 6, 9))
    assert choose_pooled(same, same.mean(axis=0), grid)[2] == 1.0


def test_result_says_how_much():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 5)), rng.standard_normal((40, 8))
    options = {"alphas": [1.0, 10.0, 100.0], "folds": list(KFold(4).split(x))}
    assert ridge_cv(x, y, **options).pooling == 0.0
    assert ridge_cv(x, y, **options, alpha_per_target=False).pooling == 1.0
    pooled = ridge_cv(x, y, **options, alpha_per_target="pooled")
    assert 0.0 <= pooled.pooling <= 1.0
    np.testing.assert_allclose(pooled.coef, ridge(x, y, alpha=pooled.alphas)[0], atol=1e-10)
    with pytest.raises(ConfigError, match="share alphas"):
        ridge_cv(x, y, **options, alpha_per_target="some")
    with pytest.raises(ConfigError, match="held-out folds"):
        ridge_cv(x, y, alphas=[1.0], folds=options["folds"][:1], alpha_per_target="pooled")


def small_device(monkeypatch, limit):
    """A device that holds so many targets and no more."""
    torch = pytest.importorskip("torch")
    load = _path.load_tile

    def limited(plan, y, *arguments, **options):
        if y.shape[1] > limit:
            raise torch.OutOfMemoryError("out of memory")
        return load(plan, y, *arguments, **options)

    monkeypatch.setattr(_path, "load_tile", limited)
    monkeypatch.setattr(importlib.import_module("neuroalign.solvers.ridge"), "load_tile", limited)
    return torch


@pytest.mark.parametrize("way", [True, False])
def test_fewer_targets_when_memory_is_short(way, monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 5)), rng.standard_normal((40, 23))
    options = {"alphas": [1.0, 10.0], "folds": list(KFold(4).split(x)), "alpha_per_target": way}
    expected = ridge_cv(x, y, **options)
    torch = small_device(monkeypatch, 6)
    with pytest.warns(NeuroalignWarning, match="out of memory; going on with") as caught:
        result = ridge_cv(torch.from_numpy(x), torch.from_numpy(y), **options)
    assert [str(w.message).split(" with ")[1] for w in caught] == ["11 targets at a time.", "5 targets at a time."]
    np.testing.assert_allclose(result.coef.numpy(), expected.coef, atol=1e-10)
    np.testing.assert_allclose(result.scores.numpy(), expected.scores, atol=1e-10)


def test_no_memory_at_all(monkeypatch):
    torch = small_device(monkeypatch, 0)
    with pytest.raises(ConfigError, match="no memory for a single target"):
        ridge(torch.eye(4), torch.ones(4, 1), alpha=1.0)


def scarce(monkeypatch, module, name, limit, width):
    """Let a step fail for more than so many targets; `width` tells how many a call is about."""
    torch, module = pytest.importorskip("torch"), importlib.import_module(module)
    step = getattr(module, name)

    def limited(*arguments, **options):
        if width(arguments) > limit:
            raise torch.OutOfMemoryError("out of memory")
        return step(*arguments, **options)

    monkeypatch.setattr(module, name, limited)
    return torch


@pytest.mark.parametrize("search", ["random", "gradient"])
def test_fewer_targets_of_banded_models(search, monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6)), rng.standard_normal((40, 23))
    options = {"bands": [0, 0, 0, 1, 1, 1], "alphas": [1.0, 10.0], "folds": list(KFold(4).split(x))}
    options |= {"search": search, "n_iter": 5, "random_state": 0}
    expected = banded_ridge_cv(x, y, **options)
    width = lambda arguments: arguments[2].shape[1]  # noqa: E731
    torch = scarce(monkeypatch, "neuroalign.solvers.banded", "search_block", 6, width)
    with pytest.warns(NeuroalignWarning, match="out of memory; going on with"):
        result = banded_ridge_cv(torch.from_numpy(x), torch.from_numpy(y), **options)
    for name in ("coef", "intercept", "alphas", "gammas", "cv_scores"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), atol=1e-8)


def test_fewer_targets_of_response_functions(monkeypatch):
    rng = np.random.default_rng(0)
    xs, ys = ([rng.standard_normal((50, k)) for _ in range(3)] for k in (2, 9))
    ys[0][3, 1], options = np.nan, {"lags": range(3), "alphas": [0.1, 10.0], "folds": [([0, 1], [2]), ([1, 2], [0])]}
    expected = trf_cv(xs, ys, **options)
    width = lambda arguments: arguments[1][0].shape[1]  # noqa: E731
    torch = scarce(monkeypatch, "neuroalign.solvers.trf", "make_segments", 4, width)
    tensors = [[torch.from_numpy(part) for part in parts] for parts in (xs, ys)]
    with pytest.warns(NeuroalignWarning, match="out of memory; going on with 4 targets"):
        result = trf_cv(*tensors, **options)
    for name in ("coef", "intercept", "alphas", "scores", "cv_scores", "edge"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), atol=1e-9)
    with pytest.raises(ConfigError, match="no memory for this many samples and features"):
        trf_cv(*tensors, **options, alpha_per_target=False)  # a shared penalty needs all targets at once


def test_no_memory_for_the_features(monkeypatch):
    torch = scarce(monkeypatch, "neuroalign.solvers._plan", "eigh", 0, lambda arguments: 1)
    x, y = torch.eye(8), torch.ones(8, 2)
    with pytest.raises(ConfigError, match="no memory for this many samples and features"):
        ridge(x, y, alpha=1.0)
    with pytest.raises(ConfigError, match="no memory for this many samples and features"):
        ridge_cv(x, y, alphas=[1.0], folds=[(range(4), range(4, 8))])
