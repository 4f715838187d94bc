"""Files in, labelled Datasets out."""

from neuroalign.loaders.betas import read_betas
from neuroalign.loaders.bids import read_bids
from neuroalign.loaders.covariance import read_covariance
from neuroalign.loaders.eeg import read_eeg
from neuroalign.loaders.events import read_events, read_tsv
from neuroalign.loaders.fmri import read_fmri
from neuroalign.loaders.ieeg import read_ieeg
from neuroalign.loaders.load import load
from neuroalign.loaders.meg import read_meg
from neuroalign.loaders.recordings import list_recordings
from neuroalign.loaders.source import read_source
from neuroalign.loaders.spikes import read_spikes
from neuroalign.loaders.stimuli import read_stimuli
from neuroalign.loaders.table import read_table

__all__ = [
    "list_recordings",
    "load",
    "read_betas",
    "read_bids",
    "read_covariance",
    "read_eeg",
    "read_events",
    "read_fmri",
    "read_ieeg",
    "read_meg",
    "read_source",
    "read_spikes",
    "read_stimuli",
    "read_table",
    "read_tsv",
]
