"""What banded ridge computes of the features alone, kept for further targets as far as it fits into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.solvers._banded_plan import DualBands, Path, PrimalBands

__all__ = ["KeptPaths"]

_ROOM = 2**28  # bytes of decompositions of folds, and as many of all samples


class KeptPaths:
    """Statistics and decompositions of the same features, folds, penalties and candidates, for call after call.

    A candidate is kept for all folds or none, in the order in which they come; what does not fit is computed again in
    every call. It pickles empty: each process makes its own, and the threads of a process may share one.

    Parameters
    ----------
    room : int
        Bytes.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self.room = room
        self.grid: NDArray[np.float64] = np.empty(0)
        self._left = room
        self._made: tuple[str, PrimalBands | DualBands, float] | None = None
        self._paths: dict[bytes, dict[int, Path]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return KeptPaths, (self.room,)

    def plan(
        self, dtype: str, grid: NDArray[np.float64], make: Callable[[], tuple[PrimalBands | DualBands, float]]
    ) -> tuple[PrimalBands | DualBands, float]:
        """The plan of an earlier call, or a new one."""
        made = self._made
        if made is None or made[0] != dtype:
            made = (dtype, *make())
            made[1].basis.room = self.room
            self._paths, self._left, self.grid = {}, self.room, grid
            self._made = made  # last: now other threads use it
        return made[1:]

    def path(self, fold: int, gamma: NDArray[np.float64]) -> Path:
        """The path of one fold under one candidate; that of the first fold is asked for first."""
        if self._made is None:
            raise RuntimeError("path comes after plan")
        plan, paths, key = self._made[1], self._paths, gamma.tobytes()
        found = paths.get(key, {}).get(fold)
        if found is not None:
            return found
        made = plan.path(fold, gamma)
        if fold == 0 and key not in paths and (size := _size(made) * len(plan.folds)) <= self._left:
            paths[key] = {}
            self._left -= size
        if key in paths:
            paths[key][fold] = made
        return made


def _size(path: Path) -> int:
    """Bytes of the arrays of a path."""
    arrays = [path.rotate, path.rows, path.mean_weights, path.mix, *(part for _, part in path.blocks)]
    if path.pairs is not None:
        pairs = path.pairs
        arrays += [pairs.far, pairs.shrinkage, pairs.twice, pairs.squared, *(part for *_, part in pairs.near)]
    return sum(int(array.nbytes) for array in arrays if array is not None)
