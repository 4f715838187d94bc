"""Activation patterns of linear decoders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 2048  # rows that are made float64 at a time


def activation_patterns(X: NDArray[Any], coef: NDArray[Any]) -> NDArray[np.float64]:
    """Turn weights of a linear decoder into the patterns that it reads.

    Parameters
    ----------
    X : ndarray, shape (n_samples, n_inputs)
        Centred inputs of the training set.
    coef : ndarray, shape (n_inputs, n_outputs)
        Weights.

    Returns
    -------
    ndarray, shape (n_inputs, n_outputs)
        ``cov(X, s) cov(s)^-1`` of the decoded signals ``s = X coef``.

    References
    ----------
    Haufe, S. et al. (2014). NeuroImage 87, 96-110, equation 6.

    Examples
    --------
    >>> activation_patterns(np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([[1.0], [0.0]]))
    array([[1.],
           [1.]])
    """
    if coef.shape[1] > min(X.shape):
        return _patterns_of_many(X, coef)
    cross, power = np.zeros(coef.shape), np.zeros((coef.shape[1],) * 2)
    for lo in range(0, len(X), _ROWS):
        rows = X[lo : lo + _ROWS].astype(np.float64)
        decoded = rows @ coef
        cross += rows.T @ decoded
        power += decoded.T @ decoded
    return patterns_from_moments(cross, power, coef.dtype)


def _patterns_of_many(X: NDArray[Any], coef: NDArray[Any]) -> NDArray[np.float64]:
    """Patterns of more outputs than there are directions in the inputs: nothing of outputs by outputs is made."""
    root = decoded_root(X)
    return patterns_from_power(root, decoded_power(root, coef), coef)


def decoded_root(X: NDArray[Any]) -> NDArray[np.float64]:
    """R of ``X = Q R`` with fewer rows than X, or X itself.

    With ``s = X coef = Q B``, the patterns ``X's (s's)^+`` are ``R' (B B')^+ B``. ``B B'`` is a sum over outputs, so
    that blocks of them can be added up: see `decoded_power` and `patterns_from_power`.
    """
    return np.asarray(np.linalg.qr(X, mode="r") if len(X) > X.shape[1] else X, np.float64)


def decoded_power(root: NDArray[np.float64], coef: NDArray[Any]) -> NDArray[np.float64]:
    """``B B'`` of some outputs, each brought to a size of one; those with NaN are left out."""
    decoded, _ = _decoded(root, coef[:, np.isfinite(coef).all(axis=0)])
    return decoded @ decoded.T


def patterns_from_power(
    root: NDArray[np.float64], power: NDArray[np.float64], coef: NDArray[Any]
) -> NDArray[np.float64]:
    """Patterns of some outputs, from ``B B'`` of all of them."""
    known = np.isfinite(coef).all(axis=0)
    out = np.full(coef.shape, np.nan)
    decoded, size = _decoded(root, coef[:, known])
    inverse = np.linalg.pinv(power, rcond=_cut(len(root), coef.dtype), hermitian=True)
    out[:, known] = root.T @ (inverse @ decoded) / size
    return out


def _decoded(root: NDArray[np.float64], coef: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """B of some outputs over their sizes, and these: outputs may have very different units."""
    decoded = root @ coef
    size = np.sqrt(np.square(decoded).sum(axis=0))
    size = np.where(size > 0, size, 1.0)
    return decoded / size, size


def _cut(n: int, dtype: Any) -> float:
    """Share of the largest power below which a direction is what rounding made of nothing, for weights of a dtype."""
    return float(max(n * np.finfo(np.float64).eps, (max(n, 100) * np.finfo(dtype).eps) ** 2))


def patterns_from_moments(cross: NDArray[Any], power: NDArray[Any], dtype: Any) -> NDArray[np.float64]:
    """Patterns from ``X's`` and ``s's`` in float64, with weights of a dtype.

    Outputs that are always zero get a zero pattern, those that are NaN a NaN.
    """
    known = np.isfinite(np.diagonal(power))
    out = np.full(np.shape(cross), np.nan)
    moments = np.asarray(power, np.float64)[np.ix_(known, known)]
    size = np.sqrt(np.diagonal(moments))  # outputs may have very different units
    size = np.where(size > 0, size, 1.0)
    inverse = np.linalg.pinv(moments / np.outer(size, size), rcond=_cut(len(size), dtype), hermitian=True)
    out[:, known] = np.asarray(cross, np.float64)[:, known] / size @ inverse / size
    return out


def patterns_from_cross(cross: NDArray[Any], coef: NDArray[Any]) -> NDArray[np.float64]:
    """Patterns from ``X's`` in float64 and the weights; of many outputs, nothing of outputs by outputs is made.

    With ``W = U D V'`` and ``C = X's``, ``s's = V (D U'C V) V'``, of which only what is in brackets is inverted.
    """
    weights = coef.astype(np.float64)
    if coef.shape[1] <= coef.shape[0]:
        power = weights.T @ cross
        return patterns_from_moments(cross, (power + power.T) / 2, coef.dtype)
    known = np.isfinite(coef).all(axis=0)
    out = np.full(coef.shape, np.nan)
    weights, cross = weights[:, known], cross[:, known]
    size = np.sqrt(np.maximum((weights * cross).sum(axis=0), 0.0))  # outputs may have very different units
    silent, size = size == 0, np.where(size > 0, size, 1.0)
    left, strength, right = np.linalg.svd(weights / size, full_matrices=False)
    across = (cross / size) @ right.T
    power = strength[:, None] * (left.T @ across)
    inverse = np.linalg.pinv((power + power.T) / 2, rcond=_cut(len(strength), coef.dtype), hermitian=True)
    out[:, known] = np.where(silent, 0.0, across @ inverse @ right / size)
    return out
