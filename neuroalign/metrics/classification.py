"""Measures of decoded labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from neuroalign.errors import ConfigError, SchemaError

__all__ = ["information_transfer_rate", "nmcc"]


def nmcc(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Normalised Matthews correlation coefficient, ``(MCC + 1) / 2``, of two or more classes.

    1 is perfect, 0.5 is chance at any class balance, and a decoder that always gives the same label gets 0.5.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples,)
        Right and decoded labels (numbers or strings).

    Returns
    -------
    float
        The coefficient in [0, 1].

    Raises
    ------
    SchemaError
        If the two are not lists of the same length >= 1.

    References
    ----------
    Gorodkin (2004), Comparing two K-category assignments by a K-category correlation coefficient,
    Computational Biology and Chemistry 28.

    Examples
    --------
    >>> nmcc(["face", "house", "face", "house"], ["face", "house", "face", "house"])
    1.0
    """
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim != 1 or true.shape != predicted.shape or true.size == 0:
        raise SchemaError("Labels must be two lists of the same length.", expected=true.shape, got=predicted.shape)
    classes, codes = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (codes[: true.size], codes[true.size :]), 1.0)
    n, rows, columns = table.sum(), table.sum(axis=1), table.sum(axis=0)
    covariance = n * np.trace(table) - rows @ columns
    spread = (n**2 - rows @ rows) * (n**2 - columns @ columns)
    return float((covariance / np.sqrt(spread) + 1.0) / 2.0) if spread > 0 else 0.5


def information_transfer_rate(accuracy: float, n_classes: int, trials_per_minute: float) -> float:
    """Information transfer rate of a decoder in bits per minute.

    Parameters
    ----------
    accuracy : float
        Share of trials that is right, 0 to 1.
    n_classes : int
        Number of equally likely classes, at least 2.
    trials_per_minute : float
        How many decisions are made in a minute.

    Returns
    -------
    float
        ``(log2 N + P log2 P + (1 - P) log2((1 - P) / (N - 1)))`` times the trials per minute. At or below chance
        (``P <= 1 / N``) it is 0: the formula would rise again there, though nothing useful is transferred.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    References
    ----------
    Wolpaw et al. (2000), Brain-computer interface technology, IEEE Transactions on Rehabilitation Engineering 8.

    Examples
    --------
    >>> information_transfer_rate(1.0, n_classes=4, trials_per_minute=10)
    20.0
    """
    if not 0.0 <= accuracy <= 1.0:
        raise ConfigError("Accuracy is a share.", expected="0 to 1", got=accuracy, where="accuracy")
    if n_classes < 2:
        raise ConfigError("Fewer than two classes carry no information.", expected=">= 2", got=n_classes)
    if not 0.0 <= trials_per_minute < np.inf:
        raise ConfigError("Trials per minute is a rate.", expected=">= 0 and finite", got=trials_per_minute)
    if accuracy <= 1.0 / n_classes:
        return 0.0
    bits = np.log2(n_classes) + accuracy * np.log2(accuracy)
    if accuracy < 1.0:
        bits += (1.0 - accuracy) * np.log2((1.0 - accuracy) / (n_classes - 1))
    return float(max(bits, 0.0) * trials_per_minute)
