"""Permutation test of cross-validated scores, with the model fitted again to every arrangement.

Holding cross-validated predictions fixed while rearranging the held-out responses is not valid: each fold's
predictions were learned from the other folds' responses, so that under chance the folds' scores vary together, and
rearranging breaks that. The test would be too liberal in the tail. Here every arrangement goes the whole way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.compute import progress
from neuroalign.errors import ConfigError, warn
from neuroalign.evaluation._labels import codes
from neuroalign.evaluation.permutation import lags

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: Arranged copies of the responses are fitted together up to this size, bytes.
BATCH_BYTES = 2**26


def separable(estimator: Any) -> bool:
    """Tell whether the last step fits each target on its own, so that arrangements can be fitted side by side."""
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    before = [step for step in steps[:-1] if step is not None and step != "passthrough"]
    # A step that looks at the responses, such as feature selection, would look at all arrangements at once.
    blind = all(getattr(step, "ignores_targets", False) for step in before)
    return blind and bool(getattr(steps[-1], "separable_targets", False))


def arrangements(
    scheme: str,
    n: int,
    rng: np.random.Generator,
    *,
    units: Index,
    runs: Index | None,
    within: Index | None = None,
    block: int | None = None,
) -> Iterator[Index]:
    """Draw orders of samples under which nothing but the relation to the features changes.

    Parameters
    ----------
    scheme : {"shuffle", "circular", "block"}
        As in `permutation_test`.
    n : int
        Number of orders.
    rng : numpy.random.Generator
        Source of randomness.
    units : ndarray of int, shape (n_samples,)
        ``shuffle``: samples of a unit (such as repeats of a stimulus) stay together; units of equal size are exchanged.
    runs : ndarray of int, shape (n_samples,), or None
        ``circular`` and ``block``: runs, within which samples are moved.
    within : ndarray of int, shape (n_samples,), optional
        ``shuffle``: labels between which nothing is exchanged.
    block : int, optional
        Samples a block, by default a tenth of the shortest run.

    Yields
    ------
    ndarray of int, shape (n_samples,)
        Which sample comes to each place.
    """
    if scheme == "shuffle":
        yield from _shuffles(units, np.zeros_like(units) if within is None else within, n, rng)
        return
    labels = np.zeros(len(units), np.int64) if runs is None else runs
    edges = np.flatnonzero(np.diff(labels)) + 1
    pieces = np.split(np.arange(len(units)), edges)
    size = block or max(1, min(map(len, pieces)) // 10)
    if scheme == "block" and not any(len(p) >= 2 * size for p in pieces):
        raise ConfigError(
            "There is nothing to rearrange.", expected=f"runs of at least {2 * size} samples", got=max(map(len, pieces))
        )
    if scheme == "circular":
        for shifts in np.stack([lags(len(piece), 1, n, rng) for piece in pieces], axis=1):
            yield np.concatenate([np.roll(piece, shift) for piece, shift in zip(pieces, shifts, strict=True)])
        return
    for _ in range(n):
        yield np.concatenate([_blocks(piece, size, rng) for piece in pieces])


def _shuffles(units: Index, within: Index, n: int, rng: np.random.Generator) -> Iterator[Index]:
    order = np.argsort(units, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(units[order])) + 1)
    sizes = np.array([len(m) for m in members])
    group = np.array([within[m[0]] for m in members])
    kinds = np.unique(np.stack([group, sizes]), axis=1).T
    alike = [np.stack([members[k] for k in np.flatnonzero((group == g) & (sizes == s))]) for g, s in kinds]
    alone = sum(len(rows) for rows in alike if len(rows) == 1)
    if alone == len(alike):
        raise ConfigError(
            "There is nothing to exchange.",
            expected="stimuli with equal numbers of repeats (in the same group)",
            got=f"{sizes.tolist()[:10]}",
        )
    if alone > len(members) / 10:
        warn(
            f"{alone} of {len(members)} stimuli have a number of repeats of their own and stay in place in the test.",
            stacklevel=6,
        )
    for _ in range(n):
        out = np.empty(len(units), np.int64)
        for rows in alike:
            out[rows] = rows[rng.permutation(len(rows))]
        yield out


def _blocks(piece: Index, size: int, rng: np.random.Generator) -> Index:
    whole = len(piece) // size * size
    moved = piece[:whole].reshape(-1, size)[rng.permutation(whole // size)].ravel()
    return np.concatenate([moved, piece[whole:]])


def refit_test(
    y: Array,
    score: Array,
    orders: Iterator[Index],
    rescore: Callable[[Array], Array],
    *,
    n_permutations: int,
    together: bool,
    kept: NDArray[np.float32] | None = None,
) -> tuple[Array, Array, Array]:
    """Compare scores with those of models fitted to arranged responses.

    Parameters
    ----------
    y : ndarray, shape (n_samples, n_targets)
        Responses.
    score : ndarray, shape (n_targets,)
        Scores of the responses as they are.
    orders : iterator of ndarray
        From `arrangements`.
    rescore : callable
        Takes responses (n_samples, n) and gives their scores (n,), by the whole cross-validation.
    n_permutations : int
        Number of orders.
    together : bool
        Whether arrangements may be fitted side by side, as further targets.
    kept : ndarray, shape (n_permutations, n_targets), optional
        Takes the scores of all arrangements.

    Returns
    -------
    p, p_max : ndarray, shape (n_targets,)
        One-sided p of each target, and against the maximum over targets.
    null_max : ndarray, shape (n_permutations,)
        The maxima.
    """
    usable = np.isfinite(score) & np.isfinite(y).all(axis=0)
    known, observed = y[:, usable], score[usable]
    size = max(1, BATCH_BYTES // max(known.nbytes, 1)) if together else 1
    exceed, null_max = np.zeros(len(observed)), np.full(n_permutations, np.nan)
    done = 0
    with progress("permutations", total=n_permutations) as advance:
        while done < n_permutations and observed.size:
            batch = [known[next(orders)] for _ in range(min(size, n_permutations - done))]
            null = rescore(np.concatenate(batch, axis=1)).reshape(len(batch), -1)
            # An arrangement that gives the same data again counts as a tie, whatever its rounding.
            # One that cannot be scored counts as one that scores as high.
            exceed += (~(null < observed - 1e-9)).sum(axis=0)
            if kept is not None:
                kept[done : done + len(batch), usable] = null
            null_max[done : done + len(batch)] = np.fmax.reduce(null, axis=1)
            done += len(batch)
            advance(len(batch))
    p, p_max = np.full(y.shape[1], np.nan), np.full(y.shape[1], np.nan)
    p[usable] = (exceed + 1) / (n_permutations + 1)
    above = n_permutations - np.searchsorted(np.sort(null_max), observed - 1e-9, side="left")
    p_max[usable] = (above + 1) / (n_permutations + 1)
    return p, p_max, null_max


def as_targets(values: Array, y: Any, dim: str | None) -> Any:
    """Label responses (n_samples, n) with the samples of `y`; plain arrays stay plain."""
    if dim is None or not isinstance(y, xr.DataArray):
        return values
    coords = {name: c for name, c in y.coords.items() if c.dims == (dim,)}
    attrs = {name: y.attrs[name] for name in ("sfreq", "units") if name in y.attrs}
    return xr.DataArray(values, dims=(dim, "target"), coords=coords, attrs=attrs)


def number_units(labels: Any, n: int) -> Index:
    """Number the units that are exchanged: labels where given, else every sample on its own."""
    return np.arange(n) if labels is None else codes(labels, "repeats")
