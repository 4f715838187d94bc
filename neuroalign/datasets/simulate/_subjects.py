"""One subject: draw its map, write its recordings, and state what is true of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroalign.datasets.simulate import _bold, _files, _sidecars, _signals, _sites
from neuroalign.datasets.simulate._settings import BOLD, MODALITIES, SENSORS, SIGNAL_TO_NOISE, TASK, SensorSettings

__all__ = ["Plan", "describe", "record_bold", "record_sensors"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """What all subjects share."""

    root: Path
    seed: int
    n_repeats: int
    stimuli: pd.DataFrame  # one row a picture
    features: Array  # (stimulus, unit) of the true layer

    def rng(self, subject: int, modality: str) -> np.random.Generator:
        """Give a stream of its own to each recording, whatever else is simulated."""
        return np.random.default_rng([self.seed, subject, MODALITIES.index(modality)])


def describe(modality: str) -> dict[str, Any]:
    """State timing and noise, and the stage for which variances hold."""
    if modality == "fmri":
        stage = "SingleTrialBetas(hrf='spm', high_pass=0.01, method='lsa') on the raw values in the mask"
        return asdict(BOLD) | {"affine": _sites.volume_affine().tolist(), "stage": stage}
    stage = "sample at the latency, after epochs from tmin with the mean of (None, 0) taken off"
    kernel = "(t / latency)^16 * exp(16 * (1 - t / latency))"
    return asdict(SENSORS[modality]) | {"kernel": kernel, "baseline": [None, 0], "stage": stage}


def _draw_map(plan: Plan, sites: _sites.Sites, noise: float, rng: np.random.Generator, *, zero_sum: bool) -> Array:
    """Draw the weights of all sites, 0 at silent ones, shape (n_units, n_sites)."""
    low, high = np.log(SIGNAL_TO_NOISE)
    variance = noise * np.exp(rng.uniform(low, high, int(sites.active.sum())))
    weights = np.zeros((plan.features.shape[1], len(sites.names)))
    weights[:, sites.active] = _signals.draw_weights(plan.features, variance, rng, zero_sum=zero_sum)
    return weights


def _truth(plan: Plan, site: list[Any], sites: _sites.Sites, weights: Array, noise: Array) -> dict[str, Any]:
    signal = (plan.features @ weights).var(axis=0)
    ceiling = signal / (signal + noise / plan.n_repeats)
    return {
        "site": site,
        "active": sites.active.tolist(),
        "signal_variance": signal.tolist(),
        "noise_variance": noise.tolist(),
        "ceiling_r2": ceiling.round(6).tolist(),
        "weights": weights[:, sites.active].tolist(),
    }


def _common(plan: Plan, sites: _sites.Sites, size: float) -> Array:
    """Response to any picture: larger towards the back, summing to zero over the active sites."""
    pattern = np.zeros(len(sites.names))
    y = -sites.positions[sites.active, 1]
    pattern[sites.active] = (y - y.mean()) / max(y.std(), 1e-12)
    return size * pattern


def _responses(plan: Plan, weights: Array) -> Array:
    """Deviation of each picture's response from the mean over pictures, shape (n_stimuli, n_sites)."""
    return (plan.features - plan.features.mean(axis=0)) @ weights


_SITES: dict[str, Callable[[np.random.Generator], _sites.Sites]] = {
    "eeg": lambda rng: _sites.eeg_cap(),
    "ieeg": _sites.seeg_shafts,
    "meg": lambda rng: _sites.meg_helmet(),
}


def record_sensors(plan: Plan, subject: str, modality: str) -> dict[str, Any]:
    """Write the runs of one electrophysiological modality; give its part of the truth."""
    settings, rng = SENSORS[modality], plan.rng(int(subject), modality)
    sites = _SITES[modality](rng)
    noise = _signals.epoch_noise_variance(settings)
    weights = _draw_map(plan, sites, noise, rng, zero_sum=modality == "eeg")
    responses, common = _responses(plan, weights), _common(plan, sites, settings.common)
    folder = plan.root / f"sub-{subject}" / modality
    folder.mkdir(parents=True)
    _write_space(folder, subject, sites, modality)
    step = round(settings.soa * settings.sfreq)
    onsets = round(settings.lead * settings.sfreq) + step * np.arange(len(responses))
    for run in range(1, plan.n_repeats + 1):
        order = rng.permutation(len(responses))
        data = _signals.sensor_recording(responses[order], common, onsets, settings, rng)
        events = _sidecars.events_table(onsets / settings.sfreq, settings.duration, plan.stimuli.iloc[order], run)
        _write_sensor_run(folder / f"sub-{subject}_task-{TASK}_run-{run}", data, sites, settings, events)
    return _truth(plan, list(sites.names), sites, weights, np.full(len(sites.names), noise))


def _write_space(folder: Path, subject: str, sites: _sites.Sites, modality: str) -> None:
    space = {"eeg": "_space-CapTrak", "ieeg": "_space-ACPC", "meg": ""}[modality]
    stem = f"sub-{subject}{space}"
    _sidecars.write_json(folder / f"{stem}_coordsystem.json", _sidecars.space_json(modality))
    if modality != "meg":
        _sidecars.write_table(folder / f"{stem}_electrodes.tsv", _sidecars.electrodes_table(sites, modality))


def _write_sensor_run(
    stem: Path, data: Array, sites: _sites.Sites, settings: SensorSettings, events: pd.DataFrame
) -> None:
    def beside(ending: str) -> Path:
        return stem.with_name(stem.name + ending)

    if settings.modality == "meg":
        _files.write_fif(beside("_meg.fif"), data, sites, sfreq=settings.sfreq)
    else:
        onsets = np.rint(events["onset"].to_numpy() * settings.sfreq).astype(np.int64)
        codes = [int(name[5:]) for name in events["stimulus_id"]]
        path = beside(f"_{settings.modality}.vhdr")
        _files.write_brainvision(path, data, sites, sfreq=settings.sfreq, onsets=onsets, codes=codes)
    sidecar = _sidecars.sensor_json(settings, n_channels=data.shape[0], n_samples=data.shape[1])
    _sidecars.write_json(beside(f"_{settings.modality}.json"), sidecar)
    _sidecars.write_table(beside("_channels.tsv"), _sidecars.channels_table(sites, settings))
    _sidecars.write_table(beside("_events.tsv"), events)


def record_bold(plan: Plan, subject: str, modality: str) -> dict[str, Any]:
    """Write the fMRI runs and the brain mask; give their part of the truth."""
    rng, mask, sites = plan.rng(int(subject), modality), _sites.brain_mask(), _sites.brain_sites()
    n_trials = len(plan.stimuli)
    starts = [_bold.bold_onsets(n_trials, rng) for _ in range(plan.n_repeats)]
    designs = [_bold.trial_design(onsets) for onsets in starts]
    noise = BOLD.noise_sd**2 * float(np.mean([_bold.beta_variance_factor(design) for design in designs]))
    weights = _draw_map(plan, sites, noise, rng, zero_sum=False)
    peak = float(np.mean([design.max() for design in designs]))  # of a response of height 1 to so short a picture
    responses = _responses(plan, weights) + BOLD.common / peak * sites.active
    folder = plan.root / f"sub-{subject}" / "func"
    folder.mkdir(parents=True)
    for run, (onsets, design) in enumerate(zip(starts, designs, strict=True), 1):
        order = rng.permutation(n_trials)
        stem = f"sub-{subject}_task-{TASK}_run-{run}"
        _files.write_volumes(folder / f"{stem}_bold.nii.gz", _bold.bold_run(responses[order], design, mask, rng))
        _sidecars.write_json(folder / f"{stem}_bold.json", _sidecars.bold_json())
        events = _sidecars.events_table(onsets, BOLD.duration, plan.stimuli.iloc[order], run)
        _sidecars.write_table(folder / f"{stem}_events.tsv", events)
    _write_mask(plan.root, subject, mask)
    return _truth(plan, _sites.brain_voxels().tolist(), sites, weights, np.full(len(sites.names), noise))


def _write_mask(root: Path, subject: str, mask: NDArray[np.bool_]) -> None:
    derivative = root / "derivatives" / "masks"
    folder = derivative / f"sub-{subject}" / "func"
    folder.mkdir(parents=True)
    description = {"Name": "Brain masks", "BIDSVersion": "1.9.0", "DatasetType": "derivative"}
    _sidecars.write_json(
        derivative / "dataset_description.json", description | {"GeneratedBy": [{"Name": "neuroalign"}]}
    )
    _files.write_mask(folder / f"sub-{subject}_task-{TASK}_desc-brain_mask.nii.gz", mask)
