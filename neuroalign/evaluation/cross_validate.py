"""Cross-validation of any estimator on labelled data: scores, ceiling and test in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.align import check_same_samples
from neuroalign.errors import AlignmentError, ConfigError, SchemaError, gather_warnings, warn, warns_once
from neuroalign.evaluation._jobs import predict_folds
from neuroalign.evaluation._labels import (
    STIMULUS_NAMES,
    codes,
    find_runs,
    find_stimulus,
    is_time_series,
    n_samples,
    named,
    parts,
)
from neuroalign.evaluation._targets import matched, matrix, restore, template
from neuroalign.evaluation.ceilings import averages, noise_ceiling, normalise
from neuroalign.evaluation.folds import delay_span, resolve_cv
from neuroalign.evaluation.permutation import SCHEMES, fdr_bh, permutation_test
from neuroalign.evaluation.refit import arrangements, as_targets, number_units, refit_test, separable
from neuroalign.evaluation.result import PER_TARGET, Result
from neuroalign.evaluation.splits import Fold, check_no_leakage
from neuroalign.metrics import SCORERS
from neuroalign.schema import TRAVELLING, inherit, sample_dim, stamp

__all__ = ["cross_validate"]

Index = NDArray[np.int64]

#: Held-out predictions and responses are kept in the result up to this size (bytes, each).
KEEP_BYTES = 2**28


@warns_once
def cross_validate(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    cv: Any = None,
    groups: str | ArrayLike | None = None,
    repeats: str | ArrayLike | bool | None = None,
    ceiling: str | xr.DataArray | None = None,
    test: str | None = None,
    scorer: str | None = None,
    n_permutations: int = 1000,
    alpha: float = 0.05,
    random_state: int | np.random.Generator | None = None,
    executor: str | Executor = "serial",
    keep_null: bool = False,
) -> Result:
    """Score an estimator on held-out samples, against a noise ceiling and against chance.

    Everything that an estimator chooses (such as its penalty) it chooses inside the training samples of each fold.

    Parameters
    ----------
    estimator : estimator
        With scikit-learn's ``fit`` and ``predict``. Those of neuroalign (and pipelines and searches that hold one) get
        the labelled objects; others get arrays of shape (n_samples, n_features) and (n_samples, n_targets), without
        targets that are not finite.
    X, y : DataArray or array_like
        Features and responses of the same samples; `y` may have several target dimensions. Both are read into memory,
        and so are predictions of all held-out samples. Scores of more targets than that: `fit_to_store` with the
        training samples of a fold, and ``test=`` those held out.
    cv : int, splitter, str or list of (train, test), optional
        The folds; see `resolve_cv`. Where they are contiguous blocks, what the delays of the model reach beside a
        block (`Delayer`, `TRFEncoder`) is not trained on.
    groups : str or array_like, optional
        Labels, or the name of a coordinate, whose values never cross a split; the test exchanges stimuli only within
        such groups (unless they are the stimuli). By default the stimulus, if labelled
        (but not for time series).
    repeats : str, array_like or False, optional
        Labels, or the name of a coordinate, that mark presentations of the same stimulus: held-out responses and
        predictions with the same label are averaged before scoring, so that score and ceiling speak of the same
        thing. By default ``"stimulus_id"`` if it repeats (but not for time series). False scores single presentations.
    ceiling : {"split_half_sb", "explainable_variance", "cc_max", "ncsnr"} or DataArray, optional
        Adds a `noise_ceiling` for averages over as many repeats as were scored, and the normalised scores.
    test : {"permutation", "shuffle", "circular", "block"}, optional
        Adds a permutation test. ``permutation`` shuffles stimuli, or shifts time series in a circle within runs, and
        cross-validates the model again on every arrangement: scores of several folds depend on each other, so that
        predictions may not be held fixed (with a single fold they are). Costs `n_permutations` times the fit.
    scorer : {"r2", "r", "ev"}, optional
        The score; by default the estimator's own, else ``r2``.
    n_permutations : int, default 1000
        Number of permutations.
    alpha : float, default 0.05
        False discovery rate below which a target counts as significant.
    random_state : int or numpy.random.Generator, optional
        Seeds the halvings of the ceiling and the permutations.
    executor : "serial", "processes" or concurrent.futures.Executor, default "serial"
        Runs the folds. The result does not depend on it.
    keep_null : bool, default False
        Keep the scores of all permutations as ``null`` in the result's data, for `cluster_test`.

    Returns
    -------
    Result
        With ``score``, ``fold_score`` and what was asked for, labelled as the targets of `y`.

    Raises
    ------
    AlignmentError
        If X and y differ in their samples, or a group is on both sides of a split.
    ConfigError
        If an argument is not known or does not fit the data.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 3))
    >>> y = X @ rng.standard_normal((3, 2)) + 0.1 * rng.standard_normal((60, 2))
    >>> result = cross_validate(Ridge(), X, y, cv=3, test="permutation", n_permutations=99, random_state=0)
    >>> bool((result.score > 0.9).all()), result.significant.values
    (True, array([ True,  True]))
    """
    _check_inputs(X, y)
    if not 0 < alpha < 1 or (test is not None and n_permutations < 1):
        raise ConfigError(
            "Not a test.",
            expected="0 < alpha < 1 and n_permutations >= 1",
            got=f"alpha={alpha}, n_permutations={n_permutations}",
        )
    if keep_null and test is None:
        raise ConfigError("There are no permutations to keep.", got="test=None", fix="test='permutation'")
    name = _scorer_name((estimator,), scorer)
    plan = _plan(X, y, cv, groups, repeats, delay_span(estimator, X))
    held_out = _held_out(estimator, X, y, plan, executor)
    for_ceiling, for_test = np.random.default_rng(random_state).spawn(2)
    like = template(y)
    data = _score(held_out, like, name)
    if ceiling is not None:
        data["ceiling"] = _ceiling(y, plan, held_out, ceiling, name, for_ceiling)
    if test is not None:
        refit = _refit(estimator, X, y, plan, name, data["score"], executor)
        kept = np.full((n_permutations, like.size), np.nan, np.float32) if keep_null else None
        data = data.assign(_test(held_out, plan, like, refit, test, name, n_permutations, for_test, kept))
        data["q"] = fdr_bh(data["p"])
        data["significant"] = data["q"] < alpha
        data = data.assign_attrs(alpha=float(alpha), test=test, n_permutations=int(n_permutations))
    return Result(_describe(_keep(data, held_out, plan, like, y), estimator, X, y, plan, name, random_state))


@dataclass(frozen=True)
class _Plan:
    """Folds and the labels that they, averaging and shifting go by."""

    folds: list[Fold]
    groups: NDArray[Any] | None
    repeats: Index | None
    runs: Index | None
    time_series: bool
    repeated: bool
    clustered: bool  # groups that are not stimuli: nothing is exchanged between them


@dataclass(frozen=True)
class _HeldOut:
    """Held-out samples of all folds: positions in y, folds, pieces of time, and values (n, n_targets)."""

    position: Index
    fold: Index
    piece: Index
    n_averaged: NDArray[np.float64]
    observed: NDArray[Any]
    predicted: NDArray[Any]


def _check_inputs(X: Any, y: Any) -> None:
    if isinstance(y, xr.Dataset):
        raise SchemaError(
            "y is a Dataset.",
            expected="one DataArray",
            got=list(y.data_vars),
            fix="pass one variable, such as y['eeg']",
        )
    for name, part in X.items() if isinstance(X, Mapping) and not isinstance(X, xr.Dataset) else [("X", X)]:
        _check_part(part, y, str(name))
    finite = np.isfinite(matrix(y))
    if not finite.all(axis=0).any():
        raise SchemaError(
            "No target is finite in all samples.",
            expected="at least one target without NaN or Inf",
            got=f"{int((~finite.any(axis=1)).sum())} samples without any value",
            where="y",
            fix="drop the samples that are not valid first, for example y[y.valid]",
        )


def _check_part(X: Any, y: Any, name: str) -> None:
    """Refuse features that are not those of the samples of y, or not finite."""
    if n_samples(X) != n_samples(y):
        raise AlignmentError(
            f"{name} and y differ in their number of samples.", expected=n_samples(X), got=n_samples(y)
        )
    if not isinstance(X, xr.DataArray):
        return
    if isinstance(y, xr.DataArray):
        check_same_samples(X, y, (name, "y"))
    if X.dtype.kind == "f" and not np.isfinite(X.values).all():
        dim = sample_dim(X)
        bad = np.flatnonzero(~np.isfinite(X.transpose(dim, ...).values.reshape(X.sizes[dim], -1)).all(axis=1))
        names = find_stimulus(X)
        raise SchemaError(
            "The features hold NaN or Inf.",
            expected="finite features",
            got=f"{len(bad)} of {X.sizes[dim]} samples along {dim} with values that are not finite",
            where=f"first: {dim} {bad[0]}" + ("" if names is None else f" ({names[bad[0]]})"),
            fix="leave these samples out of X and y",
        )


def _check_models(features: Mapping[str, Any], y: Any) -> None:
    """Refuse features of several models that are not of the same samples as y, and as each other."""
    for X in features.values():
        _check_inputs(X, y)
    labelled = [(name, part) for name, X in features.items() for part in parts(X) if isinstance(part, xr.DataArray)]
    for name, part in labelled[1:]:
        check_same_samples(labelled[0][1], part, (labelled[0][0], name))


def _scorer_name(estimators: Iterable[Any], scorer: str | None) -> str:
    """The score that is asked for, or else that of the estimators."""
    names = set()
    for estimator in estimators:
        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        own = getattr(last, "scorer", None)
        names.add(scorer if scorer is not None else own if isinstance(own, str) else "r2")
    if len(names) > 1:
        raise ConfigError(
            "The estimators have different scores.",
            expected=f"scorer=, one of {sorted(SCORERS)}",
            got=sorted(names),
            where="scorer",
        )
    (name,) = names
    if name not in SCORERS:
        raise ConfigError("Unknown scorer.", expected=sorted(SCORERS), got=name, where="scorer")
    return name


def _plan(X: Any, y: Any, cv: Any, groups: Any, repeats: Any, gap: int) -> _Plan:
    time_series = is_time_series(X, y)
    stimuli = find_stimulus(y, X)
    repeated = stimuli is not None and len(np.unique(stimuli)) < len(stimuli)
    labels = None if groups is None else named(groups, y, X, role="groups")
    if labels is None and repeated and not time_series:
        labels = stimuli
    folds = resolve_cv(cv, X, y, labels, gap=gap)
    by_stimulus = groups is None or (isinstance(groups, str) and groups in STIMULUS_NAMES)
    for train, test in folds:
        if labels is not None:
            check_no_leakage(labels[train], labels[test], name="stimulus" if by_stimulus else "group")
    if stimuli is not None and not by_stimulus and not time_series:
        _refuse_shared(stimuli, folds)
    return _Plan(
        folds,
        labels,
        _repeats(repeats, X, y, time_series, repeated),
        find_runs(y, X),
        time_series,
        repeated,
        not by_stimulus,
    )


def _refuse_shared(stimuli: NDArray[Any], folds: list[Fold]) -> None:
    """Refuse groups that let stimuli cross the split: scores would count what was learned about these very stimuli."""
    for train, test in folds:
        shared = np.intersect1d(stimuli[train], stimuli[test])
        if shared.size:
            raise AlignmentError(
                "The same stimuli are in training and in test.",
                expected="every stimulus on one side of the split",
                got=f"{shared.size} on both sides, such as {shared[0]!r}",
                where="groups",
                fix="groups='stimulus_id', or leave groups out; to ask about other runs of known stimuli, "
                "drop the coordinate stimulus_id first",
            )


def _repeats(repeats: Any, X: Any, y: Any, time_series: bool, repeated: bool) -> Index | None:
    if repeats is False:
        return None
    if repeats is None:
        return codes(named("stimulus_id", y, X, role="repeats"), "repeats") if repeated and not time_series else None
    return codes(named(repeats, y, X, role="repeats"), "repeats")


def _held_out(estimator: Any, X: Any, y: Any, plan: _Plan, executor: str | Executor) -> _HeldOut:
    guesses = predict_folds(estimator, X, y, plan.folds, groups=plan.groups, executor=executor)
    return _gather(matrix(y), guesses, plan)


def _gather(y: NDArray[Any], guesses: list[NDArray[Any]], plan: _Plan) -> _HeldOut:
    columns: list[tuple[Any, ...]] = []
    for fold, ((_, test), guess) in enumerate(zip(plan.folds, guesses, strict=True)):
        if plan.repeats is None:
            n_averaged, observed, position = np.ones(len(test)), y[test], test
        else:
            number = codes(plan.repeats[test], "repeats")
            n_averaged = np.bincount(number).astype(float)
            position = test[np.unique(number, return_index=True)[1]]
            observed, guess = averages(y[test], number), averages(guess, number)
        runs = np.zeros(len(position)) if plan.runs is None else plan.runs[position]
        piece = np.concatenate([[0], np.cumsum((np.diff(position) != 1) | (np.diff(runs) != 0))])
        columns.append((position, np.full(len(position), fold), piece, n_averaged, observed, guess))
        if len(position) < 2:
            raise ConfigError(
                "A single held-out sample cannot be scored.",
                expected=">= 2 samples (after averaging repeats) in every fold",
                got=f"{len(position)} in fold {fold}",
                fix="use fewer folds, or repeats=False to score single presentations",
            )
    position, folds, pieces, n_averaged, observed, predicted = map(np.concatenate, zip(*columns, strict=True))
    return _HeldOut(position, folds, pieces, n_averaged, observed, predicted)


def _score(held_out: _HeldOut, like: xr.DataArray, scorer: str) -> xr.Dataset:
    function, n_folds = SCORERS[scorer], int(held_out.fold.max()) + 1
    by_fold = np.stack(
        [
            function(held_out.observed[rows], held_out.predicted[rows])
            for rows in (held_out.fold == f for f in range(n_folds))
        ]
    )
    attrs = {"units": "1", "scorer": scorer}
    scores = {
        "score": restore(by_fold.mean(axis=0), like),
        "score_pooled": restore(function(held_out.observed, held_out.predicted), like),
        "fold_score": restore(by_fold, like, "fold"),
    }
    return xr.Dataset({name: array.assign_attrs(attrs) for name, array in scores.items()})


def _ceiling(
    y: Any, plan: _Plan, held_out: _HeldOut, ceiling: str | xr.DataArray, scorer: str, rng: np.random.Generator
) -> xr.DataArray:
    if isinstance(ceiling, xr.DataArray):
        meant = ceiling.attrs.get("scorer", scorer)
        if (meant == "r") != (scorer == "r"):
            raise ConfigError(
                "The ceiling is that of another score.",
                expected=f"a ceiling for {scorer!r}",
                got=f"one for {meant!r}",
                where="ceiling",
                fix=f"noise_ceiling(y, scorer={scorer!r})",
            )
        return matched(template(y), ceiling, ("y", "ceiling")).rename("ceiling")
    if isinstance(ceiling, str):
        marks: Any = plan.repeats if plan.repeats is not None else "stimulus_id"
        level = float(1 / np.mean(1 / held_out.n_averaged))
        return noise_ceiling(y, repeats=marks, method=ceiling, level=level, scorer=scorer, random_state=rng)
    raise ConfigError("Not a ceiling.", expected="a method's name or a DataArray", got=type(ceiling).__name__)


def _test(
    held_out: _HeldOut,
    plan: _Plan,
    like: xr.DataArray,
    refit: Any,
    test: str,
    scorer: str,
    n: int,
    rng: np.random.Generator,
    kept: NDArray[np.float32] | None,
) -> dict[str, xr.DataArray]:
    if test != "permutation" and test not in SCHEMES:
        raise ConfigError("Unknown test.", expected=["permutation", *SCHEMES], got=test, where="test")
    scheme = ("circular" if plan.time_series else "shuffle") if test == "permutation" else test
    if scheme == "shuffle" and plan.time_series:
        warn("Shuffling a time series ignores that neighbours in time are alike: p will be too small.", stacklevel=4)
    if plan.repeated and plan.repeats is None and not plan.time_series:
        raise ConfigError(
            "Presentations of the same stimulus cannot be exchanged one by one.",
            expected="one row a stimulus",
            got="repeats=False with repeated stimuli",
            fix="average repeats (repeats='stimulus_id') for the test",
        )
    if len(plan.folds) == 1:  # predictions learned from other samples alone may be held fixed
        out = permutation_test(
            held_out.observed,
            held_out.predicted,
            scheme=scheme,
            groups=None if scheme == "shuffle" else held_out.piece,
            scorer=scorer,
            n_permutations=n,
            random_state=rng,
            keep_null=kept is not None,
        )
        if kept is not None:
            kept[:] = out["null"].values
        p, p_max, null_max = (out[name].values for name in ("p", "p_max", "null_max"))
    else:
        p, p_max, null_max = refit(scheme, n, rng, kept)
    null = xr.DataArray(null_max, dims="permutation")
    columns = {"p": restore(p, like), "p_fwer": restore(p_max, like), "null_max": null}
    return columns if kept is None else columns | {"null": restore(kept, like, "permutation")}


def _refit(estimator: Any, X: Any, y: Any, plan: _Plan, scorer: str, score: xr.DataArray, executor: Any) -> Any:
    """Give the function that fits the model again to arranged responses; see `refit_test`."""
    values, dim = matrix(y), sample_dim(y) if isinstance(y, xr.DataArray) else None
    function = SCORERS[scorer]

    def rescore(arranged: NDArray[Any]) -> NDArray[np.float64]:
        targets = as_targets(arranged, y, dim)
        with gather_warnings():  # what the fits to the responses themselves say is enough
            guesses = predict_folds(estimator, X, targets, plan.folds, groups=plan.groups, executor=executor)
        found = _gather(arranged, guesses, plan)
        rows = (found.fold == f for f in range(len(plan.folds)))
        return np.mean([function(found.observed[r], found.predicted[r]) for r in rows], axis=0)

    def run(scheme: str, n: int, rng: np.random.Generator, kept: Any) -> Any:
        units = number_units(plan.repeats, len(values))
        groups = None if plan.groups is None else codes(plan.groups, "groups")
        runs = plan.runs if plan.runs is not None or not plan.time_series else groups
        within = groups if plan.clustered else None
        orders = arrangements(scheme, n, rng, units=units, runs=runs, within=within)
        flat = score.transpose(*template(y).dims).values.ravel()
        return refit_test(values, flat, orders, rescore, n_permutations=n, together=separable(estimator), kept=kept)

    return run


def _keep(data: xr.Dataset, held_out: _HeldOut, plan: _Plan, like: xr.DataArray, y: Any) -> xr.Dataset:
    """Add normalised scores and, where affordable, what was held out."""
    if "ceiling" in data:
        data["normalised"] = normalise(data["score"], data["ceiling"], data["score"].attrs["scorer"])
    if held_out.observed.size * 8 > KEEP_BYTES:
        return data
    dim = sample_dim(y) if isinstance(y, xr.DataArray) else "sample"
    averaged = plan.repeats is not None
    name = "stimulus" if averaged and dim not in ("time", "sample") else dim
    labels: dict[str, Any] = {"fold_id": (name, held_out.fold), "position": (name, held_out.position)}
    if isinstance(y, xr.DataArray):
        along = {k: c.values[held_out.position] for k, c in y.coords.items() if c.dims == (dim,)}
        if averaged:  # labels of single presentations mean nothing for averages
            along = {k: v for k, v in along.items() if k in STIMULUS_NAMES}
            if name == "stimulus" and "stimulus_id" in along:
                along["stimulus"] = along["stimulus_id"]
        labels |= {str(k): (name, v) for k, v in along.items()}
    for key, values in (("observed", held_out.observed), ("prediction", held_out.predicted)):
        array = restore(values, like, name).assign_coords(labels)
        data[key] = array.assign_attrs(units=str(getattr(y, "attrs", {}).get("units", "a.u.")))
    return data


def _describe(
    data: xr.Dataset, estimator: Any, X: Any, y: Any, plan: _Plan, scorer: str, random_state: Any
) -> xr.Dataset:
    """Geometry and provenance of the responses, and how the result came about."""
    old = y.attrs if isinstance(y, xr.DataArray) else {}
    attrs = {k: v for k, v in old.items() if k in TRAVELLING and k != "units"}
    for name in PER_TARGET:
        if name in data:
            data[name].attrs.setdefault("units", "1")
    n_nan = int(np.isnan(data["score"].values).sum())
    attrs |= {
        "estimator": type(estimator).__name__,
        "scorer": scorer,
        "n_folds": len(plan.folds),
        "n_nan_targets": n_nan,
    }
    params = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    settings = {key: str(value) for key, value in params.items()}
    seed = int(random_state) if isinstance(random_state, (int, np.integer)) else None
    return stamp(
        inherit(data.assign_attrs(attrs), y, X),
        "cross_validate",
        seed=seed,
        estimator=type(estimator).__name__,
        settings=settings,
    )
