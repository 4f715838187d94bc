"""Choose a layer or network on one part of the data, score it on another; how deep in a network scores lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from neuroalign.errors import ConfigError, SchemaError, warns_once
from neuroalign.evaluation._jobs import Model, predict_many
from neuroalign.evaluation._labels import n_samples, take, without_values
from neuroalign.evaluation._targets import matrix, restore, template
from neuroalign.evaluation.bootstrap import _region_codes
from neuroalign.evaluation.compare import Procedure, compare_procedures, prepare
from neuroalign.evaluation.cross_validate import _check_models, _gather, _held_out, _HeldOut, _Plan, _plan, _scorer_name
from neuroalign.evaluation.folds import delay_span
from neuroalign.metrics import SCORERS
from neuroalign.schema import TRAVELLING, inherit, stamp

__all__ = ["centre_of_mass", "select_model"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: Part of the variance that training adds in halves, over that of test samples, which is left in all samples where both
#: sides choose: all of what choices add, less of what errors of weights add. Twelve simulated designs had 0.6 to 1.05.
LEFT_OF_CHOICES = {"r2": 0.8, "ev": 0.8, "r": 0.85}


@warns_once
def select_model(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    per: str = "target",
    rival: str | Mapping[str, Any] | None = None,
    cv: Any = None,
    inner: Any = None,
    groups: str | ArrayLike | None = None,
    repeats: str | ArrayLike | bool | None = None,
    scorer: str | None = None,
    blocks: str | int | ArrayLike = 1,
    n_halvings: int = 20,
    random_state: int | np.random.Generator | None = None,
    executor: str | Executor = "serial",
) -> xr.Dataset:
    """Choose the best of several layers or networks, and score the choice on samples that had no part in it.

    The best of many scores is too good, because noise helped to make it the best (winner's curse). Here every outer
    fold chooses by cross-validation inside its training samples, fits the chosen one there, and scores it on the test
    samples. With a single fold, ``cv=[(half, other_half)]``, one half chooses and the other reports.

    Parameters
    ----------
    estimator : estimator, or mapping of str to estimator
        As for `cross_validate`; several are candidates.
    X : DataArray, Dataset, or mapping of str to DataArray or array
        Features. Of a Dataset each variable (layer) is a candidate, of a mapping each entry.
    y : DataArray or array_like
        Responses.
    per : str, default "target"
        ``"target"`` chooses for each target; ``"all"`` one for all; the name of a coordinate of the targets, such as
        ``"roi"``, by the mean of each region.
    rival : str, or mapping of str to features, optional
        Adds a test against another model: a candidate by name; or the same layers of a control, such as an untrained
        network (`activations.randomize`), among which the choice is made in the same way.
    cv, groups, repeats, scorer, executor
        As for `cross_validate`; the outer folds. Without `scorer` all estimators must have the same.
    inner : int, splitter, str, optional
        The folds inside the training samples; as for `resolve_cv`.
    blocks, n_halvings, random_state
        As for `compare_models`, for the test against a rival, which repeats all of this on half of the samples,
        ``2 * n_halvings`` times.

    Returns
    -------
    Dataset
        - ``chosen`` (...): the candidate that most folds chose; ``chosen_fold`` (fold, ...): that of each fold. Both
          are empty, and scores NaN, where no inner fold can be scored to choose by.
        - ``score`` (...): of the choice, on held-out samples, mean over folds; ``fold_score`` (fold, ...).
        - ``inner_score`` (candidate, ...): the scores that it was chosen by.
        - ``candidate_score`` (candidate, ...): each candidate in an ordinary cross-validation, for profiles. The best
          of these is not the score of a choice.
        - with `rival`: ``compared_score``, ``rival_score``, ``difference``, ``ci``, ``p`` and ``inflation``, as
          `compare_models` scores them (R2 and explained variance of all held-out samples together).

    Raises
    ------
    AlignmentError
        If samples of the candidates, of the control and of y differ.
    ConfigError
        If there are fewer than two candidates, a name is not known, or folds cannot be halved (see `compare_models`).

    Notes
    -----
    The test against a rival counts that other training samples would have led to other choices and other weights: with
    models held fixed 5 to 20 % of p would fall below .05 between equally good networks. A rival by name that is itself
    the best candidate is the choice in many folds, where the difference is exactly 0: p is 1 and there is no interval
    where it is the choice in all of them, and the intervals that remain miss the small mean difference in 2 to 7 % of
    targets (five simulations; in another one, 29 %). Ask it of a rival that stands for another network or layer than
    the one you expect to win.

    References
    ----------
    Kriegeskorte, N. et al. (2009). Circular analysis in systems neuroscience. Nature Neuroscience 12, 535-540.
    Cawley, G. & Talbot, N. (2010). On over-fitting in model selection and subsequent selection bias in performance
    evaluation. JMLR 11, 2079-2107.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> rng = np.random.default_rng(0)
    >>> layers = {name: rng.standard_normal((100, 4)) for name in ("conv1", "conv2")}
    >>> y = layers["conv2"] @ rng.standard_normal((4, 3)) + rng.standard_normal((100, 3))
    >>> select_model(Ridge(), layers, y).chosen.values.tolist()
    ['conv2', 'conv2', 'conv2']
    """
    models = _candidates(estimator, X)
    if isinstance(rival, str) and rival not in models:
        raise ConfigError("No such candidate.", expected=list(models), got=rival, where="rival")
    others = {} if rival is None or isinstance(rival, str) else _candidates(estimator, rival, "rival")
    everyone = [*models.values(), *others.values()]
    name = _scorer_name([one for one, _, _ in models.values()], scorer)
    _check_models({k: m[1] for k, m in models.items()} | {f"{k} of the rival": m[1] for k, m in others.items()}, y)
    like = template(y)
    region = _regions(per, like)
    labels = without_values(*(part for _, part, _ in everyone))
    plan = _plan(labels, y, cv, groups, repeats, _span(everyone))
    halvings = None if rival is None else prepare(plan, y, labels, blocks, n_halvings, 0.95, random_state)
    options = {"inner": inner, "scorer": name, "executor": executor, "labels": labels}
    held, made, picked, inner_score = _nested(models, y, plan, region, options)
    data = _table(list(models), held, made, picked, inner_score, region, like, name)
    if halvings is not None:
        chosen = _choosing(models, y, region, options)
        if isinstance(rival, str):
            pair, left = (chosen, _fixed(models[rival], y, options)), 1.0
            other = made[list(models).index(rival)]
        else:
            pair, left = (chosen, _choosing(others, y, region, options)), LEFT_OF_CHOICES[name]
            other = pair[1](np.arange(n_samples(y)), plan)
        found = compare_procedures(pair, y, plan, halvings, scorer=name, held=(held, other), left=left)
        data = data.assign(found.rename(score_a="compared_score", score_b="rival_score"))
    return _describe(data, y, X, list(models), plan, name, per)


def _span(models: Iterable[Model]) -> int:
    return max(delay_span(estimator, X) for estimator, X, _ in models)


def _candidates(estimator: Any, X: Any, where: str = "X") -> dict[str, Model]:
    spaces = {str(k): v for k, v in X.items()} if isinstance(X, (Mapping, xr.Dataset)) else {"": X}
    estimators = {str(k): v for k, v in estimator.items()} if isinstance(estimator, Mapping) else {"": estimator}
    made: dict[str, Model] = {
        " ".join(part for part in (model, space) if part): (one, features, None)
        for model, one in estimators.items()
        for space, features in spaces.items()
    }
    if len(made) < 2:
        raise ConfigError(
            "There is nothing to choose from.",
            expected="a Dataset of layers, or a mapping of names to features or estimators, with two entries or more",
            got=list(made),
            where=where,
        )
    return made


def _regions(per: str, like: xr.DataArray) -> Index:
    """Number of the group of targets that choose together."""
    if per in ("target", "all"):
        return np.arange(like.size) if per == "target" else np.zeros(like.size, dtype=np.int64)
    region, _ = _region_codes(per, like)
    return np.zeros(0, dtype=np.int64) if region is None else region


def _nested(
    models: dict[str, Model], y: Any, plan: _Plan, region: Index, options: dict[str, Any]
) -> tuple[_HeldOut, list[_HeldOut], Index, Array]:
    """The choice and all candidates on held-out samples; the choice (fold, t), the scores it was made by (model, t).

    Where nothing can be scored to choose by, the choice is -1 and predicts nothing.
    """
    values, executor = matrix(y), options["executor"]
    everything = predict_many(list(models.values()), y, plan.folds, groups=plan.groups, executor=executor)
    scores = np.stack([_inner(models, y, plan, train, options) for train, _ in plan.folds])  # (fold, model, t)
    picked = np.stack([_best(fold, region) for fold in scores])
    guesses = [
        np.where(choice < 0, np.nan, np.take_along_axis(np.stack(made), choice[None, None], axis=0)[0])
        for choice, *made in zip(picked, *everything, strict=True)
    ]
    return _gather(values, guesses, plan), [_gather(values, g, plan) for g in everything], picked, _mean(scores)


def _choosing(models: dict[str, Model], y: Any, region: Index, options: dict[str, Any]) -> Procedure:
    """Give the function that chooses and predicts within some of the samples."""

    def run(rows: Index, plan: _Plan) -> _HeldOut:
        parts: dict[str, Model] = {name: (one, take(X, rows), None) for name, (one, X, _) in models.items()}
        within = options | {"labels": take(options["labels"], rows)}
        return _nested(parts, take(y, rows), plan, region, within)[0]

    return run


def _fixed(model: Model, y: Any, options: dict[str, Any]) -> Procedure:
    """Give the function that predicts with one candidate."""
    one, X, _ = model
    return lambda rows, plan: _held_out(one, take(X, rows), take(y, rows), plan, options["executor"])


def _inner(models: dict[str, Model], y: Any, plan: _Plan, train: Index, options: dict[str, Any]) -> Array:
    """Scores of all candidates by cross-validation inside training samples; (model, t)."""
    parts: list[Model] = [(estimator, take(X, train), None) for estimator, X, _ in models.values()]
    within = take(y, train)
    groups = None if plan.groups is None else plan.groups[train]
    repeats = False if plan.repeats is None else plan.repeats[train]
    # Labels of all candidates and of the control, so that both sides choose in the same folds.
    inside = _plan(take(options["labels"], train), within, options["inner"], groups, repeats, _span(parts))
    made = predict_many(parts, within, inside.folds, groups=inside.groups, executor=options["executor"])
    values = matrix(within)
    by_fold = [_by_fold(_gather(values, g, inside), options["scorer"]) for g in made]
    return _mean(np.stack(by_fold, axis=1))


def _by_fold(held: _HeldOut, scorer: str) -> Array:
    rows = [held.fold == f for f in range(int(held.fold.max()) + 1)]
    return np.stack([SCORERS[scorer](held.observed[r], held.predicted[r]) for r in rows])


def _mean(scores: Array) -> Array:
    """Mean over the folds in which a target can be scored, the same ones for all candidates; (fold, model, t)."""
    known = np.isfinite(scores).any(axis=1, keepdims=True)
    n = known.sum(axis=0)
    return np.where(n > 0, np.where(known, scores, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)


def _best(scores: Array, region: Index, among: NDArray[np.bool_] | bool = True) -> Index:
    """The best candidate by the sum of scores (model, t) over the region of each target; -1 if it has no scores."""
    known, n = np.isfinite(scores), int(region.max()) + 1
    # A candidate that has no score where another has one (it predicts nothing there) is not chosen.
    counted = np.where(known.any(axis=0), np.where(known, scores, -np.inf), 0.0)
    sums = np.stack([np.bincount(region, row, n) for row in counted])[:, region]
    scored = np.bincount(region, known.any(axis=0), n)[region] > 0
    return np.where(scored, np.where(among, sums, -np.inf).argmax(axis=0), -1)


def _table(
    names: list[str],
    held: _HeldOut,
    made: list[_HeldOut],
    picked: Index,
    inner_score: Array,
    region: Index,
    like: xr.DataArray,
    scorer: str,
) -> xr.Dataset:
    by_fold = _by_fold(held, scorer)
    votes = np.stack([(picked == k).sum(axis=0) for k in range(len(names))])
    # Between candidates that as many folds chose, the scores decide that they were chosen by.
    most = _best(inner_score, region, votes == votes.max(axis=0))
    labels = np.array([*names, ""])  # -1 is no choice
    columns = {
        "chosen": restore(labels[most], like),
        "chosen_fold": restore(labels[picked], like, "fold"),
        "score": restore(by_fold.mean(axis=0), like),
        "fold_score": restore(by_fold, like, "fold"),
        "inner_score": restore(inner_score, like, "candidate"),
        "candidate_score": restore(np.stack([_by_fold(m, scorer).mean(axis=0) for m in made]), like, "candidate"),
    }
    return xr.Dataset(columns, coords={"candidate": names})


def _describe(data: xr.Dataset, y: Any, X: Any, names: list[str], plan: _Plan, scorer: str, per: str) -> xr.Dataset:
    old = y.attrs if isinstance(y, xr.DataArray) else {}
    geometry = {key: old[key] for key in TRAVELLING if key in old and key != "units"}
    for name in data.data_vars:
        scored = {} if str(name).startswith("chosen") else {"units": "1", "scorer": scorer}
        data[name].attrs = geometry | data[name].attrs | scored
    data = data.assign_attrs(geometry, scorer=scorer, n_folds=len(plan.folds), per=per)
    return stamp(inherit(data, y, X), "select_model", candidates=names, per=per)


def centre_of_mass(
    scores: xr.DataArray,
    *,
    dim: str = "layer",
    depth: str | ArrayLike | None = None,
    over: str | None = None,
    level: float = 0.95,
) -> xr.Dataset:
    """Say how deep in a network scores lie: the mean depth of its layers, weighted with their scores.

    Parameters
    ----------
    scores : DataArray
        Scores of dims (layer, ...). Negative ones say nothing about depth and weigh nothing.
    dim : str, default "layer"
        The dimension of the layers.
    depth : str or array_like, optional
        Depth of each layer, or the name of a coordinate that holds it; by default 0, 1, 2, ...
    over : str, optional
        Dimension whose entries (subjects, voxels) are a sample: their mean profile is taken, with an interval.
        Entries must be independent of each other.
    level : float, default 0.95
        Coverage of the interval.

    Returns
    -------
    Dataset
        ``centre`` (...), in units of depth; NaN where no layer scores above 0. With `over` also ``ci`` (bound, ...).

    Raises
    ------
    ConfigError
        If a dimension or coordinate is not there, or the depths are not one finite number a layer.

    Notes
    -----
    The interval is that of Student's t with the standard error of the jackknife, which leaves out each entry in turn.
    It misses 5 % of truths from three subjects on (``benchmarks/calibration.py``), where drawing subjects with
    replacement would miss 26 % with three and 9 % with five.

    References
    ----------
    Tukey, J. (1958). Bias and confidence in not quite large samples. Annals of Mathematical Statistics 29, 614.

    Examples
    --------
    >>> profile = xr.DataArray([0.0, 0.1, 0.3], dims="layer")
    >>> round(centre_of_mass(profile).centre.item(), 2)
    1.75
    """
    for name in (dim,) if over is None else (dim, over):
        if name not in scores.dims:
            raise ConfigError("No such dimension.", expected=list(scores.dims), got=name, where="dim or over")
    if not 0 < level < 1:
        raise ConfigError("Not a coverage.", expected="0 < level < 1", got=level, where="level")
    depths = _depths(scores, dim, depth)
    if over is None:
        return xr.Dataset({"centre": _centre(scores, depths, dim)})
    if scores.sizes[over] < 2:
        raise SchemaError("One entry gives no interval.", expected=f">= 2 along {over}", got=scores.sizes[over])
    known, filled = scores.notnull(), scores.fillna(0.0)
    counts, sums = known.sum(over), filled.sum(over)
    centre = _centre(sums / counts.where(counts > 0), depths, dim)
    others = counts - known
    left_out = _centre((sums - filled) / others.where(others > 0), depths, dim)
    there = known.any(dim)
    n = there.sum(over)
    left_out = left_out.where((left_out.notnull() | ~there).all(over)).where(there)
    error = np.sqrt((n - 1) ** 2 / n * left_out.var(over, ddof=1))
    half = error * xr.apply_ufunc(stats.t.ppf, (1 + level) / 2, n - 1)
    ci = xr.concat([centre - half, centre + half], dim=pd.Index(["low", "high"], name="bound"))
    return xr.Dataset({"centre": centre, "ci": ci})


def _depths(scores: xr.DataArray, dim: str, depth: Any) -> xr.DataArray:
    if isinstance(depth, str):
        if depth not in scores.coords or scores[depth].dims != (dim,):
            raise ConfigError(
                "No such coordinate of the layers.", expected=list(scores.coords), got=depth, where="depth"
            )
        depth = scores[depth].values
    values = np.arange(scores.sizes[dim]) if depth is None else np.asarray(depth)
    if values.shape != (scores.sizes[dim],) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ConfigError(
            "Not one depth a layer.", expected=f"{scores.sizes[dim]} finite numbers", got=values, where="depth"
        )
    return xr.DataArray(values.astype(np.float64), dims=dim)


def _centre(scores: xr.DataArray, depths: xr.DataArray, dim: str) -> xr.DataArray:
    weights = scores.clip(min=0.0)
    total = weights.sum(dim)
    return ((weights * depths).sum(dim) / total.where(total > 0)).rename("centre")
