"""Arrays by name out of .npy, .npz and .mat files; nothing in a file is ever executed."""

from __future__ import annotations

import ast
import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import IntegrityError, NeuroalignError, require
from neuroalign.loaders._integrity import check_mat
from neuroalign.loaders._nifti_read import check_memory

__all__ = ["read_mat", "read_npy", "read_npz", "refuse_pickle"]

Arrays = dict[str, NDArray[Any]]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAX_HEADER = 1 << 20
_MAT_BYTES = {"double": 8, "single": 4, "int64": 8, "uint64": 8, "int32": 4, "uint32": 4, "int16": 2, "uint16": 2}
# What scipy and h5py raise on damaged files; anything else is a defect of ours and must be seen.
_MAT_ERRORS: tuple[type[Exception], ...] = (ValueError, TypeError, KeyError, IndexError, OSError, EOFError)
_MAT_ERRORS += (NotImplementedError, OverflowError, zlib.error, MemoryError, RuntimeError, AttributeError)


def refuse_pickle(path: Path) -> None:
    """Refuse files that run code when they are opened.

    Parameters
    ----------
    path : Path
        Any file. Its first bytes count, not only its name.

    Raises
    ------
    IntegrityError
        If it is a pickle, a joblib or a torch file.
    """
    with path.open("rb") as handle:
        head = handle.read(2)
    named = path.suffix.lower() in (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".sav")
    if named or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        raise IntegrityError(
            "This is a pickle (or looks like one): opening it could run any code.",
            expected=".npy, .npz, .mat, .csv, .tsv, .parquet or .zarr",
            got=f"{path.suffix or 'a file'} that starts with {head!r}",
            where=str(path),
            fix="if you trust it, open it yourself and save the arrays: np.savez('name.npz', values=..., dims=[...])",
        )


def _damaged(path: Path, expected: object, got: object) -> IntegrityError:
    return IntegrityError(
        "The file is cut or damaged.",
        expected=expected,
        got=got,
        where=str(path),
        fix="copy or download it again",
    )


def _parse_npy(path: Path, name: str, handle: BinaryIO, size: int, max_bytes: int) -> NDArray[Any]:
    """Read one array of `size` bytes with its header; the size must be exactly what the header declares."""
    try:
        shape, fortran, dtype = _npy_header(handle)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise _damaged(path, f"the header of a .npy array ({name})", str(error)) from error
    if dtype.hasobject:
        raise IntegrityError(
            "The array holds Python objects, which are stored as a pickle that could run any code.",
            expected="numbers or text",
            got=f"{name} of type {dtype}",
            where=str(path),
            fix="save numbers, or text as np.array(names, dtype=str)",
        )
    declared = handle.tell() + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared != size:
        raise _damaged(path, f"{declared} bytes for {name}: {shape} of {dtype}", f"{size} bytes")
    check_memory(str(path), declared, max_bytes)
    data = np.frombuffer(handle.read(), dtype=dtype)
    if data.size != math.prod(shape):
        raise _damaged(path, f"{math.prod(shape)} values in {name}", f"{data.size}")
    return data.reshape(shape[::-1]).T if fortran else data.reshape(shape)


def _npy_header(handle: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type; only literals are accepted, and nothing that NumPy repairs with a warning."""
    magic = handle.read(8)
    width = {1: 2, 2: 4, 3: 4}.get(magic[6]) if len(magic) == 8 and magic[:6] == b"\x93NUMPY" else None
    if width is None:
        raise ValueError(f"first bytes {magic!r}")
    length = int.from_bytes(handle.read(width), "little")
    text = handle.read(min(length, _MAX_HEADER + 1))
    if len(text) != length or length > _MAX_HEADER:
        raise ValueError(f"a header of {length} bytes")
    entries = ast.literal_eval(text.decode("utf-8" if magic[6] == 3 else "latin1").strip())
    if not isinstance(entries, dict) or set(entries) != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"entries {entries!r}")
    shape, fortran = entries["shape"], entries["fortran_order"]
    if not (isinstance(shape, tuple) and all(type(n) is int for n in shape) and isinstance(fortran, bool)):
        raise ValueError(f"shape {shape!r}, fortran_order {fortran!r}")
    return shape, fortran, np.lib.format.descr_to_dtype(entries["descr"])


def read_npy(path: Path, max_bytes: int) -> Arrays:
    """Read a .npy file; the array is named after the file.

    Parameters
    ----------
    path : Path
        The file.
    max_bytes : int
        Refuse larger arrays.

    Returns
    -------
    dict of str to ndarray
        One entry.

    Raises
    ------
    IntegrityError
        If the file is cut, longer than declared, damaged or holds objects.
    """
    with path.open("rb") as handle:
        return {path.stem: _parse_npy(path, path.name, handle, path.stat().st_size, max_bytes)}


def read_npz(path: Path, max_bytes: int) -> Arrays:
    """Read all arrays of a .npz file; zip checksums are compared.

    Parameters
    ----------
    path : Path
        The file.
    max_bytes : int
        Refuse archives that unpack to more.

    Returns
    -------
    dict of str to ndarray
        By name.

    Raises
    ------
    IntegrityError
        If the archive is damaged, or holds anything but plain arrays.
    """
    arrays: Arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            check_memory(str(path), sum(info.file_size for info in archive.infolist()), max_bytes)
            for info in archive.infolist():
                if not info.filename.endswith(".npy") or info.filename[:-4] in arrays:
                    problem = "not an array" if not info.filename.endswith(".npy") else "there twice"
                    raise _damaged(path, "arrays (.npy) with different names", f"{info.filename!r} is {problem}")
                with archive.open(info) as member:
                    content = member.read(info.file_size + 1)  # bounded, and to the end: checks the CRC
                arrays[info.filename[:-4]] = _parse_npy(
                    path, info.filename, io.BytesIO(content), len(content), max_bytes
                )
    except NeuroalignError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise _damaged(path, "a zip archive of arrays", str(error)) from error
    return arrays


def read_mat(path: Path, max_bytes: int) -> Arrays:
    """Read numbers and text of a MATLAB file, also inside cells and structs; objects and functions are left out.

    Parameters
    ----------
    path : Path
        A file of version 4 to 7.2 (through scipy) or 7.3 (HDF5, through h5py).
    max_bytes : int
        Refuse files that declare more.

    Returns
    -------
    dict of str to ndarray
        By name; fields of structs as ``name.field``; cells of text as arrays of str; cells of equal arrays stacked.

    Raises
    ------
    IntegrityError
        If the file is cut or damaged.
    """
    with path.open("rb") as handle:
        head = handle.read(520)
    if head[:8] == _HDF5 or head[512:] == _HDF5:
        return _read_mat73(path, max_bytes)
    from scipy.io import loadmat, whosmat

    check_mat(path, max_bytes)
    try:
        declared = sum(math.prod(shape) * _MAT_BYTES.get(kind, 1) for _, shape, kind in whosmat(str(path)))
        check_memory(str(path), declared, max_bytes)
        content = loadmat(str(path), squeeze_me=False, struct_as_record=True)
    except NeuroalignError:
        raise
    except _MAT_ERRORS as error:
        raise _damaged(path, "a MATLAB file", f"{type(error).__name__}: {error}") from error
    return _expand({name: value for name, value in content.items() if not name.startswith("__")})


def _expand(content: dict[str, Any]) -> Arrays:
    """Numbers, text, cells of equal arrays (stacked), and the fields of structs as ``name.field``."""
    arrays: Arrays = {}
    for name, value in content.items():
        fields = getattr(getattr(value, "dtype", None), "names", None)
        parts = {name: value} if not fields else {f"{name}.{field}": value[field] for field in fields}
        for part, cells in parts.items():
            plain = _plain(cells)
            if plain is not None:
                arrays[part] = plain
    return arrays


def _plain(value: Any) -> NDArray[Any] | None:
    """Numbers and text as they are, a cell of text as an array of str, a cell of equal arrays as their stack."""
    if not isinstance(value, np.ndarray):
        return value.toarray() if hasattr(value, "toarray") else None
    if value.dtype.kind in "biufcU":
        return value
    if value.dtype.kind != "O" or not value.size:
        return None
    cells = [np.asarray(cell) for cell in value.ravel()]
    if all(cell.dtype.kind == "U" and cell.size <= 1 for cell in cells):
        return np.array([str(cell.ravel()[0]) if cell.size else "" for cell in cells]).reshape(value.shape)
    if all(cell.dtype.kind in "biuf" and cell.shape == cells[0].shape for cell in cells):
        return np.stack(cells).reshape(*value.shape, *cells[0].shape)
    return None


def _read_mat73(path: Path, max_bytes: int) -> Arrays:
    h5py = require("h5py", "tables")
    arrays: Arrays = {}
    try:
        with h5py.File(path, "r") as file:
            sets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
            structs = {n: item for n, item in file.items() if isinstance(item, h5py.Group) and n[:1] != "#"}
            for outer, group in structs.items():
                sets |= {f"{outer}.{n}": item for n, item in group.items() if isinstance(item, h5py.Dataset)}
            check_memory(str(path), sum(d.size * d.dtype.itemsize for d in sets.values()), max_bytes)
            for name, dataset in sets.items():
                value = _from_hdf5(file, dataset)
                if value is not None:
                    arrays[name] = value
    except NeuroalignError:
        raise
    except _MAT_ERRORS as error:
        raise _damaged(path, "a MATLAB 7.3 file (HDF5)", f"{type(error).__name__}: {error}") from error
    return arrays


def _from_hdf5(file: Any, dataset: Any) -> NDArray[Any] | None:
    """MATLAB stores columns first, so the axes come back reversed; text is numbers of characters."""
    kind = dataset.attrs.get("MATLAB_class", b"").decode() if "MATLAB_class" in dataset.attrs else ""
    if "MATLAB_empty" in dataset.attrs:
        return None
    if kind == "char":
        return np.array([_text(dataset)])
    if dataset.dtype.kind == "O":  # references: a cell, or a field of a struct array
        cells = np.empty(dataset.shape, dtype=object)
        for at, reference in np.ndenumerate(dataset[()]):
            item = file[reference]
            cells[at] = _from_hdf5(file, item) if hasattr(item, "dtype") else None
        if any(cell is None for cell in cells.ravel()):
            return None
        return _plain(cells.T)
    return dataset[()].T if dataset.dtype.kind in "biuf" else None


def _text(dataset: Any) -> str:
    return "".join(map(chr, np.asarray(dataset[()]).T.ravel().tolist())) if dataset.dtype.kind in "iu" else ""
