"""Penalties, and how targets share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from neuroalign.protocol import option


@option
@dataclass(frozen=True, eq=False)
class AlphaGrid:
    """Penalties of a temporal response function or a banded model, and how its targets share them.

    Parameters
    ----------
    alphas : array_like, optional
        Grid of penalties. By default a wide grid scaled to the features.
    per_target : bool or 'pooled', default True
        Choose a penalty (and band weights) for every target, or one for all (as mTRF does); ``"pooled"`` draws every
        target towards all of them, and keeps what repeats over the folds, which is safer with short recordings and few
        samples.
    standardize : bool, default False
        Penalise features over their standard deviations, those of the training samples within each inner fold, so that
        their units do not matter; weights are those of the features as given. For temporal response functions.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign.encoding import TRFEncoder
    >>> from neuroalign.linear import AlphaGrid
    >>> rng = np.random.default_rng(0)
    >>> X, noise = rng.normal(size=(400, 1)), rng.normal(size=(400, 3))
    >>> trf = TRFEncoder(tmax=0.02, sfreq=100.0, alphas=AlphaGrid(per_target=False)).fit(X, X + noise * [1, 10, 100])
    >>> len(set(trf.alphas_.tolist()))
    1
    """

    alphas: ArrayLike | None = None
    per_target: bool | str = True
    standardize: bool = False


class GridModel:
    """A model whose `alphas` may be an `AlphaGrid`."""

    alphas: Any

    @property
    def alpha_per_target(self) -> bool | str:
        """How targets share penalties."""
        return self.alphas.per_target if isinstance(self.alphas, AlphaGrid) else True

    @property
    def standardize(self) -> bool:
        """Whether features are scaled within the folds."""
        return isinstance(self.alphas, AlphaGrid) and self.alphas.standardize

    def _given_alphas(self) -> ArrayLike | None:
        """The user's grid, if any."""
        grid: ArrayLike | None = self.alphas.alphas if isinstance(self.alphas, AlphaGrid) else self.alphas
        return grid
