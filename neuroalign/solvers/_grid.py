"""The grid of penalties: checks, choice of the best, share at the edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError

__all__ = ["check_alphas", "choose", "edge_fractions", "mean_over_folds"]


def check_alphas(alphas: ArrayLike) -> NDArray[np.float64]:
    """Give the grid as float64, in the caller's order; finite, >= 0, no duplicates."""
    try:
        grid = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ConfigError("alphas must be numbers.", expected="a 1-D grid", got=alphas, where="alphas") from error
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all() or grid.min() < 0:
        raise ConfigError("alphas must be a grid of finite numbers >= 0.", got=grid, where="alphas")
    if np.unique(grid).size != grid.size:
        raise ConfigError("alphas holds the same value twice.", got=np.sort(grid), where="alphas")
    return grid


def mean_over_folds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the folds, shape (n_folds, n_alphas, t) -> (n_alphas, t), leaving out folds with an undefined score."""
    defined = ~np.isnan(scores)
    count = defined.sum(axis=0)
    total = np.where(defined, scores, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def choose(
    scores: NDArray[np.float64], grid: NDArray[np.float64], *, per_target: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Best alpha and its score for every target; among equals the larger alpha wins (the simpler model).

    Targets without a score get a NaN alpha. With ``per_target=False`` the best mean over scored targets is shared.
    """
    order = np.argsort(-grid)
    ranked = scores[order]
    scored = ~np.isnan(ranked).all(axis=0)
    filled = np.where(np.isnan(ranked), -np.inf, ranked)
    if per_target:
        best = filled.argmax(axis=0)
    else:
        mean = filled[:, scored].mean(axis=1) if scored.any() else np.zeros(len(grid))
        best = np.full(scores.shape[1], mean.argmax())
    alphas = np.where(scored, grid[order][best], np.nan)
    return alphas, np.take_along_axis(ranked, best[None], axis=0)[0]


def edge_fractions(alphas: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of scored targets whose alpha is the smallest and the largest of the grid; zeros for a grid of one."""
    chosen = alphas[~np.isnan(alphas)]
    if grid.size < 2 or chosen.size == 0:
        return np.zeros(2)
    return np.array([(chosen == grid.min()).mean(), (chosen == grid.max()).mean()])
