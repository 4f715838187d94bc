"""Pictures of recordings: what is drawn is what was recorded, at its place and time."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import neuroalign as na
from neuroalign.errors import NeuroalignWarning, SchemaError
from neuroalign.plots import butterfly, traces
from neuroalign.plots.recordings import _peaks, _thinned
from neuroalign.schema import sensors


@pytest.fixture
def eeg():
    rng = np.random.default_rng(0)
    events = pd.DataFrame({"onset": [1.0, 2.5, 30.0], "trial_type": ["a", "b", "a"]})
    return sensors(
        rng.normal(size=(5, 4000)), modality="eeg", sfreq=100, channel=list("ABCDE"), units="uV", first_sample=100,
        coords={"bad": [False, False, True, False, False]}, events=events,
    )  # fmt: skip


@pytest.fixture
def visual(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        return na.load(real_data("eeglab-visattention-32ch") / "eeglab_data.set")


def test_traces_show_each_channel_about_its_median(eeg):
    ax = traces(eeg, start=2.0, duration=3.0, height=10.0)
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) == 300]
    assert len(lines) == 5
    expected = eeg["eeg"].sel(time=slice(2.0, 4.995)).values * 1e6
    for row, line in enumerate(lines):
        shown = row - np.asarray(line.get_ydata())
        assert np.allclose(shown * 10, expected[row] - np.median(expected[row]), atol=1e-6)
    assert [t.get_text() for t in ax.get_yticklabels()] == list("ABCDE")
    assert to_hex(ax.get_yticklabels()[2].get_color()) == "#c1121f"


def test_traces_mark_events_on_the_clock_of_the_recording(eeg):
    ax = traces(eeg, duration=10.0)  # the clock starts at 1 s, so the first event lies at 2 s
    marks = sorted(line.get_xdata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 2)
    assert marks == pytest.approx([2.0, 3.5])
    assert {t.get_text() for t in ax.texts} >= {"a", "b"}


def test_traces_read_only_what_is_drawn(visual, monkeypatch):
    from neuroalign.loaders._lazy import SensorArray

    read = []
    original = SensorArray._values
    monkeypatch.setattr(SensorArray, "_values", lambda self, *w: read.append([len(x) for x in w]) or original(self, *w))
    traces(visual, start=10.0, duration=5.0, channels=4)
    assert read == [[4, 640]]


def test_traces_refuse_what_is_not_there(eeg):
    with pytest.raises(SchemaError, match="nothing to draw"):
        traces(eeg, start=500.0)
    with pytest.raises(SchemaError, match="no such channel"):
        traces(eeg, channels=["Z"])


def test_a_long_trace_keeps_its_spikes():
    x, y = np.arange(100_000.0), np.zeros(100_000)
    y[54_321] = 9.0
    few, kept = _thinned(x, y)
    assert len(few) <= 4000
    assert kept.max() == 9.0
    assert few[kept.argmax()] == 54_321


@pytest.mark.parametrize("kind", ["eeg", "mag", "grad"])
def test_butterfly_of_a_real_response(evoked, kind):
    ax = butterfly(evoked(kind))
    heads = [child for child in ax.child_axes if child.images]
    assert len(heads) == 3
    assert all(head.get_title().endswith("ms") for head in heads)
    n = evoked(kind).sizes["channel"]
    assert sum(len(line.get_xdata()) == evoked(kind).sizes["time"] for line in ax.get_lines()) == n + 1


def test_global_field_power_is_the_spread_over_sensors(evoked):
    values = evoked("eeg")
    ax = butterfly(values, times=[0.1])
    (power,) = [line for line in ax.get_lines() if line.get_label() == "global field power"]
    assert np.allclose(power.get_ydata(), values.std("channel").values * 1e6, rtol=1e-6)


def test_butterfly_averages_valid_trials_of_one_type(real_data):
    ds = na.load(real_data("meg-mne-audvis") / "test-ave.fif.gz")
    one = butterfly(ds.isel(trial=[0]), channel_type="eeg", times=[0.1])
    good = ds.isel(trial=[0, 1]).assign_coords(valid=("trial", [True, False]))
    two = butterfly(good, channel_type="eeg", times=[0.1])
    assert "µV" in one.get_ylabel()
    for a, b in zip(one.get_lines(), two.get_lines(), strict=True):
        assert np.allclose(np.asarray(a.get_ydata(), float), np.asarray(b.get_ydata(), float))


def test_peaks_lie_apart_and_are_the_largest():
    time = np.linspace(0, 1, 201)
    power = np.exp(-(((time - 0.2) / 0.02) ** 2)) + 2 * np.exp(-(((time - 0.6) / 0.02) ** 2)) + 0.1
    assert [round(time[i], 2) for i in _peaks(power, 2)] == [0.2, 0.6]
    assert [round(time[i], 2) for i in _peaks(power, 1)] == [0.6]


def test_they_are_views_of_recordings(eeg):
    assert eeg.neuro.plot("traces").get_xlabel() == "Time (s)"
