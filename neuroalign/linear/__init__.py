"""The linear machinery that encoders and decoders share: ridge regression and temporal response functions."""

from neuroalign.linear._ridge import LinearModel, RidgeModel
from neuroalign.linear._trf import TRFModel

__all__ = ["LinearModel", "RidgeModel", "TRFModel"]
