"""Intracranial EEG: types, shafts and contacts, positions."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.errors import ConfigError, NeuroalignWarning, SchemaError
from neuroalign.loaders import read_ieeg
from neuroalign.loaders.ieeg import parse_contact, parse_pair


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LA1", ("LA", 1)),
        ("L'12", ("L'", 12)),
        ("LACN 3", ("LACN", 3)),
        ("POL B02", ("B", 2)),
        ("EEG RH4-Ref", ("RH", 4)),
        ("L AMYG 7", ("L AMYG", 7)),
        ("T2A10", ("T2A", 10)),
        ("G_64", ("G", 64)),
        ("EKG", ("", None)),
        ("12", ("", None)),
        ("", ("", None)),
    ],
)
def test_contact_names(name, expected):
    assert parse_contact(name) == expected


def test_bipolar_names():
    assert parse_pair("LA1-LA2") == ("LA1", "LA2")
    assert parse_pair("LA1-2") == ("LA1", "LA2")
    assert parse_pair("EEG LA1-Ref") == ("", "")
    assert parse_pair("LA1") == ("", "")


def test_seeg_edf(real_data):
    path = real_data("ieeg-mne-misc") / "sample_seeg.edf"
    ds = read_ieeg(path, channel_type="seeg")
    raw = mne.io.read_raw_edf(path, verbose="ERROR")
    assert_array_equal(ds["ieeg"].values, raw.get_data().astype(np.float32))
    assert ds["channel_type"].sel(channel=["L'1", "X'16", "EKG1", "DC01"]).values.tolist() == [
        "seeg",
        "seeg",
        "ecg",
        "misc",
    ]
    assert ds["shaft"].sel(channel="L'11").item() == "L'"
    assert ds["contact"].sel(channel="L'11").item() == 11
    assert ds["shaft"].sel(channel="EKG1").item() == ""
    assert np.isnan(ds["contact"].sel(channel="DC01").item())
    assert ds.sizes["event"] == 3


def test_the_assumption_is_said(real_data):
    with pytest.warns(NeuroalignWarning, match="channel_type='ecog'"):
        ds = read_ieeg(real_data("ieeg-mne-misc") / "sample_seeg.edf")
    assert "seeg" in ds["channel_type"].values


def test_ecog_with_positions(real_data):
    folder = real_data("ieeg-mne-misc")
    ds = read_ieeg(folder / "sample_ecog.edf", channel_type="ecog", electrodes=folder / "sample_ecog_electrodes.tsv")
    assert ds["channel_type"].sel(channel="C1").item() == "ecog"
    assert ds["channel_type"].sel(channel="EKGL").item() == "ecg"
    assert_allclose([ds[a].sel(channel="C1").item() for a in "xyz"], [-0.0132, -0.0654, 0.0702])
    assert np.isnan(ds["x"].sel(channel="BTM1").item())
    assert ds.attrs["coord_frame"] == "unknown"
    assert ds.attrs["sfreq"] == pytest.approx(999.4121105232217)


def test_fif_keeps_its_own_types(real_data):
    path = real_data("ieeg-mne-misc") / "sample_ecog_ieeg.fif"
    ds, raw = read_ieeg(path), mne.io.read_raw_fif(path, verbose="ERROR")
    assert ds["channel_type"].values.tolist() == raw.get_channel_types()
    assert_array_equal(ds["ieeg"].values, raw.get_data().astype(np.float32))


def test_clinical_edf_with_physiology(real_data):
    path = real_data("ieeg-naplib") / "tiny_test.edf"
    ds = read_ieeg(path, channel_type="seeg")
    raw = mne.io.read_raw_edf(path, preload=True, verbose="ERROR")
    assert_array_equal(ds["ieeg"].values, raw.get_data().astype(np.float32))


def test_channels_table_gives_types_and_status(real_data, tmp_path):
    table = tmp_path / "channels.tsv"
    rows = ["name\ttype\tunits\tstatus\treference"]
    rows += [f"C{i}\tECOG\tuV\t{'bad' if i == 2 else 'good'}\tmastoid" for i in range(1, 65)]
    table.write_text("\n".join(rows))
    ds = read_ieeg(real_data("ieeg-mne-misc") / "sample_ecog.edf", electrodes=table)
    assert ds["channel_type"].sel(channel="C9").item() == "ecog"
    assert ds["channel_type"].sel(channel="BTM1").item() == "misc"  # not in the table
    assert ds["channel"].values[ds["bad"].values].tolist() == ["C2"]
    assert ds["reference"].sel(channel="C1").item() == "mastoid"


def test_tables_that_would_change_nothing_are_refused(real_data, tmp_path):
    folder = real_data("ieeg-mne-misc")
    with pytest.raises(SchemaError, match="says nothing about the channels"):  # columns R, A and S
        read_ieeg(folder / "sample_seeg.edf", electrodes=folder / "sample_seeg_electrodes.tsv")
    table = tmp_path / "electrodes.tsv"
    table.write_text("name\tx\ty\tz\nnobody\t0.01\t0.02\t0.03\n")
    with pytest.raises(SchemaError, match="No channel of the file is in the table"):
        read_ieeg(folder / "sample_seeg.edf", electrodes=table)
    table.write_text("name\tx\ty\tz\nL'1\t-31.5\t40\t12\n")
    with pytest.raises(SchemaError, match="looks like mm"):
        read_ieeg(folder / "sample_seeg.edf", electrodes=table)


def test_types_by_name(real_data):
    path = real_data("ieeg-mne-misc") / "sample_ecog.edf"
    ds = read_ieeg(path, channel_type={"C1": "ecog", "C2": "ecog"}, channels="ecog")
    assert ds["channel"].values.tolist() == ["C1", "C2"]
    with pytest.raises(ConfigError, match="seeg"):
        read_ieeg(path, channel_type="depth")
    with pytest.raises(ConfigError, match="ecog"):
        read_ieeg(path, channel_type={"C1": "grid"})
    with pytest.raises(SchemaError, match="No channel"):
        read_ieeg(path, channel_type={"LA1": "seeg"})


def test_bipolar_channels(tmp_path):
    info = mne.create_info(["LA1-LA2", "LA2-LA3", "RH5-6"], 100.0, "seeg")
    values = np.random.default_rng(0).normal(size=(3, 400)) * 1e-4
    mne.io.RawArray(values, info, verbose="ERROR").save(tmp_path / "pairs_ieeg.fif", verbose="ERROR")
    ds = read_ieeg(tmp_path / "pairs_ieeg.fif")
    assert ds["anode"].values.tolist() == ["LA1", "LA2", "RH5"]
    assert ds["cathode"].values.tolist() == ["LA2", "LA3", "RH6"]
    assert ds["shaft"].values.tolist() == ["LA", "LA", "RH"]
