"""Temporal response functions: encoding of continuous stimuli."""

from __future__ import annotations

from typing import Any

from neuroalign.linear import TRFModel


class TRFEncoder(TRFModel):
    """Predict a continuous recording from lagged stimulus features (temporal response function).

    Parameters
    ----------
    tmin, tmax : float
        Window of lags in s, both ends included: how long the response follows the stimulus. Rounded to the nearest
        sample, as MNE does.
    sfreq : float, optional
        Sampling rate in Hz. By default from the time coordinate of `X`; needed for plain arrays.
    alphas : array_like, optional
        Grid of penalties on the lagged ``X'X``. By default a wide grid scaled to the features.
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
    Lags never cross the edge of a run: before its start the stimulus counts as zero.

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
