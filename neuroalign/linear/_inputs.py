"""What a fit to a store is given: features in memory, responses where they are, and what its result is made from."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from neuroalign import storage
from neuroalign._version import __version__
from neuroalign.align import check_same_samples
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.linear._chunked import TILE, Block, Job, Place, scores_name
from neuroalign.linear._ridge import LinearModel
from neuroalign.protocol import Labels, Samples, read_labels
from neuroalign.schema import stamp
from neuroalign.storage import pieces as parts

VERSION = 2
BLOCK_BYTES = 64 << 20  # responses and weights of a block
LEAST_BLOCKS = 16  # so that there is something to share out
_SCORES = 300  # numbers a target, about, that are kept of its scores where targets choose together
_SHOWN = 60  # characters of a parameter in a message


@dataclass(frozen=True)
class Inputs:
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
    def of(cls, estimator: Any, X: Any, y: Any, groups: ArrayLike | None, test: tuple[Any, Any] | None) -> Inputs:
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

    def _with_test(self, X: Any, y: Any) -> Inputs:
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

    def made_from(self, shape: tuple[int, ...], groups: ArrayLike | None) -> dict[str, tuple[str, str]]:
        """What the result depends on but for the responses, whose blocks are compared one by one.

        Each part has a name, a content key and, where it is short, a text for messages.
        """
        samples, labels = self.samples, self.labels
        parameters = {name: _plain(value) for name, value in self.model.get_params(deep=False).items()}
        named = {
            "estimator": type(self.model).__name__,
            **parameters,
            "chunk": list(shape),
            "type of y": str(self.y.dtype.newbyteorder("=")),
            "number of targets": list(labels.shape),
            "neuroalign": f"{__version__}, format {VERSION}",
        }
        large = {
            "X": self.x,
            "labels of X": [samples.coords, samples.sfreq, _content(self.model.feature_labels_)],
            "labels of y": _content(labels),
            "held-out X": [self.x_test, None if self.samples_test is None else self.samples_test.coords],
            "groups": None if groups is None else np.asarray(groups),
        }
        told = {name: (storage.content_key(value), _short(value)) for name, value in named.items()}
        return told | {name: (storage.content_key(value), "") for name, value in large.items()}

    def block(self, k: int, pieces: parts.Pieces) -> Block:
        region = dict(zip(self.labels.dims, pieces.region(k), strict=True))
        y_test = None if self.y_test is None else self.y_test.isel(region)
        return Block(k, pieces.first(k), self.labels.size, self.y.isel(region), y_test)

    def job(self, empty: Any, plan: Any, pieces: parts.Pieces) -> Job:
        leading = plan.leading if plan is not None else ()
        return Job(empty, plan, pieces, self.dims, self.dims_test, self.x_test, self.samples_test, leading)

    def empty(self, plan: Any) -> Any:
        """The model, fitted for no target: what it learned from the features. A fit to noise tells the shapes."""
        noise = np.random.default_rng(0).standard_normal((self.samples.n, 1)).astype(self.dtype)
        fitted = plan.fit(self.model, noise, Place(np.ones(1, bool), 0, 1))
        for attribute, _ in fitted._stored().values():
            setattr(fitted, attribute, getattr(fitted, attribute)[..., :0])
        coords = {name: (dims, v[tuple(slice(0) for _ in dims)]) for name, (dims, v) in self.labels.coords.items()}
        fitted.target_labels_ = replace(self.labels, shape=(0,) * len(self.labels.dims), coords=coords)
        fitted.masked_targets_ = np.zeros(0, bool)
        return fitted

    def stored_dims(self, empty: Any) -> tuple[str, ...]:
        return tuple(_stored_name(dim, empty) for dim in self.labels.dims)

    def template(self, empty: Any, plan: Any) -> xr.Dataset:
        """The store without its values, which take no memory."""
        dims = self.stored_dims(empty)
        coords: dict[str, Any] = {}
        for name, (along, values) in self.labels.coords.items():
            coords[_stored_name(name, empty)] = (tuple(_stored_name(dim, empty) for dim in along), values)
        data: dict[str, Any] = {"masked": hollow(dims, self.labels.shape, bool)}
        for name, (attribute, labels) in empty._stored().items():
            dtype = getattr(empty, attribute).dtype
            data[name] = hollow((*labels.dims, *dims), (*labels.shape, *self.labels.shape), dtype)
            coords |= labels.coords
        if self.y_test is not None:
            data["score"] = hollow(dims, self.labels.shape, np.float64)
        if plan.leading:
            taken = {*coords, *dims, *_taken(empty)}
            front = [_unused(name, taken) for name in ("fold", "alpha")[-len(plan.leading) :]]
            name = scores_name(plan.leading)
            data[name] = hollow((*front, *dims), (*plan.leading, *self.labels.shape), np.float64)
            coords[front[-1]] = ((front[-1],), plan.grid)
        for name in ("alphas", "cv_scores", "score", "scores", "fold_scores"):
            if name in data:
                data[name] = (*data[name], {"units": "a.u." if name == "alphas" else "1"})
        attrs = {"estimator": type(self.model).__name__, "scorer": scorer_name(self.model.scorer), **self.labels.attrs}
        return stamp(xr.Dataset(data, coords, attrs), "fit_to_store", estimator=attrs["estimator"])


def scorer_name(scorer: Any) -> str:
    """Name of a scorer, or of the function that it is."""
    if isinstance(scorer, str):
        return scorer
    inner = scorer.func if isinstance(scorer, functools.partial) else scorer
    known = getattr(inner, "__qualname__", None)
    return f"{inner.__module__}.{known}" if known else repr(scorer)


def _refuse_joint(estimator: Any) -> None:
    """Refuse a model that learns of all targets together what no second pass can find out."""
    expected = "RidgeEncoder, RidgeDecoder, BandedRidgeEncoder, TRFEncoder, or a model like them"
    if not isinstance(estimator, LinearModel):
        raise ConfigError("This model cannot be fitted block by block.", expected=expected, got=estimator)
    joint = {name for name in estimator._state_names if name.startswith("solution_")} - estimator._block_state
    if joint:
        names = sorted(name.removeprefix("solution_").rstrip("_") for name in joint)
        raise ConfigError(
            f"This model cannot be fitted block by block: {' and '.join(names)} are learned from all targets together.",
            expected=expected,
            got=estimator,
            fix="fit it in memory, on as many targets at a time as fit",
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


def block_size(inputs: Inputs, chunk: int | None) -> int:
    """Targets a block: as asked, or what takes about `BLOCK_BYTES`."""
    if chunk is not None:
        if isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < 1:
            raise ConfigError("chunk is a number of targets.", expected="an integer >= 1", got=chunk, where="chunk")
        return int(chunk)
    n = inputs.samples.n + (0 if inputs.x_test is None else len(inputs.x_test)) + inputs.x.shape[1]
    n += 0 if inputs.model.alpha_per_target is True else _SCORES
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
    """A parameter as something that has a content key; functions by their name and what they do."""
    try:
        storage.content_key(value)
    except ConfigError:
        pass
    else:
        return value
    if isinstance(value, functools.partial):
        return ["partial", _plain(value.func), [_plain(a) for a in value.args], _plain_all(value.keywords)]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, _plain_all({part.name: getattr(value, part.name) for part in fields(value)})]
    code = getattr(value, "__code__", None)
    if code is None:
        return repr(value)
    cells = [_plain(cell.cell_contents) for cell in value.__closure__ or ()]
    inside = hashlib.sha256(repr([_code(code), cells, value.__defaults__, value.__kwdefaults__]).encode()).hexdigest()
    return f"{scorer_name(value)} ({inside[:8]})"


def _plain_all(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items()}


def _code(code: Any) -> list[Any]:
    """What a function does, without where it is written."""
    constants = [_code(c) if hasattr(c, "co_code") else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]


def _content(labels: Labels) -> list[Any]:
    return [list(labels.dims), list(labels.shape), {name: [list(d), v] for name, (d, v) in labels.coords.items()}]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN and "\n" not in text else ""


def _taken(empty: Any) -> set[str]:
    """Names of the dimensions and coordinates of all but the targets."""
    return {name for _, labels in empty._stored().values() for name in (*labels.dims, *labels.coords)}


def _unused(name: str, taken: set[str]) -> str:
    return name if name not in taken else _unused(f"{name}_cv", taken)


def _stored_name(name: str, empty: Any) -> str:
    """Name of a dimension or coordinate of targets in a store: not one that the features have."""
    return f"{name}_out" if name in _taken(empty) else name


def hollow(dims: Sequence[str], shape: Sequence[int], dtype: Any) -> tuple[Any, ...]:
    """A variable of zeros that takes no memory."""
    return tuple(dims), np.broadcast_to(np.zeros((), dtype), tuple(shape))
