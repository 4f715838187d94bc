"""Objects of other packages in and out: MNE recordings, and images of nibabel."""

from neuroalign.convert._events import recorded_gaps, recording_events, trial_table
from neuroalign.convert._grayordinates import cifti_record, to_cifti
from neuroalign.convert._info import channel_positions, channel_units, frame_of, info_json
from neuroalign.convert._mne import from_mne, to_mne
from neuroalign.convert._recording import Channels, from_recording
from neuroalign.convert._surfaces import gifti_record, to_gifti
from neuroalign.convert._volumes import nifti_header, to_nifti

__all__ = [
    "Channels",
    "channel_positions",
    "channel_units",
    "cifti_record",
    "frame_of",
    "from_mne",
    "from_recording",
    "gifti_record",
    "info_json",
    "nifti_header",
    "recorded_gaps",
    "recording_events",
    "to_cifti",
    "to_gifti",
    "to_mne",
    "to_nifti",
    "trial_table",
]
