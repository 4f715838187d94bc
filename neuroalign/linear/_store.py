"""Fit and predict targets of any number: responses and results stay on disk, a block of targets is in memory."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign import storage
from neuroalign.compute import Outcome, progress, run_pieces
from neuroalign.errors import ConfigError, NeuroalignError, SchemaError, warn
from neuroalign.linear._chunked import (
    Job,
    block_digest,
    finish_block,
    fit_block,
    predict_block,
    read_flat,
    score_block,
    scores_name,
    with_solution,
)
from neuroalign.linear._inputs import VERSION, Inputs, block_size, hollow
from neuroalign.linear._ridge import EDGE_SHARE, narrow_grid
from neuroalign.metrics import SCORERS
from neuroalign.protocol import Labels, Samples, load_model, save_model
from neuroalign.schema import stamp
from neuroalign.storage import pieces as parts

_PREDICTING = ("coef", "intercept")  # what predictions are made of


def fit_to_store(
    estimator: Any,
    X: Any,
    y: Any,
    path: str | os.PathLike[str],
    *,
    groups: ArrayLike | None = None,
    test: tuple[Any, Any] | None = None,
    executor: Any = "serial",
    n_workers: int | None = None,
    chunk: int | None = None,
    resume: bool = True,
) -> Path:
    """Fit any number of targets, block by block, into a store.

    Memory holds the features and one block of targets (a worker), however many there are. What depends on the
    features only is computed once and given to each worker: the eigendecompositions of ridge models. Banded models
    decompose their features once a worker for every band weight, up to 512 MB (what does not fit is computed again for
    each block, of which larger ones then cost less), response functions once a block.

    Every block is a file of its own for each result. A block counts when its files are on the disk with their sha256;
    after a kill or an error the same call fits only what is missing.

    Where targets choose their penalties together (``alpha_per_target=False`` or ``"pooled"``), a first pass over the
    blocks stores the score of every penalty, and a second one fits with what follows from all of them. Patterns of
    decoders follow from all weights, in a last pass.

    Parameters
    ----------
    estimator : RidgeEncoder, RidgeDecoder, BandedRidgeEncoder, TRFEncoder
        The model. It is not changed. A scorer may be a function; for worker processes it is one that they can import.
    X : DataArray or array, shape (n_samples, n_features)
        Features, in memory.
    y : DataArray or array, shape (n_samples, *targets)
        Responses: lazy from a store, a NIfTI file or dask, or a memory map. Stores that hold all times of a block of
        sites together, as `neuroalign.storage.save` writes them, are read once; other layouts are read again for each
        block.
    path : path-like
        The store, by custom ``*.zarr``. It appears when it is whole; until then its parts are in a hidden folder
        beside it.
    groups : array_like, shape (n_samples,), optional
        Groups that the inner folds keep together.
    test : (X, y), optional
        Held-out samples. The store then has ``score``, one a target.
    executor : {"serial", "processes"}, Executor or dask.distributed.Client
        Where blocks are fitted. Results depend neither on it nor on the size of blocks. Workers of a cluster need the
        same folders.
    n_workers : int, optional
        Number of worker processes; by default one a CPU.
    chunk : int, optional
        Targets a block, by default about 64 MB; multiples of 256 are fastest. With several target dimensions blocks
        are slabs of the first ones.
    resume : bool
        Go on with what an earlier call left, or give what it finished. False starts anew.

    Returns
    -------
    pathlib.Path
        The store: ``coef``, ``intercept``, ``alphas``, ``cv_scores``, ``masked`` (targets with NaN), ``score``; of
        banded models ``band_weights`` (along ``space``), of decoders ``patterns``; of targets that choose together
        ``scores`` (alpha, *targets), or ``fold_scores`` where they are pooled. For `neuroalign.storage.open`, and with
        a model for `load_fitted`.

    Raises
    ------
    ConfigError
        If the estimator cannot be fitted in blocks, or a result of other inputs or parameters is there: the error
        says what differs.
    AlignmentError, LabelsLostError, SchemaError
        As in ``fit``.
    IntegrityError
        If the disk is full or failing, a finished block is damaged, or another process works on the same store.
    NeuroalignError
        If blocks failed or their workers died: it names them. The others are kept.

    Examples
    --------
    >>> import tempfile
    >>> from neuroalign.encoding import RidgeEncoder
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(60, 5)), rng.normal(size=(60, 1000))
    >>> path = fit_to_store(RidgeEncoder(), X, y, Path(tempfile.mkdtemp()) / "fit.zarr", chunk=256)
    >>> storage.open(path)["coef"].sizes
    Frozen({'unit': 5, 'target': 1000})
    >>> load_fitted(path, isel={"target": [3, 7]}).predict(X).shape
    (60, 2)
    """
    inputs = Inputs.of(estimator, X, y, groups, test)
    _check_travels(inputs.model.scorer, executor)
    shape = parts.piece_shape(inputs.labels.shape, block_size(inputs, chunk))
    made_from = inputs.made_from(shape, groups)
    key = storage.step_key("fit_to_store", {name: part for name, (part, _) in made_from.items()}, version=VERSION)
    finished = parts.earlier(path, key, made_from) if resume else None
    if finished is not None:
        pieces = parts.Pieces(Path(path), Path(path), key, inputs.labels.shape, shape)
        _check_inputs(inputs, pieces, dict(enumerate(finished)))
        return Path(path)
    plan = inputs.plan(groups)
    empty = inputs.empty(plan)
    template, dims = inputs.template(empty, plan), inputs.stored_dims(empty)
    pieces = parts.begin(path, template, dims, shape, key=key, made_from=made_from, resume=resume)
    with pieces.held():
        _save(empty, pieces.folder)  # now, so that what cannot be saved is known before the work
        first = replace(pieces, stage="scores")
        _check_inputs(inputs, pieces, first.notes() | pieces.notes())
        work = _Work(inputs, executor, n_workers)
        job = inputs.job(empty, plan, pieces)
        if plan.together:
            work.run("scores", score_block, replace(job, pieces=first))
            job = replace(job, plan=plan.choose(_scores(job), inputs.labels.size))
        work.run("fit", fit_block, job)
        if plan.later:
            known = (read_flat(job, k, "coef") for k in range(len(pieces)))
            last = replace(job, plan=plan.gather(known), pieces=replace(pieces, stage="last"))
            work.run(" and ".join(plan.later), finish_block, last)
        _conclude(empty, pieces.notes(verify=False), inputs.labels.size)
        _save(empty, pieces.folder)
    return pieces.finish(model=type(empty).__name__, made_from=made_from)


@dataclass(frozen=True)
class _Work:
    """Who fits the blocks."""

    inputs: Inputs
    executor: Any
    n_workers: int | None

    def run(self, what: str, function: Callable[[Any, Job], None], job: Job) -> None:
        """Do what is missing of one pass over the blocks."""
        pieces = job.pieces
        done = pieces.notes(verify=False)
        missing = [k for k in range(len(pieces)) if k not in done]
        outcome = run_pieces(
            function,
            lambda i: self.inputs.block(missing[i], pieces),
            len(missing),
            shared=job,
            executor=self.executor,
            n_workers=self.n_workers,
            folder=pieces.folder,
            progress=f"{type(job.model).__name__}, {what}: {len(missing)} of {len(pieces)} blocks",
        )
        _refuse_failures(outcome, missing, pieces)


def _scores(job: Job) -> Iterator[NDArray[np.float64]]:
    """Scores of the first pass, block by block, (n_folds, n_alphas, t)."""
    for k in range(len(job.pieces)):
        values = read_flat(job, k, scores_name(job.leading))
        yield values.reshape(-1, *values.shape[-2:])


def _check_travels(scorer: Any, executor: Any) -> None:
    """Refuse a function that worker processes cannot import."""
    if isinstance(scorer, str) or executor != "processes":
        return
    try:
        pickle.dumps(scorer)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            "This scorer cannot be sent to worker processes.",
            expected="a function that is defined at the top of a module",
            got=scorer,
            where="scorer",
            fix="define it there, or use executor='serial'",
        ) from error


def _save(empty: Any, folder: Path) -> None:
    """Save the model; a function as scorer is not part of it, and has to be given to `load_fitted`."""
    saved = copy.copy(empty)
    if not isinstance(saved.scorer, str):
        saved.scorer = next(iter(SCORERS))
    save_model(saved, folder / "model")


class _LostScorer:
    """Stands for a function that was not given to `load_fitted`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
        raise ConfigError(
            "The scorer of this model is a function, which a store does not hold.",
            expected=self.name,
            where="scorer",
            fix="load_fitted(path, scorer=...)",
        )


def load_fitted(
    path: str | os.PathLike[str],
    *,
    isel: Mapping[str, Any] | None = None,
    sel: Mapping[str, Any] | None = None,
    scorer: Callable[..., Any] | None = None,
) -> Any:
    """Load a fitted model from a store, for some of its targets.

    Parameters
    ----------
    path : path-like
        What `fit_to_store` made.
    isel : mapping of str to int, slice or array, optional
        Targets by position along their dimensions; only their weights are read.
    sel : mapping of str to label, slice or list, optional
        Targets by label.
    scorer : callable, optional
        Where the model was fitted with a function as scorer: that function, for ``score`` and ``score_map``.

    Returns
    -------
    estimator
        Fitted, in memory: ``predict``, ``score_map``, ``coef_`` and ``save`` work as ever.

    Raises
    ------
    IntegrityError
        If the store is damaged.
    ConfigError
        If it holds no model, or has no such target.
    """
    ds, model = _open(path)
    if ds.attrs["scorer"] not in SCORERS:
        model.scorer = _LostScorer(ds.attrs["scorer"]) if scorer is None else scorer
    chosen = ds[[*model._stored(), "masked"]]
    targets = chosen["masked"].dims
    for kind, picks in (("isel", isel), ("sel", sel)):
        for dim, pick in (picks or {}).items():
            if dim not in targets:
                raise ConfigError("No such dimension of targets.", expected=targets, got=dim, where=kind)
            many = isinstance(pick, slice) or np.ndim(pick) == 1
            try:
                chosen = getattr(chosen, kind)({dim: pick if many else [pick]})
            except (KeyError, IndexError) as error:
                raise ConfigError("No such target.", got=error, where=f"{kind} of {dim}") from error
    masked = chosen["masked"].values.ravel()
    fitted = with_solution(model, {name: chosen[name].values for name in model._stored()}, ~masked)
    fitted.masked_targets_, fitted.target_labels_ = masked, _labels(chosen["masked"], model.target_labels_)
    return fitted


def predict_to_store(
    model: str | os.PathLike[str],
    X: Any,
    path: str | os.PathLike[str],
    *,
    executor: Any = "serial",
    n_workers: int | None = None,
    resume: bool = True,
) -> Path:
    """Predict all targets of a fitted store, block by block, into another store.

    Parameters
    ----------
    model : path-like
        What `fit_to_store` made.
    X : DataArray or array, shape (n_samples, n_features)
        Features, as in ``predict``.
    path : path-like
        The store of the predictions: variable ``prediction``, (sample, *targets).
    executor, n_workers, resume
        As in `fit_to_store`.

    Returns
    -------
    pathlib.Path
        The store.

    Raises
    ------
    ConfigError, AlignmentError, SchemaError, IntegrityError, NeuroalignError
        As in `fit_to_store`.
    """
    ds, empty = _open(model)
    values, samples = empty._open_x(X, fitting=False)
    labels = _labels(ds["masked"], empty.target_labels_)
    manifest = storage.verify(model, "none")
    made_from = {
        "X": (storage.content_key(values), ""),
        "labels of X": (storage.content_key(samples.coords), ""),
        "model": (manifest["checksum"], str(model)),
    }
    key = storage.step_key("predict_to_store", {n: part for n, (part, _) in made_from.items()}, version=VERSION)
    if resume and parts.earlier(path, key, made_from) is not None:
        return Path(path)
    dtype = with_solution(empty, _nothing(empty), np.zeros(0, bool))._predict(values, samples).dtype
    template = _predictions(labels, samples, dtype)
    chunk = tuple(manifest["chunk"])
    pieces = parts.begin(path, template, labels.dims, chunk, key=key, made_from=made_from, resume=resume)
    with pieces.held():
        done = pieces.notes()
        missing = [k for k in range(len(pieces)) if k not in done]
        stored = {name: ds[name].variable for name in (*_PREDICTING, "masked")}

        def block(i: int) -> tuple[int, dict[str, xr.Variable]]:
            region = dict(zip(ds["masked"].dims, pieces.region(missing[i]), strict=True))
            return missing[i], {name: variable.isel(region) for name, variable in stored.items()}

        job = Job(empty, None, pieces, (), x_test=values, samples=samples)
        outcome = run_pieces(
            predict_block,
            block,
            len(missing),
            shared=job,
            executor=executor,
            n_workers=n_workers,
            folder=pieces.folder,
            progress=f"predict: {len(missing)} of {len(pieces)} blocks",
        )
        _refuse_failures(outcome, missing, pieces)
    return pieces.finish(made_from=made_from)


def _labels(stored: xr.DataArray, labels: Labels) -> Labels:
    """Labels of targets from a store, under their own names."""
    own = dict(zip(map(str, stored.dims), labels.dims, strict=True))
    names = {f"{name}_out": name for name in labels.coords} | {name: name for name in labels.coords}
    coords = {
        names[str(name)]: (tuple(own[str(dim)] for dim in coord.dims), coord.values)
        for name, coord in stored.coords.items()
        if str(name) in names and coord.dims
    }
    return replace(labels, shape=stored.shape, coords=coords)


def _predictions(labels: Labels, samples: Samples, dtype: Any) -> xr.Dataset:
    dim = samples.dim or "sample"
    coords: dict[str, Any] = {n: ((dim,), v) for n, v in samples.coords.items() if n not in labels.dims}
    data = {"prediction": hollow((dim, *labels.dims), (samples.n, *labels.shape), dtype)}
    return stamp(xr.Dataset(data, {**labels.coords, **coords}, dict(labels.attrs)), "predict_to_store")


def _nothing(empty: Any) -> dict[str, NDArray[Any]]:
    return {name: getattr(empty, attribute) for name, (attribute, _) in empty._stored().items()}


def _open(path: str | os.PathLike[str]) -> tuple[xr.Dataset, Any]:
    ds = storage.open(path)
    if not (Path(path) / "model").is_dir():
        raise ConfigError(
            "This store holds no fitted model.", expected="a store of fit_to_store", got="no model", where=path
        )
    return ds, load_model(Path(path) / "model")


def _check_inputs(inputs: Inputs, pieces: parts.Pieces, notes: Mapping[int, Any]) -> None:
    """Refuse to go on with blocks that were fitted to other responses than these."""
    job = inputs.job(inputs.model, None, pieces)
    with progress("compare finished blocks", len(notes), show=None if notes else False) as advance:
        for k, note in notes.items():
            if block_digest(inputs.block(k, pieces), job) != note["inputs"]:
                raise ConfigError(
                    "The responses are others than those of the earlier call.",
                    expected="the same y",
                    got=f"other values in {pieces.name(k)}",
                    where=pieces.folder,
                    fix="choose another path, or pass resume=False to start anew",
                )
            advance(1)


def _refuse_failures(outcome: Outcome, numbers: Sequence[int], pieces: parts.Pieces) -> None:
    if not outcome.failures:
        return
    failed = sorted(outcome.failures)
    first = outcome.failures[failed[0]]
    names = "; ".join(pieces.name(numbers[i]) for i in failed)
    kind: Callable[..., NeuroalignError] = type(first) if isinstance(first, NeuroalignError) else NeuroalignError
    left = f", and {len(outcome.untried)} were not tried" if outcome.untried else ""
    raise kind(
        f"{len(failed)} of {len(pieces)} blocks failed{left}; those that ended are kept.",
        got=f"{type(first).__name__}: {first}",
        where=names,
        fix=f"see to the cause and run again: only what is missing is done ({pieces.folder})",
    ) from first


def _conclude(empty: Any, notes: Mapping[int, Any], n_targets: int) -> None:
    """Sum up all blocks: the shares at the edges of the grid, and warnings."""
    masked, flat, scored = (sum(note[name] for note in notes.values()) for name in ("masked", "flat", "scored"))
    if masked == n_targets:
        raise SchemaError("No target is finite.", expected="at least one", got=f"{masked} targets with NaN or Inf")
    edges = np.sum([note["edges"] for note in notes.values()], axis=0) / max(1, scored)
    empty.alpha_edges_ = [float(share) for share in edges]
    told = [
        f"{count} of {n_targets} targets {what}"
        for count, what in ((masked, "hold NaN or Inf"), (flat, "are constant"))
        if count
    ]
    if told:
        warn(f"{' and '.join(told)}; they get NaN scores.", stacklevel=3)
    unscored = n_targets - masked - flat - scored
    if unscored > 0:
        warn(
            f"{unscored} of {n_targets} targets are constant in every inner test fold; they get NaN scores.",
            stacklevel=3,
        )
    if sum(empty.alpha_edges_) > EDGE_SHARE and np.size(empty._given_alphas()) > 1:
        warn(narrow_grid(*empty.alpha_edges_), stacklevel=3)
