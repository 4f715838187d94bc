"""Give one large value to many tasks: written once, mapped by every worker instead of sent with every task."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mapped", "received", "share"]

_LARGE = 1 << 16  # bytes: smaller arrays travel with the tasks
_ALIGNED = 64
_attached: dict[str, Any] = {}  # the value that this worker mapped last


@dataclass(frozen=True)
class _Place:
    """Where the numbers of an array lie in the file."""

    offset: int
    dtype: str
    shape: tuple[int, ...]
    order: str


@dataclass(frozen=True)
class Mapped:
    """A value whose large arrays lie in a file of plain numbers.

    Attributes
    ----------
    path : str
        The file. It holds nothing but numbers; what they belong to travels with the task.
    skeleton : object
        The value, with places instead of large arrays.
    token : str
        Tells one value from the next.
    """

    path: str
    skeleton: Any
    token: str


@contextmanager
def share(value: Any, executor: Executor, folder: str | os.PathLike[str] | None = None) -> Iterator[Any]:
    """Prepare a value for being an argument of many tasks.

    Parameters
    ----------
    value : object
        Arrays, or dataclasses, lists, tuples and dicts that hold them. Other objects travel as they are.
    executor : concurrent.futures.Executor
        Where the tasks run.
    folder : path-like, optional
        Where the file of a `WorkerPool` goes; by default the folder of temporary files.

    Yields
    ------
    object
        What to pass to the tasks, which turn it into the value by `received`. Workers of this machine map the same
        read-only pages, so that memory is used once; a dask cluster gets one copy a worker.
    """
    from neuroalign.compute.executor import WorkerPool

    client = getattr(executor, "_client", None)  # of distributed's ClientExecutor
    if client is not None and hasattr(client, "scatter"):
        yield client.scatter([value], broadcast=True, hash=False)[0]
        return
    if not isinstance(executor, WorkerPool):
        yield value
        return
    descriptor, name = tempfile.mkstemp(prefix=".shared.", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            skeleton = _walk(value, np.ndarray, lambda array: _put(file, array))
        yield Mapped(name, skeleton, uuid.uuid4().hex)
    finally:
        Path(name).unlink(missing_ok=True)


def received(handle: Any) -> Any:
    """Give the value that was shared; called inside of a task.

    Parameters
    ----------
    handle : object
        What `share` gave.

    Returns
    -------
    object
        The value; its large arrays are read-only.
    """
    if not isinstance(handle, Mapped):
        return handle
    if handle.token not in _attached:
        _attached.clear()
        _attached[handle.token] = _walk(handle.skeleton, _Place, lambda place: _map(handle.path, place))
    return _attached[handle.token]


def _walk(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Change every part of one kind, however deep."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: _walk(part, kind, change) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_walk(part, kind, change) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field.name for field in dataclasses.fields(value) if field.init)
        return dataclasses.replace(value, **{name: _walk(getattr(value, name), kind, change) for name in fields})
    return value


def _put(file: BinaryIO, array: NDArray[Any]) -> _Place | NDArray[Any]:
    if array.nbytes < _LARGE or array.dtype.hasobject:
        return array
    # The memory order stays: products in another order round otherwise.
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    file.write(b"\0" * (-file.tell() % _ALIGNED))
    place = _Place(file.tell(), array.dtype.str, array.shape, order)
    file.write(np.ascontiguousarray(array.T if order == "F" else array).data)
    return place


def _map(path: str, place: _Place) -> NDArray[Any]:
    mapped = np.memmap(path, place.dtype, "r", place.offset, place.shape, place.order)  # type: ignore[call-overload]
    return np.asarray(mapped)
