"""Tables of a report, and how values are written in them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neuroalign.errors import ConfigError

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """Rows of a table, with the name of each column.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns.
    rows : sequence of sequence
        The cells. Numbers are written with three significant digits and set to the right; NaN and None as n/a.
    caption : str, optional
        What the table shows.

    Examples
    --------
    >>> Table(["site", "score"], [["Cz", 0.12345]]).cells()
    [[('Cz', False), ('0.123', True)]]
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise ConfigError(
                "A row of a table has another length.", expected=f"{len(self.columns)} cells", got=list(wrong[0])
            )

    def cells(self) -> list[list[tuple[str, bool]]]:
        """Give each cell as text, and whether it is a number."""
        return [[(show(value), _is_number(value)) for value in row] for row in self.rows]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (hasattr(value, "dtype") and value.dtype.kind in "fiu")


def show(value: Any) -> str:
    """Write one value for people: three significant digits, yes and no, n/a for what is missing."""
    if isinstance(value, bool) or (hasattr(value, "dtype") and value.dtype.kind == "b"):
        return "yes" if value else "no"
    if value is None or (_is_number(value) and not math.isfinite(value)):
        return "n/a" if value is None or math.isnan(value) else str(float(value))
    if isinstance(value, int) or (hasattr(value, "dtype") and value.dtype.kind in "iu"):
        return str(int(value))
    if _is_number(value):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.3g}"
    return clean(str(value))


def clean(text: str) -> str:
    """Replace control characters and lone surrogates, and drop any claim of the text to be HTML already."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))
