"""Is the file whole? The same as `_integrity`, for the formats of single makers of amplifiers and magnetometers."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neuroalign.errors import ConfigError, IntegrityError, require
from neuroalign.loaders._integrity import MAX_CHANNELS, Declared, cut, damaged, number
from neuroalign.loaders._xml import scan_xml

__all__ = ["VENDORS", "check_vendor"]

_NIHON_VERSION = 16


def check_vendor(path: Path, kind: str, options: Mapping[str, Any]) -> Declared:
    """Check a file of one of the formats in `VENDORS`.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        Its format.
    options : mapping
        Options of MNE's reader.

    Returns
    -------
    Declared
        With the files found.

    Raises
    ------
    IntegrityError
        If the file is cut, or its header cannot be true.
    ConfigError
        If an option is needed to read it.
    """
    files = [*([path] if path.is_file() else []), *VENDORS[kind](path, options)]
    # MNE scales a calibrated file to V from uV, and one that states its range by that alone.
    scaled = kind != "bti" and not (kind == "egi" and all(struct.unpack(">2h", _start(path, 30)[26:])))
    return Declared(files, taken=1e-6 if scaled else None)


def _unpack(path: Path, content: bytes, layout: str, at: int) -> tuple[Any, ...]:
    if at < 0 or at + struct.calcsize(layout) > len(content):
        raise cut(path, at + struct.calcsize(layout), len(content), "bytes of header")
    return struct.unpack_from(layout, content, at)


def _start(path: Path, n: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n)


def check_cnt(path: Path, options: Mapping[str, Any]) -> list[Path]:
    """Compare the channels, samples and event table of a Neuroscan file with its size."""
    size = path.stat().st_size
    head = _start(path, 900)
    n_channels, sfreq = _unpack(path, head, "<H", 370)[0], _unpack(path, head, "<H", 376)[0]
    n_samples, table = _unpack(path, head, "<i", 864)[0], _unpack(path, head, "<I", 886)[0]
    if len(head) < 900:
        raise cut(path, 900, len(head), "bytes of header")
    if not 0 < n_channels <= MAX_CHANNELS or sfreq < 1:
        raise damaged(path, "channels and rate", "at least 1 channel and 1 Hz", (n_channels, sfreq))
    if size >= 2_000_000_000:
        return []  # the position of the table does not fit its field there; MNE computes it
    data = table - 900 - 75 * n_channels
    if data <= 0:
        raise damaged(path, "position of the event table", f"more than {900 + 75 * n_channels}", table)
    if table + 9 > size:
        raise cut(path, table + 9, size)
    with path.open("rb") as file:
        file.seek(table)
        kind, length = struct.unpack("<Bi", file.read(9)[:5])
    each = {1: 8, 2: 19, 3: 19}.get(kind)
    if each is None or length < 0 or length % each:
        raise damaged(path, "event table", "events of 8 or 19 bytes", f"type {kind}, {length} bytes")
    if table + 9 + length > size:
        raise cut(path, table + 9 + length, size)
    _check_cnt_samples(path, n_channels, n_samples, data, options.get("data_format", "auto"))
    return []


def _check_cnt_samples(path: Path, n_channels: int, n_samples: int, data: int, given: str) -> None:
    """The header of many files holds no or a wrong number of samples, from which MNE tells their width."""
    if given not in ("auto", "int16", "int32"):
        raise ConfigError("Unknown data format.", expected="int16, int32 or auto", got=given, where=path)
    if given == "auto" and (n_samples <= 0 or data not in (2 * n_channels * n_samples, 4 * n_channels * n_samples)):
        raise ConfigError(
            "The file does not say whether its values have 16 or 32 bits.",
            expected="data_format=",
            got=f"{data} bytes for {n_channels} channels, and {n_samples} samples in the header",
            where=path,
            fix="pass data_format='int16' or data_format='int32': with the wrong one, values are far too large",
        )
    width = n_channels * (4 if given == "int32" else 2)
    if given != "auto" and data % width:
        raise damaged(path, "samples", f"a multiple of {width} bytes as {given}", f"{data} bytes")


def check_egi(path: Path, options: Mapping[str, Any]) -> list[Path]:
    """Compare the samples of an EGI simple binary file with its size."""
    size, head = path.stat().st_size, _start(path, 36)
    version = _unpack(path, head, ">i", 0)[0]
    width = {2: 2, 4: 4, 6: 8}.get(version & 6) if 2 <= version <= 7 else None
    if width is None:
        raise IntegrityError("Not an EGI simple binary file.", expected="version 2 to 7", got=version, where=path)
    if version & 1:
        raise ConfigError(
            "The EGI file holds segments.", expected="a continuous file (version 2, 4 or 6)", got=version, where=path,
            fix="export it as continuous, or as .mff",
        )  # fmt: skip
    sfreq, n_channels, _, _, _, n_samples, n_events = _unpack(path, head, ">5hih", 20)
    if sfreq < 1 or n_channels < 1 or n_samples < 1 or n_events < 0:
        raise damaged(path, "rate, channels, samples and events", "1 or more", (sfreq, n_channels, n_samples, n_events))
    expected = 36 + 4 * n_events + (n_channels + n_events) * n_samples * width
    if expected != size:
        raise cut(path, expected, size)
    return []


def check_mff(path: Path, options: Mapping[str, Any]) -> list[Path]:
    """Parse each description of an EGI folder, and follow the blocks of its signals to their end."""
    require("mffpy", "mff")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        if file.suffix == ".xml":
            scan_xml(file, file.read_bytes())
        elif file.suffix == ".bin":
            _check_blocks(file)
    return files


def _check_blocks(path: Path) -> None:
    """Each block says how long it is, or (with a 0 in front) that it is like the one before."""
    size, at, length = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(12)
            fresh, header, content = struct.unpack("<3i", head.ljust(12, b"\0"))
            if fresh and (header < 16 or content < 1):
                raise damaged(path, f"block at byte {at}", "a positive size", (header, content))
            length = content if fresh else length
            at += (header if fresh else 4) + length
    if at != size or not length:
        raise cut(path, max(at, 16), size)


def check_nihon(path: Path, options: Mapping[str, Any]) -> list[Path]:
    """Compare the blocks of a Nihon Kohden file with its size."""
    size, content = path.stat().st_size, path.read_bytes() if path.stat().st_size < 2**20 else _start(path, 2**20)
    if len(content) < 0x1800:
        raise cut(path, 0x1800, size)
    n_control = content[0x91]
    if n_control != 1:  # MNE reads no more than one
        raise damaged(path, "number of control blocks", 1, n_control)
    control = _unpack(path, content, "<I", 0x92)[0]
    n_blocks = _unpack(path, content, "<B", control + 17)[0]
    if n_blocks < 1:
        raise damaged(path, "number of data blocks", "1 or more", n_blocks)
    used: set[int] = set()
    with path.open("rb") as file:
        for k in range(n_blocks):
            at = _unpack(path, content, "<I", control + 18 + 20 * k)[0]
            file.seek(at)
            block = file.read(0x27)
            if len(block) < 0x27:
                raise cut(path, at + 0x27, size)
            rate, duration = struct.unpack_from("<HI", block, 0x1A)
            rate, n_channels = rate & 0x3FFF, block[0x26]
            if rate < 1 or n_channels < 1:
                raise damaged(path, "rate and channels", "1 or more", (rate, n_channels))
            end = at + 0x27 + 10 * n_channels + 2 * (n_channels + 1) * (duration * rate // 10)
            if end > size:
                raise cut(path, end, size)
            used |= set(file.read(10 * n_channels)[::10])
    for suffix in (".21E", ".PNT", ".LOG"):
        _check_nihon_beside(path.with_suffix(suffix), content[:_NIHON_VERSION], used)
    return []


def _check_nihon_beside(path: Path, version: bytes, used: set[int]) -> None:
    if not path.is_file():
        return  # MNE says what it does without
    content = path.read_bytes()
    if path.suffix == ".21E":
        _check_names_of_nihon(path, content, used)
        return
    if content[:_NIHON_VERSION] != version:
        raise damaged(path, "version", version, content[:_NIHON_VERSION])
    if path.suffix == ".LOG":
        for k in range(min(_unpack(path, content, "<B", 0x91)[0], 22)):
            for entry in (k, k + 22):  # events, and the fractions of their seconds
                at = _unpack(path, content, "<I", 0x92 + 20 * entry)[0]
                if at:
                    n_logs = _unpack(path, content, "<B", at + 0x12)[0]
                    _unpack(path, content, f"<{45 * n_logs}s", at + 0x14)


def _check_names_of_nihon(path: Path, content: bytes, used: set[int]) -> None:
    """The list of names must name each channel used: MNE would take default names, without a word."""
    listed, inside = set(), False
    for line in content.splitlines(keepends=True):
        if line.startswith(b"["):
            inside = b"ELECTRODE" in line or b"REFERENCE" in line
        elif inside and line[:4].isdigit() and line[4:5] == b"=" and line.endswith(b"\n"):
            listed.add(int(line[:4]))
    if missing := sorted(used - listed):
        raise IntegrityError(
            "The list of channel names does not name every channel.",
            expected=f"numbers {sorted(used)}",
            got=f"none for {missing[:10]}",
            where=path,
            fix="copy it again, or move it away for default names",
        )


def check_persyst(path: Path, options: Mapping[str, Any]) -> list[Path]:
    """Compare the data file of a Persyst layout with its channels, and its comments with its length."""
    sections = _lay_sections(path)
    info = {k.strip().lower(): v.strip() for k, _, v in (line.partition("=") for line in sections.get("fileinfo", ()))}
    missing = [k for k in ("file", "samplingrate", "calibration", "waveformcount", "datatype") if k not in info]
    if missing:
        raise damaged(path, f"no {missing[0]}", "a [FileInfo] section", sorted(info))
    n_channels = int(number(path, "WaveformCount", info["waveformcount"]))
    sfreq = number(path, "SamplingRate", info["samplingrate"], float)
    width = {"0": 2, "7": 4}.get(info["datatype"])
    if not 0 < n_channels <= MAX_CHANNELS or sfreq <= 0 or width is None:
        raise damaged(path, "channels, rate and data type", "positive numbers; type 0 or 7", info)
    if number(path, "Calibration", info["calibration"], float) == 0:
        raise damaged(path, "Calibration", "not zero", info["calibration"])
    if len(sections.get("channelmap", ())) != n_channels:
        raise damaged(path, "[ChannelMap]", f"{n_channels} channels", len(sections.get("channelmap", ())))
    data = path.with_name(Path(info["file"].replace("\\", "/")).name)
    if not data.is_file():
        raise IntegrityError("The data file is missing.", expected=data.name, where=path)
    size, frame = data.stat().st_size, n_channels * width
    n_samples, rest = divmod(size, frame)
    if rest or n_samples < 1:
        raise cut(data, (n_samples + 1) * frame, size)
    _check_comments(path, data, sections.get("comments", []), n_samples / sfreq, frame * sfreq)
    return [data]


def _lay_sections(path: Path) -> dict[str, list[str]]:
    if path.stat().st_size > 2**26:
        raise damaged(path, "size", "a text file", f"{path.stat().st_size} bytes")
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    text = path.read_bytes().decode("latin-1")
    for line in text.splitlines():
        if line.strip().startswith("[") and line.strip().endswith("]"):
            lines = sections.setdefault(line.strip()[1:-1].lower(), [])
        elif line.strip():
            lines.append(line.strip())
    if lines and not text.endswith("\n"):
        raise cut(path, len(text) + 1, len(text))
    return sections


def _check_comments(path: Path, data: Path, comments: list[str], duration: float, bytes_per_s: float) -> None:
    for line in comments:
        parts = line.split(",", 4)
        if len(parts) < 5:
            raise damaged(path, "[Comments]", "time, duration, state, type, text", line)
        end = number(path, "time of a comment", parts[0], float)
        number(path, "duration of a comment", parts[1], float)
        if end > duration:
            raise cut(data, round(end * bytes_per_s), data.stat().st_size)


class _Strict(io.BytesIO):
    """A file whose end is an error: MNE counts on after it, as often as a damaged header says."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._file = path, path.open("rb")
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(size)
        if size is not None and size >= 0 and len(data) < size:
            raise cut(self._path, self._file.tell() + size - len(data), self._size, "bytes of header")
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence == 1 and offset < -8:  # alignment steps back no further
            raise damaged(self._path, "a block", "a positive size", offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def check_bti(path: Path, options: Mapping[str, Any]) -> list[Path]:
    """Read the headers of a 4D/BTi recording without going past their ends; compare the samples with the size."""
    mne = require("mne", "eeg")
    config, shape = Path(options["config_fname"]), options.get("head_shape_fname")
    with _Strict(path) as strict, _Strict(config) as strict_config, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MNE says them again on opening
        given = {**options, "config_fname": strict_config, "head_shape_fname": None}
        raw = mne.io.read_raw_bti(strict, preload=False, verbose="ERROR", **given)
    extra = raw._raw_extras[0]
    expected = extra["bytes_per_slice"] * extra["total_slices"]
    header = path.stat().st_size - 8 - extra["hdr_size"]
    if not 0 < expected <= header:
        raise damaged(path, "samples", f"up to {header} bytes", f"{expected} bytes")
    if shape is not None:
        _check_head_shape(Path(shape))
    return [config] + ([] if shape is None else [Path(shape)])


def _check_head_shape(path: Path) -> None:
    """A head shape holds five landmarks after 16 bytes, and then points, all of three 8-byte numbers."""
    size = path.stat().st_size
    n_points = _unpack(path, _start(path, 16), ">i", 12)[0]
    if n_points < 0 or 16 + 24 * (5 + n_points) > size:
        raise cut(path, 16 + 24 * (5 + n_points), size)


#: Format -> function that checks a file and lists those beside it.
VENDORS: dict[str, Callable[[Path, Mapping[str, Any]], list[Path]]] = {
    "cnt": check_cnt,
    "egi": check_egi,
    "mff": check_mff,
    "nihon": check_nihon,
    "persyst": check_persyst,
    "bti": check_bti,
}
