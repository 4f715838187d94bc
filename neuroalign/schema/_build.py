"""Constructors: arrays and labels in, Datasets of the data model out. Sensors, features and stimuli are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError
from neuroalign.schema._clock import time_index
from neuroalign.schema._names import SENSOR_MODALITIES, travel
from neuroalign.schema._units import to_si

_DEFAULT_TYPE = {"eeg": "eeg", "ieeg": "seeg", "meg": "mag"}


def _variable(values: Any, dims: tuple[str, ...], units: str | Sequence[str]) -> tuple[xr.Variable, str]:
    """Wrap values, in SI. Lazy values are wrapped as they are and must be in SI already."""
    var = values if isinstance(values, xr.Variable) else xr.Variable(dims, values)
    if var.ndim != len(dims):
        raise SchemaError("Wrong number of dimensions.", expected=f"{len(dims)}: {dims}", got=f"shape {var.shape}")
    if var.dtype.kind not in "fiub":
        raise SchemaError("Values are not numbers.", expected="floats or integers", got=f"dtype {var.dtype}")
    if var.dtype.kind in "iub":
        var = var.astype(np.float32)
    if isinstance(units, str):
        si, factor = to_si(units)
        if factor != 1:
            var = var * np.asarray(factor, var.dtype)
        return var, si
    pairs = [to_si(u) for u in units]
    factors = np.array([factor for _, factor in pairs])
    if (factors != 1).any():
        var = var * xr.Variable(("channel",), factors.astype(var.dtype))
        var = var.transpose(*dims)
    return var, "mixed"


def _labels(name: str, labels: ArrayLike, n: int) -> NDArray[Any]:
    values = np.asarray(labels)
    if values.ndim != 1 or len(values) != n:
        raise SchemaError(
            f"Wrong number of {name} labels.", expected=f"{n}, one for each {name}", got=f"shape {values.shape}"
        )
    return values.astype(object) if values.dtype.kind in "US" else values


def _column(values: pd.Series) -> NDArray[Any]:
    array = values.to_numpy()
    if array.dtype.kind in "biuf":
        return array
    return np.array(["" if v is None or v is pd.NA or v != v else str(v) for v in values], dtype=object)


def _columns(frame: pd.DataFrame, dim: str, taken: set[str]) -> dict[str, tuple[str, NDArray[Any]]]:
    """Turn table columns into coordinates along `dim`; names in use get the dimension as a prefix."""
    coords: dict[str, tuple[str, NDArray[Any]]] = {}
    for column in map(str, frame.columns):
        name = f"{dim}_{column}" if column in taken else column
        coords[name] = (dim, _column(frame[column]))
    return coords


def _channel_coords(
    modality: str, n: int, channel: ArrayLike, channel_type: Any, positions: Any, coords: Mapping[str, ArrayLike] | None
) -> dict[str, Any]:
    if modality not in SENSOR_MODALITIES:
        raise SchemaError("Unknown modality.", expected=" or ".join(SENSOR_MODALITIES), got=modality)
    kind = _DEFAULT_TYPE[modality] if channel_type is None else channel_type
    kinds = [kind] * n if isinstance(kind, str) else kind
    out: dict[str, Any] = {
        "channel": ("channel", _labels("channel", channel, n)),
        "channel_type": ("channel", _labels("channel", kinds, n)),
    }
    if positions is not None:
        xyz = np.asarray(positions, dtype=np.float64)
        if xyz.shape != (n, 3):
            raise SchemaError("Wrong shape of sensor positions.", expected=f"({n}, 3) in m", got=xyz.shape)
        out |= {axis: ("channel", xyz[:, i]) for i, axis in enumerate("xyz")}
    for name, labels in (coords or {}).items():
        out[name] = ("channel", _labels("channel", labels, n))
    if "bad" not in out:
        out["bad"] = ("channel", np.zeros(n, dtype=bool))
    return out


def _mixed(coords: dict[str, Any], units: str | Sequence[str]) -> None:
    if not isinstance(units, str):
        coords["units"] = ("channel", np.array([to_si(u)[0] for u in units], dtype=object))


def _time_axis(n: int, sfreq: float, first_sample: int = 0) -> pd.Index:
    """Seconds of consecutive samples, as the index that xarray makes of them, but without a second copy."""
    return pd.Index(time_index(n, sfreq, first_sample), copy=False)


def sensors(
    values: Any,
    *,
    modality: str,
    sfreq: float,
    channel: ArrayLike,
    units: str | Sequence[str],
    first_sample: int = 0,
    channel_type: str | Sequence[str] | None = None,
    positions: ArrayLike | None = None,
    coords: Mapping[str, ArrayLike] | None = None,
    events: pd.DataFrame | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a continuous EEG, iEEG or MEG recording.

    Parameters
    ----------
    values : array, shape (n_channels, n_times)
        In memory or lazy. Lazy values must be in SI units.
    modality : {'eeg', 'ieeg', 'meg'}
        Names the variable.
    sfreq : float
        Sampling rate in Hz.
    channel : array_like of str, shape (n_channels,)
        Unique channel names.
    units : str or sequence of str
        Unit of the values, or one a channel. In-memory values are converted to SI.
    first_sample : int
        Number of the first sample.
    channel_type : str or sequence of str, optional
        MNE's names; by default ``eeg``, ``seeg`` or ``mag``.
    positions : array_like, shape (n_channels, 3), optional
        Sensor positions in m.
    coords : mapping of str to array_like, optional
        More channel coordinates, such as ``bad`` or ``reference``.
    events : DataFrame, optional
        At least ``onset`` (s after the first sample); every column becomes a coordinate along ``event``.
    attrs : mapping, optional
        More attributes, such as ``line_freq``, ``highpass``, ``lowpass``, ``coord_frame``.

    Returns
    -------
    Dataset
        Variable `modality` with dims (channel, time).

    Raises
    ------
    SchemaError
        If shapes, names or units do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> ds = sensors(np.ones((2, 5)), modality="eeg", sfreq=10.0, channel=["Cz", "Pz"], units="uV")
    >>> ds["eeg"].dims, ds.attrs["units"], float(ds["eeg"][0, 0])
    (('channel', 'time'), 'V', 1e-06)
    """
    var, si = _variable(values, ("channel", "time"), units)
    n_channels, n_times = var.shape
    labels = _channel_coords(modality, n_channels, channel, channel_type, positions, coords)
    _mixed(labels, units)
    labels["time"] = ("time", _time_axis(n_times, sfreq, first_sample))
    if events is not None:
        labels |= _columns(events, "event", {*labels, "event"})
    ds = xr.Dataset({modality: var}, coords=labels)
    base = {"units": si, "sfreq": float(sfreq), "first_sample": int(first_sample)}
    return travel(ds.assign_attrs(base | dict(attrs or {})), modality)


def epochs(
    values: Any,
    *,
    modality: str,
    sfreq: float,
    channel: ArrayLike,
    units: str | Sequence[str],
    first_sample: int,
    trials: pd.DataFrame,
    channel_type: str | Sequence[str] | None = None,
    positions: ArrayLike | None = None,
    coords: Mapping[str, ArrayLike] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build epoched sensors.

    Parameters
    ----------
    values : array, shape (n_trials, n_channels, n_times)
        In memory or lazy (then in SI units).
    modality, sfreq, channel, units, channel_type, positions, coords, attrs
        As in `sensors`.
    first_sample : int
        Sample number of the first column relative to the event: ``round(tmin * sfreq)``.
    trials : DataFrame
        One row a trial; every column becomes a coordinate along ``trial``.

    Returns
    -------
    Dataset
        Variable `modality` with dims (trial, channel, time), ``tmin`` in attrs and a ``valid`` coordinate.
    """
    var, si = _variable(values, ("trial", "channel", "time"), units)
    n_trials, n_channels, n_times = var.shape
    if len(trials) != n_trials:
        raise SchemaError("Wrong number of trial rows.", expected=n_trials, got=len(trials))
    labels = _channel_coords(modality, n_channels, channel, channel_type, positions, coords)
    _mixed(labels, units)
    labels["time"] = ("time", _time_axis(n_times, sfreq, first_sample))
    labels["trial"] = ("trial", np.arange(n_trials))
    labels |= _columns(trials, "trial", {*labels})
    labels.setdefault("valid", ("trial", np.ones(n_trials, dtype=bool)))
    ds = xr.Dataset({modality: var}, coords=labels)
    base = {"units": si, "sfreq": float(sfreq), "first_sample": int(first_sample), "tmin": first_sample / sfreq}
    return travel(ds.assign_attrs(base | dict(attrs or {})), modality)


def features(
    values: ArrayLike,
    *,
    stimulus: ArrayLike,
    layer: str | None = None,
    unit: ArrayLike | None = None,
    units: str = "a.u.",
) -> xr.DataArray:
    """Build network activations or other stimulus features.

    Parameters
    ----------
    values : array_like, shape (n_stimuli, n_units)
        One row a stimulus.
    stimulus : array_like of str, shape (n_stimuli,)
        Unique stimulus ids.
    layer : str, optional
        Name of the layer or feature space.
    unit : array_like, shape (n_units,), optional
        Unit labels; by default 0, 1, 2, ...
    units : str
        Unit of the values.

    Returns
    -------
    DataArray
        Dims (stimulus, unit), with the layer in its name and attrs.

    Examples
    --------
    >>> features([[1.0, 2.0]], stimulus=["cat"], layer="conv1").sizes
    Frozen({'stimulus': 1, 'unit': 2})
    """
    var, si = _variable(np.asarray(values), ("stimulus", "unit"), units)
    n_stimuli, n_units = var.shape
    coords: dict[str, Any] = {
        "stimulus": ("stimulus", _labels("stimulus", stimulus, n_stimuli)),
        "unit": ("unit", np.arange(n_units) if unit is None else _labels("unit", unit, n_units)),
    }
    attrs = {"units": si} | ({"layer": layer} if layer is not None else {})
    return xr.DataArray(var, coords=coords, name=layer, attrs=attrs)


def stimulus_table(frame: pd.DataFrame, *, image: Any = None, attrs: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Build the table of stimuli.

    Parameters
    ----------
    frame : DataFrame
        A column ``stimulus_id`` (unique) and any others: ``modality``, ``path``, ``sha256``, ``text``, ``category``.
    image : array, shape (n_stimuli, n_rows, n_columns, 3), optional
        Pixel values 0..255 (uint8), in memory or lazy.
    attrs : mapping, optional
        More attributes.

    Returns
    -------
    Dataset
        Dim ``stimulus``, indexed by id; one coordinate a column; variable ``image`` where given.
    """
    if "stimulus_id" not in frame:
        raise SchemaError("No stimulus ids.", expected="a column stimulus_id", got=list(frame.columns))
    ids = _column(frame["stimulus_id"].astype(str))
    unique, counts = np.unique(ids.astype(str), return_counts=True)
    if (counts > 1).any():
        raise SchemaError("Stimulus ids repeat.", expected="unique ids", got=unique[counts > 1][:5].tolist())
    coords = {"stimulus": ("stimulus", ids)} | _columns(frame.drop(columns="stimulus_id"), "stimulus", {"stimulus"})
    variables = {} if image is None else {"image": (("stimulus", "row", "column", "rgb"), image)}
    return xr.Dataset(variables, coords=coords, attrs=dict(attrs or {}))
