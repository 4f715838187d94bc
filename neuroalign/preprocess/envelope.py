"""Amplitude of one frequency band over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal
from scipy.fft import next_fast_len

from neuroalign.errors import SchemaError
from neuroalign.preprocess._timewise import TimeTransformer
from neuroalign.preprocess.filter import band_pass
from neuroalign.protocol import Labels

__all__ = ["BandEnvelope", "band_envelope"]


def band_envelope(x: NDArray[Any], *, sfreq: float, low: float, high: float, order: int = 4) -> NDArray[np.float64]:
    """Magnitude of the analytic signal in one band.

    A Butterworth band-pass runs forwards and backwards, so that nothing is delayed; its magnitude response is
    squared.

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
        The envelope, in the unit of x.

    Raises
    ------
    ConfigError
        If the band does not lie between 0 and half the sampling rate.
    SchemaError
        If the stretch is too short for the filter.
    """
    band = band_pass(x, sfreq=sfreq, low=low, high=high, order=order)
    # A length with small prime factors makes the transform fast; the tail is cut off again.
    return np.abs(signal.hilbert(band, N=next_fast_len(len(x)), axis=0)[: len(x)])


class BandEnvelope(TimeTransformer):
    """Envelope of a frequency band, channel by channel, each run on its own.

    Parameters
    ----------
    low, high : float
        Edges of the band in Hz.
    order : int
        Order of the Butterworth filter, which runs forwards and backwards.
    log : bool
        Take the natural logarithm of the envelope. A value of exactly 0 (a dead channel) is refused.
    resample : float, optional
        New sampling rate in Hz of the envelope.
    sfreq : float, optional
        Sampling rate in Hz, needed where the data have no time coordinate.

    Notes
    -----
    Arrays have the shape (n_times, n_channels). A DataArray keeps the order of its dimensions; ``time`` is the axis
    of the filter also where there are trials. A Dataset of a recording gives a Dataset, with its events.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(2000) / 1000
    >>> wave = (1 + t) * np.sin(2 * np.pi * 100 * t)
    >>> envelope = BandEnvelope(80, 120, sfreq=1000).fit_transform(wave[:, None])
    >>> envelope[500:1501:500, 0].round(2)
    array([1.5, 2. , 2.5])
    """

    def __init__(
        self,
        low: float = 70.0,
        high: float = 150.0,
        *,
        order: int = 4,
        log: bool = False,
        resample: float | None = None,
        sfreq: float | None = None,
    ) -> None:
        self.low = low
        self.high = high
        self.order = order
        self.log = log
        self.resample = resample
        self.sfreq = sfreq

    def _stretch(self, x: NDArray[Any], sfreq: float) -> NDArray[np.float64]:
        return band_envelope(x, sfreq=sfreq, low=self.low, high=self.high, order=self.order)

    def _at_rate(self, x: NDArray[Any], sfreq: float) -> NDArray[Any]:
        envelope = self._stretch(x, sfreq)
        # The ringing of the anti-alias filter may not take a positive envelope below what it was.
        out = np.maximum(self._lowered(envelope, sfreq), envelope.min(axis=0))
        if not self.log:
            return out
        if not out.all():
            raise SchemaError(
                "The envelope of a channel is 0 and has no logarithm.",
                expected="positive envelopes",
                got=f"zeros in {int((out == 0).any(axis=0).sum())} of {out.shape[1]} channels",
                fix="drop dead channels first, or pass log=False",
            )
        return np.log(out)

    def _band(self, highpass: float, lowpass: float) -> tuple[float, float]:
        return 0.0, np.inf

    def _out_labels(self, labels: Labels, n: int) -> Labels:
        out = super()._out_labels(labels, n)
        return with_units(out, "a.u.") if self.log else out


def with_units(labels: Labels, units: str) -> Labels:
    """Give all channels one unit."""
    coords = {name: coord for name, coord in labels.coords.items() if name != "units"}
    return Labels(labels.dims, labels.shape, coords, labels.name, labels.attrs | {"units": units})
