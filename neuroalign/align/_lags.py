"""Lagged copies of a time series that never cross the edge of a run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import AlignmentError


def segment_slices(labels: ArrayLike | None, n: int) -> list[slice]:
    """Cut samples into the segments that their labels mark.

    Parameters
    ----------
    labels : array_like, shape (n,), or None
        For example the run of each sample. None is one segment.
    n : int
        Number of samples.

    Returns
    -------
    list of slice
        One for each stretch of equal labels, in order.

    Raises
    ------
    AlignmentError
        If a label comes back after another one, so that its samples are not contiguous.

    Examples
    --------
    >>> segment_slices([1, 1, 2], 3)
    [slice(0, 2, None), slice(2, 3, None)]
    """
    if labels is None:
        return [slice(0, n)]
    values = np.asarray(labels)
    if values.shape != (n,):
        raise AlignmentError("Wrong number of segment labels.", expected=(n,), got=values.shape)
    edges = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), n] if n else []
    starts = [values[start] for start in edges[:-1]]
    if len(set(np.asarray(starts).tolist())) != len(starts):
        raise AlignmentError(
            "A run is not contiguous.",
            expected="all samples of a run next to each other",
            got=f"runs in the order {[str(s) for s in starts[:10]]}",
            fix="sort the samples by run and time",
        )
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def true_stretches(mask: ArrayLike) -> list[tuple[int, int]]:
    """Give (first, last + 1) of each stretch of true entries.

    Examples
    --------
    >>> true_stretches([True, True, False, True])
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.asarray(mask, dtype=np.int8), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def lagged(x: ArrayLike, lags: Sequence[int], segments: ArrayLike | None = None) -> NDArray[np.floating]:
    """Stack lagged copies of features; row t of lag L holds ``x[t - L]``, zero where that is outside the run.

    Parameters
    ----------
    x : array_like, shape (n_samples, n_features)
        Features over time.
    lags : sequence of int
        In samples; positive lags look into the past of `x`.
    segments : array_like, shape (n_samples,), optional
        Run of each sample.

    Returns
    -------
    ndarray, shape (n_samples, n_lags * n_features)
        Lag-major: all features at the first lag, then all at the second, ...

    Examples
    --------
    >>> lagged([[1.0], [2.0], [3.0]], [0, 1])
    array([[1., 0.],
           [2., 1.],
           [3., 2.]])
    """
    values = np.asarray(x)
    if values.ndim != 2:
        raise AlignmentError("Features must be two-dimensional.", expected="(n_samples, n_features)", got=values.shape)
    n, p = values.shape
    dtype = values.dtype if values.dtype.kind == "f" else np.float64
    out = np.zeros((n, len(lags), p), dtype=dtype)
    for piece in segment_slices(segments, n):
        source, target = values[piece], out[piece]
        length = len(source)
        for column, lag in enumerate(map(int, lags)):
            if lag >= 0 and lag < length:
                target[lag:, column] = source[: length - lag]
            elif lag < 0 and -lag < length:
                target[:lag, column] = source[-lag:]
    return out.reshape(n, len(lags) * p)
