"""The grid of penalties: checks, choice of the best, share at the edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError
from neuroalign.solvers._exact import ExactMean

__all__ = [
    "POOLED",
    "Pooling",
    "check_alphas",
    "choose",
    "choose_pooled",
    "choose_with",
    "edge_fractions",
    "learn_pooling",
    "limited_curves",
    "mean_over_folds",
]

POOLED = "pooled"
_LIMIT = 5.0  # of the spread of a curve, in median spreads
_LIMIT_LEARNED = 2.0  # where covariances are learned, so that targets with large curves do not decide for the others
_MAIN = 0.99  # of the variance of curves is in the main directions
_BLOCK = 256  # targets at a time
_CLEAR = 5.0  # standard errors over folds by which a target's own choice has to do better than the drawn one


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
        best = np.full(scores.shape[1], int(np.argmax([_mean(row[scored]) for row in filled])))
    alphas = np.where(scored, grid[order][best], np.nan)
    return alphas, np.take_along_axis(ranked, best[None], axis=0)[0]


def _mean(values: NDArray[np.float64]) -> float:
    """A mean that does not depend on the order of the targets."""
    mean = ExactMean()
    mean.add(values)
    return mean.value()


@dataclass(frozen=True)
class Pooling:
    """What all targets say about the curve of each; see `choose_pooled`.

    limit : spread of a fold's curve beyond which it is scaled down.
    mean : (n_alphas,) mean curve.
    keep : (n_alphas, n_alphas) what is left of the difference of a target's curve from it.
    amount : share of the variance between targets that is taken away; 1 is one alpha for all.
    """

    limit: float
    mean: NDArray[np.float64]
    keep: NDArray[np.float64]
    amount: float


def choose_pooled(
    of_folds: NDArray[np.floating], scores: NDArray[np.float64], grid: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Best alpha of every target when its curve of scores is drawn towards the mean curve of all targets.

    Empirical Bayes: a target's curve (its mean over the folds, of which only the shape matters) differs from the mean
    curve because targets differ, with covariance B, and because folds are noisy; V is the covariance of both together.
    Differences shrink by B / V, direction by direction: what repeats over folds is kept, what does not is taken away.
    B is the covariance c between the curves of two folds, less what noise alone puts there. The held-out samples of
    each of F folds are trained on in the others, so a fold's score is a sum over its F - 1 pairs with the others, one
    of which it has in common with any of them: noise with variance v makes a covariance of v / (F - 1), hence
    B = c - (v - c) / (F - 2), v now being the variance of a fold's curve with signal. Small folds give wild scores: a
    curve that varies more than 5 times as much as the median one (2 times where covariances are learned) is scaled
    down to that first. Where the best of a target's own curve scores better in every fold, by 5 standard errors over
    the folds (three or more), that is chosen: a few targets with signal among many without are not like the others.

    Parameters
    ----------
    of_folds : ndarray, shape (n_folds, n_alphas, t)
        Scores of every fold; at least two. Two folds share all of their noise, and are treated as three.
    scores : ndarray, shape (n_alphas, t)
        Their mean.
    grid : ndarray, shape (n_alphas,)
        Penalties.

    Returns
    -------
    alphas, cv_scores : ndarray, shape (t,)
        Choice, and its score.
    amount : float
        Share of the variance between targets that is taken away.

    Notes
    -----
    Targets that come in blocks need not be kept: `learn_pooling` of a sample of them (some hundreds, spread over all)
    does for `choose_with` of every block.

    References
    ----------
    Efron and Morris (1973), Stein's estimation rule and its competitors: an empirical Bayes approach, JASA 68.
    """
    pooling = learn_pooling(of_folds)
    return *choose_with(pooling, of_folds, scores, grid), pooling.amount


def learn_pooling(of_folds: NDArray[np.floating]) -> Pooling:
    """How far curves are drawn towards their mean, from scores (n_folds, n_alphas, t) of all targets or a sample."""
    n_folds, n_alphas, t = of_folds.shape
    spread = np.concatenate([_spread(_shapes(of_folds[:, :, here])) for here in _blocks(t)], axis=1)
    varied = spread[spread > 0]  # NaN is not
    typical = float(np.median(varied)) if varied.size else np.inf
    sums, within, whole, n = np.zeros((n_folds, n_alphas)), *np.zeros((2, n_alphas, n_alphas)), 0
    total, n_scored = np.zeros(n_alphas), 0
    for here in _blocks(t):
        means = mean_over_folds(_limited(of_folds[:, :, here], _LIMIT * typical))
        means = means[:, ~np.isnan(means).any(axis=0)]
        total, n_scored = total + means.sum(axis=1), n_scored + means.shape[1]
        curves = _limited(of_folds[:, :, here], _LIMIT_LEARNED * typical)
        curves = curves[:, :, ~np.isnan(curves).any(axis=(0, 1))]
        added = curves.sum(axis=0)
        sums, n = sums + curves.sum(axis=2), n + curves.shape[2]
        flat = curves.transpose(1, 0, 2).reshape(n_alphas, -1)
        within, whole = within + flat @ flat.T, whole + added @ added.T
    mean = total / max(n_scored, 1)
    limit = _LIMIT * typical
    if n < 2:
        return Pooling(limit, mean, np.zeros((n_alphas, n_alphas)), 1.0)
    within = (within - sums.T @ sums / n) / (n * n_folds)  # v
    whole = (whole - np.outer(sums.sum(axis=0), sums.sum(axis=0)) / n) / (n * n_folds**2)  # V = (v + (F - 1) c) / F
    between = (n_folds * whole - within) / (n_folds - 1)  # c
    between = between - (within - between) / max(n_folds - 2, 1)  # B
    return Pooling(limit, mean, *_shrinkage(between, whole))


def choose_with(
    pooling: Pooling, of_folds: NDArray[np.floating], scores: NDArray[np.float64], grid: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Alphas and scores (t,) of targets whose curves are drawn to the mean of a `learn_pooling`."""
    alphas, cv_scores = np.empty((2, of_folds.shape[2]))
    mean = pooling.mean[:, None]
    for here in _blocks(of_folds.shape[2]):
        curves = mean_over_folds(_limited(of_folds[:, :, here], pooling.limit))
        curves = np.where(np.isnan(curves), np.nan, mean + pooling.keep @ np.nan_to_num(curves - mean))
        drawn, own = (choose(each, grid, per_target=True)[0] for each in (curves, scores[:, here]))
        place, alone = ((grid[:, None] == chosen).argmax(axis=0) for chosen in (drawn, own))
        clear = _clearly_better(of_folds[:, :, here], alone, place) & ~np.isnan(drawn)
        alphas[here], place = np.where(clear, own, drawn), np.where(clear, alone, place)
        at = np.take_along_axis(scores[:, here], place[None], axis=0)[0]
        cv_scores[here] = np.where(np.isnan(alphas[here]), np.nan, at)
    return alphas, cv_scores


def _clearly_better(
    of_folds: NDArray[np.floating], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Whether the first place on the grid scores better in all folds, by many standard errors over the folds."""
    at = (np.take_along_axis(of_folds, place[None, None], axis=1)[:, 0] for place in (first, second))
    first_scores, second_scores = (np.where(np.isfinite(scores), scores, np.nan) for scores in at)
    gain = (first_scores - second_scores).astype(np.float64)
    n_folds = len(gain)
    if n_folds < 3:
        return np.zeros(gain.shape[1], bool)
    error = gain.std(axis=0, ddof=1) / np.sqrt(n_folds)
    return np.asarray((gain.mean(axis=0) > _CLEAR * error) & (gain.min(axis=0) > 0))


def limited_curves(of_folds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Curves (n_folds, n_alphas, t) less their mean over the alphas, wild ones scaled down as in `choose_pooled`."""
    return _limited(of_folds, learn_pooling(of_folds).limit)


def _blocks(t: int) -> list[slice]:
    return [slice(lo, lo + _BLOCK) for lo in range(0, t, _BLOCK)]


def _shapes(of_folds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Curves less their mean over the alphas, which says nothing about the choice."""
    return np.asarray(of_folds - of_folds.mean(axis=1, keepdims=True), dtype=np.float64)


def _spread(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt((shapes**2).mean(axis=1)))  # (fold, target)


def _limited(of_folds: NDArray[np.floating], limit: float) -> NDArray[np.float64]:
    """Shapes of curves, those of a larger spread scaled down to the limit."""
    shapes = _shapes(of_folds)
    return shapes / np.maximum(_spread(shapes) / limit, 1.0)[:, None]


def _shrinkage(between: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """B / V in the main directions of V, by its mean in the others, where it cannot be told; share taken away."""
    values, vectors = np.linalg.eigh(whole)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    total = values.sum()
    n_main = int((np.cumsum(values) < _MAIN * total).sum()) + 1 if total > 0 else 0
    root, main, rest = np.sqrt(values[:n_main]), vectors[:, :n_main], vectors[:, n_main:]
    share, turn = np.linalg.eigh(main.T @ between @ main / np.outer(root, root))
    share = np.clip(share, 0.0, 1.0)
    left = values[n_main:].sum()
    of_rest = float(np.clip(np.trace(rest.T @ between @ rest) / left, 0.0, 1.0)) if left > 0 else 0.0
    keep = (main * root) @ (turn * share) @ turn.T @ (main / root).T + of_rest * rest @ rest.T
    return keep, 1.0 - float(np.trace(keep @ whole) / total) if total > 0 else 1.0


def edge_fractions(alphas: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of scored targets whose alpha is the smallest and the largest of the grid; zeros for a grid of one."""
    chosen = alphas[~np.isnan(alphas)]
    if grid.size < 2 or chosen.size == 0:
        return np.zeros(2)
    return np.array([(chosen == grid.min()).mean(), (chosen == grid.max()).mean()])
