"""Positions from montages of MNE and from files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.loaders import load, read_eeg, read_ieeg, read_meg


def xyz(ds: xr.Dataset, name: str) -> list[float]:
    return [float(ds[axis].sel(channel=name)) for axis in "xyz"]


def quiet(reader, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        return reader(path, **options)


@pytest.fixture
def expected(real_data):
    """What MNE sets for the same names."""

    def get(montage) -> mne.Info:
        raw = mne.io.read_raw_bdf(real_data("eeg-formats") / "test.bdf", verbose="ERROR")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return raw.set_montage(montage, on_missing="ignore", verbose="ERROR").info

    return get


@pytest.mark.parametrize("name", ["biosemi64", "standard_1005", "spherical_1005"])
def test_a_name(real_data, expected, name):
    ds = quiet(read_eeg, real_data("eeg-formats") / "test.bdf", montage=name)
    info = expected(mne.channels.make_standard_montage(name) if name != "standard_1005" else old_montage(name))
    for channel in ("Fp1", "Oz", "Cz"):
        assert_allclose(xyz(ds, channel), info["chs"][info["ch_names"].index(channel)]["loc"][:3])
    assert ds.attrs["coord_frame"] == "head"
    back = json.loads(ds.attrs["mne_info"])
    assert len(back["dig"]) == len(info["dig"])
    assert "montage" in ds.attrs["neuro_steps"][0]


def old_montage(name: str) -> mne.channels.DigMontage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return mne.channels.make_standard_montage(name)


@pytest.mark.parametrize("file", ["eeg-formats/standard_1020.elc", "eeg-formats/biosemi64.txt"])
def test_a_file(real_data, expected, file):
    folder, _, name = file.partition("/")
    path = real_data(folder) / name
    ds = quiet(read_eeg, real_data("eeg-formats") / "test.bdf", montage=path)
    options = {"head_size": None} if path.suffix == ".elc" else {}
    info = expected(mne.channels.read_custom_montage(path, **options))
    assert_allclose(xyz(ds, "Oz"), info["chs"][info["ch_names"].index("Oz")]["loc"][:3])
    assert 0.05 < np.linalg.norm(xyz(ds, "Cz")) < 0.15


def test_measured_positions_keep_their_unit(real_data):
    """The .elc file states mm: nothing is fit to a head."""
    path = real_data("eeg-formats") / "standard_1020.elc"
    ds = quiet(read_eeg, real_data("eeg-formats") / "test.bdf", montage=path)
    lines = path.read_text().split("Labels\n")
    names = lines[1].split()
    places = np.array([line.split() for line in lines[0].split("Positions\n")[1].splitlines()], dtype=float) / 1000
    where = dict(zip(names, places, strict=True))
    measured = np.linalg.norm(where["Oz"] - where["Fp1"])
    assert_allclose(np.linalg.norm(np.subtract(xyz(ds, "Oz"), xyz(ds, "Fp1"))), measured, rtol=1e-6)


def test_locations_of_eeglab(real_data):
    folder = real_data("eeglab-visattention-32ch")
    ds = quiet(read_eeg, folder / "eeglab_data.set", montage=folder / "eeglab_chan32.locs")
    montage = mne.channels.read_custom_montage(folder / "eeglab_chan32.locs").get_positions()["ch_pos"]
    assert_allclose(xyz(ds, "Cz"), montage["Cz"], atol=1e-9)


def test_names_with_prefix_and_reference(real_data):
    ds = quiet(read_eeg, real_data("eeg-formats") / "test_edf_stim_channel.edf", montage="standard_1020")
    assert np.isfinite(xyz(ds, "EEG Fp1")).all()
    assert xyz(ds, "EEG Fp1")[1] > 0.05


def test_channels_without_a_position_are_named(real_data):
    with pytest.warns(NeuroalignWarning, match=r"no position in the montage for AF7, AF3$"):
        ds = read_eeg(real_data("eeg-formats") / "test.bdf", montage="biosemi16", channels=["AF7", "AF3", "Cz"])
    assert np.isnan(ds["x"].sel(channel="AF7"))
    assert np.isfinite(ds["x"].sel(channel="Cz"))


def test_nothing_in_common_is_refused(real_data):
    with pytest.raises(SchemaError, match="No channel of the recording"):
        quiet(read_eeg, real_data("eeg-formats") / "test_egi.raw", montage="standard_1020")
    ds = quiet(load, real_data("eeg-formats") / "test_egi.raw", montage="GSN-HydroCel-256")
    assert np.isfinite(ds["x"].values).sum() == 256


def test_unknown_montages(real_data, tmp_path: Path):
    path = real_data("eeg-formats") / "test.bdf"
    with pytest.raises(ConfigError, match="biosemi64"):
        quiet(read_eeg, path, montage="biosemi65")
    with pytest.raises(IntegrityError, match="no such file"):
        quiet(read_eeg, path, montage=tmp_path / "cap.elc")
    (tmp_path / "cap.elc").write_bytes(b"\x80nothing")
    with pytest.raises(IntegrityError):
        quiet(read_eeg, path, montage=tmp_path / "cap.elc")


def test_intracranial_and_eeg_with_meg(real_data, tmp_path: Path):
    path = real_data("ieeg-mne-misc") / "sample_ecog.edf"
    montage = mne.channels.make_dig_montage({"C1": [0.01, 0.02, 0.03], "C2": [0.015, 0.02, 0.03]}, coord_frame="head")
    montage.save(tmp_path / "grid-dig.fif", verbose="ERROR")
    ds = quiet(read_ieeg, path, channel_type="ecog", montage=tmp_path / "grid-dig.fif")
    assert_allclose(xyz(ds, "C2"), [0.015, 0.02, 0.03], rtol=1e-6)
    fif = real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif"
    with pytest.raises(SchemaError, match="No channel"):
        read_meg(fif, montage="standard_1020")
