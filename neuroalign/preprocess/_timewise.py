"""What filters and resamplers share: the time axis, run by run, whatever the other dimensions are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import signal

from neuroalign.align import segment_slices, to_samples
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.preprocess._trees import first_run, transform_runs
from neuroalign.protocol import LabelledTransformer, Labels, Samples, open_samples, sampling_rate, segment_labels
from neuroalign.schema import MODALITIES, modality_of, time_index
from neuroalign.schema._provenance import provenance

#: Channels that hold codes or counters: filters leave them alone, and at a lower rate no code is lost.
_CODES = ("stim", "syst", "exci", "ias")
#: Variables that make a node of a tree a run.
RECORDINGS = tuple(MODALITIES.values())
#: Bytes of float64 that are filtered at once; transforms of whole runs take several times as much.
_BLOCK = 32 * 2**20


class TimeTransformer(LabelledTransformer):
    """Transformer of time courses: each unbroken stretch on its own, in place, optionally at a lower rate.

    Subclasses write ``_stretch(x, sfreq)`` on arrays of shape (n_times, n_channels), column by column, and have
    ``sfreq`` and, if they resample, ``resample`` among their parameters.
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
        X : Dataset, DataTree, DataArray or array, shape (n_times, n_channels)
            Recording, or the runs of a tree.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The transformer.
        """
        X = first_run(X, RECORDINGS)
        return super().fit(_recording(X) if isinstance(X, xr.Dataset) else X)

    def transform(self, X: Any) -> Any:
        """Transform a recording.

        Parameters
        ----------
        X : Dataset, DataTree, DataArray or array, shape (n_times, n_channels)
            Recording. Each run of a tree is transformed on its own.

        Returns
        -------
        Dataset, DataTree, DataArray or array
            Labelled as X; a Dataset keeps its events.
        """
        if isinstance(X, xr.DataTree):
            return transform_runs(self, X, RECORDINGS)
        if isinstance(X, xr.Dataset):
            return self._transform_dataset(X)
        if isinstance(X, xr.DataArray):
            return super().transform(X).transpose(*X.dims)
        return super().transform(X)

    def _transform_dataset(self, X: xr.Dataset) -> xr.Dataset:
        out = self.transform(_recording(X))
        gone = [n for n, c in X.coords.items() if n not in out.coords and set(c.dims) & set(out.dims)]
        rest = X.drop_vars({*gone, *(name for name in X.variables if "time" in X[name].dims)}).assign({out.name: out})
        known = provenance(out) | {k: v for k, v in out.attrs.items() if k in ("sfreq", "units")}
        sfreq = float(X.attrs.get("sfreq", 0.0))
        if sfreq:
            highpass, lowpass = self._band(X.attrs.get("highpass", 0.0), X.attrs.get("lowpass", np.inf))
            known |= {"highpass": float(highpass), "lowpass": float(min(lowpass, (self.resample or sfreq) / 2))}
        if self.resample is not None and sfreq:
            start = X.attrs.get("first_sample", 0) / sfreq
            known["first_sample"] = round(start * self.resample)
            # Onsets count from the first sample, which may have moved to a sample of the new clock.
            moved = start - known["first_sample"] / self.resample
            if moved and "onset" in rest.coords and rest["onset"].dims == ("event",):
                rest = rest.assign_coords(onset=rest["onset"] + moved)
        return rest.assign_attrs(known)

    def _band(self, highpass: float, lowpass: float) -> tuple[float, float]:
        """Edges in Hz of what is left of a band."""
        return highpass, lowpass

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
        pieces = segment_slices(segment_labels(samples), len(X))
        lengths = [self._length(piece, sfreq) for piece in pieces]
        dtype = X.dtype if X.dtype.kind == "f" else np.float64
        out = np.empty((X.shape[1], sum(lengths)), dtype=dtype).T
        for piece, stop, length in zip(pieces, np.cumsum(lengths), lengths, strict=True):
            for columns, work in self._work(piece.stop - piece.start):
                out[stop - length : stop, columns] = work(X[piece, columns], sfreq)
        return out

    def _work(self, n_times: int) -> Iterator[tuple[Any, Callable[[NDArray[Any], float], NDArray[Any]]]]:
        """Blocks of columns, and what is done to them."""
        codes = _holds_codes(self.feature_labels_)
        if codes.any():
            yield np.flatnonzero(codes), self._coded
        step = max(1, _BLOCK // (8 * max(1, n_times)))
        signals = np.flatnonzero(~codes)
        for start in range(0, len(signals), step):
            block = signals[start : start + step]
            unbroken = block[-1] - block[0] == len(block) - 1
            yield (slice(block[0], block[-1] + 1) if unbroken else block), self._at_rate

    def _length(self, piece: slice, sfreq: float) -> int:
        up, down = self._ratio(sfreq)
        return -(-(piece.stop - piece.start) * up // down)

    def _coded(self, x: NDArray[Any], sfreq: float) -> NDArray[Any]:
        """Codes at the new rate: each sample gets the first code that is not 0 before the next sample."""
        up, down = self._ratio(sfreq)
        out = np.zeros((-(-len(x) * up // down), x.shape[1]), dtype=x.dtype)
        rows, columns = np.nonzero(x)
        # Written last to first, so that the first code stays.
        out[rows[::-1] * up // down, columns[::-1]] = x[rows, columns][::-1]
        return out

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
                fix=f"resample={sfreq / max(1, round(sfreq / wanted)):.10g}" if 0 < wanted < sfreq else None,
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
            count = self._length(piece, sfreq)
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


def _recording(ds: xr.Dataset) -> xr.DataArray:
    """Take the recording out of a Dataset with its provenance, and what is known of the line."""
    variable = ds[recording_variable(ds)]
    kept = provenance(ds) | {k: v for k, v in ds.attrs.items() if k == "line_freq"}
    return variable.assign_attrs(kept)


def _holds_codes(labels: Labels) -> NDArray[np.bool_]:
    """Which of the stacked columns hold codes, shape (n_columns,)."""
    dims, kinds = labels.coords.get("channel_type", ((), np.empty(0)))
    if dims != ("channel",):
        return np.zeros(labels.size, dtype=bool)
    shape = [len(kinds) if dim == "channel" else 1 for dim in labels.dims]
    codes = np.isin(kinds.astype(object), _CODES).reshape(shape)
    return np.broadcast_to(codes, labels.shape).ravel()


def recording_variable(ds: xr.Dataset) -> str:
    """Name the variable of a sensor recording; a SchemaError if it is none."""
    modality = modality_of(ds)
    if modality is None or "time" not in ds[MODALITIES[modality]].dims:
        raise SchemaError("Not a recording.", expected="a variable eeg, ieeg or meg over time", got=list(ds.data_vars))
    return MODALITIES[modality]
