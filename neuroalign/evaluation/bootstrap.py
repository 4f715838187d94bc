"""Compare two models on the same held-out responses by a paired bootstrap over blocks of samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from neuroalign.errors import ConfigError, warn, warns_once
from neuroalign.evaluation._labels import codes, is_time_series, named
from neuroalign.evaluation._targets import matched, matrix, restore, template, tiles

__all__ = ["bootstrap_compare"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: With fewer degrees of freedom there are too few patterns of signs.
LEAST_FREEDOM = 10


@warns_once
def bootstrap_compare(
    y_true: Any,
    pred_a: Any,
    pred_b: Any,
    *,
    blocks: str | int | ArrayLike = 1,
    folds: str | ArrayLike | None = None,
    regions: str | ArrayLike | None = None,
    scorer: str = "r2",
    n_bootstraps: int = 1000,
    level: float = 0.95,
    random_state: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """Tell whether fitted model a predicts better than fitted model b, with an interval for the difference of scores.

    The null hypothesis: on new samples these very models, as they were fitted, score equally on average. Whether one
    way to make a model is better than another, whatever the training samples (two networks, two estimators), is
    another question, for `compare_models`; taken for an answer to that, this p is too small.

    Each block of samples adds something to the difference of the scores. If the models are equally good, it might as
    well have added the same in favour of the other one. So the signs of the blocks are turned at random, the same signs
    for all targets, so that the correlation between targets is kept. The interval holds the differences that such a
    test does not reject. What both models share is taken out, because it is the difference that is scored.

    Parameters
    ----------
    y_true, pred_a, pred_b : DataArray or array_like
        Measured responses and the held-out predictions of the two models, of the same shape.
    blocks : int, str or array_like, default 1
        What is left out and turned together: that many consecutive samples, or samples with the same label (an array,
        or the name of a coordinate such as ``"stimulus_id"`` or ``"run"``). For time series blocks should be longer
        than the noise is correlated; what neighbouring blocks still share is estimated over all targets and widens
        the interval. Labelled blocks must be independent: all presentations of a stimulus, whole runs.
    folds : str or array_like, optional
        The fold in which each sample was held out: scores are then means over folds, as `cross_validate` gives them,
        and blocks lie within folds. By default the samples are scored together.
    regions : str or array_like, optional
        A label for each target (or the name of a coordinate of the targets): adds the means of each region.
    scorer : {"r2", "r", "ev"}, default "r2"
        The score.
    n_bootstraps : int, default 1000
        Number of draws of signs. With fewer than ten degrees of freedom (blocks less folds) there are too few
        different ones, and Student's t of a jackknife (each block is left out in turn) is taken instead.
    level : float, default 0.95
        Coverage of the interval.
    random_state : int or numpy.random.Generator, optional
        Seeds the signs.

    Returns
    -------
    Dataset
        ``score_a``, ``score_b``, ``difference`` (a - b), ``ci`` (bound: low, high) and the two-sided ``p`` of each
        target, and with `regions` also ``region_difference``, ``region_ci`` and ``region_p``.

    Raises
    ------
    ConfigError
        If there are fewer than two blocks (in a fold), a name is not known, or so few draws allow no such interval.
    AlignmentError
        If shapes or labels differ.

    Notes
    -----
    For R2 and equally good models the test is exact if the blocks are independent: what a block adds to the difference
    is the difference of its squared errors over the variance of the responses, and as likely positive as negative. For
    r and explained variance it is so to first order, and one degree of freedom is taken off. 95 % intervals miss 4 to
    6 % of truths from 20 blocks on, also where blocks are single samples (``benchmarks/calibration.py``). Folds whose
    models share training samples are taken as they are: interval and p speak of the models that were fitted, on new
    samples. Between equally good networks, other training samples and folds that depend on each other make the
    variance of the difference up to 2.3 times as large as that, and 5 to 20 % of p fall below .05.

    References
    ----------
    Efron, B. & Stein, C. (1981). The jackknife estimate of variance. Annals of Statistics 9, 586-596.
    Hartigan, J. (1969). Using subsample values as typical values. J. Am. Stat. Assoc. 64, 1303-1317.
    Künsch, H. R. (1989). The jackknife and the bootstrap for general stationary observations. Ann. Stat. 17.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.standard_normal((100, 1))
    >>> good, bad = y + 0.3 * rng.standard_normal((100, 1)), rng.standard_normal((100, 1))
    >>> float(bootstrap_compare(y, good, bad, scorer="r", random_state=0).p[0]) < 0.01
    True
    """
    if scorer not in _SUMS:
        raise ConfigError("Unknown scorer.", expected=sorted(_SUMS), got=scorer, where="scorer")
    guesses = [matched(y_true, guess, ("y_true", name)) for guess, name in ((pred_a, "pred_a"), (pred_b, "pred_b"))]
    warn_of_neighbours(blocks, is_time_series(y_true))
    y, a, b = matrix(y_true), *map(matrix, guesses)
    fold = np.zeros(len(y), np.int64) if folds is None else codes(named(folds, y_true, role="folds"), "fold")
    block = _block_codes(blocks, y_true, fold)
    plan = _draw(_plan(block, fold, isinstance(blocks, (int, np.integer))), n_bootstraps, random_state)
    like = template(y_true)
    region, names = _region_codes(regions, like)
    collected = _collect((y, a, b), plan, scorer, level, region)
    return _table(like, collected, names, level)


def warn_of_neighbours(blocks: str | int | ArrayLike, time_series: bool) -> None:
    """Warn where single samples of a time series are taken for independent."""
    if time_series and isinstance(blocks, (int, np.integer)) and blocks == 1:
        warn(
            "blocks=1 takes the samples of a time series for independent, but neighbours in time are alike: p will be "
            "too small. Take blocks longer than the noise is correlated (a number of samples)."
        )


@dataclass(frozen=True)
class _Plan:
    """Blocks by fold: their numbers and rows, which follow each other in time, and the signs of all draws."""

    members: list[Index]
    rows: list[Index]
    block: Index
    followed: Index  # blocks whose successor in time is in the same fold
    signs: Array | None = None  # (n_bootstraps, n_blocks)
    weight: float = 1.0  # of a block, that is taken from it to see what it adds

    @property
    def n_blocks(self) -> int:
        return sum(map(len, self.members))

    @property
    def freedom(self) -> int:
        return self.n_blocks - len(self.members)


def _block_codes(blocks: str | int | ArrayLike, y_true: Any, fold: Index) -> Index:
    """Number of the block of each sample; a block lies in one fold."""
    if isinstance(blocks, (int, np.integer)):
        if isinstance(blocks, bool) or blocks < 1:
            raise ConfigError("Not a number of samples.", expected="blocks >= 1", got=blocks, where="blocks")
        label = np.empty(len(fold), dtype=np.int64)
        for f in range(fold.max() + 1):
            label[fold == f] = np.arange((fold == f).sum()) // blocks
    else:
        label = codes(named(blocks, y_true, role="blocks"), "block")
    return codes(fold * (label.max() + 1) + label, "block")


def _plan(block: Index, fold: Index, in_time: bool, weight: float = 1.0) -> _Plan:
    rows = [np.flatnonzero(fold == f) for f in range(int(fold.max()) + 1)]
    members = [np.unique(block[r]) for r in rows]
    for f, inside in enumerate(members):
        if len(inside) < 2:
            raise ConfigError(
                "A bootstrap needs several blocks.",
                expected=">= 2 blocks in every fold",
                got=f"{len(inside)} in fold {f}",
                fix="use smaller blocks, or folds=None to score all samples together",
            )
    followed = np.concatenate([m[:-1] for m in members]) if in_time else np.zeros(0, np.int64)
    followed = followed[np.isin(followed + 1, np.concatenate([m[1:] for m in members]))]
    return _Plan(members, rows, block, followed, weight=weight)


def _draw(plan: _Plan, n: int, random_state: Any) -> _Plan:
    """Add the signs of all draws, where there are enough blocks."""
    if n < 1:
        raise ConfigError("Not a number of bootstraps.", expected=">= 1", got=n, where="n_bootstraps")
    if plan.freedom < LEAST_FREEDOM:
        return plan
    signs = np.random.default_rng(random_state).choice([-1.0, 1.0], size=(n, plan.n_blocks))
    return replace(plan, signs=signs)


def _region_codes(regions: str | ArrayLike | None, like: xr.DataArray) -> tuple[Index | None, list[Any]]:
    if regions is None:
        return None, []
    if isinstance(regions, str):
        if regions not in like.coords:
            raise ConfigError(
                "No such coordinate of the targets.",
                expected=sorted(map(str, like.coords)),
                got=regions,
                where="regions",
            )
        labels = np.asarray(like.coords[regions].broadcast_like(like).transpose(*like.dims).values).ravel()
    else:
        labels = np.asarray(regions).ravel()
    if labels.size != like.size:
        raise ConfigError("Not one region a target.", expected=like.size, got=labels.size, where="regions")
    number = codes(labels, "region")
    return number, labels[np.unique(number, return_index=True)[1]].tolist()


# Sums over samples that a score is made of; y and p are centred on their means in the fold, which changes no score
# because the offset of the prediction is kept in `d`.
def _r2_sums(y: Array, p: Array) -> list[Array]:
    return [np.square(y - p)]


def _ev_sums(y: Array, p: Array) -> list[Array]:
    return [y - p, np.square(y - p)]


def _r_sums(y: Array, p: Array) -> list[Array]:
    return [p, np.square(p), y * p]


def _r2_of(n: Array, y: Array, yy: Array, sums: list[Array]) -> Array:
    return 1 - sums[0] / (yy - y * y / n)


def _ev_of(n: Array, y: Array, yy: Array, sums: list[Array]) -> Array:
    return 1 - (sums[1] - sums[0] ** 2 / n) / (yy - y * y / n)


def _r_of(n: Array, y: Array, yy: Array, sums: list[Array]) -> Array:
    p, pp, yp = sums
    spread = pp - p * p / n
    flat = spread <= 1e-12 * np.maximum(pp, 1e-300)
    r = (yp - y * p / n) / np.sqrt((yy - y * y / n) * np.where(flat, 1.0, spread))
    return np.where(flat, 0.0, r)


_SUMS: dict[str, Any] = {"r2": (_r2_sums, _r2_of), "ev": (_ev_sums, _ev_of), "r": (_r_sums, _r_of)}


def _influence(y: Array, p: Array, plan: _Plan, scorer: str) -> tuple[Array, Array]:
    """Score (t,), the mean over folds, and what each block adds to it (n_blocks, t), which sums to zero in a fold."""
    score, added = np.zeros(y.shape[1]), np.empty((plan.n_blocks, y.shape[1]))
    for rows, members in zip(plan.rows, plan.members, strict=True):
        inside = np.searchsorted(members, plan.block[rows])
        scores = _left_out(y[rows], p[rows], inside, len(members), scorer, plan.weight) / len(plan.members)
        score += scores[0]
        share = (len(members) - plan.weight) / (len(members) * plan.weight)
        added[members] = (scores[1:].mean(axis=0) - scores[1:]) * share
    return score, added


def _left_out(y: Array, p: Array, inside: Index, n_blocks: int, scorer: str, weight: float) -> Array:
    """Scores of a fold: of all its samples (row 0), and with `weight` of each block left out; (1 + n_blocks, t)."""
    to_sums, to_score = _SUMS[scorer]
    yf = y - y.mean(axis=0)
    # R2 and explained variance need the same shift of both; r is free of it, and centring p helps its precision.
    pf = p - (p if scorer == "r" else y).mean(axis=0)
    parts = [_per_block(f, inside, n_blocks) for f in (np.ones((len(y), 1)), yf, np.square(yf), *to_sums(yf, pf))]
    n, sy, syy, *sums = (np.vstack([part.sum(axis=0), part.sum(axis=0) - weight * part]) for part in parts)
    constant = (y == y[:1]).all(axis=0) | (syy - sy * sy / n <= 1e-12 * syy[0])
    return np.where(constant, np.nan, to_score(n, sy, np.where(constant, 1 + sy * sy, syy), sums))


def _per_block(field: Array, inside: Index, n_blocks: int) -> Array:
    order = np.argsort(inside, kind="stable")
    starts = np.searchsorted(inside[order], np.arange(n_blocks))
    return np.add.reduceat(field[order], starts, axis=0)


def _collect(
    arrays: tuple[Any, Any, Any], plan: _Plan, scorer: str, level: float, region: Index | None
) -> dict[str, Array]:
    """Summaries of every target, tile by tile, and of regions from means over their targets."""
    if not 0 < level < 1:
        raise ConfigError("Not a coverage.", expected="0 < level < 1", got=level, where="level")
    n_targets = arrays[0].shape[1]
    n_signs = 0 if plan.signs is None else len(plan.signs)
    if n_signs and int((1 - level) * (n_signs + 1) + 1e-9) < 1:
        least = int(np.ceil(1 / (1 - level) - 1e-9)) - 1
        raise ConfigError(
            "So few draws allow no such interval.",
            expected=f"n_bootstraps >= {least} for level={level}",
            got=n_signs,
            where="n_bootstraps",
        )
    parts = tiles(n_targets, 96 * max(n_signs, plan.n_blocks) + 96 * len(plan.block))
    widen = _widening(arrays, plan, scorer, parts)
    if n_signs and scorer != "r2":  # the mean error, or mean and scale of the prediction, is taken from the same blocks
        widen *= np.sqrt(plan.n_blocks / plan.freedom)
    n_regions = 0 if region is None else int(region.max()) + 1
    sums, counts = np.zeros((1 + 2 * plan.n_blocks, n_regions)), np.zeros(n_regions)
    out = {name: np.empty(n_targets) for name in ("score_a", "score_b", "difference", "p")}
    out["ci"] = np.empty((2, n_targets))
    for tile in parts:
        find = _differences if plan.signs is None else _shares
        out["score_a"][tile], out["score_b"][tile], difference, *blocks = find(arrays, tile, plan, scorer)
        for name, values in _summarise(difference, blocks, plan, level, widen).items():
            out[name][..., tile] = values
        if region is not None:
            scored = np.flatnonzero(np.isfinite(difference) & np.isfinite(blocks[0]).all(axis=0))
            each = np.vstack([difference, *blocks])[:, scored]
            np.add.at(sums[: len(each)].T, region[tile][scored], each.T)
            np.add.at(counts, region[tile][scored], 1)
    if region is not None:
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        blocks = [means[1 + k * plan.n_blocks :][: plan.n_blocks] for k in range(len(blocks))]
        summary = _summarise(means[0], blocks, plan, level, widen)
        out |= {f"region_{name}": values for name, values in summary.items()}
    return out


def _differences(arrays: tuple[Any, Any, Any], tile: slice, plan: _Plan, scorer: str) -> tuple[Array, ...]:
    """Scores of both models, their difference and what each block adds to it: the jackknife."""
    y, a, b = _finite(arrays, tile)
    (score_a, added_a), (score_b, added_b) = (_influence(y, x, plan, scorer) for x in (a, b))
    return score_a, score_b, score_a - score_b, added_a - added_b


def _finite(arrays: tuple[Any, Any, Any], tile: slice) -> list[Array]:
    """Some targets in float64; zeros, which cannot be scored, where a value is not finite."""
    parts = [x[:, tile].astype(np.float64) for x in arrays]
    usable = np.logical_and.reduce([np.isfinite(x).all(axis=0) for x in parts])
    return [np.where(usable, x, 0.0) for x in parts]


def _shares(arrays: tuple[Any, Any, Any], tile: slice, plan: _Plan, scorer: str) -> tuple[Array, ...]:
    """Scores of both models, their difference, and of each block its part of the difference and of the reference.

    Both parts are (n_blocks, t). Those of the difference sum to it, those of the reference to 1. The difference of the
    scores in some of the blocks is, to first order, the ratio of their sums.
    """
    y, a, b = _finite(arrays, tile)
    scores, part, reference = np.zeros((2, y.shape[1])), *np.zeros((2, plan.n_blocks, y.shape[1]))
    for rows, members in zip(plan.rows, plan.members, strict=True):
        inside = np.searchsorted(members, plan.block[rows])
        of_a, of_b = (_expand(y[rows], x[rows], scorer) for x in (a, b))
        scores += np.stack([of_a[0], of_b[0]]) / len(plan.members)
        weight = (of_a[2] + of_b[2]) / 2
        # (sample, target): the first order of the difference around its value
        change = of_a[1] - of_b[1] + (of_a[0] - of_b[0]) * weight
        for total, each in ((part, change), (reference, weight)):
            total[members] = _per_block(each, inside, len(members)) / len(plan.members)
    return scores[0], scores[1], scores[0] - scores[1], part, reference


def _expand(y: Array, p: Array, scorer: str) -> tuple[Array, Array, Array]:
    """Score (t,), the derivative to the weight of each sample (n, t), which sums to zero, and weights that sum to 1."""
    constant = (y == y[:1]).all(axis=0)
    centred = y - y.mean(axis=0)
    power = np.where(constant, np.nan, np.square(centred).sum(axis=0))
    if scorer == "r":
        guess = p - p.mean(axis=0)
        size = np.square(guess).sum(axis=0)
        flat = (p == p[:1]).all(axis=0) | (size == 0)
        z, guess = centred / np.sqrt(power), np.where(flat, 0.0, guess) / np.sqrt(np.where(flat, 1.0, size))
        squares = np.square(z) + np.square(guess)
        r = (z * guess).sum(axis=0)
        return r, z * guess - r / 2 * squares, squares / np.where(flat, 1.0, 2.0)
    error = y - p
    if scorer == "ev":
        error = error - error.mean(axis=0)
    lost, weight = np.square(error) / power, np.square(centred) / power
    score = 1 - lost.sum(axis=0)
    return score, (1 - score) * weight - lost, weight


def paired_error(
    y: Array, a: Array, b: Array, *, block: Index, fold: Index, in_time: bool, scorer: str
) -> tuple[Any, ...]:
    """Scores of two fitted models, their difference and its standard error, all (t,), and the degrees of freedom.

    Blocks are counted half, not left out: in the square, that meets the variance of scores of few samples, where
    leaving out is too wide and the derivative too narrow (as HC2 lies between HC0 and HC3 in regression).
    """
    plan, arrays = _plan(block, fold, in_time, weight=0.5), (y, a, b)
    parts = tiles(y.shape[1], 96 * plan.n_blocks + 64 * len(block))
    widen = _widening(arrays, plan, scorer, parts)
    found = np.empty((4, y.shape[1]))
    for tile in parts:
        *found[:3, tile], added = _differences(arrays, tile, plan, scorer)
        found[3, tile] = widen * np.sqrt(_weights(plan) @ np.square(added))
    return (*found, plan.freedom)


def _widening(arrays: tuple[Any, Any, Any], plan: _Plan, scorer: str, parts: list[slice]) -> float:
    """How much larger the standard error is because blocks that follow each other in time are alike."""
    if not plan.followed.size:
        return 1.0
    weight, alike = _weights(plan), []
    for tile in parts:
        added = _differences(arrays, tile, plan, scorer)[-1]
        added = added[:, np.isfinite(added).all(axis=0) & (added != 0).any(axis=0)]
        shared = weight[plan.followed] @ (added[plan.followed] * added[plan.followed + 1])
        alike.append(shared / (weight @ np.square(added)))
    each = np.concatenate(alike)
    # Contributions sum to zero in a fold, so that those of independent blocks are a little unlike each other.
    correlation = each.mean() + len(plan.members) / plan.n_blocks if each.size else 0.0
    # Less than its standard error is no sign of dependence, and would only make the test too careful.
    by_chance = 1 / np.sqrt(plan.n_blocks * max(each.size, 1))
    return float(np.sqrt(1 + 2 * correlation)) if correlation > by_chance else 1.0


def _weights(plan: _Plan) -> Array:
    """Weight of the square of what each block adds, in the variance of the difference."""
    weight = np.empty((plan.n_blocks, 1))
    for members in plan.members:
        weight[members] = len(members) / (len(members) - 1)
    return weight[:, 0]


def _summarise(observed: Array, blocks: list[Array], plan: _Plan, level: float, widen: float) -> dict[str, Array]:
    """Difference, interval and two-sided p from what each block adds; NaN stays NaN."""
    usable = np.isfinite(observed) & np.isfinite(blocks[0]).all(axis=0)
    size, *safe = (np.where(usable, x, 0.0) for x in (observed, *blocks))
    if plan.signs is None:
        error = widen * np.sqrt(_weights(plan) @ np.square(safe[0]))
        t = np.where(error > 0, size / np.where(error > 0, error, 1.0), np.where(size != 0, np.inf, 0.0))
        half = stats.t.ppf((1 + level) / 2, plan.freedom) * error
        ends, p = np.stack([size - half, size + half]), 2 * stats.t.sf(np.abs(t), plan.freedom)
    else:
        part, reference = safe
        ends, p = _turned(size, part, reference, plan.signs, level, widen)
    return {"difference": observed, "ci": np.where(usable, ends, np.nan), "p": np.where(usable, p, np.nan)}


def _turned(
    observed: Array, part: Array, reference: Array, signs: Array, level: float, widen: float
) -> tuple[Array, Array]:
    """Ends of the interval (2, t) and p by turning the signs of the blocks.

    A difference d leaves block k with ``part[k] - d * reference[k]``. Turned at random, their sum is as large as
    unturned if and only if d lies between the ratios of the blocks that are turned and of those that are not. So the
    interval follows from quantiles of the smaller and of the larger of the two ratios.
    """
    moved, share = signs @ part, signs @ reference  # (draw, target)
    # Where all or none are turned any d gives the same size again.
    same = (np.abs(signs.sum(axis=1)) == signs.shape[1])[:, None] | (np.abs(share) >= 1)
    kept, turned = ((observed + side * moved) / np.where(same, 1.0, 1 + side * share) for side in (1, -1))
    low, high = np.where(same, -np.inf, np.minimum(kept, turned)), np.where(same, np.inf, np.maximum(kept, turned))
    rank = int((1 - level) * (len(signs) + 1) + 1e-9) - 1
    ends = np.stack([np.partition(low, rank, axis=0)[rank], -np.partition(-high, rank, axis=0)[rank]])
    # Dependence of neighbours widens the interval; zero is tested where it would lie in one that is not widened.
    tested = observed - observed / widen
    least = np.abs(observed / widen)
    p = (1 + (np.abs(moved - tested * share) >= least * (1 - 1e-12)).sum(axis=0)) / (1 + len(signs))
    return observed + widen * (ends - observed), p


def _table(like: xr.DataArray, collected: dict[str, Array], names: list[Any], level: float) -> xr.Dataset:
    out = xr.Dataset(
        {
            k: restore(v, like, "bound" if k == "ci" else None)
            for k, v in collected.items()
            if not k.startswith("region_")
        }
    )
    if names:
        out = out.assign(
            {
                k: (("bound", "region") if k == "region_ci" else ("region",), v)
                for k, v in collected.items()
                if k.startswith("region_")
            }
        )
        out = out.assign_coords(region=names)
    return out.assign_coords(bound=["low", "high"]).assign_attrs(level=level)
