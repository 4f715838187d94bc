"""The few array operations in which numpy and torch differ. The backend follows the input; torch is never imported."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import SchemaError

_ALL_ROUNDING = 16.0  # roundings of what a matrix was made from, up to which it is nothing else

Array = Any  # numpy.ndarray or torch.Tensor
Index = NDArray[np.intp] | slice


def is_torch(values: object) -> bool:
    """Whether `values` is a torch tensor; told from the name of its type, so torch need not be there."""
    return type(values).__module__.partition(".")[0] == "torch"


def namespace(*arrays: object) -> ModuleType:
    """Give torch if any of the arrays is a tensor, else numpy."""
    return sys.modules["torch"] if any(is_torch(array) for array in arrays) else np


def matrix(values: object, name: str, like: object = None, *, finite: bool = False) -> Array:
    """Bring a table of numbers to a 2-D float array of the backend of `like` (default: its own).

    float16, bfloat16 and float32 become float32, all else float64. `finite` refuses NaN and infinity.
    """
    array = _float(values, name, like if is_torch(like) else values)
    if array.ndim != 2 or 0 in array.shape:
        raise SchemaError(
            f"{name} must be a table with at least one row and column.",
            expected="shape (n_samples, n_columns)",
            got=tuple(array.shape),
            where=name,
            fix=f"pass {name}[:, None] for a single column" if array.ndim == 1 else None,
        )
    if finite and not bool(namespace(array).isfinite(array.sum())) and not bool(namespace(array).isfinite(array).all()):
        bad = to_numpy(~namespace(array).isfinite(array)).any(axis=0)
        raise SchemaError(
            f"{name} holds NaN or infinity.",
            expected="finite values",
            got=f"{int(bad.sum())} of {bad.size} columns with such values, the first is {int(bad.argmax())}",
            where=name,
            fix="drop or impute these samples or features first",
        )
    return array


def _float(values: object, name: str, like: object) -> Array:
    if is_torch(values):
        torch = namespace(values)
        tensor = torch.as_tensor(values, device=like.device).detach()  # type: ignore[attr-defined]
        if tensor.is_complex():
            raise SchemaError("Complex values have no ridge solution here.", where=name, fix="pass real features")
        small = tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)
        return tensor.to(torch.float32 if small else torch.float64)
    if np.ma.is_masked(values):
        raise SchemaError(
            "Masked values would be taken for data.",
            expected="missing values as NaN",
            got=type(values).__name__,
            where=name,
            fix=f"{name}.astype(float).filled(np.nan)",
        )
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise SchemaError("Values must be real numbers.", expected="float or int", got=array.dtype, where=name)
    array = array.astype(np.float32 if array.dtype in (np.float32, np.float16) else np.float64, copy=False)
    # Tensors share no memory that is read-only, or that runs backwards.
    return from_numpy(np.require(array, requirements=["C", "W"]), like) if is_torch(like) else array


def cast(array: Array, dtype: str) -> Array:
    """Convert to ``"float32"`` or ``"float64"``; no copy when it is that already."""
    if is_torch(array):
        return array.to(getattr(namespace(array), dtype))
    return array.astype(dtype, copy=False)


def dtype_name(*arrays: Array) -> str:
    """``"float32"`` if all are, else ``"float64"``."""
    return "float32" if all(str(array.dtype).endswith("float32") for array in arrays) else "float64"


def from_numpy(values: NDArray[Any], like: Array) -> Array:
    """Bring a numpy array to the backend and device of `like`."""
    return namespace(like).as_tensor(values, device=like.device) if is_torch(like) else values


def to_numpy(values: Array) -> NDArray[Any]:
    """Bring an array to numpy."""
    return values.detach().cpu().numpy() if is_torch(values) else np.asarray(values)


def zeros(shape: tuple[int, ...], dtype: str, like: Array) -> Array:
    """Zeros of the backend and device of `like`."""
    xp = namespace(like)
    return xp.zeros(shape, dtype=getattr(xp, dtype), device=like.device) if is_torch(like) else xp.zeros(shape, dtype)


def contiguous(array: Array) -> Array:
    """The same values in row order."""
    return array.contiguous() if is_torch(array) else np.ascontiguousarray(array)


class Buffers:
    """Scratch arrays that are used again, so that large temporaries are not mapped and cleared a thousand times."""

    def __init__(self) -> None:
        self._flat: dict[str, Array] = {}

    def get(self, name: str, shape: tuple[int, ...], like: Array) -> Array:
        """An uninitialised array; what an earlier call of the same name gave is overwritten."""
        size = int(np.prod(shape))
        if name not in self._flat or self._flat[name].shape[0] < size:
            self._flat[name] = zeros((size,), dtype_name(like), like)
        return self._flat[name][:size].reshape(shape)


def as_slice(index: NDArray[np.intp]) -> Index:
    """Turn consecutive indices into a slice, which gives a view instead of a copy."""
    if index.size and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def take(array: Array, index: Index) -> Array:
    """Rows of a matrix."""
    if isinstance(index, slice) or not is_torch(array):
        return array[index]
    return array[namespace(array).as_tensor(index, device=array.device)]


def extremes(array: Array) -> tuple[Array, Array]:
    """Smallest and largest value of each column; NaN where the column holds one."""
    if is_torch(array):
        return array.amin(dim=0), array.amax(dim=0)
    return array.min(axis=0), array.max(axis=0)


def column_mean(array: Array) -> Array:
    """Column means of centred values, as float64; fast, with the rounding of the dtype of the array."""
    xp, n = namespace(array), array.shape[0]
    weights = xp.full((n,), 1.0 / n, dtype=array.dtype, **({"device": array.device} if is_torch(array) else {}))
    return cast(weights @ array, "float64")


def mean64(array: Array) -> Array:
    """Column means, accumulated in float64."""
    return array.mean(axis=0, dtype=namespace(array).float64)


def sum64(array: Array) -> Array:
    """Column sums, accumulated in float64."""
    return array.sum(axis=0, dtype=namespace(array).float64)


def column_dot(a: Array, b: Array) -> Array:
    """Dot product of each column of `a` with the same column of `b`, as float64."""
    return cast(namespace(a).einsum("ij,ij->j", a, b), "float64")


def eigh(gram: Array, size: float = 0.0) -> tuple[Array, Array]:
    """Eigenvalues (k,) and vectors (d, k) of a positive semi-definite float64 matrix, without its null space.

    Directions below the rounding error of the matrix carry noise only and are dropped, so that a duplicated or
    constant feature never gets a weight made of rounding. `size` is what the matrix was made from by differences, such
    as the largest sum of squares of all rows, if that is larger than what is left: where no feature varies in the
    training rows, the matrix is nothing but rounding.
    """
    values, vectors = namespace(gram).linalg.eigh(gram)
    if values.shape[0] == 0:
        return values, vectors
    largest, rounding = float(values[-1]), np.finfo(np.float64).eps * max(10, gram.shape[0])
    floor = max(largest, size) * rounding
    if largest <= _ALL_ROUNDING * size * rounding:  # of sums over many rows
        floor = largest
    keep = int((values <= max(floor, 0.0)).sum())
    return values[keep:], vectors[:, keep:]
