"""Haemodynamic response functions, and what they make of stimuli.

Both published shapes are differences of two gamma densities, so that their integrals are known in closed form: the
response to any boxcar is exact and needs no fine grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from neuroalign.errors import ConfigError

__all__ = ["HRF", "HRFS", "DoubleGamma", "SampledHRF", "cosine_drift", "event_regressors", "get_hrf", "hrf_kernel"]


class HRF(Protocol):
    """A response to an impulse, with unit area."""

    def density(self, t: ArrayLike) -> NDArray[np.float64]:
        """Response (1/s) at times t (s) after an impulse."""
        ...

    def cumulative(self, t: ArrayLike) -> NDArray[np.float64]:
        """Integral of the response up to t (s)."""
        ...


@dataclass(frozen=True)
class DoubleGamma:
    """A peak and an undershoot: ``(pdf(t; peak) - ratio * pdf(t; undershoot)) / (1 - ratio)``.

    Parameters
    ----------
    peak, undershoot : float
        Shapes of the two gamma densities.
    scale : float
        Their common scale in s.
    ratio : float
        Area of the undershoot relative to that of the peak.

    Examples
    --------
    >>> float(DoubleGamma(peak=6.0, undershoot=16.0, scale=1.0, ratio=1 / 6).cumulative(100.0).round(6))
    1.0
    """

    peak: float
    undershoot: float
    scale: float
    ratio: float

    def density(self, t: ArrayLike) -> NDArray[np.float64]:
        """Response (1/s) at times t (s) after an impulse.

        Parameters
        ----------
        t : array_like
            Seconds; before the impulse the response is 0.

        Returns
        -------
        ndarray
            The same shape as t.
        """
        x = np.maximum(np.asarray(t, dtype=np.float64), 0.0) / self.scale

        def pdf(a: float) -> NDArray[np.float64]:
            return np.exp(special.xlogy(a - 1, x) - x - special.gammaln(a)) / self.scale

        return (pdf(self.peak) - self.ratio * pdf(self.undershoot)) / (1 - self.ratio)

    def cumulative(self, t: ArrayLike) -> NDArray[np.float64]:
        """Integral of the response up to t.

        Parameters
        ----------
        t : array_like
            Seconds.

        Returns
        -------
        ndarray
            0 before the impulse, 1 long after it.
        """
        x = np.maximum(np.asarray(t, dtype=np.float64), 0.0) / self.scale
        area = special.gammainc(self.peak, x) - self.ratio * special.gammainc(self.undershoot, x)
        return area / (1 - self.ratio)


class SampledHRF:
    """A response given as a function of time, integrated on a grid of 10 ms.

    Parameters
    ----------
    function : callable
        Takes seconds (an array), gives the response in any scale; its area is set to 1.
    length : float
        Seconds after which the response is taken as over.
    """

    def __init__(self, function: Callable[[NDArray[np.float64]], ArrayLike], length: float = 40.0) -> None:
        self._grid = np.arange(0.0, length + 0.005, 0.01)
        values = np.asarray(function(self._grid), dtype=np.float64)
        area = values.sum() * 0.01
        if values.shape != self._grid.shape or not np.isfinite(values).all() or not abs(area) > 1e-12:
            raise ConfigError(
                "This is not a response function.",
                expected="one finite number for each time, with an area that is not 0",
                got=f"shape {values.shape}, area {area:g}",
            )
        self._values = values / area
        self._integral = np.concatenate([[0.0], np.cumsum((self._values[1:] + self._values[:-1]) / 2 * 0.01)])

    def density(self, t: ArrayLike) -> NDArray[np.float64]:
        """Response (1/s) at times t (s) after an impulse.

        Parameters
        ----------
        t : array_like
            Seconds.

        Returns
        -------
        ndarray
            The same shape as t.
        """
        return np.interp(np.asarray(t, dtype=np.float64), self._grid, self._values, left=0.0, right=0.0)

    def cumulative(self, t: ArrayLike) -> NDArray[np.float64]:
        """Integral of the response up to t.

        Parameters
        ----------
        t : array_like
            Seconds.

        Returns
        -------
        ndarray
            The same shape as t.
        """
        return np.interp(np.asarray(t, dtype=np.float64), self._grid, self._integral)


def _glover() -> DoubleGamma:
    """Glover's shape: two powers times exponentials, each of peak 1, the second weighted by 0.35."""

    def area(n: float, tau: float) -> float:
        return float(np.exp(special.gammaln(n + 1) + (n + 1) * np.log(tau) - n * np.log(n * tau) + n))

    return DoubleGamma(peak=7.0, undershoot=13.0, scale=0.9, ratio=0.35 * area(12, 0.9) / area(6, 0.9))


#: Name -> response function. ``spm``: shapes 6 and 16 s, area ratio 1/6 (Friston et al. 1998; SPM's default).
#: ``glover``: n = 6 and 12, tau = 0.9 s, a = 0.35 (Glover 1999, auditory response).
HRFS: dict[str, HRF] = {
    "spm": DoubleGamma(peak=6.0, undershoot=16.0, scale=1.0, ratio=1 / 6),
    "glover": _glover(),
}


def get_hrf(model: str | Callable[[NDArray[np.float64]], ArrayLike]) -> HRF:
    """Give a response function by name, or make one of a function of time.

    Parameters
    ----------
    model : str or callable
        A key of `HRFS`, or a function of seconds.

    Returns
    -------
    HRF
        With methods ``density`` and ``cumulative``, of unit area.

    Raises
    ------
    ConfigError
        If the name is unknown or the function is not usable.

    Notes
    -----
    ``"glover"`` is the shape of the paper [2]_. nilearn's ``glover_hrf`` has another undershoot; it is
    ``DoubleGamma(peak=6 / 0.9, undershoot=12 / 0.9, scale=0.9, ratio=0.48).density``, which can be passed as a
    function.

    References
    ----------
    .. [1] Friston, K. J., et al. (1998). Event-related fMRI: characterizing differential responses. NeuroImage 7.
    .. [2] Glover, G. H. (1999). Deconvolution of impulse response in event-related BOLD fMRI. NeuroImage 9.

    Examples
    --------
    >>> round(float(get_hrf("spm").density(5.0)), 3)
    0.211
    """
    if callable(model):
        return SampledHRF(model)
    if model not in HRFS:
        raise ConfigError("Unknown response function.", expected=f"{', '.join(HRFS)} or a function", got=model)
    return HRFS[model]


def hrf_kernel(
    model: str | Callable[[NDArray[np.float64]], ArrayLike], sfreq: float, length: float = 32.0
) -> NDArray[np.float64]:
    """Filter that turns a sampled feature into its haemodynamic response.

    The feature is taken to hold its value for one sampling interval from its sample on. The response is exact at
    the sample times.

    Parameters
    ----------
    model : str or callable
        As in `get_hrf`.
    sfreq : float
        Sampling rate in Hz.
    length : float
        Seconds covered.

    Returns
    -------
    ndarray, shape (n_taps,)
        Weights of the current and of past samples; the first is 0. They add up to 1.

    Examples
    --------
    >>> hrf_kernel("spm", sfreq=0.5).round(3)[:5]
    array([0.   , 0.02 , 0.238, 0.407, 0.304])
    """
    if not length > 0:
        raise ConfigError("Not a length.", expected="more than 0 s", got=length)
    edges = np.arange(-1, int(np.ceil(length * sfreq)) + 1) / sfreq
    weights = np.diff(get_hrf(model).cumulative(edges))
    return weights / weights.sum()


def event_regressors(
    model: str | Callable[[NDArray[np.float64]], ArrayLike], onset: ArrayLike, duration: ArrayLike, times: ArrayLike
) -> NDArray[np.float64]:
    """Predicted response to each event on its own.

    Parameters
    ----------
    model : str or callable
        As in `get_hrf`.
    onset, duration : array_like, shape (n_events,)
        Seconds. An event without duration counts as an impulse of unit area.
    times : array_like, shape (n_times,)
        Seconds of the volumes.

    Returns
    -------
    ndarray, shape (n_times, n_events)
        A long event approaches 1.
    """
    hrf = get_hrf(model)
    since = np.asarray(times, dtype=np.float64)[:, None] - np.asarray(onset, dtype=np.float64)  # (time, event)
    length = np.broadcast_to(np.asarray(duration, dtype=np.float64), since.shape[1:])
    boxes = hrf.cumulative(since) - hrf.cumulative(since - length)
    return np.where(length > 0, boxes, hrf.density(since))


def cosine_drift(n: int, sfreq: float, high_pass: float) -> NDArray[np.float64]:
    """Slow cosines that take up drift (the low end of a discrete cosine transform), without the constant.

    Parameters
    ----------
    n : int
        Number of volumes.
    sfreq : float
        Sampling rate in Hz.
    high_pass : float
        Frequencies below this (Hz) are covered.

    Returns
    -------
    ndarray, shape (n, n_cosines)
        Orthonormal columns.
    """
    order = min(n - 1, int(np.floor(2 * n * high_pass / sfreq + 1e-9)))
    steps = np.pi * (np.arange(n)[:, None] + 0.5) / n
    return np.sqrt(2 / n) * np.cos(steps * np.arange(1, order + 1))
