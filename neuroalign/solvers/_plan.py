"""What all targets share in a cross-validated ridge path: one eigenbasis of all rows and one of each fold.

Primal (eigenvectors of X'X) when there are at least as many training samples as features, else dual (of XX'). Targets
only ever meet features that were rotated into an eigenbasis in float64: each rotated feature has its own size, so a
float32 product is as precise in the smallest direction as in the largest, whatever the condition of X.

In both forms the prediction of held-out rows at penalty a is ``rows @ diag(1 / (values + a)) @ b`` with
``b = rotate' s``: primal ``s`` is the centred X'Y of the training rows (in the basis of all rows), dual ``s`` is the
centred Y itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.compute import map_threads
from neuroalign.solvers._arrays import (
    Array,
    Index,
    as_slice,
    cast,
    contiguous,
    eigh,
    from_numpy,
    is_torch,
    mean64,
    namespace,
    take,
    to_numpy,
    zeros,
)
from neuroalign.solvers._compress import TOLERANCE, Compressed, best_cuts, compress
from neuroalign.solvers._deviations import HARDLY, deviations, gains, own_fold, scaled_dual_fold
from neuroalign.solvers._folds import Fold, check_folds, is_partition
from neuroalign.solvers._memory import tells_of_memory
from neuroalign.solvers._pairs import Pairs, make_pairs

__all__ = ["FoldBasis", "Plan", "make_kernel_plan", "make_plan"]

_SMALL = 2048  # directions, up to which several folds are decomposed at a time
_CHUNK = 2048  # rows (primal) or features (dual) in float64 at a time
_MIX, _ELEMENT = 4.0, 100.0  # cost of a mixing operation and of an element of a prediction, in those of a large product
_BESIDE = 1.2  # cost of the form without predictions, in products of (k, k)


@dataclass(frozen=True)
class FoldBasis:
    """Eigenbasis of the training rows of one fold, and the test rows in it.

    rotate : (d, k) training statistics -> eigenbasis.
    shift : (k,) what one unit of the training mean of a target takes off ``Y'X @ rotate`` (primal only).
    rows : (k, r) centred test rows, or R of their QR decomposition when there are more rows than k.
    project : (n_test, r) the Q that belongs to R, else None.
    blocks, mix : the shrinkage of all alphas, see `compress`; parts of `blocks` are (q, width).
    pairs : what makes the squares of predictions without the predictions; None where these are formed.
    test_shift : (k,) what one unit of the test mean of a target takes off ``Y'X @ rotate`` of the excluded rows, where
        that is cheaper than a product with the test rows; else None.
    mean_weights : (n_alphas, k) mean test row times the shrinkage, which makes the mean prediction.
    """

    train: Index
    test: Index
    excluded: Index | None
    rotate: Array
    shift: Array | None
    rows: Array
    project: Array | None
    blocks: list[tuple[slice, Array]]
    mix: Array | None
    pairs: Pairs | None
    test_shift: Array | None
    mean_weights: Array


@dataclass(frozen=True)
class Plan:
    """Everything that does not depend on the targets, rows in fold order.

    x : (n, k) rows in the eigenbasis of all rows: rotated features (primal) or eigenvectors of XX' (dual), so that
        ``back @ diag(1 / (values + a)) @ x' y`` are the weights of a target.
    values : (k,) eigenvalues of all rows, float64.
    back : (p, k) eigenbasis of all rows -> features.
    x_mean, scale : what the features were centred by (p,) and divided by; 1 where `back` holds their deviations.
    order : rows of the input in the order of `x`; None when it is the same.
    partition : every row is left out of exactly one fold, so that the folds sum to the total.
    """

    x: Array
    values: Array
    back: Array
    x_mean: NDArray[np.float64]
    scale: float
    order: Index | None
    dual: bool
    intercept: bool
    dtype: str
    partition: bool
    folds: list[FoldBasis]


@tells_of_memory
def make_plan(
    x: Array,
    folds: Iterable[tuple[ArrayLike, ArrayLike]] | None,
    alphas: NDArray[np.float64],
    *,
    intercept: bool,
    dtype: str,
    whole_rows: bool = False,
    standardize: bool = False,
) -> Plan:
    """Decompose the features once for all targets.

    Parameters
    ----------
    x : Array, shape (n, p)
        Finite features.
    folds : pairs of indices, or None
        Training and test rows; None makes only the basis of all rows.
    alphas : ndarray, shape (n_alphas,)
        The grid that folds are scored on.
    intercept : bool
        Centre by the mean of the training rows.
    dtype : {"float32", "float64"}
        Of the products with targets; decompositions are in float64.
    whole_rows : bool
        Keep the test rows instead of their R factor (for scorers that need predictions).
    standardize : bool
        Divide the features by their standard deviations in the training rows.
    """
    n = x.shape[0]
    split = [] if folds is None else check_folds(folds, n)
    order, split, partition = _fold_order(split, n)
    if order is not None:
        x = take(x, order)
    mean = _column_mean(x) if intercept else np.zeros(x.shape[1])
    unit = 1.0 if standardize else _power_of_two_scale(x, mean)
    features = _Features(x, mean, deviations(x) if standardize else np.full(x.shape[1], unit), standardize)
    dual = x.shape[1] > min((fold.train.size for fold in split), default=n)
    maker = _dual if dual else _primal
    values, rotated, back, of_fold = maker(features, intercept)
    if standardize:
        back = back / from_numpy(features.scale[:, None], back)
    alphas = alphas / unit**2
    # The spectrum of a fold is nearly that of all rows, so it is cut at the same values.
    grid = alphas, best_cuts(to_numpy(values), alphas, TOLERANCE[dtype]) if split else np.empty(0)
    return Plan(
        x=cast(rotated, dtype),
        values=values,
        back=cast(back, dtype),
        x_mean=mean,
        scale=unit,
        order=order,
        dual=dual,
        intercept=intercept,
        dtype=dtype,
        partition=partition,
        folds=_each(lambda fold: _finish(of_fold(fold), fold, grid, dtype, whole_rows), split, values),
    )


@dataclass(frozen=True)
class _Features:
    """Features that are centred and scaled in float64 when read, a chunk at a time."""

    x: Array
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    standardized: bool

    def rows(self) -> Iterator[tuple[slice, Array]]:
        """Yield chunks of rows."""
        mean, scale = from_numpy(self.mean, self.x), from_numpy(self.scale, self.x)
        for lo in range(0, self.x.shape[0], _CHUNK):
            yield slice(lo, lo + _CHUNK), (cast(self.x[lo : lo + _CHUNK], "float64") - mean) / scale

    def columns(self) -> Iterator[tuple[slice, Array]]:
        """Yield chunks of features."""
        for lo in range(0, self.x.shape[1], _CHUNK):
            mean, scale = (from_numpy(part[lo : lo + _CHUNK], self.x) for part in (self.mean, self.scale))
            yield slice(lo, lo + _CHUNK), (cast(self.x[:, lo : lo + _CHUNK], "float64") - mean) / scale


_Basis = tuple[Array, Array, Array | None, Array]  # values (k,), rotate (d, k), shift (k,), test rows (n_test, k)
_Whole = tuple[Array, Array, Array, Callable[[Fold], _Basis]]  # values (k,), rotated (n, k), back (p, k), of a fold


def _primal(features: _Features, intercept: bool) -> _Whole:
    n, p = features.x.shape
    gram = zeros((p, p), "float64", features.x)
    for _, chunk in features.rows():
        gram += chunk.T @ chunk
    values, vectors = eigh(gram)
    rotated = zeros((n, values.shape[0]), "float64", features.x)
    for rows, chunk in features.rows():
        rotated[rows] = chunk @ vectors

    def of_fold(fold: Fold) -> _Basis:
        if not features.standardized:
            return _primal_fold(rotated, values, fold, intercept)
        gain = gains(features.x, features.scale, fold)
        if gain.max() > HARDLY:
            return own_fold(features.x, features.mean, gain / features.scale, fold, intercept)
        return _primal_fold(rotated, values, fold, intercept, from_numpy(gain[:, None], vectors) * vectors)

    return values, rotated, vectors, of_fold


def _primal_fold(rotated: Array, values: Array, fold: Fold, intercept: bool, scaled: Array | None = None) -> _Basis:
    # `scaled` (p, k): the eigenbasis of all rows in features that the fold has scaled; None where it does not
    n = fold.train.size
    if fold.excluded is None:
        part = take(rotated, as_slice(fold.train))
        gram, mean = part.T @ part, part.sum(axis=0) / n
    else:  # all rows have a diagonal Gram matrix and sum to zero
        part = take(rotated, as_slice(fold.excluded))
        gram, mean = namespace(values).diag(values) - part.T @ part, -part.sum(axis=0) / n
    mean = mean if intercept else mean * 0.0
    gram = gram - n * mean[:, None] * mean[None, :]
    if scaled is None:
        values, vectors = eigh(gram, float(values[-1]) if values.shape[0] else 0.0)
    else:
        values, vectors = eigh(scaled @ gram @ scaled.T)
    vectors = vectors if scaled is None else scaled.T @ vectors
    rows = (take(rotated, as_slice(fold.test)) - mean) @ vectors
    return values, vectors, n * (mean @ vectors), rows


def _dual(features: _Features, intercept: bool) -> _Whole:
    n, p = features.x.shape
    gram = zeros((n, n), "float64", features.x)
    for _, chunk in features.columns():
        gram += chunk @ chunk.T
    values, vectors = eigh(gram)
    back = zeros((p, values.shape[0]), "float64", features.x)
    for columns, chunk in features.columns():
        back[columns] = chunk.T @ vectors

    def of_fold(fold: Fold) -> _Basis:
        if not features.standardized:
            return _dual_fold(gram, fold, intercept)
        return scaled_dual_fold(features.columns(), gains(features.x, features.scale, fold), fold, intercept)

    return values, vectors, back, of_fold


@tells_of_memory
def make_kernel_plan(
    kernel: Array,
    folds: Iterable[tuple[ArrayLike, ArrayLike]],
    alphas: NDArray[np.float64],
    *,
    intercept: bool,
    dtype: str,
    whole_rows: bool = False,
) -> Plan:
    """Decompose a kernel once for all targets; the weights of its plan are those of the training samples.

    Parameters
    ----------
    kernel : Array of float64, shape (n, n)
        Symmetric, finite.
    folds, alphas, intercept, dtype, whole_rows
        As in `make_plan`.
    """
    n = kernel.shape[0]
    split = check_folds(folds, n)
    order, split, partition = _fold_order(split, n)
    mean = to_numpy(kernel.mean(axis=0)) if intercept else np.zeros(n)
    back_order = slice(None) if order is None else np.argsort(order)
    if order is not None:
        kernel = take(take(kernel, order).T, order)
    centred = kernel
    if intercept:
        rows = kernel.mean(axis=0)
        centred = kernel - rows[:, None] - rows[None, :] + rows.mean()
    values, vectors = eigh(centred)
    grid = alphas, best_cuts(to_numpy(values), alphas, TOLERANCE[dtype])
    return Plan(
        x=cast(vectors, dtype),
        values=values,
        back=cast(contiguous(take(vectors, back_order)), dtype),
        x_mean=mean,
        scale=1.0,
        order=order,
        dual=True,
        intercept=intercept,
        dtype=dtype,
        partition=partition,
        folds=_each(
            lambda fold: _finish(_dual_fold(kernel, fold, intercept), fold, grid, dtype, whole_rows), split, values
        ),
    )


def _each(finish: Callable[[Fold], FoldBasis], split: list[Fold], values: Array) -> list[FoldBasis]:
    """Work on folds side by side, where they are small enough for memory not to matter."""
    if is_torch(values) or values.shape[0] > _SMALL:
        return [finish(fold) for fold in split]
    return map_threads(finish, split)


def _dual_fold(gram: Array, fold: Fold, intercept: bool) -> _Basis:
    columns = as_slice(fold.train)
    across = take(take(gram, columns).T, columns)  # (train, train), symmetric
    test = take(take(gram, columns).T, as_slice(fold.test))  # (test, train)
    if intercept:
        mean = across.mean(axis=0)
        test = test - test.mean(axis=1)[:, None] - mean + mean.mean()
        across = across - mean[:, None] - mean[None, :] + mean.mean()
    values, vectors = eigh(across, float(gram.diagonal().max()))
    return values, vectors, None, test @ vectors


def _finish(
    basis: _Basis, fold: Fold, grid: tuple[NDArray[np.float64], NDArray[np.float64]], dtype: str, whole_rows: bool
) -> FoldBasis:
    (values, rotate, shift, rows), (alphas, cuts) = basis, grid
    mean = rows.mean(axis=0)
    rows = rows - mean
    shrinkage = compress(to_numpy(values), alphas, cuts, TOLERANCE[dtype])
    pairs = None if whole_rows else _pairs(to_numpy(values), rows, alphas, shift is None, shrinkage, dtype)
    project = test_shift = None
    if pairs is not None and shift is not None and _tests_what_it_excludes(fold) and rows.shape[0] > rows.shape[1]:
        test_shift = cast(rows.shape[0] * (mean + shift / fold.train.size), dtype)
    elif pairs is None and not whole_rows and rows.shape[0] > rows.shape[1] > 0:
        # Only |rows @ w| and rows' y are needed: k rows do as well as n_test.
        project, rows = namespace(rows).linalg.qr(rows)
        project = cast(project, dtype)
    return FoldBasis(
        train=as_slice(fold.train),
        test=as_slice(fold.test),
        excluded=None if fold.excluded is None else as_slice(fold.excluded),
        rotate=cast(contiguous(rotate), dtype),
        shift=None if shift is None else cast(shift, dtype),
        rows=cast(contiguous(rows.T), dtype),
        project=project,
        blocks=[(block.columns, cast(from_numpy(block.basis, rows), dtype)) for block in shrinkage.blocks],
        mix=None if shrinkage.mix is None else cast(from_numpy(shrinkage.mix, rows), dtype),
        pairs=pairs,
        test_shift=test_shift,
        mean_weights=cast(mean / (values + from_numpy(alphas[:, None], values)), dtype),
    )


def _pairs(
    values: NDArray[np.float64],
    rows: Array,
    alphas: NDArray[np.float64],
    dual: bool,
    shrinkage: Compressed,
    dtype: str,
) -> Pairs | None:
    """The form without predictions, where it costs less than the predictions and is as precise."""
    (n_test, k), n_alphas = rows.shape, alphas.size
    products = sum(len(block.basis) * (block.basis.shape[1] + _MIX * n_alphas) for block in shrinkage.blocks)
    if (products + _ELEMENT * n_alphas) * min(n_test, k) < _BESIDE * k * k:
        return None
    power = (np.ones(k) if dual else values) / n_test  # of noise in b, for one unit of it in the test rows
    return make_pairs(values, rows.T @ rows, alphas, power, dtype)


def _tests_what_it_excludes(fold: Fold) -> bool:
    return fold.excluded is not None and np.array_equal(fold.excluded, fold.test)


def _column_mean(x: Array) -> NDArray[np.float64]:
    """Float64 column means; exactly the value itself for a constant column, so that it is exactly zero centred."""
    mean = to_numpy(mean64(x))
    flat = to_numpy((x == x[:1]).all(axis=0))
    return np.where(flat, to_numpy(x[0]), mean)


def _power_of_two_scale(x: Array, mean: NDArray[np.float64]) -> float:
    """Power of two near the largest centred value, so that femtotesla do not underflow and nothing is rounded."""
    shift, largest = from_numpy(mean, x), 0.0
    for lo in range(0, x.shape[0], _CHUNK):
        largest = max(largest, float(abs(cast(x[lo : lo + _CHUNK], "float64") - shift).max()))
    return float(2.0 ** np.round(np.log2(largest))) if largest > 0 else 1.0


def _fold_order(split: list[Fold], n: int) -> tuple[NDArray[np.intp] | None, list[Fold], bool]:
    """Order in which the rows of a fold are side by side, so that tiles are views instead of copies; folds in it.

    None when there is no such order or rows are in it; and whether every row is left out of exactly one fold.
    """
    if not split or not is_partition(split, n):
        return None, split, False
    order = np.concatenate([fold.excluded for fold in split if fold.excluded is not None])
    if (order == np.arange(n)).all():
        return None, split, True
    return order, _reorder(split, order), True


def _reorder(folds: list[Fold], order: NDArray[np.intp]) -> list[Fold]:
    place = np.argsort(order)
    return [
        Fold(
            np.sort(place[fold.train]),
            np.sort(place[fold.test]),
            None if fold.excluded is None else np.sort(place[fold.excluded]),
        )
        for fold in folds
    ]
