"""Band-pass filters and resampling of recordings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.preprocess._timewise import TimeTransformer

__all__ = ["BandPass", "Resampler", "band_pass"]


def band_pass(x: NDArray[Any], *, sfreq: float, low: float, high: float, order: int = 4) -> NDArray[np.float64]:
    """Filter a stretch to one band without delay.

    A Butterworth band-pass runs forwards and backwards; its magnitude response is squared.

    Parameters
    ----------
    x : ndarray, shape (n_times, n_channels)
        An unbroken stretch.
    sfreq : float
        Sampling rate in Hz.
    low, high : float
        Edges of the band in Hz, where the response of the two passes together is one half.
    order : int
        Order of one pass.

    Returns
    -------
    ndarray, shape (n_times, n_channels)
        The filtered stretch, in the unit of x.

    Raises
    ------
    ConfigError
        If the band does not lie between 0 and half the sampling rate.
    SchemaError
        If the stretch is too short for the filter.
    """
    if not 0 < low < high < sfreq / 2:
        raise ConfigError(
            "The band cannot be filtered at this sampling rate.",
            expected=f"0 < low < high < {sfreq / 2:g} Hz (half of sfreq)",
            got=f"{low:g} to {high:g} Hz",
        )
    if order < 1:
        raise ConfigError("Not an order.", expected="1 or more", got=order)
    sos = signal.butter(order, (low, high), btype="bandpass", fs=sfreq, output="sos")
    # Reflected samples at the ends must be fewer than the samples, and should outlast the filter's ringing.
    pad = int(np.ceil(3 * sfreq / low))
    if len(x) <= pad:
        raise SchemaError(
            "A run is too short for this band.",
            expected=f"more than {pad} samples (three cycles of {low:g} Hz)",
            got=len(x),
            fix="use a longer recording or a higher band",
        )
    return signal.sosfiltfilt(sos, np.asarray(x, dtype=np.float64), axis=0, padlen=pad)


class BandPass(TimeTransformer):
    """Band-pass filter without delay, channel by channel, each run on its own.

    Parameters
    ----------
    low, high : float
        Edges of the band in Hz.
    order : int
        Order of the Butterworth filter, which runs forwards and backwards.
    resample : float, optional
        New sampling rate in Hz.
    sfreq : float, optional
        Sampling rate in Hz, needed where the data have no time coordinate.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(2000) / 500
    >>> slow, fast = np.sin(2 * np.pi * 4 * t), np.sin(2 * np.pi * 100 * t)
    >>> kept = BandPass(1, 8, sfreq=500).fit_transform((slow + fast)[:, None])[:, 0]
    >>> round(float(np.corrcoef(kept, slow)[0, 1]), 2)  # the edge of the pass takes a little of 4 Hz
    0.98
    """

    def __init__(
        self,
        low: float = 1.0,
        high: float = 8.0,
        *,
        order: int = 4,
        resample: float | None = None,
        sfreq: float | None = None,
    ) -> None:
        self.low = low
        self.high = high
        self.order = order
        self.resample = resample
        self.sfreq = sfreq

    def _stretch(self, x: NDArray[Any], sfreq: float) -> NDArray[np.float64]:
        return band_pass(x, sfreq=sfreq, low=self.low, high=self.high, order=self.order)

    def _band(self, highpass: float, lowpass: float) -> tuple[float, float]:
        return max(highpass, self.low), min(lowpass, self.high)


class Resampler(TimeTransformer):
    """Bring a recording to a lower sampling rate, with an anti-alias filter, each run on its own.

    Parameters
    ----------
    resample : float, optional
        New sampling rate in Hz, in a simple ratio to the old one; None changes nothing.
    sfreq : float, optional
        Sampling rate in Hz, needed where the data have no time coordinate.

    Examples
    --------
    >>> import numpy as np
    >>> Resampler(50, sfreq=100).fit_transform(np.ones((200, 3))).shape
    (100, 3)
    """

    def __init__(self, resample: float | None = None, *, sfreq: float | None = None) -> None:
        self.resample = resample
        self.sfreq = sfreq

    def _transform(self, X: NDArray[Any], samples: Any) -> NDArray[Any]:
        return X if self.resample is None else super()._transform(X, samples)

    def _stretch(self, x: NDArray[Any], sfreq: float) -> NDArray[Any]:
        return x
