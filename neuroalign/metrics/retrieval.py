"""Identification of the right item among candidates: 2v2, ranks, top-k, relative median rank."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError

__all__ = ["SIMILARITIES", "relative_median_rank", "retrieval_ranks", "top_k_accuracy", "two_versus_two"]

Similarity = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
_TIE = 1e-12  # similarities closer than this (times their size) are equal up to rounding


def two_versus_two(y_true: ArrayLike, y_pred: ArrayLike, metric: str | Similarity = "correlation") -> float:
    """2v2 accuracy: how often two predictions match their own two measurements better than the swapped ones.

    All pairs of samples are tried; a tie counts one half. Chance is 0.5, 1 is perfect.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_samples, n_targets)
        Measured and predicted patterns, at least two samples.
    metric : {"correlation", "cosine", "euclidean", "dot"} or callable, default "correlation"
        Similarity of two patterns, see `SIMILARITIES`.

    Returns
    -------
    float
        The share of pairs that is right.

    Raises
    ------
    SchemaError
        If the shapes differ, there are fewer than two samples, values are not finite, or the similarity is undefined.
    ConfigError
        If the metric is not known.

    References
    ----------
    Mitchell et al. (2008), Predicting human brain activity associated with the meanings of nouns, Science 320.

    Examples
    --------
    >>> two_versus_two([[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.2, 0.8]], metric="cosine")
    1.0
    """
    true, predicted = _patterns(y_true, "y_true"), _patterns(y_pred, "y_pred")
    if true.shape != predicted.shape or len(true) < 2:
        raise SchemaError(
            "2v2 needs the same two or more samples on both sides.", expected=true.shape, got=predicted.shape
        )
    similarity = _similarity(metric, predicted, true)
    own = np.diag(similarity)
    gain = (own[:, None] + own[None, :]) - (similarity + similarity.T)
    gain = gain[np.triu_indices(len(true), 1)]
    tie = np.abs(gain) <= _TIE * np.abs(similarity).max()
    return float(np.where(tie, 0.5, gain > 0).mean())


def retrieval_ranks(
    query: ArrayLike,
    candidates: ArrayLike,
    *,
    similarity: str | Similarity = "correlation",
    correct: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Rank of the right candidate for every query: 0 is best, ``n_candidates - 1`` is worst.

    Parameters
    ----------
    query : array-like, shape (n_queries, n_features)
        Decoded patterns or embeddings.
    candidates : array-like, shape (n_candidates, n_features)
        What they are compared with.
    similarity : {"correlation", "cosine", "euclidean", "dot"} or callable, default "correlation"
        See `SIMILARITIES`; a callable gives (n_queries, n_candidates), larger is more alike.
    correct : array-like of int, shape (n_queries,), optional
        Index of the right candidate of every query; without it, query i belongs to candidate i.

    Returns
    -------
    ndarray of float64, shape (n_queries,)
        The number of candidates that are more alike than the right one, plus half of those equally alike, so that
        a query that cannot tell the candidates apart gets the middle rank.

    Raises
    ------
    SchemaError
        If shapes do not match, values are not finite, an index is out of range, or the similarity is undefined.
    ConfigError
        If the similarity is not known.

    Examples
    --------
    >>> retrieval_ranks([[1.0, 0.0], [1.0, 0.1]], [[1.0, 0.0], [0.0, 1.0]], similarity="cosine")
    array([0., 1.])
    """
    values = _similarity(similarity, _patterns(query, "query"), _patterns(candidates, "candidates"))
    index = _correct(correct, *values.shape)
    own = np.take_along_axis(values, index[:, None], axis=1)  # (query, 1)
    tie = np.abs(values - own) <= _TIE * np.abs(values).max(axis=1, keepdims=True)
    return ((values > own) & ~tie).sum(axis=1) + 0.5 * (tie.sum(axis=1) - 1)


def top_k_accuracy(ranks: ArrayLike | tuple[ArrayLike, ArrayLike], k: int = 1) -> float:
    """Share of queries whose right candidate is among the k most alike.

    Parameters
    ----------
    ranks : array-like, shape (n_queries,), or tuple (query, candidates)
        Ranks of `retrieval_ranks` (0 is best), or the two arrays to rank by correlation.
    k : int, default 1
        How many candidates are kept. Chance is ``k / n_candidates``.

    Returns
    -------
    float
        The share with rank ``<= k - 1``; a tie at the border counts as a miss.

    Raises
    ------
    SchemaError
        If there are no ranks or they are not finite and >= 0.
    ConfigError
        If k is not a positive integer.

    Examples
    --------
    >>> top_k_accuracy([0, 3, 1, 0], k=2)
    0.75
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError("k must be a positive integer.", expected="k >= 1", got=k, where="k")
    if isinstance(ranks, tuple) and len(ranks) == 2 and np.ndim(ranks[0]) == 2:
        ranks = retrieval_ranks(ranks[0], ranks[1])
    return float((_ranks(ranks) <= k - 1).mean())


def relative_median_rank(ranks: ArrayLike, n_candidates: int) -> float:
    """Median rank of the right candidate as a share of the worst rank: 0 is best, 0.5 is chance, 1 is worst.

    Parameters
    ----------
    ranks : array-like, shape (n_queries,)
        Ranks of `retrieval_ranks` (0 is best).
    n_candidates : int
        How many candidates each query was compared with, at least 2.

    Returns
    -------
    float
        ``median(ranks) / (n_candidates - 1)``.

    Raises
    ------
    SchemaError
        If there are no ranks, or they do not lie in ``0 .. n_candidates - 1``.
    ConfigError
        If there are fewer than two candidates.

    Examples
    --------
    >>> relative_median_rank([0, 1, 4], n_candidates=11)
    0.1
    """
    if n_candidates < 2:
        raise ConfigError("A rank among one candidate tells nothing.", expected="n_candidates >= 2", got=n_candidates)
    values = _ranks(ranks)
    if values.max() > n_candidates - 1:
        raise SchemaError("A rank is beyond the last candidate.", expected=f"<= {n_candidates - 1}", got=values.max())
    return float(np.median(values) / (n_candidates - 1))


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return _unit(a) @ _unit(b).T


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return _cosine(_centred(a), _centred(b))


def _centred(patterns: NDArray[np.float64]) -> NDArray[np.float64]:
    # A constant pattern keeps rounding noise after centring; it must come out undefined, not as +-1.
    flat = (patterns == patterns[:, :1]).all(axis=1, keepdims=True)
    return np.where(flat, 0.0, patterns - patterns.mean(axis=1, keepdims=True))


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a @ b.T


def _euclidean(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    square = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
    return -np.sqrt(np.maximum(square, 0.0))


SIMILARITIES: dict[str, Similarity] = {
    "correlation": _correlation,
    "cosine": _cosine,
    "euclidean": _euclidean,
    "dot": _dot,
}


def _similarity(name: str | Similarity, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    if not callable(name) and name not in SIMILARITIES:
        raise ConfigError("Unknown similarity.", expected=f"one of {sorted(SIMILARITIES)} or a callable", got=name)
    if a.shape[1] != b.shape[1]:
        raise SchemaError("The patterns differ in length.", expected=a.shape[1], got=b.shape[1])
    values = np.asarray((name if callable(name) else SIMILARITIES[name])(a, b), dtype=np.float64)
    if values.shape != (len(a), len(b)):
        raise SchemaError("The similarity has a wrong shape.", expected=(len(a), len(b)), got=values.shape)
    if not np.isfinite(values).all():
        raise SchemaError(
            "The similarity of some patterns is undefined.",
            expected="patterns that vary (correlation) or are not all zero (cosine)",
            got=f"{int((~np.isfinite(values)).sum())} undefined values",
            fix='drop these samples, use two or more features, or pass similarity="euclidean"',
        )
    return values


def _unit(patterns: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(patterns, axis=1, keepdims=True)
    return np.divide(patterns, norm, out=np.full_like(patterns, np.nan), where=norm > 0)


def _patterns(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise SchemaError("Patterns must be a table.", expected="(n_samples, n_features)", got=array.shape, where=name)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        raise SchemaError("Patterns hold NaN or infinity.", got=f"{bad} of {len(array)} rows", where=name)
    return array


def _correct(correct: ArrayLike | None, n_queries: int, n_candidates: int) -> NDArray[np.intp]:
    index = np.arange(n_queries) if correct is None else np.asarray(correct)
    if index.shape != (n_queries,) or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= n_candidates:
        raise SchemaError(
            "Every query needs one right candidate.",
            expected=f"{n_queries} indices in 0 .. {n_candidates - 1}",
            got=index,
            where="correct",
            fix="pass correct=, the index of the right candidate of every query",
        )
    return index.astype(np.intp)


def _ranks(ranks: ArrayLike | tuple[ArrayLike, ArrayLike]) -> NDArray[np.float64]:
    values = np.asarray(ranks, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or values.min() < 0:
        raise SchemaError("Ranks must be a list of numbers >= 0.", expected="(n_queries,), 0 is best", got=values)
    return values
