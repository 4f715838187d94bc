"""One variable to and from one Zarr array: number types, text, dates, attributes."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.storage import chunks, layout
from neuroalign.storage.journal import Lineage
from neuroalign.storage.packing import MISSING, Packing

__all__ = [
    "KEY",
    "StoredArray",
    "check_name",
    "damage_reported",
    "encode",
    "json_attrs",
    "packed",
    "packing_of",
    "read",
    "read_metadata",
]

KEY = "neuroalign"  # the one attribute that is ours: how to turn the array back into what it was
_NUMBERS = "biufc"
_RESERVED = ("", ".", "..", "zarr.json", "manifest.json")
# Stores are carried from one system to another, so what any of them refuses is refused here.
_UNSAFE = frozenset('/\\\0:*?"<>|')
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
# what a damaged chunk or metadata file makes zarr, numcodecs and json raise (an IndexError is the caller's own)
_READ_ERRORS = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, AssertionError)


def check_name(name: Hashable) -> str:
    """Refuse a name that cannot be a folder in a store.

    Parameters
    ----------
    name : hashable
        Name of a variable or dimension.

    Returns
    -------
    str
        The name.

    Raises
    ------
    SchemaError
        If it is not text, or is a path.
    """
    if not isinstance(name, str) or name in _RESERVED or name.startswith("__") or set(name) & _UNSAFE:
        raise SchemaError(
            "This name cannot be stored.", expected='text without / \\ : * ? " < > |', got=name, fix="rename it"
        )
    if name.partition(".")[0].upper() in _DEVICES or name.endswith((".", " ")):
        raise SchemaError(
            "This name cannot be a folder on Windows.", expected="another name", got=name, fix="rename it"
        )
    return name


def read_metadata(folder: Path) -> dict[str, Any]:
    """What ``zarr.json`` of a group or an array says."""
    content: dict[str, Any] = json.loads((folder / "zarr.json").read_bytes())
    return content


def json_attrs(attrs: Mapping[Hashable, Any], where: str) -> dict[str, Any]:
    """Attributes as plain JSON values: numpy numbers and arrays become numbers and lists.

    Parameters
    ----------
    attrs : mapping
        Attributes.
    where : str
        Whose they are, for the error.

    Returns
    -------
    dict
        The same, JSON-safe.

    Raises
    ------
    SchemaError
        If one has no JSON form, or is called ``neuroalign``.
    """
    if KEY in attrs:
        raise SchemaError(f"The attribute name {KEY!r} is reserved.", where=where, fix="rename the attribute")
    return {str(key): _json_safe(value, f"attribute {key!r} of {where}") for key, value in attrs.items()}


def _json_safe(value: Any, where: str) -> Any:
    if isinstance(value, np.ndarray) or (isinstance(value, np.generic) and value.dtype.kind in "biufU"):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_json_safe(item, where) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item, where) for key, item in value.items()}
    raise SchemaError(
        "This attribute cannot be stored.",
        expected="text, numbers or lists of them",
        got=f"{type(value).__qualname__}: {value!r}",
        where=where,
        fix="remove the attribute or turn it into text",
    )


def encode(name: str, variable: xr.Variable) -> tuple[xr.Variable, Any, dict[str, Any]]:
    """How to store a variable.

    Parameters
    ----------
    name : str
        Its name, for errors.
    variable : xarray.Variable
        The variable. Numbers stay lazy.

    Returns
    -------
    variable : xarray.Variable
        What to write.
    dtype : numpy dtype or "str"
        Type of the stored array.
    note : dict
        What `read` needs beyond the array itself; empty for plain numbers.
    """
    dtype = variable.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in _NUMBERS:
        return variable, dtype.newbyteorder("="), {}
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        ticks = np.asarray(variable.values).view("int64")
        return xr.Variable(variable.dims, ticks, variable.attrs), np.dtype("int64"), {"dtype": dtype.name}
    text, note = _text(name, np.asarray(variable.values))
    return xr.Variable(variable.dims, text, variable.attrs), "str", note


def packing_of(attributes: Mapping[str, Any]) -> Packing | None:
    """How a stored array is packed, from its stored attributes; None where it is not."""
    note = attributes.get(KEY, {})
    return Packing.from_note(note["packing"]) if "packing" in note else None


def packed(packing: Packing, attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes of an array of integers, so that no other reader takes them for values.

    Parameters
    ----------
    packing : Packing
        How they become values.
    attrs : dict
        Attributes of the values, JSON-safe.

    Returns
    -------
    dict
        With the CF attributes ``scale_factor`` and ``add_offset``, which xarray follows, where one scale serves all;
        else without units. `read` takes the attributes of the variable from our own.
    """
    note = {"packing": packing.note(), "attrs": attrs}
    same = all(np.ptp(numbers) == 0 for numbers in (packing.scale, packing.offset, packing.zero))
    if not same or set(attrs) & {"scale_factor", "add_offset", "_FillValue"}:
        return {**{key: value for key, value in attrs.items() if key != "units"}, KEY: note}
    scale = float(packing.scale[0])
    cf: dict[str, Any] = {"scale_factor": scale, "add_offset": float(packing.offset[0] + packing.zero[0] * scale)}
    if packing.missing:
        cf["_FillValue"] = MISSING
    return {**attrs, **cf, KEY: note}


def _text(name: str, values: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    flat = values.astype(object).ravel().tolist()
    gone = [value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) for value in flat]
    strange = next((v for v, missing in zip(flat, gone, strict=True) if not missing and not isinstance(v, str)), None)
    if strange is not None:
        raise SchemaError(
            "This variable mixes text with other things, or holds objects.",
            expected="numbers, or text with missing values",
            got=f"{type(strange).__qualname__}: {strange!r}",
            where=name,
            fix=f"obj[{name!r}] = obj[{name!r}].astype(str), or use numbers",
        )
    note: dict[str, Any] = {"dtype": values.dtype.str if values.dtype.kind == "U" else "object"}
    if any(gone):
        note["missing"] = [position for position, missing in enumerate(gone) if missing]
    text = np.empty(len(flat), object)
    text[:] = ["" if missing else value for value, missing in zip(flat, gone, strict=True)]
    return text.reshape(values.shape), note


def read(path: Path, *, lazy: bool, lineage: Lineage | None = None) -> xr.Variable:
    """Read one variable.

    Parameters
    ----------
    path : pathlib.Path
        Folder of the Zarr array.
    lazy : bool
        Leave the values on disk. Text is always read.
    lineage : Lineage, optional
        The store as it was opened, compared on every later read.

    Returns
    -------
    xarray.Variable
        As it was saved.
    """
    stored = StoredArray(path, lineage)
    note = stored.note
    if lazy and "dtype" not in note:
        return xr.Variable(stored.dims, indexing.LazilyIndexedArray(stored), stored.attrs, stored.encoding())
    values = stored.load((slice(None),) * len(stored.shape))
    if "dtype" in note:
        values = _decode(values, note)
    return xr.Variable(stored.dims, values, stored.attrs)


def _decode(values: np.ndarray, note: dict[str, Any]) -> np.ndarray:
    dtype = note["dtype"]
    if dtype.startswith(("datetime64", "timedelta64")):
        return values.view(dtype)
    values = np.asarray(values).astype(object)
    for position in note.get("missing", []):
        values.flat[position] = np.nan
    return values if dtype == "object" else values.astype(dtype)


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn whatever a damaged store makes the readers below raise into an `IntegrityError` that names it.

    Parameters
    ----------
    path : pathlib.Path
        The store or array, for the error.
    """
    try:
        yield
    except IntegrityError:
        raise
    except _READ_ERRORS as error:
        raise IntegrityError(
            "Stored data could not be read: a chunk or its metadata is damaged.",
            got=f"{type(error).__name__}: {error}",
            where=path,
            fix="restore it or make it again",
        ) from error


@functools.cache
def _checked_store() -> Any:
    """Class of a folder store in which an absent chunk is damage; zarr would read it as the fill value."""
    from zarr.storage import LocalStore

    class CheckedStore(LocalStore):
        async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
            found = await super().get(key, *args, **kwargs)
            if key.partition("/")[0] == "c" and (found is None or len(found) == 0):
                raise FileNotFoundError(f"chunk {key} is missing or empty")
            return found

    return CheckedStore


class StoredArray(BackendArray):
    """An array of a store that is read when it is indexed. It pickles as its path and a few numbers.

    Parameters
    ----------
    path : pathlib.Path
        Folder of the Zarr array.
    lineage : Lineage, optional
        The store as it was opened.
    """

    def __init__(self, path: Path, lineage: Lineage | None = None) -> None:
        self.path, self.lineage = path.absolute(), lineage
        metadata = read_metadata(path)
        self.grid = chunks.grid_of(metadata)
        self.shape = tuple(metadata["shape"])
        self.dims = tuple(metadata.get("dimension_names") or ())
        attrs = dict(metadata["attributes"])
        self.note: dict[str, Any] = attrs.pop(KEY, {})
        self.attrs: dict[str, Any] = self.note.get("attrs", attrs)
        self.packing = packing_of(metadata["attributes"])
        self.dtype: np.dtype[Any]
        if self.packing is not None:
            self.dtype = np.dtype(np.float32)
        else:
            self.dtype = np.dtype(object) if self.grid is None else np.dtype(self.grid.dtype).newbyteorder("=")

    def encoding(self) -> dict[str, Any]:
        """Chunks for dask, in xarray's words."""
        if self.grid is None or not self.shape:
            return {}
        lengths = layout.preferred_chunks(self.dims, self.shape, self.grid.chunks, self.dtype.itemsize)
        return {"preferred_chunks": lengths}

    def load(self, key: tuple[Any, ...]) -> np.ndarray:
        """Read a part.

        Parameters
        ----------
        key : tuple
            Integers, slices or integer arrays, one a dimension (outer indexing).

        Returns
        -------
        numpy.ndarray
            The values.

        Raises
        ------
        IntegrityError
            If a chunk is missing, cut or changed, or another store stands in the place of the one that was opened.
        """
        try:
            with damage_reported(self.path):
                values = self._read(key)
        except IntegrityError:
            if self.lineage is not None:
                self.lineage.check()  # a store that was replaced is no damage
            raise
        if self.lineage is not None:
            self.lineage.check()
        return values

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        if self.grid is None:
            import zarr

            array = zarr.open_array(_checked_store()(self.path, read_only=True), mode="r", zarr_format=3)
            return np.asarray(array.oindex[key] if key else array[...])
        if self.packing is None:
            return np.asarray(chunks.read(self.path, self.grid, key))
        return np.asarray(chunks.read(self.path, self.grid, key, dtype=self.dtype, decode=self._unpack))

    def _unpack(self, stored: np.ndarray, positions: chunks.Selection) -> np.ndarray:
        axis = self.packing.axis  # type: ignore[union-attr]
        return self.packing.unpack(stored, slice(None) if axis is None else positions[axis])  # type: ignore[union-attr]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.load)
