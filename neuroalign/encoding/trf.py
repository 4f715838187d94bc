"""Temporal response functions: encoding of continuous stimuli."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neuroalign.errors import ConfigError
from neuroalign.linear import TRFModel


class TRFEncoder(TRFModel):
    """Predict a continuous recording from lagged stimulus features (temporal response function).

    Parameters
    ----------
    tmin, tmax : float
        Window of lags in s, both ends included: how long the response follows the stimulus. Rounded to the nearest
        sample, as MNE does; see `neuroalign.solvers.trf_lags` for the lags of mTRF.
    sfreq : float, optional
        Sampling rate in Hz. By default from the time coordinate of `X`; needed for plain arrays.
    alphas : array_like or AlphaGrid, optional
        Grid of penalties on the lagged ``X'X``. By default a wide grid scaled to the features. Every target has a
        penalty of its own; an `neuroalign.linear.AlphaGrid` says otherwise.
    cv : int, str, splitter or list of (train, test), optional
        Inner folds over runs (coordinate ``run`` along time); a single run is cut into five stretches. A name is a
        coordinate whose values are left out one by one.
    scorer : {'r', 'r2', 'ev'} or callable
        Chooses the penalty and is what `score` reports.
    nan : {'mask', 'raise'}
        Targets that are not finite get NaN scores and a warning, or are refused.
    unlabelled : {'refuse', 'allow'}
        What to do when only one of X and y carries labels.

    Attributes
    ----------
    response_ : DataArray
        The response functions, (*feature dims, lag, *target dims).
    lags_ : ndarray
        Lags in s.
    intercept_, alphas_, cv_scores_ : DataArray or ndarray
        One value a target.

    Notes
    -----
    Lags never cross the edge of a run: before its start the stimulus counts as zero. Where a single run is cut, what
    lies within the span of the lags beside a held-out stretch is not trained on.

    References
    ----------
    Crosse, M. J., Di Liberto, G. M., Bednar, A. and Lalor, E. C. (2016). The multivariate temporal response function
    (mTRF) toolbox. Front. Hum. Neurosci. 10, 604.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> envelope = rng.normal(size=(500, 1))
    >>> response = np.roll(envelope, 3, axis=0)  # follows by 30 ms
    >>> trf = TRFEncoder(tmin=0.0, tmax=0.05, sfreq=100.0).fit(envelope, response)
    >>> float(trf.lags_[np.argmax(trf.coef_[0, :, 0])])
    0.03
    """

    @property
    def response_(self) -> Any:
        """The response functions, (*feature dims, lag, *target dims)."""
        return self.coef_

    def response_interval(
        self,
        X: Any,
        y: Any,
        *,
        level: float = 0.95,
        n_resamples: int = 200,
        random_state: int | np.random.Generator | None = None,
    ) -> Any:
        """Intervals of the response functions, from runs (or stretches of a single run) drawn with replacement.

        Parameters
        ----------
        X, y : DataArray or array
            What the model was fitted on.
        level : float, default 0.95
            Share of such intervals that hold the expected response. Penalties pull responses towards zero, and the
            interval goes with them.
        n_resamples : int, default 200
            Number of draws.
        random_state : int or Generator, optional
            Seed of the draws.

        Returns
        -------
        DataArray or array
            Dims (bound, *feature dims, lag, *target dims), ``bound`` being lower and upper.

        Raises
        ------
        SchemaError
            If there are fewer than three runs or stretches.

        References
        ----------
        Efron, B. and Tibshirani, R. J. (1993). An Introduction to the Bootstrap, chapter 12.
        """
        if not 0.0 < level < 1.0:
            raise ConfigError("Not a level.", expected="0 < level < 1", got=level, where="level")
        reach = self._reach(X, y, level, n_resamples, random_state)
        low, high = (self._with_lags(self.solution_coef_ + side * reach) for side in (-1, 1))
        if not self.labelled_:
            return np.stack([low, high])
        return xr.concat([low, high], dim=xr.Variable("bound", ["lower", "upper"]))
