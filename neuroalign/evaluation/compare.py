"""Compare two ways to make a model, counting that other training samples would have given other models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from neuroalign.compute import progress
from neuroalign.errors import ConfigError, warns_once
from neuroalign.evaluation._labels import codes, n_samples, named, take, without_values
from neuroalign.evaluation._targets import restore, template
from neuroalign.evaluation.bootstrap import paired_error, warn_of_neighbours
from neuroalign.evaluation.cross_validate import _check_models, _held_out, _HeldOut, _Plan, _plan, _scorer_name
from neuroalign.evaluation.folds import delay_span
from neuroalign.schema import inherit, stamp

__all__ = ["compare_models"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: Mean correlation of two models, in standard errors of one without signal, that is a sign of signal.
SIGNAL = 2.0

#: Part of what training adds in halves that is left in all samples where there is no sign of signal; from simulations
#: with weak and strong penalties.
WITHOUT_SIGNAL = {"r2": 0.8, "ev": 0.8, "r": 1.3}

#: Takes rows of the data and the folds among these, and gives held-out predictions.
Procedure = Callable[[Index, _Plan], _HeldOut]


@warns_once
def compare_models(
    a: tuple[Any, Any],
    b: tuple[Any, Any],
    y: Any,
    *,
    cv: Any = None,
    groups: str | ArrayLike | None = None,
    repeats: str | ArrayLike | bool | None = None,
    scorer: str | None = None,
    blocks: str | int | ArrayLike = 1,
    n_halvings: int = 20,
    level: float = 0.95,
    random_state: int | np.random.Generator | None = None,
    executor: str | Executor = "serial",
) -> xr.Dataset:
    """Tell whether features or estimator a predict better than b, whichever samples the models are trained on.

    `bootstrap_compare` asks which of two fitted models predicts new samples better. Here the question is which way to
    make a model is better, as for "does this network predict the brain better than that one?": the difference also
    varies with the samples that the models learned from, and the folds share these.

    Parameters
    ----------
    a, b : tuple of (estimator, X)
        Estimator and features of the same samples; as for `cross_validate`. Without `scorer` both must have the same.
    y : DataArray or array_like
        Responses.
    cv, groups, repeats, scorer, executor
        As for `cross_validate`.
    blocks : int, str or array_like, default 1
        What is independent: that many consecutive held-out samples, or samples with the same label; as for
        `bootstrap_compare`. For time series longer than the noise is correlated.
    n_halvings : int, default 20
        How often the samples are halved. Costs the cross-validation of both models on half of the samples,
        ``2 * n_halvings`` times.
    level : float, default 0.95
        Coverage of the interval.
    random_state : int or numpy.random.Generator, optional
        Seeds the halves.

    Returns
    -------
    Dataset
        ``score_a``, ``score_b``, ``difference`` (a - b), ``ci`` (bound: low, high) and the two-sided ``p`` of each
        target; ``inflation``, how many times larger the variance of the difference is than with the fitted models held
        fixed. Where both predict the same in every fold p is 1 and there is no interval. R2 is that of all held-out
        samples together (``score_pooled`` of `cross_validate`), explained variance too, less the means of folds; r is
        the mean over folds.

    Raises
    ------
    AlignmentError
        If samples of the features and of y differ.
    ConfigError
        If a fold, or what is only trained on, has fewer than two blocks or four samples, or a half of its blocks fewer
        than two samples; if there is a single fold of fewer than four blocks; if a sample is held out more than once;
        or if a name is not known.

    Notes
    -----
    In every fold half of the blocks are drawn at random, and both models are cross-validated in that half and in the
    rest. The halves share no samples: half the square of what lies between their two differences is the variance of a
    difference in halves, from training and test samples together. Divided by the jackknife variance with fitted models
    held fixed, in the same halves, it is a ratio: 1 where training adds nothing, 2 where it adds as much again.

    Of (ratio - 1) a part is left in all samples: a half where weights are simply learned better, all of it where there
    is nothing to learn. It is measured, for each target: a quarter of how much the variance of the difference of R2,
    models held fixed, shrinks from halves to all samples (0.5 to 1.5). In `select_model` it is 0.8 (for r 0.85),
    because a choice between equally good layers is not settled by more samples; against a named candidate it is 1.
    Where the mean r of the two models is less than two standard errors it is 0.8 for R2 and explained variance (against
    a named candidate 1) and 1.3 for r. These numbers are from simulations. The variance is that of the jackknife with
    all samples, times 1 + part * (ratio - 1); where ratio is below 1, part is 1 at most. p and interval are those of
    Student's t with Satterthwaite's degrees of freedom: ``n_halvings`` for the share of the variance that is multiplied
    with the ratio, ``n_blocks - 1`` for the jackknife.

    Samples are scored together, because a mean over small folds varies more, by the variances that it is divided by.
    But the mean of training samples is high where that of test samples is low, which gives r across folds a negative
    bias, the more so the smaller the predictions. So r is the mean over folds, and its jackknife variance the mean of
    two: by fold, which is too wide in small folds, and together, less the means of folds.

    Between equally good models 4.1 to 5.8 % of p fell below .05 in 26 designs of 60 to 1600 samples and 3 to 10 folds
    (or 400 samples in 2), with and without signal, choices and autocorrelation. Intervals missed 5.9 and 5.3 % of true
    differences. With models held fixed 5 to 20 % of p fell below .05. Two folds of fewer than 100 samples are too few:
    6 to 8 % do.

    The variance of cross-validation has no unbiased estimate from its own folds alone (Bengio & Grandvalet), but
    disjoint parts of the data do show it. The corrected resampled t-test (Nadeau & Bengio) rejected 1 to 5 % and found
    fewer differences.

    References
    ----------
    Bengio, Y. & Grandvalet, Y. (2004). No unbiased estimator of the variance of k-fold cross-validation. JMLR 5,
    1089-1105.
    Nadeau, C. & Bengio, Y. (2003). Inference for the generalization error. Machine Learning 52, 239-281.
    McCarthy, P. J. (1969). Pseudo-replication: half samples. Review of the International Statistical Institute 37,
    239-264.
    Satterthwaite, F. E. (1946). An approximate distribution of estimates of variance components. Biometrics Bulletin
    2, 110-114.
    MacKinnon, J. G. & White, H. (1985). Some heteroskedasticity-consistent covariance matrix estimators with improved
    finite sample properties. Journal of Econometrics 29, 305-325.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> rng = np.random.default_rng(0)
    >>> good, other = rng.standard_normal((2, 120, 3))
    >>> y = good @ rng.standard_normal((3, 2)) + rng.standard_normal((120, 2))
    >>> out = compare_models((Ridge(), good), (Ridge(), other), y, random_state=0)
    >>> bool((out.p < 0.05).all())
    True
    """
    name = _scorer_name((a[0], b[0]), scorer)
    _check_models({"the features of a": a[1], "those of b": b[1]}, y)
    labels = without_values(a[1], b[1])
    plan = _plan(labels, y, cv, groups, repeats, max(delay_span(estimator, X) for estimator, X in (a, b)))
    halvings = prepare(plan, y, labels, blocks, n_halvings, level, random_state)

    def procedure(model: tuple[Any, Any]) -> Procedure:
        estimator, X = model
        return lambda rows, folds: _held_out(estimator, take(X, rows), take(y, rows), folds, executor)

    out = compare_procedures((procedure(a), procedure(b)), y, plan, halvings, scorer=name, level=level)
    return stamp(inherit(out, y), "compare_models", n_halvings=n_halvings)


@dataclass(frozen=True)
class _Halvings:
    """The fold and the block of each sample, whether blocks follow each other in time, and how many halvings."""

    stratum: Index
    unit: Index
    in_time: bool
    n: int
    rng: np.random.Generator


def prepare(
    plan: _Plan,
    y: Any,
    labels: Any,
    blocks: str | int | ArrayLike,
    n_halvings: int,
    level: float,
    random_state: int | np.random.Generator | None,
) -> _Halvings:
    """Refuse what cannot be halved, before anything is fitted."""
    if not 0 < level < 1:
        raise ConfigError("Not a coverage.", expected="0 < level < 1", got=level, where="level")
    if not isinstance(n_halvings, (int, np.integer)) or n_halvings < 2:
        raise ConfigError("Not a number of halvings.", expected="an integer >= 2", got=n_halvings, where="n_halvings")
    stratum, unit = _units(blocks, plan, y, labels)
    warn_of_neighbours(blocks, plan.time_series)
    in_time = isinstance(blocks, (int, np.integer))
    return _Halvings(stratum, unit, in_time, n_halvings, np.random.default_rng(random_state))


def compare_procedures(
    pair: tuple[Procedure, Procedure],
    y: Any,
    plan: _Plan,
    halvings: _Halvings,
    *,
    scorer: str,
    level: float = 0.95,
    held: tuple[_HeldOut, _HeldOut] | None = None,
    left: float | None = None,
) -> xr.Dataset:
    """Compare what two procedures predict; see `compare_models`.

    `held` is what they gave for all samples; `left` the part of what training adds in halves that is left in all
    samples where there is signal, by default measured.
    """
    unit, in_time = halvings.unit, halvings.in_time
    first, second = held if held is not None else (run(np.arange(len(unit)), plan) for run in pair)
    a, b, difference, error, freedom = _paired(first, second, unit, scorer, in_time=in_time)
    if scorer == "r":
        # Predictions of folds differ in scale, by which r of all samples would weigh them: the difference is one of
        # means over folds. Its jackknife is too wide where folds are small, that of all samples a little too narrow.
        a, b, difference, wide, _ = _paired(first, second, unit, scorer, by_fold=True, in_time=in_time)
        error = np.sqrt((np.square(error) + np.square(wide)) / 2)
    ratio, loss = _ratio(pair, plan, halvings, scorer)
    part = _left(loss, first, second, unit, scorer, left)
    inflation, freedom = _inflation(ratio, part, halvings.n, freedom)
    inflation, error = np.where(error > 0, inflation, np.nan), error * np.where(error > 0, np.sqrt(inflation), 1.0)
    t = np.abs(difference) / np.where(error > 0, error, 1.0)
    t = np.where(error > 0, t, np.where(difference != 0, np.inf, 0.0))
    half = np.where(error > 0, stats.t.ppf((1 + level) / 2, freedom) * error, np.nan)
    p = np.where(np.isfinite(error), 2 * stats.t.sf(t, freedom), np.nan)
    like = template(y)
    columns = {"score_a": a, "score_b": b, "difference": difference, "p": p, "inflation": inflation}
    out = xr.Dataset({key: restore(values, like) for key, values in columns.items()})
    out["ci"] = restore(np.stack([difference - half, difference + half]), like, "bound")
    return out.assign_coords(bound=["low", "high"]).assign_attrs(level=level, scorer=scorer)


def _units(blocks: str | int | ArrayLike, plan: _Plan, y: Any, labels: Any = None) -> tuple[Index, Index]:
    """Number of the fold and of the block of each sample; repeats of a stimulus are in one block, a block in a fold."""
    n, size = n_samples(y), int(blocks) if isinstance(blocks, (int, np.integer)) else 0
    if isinstance(blocks, (int, np.integer)) and (isinstance(blocks, bool) or size < 1):
        raise ConfigError("Not a number of samples.", expected="blocks >= 1", got=blocks, where="blocks")
    label = np.zeros(n, np.int64) if size else codes(named(blocks, y, labels, role="blocks"), "block")
    held_out = np.concatenate([test for _, test in plan.folds])
    if len(np.unique(held_out)) < len(held_out):
        raise ConfigError(
            "A sample is held out more than once.",
            expected="folds that hold out every sample once at most",
            got=f"{len(held_out)} held-out samples, {len(np.unique(held_out))} of them different",
            where="cv",
        )
    item = np.arange(n) if plan.repeats is None else plan.repeats
    # Samples that are only trained on come after the folds, and then those that are in none.
    used = np.isin(np.arange(n), np.concatenate([part for fold in plan.folds for part in fold]))
    stratum = np.where(used, len(plan.folds), len(plan.folds) + 1)
    for f, (_, test) in reversed(list(enumerate(plan.folds))):
        stratum[test] = f
    unit = np.empty(n, np.int64)
    for f in np.unique(stratum):
        rows = np.flatnonzero(stratum == f)
        number = codes(item[rows], "repeats")
        start = np.unique(number, return_index=True)[1]
        inside = np.arange(len(start)) // size if size else label[rows[start]]
        unit[rows] = inside[number]
        held, sizes = len(start), np.sort(np.unique(inside, return_counts=True)[1])
        n_blocks, single = len(sizes), len(plan.folds) == 1 and f == 0
        few = n_blocks < (4 if single else 2) or held < 4 or sizes[: n_blocks // 2].sum() < 2
        if few and f <= len(plan.folds):
            tested = f < len(plan.folds)
            raise ConfigError(
                "A fold cannot be halved.",
                expected=">= 2 blocks (of a single fold, 4) and >= 4 samples (after averaging repeats) in every fold, "
                "and >= 2 samples in every half of its blocks",
                got=f"{n_blocks} blocks and {held} samples in "
                + (f"fold {f}" if tested else "the samples that are trained on, and never held out"),
                where="blocks",
                fix="use smaller blocks"
                + (" or fewer folds" if tested else ", or leave these out, or hold them out as well"),
            )
    return stratum, codes(stratum * (int(unit.max()) + 1) + unit, "block")


def _halvings(stratum: Index, unit: Index, n: int, rng: np.random.Generator) -> Iterator[tuple[Index, Index]]:
    """Draw halves of the samples: half of the blocks of every fold; halves take turns with the odd one."""
    inside = [np.unique(unit[stratum == f]) for f in np.unique(stratum)]
    for _ in range(n):
        chosen, more = np.zeros(int(unit.max()) + 1, bool), int(rng.integers(2))
        for blocks in inside:
            chosen[rng.permutation(blocks)[: (len(blocks) + more) // 2]] = True
            more = more ^ (len(blocks) % 2)
        yield np.flatnonzero(chosen[unit]), np.flatnonzero(~chosen[unit])


def _within(plan: _Plan, rows: Index, n: int) -> _Plan:
    """The same folds among some of n samples."""
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    folds = [(place[train][place[train] >= 0], place[test][place[test] >= 0]) for train, test in plan.folds]
    groups, repeats, runs = (None if old is None else old[rows] for old in (plan.groups, plan.repeats, plan.runs))
    return replace(plan, folds=folds, groups=groups, repeats=repeats, runs=runs)


def _ratio(pair: tuple[Procedure, Procedure], plan: _Plan, halvings: _Halvings, scorer: str) -> tuple[Array, Array]:
    """Variance of the difference in halves of the data, over that with fitted models held fixed; (t,).

    All held-out samples of a half are scored together: its folds may be too small for scores of their own. The second
    array is the variance of the difference of R2 with fitted models held fixed, for `_left`.
    """
    unit = halvings.unit
    between: list[Array] = []
    fixed: list[Array] = []
    losses: list[Array] = []
    with progress("halvings", total=halvings.n) as advance:
        for halves in _halvings(halvings.stratum, unit, halvings.n, halvings.rng):
            found = []
            for rows in halves:
                first, second = (_in_half(run, rows, plan, len(unit)) for run in pair)
                scored = {each: _paired(first, second, unit[rows], each)[2:4] for each in {scorer, "r2"}}
                found.append((scored[scorer][0], np.square(scored[scorer][1]), np.square(scored["r2"][1])))
            one, other = found
            between.append(np.square(one[0] - other[0]) / 2)
            fixed.append((one[1] + other[1]) / 2)
            losses.append((one[2] + other[2]) / 2)
            advance(1)
    variance, alone, loss = map(np.stack, (between, fixed, losses))
    known = np.isfinite(variance) & np.isfinite(alone)
    total, part, lost = (np.where(known, values, 0.0).sum(axis=0) for values in (variance, alone, loss))
    ratio = np.where(part > 0, total / np.where(part > 0, part, 1.0), 1.0)
    return np.where(known.any(axis=0), ratio, np.nan), lost / np.maximum(known.sum(axis=0), 1)


def _in_half(run: Procedure, rows: Index, plan: _Plan, n: int) -> _HeldOut:
    try:
        return run(rows, _within(plan, rows, n))
    except ConfigError as error:
        raise ConfigError(
            f"A half of the samples cannot be cross-validated: {error.problem}",
            expected=error.expected,
            got=error.got,
            where=error.where,
            fix="use fewer folds (outer or inner ones), or more samples",
        ) from error


def _inflation(ratio: Array, part: Array, n_halvings: int, freedom: float) -> tuple[Array, Array]:
    """Variance over that with models held fixed, and its degrees of freedom (Satterthwaite).

    Where training seems to take something off, by chance, no more is taken off than that. The part of the variance that
    is multiplied with the ratio is as uncertain as the halvings are few.
    """
    part = np.where(ratio > 1, part, np.minimum(part, 1.0))
    inflation = 1 + part * (ratio - 1)
    share = np.where(inflation > 0, part * ratio / np.where(inflation > 0, inflation, 1.0), 1.0)
    return inflation, 1 / (np.square(share) / n_halvings + 1 / freedom)


def _left(
    half: Array, first: _HeldOut, second: _HeldOut, unit: Index, scorer: str, known: float | None = None
) -> Array:
    """What is left, in all samples, of the share of the variance that training adds in halves; (t,).

    Errors of weights shrink a variance of R2 by 4 when samples double. What test samples add shrinks by 2 where the
    models differ in what they have learned, so that a half of the share is left; and by 4, so that all of it is left,
    where nothing but errors of weights is predicted. An estimate above 1 is chance, but cutting it would be biased.
    Strong penalties shrink the errors as well and hide this. So it is fixed where the mean correlation of the two
    models, which says nothing about their difference, is no clear sign of signal. `known` stands for the estimate.
    """
    r_first, r_second = _paired(first, second, unit, "r", by_fold=True)[:2]
    signal = (r_first + r_second) / 2 * np.sqrt(len(np.unique(unit[first.position]))) > SIGNAL
    without = WITHOUT_SIGNAL[scorer]
    if known is not None:
        return np.where(signal, known, max(known, without))
    error = _paired(first, second, unit, "r2")[3]
    shrunk = np.clip(half / np.where(error > 0, np.square(error), 1.0) / 4, 0.5, 1.5)
    return np.where((error > 0) & signal, shrunk, without)


def _paired(
    first: _HeldOut, second: _HeldOut, unit: Index, scorer: str, *, by_fold: bool = False, in_time: bool = False
) -> tuple[Any, ...]:
    """Scores, difference, error and degrees of freedom of fitted models; see `paired_error`."""
    fold, n = (first.fold if by_fold else np.zeros_like(first.fold)), len(first.fold)
    y, p, q = first.observed, first.predicted, second.predicted
    centred = scorer != "r2" and not by_fold  # r and explained variance of a fold do not see offsets
    if centred:
        y, p, q = (_centred(values, first.fold) for values in (y, p, q))
    block = codes(unit[first.position], "block")
    *scores, error, freedom = paired_error(y, p, q, block=block, fold=fold, in_time=in_time, scorer=scorer)
    return *scores, error * np.sqrt(n / (n - first.fold.max() - 1)) if centred else error, freedom


def _centred(values: Array, fold: Index) -> Array:
    """Less the mean of each fold; exactly zero where a fold is constant."""
    weight = np.equal.outer(np.arange(int(fold.max()) + 1), fold).astype(np.float64)
    means = weight @ values / weight.sum(axis=1, keepdims=True)
    left = values - means[fold]
    return np.where(np.abs(left) <= 1e-12 * np.abs(values), 0.0, left)
