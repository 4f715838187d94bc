"""Line noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import signal

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.preprocess._timewise import RECORDINGS, TimeTransformer
from neuroalign.preprocess._trees import first_run
from neuroalign.protocol import Samples, sampling_rate

__all__ = ["NotchFilter", "known_line", "multiples", "notch"]

_ORDER = 2


def notch(x: NDArray[Any], *, sfreq: float, freqs: Sequence[float], width: float = 2.0) -> NDArray[np.float64]:
    """Take narrow bands out of a stretch without delay.

    A Butterworth band-stop of second order a frequency runs forwards and backwards: one half of the amplitude is
    left at ``width / 2`` from a frequency, 1e-4 of it at ``width / 20``.

    Parameters
    ----------
    x : ndarray, shape (n_times, n_channels)
        An unbroken stretch.
    sfreq : float
        Sampling rate in Hz.
    freqs : sequence of float
        Middles of the bands in Hz.
    width : float
        Width of each band in Hz.

    Returns
    -------
    ndarray, shape (n_times, n_channels)
        The filtered stretch, in the unit of x.

    Raises
    ------
    ConfigError
        If a band does not lie between 0 and half the sampling rate.
    SchemaError
        If the stretch is too short for the filter.
    """
    outside = [float(f) for f in freqs if not 0 < width / 2 < f < (sfreq - width) / 2]
    if outside:
        raise ConfigError(
            "A frequency cannot be notched at this sampling rate.",
            expected=f"frequencies and a width between 0 and {sfreq / 2:g} Hz (half of sfreq)",
            got=f"{outside} Hz, {width:g} Hz wide",
        )
    x = np.asarray(x, dtype=np.float64)
    if not len(freqs):
        return x
    pad = int(np.ceil(3 * sfreq / width))
    if len(x) <= pad:
        raise SchemaError(
            "A run is too short for this notch.",
            expected=f"more than {pad} samples (three times 1 / width)",
            got=len(x),
            fix="filter the continuous recording before it is cut, or pass a greater width=",
        )
    # One cascade of all sections, so that the ends are padded once.
    sos = [signal.butter(_ORDER, (f - width / 2, f + width / 2), "bandstop", fs=sfreq, output="sos") for f in freqs]
    return signal.sosfiltfilt(np.concatenate(sos), x, axis=0, padlen=pad)


def multiples(freqs: Sequence[float], harmonics: int | None, highest: float) -> list[float]:
    """Frequencies and their harmonics below a limit, each once, in rising order.

    Parameters
    ----------
    freqs : sequence of float
        Fundamentals in Hz.
    harmonics : int or None
        How many multiples of each, 1 for itself alone; None for all below the limit.
    highest : float
        The limit in Hz.

    Returns
    -------
    list of float
        Hz.
    """
    found = set()
    for f in freqs:
        n = int(highest / f) if harmonics is None else harmonics
        found |= {round(k * f, 9) for k in range(1, n + 1) if k * f < highest}
    return sorted(found)


def known_line(X: Any, given: float | None, argument: str) -> float:
    """Settle the line frequency: the argument, else what the recording says.

    Parameters
    ----------
    X : Dataset, DataArray or array
        The recording.
    given : float or None
        The argument in Hz.
    argument : str
        Its name, for the message.

    Returns
    -------
    float
        Hz.

    Raises
    ------
    ConfigError
        If neither says.
    """
    known = X.attrs.get("line_freq") if isinstance(X, xr.Dataset | xr.DataArray) else None
    if given is None and known is None:
        raise ConfigError(
            "The recording does not say the frequency of its power line.",
            expected=f"attrs['line_freq'], or {argument}=",
            got="neither",
            fix=f"pass {argument}=50 (Europe, most of Asia and Africa) or {argument}=60 (Americas)",
        )
    chosen: Any = known if given is None else given
    return float(chosen)


class NotchFilter(TimeTransformer):
    """Take line noise and its harmonics out, without delay, channel by channel, each run on its own.

    Parameters
    ----------
    freqs : float or sequence of float, optional
        Frequency of the line in Hz, or several frequencies; by default what ``attrs["line_freq"]`` of the recording
        says.
    harmonics : int, optional
        How many multiples of each, 1 for itself alone; by default all below half the sampling rate.
    width : float
        Width of each notch in Hz, where one half of the amplitude is left.
    sfreq : float, optional
        Sampling rate in Hz, needed where the data have no time coordinate.

    Attributes
    ----------
    freqs_ : list of float
        The fundamentals.

    Notes
    -----
    Bands are Butterworth band-stops of second order, run forwards and backwards: a line that wanders by ``width / 20``
    is still weakened to 1e-4. The first and last ``1 / width`` seconds of a run are cleaned less well. Channels of
    codes (triggers) are left alone.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(5000) / 500
    >>> wave, line = np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 50 * t)
    >>> clean = NotchFilter(50, sfreq=500).fit_transform((wave + line)[:, None])[:, 0]
    >>> bool(np.abs(clean - wave)[500:-500].max() < 0.01)
    True
    """

    def __init__(
        self,
        freqs: float | Sequence[float] | None = None,
        *,
        harmonics: int | None = None,
        width: float = 2.0,
        sfreq: float | None = None,
    ) -> None:
        self.freqs = freqs
        self.harmonics = harmonics
        self.width = width
        self.sfreq = sfreq

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the line frequency, where it was not given, from what the recording says.

        Parameters
        ----------
        X : Dataset, DataTree, DataArray or array, shape (n_times, n_channels)
            Recording.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The transformer.

        Raises
        ------
        ConfigError
            If the line frequency is not known.
        """
        X = first_run(X, RECORDINGS)
        several = self.freqs is not None and np.ndim(self.freqs) == 1
        given: Any = self.freqs
        self.freqs_ = [float(f) for f in given] if several else [known_line(X, given, "freqs")]
        if self.harmonics is not None and self.harmonics < 1:
            raise ConfigError("Not a number of harmonics.", expected="1 or more, or None for all", got=self.harmonics)
        if not self.freqs_ or min(self.freqs_) <= 0:
            raise ConfigError("Not a frequency.", expected="Hz above 0", got=self.freqs)
        return super().fit(X)

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        nyquist = sampling_rate(samples, self.sfreq, type(self).__name__) / 2
        if max(self.freqs_) >= nyquist - self.width / 2:
            raise ConfigError(
                "There is no line noise at this sampling rate.",
                expected=f"frequencies below {nyquist - self.width / 2:g} Hz",
                got=self.freqs_,
            )
        return super()._transform(X, samples)

    def _stretch(self, x: NDArray[Any], sfreq: float) -> NDArray[np.float64]:
        freqs = multiples(self.freqs_, self.harmonics, (sfreq - self.width) / 2)
        return notch(x, sfreq=sfreq, freqs=freqs, width=self.width)
