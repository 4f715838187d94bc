"""The arithmetic of the fMRI simulation: haemodynamic responses, runs, and the precision of single-trial betas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from neuroalign.datasets.simulate._settings import BOLD

__all__ = ["beta_variance_factor", "bold_onsets", "bold_run", "spm_hrf", "trial_design"]

Array = NDArray[np.float64]
_STEP = 0.02  # s, of the grid on which the response to a picture is integrated


def spm_hrf(time: Array) -> Array:
    """Give the canonical double-gamma response with a peak of 1: gamma(6) less a sixth of gamma(16), in s."""
    fine = np.arange(0, 32, 0.01)
    peak = (gamma.pdf(fine, 6) - gamma.pdf(fine, 16) / 6).max()
    return (gamma.pdf(time, 6) - gamma.pdf(time, 16) / 6) / peak


def bold_onsets(n_trials: int, rng: np.random.Generator) -> Array:
    """Draw onsets in s: every `soa` seconds, each moved by up to `jitter`, to a tenth of a second."""
    regular = BOLD.lead + BOLD.soa * np.arange(n_trials)
    return np.round(regular + rng.uniform(-BOLD.jitter, BOLD.jitter, n_trials), 1)


def n_volumes(n_trials: int) -> int:
    """Give the length of a run."""
    return int(np.ceil((BOLD.lead + BOLD.soa * n_trials + BOLD.tail) / BOLD.tr))


def trial_design(onsets: Array) -> Array:
    """Give one regressor a trial, shape (n_volumes, n_trials): a picture's duration convolved with the response."""
    frames = BOLD.tr * np.arange(n_volumes(len(onsets)))
    offsets = np.arange(0, BOLD.duration, _STEP) + _STEP / 2
    since = frames[:, None, None] - onsets[:, None] - offsets  # (volume, trial, instant within the picture)
    return spm_hrf(since).mean(axis=2)


def beta_variance_factor(design: Array) -> Array:
    """Give the variance of each least-squares beta for white noise of variance 1: the diagonal of (D'D)^-1.

    D holds one regressor a trial and a constant for the run.
    """
    full = np.column_stack([design, np.ones(len(design))])
    return np.diag(np.linalg.inv(full.T @ full))[:-1]


def bold_run(responses: Array, design: Array, mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Make one run.

    Parameters
    ----------
    responses : array, shape (n_trials, n_voxels)
        Response of each trial in the voxels of the mask; 0 at silent ones.
    design : array, shape (n_volumes, n_trials)
        From `trial_design`.
    mask : array of bool, shape (n_i, n_j, n_k)
        The brain.
    rng : Generator
        Source of the noise, white in space and time.

    Returns
    -------
    array of float32, shape (n_i, n_j, n_k, n_volumes)
        Around 1000 in the brain and 100 outside.
    """
    volume = rng.standard_normal((*mask.shape, len(design)), dtype=np.float32) * np.float32(BOLD.noise_sd)
    volume[~mask] = volume[~mask] * np.float32(0.2) + np.float32(BOLD.base / 10)
    volume[mask] += (BOLD.base + design @ responses).T.astype(np.float32)
    return volume
