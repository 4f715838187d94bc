"""Noise covariance of patterns from residuals, with the right degrees of freedom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import ConfigError, SchemaError

Array = NDArray[np.floating]


def group_means(x: Array, groups: NDArray[np.integer], n_groups: int) -> Array:
    """Average rows by group: (..., n, p) and integer codes (n,) -> (..., n_groups, p)."""
    weights = np.zeros((n_groups, len(groups)))
    weights[groups, np.arange(len(groups))] = 1.0
    counts = weights.sum(1, keepdims=True)
    return np.matmul(weights / np.maximum(counts, 1.0), x)


def residuals(x: Array, groups: NDArray[np.integer]) -> tuple[Array, int]:
    """Take group means away: residuals (..., n, p) and their degrees of freedom, n - n_groups."""
    n_groups = int(groups.max()) + 1
    return x - group_means(x, groups, n_groups)[..., groups, :], len(groups) - n_groups


def _full(res: Array, df: int) -> Array:
    return res.T @ res / df


def _diagonal(res: Array, df: int) -> Array:
    return np.diag((res**2).sum(0) / df)


def ledoit_wolf(res: Array, df: int) -> Array:
    """Shrink the covariance towards a multiple of the identity (Ledoit & Wolf 2004), scaled by the true df.

    Residuals of repeated measurements are too small by sqrt(df / n); they are scaled up first, so that both the
    covariance and the amount of shrinkage are those of `n` errors of full size.
    """
    n, p = res.shape
    scaled = res * np.sqrt(n / df)
    sample = scaled.T @ scaled / n
    mean = np.trace(sample) / p
    spread = (sample**2).sum() - p * mean**2  # |S - mean I|^2
    if spread <= 0:
        return mean * np.eye(p)
    error = (((scaled**2).sum(1) ** 2).sum() / n - (sample**2).sum()) / n
    shrinkage = min(max(error / spread, 0.0), 1.0)
    return (1 - shrinkage) * sample + shrinkage * mean * np.eye(p)


ESTIMATORS: dict[str, Callable[[Array, int], Array]] = {
    "full": _full,
    "diagonal": _diagonal,
    "ledoit_wolf": ledoit_wolf,
}


def noise_covariance(x: Array, groups: NDArray[np.integer], method: str) -> Array:
    """Estimate the noise covariance from repeated measurements.

    Parameters
    ----------
    x : ndarray, shape (..., n, p)
        Measurements. Leading dimensions (times) are estimated one by one and averaged.
    groups : ndarray of int, shape (n,)
        Which rows repeat the same thing. The degrees of freedom are n minus the number of groups.
    method : {"full", "diagonal", "ledoit_wolf"}
        The estimator.

    Returns
    -------
    ndarray, shape (p, p)
        Covariance; its expectation is the true one for "full", and the true variances for "diagonal".
    """
    if method not in ESTIMATORS:
        raise ConfigError("Unknown noise estimator.", expected=", ".join(ESTIMATORS), got=method)
    res, df = residuals(x, groups)
    if df < 1:
        raise SchemaError(
            "Noise cannot be estimated without repeats.",
            expected="at least one condition measured twice",
            got=f"{len(groups)} rows in {int(groups.max()) + 1} conditions",
            fix="pass noise=None or a covariance matrix",
        )
    if not np.isfinite(x).all():
        raise SchemaError(
            "Noise cannot be estimated from missing values.",
            got=f"{int((~np.isfinite(x)).sum())} values that are not finite",
            fix="drop these trials or channels first",
        )
    parts = res.reshape(-1, *res.shape[-2:])
    return np.mean([ESTIMATORS[method](part, df) for part in parts], axis=0)


def whiten(x: Array, covariance: Array) -> Array:
    """Multiply patterns (..., p) by an inverse square root of the covariance, so that the noise has unit size."""
    if covariance.ndim == 1 or not np.any(covariance - np.diag(np.diagonal(covariance))):
        variance = covariance if covariance.ndim == 1 else np.diagonal(covariance)
        dead = np.flatnonzero(variance <= 0)
        if len(dead):
            raise SchemaError(
                "Some features have no noise variance.",
                got=f"{len(dead)} of {len(variance)} features, the first at {dead[:5].tolist()}",
                fix="drop constant channels or voxels, or use noise='ledoit_wolf'",
            )
        return x / np.sqrt(variance)
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError as error:
        raise SchemaError(
            "The noise covariance is not positive definite.",
            got=f"shape {covariance.shape}, rank {np.linalg.matrix_rank(covariance)}",
            fix="use noise='ledoit_wolf' or noise='diagonal'",
        ) from error
    inverse = np.linalg.inv(factor)  # one inverse, then a GEMM for all times and trials
    return np.matmul(x, inverse.T)
