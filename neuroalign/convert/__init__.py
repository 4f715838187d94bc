"""Objects of other packages in and out: MNE recordings, and images of nibabel."""

from neuroalign.convert._events import recorded_gaps, recording_events, trial_table
from neuroalign.convert._info import channel_positions, channel_units, frame_of, info_json
from neuroalign.convert._mne import from_mne, to_mne
from neuroalign.convert._recording import Channels, from_recording

__all__ = [
    "Channels",
    "channel_positions",
    "channel_units",
    "frame_of",
    "from_mne",
    "from_recording",
    "info_json",
    "recorded_gaps",
    "recording_events",
    "to_mne",
    "trial_table",
]
