"""The target stage of a random search over band weights: statistics once, then scores of every candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import (
    Array,
    Buffers,
    as_slice,
    cast,
    column_dot,
    contiguous,
    from_numpy,
    namespace,
    take,
    to_numpy,
    zeros,
)
from neuroalign.solvers._banded_plan import BandPlan, Path
from neuroalign.solvers._folds import Fold
from neuroalign.solvers._grid import POOLED, choose, choose_pooled, limited_curves, mean_over_folds
from neuroalign.solvers._pairs import pair_sums
from neuroalign.solvers._score import Moments, call_scorer, score_moments

__all__ = ["Best", "Curves", "Targets", "block_size", "load_targets", "search_block"]

_CLEAR = 2.5  # standard errors over folds by which targets have to do better alone than pooled
_BUDGET = 2**27  # bytes of target statistics that are kept while the candidates pass


@dataclass(frozen=True)
class Targets:
    """Some targets in float64, centred over all samples and divided by a power of two.

    y : (n, t); zero where a target is bad.
    mean, unit : (t,); a target is ``y * unit + mean``.
    bad, flat : (t,) targets that are not finite, and those that are constant.
    """

    y: Array
    mean: NDArray[np.float64]
    unit: NDArray[np.float64]
    bad: NDArray[np.bool_]
    flat: NDArray[np.bool_]


def load_targets(y: Array, *, intercept: bool) -> Targets:
    """Bring some targets to float64 about their mean."""
    xp = namespace(y)
    y = cast(y, "float64")
    bad = ~xp.isfinite(y).all(axis=0)
    if bool(bad.any()):
        y = xp.where(bad, xp.zeros_like(y), y)
    flat = (y == y[:1]).all(axis=0)
    mean = xp.where(flat, y[0], y.mean(axis=0))
    centred = y - mean
    spread = to_numpy(abs(centred).max(axis=0) if xp is np else abs(centred).amax(axis=0))
    unit = np.exp2(np.round(np.log2(np.where(to_numpy(flat), 1.0, spread))))
    if not intercept:
        centred, mean = y, mean * 0.0
    return Targets(centred / from_numpy(unit, y), to_numpy(mean), unit, to_numpy(bad), to_numpy(flat))


@dataclass(frozen=True)
class _FoldTargets:
    """What the candidates need of a tile of targets in one fold.

    statistic : (t, d) in the working dtype. test : (t, r), projected. total, beyond, gap : (t,) float64; sum of
    squares about the test mean, what of it no prediction can reach, and test mean minus training mean.
    train_mean : (t,). truth : (n_test, t) in the units of the caller, for scorers that are functions; a value is
    ``scaled * unit + mean``. dead : (t,) targets without any score.
    """

    statistic: Array
    test: Array
    total: NDArray[np.float64]
    beyond: NDArray[np.float64]
    gap: NDArray[np.float64]
    train_mean: NDArray[np.float64]
    truth: NDArray[np.float64] | None
    unit: NDArray[np.float64]
    mean: NDArray[np.float64]
    dead: NDArray[np.bool_]
    n_test: int


@dataclass(frozen=True)
class Best:
    """The best candidate and penalty of every target so far, and the score of every candidate at its best penalty.

    candidate : (t,) row of the table of band weights; -1 where a target has no score.
    alphas, cv_scores : (t,). scores : (n_candidates, t).
    """

    candidate: NDArray[np.intp]
    alphas: NDArray[np.float64]
    cv_scores: NDArray[np.float64]
    scores: NDArray[np.float64]


class Curves:
    """Scores of every candidate and penalty, kept where targets do not choose alone.

    An option is a candidate with a penalty, (n_candidates * n_alphas,) in the order of both.

    Parameters
    ----------
    way : False or "pooled"
        One option for all, or options drawn towards those of all.
    n_folds, n_candidates, n_targets : int
        Shape.
    grid : ndarray, shape (n_alphas,)
        Penalties.
    """

    def __init__(
        self, way: bool | str, n_folds: int, n_candidates: int, grid: NDArray[np.float64], n_targets: int
    ) -> None:
        self._grid, self._pooled = grid, way == POOLED
        self._kept = np.empty((n_folds if self._pooled else 1, n_candidates * grid.size, n_targets))
        simple_first = np.tile(np.argsort(np.argsort(grid)), n_candidates)  # larger penalties, and earlier candidates
        self._rank = simple_first - grid.size * np.repeat(np.arange(float(n_candidates)), grid.size)

    def keep(self, number: int, columns: slice, scores: NDArray[np.float64]) -> None:
        """Scores (n_folds, n_alphas, t) of one candidate."""
        rows = slice(number * self._grid.size, (number + 1) * self._grid.size)
        self._kept[:, rows, columns] = scores if self._pooled else mean_over_folds(scores)

    def choose(self, best: Best) -> tuple[Best, float]:
        """The common choice in place of the own one of every target, and the amount of pooling."""
        weight, scores = 1.0, mean_over_folds(self._kept)
        if self._pooled:
            chosen, cv_scores, weight = choose_pooled(self._kept, scores, self._rank)
            if self._alone_is_better():
                (chosen, cv_scores), weight = choose(scores, self._rank, per_target=True), 0.0
        else:
            chosen, cv_scores = choose(scores, self._rank, per_target=False)
        known = ~np.isnan(chosen)
        candidate, place = np.divmod(self._option(chosen), self._grid.size)
        alphas = np.where(known, self._grid[place], np.nan)
        return Best(np.where(known, candidate, -1), alphas, cv_scores, best.scores), weight

    def _alone_is_better(self) -> bool:
        """Whether held-out folds say clearly that the targets should not be pooled.

        There are far more options than penalties, so that what targets of different bands have of their own lies in
        more directions than some folds can tell from noise.
        """
        gains = []
        for fold, held in enumerate(limited_curves(self._kept) if len(self._kept) > 2 else ()):
            others = np.delete(self._kept, fold, axis=0)
            mean = mean_over_folds(others)
            alone = self._at(held, choose(mean, self._rank, per_target=True)[0])
            gain = alone - self._at(held, choose_pooled(others, mean, self._rank)[0])
            if not np.isnan(gain).all():
                gains.append(float(np.nanmean(gain)))
        return len(gains) > 1 and float(np.mean(gains)) > _CLEAR * float(np.std(gains, ddof=1)) / len(gains) ** 0.5

    def _at(self, scores: NDArray[np.float64], ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores (n_options, t) at the options of these ranks, NaN where there is none."""
        option = self._option(ranks)
        return np.where(np.isnan(ranks), np.nan, np.take_along_axis(scores, option[None], axis=0)[0])

    def _option(self, ranks: NDArray[np.float64]) -> NDArray[np.intp]:
        """Options of these ranks; any where there is none."""
        known = np.where(np.isnan(ranks), self._rank[0], ranks)
        return np.argsort(self._rank)[np.searchsorted(np.sort(self._rank), known)]


def block_size(folds: list[Fold], width: int, dtype: str, tile: int) -> int:
    """How many targets are kept at a time: bounded memory, and each decomposition serves as many as possible."""
    width = max(width, 1)  # no feature may vary
    numbers = sum(width + min(fold.test.size, width) for fold in folds)
    fit = _BUDGET // (numbers * (4 if dtype == "float32" else 8))
    return max(tile, fit // tile * tile)


def search_block(
    plan: BandPlan,
    folds: list[Fold],
    y: Array,
    gammas: NDArray[np.float64],
    grid: NDArray[np.float64],
    *,
    scorer: str | Scorer,
    intercept: bool,
    dtype: str,
    tile: int,
    curves: Curves | None = None,
    lo: int = 0,
    path_of: Callable[[int, NDArray[np.float64]], Path] | None = None,
) -> Best:
    """Score every candidate on a block of targets (n, t), whose first is number `lo` of all `curves`."""
    path_of = plan.path if path_of is None else path_of
    parts = [slice(lo, min(lo + tile, y.shape[1])) for lo in range(0, y.shape[1], tile)]
    kept = [list(_statistics(plan, folds, y[:, part], scorer, intercept, dtype)) for part in parts]
    t, buffers = y.shape[1], Buffers()
    best = Best(
        np.full(t, -1, dtype=np.intp), np.full(t, np.nan), np.full(t, np.nan), np.full((len(gammas), t), np.nan)
    )
    for number, gamma in enumerate(gammas):
        scores = np.empty((len(folds), grid.size, t))
        for f in range(len(folds)):
            path = path_of(f, gamma)
            for part, targets in zip(parts, kept, strict=True):
                scores[f, :, part] = _score(path, targets[f], scorer, grid.size, buffers)
        if curves is not None:
            curves.keep(number, slice(lo, lo + t), scores)
        alphas, best.scores[number] = choose(mean_over_folds(scores), grid, per_target=True)
        better = best.scores[number] > np.where(np.isnan(best.cv_scores), -np.inf, best.cv_scores)
        best.candidate[better], best.alphas[better] = number, alphas[better]
        best.cv_scores[better] = best.scores[number, better]
    return best


def _statistics(
    plan: BandPlan, folds: list[Fold], y: Array, scorer: str | Scorer, intercept: bool, dtype: str
) -> Iterator[_FoldTargets]:
    targets = load_targets(y, intercept=intercept)
    for number, (fold, statistic) in enumerate(zip(folds, plan.statistics(targets.y), strict=True)):
        test = take(targets.y, as_slice(fold.test))
        test_mean = test.mean(axis=0)
        train_mean = take(targets.y, as_slice(fold.train)).mean(axis=0) if intercept else test_mean * 0.0
        flat = to_numpy((test == test[:1]).all(axis=0)) | targets.bad | targets.flat
        centred = test - test_mean
        total = to_numpy(column_dot(centred, centred))
        near = plan.project(number, centred)
        yield _FoldTargets(
            statistic=contiguous(cast(statistic.T, dtype)),
            test=contiguous(cast(near.T, dtype)),
            total=np.where(flat, np.nan, total),
            beyond=np.maximum(total - to_numpy(column_dot(near, near)), 0.0),
            gap=to_numpy(test_mean - train_mean),
            train_mean=to_numpy(train_mean),
            truth=to_numpy(test) * targets.unit + targets.mean if callable(scorer) else None,
            unit=targets.unit,
            mean=targets.mean,
            dead=targets.bad | targets.flat,
            n_test=fold.test.size,
        )


def _score(
    path: Path, fold: _FoldTargets, scorer: str | Scorer, n_alphas: int, buffers: Buffers
) -> NDArray[np.float64]:
    """Scores of one tile in one fold under one candidate, (n_alphas, t)."""
    xp = namespace(path.rotate)
    statistic = fold.statistic
    if path.keep is not None:
        statistic = contiguous(take(statistic.T, path.keep).T)
    b = statistic @ path.rotate  # (t, k)
    mean = to_numpy(path.mean_weights @ cast(b, "float64").T)  # (n_alphas, t)
    if callable(scorer):
        predicted = _mixed(path, b, None, n_alphas, buffers)
        return _score_predictions(predicted, mean + fold.train_mean, fold, scorer)
    bias = fold.gap - mean
    if path.pairs is not None:
        square, product = pair_sums(path.pairs, b, fold.test @ path.rows.T, buffers)
        error = np.maximum(fold.total - 2.0 * product + square, 0.0)
        moments = Moments(fold.n_test, fold.total, error, bias, np.maximum(square, 0.0), product)
        return score_moments(scorer, moments)
    if scorer == "r":
        predicted = _mixed(path, b, None, n_alphas, buffers)
        square = to_numpy(cast(xp.einsum("atr,atr->at", predicted, predicted), "float64"))
        product = to_numpy(cast(xp.einsum("atr,tr->at", predicted, fold.test), "float64"))
        return score_moments("r", Moments(fold.n_test, fold.total, square, bias, square, product))
    residual = _mixed(path, b, fold.test, n_alphas, buffers)
    error = to_numpy(cast(xp.einsum("atr,atr->at", residual, residual), "float64")) + fold.beyond
    return score_moments(scorer, Moments(fold.n_test, fold.total, error, bias, error, error))


def _mixed(path: Path, b: Array, y: Array | None, n_alphas: int, buffers: Buffers) -> Array:
    """Centred predictions (n_alphas, t, r), less the targets (t, r) if these are given; valid until the next call.

    The targets ride along as one more basis prediction with weight -1, so that residuals cost no pass of their own.
    """
    xp, (t, r) = namespace(b), (b.shape[0], path.rows.shape[1])
    n_basis = sum(len(part) for _, part in path.blocks)
    extra = path.mix is not None and y is not None
    basis = buffers.get("basis", (n_basis + extra, t, r), b)
    done = 0
    for columns, part in path.blocks:  # part (q, width)
        weighted = buffers.get("weighted", (len(part), t, part.shape[1]), b)
        xp.multiply(b[None, :, columns], part[:, None, :], out=weighted)
        out = basis[done : done + len(part)].reshape(len(part) * t, r)
        xp.matmul(weighted.reshape(len(part) * t, part.shape[1]), path.rows[columns], out=out)
        done += len(part)
    if path.mix is None:
        if y is not None:
            basis -= y
        return basis
    mix = path.mix
    if extra:
        basis[done] = y
        mix = zeros((n_alphas, n_basis + 1), "float32" if "float32" in str(b.dtype) else "float64", b)
        mix[:, :n_basis], mix[:, n_basis] = path.mix, -1.0
    mixed = buffers.get("mixed", (n_alphas, t, r), b)
    xp.matmul(mix, basis.reshape(mix.shape[1], t * r), out=mixed.reshape(n_alphas, t * r))
    return mixed


def _score_predictions(
    centred: Array, mean: NDArray[np.float64], fold: _FoldTargets, scorer: Scorer
) -> NDArray[np.float64]:
    """Scores of a function of (y_true, y_pred), in the units of the caller."""
    scores = []
    for rows, offset in zip(centred, mean, strict=True):
        predicted = to_numpy(cast(rows.T, "float64")) + offset
        scores.append(call_scorer(scorer, np.asarray(fold.truth), predicted * fold.unit + fold.mean))
    return np.where(fold.dead, np.nan, np.stack(scores))
