"""Sidecars of BIDS data sets: people, events, channels, positions, inheritance, breathing; compared with MNE-BIDS."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
from pathlib import Path

import mne
import mne_bids
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.align import concat
from neuroalign.errors import (
    AlignmentError,
    ConfigError,
    IntegrityError,
    NeuroalignError,
    NeuroalignWarning,
    SchemaError,
)
from neuroalign.loaders import list_recordings, read_bids

STEM = "sub-01_task-see"


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        yield


def record(path: Path, *, sfreq: float = 100.0, names=("Cz", "Pz", "EOG1")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).normal(scale=1e-5, size=(len(names), 500))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # BIDS names are not MNE's
        mne.io.RawArray(values, mne.create_info(list(names), sfreq, "eeg"), verbose="ERROR").save(
            path, overwrite=True, verbose="ERROR"
        )
    return path


def text(path: Path, *rows: str, ends: str = "\n", mark: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((mark + ends.join(row.replace(" ", "\t") for row in rows) + ends).encode())
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "sub-01" / "eeg"
    record(folder / f"{STEM}_run-1_eeg.fif")
    record(folder / f"{STEM}_run-2_eeg.fif")
    text(
        tmp_path / "participants.tsv",
        "participant_id age handedness full_name date_of_birth",
        "sub-01 31 n/a Ann 1990-01-01",
        "sub-02 20 R Bob 2000-01-01",
        ends="\r\n",
        mark="\ufeff",
    )
    text(
        tmp_path / "sub-01" / "sub-01_scans.tsv",
        "filename acq_time quality",
        f"eeg/{STEM}_run-1_eeg.fif 2020-01-01T00:00:00 good",
        f"eeg/{STEM}_run-2_eeg.fif 2020-01-01T01:00:00 poor",
    )
    text(tmp_path / "task-see_events.tsv", "onset duration trial_type score", "1.0 0.5 face 3", "2.0 n/a house n/a")
    told = {
        "trial_type": {"Description": "What was seen", "Levels": {"face": "a face", "house": "a house"}},
        "score": {"Description": "Liking", "Units": "1"},
        "onset": "not an object",
    }
    (tmp_path / "task-see_events.json").write_text(json.dumps(told))
    return tmp_path


def test_tiny_bids_equals_mne_bids(real_data, tmp_path):
    root = tmp_path / "tiny"
    shutil.copytree(real_data("eeg-formats") / "tiny_bids", root)
    for twin in ("electrodes.tsv", "coordsystem.json"):  # MNE-BIDS takes no positions where there are two tables
        (root / "sub-01" / "ses-eeg" / "eeg" / f"sub-01_ses-eeg_{twin}").unlink()
    where = mne_bids.BIDSPath(subject="01", session="eeg", task="rest", datatype="eeg", root=root)
    raw = mne_bids.read_raw_bids(where, verbose="ERROR")
    ds = read_bids(root)
    assert ds["channel"].values.tolist() == raw.ch_names
    assert_array_equal(ds["eeg"].values, raw.get_data().astype(np.float32))
    assert ds["channel"].values[ds["bad"].values].tolist() == raw.info["bads"] == ["PO10"]
    assert ds["channel_type"].values.tolist() == raw.get_channel_types()
    positions = raw.get_montage().get_positions()["ch_pos"]
    ours = np.stack([ds[a].sel(channel=list(positions)).values for a in "xyz"], axis=1)
    assert_allclose(ours, np.array(list(positions.values())), atol=1e-7)
    assert ds.attrs["coord_frame"] == "CapTrak"
    assert_allclose(ds["onset"].values, raw.annotations.onset)
    assert ds["trial_type"].values.tolist() == [d.split("/")[0] for d in raw.annotations.description]
    assert ds["status_description"].sel(channel="PO10").item() == "continuously flat"
    assert ds["electrode_impedance"].sel(channel="Fp1").item() == 5.0
    assert ds["trial_type"].attrs["description"] == "The type, category, or name of the event."
    assert ds.attrs["participant_age"] == 29
    assert ds.attrs["session_pathology"] == "Parkinson's disease"
    assert not any("acq" in name for name in ds.attrs)
    assert read_bids(root, keep_phi=True).attrs["scan_acq_time"].startswith("2000-01-01")
    assert ds.attrs["bids_version"] == json.loads((root / "dataset_description.json").read_text())["BIDSVersion"]


def test_people(study):
    ds = read_bids(study, run=2)
    told = {k: v for k, v in ds.attrs.items() if k.split("_")[0] in ("participant", "scan", "session")}
    assert told == {"participant_age": 31, "scan_quality": "poor"}
    known = read_bids(study, run=1, keep_phi=True).attrs
    assert known["participant_full_name"] == "Ann"
    assert known["scan_acq_time"] == "2020-01-01T00:00:00"
    (study / "participants.tsv").write_text("participant_id\tage\nsub-01\t1\nsub-01\t2\n")
    with pytest.raises(SchemaError, match="names the same thing twice"):
        read_bids(study, run=1)


def test_what_events_json_says(study):
    ds = read_bids(study, run=1)
    assert ds["trial_type"].attrs["description"] == "What was seen"
    assert json.loads(ds["trial_type"].attrs["levels"]) == {"face": "a face", "house": "a house"}
    assert ds["score"].attrs == {"description": "Liking", "units": "1"}
    assert ds["score"].values[0] == 3
    assert np.isnan(ds["score"].values[1])
    assert ds["onset"].attrs == {}


def test_nearest_table_wins_and_json_is_merged(study):
    folder = study / "sub-01" / "eeg"
    text(folder / f"{STEM}_run-2_events.tsv", "onset duration trial_type", "3.0 0.5 cat")
    (study / "task-see_eeg.json").write_text('{"PowerLineFrequency": 50, "EEGReference": "Cz"}')
    (study / "sub-01" / "sub-01_eeg.json").write_text('{"PowerLineFrequency": 60}')
    (folder / f"{STEM}_run-2_eeg.json").write_text('{"EEGReference": "average"}')
    (folder / f"{STEM}_acq-other_eeg.json").write_text('{"PowerLineFrequency": 16}')
    first, second = read_bids(study, run=1), read_bids(study, run=2)
    assert first["trial_type"].values.tolist() == ["face", "house"]
    assert second["trial_type"].values.tolist() == ["cat"]
    assert first.attrs["line_freq"] == second.attrs["line_freq"] == 60
    assert set(first["reference"].values) == {"Cz"}
    assert set(second["reference"].values) == {"average"}
    assert second["trial_type"].attrs["description"] == "What was seen"


def test_channels(study):
    text(
        study / "task-see_channels.tsv",
        "name type units status status_description reference group",
        "Pz EEG uV bad flat M1 G1",
        "EOG1 EOG uV n/a n/a n/a n/a",
        "Cz EEG uV good n/a M1 G1",
        ends="\r\n",
        mark="\ufeff",
    )
    ds = read_bids(study, run=1)
    assert ds["bad"].values.tolist() == [False, True, False]
    assert ds["status_description"].values.tolist() == ["", "flat", ""]
    assert ds["reference"].values.tolist() == ["M1", "M1", ""]
    assert ds["group"].values.tolist() == ["G1", "G1", ""]
    assert ds["channel_type"].values.tolist() == ["eeg", "eeg", "eog"]


@pytest.mark.parametrize(("unit", "factor"), [("m", 1.0), ("cm", 1e-2), ("mm", 1e-3)])
def test_units_and_spaces_of_positions(study, unit, factor):
    folder = study / "sub-01" / "eeg"
    for space, x in (("MNI152Lin", 10), ("CapTrak", 20)):
        text(folder / f"sub-01_space-{space}_electrodes.tsv", "name x y z size", f"Cz {x} 0 80 4", "Pz n/a n/a n/a n/a")
        system = {"EEGCoordinateSystem": space, "EEGCoordinateUnits": unit}
        (folder / f"sub-01_space-{space}_coordsystem.json").write_text(json.dumps(system))
    with pytest.raises(SchemaError, match="several spaces"):
        read_bids(study, run=1)
    for space, x in (("MNI152Lin", 10), ("CapTrak", 20)):
        ds = read_bids(study, run=1, space=space)
        assert ds.attrs["coord_frame"] == space  # never called MNE's head
        assert_allclose([ds[a].sel(channel="Cz").item() for a in "xyz"], [x * factor, 0, 80 * factor])
        assert np.isnan(ds["x"].sel(channel="Pz").item())
        assert ds["electrode_size"].sel(channel="Cz").item() == 4


def test_samples_that_count_from_one(study):
    path = text(study / "task-see_events.tsv", "onset duration sample", "1.0 0 101", "2.5 0 251")
    with pytest.warns(NeuroalignWarning, match="count from 1"):
        ds = read_bids(study, run=1)
    assert ds["onset"].values.tolist() == [1.0, 2.5]
    text(path, "onset duration sample", "1.0 0 100", "2.5 0 250")
    assert "neuro_log" not in read_bids(study, run=1).attrs


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        (("onset duration", "1,5 0"), "comma"),
        (("onset duration", "1000 0", "2000 0"), "milliseconds"),
        (("onset duration", "1.0"), "line 2"),
        (("onset length", "1.0 2"), "'duration' is missing"),
        (("onset duration", "n/a 0"), "no onset"),
        (("onset duration", "1.234,5 0"), "not a number"),
        (("onset duration", "00:01 0"), "not a number"),
        (("onset duration", "1.0 -1"), "negative"),
    ],
)
def test_wrong_events(study, rows, word):
    text(study / "task-see_events.tsv", *rows)
    with pytest.raises(SchemaError, match=word):
        read_bids(study, run=1)


def test_runs_of_other_rates_or_people_are_not_joined(study):
    record(study / "sub-01" / "eeg" / f"{STEM}_run-2_eeg.fif", sfreq=125.0)
    tree = read_bids(study)
    runs = [node.to_dataset() for node in tree.leaves]
    with pytest.raises(AlignmentError, match="Sampling rates differ"):
        concat(runs)


def test_folder_of_4d(real_data, study):
    source = real_data("meg-ctf-kit-bti") / "bti"
    folder = study / "sub-02" / "meg" / "sub-02_task-see_meg"
    folder.mkdir(parents=True)
    for name, new in (("test_pdf_linux", "c,rfDC"), ("test_config_linux", "config"), ("test_hs_linux", "hs_file")):
        shutil.copy(source / name, folder / new)
    (study / "task-see_events.tsv").unlink()
    ds = read_bids(study, subject="02")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = mne.io.read_raw_bti(
            str(folder / "c,rfDC"), str(folder / "config"), str(folder / "hs_file"), verbose="ERROR"
        )
    assert_array_equal(ds["meg"].values, raw.get_data().astype(np.float32))
    (folder / "config").unlink()
    with pytest.raises(ConfigError, match="No reader"):
        read_bids(study, subject="02")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_sidecars_of_any_content(study, value):
    """Whatever a field holds, the recording is read or refused with a typed error."""
    names = ("SamplingFrequency", "RecordingDuration", "PowerLineFrequency", "EEGReference", "EEGChannelCount")
    (study / "task-see_eeg.json").write_text(json.dumps(dict.fromkeys(names, value)))
    (study / "task-see_events.json").write_text(json.dumps({"trial_type": value, "onset": {"Levels": value}}))
    (study / "dataset_description.json").write_text(json.dumps({"Name": value, "GeneratedBy": value}))
    for read in (read_bids, list_recordings):
        try:
            read(study, run=1)
        except NeuroalignError:
            continue


def test_numbers_of_thousands_of_digits(study):
    (study / "task-see_eeg.json").write_text('{"SamplingFrequency": 1' + "0" * 5000 + "}")
    with pytest.raises(SchemaError, match="not JSON"):
        read_bids(study, run=1)


def breathing(study: Path, rows: str, **sidecar) -> Path:
    path = study / "sub-01" / "eeg" / f"{STEM}_run-1_recording-belt_physio.tsv.gz"
    path.write_bytes(gzip.compress(rows.encode()))
    told = {"SamplingFrequency": 50.0, "StartTime": -0.41, "Columns": ["cardiac", "respiratory"]} | sidecar
    path.with_name(path.name.replace(".tsv.gz", ".json")).write_text(json.dumps(told))
    return path


def test_breathing(study):
    path = breathing(study, "1\t2\n3\tn/a\n5.5\t-6e-1\n", cardiac={"Units": "mV"}, respiratory={"Units": "furlong"})
    ds = read_bids(study, suffix="physio")
    assert ds["physio"].dims == ("time", "signal")
    assert_allclose(ds["physio"].values, [[1e-3, 2], [3e-3, np.nan], [5.5e-3, -0.6]], rtol=1e-6)
    assert ds["units"].values.tolist() == ["V", "furlong"]
    assert ds["signal"].values.tolist() == ["cardiac", "respiratory"]
    assert ds.attrs["first_sample"] == -20  # the nearest sample to -0.41 s
    assert_allclose(ds["time"].values, [-0.40, -0.38, -0.36])
    assert ds.attrs["start_time"] == -0.41
    assert ds.attrs["run"] == "1"
    assert [n.path for n in read_bids(study, suffix=["eeg", "physio"], run=1).leaves] == [
        "/sub-01/recording-none/run-1/eeg",
        "/sub-01/recording-belt/run-1/physio",
    ]
    with pytest.raises(ConfigError, match="Unknown option"):
        read_bids(study, suffix="physio", channels="x")
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(IntegrityError):
            read_bids(study, suffix="physio")
    for k in range(8 * len(whole)):  # flips in the header and in padding change nothing
        flipped = bytearray(whole)
        flipped[k // 8] ^= 1 << k % 8
        path.write_bytes(flipped)
        try:
            again = read_bids(study, suffix="physio")
        except IntegrityError:
            continue
        assert_array_equal(again["physio"], ds["physio"])


@pytest.mark.parametrize(
    ("rows", "sidecar", "word"),
    [
        ("1\t2\n3\n", {}, "not a number"),
        ("1\t2\t3\n", {}, "3 columns"),
        ("cardiac\trespiratory\n1\t2\n", {}, "not a number"),
        ("1\t2,5\n", {}, "not a number"),
        ("1\t2\n", {"Columns": ["a", "a"]}, "unique names"),
        ("1\t2\n", {"SamplingFrequency": 0}, "SamplingFrequency"),
        ("1\t2\n", {"SamplingFrequency": "50"}, "SamplingFrequency"),
        ("1\t2\n", {"StartTime": None}, "StartTime"),
        ("", {}, "not a number"),
    ],
)
def test_wrong_breathing(study, rows, sidecar, word):
    breathing(study, rows, **sidecar)
    with pytest.raises(SchemaError, match=word):
        read_bids(study, suffix="physio")
