"""The arithmetic of the fMRI simulation: haemodynamic responses, runs, and the precision of single-trial betas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroalign.datasets.simulate._settings import BOLD
from neuroalign.preprocess.hrf import cosine_drift, event_regressors

__all__ = ["beta_variance_factor", "bold_onsets", "bold_run", "n_volumes", "trial_design"]

Array = NDArray[np.float64]


def _schedule(n_trials: int) -> Array:
    """Onsets in s before they are moved."""
    k = np.arange(n_trials)
    return BOLD.lead + BOLD.soa * k + BOLD.pause * (k // BOLD.block)


def bold_onsets(n_trials: int, rng: np.random.Generator) -> Array:
    """Draw onsets in s: every `soa` seconds with pauses, each moved by up to `jitter`, to a tenth of a second."""
    return np.round(_schedule(n_trials) + rng.uniform(-BOLD.jitter, BOLD.jitter, n_trials), 1)


def n_volumes(n_trials: int) -> int:
    """Give the length of a run."""
    return int(np.ceil((_schedule(n_trials)[-1] + BOLD.soa + BOLD.tail) / BOLD.tr))


def trial_design(onsets: Array) -> Array:
    """Give one regressor a trial, shape (n_volumes, n_trials): a picture's duration through the response."""
    frames = BOLD.tr * np.arange(n_volumes(len(onsets)))
    return event_regressors(BOLD.hrf, onsets, np.full(len(onsets), BOLD.duration), frames)


def beta_variance_factor(design: Array) -> Array:
    """Give the variance of each least-squares beta for white noise of variance 1: the diagonal of (D'D)^-1.

    D holds one regressor a trial, slow cosines and a constant for the run.
    """
    n = len(design)
    full = np.column_stack([design, cosine_drift(n, 1 / BOLD.tr, BOLD.high_pass), np.ones(n)])
    return np.diag(np.linalg.inv(full.T @ full))[: design.shape[1]]


def bold_run(responses: Array, design: Array, mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Make one run.

    Parameters
    ----------
    responses : array, shape (n_trials, n_voxels)
        Height of each trial's response in the voxels of the mask, i running fastest; 0 at silent ones.
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
    # Transposed, because voxels are counted with i running fastest.
    volume.transpose(2, 1, 0, 3)[mask.T] += (BOLD.base + design @ responses).T.astype(np.float32)
    return volume
