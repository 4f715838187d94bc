"""Solvers: pure functions on arrays. The backend (numpy or torch) follows the input."""

from neuroalign.solvers.alphas import convert_alpha
from neuroalign.solvers.banded import BandedRidgeCVResult, banded_ridge_cv
from neuroalign.solvers.chunked import RidgePlan, ridge_chunk, ridge_plan, ridge_refit, ridge_scores
from neuroalign.solvers.kernel import KernelRidgeCVResult, kernel_matrix, kernel_ridge_cv, kernel_ridge_predict
from neuroalign.solvers.pls import PLSCVResult, pls_cv
from neuroalign.solvers.prior import PriorRidgeResult, WeightPrior, prior_ridge, weight_prior
from neuroalign.solvers.ridge import RidgeCVResult, default_alphas, ridge, ridge_cv, ridge_loo
from neuroalign.solvers.trf import TRFCVResult, trf_cv, trf_predict
from neuroalign.solvers.trf_errors import trf_errors
from neuroalign.solvers.trf_lags import trf_lags

__all__ = [
    "BandedRidgeCVResult",
    "KernelRidgeCVResult",
    "PLSCVResult",
    "PriorRidgeResult",
    "RidgeCVResult",
    "RidgePlan",
    "TRFCVResult",
    "WeightPrior",
    "banded_ridge_cv",
    "convert_alpha",
    "default_alphas",
    "kernel_matrix",
    "kernel_ridge_cv",
    "kernel_ridge_predict",
    "pls_cv",
    "prior_ridge",
    "ridge",
    "ridge_chunk",
    "ridge_cv",
    "ridge_loo",
    "ridge_plan",
    "ridge_refit",
    "ridge_scores",
    "trf_cv",
    "trf_errors",
    "trf_lags",
    "trf_predict",
    "weight_prior",
]
