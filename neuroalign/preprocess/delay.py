"""Delayed copies of features, for responses that come later than their causes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.align import lagged
from neuroalign.errors import ConfigError
from neuroalign.protocol import LabelledTransformer, Labels, Samples, read_labels, sampling_rate, segment_labels

__all__ = ["Delayer"]


class Delayer(LabelledTransformer):
    """Put delayed copies of features side by side (a finite impulse response design).

    Row t holds the features at t minus each delay. Where that lies before the start of the run (or behind a gap of
    the clock) there are zeros, so standardize features first.

    Parameters
    ----------
    delays : sequence of int or float
        Delays; positive ones look into the past of the features.
    units : {'samples', 's'}
        Unit of the delays. Seconds must be whole samples within 0.05 samples.
    sfreq : float, optional
        Sampling rate in Hz, needed for seconds where the data have no time coordinate.

    Attributes
    ----------
    lags_ : ndarray of int, shape (n_delays,)
        Delays in samples.

    Notes
    -----
    A plain array gives columns in the order of the delays, all features at the first delay first. A DataArray with
    dims (time, unit) gives dims (time, lag, unit), where ``lag`` holds the delays as given.

    Delays of impulses at the onsets of events make a model without an assumed response: regression on them gives the
    response to each condition, volume by volume (see the last example). `neuroalign.align.place` puts the impulses of
    events into the time of a recording, by the times of its volumes (``start_time`` included).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> Delayer(delays=(0, 1)).fit_transform(np.array([[1.0], [2.0], [3.0]]))
    array([[1., 0.],
           [2., 1.],
           [3., 2.]])

    A response of 2, 5 and 1 at three volumes, found again:

    >>> from neuroalign.align import place
    >>> from neuroalign.schema import features, fmri_regions
    >>> events = {"onset": [4.0, 10.0, 14.0], "duration": [0.0] * 3, "trial_type": ["face"] * 3}
    >>> bold = np.array([0, 0, 2, 5, 1, 2, 5, 3, 5, 1.0])[:, None]
    >>> run = fmri_regions(bold, roi=["FFA"], tr=2.0, events=pd.DataFrame(events))
    >>> impulses = place(features([[1.0]], stimulus=["face"]), run, by="trial_type")
    >>> design = Delayer((0, 1, 2)).fit_transform(impulses).values.reshape(10, 3)
    >>> np.linalg.lstsq(design, bold, rcond=None)[0].ravel().round(6).tolist()
    [2.0, 5.0, 1.0]
    """

    def __init__(
        self, delays: Sequence[float] = (1, 2, 3, 4), *, units: str = "samples", sfreq: float | None = None
    ) -> None:
        self.delays = delays
        self.units = units
        self.sfreq = sfreq

    def _fit(self, X: NDArray[Any], samples: Samples) -> None:
        segment_labels(samples)
        self.lags_ = self._lags(samples)

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        return lagged(X, self._lags(samples).tolist(), segment_labels(samples))

    def _out_labels(self, labels: Labels, n: int) -> Labels:
        coords = {"lag": (("lag",), np.asarray(self.delays))} | labels.coords
        attrs = labels.attrs | {"delay_span": int(np.ptp(self.lags_))}
        return Labels(("lag", *labels.dims), (len(self.delays), *labels.shape), coords, labels.name, attrs)

    def delay_span(self, X: Any) -> int:
        """Say how many samples lie between the first and the last delay.

        Parameters
        ----------
        X : DataArray or array
            Data to be delayed.

        Returns
        -------
        int
            What folds leave out beside test samples, and what ridge models find as ``attrs["delay_span"]``.
        """
        return int(np.ptp(self._lags(read_labels(X)[0] if isinstance(X, xr.DataArray) else Samples(len(X)))))

    def _lags(self, samples: Samples) -> NDArray[np.int64]:
        """Delays in samples of these data, whose rate may differ from that of the data given to `fit`."""
        if self.units not in ("samples", "s"):
            raise ConfigError("Unknown unit of delays.", expected="samples or s", got=self.units)
        delays = np.atleast_1d(np.asarray(self.delays, dtype=np.float64))
        if delays.ndim != 1 or not delays.size or not np.isfinite(delays).all():
            raise ConfigError("No delays.", expected="one or more numbers", got=self.delays)
        exact = delays * sampling_rate(samples, self.sfreq, "A delay in seconds") if self.units == "s" else delays
        lags = np.rint(exact).astype(np.int64)
        if (np.abs(exact - lags) > 0.05).any() or len(set(lags.tolist())) != lags.size:
            raise ConfigError(
                "Delays must be different whole numbers of samples.",
                expected="whole numbers" if self.units == "samples" else "multiples of 1 / sfreq",
                got=f"{delays.tolist()} {self.units}, {exact.round(3).tolist()} samples",
                fix="pass delays in samples, or in seconds with units='s'",
            )
        return lags
