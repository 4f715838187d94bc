"""EDF and BDF headers against themselves and the size of the file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from neuroalign.errors import IntegrityError
from neuroalign.loaders._integrity import Declared, check_names, cut, damaged, number

__all__ = ["Signals", "check_edf", "mixed_rates", "signal_table"]


def check_edf(path: Path, *, allow_truncated: bool = False) -> Declared:
    """Compare the header of an EDF or BDF file with itself and with the file's size.

    Parameters
    ----------
    path : Path
        The file.
    allow_truncated : bool
        Note a wrong size instead of refusing it.

    Returns
    -------
    Declared
        Names and units of the signals.

    Raises
    ------
    IntegrityError
        If the size or a field is wrong.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(256)
        if len(head) < 256:
            raise cut(path, 256, len(head), "bytes of header")
        width = 3 if head[:1] == b"\xff" else 2
        fixed = head.decode("latin-1")
        n = int(number(path, "number of signals", fixed[252:256]))
        header_bytes = int(number(path, "bytes in header", fixed[184:192]))
        if n < 1 or header_bytes != 256 * (n + 1):
            raise damaged(path, "number of signals", f"{header_bytes // 256 - 1} for {header_bytes} bytes of header", n)
        text = file.read(256 * n).decode("latin-1")
    if size < header_bytes:
        raise cut(path, header_bytes, size, "bytes of header")
    columns = _edf_columns(text, n)
    names, units = columns["label"], columns["unit"]
    per_record = _edf_ranges(path, names, columns)
    n_records = int(number(path, "number of data records", fixed[236:244]))
    duration = number(path, "duration of a data record", fixed[244:252], float)
    signals = [i for i, name in enumerate(names) if name not in ("EDF Annotations", "BDF Annotations")]
    if signals and duration <= 0:
        raise damaged(path, "duration of a data record", "> 0 s", duration)
    declared = Declared([path], [names[i] for i in signals], [units[i] for i in signals])
    expected = header_bytes + n_records * sum(per_record) * width
    # A few bytes more than whole records (such as a line end that a program added) do no harm.
    if n_records < 1 or not expected <= size < expected + sum(per_record) * width:
        problem = cut(path, expected, size, usable=True)
        if n_records < 1:
            problem = damaged(path, "number of data records", "at least 1", n_records)
        if not allow_truncated:
            raise problem
        declared.problem = problem
    check_names(path, declared.channels)
    if fixed[192:197] in ("EDF+D", "BDF+D"):
        _check_contiguous(path, header_bytes, names, per_record, width, duration)
    return declared


_EDF_FIELDS = (
    ("label", 16),
    ("transducer", 80),
    ("unit", 8),
    ("physical minimum", 8),
    ("physical maximum", 8),
    ("digital minimum", 8),
    ("digital maximum", 8),
    ("prefilter", 80),
    ("samples in a record", 8),
)


def _edf_columns(text: str, n: int) -> dict[str, list[str]]:
    columns, at = {}, 0
    for name, width in _EDF_FIELDS:
        columns[name] = [text[at + i * width : at + (i + 1) * width].strip(" \x00") for i in range(n)]
        at += width * n
    return columns


def _edf_ranges(path: Path, names: list[str], columns: dict[str, list[str]]) -> list[int]:
    """Check the scaling of each signal; give its samples in a record."""
    counts = []
    for i, name in enumerate(names):
        low, high = (
            number(path, f"physical range of {name!r}", columns[f"physical {m}imum"][i], float) for m in ("min", "max")
        )
        least, most = (
            number(path, f"digital range of {name!r}", columns[f"digital {m}imum"][i], float) for m in ("min", "max")
        )
        if low == high or least >= most:
            raise damaged(
                path, f"range of {name!r}", "minimum and maximum that differ", f"{low}..{high} for {least}..{most}"
            )
        counts.append(int(number(path, f"samples in a record of {name!r}", columns["samples in a record"][i])))
        if counts[-1] < 1:
            raise damaged(path, f"samples in a record of {name!r}", "at least 1", counts[-1])
    return counts


def _check_contiguous(
    path: Path, start: int, names: list[str], per_record: list[int], width: int, duration: float
) -> None:
    """Refuse an EDF+D file with pauses: MNE would close the gaps and shift everything after them."""
    signal = next((i for i, name in enumerate(names) if name.endswith(" Annotations")), None)
    if signal is None:
        return
    record, offset = sum(per_record) * width, sum(per_record[:signal]) * width
    first: float | None = None
    with path.open("rb") as file:
        for k in range((path.stat().st_size - start) // record):
            file.seek(start + k * record + offset)
            match = re.match(rb"([+-]\d+(?:\.\d*)?)", file.read(24))
            onset = float(match[1]) if match else math.nan
            first = onset if first is None else first
            # Record onsets are written with few decimals.
            if not abs(onset - first - k * duration) < 0.01 + 1e-6 * k * duration:
                raise IntegrityError(
                    "The recording has pauses (EDF+D), which would shift everything after them.",
                    expected=f"data record {k} at {first + k * duration:g} s",
                    got=f"{onset:g} s",
                    where=path,
                    fix="split the file at its pauses, or export it as continuous EDF+C",
                )


@dataclass(frozen=True)
class Signals:
    """The signals of an EDF or BDF file, annotations among them.

    Attributes
    ----------
    names, units : list of str
        As written.
    counts : list of int
        Samples in a data record.
    gains, offsets : list of float
        From numbers to the unit: ``number * gain + offset``.
    n_records : int
        Data records.
    header_bytes : int
        Where they begin.
    width : int
        Bytes of one number.
    continuous : bool
        Whether the records follow one another without pauses (not EDF+D).
    """

    names: list[str]
    units: list[str]
    counts: list[int]
    gains: list[float]
    offsets: list[float]
    n_records: int
    header_bytes: int
    width: int
    continuous: bool


def signal_table(path: Path) -> Signals:
    """Read the header of an EDF or BDF file that `check_edf` let pass."""
    with path.open("rb") as file:
        head = file.read(256)
        fixed = head.decode("latin-1")
        n = int(fixed[252:256])
        columns = _edf_columns(file.read(256 * n).decode("latin-1"), n)
    low, high, least, most = (
        [float(text) for text in columns[f"{kind} {m}imum"]] for kind in ("physical", "digital") for m in ("min", "max")
    )
    gains = [(b - a) / (d - c) for a, b, c, d in zip(low, high, least, most, strict=True)]
    return Signals(
        names=columns["label"],
        units=columns["unit"],
        counts=[int(text) for text in columns["samples in a record"]],
        gains=gains,
        offsets=[a - c * gain for a, c, gain in zip(low, least, gains, strict=True)],
        n_records=int(fixed[236:244]),
        header_bytes=int(fixed[184:192]),
        width=3 if head[:1] == b"\xff" else 2,
        continuous=fixed[192:197] not in ("EDF+D", "BDF+D"),
    )


def mixed_rates(path: Path) -> bool:
    """Tell whether the signals of an EDF or BDF file differ in their rate."""
    table = signal_table(path)
    pairs = zip(table.names, table.counts, strict=True)
    return len({count for name, count in pairs if not name.endswith(" Annotations")}) > 1
