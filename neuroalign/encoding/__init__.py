"""Encoding models: from stimulus features to brain responses."""

from neuroalign.encoding.banded import BandedRidgeEncoder
from neuroalign.encoding.prior import PriorRidgeEncoder
from neuroalign.encoding.ridge import RidgeEncoder
from neuroalign.encoding.trf import TRFEncoder

__all__ = ["BandedRidgeEncoder", "PriorRidgeEncoder", "RidgeEncoder", "TRFEncoder"]
