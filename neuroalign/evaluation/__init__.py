"""How far a model can be trusted: folds without leaks, noise ceilings, tests and comparisons."""

from neuroalign.evaluation import splits
from neuroalign.evaluation.adjacency import adjacency
from neuroalign.evaluation.bootstrap import bootstrap_compare
from neuroalign.evaluation.ceilings import noise_ceiling, normalise
from neuroalign.evaluation.clusters import cluster_test
from neuroalign.evaluation.compare import compare_models
from neuroalign.evaluation.cross_validate import cross_validate
from neuroalign.evaluation.folds import resolve_cv
from neuroalign.evaluation.partition import partition_variance
from neuroalign.evaluation.permutation import fdr_bh, permutation_test
from neuroalign.evaluation.result import Result
from neuroalign.evaluation.select import centre_of_mass, select_model
from neuroalign.evaluation.splits import (
    ChronologicalSplit,
    ContiguousSplit,
    GroupSplit,
    StimulusSplit,
    check_no_leakage,
)

__all__ = [
    "ChronologicalSplit",
    "ContiguousSplit",
    "GroupSplit",
    "Result",
    "StimulusSplit",
    "adjacency",
    "bootstrap_compare",
    "centre_of_mass",
    "check_no_leakage",
    "cluster_test",
    "compare_models",
    "cross_validate",
    "fdr_bh",
    "noise_ceiling",
    "normalise",
    "partition_variance",
    "permutation_test",
    "resolve_cv",
    "select_model",
    "splits",
]
