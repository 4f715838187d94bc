"""Representational similarity analysis: RDMs, their comparison, and inference on models."""

from neuroalign.rsa.comparison import compare
from neuroalign.rsa.form import concat, conditions, from_square, reorder, select, square
from neuroalign.rsa.inference import evaluate
from neuroalign.rsa.permutation import permutation_test
from neuroalign.rsa.rdms import rdm
from neuroalign.rsa.result import RSAResult

__all__ = [
    "RSAResult",
    "compare",
    "concat",
    "conditions",
    "evaluate",
    "from_square",
    "permutation_test",
    "rdm",
    "reorder",
    "select",
    "square",
]
