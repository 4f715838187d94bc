"""Banded ridge regression: several feature spaces, each with a weight of its own for every target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.metrics import get_scorer
from neuroalign.metrics.scores import Scorer
from neuroalign.solvers._arrays import (
    Array,
    Buffers,
    as_slice,
    cast,
    dtype_name,
    from_numpy,
    is_torch,
    matrix,
    mean64,
    take,
    to_numpy,
)
from neuroalign.solvers._arrays import zeros as make_zeros
from neuroalign.solvers._band_weights import band_columns, candidates, check_gammas
from neuroalign.solvers._banded_gradient import Refiner
from neuroalign.solvers._banded_kept import KeptPaths
from neuroalign.solvers._banded_plan import DualBands, PrimalBands
from neuroalign.solvers._banded_search import Best, Curves, block_size, load_targets, search_block
from neuroalign.solvers._folds import check_folds
from neuroalign.solvers._grid import POOLED, check_alphas, edge_fractions
from neuroalign.solvers._memory import in_shrinking_tiles, tells_of_memory
from neuroalign.solvers._path import check_choice

__all__ = ["BandedRidgeCVResult", "KeptPaths", "banded_ridge_cv"]

SEARCHES = ("random", "gradient")
_POOLED_AT_MOST = 4096  # candidates times penalties: a few square matrices of that size, and their eigenvectors
_TILE = 256  # targets at a time: a tile and its predictions stay in cache


@dataclass(frozen=True)
class BandedRidgeCVResult:
    """Banded ridge weights, with the band weights and penalties that cross-validation chose.

    Arrays are of the backend of the input (numpy or torch).

    Attributes
    ----------
    coef : Array, shape (n_features, n_targets)
        Weights of the features as they were given, refitted on all samples. With kernels: weights of samples
        (n_samples, n_targets); the prediction of target t is ``sum_b gammas[b, t] * (K_b @ coef[:, t]) +
        intercept[t]``, K_b being kernels between new and training samples. NaN for targets without a score, zero for
        constant ones.
    intercept : Array, shape (n_targets,)
        Offsets; zero with ``fit_intercept=False``.
    alphas : Array of float64, shape (n_targets,)
        The chosen penalties; NaN for targets without a score.
    gammas : Array of float64, shape (n_bands, n_targets)
        The chosen band weights; a column sums to 1 unless other candidates were given. NaN for targets without a
        score.
    scores : Array of float64, shape (n_iter, n_targets)
        Cross-validated score of every candidate at its best penalty.
    cv_scores : Array of float64, shape (n_targets,)
        Cross-validated score at the chosen band weights and penalty.
    candidates : ndarray of float64, shape (n_iter, n_bands)
        The band weights that were tried.
    bands : ndarray, shape (n_bands,)
        Names of the bands, in order of first appearance.
    edge : ndarray of float64, shape (2,)
        Share of scored targets whose penalty is at or beyond the smallest and the largest of the grid.
    pooling : float
        Share of the variance between the targets' scores that is taken away before the choice: 0 for band weights and
        a penalty for every target, 1 for shared ones.
    """

    coef: Array
    intercept: Array
    alphas: Array
    gammas: Array
    scores: Array
    cv_scores: Array
    candidates: NDArray[np.float64]
    bands: NDArray[Any]
    edge: NDArray[np.float64]
    pooling: float = 0.0


def banded_ridge_cv(
    X: ArrayLike | Array | None,
    Y: ArrayLike | Array,
    *,
    alphas: ArrayLike,
    folds: Iterable[tuple[ArrayLike, ArrayLike]],
    bands: ArrayLike | Sequence[slice] | None = None,
    kernels: Sequence[ArrayLike | Array] | None = None,
    scorer: str | Scorer = "r2",
    search: str = "random",
    n_iter: int = 30,
    gammas: ArrayLike | None = None,
    random_state: int | np.random.Generator | None = None,
    fit_intercept: bool = True,
    alpha_per_target: bool | str = True,
    max_iter: int = 20,
    tile: int | None = None,
    kept: KeptPaths | None = None,
) -> BandedRidgeCVResult:
    """Ridge regression in which every feature space has its own penalty, chosen for every target.

    Minimises ``||y - sum_b X_b w_b||^2 + alpha * sum_b ||w_b||^2 / gamma_b``: ridge on features scaled by
    ``sqrt(gamma)``, gamma on the simplex. A large gamma lets a band in, zero leaves it out. For every candidate gamma
    each fold costs one symmetric eigendecomposition, of scaled float64 statistics that are made once; all penalties
    are scored from it. X'X is used when there are at least as many training samples as features, else XX'.

    Parameters
    ----------
    X : array-like or torch.Tensor, shape (n_samples, n_features), or None
        Features of all bands, finite. None when kernels are given.
    Y : array-like or torch.Tensor, shape (n_samples, n_targets)
        Targets. A target with NaN or infinity gets NaN results, and does not affect others.
    alphas : array-like, shape (n_alphas,)
        Grid of penalties, >= 0, on X'X of the centred and band-weighted features.
    folds : iterable of (train, test)
        Index arrays or masks.
    bands : array-like of labels, shape (n_features,), or list of slice
        The band of each feature.
    kernels : sequence of array-like, each (n_samples, n_samples), optional
        Positive semi-definite kernels between samples instead of features, one a band. They are centred within each
        fold.
    scorer : {"r2", "r", "ev"} or callable, default "r2"
        Scores held-out predictions and so chooses gamma and alpha.
    search : {"random", "gradient"}, default "random"
        Try `n_iter` candidates; or, from the best of them, descend the cross-validated squared error by Newton steps in
        the band weights, for every target on its own, until less than 1e-5 of R2 is to be gained. A refinement is kept
        where the score rises. It takes a Cholesky decomposition a fold and step, about four for every target.
    n_iter : int, default 30
        Number of candidates: equal weights, each band alone, then Dirichlet samples of concentrations 0.1, 0.3 and 1.
    gammas : array-like, shape (n_iter, n_bands), optional
        The candidates themselves.
    random_state : int or Generator, optional
        Seed of the samples.
    fit_intercept : bool, default True
        Fit an unpenalised offset.
    alpha_per_target : bool or "pooled", default True
        Choose band weights and a penalty for every target; False shares those of the best mean score. ``"pooled"``
        draws the scores of every target over all band weights and penalties towards their mean over targets,
        and keeps what repeats over the folds, unless held-out folds clearly favour True. With few samples both are
        safer than True. They keep the scores of every candidate and penalty, ``"pooled"`` also those of every fold,
        for all targets; it holds candidates times penalties against each other, and takes at most 4096.
    max_iter : int, default 20
        Newton steps at most.
    tile : int, optional
        Number of targets whose predictions are held at a time.
    kept : KeptPaths, optional
        Decompositions that calls with other targets, and all else the same, share.

    Returns
    -------
    BandedRidgeCVResult
        Weights, band weights, penalties and scores. Among equal scores the first candidate and the larger penalty
        win. A constant band gets weight zero.

    Raises
    ------
    SchemaError
        If the shapes do not match, or X or a kernel holds NaN or infinity.
    ConfigError
        If bands, the grid, the folds, the scorer or the search are not valid, or targets that share band weights are
        to be refined by the gradient.

    References
    ----------
    Nunez-Elizalde et al. (2019), Voxelwise encoding models with non-spherical multivariate normal priors, NeuroImage
    197. Dupre la Tour et al. (2022), Feature-space selection with banded ridge regression, NeuroImage 264.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((90, 20))
    >>> Y = np.c_[X[:, :10].sum(axis=1), X[:, 10:].sum(axis=1)] + rng.standard_normal((90, 2))
    >>> folds = [(np.delete(np.arange(90), part), part) for part in np.split(np.arange(90), 3)]
    >>> bands = ["vision"] * 10 + ["semantics"] * 10
    >>> result = banded_ridge_cv(X, Y, bands=bands, alphas=[0.1, 1.0, 10.0], folds=folds, random_state=0)
    >>> result.bands[result.gammas.argmax(axis=0)]
    array(['vision', 'semantics'], dtype='<U9')
    """
    step = _check_options(search, max_iter, tile, alpha_per_target)
    get_scorer(scorer)
    grid = check_alphas(alphas)
    data = _open_kernels(kernels, Y) if kernels is not None else _open_features(X, Y, bands)
    if kernels is not None and (X is not None or bands is not None):
        raise ConfigError("kernels stand for X and bands.", expected="X=None, bands=None", got="both", where="kernels")
    split = check_folds(folds, data.y.shape[0])
    check_choice(alpha_per_target, len(split))

    def make() -> tuple[PrimalBands | DualBands, float]:
        return _make_plan(data, split, grid, fit_intercept, callable(scorer))

    plan, unit = make() if kept is None else kept.plan(data.dtype, grid, make)
    n_bands = len(data.names)
    table = candidates(n_bands, n_iter, random_state, plan.alive) if gammas is None else check_gammas(gammas, n_bands)
    tried = np.where(plan.alive, table, 0.0)  # a band that is constant has no weight, whatever was asked for
    refiner = Refiner(plan, scorer, max_iter) if search == "gradient" and plan.alive.any() else None
    n_targets, scaled = data.y.shape[1], grid / unit**2
    fit = _Solution(data, plan, unit, len(tried), grid)
    if alpha_per_target == POOLED and len(tried) * grid.size > _POOLED_AT_MOST:
        raise ConfigError(
            "Pooling holds every pair of candidates and penalties against every other: there are too many.",
            expected=f"candidates times penalties <= {_POOLED_AT_MOST}",
            got=f"{len(tried)} times {grid.size}",
            where="alpha_per_target",
            fix="try fewer candidates or penalties, or pass alpha_per_target=False",
        )
    curves = None if alpha_per_target is True else Curves(alpha_per_target, len(split), len(tried), scaled, n_targets)
    width = plan.z.shape[1] if isinstance(plan, PrimalBands) else data.y.shape[0]
    size = block_size(split, width, data.dtype, step)
    options: dict[str, Any] = {"scorer": scorer, "intercept": fit_intercept, "dtype": data.dtype, "tile": step}
    options["path_of"] = None if kept is None else kept.path

    def choose(here: slice, _: Buffers) -> None:
        found = search_block(plan, split, data.y[:, here], tried, scaled, curves=curves, lo=here.start, **options)
        fit.choose(here.start, found)

    def solve(here: slice, _: Buffers) -> None:
        fit.solve(here.start, data.y[:, here], tried, refiner, step)

    size = in_shrinking_tiles(choose, n_targets, size)
    if curves is not None:
        fit.share(curves)
    in_shrinking_tiles(solve, n_targets, size)
    return fit.result(table)


@dataclass(frozen=True)
class _Data:
    x: Array | None
    kernels: list[Array]
    y: Array
    names: NDArray[Any]
    columns: list[NDArray[np.intp]]
    dtype: str


def _open_features(X: Any, Y: Any, bands: Any) -> _Data:
    if X is None or bands is None:
        raise ConfigError(
            "There are no bands of features.", expected="X and bands, or kernels", got="neither", where="bands"
        )
    x = matrix(X, "X", like=X if is_torch(X) else Y, finite=True)
    y = matrix(Y, "Y", like=x)
    if x.shape[0] != y.shape[0]:
        raise SchemaError("X and Y differ in their number of samples.", expected=x.shape[0], got=y.shape[0], where="Y")
    names, columns = band_columns(bands, x.shape[1])
    return _Data(x, [], y, names, columns, dtype_name(x, y))


def _open_kernels(kernels: Sequence[Any], Y: Any) -> _Data:
    tables = list(kernels)
    if not tables:
        raise ConfigError("There are no kernels.", expected="one a band", got="none", where="kernels")
    y = matrix(Y, "Y", like=tables[0] if is_torch(tables[0]) else Y)
    opened = [matrix(kernel, f"kernels[{i}]", like=y, finite=True) for i, kernel in enumerate(tables)]
    for i, kernel in enumerate(opened):
        if tuple(kernel.shape) != (y.shape[0],) * 2:
            raise SchemaError(
                "A kernel is not a table of samples by samples.",
                expected=(y.shape[0],) * 2,
                got=tuple(kernel.shape),
                where=f"kernels[{i}]",
            )
    dtype = dtype_name(y, *opened)
    return _Data(None, [cast(k, "float64") for k in opened], y, np.arange(len(opened)), [], dtype)


@tells_of_memory
def _make_plan(
    data: _Data, split: list[Any], grid: NDArray[np.float64], intercept: bool, whole_rows: bool
) -> tuple[PrimalBands | DualBands, float]:
    """The statistics of the features, and the power of two that they were divided by."""
    options: dict[str, Any] = {"intercept": intercept, "dtype": data.dtype, "whole_rows": whole_rows}
    if data.x is None:
        unit = _power_of_two(max(float(abs(kernel).max()) for kernel in data.kernels) ** 0.5)
        kernels = [kernel / unit**2 for kernel in data.kernels]
        return DualBands(kernels, None, [], split, grid / unit**2, **options), unit
    x = cast(data.x, "float64")
    mean = x.mean(axis=0) if intercept else x[0] * 0.0
    x = x - mean
    flat = to_numpy((data.x == data.x[:1]).all(axis=0))
    if intercept and flat.any():  # exactly zero, whatever the rounding of the mean
        x = x * from_numpy((~flat).astype(np.float64), x)
    unit = _power_of_two(float(abs(x).max()))
    x = x / unit
    alphas = grid / unit**2
    if x.shape[1] <= min(fold.train.size for fold in split):
        return PrimalBands(x, data.columns, split, alphas, **options), unit
    kernels = []
    for columns in data.columns:
        part = take(x.T, as_slice(columns))
        kernels.append(part.T @ part)
    return DualBands(kernels, x, data.columns, split, alphas, **options), unit


def _power_of_two(size: float) -> float:
    return float(2.0 ** np.round(np.log2(size))) if size > 0 else 1.0


class _Solution:
    """Room for the solution of all targets, filled block by block. Penalties inside are in units of the plan."""

    def __init__(
        self, data: _Data, plan: PrimalBands | DualBands, unit: float, n_iter: int, grid: NDArray[np.float64]
    ) -> None:
        n, t = data.y.shape
        self._data, self._plan, self._unit, self._grid = data, plan, unit, grid
        like = data.y if data.x is None else data.x
        tables = data.kernels if data.x is None else [data.x]
        self._means: NDArray[np.float64] = np.stack([to_numpy(mean64(table)) for table in tables])
        if data.x is not None:
            self._means = self._means[0]
        self.coef = make_zeros((n if data.x is None else data.x.shape[1], t), data.dtype, like)
        self.intercept = np.full(t, np.nan)
        self.alphas, self.cv_scores = np.full(t, np.nan), np.full(t, np.nan)
        self.gammas, self.scores = np.full((len(data.names), t), np.nan), np.full((n_iter, t), np.nan)
        self._candidate = np.full(t, -1, dtype=np.intp)
        self.pooling = 0.0

    def choose(self, lo: int, best: Best) -> None:
        """Take up what the search found for a block."""
        at = slice(lo, lo + best.candidate.size)
        self._candidate[at], self.alphas[at], self.cv_scores[at] = best.candidate, best.alphas, best.cv_scores
        self.scores[:, at] = best.scores

    def share(self, curves: Curves) -> None:
        """Let the targets choose together."""
        own = Best(self._candidate, self.alphas, self.cv_scores, self.scores)
        best, self.pooling = curves.choose(own)
        self.choose(0, best)

    def solve(self, lo: int, y: Array, tried: NDArray[np.float64], refiner: Refiner | None, tile: int) -> None:
        """Refine the winners of a block if asked, and refit them once."""
        at = slice(lo, lo + y.shape[1])
        scored = self._candidate[at] >= 0
        self.gammas[:, at] = np.where(scored, tried[self._candidate[at]].T, np.nan)
        if refiner is not None:
            self._refine(lo, y, np.flatnonzero(scored), refiner, tile)
        _, group = np.unique(self.gammas[:, at], axis=1, return_inverse=True)
        group = np.where(scored, group, -1)
        for number in np.unique(group):
            columns = np.flatnonzero(group == number)
            for start in range(0, columns.size, tile):
                self._refit(lo, y, columns[start : start + tile])

    def _refine(self, lo: int, y: Array, columns: NDArray[np.intp], refiner: Refiner, tile: int) -> None:
        at = columns + lo
        columns = columns[np.lexsort((self.alphas[at], self._candidate[at]))]  # who starts alike shares the first step
        for start in range(0, columns.size, tile):
            part = columns[start : start + tile]
            targets, at = load_targets(take(y.T, as_slice(part)).T, intercept=self._plan.intercept), part + lo
            found = refiner.refine(targets, self.gammas[:, at], self.alphas[at], self.cv_scores[at])
            self.gammas[:, at], self.alphas[at], self.cv_scores[at] = found

    def _refit(self, lo: int, y: Array, columns: NDArray[np.intp]) -> None:
        targets = load_targets(take(y.T, as_slice(columns)).T, intercept=self._plan.intercept)
        at, alphas = columns + lo, self.alphas[columns + lo]
        known = ~np.isnan(alphas)
        zero = targets.flat & ~targets.bad & self._plan.intercept & ~known
        coef = np.full((self.coef.shape[0], columns.size), np.nan)
        coef[:, zero] = 0.0
        values = from_numpy(coef, self.coef)
        if known.any():
            scaled = self._plan.solve(self.gammas[:, at[0]], targets.y, from_numpy(alphas, targets.y))
            unit = self._unit**2 if self._data.x is None else self._unit
            values = scaled * from_numpy(targets.unit / unit, scaled)
        self.coef[:, from_numpy(at, self.coef)] = cast(values, self._data.dtype)
        offset = np.zeros(columns.size)
        if self._plan.intercept:
            offset = targets.mean - self._shift(to_numpy(values), at)
        self.intercept[at] = np.where(known | zero, offset, np.nan)

    def _shift(self, coef: NDArray[np.float64], at: NDArray[np.intp]) -> NDArray[np.float64]:
        """What the weights make of the mean sample."""
        if self._data.x is not None:
            return self._means @ coef
        gammas = np.where(np.isnan(self.gammas[:, at]), 0.0, self.gammas[:, at])
        return np.einsum("bt,bt->t", gammas, self._means @ coef)

    def result(self, table: NDArray[np.float64]) -> BandedRidgeCVResult:
        """The solution in the units of the caller."""
        alphas = self.alphas * self._unit**2
        clipped = np.clip(alphas, self._grid.min(), self._grid.max())
        return BandedRidgeCVResult(
            coef=self.coef,
            intercept=cast(from_numpy(self.intercept, self.coef), self._data.dtype),
            alphas=from_numpy(alphas, self.coef),
            gammas=from_numpy(self.gammas, self.coef),
            scores=from_numpy(self.scores, self.coef),
            cv_scores=from_numpy(self.cv_scores, self.coef),
            candidates=table,
            bands=self._data.names,
            edge=edge_fractions(clipped, self._grid),
            pooling=self.pooling,
        )


def _check_options(search: str, max_iter: int, tile: int | None, alpha_per_target: bool | str) -> int:
    if search not in SEARCHES:
        raise ConfigError("Unknown search.", expected=" or ".join(SEARCHES), got=search, where="search")
    if search == "gradient" and alpha_per_target is not True:
        raise ConfigError(
            "The gradient search refines each target on its own.",
            expected="alpha_per_target=True",
            got=alpha_per_target,
            where="alpha_per_target",
            fix="use search='random'",
        )
    for name, value in (("max_iter", max_iter), ("tile", _TILE if tile is None else tile)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ConfigError(f"{name} is a number.", expected="an integer >= 1", got=value, where=name)
    return _TILE if tile is None else int(tile)
