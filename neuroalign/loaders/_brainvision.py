"""BrainVision headers against themselves, the data file and the marker file."""

from __future__ import annotations

from pathlib import Path

from neuroalign.errors import IntegrityError
from neuroalign.loaders._integrity import MAX_CHANNELS, Declared, check_names, cut, damaged, number

__all__ = ["binary_format", "check_brainvision"]

_BV_BYTES = {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
_BV_NUMBERS = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}


def check_brainvision(path: Path, *, allow_truncated: bool = False) -> Declared:
    """Compare a BrainVision header with itself and with its data and marker files.

    Parameters
    ----------
    path : Path
        The ``.vhdr`` file.
    allow_truncated : bool
        Note a wrong size instead of refusing it.

    Returns
    -------
    Declared
        Files, names and units.

    Raises
    ------
    IntegrityError
        If a file is missing or cut, or a field is wrong. A cut after a whole sample that lies after the last
        marker cannot be told from a shorter recording.
    """
    sections, whole = _ini(path)
    common = sections.get("Common Infos", {})
    n = int(number(path, "NumberOfChannels", common.get("NumberOfChannels", "missing")))
    rows = sections.get("Channel Infos", {})
    if not 1 <= n <= MAX_CHANNELS or [f"Ch{i + 1}" for i in range(n)] != list(rows):
        raise damaged(path, "[Channel Infos]", f"Ch1 to Ch{n}", f"{len(rows)} rows")
    cells = [row.split(",") for row in rows.values()]
    if not whole and (len(cells[-1]) < len(cells[0]) or "Coordinates" in sections):
        raise damaged(path, "the last line is cut", "a line end", list(rows)[-1])
    number(path, "SamplingInterval", common.get("SamplingInterval", "missing"), float)
    for row, cell in zip(rows, cells, strict=True):
        if len(cell) > 2 and cell[2] and number(path, f"resolution of {row}", cell[2], float) <= 0:
            raise damaged(path, f"resolution of {row}", "> 0", cell[2])
    names = [cell[0].replace(r"\1", ",") for cell in cells]
    check_names(path, names)
    declared = Declared([path], names, [cell[3] if len(cell) > 3 and cell[3] else "µV" for cell in cells])
    data, markers = _bv_files(path, common, declared)
    if common.get("DataFormat", "BINARY").upper() == "BINARY":
        kind = sections.get("Binary Infos", {}).get("BinaryFormat", "INT_16")
        _bv_size(data, n * _BV_BYTES.get(kind, 2), common, markers, declared, allow_truncated)
    return declared


def binary_format(path: Path) -> tuple[str, bool] | None:
    """Tell how the numbers of a BrainVision recording are stored.

    Parameters
    ----------
    path : Path
        A ``.vhdr`` file that `check_brainvision` let pass.

    Returns
    -------
    tuple of (str, bool) or None
        NumPy's name of the numbers, and whether the channels of a sample lie side by side. None for text, big-endian
        numbers and formats that are not known here.
    """
    sections, _ = _ini(path)
    common, binary = sections["Common Infos"], sections.get("Binary Infos", {})
    order = common.get("DataOrientation", "MULTIPLEXED").upper()
    dtype = _BV_NUMBERS.get(binary.get("BinaryFormat", "INT_16"))
    if dtype is None or order not in ("MULTIPLEXED", "VECTORIZED"):
        return None
    if common.get("DataFormat", "BINARY").upper() != "BINARY" or binary.get("UseBigEndianOrder", "NO").upper() != "NO":
        return None
    return dtype, order == "MULTIPLEXED"


def _ini(path: Path) -> tuple[dict[str, dict[str, str]], bool]:
    """Sections of ``key=value`` lines up to the free text, and whether the last line has its end."""
    raw = path.read_bytes()
    if len(raw) > 2**26:
        raise damaged(path, "size", "a text header below 64 MB", f"{len(raw)} bytes")
    text = raw.decode("utf-8" if b"UTF-8" in raw[:2000].upper() else "latin-1", errors="replace")
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] | None = None
    for line in text.lstrip("\ufeff").splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            if line == "[Comment]":
                return sections, True
            current = sections.setdefault(line[1:-1], {})
        elif current is not None and "=" in line and not line.startswith(";"):
            key, _, value = line.partition("=")
            current.setdefault(key.strip(), value.strip())
    return sections, text.endswith(("\n", "\r"))


def _bv_files(path: Path, common: dict[str, str], declared: Declared) -> tuple[Path, Path | None]:
    stem = path.with_suffix("").name
    found = []
    for key in ("DataFile", "MarkerFile"):
        name = common.get(key, "").replace("$b", stem)
        file = path.parent / name
        if (name or key == "DataFile") and Path(name).name != name:
            raise damaged(path, key, "the name of a file beside the header", name)
        if not name:
            continue
        if not file.is_file():
            raise IntegrityError(
                f"The {key} of the recording is missing.", expected=file.name, got="no such file", where=path,
                fix="keep .vhdr, .eeg and .vmrk together, under the names that the header gives",
            )  # fmt: skip
        found.append(file)
    declared.files += found
    return found[0], found[1] if len(found) > 1 else None


def _bv_size(
    data: Path, frame: int, common: dict[str, str], markers: Path | None, declared: Declared, allow_truncated: bool
) -> None:
    size = data.stat().st_size
    problem = None
    points = common.get("DataPoints", "")
    if points.isdigit() and int(points) > 0 and int(points) * frame != size:
        problem = cut(data, int(points) * frame, size, usable=True)
    elif size % frame or not size:
        problem = cut(data, (size // frame + 1) * frame, size, f"bytes (a multiple of {frame})", usable=True)
    elif markers is not None and (last := _last_marker(markers)) > size // frame:
        problem = cut(data, last * frame, size, "bytes (there is a marker at the end)", usable=True)
    if problem is not None and not allow_truncated:
        raise problem
    declared.problem = problem


def _last_marker(path: Path) -> int:
    sections, whole = _ini(path)
    if "Marker Infos" not in sections:
        raise damaged(path, "no section [Marker Infos]", "a list of markers", f"{path.stat().st_size} bytes")
    last = 0
    rows = sections["Marker Infos"]
    if list(rows) != [f"Mk{i + 1}" for i in range(len(rows))]:
        raise damaged(path, "[Marker Infos]", f"Mk1 to Mk{len(rows)}", ", ".join(list(rows)[:3]) + ", ...")
    for row, value in rows.items():
        cells = value.split(",")
        if len(cells) < 5 or not cells[4]:
            raise damaged(path, row, "type, description, position, size, channel", value)
        last = max(last, int(number(path, f"position of {row}", cells[2])))
    if not whole and not path.read_bytes().rstrip().rsplit(b"\n", 1)[-1].startswith(b"Mk"):
        raise damaged(path, "the last line is cut", "a line end", "none")
    return last
