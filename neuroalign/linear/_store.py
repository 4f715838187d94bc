"""Fit and predict targets of any number: responses and results stay on disk, a block of targets is in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from neuroalign import storage
from neuroalign.align import check_same_samples
from neuroalign.compute import Outcome, progress, run_pieces
from neuroalign.errors import ConfigError, NeuroalignError, SchemaError, warn
from neuroalign.linear._chunked import Block, Job, block_digest, fit_block, predict_block, with_solution
from neuroalign.linear._ridge import EDGE_SHARE, LinearModel, narrow_grid
from neuroalign.protocol import Labels, Samples, load_model, read_labels, save_model
from neuroalign.schema import stamp
from neuroalign.storage import pieces as parts

VERSION = 1
BLOCK_BYTES = 64 << 20  # responses and weights of a block
TILE = 256  # blocks are multiples of what solvers take at a time, so that their sums are the same
LEAST_BLOCKS = 16  # so that there is something to share out


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
    features only, such as eigendecompositions, is computed once and given to each worker once. Every block is a file
    of its own for each result. A block counts when its files are on the disk with their sha256; after a kill or an
    error the same call fits only what is missing.

    Parameters
    ----------
    estimator : RidgeEncoder, BandedRidgeEncoder, TRFEncoder, ...
        A linear model that learns each target on its own. It is not changed.
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
        Where blocks are fitted. Results do not depend on it. Workers of a cluster need the same folders.
    n_workers : int, optional
        Number of worker processes; by default one a CPU.
    chunk : int, optional
        Targets a block, by default about 64 MB. With several target dimensions blocks are slabs of the first ones.
    resume : bool
        Go on with what an earlier call left, or give what it finished. False starts anew.

    Returns
    -------
    pathlib.Path
        The store: ``coef``, ``intercept``, ``alphas``, ``cv_scores``, ``masked`` (targets with NaN), ``score``, and of
        banded models ``band_weights`` (along ``space``) for `neuroalign.storage.open`, and a model for `load_fitted`.

    Raises
    ------
    ConfigError
        If the estimator cannot be fitted in blocks, or a result of other inputs or parameters is there.
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
    inputs = _Inputs.of(estimator, X, y, groups, test)
    wanted = _block_size(inputs, chunk)
    shape = parts.piece_shape(inputs.labels.shape, wanted)
    key = inputs.key(shape, groups)
    finished = parts.earlier(path, key) if resume else None
    plan = None if finished is not None else inputs.plan(groups)
    if finished is not None:
        pieces = parts.Pieces(Path(path), Path(path), key, inputs.labels.shape, shape)
        _check_inputs(inputs, pieces, dict(enumerate(finished)))
        return Path(path)
    empty = inputs.empty(plan)
    pieces = parts.begin(path, inputs.template(empty), inputs.stored_dims(empty), shape, key=key, resume=resume)
    with pieces.held():
        save_model(empty, pieces.folder / "model")  # now, so that what cannot be saved is known before the work
        notes = pieces.notes()
        _check_inputs(inputs, pieces, notes)
        missing = [k for k in range(len(pieces)) if k not in notes]
        outcome = run_pieces(
            fit_block,
            lambda i: inputs.block(missing[i], pieces),
            len(missing),
            shared=inputs.job(empty, plan, pieces),
            executor=executor,
            n_workers=n_workers,
            folder=pieces.folder,
            progress=f"{type(estimator).__name__}: {len(missing)} of {len(pieces)} blocks",
        )
        _refuse_failures(outcome, missing, pieces)
        _conclude(empty, pieces.notes(verify=False), inputs.labels.size)
        save_model(empty, pieces.folder / "model")
    return pieces.finish(model=type(empty).__name__)


def load_fitted(
    path: str | os.PathLike[str], *, isel: Mapping[str, Any] | None = None, sel: Mapping[str, Any] | None = None
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
    key = storage.step_key("predict_to_store", values, samples.coords, manifest["checksum"], version=VERSION)
    if resume and parts.earlier(path, key) is not None:
        return Path(path)
    dtype = with_solution(empty, _nothing(empty), np.zeros(0, bool))._predict(values, samples).dtype
    template = _predictions(labels, samples, dtype)
    pieces = parts.begin(path, template, labels.dims, tuple(manifest["chunk"]), key=key, resume=resume)
    with pieces.held():
        done = pieces.notes()
        missing = [k for k in range(len(pieces)) if k not in done]
        stored = {name: ds[name].variable for name in (*empty._stored(), "masked")}

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
    return pieces.finish()


@dataclass(frozen=True)
class _Inputs:
    """Features in memory, responses where they are."""

    model: Any
    x: NDArray[Any]
    samples: Samples
    y: xr.Variable
    labels: Labels
    dims: tuple[str, ...]
    x_test: NDArray[Any] | None = None
    samples_test: Samples | None = None
    y_test: xr.Variable | None = None
    dims_test: tuple[str, ...] = ()

    @classmethod
    def of(cls, estimator: Any, X: Any, y: Any, groups: ArrayLike | None, test: tuple[Any, Any] | None) -> _Inputs:
        _refuse_joint(estimator)
        model = clone(estimator)
        model._check_choices()
        x, samples = model._open_x(X, fitting=True)
        variable, along, labels = _responses(model, X, y, samples.n)
        samples = (
            replace(samples, coords={**along.coords, **samples.coords}) if isinstance(X, xr.DataArray) else samples
        )
        if samples.n < 2:
            raise SchemaError("Too few samples.", expected="at least 2", got=f"n_samples={samples.n}")
        inputs = cls(model, x, samples, variable, labels, (str(along.dim), *labels.dims))
        return inputs if test is None else inputs._with_test(*test)

    def _with_test(self, X: Any, y: Any) -> _Inputs:
        x, samples = self.model._open_x(X, fitting=False)
        turned = self.labels.arrange(y) if isinstance(y, xr.DataArray) else y
        variable, along, labels = _responses(self.model, X, turned, samples.n)
        variable = y.variable if isinstance(y, xr.DataArray) else variable  # read as it lies
        self.labels.check_same(labels, "The targets of the held-out y")
        dims = (str(along.dim), *labels.dims)
        return replace(self, x_test=x, samples_test=samples, y_test=variable, dims_test=dims)

    @property
    def dtype(self) -> str:
        """Of products with targets."""
        single = self.x.dtype == np.float32 and self.y.dtype.kind == "f" and self.y.dtype.itemsize == 4
        return "float32" if single else "float64"

    def plan(self, groups: ArrayLike | None) -> Any:
        return self.model._plan_chunks(self.x, self.samples, groups, self.dtype)

    def key(self, shape: tuple[int, ...], groups: ArrayLike | None) -> str:
        """Content key of all but the responses, whose blocks are compared one by one."""
        features, targets = (
            [list(labels.dims), list(labels.shape), {name: [list(d), v] for name, (d, v) in labels.coords.items()}]
            for labels in (self.model.feature_labels_, self.labels)
        )
        return storage.step_key(
            f"fit_to_store {type(self.model).__name__}",
            {name: _plain(value) for name, value in self.model.get_params(deep=False).items()},
            [self.x, self.samples.coords, self.samples.sfreq, features],
            [str(self.y.dtype.newbyteorder("=")), targets, list(shape)],
            [self.x_test, None if self.samples_test is None else self.samples_test.coords],
            None if groups is None else np.asarray(groups),
            version=VERSION,
        )

    def block(self, k: int, pieces: parts.Pieces) -> Block:
        region = dict(zip(self.labels.dims, pieces.region(k), strict=True))
        return Block(k, self.y.isel(region), None if self.y_test is None else self.y_test.isel(region))

    def job(self, empty: Any, plan: Any, pieces: parts.Pieces) -> Job:
        return Job(empty, plan, pieces, self.dims, self.dims_test, self.x_test, self.samples_test)

    def empty(self, plan: Any) -> Any:
        """The model, fitted for no target: what it learned from the features. A fit to noise tells the shapes."""
        noise = np.random.default_rng(0).standard_normal((self.samples.n, 1)).astype(self.dtype)
        fitted = plan.fit(self.model, noise)
        for attribute, _ in fitted._stored().values():
            setattr(fitted, attribute, getattr(fitted, attribute)[..., :0])
        coords = {name: (dims, v[tuple(slice(0) for _ in dims)]) for name, (dims, v) in self.labels.coords.items()}
        fitted.target_labels_ = replace(self.labels, shape=(0,) * len(self.labels.dims), coords=coords)
        fitted.masked_targets_ = np.zeros(0, bool)
        return fitted

    def stored_dims(self, empty: Any) -> tuple[str, ...]:
        return tuple(_stored_name(dim, empty) for dim in self.labels.dims)

    def template(self, empty: Any) -> xr.Dataset:
        """The store without its values, which take no memory."""
        dims = self.stored_dims(empty)
        coords: dict[str, Any] = {}
        for name, (along, values) in self.labels.coords.items():
            coords[_stored_name(name, empty)] = (tuple(_stored_name(dim, empty) for dim in along), values)
        data: dict[str, Any] = {"masked": _hollow(dims, self.labels.shape, bool)}
        for name, (attribute, labels) in empty._stored().items():
            dtype = getattr(empty, attribute).dtype
            data[name] = _hollow((*labels.dims, *dims), (*labels.shape, *self.labels.shape), dtype)
            coords |= labels.coords
        if self.y_test is not None:
            data["score"] = _hollow(dims, self.labels.shape, np.float64)
        for name, unit in (("alphas", "a.u."), ("cv_scores", "1"), ("score", "1")):
            if name in data:
                data[name] = (*data[name], {"units": unit})
        scorer = self.model.scorer if isinstance(self.model.scorer, str) else _plain(self.model.scorer)
        attrs = {"estimator": type(self.model).__name__, "scorer": scorer, **self.labels.attrs}
        return stamp(xr.Dataset(data, coords, attrs), "fit_to_store", estimator=attrs["estimator"])


def _refuse_joint(estimator: Any) -> None:
    """Refuse a model that learns something of all targets together."""
    if not isinstance(estimator, LinearModel):
        fix, known = None, False
    else:
        more = {n for n in estimator._state_names if n.startswith("solution_")} - estimator._block_state
        known, fix = estimator.separable_targets and not more, None if more else "alpha_per_target=True"
    if not known:
        raise ConfigError(
            "This model cannot be fitted block by block.",
            expected="a linear model of neuroalign that learns each target on its own, such as RidgeEncoder",
            got=estimator,
            fix=fix,
        )


def _responses(model: Any, X: Any, y: Any, n: int) -> tuple[xr.Variable, Samples, Labels]:
    """Responses with their labels, unread."""
    model._check_labels(isinstance(X, xr.DataArray), isinstance(y, xr.DataArray))
    if not isinstance(y, xr.DataArray):
        shape = np.shape(y)
        y = xr.DataArray(y, dims=("sample", *Labels.plain(shape[1:]).dims)) if shape else xr.DataArray(y)
    elif isinstance(X, xr.DataArray):
        check_same_samples(X, y)
    if y.ndim < 2:
        raise SchemaError(
            "There is only one target.", expected="a dimension of targets", got=y.dims, fix="use fit(X, y)"
        )
    if y.dtype.kind not in "fiub":
        raise SchemaError("Values must be real numbers.", expected="float or int", got=y.dtype, where="y")
    samples, labels = read_labels(y)
    if samples.n != n or not labels.size:
        raise SchemaError("X and y do not fit together.", expected=f"{n} samples and at least one target", got=y.sizes)
    return y.variable, samples, labels


def _block_size(inputs: _Inputs, chunk: int | None) -> int:
    if chunk is not None:
        if isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < 1:
            raise ConfigError("chunk is a number of targets.", expected="an integer >= 1", got=chunk, where="chunk")
        return int(chunk)
    n = inputs.samples.n + (0 if inputs.x_test is None else len(inputs.x_test)) + inputs.x.shape[1]
    fits = BLOCK_BYTES // (np.dtype(inputs.dtype).itemsize * n)
    size = min(fits, -(-inputs.labels.size // LEAST_BLOCKS))
    size = max(TILE, size // TILE * TILE)
    stored = _stored_block(inputs.y, inputs.labels.dims[-1])
    if stored is not None and stored % TILE == 0 and stored <= 2 * size:  # so that no file is read twice
        size = max(1, size // stored) * stored
    return int(size)


def _stored_block(y: xr.Variable, dim: str) -> int | None:
    """How many targets are stored together."""
    if y.chunks is not None:
        return int(y.chunks[y.dims.index(dim)][0])
    length = y.encoding.get("preferred_chunks", {}).get(dim)
    return None if length is None else int(length)


def _plain(value: Any) -> Any:
    """A parameter as something that has a content key."""
    try:
        storage.content_key(value)
    except ConfigError:
        name = getattr(value, "__qualname__", None)
        return repr(value) if name is None else f"{value.__module__}.{name}"
    return value


def _stored_name(name: str, empty: Any) -> str:
    """Name of a dimension or coordinate of targets in a store: not one that the features have."""
    taken = {n for _, labels in empty._stored().values() for n in (*labels.dims, *labels.coords)}
    return f"{name}_out" if name in taken else name


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


def _hollow(dims: Sequence[str], shape: Sequence[int], dtype: Any) -> tuple[Any, ...]:
    return tuple(dims), np.broadcast_to(np.zeros((), dtype), tuple(shape))


def _predictions(labels: Labels, samples: Samples, dtype: Any) -> xr.Dataset:
    dim = samples.dim or "sample"
    coords: dict[str, Any] = {n: ((dim,), v) for n, v in samples.coords.items() if n not in labels.dims}
    data = {"prediction": _hollow((dim, *labels.dims), (samples.n, *labels.shape), dtype)}
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


def _check_inputs(inputs: _Inputs, pieces: parts.Pieces, notes: Mapping[int, Any]) -> None:
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
