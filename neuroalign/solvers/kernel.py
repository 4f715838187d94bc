"""Kernel ridge regression of many targets, with a penalty per target chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import Array, cast, dtype_name, from_numpy, is_torch, matrix, namespace, to_numpy
from neuroalign.solvers._folds import as_pairs
from neuroalign.solvers._grid import check_alphas, edge_fractions
from neuroalign.solvers._path import check_choice, check_scorer, check_tile, solve_path
from neuroalign.solvers._plan import make_kernel_plan

__all__ = ["KernelRidgeCVResult", "kernel_matrix", "kernel_ridge_cv", "kernel_ridge_predict"]

_CHUNK = 2048  # features in float64 at a time
_SYMMETRIC = 1e-5  # largest asymmetry of a kernel, relative to its largest value


@dataclass(frozen=True)
class KernelRidgeCVResult:
    """Dual weights with the penalties that cross-validation chose; arrays are of the backend of the input.

    Attributes
    ----------
    dual_coef : Array, shape (n_samples, n_targets)
        Weights of the training samples, refitted on all of them; NaN for targets for which no alpha could be chosen.
    intercept : Array of float64, shape (n_targets,)
        Offsets; zero with ``fit_intercept=False``.
    alphas : Array of float64, shape (n_targets,)
        The chosen penalties; NaN for targets without a score.
    scores : Array of float64, shape (n_alphas, n_targets)
        Mean score over the folds for every alpha, in the order of the grid.
    cv_scores : Array of float64, shape (n_targets,)
        The row of `scores` at the chosen alpha.
    edge : ndarray of float64, shape (2,)
        Share of scored targets whose alpha is the smallest and the largest of the grid.
    pooling : float
        Share of the variance between the targets' curves of scores that is taken away before the choice: 0 for an
        alpha for every target, 1 for a shared one.
    """

    dual_coef: Array
    intercept: Array
    alphas: Array
    scores: Array
    cv_scores: Array
    edge: NDArray[np.float64]
    pooling: float


def kernel_ridge_cv(
    K: ArrayLike | Array,
    Y: ArrayLike | Array,
    *,
    alphas: ArrayLike,
    folds: Iterable[tuple[ArrayLike, ArrayLike]],
    kernel: str | Callable[[Array, Array], Array] = "precomputed",
    gamma: float | None = None,
    degree: float = 3,
    coef0: float = 1.0,
    scorer: str | Scorer = "r2",
    fit_intercept: bool = True,
    alpha_per_target: bool | str = True,
    tile: int | None = None,
) -> KernelRidgeCVResult:
    """Kernel ridge regression with the penalty of every target chosen by cross-validation.

    Minimises ``||y - f||^2 + alpha ||f||^2`` with f in the space of the kernel. With the linear kernel that is
    `ridge_cv`, without ever making weights of features. With an intercept, kernels are centred in every fold by its own
    training samples, which is what centring features does.

    Parameters
    ----------
    K : array-like or torch.Tensor, shape (n_samples, n_samples) or (n_samples, n_features)
        The kernel between all samples; features when `kernel` makes one of them.
    Y : array-like or torch.Tensor, shape (n_samples, n_targets)
        Targets. A target with NaN or infinity gets NaN results, and does not affect others.
    alphas : array-like, shape (n_alphas,)
        Grid of penalties, >= 0, added to the diagonal of the kernel.
    folds : iterable of (train, test)
        Index arrays or masks. They may leave samples out of both sides (gaps).
    kernel, gamma, degree, coef0
        As in `kernel_matrix`; ``"precomputed"`` takes `K` as it is.
    scorer, fit_intercept, alpha_per_target, tile
        As in `ridge_cv`.

    Returns
    -------
    KernelRidgeCVResult
        Dual weights, chosen penalties and scores; `kernel_ridge_predict` applies them.

    Raises
    ------
    SchemaError
        If the shapes do not match, K holds NaN or infinity, or is no kernel.
    ConfigError
        If the grid, the folds, the kernel, the scorer or the tile are not valid.

    References
    ----------
    Saunders, Gammerman and Vovk (1998), Ridge regression learning algorithm in dual variables, ICML.

    Examples
    --------
    >>> X = np.linspace(-3, 3, 40)[:, None]
    >>> test = np.arange(40) % 2 == 0
    >>> folds = [(test, ~test), (~test, test)]
    >>> result = kernel_ridge_cv(X, np.sin(2 * X), alphas=[1e-3, 1e3], folds=folds, kernel="rbf", gamma=1.0)
    >>> result.alphas, result.cv_scores.round(2)
    (array([0.001]), array([1.]))
    """
    x = matrix(K, "K", like=K if is_torch(K) else Y, finite=True)
    y = matrix(Y, "Y", like=x)
    if x.shape[0] != y.shape[0]:
        raise SchemaError("K and Y differ in their number of samples.", expected=x.shape[0], got=y.shape[0], where="Y")
    grid, step, split = check_alphas(alphas), check_tile(tile, y), as_pairs(folds)
    score = check_scorer(scorer)
    check_choice(alpha_per_target, len(split))
    made = x if kernel == "precomputed" else kernel_matrix(x, kernel=kernel, gamma=gamma, degree=degree, coef0=coef0)
    gram, unit = _check_kernel(made)
    plan = make_kernel_plan(
        gram, split, grid / unit, intercept=fit_intercept, dtype=dtype_name(x, y), whole_rows=callable(score)
    )
    path = solve_path(plan, y, grid / unit, closed=None, scorer=score, alpha_per_target=alpha_per_target, step=step)
    dual, intercept = path.weights.arrays()
    dual /= unit
    return KernelRidgeCVResult(
        dual_coef=dual,
        intercept=intercept,
        alphas=from_numpy(path.alphas * unit, x),
        scores=from_numpy(path.scores, x),
        cv_scores=from_numpy(path.cv_scores, x),
        edge=edge_fractions(path.alphas, grid / unit),
        pooling=path.pooling,
    )


def kernel_ridge_predict(result: KernelRidgeCVResult, K: ArrayLike | Array) -> Array:
    """Predict from the kernel between new and training samples.

    Parameters
    ----------
    result : KernelRidgeCVResult
        From `kernel_ridge_cv`.
    K : array-like or torch.Tensor, shape (n_new, n_samples)
        Kernel between new and training samples, not centred; see `kernel_matrix`.

    Returns
    -------
    Array, shape (n_new, n_targets)
        Predictions.

    Raises
    ------
    SchemaError
        If the number of training samples differs.

    Examples
    --------
    >>> X, Y = np.arange(6.0)[:, None], np.arange(6.0)[:, None] * 2 + 1
    >>> folds = [(np.arange(3), np.arange(3, 6))]
    >>> result = kernel_ridge_cv(X, Y, alphas=[1e-9], folds=folds, kernel="linear")
    >>> kernel_ridge_predict(result, kernel_matrix([[10.0]], X, kernel="linear")).round(3)
    array([[21.]])
    """
    across = matrix(K, "K", like=result.dual_coef, finite=True)
    if across.shape[1] != result.dual_coef.shape[0]:
        raise SchemaError(
            "K is not between new and training samples.",
            expected=f"(n_new, {result.dual_coef.shape[0]})",
            got=tuple(across.shape),
            where="K",
        )
    return across @ cast(result.dual_coef, dtype_name(across)) + cast(result.intercept, dtype_name(across))


def kernel_matrix(
    X: ArrayLike | Array,
    Z: ArrayLike | Array | None = None,
    *,
    kernel: str | Callable[[Array, Array], Array] = "linear",
    gamma: float | None = None,
    degree: float = 3,
    coef0: float = 1.0,
) -> Array:
    """Kernel between the samples of two tables of features, in float64.

    Parameters
    ----------
    X : array-like or torch.Tensor, shape (n, n_features)
        Features.
    Z : array-like or torch.Tensor, shape (m, n_features), optional
        Other samples; by default those of X.
    kernel : {"linear", "rbf", "polynomial"} or callable, default "linear"
        ``x'z``, ``exp(-gamma ||x - z||^2)``, ``(gamma x'z + coef0)^degree``, or a function of X and Z in float64.
    gamma : float, optional
        Scale; by default one over the number of features, as in scikit-learn.
    degree, coef0 : float
        Of the polynomial.

    Returns
    -------
    Array of float64, shape (n, m)
        The kernel.

    Raises
    ------
    SchemaError
        If the tables differ in their features, or hold NaN or infinity.
    ConfigError
        If there is no such kernel.

    Examples
    --------
    >>> kernel_matrix([[1.0], [2.0]], kernel="polynomial", gamma=1.0, degree=2, coef0=1.0)
    array([[ 4.,  9.],
           [ 9., 25.]])
    """
    x = matrix(X, "X", like=X if is_torch(X) else Z, finite=True)
    z = x if Z is None else matrix(Z, "Z", like=x, finite=True)
    if x.shape[1] != z.shape[1]:
        raise SchemaError("X and Z differ in their number of features.", expected=x.shape[1], got=z.shape[1], where="Z")
    if callable(kernel):
        return matrix(kernel(cast(x, "float64"), cast(z, "float64")), "K", like=x, finite=True)
    if kernel not in ("linear", "rbf", "polynomial"):
        raise ConfigError(
            "Unknown kernel.", expected="'linear', 'rbf', 'polynomial' or a function", got=kernel, where="kernel"
        )
    scale = 1.0 / x.shape[1] if gamma is None else gamma
    if kernel == "rbf":  # centred, so that the difference of large squares keeps its digits
        mean = cast(x, "float64").mean(axis=0)
        x, z = cast(x, "float64") - mean, cast(z, "float64") - mean
        squares = (x * x).sum(axis=1)[:, None] + (z * z).sum(axis=1)[None, :] - 2.0 * (x @ z.T)
        return namespace(x).exp(-scale * squares.clip(0.0))
    inner = _inner(x, z)
    return inner if kernel == "linear" else (scale * inner + coef0) ** degree


def _inner(x: Array, z: Array) -> Array:
    parts = (slice(lo, lo + _CHUNK) for lo in range(0, x.shape[1], _CHUNK))
    total: Array = 0.0
    for part in parts:
        left = cast(x[:, part], "float64")
        total = total + left @ (left if z is x else cast(z[:, part], "float64")).T
    return total


def _check_kernel(kernel: Array) -> tuple[Array, float]:
    """The kernel in float64 over a power of two near its mean diagonal, and that power."""
    n, m = kernel.shape
    gram = cast(kernel, "float64")
    size = float(abs(gram).max())
    if n != m or float(abs(gram - gram.T).max()) > _SYMMETRIC * size:
        raise SchemaError(
            "K is not a symmetric kernel between all samples.",
            expected="shape (n_samples, n_samples)",
            got=(n, m) if n != m else "not symmetric",
            where="K",
            fix="pass features with kernel='linear', 'rbf' or 'polynomial'" if n != m else None,
        )
    diagonal = to_numpy(gram).diagonal().mean() if n else 0.0
    unit = float(2.0 ** np.round(np.log2(diagonal))) if diagonal > 0 else 1.0
    return (gram + gram.T) / (2.0 * unit), unit
