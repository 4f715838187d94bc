"""NWB files that pynwb wrote: values, electrodes, trials, and the choice of a series."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.loaders import load, read_eeg, read_ieeg
from neuroalign.loaders._nwb import open_nwb

pynwb = pytest.importorskip("pynwb")

CODES = np.random.default_rng(0).integers(-3000, 3000, size=(500, 3)).astype(np.int16)


def session() -> Any:
    nwb = pynwb.NWBFile(
        session_description="free_secret",
        identifier="id_secret",
        session_start_time=datetime(2020, 2, 3, tzinfo=UTC),
        experimenter=["Doe, secret"],
    )
    nwb.subject = pynwb.file.Subject(subject_id="name_secret", sex="U", species="Homo sapiens", age="P30Y")
    return nwb


def electrodes(nwb: Any, numbers: tuple[int, ...] = (1, 0, 3)) -> Any:
    if nwb.electrodes is None:
        device = nwb.create_device(name="amplifier")
        group = nwb.create_electrode_group(name="LA", description="depth", location="amygdala", device=device)
        nwb.add_electrode_column(name="label", description="name")
        for i in range(4):
            where = {"x": 1000.0 * i, "y": 2000.0, "z": -3000.0}
            nwb.add_electrode(group=group, location=("amygdala", "white matter")[i % 2], label=f"LA{i + 1}", **where)
    return nwb.create_electrode_table_region(region=list(numbers), description="used")


def series(nwb: Any, name: str = "ieeg", data: Any = CODES, **more: Any) -> Any:
    rest = {"conversion": 1e-7} if "timestamps" in more else {"conversion": 1e-7, "rate": 100.0, "starting_time": 2.0}
    return pynwb.ecephys.ElectricalSeries(name=name, data=data, electrodes=electrodes(nwb), **{**rest, **more})


@pytest.fixture
def write(tmp_path: Path):
    def save(nwb: Any, name: str = "session.nwb") -> Path:
        with pynwb.NWBHDF5IO(str(tmp_path / name), "w") as io:
            io.write(nwb)
        return tmp_path / name

    return save


@pytest.fixture
def plain(write) -> Path:
    nwb = session()
    nwb.add_acquisition(series(nwb, offset=1e-5, channel_conversion=[1.0, 2.0, 1.0]))
    nwb.add_trial_column(name="word", description="shown")
    nwb.add_trial(start_time=3.5, stop_time=4.0, word="ball")
    nwb.add_trial(start_time=2.5, stop_time=3.5, word="cat")
    return write(nwb)


def read(path: Path, **options: Any):
    return read_ieeg(path, channel_type="seeg", **options)


def test_values_are_volts(plain):
    expected = (CODES * 1e-7 * np.array([1.0, 2.0, 1.0]) + 1e-5).T
    ds = read(plain)
    assert_allclose(ds["ieeg"].values, expected, rtol=1e-6)
    assert ds["ieeg"].dtype == np.float32
    assert ds.attrs["units"] == "V"
    assert_array_equal(read(plain, lazy=False)["ieeg"].values, ds["ieeg"].values)
    with pynwb.NWBHDF5IO(str(plain), "r") as io:  # pynwb's own conversion
        found = io.read().acquisition["ieeg"].get_data_in_units()
    assert_allclose(ds["ieeg"].values.T, found, rtol=1e-6)


def test_windows_equal_the_whole(plain):
    whole = read(plain)["ieeg"].load().values
    lazy = read(plain)["ieeg"]
    assert_array_equal(lazy[1, 40:60].values, whole[1, 40:60])
    assert_array_equal(lazy[::-1, 200:100:-3].values, whole[::-1, 200:100:-3])
    assert_array_equal(lazy[[2, 0]][:, [7, 3, 3, 499]].values, whole[[2, 0]][:, [7, 3, 3, 499]])
    assert_array_equal(lazy[:, -1].values, whole[:, -1])
    assert lazy[:, 5:5].values.shape == (3, 0)


def test_the_array_is_small_and_travels(plain):
    lazy = read(plain)["ieeg"].variable._data
    sent = pickle.dumps(lazy)
    assert len(sent) < 1500
    assert_array_equal(np.asarray(pickle.loads(sent)), read(plain)["ieeg"].values)


def test_a_changed_file_is_refused(plain):
    lazy = read(plain)["ieeg"]
    plain.write_bytes(plain.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match="changed after it was opened"):
        lazy.values  # noqa: B018


def test_electrodes(plain):
    ds = read(plain)
    assert ds["channel"].values.tolist() == ["LA2", "LA1", "LA4"]
    assert_allclose(ds["x"].values, [1e-3, 0.0, 3e-3])
    assert_allclose(ds["z"].values, -3e-3)
    assert ds["roi"].values.tolist() == ["white matter", "amygdala", "white matter"]
    assert ds["shaft"].values.tolist() == ["LA"] * 3
    assert ds["contact"].values.tolist() == [2, 1, 4]
    assert ds.attrs["coord_frame"] == "unknown"
    assert_allclose(read(plain, position_units="mm")["x"].values, [1.0, 0.0, 3.0])
    with pytest.raises(ConfigError, match="positions"):
        read(plain, position_units="inch")


def test_clock_and_trials(plain):
    ds = read(plain)
    assert ds.attrs["sfreq"] == 100.0
    assert ds.attrs["first_sample"] == 200
    assert ds["time"].values[0] == 2.0
    assert_allclose(ds["onset"].values, [0.5, 1.5])
    assert_allclose(ds["duration"].values, [1.0, 0.5])
    assert ds["word"].values.tolist() == ["cat", "ball"]
    assert "event" not in read(plain, events="none").sizes
    with pytest.raises(ConfigError, match="trials"):
        read(plain, intervals="epochs")


def test_other_intervals_are_events(write):
    nwb = session()
    nwb.add_acquisition(series(nwb))
    nwb.add_epoch(start_time=2.0, stop_time=4.0, tags=["rest"])
    ds = read(write(nwb), intervals="epochs")
    assert_allclose(ds["onset"].values, [0.0])
    assert "tags" not in ds.coords  # a list


def test_people_and_dates_are_dropped(plain):
    shown = json.dumps(read(plain).attrs) + repr(read(plain))
    assert "secret" not in shown
    assert "2020" not in shown
    kept = json.loads(read(plain, keep_phi=True).attrs["nwb_session"])
    assert kept["session_description"] == "free_secret"
    assert kept["subject"]["subject_id"] == "name_secret"


def test_several_series(write):
    nwb = session()
    nwb.add_acquisition(series(nwb))
    module = nwb.create_processing_module(name="ecephys", description="filtered")
    lfp = pynwb.ecephys.LFP()
    module.add(lfp)
    lfp.add_electrical_series(series(nwb, "low", CODES[::2]))
    path = write(nwb)
    with pytest.raises(ConfigError, match=r"acquisition/ieeg \(500, 3\), processing/ecephys/LFP/low \(250, 3\)"):
        read(path)
    assert read(path, series="low").sizes["time"] == 250
    assert read(path, series="acquisition/ieeg").sizes["time"] == 500
    with pytest.raises(ConfigError, match="No single series"):
        read(path, series="high")


def test_time_stamps(write):
    nwb = session()
    nwb.add_acquisition(series(nwb, timestamps=2.0 + np.arange(500) / 250))
    ds = read(write(nwb))
    assert ds.attrs["sfreq"] == 250.0
    assert ds.attrs["first_sample"] == 500
    nwb = session()
    nwb.add_acquisition(series(nwb, timestamps=np.cumsum(np.where(np.arange(500) == 300, 3.0, 0.01))))
    with pytest.raises(SchemaError, match="regular"):
        read(write(nwb, "pause.nwb"))


def test_load_takes_it_as_intracranial(plain):
    with pytest.warns(NeuroalignWarning, match="taken as seeg"):
        assert "ieeg" in load(plain).data_vars
    ds = load(plain, modality="eeg", channels=["LA1"])
    assert ds["eeg"].sizes["channel"] == 1
    assert ds["channel_type"].item() == "eeg"


def test_units_and_montage(write):
    nwb = session()
    nwb.add_electrode_column(name="label", description="name")
    group = nwb.create_electrode_group(
        name="cap", description="scalp", location="scalp", device=nwb.create_device(name="amplifier")
    )
    for name in ("Cz", "Pz", "Xyz"):
        nwb.add_electrode(group=group, location="scalp", label=name)
    region = nwb.create_electrode_table_region(region=[0, 1, 2], description="all")
    nwb.add_acquisition(pynwb.ecephys.ElectricalSeries(name="eeg", data=CODES / 100, electrodes=region, rate=100.0))
    path = write(nwb)
    with pytest.warns(NeuroalignWarning, match="no position in the montage for Xyz"):
        ds = read_eeg(path, units="uV", montage="biosemi64")
    assert_allclose(ds["eeg"].values, CODES.T / 1e8, rtol=1e-6)
    assert np.isfinite(ds["x"].values).tolist() == [True, True, False]
    assert ds.attrs["coord_frame"] == "head"


def test_nothing_to_read(write):
    with pytest.raises(SchemaError, match="no electrical series"):
        read(write(session()))


@pytest.mark.parametrize("rest", [0.0, 0.1, 0.5, 0.999])
def test_cut_files(plain, rest):
    content = plain.read_bytes()
    plain.write_bytes(content[: int(rest * len(content))])
    with pytest.raises(IntegrityError, match=r"session\.nwb"):
        read(plain)


def test_errors_of_the_caller_pass_through(plain, tmp_path):
    with pytest.raises(IntegrityError, match="no such file"), open_nwb(tmp_path / "none.nwb"):
        pass
    with pytest.raises(SchemaError, match="mine"), open_nwb(plain):
        raise SchemaError("mine")
