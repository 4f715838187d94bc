"""The estimator protocol: labels in and out, alignment checks, saving and loading.

Every transformer and estimator of neuroalign derives from one of the two base classes here. Subclasses see plain
two-dimensional arrays; labels are checked on the way in and put back on the way out.
"""

from neuroalign.protocol._estimator import LabelledEstimator
from neuroalign.protocol._labels import Labels, Samples, open_samples, read_labels
from neuroalign.protocol._save import REGISTRY, check_shape, load_model, option, save_model
from neuroalign.protocol._segments import sampling_rate, segment_labels
from neuroalign.protocol._transformer import LabelledTransformer

__all__ = [
    "REGISTRY",
    "LabelledEstimator",
    "LabelledTransformer",
    "Labels",
    "Samples",
    "check_shape",
    "load_model",
    "open_samples",
    "option",
    "read_labels",
    "sampling_rate",
    "save_model",
    "segment_labels",
]
