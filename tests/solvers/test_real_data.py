"""Fast paths against the obvious ones on real recordings."""

from __future__ import annotations

import numpy as np
import scipy.io
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from neuroalign.metrics import pearson_r, r2_score
from neuroalign.solvers import default_alphas, ridge_cv, trf_cv


def test_ridge_on_fmri(real_data):
    folder = real_data("objects81-fmri-alexnet-w2v")
    y = np.load(folder / "roi_data.npz")["betas"].astype("f8")
    tables = scipy.io.loadmat(folder / "alexnet.mat"), scipy.io.loadmat(folder / "word2vec.mat")
    x = np.hstack([value for table in tables for key, value in table.items() if not key.startswith("__")]).astype("f8")
    assert (len(x), y.shape) == (81, (81, 696))
    grid, folds = default_alphas(x, n=12), list(KFold(5, shuffle=True, random_state=0).split(x))
    result = ridge_cv(x, y, alphas=grid, folds=folds)
    scores = np.mean(
        [
            [r2_score(y[test], Ridge(alpha=a, solver="svd").fit(x[train], y[train]).predict(x[test])) for a in grid]
            for train, test in folds
        ],
        axis=0,
    )
    np.testing.assert_allclose(result.scores, scores, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(result.alphas, grid[scores.argmax(axis=0)])
    single = ridge_cv(x.astype("f4"), y.astype("f4"), alphas=grid, folds=folds)
    assert (single.alphas == result.alphas).mean() > 0.99


def test_trf_on_eeg(real_data):
    folder = real_data("cocktail-party-eeg")
    envelopes = scipy.io.loadmat(folder / "F_env.mat")["stim1"].ravel()
    xs = [np.asarray(envelopes[k], dtype="f8").reshape(-1, 1)[::4] for k in range(5)]
    ys = [scipy.io.loadmat(folder / f"1_{k + 1}.mat")["eeg"][::4].astype("f8") for k in range(5)]
    lags, grid = np.arange(-2, 13), np.logspace(-2, 6, 9)
    folds = [(np.delete(np.arange(5), k), [k]) for k in range(5)]
    result = trf_cv(xs, ys, lags=lags, alphas=grid, folds=folds)
    designs = []
    for x in xs:
        design = np.zeros((len(x), lags.size))
        for i, lag in enumerate(lags):
            lo, hi = max(lag, 0), min(len(x) + lag, len(x))
            design[lo:hi, i] = x[lo - lag : hi - lag, 0]
        designs.append(design)
    scores = np.zeros((grid.size, ys[0].shape[1]))
    for train, test in folds:
        x, y = np.concatenate([designs[i] for i in train]), np.concatenate([ys[i] for i in train])
        for a, alpha in enumerate(grid):
            model = Ridge(alpha=alpha).fit(x, y)
            scores[a] += pearson_r(ys[test[0]], model.predict(designs[test[0]])) / 5
    np.testing.assert_allclose(result.scores, scores, atol=1e-8)
    np.testing.assert_array_equal(result.alphas, grid[scores.argmax(axis=0)])
    expected = Ridge(alpha=result.alphas, solver="cholesky").fit(np.concatenate(designs), np.concatenate(ys))
    np.testing.assert_allclose(result.coef[:, 0], expected.coef_.T, rtol=1e-6, atol=1e-9)
