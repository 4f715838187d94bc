"""The one place where two labelled objects meet: stimulus joins, clocks, epochs and lags."""

from neuroalign.align._annotate import annotate
from neuroalign.align._concat import concat
from neuroalign.align._epochs import epochs
from neuroalign.align._join import check_same_samples, first_difference, join
from neuroalign.align._lags import lagged, segment_slices
from neuroalign.align._place import place
from neuroalign.align._spikes import bin_spikes
from neuroalign.schema import to_samples

__all__ = [
    "annotate",
    "bin_spikes",
    "check_same_samples",
    "concat",
    "epochs",
    "first_difference",
    "join",
    "lagged",
    "place",
    "segment_slices",
    "to_samples",
]
