"""Solvers: pure functions on arrays. The backend (numpy or torch) follows the input."""

from neuroalign.solvers.ridge import RidgeCVResult, default_alphas, ridge, ridge_cv
from neuroalign.solvers.trf import TRFCVResult, trf_cv, trf_predict

__all__ = ["RidgeCVResult", "TRFCVResult", "default_alphas", "ridge", "ridge_cv", "trf_cv", "trf_predict"]
