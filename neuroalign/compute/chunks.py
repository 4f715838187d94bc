"""Cut work into pieces, and give each piece its own seed, so that results do not depend on the number of workers."""

from __future__ import annotations

import numpy as np

from neuroalign.errors import ConfigError

__all__ = ["spawn_seeds", "tiles"]


def tiles(n: int, size: int | None) -> list[slice]:
    """Cut ``range(n)`` into slices of at most `size`.

    Parameters
    ----------
    n : int
        Length.
    size : int or None
        Length of a tile; None for one tile.

    Returns
    -------
    list of slice
        In order; empty for ``n = 0``.

    Raises
    ------
    ConfigError
        If `size` is not positive.

    Examples
    --------
    >>> tiles(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    if size is not None and size < 1:
        raise ConfigError("A tile needs at least one element.", expected="size >= 1 or None", got=size)
    step = max(1, n if size is None else size)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def spawn_seeds(random_state: int | np.random.Generator | None, n: int) -> list[np.random.SeedSequence]:
    """Independent seeds, one a piece of work.

    The k-th seed depends on `random_state` and k only: the result of a piece is the same whoever computes it and
    however many workers there are.

    Parameters
    ----------
    random_state : int, numpy.random.Generator or None
        The seed of the whole. A generator gives other seeds at each call; None takes fresh entropy.
    n : int
        Number of pieces.

    Returns
    -------
    list of numpy.random.SeedSequence
        For ``numpy.random.default_rng(seed)``.

    Raises
    ------
    ConfigError
        If the seed is negative or not an integer.

    Examples
    --------
    >>> [int(np.random.default_rng(s).integers(100)) for s in spawn_seeds(0, 3)]
    [80, 66, 65]
    """
    if isinstance(random_state, np.random.Generator):
        return random_state.bit_generator.seed_seq.spawn(n)  # type: ignore[attr-defined]
    try:
        return np.random.SeedSequence(random_state).spawn(n)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "This is not a seed.", expected="a non-negative int, a Generator or None", got=random_state
        ) from error
