"""Solvers: pure functions on arrays. The backend (numpy or torch) follows the input."""

from neuroalign.solvers.ridge import RidgeCVResult, default_alphas, ridge, ridge_cv

__all__ = ["RidgeCVResult", "default_alphas", "ridge", "ridge_cv"]
