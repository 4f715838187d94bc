"""Sensor positions from a montage: a named one of MNE, or a file."""

from __future__ import annotations

import difflib
import re
import warnings
from pathlib import Path
from typing import Any

from neuroalign.convert import Channels
from neuroalign.errors import ConfigError, IntegrityError, SchemaError, require
from neuroalign.loaders import _mne
from neuroalign.loaders._labels import IEEG_TYPES, PREFIX

__all__ = ["apply_montage"]

_FILES = (
    ".loc", ".locs", ".eloc", ".sfp", ".csd", ".elc", ".txt", ".elp", ".bvef", ".csv", ".tsv", ".xyz", ".bvct",
    ".hpts", ".fif", ".fif.gz",
)  # fmt: skip
_PLACED = ("eeg", *IEEG_TYPES)
_REFERENCE = re.compile(r"-(?:ref|le|avg)$", re.IGNORECASE)


def apply_montage(path: Path, labels: Channels, montage: str | Path | None) -> list[str]:
    """Set the positions of EEG and intracranial channels.

    Parameters
    ----------
    path : Path
        The recording, for messages.
    labels : Channels
        Its channels; the measurement info is changed in place.
    montage : str or Path or None
        Name of a montage of MNE, or a file of positions; None leaves positions as they are.

    Returns
    -------
    list of str
        What a user should know: channels without a position.

    Raises
    ------
    ConfigError
        If there is no such montage.
    SchemaError
        If no channel of the recording is in it.
    """
    if montage is None:
        return []
    found = _read(montage)
    names = [name for name, kind in zip(labels.names, labels.types, strict=True) if kind in _PLACED]
    positions = found.get_positions()["ch_pos"]
    taken = _match(names, list(positions))
    if not taken:
        raise SchemaError(
            "No channel of the recording is in the montage.",
            expected=f"names such as {', '.join(list(positions)[:5])}",
            got=", ".join(names[:5]) or "no EEG or intracranial channels",
            where=path,
            fix="pass another montage=; mne.channels.get_builtin_montages() lists those with a name",
        )
    with warnings.catch_warnings(record=True) as caught, _mne.read_errors(path):
        warnings.simplefilter("always")
        labels.info.set_montage(found, match_alias=taken, on_missing="ignore", verbose="ERROR")
    missing = [name for name in names if name not in taken]
    notes = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
    if missing:
        listed = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        notes.append(f"no position in the montage for {listed}")
    return notes


def _read(montage: str | Path) -> Any:
    mne = require("mne", "eeg")
    name, path = str(montage), Path(montage).expanduser()
    if not name.lower().endswith(_FILES):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of older names, such as standard_1020
            try:
                return mne.channels.make_standard_montage(name)
            except ValueError:
                known = mne.channels.get_builtin_montages()
        close = difflib.get_close_matches(name, known, n=3)
        raise ConfigError(
            "Unknown montage.",
            expected=f"a montage of MNE (such as {', '.join(close or known[:3])}), or a file {' '.join(_FILES)}",
            got=name,
        )
    if not path.is_file():
        raise IntegrityError("There is no such file of positions.", got=name, where=path.parent)
    channels = mne.channels
    reader = {
        ".fif": channels.read_dig_fif,
        ".gz": channels.read_dig_fif,
        ".bvct": channels.read_dig_captrak,
        ".hpts": channels.read_dig_hpts,
    }.get(path.suffix.lower(), channels.read_custom_montage)
    # An .elc file states its unit; formats that do not are fit to a head of 95 mm.
    options = {"head_size": None} if path.suffix.lower() == ".elc" else {}
    with warnings.catch_warnings(), _mne.read_errors(path):
        warnings.simplefilter("ignore", RuntimeWarning)
        return reader(str(path), **options)


def _match(names: list[str], known: list[str]) -> dict[str, str]:
    """Name in the recording -> name in the montage: the same, or but for case, "EEG " before and "-Ref" after."""
    plain = {name.lower(): name for name in known}
    out: dict[str, str] = {}
    for name in names:
        core = _REFERENCE.sub("", PREFIX.sub("", name)).lower()
        found = name if name in known else plain.get(name.lower(), plain.get(core))
        if found is not None and found not in out.values():
            out[name] = found
    return out
