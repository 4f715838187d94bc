"""Where single-trial responses lie in a file: GLMsingle, NSD, or any array or image of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError, SchemaError, require
from neuroalign.loaders._arrays import _MAT_ERRORS, _damaged, _npy_header, read_mat, read_npy, read_npz, refuse_pickle
from neuroalign.loaders._nifti import open_nifti
from neuroalign.loaders._nifti_read import check_memory, iter_volumes

__all__ = ["SUFFIXES", "Stored", "is_betas", "open_betas"]

SUFFIXES = (".nii", ".nii.gz", ".hdf5", ".h5", ".mat", ".npy", ".npz")
#: Names of the responses in GLMsingle (Python, MATLAB) and NSD.
_NAMES = ("betasmd", "modelmd", "betas")
_NSD = re.compile(r"betas_session0*(\d+)", re.IGNORECASE)
_GLMSINGLE = re.compile(r"TYPE[A-D]_[A-Z_]+")
_BLOCK_BYTES = 8 << 20

Voxels = tuple[NDArray[np.intp], ...]


@dataclass(frozen=True)
class Stored:
    """Responses of one file, not read yet.

    Attributes
    ----------
    grid : tuple of int
        Voxels (i, j, k), or (n_voxels,) where the file has no grid.
    n_trials : int
        Number of trials.
    integers : bool
        Whether numbers are stored as integers without a scale.
    read : callable
        Takes voxels as (i, j, k) or (n,) index arrays, gives (trial, voxel) as stored.
    slow_first : bool
        Whether voxels without a grid follow NumPy's order of a mask (k fastest), or MATLAB's (i fastest).
    maps : dict of str to ndarray
        Other values of each voxel, in the shape of `grid`.
    affine : ndarray or None
        From (i, j, k, 1) to mm.
    estimated_by : str
        Tool and estimate, as far as the names say.
    remarks : list of str
        What reading found odd but harmless.
    """

    path: Path
    grid: tuple[int, ...]
    n_trials: int
    integers: bool
    read: Callable[[Voxels], NDArray[Any]]
    slow_first: bool = True
    maps: dict[str, NDArray[Any]] = field(default_factory=dict)
    affine: NDArray[np.float64] | None = None
    estimated_by: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def nsd(self) -> re.Match[str] | None:
        """The name that NSD gives to a session, with its number."""
        return _NSD.match(self.path.name)


def is_betas(path: Path) -> bool:
    """Whether the name of a file is one that GLMsingle or NSD give to single-trial responses."""
    return path.name.lower().endswith(SUFFIXES) and bool(_GLMSINGLE.match(path.name) or _NSD.match(path.name))


def open_betas(path: Path, n_trials: int | None, max_bytes: int) -> Stored:
    """Open a file of single-trial responses.

    Parameters
    ----------
    path : Path
        The file.
    n_trials : int or None
        Number of trials, where a table of trials says it.
    max_bytes : int
        Refuse arrays that take more.

    Returns
    -------
    Stored
        Shapes, and a function that reads.
    """
    name = path.name.lower()
    if not path.is_file():
        raise IntegrityError("There is no such file.", expected=" ".join(SUFFIXES), got=path.name, where=path)
    if not name.endswith(SUFFIXES):
        raise ConfigError("Unknown kind of file.", expected=" ".join(SUFFIXES), got=path.name, where=path)
    refuse_pickle(path)
    if name.startswith("typea_onoff"):
        raise SchemaError(
            "This GLMsingle file has one response for all trials.",
            expected="TYPEB, TYPEC or TYPED",
            got=path.name,
            where=path,
        )
    if name.endswith((".nii", ".nii.gz")):
        return _open_image(path)
    with path.open("rb") as handle:
        hdf5 = b"\x89HDF\r\n\x1a\n" in handle.read(520)
    if hdf5:
        return _open_hdf5(path, n_trials, max_bytes)
    if name.endswith((".hdf5", ".h5")):
        raise _damaged(path, "an HDF5 file", "other first bytes")
    return _open_arrays(path, n_trials, max_bytes)


def _origin(path: Path, variable: str | None) -> str:
    if (found := _GLMSINGLE.search(path.name)) or variable in ("betasmd", "modelmd"):
        return f"GLMsingle {found.group()}" if found else "GLMsingle"
    if _NSD.match(path.name):
        return f"NSD {path.parent.name}" if path.parent.name.startswith("betas_") else "NSD"
    return ""


def _open_image(path: Path) -> Stored:
    file = open_nifti(path)

    def read(voxels: Voxels) -> NDArray[Any]:
        index = np.ravel_multi_index(voxels[::-1], file.shape[1:])
        out = np.empty((file.shape[0], index.size), dtype=np.float32)
        for first, block in iter_volumes(file, remarks=remarks):
            out[first : first + len(block)] = file.scale(block[:, index])
        return out

    remarks: list[str] = []
    whole = np.dtype(file.dtype).kind in "iu" and (file.slope, file.inter) == (1.0, 0.0)
    grid = file.shape[:0:-1]
    return Stored(path, grid, file.shape[0], whole, read, affine=file.matrix, estimated_by=_origin(path, None),
                  remarks=remarks)  # fmt: skip


def _open_arrays(path: Path, n_trials: int | None, max_bytes: int) -> Stored:
    """Arrays in memory, in the order (i, j, k, trial)."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        _refuse_objects(path)
    arrays = {".npy": read_npy, ".npz": read_npz, ".mat": read_mat}[suffix](path, max_bytes)
    name = _choose(path, {n: a.shape for n, a in arrays.items() if a.dtype.kind in "biuf" and a.ndim >= 2})
    values = arrays.pop(name)
    grid, axis = _layout(path, values.shape, n_trials)
    values = np.moveaxis(values, axis, 0).reshape(-1, *grid)  # (trial, *grid)
    maps = _maps(grid, {n: a for n, a in arrays.items() if a.dtype.kind in "biuf"})

    def read(voxels: Voxels) -> NDArray[Any]:
        return values.reshape(len(values), -1)[:, np.ravel_multi_index(voxels, grid)]

    return Stored(
        path, grid, len(values), values.dtype.kind in "biu", read,
        slow_first=suffix != ".mat", maps=maps, estimated_by=_origin(path, name),
    )  # fmt: skip


def _layout(path: Path, shape: tuple[int, ...], n_trials: int | None) -> tuple[tuple[int, ...], int]:
    """The grid of the voxels and the axis of the trials, of axes (i, j, k, trial) or of two axes."""
    if len(shape) == 4:
        return shape[:1] if shape[1:3] == (1, 1) else shape[:3], 3
    if len(shape) == 2:
        axis = _trial_axis(path, shape, n_trials)
        return (shape[1 - axis],), axis
    raise SchemaError(
        "These are no single-trial responses.",
        expected="4 axes (i, j, k, trial), or 2 (voxels and trials)",
        got=f"shape {shape}",
        where=path,
    )


def _trial_axis(path: Path, shape: tuple[int, ...], n_trials: int | None) -> int:
    fits = [axis for axis, size in enumerate(shape) if size == n_trials]
    if len(fits) == 1:
        return fits[0]
    raise SchemaError(
        "The file does not say which axis holds the trials.",
        expected="a table of trials as long as one of the two axes",
        got=f"shape {shape}, {'no table' if n_trials is None else f'{n_trials} trials'}",
        where=path,
        fix="pass trials= with one row a trial, or save four axes (i, j, k, trial)",
    )


def _choose(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    known = [name for name in _NAMES if name in shapes]
    name = known[0] if known else next(iter(shapes)) if len(shapes) == 1 else None
    if name is None:
        raise SchemaError(
            "The file holds no single-trial responses by a known name.",
            expected="betasmd or modelmd (GLMsingle), or betas (NSD)",
            got=dict(shapes),
            where=path,
            fix="read it with neuroalign.loaders.read_table(path, variable=..., dims=...)",
        )
    return name


def _maps(grid: tuple[int, ...], arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Other values of each voxel, such as R2 and HRFindex."""
    shapes = {grid, (*grid, 1), (*grid, 1, 1)}
    return {n: a.reshape(grid) for n, a in arrays.items() if a.shape in shapes and math.prod(grid) > 1}


def _refuse_objects(path: Path) -> None:
    with path.open("rb") as handle:
        try:
            dtype = _npy_header(handle)[2]
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise _damaged(path, "the header of a .npy array", str(error)) from error
    if dtype.hasobject:
        raise IntegrityError(
            "The file holds Python objects, which are stored as a pickle that could run any code.",
            expected="numbers",
            got=f"an array of type {dtype}, as GLMsingle saves its results by default",
            where=path,
            fix="let GLMsingle write HDF5 (opt['wanthdf5'] = 1); or, if you trust the file, open it yourself with "
            "NumPy and save numbers: np.savez('betas.npz', betasmd=results['betasmd'], R2=results['R2'])",
        )


def _open_hdf5(path: Path, n_trials: int | None, max_bytes: int) -> Stored:
    """HDF5 of MATLAB (axes reversed), of GLMsingle in Python (axes as in NumPy), or of NSD (axes reversed)."""
    h5py = require("h5py", "tables")
    try:
        with h5py.File(path, "r") as file:
            sets = {n: d for n, d in file.items() if isinstance(d, h5py.Dataset) and d.dtype.kind in "biuf"}
            name = _choose(path, {n: d.shape for n, d in sets.items() if d.ndim >= 2})
            reverse = path.suffix.lower() == ".mat" or "MATLAB_class" in sets[name].attrs or name == "betas"
            shape = sets[name].shape[::-1] if reverse else sets[name].shape
            grid, axis = _layout(path, shape, n_trials)
            trials_first = (len(shape) - 1 - axis if reverse else axis) == 0
            # Index arrays and maps; HDF5 may declare any size without holding it.
            check_memory(path, 8 * (3 + len(sets)) * math.prod(grid), max_bytes)
            small = {n: d for n, d in sets.items() if n != name and d.size == math.prod(grid)}
            maps = _maps(grid, {n: d[()].T if reverse else d[()] for n, d in small.items()})
            whole, count = sets[name].dtype.kind in "biu", shape[axis]
    except NeuroalignError:
        raise
    except _MAT_ERRORS as error:
        raise _damaged(path, "an HDF5 file", f"{type(error).__name__}: {error}") from error
    stamp = path.stat()

    def read(voxels: Voxels) -> NDArray[Any]:
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) != (stamp.st_size, stamp.st_mtime_ns):
            raise IntegrityError("The file changed after it was opened.", where=path, fix="open it again")
        try:
            with h5py.File(path, "r") as file:
                dataset = file[name]
                return (_trials_first if trials_first else _trials_last)(dataset, voxels, grid, count)
        except _MAT_ERRORS as error:
            raise _damaged(path, "an HDF5 file", f"{type(error).__name__}: {error}") from error

    return Stored(path, grid, count, whole, read, slow_first=not reverse, maps=maps, estimated_by=_origin(path, name))


def _slabs(dataset: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """Slabs of about 8 MiB along the first axis on disk."""
    n = dataset.shape[0]
    step = max(1, _BLOCK_BYTES * n // max(1, dataset.dtype.itemsize * dataset.size))
    for start in range(0, n, step):
        yield start, dataset[start : start + step]


def _trials_first(dataset: Any, voxels: Voxels, grid: tuple[int, ...], n_trials: int) -> NDArray[np.float32]:
    """Of axes (trial, k, j, i) or (trial, voxel)."""
    index = np.ravel_multi_index(voxels[::-1], grid[::-1])
    out = np.empty((n_trials, index.size), dtype=np.float32)
    for start, block in _slabs(dataset):
        out[start : start + len(block)] = block.reshape(len(block), -1)[:, index]
    return out


def _trials_last(dataset: Any, voxels: Voxels, grid: tuple[int, ...], n_trials: int) -> NDArray[np.float32]:
    """Of axes (i, j, k, trial) or (voxel, trial)."""
    out = np.empty((n_trials, len(voxels[0])), dtype=np.float32)
    for start, block in _slabs(dataset):
        chosen = np.flatnonzero((voxels[0] >= start) & (voxels[0] < start + len(block)))
        block = block.reshape(len(block), *grid[1:], n_trials)
        out[:, chosen] = block[(voxels[0][chosen] - start, *(axis[chosen] for axis in voxels[1:]))].T
    return out
