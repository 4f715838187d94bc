"""The byte layer of NIfTI: a checked header, a stream of volumes, and a lazy array that holds no open file.

nibabel parses the header. The voxels are read here because nibabel stops before the checksum at the end of a gzip
stream, and because a memory map inside a lazy array is copied by value when it is pickled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign.convert import nifti_header
from neuroalign.errors import ConfigError, IntegrityError, SchemaError, require
from neuroalign.loaders._stream import GZIP_MAX_RATIO, Stream

__all__ = [
    "CIFTI_INTENTS",
    "LoadedImage",
    "NiftiArray",
    "NiftiFile",
    "check_memory",
    "check_unchanged",
    "header_of",
    "iter_volumes",
    "open_nifti",
    "outer",
    "verify_stream",
]

_BLOCK_BYTES = 8 << 20
_MAX_EXCESS = 1 << 20
CIFTI_INTENTS = range(3000, 3100)


class _Scaled:
    """Where voxels lie and what their stored numbers mean."""

    affine: tuple[float, ...]
    slope: float
    inter: float

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as a (4, 4) array."""
        return np.array(self.affine).reshape(4, 4)

    def scale(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Turn stored numbers into native float32, rounded once from float64."""
        if self.slope == 1.0 and self.inter == 0.0 and stored.dtype.itemsize <= 4:
            return stored.astype(np.float32)
        return (stored.astype(np.float64) * self.slope + self.inter).astype(np.float32)


@dataclass(frozen=True)
class NiftiFile(_Scaled):
    """What is needed to read the voxels of one NIfTI file again, and nothing that is open.

    Attributes
    ----------
    path : str
        The file.
    shape : tuple of int
        ``(time, k, j, i)``, slowest first, which is the order on disk. A 3-D image has one time point.
    ndim : int
        3 or 4, as the header says.
    dtype : str
        Type of the stored numbers with their byte order, for example ``">i2"``.
    offset : int
        First byte of the voxels (after decompression).
    slope, inter : float
        Values are ``stored * slope + inter``.
    affine : tuple of float
        Row-major 4 x 4 matrix from voxel indices ``(i, j, k, 1)`` to mm.
    zoom_t : float
        ``pixdim[4]`` as written.
    time_unit : str
        Unit of ``pixdim[4]`` as written: ``"sec"``, ``"msec"``, ``"usec"`` or ``"unknown"``.
    header : str
        What else the header says, as JSON, for the way back.
    size, mtime_ns : int
        Size and modification time on opening, compared on each later read.
    """

    path: str
    shape: tuple[int, int, int, int]
    ndim: int
    dtype: str
    offset: int
    slope: float
    inter: float
    affine: tuple[float, ...]
    zoom_t: float
    time_unit: str
    header: str
    size: int
    mtime_ns: int

    @property
    def compressed(self) -> bool:
        """Whether the file is a gzip stream."""
        return self.path.lower().endswith(".gz")

    @property
    def volume_bytes(self) -> int:
        """Stored bytes of one volume."""
        return int(np.prod(self.shape[1:], dtype=object)) * np.dtype(self.dtype).itemsize

    @property
    def end(self) -> int:
        """Bytes that the whole file has, after decompression."""
        return self.offset + self.shape[0] * self.volume_bytes


@dataclass(frozen=True)
class LoadedImage(_Scaled):
    """A nibabel image in memory, seen as a `NiftiFile` is.

    Attributes
    ----------
    path : str
        Its file name, or what it is, for messages.
    values : ndarray, shape (n_times, n_k, n_j, n_i)
        Scaled numbers.
    ndim, affine, zoom_t, time_unit, header
        As of `NiftiFile`.
    """

    path: str
    values: NDArray[Any]
    ndim: int
    affine: tuple[float, ...]
    zoom_t: float
    time_unit: str
    header: str
    slope: float = 1.0
    inter: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, k, j, i)."""
        return self.values.shape

    @classmethod
    def of(cls, image: Any, *, keep_phi: bool = False) -> LoadedImage:
        """Take a spatial image of nibabel."""
        nib = require("nibabel", "fmri")
        values = np.asanyarray(image.dataobj)
        if values.ndim not in (3, 4) or not values.size or values.dtype.kind not in "iufb":
            raise SchemaError(
                "Not a volume.",
                expected="numbers, 3-D or 4-D",
                got=f"{type(image).__name__} of {values.dtype} {values.shape}",
                fix="pass the path of a surface or CIFTI file",
            )
        header = image.header if hasattr(image.header, "get_xyzt_units") else nib.Nifti1Header.from_header(image.header)
        name = str(image.get_filename() or f"{type(image).__name__} in memory")
        return cls(
            path=name,
            values=(values if values.ndim == 4 else values[..., None]).T,
            ndim=values.ndim,
            affine=tuple(float(v) for v in np.asarray(image.affine).ravel()),
            zoom_t=float(str(header["pixdim"][4])),
            time_unit=_time_unit(header),
            header=nifti_header(header, keep_phi=keep_phi),
        )


def _header_block(path: Path) -> bytes:
    with path.open("rb") as handle:
        block = memoryview(bytearray(540))
        n = Stream(str(path), handle, path.name.lower().endswith(".gz")).readinto(block)
    return bytes(block[:n])


def header_of(path: Path) -> Any:
    """Read the header of a ``.nii`` or ``.nii.gz`` file, or say that it is none."""
    nib = require("nibabel", "fmri")
    if not path.is_file():
        raise IntegrityError(
            "There is no such file.", expected="a .nii, .nii.gz or .gii file", got="nothing", where=str(path)
        )
    block = _header_block(path)
    first = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    kind = nib.Nifti2Header if 540 in first else nib.Nifti1Header
    size = 540 if 540 in first else 348
    problem: object = f"{len(block)} bytes of header" if len(block) < size else f"first bytes {block[:4]!r}"
    if len(block) >= size and first & {348, 540}:
        try:
            header = kind(block[:size], check=False)
            header.get_data_dtype()
            # The image class lets a wrong magic through; such a file is an Analyze image or damaged.
            if bytes(header["magic"].tobytes())[:3] in (b"n+1", b"n+2"):
                return header
            problem = f"magic {header['magic'].tobytes()!r} (a pair of .hdr and .img, an Analyze image, or damage)"
        except (nib.spatialimages.HeaderDataError, ValueError, KeyError) as error:
            problem = str(error)
    raise IntegrityError(
        "This is not a whole NIfTI header.",
        expected="a single-file NIfTI-1 or NIfTI-2 image (.nii or .nii.gz)",
        got=problem,
        where=str(path),
        fix="copy or download the file again; convert other formats to .nii.gz first",
    )


def _checked_shape(path: Path, header: Any) -> tuple[tuple[int, int, int, int], int]:
    n_dims = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : n_dims + 1]) if 1 <= n_dims <= 7 else ()
    if int(header["intent_code"]) in CIFTI_INTENTS:
        raise SchemaError(
            "This is a CIFTI-2 file, which has no voxel grid.",
            expected="a NIfTI image",
            got=f"intent code {int(header['intent_code'])}",
            where=str(path),
            fix="use a volume (.nii.gz) here; read_fmri reads CIFTI-2 by itself, uncompressed",
        )
    if len(shape) < 3 or min(shape) < 1 or any(n != 1 for n in shape[4:]):
        raise IntegrityError(
            "The header declares an image that is not 3-D or 4-D.",
            expected="3 or 4 dimensions of size 1 or more",
            got=f"dim = {[int(n) for n in header['dim']]}",
            where=str(path),
        )
    i, j, k, *time = shape[:4]
    return (time[0] if time else 1, k, j, i), 4 if time else 3


def _checked_affine(path: Path, header: Any) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        try:
            matrix = np.asarray(header.get_best_affine(), dtype=np.float64)
            usable = bool(np.isfinite(matrix).all()) and abs(np.linalg.det(matrix[:3, :3])) > 1e-12
        except (ValueError, np.linalg.LinAlgError):
            matrix, usable = np.full((4, 4), np.nan), False
    if not usable:
        raise IntegrityError(
            "The affine of the header cannot map voxels to space.",
            expected="a finite, invertible matrix",
            got=matrix.round(4).tolist(),
            where=str(path),
            fix="repair the sform or qform of the file",
        )
    return matrix


def open_nifti(path: str | Path, *, strict: bool = True, keep_phi: bool = False) -> NiftiFile:
    """Read and check the header of a NIfTI file; nothing stays open and no voxel is read.

    Parameters
    ----------
    path : str or Path
        A ``.nii`` or ``.nii.gz`` file.
    strict : bool
        Also refuse an uncompressed file that is longer than its header says.
    keep_phi : bool
        Keep header fields that may name people.

    Returns
    -------
    NiftiFile
        Everything needed to read voxels later.

    Raises
    ------
    IntegrityError
        If the file is cut, or its header is damaged or declares more than the file can hold.
    SchemaError
        If the numbers are complex, RGB or of CIFTI-2.
    """
    path = Path(path)
    header = header_of(path)
    shape, ndim = _checked_shape(path, header)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise SchemaError(
            "The voxels are not plain numbers.", expected="integers or floats", got=str(dtype), where=str(path)
        )
    matrix = _checked_affine(path, header)
    try:
        slope, inter = header.get_slope_inter()
    except ValueError as error:  # nibabel's HeaderDataError derives from Exception only in old versions
        raise IntegrityError("The scaling of the header is not valid.", got=str(error), where=str(path)) from error
    offset = float(header["vox_offset"])
    stat = path.stat()
    file = NiftiFile(
        path=str(path),
        shape=shape,
        ndim=ndim,
        dtype=dtype.str,
        offset=max(int(offset), 0) if np.isfinite(offset) else 0,
        slope=1.0 if slope is None else float(slope),
        inter=0.0 if inter is None else float(inter),
        affine=tuple(float(v) for v in matrix.ravel()),
        zoom_t=float(str(header["pixdim"][4])),
        time_unit=_time_unit(header),
        header=nifti_header(header, keep_phi=keep_phi),
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )
    _check_size(file, int(header["sizeof_hdr"]), strict)
    return file


def _time_unit(header: Any) -> str:
    return {8: "sec", 16: "msec", 24: "usec"}.get(int(header["xyzt_units"]) & 0x38, "unknown")


def _check_size(file: NiftiFile, header_size: int, strict: bool) -> None:
    """Compare what the header declares with what the file can hold, before anything is allocated."""
    room = file.size * GZIP_MAX_RATIO if file.compressed else file.size
    too_long = strict and not file.compressed and file.size > file.end
    if file.offset >= header_size and file.end <= room and not too_long:
        return
    raise IntegrityError(
        "The header does not match the size of the file: the file is cut or its header is wrong.",
        expected=f"{file.end} bytes for {file.shape[::-1]} of {file.dtype} from byte {file.offset}",
        got=f"{file.size} bytes" + (f", which cannot hold more than {room}" if file.compressed else ""),
        where=file.path,
        fix="pass verify=False to ignore what follows the image" if too_long else "copy or download the file again",
    )


def check_unchanged(file: NiftiFile) -> None:
    """Refuse to read from a file that is not the one that was opened."""
    try:
        stat = os.stat(file.path)
    except OSError as error:
        raise IntegrityError("The file is gone since it was opened.", got=str(error), where=file.path) from error
    if (stat.st_size, stat.st_mtime_ns) != (file.size, file.mtime_ns):
        raise IntegrityError("The file changed after it was opened.", where=file.path, fix="open it again")


def _cut(file: NiftiFile, got: int) -> IntegrityError:
    return IntegrityError(
        "The file holds fewer voxels than its header declares.",
        expected=f"{file.end} bytes",
        got=f"about {got} bytes",
        where=file.path,
        fix="copy or download the file again",
    )


def iter_volumes(
    file: NiftiFile | LoadedImage, start: int = 0, stop: int | None = None, *, remarks: list[str] | None = None
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Stream stored volumes in blocks of about 8 MiB.

    Parameters
    ----------
    file : NiftiFile or LoadedImage
        The file.
    start, stop : int
        First volume and the one after the last.
    remarks : list of str, optional
        Given: go on to the end of the file after the last volume, so that a gzip checksum is compared, and add what
        is odd but harmless.

    Yields
    ------
    first : int
        Index of the first volume of the block.
    block : array of shape (n, k * j * i)
        Stored numbers; the memory is used again for the next block.

    Raises
    ------
    IntegrityError
        If the file is cut, damaged, much longer than declared (with `remarks`) or changed since it was opened.
    """
    if isinstance(file, LoadedImage):
        yield 0, file.values.reshape(len(file.values), -1)
        return
    check_unchanged(file)
    stop = file.shape[0] if stop is None else stop
    n_block = max(1, min(stop - start, _BLOCK_BYTES // max(file.volume_bytes, 1)))
    buffer = np.empty((n_block, file.volume_bytes), dtype=np.uint8)
    with open(file.path, "rb") as handle:
        stream = Stream(file.path, handle, file.compressed)
        skipped = stream.skip(file.offset + start * file.volume_bytes)
        if skipped < file.offset + start * file.volume_bytes:
            raise _cut(file, skipped)
        for first in range(start, stop, n_block):
            part = buffer[: min(n_block, stop - first)]
            got = stream.readinto(part.data.cast("B"))
            if got < part.nbytes:
                raise _cut(file, file.offset + first * file.volume_bytes + got)
            yield first, part.view(file.dtype)
        if remarks is not None:
            remarks += _check_tail(file, stream, (file.shape[0] - stop) * file.volume_bytes)


def _check_tail(file: NiftiFile, stream: Stream, remaining: int) -> list[str]:
    """Read to the end. A little more than declared is a sloppy writer when the checksum fits; more is not."""
    if stream.skip(remaining) < remaining:
        raise _cut(file, file.end - remaining)
    excess = stream.skip(_MAX_EXCESS + 1) if file.compressed else 0
    if excess > _MAX_EXCESS:
        raise IntegrityError(
            "The file goes on long after the last voxel that its header declares.",
            expected=f"{file.end} bytes",
            got=f"more than {file.end + excess}",
            where=file.path,
            fix="copy or download the file again, or pass verify=False to ignore what follows the image",
        )
    return [f"{file.path}: {excess} bytes follow the image and were ignored"] if excess else []


def verify_stream(file: NiftiFile) -> list[str]:
    """Read a file to its end once, keeping nothing, so that each later read is known to be sound.

    Parameters
    ----------
    file : NiftiFile
        The file. An uncompressed one carries no checksum and is not read.

    Returns
    -------
    list of str
        What is odd but harmless.

    Raises
    ------
    IntegrityError
        If the stream is cut, damaged or much longer than declared.
    """
    remarks: list[str] = []
    if file.compressed:
        for _ in iter_volumes(file, 0, 0, remarks=remarks):
            pass
    return remarks


class NiftiArray(BackendArray):
    """Lazy (time, k, j, i) float32 array over a NIfTI file, for ``xarray.core.indexing.LazilyIndexedArray``.

    It holds a path and a few numbers, so that it is small to pickle. An uncompressed file is mapped for the time of
    one read; a compressed one is streamed up to the last volume asked for.

    Parameters
    ----------
    file : NiftiFile
        The file.
    max_bytes : int
        Refuse a single read that would take more memory than this.
    """

    def __init__(self, file: NiftiFile, max_bytes: int) -> None:
        self.file, self.max_bytes = file, max_bytes
        self.shape = file.shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        picks = [np.arange(n)[k] for n, k in zip(self.shape, key, strict=True)]
        check_memory(self.file.path, 4 * int(np.prod([p.size for p in picks], dtype=object)), self.max_bytes)
        check_unchanged(self.file)
        if self.file.compressed:
            return self._read_stream(picks, key)
        stored = np.memmap(self.file.path, self.file.dtype, "r", self.file.offset, self.shape)
        return self.file.scale(np.asarray(outer(stored, key)))

    def _read_stream(self, picks: list[NDArray[np.intp]], key: tuple[Any, ...]) -> NDArray[np.float32]:
        times = np.atleast_1d(picks[0])
        out = np.empty((times.size, *(s for p in picks[1:] for s in p.shape)), dtype=np.float32)
        if times.size:
            lo, hi = int(times.min()), int(times.max()) + 1
            for first, block in iter_volumes(self.file, lo, hi):
                rows = np.flatnonzero((times >= first) & (times < first + len(block)))
                volumes = block.reshape(-1, *self.shape[1:])[times[rows] - first]
                out[rows] = self.file.scale(outer(volumes, (slice(None), *key[1:])))
        return out if picks[0].ndim else out[0]


def outer(array: NDArray[Any], key: tuple[Any, ...]) -> NDArray[Any]:
    """Index each axis on its own; slices and integers first, because they cost nothing."""
    view = array[tuple(slice(None) if isinstance(k, np.ndarray) else k for k in key)]
    axis = 0
    for k in key:
        if isinstance(k, np.ndarray):
            view = np.take(view, k, axis=axis)
        axis += not isinstance(k, int | np.integer)
    return view


def check_memory(where: object, n_bytes: int, max_bytes: int) -> None:
    """Refuse to allocate more than `max_bytes`.

    Parameters
    ----------
    where : object
        The file, for the message.
    n_bytes : int
        What the read would take.
    max_bytes : int
        The limit.

    Raises
    ------
    ConfigError
        If `n_bytes` is larger.
    """
    if n_bytes > max_bytes:
        raise ConfigError(
            "Reading this would take more memory than allowed.",
            expected=f"at most max_bytes={max_bytes}",
            got=f"{n_bytes} bytes ({n_bytes / 2**30:.1f} GiB)",
            where=where,
            fix="select fewer volumes or voxels first (lazy reading, mask=, atlas=), or raise max_bytes=",
        )
