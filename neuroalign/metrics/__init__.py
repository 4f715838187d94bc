"""How good a prediction is: scores per target, retrieval, and classification measures.

Pure functions on numpy arrays. What cannot be scored is NaN, never a silent zero.
"""

from neuroalign.metrics.classification import information_transfer_rate, nmcc
from neuroalign.metrics.retrieval import (
    SIMILARITIES,
    relative_median_rank,
    retrieval_ranks,
    top_k_accuracy,
    two_versus_two,
)
from neuroalign.metrics.scores import SCORERS, explained_variance, get_scorer, pearson_r, r2_score

__all__ = [
    "SCORERS",
    "SIMILARITIES",
    "explained_variance",
    "get_scorer",
    "information_transfer_rate",
    "nmcc",
    "pearson_r",
    "r2_score",
    "relative_median_rank",
    "retrieval_ranks",
    "top_k_accuracy",
    "two_versus_two",
]
