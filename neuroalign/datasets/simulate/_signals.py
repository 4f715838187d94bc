"""The arithmetic of the simulation: responses, kernels, noise, and what they come to after the standard step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from neuroalign.datasets.simulate._settings import SensorSettings

__all__ = [
    "autocovariance",
    "draw_weights",
    "epoch_noise_variance",
    "evoked_kernel",
    "sensor_noise",
    "sensor_recording",
]

Array = NDArray[np.float64]
_SHARPNESS = 16.0


def evoked_kernel(time: Array, latency: float) -> Array:
    """Give the time course of an evoked response: 0 up to the onset, 1 at the latency, back to 0 after thrice that.

    ``k(t) = (t / latency)^16 * exp(16 (1 - t / latency))``.
    """
    relative = np.clip(time / latency, 0, None)
    return relative**_SHARPNESS * np.exp(_SHARPNESS * (1 - relative))


def draw_weights(features: Array, variance: Array, rng: np.random.Generator, *, zero_sum: bool) -> Array:
    """Draw a linear map whose responses have given variances over the stimuli.

    Parameters
    ----------
    features : array, shape (n_stimuli, n_units)
        Activations.
    variance : array, shape (n_sites,)
        Wanted variance of each site's response.
    rng : Generator
        Source of the draws.
    zero_sum : bool
        Make responses sum to zero over the sites, so that they survive an average reference and do not leak to other
        sites. The variances then come out near the wanted ones, not equal to them.

    Returns
    -------
    array, shape (n_units, n_sites)
        On raw activations: the response is ``features @ weights`` plus a constant.
    """
    spread = features.std(axis=0)
    weights = rng.standard_normal((features.shape[1], len(variance))) / np.where(spread > 0, spread, np.inf)[:, None]
    weights *= np.sqrt(variance) / (features @ weights).std(axis=0)
    return weights - weights.mean(axis=1, keepdims=True) if zero_sum else weights


def autocovariance(lag: NDArray[np.int64], settings: SensorSettings) -> Array:
    """Give the covariance of the noise over a lag in samples: a white part and a first-order autoregressive one."""
    phi = np.exp(-1 / (settings.ar_tau * settings.sfreq))
    ar = settings.ar_fraction * phi ** np.abs(lag)
    return settings.noise_sd**2 * (ar + (1 - settings.ar_fraction) * (lag == 0))


def sensor_noise(shape: tuple[int, int], settings: SensorSettings, rng: np.random.Generator) -> Array:
    """Draw stationary noise with the covariance of `autocovariance`, independent over channels."""
    phi = np.exp(-1 / (settings.ar_tau * settings.sfreq))
    innovations = rng.standard_normal(shape)
    innovations[:, 1:] *= np.sqrt(1 - phi**2)  # the first sample has the stationary variance
    slow = lfilter([1.0], [1.0, -phi], innovations, axis=1)
    white = rng.standard_normal(shape)
    return settings.noise_sd * (np.sqrt(settings.ar_fraction) * slow + np.sqrt(1 - settings.ar_fraction) * white)


def epoch_noise_variance(settings: SensorSettings) -> float:
    """Give the noise variance of one trial at the peak, after the mean of the baseline (tmin to 0) was taken off."""
    peak = round(settings.latency * settings.sfreq)
    baseline = np.arange(round(settings.tmin * settings.sfreq), 1)
    own = autocovariance(np.array(0), settings)
    among = autocovariance(baseline[:, None] - baseline, settings).mean()
    across = autocovariance(peak - baseline, settings).mean()
    return float(own + among - 2 * across)


def sensor_recording(
    responses: Array, common: Array, onsets: NDArray[np.int64], settings: SensorSettings, rng: np.random.Generator
) -> Array:
    """Make one run: the response of each trial along the kernel, on noise.

    Parameters
    ----------
    responses : array, shape (n_trials, n_channels)
        Peak response of each trial, V or T; 0 at silent channels.
    common : array, shape (n_channels,)
        Peak of what every picture evokes.
    onsets : array of int, shape (n_trials,)
        Sample of each onset.
    settings : SensorSettings
        Timing and noise.
    rng : Generator
        Source of the noise.

    Returns
    -------
    array, shape (n_channels, n_samples)
        V or T.
    """
    n_kernel = round(settings.soa * settings.sfreq)
    kernel = evoked_kernel(np.arange(n_kernel) / settings.sfreq, settings.latency)
    n_samples = int(onsets[-1]) + n_kernel + round(settings.lead * settings.sfreq)
    data = sensor_noise((responses.shape[1], n_samples), settings, rng)
    for onset, peak in zip(onsets, responses + common, strict=True):
        data[:, onset : onset + n_kernel] += peak[:, None] * kernel
    return data
