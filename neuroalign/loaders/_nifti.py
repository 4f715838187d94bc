"""Headers of NIfTI, parsed by nibabel and checked: what is needed to read the voxels, and nothing that is open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.convert import nifti_header
from neuroalign.errors import IntegrityError, SchemaError, require
from neuroalign.loaders._stream import GZIP_MAX_RATIO, Stream

__all__ = ["CIFTI_INTENTS", "LoadedImage", "NiftiFile", "header_of", "open_nifti"]

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
