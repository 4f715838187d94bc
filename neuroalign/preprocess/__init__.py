"""Labelled scikit-learn transformers: DataArrays go in with labels and come out with labels."""

from neuroalign.preprocess.betas import SingleTrialBetas
from neuroalign.preprocess.confounds import ConfoundRegressor
from neuroalign.preprocess.convolve import HRFConvolver
from neuroalign.preprocess.delay import Delayer
from neuroalign.preprocess.envelope import BandEnvelope
from neuroalign.preprocess.filter import BandPass, Resampler
from neuroalign.preprocess.high_gamma import HighGamma
from neuroalign.preprocess.hrf import HRFS, DoubleGamma, get_hrf, hrf_kernel
from neuroalign.preprocess.labelled import Labelled
from neuroalign.preprocess.maxwell import MaxwellFilter
from neuroalign.preprocess.notch import NotchFilter
from neuroalign.preprocess.parcellate import Parcellator
from neuroalign.preprocess.rereference import Rereferencer, reference_matrix
from neuroalign.preprocess.standardize import Standardizer
from neuroalign.preprocess.surface import SurfaceSampler

__all__ = [
    "HRFS",
    "BandEnvelope",
    "BandPass",
    "ConfoundRegressor",
    "Delayer",
    "DoubleGamma",
    "HRFConvolver",
    "HighGamma",
    "Labelled",
    "MaxwellFilter",
    "NotchFilter",
    "Parcellator",
    "Rereferencer",
    "Resampler",
    "SingleTrialBetas",
    "Standardizer",
    "SurfaceSampler",
    "get_hrf",
    "hrf_kernel",
    "reference_matrix",
]
