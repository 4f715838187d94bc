"""Dissimilarities between the rows of arrays: (..., n_conditions, n_features) -> (..., n_pairs), by matrix products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def condense(square: Array) -> Array:
    """Take the upper triangle, row by row: (..., n, n) -> (..., n (n - 1) / 2)."""
    n = square.shape[-1]
    rows, columns = np.triu_indices(n, 1)
    return np.take(square.reshape(*square.shape[:-2], n * n), rows * n + columns, axis=-1)


def _from_gram(gram: Array) -> Array:
    """Squared distances from inner products: K_ii + K_jj - 2 K_ij."""
    size = np.diagonal(gram, axis1=-2, axis2=-1)
    return condense(size[..., :, None] + size[..., None, :] - 2 * gram)


def sqeuclidean(x: Array) -> Array:
    """Squared Euclidean distances, summed over features."""
    x = x - x.mean(-2, keepdims=True)  # a common offset would cost digits
    return np.maximum(_from_gram(x @ np.swapaxes(x, -1, -2)), 0)


def euclidean(x: Array) -> Array:
    """Euclidean distances."""
    return np.sqrt(sqeuclidean(x))


def mahalanobis(x: Array) -> Array:
    """Squared distances of whitened patterns, divided by the number of features."""
    return sqeuclidean(x) / x.shape[-1]


def _unit_rows(x: Array, floor: Array) -> Array:
    norm = np.sqrt(np.einsum("...ij,...ij->...i", x, x))[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > floor, x / norm, np.nan)


def cosine(x: Array) -> Array:
    """One minus the cosine of the angle between patterns; NaN for a pattern of zeros."""
    unit = _unit_rows(x, np.zeros((), x.dtype))
    return np.maximum(1 - condense(unit @ np.swapaxes(unit, -1, -2)), 0)


def correlation(x: Array) -> Array:
    """One minus Pearson's correlation over features; NaN for a constant pattern."""
    # A constant pattern is not exactly zero after its mean is taken away: judge against rounding.
    rounding = 4 * np.finfo(x.dtype).eps * np.sqrt(x.shape[-1]) * np.abs(x).max(-1, keepdims=True, initial=0)
    unit = _unit_rows(x - x.mean(-1, keepdims=True), rounding)
    return np.maximum(1 - condense(unit @ np.swapaxes(unit, -1, -2)), 0)


DISTANCES: dict[str, Callable[[Array], Array]] = {
    "euclidean": euclidean,
    "sqeuclidean": sqeuclidean,
    "correlation": correlation,
    "cosine": cosine,
    "mahalanobis": mahalanobis,
}


def crossnobis(means: Array, counts: NDArray[np.integer]) -> Array:
    """Cross-validated squared distances: unbiased, so negative values occur when the true distance is small.

    Parameters
    ----------
    means : ndarray, shape (..., n_folds, n_conditions, n_features)
        Whitened mean patterns of each fold. Rows of conditions that a fold lacks are ignored.
    counts : ndarray of int, shape (n_folds, n_conditions)
        How many trials each mean stands for.

    Returns
    -------
    ndarray, shape (..., n_pairs)
        ``sum_{r != s} w_r w_s d_r . d_s / (p sum_{r != s} w_r w_s)`` over folds that have both conditions, where
        d_r is the difference of their means in fold r and w_r the inverse of its noise variance,
        1 / (1 / n_ra + 1 / n_rb). NaN where fewer than two folds have both.
    """
    lead = means.shape[:-3]
    flat = means.reshape(-1, *means.shape[-3:])
    pick = _balanced if (counts == counts[0, 0]).all() else _unbalanced
    out = np.stack([pick(part, counts) for part in flat])  # one time or subject after the other: memory stays small
    return (out / means.shape[-1]).reshape(*lead, -1)


def _balanced(means: Array, counts: NDArray[np.integer]) -> Array:
    """All fold pairs at once: (sum_r X_r)(sum_r X_r)' - sum_r X_r X_r', for (fold, condition, feature)."""
    n_folds, n, p = means.shape
    means = means - means.mean(1, keepdims=True)  # what a fold shares by all conditions is in no difference
    total = means.sum(0)
    stacked = means.transpose(1, 0, 2).reshape(n, n_folds * p)
    gram = total @ total.T - stacked @ stacked.T
    return _from_gram(gram) / (n_folds * (n_folds - 1))


def _unbalanced(means: Array, counts: NDArray[np.integer]) -> Array:
    """Weighted fold pairs, for (fold, condition, feature)."""
    n_folds, n, _ = means.shape
    present = counts > 0
    # (fold, condition, feature): centred on the conditions that the fold has, zero where it has none
    x = np.where(present[..., None], means, 0.0)
    x = np.where(present[..., None], x - (x.sum(1) / np.maximum(present.sum(1), 1)[:, None])[:, None], 0.0)
    a, b = np.triu_indices(n, 1)
    with np.errstate(divide="ignore"):
        inverse = 1.0 / counts
    weight = 1.0 / (inverse[:, a] + inverse[:, b])  # (fold, pair); 0 where a condition is absent
    above = np.zeros(len(a))
    for r in range(n_folds):
        for s in range(r + 1, n_folds):
            gram = x[r] @ x[s].T
            own = np.diagonal(gram)
            products = own[a] + own[b] - gram[a, b] - gram[b, a]  # d_r . d_s of each pair
            above += weight[r] * weight[s] * products
    total = (weight.sum(0) ** 2 - (weight**2).sum(0)) / 2
    enough = (weight > 0).sum(0) >= 2
    return np.divide(above, total, out=np.full(len(a), np.nan), where=enough)
