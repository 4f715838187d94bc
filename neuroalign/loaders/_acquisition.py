"""What is known about the acquisition of a run: its JSON sidecar, its space, and the repetition time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.loaders._text import read_json

__all__ = ["TR_RANGE", "Written", "read_sidecar", "repetition_time", "sidecar_attrs", "space_of"]

TR_RANGE = (0.1, 20.0)
"""Repetition times (s) that are taken as possible."""

_TR_TOLERANCE = 1e-3  # s; sidecars are often rounded to milliseconds
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_ENDINGS = r"\.(nii(\.gz)?|gii)$"
_CIFTI = r"\.[dp](tseries|scalar|label)$"


def space_of(name: str) -> str | None:
    """Give the entity ``space-`` of a file name, if there is one."""
    found = re.search(r"(?:^|_)space-([A-Za-z0-9]+)", name)
    return found.group(1) if found else None


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read the JSON file beside the image, or give an empty mapping."""
    stem = re.sub(_ENDINGS, "", path.name, flags=re.IGNORECASE)
    for name in dict.fromkeys((stem, re.sub(_CIFTI, "", stem), re.sub(r"\.(func|shape|label)$", "", stem))):
        side = path.with_name(f"{name}.json")
        if side.is_file():
            break
    else:
        return {}
    try:
        return read_json(side)
    except SchemaError as error:
        raise IntegrityError("The JSON sidecar cannot be read.", got=str(error), where=side) from error


def sidecar_attrs(sidecar: dict[str, Any]) -> dict[str, Any]:
    """Give slice timing and start time where the sidecar has them."""
    attrs: dict[str, Any] = {}
    timing, start = sidecar.get("SliceTiming"), sidecar.get("StartTime")
    if isinstance(timing, list) and all(isinstance(v, int | float) for v in timing):
        attrs["slice_timing"] = [float(v) for v in timing]
    if isinstance(start, int | float):
        attrs["start_time"] = float(start)
    return attrs


@dataclass(frozen=True)
class Written:
    """The repetition time as an image says it.

    Attributes
    ----------
    value : float
        As written.
    unit : str
        ``"sec"``, ``"msec"``, ``"usec"`` or ``"unknown"``.
    name : str
        Of the field, for messages.
    """

    value: float
    unit: str
    name: str = "pixdim[4]"

    @property
    def readings(self) -> list[float]:
        """Seconds that this may mean."""
        if self.unit != "unknown":
            return [self.value * _SECONDS.get(self.unit, math.nan)]
        return [self.value * factor for factor in _SECONDS.values()]

    def __str__(self) -> str:
        return f"{self.name} = {self.value:g}, unit {self.unit}"


def repetition_time(path: object, written: Written, sidecar: dict[str, Any], tr: float | None) -> float:
    """Settle the repetition time in s.

    Parameters
    ----------
    path : path-like
        The file, for messages.
    written : Written
        What the image says.
    sidecar : dict
        What its JSON file says.
    tr : float or None
        What the user says, which settles it.

    Returns
    -------
    float
        In s.

    Raises
    ------
    SchemaError
        If sidecar and image differ by more than 1 ms, or it is unknown or outside `TR_RANGE`.
    """
    if tr is not None:
        return _possible(path, tr, "the argument tr=")
    if "RepetitionTime" not in sidecar:
        if "VolumeTiming" in sidecar:
            raise SchemaError(
                "The volumes are not equally spaced in time (VolumeTiming).", where=path, fix="pass tr= in s"
            )
        known = written.readings[0] if written.unit != "unknown" else math.nan
        return _possible(path, known, f"the header ({written})")
    value = _possible(path, sidecar["RepetitionTime"], "RepetitionTime of the JSON sidecar")
    # Writers that know no repetition time leave 0 or 1 and the unit unknown.
    silent = written.value == 0 or (written.unit == "unknown" and written.value == 1)
    if silent or any(abs(reading - value) <= _TR_TOLERANCE for reading in written.readings):
        return value
    raise SchemaError(
        "The repetition time of the header is not that of the JSON sidecar.",
        expected=f"{value:g} s (RepetitionTime)",
        got=f"{written.name} = {written.value:g} {written.unit}",
        where=path,
        fix=f"pass the right one, for example tr={value:g}",
    )


def _possible(path: object, value: Any, source: str) -> float:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number and TR_RANGE[0] <= value <= TR_RANGE[1]:
        return float(value)
    hint = next((v for f in (1e-3, 1e-6) if number and TR_RANGE[0] <= (v := float(value) * f) <= TR_RANGE[1]), None)
    raise SchemaError(
        "The repetition time is unknown or impossible.",
        expected=f"{TR_RANGE[0]} to {TR_RANGE[1]} s",
        got=f"{value!r} from {source}",
        where=path,
        fix="pass tr= in s" + (f"; this looks like another unit: tr={hint:g}" if hint else ""),
    )
