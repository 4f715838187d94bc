"""Check that a Dataset keeps the promises of the data model."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError
from neuroalign.schema._build_spikes import ENOUGH, MAX_RATE, check_spikes, spike_rates
from neuroalign.schema._clock import check_sfreq, time_index, to_samples
from neuroalign.schema._names import MODALITIES, SENSOR_MODALITIES, modality_of
from neuroalign.schema._provenance import log
from neuroalign.schema._units import BANDS

_DIMS = {
    "eeg": [("channel", "time"), ("trial", "channel", "time")],
    "fmri": [("time", "k", "j", "i"), ("time", "voxel"), ("time", "vertex"), ("time", "grayordinate"), ("time", "roi")],
    "spikes": [("spike",), ("time", "neuron"), ("trial", "neuron", "time")],
}
_DIMS["ieeg"] = _DIMS["meg"] = _DIMS["eeg"]
_ENTITIES = ("channel", "voxel", "vertex", "grayordinate", "roi", "neuron", "unit", "stimulus", "trial")
# Samples looked at for units and finiteness in a lazy recording; the whole of it would defeat laziness.
_PEEK = 2048
# Samples of the clock checked at once, so that a long recording takes no memory for it.
_CLOCK_BLOCK = 2**15


def _check_dims(ds: xr.Dataset, modality: str) -> None:
    variable = ds[MODALITIES[modality]]
    if tuple(variable.dims) not in _DIMS[modality]:
        raise SchemaError(
            f"Wrong dimensions of {variable.name}.",
            expected=" or ".join(map(str, _DIMS[modality])),
            got=tuple(variable.dims),
            fix="build it with neuroalign.schema.sensors, epochs, fmri_volume, fmri_masked, fmri_regions or spikes",
        )


def _check_labels(ds: xr.Dataset) -> None:
    for dim in _ENTITIES:
        if dim in ds.indexes and not ds.indexes[dim].is_unique:
            index = ds.indexes[dim]
            repeated = index[index.duplicated()].unique()[:5].tolist()
            raise SchemaError(
                f"Names along {dim} repeat.",
                expected="unique names",
                got=repeated,
                fix=f"rename or drop the copies of {repeated[0]!r}",
            )


def _check_clock(ds: xr.Dataset, modality: str) -> None:
    if "sfreq" not in ds.attrs:
        raise SchemaError("No sampling rate.", expected="attrs['sfreq'] in Hz", got=None, fix="pass sfreq=")
    sfreq = check_sfreq(ds.attrs["sfreq"])
    if modality == "fmri" and not 0.1 <= 1 / sfreq <= 20:
        raise SchemaError("Implausible TR.", expected="0.1 to 20 s", got=f"{1 / sfreq:g} s", fix="pass tr= in seconds")
    if "time" not in ds.coords:
        raise SchemaError("No time coordinate.", expected="time in s on the grid of sfreq", got=list(ds.coords))
    times = ds["time"].values
    run = ds["run"].values if "run" in ds.coords and ds["run"].dims == ("time",) else None
    for start in range(0, max(times.size - 1, 1), _CLOCK_BLOCK):
        part = slice(start, start + _CLOCK_BLOCK + 1)  # neighbours share a sample
        if _consecutive(times[part], sfreq):
            continue
        step = np.diff(to_samples(times[part], sfreq))
        if run is not None:  # each run has its own clock
            step = step[run[part][1:] == run[part][:-1]]
        if step.size and step.min() <= 0:
            raise SchemaError(
                "Time does not increase.",
                expected="strictly increasing samples (within a run)",
                got=f"a step of {int(step.min())} samples",
                fix="sort by time, or mark runs by a coordinate 'run' along time",
            )


def _consecutive(times: NDArray[np.float64], sfreq: float) -> bool:
    """Tell recordings as they come, without the time that a check of every sample takes."""
    if not times.size or not math.isfinite(times[0]):
        return False
    return np.array_equal(times, time_index(times.size, sfreq, round(float(times[0]) * sfreq)))


def _peek(variable: xr.DataArray, full: bool) -> xr.DataArray:
    if full or variable.variable._in_memory:
        return variable
    dim = "trial" if "trial" in variable.dims else "time"
    samples_each = variable.sizes["time"] if dim == "trial" else 1
    keep = 1 if "k" in variable.dims else math.ceil(_PEEK / samples_each)
    start = max(variable.sizes[dim] - keep, 0) // 2
    return variable.isel({dim: slice(start, start + keep)})


def _check_finite(ds: xr.Dataset, values: xr.DataArray, nan: str) -> xr.Dataset:
    finite = np.isfinite(values.values)
    if finite.all() or nan == "keep":
        return ds
    good = finite
    if "channel" in values.dims:  # samples and channels already marked as bad may hold anything
        bad = values["bad"].values.astype(bool) if "bad" in values.coords else np.zeros(values.sizes["channel"], bool)
        axis = values.dims.index("channel")
        good = good | np.expand_dims(bad, [n for n in range(values.ndim) if n != axis])
    if "valid" in values.coords:
        dim = values["valid"].dims[0]
        invalid = ~values["valid"].values.astype(bool)
        good = good | np.expand_dims(invalid, [n for n in range(values.ndim) if n != values.dims.index(dim)])
    if good.all():
        return ds
    where = np.argwhere(~good)[0]
    label = {
        d: values[d].values[i : i + 1].tolist()[0] if d in values.coords else int(i)
        for d, i in zip(values.dims, where, strict=True)
    }
    if nan == "raise":
        raise SchemaError(
            f"{values.name} holds NaN or Inf.",
            expected="finite values",
            got=f"{int((~good).sum())} values that are not finite",
            where=f"first at {label}",
            fix="mark the channels as bad or the trials as not valid, or pass nan='mask' or nan='keep'",
        )
    return _mask(ds, values, good)


def _mask(ds: xr.Dataset, values: xr.DataArray, good: NDArray[np.bool_]) -> xr.Dataset:
    """Mark wholly bad channels as bad and remaining samples as not valid."""
    dims = values.dims
    if "channel" in dims:
        axis = dims.index("channel")
        others = tuple(n for n in range(values.ndim) if n != axis)
        dead = ~good.any(axis=others)
        bad = ds["bad"].values.astype(bool) | dead if "bad" in ds.coords else dead
        ds = ds.assign_coords(bad=("channel", bad))
        good = good | np.expand_dims(dead, others)
    sample = "trial" if "trial" in dims else "time"
    axis = dims.index(sample)
    valid = good.all(axis=tuple(n for n in range(values.ndim) if n != axis))
    if "valid" in ds.coords and ds["valid"].dims == (sample,):
        valid = valid & ds["valid"].values.astype(bool)
    count = int((~valid).sum())
    ds = ds.assign_coords(valid=(sample, valid))
    return log(
        ds, f"{values.name}: {count} of {valid.size} samples along {sample} hold NaN or Inf and are marked as not valid"
    )


def _spread(values: xr.DataArray) -> NDArray[np.float64]:
    """RMS of each channel about its mean (offsets of amplifiers say nothing about units)."""
    array = values.transpose("channel", ..., "time").values
    return np.sqrt(np.mean(array.var(axis=-1, dtype=np.float64).reshape(len(array), -1), axis=1))


def _check_bands(ds: xr.Dataset, values: xr.DataArray, modality: str) -> xr.Dataset:
    if modality == "fmri":
        if (
            ds.attrs.get("units") == "a.u."
            and values.size
            and float(np.nanmean(values.values)) <= 0
            and values.sizes["time"] > 1
        ):
            ds = log(
                ds,
                "bold in a.u. is not positive on average: pass units='%' or units='z' if it was rescaled",
            )
        return ds
    kinds = np.asarray(values["channel_type"].values).astype(str) if "channel_type" in values.coords else None
    if kinds is None or ds.attrs["units"] in ("z", "a.u."):  # scores and logarithms are as large as they are
        return ds
    skip = values["bad"].values.astype(bool) if "bad" in values.coords else np.zeros(len(kinds), bool)
    with np.errstate(all="ignore"):
        spread = _spread(values)
    for kind in sorted(set(kinds) & set(BANDS)):
        unit, low, high = BANDS[kind]
        chosen = spread[(kinds == kind) & ~skip & np.isfinite(spread) & (spread > 0)]
        if not chosen.size or low <= (typical := float(np.median(chosen))) <= high:
            continue
        power = 3 * round(math.log10(math.sqrt(low * high) / typical) / 3)
        # A little outside may be drift or a noisy room; a wrong unit is off by a factor of a thousand.
        gross = typical < low / 3 or typical > high * 9
        hint = {-15: "f", -12: "p", -9: "n", -6: "u", -3: "m"}.get(power if gross else 0)
        remedy = f"; values look like {hint}{unit} read as {unit}: pass units='{hint}{unit}'" if hint else ""
        if gross and not hint:
            remedy = f"; a factor of 1e{power} would fit"
        ds = log(
            ds,
            f"{modality}: {kind} channels have an RMS of {typical:.3g} {unit}, not {low:g} to {high:g} {unit}{remedy}",
        )
    return ds


def _check_rates(ds: xr.Dataset) -> xr.Dataset:
    rates = spike_rates(ds)
    if ds.sizes["spike"] < ENOUGH or rates.max() <= MAX_RATE:
        return ds
    fastest = ds["neuron"].values.tolist()[int(rates.argmax())]
    return log(
        ds,
        f"spikes: neuron {fastest!r} fires {rates.max():.4g} times a second, and no neuron more than {MAX_RATE:g}: "
        "were its times read in the wrong unit?",
    )


def validate(ds: xr.Dataset, modality: str | None = None, *, nan: str = "raise", full: bool = False) -> xr.Dataset:
    """Check a recording against the data model.

    Dimensions, unique names, the integer clock, units, finite values, and whether the values are plausible for
    their unit; of spikes their order, the observed window and known neurons. In a lazy recording the values of about
    2000 samples in its middle are looked at.

    Parameters
    ----------
    ds : Dataset
        A recording, a stimulus table or features.
    modality : {'eeg', 'ieeg', 'meg', 'fmri', 'spikes'}, optional
        Expected modality; by default told from the variables.
    nan : {'raise', 'mask', 'keep'}
        What to do about values that are not finite: refuse, mark (``bad`` channels, ``valid`` samples), or keep.
        Channels marked ``bad`` and samples marked as not ``valid`` may hold anything.
    full : bool
        Look at all values of a lazy recording.

    Returns
    -------
    Dataset
        The same data; with marks and a ``neuro_log`` where something was noted.

    Raises
    ------
    SchemaError
        If a promise is broken.

    Warns
    -----
    NeuroalignWarning
        If values are implausible for their unit; the message names the unit that would fit.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign.schema import sensors
    >>> rng = np.random.default_rng(0)
    >>> ds = sensors(rng.normal(size=(2, 50)), modality="eeg", sfreq=100, channel=["Cz", "Pz"], units="uV")
    >>> validate(ds).sizes["channel"]
    2
    """
    if nan not in ("raise", "mask", "keep"):
        raise SchemaError("Unknown NaN policy.", expected="raise, mask or keep", got=nan)
    found = modality_of(ds)
    if modality is not None and found != modality:
        raise SchemaError(
            "Not a recording of this modality.",
            expected=f"{modality}: a variable {MODALITIES.get(modality, modality)!r}",
            got=f"variables {list(ds.data_vars)}",
        )
    _check_labels(ds)
    if found is None:
        return ds
    _check_dims(ds, found)
    if "spike" in ds[MODALITIES[found]].dims:
        check_spikes(ds)
        return _check_rates(ds)
    _check_clock(ds, found)
    if "units" not in ds.attrs:
        raise SchemaError("No units.", expected="attrs['units']", got=None, fix="pass units=, for example units='uV'")
    values = _peek(ds[MODALITIES[found]], full)
    ds = _check_finite(ds, values, nan)
    if found in SENSOR_MODALITIES and values.sizes["time"] < 2:
        return ds
    return _check_bands(ds, values, found)
