"""Read arrays with named dimensions from the files that people exchange them in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign import schema, storage
from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders._arrays import Arrays, read_mat, read_npy, read_npz, refuse_pickle
from neuroalign.loaders._sheet import Sheet, read_parquet, read_sheet

__all__ = ["TABLE_SUFFIXES", "read_table"]

TABLE_SUFFIXES = (".npy", ".npz", ".mat", ".csv", ".tsv", ".parquet", ".zarr")
"""File names that `read_table` knows."""


def read_table(
    path: str | os.PathLike[str],
    *,
    dims: Sequence[str] | None = None,
    variable: str | None = None,
    coords: Mapping[str, str] | None = None,
    units: str | None = None,
    layer: str | None = None,
    index: str | None = None,
    max_bytes: int = 8 * 2**30,
) -> xr.DataArray | xr.Dataset:
    """Read features, responses or any other array.

    Parameters
    ----------
    path : str or path-like
        ``.npy``, ``.npz``, ``.mat`` (also 7.3), ``.csv``, ``.tsv``, ``.parquet``, or a ``.zarr`` folder.
    dims : sequence of str, optional
        Names of the dimensions, such as ``("stimulus", "voxel")``. By default an entry ``dims`` of the file;
        ``("stimulus", "unit")`` for tables with row names and ``("sample", "unit")`` for those without.
    variable : str, optional
        Which array holds the data. By default the only array of numbers with two or more dimensions.
    coords : mapping of str to str, optional
        Coordinate name -> entry of the file that holds it, such as ``{"stimulus": "conds"}``. Other entries with as
        many values as exactly one dimension become coordinates under their own name.
    units : str, optional
        Unit of the values, which are converted to SI. By default arbitrary units.
    layer : str, optional
        Name of the layer or feature space; it names the result.
    index : str, optional
        Column of a text table that names the rows. By default the first, where it holds text.
    max_bytes : int
        Refuse to allocate more than this.

    Returns
    -------
    DataArray or Dataset
        A DataArray; what was saved, for a ``.zarr`` folder written by neuroalign.

    Raises
    ------
    IntegrityError
        If the file is missing, cut or damaged, or could run code (pickles, arrays of objects).
    SchemaError
        If dimensions cannot be told, or do not fit.
    ConfigError
        If a named entry or column does not exist.

    Notes
    -----
    Floats keep their precision, in native byte order; integers become float32 (float64 where float32 would round).
    Entries that fit no dimension are listed in ``attrs["unused"]``. Bits flipped inside ``.npy`` and uncompressed
    ``.mat`` data cannot be noticed, for want of a checksum.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "features.csv"
    >>> _ = file.write_text("stimulus,round,red\\ncat,0.1,0.2\\nball,0.9,0.8\\n")
    >>> read_table(file).sel(stimulus="ball", unit="red").item()
    0.8
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".zarr" or storage.is_store(path):
        return _read_zarr(path, dims, variable, coords)
    if not path.is_file():
        raise IntegrityError("There is no such file.", expected=" ".join(TABLE_SUFFIXES), where=str(path))
    refuse_pickle(path)
    if suffix in (".csv", ".tsv", ".parquet"):
        sheet = read_parquet(path, index) if suffix == ".parquet" else read_sheet(path, index)
        out = _from_sheet(path, sheet, dims)
        _no_entries(path, variable, coords)
    elif suffix in _ARRAY_READERS:
        out = _from_arrays(path, _ARRAY_READERS[suffix](path, max_bytes), dims, variable, coords or {})
    else:
        raise ConfigError(
            "Unknown kind of table.", expected=" ".join(TABLE_SUFFIXES), got=suffix or "no suffix", where=str(path)
        )
    return schema.stamp(_finish(out, path, units, layer), "read_table", sources=[path])


_ARRAY_READERS = {".npy": read_npy, ".npz": read_npz, ".mat": read_mat}


def _finish(out: xr.DataArray, path: Path, units: str | None, layer: str | None) -> xr.DataArray:
    """Native floats in SI units, with a name."""
    out = out.copy(data=_floats(out.values))
    si, factor = schema.to_si(units) if units is not None else ("a.u.", 1.0)
    if factor != 1.0:
        out = out.copy(data=out.values * np.asarray(factor, dtype=out.dtype))
    for dim, index in out.indexes.items():
        if not index.is_unique and dim != "time":
            repeated = index[index.duplicated()].unique()[:5].tolist()
            raise SchemaError(
                f"Names along {dim} repeat.",
                expected="unique names",
                got=repeated,
                where=str(path),
                fix="for repeated presentations pass dims=('trial', ...): the names become stimulus_id"
                if dim == "stimulus"
                else f"rename the copies of {repeated[0]!r}",
            )
    attrs = {"units": si} | ({"layer": layer} if layer is not None else {})
    return out.rename(layer or out.name or path.stem).assign_attrs(attrs)


def _floats(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f":
        return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    exact = values.dtype.itemsize <= 2 or (values.size and np.abs(values.astype(np.float64)).max() < 2**24)
    return np.ascontiguousarray(values, dtype=np.float32 if exact or not values.size else np.float64)


def _from_sheet(path: Path, sheet: Sheet, dims: Sequence[str] | None) -> xr.DataArray:
    names = tuple(dims) if dims is not None else ("sample" if sheet.rows is None else "stimulus", "unit")
    _check_dims(path, names, sheet.values.shape, path.name)
    out = xr.DataArray(sheet.values, dims=names)
    if sheet.rows is not None:
        out = _name_rows(out, names[0], sheet.rows)
    return out if sheet.columns is None else out.assign_coords({names[1]: sheet.columns})


def _name_rows(out: xr.DataArray, dim: str, rows: NDArray[Any]) -> xr.DataArray:
    if dim == "trial":  # a stimulus may come in many trials
        return out.assign_coords(trial=np.arange(len(rows)), stimulus_id=("trial", rows))
    if dim in ("time", "sample"):
        return out.assign_coords(label=(dim, rows))
    return out.assign_coords({dim: rows})


def _no_entries(path: Path, variable: str | None, coords: Mapping[str, str] | None) -> None:
    if variable is not None or coords:
        raise ConfigError(
            "A text table has no named arrays.",
            expected="index= for the column of row names, dims= for the dimensions",
            got=f"variable={variable!r}, coords={dict(coords or {})}",
            where=str(path),
        )


def _check_dims(path: Path, names: tuple[str, ...], shape: tuple[int, ...], what: str) -> None:
    if len(names) != len(shape) or len(set(names)) != len(names) or not all(isinstance(n, str) and n for n in names):
        raise SchemaError(
            "dims= does not fit the data.",
            expected=f"{len(shape)} different names for the shape {shape} of {what}",
            got=names,
            where=str(path),
        )


def _from_arrays(
    path: Path, arrays: Arrays, dims: Sequence[str] | None, variable: str | None, coords: Mapping[str, str]
) -> xr.DataArray:
    declared = arrays.pop("dims", None) if variable != "dims" else None
    if dims is None and declared is not None and declared.dtype.kind == "U":
        dims = [str(name) for name in declared.ravel()]
    unknown = set(coords.values()) - set(arrays)
    if unknown:
        raise ConfigError(
            "coords= names entries that the file does not have.",
            expected=f"some of {_list(arrays)}",
            got=sorted(unknown),
            where=str(path),
        )
    name = variable if variable is not None else _only_data(path, arrays, set(coords.values()))
    if name not in arrays:
        raise ConfigError(
            "There is no such array in the file.",
            expected=f"one of {_list(arrays)}",
            got=f"variable={name!r}",
            where=str(path),
        )
    values = arrays.pop(name)
    if values.dtype.kind not in "biuf":
        raise SchemaError("The data are not real numbers.", got=f"{name}: {values.dtype}", where=str(path))
    names, values = _name_dims(path, name, values, dims)
    out = xr.DataArray(values, dims=names, name=name)
    return _attach(path, out, arrays, coords)


def _only_data(path: Path, arrays: Arrays, taken: set[str]) -> str:
    numbers = {name: a for name, a in arrays.items() if a.dtype.kind in "biuf" and name not in taken and a.size}
    # MATLAB and some writers keep vectors as 1 x n, so axes of length 1 do not count at first.
    for count in (lambda a: a.squeeze().ndim, lambda a: a.ndim):
        found = [name for name, a in numbers.items() if count(a) >= 2]
        if len(found) == 1:
            return found[0]
    if len(numbers) == 1:
        return next(iter(numbers))
    raise SchemaError(
        "The file does not say which array holds the data.",
        expected="one array of numbers with two or more dimensions, or variable=",
        got=_list(arrays) or "no arrays of numbers or text",
        where=str(path),
        fix=f"pass variable={next(iter(numbers), 'name')!r}",
    )


def _name_dims(
    path: Path, name: str, values: NDArray[Any], dims: Sequence[str] | None
) -> tuple[tuple[str, ...], NDArray[Any]]:
    if dims is not None:
        names = (dims,) if isinstance(dims, str) else tuple(dims)
        if len(names) == values.squeeze().ndim < values.ndim:
            values = values.squeeze()
        _check_dims(path, names, values.shape, name)
        return names, values
    if values.ndim == 1 or (values.ndim == 2 and 1 in values.shape and values.size > 1):
        return ("sample",), values.ravel()
    raise SchemaError(
        "The file does not name the dimensions of the data.",
        expected=f"{values.ndim} names",
        got=f"{name} of shape {values.shape}",
        where=str(path),
        fix=f"pass dims=, for example dims={_EXAMPLES.get(values.ndim, ('stimulus', '...'))}",
    )


_EXAMPLES = {2: ("stimulus", "unit"), 3: ("trial", "channel", "time"), 4: ("time", "k", "j", "i")}


def _attach(path: Path, out: xr.DataArray, arrays: Arrays, coords: Mapping[str, str]) -> xr.DataArray:
    """Make coordinates of vectors: those asked for, and those that fit exactly one dimension."""
    unused: list[str] = []
    for entry, values in arrays.items():
        wanted = [coord for coord, source in coords.items() if source == entry]
        vector = values.ravel() if values.size == max(values.shape, default=1) else None
        fits = [] if vector is None else [str(dim) for dim, size in out.sizes.items() if size == vector.size]
        for coord in wanted or [entry]:
            dim = coord if coord in fits else fits[0] if len(fits) == 1 else None
            if coord in out.dims and dim != coord:
                dim = None
            if dim is not None and vector is not None:
                labels = vector.astype(object) if vector.dtype.kind == "U" else vector
                out = out.assign_coords({coord: (dim, labels)})
            elif wanted:
                raise SchemaError(
                    f"The entry {entry!r} cannot be the coordinate {coord!r}.",
                    expected=f"a vector as long as exactly one dimension of {dict(out.sizes)}",
                    got=f"shape {values.shape}",
                    where=str(path),
                )
            else:
                unused.append(entry)
    return out.assign_attrs(unused=unused) if unused else out


def _list(arrays: Arrays) -> str:
    return ", ".join(f"{name} {a.shape} {a.dtype}" for name, a in arrays.items())


def _read_zarr(
    path: Path, dims: Sequence[str] | None, variable: str | None, coords: Mapping[str, str] | None
) -> xr.DataArray | xr.Dataset:
    if coords:
        raise ConfigError("A Zarr store has its own coordinates.", got=f"coords={dict(coords)}", where=str(path))
    if not path.is_dir():
        raise IntegrityError("There is no such folder.", expected="a Zarr store", where=str(path))
    out = storage.open(path) if (path / "manifest.json").exists() else _open_plain_zarr(path)
    if variable is not None:
        if not isinstance(out, xr.Dataset) or variable not in out.data_vars:
            names = list(out.data_vars) if isinstance(out, xr.Dataset) else [out.name]
            raise ConfigError("There is no such variable.", expected=f"one of {names}", got=variable, where=str(path))
        out = out[variable]
    if isinstance(out, np.ndarray):
        out = xr.DataArray(out, dims=_name_dims(path, path.name, out, dims)[0])
    if dims is not None and isinstance(out, xr.DataArray) and out.dims != tuple(dims):
        _check_dims(path, tuple(dims), out.shape, str(out.name))
        out = out.rename(dict(zip(out.dims, dims, strict=True)))
    return out


def _open_plain_zarr(path: Path) -> xr.Dataset:
    """Open a store of another writer. It has no manifest, so a missing chunk reads as fill values."""
    import zarr

    try:
        return xr.open_dataset(path, engine="zarr", chunks=None, consolidated=False)
    except (OSError, ValueError, KeyError, zarr.errors.BaseZarrError) as error:
        raise IntegrityError(
            "The folder is not a readable Zarr store.",
            expected="a Zarr group with named dimensions",
            got=str(error),
            where=str(path),
        ) from error
