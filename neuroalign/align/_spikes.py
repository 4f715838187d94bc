"""Spikes -> counts on a regular clock, in exact integer arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.schema import clock, inherit, spike_counts, stamp
from neuroalign.schema._build_spikes import check_spikes

#: Ratios of rates are taken as fractions with denominators up to this; two clocks that drift are never such a ratio.
MAX_DENOMINATOR = 10**9


def bin_spikes(
    recording: xr.Dataset | xr.DataTree,
    *,
    sfreq: float | None = None,
    like: xr.DataArray | xr.Dataset | None = None,
    missing: str = "raise",
) -> xr.Dataset | xr.DataTree:
    """Count spikes on a regular clock.

    Sample ``n`` of the result counts the spikes from ``n / sfreq`` s up to, not including, ``(n + 1) / sfreq`` s, on
    the clock that numbers the spikes. A neuron without spikes has zeros, for it was observed.

    Parameters
    ----------
    recording : Dataset or DataTree
        Spikes (`neuroalign.schema.spikes`); the runs of a DataTree are counted one by one.
    sfreq : float, optional
        Rate of the new clock in Hz. The result covers the whole bins within the observed window; spikes in the parts
        of bins at its edges are left out, and their number is kept in ``attrs["left_out"]``.
    like : DataArray or Dataset, optional
        Take over the clock of this object instead, such as that of the stimulus; its second 0 is that of the spikes.
    missing : {'raise', 'nan'}
        What to do about samples of `like` that were not, or not wholly, observed: refuse, or give NaN and mark them
        by ``valid`` along time.

    Returns
    -------
    Dataset or DataTree
        Variable ``spikes`` with dims (time, neuron) in counts; events come along.

    Raises
    ------
    AlignmentError
        If samples of `like` were not observed, or no whole bin was.
    ConfigError
        If the rates are not in a ratio of integers, or the new clock is faster than that of the spikes.

    Examples
    --------
    >>> from neuroalign.schema import spikes
    >>> ds = spikes([0, 9, 10, 25], neuron=["a", "a", "b", "a"], sfreq=1000, n_samples=30)
    >>> bin_spikes(ds, sfreq=100)["spikes"].sel(neuron="a").values
    array([2., 0., 1.], dtype=float32)
    """
    if isinstance(recording, xr.DataTree):
        options: dict[str, Any] = {"sfreq": sfreq, "like": like, "missing": missing}
        runs = {node.path: bin_spikes(node.to_dataset(), **options) for node in recording.leaves if node.has_data}
        return xr.DataTree.from_dict(runs)
    if (sfreq is None) == (like is None):
        raise ConfigError("One clock is needed.", expected="sfreq= or like=", got=f"sfreq={sfreq}, like={type(like)}")
    if missing not in ("raise", "nan"):
        raise ConfigError("Unknown policy for missing samples.", expected="raise or nan", got=missing)
    ds = _spikes(recording)
    first, stop = ds.attrs["first_sample"], ds.attrs["first_sample"] + ds.attrs["n_samples"]
    rate = clock(like)[1] if like is not None else float(sfreq or 0)
    ratio = _ratio(rate, ds.attrs["sfreq"])
    # Bins from `low` up to, not including, `high` lie wholly within the window.
    low, high = -int(_scale(np.array(-first), ratio)), int(_scale(np.array(stop), ratio))
    samples = np.arange(low, high) if like is None else _increasing(clock(like)[0])
    if not samples.size:
        raise AlignmentError(
            "The observed window is shorter than a bin.",
            expected=f"at least {1 / rate:g} s",
            got=f"{stop - first} samples",
        )
    observed = (samples >= low) & (samples < high)
    if not observed.all() and (missing == "raise" or not observed.any()):
        _refuse(samples, observed, rate, first / ds.attrs["sfreq"], stop / ds.attrs["sfreq"])
    values, left_out = _count(ds, samples, ratio)
    values[~observed] = np.nan
    return _build(ds, values, samples, rate, observed, left_out)


def _spikes(recording: xr.Dataset) -> xr.Dataset:
    if "spikes" not in recording or recording["spikes"].dims != ("spike",):
        raise AlignmentError(
            "Not a recording of single spikes.",
            expected="a variable spikes with dim (spike)",
            got={str(name): variable.dims for name, variable in recording.data_vars.items()},
            fix="read it with neuroalign.loaders.read_spikes",
        )
    check_spikes(recording)
    return recording


def _ratio(rate: float, spike_rate: float) -> Fraction:
    ratio = Fraction(rate / spike_rate).limit_denominator(MAX_DENOMINATOR) if rate > 0 else Fraction(0)
    if not 0 < ratio <= 1 or abs(float(ratio) * spike_rate - rate) > 1e-9 * rate:
        raise ConfigError(
            "Spikes cannot be counted at this rate.",
            expected=f"a rate up to {spike_rate:g} Hz, the clock of the spikes, in a ratio of integers to it",
            got=f"{rate!r} Hz",
            fix="pass another sfreq=",
        )
    return ratio


def _scale(samples: NDArray[np.int64], ratio: Fraction) -> NDArray[np.int64]:
    """``floor(samples * ratio)`` without rounding and without overflow."""
    whole, rest = np.divmod(samples, ratio.denominator)
    return whole * ratio.numerator + rest * ratio.numerator // ratio.denominator


def _increasing(samples: NDArray[np.int64]) -> NDArray[np.int64]:
    if (np.diff(samples) <= 0).any():
        raise AlignmentError(
            "The clock of like= does not increase.",
            expected="one run",
            got="sample numbers that repeat or go back",
            fix="count run by run, like=x.isel(time=x['run'] == '1')",
        )
    return samples


def _refuse(samples: NDArray[np.int64], observed: NDArray[np.bool_], rate: float, start: float, stop: float) -> None:
    outside = samples[~observed] / rate
    raise AlignmentError(
        f"{outside.size} of {samples.size} samples were not observed.",
        expected=f"bins within {start:g} to {stop:g} s, when spikes were recorded",
        got=f"from {outside[0]:g} to {outside[-1]:g} s",
        fix="cut like= to the window, or pass missing='nan'"
        if observed.any()
        else "check first_sample on both sides: no sample was observed",
    )


def _count(ds: xr.Dataset, samples: NDArray[np.int64], ratio: Fraction) -> tuple[NDArray[np.float32], int]:
    n_neurons = ds.sizes["neuron"]
    bins = _scale(ds["spikes"].values, ratio)
    row = np.minimum(np.searchsorted(samples, bins), len(samples) - 1)
    inside = samples[row] == bins
    column = pd.Index(ds["neuron"].values).get_indexer(ds["spike_neuron"].values)
    flat = np.bincount((row * n_neurons + column)[inside], minlength=len(samples) * n_neurons)
    return flat.reshape(len(samples), n_neurons).astype(np.float32), int((~inside).sum())


def _build(
    ds: xr.Dataset,
    values: NDArray[np.float32],
    samples: NDArray[np.int64],
    rate: float,
    observed: NDArray[np.bool_],
    left_out: int,
) -> xr.Dataset:
    first = int(samples[0])
    neuron = {str(n): c.values for n, c in ds.coords.items() if c.dims == ("neuron",)}
    kept = {k: v for k, v in ds.attrs.items() if k not in ("sfreq", "first_sample", "n_samples", "units")}
    out = spike_counts(
        values,
        sfreq=rate,
        neuron=neuron.pop("neuron"),
        first_sample=first,
        coords=neuron,
        attrs=kept | {"left_out": left_out},
    ).assign_coords(time=samples / rate)
    events = {str(n): c.variable for n, c in ds.coords.items() if c.dims == ("event",)}
    if "onset" in events:  # onsets count from the first sample, which has moved by part of a bin
        shift = ds.attrs["first_sample"] / ds.attrs["sfreq"] - first / rate
        events["onset"] = events["onset"] + shift
    out = out.assign_coords(events)
    if not observed.all():
        out = out.assign_coords(valid=("time", observed))
    return stamp(inherit(out, ds), "bin_spikes", sfreq=rate)
