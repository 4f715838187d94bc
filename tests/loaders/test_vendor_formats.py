"""Formats of single makers of amplifiers and magnetometers, against MNE's own reading of them."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.loaders import load, read_eeg, read_ieeg, read_meg

LAY = "sub-pt1_ses-02_task-monitor_acq-ecog_run-01_clip2"


def bti(path: Path, **options: Any) -> mne.io.BaseRaw:
    names = [str(path).replace("pdf", part) for part in ("config", "hs")]
    return mne.io.read_raw_bti(path, *names, **options)


def kit(path: Path, **options: Any) -> mne.io.BaseRaw:
    beside = {name: path.with_name(f"test{end}") for name, end in KIT.items()}
    return mne.io.read_raw_kit(path, **beside, **options)


KIT = {"mrk": "_mrk.sqd", "elp": ".elp", "hsp": ".hsp"}

#: File, reader, its options, MNE's reader.
FILES: dict[str, tuple[str, Callable[..., xr.Dataset], dict[str, Any], Callable[..., Any]]] = {
    "cnt": (
        "eeg-formats/scan41_short.cnt",
        read_eeg,
        {"data_format": "int16"},
        lambda p, **k: mne.io.read_raw_cnt(p, data_format="int16", **k),
    ),
    "egi": ("eeg-formats/test_egi.raw", read_eeg, {}, mne.io.read_raw_egi),
    "nihon": ("eeg-formats/MB0400FU.EEG", read_eeg, {}, mne.io.read_raw_nihon),
    "persyst": (f"ieeg-mne-misc/persyst/{LAY}.lay", read_ieeg, {"channel_type": "ecog"}, mne.io.read_raw_persyst),
    "bti": ("meg-ctf-kit-bti/bti/test_pdf_linux", read_meg, {}, bti),
    "kit": ("meg-ctf-kit-bti/kit/test.sqd", read_meg, {k: f"test{v}" for k, v in KIT.items()}, kit),
    "umd": ("meg-ctf-kit-bti/kit/test_umd-raw.sqd", read_meg, {}, mne.io.read_raw_kit),
}


def read(reader: Callable[..., xr.Dataset], path: Path, **options: Any) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        return reader(path, **options)


def values(ds: xr.Dataset) -> xr.DataArray:
    return ds[next(iter(ds.data_vars))]


@pytest.fixture
def both(real_data):
    """Give the path, our reading and MNE's of a format."""

    def get(name: str, **more: Any) -> tuple[Path, xr.Dataset, mne.io.BaseRaw]:
        file, reader, options, peer = FILES[name]
        folder, _, rest = file.partition("/")
        path = real_data(folder) / rest
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return path, read(reader, path, **{**options, **more}), peer(path, verbose="ERROR")

    return get


@pytest.mark.parametrize("name", FILES)
def test_equals_mne(both, name):
    _, ds, raw = both(name)
    expected = raw.get_data(verbose="ERROR").astype(np.float32)
    assert_array_equal(values(ds)[3:9, 20:60].values, expected[3:9, 20:60])
    assert_array_equal(values(ds)[::-2, 50:10:-3].values, expected[::-2, 50:10:-3])
    assert_array_equal(values(ds).values, expected)
    assert_array_equal(values(both(name, lazy=False)[1]).values, expected)
    assert values(ds).dtype == np.float32
    assert ds["channel"].values.tolist() == raw.ch_names
    assert ds["bad"].values.tolist() == [n in raw.info["bads"] for n in raw.ch_names]
    assert ds.attrs["sfreq"] == raw.info["sfreq"]
    assert ds.attrs["first_sample"] == raw.first_samp
    for key in ("highpass", "lowpass"):
        assert ds.attrs[key] == raw.info[key]
    if name != "persyst":  # which is read as iEEG here
        assert ds["channel_type"].values.tolist() == raw.get_channel_types()
    loc = np.array([ch["loc"][:3] for ch in raw.info["chs"]])
    known = np.isfinite(ds["x"].values)
    assert_array_equal(np.stack([ds[a].values for a in "xyz"], 1)[known], loc[known])
    assert known.any() == (name in ("bti", "kit", "umd"))


@pytest.mark.parametrize("name", ["cnt", "egi", "nihon", "persyst"])
def test_annotations_become_events(both, name):
    _, ds, raw = both(name)
    order = np.argsort(raw.annotations.onset, kind="stable")
    shift = raw.first_time if raw.annotations.orig_time is not None else 0.0
    assert_allclose(ds["onset"].values, raw.annotations.onset[order] - shift)
    assert ds["trial_type"].values.tolist() == raw.annotations.description[order].tolist()


@pytest.mark.parametrize("name", ["cnt", "egi", "nihon", "persyst"])
def test_values_are_plausible_in_volts(both, name):
    ds = both(name)[1]
    inside = np.isin(ds["channel_type"].values, ["eeg", "ecog"])
    spread = values(ds).values[inside].std(axis=1)
    assert 1e-6 < np.median(spread) < 1e-3
    units = ds["units"].values if "units" in ds.coords else np.full(inside.size, ds.attrs["units"])
    assert set(units[inside]) == {"V"}


@pytest.mark.parametrize("name", ["cnt", "egi", "nihon", "persyst"])
def test_units_are_those_of_the_numbers_in_the_file(both, name):
    """These formats count in uV: to say so changes nothing, to say otherwise does."""
    ds = both(name)[1]
    eeg = np.isin(ds["channel_type"].values, ["eeg", "ecog"])
    expected = values(ds).values[eeg]
    assert_allclose(values(both(name, units="uV")[1]).values[eeg], expected, rtol=1e-6)
    assert_allclose(values(both(name, units="nV")[1]).values[eeg], expected / 1000, rtol=1e-5)


def test_a_range_of_egi_is_in_the_unit_given(both, tmp_path):
    """MNE multiplies by range / 2 ** bits, and takes the result for V."""
    path, ds, _ = both("egi")
    data = bytearray(path.read_bytes())
    data[26:30] = (16).to_bytes(2, "big") + (2**14).to_bytes(2, "big")
    (tmp_path / "range.raw").write_bytes(data)
    with pytest.warns(NeuroalignWarning, match="units='uV'"):
        read_eeg(tmp_path / "range.raw")
    given = read(read_eeg, tmp_path / "range.raw", units="uV")
    assert_allclose(given["eeg"].values[:256], ds["eeg"].values[:256] / 4, rtol=1e-5)


def test_magnetometers_are_in_tesla(both):
    for name in ("bti", "kit", "umd"):
        ds = both(name)[1]
        mag = ds["channel_type"].values == "mag"
        assert set(ds["units"].values[mag]) == {"T"}
        assert 1e-14 < np.median(values(ds).values[mag].std(axis=1)) < 1e-11


@pytest.mark.parametrize("name", FILES)
def test_people_and_dates_are_dropped(both, name):
    _, ds, raw = both(name)
    content = json.loads(ds.attrs["mne_info"])
    for key in ("subject_info", "meas_date", "description", "experimenter", "proj_name"):
        assert content[key] is None
    shown = json.dumps(ds.attrs) + repr(ds)
    if raw.info["meas_date"] is not None:
        assert raw.info["meas_date"].strftime("%Y-%m-%d") not in shown
    for word in ("Test_no_cap", "No_Name", "Unspecified", "Bar Ilan", "University of Maryland", "NYU"):
        assert word not in shown


def test_no_folders_in_the_provenance(both):
    for name in ("bti", "kit"):
        path, ds, _ = both(name)
        assert str(path.parent) not in json.dumps(ds.attrs["neuro_steps"] + ds.attrs["neuro_sources"])
        names = {json.loads(source)["name"] for source in ds.attrs["neuro_sources"]}
        assert len(names) == (3 if name == "bti" else 4)


def test_nothing_is_printed(real_data, capsys):
    read(read_ieeg, real_data("ieeg-mne-misc") / "persyst" / f"{LAY}.lay", channel_type="ecog")
    assert capsys.readouterr().out == ""


def test_neuroscan_wants_its_data_format(both):
    path = both("cnt")[0]
    for reader in (read_eeg, load):
        with pytest.raises(ConfigError, match="data_format='int16' or data_format='int32'"):
            reader(path)
    with pytest.raises(ConfigError, match="Unknown data format"):
        read_eeg(path, data_format="float")
    with pytest.warns(NeuroalignWarning, match="RMS"):  # the wrong one shows
        read_eeg(path, data_format="int32")


def test_neuroscan_says_its_data_format_where_it_knows(both, tmp_path):
    path, ds, _ = both("cnt")
    data = bytearray(path.read_bytes())
    data[864:868] = (3070).to_bytes(4, "little")
    (tmp_path / "known.cnt").write_bytes(data)
    assert_array_equal(read(read_eeg, tmp_path / "known.cnt")["eeg"].values, ds["eeg"].values)


def test_a_screen_is_no_head(both):
    """Neuroscan's positions are places on a screen, which MNE puts on a sphere of 1 m."""
    _, ds, raw = both("cnt")
    assert np.linalg.norm([ch["loc"][:3] for ch in raw.info["chs"]], axis=1).max() > 0.5
    assert np.isnan(ds["x"].values).all()
    assert json.loads(ds.attrs["mne_info"])["dig"] is None


def test_files_beside_lead_to_the_header(real_data):
    folder = real_data("eeg-formats")
    for name in ("MB0400FU.EEG", "MB0400FU.21E", "MB0400FU.PNT"):
        assert read(read_eeg, folder / name).attrs["format"] == "nihon"
    assert read(read_eeg, folder / "test.eeg").attrs["format"] == "brainvision"
    dat = real_data("ieeg-mne-misc") / "persyst" / f"{LAY}.dat"
    assert read(read_ieeg, dat, channel_type="ecog").attrs["format"] == "persyst"


def test_a_brainvision_data_file_alone(real_data, tmp_path):
    shutil.copyfile(real_data("eeg-formats") / "test.eeg", tmp_path / "test.eeg")
    with pytest.raises(IntegrityError, match=r"test\.vhdr"):
        read_eeg(tmp_path / "test.eeg")


def test_nihon_kohden_says_what_is_missing(real_data, tmp_path):
    shutil.copyfile(real_data("eeg-formats") / "MB0400FU.EEG", tmp_path / "alone.EEG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ds = read_eeg(tmp_path / "alone.EEG")
    said = "".join(str(w.message) for w in caught)
    assert "Default channel names" in said
    assert "LOG" in said
    assert str(tmp_path) not in said
    assert ds.sizes["channel"] == 25


def test_intracranial_channels_are_retyped(both, real_data):
    ds = both("persyst")[1]
    kinds = dict(zip(ds["channel"].values.tolist(), ds["channel_type"].values.tolist(), strict=True))
    assert kinds["FP1"] == "ecog"
    assert kinds["POL EKG1"] == "ecg"
    assert kinds["POL DC01"] == "misc"
    with pytest.warns(NeuroalignWarning, match="taken as seeg"):
        ds = read_ieeg(real_data("eeg-formats") / "MB0400FU.EEG")
    assert ds["channel_type"].sel(channel="C3").item() == "seeg"
    assert ds["channel_type"].sel(channel="X1").item() == "bio"


def test_bti_with_its_files_elsewhere(both, real_data, tmp_path):
    path, ds, raw = both("bti")
    shutil.copyfile(path, tmp_path / "c,rfDC")
    with pytest.raises(ConfigError, match="config="):
        load(tmp_path / "c,rfDC")
    found = read(load, tmp_path / "c,rfDC", config=path.with_name("test_config_linux"))
    assert_array_equal(found["meg"].values, ds["meg"].values)
    assert json.loads(found.attrs["mne_info"])["dig"] is None
    assert len(json.loads(ds.attrs["mne_info"])["dig"]) == len(raw.info["dig"])
    shutil.copyfile(path.with_name("test_config_linux"), tmp_path / "config")
    shutil.copyfile(path.with_name("test_hs_linux"), tmp_path / "hs_file")
    again = read(load, tmp_path / "c,rfDC")
    assert len(json.loads(again.attrs["mne_info"])["dig"]) == len(raw.info["dig"])
    with pytest.raises(IntegrityError, match="nowhere"):
        read_meg(path, head_shape="nowhere")
    with pytest.raises(ConfigError, match="not a path"):
        read_meg(path, config=3)


def test_positions_of_the_head_in_kit(both):
    info = json.loads(both("kit")[1].attrs["mne_info"])
    raw = both("kit")[2]
    assert_allclose(info["dev_head_t"]["trans"], raw.info["dev_head_t"]["trans"])
    assert len(info["dig"]) == len(raw.info["dig"])


def test_a_file_of_markers_is_no_recording(real_data):
    with pytest.raises(SchemaError, match="mrk="):
        read_meg(real_data("meg-ctf-kit-bti") / "kit" / "test_mrk.sqd")


@pytest.mark.parametrize("name", FILES)
def test_load_finds_the_reader(both, name):
    path, ds, _ = both(name)
    _, reader, options, _ = FILES[name]
    modality = "ieeg" if reader is read_ieeg else None
    found = read(load, path, modality=modality, **options)
    assert set(found.data_vars) == set(ds.data_vars)
    assert found.attrs["format"] == ds.attrs["format"]


def test_neuralynx_is_refused_with_the_way(tmp_path):
    (tmp_path / "CSC1.ncs").write_bytes(b"######## Neuralynx")
    with pytest.raises(ConfigError, match="read_raw_neuralynx"):
        read_ieeg(tmp_path / "CSC1.ncs")
    with pytest.raises(ConfigError, match="read_raw_neuralynx"):
        read_ieeg(tmp_path)


def test_unknown_options_are_named(both):
    with pytest.raises(ConfigError, match="data_format"):
        read_eeg(both("cnt")[0], data_format="int16", date="dd/mm")


def test_segmented_egi_is_refused(both, tmp_path):
    data = bytearray(both("egi")[0].read_bytes())
    data[:4] = (5).to_bytes(4, "big")
    (tmp_path / "segments.raw").write_bytes(data)
    with pytest.raises(ConfigError, match="segments"):
        read_eeg(tmp_path / "segments.raw")


@pytest.fixture
def mff(tmp_path):
    """A folder as Net Station writes it, and its values in uV."""
    writer, binary = pytest.importorskip("mffpy.writer"), pytest.importorskip("mffpy.bin_writer")
    out = writer.Writer(str(tmp_path / "net.mff"))
    signal = binary.BinWriter(sampling_rate=250, data_type="EEG")
    microvolts = np.random.default_rng(0).normal(scale=20, size=(257, 500)).astype(np.float32)
    signal.add_block(microvolts)
    out.addbin(signal)
    out.addxml("fileInfo", recordTime=datetime(2020, 2, 3, tzinfo=UTC))
    out.add_coordinates_and_sensor_layout("HydroCel GSN 256 1.0")
    out.write()
    return tmp_path / "net.mff", microvolts


def test_mff(mff, capsys):
    path, microvolts = mff
    capsys.readouterr()
    ds = read(load, path)
    assert_allclose(ds["eeg"].values, microvolts * 1e-6, rtol=1e-5)
    assert_array_equal(ds["eeg"][2, 50:60].values, ds["eeg"].values[2, 50:60])
    assert capsys.readouterr().out == ""
    raw = mne.io.read_raw_egi(path, verbose="ERROR")
    assert ds["channel"].values.tolist() == raw.ch_names
    assert_array_equal(ds["x"].values, [ch["loc"][0] for ch in raw.info["chs"]])
    assert "2020-02-03" not in json.dumps(ds.attrs)
    assert len(ds.attrs["neuro_sources"]) == 6


@pytest.mark.parametrize("name", ["signal1.bin", "info.xml", "info1.xml", "epochs.xml", "sensorLayout.xml"])
@pytest.mark.parametrize("rest", [0.0, 0.3, 0.99])
def test_cut_mff(mff, name, rest):
    file = mff[0] / name
    content = file.read_bytes()
    file.write_bytes(content[: int(rest * len(content))])
    with pytest.raises(IntegrityError, match=name):
        read_eeg(mff[0])
