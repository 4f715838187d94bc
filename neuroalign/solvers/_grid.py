"""The grid of penalties: checks, choice of the best, share at the edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError

__all__ = ["POOLED", "check_alphas", "choose", "choose_pooled", "edge_fractions", "mean_over_folds"]

POOLED = "pooled"
_WEIGHTS = (1.0, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.0)  # of the mean curve, strongest first: it wins among equals


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


def choose_pooled(
    of_folds: NDArray[np.float64], scores: NDArray[np.float64], grid: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Best alpha of every target when its curve of scores is drawn towards the mean curve of all targets.

    The weight of the mean curve is the one whose choices, made without a fold, score best on that fold, on average over
    folds and targets. Weight 0 chooses for every target by itself, weight 1 one alpha for all.

    Parameters
    ----------
    of_folds : ndarray, shape (n_folds, n_alphas, t)
        Scores of every fold.
    scores : ndarray, shape (n_alphas, t)
        Their mean.
    grid : ndarray, shape (n_alphas,)
        Penalties.

    Returns
    -------
    alphas, cv_scores : ndarray, shape (t,)
        Choice, and its score.
    weight : float
        Of the mean curve.
    """
    held_out = [np.empty(0) for _ in _WEIGHTS]
    for fold in range(len(of_folds)):
        others = mean_over_folds(np.delete(of_folds, fold, axis=0))
        for i, weight in enumerate(_WEIGHTS):
            held_out[i] = np.r_[held_out[i], _at(of_folds[fold], _drawn(others, weight), grid)]
    means = [part[~np.isnan(part)].mean() if not np.isnan(part).all() else 0.0 for part in held_out]
    weight = _WEIGHTS[int(np.argmax(means))]
    alphas, _ = choose(_drawn(scores, weight), grid, per_target=True)
    return alphas, _at(scores, _drawn(scores, weight), grid), weight


def _drawn(scores: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Curves drawn towards their mean; those without a score stay NaN."""
    scored = ~np.isnan(scores).any(axis=0)
    mean = scores[:, scored].mean(axis=1) if scored.any() else np.zeros(len(scores))
    return (1.0 - weight) * scores + weight * np.where(np.isnan(scores), np.nan, mean[:, None])


def _at(scores: NDArray[np.float64], curves: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores at the choice that other curves make, NaN where these make none."""
    alphas, _ = choose(curves, grid, per_target=True)
    place = (grid[:, None] == alphas).argmax(axis=0)
    return np.where(np.isnan(alphas), np.nan, np.take_along_axis(scores, place[None], axis=0)[0])


def edge_fractions(alphas: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of scored targets whose alpha is the smallest and the largest of the grid; zeros for a grid of one."""
    chosen = alphas[~np.isnan(alphas)]
    if grid.size < 2 or chosen.size == 0:
        return np.zeros(2)
    return np.array([(chosen == grid.min()).mean(), (chosen == grid.max()).mean()])
