"""Penalties in the units of other packages."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError

__all__ = ["convert_alpha"]

_UNITS = ("sklearn", "mne", "mtrf", "huth", "huth_normalised")


def convert_alpha(
    alpha: ArrayLike,
    *,
    source: str,
    target: str,
    sfreq: float | None = None,
    n_trials: int = 1,
    largest_singular_value: float | None = None,
) -> NDArray[np.float64]:
    """Turn penalties from the unit of one package into that of another, so that both give the same weights.

    ========================  =========================================================================
    unit                      the penalty on X'X of the centred design that a value v stands for
    ========================  =========================================================================
    ``"sklearn"``             ``v``: neuroalign, scikit-learn and himalaya
    ``"mne"``                 ``v``: `TimeDelayingRidge` and `ReceptiveField` with ridge regularisation
    ``"mtrf"``                ``v * sfreq * n_trials``: lambda over the time step, covariances averaged over trials
    ``"huth"``                ``v ** 2``: added to squared singular values as a square
    ``"huth_normalised"``     ``(v * largest_singular_value) ** 2``
    ========================  =========================================================================

    Weights of mTRF are densities over time: those of neuroalign times `sfreq`.

    Parameters
    ----------
    alpha : array-like
        Penalties, >= 0.
    source, target : {"sklearn", "mne", "mtrf", "huth", "huth_normalised"}
        Unit that `alpha` is in, and the one that is wanted.
    sfreq : float, optional
        Sampling rate in Hz, for ``"mtrf"``.
    n_trials : int, default 1
        Number of trials that mTRF is trained on.
    largest_singular_value : float, optional
        Of the training design, for ``"huth_normalised"``.

    Returns
    -------
    ndarray of float64, the shape of `alpha`
        The penalties.

    Raises
    ------
    ConfigError
        If a unit is unknown or lacks its `sfreq` or `largest_singular_value`, or a penalty is negative or not finite.

    References
    ----------
    Crosse et al. (2016), The multivariate temporal response function (mTRF) toolbox, Front. Hum. Neurosci. 10.
    Huth et al. (2016), Natural speech reveals the semantic maps that tile human cerebral cortex, Nature 532.

    Examples
    --------
    >>> convert_alpha([10.0, 1000.0], source="mtrf", target="sklearn", sfreq=64.0)
    array([  640., 64000.])
    >>> convert_alpha(100.0, source="sklearn", target="huth")
    array(10.)
    """
    values = np.asarray(alpha, dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ConfigError("Not penalties.", expected="finite numbers >= 0", got=alpha, where="alpha")
    power, factor = _unit(source, "source", sfreq, n_trials, largest_singular_value)
    plain = (values * factor) ** power
    power, factor = _unit(target, "target", sfreq, n_trials, largest_singular_value)
    return np.asarray(plain ** (1.0 / power) / factor)


def _unit(
    name: str, where: str, sfreq: float | None, n_trials: int, largest_singular_value: float | None
) -> tuple[float, float]:
    """Power and factor of a unit: it stands for ``(v * factor) ** power``."""
    if name not in _UNITS:
        raise ConfigError("Unknown unit of penalties.", expected=_UNITS, got=name, where=where)
    if name == "mtrf":
        return 1.0, _positive(sfreq, "sfreq", name) * _positive(n_trials, "n_trials", name)
    if name == "huth_normalised":
        return 2.0, _positive(largest_singular_value, "largest_singular_value", name)
    return (2.0 if name == "huth" else 1.0), 1.0


def _positive(value: float | None, name: str, unit: str) -> float:
    if value is None or not np.isfinite(value) or value <= 0:
        raise ConfigError(f"The unit {unit!r} needs {name}.", expected="a number > 0", got=value, where=name)
    return float(value)
