"""Where a time series may not be joined to its neighbour: run edges and gaps of the clock."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroalign.align import to_samples
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.protocol._labels import Samples
from neuroalign.schema import RUN_NAMES


def segment_labels(samples: Samples) -> NDArray[np.int64] | None:
    """Number the unbroken stretches of a time series.

    A new one starts where the subject, session, run or segment changes, and where the clock does not advance by
    exactly one sample.

    Parameters
    ----------
    samples : Samples
        Labels of the samples.

    Returns
    -------
    ndarray of int, shape (n_samples,), or None
        0, 1, 2, ... in order; None for samples without labels, which are one stretch.

    Raises
    ------
    SchemaError
        If the samples are not points in time.
    """
    if samples.dim is None:
        return None
    if samples.dim in ("trial", "stimulus"):
        raise SchemaError(
            f"The samples are not points in time but along {samples.dim}.",
            expected="the dimension time (or sample, segment)",
            got=samples.dim,
            fix="take one trial, or put the trials after one another along time with a coordinate run",
        )
    edge = np.zeros(samples.n, dtype=bool)
    for name in RUN_NAMES:
        values = samples.get(name)
        if values is not None:  # numbered, so that a missing label equals a missing label
            edge[1:] |= np.diff(pd.factorize(values)[0]) != 0
    times = samples.get("time")
    if times is not None and samples.sfreq is not None:
        steps = np.diff(to_samples(times, samples.sfreq))
        inside = steps[~edge[1:]]
        if inside.size >= 10 and inside[0] > 1 and (inside == inside[0]).all():  # every second, third, ... sample
            raise SchemaError(
                "The clock does not advance sample by sample.",
                expected=f"steps of one sample at {samples.sfreq:g} Hz",
                got=f"steps of {int(inside[0])} samples",
                fix="lower the rate with neuroalign.preprocess.Resampler, or set attrs['sfreq'] to the new rate",
            )
        edge[1:] |= steps != 1
    return np.cumsum(edge)


def sampling_rate(samples: Samples, sfreq: float | None, what: str) -> float:
    """Settle the sampling rate: the argument, which must agree with the clock of the data where that is known.

    Parameters
    ----------
    samples : Samples
        Labels of the samples.
    sfreq : float or None
        The argument, in Hz.
    what : str
        Who asks, for the message.

    Returns
    -------
    float
        Hz.

    Raises
    ------
    ConfigError
        If it is unknown, not positive, or contradicts the data.
    """
    known = samples.sfreq
    if sfreq is None:
        if known is None:
            raise ConfigError(
                f"{what} needs the sampling rate.",
                expected="a DataArray with a time coordinate, or sfreq=",
                got="neither",
                fix="pass sfreq= in Hz (1 / TR for fMRI)",
            )
        return known
    if not (np.isfinite(sfreq) and sfreq > 0):
        raise ConfigError("Not a sampling rate.", expected="sfreq > 0 Hz", got=sfreq)
    if known is not None and abs(known - sfreq) > 1e-3 * known:
        raise ConfigError(
            "sfreq= is not the sampling rate of the data.",
            expected=f"{known:.10g} Hz, from the time coordinate",
            got=f"{sfreq:.10g} Hz",
            fix="leave sfreq= out, or pass 1 / TR, not TR",
        )
    return float(sfreq)
