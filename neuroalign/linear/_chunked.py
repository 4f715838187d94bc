"""Targets in blocks: what all blocks share, how one is read, and how it is fitted."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError, gather_warnings
from neuroalign.metrics import get_scorer
from neuroalign.protocol import Samples
from neuroalign.solvers import RidgeCVResult, RidgePlan, ridge_chunk, ridge_refit, ridge_scores
from neuroalign.solvers.banded import KeptPaths
from neuroalign.solvers.chunked import Choice, choose_together, edge_fractions, mean_over_folds
from neuroalign.storage.pieces import Pieces, digest

TILE = 256  # what solvers take at a time


@dataclass(frozen=True)
class Place:
    """Where the targets of a block lie among all.

    Products of matrices round a column by its place among the others. So targets are put where they lie in the tiles
    of all targets, whatever the block, and the places of others are filled with copies of one of them.

    Attributes
    ----------
    known : ndarray of bool, shape (t,)
        Targets of the block that are to be fitted, at least one.
    first, total : int
        Position of its first target among all, and their number.
    """

    known: NDArray[np.bool_]
    first: int
    total: int

    @property
    def columns(self) -> NDArray[np.intp]:
        """Where the known targets are in what `fill` gives."""
        return self.first % TILE + np.flatnonzero(self.known)

    def fill(self, Y: NDArray[Any]) -> NDArray[Any]:
        """Put the targets (n, t) of the block into whole tiles (n, width); the last tile of all may be narrower."""
        before = self.first % TILE
        width = min(-(-(before + self.known.size) // TILE) * TILE, self.total - self.first + before)
        if width == self.known.size and self.known.all():
            return Y
        at = np.flatnonzero(self.known)
        source = np.full(width, at[0])
        source[before + at] = at
        return np.take(Y, source, axis=1)


@dataclass(frozen=True)
class WholeFit:
    """The plan of a model that starts from its features for every block."""

    X: NDArray[Any]
    samples: Samples
    groups: ArrayLike | None
    together: ClassVar[bool] = False
    leading: ClassVar[tuple[int, ...]] = ()
    later: ClassVar[tuple[str, ...]] = ()

    def fit(self, model: Any, Y: NDArray[Any], place: Place) -> Any:
        """Give a copy of the model with a solution for the known ones of these targets."""
        fitted = copy.copy(model)
        fitted.masked_targets_ = np.zeros(int(place.known.sum()), bool)
        with gather_warnings():  # the store warns once for all blocks
            fitted._fit(self.X, np.ascontiguousarray(Y[:, place.known]), self.samples, self.groups)
        return fitted


@dataclass(frozen=True)
class BandedChunks(WholeFit):
    """The plan of a banded model: each worker decomposes its features once for every band weight, where that fits.

    Attributes
    ----------
    kept : KeptPaths
        The decompositions.
    """

    kept: KeptPaths = field(default_factory=KeptPaths, init=False, compare=False, repr=False)

    def fit(self, model: Any, Y: NDArray[Any], place: Place) -> Any:
        """Give a copy of the model with a solution for the known ones of these targets."""
        given, filled, at = copy.copy(model), place.fill(Y), place.columns
        given._kept = self.kept
        fitted = super().fit(given, filled, Place(np.ones(filled.shape[1], bool), 0, filled.shape[1]))
        del fitted._kept
        for attribute, _ in fitted._stored().values():
            setattr(fitted, attribute, getattr(fitted, attribute)[..., at])
        grid = self.kept.grid
        edges = edge_fractions(np.clip(fitted.solution_alphas_, grid.min(), grid.max()), grid)
        fitted.alpha_edges_ = [float(share) for share in edges]
        return fitted


@dataclass(frozen=True)
class RidgeChunks:
    """The plan of a ridge model: the eigenbases are computed once.

    Attributes
    ----------
    plan : RidgePlan
        Eigenbases.
    shared : {None, False, "pooled"}
        How targets choose their penalties together, see `ridge_cv`; None where each chooses its own.
    choice : Choice, optional
        What they chose, once all scores are known.
    """

    plan: RidgePlan
    shared: bool | str | None = None
    choice: Choice | None = None
    later: ClassVar[tuple[str, ...]] = ()  # results of `finish`

    @property
    def together(self) -> bool:
        """Whether all scores have to be known before a target can be fitted."""
        return self.shared is not None

    @property
    def leading(self) -> tuple[int, ...]:
        """Shape of what is kept of these scores for a target: (n_alphas,), or (n_folds, n_alphas) to pool them."""
        n_alphas = self.plan.alphas.size
        return {None: (), False: (n_alphas,)}.get(self.shared, (len(self.plan.plan.folds), n_alphas))  # type: ignore[arg-type]

    @property
    def grid(self) -> NDArray[np.float64]:
        """The penalties."""
        return self.plan.alphas

    def fit(self, model: Any, Y: NDArray[Any], place: Place) -> Any:
        """Give a copy of the model with a solution for the known ones of these targets."""
        result, at = ridge_chunk(self.plan, place.fill(Y)), place.columns
        alphas = result.alphas[at]
        found = replace(
            result,
            coef=result.coef[:, at],
            intercept=result.intercept[at],
            alphas=alphas,
            scores=result.scores[:, at],
            cv_scores=result.cv_scores[at],
            edge=edge_fractions(alphas, self.plan.alphas),
        )
        return self._kept(model, Y[:, place.known], found)

    def score(self, Y: NDArray[Any], place: Place) -> NDArray[np.float64]:
        """Scores of every penalty, (n_folds, n_alphas, t), NaN for targets that are not known; for `choose`."""
        found = ridge_scores(self.plan, place.fill(Y))[:, :, place.columns]
        if self.shared is False:
            found = mean_over_folds(found)[None]
        scores = np.full((*found.shape[:2], place.known.size), np.nan)
        scores[:, :, place.known] = found
        return scores

    def choose(self, blocks: Iterable[NDArray[np.float64]], n_targets: int) -> RidgeChunks:
        """Give the plan with the choice that follows from all scores."""
        pooled = self.shared == "pooled"
        return replace(self, choice=choose_together(blocks, self.plan.alphas, pooled=pooled, n_targets=n_targets))

    def refit(self, model: Any, Y: NDArray[Any], place: Place, scores: NDArray[np.float64]) -> Any:
        """Give a copy of the model with a solution for the known ones of these targets, whose scores are known."""
        if self.choice is None:
            raise RuntimeError("refit comes after choose")
        known = scores[:, :, place.known]
        alphas, cv_scores = self.choice.of(known)
        filled, at = place.fill(Y), place.columns
        penalties = np.ones(filled.shape[1])
        penalties[at] = alphas
        coef, intercept = ridge_refit(self.plan, filled, penalties)
        edge, mean = edge_fractions(alphas, self.plan.alphas), mean_over_folds(known)
        found = RidgeCVResult(coef[:, at], intercept[at], alphas, mean, cv_scores, edge, self.choice.amount)
        return self._kept(model, Y[:, place.known], found)

    def _kept(self, model: Any, Y: NDArray[Any], result: RidgeCVResult) -> Any:
        """A copy of the model with the solution of the targets (n, t)."""
        fitted = copy.copy(model)
        fitted._keep(result)
        return fitted


@dataclass(frozen=True)
class Block:
    """One block of targets, not read yet.

    Attributes
    ----------
    k : int
        Its number.
    first, total : int
        Position of its first target among all, and their number.
    y, y_test : Variable
        Responses of these targets, and held-out ones.
    """

    k: int
    first: int
    total: int
    y: xr.Variable
    y_test: xr.Variable | None = None


@dataclass(frozen=True)
class Job:
    """What all blocks share.

    Attributes
    ----------
    model : LinearModel
        Fitted, for no target.
    plan : object
        From ``_plan_chunks``.
    pieces : Pieces
        Where results go.
    dims : tuple of (str, tuple of str)
        Sample dimension and target dimensions of the responses, and of the held-out ones.
    x_test : ndarray, optional
        Held-out features.
    samples : Samples, optional
        Their labels.
    leading : tuple of int
        Shape of the scores of a first pass, without targets: (n_alphas,) or (n_folds, n_alphas).
    """

    model: Any
    plan: Any
    pieces: Pieces
    dims: tuple[str, ...]
    dims_test: tuple[str, ...] = ()
    x_test: NDArray[Any] | None = None
    samples: Samples | None = None
    leading: tuple[int, ...] = ()


def scores_name(leading: tuple[int, ...]) -> str:
    """Name of the scores of a first pass in the store: their mean over folds, or those of every fold."""
    return "scores" if len(leading) == 1 else "fold_scores"


def read_block(variable: xr.Variable, dims: tuple[str, ...]) -> NDArray[Any]:
    """Read responses of a block.

    Parameters
    ----------
    variable : Variable
        The responses, lazy.
    dims : tuple of str
        Sample dimension, then target dimensions.

    Returns
    -------
    ndarray of float32 or float64, shape (n_samples, n_targets)
        The values.
    """
    with _alone(variable):
        values = np.asarray(variable.values)
    dtype = np.float32 if values.dtype.kind == "f" and values.dtype.itemsize == 4 else np.float64
    values = np.transpose(values, [variable.dims.index(dim) for dim in dims])
    return np.ascontiguousarray(values.reshape(len(values), -1), dtype=dtype)


def _alone(variable: xr.Variable) -> Any:
    """Let dask compute in the calling thread: the workers are ours."""
    if variable.chunks is None:
        return nullcontext()
    import dask

    return dask.config.set(scheduler="synchronous")


def block_digest(block: Block, job: Job) -> str:
    """Sha256 of the responses of a block."""
    return _digest(block, job, read_block(block.y, job.dims))


def _digest(block: Block, job: Job, Y: NDArray[Any]) -> str:
    return digest(Y) if block.y_test is None else digest(Y, read_block(block.y_test, job.dims_test))


def score_block(block: Block, job: Job) -> None:
    """Read a block, score every penalty for it, and write the scores: the first pass where targets choose together."""
    Y, place = _read(block, job)
    note = {"inputs": _digest(block, job, Y)}
    if place.known.any():
        scores = job.plan.score(Y, place)
    else:
        scores = np.full((*job.leading, place.known.size), np.nan)
    _write(block, job, {scores_name(job.leading): scores.reshape(*job.leading, -1)}, note)


def fit_block(block: Block, job: Job) -> None:
    """Read a block, fit it, and write its piece of the store."""
    Y, place = _read(block, job)
    values, note = _solve(block, job, Y, place)
    if block.y_test is not None and job.x_test is not None:
        values["score"] = _score(job, values, read_block(block.y_test, job.dims_test), ~place.known)
    values["masked"] = ~place.known
    note["inputs"] = _digest(block, job, Y)
    _write(block, job, values, note)


def finish_block(block: Block, job: Job) -> None:
    """Write what follows from the weights of all targets, for one block."""
    _write(block, job, job.plan.finish(read_flat(job, block.k, "coef")), {})


def read_flat(job: Job, k: int, name: str) -> NDArray[Any]:
    """What a store holds of a block, targets along one dimension, (..., t)."""
    values = job.pieces.read(k, name)
    return values.reshape(*values.shape[: values.ndim - len(job.pieces.shape)], -1)


def _read(block: Block, job: Job) -> tuple[NDArray[Any], Place]:
    Y = read_block(block.y, job.dims)
    known = np.isfinite(Y).all(axis=0)
    if not known.all() and job.model.nan == "raise":
        raise SchemaError(
            f"{int((~known).sum())} of {known.size} targets hold NaN or Inf.",
            expected="finite responses",
            got="nan='raise'",
            fix="nan='mask' leaves them out",
        )
    return Y, Place(known, block.first, block.total)


def _write(block: Block, job: Job, values: Mapping[str, NDArray[Any]], note: Mapping[str, Any]) -> None:
    lengths = tuple(part.stop - part.start for part in job.pieces.region(block.k))
    stored = {name: part.reshape(*part.shape[:-1], *lengths) for name, part in values.items()}
    job.pieces.write(block.k, unfolded(job.model, stored, len(lengths)), note)


def _solve(block: Block, job: Job, Y: NDArray[Any], place: Place) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Fitted arrays (..., t) of a block, NaN for targets that are left out; and what there is to tell of it."""
    known, plan = place.known, job.plan
    note: dict[str, Any] = {
        "masked": int((~known).sum()),
        "flat": int(((Y[:1] == Y).all(axis=0) & known).sum()),
        "scored": 0,
        "edges": [0.0, 0.0],
    }
    fitted = job.model
    if known.any() and plan.together:
        scores = read_flat(job, block.k, scores_name(job.leading))
        fitted = plan.refit(job.model, Y, place, scores.reshape(-1, *scores.shape[-2:]))
    elif known.any():
        fitted = plan.fit(job.model, Y, place)
    values = {}
    for name, (attribute, _) in fitted._stored().items():
        if name in plan.later:
            continue
        values[name] = found = getattr(fitted, attribute)
        if not known.all():
            values[name] = np.full((*found.shape[:-1], known.size), np.nan, found.dtype)
            values[name][..., known] = found
    if known.any():
        note["scored"] = int(np.isfinite(fitted.solution_alphas_).sum())
        note["edges"] = [share * note["scored"] for share in fitted.alpha_edges_]
    return values, note


def _score(
    job: Job, values: Mapping[str, NDArray[Any]], observed: NDArray[Any], masked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Scores of held-out samples, (t,)."""
    scores = np.full(masked.size, np.nan)
    if not masked.all():
        fitted = with_solution(job.model, values, ~masked)
        predicted = fitted._predict(job.x_test, job.samples)
        scores[~masked] = get_scorer(job.model.scorer)(observed[:, ~masked], predicted)
    return scores


def with_solution(model: Any, values: Mapping[str, NDArray[Any]], known: NDArray[np.bool_]) -> Any:
    """A copy of a model with the solution of some targets.

    Parameters
    ----------
    model : LinearModel
        Fitted, for no target.
    values : mapping of str to ndarray
        Arrays of a store, targets last, (..., n_targets); those that are not needed may be left out.
    known : ndarray of bool, shape (n_targets,)
        Targets that have a solution.

    Returns
    -------
    LinearModel
        The copy.
    """
    fitted = copy.copy(model)
    for name, (attribute, _) in model._stored().items():
        if name not in values:
            continue
        lead = getattr(model, attribute).shape[:-1]
        part = np.asarray(values[name]).reshape(*lead, known.size)
        setattr(fitted, attribute, part if known.all() else part[..., known])
    return fitted


def unfolded(model: Any, values: Mapping[str, NDArray[Any]], n_targets: int) -> dict[str, NDArray[Any]]:
    """Give stacked features their dimensions back: (stacked, *targets) -> (*dims, *targets)."""
    labels = {name: label for name, (_, label) in model._stored().items()}
    return {
        name: part.reshape(*labels[name].shape, *part.shape[part.ndim - n_targets :]) if name in labels else part
        for name, part in values.items()
    }


def predict_block(item: tuple[int, dict[str, xr.Variable]], job: Job) -> None:
    """Predict a block of targets from the weights in a store, and write it."""
    k, stored = item
    values = {name: np.asarray(variable.values) for name, variable in stored.items()}
    masked = values["masked"].astype(bool).ravel()
    lengths = tuple(part.stop - part.start for part in job.pieces.region(k))
    fitted = with_solution(job.model, values, ~masked)
    known = fitted._predict(job.x_test, job.samples)
    full = np.full((len(known), masked.size), np.nan, known.dtype)
    full[:, ~masked] = known
    hashed = hashlib.sha256(b"".join(values[name].tobytes() for name in sorted(values))).hexdigest()
    job.pieces.write(k, {"prediction": full.reshape(len(full), *lengths)}, {"inputs": hashed})
