"""What is simulated: one frozen record a modality, in SI units and seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["BOLD", "MODALITIES", "SENSORS", "SIGNAL_TO_NOISE", "TASK", "BoldSettings", "SensorSettings"]

TASK = "images"
# Variance of the response over stimuli, relative to the noise of one trial: drawn for each active site, log-uniform.
# With four repeats this puts the ceilings between 0.67 and 0.92.
SIGNAL_TO_NOISE = (0.5, 3.0)


@dataclass(frozen=True)
class SensorSettings:
    """Timing, size and noise of an electrophysiological recording."""

    modality: str
    unit: str
    sfreq: float
    latency: float  # of the peak of the evoked response, s
    noise_sd: float  # V or T, one sample of one channel
    common: float  # response to any stimulus, V or T
    soa: float = 0.8  # from one onset to the next, s
    duration: float = 0.5  # of a picture, s
    lead: float = 1.0  # before the first onset and after the last response, s
    ar_fraction: float = 0.5  # of the noise variance that is autocorrelated; the rest is white
    ar_tau: float = 0.03  # time constant of the autocorrelated part, s
    tmin: float = -0.1  # of the epoch step that the truth is stated for, with baseline (None, 0)


@dataclass(frozen=True)
class BoldSettings:
    """Timing, size and noise of an fMRI run."""

    shape: tuple[int, int, int] = (12, 14, 10)
    voxel_size: float = 10.0  # mm
    tr: float = 2.0
    soa: float = 4.0
    jitter: float = 0.8  # each onset moves by up to this, s
    block: int = 8  # pictures between two pauses: without pauses, single trials cannot be told from slow drift
    pause: float = 16.0
    duration: float = 0.5
    lead: float = 6.0
    tail: float = 18.0
    base: float = 1000.0
    noise_sd: float = 10.0  # 1 % of the base
    common: float = 10.0  # peak of the response to any stimulus
    hrf: str = "spm"
    high_pass: float = 0.01  # Hz, of the beta step that the truth is stated for; the data have no drift


SENSORS: Mapping[str, SensorSettings] = MappingProxyType(
    {
        "eeg": SensorSettings("eeg", "V", 100.0, 0.17, 10e-6, 6e-6),
        "ieeg": SensorSettings("ieeg", "V", 200.0, 0.20, 60e-6, 50e-6),
        "meg": SensorSettings("meg", "T", 100.0, 0.15, 100e-15, 60e-15),
    }
)
BOLD = BoldSettings()
MODALITIES = (*SENSORS, "fmri")
