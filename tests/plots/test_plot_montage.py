"""Layouts of sensors and contacts in a glass brain, on real recordings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import neuroalign as na
from neuroalign.errors import SchemaError
from neuroalign.loaders.ieeg import parse_contact
from neuroalign.plots import electrodes, layout
from neuroalign.plots.sensors import positions, project
from neuroalign.schema import sensors


@pytest.fixture
def meg(real_data):
    return na.load(real_data("meg-mne-audvis") / "test-ave.fif.gz")


def offsets(ax, marker_size=26):
    return np.vstack(
        [c.get_offsets() for c in ax.collections if len(c.get_offsets()) and c.get_sizes()[0] == marker_size]
    )


def test_layout_places_sensors_as_the_maps_do(meg):
    ax = layout(meg, channel_type="eeg")
    chosen = meg.isel(channel=meg["channel_type"].values == "eeg")
    expected = project(positions(chosen["meg"]), "eeg")
    order = np.lexsort(expected.T)
    drawn = offsets(ax)
    assert np.allclose(drawn[np.lexsort(drawn.T)], expected[order])
    assert not np.ma.filled(ax.images[0].get_array(), 0.0).any()  # nothing is painted


def test_layout_marks_bad_sensors_and_names_few(meg):
    bad = meg["channel"].values == "EEG 012"
    ax = layout(meg.assign_coords(bad=("channel", bad)), channel_type="eeg")
    assert ax.get_title().endswith("1 bad")
    (name,) = [text for text in ax.texts if text.get_text() == "EEG 012"]
    assert to_hex(name.get_color()) == "#c1121f"
    assert not layout(meg, channel_type="mag").texts  # 102 names would cover each other


def test_layout_needs_positions():
    with pytest.raises(SchemaError, match="no positions"):
        layout(sensors(np.zeros((4, 2)), modality="eeg", sfreq=100, channel=list("abcd"), units="V"))


@pytest.fixture
def seeg(real_data):
    """The contacts of a real patient, at their places."""
    table = pd.read_csv(real_data("ieeg-mne-misc") / "sample_seeg_electrodes.tsv", sep="\t")
    xyz = table[["R", "A", "S"]].to_numpy() / 1e3
    xyz[:2] = np.nan
    return sensors(
        np.zeros((len(table), 2)), modality="ieeg", sfreq=100, channel=table["name"], units="V", positions=xyz,
        coords={"shaft": [parse_contact(name)[0] for name in table["name"]], "bad": np.arange(len(table)) == 5},
        attrs={"coord_frame": "mri"},
    )  # fmt: skip


def test_electrodes_of_a_real_patient(seeg):
    ax = electrodes(seeg)
    placed = np.isfinite(seeg["x"].values)
    assert placed.sum() > 100
    shafts = set(seeg["shaft"].values[placed].tolist())
    assert {text.get_text().strip() for text in ax.get_legend().get_texts()} >= {s for s in shafts if s}
    assert "coordinate frame" in ax.get_title()
    assert f"{(~placed).sum()} contacts" in ax.get_title()


def test_electrodes_can_be_coloured_by_any_coordinate(seeg):
    ax = electrodes(seeg, by="channel_type")
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= {"seeg"}
    with pytest.raises(SchemaError, match="no such coordinate"):
        electrodes(seeg, by="lobe")


def test_electrodes_need_a_position():
    ieeg = sensors(
        np.zeros((1, 2)), modality="ieeg", sfreq=100, channel=["LA1"], units="V", positions=np.full((1, 3), np.nan)
    )
    with pytest.raises(SchemaError, match="No contact has a position"):
        electrodes(ieeg)
