import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuroalign import schema
from neuroalign.errors import SchemaError


def test_sensors_converts_to_si_and_keeps_events():
    events = pd.DataFrame({"onset": [0.1, 0.2], "duration": [0.0, 0.0], "stimulus_id": ["a", "b"], "x": [1, 2]})
    ds = schema.sensors(
        np.ones((2, 50)),
        modality="eeg",
        sfreq=100.0,
        channel=["Cz", "Pz"],
        units="uV",
        first_sample=10,
        positions=np.zeros((2, 3)),
        events=events,
    )
    assert ds["eeg"].dims == ("channel", "time")
    np.testing.assert_allclose(ds["eeg"], 1e-6)
    assert ds["time"].values[0] == 0.1
    assert ds["stimulus_id"].dims == ("event",)
    assert ds["event_x"].values.tolist() == [1, 2]  # x is a sensor position already
    assert ds["eeg"].attrs["sfreq"] == 100.0


def test_sensors_mixed_units():
    ds = schema.sensors(
        np.ones((2, 5), np.float32),
        modality="meg",
        sfreq=10.0,
        channel=["m", "g"],
        units=["fT", "fT/cm"],
        channel_type=["mag", "grad"],
    )
    assert ds["units"].values.tolist() == ["T", "T/m"]
    np.testing.assert_allclose(ds["meg"][:, 0], [1e-15, 1e-13], rtol=1e-6)
    assert ds["meg"].dtype == np.float32
    assert ds.attrs["units"] == "mixed"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"units": "mmHg"}, "units="),
        ({"sfreq": 0.0}, "sfreq"),
        ({"channel": ["Cz"]}, "one for each channel"),
        ({"modality": "ecg"}, "modality"),
        ({"positions": np.zeros((2, 2))}, "positions"),
    ],
)
def test_sensors_refuses(change, words):
    arguments = {"modality": "eeg", "sfreq": 10.0, "channel": ["Cz", "Pz"], "units": "V"} | change
    with pytest.raises(SchemaError, match=words):
        schema.sensors(np.zeros((2, 5)), **arguments)


def test_epochs_and_trials():
    trials = pd.DataFrame({"stimulus_id": ["a", "b"], "onset": [1.0, 2.0]})
    ds = schema.epochs(
        np.zeros((2, 1, 5)), modality="meg", sfreq=10.0, channel=["m"], units="T", first_sample=-2, trials=trials
    )
    assert ds["time"].values.tolist() == [-0.2, -0.1, 0.0, 0.1, 0.2]
    assert ds["valid"].values.all()
    assert ds.attrs["tmin"] == -0.2


def test_fmri_masked_positions_follow_the_affine():
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-10, -20, -30]
    ds = schema.fmri_masked(np.ones((3, 2)), ijk=[[0, 0, 0], [1, 2, 3]], affine=affine, tr=2.0, volume_shape=(4, 4, 4))
    assert ds["x"].values.tolist() == [-10, -8]
    assert ds["z"].values.tolist() == [-30, -18]
    np.testing.assert_array_equal(schema.affine(ds["bold"]), affine)
    assert ds["time"].values.tolist() == [0, 2, 4]


def test_fmri_volume_and_regions():
    volume = schema.fmri_volume(np.ones((2, 3, 4, 5)), affine=np.eye(4), tr=1.5, space="MNI152NLin6Asym")
    assert volume["bold"].dims == ("time", "k", "j", "i")
    assert volume.attrs["space"] == "MNI152NLin6Asym"
    regions = schema.fmri_regions(np.ones((2, 2)), roi=["V1", "V2"], tr=1.5, coords={"hemi": ["L", "R"]})
    assert regions["hemi"].dims == ("roi",)
    with pytest.raises(SchemaError, match="affine"):
        schema.affine(regions)


def test_stimulus_table():
    table = schema.stimulus_table(pd.DataFrame({"stimulus_id": ["a", "b"], "category": ["cat", None]}))
    assert table["category"].values.tolist() == ["cat", ""]
    with pytest.raises(SchemaError, match="repeat"):
        schema.stimulus_table(pd.DataFrame({"stimulus_id": ["a", "a"]}))
    with pytest.raises(SchemaError, match="stimulus_id"):
        schema.stimulus_table(pd.DataFrame({"id": ["a"]}))


@pytest.mark.parametrize(
    ("unit", "si", "factor"), [("µV", "V", 1e-6), ("fT/cm", "T/m", 1e-13), ("ms", "s", 1e-3), ("%", "%", 1)]
)
def test_units(unit, si, factor):
    name, scale = schema.to_si(unit)
    assert name == si
    assert scale == pytest.approx(factor)


def test_clock_round_trip_and_refusal():
    times = schema.time_index(1000, 512.0, first_sample=7)
    assert schema.to_samples(times, 512.0).tolist() == list(range(7, 1007))
    with pytest.raises(SchemaError, match="grid"):
        schema.to_samples([0.0, 0.0123], 100.0)
    x = xr.DataArray(np.zeros(4), dims="time", coords={"time": [0.0, 0.01, 0.02, 0.03]})
    samples, sfreq = schema.clock(x)
    assert (samples.tolist(), sfreq) == ([0, 1, 2, 3], 100.0)


def test_provenance_is_flat_json_and_hides_folders(tmp_path):
    source = tmp_path / "a.txt"
    source.write_text("hello")
    ds = schema.stamp(xr.Dataset(), "read", sources=[source], seed=3, level=np.float32(0.5))
    assert all(isinstance(text, str) for name in ds.attrs for text in ds.attrs[name])
    told = schema.history(ds)
    assert told["sources"][0]["name"] == "a.txt"
    assert told["sources"][0]["sha256"].startswith("2cf24dba")
    assert str(tmp_path) not in str(ds.attrs)
    assert told["steps"] == [{"step": "read", "level": 0.5, "seed": 3}]
    assert "numpy" in told["versions"]


def test_accessor_summary_and_view():
    ds = schema.sensors(np.ones((2, 50)), modality="eeg", sfreq=100.0, channel=["Cz", "Pz"], units="uV")
    text = ds.neuro.summary()
    assert "2 channel x 50 time" in text
    assert "0.50 s at 100 Hz" in text
    with pytest.raises(ValueError, match="Unknown view"):
        schema.view("pie")
