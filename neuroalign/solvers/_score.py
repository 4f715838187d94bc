"""Scores of held-out predictions from a few sums, so that no prediction has to be kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import ConfigError
from neuroalign.metrics.scores import Scorer

__all__ = ["NAMED", "Moments", "call_scorer", "score_moments"]

NAMED = ("r2", "r", "ev")


@dataclass(frozen=True)
class Moments:
    """Sums over the n test samples of every target; those with an alpha axis are (n_alphas, t), the others (t,).

    total : sum of squares of the centred target; NaN where the target is constant.
    error : sum of squares of centred target minus centred prediction.
    bias : mean of target minus mean of prediction.
    predicted, product : sum of squares of the centred prediction, and of centred target times prediction; only
        looked at by the correlation.
    """

    n: int
    total: NDArray[np.float64]
    error: NDArray[np.float64]
    bias: NDArray[np.float64]
    predicted: NDArray[np.float64]
    product: NDArray[np.float64]


def score_moments(scorer: str, m: Moments) -> NDArray[np.float64]:
    """The scores of `neuroalign.metrics.SCORERS` by name, shape (n_alphas, t)."""
    total = np.where(m.total > 0, m.total, np.nan)
    if scorer == "r2":
        return 1.0 - (m.error + m.n * m.bias**2) / total
    if scorer == "ev":
        return 1.0 - m.error / total
    norm = np.sqrt(total) * np.sqrt(m.predicted)
    r = m.product / np.where(norm > 0, norm, 1.0)
    return np.where(np.isnan(norm), np.nan, np.clip(r, -1.0, 1.0))


def call_scorer(scorer: Scorer, truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of a function of the caller, (t,).

    Raises
    ------
    ConfigError
        If it does not give one number a target.
    """
    scores = np.asarray(scorer(truth, predicted))
    if scores.shape != truth.shape[1:] or scores.dtype.kind not in "biuf":
        raise ConfigError(
            "The scorer does not give one score a target.",
            expected=f"numbers of shape {truth.shape[1:]}",
            got=f"{scores.dtype} of shape {scores.shape}",
            where="scorer",
            fix="score along axis 0, as neuroalign.metrics.r2_score does",
        )
    return scores.astype(np.float64)
