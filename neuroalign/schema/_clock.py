"""The integer clock: sample numbers are the truth, seconds are derived from them."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError

#: Times may lie this far (in samples) from the grid, for files that round their times.
TOLERANCE = 0.05


def check_sfreq(sfreq: float) -> float:
    """Refuse a sampling rate that is not a positive, finite number of Hz."""
    if not (np.isfinite(sfreq) and sfreq > 0):
        raise SchemaError("Not a sampling rate.", expected="sfreq > 0 Hz", got=sfreq, fix="pass sfreq= in Hz")
    return float(sfreq)


def time_index(n: int, sfreq: float, first_sample: int = 0) -> NDArray[np.float64]:
    """Seconds of `n` consecutive samples.

    Parameters
    ----------
    n : int
        Number of samples.
    sfreq : float
        Sampling rate in Hz.
    first_sample : int
        Number of the first sample.

    Returns
    -------
    ndarray, shape (n,)
        Times in seconds.

    Examples
    --------
    >>> time_index(3, 100.0, first_sample=-1)
    array([-0.01,  0.  ,  0.01])
    """
    times = np.arange(first_sample, first_sample + n, dtype=np.float64)  # exact up to 2**53 samples
    times /= check_sfreq(sfreq)
    return times


def to_samples(times: ArrayLike, sfreq: float) -> NDArray[np.int64]:
    """Integer sample numbers of times in seconds.

    Parameters
    ----------
    times : array_like
        Times in seconds that lie on the grid of `sfreq`.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    ndarray of int64
        Sample numbers, the same shape as `times`.

    Raises
    ------
    SchemaError
        If a time lies more than 0.05 samples from the grid.

    Examples
    --------
    >>> to_samples([-0.01, 0.0, 0.3], 100.0)
    array([-1,  0, 30])
    """
    exact = np.asarray(times, dtype=np.float64) * check_sfreq(sfreq)
    if not np.isfinite(exact).all():
        raise SchemaError(
            "A time is not finite.", expected="finite seconds", got=f"{(~np.isfinite(exact)).sum()} NaN or Inf"
        )
    samples = np.rint(exact)
    off = np.abs(exact - samples)
    if off.size and off.max() > TOLERANCE:
        first = int(np.argmax(off.ravel() > TOLERANCE))
        raise SchemaError(
            "Times do not lie on the sampling grid.",
            expected=f"multiples of 1/{sfreq:g} s within {TOLERANCE} samples",
            got=f"{np.asarray(times).ravel()[first]!r} s at position {first}, {off.ravel()[first]:.3f} samples off",
            fix="check sfreq, or resample to a regular grid first",
        )
    return samples.astype(np.int64)


def clock(obj: xr.DataArray | xr.Dataset) -> tuple[NDArray[np.int64], float]:
    """Read the integer clock of an object.

    Parameters
    ----------
    obj : DataArray or Dataset
        With a ``time`` coordinate in seconds. The sampling rate is taken from attrs, else from the spacing.

    Returns
    -------
    samples : ndarray of int64, shape (n_times,)
        Sample numbers.
    sfreq : float
        Sampling rate in Hz.

    Raises
    ------
    SchemaError
        If there is no time coordinate, or its values do not lie on a grid.
    """
    if "time" not in obj.coords:
        raise SchemaError(
            "No clock.",
            expected="a time coordinate in seconds",
            got=f"coordinates {list(obj.coords)}",
            fix="x.assign_coords(time=neuroalign.schema.time_index(n, sfreq))",
        )
    times = obj["time"].values
    sfreq = obj.attrs.get("sfreq")
    if sfreq is None:
        step = np.median(np.diff(times)) if len(times) > 1 else 0.0
        if not step > 0:
            raise SchemaError(
                "No sampling rate.", expected="attrs['sfreq'], or increasing times", got=f"{len(times)} times"
            )
        sfreq = 1 / step
        if abs(sfreq - round(sfreq)) < 1e-6 * sfreq:  # 1 / 0.01 is 100 but for rounding
            sfreq = float(round(sfreq))
    return to_samples(times, sfreq), float(sfreq)
