"""Public recordings by name, and simulated ones whose right answer is known."""

from neuroalign.datasets.archives import safe_extract
from neuroalign.datasets.cards import Card, list_datasets, read_card
from neuroalign.datasets.fetch import fetch
from neuroalign.datasets.prepare import PREPARE, prepare
from neuroalign.datasets.simulate import read_truth, simulate

__all__ = [
    "PREPARE",
    "Card",
    "fetch",
    "list_datasets",
    "prepare",
    "read_card",
    "read_truth",
    "safe_extract",
    "simulate",
]
