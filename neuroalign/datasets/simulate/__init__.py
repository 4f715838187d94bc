"""Recordings with a known answer: pictures, a network, and the responses that one of its layers drives."""

from neuroalign.datasets.simulate._images import make_images
from neuroalign.datasets.simulate._network import BLOCKS, TRUE_LAYER, simulate_network
from neuroalign.datasets.simulate._settings import BOLD, MODALITIES, SENSORS
from neuroalign.datasets.simulate._simulate import read_truth, simulate

__all__ = [
    "BLOCKS",
    "BOLD",
    "MODALITIES",
    "SENSORS",
    "TRUE_LAYER",
    "make_images",
    "read_truth",
    "simulate",
    "simulate_network",
]
