"""BIDS data sets: real, and small ones written here."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import mne
import nibabel
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.loaders import read_bids
from neuroalign.loaders._entities import parse_name
from neuroalign.loaders._layout import find_recordings
from neuroalign.loaders._study import Study

NAMES = ["LA1", "LA2", "LA3", "EKG"]


def table(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(row.replace(" ", "\t") for row in rows) + "\n")
    return path


def sensors(path: Path, *, n_times: int = 1000, sfreq: float = 250.0, seed: int = 0) -> Path:
    """Write iEEG as FIF whose channels all call themselves EEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(scale=1e-4, size=(len(NAMES), n_times))
    info = mne.create_info(NAMES, sfreq, "eeg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # BIDS names are not MNE's
        mne.io.RawArray(values, info, verbose="ERROR").save(path, verbose="ERROR")
    return path


def bold(path: Path, *, value: int | None = None, shape=(3, 4, 5, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(1, 99, shape) if value is None else np.full(shape[:3], value)
    image = nibabel.Nifti1Image(values.astype(np.int16), np.diag([3.0, 3, 3, 1]))
    if value is None:
        image.header.set_zooms((3, 3, 3, 2.0))
        image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "dataset_description.json").write_text('{"Name": "t", "BIDSVersion": "1.9.0"}')
    for subject in ("01", "02"):
        folder = tmp_path / f"sub-{subject}" / "ses-a" / "ieeg"
        for run in ("1", "2"):
            stem = f"sub-{subject}_ses-a_task-see_run-{run}"
            sensors(folder / f"{stem}_ieeg.fif", seed=int(run))
            table(
                folder / f"{stem}_events.tsv",
                "onset duration trial_type stimulus_id channel",
                f"0.5 0.1 face stim-0{run} LA1",
                "2.5 n/a house stim-09 n/a",
            )
        table(
            folder / f"sub-{subject}_ses-a_task-see_channels.tsv",
            "name type units status reference",
            "LA1 SEEG V good WM1",
            "LA3 SEEG V bad WM1",
            "LA2 SEEG V good WM1",
            "EKG ECG V good n/a",
        )
        table(folder / f"sub-{subject}_ses-a_space-MNI152Lin_electrodes.tsv", "name x y z size", "LA2 -30 10 -20 5")
        system = {"iEEGCoordinateSystem": "MNI152Lin", "iEEGCoordinateUnits": "mm"}
        (folder / f"sub-{subject}_ses-a_space-MNI152Lin_coordsystem.json").write_text(json.dumps(system))
    sidecar = {"SamplingFrequency": 250, "PowerLineFrequency": 60, "RecordingDuration": 4, "iEEGReference": "scalp"}
    (tmp_path / "task-see_ieeg.json").write_text(json.dumps(sidecar))
    return tmp_path


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        yield


def test_tiny_bids_equals_mne(real_data, quiet):
    root = real_data("eeg-formats") / "tiny_bids"
    ds = read_bids(root)
    file = root / "sub-01" / "ses-eeg" / "eeg" / "sub-01_ses-eeg_task-rest_eeg.vhdr"
    raw = mne.io.read_raw_brainvision(file, verbose="ERROR")
    assert_array_equal(ds["eeg"].values, raw.get_data().astype(np.float32))
    assert ds["onset"].values.tolist() == [0.0, 0.2]
    assert ds["trial_type"].values.tolist() == ["start_experiment", "show_stimulus"]
    assert ds["value"].values.tolist() == [1, 2]
    assert ds["sample"].values.tolist() == [0, 1000]
    assert {k: ds.attrs[k] for k in ("subject", "session", "task")} == {
        "subject": "01",
        "session": "eeg",
        "task": "rest",
    }
    assert ds["subject"].values.tolist() == ["01", "01"]
    assert ds.attrs["line_freq"] == 60.0
    assert ds.attrs["coord_frame"] == "CapTrak"
    assert_allclose(ds["x"].sel(channel="Fp1").item(), -0.03741270038437644)


def test_one_run_is_a_dataset(study):
    ds = read_bids(study, subject="01", run=2)
    assert isinstance(ds, xr.Dataset)
    raw = mne.io.read_raw_fif(study / ds.attrs["bids_file"], verbose="ERROR")
    assert_array_equal(ds["ieeg"].values, raw.get_data().astype(np.float32))
    assert ds["channel_type"].values.tolist() == ["seeg", "seeg", "seeg", "ecg"]
    assert ds["bad"].values.tolist() == [False, False, True, False]
    assert ds["reference"].values.tolist() == ["WM1", "WM1", "WM1", ""]
    assert ds["shaft"].values.tolist() == ["LA", "LA", "LA", ""]
    assert ds.attrs["line_freq"] == 60.0
    assert ds["stimulus_id"].values.tolist() == ["stim-02", "stim-09"]
    assert np.isnan(ds["duration"].values[1])
    assert ds["event_channel"].values.tolist() == ["LA1", ""]  # the name belongs to the recording
    assert ds["run"].values.tolist() == ["2", "2"]


def test_positions_are_in_metres_in_their_own_frame(study):
    ds = read_bids(study, subject="01", run=1)
    assert ds.attrs["coord_frame"] == ds["ieeg"].attrs["coord_frame"] == "MNI152Lin"
    assert_allclose([ds[a].sel(channel="LA2").item() for a in "xyz"], [-0.030, 0.010, -0.020])
    assert np.isnan(ds["x"].sel(channel="LA1").item())
    with pytest.raises(SchemaError, match="MNI152Lin"):
        read_bids(study, subject="01", run=1, space="ACPC")


def test_positions_without_a_unit_are_left_out(study):
    (study / "sub-01/ses-a/ieeg/sub-01_ses-a_space-MNI152Lin_coordsystem.json").unlink()
    with pytest.warns(NeuroalignWarning, match=r"coordsystem\.json"):
        ds = read_bids(study, subject="01", run=1)
    assert np.isnan(ds["x"].values).all()


def test_several_runs_are_a_tree(study):
    tree = read_bids(study)
    names = [f"/sub-{s}/ses-a/run-{r}" for s in ("01", "02") for r in ("1", "2")]
    assert [n.path for n in tree.leaves] == names
    assert tree["sub-02/ses-a/run-1"]["ieeg"].sizes == {"channel": 4, "time": 1000}
    assert [n.path for n in read_bids(study, subject="sub-02").leaves] == names[2:]


def test_modalities_and_masks(study):
    run = study / "sub-01" / "ses-a" / "func" / "sub-01_ses-a_task-see_run-1_bold.nii.gz"
    bold(run)
    (study / "task-see_bold.json").write_text('{"RepetitionTime": 2.0}')
    table(run.with_name("sub-01_ses-a_task-see_run-1_events.tsv"), "onset duration stimulus_id", "2.0 1.0 stim-01")
    volume = read_bids(study, subject="01", modality="fmri")
    assert volume["bold"].dims == ("time", "k", "j", "i")
    assert volume["stimulus_id"].values.tolist() == ["stim-01"]
    assert volume.attrs["tr"] == 2.0
    tree = read_bids(study, subject="01", run=1)
    assert [n.path for n in tree.leaves] == ["/sub-01/ses-a/ieeg/run-1", "/sub-01/ses-a/fmri/run-1"]
    inside = study / "derivatives" / "masks" / "sub-01" / "ses-a" / "func"
    bold(inside / "sub-01_ses-a_task-see_space-T1w_desc-brain_mask.nii.gz", value=1)
    masked = read_bids(study, subject="01", modality="fmri")
    assert masked["bold"].dims == ("time", "voxel")
    assert masked.sizes["voxel"] == 60
    assert read_bids(study, subject="01", modality="fmri", mask=None)["bold"].ndim == 4


def test_inherited_repetition_time_must_agree(study):
    bold(study / "sub-01" / "ses-a" / "func" / "sub-01_ses-a_task-see_run-1_bold.nii.gz")
    (study / "task-see_bold.json").write_text('{"RepetitionTime": 0.72}')
    with pytest.raises(SchemaError, match=r"0\.72"):
        read_bids(study, subject="01", modality="fmri")


def test_simulated_data_set(tmp_path):
    simulate = pytest.importorskip("neuroalign.datasets.simulate").simulate
    simulate(tmp_path / "sim", n_subjects=1, n_images=16, n_repeats=2)
    tree = read_bids(tmp_path / "sim")
    assert len(list(tree.leaves)) == 8
    for modality, frame in (("eeg", "CapTrak"), ("ieeg", "ACPC"), ("meg", "device")):
        ds = read_bids(tmp_path / "sim", modality=modality, run=1)
        assert ds.attrs["coord_frame"] == frame
        assert np.isfinite(ds["x"].values).all()
        assert ds.sizes["event"] == 16
        assert ds["stimulus_id"].values[0].startswith("stim-")
    assert read_bids(tmp_path / "sim", modality="fmri", run=1)["bold"].dims == ("time", "voxel")


def test_query_without_an_answer(study):
    with pytest.raises(SchemaError) as caught:
        read_bids(study, subject="03")
    assert "'01', '02'" in str(caught.value)
    with pytest.raises(SchemaError, match="modality"):
        read_bids(study, modality="meg")
    with pytest.raises(ConfigError, match="modality"):
        read_bids(study, modality="EEG")
    with pytest.raises(IntegrityError):
        read_bids(study / "nowhere")


@pytest.mark.parametrize("value", ["../01", "01/..", "0 1", "01\x00", "*", "", "01_task-x", "é"])
@pytest.mark.parametrize("name", ["subject", "session", "task", "run", "space"])
def test_entities_cannot_leave_the_folder(study, name, value):
    with pytest.raises(ConfigError, match="letters and digits"):
        read_bids(study, **{name: value})


def test_unknown_entities(study):
    with pytest.raises(ConfigError, match="acquisition"):
        read_bids(study, entities={"acquire": "x"})


def test_sidecar_that_contradicts_the_file(study):
    path = study / "sub-01" / "ses-a" / "ieeg" / "sub-01_ses-a_task-see_run-1_ieeg.json"
    path.write_text('{"SamplingFrequency": 1000}')
    with pytest.raises(SchemaError, match="sampling rate"):
        read_bids(study, subject="01", run=1)
    path.write_text('{"RecordingDuration": 60}')
    with pytest.raises(IntegrityError, match="shorter than its sidecar"):
        read_bids(study, subject="01", run=1)
    path.write_text("{broken")
    with pytest.raises(SchemaError, match="not JSON"):
        read_bids(study, subject="01", run=1)


def test_events_in_milliseconds(study):
    path = study / "sub-01" / "ses-a" / "ieeg" / "sub-01_ses-a_task-see_run-1_events.tsv"
    table(path, "onset duration", "500 100", "2500 100")
    with pytest.raises(SchemaError, match="milliseconds"):
        read_bids(study, subject="01", run=1)


def test_two_sidecars_that_apply_equally(study):
    folder = study / "sub-01" / "ses-a" / "ieeg"
    (folder / "sub-01_ses-a_run-1_channels.tsv").write_text("name\ttype\tunits\nLA1\tSEEG\tV\n")
    with pytest.raises(SchemaError, match="apply equally"):
        read_bids(study, subject="01", run=1)


def test_channels_of_another_file(study):
    folder = study / "sub-01" / "ses-a" / "ieeg"
    table(folder / "sub-01_ses-a_task-see_run-1_channels.tsv", "name type units", "RH1 SEEG V")
    with pytest.raises(SchemaError, match=r"channels\.tsv"):
        read_bids(study, subject="01", run=1)


def test_names():
    assert parse_name("sub-01_task-a_desc-preproc+x_bold.nii.gz") == (
        {"sub": "01", "task": "a", "desc": "preproc+x"},
        "bold",
        ".nii.gz",
    )
    for name in ("sub-01_sub-02_eeg.edf", "sub-_eeg.edf", "bold", ".hidden", "sub-01_task-a/b_eeg.edf", "_eeg.edf"):
        parsed = parse_name(name)
        assert parsed is None or not parsed[0]


def test_split_files_count_once(tmp_path):
    for part in ("01", "02"):
        sensors(tmp_path / "sub-01" / "meg" / f"sub-01_split-{part}_meg.fif")
    assert len(find_recordings(Study(tmp_path), {}, None)) == 1
