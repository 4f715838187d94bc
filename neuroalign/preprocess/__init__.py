"""Labelled scikit-learn transformers: DataArrays go in with labels and come out with labels."""

from neuroalign.preprocess.betas import SingleTrialBetas
from neuroalign.preprocess.convolve import HRFConvolver
from neuroalign.preprocess.delay import Delayer
from neuroalign.preprocess.envelope import BandEnvelope
from neuroalign.preprocess.filter import BandPass, Resampler
from neuroalign.preprocess.hrf import HRFS, DoubleGamma, get_hrf, hrf_kernel
from neuroalign.preprocess.labelled import Labelled
from neuroalign.preprocess.standardize import Standardizer

__all__ = [
    "HRFS",
    "BandEnvelope",
    "BandPass",
    "Delayer",
    "DoubleGamma",
    "HRFConvolver",
    "Labelled",
    "Resampler",
    "SingleTrialBetas",
    "Standardizer",
    "get_hrf",
    "hrf_kernel",
]
