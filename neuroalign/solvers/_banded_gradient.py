"""Refinement of band weights by the gradient of the cross-validated error, target by target, in float64.

With ``delta_b = log(gamma_b / alpha)`` the weights of a fold are ``w = S M^-1 S c``, where ``S`` holds
``exp(delta / 2)``, ``M = S G S + I``, ``G`` is the Gram matrix and ``c`` the X'y of the training rows. For residuals
``r`` of the test rows ``Z``, the derivative of ``|r|^2`` by ``delta_b`` is ``-2 sum_b q u`` over the coordinates of the
band, with ``u = M^-1 S c`` and ``q = M^-1 S Z'r``: one Cholesky decomposition and two solutions. The dual form is the
same with kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import NDArray

from neuroalign.metrics import get_scorer
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import Array, as_slice, take, to_numpy
from neuroalign.solvers._banded_plan import DualBands, PrimalBands
from neuroalign.solvers._banded_search import Targets
from neuroalign.solvers._grid import mean_over_folds

__all__ = ["Refiner"]

_FLOOR = np.log(1e-4)  # a band without weight starts here below the strongest one: from zero there is no way up
_ROOM = (20.0, 8.0)  # how far a log weight may fall and rise from the strongest one at the start

Floats = NDArray[np.float64]
Fit = tuple[Floats, Callable[[Floats], Floats]]  # prediction, and residual -> derivative of its square


class Refiner:
    """Refines the band weights of one target after the other; what they share is made once.

    Parameters
    ----------
    plan : PrimalBands or DualBands
        The features.
    scorer : str or callable
        What has to get better for a refinement to be kept.
    max_iter : int
        Iterations of L-BFGS-B.
    """

    def __init__(self, plan: PrimalBands | DualBands, scorer: str | Scorer, max_iter: int) -> None:
        self._plan, self._score, self._max_iter = plan, get_scorer(scorer), max_iter
        self._alive = np.flatnonzero(plan.alive)
        self._fits: list[Callable[[Floats, Floats], Fit]] = []
        for fold in range(len(plan.folds)):
            if isinstance(plan, PrimalBands):
                gram, rows = (to_numpy(part) for part in plan.problem(fold))
                self._fits.append(_primal(gram, rows, plan.band, len(plan.alive)))
            else:
                train, test = ([to_numpy(part) for part in side] for side in plan.problem(fold))
                self._fits.append(_dual(train, test))

    def refine(
        self, targets: Targets, column: int, gamma: Floats, alpha: float, score: float
    ) -> tuple[Floats, float, float]:
        """Better band weights, penalty and score of one target, or those given where none are found."""
        one = targets.y[:, column : column + 1]
        data = [self._data(fold, one, own) for fold, own in enumerate(self._plan.statistics(one))]
        unit, mean = float(targets.unit[column]), float(targets.mean[column])
        start = np.maximum(_log(gamma[self._alive]), _log(gamma.max()) + _FLOOR) - np.log(max(alpha, 1e-300))
        top = float(start.max())
        found = scipy.optimize.minimize(
            self._loss,
            start,
            args=(data,),
            jac=True,
            method="L-BFGS-B",
            bounds=[(top - _ROOM[0], top + _ROOM[1])] * start.size,
            options={"maxiter": self._max_iter},
        )
        weights = self._weights(found.x)
        scores = []
        for fit, (statistic, test, _, offset) in zip(self._fits, data, strict=True):
            predicted = fit(weights, statistic)[0] + offset
            truth = test + offset
            scores.append(self._score(truth[:, None] * unit + mean, predicted[:, None] * unit + mean))
        after = float(mean_over_folds(np.array(scores)[:, None])[0, 0])
        if not after > score:
            return gamma, alpha, score
        return weights / weights.sum(), float(1.0 / weights.sum()), after

    def _data(self, fold: int, y: Array, statistic: Array) -> tuple[Floats, Floats, float, float]:
        """Training statistic, test target about the training mean, its sum of squares, and that mean."""
        part = self._plan.folds[fold]
        test = to_numpy(take(y, as_slice(part.test)))[:, 0]
        centred = self._plan.intercept
        offset = float(to_numpy(take(y, as_slice(part.train))).mean()) if centred else 0.0
        total = float(np.square(test - test.mean()).sum())
        return to_numpy(statistic)[:, 0], test - offset, total, offset

    def _weights(self, delta: Floats) -> Floats:
        weights = np.zeros(len(self._plan.alive))
        weights[self._alive] = np.exp(delta)
        return weights

    def _loss(self, delta: Floats, data: list[Any]) -> tuple[float, Floats]:
        """Mean of 1 - R2 over the folds in which the target varies, and its gradient."""
        weights, loss, gradient, n = self._weights(delta), 0.0, np.zeros(delta.size), 0
        for fit, (statistic, test, total, _) in zip(self._fits, data, strict=True):
            if total > 0:
                predicted, derivative = fit(weights, statistic)
                residual = test - predicted
                loss += float(residual @ residual) / total
                gradient += derivative(residual)[self._alive] / total
                n += 1
        return loss / n, gradient / n


def _primal(gram: Floats, rows: Floats, band: NDArray[np.intp], n_bands: int) -> Callable[[Floats, Floats], Fit]:
    def fit(weights: Floats, statistic: Floats) -> Fit:
        scale = np.sqrt(weights)[band]
        factor = _cholesky(gram * scale[:, None] * scale)
        u = scipy.linalg.cho_solve(factor, scale * statistic, check_finite=False)

        def derivative(residual: Floats) -> Floats:
            q = scipy.linalg.cho_solve(factor, scale * (rows.T @ residual), check_finite=False)
            return np.asarray(-2.0 * np.bincount(band, weights=q * u, minlength=n_bands), np.float64)

        return rows @ (scale * u), derivative

    return fit


def _dual(train: list[Floats], test: list[Floats]) -> Callable[[Floats, Floats], Fit]:
    def fit(weights: Floats, statistic: Floats) -> Fit:
        factor = _cholesky(sum(w * kernel for w, kernel in zip(weights, train, strict=True)))
        across: Any = sum(w * kernel for w, kernel in zip(weights, test, strict=True))
        a = scipy.linalg.cho_solve(factor, statistic, check_finite=False)

        def derivative(residual: Floats) -> Floats:
            h = scipy.linalg.cho_solve(factor, across.T @ residual, check_finite=False)
            parts = [residual @ (t @ a) - h @ (k @ a) for k, t in zip(train, test, strict=True)]
            return -2.0 * weights * np.array(parts)

        return across @ a, derivative

    return fit


def _cholesky(gram: Any) -> tuple[Floats, bool]:
    gram[np.diag_indices_from(gram)] += 1.0
    return scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)


def _log(values: Any) -> Any:
    return np.log(np.maximum(values, 1e-300))
