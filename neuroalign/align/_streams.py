"""Features of stimuli as they are placed in time: one vector a stimulus, or a stream with a clock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import signal

from neuroalign.align._join import Features, _bands
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.schema import clock, time_index

_FRAMES = ("time", "frame")
_KEPT = ("units", "layer", "bands")
#: A filter for larger ratios of rates would be longer than most stimuli.
MAX_RATIO = 100_000


@dataclass(frozen=True)
class Source:
    """Features by stimulus id.

    Attributes
    ----------
    ids : list of str
        Unique ids.
    coords : dict
        Coordinates along ``unit``.
    attrs : dict
        Attributes that stay true in time.
    name : str
        Name of the result.
    parents : tuple
        What it was opened from, for the provenance.
    vectors : ndarray, shape (n_stimuli, n_units), or None
        Features without time.
    streams : dict
        Or features in time, (time, unit), by id.
    """

    ids: list[str]
    coords: dict[str, Any]
    attrs: dict[str, Any]
    name: str
    parents: tuple[Any, ...]
    vectors: NDArray[np.floating] | None = None
    streams: dict[str, xr.DataArray] = field(default_factory=dict)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Position of each id."""
        return {name: row for row, name in enumerate(self.ids)}

    @property
    def timed(self) -> bool:
        """Whether the features have a clock of their own."""
        return self.vectors is None

    @property
    def n_units(self) -> int:
        """Number of features."""
        return len(self.coords["unit"][1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Floating type of the features."""
        if self.vectors is not None:
            return self.vectors.dtype
        return np.result_type(*(_floating(stream.dtype) for stream in self.streams.values()))

    def vector(self, name: str) -> NDArray[np.floating]:
        """Features of one stimulus, shape (n_units,)."""
        if self.vectors is None:
            raise AlignmentError("The features have a clock of their own.", got=name)
        return self.vectors[self.rows[name]]

    def stream(self, name: str, sfreq: float) -> tuple[int, NDArray[np.floating]]:
        """First sample after the onset, and values (sample, unit), on a clock of `sfreq`."""
        stream = self.streams[name]
        samples, rate = clock(stream)
        values = _without_tail(stream.values.astype(self.dtype, copy=False))
        samples = samples[: len(values)]
        if (np.diff(samples) != 1).any():
            raise AlignmentError(
                "The features of a stimulus have gaps in time.", expected="one frame after another", where=name
            )
        ratio = _ratio(rate, sfreq, name)
        if ratio == 1 or not len(values):
            return int(samples[0]) if samples.size else 0, values
        if not np.isfinite(values).all():
            raise SchemaError(
                "The features of a stimulus hold NaN or Inf, which a filter would spread.",
                expected=f"finite values, to be resampled from {rate:g} to {sfreq:g} Hz",
                got=f"{int((~np.isfinite(values)).sum())} values that are not finite",
                where=f"stimulus {name}",
                fix="fill them first",
            )
        return _resample(values, int(samples[0]), ratio)


def open_source(features: Features) -> Source:
    """Tell the form of features from their dimensions."""
    if isinstance(features, xr.DataArray):
        array = _named_stimuli(features)
        frames = [dim for dim in _FRAMES if dim in array.dims]
        if frames:
            pieces = {str(name): array.isel(stimulus=n) for n, name in enumerate(array["stimulus"].values.tolist())}
            return _streams(pieces, (features,), array.name)
        return _vectors(array, (features,))
    parts: Mapping[Any, xr.DataArray] = features
    pieces = {str(name): part for name, part in parts.items()}
    if pieces and all("stimulus" not in part.dims for part in pieces.values()):
        return _streams(pieces, tuple(pieces.values()), None)
    return _vectors(_named_stimuli(_bands(features)), tuple(pieces.values()))


def _named_stimuli(array: xr.DataArray) -> xr.DataArray:
    if "stimulus" not in array.dims or "stimulus" not in array.coords:
        raise AlignmentError(
            "The features do not name their stimuli.",
            expected="a dimension stimulus with ids, or a mapping of ids to (time, unit)",
            got=f"dims {array.dims}, coordinates {list(array.coords)}",
        )
    if not array.indexes["stimulus"].is_unique:
        index = array.indexes["stimulus"]
        raise AlignmentError(
            "Stimulus ids repeat in the features.", expected="unique ids", got=index[index.duplicated()][:5].tolist()
        )
    return array


def _vectors(array: xr.DataArray, parents: tuple[Any, ...]) -> Source:
    if array.dims == ("stimulus",):  # one number a stimulus
        array = array.expand_dims(unit=[str(array.name or 0)], axis=1)
    if set(array.dims) != {"stimulus", "unit"}:
        raise AlignmentError(
            "The features cannot be placed.",
            expected="dims (stimulus, unit) or (stimulus, time, unit)",
            got=array.dims,
            fix="pool or stack the other dimensions into unit",
        )
    array = array.transpose("stimulus", "unit")
    ids = array["stimulus"].values.astype(str).tolist()
    values = array.values.astype(_floating(array.dtype), copy=False)
    attrs = {name: array.attrs[name] for name in _KEPT if name in array.attrs}
    return Source(ids, _unit_coords(array), attrs, str(array.name or "features"), parents, vectors=values)


def _streams(pieces: dict[str, xr.DataArray], parents: tuple[Any, ...], name: Any) -> Source:
    streams = {key: _stream(key, piece) for key, piece in pieces.items()}
    first = next(iter(streams.values()))
    coords = _unit_coords(first)
    for key, stream in streams.items():
        own = _unit_coords(stream)["unit"][1]
        if not np.array_equal(own, coords["unit"][1]):
            raise AlignmentError(
                "Stimuli have different features.",
                expected=f"the {len(coords['unit'][1])} units of {next(iter(streams))!r}",
                got=f"{len(own)} units, or other names",
                where=f"stimulus {key}",
            )
    attrs = {key: first.attrs[key] for key in _KEPT if key in first.attrs}
    return Source(list(streams), coords, attrs, str(name or "features"), parents, streams=streams)


def _stream(name: str, piece: xr.DataArray) -> xr.DataArray:
    """One stimulus as (time, unit), with its clock."""
    if "frame" in piece.dims:
        piece = piece.swap_dims(frame="time") if "time" in piece.coords else piece.rename(frame="time")
    if piece.dims == ("time",):
        piece = piece.expand_dims(unit=[str(piece.name or 0)], axis=1)
    if set(piece.dims) != {"time", "unit"}:
        raise AlignmentError(
            "The features of a stimulus cannot be placed.",
            expected="dims (time, unit)",
            got=piece.dims,
            where=f"stimulus {name}",
        )
    if "sfreq" in piece.attrs and "time" not in piece.coords:
        piece = piece.assign_coords(time=time_index(piece.sizes["time"], piece.attrs["sfreq"]))
    clock(piece)  # refuses frames without times
    return piece.transpose("time", "unit")


def _unit_coords(array: xr.DataArray) -> dict[str, Any]:
    coords: dict[str, Any] = {str(n): ("unit", c.values) for n, c in array.coords.items() if c.dims == ("unit",)}
    coords.setdefault("unit", ("unit", np.arange(array.sizes["unit"])))
    return coords


def _floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind == "f" else np.dtype(np.float32)


def _without_tail(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Leave out frames at the end that are wholly NaN: the stimulus was shorter than others."""
    there = np.flatnonzero(~np.isnan(values).all(axis=1))
    return values[: there[-1] + 1] if there.size else values[:0]


def _ratio(rate: float, sfreq: float, name: str) -> Fraction:
    ratio = Fraction(sfreq / rate).limit_denominator(MAX_RATIO)
    if not ratio or ratio.numerator > MAX_RATIO or abs(float(ratio) * rate - sfreq) > 1e-9 * sfreq:
        raise ConfigError(
            "The features cannot be resampled to the clock of the recording.",
            expected=f"a rate in a simple ratio to {sfreq:.10g} Hz",
            got=f"{rate:.10g} Hz",
            where=f"stimulus {name}",
            fix="resample the recording or the features first",
        )
    return ratio


def _resample(values: NDArray[np.floating], first: int, ratio: Fraction) -> tuple[int, NDArray[np.floating]]:
    """Resample without delay, so that sample n lies at n / sfreq after the onset, whatever the first frame is."""
    up, down = ratio.numerator, ratio.denominator
    lead = first % down  # from here back to a frame at which both clocks tick
    padded = np.pad(values, ((lead, 0), (0, 0)), mode="symmetric")
    out = signal.resample_poly(padded, up, down, axis=0, padtype="symmetric")
    skip = -(-lead * up // down)
    return (first - lead) * up // down + skip, out[skip:].astype(values.dtype, copy=False)
