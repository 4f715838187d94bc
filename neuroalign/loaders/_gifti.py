"""GIFTI: XML with binary arrays inside. Checked here, parsed by nibabel, always in memory."""

from __future__ import annotations

import base64
import binascii
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign import schema
from neuroalign.convert import gifti_record
from neuroalign.convert._surfaces import SIDES, named_sides
from neuroalign.errors import ConfigError, IntegrityError, SchemaError, require
from neuroalign.loaders._acquisition import Written, read_sidecar, repetition_time, sidecar_attrs, space_of
from neuroalign.loaders._nifti_read import check_memory
from neuroalign.loaders._xml import damaged, nibabel_errors, scan_xml

__all__ = ["other_hemisphere", "read_gifti"]

#: Where names carry the hemisphere: the pattern has the letter (L/R) or word as its one group.
_NAMES = (r"(?:^|_)hemi-([LR])(?=[_.])", r"^([lr])h(?=\.)", r"_([lr])h(?=[._])", r"\.([LR])(?=\.)")
_ITEM_SIZE = {"UINT8": 1, "INT16": 2, "INT32": 4, "FLOAT32": 4, "FLOAT64": 8}
# Compressed arrays of constant labels shrink a thousandfold; larger ones than this are not constant.
_FREE_BYTES, _MAX_RATIO = 64 << 20, 100


@dataclass
class _Array:
    """What the XML declares about one DataArray."""

    attributes: dict[str, str]
    data: list[str] = field(default_factory=list)

    def get(self, name: str) -> str:
        return self.attributes.get(name, "")


class _Scan:
    """Handlers that check each array as its end passes by; their bytes are not kept."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes
        self.declared = self.found = self.total = 0
        self.external: list[Path] = []
        self._array: _Array | None = None
        self._inside = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "GIFTI":
            self.declared = _whole(self.path, "NumberOfDataArrays", attributes.get("NumberOfDataArrays", "?"))
        elif name == "DataArray":
            self._array = _Array(attributes)
        elif name == "Data":
            self._inside = True

    def text(self, piece: str) -> None:
        if self._inside and self._array is not None:
            self._array.data.append(piece)

    def end(self, name: str) -> None:
        if name == "Data":
            self._inside = False
        elif name == "DataArray" and self._array is not None:
            self._check(self._array)
            self.found, self._array = self.found + 1, None

    def _check(self, array: _Array) -> None:
        kind = array.get("DataType").removeprefix("NIFTI_TYPE_")
        if kind not in _ITEM_SIZE:
            raise damaged(self.path, "DataType", " or ".join(_ITEM_SIZE), kind)
        n_dims = _whole(self.path, "Dimensionality", array.get("Dimensionality"))
        if not 1 <= n_dims <= 6:
            raise damaged(self.path, "Dimensionality", "1 to 6", n_dims)
        shape = [_whole(self.path, f"Dim{n}", array.get(f"Dim{n}")) for n in range(n_dims)]
        size = math.prod(shape) * _ITEM_SIZE[kind]
        self.total += size
        check_memory(self.path, 2 * self.total, self.max_bytes)
        encoding = array.get("Encoding")
        if encoding == "ExternalFileBinary" or array.get("ExternalFileName"):
            self.external.append(_external(self.path, array, size))
        elif encoding in ("Base64Binary", "GZipBase64Binary"):
            self._check_binary("".join("".join(array.data).split()), size, encoding.startswith("GZip"))
        elif encoding != "ASCII":
            raise damaged(
                self.path, "Encoding", "ASCII, Base64Binary, GZipBase64Binary or ExternalFileBinary", encoding
            )
        elif size > _ITEM_SIZE[kind] * sum(map(len, array.data)):
            raise damaged(self.path, "size of an array", f"{shape} numbers", f"{sum(map(len, array.data))} characters")

    def _check_binary(self, text: str, size: int, packed: bool) -> None:
        if packed and size > max(_FREE_BYTES, _MAX_RATIO * len(text)):
            raise damaged(self.path, "size of an array", f"at most {_MAX_RATIO * len(text)} bytes", f"{size} declared")
        try:
            content = base64.b64decode(text, validate=True)
            if packed:  # never more than declared, whatever the stream holds; its end compares the checksum
                inflate = zlib.decompressobj()
                found = len(inflate.decompress(content, size + 1))
                whole = inflate.eof and not inflate.unused_data
            else:
                found, whole = len(content), True
        except (binascii.Error, zlib.error, ValueError) as error:
            raise damaged(self.path, "an array", "base64" + (" of a zlib stream" * packed), error) from error
        if found != size or not whole:
            raise damaged(self.path, "size of an array", f"{size} bytes", f"{found} bytes or another number")


def _whole(path: Path, name: str, text: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,12}\s*", text):
        raise damaged(path, name, "a whole number", text or "nothing")
    return int(text)


def _external(path: Path, array: _Array, size: int) -> Path:
    """Find the file that holds the values of an array; it must lie in the folder of the GIFTI file."""
    name, offset = array.get("ExternalFileName"), _whole(path, "ExternalFileOffset", array.get("ExternalFileOffset"))
    folder = path.resolve().parent
    file = folder / name
    if not name or "\0" in name or Path(name).is_absolute() or not file.resolve().is_relative_to(folder):
        raise IntegrityError(
            "The GIFTI file points out of its folder.",
            expected="an external file beside it",
            got=name or "no name",
            where=path,
            fix="put the data file beside it, or write the file again with its data inside",
        )
    if not file.is_file() or file.stat().st_size < offset + size:
        got = f"{file.stat().st_size} bytes" if file.is_file() else "no such file"
        raise damaged(path, f"external file {name!r}", f"{offset + size} bytes", got)
    return file


def read_gifti(
    paths: Sequence[Path],
    *,
    hemi: str | None,
    tr: float | None,
    space: str | None,
    keep_phi: bool,
    max_bytes: int,
) -> tuple[xr.Dataset, list[Path]]:
    """Read one hemisphere, or a pair.

    Parameters
    ----------
    paths : sequence of Path
        One or two files.
    hemi : {'L', 'R'} or None
        Hemisphere of a single file that does not say.
    tr, space, keep_phi, max_bytes
        As in `read_fmri`.

    Returns
    -------
    ds : Dataset
        Left before right.
    sources : list of Path
        All files read.
    """
    sides: dict[str, tuple[Path, Any]] = {}
    sources = list(paths)
    for path in paths:
        image, external = _open(path, max_bytes)
        sources += external
        side = _hemisphere(path, image, hemi)
        if side in sides:
            raise ConfigError(
                "A pair has a left and a right hemisphere.", expected="L and R", got=f"{side} twice", where=path
            )
        sides[side] = path, image
    kinds = {side: _kind(path, image) for side, (path, image) in sides.items()}
    if len(set(kinds.values())) > 1:
        raise SchemaError("The hemispheres hold different things.", expected="the same in both", got=kinds)
    sides = {side: sides[side] for side in SIDES if side in sides}
    space = space or space_of(next(iter(sides.values()))[0].name)
    record = {"gifti": gifti_record({side: image for side, (_, image) in sides.items()}, keep_phi=keep_phi)}
    common: dict[str, Any] = {"space": space, "attrs": record}
    with nibabel_errors(next(iter(sides.values()))[0]):
        build = {"mesh": _mesh, "bold": _bold, "label": _labels, "map": _maps}[next(iter(kinds.values()))]
        return build(sides, tr, common), sources


def _open(path: Path, max_bytes: int) -> tuple[Any, list[Path]]:
    nib = require("nibabel", "fmri")
    if not path.is_file():
        raise IntegrityError("There is no such file.", expected="a .gii file", got="nothing", where=path)
    check_memory(path, path.stat().st_size, max_bytes)
    scan = _Scan(path, max_bytes)
    scan_xml(path, path.read_bytes(), start=scan.start, end=scan.end, text=scan.text)
    if scan.found != scan.declared or not scan.found:
        raise damaged(path, "number of arrays", scan.declared or "1 or more", scan.found)
    with nibabel_errors(path):
        return nib.GiftiImage.from_filename(str(path), mmap=False), scan.external


def _hemisphere(path: Path, image: Any, hemi: str | None) -> str:
    if hemi is not None and hemi not in SIDES:
        raise ConfigError("Unknown hemisphere.", expected="hemi='L' or hemi='R'", got=hemi)
    found = named_sides(image) or {
        match.group(1).upper() for pattern in _NAMES if (match := re.search(pattern, path.name))
    }
    if hemi is None and len(found) == 1:
        return found.pop()
    if hemi is None or (len(found) == 1 and hemi not in found):
        raise SchemaError(
            "The hemisphere is not known." if hemi is None else "The file is of the other hemisphere.",
            expected="L or R, by AnatomicalStructurePrimary or by a name such as hemi-L, lh. or _lh",
            got=f"{sorted(found) or 'nothing'}" + (f", and hemi={hemi!r}" if hemi else ""),
            where=path,
            fix="pass hemi='L' or hemi='R'" if hemi is None else "leave hemi= out",
        )
    return hemi


def other_hemisphere(path: Path) -> Path:
    """Find the other file of a pair by its name.

    Parameters
    ----------
    path : Path
        One of them.

    Returns
    -------
    Path
        The other one, which exists.

    Raises
    ------
    IntegrityError
        If the name has no hemisphere, or there is no such file.
    """
    swap = {"L": "R", "R": "L", "l": "r", "r": "l"}
    tried = []
    for pattern in _NAMES:
        if match := re.search(pattern, path.name):
            name = path.name[: match.start(1)] + swap[match.group(1)] + path.name[match.end(1) :]
            if (other := path.with_name(name)).is_file():
                return other
            tried.append(name)
    raise IntegrityError(
        "The other hemisphere was not found.",
        expected=" or ".join(tried) or "a name with hemi-L, lh. or _lh",
        got="no such file" if tried else path.name,
        where=path.parent,
        fix="pass both files: read_fmri([left, right])",
    )


_Sides = dict[str, tuple[Path, Any]]


def _intents(image: Any) -> list[str]:
    codes = require("nibabel", "fmri").nifti1.intent_codes
    return [codes.niistring[array.intent].removeprefix("NIFTI_INTENT_") for array in image.darrays]


def _kind(path: Path, image: Any) -> str:
    found = {*_intents(image)} - {"NODE_INDEX"}
    if found == {"POINTSET", "TRIANGLE"} and len(image.darrays) == 2:
        return "mesh"
    if len(found) == 1 or not found & {"POINTSET", "TRIANGLE", "LABEL", "TIME_SERIES"}:
        kind = {"TIME_SERIES": "bold", "LABEL": "label"}.get(next(iter(found), ""), "map")
        if not found & {"POINTSET", "TRIANGLE"} and found:
            return kind
    raise SchemaError(
        "The arrays of the file do not belong together.",
        expected="points and triangles, a time series, labels, or maps",
        got=sorted(found),
        where=path,
        fix="read it with nibabel.load, and write what you need to a file of its own",
    )


def _rows(path: Path, image: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Values (row, vertex), and the vertex numbers."""
    nodes, rows = None, []
    for array, intent in zip(image.darrays, _intents(image), strict=True):
        values = np.asarray(array.data)
        if intent == "NODE_INDEX":
            nodes = values.ravel().astype(np.int64)
        elif values.ndim == 2 and values.shape[1] != 1:  # one array of all time points, as FreeSurfer writes it
            rows += list(values.T)
        else:
            rows.append(values.ravel())
    sizes = {len(row) for row in rows} | ({len(nodes)} if nodes is not None else set())
    if len(sizes) != 1 or sizes == {0}:
        raise damaged(path, "length of the arrays", "the same number of vertices", sorted(sizes))
    values = np.array(rows, dtype=np.result_type(*{row.dtype for row in rows}).newbyteorder("="))
    return values, np.arange(values.shape[1]) if nodes is None else nodes


def _both(sides: _Sides) -> tuple[NDArray[Any], dict[str, Any]]:
    """Values (row, vertex) of all hemispheres, and the coordinates of their vertices."""
    parts = {side: _rows(path, image) for side, (path, image) in sides.items()}
    if len({len(values) for values, _ in parts.values()}) > 1:
        raise SchemaError(
            "The hemispheres do not match.",
            expected="as many maps or time points in both",
            got={side: len(values) for side, (values, _) in parts.items()},
            where=" and ".join(str(path) for path, _ in sides.values()),
        )
    hemi = np.repeat(np.array([*parts], dtype=object), [values.shape[1] for values, _ in parts.values()])
    return np.concatenate([values for values, _ in parts.values()], axis=1), {
        "hemi": hemi,
        "node": np.concatenate([nodes for _, nodes in parts.values()]),
    }


def _bold(sides: _Sides, tr: float | None, common: dict[str, Any]) -> xr.Dataset:
    values, coords = _both(sides)
    found = []
    for path, image in sides.values():
        step = str(image.darrays[0].meta.get("TimeStep", "0"))
        written = Written(float(step) if re.fullmatch(r"[0-9.eE+]{1,20}", step) else 0.0, "unknown", "TimeStep")
        sidecar = read_sidecar(path)
        found.append(repetition_time(path, written, sidecar, tr))
        common["attrs"] |= sidecar_attrs(sidecar)
    if max(found) - min(found) > 1e-3:
        raise SchemaError("The hemispheres have different repetition times.", expected=found[0], got=found[-1])
    return schema.fmri_surface(values.astype(np.float32), tr=found[0], **coords, **common)


def _map_names(sides: _Sides) -> list[str]:
    path, image = next(iter(sides.values()))
    n = len(_rows(path, image)[0])
    arrays = [a for a, intent in zip(image.darrays, _intents(image), strict=True) if intent != "NODE_INDEX"]
    names = [str(array.meta.get("Name", "")) for array in arrays]
    return [names[k] if len(names) == n and names[k] else str(k) for k in range(n)]


def _maps(sides: _Sides, _: float | None, common: dict[str, Any]) -> xr.Dataset:
    values, coords = _both(sides)
    return schema.maps(values.astype(np.float32), map_name=_map_names(sides), dim="vertex", coords=coords, **common)


def _labels(sides: _Sides, _: float | None, common: dict[str, Any]) -> xr.Dataset:
    values, coords = _both(sides)
    keys = np.rint(values).astype(np.int64)
    if (keys != values).any() or np.abs(keys).max(initial=0) > np.iinfo(np.int32).max:
        raise SchemaError("Labels are not whole numbers.", where=next(iter(sides.values()))[0])
    parts = []
    for side, (_path, image) in sides.items():
        names = {int(entry.key): str(entry.label) for entry in image.labeltable.labels}
        own = keys[:, coords["hemi"] == side]
        parts.append(
            schema.label_maps(
                own,
                map_name=_map_names(sides),
                dim="vertex",
                coords={name: labels[coords["hemi"] == side] for name, labels in coords.items()},
                names=[names] * len(own),
                **common,
            )
        )
    if len(parts) == 1:
        return parts[0]
    # The same number may name another region in the other hemisphere: the names in roi tell them apart.
    both = xr.concat(parts, dim="vertex", combine_attrs="override")
    return both.assign_coords(vertex=np.arange(both.sizes["vertex"]))


def _mesh(sides: _Sides, _: float | None, common: dict[str, Any]) -> xr.Dataset:
    points, corners = [], []
    hemi: list[str] = []
    for side, (path, image) in sides.items():
        arrays = dict(zip(_intents(image), (np.asarray(a.data) for a in image.darrays), strict=True))
        if arrays["TRIANGLE"].dtype.kind not in "iu":
            raise damaged(path, "triangles", "whole numbers", arrays["TRIANGLE"].dtype)
        # Vertices of the right hemisphere follow those of the left.
        corners.append(arrays["TRIANGLE"].astype(np.int64) + len(hemi))
        points.append(arrays["POINTSET"])
        hemi += [side] * len(points[-1])
    return schema.surface_mesh(np.concatenate(points), np.concatenate(corners), hemi=hemi, **common)
