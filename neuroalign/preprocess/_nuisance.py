"""What models of fMRI runs share: which volumes count, slow drift, confounds, and an orthonormal basis of them all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.polynomial import legendre
from numpy.typing import NDArray

from neuroalign.align import check_same_samples
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.preprocess.hrf import cosine_drift
from neuroalign.schema import RUN_NAMES, clock

#: Regressors whose part outside all others is smaller than this, relative to the largest, are copies of the others.
RANK_TOLERANCE = 1e-7
_CONSTANT = 1e-12  # relative to the offset: what rounding leaves of a column of equal numbers
_TILE_BYTES = 16 << 20


def tiles(n_times: int, n_sites: int) -> list[slice]:
    """Cut sites into pieces of about 16 MiB in float64."""
    width = max(1, _TILE_BYTES // (8 * max(n_times, 1)))
    return [slice(start, min(start + width, n_sites)) for start in range(0, n_sites, width)]


def used_volumes(obj: xr.Dataset | xr.DataArray, mask: Any = None) -> NDArray[np.bool_] | None:
    """Say which volumes count: the argument, and the coordinates ``sample_mask`` and ``valid`` along time.

    Parameters
    ----------
    obj : Dataset or DataArray
        A run.
    mask : array_like of bool, shape (n_times,), optional
        True where a volume is used.

    Returns
    -------
    ndarray of bool, shape (n_times,), or None
        None where nothing is said, which means all of them.
    """
    n = obj.sizes["time"]
    masks = [check_mask(mask, n)] if mask is not None else []
    for name in ("sample_mask", "valid"):
        if name in obj.coords and obj[name].dims == ("time",):
            masks.append(check_mask(obj[name].values, n))
    return np.logical_and.reduce(masks) if masks else None


def check_mask(mask: Any, n: int) -> NDArray[np.bool_]:
    """Refuse a mask that is not one bool a volume."""
    values = np.asarray(mask)
    if values.shape == (n,) and values.dtype == bool:
        return values
    raise ConfigError(
        "sample_mask does not fit the run.",
        expected=f"{n} bools, True where a volume is used",
        got=f"{values.dtype} of shape {values.shape}",
        fix="turn numbers of volumes into bools with np.isin(np.arange(n), numbers)"
        if values.dtype.kind in "iu"
        else None,
    )


def confound_table(obj: xr.Dataset | xr.DataArray, given: Any) -> tuple[NDArray[np.float64], list[str]]:
    """Find the confounds of a run.

    Parameters
    ----------
    obj : Dataset or DataArray
        The run; a Dataset may have a variable ``confounds`` with dims (time, confound).
    given : None, sequence of str, or array
        None takes all of the Dataset, names choose among them, and an array or DataArray stands for itself.

    Returns
    -------
    values : ndarray, shape (n_times, n_confounds)
        In their order.
    names : list of str
        Their names.
    """
    own = obj["confounds"] if isinstance(obj, xr.Dataset) and "confounds" in obj.data_vars else None
    if given is None or (isinstance(given, list | tuple) and all(isinstance(name, str) for name in given)):
        return _own_confounds(own, given, obj.sizes["time"])
    if isinstance(given, xr.DataArray) and "time" in given.dims and "time" in given.coords and "time" in obj.coords:
        check_same_samples(obj if isinstance(obj, xr.DataArray) else obj["bold"], given)
    return _array_confounds(given, obj.sizes["time"])


def _own_confounds(
    own: xr.DataArray | None, names: Sequence[str] | None, n: int
) -> tuple[NDArray[np.float64], list[str]]:
    if own is None and names:
        raise ConfigError(
            "The run has no confounds.",
            expected="a Dataset with a variable confounds (time, confound)",
            got=f"confounds={list(names)}",
            fix="load it with its confounds (read_bids on a derivative), or pass them as an array",
        )
    if own is None or (names is not None and not names):
        return np.empty((n, 0)), []
    known = [str(name) for name in own["confound"].values] if "confound" in own.coords else None
    if names is None:
        return _array_confounds(own, n)
    if known is None or (missing := [name for name in names if name not in known]):
        raise ConfigError("There are no such confounds.", expected=f"some of {known}", got=missing if known else names)
    return _array_confounds(own.isel(confound=[known.index(name) for name in names]), n)


def _array_confounds(given: Any, n: int) -> tuple[NDArray[np.float64], list[str]]:
    table = given.transpose("time", ...) if isinstance(given, xr.DataArray) and "time" in given.dims else given
    values = np.asarray(table, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != n:
        raise AlignmentError(
            "The confounds do not fit the run.", expected=f"({n}, n_confounds), one row a volume", got=values.shape
        )
    if isinstance(table, xr.DataArray) and "confound" in table.coords:
        return values, [str(name) for name in table["confound"].values]
    if isinstance(table, pd.DataFrame):
        return values, [str(name) for name in table]
    return values, [f"confound{k}" for k in range(values.shape[1])]


def run_slices(obj: xr.DataArray | xr.Dataset) -> list[slice]:
    """Cut time into runs: where a label of the run changes, and where the clock does not go on.

    A step of more than one sample is no edge: it stands for volumes that were taken out of the same run.
    """
    n = obj.sizes["time"]
    edge = np.zeros(max(n - 1, 0), dtype=bool)
    for name in RUN_NAMES:
        if name in obj.coords and obj[name].dims == ("time",):
            edge |= np.diff(pd.factorize(obj[name].values)[0]) != 0
    if "time" in obj.coords and n > 1:
        edge |= np.diff(clock(obj)[0]) <= 0
    starts = [0, *(np.flatnonzero(edge) + 1).tolist(), n]
    return [slice(a, b) for a, b in itertools.pairwise(starts)]


def slow_regressors(
    samples: NDArray[np.int64], sfreq: float | None, order: int, high_pass: float | None
) -> NDArray[np.float64]:
    """Polynomials of time and slow cosines, without the constant.

    Parameters
    ----------
    samples : ndarray of int, shape (n_times,)
        Sample numbers of the volumes of one run; gaps are volumes that were taken out.
    sfreq : float or None
        Sampling rate in Hz, needed for cosines.
    order : int
        Highest power of time: 0 for none, 1 for a line, 2 for a parabola, ...
    high_pass : float or None
        Cosines cover the frequencies below this (Hz).

    Returns
    -------
    ndarray, shape (n_times, n_regressors)
        Columns of about equal size.
    """
    if isinstance(order, bool) or not isinstance(order, int | np.integer) or not 0 <= order <= 10:
        raise ConfigError("Not an order of drift.", expected="a whole number from 0 to 10", got=order)
    steps = samples - samples[0]
    n = int(steps[-1]) + 1
    columns = [legendre.legvander(2 * steps / max(n - 1, 1) - 1, int(order))[:, 1:]]
    if high_pass is not None:
        if sfreq is None or not 0 < high_pass < sfreq / 2:
            limit = "half the sampling rate" if sfreq is None else f"{sfreq / 2:g}"
            raise ConfigError("Not a high-pass edge.", expected=f"0 to {limit} Hz or None", got=high_pass)
        columns.append(cosine_drift(n, sfreq, high_pass)[steps])
    return np.column_stack(columns)


def nuisance_basis(regressors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal columns that span the constant and all regressors, whatever their offsets, sizes and copies.

    Parameters
    ----------
    regressors : ndarray, shape (n_times, n_regressors)
        Any columns; those that repeat others, or are constant, add nothing.

    Returns
    -------
    ndarray, shape (n_times, rank)
        The first column is the constant.

    Raises
    ------
    SchemaError
        If a value is not finite.
    """
    n = len(regressors)
    constant = np.full((n, 1), 1 / np.sqrt(n))
    if not np.isfinite(regressors).all():
        raise SchemaError(
            "A confound is missing in a volume that is used.",
            expected="finite confounds",
            got=f"NaN or Inf in {int((~np.isfinite(regressors)).any(axis=1).sum())} of {n} volumes",
            fix="leave these volumes out with sample_mask, or choose other confounds (derivatives lack the first)",
        )
    # Centred before they are scaled: an offset of 1e4 would hide a confound that varies by 1e-3.
    centred = regressors - regressors.mean(axis=0)
    centred -= centred.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    real = size > _CONSTANT * np.linalg.norm(regressors, axis=0)
    if not real.any():
        return constant
    u, s, _ = np.linalg.svd(centred[:, real] / size[real], full_matrices=False)
    return np.column_stack([constant, u[:, s > RANK_TOLERANCE * s[0]]])


def check_sites(y: NDArray[Any]) -> None:
    """Let sites through that are missing throughout (they stay NaN); refuse those that are missing in part."""
    if np.isfinite(y.sum(axis=0, dtype=np.float64)).all():
        return
    broken = ~np.isfinite(y).all(axis=0) & ~np.isnan(y).all(axis=0)
    if broken.any():
        raise SchemaError(
            "The run holds NaN or Inf.",
            expected="finite values, or sites that are NaN throughout the run",
            got=f"{int(broken.sum())} sites with some values that are not finite",
            fix="leave the volumes out with a coordinate sample_mask (True where used), or drop these sites",
        )
