"""Solvers: pure functions on arrays. The backend (numpy or torch) follows the input."""

from neuroalign.solvers.banded import BandedRidgeCVResult, banded_ridge_cv
from neuroalign.solvers.ridge import RidgeCVResult, default_alphas, ridge, ridge_cv
from neuroalign.solvers.trf import TRFCVResult, trf_cv, trf_predict

__all__ = [
    "BandedRidgeCVResult",
    "RidgeCVResult",
    "TRFCVResult",
    "banded_ridge_cv",
    "default_alphas",
    "ridge",
    "ridge_cv",
    "trf_cv",
    "trf_predict",
]
