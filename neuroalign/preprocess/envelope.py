"""Amplitude of one frequency band over time."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import signal
from scipy.fft import next_fast_len

from neuroalign.align import segment_slices, to_samples
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.preprocess._segments import sampling_rate, segment_labels
from neuroalign.protocol import LabelledTransformer, Labels, Samples, open_samples
from neuroalign.schema import MODALITIES, modality_of, time_index

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
    band = signal.sosfiltfilt(sos, np.asarray(x, dtype=np.float64), axis=0, padlen=pad)
    # A length with small prime factors makes the transform fast; the tail is cut off again.
    return np.abs(signal.hilbert(band, N=next_fast_len(len(x)), axis=0)[: len(x)])


class BandEnvelope(LabelledTransformer):
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

    def fit(self, X: Any, y: Any = None) -> Self:
        """Remember the shape of plain arrays; nothing else is learned.

        Parameters
        ----------
        X : Dataset, DataArray or array, shape (n_times, n_channels)
            Recording.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The transformer.
        """
        return super().fit(X[_variable(X)] if isinstance(X, xr.Dataset) else X)

    def transform(self, X: Any) -> Any:
        """Compute the envelope.

        Parameters
        ----------
        X : Dataset, DataArray or array, shape (n_times, n_channels)
            Recording.

        Returns
        -------
        Dataset, DataArray or array
            Envelopes, labelled as X.
        """
        if isinstance(X, xr.Dataset):
            return self._transform_dataset(X)
        if isinstance(X, xr.DataArray):
            return super().transform(X).transpose(*X.dims)
        return super().transform(X)

    def _transform_dataset(self, X: xr.Dataset) -> xr.Dataset:
        out = self.transform(X[_variable(X)])
        rest = X.drop_vars([name for name in X.variables if "time" in X[name].dims]).assign({out.name: out})
        known = {k: v for k, v in out.attrs.items() if k in ("sfreq", "units") or str(k).startswith("neuro_")}
        if self.resample is not None and X.attrs.get("sfreq"):
            known["first_sample"] = round(X.attrs.get("first_sample", 0) * self.resample / X.attrs["sfreq"])
        return rest.assign_attrs(known)

    def _open(self, X: Any, *, fitting: bool) -> tuple[NDArray[Any], Samples, Labels]:
        if not isinstance(X, xr.DataArray):
            return super()._open(X, fitting=fitting)
        # Time is filtered also where trials are the samples of everything else.
        values, samples, labels = open_samples(X, "time")
        if not np.isfinite(values).all():
            raise SchemaError(
                "The recording holds NaN or Inf, which a filter would spread.",
                expected="finite values",
                got=f"{int((~np.isfinite(values)).sum())} values that are not finite",
                fix="drop the channels or cut out the times concerned first",
            )
        return values, samples, labels

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        sfreq = sampling_rate(samples, self.sfreq, "A band-pass filter")
        pieces = [self._envelope(X[piece], sfreq) for piece in segment_slices(segment_labels(samples), len(X))]
        out = np.concatenate(pieces)
        if self.log:
            if not out.all():
                raise SchemaError(
                    "The envelope of a channel is 0 and has no logarithm.",
                    expected="positive envelopes",
                    got=f"zeros in {int((out == 0).any(axis=0).sum())} of {out.shape[1]} channels",
                    fix="drop dead channels first, or pass log=False",
                )
            out = np.log(out)
        return out.astype(X.dtype if X.dtype.kind == "f" else np.float64, copy=False)

    def _envelope(self, x: NDArray[Any], sfreq: float) -> NDArray[np.float64]:
        envelope = band_envelope(x, sfreq=sfreq, low=self.low, high=self.high, order=self.order)
        if self.resample is None:
            return envelope
        up, down = self._ratio(sfreq)
        smooth = signal.resample_poly(envelope, up, down, axis=0, padtype="symmetric")
        return np.maximum(smooth, envelope.min(axis=0))  # the ringing of the low-pass may not go below the envelope

    def _ratio(self, sfreq: float) -> tuple[int, int]:
        wanted = float(self.resample or sfreq)
        ratio = Fraction(wanted / sfreq).limit_denominator(10_000) if wanted > 0 else Fraction(0)
        if not 0 < ratio <= 1 or abs(float(ratio) * sfreq - wanted) > 1e-6 * wanted:
            raise ConfigError(
                "The envelope cannot be resampled to this rate.",
                expected=f"a rate up to {sfreq:g} Hz in a simple ratio to it",
                got=self.resample,
            )
        return ratio.numerator, ratio.denominator

    def _out_labels(self, labels: Labels, n: int) -> Labels:
        changes: dict[str, Any] = {"units": "a.u."} if self.log else {}
        if self.resample is not None:
            changes["sfreq"] = float(self.resample)
        return Labels(labels.dims, labels.shape, labels.coords, labels.name, labels.attrs | changes)

    def _out_samples(self, samples: Samples, n: int) -> Samples:
        if self.resample is None or samples.dim is None:
            return samples
        sfreq = sampling_rate(samples, self.sfreq, "A band-pass filter")
        up, down = self._ratio(sfreq)
        rows, clock = [], []
        ticks = to_samples(samples.coords["time"], sfreq)
        for piece in segment_slices(segment_labels(samples), samples.n):
            count = -(-(piece.stop - piece.start) * up // down)
            start = ticks[piece.start] * up / down
            if abs(start - round(start)) > 0.05:
                raise SchemaError(
                    "A run does not start on a sample of the new clock.",
                    expected=f"a first sample that is a multiple of {down}",
                    got=int(ticks[piece.start]),
                    fix=f"leave out the first {-ticks[piece.start] % down} samples with isel(time=slice(...))",
                )
            clock.append(time_index(count, float(self.resample), round(start)))
            rows.append(np.minimum(piece.start + np.arange(count) * down // up, piece.stop - 1))
        coords = {name: values[np.concatenate(rows)] for name, values in samples.coords.items()}
        return Samples(n, samples.dim, coords | {"time": np.concatenate(clock)}, float(self.resample))


def _variable(ds: xr.Dataset) -> str:
    modality = modality_of(ds)
    if modality is None or "time" not in ds[MODALITIES[modality]].dims:
        raise SchemaError("Not a recording.", expected="a variable eeg, ieeg or meg over time", got=list(ds.data_vars))
    return MODALITIES[modality]
