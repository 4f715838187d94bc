"""Choice of penalties by many targets together, whose scores come in blocks: no more than one of them is in memory.

A choice does not depend on how targets are cut into blocks: means over targets are exact, and pooling is learned from
targets that are told by their place among all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.solvers._exact import ExactMean
from neuroalign.solvers._grid import Pooling, choose_with, learn_pooling, mean_over_folds

__all__ = ["Choice", "choose_together"]

_SAMPLE = 8192  # targets, spread over all, from which pooling is learned where there are more

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """What all targets chose together, from which the penalty of each follows.

    Attributes
    ----------
    grid : ndarray, shape (n_alphas,)
        Penalties.
    shared : float
        The penalty of all targets; NaN where each has its own.
    pooling : Pooling, optional
        How far the curves of targets are drawn together.
    """

    grid: Floats
    shared: float = np.nan
    pooling: Pooling | None = None

    @property
    def amount(self) -> float:
        """Share of the variance between targets that is taken away; 1 for one penalty for all."""
        return 1.0 if self.pooling is None else self.pooling.amount

    def of(self, of_folds: Floats) -> tuple[Floats, Floats]:
        """Penalties of some targets and their scores there, each (t,), from scores (n_folds, n_alphas, t)."""
        scores = mean_over_folds(of_folds)
        if self.pooling is not None:
            return choose_with(self.pooling, of_folds, scores, self.grid)
        scored = ~np.isnan(scores).all(axis=0)
        return np.where(scored, self.shared, np.nan), scores[int((self.grid == self.shared).argmax())]


def choose_together(blocks: Iterable[Floats], grid: Floats, *, pooled: bool, n_targets: int | None = None) -> Choice:
    """Choose one penalty for all targets, or how far to draw every target towards all.

    Parameters
    ----------
    blocks : iterable of ndarray
        Scores of all targets in order, in blocks of shape (n_folds, n_alphas, t).
    grid : ndarray, shape (n_alphas,)
        Penalties.
    pooled : bool
        Whether to draw curves together, see `neuroalign.solvers._grid.choose_pooled`. Of more than 8192 targets, that
        many are looked at, spread evenly.
    n_targets : int, optional
        Number of all targets, where they are pooled.

    Returns
    -------
    Choice
        For `Choice.of`.
    """
    if pooled:
        return Choice(grid, pooling=learn_pooling(_sample(blocks, n_targets or 0)))
    means = [ExactMean() for _ in grid]
    for of_folds in blocks:
        scores = mean_over_folds(of_folds)
        scored = ~np.isnan(scores).all(axis=0)
        for mean, row in zip(means, np.where(np.isnan(scores), -np.inf, scores)[:, scored], strict=True):
            mean.add(row)
    ranked = np.argsort(-grid)  # among equals the larger penalty wins
    return Choice(grid, shared=float(grid[ranked[np.argmax([means[k].value() for k in ranked])]]))


def _sample(blocks: Iterable[Floats], n_targets: int) -> Floats:
    """Scores of targets that are spread over all."""
    wanted = np.unique(np.linspace(0, n_targets - 1, min(n_targets, _SAMPLE)).round().astype(np.intp))
    first, kept = 0, []
    for of_folds in blocks:
        inside = wanted[(wanted >= first) & (wanted < first + of_folds.shape[2])] - first
        kept.append(of_folds[:, :, inside])
        first += of_folds.shape[2]
    return np.concatenate(kept, axis=2)
