"""Tables of spikes: one row a spike, with its time and its neuron."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.loaders._arrays import Arrays
from neuroalign.loaders._text import read_text

__all__ = ["spikes_of_arrays", "spikes_of_text"]

_TIME_NAMES = ("spike_times", "spike_time", "times", "time", "timestamps", "samples")
_NEURON_NAMES = ("spike_neurons", "spike_neuron", "neurons", "neuron", "spike_clusters", "clusters", "cluster", "unit")


def spikes_of_text(path: Path, delimiter: str | None, times: str | None, neurons: str | None) -> pd.DataFrame:
    """Columns time, neuron and line of a list of times or a table of times and neurons."""
    rows = _rows(path, delimiter)
    header = None if not rows or all(_is_number(cell) for cell in rows[0][1]) else rows.pop(0)[1]
    width = len(header) if header is not None else len(rows[0][1]) if rows else 1
    for number, cells in rows:
        if len(cells) != width:
            raise SchemaError(
                "A line has another length than the first.",
                expected=f"{width} cells",
                got=cells,
                where=f"{path}, line {number}",
            )
    if header is None and (width > 1 or times or neurons):
        raise SchemaError(
            "The columns have no names.",
            expected="a header line, or one time a line",
            got=f"{width} columns of numbers",
            where=str(path),
            fix="write a first line such as 'time neuron'",
        )
    names = header or ["time"]
    at = _choose(path, names, times, _TIME_NAMES, "times")
    of = _choose(path, names, neurons, _NEURON_NAMES, "neurons", optional=True)
    lines = [number for number, _ in rows]
    values = [_number(path, number, cells[names.index(at or names[0])]) for number, cells in rows]
    labels = [path.stem if of is None else cells[names.index(of)] for _, cells in rows]
    return pd.DataFrame({"time": np.array(values, float), "neuron": np.array(labels, object), "line": lines})


def _rows(path: Path, delimiter: str | None) -> list[tuple[int, list[str]]]:
    """Line numbers and cells of all lines but comments and empty ones."""
    rows = []
    for number, line in enumerate(re.split(r"\r\n|\n|\r", read_text(path)), start=1):
        text = line.strip()
        if text and not text.startswith(("#", "%")):
            rows.append((number, [cell.strip() for cell in text.split(delimiter)]))
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _number(path: Path, line: int, text: str) -> float:
    if not _is_number(text) or not math.isfinite(float(text)):
        comma = "," in text and _is_number(text.replace(",", "."))
        raise SchemaError(
            "A spike time is not a number.",
            expected="a finite number",
            got=repr(text),
            where=f"{path}, line {line}",
            fix="write decimals with a point" if comma else None,
        )
    return float(text)


def _choose(
    path: Path, names: list[str], wanted: str | None, usual: tuple[str, ...], what: str, *, optional: bool = False
) -> str | None:
    """The entry that is asked for, or the only one with a usual name, or the only one."""
    if wanted is not None:
        if wanted not in names:
            raise ConfigError(f"There is no such entry for {what}.", expected=names, got=wanted, where=str(path))
        return wanted
    known = [name for name in names if name.lower() in usual]
    if len(known) == 1:
        return known[0]
    if not known and (optional or len(names) == 1):
        return None if optional else names[0]
    raise ConfigError(
        f"It is not clear which entry holds the {what}.",
        expected=f"one of {', '.join(usual)}",
        got=names,
        where=str(path),
        fix=f"pass {what}= with its name",
    )


def spikes_of_arrays(path: Path, arrays: Arrays, times: str | None, neurons: str | None) -> pd.DataFrame:
    """Columns time and neuron of arrays by name."""
    flat = {name: value for name, value in arrays.items() if value.size == max(value.shape, default=0)}
    names = list(flat)
    of = _choose(path, names, neurons, _NEURON_NAMES, "neurons", optional=True)
    at = str(_choose(path, [n for n in names if n != of], times, _TIME_NAMES, "times"))
    values = flat[at].ravel()
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise SchemaError("Spike times are not finite numbers.", got=f"{at} of {values.dtype}", where=str(path))
    labels = np.full(values.size, path.stem, dtype=object) if of is None else flat[of].ravel()
    if labels.size != values.size:
        raise SchemaError(
            "Not one neuron a spike.", expected=f"{values.size} in {of}, as in {at}", got=labels.size, where=str(path)
        )
    if labels.dtype.kind == "f" and np.array_equal(labels, np.rint(labels)):  # MATLAB's numbers are floats
        labels = labels.astype(np.int64)
    return pd.DataFrame({"time": values, "neuron": labels.astype(object) if labels.dtype.kind in "US" else labels})
