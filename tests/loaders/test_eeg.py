"""EEG files against MNE's own reading of them."""

from __future__ import annotations

import json
import pickle
import threading
import warnings
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.loaders import read_eeg
from neuroalign.schema import history

CONTINUOUS = {
    "eeg-formats/test.vhdr": mne.io.read_raw_brainvision,
    "eeg-formats/test.edf": mne.io.read_raw_edf,
    "eeg-formats/test_edf_stim_channel.edf": mne.io.read_raw_edf,
    "eeg-formats/MB0400FU.EDF": mne.io.read_raw_edf,
    "eeg-formats/test.bdf": mne.io.read_raw_bdf,
    "eeglab-visattention-32ch/eeglab_data.set": mne.io.read_raw_eeglab,
    "meg-mne-audvis/sample_audvis_trunc_raw_sss.fif": mne.io.read_raw_fif,
}


def read(path: Path, **options) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        return read_eeg(path, **options)


def small_raw(n_channels: int = 3, n_times: int = 2500, sfreq: float = 250.0, *, names=None) -> mne.io.BaseRaw:
    rng = np.random.default_rng(0)
    names = names or ["Fz", "Cz", "Pz", "Oz"][:n_channels]
    info = mne.create_info(names, sfreq, "eeg")
    return mne.io.RawArray(rng.normal(scale=2e-5, size=(len(names), n_times)), info, verbose="ERROR")


@pytest.fixture
def fif(tmp_path: Path) -> Path:
    path = tmp_path / "small_raw.fif"
    small_raw().save(path, verbose="ERROR")
    return path


@pytest.mark.parametrize("name", CONTINUOUS)
def test_equals_mne(real_data, name):
    folder, _, file = name.partition("/")
    path = real_data(folder) / file
    ds = read(path)
    raw = CONTINUOUS[name](path, verbose="ERROR")
    picks = [raw.ch_names.index(n) for n in ds["channel"].values]
    expected = raw.get_data(picks=picks, verbose="ERROR").astype(np.float32)
    assert_array_equal(ds["eeg"].values, expected)
    assert_array_equal(read(path, lazy=False)["eeg"].values, expected)
    assert ds["eeg"].dtype == np.float32
    types = raw.get_channel_types(picks=picks)
    assert ds["channel_type"].values.tolist() == types
    assert ds["bad"].values.tolist() == [n in raw.info["bads"] for n in ds["channel"].values]
    assert ds.attrs["sfreq"] == raw.info["sfreq"]
    assert ds.attrs["first_sample"] == raw.first_samp
    assert_allclose(ds["time"].values, raw.times + raw.first_time, atol=1e-9)
    for key in ("highpass", "lowpass"):
        assert ds.attrs[key] == raw.info[key]
    loc = np.array([raw.info["chs"][p]["loc"][:3] for p in picks])
    known = np.isfinite(ds["x"].values)
    assert_array_equal(np.stack([ds[a].values for a in "xyz"], 1)[known], loc[known])


@pytest.mark.parametrize(
    "name", ["eeg-formats/test.vhdr", "eeg-formats/test.edf", "eeglab-visattention-32ch/eeglab_data.set"]
)
def test_windows_equal_the_whole(real_data, name):
    folder, _, file = name.partition("/")
    ds = read(real_data(folder) / file)
    whole = ds["eeg"].load().values
    lazy = read(real_data(folder) / file)["eeg"]
    assert_array_equal(lazy[3:5, 100:200].values, whole[3:5, 100:200])
    assert_array_equal(lazy[::-1, 200:100:-3].values, whole[::-1, 200:100:-3])
    assert_array_equal(lazy[4].values, whole[4])
    assert_array_equal(lazy[:, -1].values, whole[:, -1])
    assert_array_equal(lazy[2, 7].values, whole[2, 7])
    at = [5, 1, 1, 2000, 1999]
    assert_array_equal(lazy[[2, 0]][:, at].values, whole[[2, 0]][:, at])
    assert lazy[:, 5:5].shape == (whole.shape[0], 0)
    assert lazy[:, 5:5].values.shape == (whole.shape[0], 0)


def test_lazy_array_is_small_and_travels(real_data):
    lazy = read(real_data("eeg-formats") / "test.edf")["eeg"]
    sent = pickle.dumps(lazy.variable._data)
    assert len(sent) < 1000
    back = xr.Variable(lazy.dims, pickle.loads(sent))
    assert_array_equal(back[:3, :50].values, lazy[:3, :50].values)


def test_several_threads_read_at_once(fif):
    lazy = read(fif)["eeg"]
    expected = read(fif, lazy=False)["eeg"].values
    wrong = []

    def work(k: int) -> None:
        for i in range(20):
            a = (37 * i + 101 * k) % 2000
            if not np.array_equal(lazy[:, a : a + 64].values, expected[:, a : a + 64]):
                wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_a_changed_file_is_refused(fif):
    lazy = read(fif)["eeg"]
    small_raw(n_times=2000).save(fif, overwrite=True, verbose="ERROR")
    with pytest.raises(IntegrityError, match="changed after it was opened"):
        lazy.values  # noqa: B018


def test_a_deleted_file_is_refused(fif):
    lazy = read(fif)["eeg"]
    fif.unlink()
    with pytest.raises(IntegrityError, match="no such file"):
        lazy[:, :3].values  # noqa: B018


def test_channels_by_name_and_type(real_data):
    path = real_data("eeg-formats") / "test.bdf"
    ds = read(path, channels=["Oz", "Fp1"])
    assert ds["channel"].values.tolist() == ["Oz", "Fp1"]
    whole = read(path)
    assert_array_equal(ds["eeg"].values, whole["eeg"].sel(channel=["Oz", "Fp1"]).values)
    assert set(read(path, channels="eeg")["channel_type"].values) == {"eeg"}
    assert read(path, channels="eeg").attrs["units"] == "V"
    assert read(path, channels=["eeg", "Status"])["channel"].values[-1] == "Status"
    with pytest.raises(SchemaError, match="Fp1"):
        read(path, channels=["fp1"])
    with pytest.raises(SchemaError, match="No channels chosen"):
        read(path, channels=[])


def test_mixed_units_stand_on_the_channels(real_data):
    ds = read(real_data("eeg-formats") / "test.bdf")
    assert ds.attrs["units"] == "mixed"
    assert ds["units"].sel(channel="Fp1").item() == "V"
    assert ds["units"].sel(channel="Status").item() == "1"


def test_units_of_a_file_that_says_volts_but_means_microvolts(tmp_path):
    raw = small_raw()
    raw._data *= 1e6
    raw.save(tmp_path / "wrong_raw.fif", verbose="ERROR")
    with pytest.warns(NeuroalignWarning, match="units='uV'"):
        read_eeg(tmp_path / "wrong_raw.fif")
    fixed = read_eeg(tmp_path / "wrong_raw.fif", units="uV")
    assert_allclose(fixed["eeg"].values, small_raw().get_data(), rtol=1e-5)
    assert_allclose(fixed["eeg"][1, 3:9].values, small_raw().get_data()[1, 3:9], rtol=1e-5)
    by_name = read(tmp_path / "wrong_raw.fif", units={"Cz": "uV"})
    assert_allclose(by_name["eeg"].sel(channel="Cz").values, small_raw().get_data()[1], rtol=1e-5)
    assert_allclose(by_name["eeg"].sel(channel="Pz").values, raw.get_data()[2], rtol=1e-5)
    with pytest.raises(SchemaError, match="not there"):
        read(tmp_path / "wrong_raw.fif", units={"Xz": "uV"})


def edf_with_unit(source: Path, target: Path, unit: bytes, channel: int = 0) -> Path:
    data = bytearray(source.read_bytes())
    n = int(data[252:256])
    at = 256 + 96 * n + 8 * channel
    data[at : at + 8] = unit.ljust(8)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("unit", [b"", b"mmHg", b"mkV"])
def test_unknown_unit_is_refused_and_given(real_data, tmp_path, unit):
    source = real_data("eeg-formats") / "test_edf_stim_channel.edf"
    path = edf_with_unit(source, tmp_path / "unit.edf", unit)
    with pytest.raises(SchemaError, match="units='uV'") as caught:
        read_eeg(path)
    assert "EEG Fp1" in str(caught.value)
    expected = read(source)["eeg"].values
    assert_allclose(read(path, units="uV")["eeg"].values, expected, rtol=1e-5)
    assert_allclose(read(path, units={"EEG Fp1": "uV"})["eeg"].values, expected, rtol=1e-5)
    assert read(path, channels=["EEG Fp2", "EEG F7"]).sizes["channel"] == 2


def test_nanovolts_are_not_taken_as_volts(real_data, tmp_path):
    source = real_data("eeg-formats") / "test_edf_stim_channel.edf"
    path = edf_with_unit(source, tmp_path / "unit.edf", b"nV")
    assert_allclose(read(path)["eeg"][0].values, read(source)["eeg"][0].values / 1000, rtol=1e-5)


def test_unknown_unit_in_brainvision(real_data, tmp_path):
    folder = real_data("eeg-formats")
    for name in ("test.eeg", "test.vmrk"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    header = (folder / "test.vhdr").read_bytes()
    with pytest.warns(NeuroalignWarning, match=r"unknown units of CP5 \(BS\)"):
        read_eeg(folder / "test.vhdr")
    fixed = read(folder / "test.vhdr", units={"CP5": "uV"})
    assert fixed["channel_type"].sel(channel="CP5").item() == "eeg"
    (tmp_path / "test.vhdr").write_bytes(header.replace(b",\xc2\xb5V", b",foo").replace(b",\xb5V", b",foo"))
    with pytest.raises(SchemaError, match="units='uV'"):
        read_eeg(tmp_path / "test.vhdr")


def test_annotations_become_events(real_data):
    path = real_data("eeg-formats") / "test.vhdr"
    ds, raw = read(path), mne.io.read_raw_brainvision(path, verbose="ERROR")
    events, ids = mne.events_from_annotations(raw, verbose="ERROR")
    assert_array_equal(np.round(ds["onset"].values * ds.attrs["sfreq"]).astype(int), events[:, 0] - raw.first_samp)
    back = {code: name for name, code in ids.items()}
    assert ds["trial_type"].values.tolist() == [back[code] for code in events[:, 2]]
    assert ds["value"].values[0] == 253
    assert read(path, events="none").sizes.get("event", 0) == 0


def test_triggers_become_events(real_data):
    path = real_data("eeg-formats") / "test.bdf"
    ds, raw = read(path), mne.io.read_raw_bdf(path, verbose="ERROR")
    events = mne.find_events(raw, shortest_event=1, verbose="ERROR")
    assert_allclose(ds["onset"].values, (events[:, 0] - raw.first_samp) / raw.info["sfreq"])
    assert_array_equal(ds["value"].values, events[:, 2])
    with pytest.raises(ConfigError, match="events"):
        read_eeg(path, events="sometimes")


def test_onsets_count_from_the_first_sample(tmp_path):
    raw = small_raw()
    raw.set_meas_date(1e9)
    raw.set_annotations(mne.Annotations([2.0, 5.5], [0.5, 0.0], ["a", "b"]))
    raw = raw.crop(1.0, 8.0)
    assert raw.first_samp == 250
    raw.save(tmp_path / "cropped_raw.fif", verbose="ERROR")
    ds = read_eeg(tmp_path / "cropped_raw.fif")
    assert_allclose(ds["onset"].values, [1.0, 4.5])
    assert ds.attrs["first_sample"] == 250
    assert ds["time"].values[0] == 1.0


def test_epochs_of_eeglab(real_data):
    path = real_data("eeglab-visattention-32ch") / "eeglab_data_epochs_ica.set"
    ds, epochs = read(path), mne.read_epochs_eeglab(path, verbose="ERROR")
    assert ds["eeg"].dims == ("trial", "channel", "time")
    assert_array_equal(ds["eeg"].values, epochs.get_data(copy=False).astype(np.float32))
    assert_allclose(ds["time"].values, epochs.times, atol=1e-9)
    assert ds.attrs["tmin"] == -1.0
    assert ds["trial_type"].values.tolist()[0] in epochs.event_id
    lazy = read(path)["eeg"]
    assert_array_equal(lazy[[7, 3], 4, 10:20].values, ds["eeg"].values[[7, 3], 4, 10:20])


def test_epochs_of_fif_with_metadata(tmp_path):
    events = np.array([[200, 0, 1], [500, 0, 2], [900, 0, 1]])
    table = pd.DataFrame({"stimulus_id": ["s2", "s1", "s3"], "rt": [0.1, 0.2, 0.3]})
    epochs = mne.Epochs(
        small_raw(), events, {"a": 1, "b": 2}, -0.2, 0.4, metadata=table, preload=True, verbose="ERROR"
    )  # fmt: skip
    epochs.save(tmp_path / "small-epo.fif", verbose="ERROR")
    ds = read_eeg(tmp_path / "small-epo.fif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, inside MNE
        expected = mne.read_epochs(tmp_path / "small-epo.fif", verbose="ERROR").get_data(copy=False)
    assert_array_equal(ds["eeg"].values, expected.astype(np.float32))
    assert ds["stimulus_id"].values.tolist() == ["s2", "s1", "s3"]
    assert ds["trial_type"].values.tolist() == ["a", "b", "a"]
    assert ds.attrs["baseline"] == pytest.approx([-0.2, 0.0])
    assert ds.attrs["first_sample"] == -50
    assert ds["valid"].values.all()


def test_gaps_in_acquisition_are_missing_not_zero(tmp_path):
    raw = small_raw()
    raw.set_annotations(mne.Annotations([4.0], [2.0], ["BAD_ACQ_SKIP"]))
    raw.save(tmp_path / "gap_raw.fif", buffer_size_sec=1.0, verbose="ERROR")
    ds = read_eeg(tmp_path / "gap_raw.fif")
    whole = ds["eeg"].values
    inside = (ds["time"].values >= 4.0) & (ds["time"].values < 6.0)
    assert_array_equal(~ds["valid"].values, inside)
    assert np.isnan(whole[:, inside]).all()
    assert_allclose(whole[:, ~inside], raw.get_data()[:, ~inside], rtol=1e-6)


def test_names_and_dates_are_dropped(tmp_path):
    raw = small_raw()
    raw.info["subject_info"] = {"last_name": "Doe_secret", "his_id": "ID_secret"}
    with raw.info._unlock():
        raw.info["experimenter"] = raw.info["description"] = "free_secret"
    raw.set_meas_date(1234567890)
    raw.save(tmp_path / "person_raw.fif", verbose="ERROR")
    ds = read_eeg(tmp_path / "person_raw.fif")
    text = json.dumps(ds.attrs)
    assert "secret" not in text
    assert "2009-02-13" not in text
    assert "1234567890" not in text
    kept = read_eeg(tmp_path / "person_raw.fif", keep_phi=True)
    assert "Doe_secret" in kept.attrs["mne_info"]
    assert "2009-02-13" in kept.attrs["mne_info"]


def test_names_in_edf_are_dropped(real_data):
    for name in ("test.edf", "MB0400FU.EDF"):
        path = real_data("eeg-formats") / name
        info = mne.io.read_raw_edf(path, verbose="ERROR").info
        content = json.loads(read(path).attrs["mne_info"])
        assert info["meas_date"] is not None
        assert content["meas_date"] is None
        assert content["subject_info"] is None


@pytest.mark.parametrize("keep_phi", [True, False])
def test_info_goes_back_to_mne(real_data, keep_phi):
    path = real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif"
    ds = read(path, keep_phi=keep_phi)
    info = mne.Info.from_json_dict(json.loads(ds.attrs["mne_info"]))
    original = mne.io.read_raw_fif(path, verbose="ERROR").pick(ds["channel"].values.tolist()).info
    assert info["ch_names"] == original["ch_names"]
    assert info["bads"] == original["bads"]
    assert len(info["projs"]) == len(original["projs"])
    assert_allclose(info["dev_head_t"]["trans"], original["dev_head_t"]["trans"])
    assert_allclose([c["loc"] for c in info["chs"]], [c["loc"] for c in original["chs"]])


def test_mixed_rates_are_the_same_lazy_and_eager(real_data):
    path = real_data("ieeg-naplib") / "tiny_test.edf"
    whole = read(path)["eeg"].values
    assert_array_equal(read(path)["eeg"][:, 1000:1500].values, whole[:, 1000:1500])


def test_data_and_marker_files_lead_to_the_header(real_data):
    folder = real_data("eeg-formats")
    assert read(folder / "test.eeg").attrs["format"] == "brainvision"
    fdt = real_data("eeglab-visattention-32ch") / "eeglab_data.fdt"
    assert read(fdt).attrs["format"] == "eeglab"


def test_provenance_and_options(real_data):
    path = real_data("eeg-formats") / "test.edf"
    ds = read(path, misc=["Ergo-Left"])
    assert ds["channel_type"].sel(channel="Ergo-Left").item() == "misc"
    record = history(ds)
    assert record["sources"][0]["name"] == "test.edf"
    assert len(record["sources"][0]["sha256"]) == 64
    assert record["steps"][0]["misc"] == ["Ergo-Left"]
    with pytest.raises(ConfigError, match="exclude"):
        read_eeg(path, nonsense=1)
    with pytest.raises(ConfigError, match=r"\.vhdr"):
        read_eeg(real_data("eeg-formats") / "biosemi64.txt")
    with pytest.raises(SchemaError, match="read_ieeg"):
        read_eeg(real_data("ieeg-mne-misc") / "sample_ecog_ieeg.fif")


def test_repeated_names_are_refused(real_data, tmp_path):
    data = bytearray((real_data("eeg-formats") / "test_edf_stim_channel.edf").read_bytes())
    data[256:272] = data[272:288]
    path = tmp_path / "twice.edf"
    path.write_bytes(data)
    with pytest.raises(SchemaError, match="names repeat"):
        read_eeg(path)
