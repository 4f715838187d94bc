"""Means that do not depend on the order in which numbers come, nor on blocks; so a choice by them does not either."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExactMean"]

_DIGITS = 53  # of a float64
_HALF = 26  # so that sums of half as many digits are exact in float64
_LOWEST = 1074  # no float64 is finer than 2 ** -1074


class ExactMean:
    """Mean of float64 numbers, whose sum is kept as an integer without any rounding.

    Examples
    --------
    >>> mean = ExactMean()
    >>> mean.add(np.array([1e16, 1.0]))
    >>> mean.add(np.array([-1e16, 1.0]))
    >>> mean.value()
    0.5
    """

    def __init__(self) -> None:
        self._sum = 0  # in units of 2 ** -(_LOWEST + _DIGITS)
        self._n = 0
        self._infinite = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Add numbers; NaN and infinity are what the mean becomes.

        Parameters
        ----------
        values : ndarray, shape (n,)
            The numbers, at most 2 ** 26 at a time.
        """
        finite = np.isfinite(values)
        self._n += values.size
        self._infinite += float(values[~finite].sum())
        fraction, exponent = np.frexp(values[finite])
        digits = (fraction * 2.0**_DIGITS).astype(np.int64)
        for part, shift in ((digits >> _HALF, _HALF), (digits & (2**_HALF - 1), 0)):
            sums = np.bincount(exponent + _LOWEST, weights=part)  # one sum for each exponent
            for place in np.flatnonzero(sums).tolist():
                self._sum += int(sums[place]) << (place + shift)

    def value(self) -> float:
        """The mean, correctly rounded; 0 of no numbers."""
        if self._n == 0 or self._infinite != 0:
            return self._infinite
        return float(Fraction(self._sum, self._n << (_LOWEST + _DIGITS)))
