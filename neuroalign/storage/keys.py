"""Content keys: one hash for equal content, whatever its memory layout, chunks or order of attributes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.errors import ConfigError

__all__ = ["content_key", "sha256_file", "step_key"]

KEY_VERSION = 1
_BLOCK = 1 << 24  # bytes hashed at a time


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Sha256 of a file, read in blocks.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_key(*objs: Any, **params: Any) -> str:
    """Hash the content of labelled objects, arrays and parameters.

    Equal for copies, for other chunking or memory order, for reordered attributes and coordinates, and for a byte
    order or string width that does not change a value. Different for any change of a value, label, dimension name,
    number type or parameter.

    Parameters
    ----------
    *objs : xarray object, numpy array, pandas object, or plain value
        The content. Plain values are None, bool, int, float, complex, str, bytes, and lists, tuples, sets and
        mappings of them.
    **params : object
        Parameters of the step, of the same kinds. Pass the version of the code as one of them, or use `step_key`.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ConfigError
        If an object has no canonical content (a function, an open file, a path).

    Examples
    --------
    >>> x = xr.DataArray([1.0, 2.0], dims="time", attrs={"a": 1, "b": 2})
    >>> y = x.copy().assign_attrs({"b": 2, "a": 1})
    >>> content_key(x, alpha=1.0) == content_key(y, alpha=1.0)
    True
    >>> content_key(x, alpha=1.0) == content_key(x, alpha=2.0)
    False
    """
    digest = hashlib.sha256()
    _feed(digest, "neuroalign", KEY_VERSION)
    for obj in objs:
        _add(digest, obj, "argument")
    _add(digest, params, "parameter")
    return digest.hexdigest()


def step_key(step: str, *objs: Any, version: int | str, **params: Any) -> str:
    """Key of the result of one step: its name, its version, the neuroalign release, its inputs and parameters.

    Parameters
    ----------
    step : str
        Name of the step.
    *objs : object
        Its inputs, as in `content_key`.
    version : int or str
        Version of the code of the step: raise it whenever its result changes.
    **params : object
        Its parameters.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    from neuroalign._version import __version__

    return content_key(step, str(version), __version__, *objs, **params)


def _feed(digest: _Hash, tag: str, *values: object) -> None:
    """Add a tagged record; lengths go first so that no two sequences of records look alike."""
    for value in (tag, *values):
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        digest.update(struct.pack("<q", len(data)))
        digest.update(data)


def _add(digest: _Hash, obj: Any, where: str) -> None:
    if isinstance(obj, (xr.DataArray, xr.Dataset, xr.DataTree, xr.Variable)):
        _add_labelled(digest, obj, where)
    elif isinstance(obj, (pd.DataFrame, pd.Series)):
        _add_labelled(digest, obj.to_xarray(), where)
    elif isinstance(obj, pd.Index):
        _add_array(digest, np.asarray(obj), where)
    elif isinstance(obj, np.ndarray):
        _add_array(digest, obj, where)
    elif isinstance(obj, Mapping):
        _feed(digest, "map", len(obj))
        for key in sorted(obj, key=lambda k: (type(k).__name__, str(k))):
            _add(digest, key, where)
            _add(digest, obj[key], f"{where} {key!r}")
    elif isinstance(obj, (list, tuple)):
        _feed(digest, "list", len(obj))
        for item in obj:
            _add(digest, item, where)
    elif isinstance(obj, (set, frozenset)):
        _add(digest, ["set", *sorted(content_key(item) for item in obj)], where)
    else:
        _add_scalar(digest, obj, where)


def _add_scalar(digest: _Hash, obj: Any, where: str) -> None:
    if isinstance(obj, np.generic) and obj.dtype.kind in "biufcSU":
        obj = obj.item()
    if obj is None or isinstance(obj, (bool, int, str, bytes)):
        _feed(digest, type(obj).__name__, "" if obj is None else obj)
    elif isinstance(obj, (float, complex)):
        parts = (obj.real, obj.imag) if isinstance(obj, complex) else (obj,)
        _feed(digest, type(obj).__name__, *("nan" if math.isnan(p) else float(p).hex() for p in parts))
    elif isinstance(obj, slice):
        _add(digest, ["slice", obj.start, obj.stop, obj.step], where)
    elif isinstance(obj, (np.datetime64, np.timedelta64, np.dtype)):
        _feed(digest, type(obj).__name__, obj)
    else:
        raise ConfigError(
            "A content key cannot be made from this.",
            expected="xarray, numpy or pandas objects, or plain values",
            got=f"{type(obj).__module__}.{type(obj).__qualname__}",
            where=where,
            fix="for a file pass sha256_file(path); for code pass its name and a version",
        )


def _add_labelled(digest: _Hash, obj: Any, where: str) -> None:
    if isinstance(obj, xr.DataTree):
        nodes = {node.path: node.to_dataset(inherit=False) for node in obj.subtree}
        _add(digest, {"tree": nodes}, where)
        return
    _feed(digest, type(obj).__name__)
    _add(digest, dict(obj.attrs), f"attrs of {where}")
    if isinstance(obj, xr.Variable):
        _add_variable(digest, obj, where)
        return
    if isinstance(obj, xr.DataArray):
        _add(digest, obj.name, where)
        _add_variable(digest, obj.variable, where)
        named = {name: coord.variable for name, coord in obj.coords.items()}
    else:
        _add(digest, sorted(map(str, obj.coords)), where)
        named = dict(obj.variables)
    _feed(digest, "variables", len(named))
    for name in sorted(named, key=str):
        _add(digest, name, where)
        _add(digest, dict(named[name].attrs), f"attrs of {name!r}")
        _add_variable(digest, named[name], f"variable {name!r}")


def _add_variable(digest: _Hash, variable: xr.Variable, where: str) -> None:
    _add(digest, list(variable.dims), where)
    if variable.dtype.kind not in "biufcmM":
        _add_array(digest, np.asarray(variable.values), where)
        return
    _feed(digest, "array", _dtype_name(variable.dtype), *variable.shape)
    for block in _row_blocks(variable):
        digest.update(_bytes(np.asarray(variable[block].values)))


def _row_blocks(variable: xr.Variable) -> Iterator[tuple[slice, ...] | tuple[()]]:
    """Blocks of whole rows: their bytes one after the other are the bytes in C order, whatever the chunks."""
    if variable.ndim == 0:
        yield ()
        return
    row = max(1, variable.dtype.itemsize * math.prod(variable.shape[1:]))
    step = max(1, _BLOCK // row)
    if variable.chunks is not None:  # dask: whole chunks of rows, so that none is computed twice
        step = max(step, max(variable.chunks[0], default=1))
    for start in range(0, variable.shape[0], step):
        yield (slice(start, start + step),)


def _add_array(digest: _Hash, array: np.ndarray, where: str) -> None:
    if array.dtype.kind in "biufcmM":
        _feed(digest, "array", _dtype_name(array.dtype), *array.shape)
        digest.update(_bytes(array))
        return
    values = array.astype(object).ravel().tolist()
    if array.dtype.kind == "S":
        values = [value.decode("latin-1") for value in values]
    missing = [value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA for value in values]
    if not all(gone or isinstance(value, str) for gone, value in zip(missing, values, strict=True)):
        raise ConfigError("A content key needs numbers or text.", got=f"an array of {array.dtype}", where=where)
    _feed(digest, "text", *array.shape)
    text = json.dumps([None if gone else value for gone, value in zip(missing, values, strict=True)])
    _feed(digest, "json", text)


def _dtype_name(dtype: np.dtype) -> str:
    return np.dtype(dtype).newbyteorder("<").str


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
