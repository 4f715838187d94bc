"""Network activations: any `torch.nn.Module` to labelled features, and its control with random weights."""

from neuroalign.activations._extract import ActivationExtractor, to_tree
from neuroalign.activations._pool import POOLS
from neuroalign.activations._weights import randomize, weights_sha256

__all__ = ["POOLS", "ActivationExtractor", "randomize", "to_tree", "weights_sha256"]
