"""Lags in samples from a window in seconds, by the conventions of MNE and of mTRF."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import ConfigError

__all__ = ["LAG_CONVENTIONS", "trf_lags"]

#: How the ends of a window become samples.
LAG_CONVENTIONS = ("mne", "mtrf")


def trf_lags(tmin: float, tmax: float, sfreq: float, *, convention: str = "mne") -> NDArray[np.intp]:
    """Lags in samples of a window in seconds, both ends included.

    Parameters
    ----------
    tmin, tmax : float
        Window in s by which the target follows the feature.
    sfreq : float
        Sampling rate in Hz.
    convention : {"mne", "mtrf"}, default "mne"
        ``"mne"`` takes the nearest samples, as MNE and the estimators here do; ``"mtrf"`` takes whole samples that
        cover the window, rounding `tmin` down and `tmax` up, as mTRF does. They agree where the window ends on
        samples.

    Returns
    -------
    ndarray of int, shape (n_lags,)
        Consecutive rising lags for `trf_cv`. Divided by `sfreq`, the first and the last are a window with which the
        estimators take just these lags.

    Raises
    ------
    ConfigError
        If the window or the rate is not valid, or the convention unknown.

    Examples
    --------
    >>> trf_lags(0.0, 0.04, 64.0), trf_lags(0.0, 0.04, 64.0, convention="mtrf")
    (array([0, 1, 2, 3]), array([0, 1, 2, 3]))
    >>> trf_lags(-0.01, 0.035, 64.0), trf_lags(-0.01, 0.035, 64.0, convention="mtrf")
    (array([-1,  0,  1,  2]), array([-1,  0,  1,  2,  3]))
    """
    if convention not in LAG_CONVENTIONS:
        raise ConfigError(
            "Unknown convention of lags.", expected=" or ".join(LAG_CONVENTIONS), got=convention, where="convention"
        )
    if not (np.isfinite(sfreq) and sfreq > 0):
        raise ConfigError("Not a sampling rate.", expected="sfreq > 0 Hz", got=sfreq, where="sfreq")
    if not (np.isfinite([tmin, tmax]).all() and tmin <= tmax):
        raise ConfigError(
            "Empty window of lags.", expected="finite tmin <= tmax", got=f"tmin={tmin}, tmax={tmax}", where="tmin"
        )
    ends = np.array([tmin, tmax], dtype=np.float64) * sfreq
    nearest = np.round(ends)
    whole = np.abs(ends - nearest) <= 1e-6  # 0.3 s at 10 Hz is sample 3, and not 3.0000000000000004
    outer = np.where(whole, nearest, [np.floor(ends[0]), np.ceil(ends[1])])
    first, last = (nearest if convention == "mne" else outer).astype(np.intp)
    return np.arange(first, last + 1)
