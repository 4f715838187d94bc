"""Decoding models: from brain responses to stimulus features."""

from neuroalign.decoding.ridge import RidgeDecoder
from neuroalign.decoding.trf import TRFDecoder

__all__ = ["RidgeDecoder", "TRFDecoder"]
