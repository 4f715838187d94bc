"""The linear machinery that encoders and decoders share: ridge regression and temporal response functions."""

from neuroalign.linear._grid import AlphaGrid
from neuroalign.linear._ridge import LinearModel, RidgeModel
from neuroalign.linear._store import fit_to_store, load_fitted, predict_to_store
from neuroalign.linear._trf import TRFModel

__all__ = ["AlphaGrid", "LinearModel", "RidgeModel", "TRFModel", "fit_to_store", "load_fitted", "predict_to_store"]
