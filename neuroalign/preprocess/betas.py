"""One response a trial, estimated from an fMRI run by least squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from neuroalign.align import concat
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.preprocess import _nuisance
from neuroalign.preprocess.hrf import event_regressors
from neuroalign.protocol import open_samples
from neuroalign.schema import clock, stamp
from neuroalign.schema._names import OF_SITES, table_along
from neuroalign.schema._provenance import provenance

__all__ = ["METHODS", "SingleTrialBetas", "all_trials", "separate_trials", "volume_times"]

_FROM_ATTRS = ("subject", "session", "task", "run")


def all_trials(trials: NDArray[Any], nuisance: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Least squares - all: every trial is a regressor of one joint model.

    Parameters
    ----------
    trials : ndarray, shape (n_times, n_trials)
        Predicted response to each trial.
    nuisance : ndarray, shape (n_times, n_nuisance)
        Drift, confounds and intercept.
    y : ndarray, shape (n_times, n_targets)
        Measured responses.

    Returns
    -------
    ndarray, shape (n_trials, n_targets)
        Betas.

    Raises
    ------
    SchemaError
        If the trials cannot be told apart.
    """
    design = np.column_stack([trials, nuisance])
    # Equal lengths make the rank independent of the unit of the regressors.
    size = np.linalg.norm(design, axis=0)
    size[size == 0] = 1.0  # a trial in volumes that are left out
    betas, _, rank, _ = np.linalg.lstsq(design / size, y.astype(np.float64), rcond=1e-7)
    if rank < design.shape[1]:
        raise SchemaError(
            "The trials cannot be told apart.",
            expected=f"{design.shape[1]} independent regressors ({trials.shape[1]} trials and nuisance)",
            got=f"rank {rank} in {len(design)} volumes",
            fix="method='lss' estimates each trial against the sum of the others; or drop trials that coincide",
        )
    return (betas / size[:, None])[: trials.shape[1]]


def separate_trials(trials: NDArray[Any], nuisance: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Least squares - separate: one model a trial, with the sum of all other trials as second regressor.

    Parameters
    ----------
    trials, nuisance, y : ndarray
        As in `all_trials`.

    Returns
    -------
    ndarray, shape (n_trials, n_targets)
        Betas.

    Raises
    ------
    SchemaError
        If a trial coincides with the sum of the others, or with drift.
    """
    # Residuals of everything on the nuisance regressors leave models of two regressors, solved in closed form.
    basis, _ = np.linalg.qr(nuisance)
    x = trials - basis @ (basis.T @ trials)
    z = y - basis @ (basis.T @ y)
    others = x.sum(axis=1, keepdims=True) - x if x.shape[1] > 1 else np.zeros_like(x)
    a, b, c = (x * x).sum(axis=0), (x * others).sum(axis=0), (others * others).sum(axis=0)
    c[c == 0] = 1.0  # a single trial has no others
    determinant = a * c - b * b
    poor = (a <= 1e-9 * (trials**2).sum(axis=0)) | (determinant <= 1e-9 * a * c)
    if poor.any():
        raise SchemaError(
            "A trial cannot be told from the others or from drift.",
            expected="regressors that differ",
            got=f"trials {np.flatnonzero(poor)[:10].tolist()}",
            fix="drop these trials, or lower high_pass",
        )
    return (c[:, None] * (x.T @ z) - b[:, None] * (others.T @ z)) / determinant[:, None]


#: Name -> function of (trials, nuisance, y).
METHODS: dict[str, Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[np.float64]]] = {
    "lsa": all_trials,
    "lss": separate_trials,
}


class SingleTrialBetas(TransformerMixin, BaseEstimator):
    """Responses to single trials from fMRI runs with events.

    Each run gets its own model: one regressor a trial (its boxcar through the haemodynamic response), cosines for
    drift, confounds and an intercept.

    Parameters
    ----------
    hrf : {'spm', 'glover'} or callable
        As in `neuroalign.preprocess.get_hrf`.
    high_pass : float or None
        Drift slower than this (Hz) is taken up by cosines; None leaves only the intercept.
    method : {'lsa', 'lss'}
        All trials in one model, or one model a trial (better where trials follow each other closely).
    confounds : None or sequence of str
        Confounds in each model, by name; None takes all that a run has (its variable ``confounds``), an empty list
        takes none.

    Notes
    -----
    A beta is the height of the response that a trial of unlimited length would reach, in the unit of the data. Events
    of duration 0 count as impulses of unit area. Volumes are taken at ``time + start_time`` (attrs), which is the
    reference of slice timing correction in BIDS derivatives. Volumes that the coordinates ``sample_mask`` or ``valid``
    mark as False are left out of the fit. Sites that are NaN throughout a run have no betas (NaN) in it.

    References
    ----------
    .. [1] Mumford, J. A., et al. (2012). Deconvolving BOLD activation in event-related designs for multivoxel pattern
       classification analyses. NeuroImage 59.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from neuroalign.preprocess.hrf import event_regressors
    >>> from neuroalign.schema import fmri_regions
    >>> events = pd.DataFrame({"onset": [4.0, 20.0], "duration": [2.0, 2.0], "stimulus_id": ["cat", "dog"]})
    >>> truth = np.array([[2.0], [3.0]])
    >>> bold = 100 + event_regressors("spm", events["onset"], events["duration"], np.arange(60.0)) @ truth
    >>> run = fmri_regions(bold, roi=["V1"], tr=1.0, events=events)
    >>> betas = SingleTrialBetas().fit_transform(run)
    >>> betas.values.round(3).ravel().tolist(), betas["stimulus_id"].values.tolist()
    ([2.0, 3.0], ['cat', 'dog'])
    """

    def __init__(
        self,
        hrf: str | Callable[[NDArray[np.float64]], ArrayLike] = "spm",
        *,
        high_pass: float | None = 0.01,
        method: str = "lsa",
        confounds: Sequence[str] | None = None,
    ) -> None:
        self.hrf = hrf
        self.high_pass = high_pass
        self.method = method
        self.confounds = confounds

    def fit(self, X: Any, y: Any = None) -> Self:
        """Do nothing; each run is estimated on its own by `transform`.

        Parameters
        ----------
        X : Dataset or DataTree
            Not looked at.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The transformer.
        """
        return self

    def transform(self, X: xr.Dataset | xr.DataTree) -> xr.DataArray:
        """Estimate the response to each trial.

        Parameters
        ----------
        X : Dataset or DataTree
            Runs with ``bold`` (time first) and events: coordinates ``onset`` (s after the first volume), ``duration``
            and any others along ``event``. Where ``bold`` has a coordinate ``run`` along time, the events need one.

        Returns
        -------
        DataArray
            Dims (trial, *sites). Every event column is a trial coordinate, with run, session and subject from attrs.

        Raises
        ------
        AlignmentError
            If there are no events, or one lies outside the run.
        SchemaError
            If trials cannot be told apart, or values or confounds are missing in volumes that are used.
        """
        if self.method not in METHODS:
            raise ConfigError("Unknown method.", expected=" or ".join(METHODS), got=self.method)
        if not isinstance(X, xr.Dataset | xr.DataTree):
            raise SchemaError(
                "Single-trial responses need a run with its events.",
                expected="a Dataset (or a DataTree of runs) with bold and events",
                got=type(X).__name__,
                fix="pass the Dataset itself, not its variable bold",
            )
        if isinstance(X, xr.DataTree):
            runs = [node.to_dataset() for node in X.leaves if "bold" in node.data_vars]
        else:
            runs = [X]
        if not runs or any("bold" not in run.data_vars for run in runs):
            raise AlignmentError("There is no fMRI run.", expected="a variable bold", got=list(X.data_vars))
        pieces = [self._one_run(run, table) for ds in runs for run, table in _split(ds)]
        out = pieces[0] if len(pieces) == 1 else concat([p.to_dataset(name="bold") for p in pieces])["bold"]
        return stamp(
            out,
            "SingleTrialBetas",
            hrf=self.hrf if isinstance(self.hrf, str) else getattr(self.hrf, "__name__", "callable"),
            high_pass=self.high_pass,
            method=self.method,
            confounds=None if self.confounds is None else list(self.confounds),
        )

    def _one_run(self, ds: xr.Dataset, table: pd.DataFrame) -> xr.DataArray:
        samples, sfreq = clock(ds)
        values, _, labels = open_samples(ds["bold"], "time")
        times = volume_times(ds)
        onset, duration = (_seconds(table, name) for name in ("onset", "duration"))
        _check_inside(table, onset, times, 1 / sfreq)
        mask = _nuisance.used_volumes(ds)
        keep = np.arange(len(times)) if mask is None else np.flatnonzero(mask)
        nuisance = self._nuisance(ds, samples, sfreq)[keep]
        if not keep.size:
            raise SchemaError("No volume of the run is used.", expected="some True in sample_mask", got="none")
        basis = _nuisance.nuisance_basis(nuisance)
        trials = event_regressors(self.hrf, onset, duration, times)[keep]
        betas = np.empty((len(table), values.shape[1]), dtype=np.float32)
        for sites in _nuisance.tiles(len(keep), values.shape[1]):
            betas[:, sites] = _estimate(METHODS[self.method], trials, basis, values[keep, sites])
        coords = dict(labels.coords) | {"trial": (("trial",), np.arange(len(table)))}
        coords |= {str(name): (("trial",), _plain(table[name])) for name in table}
        dims, shape = ("trial", *labels.dims), (len(table), *labels.shape)
        out = xr.DataArray(betas.reshape(shape), dims=dims, coords=coords, name="bold")
        kept = ("units", "space", "atlas", *OF_SITES)
        attrs = provenance(ds) | {k: v for k, v in ds.attrs.items() if k in kept}
        return out.assign_attrs(attrs, estimated_by=f"neuroalign SingleTrialBetas ({self.method})")

    def _nuisance(self, ds: xr.Dataset, samples: NDArray[np.int64], sfreq: float) -> NDArray[np.float64]:
        slow = _nuisance.slow_regressors(samples, sfreq, 0, self.high_pass)
        return np.column_stack([slow, _nuisance.confound_table(ds, self.confounds)[0]])


def volume_times(ds: xr.Dataset) -> NDArray[np.float64]:
    """When each volume was taken, in s after the start of the run (the zero of its events).

    Parameters
    ----------
    ds : Dataset
        A run; ``start_time`` in its attrs is when slice timing correction placed its first volume.

    Returns
    -------
    ndarray, shape (n_times,)
        Seconds.
    """
    samples, sfreq = clock(ds)
    return (samples - int(ds.attrs.get("first_sample", 0))) / sfreq + float(ds.attrs.get("start_time", 0.0))


def _estimate(
    method: Callable[..., NDArray[np.float64]], trials: NDArray[Any], basis: NDArray[Any], y: NDArray[Any]
) -> NDArray[np.float64]:
    """Betas of some sites; those that are NaN throughout stay NaN."""
    _nuisance.check_sites(y)
    there = ~np.isnan(y[0])
    out = np.full((trials.shape[1], y.shape[1]), np.nan)
    if there.any():
        out[:, there] = method(trials, basis, y[:, there])
    return out


def _plain(column: pd.Series) -> NDArray[Any]:
    values = column.to_numpy()
    return values if values.dtype.kind in "biuf" else np.array([str(v) for v in values], dtype=object)


def _seconds(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    values = table[name].to_numpy()
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all() or (name == "duration" and (values < 0).any()):
        raise AlignmentError(
            f"The column {name} of the events is not in seconds.",
            expected="finite numbers" + (" of 0 or more" if name == "duration" else ""),
            got=values[:5].tolist(),
        )
    return values.astype(np.float64)


def _split(ds: xr.Dataset) -> list[tuple[xr.Dataset, pd.DataFrame]]:
    """Each run with its events."""
    table = _events(ds)
    if "run" not in ds.coords or ds["run"].dims != ("time",):
        return [(ds, table)]
    runs = ds["run"].values.astype(str)
    names = list(dict.fromkeys(runs.tolist()))
    if "run" not in table or set(table["run"].astype(str)) - set(names):
        raise AlignmentError(
            "The events cannot be given to runs.",
            expected=f"an event column run with values from {names}",
            got=sorted(set(table["run"].astype(str))) if "run" in table else f"columns {list(table)}",
            fix="keep the runs apart, as read_bids gives them (a DataTree)",
        )
    pairs = []
    for name in names:
        rows = table["run"].astype(str) == name
        if rows.any():
            pairs.append((ds.isel(time=np.flatnonzero(runs == name)), table[rows].reset_index(drop=True)))
    return pairs


def _events(ds: xr.Dataset) -> pd.DataFrame:
    frame = table_along(ds, "event")
    if not {"onset", "duration"} <= set(frame) or frame.empty:
        raise AlignmentError(
            "The run has no events.",
            expected="coordinates onset and duration (and stimulus_id, ...) along event",
            got=f"coordinates {list(ds.coords)}",
            fix="load it with its events.tsv (read_bids), or pass events= to neuroalign.schema.fmri_masked",
        )
    missing = {name: str(ds.attrs[name]) for name in _FROM_ATTRS if name in ds.attrs and name not in frame}
    return frame.assign(**missing)


def _check_inside(table: pd.DataFrame, onset: NDArray[Any], times: NDArray[Any], tr: float) -> None:
    outside = (onset < times[0] - tr) | (onset >= times[-1])
    if outside.any():
        rows = np.flatnonzero(outside)[:10].tolist()
        ids = table["stimulus_id"].to_numpy() if "stimulus_id" in table else np.arange(len(table))
        raise AlignmentError(
            f"{int(outside.sum())} of {len(onset)} events start outside the run.",
            expected=f"onsets from {times[0]:g} to {times[-1]:g} s",
            got=", ".join(f"event {row} ({ids[row]}) at {onset[row]:g} s" for row in rows),
            fix="check the unit of onset (seconds), or drop these events with ds.isel(event=...)",
        )
