"""Tell the format of a sensor file, and find the files that belong to it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuroalign.errors import ConfigError, IntegrityError
from neuroalign.loaders import _fieldtrip

__all__ = ["FOLDERS", "SIDE_FILES", "SUFFIXES", "companions", "find_format", "is_sensor_file"]

#: Suffix -> format. A suffix that belongs to a set of files leads to its header.
SUFFIXES = {
    ".vhdr": "brainvision",
    ".edf": "edf",
    ".bdf": "bdf",
    ".fif": "fif",
    ".fif.gz": "fif",
    ".set": "eeglab",
    ".cnt": "cnt",
    ".raw": "egi",
    ".mff": "mff",
    ".eeg": "nihon",
    ".lay": "persyst",
    ".nwb": "nwb",
    ".mat": "fieldtrip",
    ".ds": "ctf",
    ".sqd": "kit",
    ".con": "kit",
}
#: Formats that are a folder.
FOLDERS = {".ds", ".mff"}
#: Suffix of a file beside -> suffixes of the headers it may belong to, the first that exists counts.
SIDE_FILES = {
    ".eeg": (".vhdr",),
    ".vmrk": (".vhdr",),
    ".fdt": (".set",),
    ".dat": (".vhdr", ".lay", ".set"),
    ".21e": (".eeg",),
    ".pnt": (".eeg",),
    ".log": (".eeg",),
    ".meg4": (".ds",),
    ".res4": (".ds",),
}
#: What a Nihon Kohden file begins with, where a BrainVision data file holds values.
_NIHON = (b"EEG-", b"QI-", b"DAE-")
#: Options that name files: neuroalign's name -> MNE's name, by format.
_FILE_OPTIONS: dict[str, dict[str, str]] = {
    "bti": {"config": "config_fname", "head_shape": "head_shape_fname"},
    "kit": {"mrk": "mrk", "elp": "elp", "hsp": "hsp"},
}


def is_sensor_file(path: Path) -> bool:
    """Whether the name of a file, or what lies beside it, says that it is a sensor recording."""
    name = path.name.lower()
    if name.endswith(".mat"):
        return _fieldtrip.find(path) is not None
    return name.endswith((*SUFFIXES, *SIDE_FILES)) or _config_beside(path) is not None


def find_format(path: str | Path, options: Mapping[str, Any] | None = None) -> tuple[Path, str]:
    """Tell the format of a sensor file from its name, and the file to open.

    Parameters
    ----------
    path : path-like
        A header, data or marker file, or a ``.ds`` or ``.mff`` folder.
    options : mapping, optional
        Options of the reader; ``config=`` tells a 4D/BTi file, whose name may be anything.

    Returns
    -------
    path : Path
        The file to open.
    format : str
        A value of `SUFFIXES`, or ``"bti"``.

    Raises
    ------
    ConfigError
        If no format has this suffix.
    IntegrityError
        If there is no such file, or its header is missing.
    """
    path = _header_of(Path(path).expanduser())
    suffix = ".fif.gz" if path.name.lower().endswith(".fif.gz") else path.suffix.lower()
    if not path.exists():
        raise IntegrityError("There is no such file.", got=str(path), where=path.parent)
    if suffix not in SUFFIXES:
        if path.is_file() and ((options or {}).get("config") or _config_beside(path)):
            return path, "bti"
        raise _unknown(path)
    if path.is_dir() != (suffix in FOLDERS):
        raise IntegrityError(
            "Wrong kind of path.", expected="a folder" if suffix in FOLDERS else "a file", got=str(path), where=path
        )
    if suffix == ".eeg" and not _head(path).startswith(_NIHON):
        raise IntegrityError(
            "The header of a BrainVision recording is missing.",
            expected=path.with_suffix(".vhdr").name + " beside it",
            got="neither that nor a Nihon Kohden file",
            where=path,
        )
    return path, SUFFIXES[suffix]


def _header_of(path: Path) -> Path:
    """The header that a file belongs to; the file itself where there is none beside it."""
    for suffix in SIDE_FILES.get(path.suffix.lower(), ()):
        if suffix in FOLDERS:
            if path.parent.suffix.lower() == suffix:
                return path.parent
            continue
        for spelling in (suffix, suffix.upper()):
            header = path.with_suffix(spelling)
            if header.exists() and header != path:
                return header
    return path


def _head(path: Path, n: int = 16) -> bytes:
    with path.open("rb") as file:
        return file.read(n)


def _unknown(path: Path) -> ConfigError:
    known = ", ".join(SUFFIXES) + ", or a 4D/BTi file with its config"
    if path.suffix.lower() == ".ncs" or (path.is_dir() and any(path.glob("*.ncs"))):
        fix = "read the folder with mne.io.read_raw_neuralynx (which needs neo), save it as FIF and open that"
        return ConfigError("Neuralynx recordings are not read here.", expected=known, got=path.name, fix=fix)
    fix = "convert it with mne: mne.io.read_raw(path).save('recording_raw.fif'); for 4D/BTi pass config="
    return ConfigError("Not a sensor format that is known here.", expected=known, got=path.name, fix=fix)


def _config_beside(path: Path) -> Path | None:
    """The system configuration of a 4D/BTi file: ``config`` beside it, or the name with "config" for "pdf"."""
    beside, common = path.with_name(path.name.replace("pdf", "config")), path.with_name("config")
    if beside != path and beside.is_file():
        return beside
    # Any file may lie beside one that is called config.
    return common if common != path and common.is_file() and path.is_file() and _is_bti(path) else None


def _is_bti(path: Path) -> bool:
    """Whether the last 8 bytes of a file tell where its header begins, as in 4D/BTi data files."""
    size = path.stat().st_size
    if size < 16:
        return False
    with path.open("rb") as file:
        file.seek(-8, 2)
        at = struct.unpack(">q", file.read(8))[0] & 0x7FFFFFFF
    return 0 < at < size and size - at < 2**26


def companions(path: Path, kind: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """Complete the options of MNE's reader, and list the files that it will read besides `path`.

    Parameters
    ----------
    path : Path
        The file to open.
    kind : str
        Its format.
    options : mapping
        Options as a caller gave them.

    Returns
    -------
    options : dict
        For MNE: files as absolute text.
    files : list of Path
        Files beside.

    Raises
    ------
    IntegrityError
        If a file that is named does not exist.
    ConfigError
        If a 4D/BTi file has no configuration.
    """
    given = dict(options)
    if kind == "bti":
        given = _bti_files(path, given)
    files: list[Path] = []
    for name, mne_name in _FILE_OPTIONS.get(kind, {}).items():
        value = given.pop(name, None)
        if value is None:
            continue
        several = isinstance(value, list | tuple)
        if several and not all(isinstance(item, str | Path) for item in value):
            given[mne_name] = value  # points, which KIT takes in place of files
            continue
        found = [_existing(path, name, item) for item in (value if several else [value])]
        given[mne_name] = [str(f) for f in found] if several else str(found[0])
        files += found
    if kind == "bti":
        given.setdefault("head_shape_fname", None)
    if kind == "nihon":
        files += [f for s in (".21E", ".PNT", ".LOG") if (f := path.with_suffix(s)).is_file()]
    return given, files


def _bti_files(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    config = given.get("config") or _config_beside(path)
    if config is None:
        raise ConfigError(
            "A 4D/BTi file cannot be read without its configuration.",
            expected="config=, or a file 'config' beside it",
            got=path.name,
            where=path,
        )
    shapes = (path.with_name(path.name.replace("pdf", "hs")), path.with_name("hs_file"))
    shape = given.get("head_shape") or next((f for f in shapes if f != path and f.is_file()), None)
    return {**given, "config": config, "head_shape": shape}


def _existing(path: Path, name: str, value: Any) -> Path:
    if not isinstance(value, str | Path):
        raise ConfigError(f"{name}= is not a path.", expected="the path of a file", got=value, where=path)
    for file in (Path(value).expanduser(), path.parent / value):
        if file.is_file():
            return file.absolute()
    raise IntegrityError(f"The file of {name}= does not exist.", got=str(value), where=path)
