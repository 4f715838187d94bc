"""Strict reading of BIDS tables: events.tsv, channels.tsv, electrodes.tsv."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neuroalign.errors import ConfigError, IntegrityError, SchemaError, require
from neuroalign.loaders import _integrity
from neuroalign.loaders._mne import read_errors
from neuroalign.loaders._text import read_text

__all__ = ["EVENT_SUFFIXES", "check_onsets", "read_events", "read_tsv"]

#: Event files of MNE.
EVENT_SUFFIXES = ("-eve.fif", "-eve.fif.gz", "_eve.fif", "_eve.fif.gz", ".eve")
_MISSING = ("n/a", "")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d+,\d+")


def read_tsv(path: str | Path, *, required: Sequence[str] = (), text: Sequence[str] = ()) -> pd.DataFrame:
    """Read a tab-separated table with a header line.

    A byte-order mark and Windows line ends are accepted. ``n/a`` and empty cells are missing. A column whose present
    cells are all numbers is numeric (missing: NaN); any other column is text (missing: None). Integers written with
    leading zeros, such as ``01``, are labels and stay text.

    Parameters
    ----------
    path : path-like
        The table.
    required : sequence of str
        Columns that must be there.
    text : sequence of str
        Columns that are never taken as numbers.

    Returns
    -------
    DataFrame
        One row a line, columns in the order of the file.

    Raises
    ------
    IntegrityError
        If there is no such file, or it is not UTF-8 text.
    SchemaError
        If a column is missing or repeated, a row has too many or too few cells, or a number has a comma; with the
        number of the line.
    """
    path = Path(path)
    lines = re.split(r"\r\n|\n|\r", read_text(path))
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise SchemaError("The table is empty.", expected="a header line with tabs between names", where=path)
    names = [name.strip() for name in lines[0].split("\t")]
    _check_header(path, names, required)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(names):
            raise SchemaError(
                "A row does not fit the header.",
                expected=f"{len(names)} cells, separated by tabs",
                got=f"{len(cells)}: {line!r}",
                where=f"{path}, line {number}",
            )
        rows.append(cells)
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return pd.DataFrame({n: _typed(path, n, cells, n in text) for n, cells in columns.items()}, columns=names)


def _check_header(path: Path, names: list[str], required: Sequence[str]) -> None:
    where = f"{path}, line 1"
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError("A column occurs twice.", expected="unique names", got=twice, where=where)
    if "" in names:
        raise SchemaError("A column has no name.", expected="a name for each column", got=names, where=where)
    missing = [name for name in required if name not in names]
    if missing:
        tabs = "" if len(names) > 1 else "; are the columns separated by tabs?"
        raise SchemaError(f"Column {missing[0]!r} is missing{tabs}", expected=list(required), got=names, where=where)


def _typed(path: Path, name: str, cells: list[str], text: bool) -> pd.Series:
    present = [cell for cell in cells if cell not in _MISSING]
    for line, cell in enumerate(cells, start=2):
        if _COMMA.fullmatch(cell) and not text and all(_COMMA.fullmatch(c) or _NUMBER.fullmatch(c) for c in present):
            raise SchemaError(
                "A number is written with a comma.",
                expected=cell.replace(",", "."),
                got=cell,
                where=f"{path}, line {line}, column {name!r}",
                fix="write decimals with a point",
            )
    label = any(re.fullmatch(r"0\d+", cell) for cell in present)
    if text or label or not present or not all(_NUMBER.fullmatch(cell) for cell in present):
        return pd.Series([None if cell in _MISSING else cell for cell in cells], dtype=object)
    if len(present) == len(cells) and all(re.fullmatch(r"[+-]?\d{1,18}", cell) for cell in cells):
        return pd.Series([int(cell) for cell in cells], dtype=np.int64)
    return pd.Series([np.nan if cell in _MISSING else float(cell) for cell in cells], dtype=np.float64)


def read_events(
    path: str | Path, *, duration: float | None = None, sfreq: float | None = None, first_sample: int = 0
) -> pd.DataFrame:
    """Read an events.tsv, or an event file of MNE: ``onset`` and ``duration`` in s, and every other column.

    Parameters
    ----------
    path : path-like
        The table; or ``-eve.fif``, ``-eve.fif.gz`` or ``.eve``.
    duration : float, optional
        Length of the recording in s; onsets are compared with it.
    sfreq : float, optional
        Sampling rate of the recording in Hz, which event files of MNE need: they count samples.
    first_sample : int
        Number of the first sample of the recording, where the samples of an event file start counting elsewhere.

    Returns
    -------
    DataFrame
        The events in the order of the file. A missing duration is NaN. Of event files ``onset``, ``duration`` (0),
        ``trial_type``, ``value``, ``sample`` and ``previous_value``.

    Raises
    ------
    IntegrityError
        If an event file is cut or damaged.
    SchemaError
        If an onset is missing or not a number, a duration is negative, or the onsets cannot be seconds of this
        recording.
    ConfigError
        If an event file is read without `sfreq`.
    """
    path = Path(path)
    if path.name.lower().endswith(EVENT_SUFFIXES):
        return _event_file(path, duration, sfreq, first_sample)
    events = read_tsv(path, required=("onset", "duration"), text=("stimulus_id", "stim_id", "stim_file"))
    for name in ("onset", "duration"):
        if len(events) and events[name].dtype == object and events[name].notna().any():
            there = [i for i, v in enumerate(events[name]) if v is not None]
            # Numbers with leading zeros (01) are labels too; then the first one is named.
            bad = next((i for i in there if not _NUMBER.fullmatch(events[name][i])), there[0])
            raise SchemaError(
                f"{name.capitalize()} is not a number.",
                expected="seconds, such as 1.5",
                got=events[name][bad],
                where=f"{path}, line {bad + 2}",
            )
        events[name] = events[name].astype(np.float64)
    missing = np.flatnonzero(~np.isfinite(events["onset"]))
    if missing.size:
        raise SchemaError(
            "An event has no onset.",
            expected="a finite number of seconds",
            got="n/a",
            where=f"{path}, line {missing[0] + 2}",
        )
    negative = np.flatnonzero(events["duration"] < 0)
    if negative.size:
        raise SchemaError(
            "A duration is negative.",
            expected=">= 0 s, or n/a",
            got=float(events["duration"][negative[0]]),
            where=f"{path}, line {negative[0] + 2}",
        )
    if duration is not None:
        check_onsets(events["onset"].to_numpy(), duration, where=path)
    return events


def _event_file(path: Path, duration: float | None, sfreq: float | None, first_sample: int) -> pd.DataFrame:
    if sfreq is None or not sfreq > 0:
        raise ConfigError(
            "An event file counts samples.",
            expected="sfreq=, the sampling rate of the recording",
            where=path,
            fix="pass sfreq=ds.attrs['sfreq'], first_sample=ds.attrs['first_sample']",
        )
    if not path.is_file():
        raise IntegrityError("There is no such file.", got=str(path), where=path.parent)
    if path.suffix.lower() != ".eve":
        _integrity.scan_fif(path)
    with read_errors(path):
        found = require("mne", "eeg").read_events(str(path), verbose="ERROR")
    if found.ndim != 2 or found.shape[1] != 3:
        raise _integrity.damaged(path, "the list of events", "sample, previous value and value", found.shape)
    onset = (found[:, 0] - first_sample) / sfreq
    if duration is not None:
        check_onsets(onset, duration, where=path)
    return pd.DataFrame(
        {
            "onset": onset,
            "duration": 0.0,
            "trial_type": found[:, 2].astype(str),
            "value": found[:, 2],
            "sample": found[:, 0],
            "previous_value": found[:, 1],
        }
    )


def check_onsets(onset: np.ndarray, duration: float, *, where: object) -> None:
    """Refuse onsets that are in ms or in samples instead of seconds.

    Single events outside the recording are no reason: epoching reports them. Here the whole table is looked at.

    Parameters
    ----------
    onset : ndarray
        Onsets, meant to be in s after the first sample.
    duration : float
        Length of the recording in s.
    where : object
        The file, for the message.

    Raises
    ------
    SchemaError
        If the median onset lies beyond the end of the recording.
    """
    onset = np.asarray(onset, dtype=np.float64)
    if not onset.size or duration <= 0 or np.median(onset) <= duration:
        return
    likely = "milliseconds" if onset.max() / 1000 <= duration * 1.01 else "samples, or of another recording"
    raise SchemaError(
        "Most events lie after the end of the recording.",
        expected=f"onsets in seconds, up to {duration:g}",
        got=f"up to {onset.max():g}: these look like {likely}",
        where=where,
        fix="write onsets in seconds after the first sample",
    )
