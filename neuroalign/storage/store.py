"""Labelled objects on disk: a Zarr v3 folder with checksums, published whole, its manifest written last."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.storage import atomic, codec, layout
from neuroalign.storage.manifest import Verify, write_manifest
from neuroalign.storage.manifest import verify as verify_folder

__all__ = ["Storable", "is_store", "open", "save"]

Storable = xr.Dataset | xr.DataArray | xr.DataTree | np.ndarray
_ARRAY_NAME = "values"  # variable that holds an unnamed DataArray or a plain array


def save(
    obj: Storable,
    path: str | os.PathLike[str],
    *,
    seed: int | None = None,
    inputs: Iterable[str | os.PathLike[str]] | Mapping[str, str] = (),
) -> Path:
    """Write a labelled object to a folder that any Zarr v3 reader opens.

    Chunks are compressed (zstd) and carry a CRC-32C each; empty chunks are written, so that an absent one is damage
    and not zeros. The folder appears under its name only when it is whole; an earlier one is replaced in that moment.

    Parameters
    ----------
    obj : xarray.Dataset, xarray.DataArray, xarray.DataTree or numpy.ndarray
        What to write. Lazy data are written in blocks of about 64 MB.
    path : path-like
        The folder, by custom ``*.zarr``.
    seed : int, optional
        The seed behind it, for the manifest.
    inputs : iterable of paths, or mapping of name to sha256
        What it was made from, for the manifest.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    SchemaError
        If a name, attribute or value cannot be stored.
    IntegrityError
        If the disk is full, read-only or failing. The earlier folder is kept.

    Examples
    --------
    >>> import tempfile
    >>> x = xr.DataArray([[1.0, 2.0]], dims=("stimulus", "unit"), coords={"stimulus": ["dog"]}, name="fc")
    >>> path = save(x, Path(tempfile.mkdtemp()) / "fc.zarr", seed=0)
    >>> open(path).identical(x)
    True
    """
    kind, name, nodes = _nodes(obj)
    with atomic.publish(path, needed=sum(node.nbytes for node in nodes.values())) as folder:
        import zarr

        for node_path, node in nodes.items():
            where = folder if node_path == "/" else folder / node_path.strip("/")
            _write_node(zarr.create_group(str(where), zarr_format=3, attributes=_group_attrs(node)), node)
        with warnings.catch_warnings():  # consolidation lets xarray open the folder without listing it
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            zarr.consolidate_metadata(str(folder), zarr_format=3)
        write_manifest(folder, seed=seed, inputs=inputs, kind=kind, name=name, nodes=list(nodes))
    return Path(path)


def open(path: str | os.PathLike[str], *, verify: Verify = "sizes", lazy: bool = True) -> Any:
    """Open what `save` wrote.

    Parameters
    ----------
    path : path-like
        The folder.
    verify : {"sizes", "full", "none"}
        How much is checked now. Chunks are checked by their CRC-32C whenever they are read.
    lazy : bool
        Leave data variables on disk until they are used. Coordinates are always read.

    Returns
    -------
    xarray.Dataset, xarray.DataArray, xarray.DataTree or numpy.ndarray
        What was saved.

    Raises
    ------
    IntegrityError
        If the folder is absent, unfinished, cut or damaged; for a chunk that changed but kept its length, when it is
        read.
    """
    folder = Path(path)
    atomic.recover(folder)
    manifest = verify_folder(folder, verify)
    try:
        kind, name, node_paths = manifest["kind"], manifest["name"], manifest["nodes"]
    except KeyError as error:
        raise IntegrityError(
            "This folder holds no labelled data.", expected="a folder written by storage.save", where=folder
        ) from error
    nodes = {p: _read_node(folder / p.strip("/"), lazy=lazy and kind != "ndarray") for p in node_paths}
    return _restore(kind, name, nodes)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is a finished store.

    Parameters
    ----------
    path : path-like
        The folder.

    Returns
    -------
    bool
        True when it has a manifest and Zarr metadata.
    """
    return (Path(path) / "manifest.json").is_file() and (Path(path) / "zarr.json").is_file()


def _nodes(obj: Storable) -> tuple[str, str | None, dict[str, xr.Dataset]]:
    """Kind, name and one Dataset a group."""
    if isinstance(obj, xr.DataTree):
        return "DataTree", obj.name, {node.path: node.to_dataset(inherit=False) for node in obj.subtree}
    if isinstance(obj, xr.Dataset):
        return "Dataset", None, {"/": obj}
    if isinstance(obj, np.ndarray):
        dims = [f"dim_{k}" for k in range(obj.ndim)]
        return "ndarray", None, {"/": xr.Dataset({_ARRAY_NAME: (dims, obj)})}
    if isinstance(obj, xr.DataArray):
        if obj.name is not None and not isinstance(obj.name, str):
            raise SchemaError("The name of an array must be text.", expected="str", got=obj.name)
        name = obj.name or _ARRAY_NAME
        while name in obj.coords or name in obj.dims:
            name += "_"
        return "DataArray", obj.name, {"/": obj.rename(name).to_dataset()}
    raise SchemaError(
        "This cannot be stored.",
        expected="xarray.Dataset, DataArray, DataTree or numpy.ndarray",
        got=type(obj).__qualname__,
    )


def _restore(kind: str, name: str | None, nodes: dict[str, xr.Dataset]) -> Any:
    if kind == "DataTree":
        return xr.DataTree.from_dict(nodes, name=name)
    (node,) = nodes.values()
    if kind == "Dataset":
        return node
    (variable,) = node.data_vars
    return node[variable].values if kind == "ndarray" else node[variable].rename(name)


def _group_attrs(node: xr.Dataset) -> dict[str, Any]:
    for dim, index in node.indexes.items():
        if isinstance(index, pd.MultiIndex):
            raise SchemaError("A MultiIndex cannot be stored.", where=dim, fix=f"obj.reset_index({dim!r})")
    coords = [str(name) for name in node.coords]
    attrs = codec.json_attrs(node.attrs, "the dataset")
    # `coordinates` is what other readers of Zarr with xarray's conventions look at
    return {**attrs, "coordinates": " ".join(coords), codec.KEY: {"coords": coords, "variables": list(node.data_vars)}}


def _write_node(group: Any, node: xr.Dataset) -> None:
    for name, variable in node.variables.items():
        _write_variable(group, codec.check_name(name), variable)


def _write_variable(group: Any, name: str, variable: xr.Variable) -> None:
    from zarr.codecs import Crc32cCodec, ZstdCodec

    variable, dtype, note = codec.encode(name, variable)
    itemsize = 16 if dtype == "str" else np.dtype(dtype).itemsize
    dims = tuple(codec.check_name(dim) for dim in variable.dims)
    chunks = layout.chunk_shape(dims, variable.shape, itemsize, variable.attrs)
    shards = layout.shard_shape(dims, variable.shape, chunks, itemsize)
    array = group.create_array(
        name,
        shape=variable.shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        dimension_names=dims,
        attributes=codec.json_attrs(variable.attrs, name) | ({codec.KEY: note} if note else {}),
        config={"write_empty_chunks": True},
    )
    for tile in layout.tiles_of(variable.shape, shards or chunks, itemsize):
        values = np.asarray(variable[tile].values)
        array[tile or ...] = values if dtype == "str" else values.astype(dtype, copy=False)


def _read_node(folder: Path, *, lazy: bool) -> xr.Dataset:
    import zarr

    with codec.damage_reported(folder):
        group = zarr.open_group(str(folder), mode="r", zarr_format=3, use_consolidated=False)
        attrs: dict[str, Any] = dict(group.attrs)
        names = attrs.pop(codec.KEY)
        if attrs.get("coordinates") == " ".join(names["coords"]):
            del attrs["coordinates"]
        coords = {name: codec.read(folder / name, lazy=False) for name in names["coords"]}
        data = {name: codec.read(folder / name, lazy=lazy) for name in names["variables"]}
        return xr.Dataset(data, coords, attrs)
