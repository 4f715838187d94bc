"""Is the file whole? Headers against sizes, before MNE reads and before anything is allocated."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.loaders._mat5 import check_elements

__all__ = [
    "FIF_AVERAGE",
    "FIF_EPOCHS",
    "FIF_MAXSHIELD",
    "FIF_RAW",
    "Declared",
    "check_ctf",
    "check_kit",
    "check_mat",
    "check_names",
    "cut",
    "damaged",
    "number",
    "scan_fif",
]

MAX_CHANNELS = 100_000
FIF_RAW, FIF_EPOCHS, FIF_AVERAGE, FIF_MAXSHIELD = frozenset({102, 112}), frozenset({373}), frozenset({104}), 119
_FIFF_FILE_ID, _FIFF_BLOCK_START, _FIFF_BLOCK_END, _FIFF_DATA_BUFFER = 100, 104, 105, 300
# More than real recordings reach, less than what would keep a machine busy for minutes.
_GZIP_RATIO, _GZIP_FREE = 200, 2**28


@dataclass
class Declared:
    """What the header of a recording says.

    Attributes
    ----------
    files : list of Path
        All files of the recording.
    channels : list of str
        Channel names as written (empty: not read here).
    units : list of str
        Unit of each channel as written.
    problem : IntegrityError or None
        Set where the file is cut, and that was allowed.
    buffers : list of (int, int, int)
        Where the data of a FIF file lie: first byte, type of the numbers, and bytes of each buffer.
    blocks : set of int
        Kinds of FIF blocks.
    onsets : bool
        Whether the file says when its trials began.
    taken : float or None
        Factor that MNE applies to the numbers in the file, where the format has one.
    """

    files: list[Path]
    channels: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    problem: IntegrityError | None = None
    buffers: list[tuple[int, int, int]] = field(default_factory=list)
    blocks: set[int] = field(default_factory=set)
    onsets: bool = True
    taken: float | None = None


def cut(path: Path, expected: int, found: int, what: str = "bytes", *, usable: bool = False) -> IntegrityError:
    """Word the error of a file that is shorter (or longer) than its header says; of a `usable` one the rest is read."""
    problem = "The file is cut short." if found < expected else "The file is longer than its header says."
    return IntegrityError(
        problem,
        expected=f"{expected} {what}",
        got=f"{found} {what}",
        where=path,
        fix="copy or download it again" + ("; allow_truncated=True reads what is there" if usable else ""),
    )


def damaged(path: Path, field_: str, expected: object, got: object) -> IntegrityError:
    """Word the error of a header field that cannot be true."""
    return IntegrityError(
        f"The header is damaged: {field_}.", expected=expected, got=got, where=path, fix="copy or download it again"
    )


def check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse channel names that occur twice; MNE would rename them silently."""
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise SchemaError(
            "Channel names repeat.",
            expected="unique names",
            got=sorted(set(twice))[:5],
            where=path,
            fix="rename them in the file, or leave them out with exclude=[...] where the format allows it",
        )


def number(path: Path, name: str, text: str, kind: type[int] | type[float] = int) -> float:
    """Parse a number of a header, or say which field is damaged."""
    try:
        value = kind(text)
    except ValueError:
        raise damaged(path, name, "a number", text) from None
    if not math.isfinite(value):
        raise damaged(path, name, "a finite number", text)
    return value


def check_mat(path: Path, max_bytes: int = 8 * 2**30) -> None:
    """Check the structure of a MATLAB 5 file, and that it ends where the file ends; HDF5 checks itself on opening.

    Parameters
    ----------
    path : Path
        A ``.mat`` or ``.set`` file.
    max_bytes : int
        Refuse files that unpack to more.

    Raises
    ------
    IntegrityError
        If an element is cut or damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(128)
        if len(head) < 128:
            raise cut(path, 128, len(head), "bytes of header")
        if head[:10] != b"MATLAB 5.0":
            return
        order = "<" if head[126:128] == b"IM" else ">"
        at = 128
        while at < size:
            file.seek(at)
            tag = file.read(8)
            if len(tag) < 8:
                raise cut(path, at + 8, size)
            kind, count = struct.unpack(order + "II", tag)
            # Only compressed elements are stored without padding to 8 bytes.
            at += 8 + (count if kind == 15 else -(-count // 8) * 8)
        if at > size:
            raise cut(path, at, size)
        if at == 128:
            raise cut(path, 136, size)
    check_elements(path, max_bytes)


def scan_fif(path: Path, *, allow_truncated: bool = False) -> Declared:
    """Follow the tags of a FIF file to its end.

    Parameters
    ----------
    path : Path
        A ``.fif`` or ``.fif.gz`` file. The latter is decompressed to its end, which checks its checksum.
    allow_truncated : bool
        Note a missing end instead of refusing it.

    Returns
    -------
    Declared
        With the kinds of blocks found.

    Raises
    ------
    IntegrityError
        If the file is not FIF, or ends before its last tag.
    """
    declared = Declared([path])
    size = path.stat().st_size
    packed = path.suffix == ".gz"
    try:
        # Without a buffer: the tags of a long recording lie far apart.
        with gzip.open(path, "rb") if packed else path.open("rb", buffering=0) as file:
            _walk_fif(path, cast(IO[bytes], file), None if packed else size, declared)
            if packed:
                while file.read(2**20):
                    pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problem = damaged(path, f"the gzip stream ({error})", "a whole gzip stream", f"{size} bytes")
    except IntegrityError as error:
        problem = error
    else:
        return declared
    if not allow_truncated or not declared.blocks:
        raise problem
    declared.problem = problem
    return declared


def _walk_fif(path: Path, file: IO[bytes], size: int | None, declared: Declared) -> None:
    at, n_tags, last = 0, 0, 0
    limit = size if size is not None else max(_GZIP_FREE, path.stat().st_size * _GZIP_RATIO)
    while True:
        file.seek(at)
        tag = file.read(16)
        if len(tag) < 16:
            raise cut(path, at + 16, at + len(tag) if size is None else size, usable=True)
        kind, _, count, follow = struct.unpack(">iIii", tag)
        if n_tags == 0 and (kind != _FIFF_FILE_ID or count != 20):
            raise IntegrityError("Not a FIF file.", expected="a FIF file id", got=f"tag {kind}", where=path)
        if count < 0 or follow < -1 or (n_tags := n_tags + 1) > limit // 16 + 1:
            raise damaged(path, f"tag at byte {at}", "a tag of positive size", f"size {count}, next {follow}")
        if kind == _FIFF_BLOCK_START and count == 4:
            declared.blocks.update(struct.unpack(">i", file.read(4).ljust(4, b"\0")))
        if kind == _FIFF_DATA_BUFFER:
            declared.buffers.append((at + 16, *struct.unpack_from(">i", tag, 4), count))
        last = max(last, at + 16 + count)
        if last > limit:
            if size is None:
                raise damaged(path, "size", f"at most {limit} bytes", last)
            raise cut(path, last, limit, usable=True)
        if follow == -1:
            break
        at = at + 16 + count if follow == 0 else follow
    if size is None and last > file.tell():  # the end of a compressed stream is only known by reading up to it
        file.seek(last - 1)
        if len(file.read(1)) < 1:
            raise cut(path, last, file.tell(), usable=True)


def check_kit(path: Path) -> None:
    """Compare the directory of a KIT file with the size of the file.

    Parameters
    ----------
    path : Path
        A ``.sqd`` or ``.con`` file.

    Raises
    ------
    IntegrityError
        If an entry lies beyond the end.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16 * 256)
    if len(head) < 16:
        raise cut(path, 16, len(head), "bytes of header")
    count = struct.unpack_from("<i", head, 12)[0]
    if not 0 < count <= 256:
        raise damaged(path, "number of directory entries", "1 to 256", count)
    if len(head) < 16 * count:
        raise cut(path, 16 * count, len(head), "bytes of header")
    for k in range(count):
        offset, each, _, n = struct.unpack_from("<Iiii", head, 16 * k)
        # Entry 10 is data that a continuous file may announce without holding it.
        if k != 10 and each > 0 and n > 0 and offset + each * n > size:
            raise cut(path, offset + each * n, size)


def check_ctf(path: Path, n_channels: int, n_times: int) -> None:
    """Compare the size of the data of a CTF folder with its shape."""
    files = sorted([*path.glob("*.meg4"), *path.glob("*.[1-9]_meg4")])
    size = sum(file.stat().st_size - 8 for file in files)
    frame = 4 * n_channels
    if files and (size < frame * n_times or size % frame):
        raise cut(files[0], frame * n_times + 8, files[0].stat().st_size)
