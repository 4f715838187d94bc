"""What all targets and all band weights share in banded ridge: statistics of the features, one set a fold.

Primal: each band is rotated once into its own principal axes, in float64. A band weight scales a whole band, so it
commutes with that rotation, and every coordinate keeps its own size for float32 products. The Gram matrix of the
training rows of a fold is that of all rows minus that of the rows left out; a candidate scales it by ``sqrt(gamma)``
on both sides. Dual: one Gram matrix of samples a band, and a candidate is their weighted sum.

In both forms the prediction of the test rows at penalty a is ``rows' diag(1 / (values + a)) b`` with
``b = statistic @ rotate``: the statistic is the centred X'Y of the training rows (primal) or the centred Y (dual).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuroalign.solvers._arrays import Array, as_slice, cast, eigh, from_numpy, namespace, take, to_numpy, zeros
from neuroalign.solvers._compress import TOLERANCE, best_cuts, compress
from neuroalign.solvers._folds import Fold
from neuroalign.solvers._pairs import Pairs, make_pairs

__all__ = ["BandPlan", "DualBands", "Path", "PrimalBands"]

# Coordinates whose largest shrinkage factor is below this are left out: all of them together are below the precision
# of the compressed grid.
_NEGLIGIBLE = {dtype: tolerance / 100 for dtype, tolerance in TOLERANCE.items()}
# With fewer penalties, or fewer than one test row to this many directions, predictions cost less than their squares.
_FEW = 4
# For that few targets a system for each costs less than an eigenbasis, if its penalty is above this share of the trace.
_SAFE = 1e-8


@dataclass(frozen=True)
class Path:
    """One fold under one candidate: the way from training statistics to the predictions of all penalties.

    keep : coordinates of the statistic that have weight; None is all.
    rotate : (d, k) statistic -> eigenbasis.
    rows : (k, r) test rows about their mean, or what is left of them after `BandPlan.project`.
    pairs : what makes squares of predictions without predictions, see `make_pairs`; None where that costs more or
        would be less precise. blocks, mix : otherwise the shrinkage of all penalties, see `compress`.
    mean_weights : (n_alphas, k) mean test row times the shrinkage, which makes the mean prediction.
    """

    keep: Array | None
    rotate: Array
    rows: Array
    pairs: Pairs | None
    blocks: list[tuple[slice, Array]]
    mix: Array | None
    mean_weights: Array


class BandPlan(Protocol):
    """What the search needs of the features."""

    alive: NDArray[np.bool_]
    intercept: bool

    def path(self, fold: int, gamma: NDArray[np.float64]) -> Path:
        """The path of one fold under one candidate."""

    def statistics(self, y: Array) -> Iterator[Array]:
        """Training statistic (d, t) of each fold, of centred float64 targets."""

    def project(self, fold: int, y: Array) -> Array:
        """Test targets (n_test, t) -> what predictions can reach of them (r, t)."""

    def solve(self, gamma: NDArray[np.float64], y: Array, alphas: Array) -> Array:
        """Weights (p or n, t) on all samples, in the caller's coordinates, of centred float64 targets."""


class _Cuts:
    """Where the spectrum of a candidate is cut: found in its first fold, and used in the others, which are alike."""

    def __init__(self, alphas: NDArray[np.float64], tolerance: float) -> None:
        self._alphas, self._tolerance = alphas, tolerance
        self._last: tuple[bytes, NDArray[np.float64]] | None = None  # one value: several threads may use it

    def get(self, gamma: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Eigenvalues at which new blocks begin."""
        last, key = self._last, gamma.tobytes()
        if last is None or last[0] != key:
            self._last = last = key, best_cuts(values, self._alphas, self._tolerance)
        return last[1]


def _path(
    plan: PrimalBands | DualBands,
    gamma: NDArray[np.float64],
    parts: tuple[Array, Array, Array],
    n_test: int,
    size: float,
    scale: Array | None = None,
    keep: Array | None = None,
) -> Path:
    """Decompose a training Gram matrix (d, d), and bring test rows (r, d) and their mean gap (d,) into its basis.

    `size` is the largest sum of squares of all rows.
    """
    (gram, rows, gap), alphas, dtype = parts, plan.alphas, plan.dtype
    values, vectors = eigh(gram, size)
    on_host, turned = to_numpy(values), vectors.T @ rows.T  # (k, r)
    inverse = 1.0 / (values[None, :] + from_numpy(alphas[:, None], values))
    pairs, blocks, mix = None, [], None
    if not plan.whole_rows and alphas.size >= _FEW and turned.shape[1] * _FEW > turned.shape[0]:
        power = (np.ones_like(on_host) if scale is None else on_host) / n_test
        pairs = make_pairs(on_host, turned @ turned.T, alphas, power, dtype)
    if pairs is None:
        shrinkage = compress(on_host, alphas, plan.cuts.get(gamma, on_host), TOLERANCE[dtype])
        blocks = [(block.columns, cast(from_numpy(block.basis, rows), dtype)) for block in shrinkage.blocks]
        mix = None if shrinkage.mix is None else cast(from_numpy(shrinkage.mix, rows), dtype)
    return Path(
        keep=keep,
        rotate=cast(vectors if scale is None else scale[:, None] * vectors, dtype),
        rows=cast(turned, dtype),
        pairs=pairs,
        blocks=blocks,
        mix=mix,
        mean_weights=inverse * (gap @ vectors),
    )


class _LastBasis:
    """Eigenbasis of all samples, kept while targets of the same band weights are refitted.

    Threads that work on blocks of targets may share it: what is kept goes with its band weights, as one value.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, tuple[Array, Array]] | None = None
        self._kept: dict[bytes, tuple[Array, Array]] = {}
        self.room = 0  # bytes of bases that are kept for longer

    def solve(self, gamma: NDArray[np.float64], gram: Callable[[], Array], sides: Array, alphas: Array) -> Array:
        """Solve with a Gram matrix (d, d) plus a penalty for each column of the right sides (d, t)."""
        last, key = self._last, gamma.tobytes()
        basis = last[1] if last is not None and last[0] == key else self._kept.get(key)
        if basis is None:
            matrix = gram()
            diagonal = to_numpy(matrix).diagonal()
            if diagonal.size and sides.shape[1] <= _FEW and float(alphas.min()) > _SAFE * float(diagonal.sum()):
                return _solve_each(matrix, sides, alphas)  # targets with band weights of their own
            basis = eigh(matrix)
            size = sum(int(part.nbytes) for part in basis)
            if size <= self.room:
                self._kept[key] = basis
                self.room -= size
        self._last = key, basis
        values, vectors = basis
        return vectors @ ((vectors.T @ sides) / (values[:, None] + alphas))


def _solve_each(matrix: Array, sides: Array, alphas: Array) -> Array:
    xp = namespace(matrix)
    unit = xp.diag(matrix[0] * 0.0 + 1.0)
    columns = [xp.linalg.solve(matrix + alpha * unit, side) for alpha, side in zip(alphas, sides.T, strict=True)]
    return xp.stack(columns).T


@dataclass(frozen=True)
class _FoldGram:
    gram: Array  # (k, k) of the training rows about their mean
    mean: Array  # (k,) of the training rows
    rows: Array  # (r, k) test rows about their mean
    gap: Array  # (k,) mean of the test rows minus that of the training rows
    project: Array | None  # (n_test, r): the Q that belongs to R in `rows`


class PrimalBands:
    """Features in memory, fewer than training samples.

    Parameters
    ----------
    x : Array, shape (n, p), float64
        Centred (if there is an intercept) and scaled features.
    columns : list of ndarray
        Columns of each band.
    folds : list of Fold
        Checked folds.
    alphas : ndarray, shape (n_alphas,)
        Penalties in the units of the scaled features.
    intercept, dtype, whole_rows
        As in `neuroalign.solvers._plan.make_plan`.
    """

    def __init__(
        self,
        x: Array,
        columns: list[NDArray[np.intp]],
        folds: list[Fold],
        alphas: NDArray[np.float64],
        *,
        intercept: bool,
        dtype: str,
        whole_rows: bool,
    ) -> None:
        xp = namespace(x)
        self.alphas, self.dtype, self.folds, self.intercept = alphas, dtype, folds, intercept
        parts, self._back, sizes = [], [], []
        for band in columns:
            part = take(x.T, as_slice(band)).T
            values, vectors = eigh(part.T @ part)
            vectors = xp.where((part == 0).all(axis=0)[:, None], vectors * 0.0, vectors)  # constant: exactly no weight
            parts.append(part @ vectors)
            self._back.append(vectors)
            sizes.append(to_numpy(values))
        self._columns = columns
        self._sizes = np.concatenate(sizes)
        self.band = np.repeat(np.arange(len(columns)), [size.size for size in sizes])
        self.alive = np.array([size.size > 0 for size in sizes])
        self.z = xp.concatenate(parts, axis=1) if xp is np else xp.cat(parts, dim=1)
        self.gram = self.z.T @ self.z
        self._squares = to_numpy(self.gram.diagonal())
        self.basis, self.cuts, self.whole_rows = _LastBasis(), _Cuts(alphas, TOLERANCE[dtype]), whole_rows
        self._grams = [self._fold(fold, intercept, whole_rows) for fold in folds]

    def _fold(self, fold: Fold, intercept: bool, whole_rows: bool) -> _FoldGram:
        n = fold.train.size
        if fold.excluded is None:
            part = take(self.z, as_slice(fold.train))
            gram, total = part.T @ part, part.sum(axis=0)
        else:
            part = take(self.z, as_slice(fold.excluded))
            gram, total = self.gram - part.T @ part, self.z.sum(axis=0) - part.sum(axis=0)
        mean = total / n if intercept else total * 0.0
        rows = take(self.z, as_slice(fold.test)) - mean
        gap = rows.mean(axis=0)
        rows, project = rows - gap, None
        if not whole_rows and rows.shape[0] > rows.shape[1] > 0:
            project, rows = namespace(rows).linalg.qr(rows)
        return _FoldGram(gram - n * mean[:, None] * mean[None, :], mean, rows, gap, project)

    def path(self, fold: int, gamma: NDArray[np.float64]) -> Path:
        """The path of one fold under one candidate; coordinates next to no weight are left out."""
        part, weight = self._grams[fold], gamma[self.band]
        chosen = np.flatnonzero(weight * self._sizes > _NEGLIGIBLE[self.dtype] * self.alphas.min())
        if chosen.size == 0:
            chosen = np.flatnonzero(weight > 0)
        scale = from_numpy(np.sqrt(weight[chosen]), self.z)
        index = None if chosen.size == weight.size else as_slice(chosen)
        gram, rows, gap = part.gram, part.rows, part.gap
        if index is not None:
            gram = take(take(gram, index).T, index)
            rows, gap = take(rows.T, index).T, take(gap, index)
        gram = gram * scale[:, None] * scale[None, :]
        size = float((weight * self._squares).max(initial=0.0))
        return _path(self, gamma, (gram, rows * scale, gap * scale), self.folds[fold].test.size, size, scale, index)

    def statistics(self, y: Array) -> Iterator[Array]:
        """Centred X'Y (k, t) of the training rows of each fold."""
        cross, total = self.z.T @ y, y.sum(axis=0)
        for fold, part in zip(self.folds, self._grams, strict=True):
            index = as_slice(fold.train if fold.excluded is None else fold.excluded)
            rows = take(y, index)
            own, sums = take(self.z, index).T @ rows, rows.sum(axis=0)
            if fold.excluded is not None:
                own, sums = cross - own, total - sums
            yield own - part.mean[:, None] * sums

    def project(self, fold: int, y: Array) -> Array:
        """Test targets on the span of the test rows, where there are more rows than coordinates."""
        q = self._grams[fold].project
        return y if q is None else q.T @ y

    def problem(self, fold: int) -> tuple[Array, Array]:
        """Training Gram matrix (k, k), and test rows (n_test, k) about the training mean."""
        rows = take(self.z, as_slice(self.folds[fold].test)) - self._grams[fold].mean
        return self._grams[fold].gram, rows

    def solve(self, gamma: NDArray[np.float64], y: Array, alphas: Array) -> Array:
        """Weights (p, t) on all samples."""
        scale = from_numpy(np.sqrt(gamma[self.band]), self.z)
        sides = scale[:, None] * (self.z.T @ y)
        w = scale[:, None] * self.basis.solve(gamma, lambda: self.gram * scale[:, None] * scale, sides, alphas)
        coef = zeros((sum(c.size for c in self._columns), y.shape[1]), "float64", y)
        for number, (columns, back) in enumerate(zip(self._columns, self._back, strict=True)):
            inside = as_slice(np.flatnonzero(self.band == number))
            coef[from_numpy(columns, coef)] = back @ take(w, inside)
        return coef


class DualBands:
    """One Gram matrix of samples a band, from features or given as kernels.

    Parameters
    ----------
    kernels : list of Array, shape (n, n), float64
        Of the centred and scaled features, or any positive semi-definite kernel.
    x, columns : Array and list of ndarray, or None
        The features that the kernels are of, for weights of features instead of weights of samples.
    folds, alphas, intercept, dtype, whole_rows
        As in `PrimalBands`.
    """

    def __init__(
        self,
        kernels: list[Array],
        x: Array | None,
        columns: list[NDArray[np.intp]],
        folds: list[Fold],
        alphas: NDArray[np.float64],
        *,
        intercept: bool,
        dtype: str,
        whole_rows: bool,
    ) -> None:
        self.kernels, self._x, self._columns = kernels, x, columns
        self.folds, self.alphas, self.dtype, self.intercept = folds, alphas, dtype, intercept
        self.alive = np.array([_varies(_centred(kernel) if intercept else kernel, kernel) for kernel in kernels])
        self._last: tuple[bytes, Array] | None = None  # one value: several threads may use it
        self.basis, self.cuts, self.whole_rows = _LastBasis(), _Cuts(alphas, TOLERANCE[dtype]), whole_rows

    def _weighted(self, gamma: NDArray[np.float64]) -> Array:
        """Weighted sum of the kernels; kept until another candidate asks."""
        last, key = self._last, gamma.tobytes()
        if last is None or last[0] != key:
            total = zeros(tuple(self.kernels[0].shape), "float64", self.kernels[0])
            for weight, kernel in zip(gamma.tolist(), self.kernels, strict=True):
                if weight > 0:
                    total += weight * kernel
            self._last = last = key, total
        return last[1]

    def _blocks(self, kernel: Array, fold: Fold) -> tuple[Array, Array]:
        """Training block (m, m) and test block (n_test, m), centred by the training samples."""
        columns = as_slice(fold.train)
        part = take(kernel, columns)
        across, test = take(part.T, columns), take(part.T, as_slice(fold.test))
        if self.intercept:
            mean = across.mean(axis=0)
            test = test - test.mean(axis=1)[:, None] - mean + mean.mean()
            across = across - mean[:, None] - mean[None, :] + mean.mean()
        return across, test

    def path(self, fold: int, gamma: NDArray[np.float64]) -> Path:
        """The path of one fold under one candidate."""
        kernel = self._weighted(gamma)
        across, test = self._blocks(kernel, self.folds[fold])
        gap, size = test.mean(axis=0), float(kernel.diagonal().max())
        return _path(self, gamma, (across, test - gap, gap), self.folds[fold].test.size, size)

    def statistics(self, y: Array) -> Iterator[Array]:
        """Centred training targets (m, t) of each fold."""
        for fold in self.folds:
            rows = take(y, as_slice(fold.train))
            yield rows - rows.mean(axis=0) if self.intercept else rows

    def project(self, fold: int, y: Array) -> Array:
        """Test targets as they are."""
        return y

    def problem(self, fold: int) -> tuple[list[Array], list[Array]]:
        """Training and test blocks of every band."""
        pairs = [self._blocks(kernel, self.folds[fold]) for kernel in self.kernels]
        return [a for a, _ in pairs], [b for _, b in pairs]

    def solve(self, gamma: NDArray[np.float64], y: Array, alphas: Array) -> Array:
        """Weights of features (p, t), or of samples (n, t) where kernels were given."""
        kernel = self._weighted(gamma)
        dual = self.basis.solve(gamma, lambda: _centred(kernel) if self.intercept else kernel, y, alphas)
        if self._x is None:  # directions that no sample can tell from a constant are rounding
            return dual - dual.mean(axis=0) if self.intercept else dual
        coef = zeros((self._x.shape[1], y.shape[1]), "float64", y)
        for weight, columns in zip(gamma.tolist(), self._columns, strict=True):
            if weight > 0:
                coef[from_numpy(columns, coef)] = weight * (take(self._x.T, as_slice(columns)) @ dual)
        return coef


def _centred(kernel: Array) -> Array:
    mean = kernel.mean(axis=0)
    return kernel - mean[:, None] - mean[None, :] + mean.mean()


def _varies(kernel: Array, given: Array) -> bool:
    """Whether anything but rounding is left of a kernel."""
    return float(abs(kernel).max()) > kernel.shape[0] * np.finfo(np.float64).eps * float(abs(given).max())
