"""Labelled objects on disk: a Zarr v3 folder with checksums, published whole, its manifest written last."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.storage import atomic, codec, journal, layout
from neuroalign.storage.manifest import Verify, check, write_manifest
from neuroalign.storage.packing import InexactError, Packing
from neuroalign.storage.packing import find as find_packing

__all__ = ["Quantize", "Storable", "is_store", "open", "save"]

Storable = xr.Dataset | xr.DataArray | xr.DataTree | np.ndarray
Quantize = Literal["auto", "int16"] | None
_WORTH_COMPRESSING = 0.5
_WORTH_PACKING = 1 << 20  # bytes: below, the round trip costs more than it saves
_ARRAY_NAME = "values"  # variable that holds an unnamed DataArray or a plain array


def save(
    obj: Storable,
    path: str | os.PathLike[str],
    *,
    chunks: layout.Chunks = None,
    quantize: Quantize = "auto",
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
    chunks : {"windows", "channels"} or mapping of dim to length, optional
        How arrays are cut. ``"windows"`` (the default): sensors in pieces of all channels and 2 s, 5 minutes a file;
        ``"channels"``: 16 channels and 60 s. Both: voxels in all times and 4096 sites, activations in 256 stimuli
        and all units. A mapping gives lengths by dimension (-1: all) for the variables that have it.
    quantize : {"auto", "int16"} or None
        float32 values that came from 16-bit integers (an amplifier, a scanner) are stored as such, with their scale
        and offset, in half the bytes. Each value is compared with what it will read as; they are equal bit for bit.
        ``"auto"``: where that holds, for variables of 1 MB or more; ``"int16"``: refuse float32 variables with
        dimensions ``time``, ``trial`` or ``k`` for which it does not hold; None: never. NaN is kept.
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
        If a name, attribute or value cannot be stored, or not in 16 bits with ``quantize="int16"``.
    ConfigError
        If the layout is not known.
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
    kind, name, nodes = nodes_of(obj)
    layout.check_chunks(chunks, [str(dim) for node in nodes.values() for dim in node.dims])
    if quantize not in ("auto", "int16", None):
        raise ConfigError("Unknown way to quantize.", expected="'auto', 'int16' or None", got=quantize)
    with atomic.publish(path, needed=sum(node.nbytes for node in nodes.values())) as folder:
        packed = [write_node(folder / at.strip("/"), node, chunks, quantize) for at, node in nodes.items()]
        consolidate(folder)
        version = 2 if any(packed) else 1
        write_manifest(
            folder, seed=seed, inputs=inputs, kind=kind, name=name, nodes=list(nodes), schema_version=version
        )
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
    return journal.consistent(folder, lambda: _open(folder, verify, lazy))


def _open(folder: Path, level: Verify, lazy: bool) -> Any:
    seen = journal.stamp(folder)
    manifest = check(folder, level)
    try:
        kind, name, node_paths = manifest["kind"], manifest["name"], manifest["nodes"]
    except KeyError as error:
        raise IntegrityError(
            "This folder holds no labelled data.", expected="a folder written by storage.save", where=folder
        ) from error
    lineage = journal.Lineage(folder.absolute(), manifest.get("origin", manifest["checksum"]), seen)
    lazy = lazy and kind != "ndarray"
    nodes = {at: read_node(folder / at.strip("/"), lazy=lazy, lineage=lineage) for at in node_paths}
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


def nodes_of(obj: Storable) -> tuple[str, str | None, dict[str, xr.Dataset]]:
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


def group_attrs(node: xr.Dataset) -> dict[str, Any]:
    """Attributes of a group: those of the Dataset, and what its variables are."""
    for dim, index in node.indexes.items():
        if isinstance(index, pd.MultiIndex):
            raise SchemaError("A MultiIndex cannot be stored.", where=dim, fix=f"obj.reset_index({dim!r})")
    coords = [str(name) for name in node.coords]
    attrs = codec.json_attrs(node.attrs, "the dataset")
    # `coordinates` is what other readers of Zarr with xarray's conventions look at
    return {**attrs, "coordinates": " ".join(coords), codec.KEY: {"coords": coords, "variables": list(node.data_vars)}}


def write_node(folder: Path, node: xr.Dataset, chunks: layout.Chunks, quantize: Quantize) -> bool:
    """Write a Dataset as a group; tell whether a variable of it was packed in integers."""
    import zarr

    group = zarr.create_group(str(folder), zarr_format=3, attributes=group_attrs(node))
    packed = [
        _write_variable(group, codec.check_name(name), variable, chunks, quantize)
        for name, variable in node.variables.items()
    ]
    return any(packed)


def consolidate(folder: Path) -> None:
    """Gather all metadata in the root, which lets xarray open the folder without listing it."""
    import zarr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(str(folder), zarr_format=3)


def _write_variable(group: Any, name: str, variable: xr.Variable, chunks: layout.Chunks, quantize: Quantize) -> bool:
    variable, dtype, note = codec.encode(name, variable)
    packing = _find_packing(name, variable, dtype, quantize)
    if packing is not None:
        attrs = codec.packed(packing, codec.json_attrs(variable.attrs, name))
        try:
            _write_array(group, name, variable, np.dtype(np.int16), attrs, chunks, packing)
        except InexactError as error:
            if quantize == "int16":
                raise _not_integers(name, str(error)) from error
        else:
            return True
    attrs = codec.json_attrs(variable.attrs, name) | ({codec.KEY: note} if note else {})
    _write_array(group, name, variable, dtype, attrs, chunks)
    return False


def _find_packing(name: str, variable: xr.Variable, dtype: Any, quantize: Quantize) -> Packing | None:
    must = quantize == "int16" and bool({"time", "trial", "k"} & set(variable.dims)) and variable.size > 0
    if quantize is None or dtype != np.float32 or not (must or variable.nbytes >= _WORTH_PACKING):
        return None
    axis = variable.dims.index("channel") if "channel" in variable.dims else None
    tiles = layout.tiles_of(variable.shape, (1,) * variable.ndim, 4)
    pieces = ((slice(None) if axis is None else tile[axis], np.asarray(variable[tile].values)) for tile in tiles)
    packing = find_packing(pieces, axis, 1 if axis is None else variable.shape[axis])
    if packing is None and must:
        raise _not_integers(name, "values that are no multiples of one step, or need more than 16 bits")
    return packing


def _not_integers(name: str, got: str) -> SchemaError:
    return SchemaError(
        "These values did not come from 16-bit integers.",
        expected="float32 values k * scale + offset, with whole numbers k",
        got=got,
        where=name,
        fix="pass quantize='auto' to pack only what can be, or None",
    )


def _write_array(
    group: Any,
    name: str,
    variable: xr.Variable,
    dtype: Any,
    attrs: dict[str, Any],
    chunks: layout.Chunks,
    packing: Packing | None = None,
) -> None:
    from zarr.codecs import Crc32cCodec, ZstdCodec

    itemsize = 16 if dtype == "str" else np.dtype(dtype).itemsize
    dims = tuple(codec.check_name(dim) for dim in variable.dims)
    shape = layout.chunk_shape(dims, variable.shape, itemsize, variable.attrs, chunks)
    shards = layout.shard_shape(dims, variable.shape, shape, itemsize, variable.attrs)
    worth = packing is not None or _compresses(variable, shape)
    array = group.create_array(
        name,
        shape=variable.shape,
        dtype=dtype,
        chunks=shape,
        shards=shards,
        compressors=[*([ZstdCodec(level=1)] if worth else []), Crc32cCodec()],
        dimension_names=dims,
        attributes=attrs,
        config={"write_empty_chunks": True},
        overwrite=True,  # packed values that turned out not to fit
    )
    for tile in layout.tiles_of(variable.shape, shards or shape, variable.dtype.itemsize):
        array[tile or ...] = stored_values(variable[tile].values, tile, dtype, packing)


def _compresses(variable: xr.Variable, chunk: tuple[int, ...]) -> bool:
    """Whether compression saves enough of a first chunk: decoding floats costs every read a millisecond."""
    from numcodecs import zstd

    if variable.dtype.kind != "f" or variable.nbytes < _WORTH_PACKING:
        return True
    sample = np.ascontiguousarray(variable[tuple(slice(n) for n in chunk)].values)
    return len(zstd.compress(sample, 1)) < _WORTH_COMPRESSING * sample.nbytes


def stored_values(values: Any, tile: tuple[slice, ...], dtype: Any, packing: Packing | None) -> np.ndarray:
    """What is written for a piece of an array."""
    if packing is not None:
        return packing.pack(np.asarray(values), slice(None) if packing.axis is None else tile[packing.axis])
    return np.asarray(values) if dtype == "str" else np.asarray(values).astype(dtype, copy=False)


def read_node(folder: Path, *, lazy: bool, lineage: journal.Lineage | None = None) -> xr.Dataset:
    """Read a group as a Dataset."""
    with codec.damage_reported(folder):
        attrs: dict[str, Any] = dict(codec.read_metadata(folder)["attributes"])
        names = attrs.pop(codec.KEY)
        if attrs.get("coordinates") == " ".join(names["coords"]):
            del attrs["coordinates"]
        coords = {name: codec.read(folder / name, lazy=False) for name in names["coords"]}
        data = {name: codec.read(folder / name, lazy=lazy, lineage=lineage) for name in names["variables"]}
        return xr.Dataset(data, coords, attrs)
