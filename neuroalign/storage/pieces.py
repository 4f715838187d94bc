"""A store that is made piece by piece, by any number of processes, and goes on after a kill.

Until it is whole it lies in a hidden folder beside its name. A piece is one block of targets: for each variable one
whole file, so that no two writers ever share one. Its record, with the sha256 of these files, is written after them:
what has no record is made again. When no piece is missing the manifest is written, and the folder gets its name.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import ConfigError, IntegrityError
from neuroalign.storage import atomic, codec, locks, store
from neuroalign.storage.keys import sha256_file
from neuroalign.storage.manifest import MANIFEST, check, write_manifest

__all__ = ["Pieces", "begin", "digest", "earlier", "piece_shape"]

JOB, RECORDS, LOCK = ".job.json", ".records", ".lock"
MadeFrom = Mapping[str, tuple[str, str]]
INNER = 256  # targets that are decoded together, so that a few of them can be read


@dataclass(frozen=True)
class Pieces:
    """A store in the making. It pickles as a few names and numbers, for workers.

    Attributes
    ----------
    folder : pathlib.Path
        Where it is made.
    target : pathlib.Path
        Its name when it is whole.
    key : str
        What it is made from.
    shape, chunk : tuple of int
        Lengths of the target dimensions, and of a piece along them.
    stage : str
        Name of a stage of the work. Each stage writes variables of its own and keeps records of its own.
    """

    folder: Path
    target: Path
    key: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    stage: str = ""

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of pieces along each target dimension."""
        return tuple(math.ceil(n / step) for n, step in zip(self.shape, self.chunk, strict=True))

    def __len__(self) -> int:
        return math.prod(self.grid)

    def region(self, k: int) -> tuple[slice, ...]:
        """Where the k-th piece lies, one slice a target dimension."""
        index = np.unravel_index(k, self.grid)
        lengths = zip(index, self.chunk, self.shape, strict=True)
        return tuple(slice(int(i) * step, min((int(i) + 1) * step, n)) for i, step, n in lengths)

    def first(self, k: int) -> int:
        """Position of the first target of the k-th piece among all, in C order; the others of `piece_shape` follow."""
        return int(np.ravel_multi_index(tuple(part.start for part in self.region(k)), self.shape))

    def name(self, k: int) -> str:
        """The k-th piece in words."""
        bounds = ", ".join(f"{part.start}:{part.stop}" for part in self.region(k))
        return f"chunk {k + 1} of {len(self)} (targets [{bounds}])"

    def write(self, k: int, values: Mapping[str, NDArray[Any]], note: Mapping[str, Any]) -> None:
        """Write a piece, and then its record.

        Parameters
        ----------
        k : int
            Number of the piece.
        values : mapping of str to ndarray
            Each variable of the store, the targets of the piece along its last dimensions.
        note : mapping
            What the record keeps beside, as JSON.

        Raises
        ------
        IntegrityError
            If the disk is full, read-only or failing.
        """
        try:
            files = dict(self._write(k, name, part) for name, part in values.items())
            record = json.dumps({"files": files, "note": note}, sort_keys=True).encode()
            temporary = self._record(k).with_suffix(".partial")
            temporary.parent.mkdir(exist_ok=True)
            atomic.write_file(temporary, record)
            atomic.fsync(temporary)
            atomic.replace(temporary, self._record(k))
            atomic.fsync(temporary.parent)
        except OSError as error:
            raise atomic.translate(error, self.target, None) from error

    def _write(self, k: int, name: str, values: NDArray[Any]) -> tuple[str, list[Any]]:
        import zarr

        file = self._file(k, name, values.ndim)
        atomic.operation_hook("write", file)
        array = zarr.open_array(str(self.folder / name), mode="r+", zarr_format=3)
        array = array.with_config({"write_empty_chunks": True})  # an absent file is damage
        selection: Any = (..., *self.region(k))
        array[selection] = values
        atomic.fsync(file)
        return file.relative_to(self.folder).as_posix(), [file.stat().st_size, sha256_file(file)]

    def _file(self, k: int, name: str, ndim: int) -> Path:
        index = np.unravel_index(k, self.grid)
        leading = ["0"] * (ndim - len(index))
        return self.folder.joinpath(name, "c", *leading, *(str(int(i)) for i in index))

    def _record(self, k: int) -> Path:
        return self.folder / f"{RECORDS}{self.stage}" / f"{k}.json"

    def read(self, k: int, name: str) -> NDArray[Any]:
        """Read what was written of a variable.

        Parameters
        ----------
        k : int
            Number of the piece.
        name : str
            The variable.

        Returns
        -------
        ndarray
            As given to `write`.

        Raises
        ------
        IntegrityError
            If its file is damaged.
        """
        import zarr

        try:
            selection: Any = (..., *self.region(k))
            return np.asarray(zarr.open_array(str(self.folder / name), mode="r", zarr_format=3)[selection])
        except (ValueError, OSError) as error:
            raise self._damaged(k, self.folder / name, "whole chunks", str(error)) from error

    def notes(self, *, verify: bool = True) -> dict[int, Any]:
        """Notes of the pieces that are finished.

        Parameters
        ----------
        verify : bool
            Compare the files of each piece with the sha256 in its record.

        Returns
        -------
        dict of int to object
            Number of a piece, and its note.

        Raises
        ------
        IntegrityError
            If the file of a finished piece was changed or lost.
        """
        found = {}
        for k in range(len(self)):
            with suppress(FileNotFoundError):
                found[k] = self._read(k, verify)
        return found

    def _read(self, k: int, verify: bool) -> Any:
        record = self._record(k)
        raw = record.read_bytes()
        try:
            content = json.loads(raw)
            files, note = content["files"], content["note"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(k, record, "a record", f"{len(raw)} bytes that are not one") from error
        for name, (size, digest) in files.items() if verify else ():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != size:
                got = f"{path.stat().st_size} bytes" if path.is_file() else "no file"
                raise self._damaged(k, path, f"{size} bytes", got)
            if (sha256 := sha256_file(path)) != digest:
                raise self._damaged(k, path, f"sha256 {digest}", sha256)
        return note

    def _damaged(self, k: int, path: Path, expected: str, got: str) -> IntegrityError:
        return IntegrityError(
            f"A finished chunk of an unfinished result is damaged: {self.name(k)}.",
            expected=expected,
            got=got,
            where=path,
            fix=f"remove {self._record(k)} to have this chunk made again, or start anew with resume=False",
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one who works on it.

        Raises
        ------
        IntegrityError
            If another process does.
        """
        with locks.hold(self.folder / LOCK, timeout=0.0, what=f"the unfinished {self.target.name}"):
            yield

    def finish(self, *, made_from: MadeFrom | None = None, **extra: Any) -> Path:
        """Write the manifest and give the folder its name.

        Parameters
        ----------
        made_from : mapping, optional
            As in `begin`.
        **extra : object
            Further entries of the manifest, JSON-safe.

        Returns
        -------
        pathlib.Path
            The store.

        Raises
        ------
        IntegrityError
            If a file changed since its piece was finished, or the disk fails.
        """
        try:
            for records in self.folder.glob(f"{RECORDS}?*"):
                replace(self, stage=records.name.removeprefix(RECORDS)).notes()
            notes = self.notes()
            pieces = [notes[k] for k in range(len(self))]
            write_manifest(
                self.folder,
                kind="Dataset",
                name=None,
                nodes=["/"],
                key=self.key,
                pieces=pieces,
                chunk=self.chunk,
                made_from=dict(made_from or {}),
                **extra,
            )
        except OSError as error:
            raise atomic.translate(error, self.target, None) from error
        atomic.adopt(self.folder, self.target)
        for path in self.target.glob(".*"):  # job, records, and what killed processes left
            with suppress(OSError):
                atomic.remove(path)
        return self.target


def begin(
    path: str | os.PathLike[str],
    template: xr.Dataset,
    dims: tuple[str, ...],
    chunk: tuple[int, ...],
    *,
    key: str,
    made_from: MadeFrom | None = None,
    resume: bool = True,
) -> Pieces:
    """Start a store that is made piece by piece, or go on with one.

    Parameters
    ----------
    path : path-like
        Its name when it is whole.
    template : Dataset
        Coordinates and attributes as they will be; of data variables only type, shape and attributes count.
    dims : tuple of str
        The target dimensions: the last ones of every variable.
    chunk : tuple of int
        Length of a piece along them.
    key : str
        Content key of all that it is made from.
    made_from : mapping of str to (str, str), optional
        What that is: a name, its own content key, and a short text or "". Errors tell from it what differs.
    resume : bool
        Go on with what a killed process left. False removes it.

    Returns
    -------
    Pieces
        The store in the making.

    Raises
    ------
    ConfigError
        If an unfinished store of other inputs or parameters is there.
    IntegrityError
        If the place cannot be written, or holds something else.
    """
    target = Path(os.path.abspath(path))
    atomic.refuse_foreign(target)
    atomic.recover(target)
    folder = target.with_name(f".{target.name}.unfinished")
    pieces = Pieces(folder, target, key, tuple(template.sizes[dim] for dim in dims), tuple(chunk))
    parts = {name: list(part) for name, part in (made_from or {}).items()}
    job = {"key": key, "shape": list(pieces.shape), "chunk": list(pieces.chunk), "made_from": parts}
    if not resume and folder.is_dir():
        with pieces.held():  # not under the hands of another process
            pass
        atomic.discard(folder)
    found = _job(folder)
    if found is None:
        try:
            found = _create(pieces, template, len(dims), job)
        except OSError as error:
            raise atomic.translate(error, target, None) from error
    if found != job:
        raise _other(folder, found, key, made_from)
    return pieces


def earlier(path: str | os.PathLike[str], key: str, made_from: MadeFrom | None = None) -> list[Any] | None:
    """Notes of the pieces of a finished store.

    Parameters
    ----------
    path : path-like
        The store.
    key : str
        The content key that it should have.
    made_from : mapping, optional
        As in `begin`.

    Returns
    -------
    list or None
        One note a piece; None where there is nothing.

    Raises
    ------
    ConfigError
        If it was made from something else.
    """
    target = Path(os.path.abspath(path))
    atomic.recover(target)
    if not (target / MANIFEST).is_file():
        return None
    manifest = check(target, "sizes")
    if manifest.get("key") != key:
        raise _other(target, manifest, key, made_from)
    return list(manifest["pieces"])


def _other(folder: Path, found: Mapping[str, Any], key: str, made_from: MadeFrom | None) -> ConfigError:
    told = _differences(found.get("made_from") or {}, made_from or {})
    earlier_key = found.get("key")
    return ConfigError(
        "A result of other inputs or parameters is here; the two are not mixed.",
        expected=f"content key {key[:16]}",
        got=told or (None if earlier_key is None else f"content key {str(earlier_key)[:16]}"),
        where=folder,
        fix="choose another path, or pass resume=False to replace it",
    )


def _differences(earlier: Mapping[str, Any], now: MadeFrom) -> str:
    """What two results are made from, where that differs, in words."""
    told = []
    for name in dict.fromkeys([*now, *earlier]):
        (then, before), (key, text) = earlier.get(name, ("", "")), now.get(name, ("", ""))
        if then != key:
            told.append(f"{name}: {before or 'other'} then, {text or 'these'} now" if before or text else name)
    return f"another {'; another '.join(told)}" if told else ""


def _job(folder: Path) -> dict[str, Any] | None:
    """What an unfinished store is made from; None where there is none."""
    try:
        found = json.loads((folder / JOB).read_bytes())
    except OSError:
        return None
    except ValueError as error:
        raise IntegrityError(
            "An unfinished result is damaged.", where=folder / JOB, fix="pass resume=False to start anew"
        ) from error
    return found if isinstance(found, dict) else {}


def _create(pieces: Pieces, template: xr.Dataset, n_dims: int, job: dict[str, Any]) -> dict[str, Any]:
    """Make the folder without values; give the job of whoever was first."""
    import zarr

    target = pieces.target
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic.sweep(target)
    try:
        store.write_node(temporary, template.drop_vars(list(template.data_vars)), None, None)
        group = zarr.open_group(str(temporary), mode="r+", zarr_format=3)
        group.attrs.put(store.group_attrs(template))
        for name, variable in template.data_vars.items():
            _create_array(group, codec.check_name(name), variable.variable, n_dims, pieces.chunk)
        store.consolidate(temporary)
        (temporary / RECORDS).mkdir()
        atomic.write_file(temporary / JOB, json.dumps(job).encode())
        atomic.flush(temporary)
        with suppress(FileExistsError):
            _name(temporary, pieces.folder)
        atomic.fsync(target.parent)
    finally:
        atomic.discard(temporary)
    return _job(pieces.folder) or {}


def _name(temporary: Path, folder: Path) -> None:
    """Rename, unless another process was first."""
    try:
        atomic.replace(temporary, folder)
    except OSError as error:
        if not folder.is_dir():
            raise
        raise FileExistsError(str(folder)) from error


def _create_array(group: Any, name: str, variable: xr.Variable, n_targets: int, chunk: tuple[int, ...]) -> None:
    from zarr.codecs import Crc32cCodec

    whole = (*(max(1, n) for n in variable.shape[: variable.ndim - n_targets]), *chunk)
    inner = (*whole[:-1], INNER) if whole[-1] > INNER and whole[-1] % INNER == 0 and variable.ndim > n_targets else None
    group.create_array(
        name,
        shape=variable.shape,
        dtype=variable.dtype,
        chunks=inner or whole,
        shards=whole if inner else None,
        compressors=[Crc32cCodec()],
        dimension_names=tuple(map(str, variable.dims)),
        attributes=codec.json_attrs(variable.attrs, name),
        config={"write_empty_chunks": True},
    )


def piece_shape(shape: tuple[int, ...], wanted: int) -> tuple[int, ...]:
    """Cut the last dimensions whole and the first one that does not fit into slabs, about `wanted` targets a piece.

    Parameters
    ----------
    shape : tuple of int
        Lengths of the target dimensions.
    wanted : int
        Targets a piece.

    Returns
    -------
    tuple of int
        Lengths of a piece.

    Examples
    --------
    >>> piece_shape((300_000,), 4096), piece_shape((40, 64, 64), 10_000), piece_shape((40, 64, 64), 100)
    ((4096,), (2, 64, 64), (1, 1, 64))
    """
    lengths, room = [], max(1, wanted)
    for n in reversed(shape):
        lengths.append(min(max(1, n), room))
        room = room // lengths[-1] if lengths[-1] == max(1, n) else 1
    return tuple(reversed(lengths))


def digest(*arrays: NDArray[Any]) -> str:
    """Sha256 of the bytes of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(repr((array.dtype.str, array.shape)).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
