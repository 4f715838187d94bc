"""`rdm`: from measured or computed patterns to representational dissimilarity matrices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, overload

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError, warn
from neuroalign.rsa import _distances, _noise
from neuroalign.rsa._patterns import Patterns, from_array, from_labelled
from neuroalign.rsa.form import labelled
from neuroalign.schema import sample_dim, stamp

__all__ = ["rdm"]

METHODS = (*_distances.DISTANCES, "crossnobis")
_SQUARED = ("sqeuclidean", "mahalanobis", "crossnobis")


@overload
def rdm(
    data: xr.DataArray,
    *,
    method: str | None = ...,
    condition: str | ArrayLike | None = ...,
    noise: str | ArrayLike | None = ...,
    folds: str | ArrayLike | None = ...,
    dim: str | Iterable[str] | None = ...,
) -> xr.DataArray: ...
@overload
def rdm(
    data: NDArray[Any],
    *,
    method: str | None = ...,
    condition: str | ArrayLike | None = ...,
    noise: str | ArrayLike | None = ...,
    folds: str | ArrayLike | None = ...,
    dim: str | Iterable[str] | None = ...,
) -> NDArray[np.floating]: ...
def rdm(
    data: xr.DataArray | NDArray[Any],
    *,
    method: str | None = None,
    condition: str | ArrayLike | None = None,
    noise: str | ArrayLike | None = None,
    folds: str | ArrayLike | None = None,
    dim: str | Iterable[str] | None = None,
) -> xr.DataArray | NDArray[np.floating]:
    """Compute representational dissimilarity matrices.

    Rows of the same condition are averaged first (or kept apart by fold for crossnobis). A ``time`` dimension is
    kept: one RDM for each time. Rows whose coordinate ``valid`` is false are left out.

    Parameters
    ----------
    data : DataArray or ndarray, shape (..., n_rows, n_features)
        A sample dimension (stimulus, trial, ...) and features (channel, voxel, unit, ...; several are taken
        together).
    method : {"euclidean", "sqeuclidean", "correlation", "cosine", "mahalanobis", "crossnobis"}, optional
        The dissimilarity. "mahalanobis" and "crossnobis" are squared and divided by the number of features; the
        others are not. "crossnobis" is cross-validated over `folds`: unbiased, so it may be negative, and it is
        never clipped nor rooted. By default "crossnobis" when folds are given or when a coordinate ``run`` holds
        repeats of the conditions, else "euclidean".
    condition : str or array_like of shape (n_rows,), optional
        The coordinate that names the condition of each row; by default ``stimulus_id``, ``stimulus`` or
        ``condition``. Rows that are conditions of their own keep their order; repeated ones come out sorted.
    noise : {"diagonal", "ledoit_wolf", "full"} or array_like, optional
        Noise covariance that "mahalanobis" and "crossnobis" whiten with, estimated from the repeats with
        n_rows - n_conditions degrees of freedom (n_rows - n_cells when most condition-by-fold cells hold repeats)
        and averaged over times; or a covariance (n_features, n_features) or variances (n_features,). Without it,
        crossnobis is the cross-validated squared Euclidean distance.
    folds : str or array_like of shape (n_rows,), optional
        The coordinate, such as ``run``, whose values have independent noise.
    dim : str or sequence of str, optional
        The feature dimensions; by default all but the sample dimension and subject, session, model, layer, time.

    Returns
    -------
    DataArray, dims (..., pair), or ndarray of shape (..., n_pairs)
        The upper triangle, row by row; ndarray in, ndarray out. A DataArray has the coordinates ``condition_a``
        and ``condition_b``, and attrs ``method``, ``units``, ``n_channels``, ``cross_validated``, ``noise``.

    Raises
    ------
    SchemaError
        If conditions, features or folds cannot be told, or the noise cannot be estimated.
    ConfigError
        If the method or its options do not exist or do not go together.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008), Front Syst Neurosci 2:4. Walther et al. (2016), NeuroImage 137:188.

    Examples
    --------
    >>> patterns = xr.DataArray([[0.0, 0.0], [3.0, 4.0]], {"stimulus": ["cat", "car"]}, ("stimulus", "unit"))
    >>> rdm(patterns, method="euclidean").values
    array([5.])
    """
    if isinstance(data, xr.DataArray):
        _refuse_dataset_options(condition, folds)
        if folds is None and method in (None, "crossnobis"):
            folds = _default_folds(data, condition, method)
        patterns = from_labelled(data, condition, folds, dim)
    else:
        if isinstance(condition, str) or isinstance(folds, str) or dim is not None:
            raise ConfigError(
                "A plain array has no coordinates to name.",
                got=f"condition={condition!r}, folds={folds!r}, dim={dim!r}",
                fix="pass one label for each row, or a DataArray",
            )
        patterns = from_array(np.asarray(data), condition, folds)
    method = method or ("euclidean" if patterns.folds is None else "crossnobis")
    _check_options(method, noise, patterns)
    covariance = _covariance(patterns, noise)
    values = _crossnobis(patterns, covariance) if method == "crossnobis" else _plain(patterns, method, covariance)
    if not isinstance(data, xr.DataArray):
        return values
    return _label(values, data, patterns, method, noise)


def _refuse_dataset_options(condition: object, folds: object) -> None:
    for name, value in (("condition", condition), ("folds", folds)):
        if isinstance(value, xr.DataArray):
            raise ConfigError(f"{name}= takes the name of a coordinate.", got="a DataArray", fix=f"pass {name}='...'")


def _default_folds(data: xr.DataArray, condition: str | ArrayLike | None, method: str | None) -> str | None:
    """Take runs as folds when they repeat the conditions: cross-validated distances have no noise bias."""
    sample = sample_dim(data)
    if "run" not in data.coords or data["run"].dims != (sample,):
        return None
    rows = xr.zeros_like(data.isel({d: slice(1) for d in data.dims if d != sample}), dtype=np.float32)
    counts = _counts(from_labelled(rows, condition, "run", [str(d) for d in data.dims if d != sample]))
    return "run" if method == "crossnobis" or ((counts > 0).sum(0) >= 2).all() else None


def _check_options(method: str, noise: object, patterns: Patterns) -> None:
    if method not in METHODS:
        raise ConfigError("Unknown dissimilarity.", expected=", ".join(METHODS), got=method)
    if method == "crossnobis" and patterns.folds is None:
        raise ConfigError(
            "Cross-validated distances need folds with independent noise.",
            fix="name the coordinate: rdm(data, method='crossnobis', folds='run')",
        )
    if method == "mahalanobis" and noise is None:
        raise ConfigError(
            "Mahalanobis distances need the noise.",
            expected="noise='ledoit_wolf', 'diagonal', 'full' or a covariance matrix",
            got="noise=None",
            fix="without noise this is method='sqeuclidean' divided by the number of features",
        )
    if noise is not None and method not in ("mahalanobis", "crossnobis"):
        raise ConfigError(
            f"noise= has no effect on method={method!r}.",
            fix="use method='mahalanobis' or 'crossnobis', or drop noise=",
        )


def _counts(patterns: Patterns) -> NDArray[np.int64]:
    """Count rows by fold and condition: (n_folds, n_conditions)."""
    folds = np.zeros_like(patterns.codes) if patterns.folds is None else patterns.folds
    counts = np.zeros((int(folds.max()) + 1, len(patterns.names)), dtype=np.int64)
    np.add.at(counts, (folds, patterns.codes), 1)
    return counts


def _covariance(patterns: Patterns, noise: str | ArrayLike | None) -> NDArray[np.floating] | None:
    if noise is None:
        return None
    p = patterns.values.shape[-1]
    if not isinstance(noise, str):
        given = np.asarray(noise, dtype=np.float64)
        if given.shape not in ((p, p), (p,)):
            raise SchemaError("Wrong size of noise=.", expected=f"({p}, {p}) or ({p},)", got=given.shape)
        return given
    counts = _counts(patterns)
    groups, n = patterns.codes, len(patterns.codes)
    # Within a run only trial noise is left; across runs the condition mean must do when cells hold one trial.
    if patterns.folds is not None and 2 * (n - (counts > 0).sum()) >= n - len(patterns.names):
        cells = patterns.folds * len(patterns.names) + patterns.codes
        groups = np.unique(cells, return_inverse=True)[1]
    return _noise.noise_covariance(patterns.values.astype(np.float64, copy=False), groups, noise)


def _plain(patterns: Patterns, method: str, covariance: NDArray[np.floating] | None) -> NDArray[np.floating]:
    x = patterns.values
    if patterns.repeated:
        x = _noise.group_means(x, patterns.codes, len(patterns.names)).astype(x.dtype)
    if covariance is not None:
        x = _noise.whiten(x.astype(np.float64, copy=False), covariance)
    missing = np.asarray(~np.isfinite(x).all(-1))  # (..., condition)
    out = _distances.DISTANCES[method](np.where(missing[..., None], 0, x))
    if method in ("correlation", "cosine"):
        square = np.full((*out.shape[:-1], len(patterns.names), len(patterns.names)), True)
        rows, columns = np.triu_indices(len(patterns.names), 1)
        square[..., rows, columns] = square[..., columns, rows] = np.isnan(out)
        # A pattern without variance has no distance to anything: all its pairs are NaN.
        constant = square.all(-1) & ~missing
        _warn_about(patterns.names, constant, "constant pattern", f"{method} distance")
    return _blank(out, missing, patterns.names)


def _crossnobis(patterns: Patterns, covariance: NDArray[np.floating] | None) -> NDArray[np.floating]:
    x = patterns.values.astype(np.float64, copy=False)
    counts = _counts(patterns)
    n_folds, n = counts.shape
    if n_folds < 2:
        raise SchemaError("Cross-validation needs at least two folds.", got=f"{n_folds} fold")
    folds = patterns.folds if patterns.folds is not None else np.zeros_like(patterns.codes)
    means = _noise.group_means(x, folds * n + patterns.codes, n_folds * n)
    means = means.reshape(*x.shape[:-2], n_folds, n, x.shape[-1])
    if covariance is not None:
        means = _noise.whiten(means, covariance)
    missing = np.asarray(~np.isfinite(means).all((-3, -1)))
    out = _distances.crossnobis(np.where(missing[..., None, :, None], 0, means), counts)
    alone = np.asarray(np.isnan(out).any(tuple(range(out.ndim - 1))))
    if alone.any():
        rows, columns = np.triu_indices(n, 1)
        first = int(np.flatnonzero(alone)[0])
        names = patterns.names.tolist()
        warn(
            f"{int(alone.sum())} of {len(alone)} pairs of conditions share fewer than two folds and are NaN; the "
            f"first is {names[rows[first]]!r} and {names[columns[first]]!r}.",
            stacklevel=3,
        )
    return _blank(out, missing, patterns.names)


def _warn_about(names: NDArray[Any], where: NDArray[np.bool_], what: str, which: str) -> None:
    bad = names[where.any(tuple(range(where.ndim - 1)))].tolist()
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        warn(f"{what.capitalize()}: no {which} for condition {bad[:5]}{more}; these pairs are NaN.", stacklevel=4)


def _blank(out: NDArray[np.floating], missing: NDArray[np.bool_], names: NDArray[Any]) -> NDArray[np.floating]:
    """Set the pairs of conditions with missing values to NaN, and say so once."""
    if not missing.any():
        return out
    _warn_about(names, missing, "missing values in the pattern", "dissimilarity")
    rows, columns = np.triu_indices(len(names), 1)
    return np.where(missing[..., rows] | missing[..., columns], np.nan, out)


def _label(
    values: NDArray[np.floating], data: xr.DataArray, patterns: Patterns, method: str, noise: object
) -> xr.DataArray:
    kind = noise if isinstance(noise, str) else "none" if noise is None else "given"
    out = labelled(values, patterns.names, patterns.lead)
    out = out.assign_coords({name: c for coords in patterns.lead.values() for name, c in coords.items()})
    base = "1" if kind != "none" or method in ("correlation", "cosine") else patterns.units
    if method in _SQUARED and base != "1":
        base = f"{base}^2" if base.isalnum() else f"({base})^2"
    attrs = {
        "method": method,
        "units": base,
        "squared": int(method in _SQUARED),
        "divided_by_channels": int(method in ("mahalanobis", "crossnobis")),
        "n_channels": int(patterns.values.shape[-1]),
        "n_trials": len(patterns.codes),
        "n_conditions": len(patterns.names),
        "cross_validated": int(method == "crossnobis"),
        "noise": kind,
    }
    if patterns.folds is not None:
        attrs["n_folds"] = int(patterns.folds.max()) + 1
    kept = {k: v for k, v in data.attrs.items() if k.startswith("neuro_")}
    return stamp(out.assign_attrs({**kept, **attrs}), "rdm", method=method, noise=kind).rename(data.name or "rdm")
