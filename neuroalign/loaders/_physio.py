"""Recordings beside the brain in BIDS data sets: breathing, pulse, gaze and continuous stimuli (``.tsv.gz``)."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign import schema
from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.loaders._layout import Recording
from neuroalign.loaders._sidecars import number_in

__all__ = ["read_beside"]

MAX_BYTES = 2**28


def read_beside(recording: Recording, sidecar: Mapping[str, Any]) -> xr.Dataset:
    """Read a ``_physio.tsv.gz`` or ``_stim.tsv.gz``.

    Parameters
    ----------
    recording : Recording
        The file.
    sidecar : mapping
        Its merged JSON sidecars, with ``SamplingFrequency`` (Hz), ``StartTime`` (s) and ``Columns``.

    Returns
    -------
    Dataset
        Variable ``physio`` or ``stim`` with dims (time, signal), float32. ``time`` counts from the first sample or
        volume of the run that it was recorded with, rounded to the samples of this recording; ``start_time`` in
        attrs is exact. Units are as the sidecar gives them (SI where they are known), ``1`` where it does not.

    Raises
    ------
    IntegrityError
        If the file is cut, damaged or too large.
    SchemaError
        If the sidecar lacks a field, or a cell is not a number.
    """
    sfreq, start, columns = _facts(recording, sidecar)
    values = _values(recording.path, columns)
    units = [_unit(sidecar.get(name)) for name in columns]
    values *= np.array([factor for _, factor in units], dtype=np.float32)
    first = round(start * sfreq)
    ds = xr.Dataset(
        {recording.suffix: (("time", "signal"), values)},
        coords={
            "time": ("time", schema.time_index(len(values), sfreq, first)),
            "signal": ("signal", np.array(columns, dtype=object)),
            "units": ("signal", np.array([unit for unit, _ in units], dtype=object)),
        },
        attrs={"sfreq": sfreq, "first_sample": first, "start_time": start, "units": "mixed"},
    )
    return schema.stamp(ds, "read_bids", sources=[recording.path])


def _facts(recording: Recording, sidecar: Mapping[str, Any]) -> tuple[float, float, list[str]]:
    sfreq, start = (number_in(sidecar, name) for name in ("SamplingFrequency", "StartTime"))
    if sfreq is None or sfreq <= 0 or start is None:
        name = "StartTime" if start is None else "SamplingFrequency"
        raise SchemaError(
            f"The sidecar does not give {name}.",
            expected="a number of Hz above 0" if name == "SamplingFrequency" else "a number of seconds",
            got=sidecar.get(name),
            where=recording.path,
            fix=f"add {name} to its JSON file",
        )
    columns = sidecar.get("Columns")
    if not isinstance(columns, list) or not columns or len(set(map(str, columns))) < len(columns):
        raise SchemaError(
            "The sidecar does not name the columns.",
            expected="Columns: a list of unique names",
            got=columns,
            where=recording.path,
        )
    return sfreq, start, [str(name) for name in columns]


def _unit(entry: Any) -> tuple[str, float]:
    told = entry.get("Units") if isinstance(entry, Mapping) else None
    if not isinstance(told, str) or not told:
        return "1", 1.0
    return schema.UNITS.get(told, (told, 1.0))


def _values(path: Path, columns: Sequence[str]) -> NDArray[np.float32]:
    text = _unpack(path)
    try:
        # Without names pandas would drop surplus cells; one column more than named shows them.
        table = pd.read_csv(
            io.BytesIO(text), sep="\t", header=None, na_values=["n/a"], keep_default_na=False, dtype=np.float32
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise SchemaError(
            "A cell is not a number.",
            expected=f"{len(columns)} columns of numbers or n/a, without a header",
            got=str(error),
            where=path,
        ) from None
    if table.shape[1] != len(columns):
        raise SchemaError(
            "The table does not have the columns that its sidecar names.",
            expected=list(columns),
            got=f"{table.shape[1]} columns",
            where=path,
        )
    return table.to_numpy(dtype=np.float32)


def _unpack(path: Path) -> bytes:
    """Unpack to the end, which compares the checksum; never more than `MAX_BYTES`."""
    packed = path.read_bytes()
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(packed, MAX_BYTES)
    except zlib.error as error:
        raise IntegrityError("The file is damaged.", expected="gzip", got=str(error), where=path) from None
    if not unpacker.eof or unpacker.unused_data:
        problem = "too large" if unpacker.unconsumed_tail else "cut, or longer than one gzip stream"
        raise IntegrityError(f"The file is {problem}.", expected=f"one whole gzip stream of {MAX_BYTES} bytes at most",
                             got=f"{len(text)} bytes unpacked", where=path)  # fmt: skip
    return text
