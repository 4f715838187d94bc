"""Bands of features, and the band weights that a random search tries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError

__all__ = ["CONCENTRATIONS", "band_columns", "candidates", "check_gammas"]

#: Concentrations of the Dirichlet samples, in turn: mostly one band, sparse, and uniform on the simplex.
CONCENTRATIONS = (0.1, 0.3, 1.0)


def band_columns(bands: ArrayLike | Sequence[slice], p: int) -> tuple[NDArray[Any], list[NDArray[np.intp]]]:
    """Names and columns of the bands of `p` features, in order of first appearance.

    Raises
    ------
    ConfigError
        If not every feature belongs to exactly one band.
    """
    if isinstance(bands, list | tuple) and bands and all(isinstance(part, slice) for part in bands):
        columns = [np.arange(p)[part] for part in bands]
        counts = np.bincount(np.concatenate(columns), minlength=p)
        if (counts != 1).any() or any(part.size == 0 for part in columns):
            raise ConfigError(
                "The slices do not share out the features.",
                expected=f"each of the {p} features in exactly one band",
                got=bands,
                where="bands",
            )
        return np.arange(len(columns)), columns
    labels = np.asarray(bands)
    if labels.shape != (p,):
        raise ConfigError(
            "bands must mark every feature.",
            expected=f"{p} labels, or slices",
            got=labels.shape,
            where="bands",
            fix='bands=["vision"] * 200 + ["semantics"] * 300, or bands=[slice(0, 200), slice(200, 500)]',
        )
    names, first, code = np.unique(labels.astype(str), return_index=True, return_inverse=True)
    order = np.argsort(first)
    return labels[first[order]], [np.flatnonzero(code == band) for band in order[: len(names)]]


def candidates(
    n_bands: int, n_iter: int, random_state: int | np.random.Generator | None, alive: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Band weights to try, (n_iter, n_bands), each row on the simplex.

    Equal weights first, then each band alone, then Dirichlet samples of several concentrations. Bands that are not
    alive (constant features) get no weight.
    """
    if isinstance(n_iter, bool) or not isinstance(n_iter, int | np.integer) or n_iter < 1:
        raise ConfigError("n_iter is a number of band weights to try.", expected=">= 1", got=n_iter, where="n_iter")
    rng = np.random.default_rng(random_state)
    usable = np.flatnonzero(alive) if alive.any() else np.arange(n_bands)
    size = usable.size
    fixed = np.concatenate([np.full((1, size), 1.0 / size), np.eye(size)])[: n_iter if size > 1 else 1]
    drawn = [
        rng.dirichlet(np.full(size, CONCENTRATIONS[i % len(CONCENTRATIONS)]))
        for i in range(n_iter - len(fixed) if size > 1 else 0)
    ]
    out = np.zeros((len(fixed) + len(drawn), n_bands))
    out[:, usable] = np.concatenate([fixed, *(row[None] for row in drawn)])
    return out


def check_gammas(gammas: ArrayLike, n_bands: int) -> NDArray[np.float64]:
    """Band weights given by the caller, (n_iter, n_bands), finite and >= 0."""
    weights = np.atleast_2d(np.asarray(gammas, dtype=np.float64))
    if weights.ndim != 2 or weights.shape[1] != n_bands or not np.isfinite(weights).all() or (weights < 0).any():
        raise ConfigError(
            "gammas must be band weights.",
            expected=f"(n_iter, {n_bands}), finite and >= 0",
            got=weights.shape if np.isfinite(weights).all() else weights,
            where="gammas",
        )
    return weights
