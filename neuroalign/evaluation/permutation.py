"""Permutation tests of predictions, with schemes that keep what the samples share when they are not independent.

Predictions are held fixed and the measured responses are rearranged. Within a fold a rearrangement changes neither
mean nor variance, so R2, explained variance and r are all linear in the cross products that it makes::

    score(arrangement) = constant + sum over samples of y[arrangement] * weight

with ``weight`` computed once. For circular shifts all lags come at once from a Fourier transform.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.evaluation._labels import codes, named
from neuroalign.evaluation._targets import matched, matrix, restore, template, tiles

__all__ = ["SCHEMES", "fdr_bh", "permutation_test"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: Working memory of an inner loop that should stay in a core's cache, bytes.
CACHE = 2**19


def permutation_test(
    y_true: Any,
    y_pred: Any,
    *,
    scheme: str = "shuffle",
    groups: str | ArrayLike | None = None,
    folds: str | ArrayLike | None = None,
    block: int | None = None,
    scorer: str = "r2",
    n_permutations: int = 1000,
    random_state: int | np.random.Generator | None = None,
    keep_null: bool = False,
) -> xr.Dataset:
    """Test whether predictions are better than those of rearranged responses, per target and over all targets.

    One-sided: p is the probability of a score at least as high if the samples of `y_true` were exchangeable as the
    scheme says. All targets are rearranged alike, so that their correlations are kept in the maximum statistic.

    Parameters
    ----------
    y_true, y_pred : DataArray or array_like
        Measured and held-out predicted responses; samples along the sample dimension (or the first axis).
    scheme : {"shuffle", "circular", "block"}, default "shuffle"
        ``shuffle`` permutes samples (valid if they are independent, such as one average a stimulus); ``circular``
        shifts each piece of a time series in a circle; ``block`` permutes blocks of consecutive samples.
    groups : str or array_like, optional
        Labels (or the name of a coordinate) between which nothing is exchanged, such as runs. For ``circular`` and
        ``block`` samples are in order of time, and a change of label ends a piece.
    folds : str or array_like, optional
        The fold in which each sample was held out. The score is then the mean of the folds' scores, and nothing is
        exchanged between folds.
    block : int, optional
        ``block``: samples a block, by default a tenth of the shortest piece. It should be many times longer than the
        noise remembers: with AR(1) noise of 0.9 (half gone after 7 samples) blocks of 10 give 9 % false positives at
        .05, blocks of 30 still 6 %. What is left over at the end of a piece stays in place. ``circular``: the least
        shift, by default 1. All allowed shifts are equally likely. A larger one gains power when a single short piece
        is shifted, at the price of exactness.
    scorer : {"r2", "r", "ev"}, default "r2"
        The statistic.
    n_permutations : int, default 1000
        Number m of random rearrangements; the smallest possible p is 1 / (m + 1). A single piece of n samples has
        only n shifts (its own place is one), so that its p is hardly below 1 / n whatever m.
    random_state : int or numpy.random.Generator, optional
        Seeds the rearrangements.
    keep_null : bool, default False
        Also give the scores of all rearrangements, as `cluster_test` needs them (float32).

    Returns
    -------
    Dataset
        ``score``, ``p`` = (b + 1) / (m + 1) where b rearrangements scored at least as high, ``p_max`` (the same
        against the maximum over all targets: controls the family-wise error) and ``null_max`` (permutation). NaN for
        targets that cannot be scored; these do not enter the maximum. With `keep_null` also ``null`` (permutation,
        ...).

    Raises
    ------
    ConfigError
        If there is nothing to rearrange, or a name is not known.
    AlignmentError
        If responses and predictions differ in shape or labels.

    References
    ----------
    Phipson, B. & Smyth, G. (2010). Permutation p-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9.
    Nichols, T. & Holmes, A. (2002). Nonparametric permutation tests for functional neuroimaging. HBM 15, 1-25.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.standard_normal((50, 2))
    >>> guess = y + rng.standard_normal((50, 2)) * [0.5, 100]
    >>> permutation_test(y, guess, scorer="r", random_state=0).p.values < 0.05
    array([ True, False])
    """
    if scheme not in SCHEMES:
        raise ConfigError("Unknown permutation scheme.", expected=sorted(SCHEMES), got=scheme, where="scheme")
    if n_permutations < 1:
        raise ConfigError("Not a number of permutations.", expected=">= 1", got=n_permutations, where="n_permutations")
    y_pred = matched(y_true, y_pred, ("y_true", "y_pred"))
    y, p = matrix(y_true), matrix(y_pred)
    fold = np.zeros(len(y), np.int64) if folds is None else codes(named(folds, y_true, role="folds"), "fold")
    group = np.zeros(len(y), np.int64) if groups is None else codes(named(groups, y_true, role="groups"), "group")
    pieces = _pieces(fold, group, ordered=scheme != "shuffle")
    plan = SCHEMES[scheme](pieces, block, n_permutations, np.random.default_rng(random_state))
    kept = np.full((n_permutations, y.shape[1]), np.nan, np.float32) if keep_null else None
    score, exceed, null_max = _run(y, p, fold, scorer, plan, kept)
    out = _table(template(y_true), score, exceed, null_max)
    out["score"].attrs |= {"units": "1", "scorer": scorer}
    return out if kept is None else out.assign(null=restore(kept, template(y_true), "permutation"))


def fdr_bh(p: Any) -> Any:
    """Adjust p-values for the false discovery rate (Benjamini and Hochberg).

    Parameters
    ----------
    p : DataArray or array_like
        p-values of any shape; NaN are left out of the count.

    Returns
    -------
    DataArray or ndarray
        q-values of the same shape: calling ``q < alpha`` significant keeps the expected share of false ones below
        alpha, for independent or positively dependent tests.

    References
    ----------
    Benjamini, Y. & Hochberg, Y. (1995). Controlling the false discovery rate. J. R. Stat. Soc. B 57, 289-300.

    Examples
    --------
    >>> fdr_bh([0.01, 0.02, np.nan, 0.9])
    array([0.03, 0.03,  nan, 0.9 ])
    """
    values = np.asarray(p, dtype=np.float64)
    there = np.isfinite(values)
    tested = values[there]
    if tested.size and (tested.min() < 0 or tested.max() > 1):
        raise SchemaError("Not p-values.", expected="0 to 1", got=f"{tested.min()} to {tested.max()}", where="p")
    order = np.argsort(tested)
    scaled = tested[order] * len(tested) / np.arange(1, len(tested) + 1)
    q = np.full(values.shape, np.nan)
    adjusted = np.empty(len(tested))
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    q[there] = np.clip(adjusted, tested, 1.0)  # rounding must not take q below p
    return p.copy(data=q).rename("q") if isinstance(p, xr.DataArray) else q


def linear_form(y: Array, p: Array, fold: Index, scorer: str) -> tuple[Array, Array]:
    """Constant (t,) and weights (n, t) with ``score = constant + sum(y * weights)`` for all arrangements in folds.

    The score is the mean of the folds' scores; NaN where one of them cannot be scored.
    """
    constant, weights = np.zeros(y.shape[1]), np.empty(y.shape)
    n_folds = int(fold.max()) + 1
    for f in range(n_folds):
        rows = fold == f
        a, w = _one_fold(y[rows], p[rows], scorer)
        constant += a / n_folds
        weights[rows] = w / n_folds
    return constant, weights


def _one_fold(y: Array, p: Array, scorer: str) -> tuple[Array, Array]:
    offset = y.mean(axis=0) - p.mean(axis=0)
    varies = (y != y[:1]).any(axis=0)
    flat = (p == p[:1]).all(axis=0)
    yc, pc = y - y.mean(axis=0), p - p.mean(axis=0)
    yy, pp = np.square(yc).sum(axis=0), np.square(pc).sum(axis=0)
    yy = np.where(varies & (yy > 0), yy, np.nan)
    if scorer == "r":
        scale = np.sqrt(yy) * np.where(flat | (pp == 0), np.inf, np.sqrt(pp))
        return 0 * yy, pc / scale
    if scorer not in ("r2", "ev"):
        raise ConfigError("This statistic cannot be tested.", expected=["ev", "r", "r2"], got=scorer, where="scorer")
    lost = pp + (len(y) * np.square(offset) if scorer == "r2" else 0.0)
    return -lost / yy, 2 * pc / yy


class _Shuffles:
    """Orders of samples within pieces."""

    def __init__(self, pieces: list[Index], n: int, rng: np.random.Generator) -> None:
        self.n_permutations, self.rows = n, np.concatenate(pieces)
        self.pieces, self.orders = pieces, [_orders(len(piece), n, rng) for piece in pieces]

    def null(self, y: Array, w: Array) -> Array:
        """Sums over samples of rearranged y times w; shape (n_permutations, n_targets)."""
        n, n_targets = y.shape
        out, ones, w = np.empty((self.n_permutations, n_targets)), np.ones(n), w[self.rows]
        # The gather is bound by memory: targets in slices that stay in cache, many arrangements for each.
        for few in tiles(self.n_permutations, 8 * n):
            arranged = [
                np.concatenate([p[o[m]] for p, o in zip(self.pieces, self.orders, strict=True)])
                for m in range(few.start, few.stop)
            ]
            for part in tiles(n_targets, 8 * n, CACHE):
                source, weights = np.ascontiguousarray(y[:, part]), np.ascontiguousarray(w[:, part])
                moved = np.empty_like(source)
                for m, index in enumerate(arranged, few.start):
                    np.take(source, index, axis=0, out=moved, mode="clip")
                    np.multiply(moved, weights, out=moved)
                    out[m, part] = ones @ moved
        return out


class _Blocks:
    """Orders of blocks of equal length within pieces; what is left over at the end of a piece stays in place."""

    def __init__(self, pieces: list[Index], size: int, n: int, rng: np.random.Generator) -> None:
        self.n_permutations, self.size, self.pieces = n, size, pieces
        self.orders = [_orders(len(piece) // size, n, rng) for piece in pieces]

    def null(self, y: Array, w: Array) -> Array:
        """Sums over samples of rearranged y times w; shape (n_permutations, n_targets)."""
        out = np.zeros((self.n_permutations, y.shape[1]))
        for index, order in zip(self.pieces, self.orders, strict=True):
            n_blocks = order.shape[1]
            whole, rest = index[: n_blocks * self.size], index[n_blocks * self.size :]
            out += (y[rest] * w[rest]).sum(axis=0)
            moved, fixed = (v[whole].reshape(n_blocks, self.size, -1) for v in (y, w))
            for place in range(n_blocks):
                # (block, target): what each block contributes when it comes to this place
                out += np.einsum("ikt,kt->it", moved, fixed[place])[order[:, place]]
        return out


class _Shifts:
    """Circular shifts of pieces."""

    def __init__(self, pieces: list[Index], least: int, n: int, rng: np.random.Generator) -> None:
        self.n_permutations, self.pieces = n, pieces
        self.shifts = [lags(len(piece), least, n, rng) for piece in pieces]

    def null(self, y: Array, w: Array) -> Array:
        """Sums over samples of shifted y times w; shape (n_permutations, n_targets)."""
        out = np.zeros((self.n_permutations, y.shape[1]))
        for index, shift in zip(self.pieces, self.shifts, strict=True):
            n = len(index)
            spectrum = fft.rfft(y[index], axis=0) * fft.rfft(w[index], axis=0).conj()
            out += fft.irfft(spectrum, n, axis=0)[shift]  # (lag, target) -> (permutation, target)
        return out


def lags(length: int, least: int, n: int, rng: np.random.Generator) -> Index:
    """Shifts of a piece in random order, none again before all were there: repeated ones would make p too small.

    From the second round on the data as they are count among the shifts, as often as any other, for the same reason.
    """
    if length < 2 * least or length < 2:
        return np.zeros(n, np.int64)  # too short to be shifted by so much: it stays as it is
    allowed = np.arange(least, length - least + 1)
    more = -(-max(0, n - len(allowed)) // (len(allowed) + 1))
    return np.concatenate([rng.permutation(allowed), *(rng.permutation([0, *allowed]) for _ in range(more))])[:n]


def _orders(length: int, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    return rng.permuted(np.tile(np.arange(length, dtype=np.int32), (n, 1)), axis=1)


def _pieces(fold: Index, group: Index, *, ordered: bool) -> list[Index]:
    """Samples between which exchange is allowed: same fold and group and, if order counts, uninterrupted."""
    both = codes(fold * (group.max() + 1) + group, "group")
    if ordered:
        both = np.concatenate([[0], np.cumsum(np.diff(both) != 0)])
    order = np.argsort(both, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(both[order])) + 1)


def _shuffle(pieces: list[Index], block: int | None, n: int, rng: np.random.Generator) -> _Shuffles:
    if block not in (None, 1):
        raise ConfigError("Single samples are shuffled.", expected="block=None", got=block, fix="scheme='block'")
    _check_movable(any(len(piece) > 1 for piece in pieces), "fewer folds, so that each holds several samples")
    return _Shuffles(pieces, n, rng)


def _block(pieces: list[Index], block: int | None, n: int, rng: np.random.Generator) -> _Blocks:
    size = _check_block(block) if block is not None else max(1, min(map(len, pieces)) // 10)
    _check_movable(any(len(piece) >= 2 * size for piece in pieces), f"block= less than {size}, or longer pieces")
    return _Blocks(pieces, size, n, rng)


def _circular(pieces: list[Index], block: int | None, n: int, rng: np.random.Generator) -> _Shifts:
    least = 1 if block is None else _check_block(block)
    _check_movable(any(len(p) >= 2 * least and len(p) > 1 for p in pieces), "longer pieces, or a smaller least shift")
    return _Shifts(pieces, least, n, rng)


SCHEMES: dict[str, Any] = {"shuffle": _shuffle, "block": _block, "circular": _circular}


def _check_block(block: int) -> int:
    if isinstance(block, bool) or not isinstance(block, (int, np.integer)) or block < 1:
        raise ConfigError("Not a number of samples.", expected="an integer >= 1", got=block, where="block")
    return int(block)


def _check_movable(movable: bool, fix: str) -> None:
    if not movable:
        raise ConfigError("There is nothing to rearrange within folds and groups.", fix=fix, where="permutation_test")


def _run(
    y: Array, p: Array, fold: Index, scorer: str, plan: _Shuffles | _Blocks | _Shifts, kept: Any = None
) -> tuple[Array, Array, Array]:
    """Scores (t,), numbers of arrangements that score as high (t,), and maxima over targets (m,); `kept` takes all."""
    score, exceed = np.empty(y.shape[1]), np.empty(y.shape[1])
    null_max = np.full(plan.n_permutations, -np.inf)
    for tile in tiles(y.shape[1], 48 * len(y) + 16 * plan.n_permutations, 2**25):
        block, guess = y[:, tile].astype(np.float64), p[:, tile].astype(np.float64)
        finite = np.isfinite(block).all(axis=0) & np.isfinite(guess).all(axis=0)
        block, guess = np.where(finite, block, 0.0), np.where(finite, guess, 0.0)
        constant, weights = linear_form(block, guess, fold, scorer)
        usable = np.isfinite(constant)
        weights[:, ~usable] = 0.0
        block = np.where(usable, block - block.mean(axis=0), 0.0)
        # Constants cancel in the weights' sums over a fold, so centring only helps precision.
        score[tile] = constant + np.einsum("nt,nt->t", block, weights)
        null = constant + plan.null(block, weights)
        # An arrangement that gives the same data again counts as a tie, whatever its rounding.
        exceed[tile] = (null >= score[tile] - 1e-9).sum(axis=0)
        if kept is not None:
            kept[:, tile] = np.where(usable, null, np.nan)
        if usable.any():
            null_max = np.maximum(null_max, null[:, usable].max(axis=1))
    return score, exceed, null_max


def _table(like: xr.DataArray, score: Array, exceed: Array, null_max: Array) -> xr.Dataset:
    m, usable = len(null_max), np.isfinite(score)
    above = m - np.searchsorted(np.sort(null_max), score - 1e-9, side="left")
    columns = {"score": score, "p": (exceed + 1) / (m + 1), "p_max": (above + 1) / (m + 1)}
    out = xr.Dataset({name: restore(np.where(usable, values, np.nan), like) for name, values in columns.items()})
    out["null_max"] = ("permutation", np.where(np.isfinite(null_max), null_max, np.nan))
    return out.assign_attrs(n_permutations=m)
