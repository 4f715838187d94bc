"""The provenance of a result as tables: what went in, what was done, with which versions."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from neuroalign import schema
from neuroalign.report.table import Table


def provenance_tables(obj: xr.Dataset | xr.DataArray) -> list[Table]:
    """Give the provenance of an object as tables: sources, steps, versions and warnings.

    Parameters
    ----------
    obj : Dataset or DataArray
        An object with the provenance that `neuroalign.schema.stamp` writes.

    Returns
    -------
    list of Table
        Only those that hold something.

    Examples
    --------
    >>> obj = schema.stamp(xr.Dataset(), "scale", factor=2)
    >>> provenance_tables(obj)[0].rows
    [['scale', 'none', 'factor = 2']]
    """
    history = schema.history(obj)
    sources = [[s.get("name"), s.get("bytes"), s.get("sha256", "not taken")] for s in history["sources"]]
    tables = [
        Table(["file", "bytes", "sha256"], sources, "Sources"),
        Table(["step", "seed", "parameters"], [_step(step) for step in history["steps"]], "Steps, in order"),
        Table(["package", "version"], [list(pair) for pair in history["versions"].items()], "Versions"),
        Table(["warning"], [[message] for message in history["log"]], "Warnings"),
    ]
    return [table for table in tables if table.rows]


def _step(step: dict[str, Any]) -> list[str]:
    settings = {key: value for key, value in step.items() if key not in ("step", "seed")}
    seed = str(step["seed"]) if "seed" in step else "none"
    return [str(step.get("step", "")), seed, "; ".join(_setting(key, value) for key, value in settings.items())]


def _setting(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {inner}" for name, inner in value.items())
    return f"{key} = {value if isinstance(value, str) else json.dumps(value)}"
