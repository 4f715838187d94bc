"""Alphas that are pooled over targets, and devices that are too small."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pandas as pd
import pytest
import scipy.io
from sklearn.model_selection import KFold

from neuroalign.errors import ConfigError, NeuroalignWarning
from neuroalign.metrics import r2_score
from neuroalign.solvers import _path, banded_ridge_cv, default_alphas, ridge, ridge_cv, trf_cv
from neuroalign.solvers._exact import ExactMean
from neuroalign.solvers._grid import _clearly_better, choose, choose_pooled, choose_with, learn_pooling
from neuroalign.solvers._together import choose_together

WAYS = (True, False, "pooled")


def held_out(x, y, train, test, n_folds=5):
    """Mean R2 on test samples of the three ways to choose."""
    folds = list(KFold(n_folds).split(train))
    means = []
    for way in WAYS:
        fit = ridge_cv(x[train], y[train], alphas=default_alphas(x[train], 15), folds=folds, alpha_per_target=way)
        means.append(r2_score(y[test], x[test] @ fit.coef + fit.intercept).mean())
    return means


def check(scores):
    """Pooling is as good as the better of the two, up to .005 or two paired standard errors."""
    each, shared, pooled = np.transpose(scores)
    loss = max(each, shared, key=np.mean) - pooled
    assert loss.mean() <= max(0.005, 2 * loss.std(ddof=1) / np.sqrt(loss.size))
    return loss.mean()


FRACTIONS = {  # of the variance of each target that is signal
    "noise": np.zeros(80),
    "alike": np.full(80, 0.5),
    "different": np.where(np.arange(80) % 2, 0.9, 0.05),
    "few": np.where(np.arange(80) % 20, 0.0, 0.7),
}


@pytest.mark.parametrize("n", [10, 20, 40, 160])
@pytest.mark.parametrize("kind", FRACTIONS)
def test_few_samples(n, kind):
    """Pooling keeps up with the better of the two where targets are alike, and where they differ."""
    scores = []
    for seed in range(10):
        rng = np.random.default_rng([n, seed])
        x = rng.standard_normal((n + 300, 30)) * np.arange(1, 31) ** -0.5
        signal = x @ rng.standard_normal((30, 80))
        noise = rng.standard_normal((n + 300, 80))
        y = signal / signal.std(axis=0) * FRACTIONS[kind] ** 0.5 + noise * (1 - FRACTIONS[kind]) ** 0.5
        scores.append(held_out(x, y, np.arange(n), np.arange(n, n + 300)))
    check(scores)


def test_small_folds():
    """Folds of two samples have wild scores, which mislead both other ways."""
    scores = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, noise = rng.standard_normal((320, 10)), rng.standard_normal((320, 60))
        y = x @ rng.standard_normal((10, 60)) + 2 * noise
        scores.append(held_out(x, y, np.arange(20), np.arange(20, 320), n_folds=10))
    assert check(scores) < -0.02


def test_few_stimuli_of_real_fmri(real_data):
    folder = real_data("objects81-fmri-alexnet-w2v")
    y = np.load(folder / "roi_data.npz")["betas"].astype("f8")[:, ::4]
    tables = scipy.io.loadmat(folder / "word2vec.mat")
    x = np.hstack([value for key, value in tables.items() if not key.startswith("__")]).astype("f8")
    for n in (15, 40):
        order = [np.random.default_rng(seed).permutation(81) for seed in range(8)]
        check([held_out(x, y, rows[:n], rows[n:]) for rows in order])


@pytest.mark.parametrize("subject", [1, 5, 9])
def test_nouns_of_real_fmri(subject, real_data):
    folder = real_data("mitchell2008-60nouns")
    table = pd.read_csv(folder / f"scaled_1000_mitchell_targets_{subject}.txt", sep=" ", index_col="word").iloc[:, ::4]
    names = pd.read_csv(folder / "features" / "unique_id.csv")["id"]
    features = pd.DataFrame(np.load(folder / "features" / "spose_embedding_82d_sorted.npy"), index=names)
    known = [word for word in table.index if word in features.index]
    x, y = features.loc[known].to_numpy("f8"), table.loc[known].to_numpy("f8")
    splits = KFold(5, shuffle=True, random_state=0).split(x)
    check([held_out(x, y, train, test) for train, test in splits])


@pytest.mark.parametrize("n", [200, 1000])
def test_few_targets_with_signal_among_many_without(n):
    scores = []
    for seed in range(6):
        rng = np.random.default_rng([31, n, seed])
        x = rng.standard_normal((n + 300, 5)) * np.arange(1.0, 6) ** -0.5
        y = rng.standard_normal((n + 300, 60))
        y[:, ::20] += 2 * x @ rng.standard_normal((5, 3))
        scores.append(held_out(x, y, np.arange(n), np.arange(n, n + 300)))
    each, _, pooled = np.mean(scores, axis=0)
    assert each - pooled < 0.002
    check(scores)


def test_what_is_clearly_better():
    first = np.ones((10, 6)) + 0.01 * np.random.default_rng(0).standard_normal((10, 6))
    first[0, 1] = -0.001  # not in every fold, if by 9 standard errors
    first[:, 2] *= np.linspace(0.001, 4, 10) ** 2
    first[3, 4:] = np.nan, np.inf
    of_folds = np.stack([first, np.zeros((10, 6))], axis=1)
    places = np.zeros(6, int), np.ones(6, int)
    assert _clearly_better(of_folds, *places).tolist() == [True, False, False, True, False, False]
    assert not _clearly_better(of_folds[:, ::-1], *places).any()
    assert not _clearly_better(of_folds[:2], *places).any()  # two folds share all of their noise


def test_noise_is_shared_and_clear_differences_are_kept():
    rng, grid = np.random.default_rng(0), np.logspace(0, 5, 6)
    clear = np.zeros((4, 6, 9)) + np.eye(6, 9)[None]  # every fold agrees on what each target wants
    alphas, cv_scores, amount = choose_pooled(clear, clear[0], grid)
    np.testing.assert_array_equal(alphas[:6], grid)
    np.testing.assert_array_equal(cv_scores, [1, 1, 1, 1, 1, 1, 0, 0, 0])
    assert amount == pytest.approx(0, abs=1e-9)
    same = 0.5 * np.arange(6.0)[:, None] + rng.standard_normal((4, 6, 400))  # targets differ by noise alone
    alphas, _, amount = choose_pooled(same, same.mean(axis=0), grid)
    assert amount > 0.9
    assert (alphas == 1e5).mean() > 0.99
    assert (choose(same.mean(axis=0), grid, per_target=True)[0] == 1e5).mean() < 0.9


def test_noise_of_pairs_of_folds():
    """Without signal a fold's score is a sum over pairs of folds, as the docstring says: nothing of it is kept."""
    rng, n_folds = np.random.default_rng(0), 5
    pairs = rng.standard_normal((n_folds, n_folds, 6, 4000))
    pairs = pairs + pairs.transpose(1, 0, 2, 3)
    scores = pairs.sum(axis=1) - pairs[np.arange(n_folds), np.arange(n_folds)]
    first, second = scores[0, 0], scores[1, 0]
    assert np.cov(first, second)[0, 1] / first.var() == pytest.approx(1 / (n_folds - 1), abs=0.05)
    assert learn_pooling(scores).amount > 0.95
    signal = rng.standard_normal((6, 4000)) * 4  # as much as the noise of a mean over 5 folds, 2 x 4 x 2 / 5, and more
    expected = 1 - 16 / (16 + 2 * 4 * 2 / n_folds)
    assert learn_pooling(scores + signal).amount == pytest.approx(expected, abs=0.03)


def test_a_sample_of_targets_does_for_all():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((60, 10)), rng.standard_normal((60, 2000))
    y[:, ::2] += x @ rng.standard_normal((10, 1000))
    of_folds, grid = fold_scores(x, y), np.logspace(-1, 5, 12)
    scores = of_folds.mean(axis=0)
    alphas, cv_scores, _ = choose_pooled(of_folds, scores, grid)
    pooling = learn_pooling(of_folds)
    again = [
        choose_with(pooling, of_folds[:, :, lo : lo + 300], scores[:, lo : lo + 300], grid)
        for lo in range(0, 2000, 300)
    ]
    np.testing.assert_array_equal(np.hstack([part[0] for part in again]), alphas)
    np.testing.assert_array_equal(np.hstack([part[1] for part in again]), cv_scores)
    some = choose_with(learn_pooling(of_folds[:, :, ::5]), of_folds, scores, grid)[0]
    assert (some == alphas).mean() > 0.9


def fold_scores(x, y):
    """R2 (fold, alpha, target) by the obvious way."""
    scores = []
    for train, test in KFold(5).split(x):
        fits = [ridge(x[train], y[train], alpha=alpha) for alpha in np.logspace(-1, 5, 12)]
        scores.append([r2_score(y[test], x[test] @ coef + intercept) for coef, intercept in fits])
    return np.array(scores)


def test_against_the_obvious_formulas():
    """Covariances from pairs of folds, one after another, and the shrinkage of every direction."""
    rng = np.random.default_rng(2)
    of_folds = rng.standard_normal((5, 4, 50)) + 2 * rng.standard_normal((4, 50))
    pooling = learn_pooling(of_folds)
    centred = of_folds - of_folds.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1))
    assert pooling.limit == pytest.approx(5 * np.median(spread))
    np.testing.assert_allclose(pooling.mean, centred.mean(axis=(0, 2)))  # none is beyond the limit
    curves = centred / np.maximum(spread / (2 * np.median(spread)), 1)[:, None]
    curves = curves - curves.mean(axis=2, keepdims=True)
    variance = np.mean([a @ a.T / 50 for a in curves], axis=0)
    covariance = np.mean([curves[i] @ curves[j].T / 50 for i in range(5) for j in range(5) if i != j], axis=0)
    whole = curves.mean(axis=0) @ curves.mean(axis=0).T / 50
    between = covariance - (variance - covariance) / 3
    values = np.linalg.eigvals(np.linalg.pinv(whole) @ between).real
    assert ((values > -1e-9) & (values < 1)).all()  # so that nothing is cut off
    np.testing.assert_allclose(pooling.keep, between @ np.linalg.pinv(whole), atol=1e-9)


def test_what_has_no_score():
    rng = np.random.default_rng(0)
    of_folds, grid = rng.standard_normal((4, 6, 9)), np.logspace(0, 5, 6)
    of_folds[:, :, 2] = np.nan
    of_folds[1, :, 3] = np.nan
    known = np.delete(np.arange(9), 2)
    scores = np.full((6, 9), np.nan)
    scores[:, known] = np.nanmean(of_folds[:, :, known], axis=0)
    alphas, cv_scores, amount = choose_pooled(of_folds, scores, grid)
    assert 0 <= amount <= 1
    np.testing.assert_array_equal(np.isnan(alphas), np.arange(9) == 2)
    np.testing.assert_array_equal(np.isnan(cv_scores), np.arange(9) == 2)
    places = [int(np.flatnonzero(grid == alphas[t])[0]) for t in known]
    np.testing.assert_array_equal(cv_scores[known], scores[places, known])
    nothing = choose_pooled(np.full((4, 6, 2), np.nan), np.full((6, 2), np.nan), grid)
    assert np.isnan(nothing[0]).all()
    assert nothing[2] == 1.0


def test_one_target_or_one_alpha():
    rng = np.random.default_rng(0)
    alone = rng.standard_normal((4, 6, 1))
    alphas, _, amount = choose_pooled(alone, alone.mean(axis=0), np.arange(6.0))
    assert alphas == np.arange(6.0)[alone.mean(axis=0).argmax()]
    assert amount == 1.0
    single = rng.standard_normal((4, 1, 5))
    alphas, cv_scores, amount = choose_pooled(single, single.mean(axis=0), np.array([3.0]))
    assert (alphas == 3.0).all()
    np.testing.assert_array_equal(cv_scores, single.mean(axis=0)[0])
    assert amount == 1.0


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


def test_exact_means_against_fsum():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(1000) * 10.0 ** rng.integers(-300, 300, 1000)
    values = np.r_[values, -values[:500], 5e-324, 0.0, np.finfo(float).max]
    expected = math.fsum(values / 1.0) / values.size
    for cuts in ([], [1], [3, 500, 501, 1400]):
        mean = ExactMean()
        for part in np.split(rng.permutation(values), cuts):
            mean.add(part)
        np.testing.assert_allclose(mean.value(), expected, rtol=1e-15)
    one, other = ExactMean(), ExactMean()
    one.add(np.array([0.1, 0.2, 0.3]))
    other.add(np.array([0.3, 0.2]))
    other.add(np.array([0.1]))
    assert one.value() == other.value() == 0.2
    other.add(np.array([-np.inf]))
    assert other.value() == -np.inf
    assert ExactMean().value() == 0.0


@pytest.mark.parametrize("n", [500, 20_000])
@pytest.mark.parametrize("pooled", [False, True])
def test_a_choice_does_not_depend_on_blocks(pooled, n):
    rng = np.random.default_rng(0)
    of_folds, grid = rng.standard_normal((4, 6, n)) + 0.3 * rng.standard_normal((6, n)), np.logspace(0, 5, 6)
    of_folds[:, :, 7], of_folds[2, :, 9] = np.nan, np.nan
    scores = np.nanmean(of_folds[:, :, np.arange(n) != 7], axis=0)
    found = [
        choose_together(np.split(of_folds, cuts, axis=2), grid, pooled=pooled, n_targets=n)
        for cuts in ([], [1], [256], [100, 101, 370])
    ]
    alphas = found[0].of(of_folds)[0]
    for other in found[1:]:
        np.testing.assert_array_equal(other.of(of_folds)[0], alphas)
        assert other.amount == found[0].amount
    if not pooled:
        assert np.nanmax(alphas) == np.nanmin(alphas) == grid[scores.mean(axis=1).argmax()]
        return
    mean = np.insert(scores, 7, np.nan, axis=1)
    expected, _, amount = choose_pooled(of_folds, mean, grid)
    assert found[0].amount == pytest.approx(amount, abs=0.0 if n == 500 else 0.05)  # of a sample of 8192
    assert (alphas[np.arange(n) != 7] == expected[np.arange(n) != 7]).mean() >= (1.0 if n == 500 else 0.97)
