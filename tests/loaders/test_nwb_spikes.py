"""Units of NWB files."""

from __future__ import annotations

import datetime
import warnings

import numpy as np
import pytest

import neuroalign as na
from neuroalign import align
from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.loaders import read_spikes

pynwb = pytest.importorskip("pynwb")

TIMES = {3: [0.5, 1.25, 9.75], 8: [], 5: [0.25, 0.5]}


def write(path, *, observed=None, resolution=None, trials=True, units=True):
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    nwb = pynwb.NWBFile("a session", "id", start)
    if trials:
        nwb.add_trial_column("stimulus_id", "what was shown")
        for onset, name in [(0.4, "cat"), (1.2, "dog")]:
            nwb.add_trial(start_time=onset, stop_time=onset + 0.2, stimulus_id=name)
    if units:
        nwb.add_unit_column("quality", "of sorting")
        nwb.add_unit_column("depth", "in um")
        for n, (name, times) in enumerate(TIMES.items()):
            spans = {} if observed is None else {"obs_intervals": np.array(observed[n], dtype=float)}
            nwb.add_unit(id=name, spike_times=np.array(times, float), quality="good", depth=10.0 * n, **spans)
        if resolution:
            nwb.units.resolution = resolution
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pynwb.NWBHDF5IO(str(path), "w") as io:
            io.write(nwb)
    return path


def test_units_with_columns_and_trials(tmp_path):
    ds = read_spikes(write(tmp_path / "a.nwb", observed=[[[0, 10]]] * 3), sfreq=None)
    assert ds["spikes"].values.tolist() == [250000, 500000, 500000, 1250000, 9750000]
    assert ds["spike_neuron"].values.tolist() == [5, 3, 5, 3, 3]
    assert ds["neuron"].values.tolist() == [3, 8, 5]  # also the silent one
    assert ds["quality"].values.tolist() == ["good"] * 3
    assert ds["depth"].values.tolist() == [0, 10, 20]
    assert ds.attrs["n_samples"] == 10_000_000
    trials = align.epochs(align.bin_spikes(ds, sfreq=20), tmin=0, tmax=0.15)
    assert trials["stimulus_id"].values.tolist() == ["cat", "dog"]
    assert trials["spikes"].sel(neuron=3).values.tolist() == [[0, 0, 1, 0], [0, 1, 0, 0]]
    assert na.load(tmp_path / "a.nwb", modality="spikes").identical(ds)


def test_clock_and_window(tmp_path):
    path = write(tmp_path / "a.nwb", resolution=1 / 20000)
    with pytest.raises(SchemaError, match=r"obs_intervals[\s\S]*9.75 s"):
        read_spikes(path)
    ds = read_spikes(path, stop=10.0)
    assert ds.attrs["sfreq"] == 20000
    with pytest.warns(NeuroalignWarning, match="2 spikes outside 0.5 to 5 s were left out"):
        ds = read_spikes(path, start=0.5, stop=5.0)
    assert ds["spike_time"].values.tolist() == [0.5, 0.5, 1.25]
    assert ds["onset"].values.round(6).tolist() == [-0.1, 0.7]


def test_intervals_that_differ(tmp_path):
    path = write(tmp_path / "a.nwb", observed=[[[0, 10]], [[0, 4], [5, 10]], [[0, 10]]])
    with pytest.raises(SchemaError, match="several intervals"):
        read_spikes(path)
    with pytest.raises(SchemaError, match="Unit 8 was not observed"):
        read_spikes(path, stop=10.0)
    with pytest.warns(NeuroalignWarning, match="1 spikes outside"):
        assert read_spikes(path, stop=4.0).sizes["spike"] == 4


def test_the_last_spike_may_be_the_end(tmp_path):
    ds = read_spikes(write(tmp_path / "a.nwb", observed=[[[0, 9.75]]] * 3))
    assert ds.attrs["n_samples"] == 9_750_001


def test_bad_nwb(tmp_path):
    path = write(tmp_path / "a.nwb", units=False)
    with pytest.raises(SchemaError, match="no spikes"):
        read_spikes(path, stop=1.0)
    with pytest.raises(ConfigError, match="themselves"):
        read_spikes(path, units="ms", stop=1.0)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(IntegrityError):
        read_spikes(path, stop=1.0)
