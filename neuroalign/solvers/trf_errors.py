"""Standard errors of temporal response functions, by resampling segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.solvers._arrays import Array, cast, dtype_name, namespace
from neuroalign.solvers._folds import check_folds
from neuroalign.solvers._segments import check_lags, check_runs, check_segments, make_segments
from neuroalign.solvers.trf import solve_segments

__all__ = ["trf_errors"]

_FEWEST = 3  # segments without which a spread means nothing


def trf_errors(
    X: Sequence[ArrayLike | Array],
    Y: Sequence[ArrayLike | Array],
    *,
    lags: ArrayLike,
    alphas: ArrayLike,
    fit_intercept: bool = True,
    standardize: bool = False,
    n_resamples: int = 200,
    random_state: int | np.random.Generator | None = None,
) -> Array:
    """Standard errors of response functions: the spread over samples of segments that are drawn with replacement.

    Segments, not samples, are drawn: neighbouring samples are alike. The lagged sums of a segment are made once;
    a draw costs one eigendecomposition, whatever the number of samples. The penalties stay as they are. The spread is
    that about the mean shrunken response: a penalty also pulls responses towards zero, which no resampling shows.

    Parameters
    ----------
    X : sequence of array-like or torch.Tensor, each (n_samples, n_features)
        Features of every segment (trial or run), finite.
    Y : sequence of array-like or torch.Tensor, each (n_samples, n_targets)
        Targets of every segment.
    lags : array-like of int, shape (n_lags,)
        Consecutive rising lags in samples.
    alphas : float or array-like, shape (n_targets,)
        Penalty of every target, as chosen by `trf_cv`; a target with NaN gets NaN.
    fit_intercept : bool, default True
        Fit an unpenalised offset.
    standardize : bool, default False
        Penalties are those of features over their standard deviations in the segments of a draw, as in `trf_cv`.
    n_resamples : int, default 200
        Number of draws.
    random_state : int or Generator, optional
        Seed of the draws.

    Returns
    -------
    Array, shape (n_lags, n_features, n_targets)
        Standard errors, widened by ``sqrt(n / (n - 1))`` for n segments. The quantiles of the t distribution with
        n - 1 degrees of freedom make intervals of them.

    Raises
    ------
    SchemaError
        If shapes do not match, X holds NaN or infinity, or there are fewer than three segments.
    ConfigError
        If lags, penalties or the number of draws are not valid.

    References
    ----------
    Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapters 6 and 8.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((500, 1)) for _ in range(20)]
    >>> Y = [x + rng.standard_normal(x.shape) for x in X]
    >>> trf_errors(X, Y, lags=[0, 1], alphas=1.0, random_state=0)[:, 0, 0].round(2)  # 1 / sqrt(10000)
    array([0.01, 0.01])
    """
    xs, ys = check_segments(X, Y)
    delays, n = check_lags(lags), len(xs)
    if n < _FEWEST:
        raise SchemaError("Too few segments to draw from.", expected=f">= {_FEWEST}", got=n, where="X")
    if isinstance(n_resamples, bool) or not isinstance(n_resamples, int | np.integer) or n_resamples < 2:
        raise ConfigError("n_resamples is a number of draws.", expected=">= 2", got=n_resamples, where="n_resamples")
    penalties = _check_penalties(alphas, ys[0].shape[1])
    alone = check_folds([(np.delete(np.arange(n), i), [i]) for i in range(n)], n, "segments")  # sums of each segment
    data = make_segments(xs, ys, delays, alone, intercept=fit_intercept, runs=check_runs(None, n), gap=0)
    rng = np.random.default_rng(random_state)

    def solve(drawn: NDArray[np.intp]) -> Array:
        return solve_segments(data, data.sums(drawn), penalties, scaled_by=drawn if standardize else None)[0]

    centre = solve(np.arange(n))
    total, square = centre * 0.0, centre * 0.0
    for _ in range(n_resamples):
        away = solve(rng.integers(n, size=n)) - centre
        total, square = total + away, square + away * away
    variance = (square - total * total / n_resamples) / (n_resamples - 1) * (n / (n - 1))
    return cast(namespace(variance).sqrt(variance.clip(min=0.0)), dtype_name(*xs, *ys))


def _check_penalties(alphas: ArrayLike, n_targets: int) -> np.ndarray:
    values = np.asarray(alphas, dtype=np.float64)
    if values.shape not in ((), (n_targets,)) or np.isinf(values).any() or (values < 0).any():
        raise ConfigError(
            "alphas must be one penalty, or one for each target.",
            expected=f"finite, >= 0, one or {n_targets}",
            got=alphas,
            where="alphas",
        )
    return np.broadcast_to(values, n_targets)
