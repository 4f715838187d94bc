"""Constructors and checks of spikes: sample numbers of single spikes, and their counts on a regular clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError
from neuroalign.schema._build import _columns, _labels, _variable
from neuroalign.schema._clock import check_sfreq, time_index
from neuroalign.schema._names import travel

#: Spikes per second above which times were probably read in a wrong unit; the refractory period forbids more.
MAX_RATE = 1000.0
#: With fewer spikes a rate says little.
ENOUGH = 100


def spikes(
    samples: ArrayLike,
    *,
    neuron: ArrayLike,
    sfreq: float,
    n_samples: int,
    first_sample: int = 0,
    neurons: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    coords: Mapping[str, ArrayLike] | None = None,
    events: pd.DataFrame | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a recording of spikes.

    Parameters
    ----------
    samples : array_like of int, shape (n_spikes,)
        Sample number of each spike. Spikes are sorted; spikes at the same sample by their neuron.
    neuron : array_like, shape (n_spikes,)
        Label of the neuron that fired.
    sfreq : float
        Rate of the clock that numbers the samples, in Hz.
    n_samples : int
        Length of the observed window in samples.
    first_sample : int
        Number of the first sample of the window.
    neurons : array_like, shape (n_neurons,), optional
        Unique labels of all neurons, also of those that did not fire. By default those that fired, sorted.
    positions : array_like, shape (n_neurons, 3), optional
        Positions in m.
    coords : mapping of str to array_like, optional
        More neuron coordinates, such as ``region`` or ``quality``.
    events : DataFrame, optional
        At least ``onset`` (s after the first sample); every column becomes a coordinate along ``event``.
    attrs : mapping, optional
        More attributes.

    Returns
    -------
    Dataset
        Variable ``spikes`` with dim (spike), int64 sample numbers, and the coordinates ``spike_time`` (s) and
        ``spike_neuron``; dim ``neuron``; ``sfreq``, ``first_sample`` and ``n_samples`` in attrs.

    Raises
    ------
    SchemaError
        If a spike lies outside the window or is of an unknown neuron, or shapes and names do not fit.

    Examples
    --------
    >>> ds = spikes([30, 10, 20], neuron=["a", "b", "a"], sfreq=1000, n_samples=100, neurons=["a", "b", "c"])
    >>> ds["spikes"].values, ds["spike_neuron"].values.tolist(), ds.sizes["neuron"]
    (array([10, 20, 30]), ['b', 'a', 'a'], 3)
    """
    numbers = _integers(samples)
    fired = _labels("spike", neuron, len(numbers))
    known = np.array(sorted(set(fired.tolist())), dtype=fired.dtype) if neurons is None else np.asarray(neurons)
    labels = _neuron_coords(known, positions, coords)
    order = np.lexsort((pd.Index(labels["neuron"][1]).get_indexer(fired), numbers))
    rate = check_sfreq(sfreq)
    labels["spike_time"] = ("spike", numbers[order] / rate)
    labels["spike_neuron"] = ("spike", fired[order])
    if events is not None:
        labels |= _columns(events, "event", {*labels, "event"})
    ds = xr.Dataset({"spikes": ("spike", numbers[order])}, coords=labels)
    base = {"units": "1", "sfreq": rate, "first_sample": int(first_sample), "n_samples": int(n_samples)}
    ds = travel(ds.assign_attrs(base | dict(attrs or {})), "spikes")
    check_spikes(ds)
    return ds


def spike_counts(
    values: Any,
    *,
    sfreq: float,
    neuron: ArrayLike,
    first_sample: int = 0,
    positions: ArrayLike | None = None,
    coords: Mapping[str, ArrayLike] | None = None,
    events: pd.DataFrame | None = None,
    trials: pd.DataFrame | None = None,
    units: str = "1",
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build spike counts or rates on a regular clock.

    Parameters
    ----------
    values : array, shape (n_times, n_neurons) or (n_trials, n_neurons, n_times)
        Continuous, or cut into trials.
    sfreq : float
        Rate of the clock in Hz.
    neuron : array_like, shape (n_neurons,)
        Unique labels.
    first_sample : int
        Number of the first sample.
    positions, coords, events, attrs
        As in `spikes`.
    trials : DataFrame, optional
        One row a trial, for values cut into trials.
    units : str
        ``1`` for counts, ``Hz`` for rates, ``z`` for standard deviations.

    Returns
    -------
    Dataset
        Variable ``spikes`` with dims (time, neuron) or (trial, neuron, time).

    Raises
    ------
    SchemaError
        If shapes, names or units do not fit.

    Examples
    --------
    >>> spike_counts([[0, 2], [1, 0]], sfreq=100, neuron=["a", "b"])["spikes"].sel(neuron="b").values
    array([2., 0.], dtype=float32)
    """
    dims = ("time", "neuron") if trials is None else ("trial", "neuron", "time")
    var, si = _variable(np.asarray(values) if isinstance(values, list) else values, dims, units)
    sizes = dict(zip(dims, var.shape, strict=True))
    labels = _neuron_coords(_labels("neuron", neuron, sizes["neuron"]), positions, coords)
    labels["time"] = ("time", time_index(sizes["time"], sfreq, first_sample))
    base: dict[str, Any] = {"units": si, "sfreq": float(sfreq), "first_sample": int(first_sample)}
    if trials is not None:
        if len(trials) != sizes["trial"]:
            raise SchemaError("Wrong number of trial rows.", expected=sizes["trial"], got=len(trials))
        labels["trial"] = ("trial", np.arange(len(trials)))
        labels |= _columns(trials, "trial", {*labels})
        labels.setdefault("valid", ("trial", np.ones(len(trials), dtype=bool)))
        base["tmin"] = first_sample / sfreq
    if events is not None:
        labels |= _columns(events, "event", {*labels, "event"})
    return travel(xr.Dataset({"spikes": var}, coords=labels).assign_attrs(base | dict(attrs or {})), "spikes")


def check_spikes(ds: xr.Dataset) -> None:
    """Refuse spikes that are not sorted, lie outside the observed window or are of unknown neurons."""
    lost = [name for name in ("sfreq", "first_sample", "n_samples") if name not in ds.attrs]
    lost += [name for name in ("neuron", "spike_neuron") if name not in ds.coords]
    if lost:
        raise SchemaError(
            "A recording of spikes lacks its clock or its neurons.",
            expected="attrs sfreq, first_sample, n_samples; coordinates neuron, spike_neuron",
            got=f"without {', '.join(lost)}",
            fix="build it with neuroalign.schema.spikes",
        )
    numbers = _integers(ds["spikes"].values)
    sfreq = check_sfreq(ds.attrs["sfreq"])
    _check_window(numbers, int(ds.attrs["first_sample"]), int(ds.attrs["n_samples"]), sfreq)
    strange = set(ds["spike_neuron"].values.tolist()) - set(ds["neuron"].values.tolist())
    if strange:
        raise SchemaError(
            "Spikes of unknown neurons.",
            expected=f"neurons such as {ds['neuron'].values[:5].tolist()}",
            got=sorted(map(str, strange))[:5],
            fix="pass neurons= with all of them",
        )


def _check_window(numbers: NDArray[np.int64], first: int, length: int, sfreq: float) -> None:
    if length < 1:
        raise SchemaError("The observed window is empty.", expected="n_samples >= 1", got=length)
    back = np.flatnonzero(np.diff(numbers) < 0)
    if back.size:
        raise SchemaError(
            "Spikes are not sorted.",
            expected="sample numbers that never decrease",
            got=f"{numbers[back[0] + 1]} after {numbers[back[0]]} at position {back[0] + 1}",
            fix="build the recording with neuroalign.schema.spikes, which sorts them",
        )
    outside = np.flatnonzero((numbers < first) | (numbers >= first + length))
    if outside.size:
        raise SchemaError(
            f"{outside.size} of {numbers.size} spikes lie outside the observed window.",
            expected=f"from {first / sfreq:g} s up to, not including, {(first + length) / sfreq:g} s",
            got=f"the first at {numbers[outside[0]] / sfreq:g} s",
            fix="check the unit of the times, and the start and length of the window",
        )


def spike_rates(ds: xr.Dataset) -> NDArray[np.float64]:
    """Mean rate (Hz) of each neuron over the observed window."""
    at = pd.Index(ds["neuron"].values).get_indexer(ds["spike_neuron"].values)
    counts = np.bincount(at, minlength=ds.sizes["neuron"])
    return counts * (ds.attrs["sfreq"] / ds.attrs["n_samples"])


def _integers(samples: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(samples)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise SchemaError(
            "Spikes are not sample numbers.",
            expected="integers, shape (n_spikes,)",
            got=f"{values.dtype}, shape {values.shape}",
            fix="np.rint(times * sfreq).astype(int)",
        )
    return values.astype(np.int64)


def _neuron_coords(neurons: ArrayLike, positions: Any, coords: Mapping[str, ArrayLike] | None) -> dict[str, Any]:
    n = len(np.asarray(neurons))
    names = _labels("neuron", neurons, n)
    index = pd.Index(names)
    if not index.is_unique:
        raise SchemaError(
            "Names along neuron repeat.", expected="unique names", got=index[index.duplicated()][:5].tolist()
        )
    out: dict[str, Any] = {"neuron": ("neuron", names)}
    if positions is not None:
        xyz = np.asarray(positions, dtype=np.float64)
        if xyz.shape != (n, 3):
            raise SchemaError("Wrong shape of neuron positions.", expected=f"({n}, 3) in m", got=xyz.shape)
        out |= {axis: ("neuron", xyz[:, i]) for i, axis in enumerate("xyz")}
    for name, labels in (coords or {}).items():
        out[name] = ("neuron", _labels("neuron", labels, n))
    return out
