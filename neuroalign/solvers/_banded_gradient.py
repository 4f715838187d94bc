"""Refinement of band weights by Newton's method on the cross-validated squared error, in float64.

With ``weights_b = gamma_b / alpha = exp(delta_b)`` the ridge weights of a fold are ``w = A^-1 c``, where
``A = G + D^-1``, G is the Gram matrix, c the X'y of the training rows and D holds the weight of the band of every
coordinate. Since ``dw/d delta_b = A^-1 E_b w`` with ``E_b`` the part of ``D^-1`` that belongs to the band, one Cholesky
decomposition of A gives the error of the test rows Z, its gradient and all its second derivatives:

    w_b = A^-1 E_b w,   w_bc = A^-1 (E_c w_b + E_b w_c - [b = c] E_b w),   r'Z A^-1 = p'

so that one more solution, p, serves all w_bc. Targets that start at the same point share its decomposition. The dual
form is the same with kernels. Falling weights take their step in the weight itself: there the error is nearly
quadratic down to zero, while in the logarithm a band would need many steps to leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from neuroalign.metrics import get_scorer
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import Array, as_slice, take, to_numpy
from neuroalign.solvers._banded_plan import DualBands, PrimalBands
from neuroalign.solvers._banded_search import Targets
from neuroalign.solvers._grid import mean_over_folds

__all__ = ["Refiner"]

_FLOOR = np.log(1e-2)  # a band without weight starts here below the strongest one: from zero there is no way up
_ROOM = (20.0, 8.0)  # how far a log weight may fall and rise from the strongest one at the start
_ENOUGH = 1e-5  # of R2: less than that to be gained ends the search
_RADIUS = (3.0, 8.0)  # first and longest step of a log weight
_DAMPING = (1e-9, 1e-3, 1e-2, 0.1, 1.0)  # of the largest curvature
_NOTHING = 1e-11  # coordinates of so little weight are left out

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Squared error (t,) of test rows, its gradient (t, b) and Hessian (t, b, b), and the predictions (n_test, t)."""

    error: Floats
    gradient: Floats
    hessian: Floats
    predicted: Floats


class Problem(Protocol):
    """One fold: from band weights (b,), training statistics (k, t) and test targets (n_test, t) to errors."""

    def __call__(self, weights: Floats, statistic: Floats, test: Floats) -> Errors:
        """Errors of targets that share band weights, with derivatives by the logarithms of these."""


@dataclass(frozen=True)
class _FoldTargets:
    """Training statistic (k, t), test targets about the training mean (n_test, t), that mean and 1 / their sum of
    squares (t,); zero for targets that are constant in the test rows, which have no say."""

    statistic: Floats
    test: Floats
    offset: Floats
    weight: Floats

    def take(self, columns: NDArray[np.intp]) -> _FoldTargets:
        return _FoldTargets(
            self.statistic[:, columns], self.test[:, columns], self.offset[columns], self.weight[columns]
        )


@dataclass(frozen=True)
class _Point:
    """Mean over folds of 1 - R2 with derivatives, and predictions of each fold, of one target."""

    loss: float
    gradient: Floats
    hessian: Floats
    predicted: list[Floats]


class Refiner:
    """Refines the band weights of targets; what they share is made once.

    Parameters
    ----------
    plan : PrimalBands or DualBands
        The features.
    scorer : str or callable
        What has to get better for a refinement to be kept.
    max_iter : int
        Newton steps at most.
    """

    def __init__(self, plan: PrimalBands | DualBands, scorer: str | Scorer, max_iter: int) -> None:
        self._plan, self._score, self._max_iter = plan, get_scorer(scorer), max_iter
        self._alive = np.flatnonzero(plan.alive)
        self._problems: list[Problem] = []
        for fold in range(len(plan.folds)):
            if isinstance(plan, PrimalBands):
                gram, rows = (to_numpy(part) for part in plan.problem(fold))
                self._problems.append(PrimalProblem(gram, rows, plan.band, len(plan.alive)))
            else:
                train, test = ([to_numpy(part) for part in side] for side in plan.problem(fold))
                self._problems.append(DualProblem(train, test))

    def refine(self, targets: Targets, gammas: Floats, alphas: Floats, scores: Floats) -> tuple[Floats, Floats, Floats]:
        """Better band weights (b, t), penalties (t,) and scores (t,), or those given where none are found."""
        data = [self._data(fold, targets.y, own) for fold, own in enumerate(self._plan.statistics(targets.y))]
        start = np.maximum(_log(gammas[self._alive]), _log(gammas.max(axis=0)) + _FLOOR)
        start = start - np.log(np.maximum(alphas, 1e-300))
        found, predicted = np.empty_like(start), [np.empty_like(part.test) for part in data]
        points, group = np.unique(start, axis=1, return_inverse=True)
        for number, delta in enumerate(points.T):
            columns = np.flatnonzero(group.ravel() == number)
            first = self._evaluate(delta, [part.take(columns) for part in data])
            for place, column in enumerate(columns):
                one = [part.take(columns[place : place + 1]) for part in data]
                found[:, column], best = self._descend(delta, first[place], one)
                for rows, part in zip(predicted, best.predicted, strict=True):
                    rows[:, column] = part
        after = self._scores(data, predicted, targets)
        weights = np.zeros_like(gammas)
        weights[self._alive] = np.exp(found)
        total = weights.sum(axis=0)
        better = after > scores
        return (
            np.where(better, weights / total, gammas),
            np.where(better, 1.0 / total, alphas),
            np.where(better, after, scores),
        )

    def _data(self, fold: int, y: Array, statistic: Array) -> _FoldTargets:
        part = self._plan.folds[fold]
        test = to_numpy(take(y, as_slice(part.test)))
        offset = to_numpy(take(y, as_slice(part.train))).mean(axis=0) * self._plan.intercept
        total = np.square(test - test.mean(axis=0)).sum(axis=0)
        varies = (test != test[:1]).any(axis=0) & (total > 0)
        return _FoldTargets(to_numpy(statistic), test - offset, offset, varies / np.where(varies, total, 1.0))

    def _scores(self, data: list[_FoldTargets], predicted: list[Floats], targets: Targets) -> Floats:
        """Mean score (t,) over the folds, in the units of the caller."""
        scores = []
        for part, rows in zip(data, predicted, strict=True):
            truth, guess = part.test + part.offset, rows + part.offset
            scores.append(self._score(truth * targets.unit + targets.mean, guess * targets.unit + targets.mean))
        return np.asarray(mean_over_folds(np.array(scores)[:, None])[0], np.float64)

    def _evaluate(self, delta: Floats, data: list[_FoldTargets]) -> list[_Point]:
        """Loss and derivatives of some targets at one point."""
        weights = np.zeros(len(self._plan.alive))
        weights[self._alive] = np.exp(delta)
        parts = [
            problem(weights, part.statistic, part.test) for problem, part in zip(self._problems, data, strict=True)
        ]
        shares = np.stack([part.weight for part in data])  # (fold, t)
        shares = shares / np.maximum((shares > 0).sum(axis=0), 1)
        loss = sum(share * part.error for share, part in zip(shares, parts, strict=True))
        gradient = sum(share[:, None] * part.gradient for share, part in zip(shares, parts, strict=True))
        hessian = sum(share[:, None, None] * part.hessian for share, part in zip(shares, parts, strict=True))
        alive = self._alive
        return [
            _Point(
                float(loss[t]),
                gradient[t, alive],
                hessian[t][np.ix_(alive, alive)],
                [part.predicted[:, t] for part in parts],
            )
            for t in range(shares.shape[1])
        ]

    def _descend(self, start: Floats, point: _Point, data: list[_FoldTargets]) -> tuple[Floats, _Point]:
        """The lowest point that Newton steps within a trust region find for one target."""
        top = float(start.max())
        low, high = top - _ROOM[0], top + _ROOM[1]
        delta, radius = start, _RADIUS[0]
        for _ in range(self._max_iter):
            step, expected = newton_step(point.gradient, point.hessian, low - delta, high - delta, radius)
            if expected < _ENOUGH:
                break
            trial = self._evaluate(delta + step, data)[0]
            gain = point.loss - trial.loss
            if gain < 0.25 * expected:
                radius = 0.25 * float(abs(step).max())
            elif gain > 0.5 * expected:
                radius = min(2.0 * radius, _RADIUS[1])
            if gain > 0:
                delta, point = delta + step, trial
        return delta, point


def newton_step(gradient: Floats, hessian: Floats, low: Floats, high: Floats, radius: float) -> tuple[Floats, float]:
    """Step of log weights, and the gain that it promises.

    Directions of negative curvature are followed down. Falling weights step in the weight itself.

    Parameters
    ----------
    gradient, hessian : ndarray, shape (b,) and (b, b)
        Derivatives by the log weights.
    low, high : ndarray, shape (b,)
        Room to move.
    radius : float
        Longest step of a log weight.
    """
    free = np.where(gradient > 0, low < 0, high > 0) & (gradient != 0)
    if not free.any():
        return np.zeros_like(gradient), 0.0
    slope, curved = gradient[free], hessian[np.ix_(free, free)]
    plain = slope * curved.diagonal() > 0
    curved -= np.diag(np.where(plain, slope, 0.0))
    values, vectors = np.linalg.eigh(curved)
    size, largest = abs(values), max(float(abs(values).max()), 1e-300)
    shortest, longest = np.maximum(low[free], -radius), np.minimum(high[free], radius)
    shortest, longest = (np.where(plain, np.expm1(end), end) for end in (shortest, longest))
    best, expected = np.zeros_like(slope), 0.0
    for damping in _DAMPING:  # where the room cuts a step short, a damped one may be worth more
        move = np.clip(-vectors @ ((vectors.T @ slope) / (size + damping * largest)), shortest, longest)
        gain = -float(slope @ move + 0.5 * move @ curved @ move)
        if gain > expected:
            best, expected = move, gain
    step = np.zeros_like(gradient)
    step[free] = np.where(plain, np.log1p(np.where(plain, best, 0.0)), best)
    return step, expected


class PrimalProblem:
    """A fold of features.

    Parameters
    ----------
    gram : ndarray, shape (k, k)
        Of the training rows.
    rows : ndarray, shape (n_test, k)
        Test rows about the training mean.
    band : ndarray, shape (k,)
        Band of each coordinate.
    n_bands : int
        Number of bands.
    """

    def __init__(self, gram: Floats, rows: Floats, band: NDArray[np.intp], n_bands: int) -> None:
        self._gram, self._rows = np.asfortranarray(gram), rows
        self._band, self._n_bands, self._size = band, n_bands, gram.diagonal().copy()

    def __call__(self, weights: Floats, statistic: Floats, test: Floats) -> Errors:
        weight = weights[self._band]
        chosen = np.flatnonzero(weight * self._size > _NOTHING)
        matrix, rows, band, d = self._gram, self._rows, self._band, 1.0 / weight[chosen, None]
        if chosen.size < weight.size:
            matrix = matrix[np.ix_(chosen, chosen)]
            rows, band, statistic = rows[:, chosen], band[chosen], statistic[chosen]
        solve = _factorised(matrix, d[:, 0])
        inside = np.zeros((band.size, self._n_bands))
        inside[np.arange(band.size), band] = 1.0
        w = solve(statistic)  # (k, t)
        t = w.shape[1]
        parts = solve((inside[:, :, None] * (d * w)[:, None, :]).reshape(band.size, -1))  # (k, b t), w_b
        slopes = (rows @ parts).reshape(-1, self._n_bands, t)
        parts = parts.reshape(band.size, self._n_bands, t)
        predicted = rows @ w
        p = d * solve(rows.T @ (test - predicted))
        second = np.einsum("kc,kt,kbt->tbc", inside, p, parts, optimize=True)
        own = inside.T @ (p * w)
        return _errors(test, predicted, slopes, second, own)


class DualProblem:
    """A fold of kernels.

    Parameters
    ----------
    train, test : list of ndarray
        Training block (m, m) and test block (n_test, m) of every band.
    """

    def __init__(self, train: list[Floats], test: list[Floats]) -> None:
        self._train, self._test = np.stack(train), np.stack(test)  # (b, m, m), (b, n_test, m)

    def __call__(self, weights: Floats, statistic: Floats, test: Floats) -> Errors:
        (n_bands, m, _), n_test = self._train.shape, self._test.shape[1]
        solve = _factorised((weights @ self._train.reshape(n_bands, -1)).reshape(m, m).T, np.ones(m))
        across = (weights @ self._test.reshape(n_bands, -1)).reshape(n_test, m)
        scale = weights[:, None, None]
        a = solve(statistic)  # (m, t)
        t = a.shape[1]
        own = scale * (self._train.reshape(-1, m) @ a).reshape(n_bands, m, t)
        parts = solve(own.transpose(1, 0, 2).reshape(m, -1)).reshape(m, n_bands, t)
        alone = scale * (self._test.reshape(-1, m) @ a).reshape(n_bands, n_test, t)
        slopes = alone.transpose(1, 0, 2) - (across @ parts.reshape(m, -1)).reshape(n_test, n_bands, t)
        predicted = across @ a
        residual = test - predicted
        q = solve(across.T @ residual)
        back = scale * (self._train.reshape(-1, m) @ q).reshape(n_bands, m, t)
        back -= scale * np.matmul(self._test.transpose(0, 2, 1), residual)
        second = np.einsum("cmt,mbt->tbc", back, parts)
        diagonal = np.einsum("nt,bnt->bt", residual, alone) - np.einsum("mt,bmt->bt", q, own)
        return _errors(test, predicted, slopes, second, -diagonal)


def _errors(test: Floats, predicted: Floats, slopes: Floats, second: Floats, own: Floats) -> Errors:
    """Put derivatives of the error together.

    Parameters
    ----------
    test, predicted : ndarray, shape (n_test, t)
        Targets and predictions.
    slopes : ndarray, shape (n_test, b, t)
        Derivatives of the predictions.
    second : ndarray, shape (t, b, c)
        Half of the residual times the second derivatives of the predictions: that and its transpose are the whole,
    own : ndarray, shape (b, t)
        less this on the diagonal.
    """
    residual = test - predicted
    error = np.einsum("nt,nt->t", residual, residual)
    gradient = -2.0 * np.einsum("nt,nbt->tb", residual, slopes)
    curved = second + second.transpose(0, 2, 1)
    curved[:, np.arange(len(own)), np.arange(len(own))] -= own.T
    columns = slopes.transpose(2, 1, 0)  # (t, b, n_test)
    hessian = 2.0 * (columns @ columns.transpose(0, 2, 1) - curved)
    return Errors(error, gradient, hessian, predicted)


def _factorised(matrix: Floats, diagonal: Floats) -> Any:
    """Solution of a positive definite system with a matrix plus a diagonal, as a function of the right sides."""
    if diagonal.size == 0:
        return lambda sides: sides
    filled = np.array(matrix, order="F")
    filled[np.diag_indices_from(filled)] += diagonal
    factor, info = scipy.linalg.lapack.dpotrf(filled, lower=1, overwrite_a=1, clean=0)
    if info != 0:
        raise np.linalg.LinAlgError(f"Gram matrix is not positive definite at row {info}")
    return lambda sides: scipy.linalg.lapack.dpotrs(factor, sides, lower=1)[0]


def _log(values: Any) -> Any:
    return np.log(np.maximum(values, 1e-300))
