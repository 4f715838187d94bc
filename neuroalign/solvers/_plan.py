"""What all targets share in a cross-validated ridge path: centred features and one eigenbasis a fold.

Primal (eigenvectors of X'X) when there are at least as many training samples as features, else dual (of XX'). In both
forms the prediction of held-out rows at penalty a is ``rows @ diag(1 / (values + a)) @ b`` with ``b = rotate @ s``:
primal ``s`` is the centred X'Y of the training rows, dual ``s`` is the centred Y itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.solvers._arrays import (
    Array,
    Index,
    as_slice,
    cast,
    eigh,
    from_numpy,
    mean64,
    namespace,
    take,
    to_numpy,
    zeros,
)
from neuroalign.solvers._folds import Fold, check_folds, is_partition

__all__ = ["FoldBasis", "Plan", "make_plan"]

_CHUNK = 2048  # rows (primal) or features (dual) brought to float64 at a time
_FLOAT32_CONDITION = (
    1e7  # beyond this ratio of largest eigenvalue to smallest penalty, float32 products pick wrong alphas
)


@dataclass(frozen=True)
class FoldBasis:
    """Eigenbasis of the training rows of one fold, and the test rows in it.

    values : (k,) eigenvalues, float64.
    rotate : (k, d) training statistics -> eigenbasis.
    shift : (k,) what one unit of the training mean of a target takes off ``rotate @ X'Y`` (primal only).
    rows : (r, k) centred test rows, or R of their QR decomposition when there are more rows than k.
    project : (n_test, r) the Q that belongs to R, else None.
    rows_mean : (k,) mean test row, which makes the mean prediction.
    """

    train: Index
    test: Index
    excluded: Index | None
    n_train: int
    values: Array
    rotate: Array
    shift: Array | None
    rows: Array
    project: Array | None
    rows_mean: Array


@dataclass(frozen=True)
class Plan:
    """Centred, scaled features in fold order with their eigenbases; a tile of targets is all that is missing."""

    x: Array  # (n, p), centred, divided by `scale`, in the working dtype
    x_mean: NDArray[np.float64]  # (p,)
    scale: float
    order: Index | None  # rows of the input in the order of `x`
    dual: bool
    intercept: bool
    dtype: str
    partition: bool
    values: Array  # (k,) of all rows
    vectors: Array  # (p, k) or (n, k)
    folds: list[FoldBasis]

    @property
    def n(self) -> int:
        """Number of samples."""
        return int(self.x.shape[0])


def make_plan(
    x: Array,
    alphas: NDArray[np.float64],
    folds: Iterable[tuple[ArrayLike, ArrayLike]],
    *,
    intercept: bool,
    small: bool,
    whole_rows: bool = False,
) -> Plan:
    """Decompose the features once for all targets.

    Parameters
    ----------
    x : Array, shape (n, p)
        Finite features.
    alphas : ndarray
        The grid, which decides with the spectrum whether float32 is enough.
    folds : pairs of indices
        Training and test rows; may be empty (then only the refit basis is made).
    intercept : bool
        Centre by the mean of the training rows.
    small : bool
        Whether the inputs are float32, so that target products may be as well.
    whole_rows : bool
        Keep the test rows instead of their R factor (for scorers that need predictions).
    """
    checked = [*folds]
    split = check_folds(checked, x.shape[0]) if checked else []
    partition = is_partition(split, x.shape[0])
    order: Index | None = None
    if partition:  # rows of a fold side by side: views instead of copies in every tile
        order = as_slice(np.concatenate([fold.excluded for fold in split if fold.excluded is not None]))
        split = _reorder(split, order, x.shape[0])
        x, order = (x, None) if isinstance(order, slice) else (take(x, order), order)
    mean = _column_mean(x) if intercept else np.zeros(x.shape[1])
    scale = _power_of_two_scale(x, mean)
    features = _Features(x, mean, scale)
    n_train = min((fold.train.size for fold in split), default=x.shape[0])
    dual = x.shape[1] > n_train
    gram = features.gram_rows() if dual else features.gram(slice(0, x.shape[0]))[0]
    values, vectors = eigh(gram)
    floor = float(alphas.min()) / scale**2 * _FLOAT32_CONDITION
    dtype = "float32" if small and values.shape[0] and float(values[-1]) <= floor else "float64"
    maker = _dual_fold if dual else _primal_fold
    bases = [_finish(maker(features, gram, fold, intercept), fold, dtype, whole_rows) for fold in split]
    return Plan(
        x=features.centred(slice(0, x.shape[0]), dtype),
        x_mean=mean,
        scale=scale,
        order=order,
        dual=dual,
        intercept=intercept,
        dtype=dtype,
        partition=partition,
        values=values,
        vectors=cast(vectors, dtype),
        folds=bases,
    )


@dataclass(frozen=True)
class _Features:
    """Features that are centred and scaled in float64 when read, a chunk at a time."""

    x: Array
    mean: NDArray[np.float64]
    scale: float

    def centred(self, rows: Index, dtype: str = "float64") -> Array:
        part = take(self.x, rows)
        out = zeros(tuple(part.shape), dtype, self.x)
        mean = from_numpy(self.mean, self.x)
        for lo in range(0, part.shape[0], _CHUNK):
            out[lo : lo + _CHUNK] = (cast(part[lo : lo + _CHUNK], "float64") - mean) / self.scale
        return out

    def gram(self, rows: Index) -> tuple[Array, Array]:
        """X'X (p, p) and column sums (p,) of some rows."""
        part = take(self.x, rows)
        gram = zeros((self.x.shape[1], self.x.shape[1]), "float64", self.x)
        total = zeros((self.x.shape[1],), "float64", self.x)
        for lo in range(0, part.shape[0], _CHUNK):
            chunk = _Features(part[lo : lo + _CHUNK], self.mean, self.scale).centred(slice(None))
            gram += chunk.T @ chunk
            total += chunk.sum(axis=0)
        return gram, total

    def gram_rows(self) -> Array:
        """XX' (n, n)."""
        n, p = self.x.shape
        gram = zeros((n, n), "float64", self.x)
        for lo in range(0, p, _CHUNK):
            hi = lo + _CHUNK
            chunk = _Features(self.x[:, lo:hi], self.mean[lo:hi], self.scale).centred(slice(None))
            gram += chunk @ chunk.T
        return gram


_Basis = tuple[Array, Array, Array | None, Array]  # values (k,), rotate (k, d), shift (k,), test rows (n_test, k)


def _primal_fold(features: _Features, gram: Array, fold: Fold, intercept: bool) -> _Basis:
    if fold.excluded is None:
        train, total = features.gram(as_slice(fold.train))
    else:
        out, total = features.gram(as_slice(fold.excluded))
        train = gram - out
        total = -total  # all rows sum to zero
    mean = total / fold.train.size if intercept else total * 0.0
    train -= fold.train.size * mean[:, None] * mean[None, :]
    values, vectors = eigh(train)
    rows = (features.centred(as_slice(fold.test)) - mean) @ vectors
    return values, vectors.T, fold.train.size * (mean @ vectors), rows


def _dual_fold(features: _Features, gram: Array, fold: Fold, intercept: bool) -> _Basis:
    columns = as_slice(fold.train)
    across = take(take(gram, columns).T, columns)  # (train, train), symmetric
    test = take(take(gram, columns).T, as_slice(fold.test))  # (test, train)
    if intercept:
        mean = across.mean(axis=0)
        test = test - test.mean(axis=1)[:, None] - mean + mean.mean()
        across = across - mean[:, None] - mean[None, :] + mean.mean()
    values, vectors = eigh(across)
    return values, vectors.T, None, test @ vectors


def _finish(basis: _Basis, fold: Fold, dtype: str, whole_rows: bool) -> FoldBasis:
    values, rotate, shift, rows = basis
    rows_mean = rows.mean(axis=0)
    rows = rows - rows_mean
    project = None
    if not whole_rows and rows.shape[0] > rows.shape[1] > 0:
        # Only |rows @ w| and rows' y are needed: k rows do as well as n_test.
        project, rows = namespace(rows).linalg.qr(rows)
        project = cast(project, dtype)
    return FoldBasis(
        train=as_slice(fold.train),
        test=as_slice(fold.test),
        excluded=None if fold.excluded is None else as_slice(fold.excluded),
        n_train=fold.train.size,
        values=values,
        rotate=cast(_contiguous(rotate), dtype),
        shift=None if shift is None else cast(shift, dtype),
        rows=cast(rows, dtype),
        project=project,
        rows_mean=cast(rows_mean, dtype),
    )


def _contiguous(array: Array) -> Array:
    return array.contiguous() if hasattr(array, "contiguous") else np.ascontiguousarray(array)


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


def _reorder(folds: list[Fold], order: Index, n: int) -> list[Fold]:
    if isinstance(order, slice):
        return folds
    place = np.empty(n, dtype=np.intp)
    place[order] = np.arange(n)
    return [
        Fold(
            np.sort(place[fold.train]),
            np.sort(place[fold.test]),
            None if fold.excluded is None else np.sort(place[fold.excluded]),
        )
        for fold in folds
    ]
