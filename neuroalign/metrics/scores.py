"""Scores of continuous predictions, one number per target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError

__all__ = ["SCORERS", "explained_variance", "get_scorer", "pearson_r", "r2_score"]

Scorer = Callable[..., NDArray[np.float64]]


def r2_score(y_true: ArrayLike, y_pred: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    """Coefficient of determination of every target.

    ``1 - sum((y - p)**2) / sum((y - mean(y))**2)``: 1 is perfect, 0 is as good as the mean of the scored samples.

    Parameters
    ----------
    y_true, y_pred : array-like, same shape
        Measured and predicted values; samples along `axis`, targets along the others.
    axis : int, default 0
        The sample axis.

    Returns
    -------
    ndarray of float64, the shape without `axis`
        The score; NaN where `y_true` is constant or where either array holds a value that is not finite.

    Raises
    ------
    SchemaError
        If the shapes differ, there are no samples, or the values are not numbers.

    Examples
    --------
    >>> r2_score([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]], [[1.0, 5.0], [2.0, 5.0], [2.0, 5.0]])
    array([0.5, nan])
    """
    y, p, scorable = _prepare(y_true, y_pred, axis)
    total = np.square(y - y.mean(axis=0)).sum(axis=0)
    return _ratio(total - np.square(y - p).sum(axis=0), total, scorable)


def explained_variance(y_true: ArrayLike, y_pred: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    """Explained variance of every target: like R2, but a constant offset of the prediction costs nothing.

    Parameters
    ----------
    y_true, y_pred : array-like, same shape
        Measured and predicted values; samples along `axis`, targets along the others.
    axis : int, default 0
        The sample axis.

    Returns
    -------
    ndarray of float64, the shape without `axis`
        ``1 - var(y - p) / var(y)``; NaN where `y_true` is constant or where either array holds a value that is not
        finite.

    Raises
    ------
    SchemaError
        If the shapes differ, there are no samples, or the values are not numbers.

    Examples
    --------
    >>> explained_variance([1.0, 2.0, 3.0], [11.0, 12.0, 13.0])
    array(1.)
    """
    y, p, scorable = _prepare(y_true, y_pred, axis)
    error = y - p
    total = np.square(y - y.mean(axis=0)).sum(axis=0)
    return _ratio(total - np.square(error - error.mean(axis=0)).sum(axis=0), total, scorable)


def pearson_r(y_true: ArrayLike, y_pred: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    """Pearson correlation of measured and predicted values of every target.

    Parameters
    ----------
    y_true, y_pred : array-like, same shape
        Measured and predicted values; samples along `axis`, targets along the others.
    axis : int, default 0
        The sample axis.

    Returns
    -------
    ndarray of float64, the shape without `axis`
        The correlation in [-1, 1]; NaN where `y_true` is constant or where either array holds a value that is not
        finite. A constant prediction of a varying target tells nothing about it and scores 0.

    Raises
    ------
    SchemaError
        If the shapes differ, there are no samples, or the values are not numbers.

    Examples
    --------
    >>> pearson_r([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    array(-1.)
    """
    y, p, scorable = _prepare(y_true, y_pred, axis)
    flat = (p == p[:1]).all(axis=0)
    y, p = _unit_rows(y), _unit_rows(p)
    r = np.clip((y * p).sum(axis=0), -1.0, 1.0)
    return np.where(scorable, np.where(flat, 0.0, r), np.nan)


SCORERS: dict[str, Scorer] = {"r2": r2_score, "r": pearson_r, "ev": explained_variance}


def get_scorer(scorer: str | Scorer) -> Scorer:
    """Give the scoring function of a name; a function is given back as it is.

    Parameters
    ----------
    scorer : str or callable
        A key of `SCORERS` (``"r2"``, ``"r"``, ``"ev"``), or a function ``(y_true, y_pred) -> score per target``.

    Returns
    -------
    callable
        The scoring function.

    Raises
    ------
    ConfigError
        If the name is not known; the message lists the names.

    Examples
    --------
    >>> get_scorer("r").__name__
    'pearson_r'
    """
    if callable(scorer):
        return scorer
    if not isinstance(scorer, str) or scorer not in SCORERS:
        raise ConfigError(
            "Unknown scorer.", expected=f"one of {sorted(SCORERS)} or a callable", got=scorer, where="scorer"
        )
    return SCORERS[scorer]


def _prepare(
    y_true: ArrayLike, y_pred: ArrayLike, axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Bring both to float64 with samples first; unscorable targets become zeros and are marked False."""
    y, p = _as_float(y_true, "y_true"), _as_float(y_pred, "y_pred")
    if y.shape != p.shape:
        raise SchemaError("y_true and y_pred differ in shape.", expected=y.shape, got=p.shape, where="y_pred")
    if not -y.ndim <= axis < y.ndim or y.shape[axis] == 0:
        raise SchemaError("There are no samples to score.", expected=f">= 1 sample along axis {axis}", got=y.shape)
    y, p = np.moveaxis(y, axis, 0), np.moveaxis(p, axis, 0)
    scorable = np.isfinite(y).all(axis=0) & np.isfinite(p).all(axis=0)
    # Compared with the first sample and not by a variance: the variance of a constant 0.1 is not exactly zero.
    scorable &= (y != y[:1]).any(axis=0)
    return np.where(scorable, y, 0.0), np.where(scorable, p, 0.0), scorable


def _as_float(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SchemaError(
            "The values are not real numbers.", expected="a real array", got=str(error), where=name
        ) from error


def _unit_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre and scale to norm 1 along the first axis; scaled by the largest value first, so 1e-200 V is safe."""
    centred = values - values.mean(axis=0)
    largest = np.abs(centred).max(axis=0)
    centred = centred / np.where(largest > 0, largest, 1.0)
    norm = np.sqrt(np.square(centred).sum(axis=0))
    return centred / np.where(norm > 0, norm, 1.0)


def _ratio(
    explained: NDArray[np.float64], total: NDArray[np.float64], scorable: NDArray[np.bool_]
) -> NDArray[np.float64]:
    usable = scorable & (total > 0)
    return np.where(usable, explained / np.where(usable, total, 1.0), np.nan)
