"""What filters and resamplers share: the time axis, run by run, whatever the other dimensions are."""

from __future__ import annotations

from abc import abstractmethod
from fractions import Fraction
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import signal

from neuroalign.align import segment_slices, to_samples
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.protocol import LabelledTransformer, Labels, Samples, open_samples, sampling_rate, segment_labels
from neuroalign.schema import MODALITIES, modality_of, time_index


class TimeTransformer(LabelledTransformer):
    """Transformer of time courses: each unbroken stretch on its own, in place, optionally at a lower rate.

    Subclasses write ``_stretch(x, sfreq)`` on arrays of shape (n_times, n_channels), and have ``sfreq`` and, if they
    resample, ``resample`` among their parameters.
    """

    sfreq: float | None
    resample: float | None = None

    @abstractmethod
    def _stretch(self, x: NDArray[Any], sfreq: float) -> NDArray[Any]:
        """Transform one unbroken stretch, at its own rate."""

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
        """Transform a recording.

        Parameters
        ----------
        X : Dataset, DataArray or array, shape (n_times, n_channels)
            Recording.

        Returns
        -------
        Dataset, DataArray or array
            Labelled as X; a Dataset keeps its events.
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
        sfreq = sampling_rate(samples, self.sfreq, type(self).__name__)
        pieces = [self._at_rate(X[piece], sfreq) for piece in segment_slices(segment_labels(samples), len(X))]
        return np.concatenate(pieces).astype(X.dtype if X.dtype.kind == "f" else np.float64, copy=False)

    def _at_rate(self, x: NDArray[Any], sfreq: float) -> NDArray[Any]:
        return self._lowered(self._stretch(x, sfreq), sfreq)

    def _lowered(self, x: NDArray[Any], sfreq: float) -> NDArray[Any]:
        if self.resample is None:
            return x
        up, down = self._ratio(sfreq)
        # The polyphase filter is its own anti-alias filter.
        return signal.resample_poly(x, up, down, axis=0, padtype="symmetric")

    def _ratio(self, sfreq: float) -> tuple[int, int]:
        wanted = float(self.resample or sfreq)
        ratio = Fraction(wanted / sfreq).limit_denominator(10_000) if wanted > 0 else Fraction(0)
        if not 0 < ratio <= 1 or abs(float(ratio) * sfreq - wanted) > 1e-6 * wanted:
            raise ConfigError(
                "The recording cannot be resampled to this rate.",
                expected=f"a rate up to {sfreq:g} Hz in a simple ratio to it",
                got=self.resample,
            )
        return ratio.numerator, ratio.denominator

    def _out_labels(self, labels: Labels, n: int) -> Labels:
        if self.resample is None:
            return labels
        attrs = labels.attrs | {"sfreq": float(self.resample)}
        return Labels(labels.dims, labels.shape, labels.coords, labels.name, attrs)

    def _out_samples(self, samples: Samples, n: int) -> Samples:
        if self.resample is None or samples.dim is None:
            return samples
        sfreq = sampling_rate(samples, self.sfreq, type(self).__name__)
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
