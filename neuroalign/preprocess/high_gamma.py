"""High-gamma activity: the amplitude of broadband activity, without line noise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.preprocess._timewise import RECORDINGS, TimeTransformer
from neuroalign.preprocess._trees import first_run
from neuroalign.preprocess.envelope import band_envelope, with_units
from neuroalign.preprocess.notch import known_line, multiples, notch
from neuroalign.protocol import Labels

__all__ = ["HighGamma", "broadband_amplitude"]

#: Types of channels that measure the brain.
NEURAL = ("eeg", "seeg", "ecog", "dbs", "mag", "grad")
_NOTCH_WIDTH = 2.0


def broadband_amplitude(x: NDArray[Any], *, sfreq: float, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the envelopes of several bands, each divided by its own mean over time.

    Activity of the brain falls off with frequency; without the division the lowest band would be all that counts.

    Parameters
    ----------
    x : ndarray, shape (n_times, n_channels)
        An unbroken stretch.
    sfreq : float
        Sampling rate in Hz.
    edges : ndarray, shape (n_bands + 1,)
        Edges of the bands in Hz.

    Returns
    -------
    ndarray, shape (n_times, n_channels)
        Amplitude as a multiple of its mean; 0 for channels without any signal.
    """
    total = np.zeros(x.shape)
    for low, high in pairwise(edges):
        envelope = band_envelope(x, sfreq=sfreq, low=float(low), high=float(high))
        mean = envelope.mean(axis=0)
        total += envelope / np.where(mean > 0, mean, 1.0)
    return total / (len(edges) - 1)


class HighGamma(TimeTransformer):
    """High-gamma activity, channel by channel, each run on its own.

    Line noise is notched out. Between `low` and `high`, envelopes (Hilbert amplitudes) of bands of equal width in
    octaves are divided by their mean over the run and averaged; then come the new rate, the logarithm and z-scores.

    Parameters
    ----------
    low, high : float
        Edges of high gamma in Hz.
    n_bands : int
        Number of bands between them.
    line_freq : float, optional
        Frequency of the power line in Hz, whose harmonics are notched, 2 Hz wide; by default what
        ``attrs["line_freq"]`` of the recording says. 0 for recordings without line noise.
    log : bool
        Take the natural logarithm.
    zscore : bool
        Bring each channel and run to mean 0 and standard deviation 1.
    resample : float, optional
        New sampling rate in Hz.
    sfreq : float, optional
        Sampling rate in Hz, needed where the data have no time coordinate.

    Attributes
    ----------
    line_freq_ : float
        The line frequency.

    Notes
    -----
    Of labelled recordings the channels that measure the brain are kept; triggers, ECG and others are left out. The
    mean, and the z-scores, are those of a whole run, so that test data must be other runs than training data.

    References
    ----------
    .. [1] Moses, D. A., Mesgarani, N., Leonard, M. K. & Chang, E. F. (2016). Neural speech recognition: continuous
       phoneme decoding using spatiotemporal representations of human cortical activity. Journal of Neural
       Engineering 13.
    .. [2] Ray, S. & Maunsell, J. H. R. (2011). Different origins of gamma rhythm and high-gamma activity in macaque
       visual cortex. PLoS Biology 9.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> course = 1.5 + np.sin(2 * np.pi * 0.5 * np.arange(10_000) / 1000)
    >>> activity = HighGamma(line_freq=50, sfreq=1000).fit_transform((course * rng.normal(size=10_000))[:, None])
    >>> bool(np.corrcoef(activity[:, 0], np.log(course))[0, 1] > 0.9)
    True
    """

    def __init__(
        self,
        low: float = 70.0,
        high: float = 150.0,
        *,
        n_bands: int = 8,
        line_freq: float | None = None,
        log: bool = True,
        zscore: bool = True,
        resample: float | None = None,
        sfreq: float | None = None,
    ) -> None:
        self.low = low
        self.high = high
        self.n_bands = n_bands
        self.line_freq = line_freq
        self.log = log
        self.zscore = zscore
        self.resample = resample
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
            If the line frequency is not known, or the bands are too narrow.
        SchemaError
            If no channel measures the brain.
        """
        X = first_run(X, RECORDINGS)
        self.line_freq_ = known_line(X, self.line_freq, "line_freq")
        self._edges()
        return super().fit(_neural(X))

    def transform(self, X: Any) -> Any:
        """Give the high-gamma activity of a recording.

        Parameters
        ----------
        X : Dataset, DataTree, DataArray or array, shape (n_times, n_channels)
            Recording.

        Returns
        -------
        Dataset, DataTree, DataArray or array
            Labelled as X, without the channels that do not measure the brain; in ``z``, or without a unit.

        Raises
        ------
        SchemaError
            If a channel is dead, or a run too short.
        """
        return super().transform(X if isinstance(X, xr.DataTree) else _neural(X))

    def _edges(self) -> NDArray[np.float64]:
        if self.n_bands < 1 or not 0 < self.low < self.high:
            raise ConfigError(
                "Not a set of bands.",
                expected="n_bands of 1 or more, 0 < low < high",
                got=f"{self.n_bands} bands from {self.low:g} to {self.high:g} Hz",
            )
        edges = np.geomspace(self.low, self.high, self.n_bands + 1)
        # A band that lies in a notch would hold nothing but what the notch leaves of the line.
        if self.line_freq_ and edges[1] - edges[0] < 2 * _NOTCH_WIDTH:
            raise ConfigError(
                "The bands are too narrow beside the notches of the line.",
                expected=f"bands of at least {2 * _NOTCH_WIDTH:g} Hz",
                got=f"{edges[1] - edges[0]:.2g} Hz for n_bands={self.n_bands}",
                fix="pass a smaller n_bands=",
            )
        return edges

    def _stretch(self, x: NDArray[Any], sfreq: float) -> NDArray[np.float64]:
        if self.line_freq_:
            highest = min(self.high + 10, (sfreq - _NOTCH_WIDTH) / 2)
            x = notch(x, sfreq=sfreq, freqs=multiples([self.line_freq_], None, highest), width=_NOTCH_WIDTH)
        return broadband_amplitude(x, sfreq=sfreq, edges=self._edges())

    def _at_rate(self, x: NDArray[Any], sfreq: float) -> NDArray[Any]:
        amplitude = self._stretch(x, sfreq)
        # The ringing of the anti-alias filter may not take a positive amplitude below what it was.
        out = np.maximum(self._lowered(amplitude, sfreq), amplitude.min(axis=0))
        # Filters leave rounding errors of a constant, which have an amplitude too.
        dead = (x == x[0]).all(axis=0) | (out <= 0).any(axis=0)
        if (self.log or self.zscore) and dead.any():
            raise SchemaError(
                "A channel has no high-gamma activity, and no logarithm or z-score of it.",
                expected="signals that vary",
                got=f"{int(dead.sum())} of {len(dead)} channels are constant",
                fix="drop dead channels first: ds.isel(channel=~ds['bad'])",
            )
        if self.log:
            out = np.log(out)
        return (out - out.mean(axis=0)) / out.std(axis=0) if self.zscore else out

    def _band(self, highpass: float, lowpass: float) -> tuple[float, float]:
        return 0.0, np.inf

    def _out_labels(self, labels: Labels, n: int) -> Labels:
        return with_units(super()._out_labels(labels, n), "z" if self.zscore else "a.u.")


def _neural(X: Any) -> Any:
    """Leave out the channels that do not measure the brain."""
    if not isinstance(X, xr.Dataset | xr.DataArray) or "channel_type" not in X.coords:
        return X
    kept = np.isin(X["channel_type"].values.astype(object), NEURAL)
    if not kept.any():
        raise SchemaError(
            "No channel measures the brain.",
            expected=f"channels of type {', '.join(NEURAL)}",
            got=sorted(set(X["channel_type"].values.tolist())),
            fix="set their type on reading: channel_type=",
        )
    return X if kept.all() else X.isel(channel=kept)
