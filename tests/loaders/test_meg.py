"""MEG files against MNE's own reading of them."""

from __future__ import annotations

import gzip
import json
import warnings

import mne
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.errors import IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.loaders import read_meg

RAW = {
    "meg-mne-audvis/sample_audvis_trunc_raw_sss.fif": mne.io.read_raw_fif,
    "meg-ctf-kit-bti/bti/exported4D_linux_raw.fif": mne.io.read_raw_fif,
    "meg-ctf-kit-bti/ctf/test_ctf_comp_raw.fif": mne.io.read_raw_fif,
    "meg-ctf-kit-bti/kit/test.sqd": mne.io.read_raw_kit,
    "meg-ctf-kit-bti/kit/test_umd-raw.sqd": mne.io.read_raw_kit,
    "meg-ctf-kit-bti/somMDYO-18av.ds": mne.io.read_raw_ctf,
}


def read(path, **options) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        return read_meg(path, **options)


@pytest.mark.parametrize("name", RAW)
def test_equals_mne(real_data, name):
    folder, _, file = name.partition("/")
    path = real_data(folder) / file
    ds, raw = read(path), RAW[name](path, verbose="ERROR")
    expected = raw.get_data().astype(np.float32)
    assert_array_equal(ds["meg"].values, expected)
    assert_array_equal(read(path)["meg"][2:9, 20:50].values, expected[2:9, 20:50])
    assert ds["channel"].values.tolist() == raw.ch_names
    assert ds["channel_type"].values.tolist() == raw.get_channel_types()
    assert ds["bad"].values.tolist() == [n in raw.info["bads"] for n in raw.ch_names]
    assert ds.attrs["first_sample"] == raw.first_samp
    kinds, units = ds["channel_type"].values, ds["units"].values
    assert set(units[kinds == "mag"]) == {"T"}
    assert set(units[kinds == "grad"]) <= {"T/m"}
    assert set(units[kinds == "eeg"]) <= {"V"}


def test_averages_of_compressed_fif(real_data, tmp_path):
    path = real_data("meg-mne-audvis") / "test-ave.fif.gz"
    plain = tmp_path / "test-ave.fif"  # MNE takes seconds to jump around in the compressed file
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    ds, averages = read(path), mne.read_evokeds(plain, verbose="ERROR")
    assert ds["meg"].dims == ("trial", "channel", "time")
    assert_array_equal(ds["meg"].values, np.stack([a.data for a in averages]).astype(np.float32))
    assert ds["trial_type"].values.tolist() == [a.comment for a in averages]
    assert ds["nave"].values.tolist() == [a.nave for a in averages]
    assert_allclose(ds["time"].values, averages[0].times, atol=1e-9)
    assert_array_equal(ds["meg"].sel(channel="MEG 0113")[1].values, averages[1].data[0].astype(np.float32))


def test_frames_of_sensors(real_data):
    ds = read(real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif")
    assert ds.attrs["coord_frame"] == "mixed"
    kinds = ds["channel_type"].values
    assert set(ds["frame"].values[kinds == "mag"]) == {"device"}
    assert set(ds["frame"].values[kinds == "eeg"]) == {"head"}
    only = read(real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif", channels="meg")
    assert only.attrs["coord_frame"] == "device"
    assert only.sizes["channel"] == 306
    assert set(only["units"].values) == {"T", "T/m"}


def test_history_of_processing_is_kept_without_dates(real_data):
    path = real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif"
    info = mne.io.read_raw_fif(path, verbose="ERROR").info
    content = json.loads(read(path).attrs["mne_info"])
    record = content["proc_history"][0]
    assert record["max_info"]["sss_info"]["nchan"] == info["proc_history"][0]["max_info"]["sss_info"]["nchan"]
    assert record["date"] == [0, 0]
    assert record["experimenter"] == ""


def test_triggers_of_neuromag_come_from_the_composite_channel(real_data):
    path = real_data("meg-ctf-kit-bti") / "kit" / "test.sqd"
    ds, raw = read(path), mne.io.read_raw_kit(path, verbose="ERROR")
    events = mne.find_events(raw, stim_channel="STI 014", shortest_event=1, verbose="ERROR")
    assert_allclose(ds["onset"].values, events[:, 0] / raw.info["sfreq"])
    assert_array_equal(ds["value"].values, events[:, 2])


def test_maxshield_is_refused_with_the_remedy(tmp_path):
    info = mne.create_info(["MEG 0111"], 100.0, "mag")
    path = tmp_path / "shield_raw.fif"
    mne.io.RawArray(np.random.default_rng(0).normal(size=(1, 300)) * 1e-13, info, verbose="ERROR").save(
        path, verbose="ERROR"
    )
    data = path.read_bytes()
    # Blocks 102 (raw data) become 119 (raw data with internal active shielding).
    for kind in (b"\x00\x00\x00\x68", b"\x00\x00\x00\x69"):
        head = kind + b"\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00"
        assert head + b"\x66" in data
        data = data.replace(head + b"\x66", head + b"\x77")
    path.write_bytes(data)
    with pytest.raises(SchemaError, match=r"allow_maxshield=True[\s\S]*MaxwellFilter"):
        read_meg(path)


def test_no_meg_in_the_file(real_data):
    with pytest.raises(SchemaError, match="read_eeg"):
        read_meg(real_data("eeg-formats") / "test.bdf")


def test_a_folder_where_a_file_is_meant(tmp_path):
    (tmp_path / "x_raw.fif").mkdir()
    with pytest.raises(IntegrityError, match="Wrong kind"):
        read_meg(tmp_path / "x_raw.fif")
