"""Targets in blocks: what all blocks share, how one is read, and how it is fitted."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError, gather_warnings
from neuroalign.metrics import get_scorer
from neuroalign.protocol import Samples
from neuroalign.solvers import RidgePlan, ridge_chunk
from neuroalign.storage.pieces import Pieces, digest


@dataclass(frozen=True)
class WholeFit:
    """The plan of a model that starts from its features for every block."""

    X: NDArray[Any]
    samples: Samples
    groups: ArrayLike | None

    def fit(self, model: Any, Y: NDArray[Any]) -> Any:
        """Give a copy of the model with a solution for these targets."""
        fitted = copy.copy(model)
        with gather_warnings():  # the store warns once for all blocks
            fitted._fit(self.X, Y, self.samples, self.groups)
        return fitted


@dataclass(frozen=True)
class RidgeChunks:
    """The plan of a ridge model: the eigenbases are computed once."""

    plan: RidgePlan

    def fit(self, model: Any, Y: NDArray[Any]) -> Any:
        """Give a copy of the model with a solution for these targets."""
        fitted = copy.copy(model)
        fitted._keep(ridge_chunk(self.plan, Y))
        return fitted


@dataclass(frozen=True)
class Block:
    """One block of targets, not read yet.

    Attributes
    ----------
    k : int
        Its number.
    y, y_test : Variable
        Responses of these targets, and held-out ones.
    """

    k: int
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
    """

    model: Any
    plan: Any
    pieces: Pieces
    dims: tuple[str, ...]
    dims_test: tuple[str, ...] = ()
    x_test: NDArray[Any] | None = None
    samples: Samples | None = None


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
    parts = [read_block(block.y, job.dims)]
    if block.y_test is not None:
        parts.append(read_block(block.y_test, job.dims_test))
    return digest(*parts)


def fit_block(block: Block, job: Job) -> None:
    """Read a block, fit it, and write its piece of the store."""
    Y = read_block(block.y, job.dims)
    masked = ~np.isfinite(Y).all(axis=0)
    if masked.any() and job.model.nan == "raise":
        raise SchemaError(
            f"{int(masked.sum())} of {masked.size} targets hold NaN or Inf.",
            expected="finite responses",
            got="nan='raise'",
            fix="nan='mask' leaves them out",
        )
    arrays = [Y]
    values, note = _solve(job, Y, masked)
    if block.y_test is not None and job.x_test is not None:
        observed = read_block(block.y_test, job.dims_test)
        arrays.append(observed)
        values["score"] = _score(job, values, observed, masked)
    values["masked"] = masked
    note["inputs"] = digest(*arrays)
    lengths = tuple(part.stop - part.start for part in job.pieces.region(block.k))
    stored = {name: part.reshape(*part.shape[:-1], *lengths) for name, part in values.items()}
    job.pieces.write(block.k, unfolded(job.model, stored, len(lengths)), note)


def _solve(job: Job, Y: NDArray[Any], masked: NDArray[np.bool_]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Fitted arrays (..., t) of a block, NaN for targets that are left out; and what there is to tell of it."""
    note: dict[str, Any] = {
        "masked": int(masked.sum()),
        "flat": int(((Y[:1] == Y).all(axis=0) & ~masked).sum()),
        "scored": 0,
        "edges": [0.0, 0.0],
    }
    fitted = job.model if masked.all() else job.plan.fit(job.model, Y if not masked.any() else Y[:, ~masked])
    values = {}
    for name, (attribute, _) in fitted._stored().items():
        known = getattr(fitted, attribute)
        values[name] = known
        if masked.any():
            values[name] = np.full((*known.shape[:-1], masked.size), np.nan, known.dtype)
            values[name][..., ~masked] = known
    if not masked.all():
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
        Arrays of a store, targets last, (..., n_targets).
    known : ndarray of bool, shape (n_targets,)
        Targets that have a solution.

    Returns
    -------
    LinearModel
        The copy.
    """
    fitted = copy.copy(model)
    for name, (attribute, _) in model._stored().items():
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
