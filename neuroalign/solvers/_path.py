"""The loop over tiles of targets: scores, choice of the penalty, refit. What `ridge_cv` and `kernel_ridge_cv` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.compute import map_threads
from neuroalign.errors import ConfigError
from neuroalign.metrics import get_scorer
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import Array, Buffers, from_numpy, is_torch, zeros
from neuroalign.solvers._closed import score_closed
from neuroalign.solvers._grid import POOLED, choose, choose_pooled, mean_over_folds
from neuroalign.solvers._memory import in_shrinking_tiles
from neuroalign.solvers._plan import Plan
from neuroalign.solvers._tile import Tile, load_tile, refit_tile, score_tile

__all__ = [
    "TILE",
    "Path",
    "Weights",
    "check_choice",
    "check_scorer",
    "check_tile",
    "in_tiles",
    "refit_path",
    "score_path",
    "solve_path",
]

TILE = 256  # targets at a time: a tile stays in cache
_TILE_CUDA = 4096


@dataclass(frozen=True)
class Weights:
    """Room for the weights of all targets, filled tile by tile."""

    coef: Array
    intercept: NDArray[np.float64]

    @classmethod
    def empty(cls, n_rows: int, y: Array, dtype: str) -> Weights:
        return cls(zeros((n_rows, y.shape[1]), dtype, y), np.empty(y.shape[1]))

    def refit(self, plan: Plan, part: Tile, alphas: NDArray[np.float64], lo: int) -> None:
        here = slice(lo, lo + alphas.size)
        self.coef[:, here], self.intercept[here] = refit_tile(plan, part, alphas)

    def arrays(self) -> tuple[Array, Array]:
        return self.coef, from_numpy(self.intercept, self.coef)


@dataclass(frozen=True)
class Path:
    """Chosen penalties (t,), scores (n_alphas, t), score at the choice (t,), amount of pooling, weights."""

    alphas: NDArray[np.float64]
    scores: NDArray[np.float64]
    cv_scores: NDArray[np.float64]
    pooling: float
    weights: Weights


def solve_path(
    plan: Plan,
    y: Array,
    grid: NDArray[np.float64],
    *,
    closed: str | None,
    scorer: str | Scorer,
    alpha_per_target: bool | str,
    step: int,
) -> Path:
    """Score every penalty for every target, choose, and refit once on all samples.

    Parameters
    ----------
    plan : Plan
        What the targets share.
    y : Array, shape (n, t)
        Targets.
    grid : ndarray, shape (n_alphas,)
        Penalties in the units of the caller.
    closed : {"loo", "gcv"} or None
        Closed form in place of the folds of the plan.
    scorer, alpha_per_target
        As in `ridge_cv`.
    step : int
        Targets at a time.
    """
    n_targets, each = y.shape[1], alpha_per_target is True
    fit, scores = Weights.empty(plan.back.shape[0], y, plan.dtype), np.empty((grid.size, n_targets))
    kept = np.empty((len(plan.folds), grid.size, n_targets)) if alpha_per_target == POOLED else None

    threads = not callable(scorer)  # a function of the caller may not bear them

    def score(here: slice, buffers: Buffers) -> None:
        part = load_tile(plan, y[:, here], buffers)
        of_folds = _score(plan, part, grid, closed, scorer, buffers)
        scores[:, here] = mean_over_folds(of_folds)
        if kept is not None:
            kept[:, :, here] = of_folds
        if each:
            fit.refit(plan, part, choose(scores[:, here], grid, per_target=True)[0], here.start)

    step = in_tiles(score, y, step, threads=threads)
    pooling = 0.0 if each else 1.0
    if kept is None:
        best, cv_scores = choose(scores, grid, per_target=each)
    else:
        best, cv_scores, pooling = choose_pooled(kept, scores, grid)

    if not each:  # the choice is known only now
        _refit(plan, y, best, fit, step)
    return Path(best, scores, cv_scores, pooling, fit)


def score_path(
    plan: Plan, y: Array, grid: NDArray[np.float64], *, closed: str | None, scorer: str | Scorer, step: int
) -> NDArray[np.float64]:
    """Score every penalty for every target, (n_folds, n_alphas, t); a closed form counts as one fold.

    Parameters
    ----------
    plan, y, grid, closed, scorer, step
        As in `solve_path`.
    """
    scores = np.empty((1 if closed is not None else len(plan.folds), grid.size, y.shape[1]))

    def score(here: slice, buffers: Buffers) -> None:
        part = load_tile(plan, y[:, here], buffers)
        scores[:, :, here] = _score(plan, part, grid, closed, scorer, buffers)

    in_tiles(score, y, step, threads=not callable(scorer))  # a function of the caller may not bear them
    return scores


def refit_path(plan: Plan, y: Array, alphas: NDArray[np.float64], *, step: int) -> Weights:
    """Weights on all samples, with a given penalty (t,) for every target; NaN where it is NaN.

    Parameters
    ----------
    plan, y, step
        As in `solve_path`.
    alphas : ndarray, shape (t,)
        Penalties in the units of the caller.
    """
    fit = Weights.empty(plan.back.shape[0], y, plan.dtype)
    _refit(plan, y, alphas, fit, step)
    return fit


def _score(
    plan: Plan, part: Tile, grid: NDArray[np.float64], closed: str | None, scorer: str | Scorer, buffers: Buffers
) -> NDArray[np.float64]:
    if closed is None:
        return score_tile(plan, part, scorer, buffers)
    return score_closed(plan, part, closed, scorer, grid / plan.scale**2, buffers)[None]


def _refit(plan: Plan, y: Array, alphas: NDArray[np.float64], fit: Weights, step: int) -> None:
    def refit(here: slice, buffers: Buffers) -> None:
        fit.refit(plan, load_tile(plan, y[:, here], buffers, left_out=False), alphas[here], here.start)

    in_tiles(refit, y, step)


def in_tiles(work: Callable[[slice, Buffers], None], y: Array, step: int, *, threads: bool = True) -> int:
    """Call `work` on consecutive targets, on fewer at a time when a device has not the memory; give the last number.

    Raises
    ------
    ConfigError
        If there is no memory for a single target.
    """
    if is_torch(y):
        return in_shrinking_tiles(work, y.shape[1], step)
    free: list[Buffers] = []

    def on_tile(lo: int) -> None:
        try:
            buffers = free.pop()
        except IndexError:
            buffers = Buffers()
        work(slice(lo, min(lo + step, y.shape[1])), buffers)
        free.append(buffers)

    starts = range(0, y.shape[1], step)
    if threads:
        map_threads(on_tile, starts)
    else:
        for lo in starts:
            on_tile(lo)
    return step


def check_scorer(scorer: str | Scorer, closed: str | None = None) -> str | Scorer:
    """Refuse what is no scorer, or none of generalised cross-validation."""
    get_scorer(scorer)
    if closed == "gcv" and scorer != "r2":
        raise ConfigError(
            "Generalised cross-validation makes no predictions to score.",
            expected="scorer='r2'",
            got=scorer,
            where="scorer",
            fix="use folds='loo'",
        )
    return scorer


def check_tile(tile: int | None, y: Array) -> int:
    """Number of targets at a time."""
    if tile is None:
        return _TILE_CUDA if is_torch(y) and y.is_cuda else TILE
    if isinstance(tile, bool) or not isinstance(tile, int | np.integer) or tile < 1:
        raise ConfigError("tile is a number of targets.", expected="an integer >= 1", got=tile, where="tile")
    return int(tile)


def check_choice(alpha_per_target: bool | str, n_folds: int) -> None:
    """Refuse what is no way to choose an alpha; pooling is measured on folds that are left out."""
    # 1 and numpy's True equal True, but are not it: they would share one alpha without a word.
    if not isinstance(alpha_per_target, bool | str) or alpha_per_target not in (True, False, POOLED):
        raise ConfigError(
            "alpha_per_target says how the targets share alphas.",
            expected=f"True, False or {POOLED!r}",
            got=f"{alpha_per_target!r} of type {type(alpha_per_target).__name__}",
            where="alpha_per_target",
        )
    if alpha_per_target == POOLED and n_folds < 2:
        raise ConfigError(
            "How much to pool is measured on held-out folds.",
            expected=">= 2 folds",
            got=n_folds,
            where="alpha_per_target",
            fix="pass folds, or alpha_per_target=True or False",
        )
