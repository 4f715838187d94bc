"""Spikes in the data model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neuroalign import schema, storage
from neuroalign.errors import NeuroalignWarning, SchemaError


def trains(**changes):
    given = {"neuron": ["b", "a", "a"], "sfreq": 1000.0, "n_samples": 100, "neurons": ["a", "b", "c"]} | changes
    return schema.spikes(given.pop("samples", [40, 40, 7]), **given)


def test_spikes_are_sorted_with_their_neurons():
    ds = trains(coords={"region": ["V1", "V1", "V4"]}, positions=np.zeros((3, 3)))
    assert ds["spikes"].dims == ("spike",)
    assert ds["spikes"].dtype == np.int64
    assert ds["spikes"].values.tolist() == [7, 40, 40]
    assert ds["spike_neuron"].values.tolist() == ["a", "a", "b"]  # at one sample by neuron
    assert ds["spike_time"].values.tolist() == [0.007, 0.04, 0.04]
    assert "time" not in ds.coords
    assert ds["neuron"].values.tolist() == ["a", "b", "c"]
    assert ds["region"].sel(neuron="c").item() == "V4"
    assert {name: ds.attrs[name] for name in ("units", "sfreq", "first_sample", "n_samples")} == {
        "units": "1",
        "sfreq": 1000.0,
        "first_sample": 0,
        "n_samples": 100,
    }
    assert schema.modality_of(ds) == "spikes"
    assert schema.validate(ds, "spikes").identical(ds)


def test_neurons_by_default_are_those_that_fired():
    ds = schema.spikes([3, 1], neuron=[7, 2], sfreq=10, n_samples=5)
    assert ds["neuron"].values.tolist() == [2, 7]
    assert schema.spikes([], neuron=[], sfreq=10, n_samples=5, neurons=["a"]).sizes == {"spike": 0, "neuron": 1}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"samples": [100, 1, 2]}, "outside the observed window"),
        ({"samples": [-1, 1, 2]}, "outside the observed window"),
        ({"first_sample": 8}, "outside the observed window"),
        ({"samples": [0.5, 1.0, 2.0]}, "not sample numbers"),
        ({"samples": [[1, 2, 3]]}, "not sample numbers"),
        ({"neurons": ["a", "c"]}, "unknown neurons"),
        ({"neurons": ["a", "b", "a"]}, "repeat"),
        ({"neuron": ["a", "b"]}, "Wrong number of spike labels"),
        ({"n_samples": 0}, "window is empty"),
        ({"sfreq": 0}, "sampling rate"),
        ({"positions": np.zeros((2, 3))}, "positions"),
    ],
)
def test_bad_spikes(changes, word):
    with pytest.raises(SchemaError, match=word):
        trains(**changes)


@pytest.mark.parametrize(("sample", "fits"), [(9, False), (10, True), (19, True), (20, False)])
def test_edges_of_the_window(sample, fits):
    if fits:
        schema.spikes([sample], neuron=["a"], sfreq=10, first_sample=10, n_samples=10)
        return
    with pytest.raises(SchemaError, match="from 1 s up to, not including, 2 s"):
        schema.spikes([sample], neuron=["a"], sfreq=10, first_sample=10, n_samples=10)


def test_validate_finds_what_was_changed():
    ds = trains()
    for broken, word in [
        (ds.isel(spike=[2, 0]), "not sorted"),
        (ds.assign_attrs(n_samples=30), "outside"),
        (ds.sel(neuron=["a"]), "unknown neurons"),
        (ds.drop_vars("spike_neuron"), "lacks"),
        (ds.assign_attrs({}).drop_attrs(), "lacks"),
    ]:
        with pytest.raises(SchemaError, match=word):
            schema.validate(broken)
    with pytest.raises(SchemaError, match="Not a recording of this modality"):
        schema.validate(ds, "eeg")


def test_rates_that_no_neuron_reaches_are_noted():
    ds = schema.spikes(np.arange(0, 3000, 2), neuron=["a"] * 1500, sfreq=3000, n_samples=3000)
    with pytest.warns(NeuroalignWarning, match="wrong unit"):
        noted = schema.validate(ds)
    assert "1500 times a second" in schema.history(noted)["log"][0]


def test_summary_says_neurons_spikes_and_rates():
    text = trains().neuro.summary()
    assert "3 spike x 3 neuron" in text or ("3 spike" in text and "3 neuron" in text)
    assert "0.1 s observed" in text
    assert "0 to 20 Hz, median 10 Hz" in text


def test_counts():
    ds = schema.spike_counts(
        [[0, 2], [1, 0], [3, 1]],
        sfreq=50,
        neuron=["a", "b"],
        first_sample=5,
        coords={"region": ["V1", "V4"]},
        events=pd.DataFrame({"onset": [0.02]}),
    )
    assert ds["spikes"].dims == ("time", "neuron")
    assert ds["spikes"].dtype == np.float32
    assert ds["time"].values.tolist() == [0.1, 0.12, 0.14]
    assert ds["spikes"].attrs["sfreq"] == 50
    assert schema.validate(ds, "spikes").identical(ds)
    trials = schema.spike_counts(np.zeros((4, 2, 3)), sfreq=50, neuron=["a", "b"], trials=pd.DataFrame({"x": range(4)}))
    assert trials["spikes"].dims == ("trial", "neuron", "time")
    assert trials["valid"].values.all()
    schema.validate(trials, "spikes")
    with pytest.raises(SchemaError, match="trial rows"):
        schema.spike_counts(np.zeros((4, 2, 3)), sfreq=50, neuron=["a", "b"], trials=pd.DataFrame({"x": [1]}))


def test_spikes_come_back_from_a_store(tmp_path):
    ds = trains(events=pd.DataFrame({"onset": [0.01], "stimulus_id": ["cat"]}))
    storage.save(ds, tmp_path / "spikes.zarr")
    back = storage.open(tmp_path / "spikes.zarr")
    schema.validate(back, "spikes")
    np.testing.assert_array_equal(back["spikes"], ds["spikes"])
    assert back["spike_neuron"].values.tolist() == ds["spike_neuron"].values.tolist()
    assert back["spikes"].dtype == np.int64
