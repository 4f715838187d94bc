"""What to draw: labelled input narrowed to plain arrays, units for people, limits and time axes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError
from neuroalign.plots._text import safe
from neuroalign.schema import MODALITIES, modality_of

Labelled = xr.DataArray | xr.Dataset

# SI unit -> (unit people read, factor); sensors are read in microvolt and femtotesla.
READABLE = {
    "V": ("µV", 1e6),
    "T": ("fT", 1e15),
    "T/m": ("fT/cm", 1e13),
    "s": ("ms", 1e3),
    "V^2": ("µV²", 1e12),
    "V**2": ("µV²", 1e12),
}
# Variables of a result have no unit, even where the recording's unit was kept beside them.
SCORES = ("score", "score_pooled", "fold_score", "ceiling", "normalised", "p", "q", "p_fwer", "significant")
SCORERS = {"r2": "R²", "r": "Pearson r", "ev": "explained variance"}
UNITLESS = ("", "1", "au", "a.u.", "dimensionless")
SITE_DIMS = ("channel", "voxel", "vertex", "grayordinate", "roi", "unit", "target")
# Where many sites are drawn, a handful of extreme ones must not wash out all others.
ROBUST_FROM, ROBUST_QUANTILE = 200, 0.995


def as_array(values: Labelled, name: str = "score") -> xr.DataArray:
    """Give the variable to draw: an array itself, or `name` (or the only variable) of a dataset."""
    if isinstance(values, xr.DataArray):
        return values
    values = as_dataset(values)
    if not isinstance(values, xr.Dataset):
        raise SchemaError(
            "This picture needs labels.",
            expected="an xarray DataArray, or a Dataset of results",
            got=type(values).__name__,
            fix="give the values dims and coordinates: xr.DataArray(values, dims=..., coords=...)",
        )
    if name in values or len(values.data_vars) == 1:
        array = values[name] if name in values else next(iter(values.data_vars.values()))
        # The units of a result's attrs are those of the responses, not of its scores.
        shared = {key: value for key, value in values.attrs.items() if key != "units" or len(values.data_vars) == 1}
        return array.assign_attrs({**shared, **array.attrs})
    raise SchemaError(
        "Which variable should be drawn?",
        expected=f"a variable named {name!r}, or a dataset of one variable",
        got=[str(key) for key in values.data_vars],
        fix="pass one variable, for example result['score']",
    )


def as_recording(values: Labelled) -> xr.DataArray:
    """Give the recording inside a Dataset of the data model, with the attributes of both; an array is one itself."""
    if isinstance(values, xr.Dataset) and (modality := modality_of(values)) in MODALITIES:
        array = values[MODALITIES[str(modality)]]
        return array.assign_attrs({**values.attrs, **array.attrs})
    return as_array(values)


def of_one_unit(array: xr.DataArray) -> xr.DataArray:
    """Name the unit of channels that come from a recording of mixed units."""
    if "units" not in array.coords or array["units"].dims != ("channel",):
        return array
    units = sorted(set(array["units"].values.tolist()))
    return array.assign_attrs(units=units[0] if len(units) == 1 else "mixed")


def valid_trials(array: xr.DataArray) -> xr.DataArray:
    """Leave out the trials that are marked as not valid."""
    if "valid" not in array.coords or array["valid"].dims != ("trial",):
        return array
    return array.isel(trial=np.flatnonzero(array["valid"].values.astype(bool)))


def as_dataset(result: Any) -> Any:
    """Give the Dataset inside a result of an evaluation; anything else comes back as it is."""
    inside = getattr(result, "data", None)
    return inside if isinstance(inside, xr.Dataset) else result


def companion(values: Labelled, given: xr.DataArray | None, name: str) -> xr.DataArray | None:
    """Give what was passed, or else the variable of that name which lies beside the values."""
    if given is not None:
        return given
    values = as_dataset(values)
    if isinstance(values, xr.Dataset) and name in values:
        return values[name]
    return None


def require_dims(values: xr.DataArray, allowed: Sequence[str], *, needed: Sequence[str] = ()) -> None:
    """Refuse dimensions that a picture has no axis for, naming them."""
    missing = [dim for dim in needed if dim not in values.dims]
    extra = [str(dim) for dim in values.dims if dim not in allowed]
    if missing or extra:
        picks = ", ".join(f"{dim}=0" for dim in extra)
        fix = f"choose one entry first: values.isel({picks})" if extra else f"pass values with dims {tuple(needed)}"
        raise SchemaError(
            "The values have no fitting dimensions for this picture.",
            expected=f"dims among {tuple(allowed)}" + (f", with {tuple(needed)}" if needed else ""),
            got=f"dims {tuple(map(str, values.dims))}",
            fix=fix,
        )


def matched(other: xr.DataArray | None, values: xr.DataArray) -> xr.DataArray | None:
    """Bring a mask or a ceiling to the order of the values, by label; refuse what does not match."""
    if other is None:
        return None
    for dim in other.dims:
        if dim not in values.dims:
            raise SchemaError(
                f"A companion of the values has the dimension {str(dim)!r}, which the values lack.",
                expected=f"dims among {tuple(map(str, values.dims))}",
                got=f"dims {tuple(map(str, other.dims))}",
                fix=f"select one entry of {str(dim)!r}, or pass values that have it",
            )
        _same_labels(other, values, dim)
    indexers = {dim: values.indexes[dim] for dim in other.dims if dim in values.indexes and dim in other.indexes}
    return other.sel(indexers) if indexers else other


def _same_labels(other: xr.DataArray, values: xr.DataArray, dim: Hashable) -> None:
    if dim in values.indexes and dim in other.indexes:
        missing = values.indexes[dim].difference(other.indexes[dim], sort=False)
        if len(missing) == 0:
            return
        problem, got = "labels that the companion lacks", f"no {list(missing[:3])} in it"
    elif values.sizes[dim] == other.sizes[dim]:
        return
    else:
        problem, got = "another length in the companion", f"{other.sizes[dim]} entries for {values.sizes[dim]}"
    raise SchemaError(
        f"The values and their companion differ along {str(dim)!r}: {problem}.",
        expected="the same labels",
        got=got,
        fix="take both from one result",
    )


@dataclass(frozen=True)
class Readable:
    """A factor from stored to shown values, and the label of the axis or colour bar."""

    factor: float
    label: str
    units: str


def readable(values: xr.DataArray, fallback: str = "value") -> Readable:
    """Name the quantity with a unit that people read (µV, fT, ms), and give the factor to it."""
    name = str(values.attrs.get("long_name") or values.name or fallback).replace("_", " ")
    units = str(values.attrs.get("units", ""))
    measure = str(values.attrs.get("scorer", ""))
    measure = SCORERS.get(measure, measure)
    if values.name in SCORES:
        units = ""
        if "long_name" not in values.attrs and measure and str(values.name).startswith("score"):
            name = measure
        ceiling = f"noise ceiling ({measure})" if measure else "noise ceiling"
        name = {"normalised": "score / noise ceiling", "ceiling": ceiling}.get(str(values.name), name)
    elif measure and units in UNITLESS and "long_name" not in values.attrs:  # unique variance, the score of a candidate
        name = f"{name} ({measure})"
    shown, factor = READABLE.get(units, (units, 1.0))
    label = safe(name) if shown in UNITLESS else f"{safe(name)} ({safe(shown)})"
    return Readable(factor, label, "" if shown in UNITLESS else shown)


@dataclass(frozen=True)
class Scale:
    """Limits and colour map of a picture, and on which side values lie beyond the limits."""

    low: float
    high: float
    cmap: str
    extend: str

    @property
    def signed(self) -> bool:
        """Whether the limits lie symmetrically about zero."""
        return self.low == -self.high


def scale(data: NDArray[Any], *, vlim: tuple[float, float] | None = None, cmap: str | None = None) -> Scale:
    """Choose limits: about zero (RdBu_r) where values take both signs, else from zero (viridis).

    Parameters
    ----------
    data : array
        The values; NaN are ignored.
    vlim : tuple of float, optional
        Limits to take instead.
    cmap : str, optional
        Colour map to take instead.

    Returns
    -------
    Scale
        Limits, colour map and which ends of the colour bar get an arrow.
    """
    finite = np.asarray(data, dtype=float)
    finite = finite[np.isfinite(finite)]
    low, high = _limits(finite) if vlim is None else (float(vlim[0]), float(vlim[1]))
    if not low < high:
        raise SchemaError("The limits of a colour scale are in the wrong order.", expected="low < high", got=vlim)
    below, above = bool((finite < low).any()), bool((finite > high).any())
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]
    diverging = low < 0 < high
    return Scale(low, high, cmap or ("RdBu_r" if diverging else "viridis"), extend)


def _limits(finite: NDArray[Any]) -> tuple[float, float]:
    if finite.size == 0:
        return 0.0, 1.0
    quantile = ROBUST_QUANTILE if finite.size >= ROBUST_FROM else 1.0
    high = float(np.quantile(np.abs(finite), quantile)) or float(np.abs(finite).max()) or 1.0
    if (finite < 0).any() and (finite > 0).any():
        return -high, high
    return (-high, 0.0) if (finite < 0).any() else (0.0, high)


def time_axis(values: xr.DataArray, dim: str = "time") -> tuple[NDArray[np.float64], str]:
    """Give the time coordinate for people: in ms for spans up to 2.5 s, in s beyond, with its label."""
    if dim not in values.coords:
        raise SchemaError(
            f"The dimension {dim!r} has no coordinate, so its times are not known.",
            expected=f"a coordinate {dim!r} in seconds",
            fix=f"values.assign_coords({dim}=schema.time_index(n, sfreq, first_sample))",
        )
    seconds = np.asarray(values[dim].values, dtype=float)
    name = "Lag" if dim == "lag" else "Time"
    return (seconds * 1e3, f"{name} (ms)") if np.ptp(seconds) <= 2.5 else (seconds, f"{name} (s)")


def show_time(seconds: float) -> str:
    """Write a time as people do: 170 ms, 2.5 s."""
    return f"{seconds * 1e3:.0f} ms" if abs(seconds) < 2 else f"{seconds:.2f} s"


def peak(values: xr.DataArray, dim: str) -> int:
    """Give the position along `dim` where the values are largest over all other dims (root mean square)."""
    others = [other for other in values.dims if other != dim]
    power = (values.astype(float) ** 2).mean(others).fillna(-1.0)
    return int(power.argmax(dim))


def mean_sem(values: xr.DataArray, dims: Sequence[Hashable]) -> tuple[xr.DataArray, xr.DataArray]:
    """Give the mean and its standard error over `dims`; NaN entries are left out."""
    if not dims:
        return values, xr.full_like(values, np.nan, dtype=float)
    counts = values.notnull().sum(list(dims))
    # A mean over nothing is NaN; `where` spares numpy its warning about it.
    mean = values.sum(list(dims), skipna=True) / counts.where(counts > 0)
    squares = ((values - mean) ** 2).sum(list(dims))
    return mean, (squares / (counts - 1).where(counts > 1) / counts.where(counts > 0)) ** 0.5


def labels(values: xr.DataArray, dim: str) -> list[str]:
    """Give the labels along a dimension as text; positions where it has none."""
    if dim in values.coords:
        return [str(label) for label in values[dim].values]
    return [str(index) for index in range(values.sizes[dim])]
