"""Tables of text: one row a sample, one column a unit."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import ConfigError, IntegrityError, SchemaError, require
from neuroalign.loaders._text import read_text

__all__ = ["Sheet", "read_parquet", "read_sheet"]

_MISSING = frozenset({"", "n/a", "na", "nan", "null"})
_INDEX_NAMES = frozenset({"", "stimulus", "stimulus_id", "trial", "id", "name"})


@dataclass(frozen=True)
class Sheet:
    """Numbers with the names of their rows and columns.

    Attributes
    ----------
    values : ndarray, shape (n_rows, n_columns)
        Numbers; missing ones are NaN.
    rows, columns : ndarray of str, or None
        Names, where the file has them.
    """

    values: NDArray[np.float64]
    rows: NDArray[Any] | None
    columns: NDArray[Any] | None


def _number(text: str) -> float | None:
    """A number, NaN for what stands for a missing one, or None."""
    text = text.strip()
    if text.lower() in _MISSING:
        return math.nan
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def read_sheet(path: Path, index: str | None) -> Sheet:
    """Read a .csv (commas) or .tsv (tabs) table strictly.

    Parameters
    ----------
    path : Path
        The file. The first row names the columns unless it holds nothing but numbers.
    index : str or None
        Column with the names of the rows. By default the first one, if it holds text or is called id, name,
        stimulus or trial.

    Returns
    -------
    Sheet
        Every column but the index, as numbers.

    Raises
    ------
    SchemaError
        If a row has another length, or a cell is not a number; the line is named.
    ConfigError
        If there is no such index column.
    """
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    lines = _lines(path, delimiter)
    width = len(lines[0][1])
    for number, cells in lines:
        if len(cells) != width:
            fix = "a decimal comma needs a point" if delimiter == "," else "separate the cells by tabs"
            raise SchemaError(
                f"Line {number} has another length than the first.",
                expected=f"{width} cells",
                got=f"{len(cells)} cells",
                where=f"{path}, line {number}",
                fix=f"repair this line ({fix})",
            )
    headless = all((v := _number(cell)) is not None and not math.isnan(v) for cell in lines[0][1])
    header = None if headless else [cell.strip() for cell in lines[0][1]]
    body = lines if headless else lines[1:]
    if not body:
        raise SchemaError("The table has no rows.", expected="a header and at least one row", where=str(path))
    at = _index_column(path, header, [cells[0] for _, cells in body], index)
    keep = [i for i in range(width) if i != at]
    if not keep:
        raise SchemaError("The table has no column of numbers.", got=header, where=str(path))
    values = np.array([[_cell(path, number, cells, i, header) for i in keep] for number, cells in body])
    rows = None if at is None else np.array([cells[at].strip() for _, cells in body], dtype=object)
    columns = None if header is None else np.array([header[i] for i in keep], dtype=object)
    return Sheet(values, rows, columns)


def _lines(path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """Line numbers and cells of all lines that are not empty."""
    reader = csv.reader(read_text(path).splitlines(keepends=True), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if cells:
                lines.append((reader.line_num, cells))
    except csv.Error as error:
        raise SchemaError("The table is malformed.", got=str(error), where=f"{path}, line {reader.line_num}") from error
    if not lines:
        raise IntegrityError("The table is empty.", expected="a header and rows", where=str(path))
    return lines


def _index_column(path: Path, header: list[str] | None, first: list[str], index: str | None) -> int | None:
    if index is not None:
        if header is None or header.count(index) != 1:
            raise ConfigError(
                "There is no such index column.", expected=f"one of {header}", got=f"index={index!r}", where=str(path)
            )
        return header.index(index)
    named = header is not None and header[0].lower() in _INDEX_NAMES
    return 0 if named or any(_number(cell) is None for cell in first) else None


def _cell(path: Path, line: int, cells: list[str], at: int, header: list[str] | None) -> float:
    value = _number(cells[at])
    if value is None:
        name = repr(header[at]) if header else at + 1
        comma = "," in cells[at] and _number(cells[at].replace(",", ".")) is not None
        raise SchemaError(
            "A cell is not a number.",
            expected="a number, or n/a where one is missing",
            got=repr(cells[at]),
            where=f"{path}, line {line}, column {name}",
            fix="write decimals with a point" if comma else "keep one column of names (index=) and drop other text",
        )
    return value


def read_parquet(path: Path, index: str | None) -> Sheet:
    """Read a Parquet table: text in its first (or the `index`) column, numbers in all others.

    Parameters
    ----------
    path : Path
        The file.
    index : str or None
        Column with the names of the rows.

    Returns
    -------
    Sheet
        As from `read_sheet`.

    Raises
    ------
    IntegrityError
        If the file is cut or damaged.
    SchemaError
        If a column holds no numbers.
    """
    arrow = require("pyarrow", "tables")
    parquet = require("pyarrow.parquet", "tables")
    try:
        frame = parquet.read_table(path, page_checksum_verification=True).to_pandas()
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise IntegrityError("The Parquet file is cut or damaged.", got=str(error), where=str(path)) from error
    if frame.index.name is not None:
        frame = frame.reset_index()
    names = [str(name) for name in frame.columns]
    frame.columns = names
    if index is not None and index not in names:
        raise ConfigError("There is no such index column.", expected=f"one of {names}", got=index, where=str(path))
    if index is None and names and (frame[names[0]].dtype.kind not in "biuf" or names[0].lower() in _INDEX_NAMES):
        index = names[0]
    numbers = frame if index is None else frame.drop(columns=index)
    text = [name for name in numbers if numbers[name].dtype.kind not in "biuf"]
    if text or not numbers.shape[1]:
        raise SchemaError(
            "Not all columns are numbers.",
            expected="one column of names, all others numbers",
            got=text,
            where=str(path),
        )
    rows = None if index is None else np.array([str(v) for v in frame[index]], dtype=object)
    return Sheet(numbers.to_numpy(dtype=np.float64), rows, np.array(list(numbers), dtype=object))
