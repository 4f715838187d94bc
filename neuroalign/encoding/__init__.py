"""Encoding models: from stimulus features to brain responses."""

from neuroalign.encoding.ridge import RidgeEncoder
from neuroalign.encoding.trf import TRFEncoder

__all__ = ["RidgeEncoder", "TRFEncoder"]
