"""Temporal response functions with labels: the body of `TRFEncoder` and `TRFDecoder`."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.stats
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from neuroalign.align import check_same_samples, segment_slices
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.evaluation.folds import refuse_closed_form, resolve_cv
from neuroalign.linear._grid import AlphaGrid, GridModel
from neuroalign.linear._ridge import LinearModel, pair_labels
from neuroalign.protocol import Labels, Samples, check_shape, open_samples, read_labels, segment_labels
from neuroalign.solvers import default_alphas, trf_cv, trf_errors, trf_lags, trf_predict

#: A single run is cut into this many stretches, so that there is something to leave out.
N_STRETCHES = 5


class TRFModel(GridModel, LinearModel):  # type: ignore[override]
    """Ridge regression on lagged features; see `neuroalign.encoding.TRFEncoder`."""

    # +1: the input leads (an encoder looks into the stimulus' past); -1: the input follows (a decoder looks into
    # the brain's future).
    _direction = 1

    def __init__(
        self,
        *,
        tmin: float = 0.0,
        tmax: float = 0.0,
        sfreq: float | None = None,
        alphas: ArrayLike | AlphaGrid | None = None,
        cv: Any = None,
        scorer: Any = "r",
        nan: str = "mask",
        unlabelled: str = "refuse",
    ) -> None:
        self.tmin = tmin
        self.tmax = tmax
        self.sfreq = sfreq
        self.alphas = alphas
        self.cv = cv
        self.scorer = scorer
        self.nan = nan
        self.unlabelled = unlabelled

    @property
    def lags_(self) -> NDArray[np.float64]:
        """Lags in s by which the response follows the stimulus."""
        return np.sort(self._direction * self.lag_samples_) / (self.sfreq_ or 1.0)

    @property
    def coef_(self) -> Any:
        """Weights: DataArray (*feature dims, lag, *target dims), or array (n_features, n_lags, *targets)."""
        return self._with_lags(self.solution_coef_)

    def _with_lags(self, values: NDArray[Any]) -> Any:
        """Label an array of shape (n_lags, n_features, known targets)."""
        by_lag = values[:: self._direction]  # so that lags increase
        full = self._full(np.moveaxis(by_lag, 0, 1))  # (feature, lag, target)
        features, targets = self.feature_labels_, self.target_labels_
        if not self.labelled_:
            return full.reshape(*full.shape[:2], *targets.shape)
        coords = {**features.coords, "lag": (("lag",), self.lags_)}
        inputs = Labels((*features.dims, "lag"), (*features.shape, len(self.lags_)), coords)
        return pair_labels(inputs, targets).wrap(full)

    def _fit(self, X: NDArray[Any], Y: NDArray[Any], samples: Samples, groups: ArrayLike | None) -> None:
        self.sfreq_ = self._rate(samples)
        self.lag_samples_ = self._lag_samples()
        runs = self._runs(samples, groups)
        pieces, grid = self._stretches(runs, samples, groups), self._given_alphas()
        result = trf_cv(
            [X[p] for p in pieces],
            [Y[p] for p in pieces],
            lags=self.lag_samples_,
            alphas=default_alphas(X, standardize=self.standardize) if grid is None else grid,
            folds=self._folds(pieces, samples, groups),
            scorer=self.scorer,
            alpha_per_target=self.alpha_per_target,
            standardize=self.standardize,
            runs=[next(n for n, run in enumerate(runs) if piece.start < run.stop) for piece in pieces],
            gap=int(np.ptp(self.lag_samples_)),  # between stretches of the only run; runs of their own have none
        )
        self._store(result, Y)  # coef (n_lags, n_features, n_targets)

    def _stored(self) -> dict[str, tuple[str, Labels]]:
        features, lags = self.feature_labels_, self._direction * self.lag_samples_ / (self.sfreq_ or 1.0)
        coords = {**features.coords, "lag": (("lag",), lags)}
        labels = Labels(("lag", *features.dims), (len(lags), *features.shape), coords)
        return super()._stored() | {"coef": ("solution_coef_", labels)}

    def _predict(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        if samples.sfreq is not None and self.sfreq_ and abs(samples.sfreq - self.sfreq_) > 1e-6 * self.sfreq_:
            raise SchemaError(
                "X has another sampling rate than at fit.", expected=f"{self.sfreq_:g} Hz", got=f"{samples.sfreq:g} Hz"
            )
        return self._respond(X, samples).astype(X.dtype, copy=False)

    def _respond(self, X: NDArray[Any], samples: Samples) -> NDArray[np.float64]:
        pieces = segment_slices(segment_labels(samples), samples.n)
        parts = [trf_predict(X[piece], self.solution_coef_, lags=self.lag_samples_) for piece in pieces]
        return np.asarray(np.concatenate(parts) + self.solution_intercept_)

    def _reach(self, X: Any, y: Any, level: float, n_resamples: int, random_state: Any) -> NDArray[np.float64]:
        """Half the width of intervals of the weights, (n_lags, n_features, n_targets)."""
        check_is_fitted(self)
        values, samples = self._open_x(X, fitting=False)
        targets, along = self._open_known_y(X, y)
        check_consistent_length(values, targets)
        samples = replace(samples, coords={**along, **samples.coords})
        pieces = self._stretches(self._runs(samples, None), samples, None)
        errors = trf_errors(
            [values[piece] for piece in pieces],
            [targets[piece] for piece in pieces],
            lags=self.lag_samples_,
            alphas=self.solution_alphas_,
            standardize=self.standardize,
            n_resamples=n_resamples,
            random_state=random_state,
        )
        quantile = scipy.stats.t.ppf((1 + level) / 2, len(pieces) - 1)
        return np.asarray(errors * quantile)

    def _open_known_y(self, X: Any, y: Any) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Targets that were learned, and the labels of their samples; refused where they are not those of the fit."""
        self._check_labels(isinstance(X, xr.DataArray), isinstance(y, xr.DataArray))
        along: dict[str, NDArray[Any]] = {}
        if isinstance(y, xr.DataArray):
            if isinstance(X, xr.DataArray):
                check_same_samples(X, y)
            values, samples, labels = open_samples(self.target_labels_.arrange(y))
            self.target_labels_.check_same(labels, "The targets of y")
            along = samples.coords
        else:
            values = np.asarray(y).reshape(len(y), -1)
            if values.shape[1] != self.target_labels_.size:
                raise SchemaError(
                    "y has other targets than at fit.",
                    expected=f"{self.target_labels_.size} targets",
                    got=f"{values.shape[1]} targets",
                    where="y",
                )
        return np.ascontiguousarray(values[:, ~self.masked_targets_]), along

    _state_names = LinearModel._state_names | {"sfreq_", "lag_samples_"}

    def _check_state(self) -> None:
        super()._check_state()
        if not isinstance(self.sfreq_, float | None) or np.ndim(self.lag_samples_) != 1:
            raise ValueError("sfreq_ or lag_samples_ is not what it should be")
        check_shape(self, "lag_samples_", (len(self.lag_samples_),))
        shape = (len(self.lag_samples_), self.n_features_in_, self.solution_alphas_.size)
        check_shape(self, "solution_coef_", shape, finite=self._learned())

    def _rate(self, samples: Samples) -> float | None:
        if samples.dim not in (None, "time", "sample"):
            raise SchemaError(
                "A temporal response function needs one long time series.",
                expected="samples along time, with a coordinate run where there are several runs or trials",
                got=f"samples along {samples.dim}",
                fix="put the trials after one another with neuroalign.align.concat",
            )
        if self.sfreq is not None and not (np.isfinite(self.sfreq) and self.sfreq > 0):
            raise ConfigError("Not a sampling rate.", expected="sfreq > 0 Hz", got=self.sfreq)
        rate = self.sfreq if self.sfreq is not None else samples.sfreq
        if rate is None and (self.tmin, self.tmax) != (0, 0):
            raise ConfigError(
                "No sampling rate.", expected="a time coordinate, or sfreq= in Hz", got=None, fix="pass sfreq="
            )
        if self.sfreq is not None and samples.sfreq is not None and abs(self.sfreq - samples.sfreq) > 1e-6 * self.sfreq:
            raise ConfigError(
                "sfreq contradicts the time coordinate.", expected=f"{samples.sfreq:g} Hz", got=f"{self.sfreq:g} Hz"
            )
        return None if rate is None else float(rate)

    def delay_span(self, X: Any) -> int:
        """Say how many samples lie between the first and the last lag.

        Parameters
        ----------
        X : DataArray or array
            What the model is to be fitted on.

        Returns
        -------
        int
            What folds leave out beside test samples.
        """
        rate = self._rate(read_labels(X)[0] if isinstance(X, xr.DataArray) else Samples(len(X)))
        return int(np.ptp(trf_lags(self.tmin, self.tmax, rate or 1.0)))

    def _lag_samples(self) -> NDArray[np.intp]:
        return np.sort(self._direction * trf_lags(self.tmin, self.tmax, self.sfreq_ or 1.0))

    def _runs(self, samples: Samples, groups: ArrayLike | None) -> list[slice]:
        """Unbroken runs; the groups of a plain array count as runs."""
        if groups is not None and np.shape(groups) != (samples.n,):
            raise SchemaError("Not one group a sample.", expected=(samples.n,), got=np.shape(groups), where="groups")
        if samples.dim is not None or groups is None:
            return segment_slices(segment_labels(samples), samples.n)
        return segment_slices(_changes(groups), samples.n)

    def _stretches(self, runs: list[slice], samples: Samples, groups: ArrayLike | None) -> list[slice]:
        """What folds may leave out: runs, or stretches of the only run (cut where its group changes)."""
        if len(runs) > 1:
            return runs
        if groups is not None and len(cut := segment_slices(_changes(groups), samples.n)) > 1:
            return cut
        edges = np.linspace(0, samples.n, min(N_STRETCHES, samples.n) + 1).astype(int)
        return [slice(a, b) for a, b in itertools.pairwise(edges.tolist())]

    def _folds(self, pieces: list[slice], samples: Samples, groups: ArrayLike | None) -> list[Any]:
        """Folds over stretches: what is left out is always a whole run (or a stretch of the only run)."""
        labels = groups
        if isinstance(self.cv, str):
            labels = samples.get(self.cv)
            if labels is None:
                refuse_closed_form(self.cv)
                raise ConfigError(
                    "No such coordinate.", expected=f"one of {sorted(samples.coords)}", got=self.cv, where="cv"
                )
        index = np.arange(len(pieces))[:, None]
        if labels is None:
            return resolve_cv(min(N_STRETCHES, len(pieces)) if self.cv is None else self.cv, index)
        of_piece = [np.unique(np.asarray(labels)[p]) for p in pieces]
        if any(len(values) > 1 for values in of_piece):
            raise ConfigError(
                "A run holds several groups.", expected="one group a run", got=[v.tolist() for v in of_piece][:5]
            )
        first = np.array([values[0] for values in of_piece])
        if isinstance(self.cv, str) and len(np.unique(first)) < 2 and len(pieces) > 1:
            first = index[:, 0]  # the only run was cut into stretches
        return resolve_cv(len(np.unique(first)) if isinstance(self.cv, str) else self.cv, index, None, first)


def _changes(groups: ArrayLike) -> NDArray[np.int64]:
    """Number the stretches of equal groups."""
    values = np.asarray(groups)
    return np.cumsum(np.r_[False, values[1:] != values[:-1]])
