"""FieldTrip structs: one real file, and invented ones of every shape."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import mne
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import savemat

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.loaders import load, read_eeg, read_meg
from neuroalign.loaders._fieldtrip import find

LABELS = ["Fz", "Cz", "Pz"]
VALUES = np.random.default_rng(0).normal(scale=20.0, size=(4, 3, 50))
TIME = np.arange(50) / 100 - 0.1


def cells(items: list[Any]) -> np.ndarray:
    out = np.empty((1, len(items)), dtype=object)
    for k, item in enumerate(items):
        out[0, k] = item
    return out


def struct(n_trials: int = 4, **more: Any) -> dict[str, Any]:
    out = {
        "label": cells(LABELS).T,
        "fsample": 100.0,
        "trial": cells(list(VALUES[:n_trials])),
        "time": cells([TIME[None]] * n_trials),
        "elec": {
            "label": cells(LABELS).T,
            "chanpos": np.array([[0.0, 50.0, 80.0], [0.0, 0.0, 95.0], [0.0, -50.0, 80.0]]),
            "unit": "mm",
            "chanunit": cells(["uV"] * 3).T,
            "chantype": cells(["eeg"] * 3).T,
        },
    }
    return {k: v for k, v in {**out, **more}.items() if v is not None}


@pytest.fixture
def write(tmp_path: Path):
    def save(name: str = "data", /, **content: Any) -> Path:
        savemat(tmp_path / "ft.mat", {name: content}, do_compression=True)
        return tmp_path / "ft.mat"

    return save


def test_the_real_file_equals_mne(real_data):
    path = real_data("meg-mne-audvis") / "fieldtrip_epoched_v7.mat"
    ds = load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        epochs = mne.read_epochs_fieldtrip(path, info=None)
    expected = epochs.get_data(copy=False).astype(np.float32)
    assert_array_equal(ds["meg"][[4, 2], 5:9, 3:17].values, expected[[4, 2], 5:9, 3:17])
    assert_array_equal(ds["meg"].values, expected)
    assert_array_equal(load(path, lazy=False)["meg"].values, expected)
    assert ds["channel"].values.tolist() == epochs.ch_names
    assert ds.attrs["sfreq"] == pytest.approx(epochs.info["sfreq"], abs=1e-9)
    assert_allclose(ds["time"].values, epochs.times, atol=1e-3)
    assert_array_equal(ds["value"].values, epochs.events[:, 2])
    assert_array_equal(ds["trialinfo_1"].values, epochs.metadata[0])
    kinds, units = ds["channel_type"].values, ds["units"].values
    assert {k: int((kinds == k).sum()) for k in ("mag", "grad", "eeg", "eog", "stim")} == {
        "mag": 102, "grad": 204, "eeg": 60, "eog": 1, "stim": 9,
    }  # fmt: skip
    assert set(units[kinds == "grad"]) == {"T/m"}
    assert 1e-13 < np.median(ds["meg"].values[:, kinds == "grad"].std(axis=2)) < 1e-10


def test_positions_and_onsets_of_the_real_file(real_data):
    ds = load(real_data("meg-mne-audvis") / "fieldtrip_epoched_v7.mat")
    eeg = ds.isel(channel=ds["channel_type"].values == "eeg")
    radius = np.sqrt(eeg["x"] ** 2 + eeg["y"] ** 2 + eeg["z"] ** 2)
    assert 0.07 < float(radius.min()) < float(radius.max()) < 0.16
    assert set(ds["frame"].values[ds["channel_type"].values == "eeg"] if "frame" in ds.coords else ["head"]) == {"head"}
    first = np.array([1074, 1103])  # sampleinfo of the first trial, counted from 1
    assert ds.attrs["first_sample"] == round(ds.attrs["tmin"] * ds.attrs["sfreq"])
    assert_allclose(ds["onset"].values[0] * ds.attrs["sfreq"], first[0] - 1 - ds.attrs["first_sample"])


def test_epochs(write):
    ds = read_eeg(write(**struct(trialinfo=np.array([[1, 7], [2, 8], [1, 9], [2, 7]]))))
    assert ds["eeg"].dims == ("trial", "channel", "time")
    assert_allclose(ds["eeg"].values, VALUES * 1e-6, rtol=1e-6)
    assert ds.attrs["units"] == "V"
    assert_allclose(ds["time"].values, TIME)
    assert ds["trialinfo_2"].values.tolist() == [7, 8, 9, 7]
    assert ds["trial_type"].values.tolist() == ["1", "2", "1", "2"]
    assert_allclose(ds["z"].values, [0.08, 0.095, 0.08])
    assert "onset" not in ds.coords  # no sampleinfo: nobody knows


def test_onsets_from_sampleinfo(write):
    spans = np.array([[101, 150], [301, 350], [501, 550], [701, 750]])
    ds = read_eeg(write(**struct(sampleinfo=spans)))
    assert_allclose(ds["onset"].values, (spans[:, 0] - 1) / 100 + 0.1)


def test_continuous(write):
    ds = read_eeg(write(**struct(1)))
    assert ds["eeg"].dims == ("channel", "time")
    assert_allclose(ds["eeg"].values, VALUES[0] * 1e-6, rtol=1e-6)
    assert ds.attrs["first_sample"] == -10


def test_average(write):
    content = struct(trial=None, avg=VALUES.mean(0), time=TIME[None], dof=np.full((3, 50), 4.0))
    ds = read_eeg(write("timelock", **content))
    assert ds["eeg"].dims == ("trial", "channel", "time")
    assert_allclose(ds["eeg"].values[0], VALUES.mean(0) * 1e-6, rtol=1e-6)
    assert ds["nave"].item() == 4
    assert_allclose(ds["time"].values, TIME)


def test_kept_trials_of_timelock(write):
    ds = read_eeg(write("timelock", **struct(trial=VALUES, time=TIME[None])))
    assert_allclose(ds["eeg"].values, VALUES * 1e-6, rtol=1e-6)


def test_unknown_units_are_refused_and_given(write):
    path = write(**struct(elec=None))
    with pytest.raises(SchemaError, match="units='uV'"):
        read_eeg(path)
    assert_allclose(read_eeg(path, units="uV")["eeg"].values, VALUES * 1e-6, rtol=1e-6)
    with pytest.raises(SchemaError, match="no meg"):
        read_meg(path, units="uV")


def test_the_variable_may_be_named(tmp_path):
    savemat(tmp_path / "two.mat", {"clean": struct(), "data": struct(1)})
    assert read_eeg(tmp_path / "two.mat").sizes["time"] == 50
    assert read_eeg(tmp_path / "two.mat", data_name="clean").sizes["trial"] == 4
    with pytest.raises(SchemaError, match="not a FieldTrip"):
        read_eeg(tmp_path / "two.mat", data_name="other")


def test_trials_of_different_lengths_are_refused(write):
    trials = cells([VALUES[0], VALUES[1][:, :40]])
    with pytest.raises(SchemaError, match="ft_redefinetrial"):
        read_eeg(write(**struct(2, trial=trials, time=cells([TIME[None], TIME[None, :40]]))))


def test_parts_that_do_not_fit(write):
    with pytest.raises(IntegrityError, match="do not fit"):
        read_eeg(write(**struct(2, trial=cells([VALUES[0][:2], VALUES[1][:2]]))))
    with pytest.raises(IntegrityError, match="sampling rate"):
        read_eeg(write(**struct(fsample=250.0)))


def test_tables_stay_tables(tmp_path, real_data):
    savemat(tmp_path / "table.mat", {"values": VALUES[0], "info": {"label": "x", "other": 3}})
    assert find(tmp_path / "table.mat") is None
    assert isinstance(load(tmp_path / "table.mat", dims=("channel", "time")), xr.DataArray)
    assert find(real_data("ieeg-mne-misc") / "sample_ecog.mat") is None
    with pytest.raises(ConfigError, match="read_table"):
        read_eeg(tmp_path / "table.mat")


def test_version_7_3(tmp_path):
    """HDF5 as MATLAB writes it: cells are references, text is numbers of characters, axes are reversed."""
    with h5py.File(tmp_path / "ft.mat", "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")

        def put(group: Any, name: str, value: Any, kind: str) -> Any:
            item = group.create_dataset(name, data=value)
            item.attrs["MATLAB_class"] = np.bytes_(kind)
            if kind == "char":
                item.attrs["MATLAB_int_decode"] = np.int32(2)
            return item

        def cell(group: Any, name: str, values: list[Any], kind: str, shape: tuple[int, int]) -> None:
            made = [put(refs, f"{group.name[1:].replace('/', '_')}_{name}{k}", v, kind) for k, v in enumerate(values)]
            put(group, name, np.array([m.ref for m in made], dtype=h5py.ref_dtype).reshape(shape), "cell")

        def text(word: str) -> np.ndarray:
            return np.array([[ord(c)] for c in word], dtype=np.uint16)

        data = file.create_group("data")
        data.attrs["MATLAB_class"] = np.bytes_("struct")
        cell(data, "label", [text(n) for n in LABELS], "char", (1, 3))
        cell(data, "trial", [v.T for v in VALUES], "double", (4, 1))
        cell(data, "time", [TIME[:, None]] * 4, "double", (4, 1))
        put(data, "fsample", np.array([[100.0]]), "double")
    content = (tmp_path / "ft.mat").read_bytes()
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    (tmp_path / "ft.mat").write_bytes(head.ljust(512, b"\0") + content[512:])
    assert find(tmp_path / "ft.mat") == "data"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        assert_allclose(load(tmp_path / "ft.mat", units="uV")["eeg"].values, VALUES * 1e-6, rtol=1e-6)
