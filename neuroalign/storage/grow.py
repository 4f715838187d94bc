"""Add a run, trials or a further stretch of time to a finished store, all or nothing, while others read it."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign import schema
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.storage import atomic, codec, journal, layout, locks, store
from neuroalign.storage._continue import Continuation, check_sites, merge_attrs
from neuroalign.storage.manifest import check, extend_manifest
from neuroalign.storage.packing import InexactError

__all__ = ["append"]


def append(
    obj: xr.Dataset | xr.DataArray,
    path: str | os.PathLike[str],
    *,
    run: str | None = None,
    dim: str | None = None,
    timeout: float = 60.0,
    inputs: Iterable[str | os.PathLike[str]] | Mapping[str, str] = (),
) -> Path:
    """Add to a store that `save` wrote: a run to a tree, or trials or time to a recording.

    Everything is written beside the stored files first and becomes part of the store in one moment. A process that is
    killed leaves the store as it was or with the whole addition. Others may read meanwhile: what they opened stays
    what it was, and what they open is the store before or after. One process adds at a time.

    Parameters
    ----------
    obj : Dataset or DataArray
        What to add. Lazy data are written in blocks of about 64 MB.
    path : path-like
        The store.
    run : str, optional
        Place of a new node in a store of a DataTree, such as ``"sub-01/run-03"``; or, with `dim`, of the node that
        grows.
    dim : str, optional
        The dimension that grows; by default the one that counts samples (trials before time). Variables with it go
        on; others must be equal. Labels of other dimensions must be the same, in the same order. Channels marked
        ``bad`` in either are ``bad``. Events grow along with time; their ``onset`` counts from the first sample of the
        store, and events that are the same in all columns are kept once, as slices of a recording carry them all.
    timeout : float
        Seconds to wait for another process that adds to the store.
    inputs : iterable of paths, or mapping of name to sha256
        What the addition was made from, for the manifest.

    Returns
    -------
    pathlib.Path
        The store.

    Raises
    ------
    AlignmentError
        If labels, clocks, units or variables do not go on from those of the store, or the run is there already.
    SchemaError
        If a value cannot be stored, such as one between the steps of 16-bit integers.
    ConfigError
        If the store needs `run`, or does not take it.
    IntegrityError
        If there is no such store, another process holds it for too long, or the disk is full or failing. The store is
        kept as it was.

    Examples
    --------
    >>> import tempfile
    >>> x = xr.DataArray([[1.0], [2.0]], dims=("trial", "channel"), coords={"trial": [0, 1]}, name="eeg")
    >>> path = store.save(x, Path(tempfile.mkdtemp()) / "trials.zarr")
    >>> _ = append(x.assign_coords(trial=[2, 3]), path)
    >>> store.open(path)["trial"].values.tolist()
    [0, 1, 2, 3]
    """
    folder = Path(path)
    check(folder, "none")
    with locks.hold(folder / journal.LOCK, timeout=timeout, what="this store"):
        journal.finish(folder)
        before = journal.stamp(folder)
        manifest = check(folder, "sizes")
        try:
            staged = journal.stage(folder)
        except OSError as error:
            raise atomic.translate(error, folder, None) from error
        try:
            changes = _stage(obj, folder, staged, manifest, run, dim)
            _consolidate(folder, staged)
            extend_manifest(staged, manifest, inputs=inputs, **changes)
            journal.commit(folder, staged, before)
        except OSError as error:
            _undo(folder, staged)
            translated = atomic.translate(error, folder, obj.nbytes)
            if translated is error:
                raise
            raise translated from error
        except BaseException:
            _undo(folder, staged)
            raise
    return folder


def _undo(folder: Path, staged: Path) -> None:
    """Remove staged files, unless they are part of the store already and only wait to be moved."""
    if not (folder / journal.RECORD).exists():
        atomic.discard(staged)


def _stage(
    obj: Any, folder: Path, staged: Path, manifest: dict[str, Any], run: str | None, dim: str | None
) -> dict[str, Any]:
    """Write what is new; give what changes in the manifest."""
    if not isinstance(obj, (xr.Dataset, xr.DataArray)):
        raise SchemaError("This cannot be appended.", expected="Dataset or DataArray", got=type(obj).__qualname__)
    kind = manifest.get("kind")
    if kind == "DataTree":
        at = _node_path(run, manifest["nodes"])
        data = obj.to_dataset(name=obj.name or "values") if isinstance(obj, xr.DataArray) else obj
        if dim is None:
            return _add_node(data, folder, staged, manifest, at)
        if at not in manifest["nodes"]:
            raise ConfigError("There is no such run to go on with.", expected=manifest["nodes"], got=at)
        _grow(data, folder, staged, at, dim)
        return {}
    if kind not in ("Dataset", "DataArray"):
        raise ConfigError(
            "This store does not grow.", expected="a Dataset, DataArray or DataTree", got=kind, where=folder
        )
    if run is not None:
        raise ConfigError(
            "This store holds one recording and has no runs.",
            expected="a store of a DataTree",
            got=f"run={run!r}",
            where=folder,
            fix="leave run out to go on in time or trials, or save the runs as an xarray.DataTree",
        )
    if (kind == "DataArray") != isinstance(obj, xr.DataArray):
        raise SchemaError("Not the kind of object that is stored.", expected=kind, got=type(obj).__name__, where=folder)
    if isinstance(obj, xr.DataArray):
        (name,) = codec.read_metadata(folder)["attributes"][codec.KEY]["variables"]
        obj = obj.rename(name).to_dataset()
    _grow(obj, folder, staged, "/", dim)
    return {}


def _node_path(run: str | None, nodes: list[str]) -> str:
    parts = [] if run is None else [part for part in run.split("/") if part]
    if not parts:
        raise ConfigError(
            "The store holds several runs: name the new one.",
            expected="run='...'",
            got=run,
            fix=f"such as run={nodes[-1].strip('/')!r} for the last that is there",
        )
    return "/" + "/".join(codec.check_name(part) for part in parts)


def _add_node(data: xr.Dataset, folder: Path, staged: Path, manifest: dict[str, Any], at: str) -> dict[str, Any]:
    nodes: list[str] = list(manifest["nodes"])
    if at in nodes and (at == "/" or store.read_node(folder / at[1:], lazy=True).variables):
        raise AlignmentError(
            "This run is in the store already.", got=at, where=folder, fix="choose another name, or pass dim= to go on"
        )
    above = ["/" + "/".join(at.split("/")[1:k]) for k in range(1, at.count("/") + 1)]
    for parent in above:
        if parent in nodes:
            check_sites(store.read_node(folder / parent.strip("/"), lazy=True), data, parent)
        else:
            store.write_node(staged / parent.strip("/"), xr.Dataset(), None, None)
            nodes.append(parent)
        if parent != "/" and parent.rsplit("/", 1)[-1] in _variables(folder / parent.rsplit("/", 1)[0].strip("/")):
            raise AlignmentError("A variable has the name of this run.", got=parent, where=folder)
    packed = store.write_node(staged / at[1:], data, None, "auto")
    version = max(manifest["schema_version"], 2 if packed else 1)
    return {"nodes": [*nodes, *([] if at in nodes else [at])], "schema_version": version}


def _variables(folder: Path) -> list[str]:
    try:
        names = codec.read_metadata(folder)["attributes"][codec.KEY]
    except FileNotFoundError:
        return []
    return [*names["coords"], *names["variables"]]


def _consolidate(folder: Path, staged: Path) -> None:
    """Write the root's metadata of what will be there; keep only those files that change."""
    kept = []
    for source in folder.rglob("zarr.json"):
        name = source.relative_to(folder)
        if not name.parts[0].startswith(".") and not (staged / name).exists():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, staged / name)
            kept.append(name)
    store.consolidate(staged)
    for name in kept:
        if (staged / name).read_bytes() == (folder / name).read_bytes():
            (staged / name).unlink()


def _grow(new: xr.Dataset, folder: Path, staged: Path, at: str, dim: str | None) -> None:
    """Write the files of a node that change when it goes on along a dimension."""
    place, target = folder / at.strip("/"), staged / at.strip("/")
    old = store.read_node(place, lazy=True)
    dim = schema.sample_dim(old) if dim is None else dim
    going_on = Continuation.of(old, new, dim)
    target.mkdir(parents=True, exist_ok=True)
    metadata = codec.read_metadata(place)
    own = metadata["attributes"][codec.KEY]
    attrs = codec.json_attrs(merge_attrs(old.attrs, new.attrs, "the dataset"), "the dataset")
    metadata["attributes"] = attrs | {"coordinates": " ".join(own["coords"]), codec.KEY: own}
    _write_json(target / "zarr.json", metadata)
    for name, along in going_on.grown.items():
        _grow_variable(name, along, old[name].variable, going_on.new[name].variable, place, target)
    for name, values in going_on.changed.items():
        _write_part(target / name, place / name, codec.read_metadata(place / name), 0, 0, values)


def _grow_variable(name: str, along: str, old: xr.Variable, new: xr.Variable, place: Path, target: Path) -> None:
    axis = old.dims.index(along)
    metadata = codec.read_metadata(place / name)
    start = metadata["shape"][axis]
    attrs = codec.json_attrs(merge_attrs(old.attrs, new.attrs, name), name)
    note = metadata["attributes"].get(codec.KEY, {})
    values: xr.Variable = new
    if "dtype" in note:  # text and dates: what is noted about them is about all
        both = xr.Variable(old.dims, np.concatenate([_as_text(old), _as_text(new)], axis=axis))
        encoded, _, fresh = codec.encode(name, both)
        if "[" in fresh["dtype"] + note["dtype"] and fresh["dtype"] != note["dtype"]:  # dates of another unit
            raise SchemaError("Not the type that is stored.", expected=note["dtype"], got=fresh["dtype"], where=name)
        values = encoded.isel({along: slice(start, None)})
        note = fresh
    elif new.dtype != old.dtype:
        raise SchemaError(
            "Not the type that is stored.",
            expected=old.dtype,
            got=new.dtype,
            where=name,
            fix="convert it with .astype()",
        )
    packing = codec.packing_of(metadata["attributes"])
    if packing is not None:
        metadata["attributes"] = codec.packed(packing, attrs)
    else:
        metadata["attributes"] = attrs | ({codec.KEY: note} if note else {})
    metadata["shape"][axis] += new.shape[axis]
    _write_part(target / name, place / name, metadata, axis, start, values)


def _as_text(variable: xr.Variable) -> np.ndarray:
    values = np.asarray(variable.values)
    return values if values.dtype.kind in "mMU" else values.astype(object)


def _write_json(path: Path, content: Any) -> None:
    atomic.write_file(path, json.dumps(content, indent=2).encode())


def _write_part(
    target: Path, place: Path, metadata: dict[str, Any], axis: int, start: int, values: xr.Variable
) -> None:
    """Write values from a position on, into copies of the files that hold that position already."""
    import zarr

    target.mkdir(parents=True, exist_ok=True)
    _write_json(target / "zarr.json", metadata)
    unit = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    counts = [math.ceil(n / step) for n, step in zip(metadata["shape"], unit, strict=True)]
    if unit and start % unit[axis]:
        ranges = [[start // unit[axis]] if k == axis else range(n) for k, n in enumerate(counts)]
        for index in itertools.product(*ranges):
            name = Path("c", *map(str, index))
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place / name, target / name)
    packing = codec.packing_of(metadata["attributes"])
    with codec.damage_reported(place):
        array = zarr.open_array(str(target), mode="r+", zarr_format=3).with_config({"write_empty_chunks": True})
    text = metadata["data_type"] == "string"
    dtype: Any = "str" if text else np.dtype(metadata["data_type"])
    for tile in _tiles(values.shape, unit, axis, start, 16 if text else dtype.itemsize):
        try:
            piece = store.stored_values(values[tile].values, tile, dtype, packing)
        except InexactError as error:
            raise SchemaError(
                "These values are none of the 16-bit integers that the store holds.",
                expected="values with the scale and offset of the store",
                got=str(error),
                where=place.name,
                fix="save the store again with quantize=None, and append to that",
            ) from error
        where = tuple(slice(s.start + start, s.stop + start) if k == axis else s for k, s in enumerate(tile))
        with codec.damage_reported(place):
            array[where or ...] = piece


def _tiles(
    shape: tuple[int, ...], unit: tuple[int, ...], axis: int, start: int, itemsize: int
) -> Iterator[tuple[slice, ...]]:
    """Tiles of new values: first those that fill up the last files, then whole files."""
    head = min(-start % unit[axis], shape[axis]) if unit else 0
    for first, last in ((0, head), (head, shape[axis])) if unit else ((0, 0),):
        part = tuple(last - first if k == axis else n for k, n in enumerate(shape))
        for tile in layout.tiles_of(part, unit, itemsize):
            yield tuple(slice(s.start + first, s.stop + first) if k == axis else s for k, s in enumerate(tile))
