"""Derivatives in BIDS names: fMRIPrep and MNE-BIDS-pipeline, written here and real."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import mne
import nibabel
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import neuroalign as na
from neuroalign import storage
from neuroalign.errors import ConfigError, NeuroalignWarning, SchemaError
from neuroalign.loaders import list_recordings, read_bids

N = 8


def volume(path: Path, *, seed: int = 0, mask: bool = False, shift: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    values = np.ones((3, 4, 5), np.int16) if mask else rng.integers(1, 99, (3, 4, 5, N)).astype(np.int16)
    affine = np.diag([2.0, 2, 2, 1])
    affine[0, 3] = shift
    image = nibabel.Nifti1Image(values, affine)
    if not mask:
        image.header.set_zooms((2, 2, 2, 2.0))
        image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return path


def confounds(path: Path, n: int = N) -> Path:
    rng = np.random.default_rng(1)
    table = {f"{k}_{a}": rng.normal(size=n) for k in ("trans", "rot") for a in "xyz"}
    table |= {f"{name}_derivative1": np.r_[np.nan, np.diff(values)] for name, values in table.items()}
    table |= {f"{name}_power2": values**2 for name, values in table.items()}
    table |= {"a_comp_cor_00": rng.normal(size=n), "a_comp_cor_01": rng.normal(size=n), "cosine00": np.ones(n)}
    table |= {"non_steady_state_outlier00": np.eye(n)[0]}
    table |= {"framewise_displacement": np.r_[np.nan, np.full(n - 1, 0.1)], "std_dvars": np.full(n, 1.0)}
    pd.DataFrame(table).to_csv(path, sep="\t", na_rep="n/a", index=False)
    return path


def surface(path: Path, values: np.ndarray, side: str) -> Path:
    darrays = [
        nibabel.gifti.GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES", datatype="NIFTI_TYPE_FLOAT32")
        for row in values
    ]
    image = nibabel.GiftiImage(darrays=darrays)
    image.meta["AnatomicalStructurePrimary"] = f"Cortex{side}"
    image.to_filename(path)
    return path


def grayordinates(path: Path, values: np.ndarray) -> Path:
    axes = (
        nibabel.cifti2.SeriesAxis(0, 2.0, len(values)),
        nibabel.cifti2.BrainModelAxis.from_mask(np.ones(values.shape[1], bool), name="cortex_left"),
    )
    nibabel.Cifti2Image(values, axes).to_filename(path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A raw data set with an fMRIPrep derivative in three spaces; raw/derivatives/fmriprep."""
    raw = tmp_path / "raw"
    for subject in ("01", "02"):
        volume(raw / f"sub-{subject}" / "func" / f"sub-{subject}_task-see_run-1_bold.nii.gz", shift=5.0)
    (raw / "dataset_description.json").write_text('{"Name": "r", "BIDSVersion": "1.9.0"}')
    (raw / "task-see_events.tsv").write_text("onset\tduration\ttrial_type\n2.0\t1.0\tface\n6.0\t1.0\thouse\n")
    (raw / "participants.tsv").write_text("participant_id\tage\nsub-01\t31\nsub-02\t40\n")
    prep = raw / "derivatives" / "fmriprep"
    made = [{"Name": "fMRIPrep", "Version": "23.1.0"}]
    prep.mkdir(parents=True)
    text = {"Name": "p", "BIDSVersion": "1.4.0", "DatasetType": "derivative", "GeneratedBy": made, "License": "CC0"}
    (prep / "dataset_description.json").write_text(json.dumps(text))
    for subject in ("01", "02"):
        func = prep / f"sub-{subject}" / "func"
        stem = f"sub-{subject}_task-see_run-1"
        for i, space in enumerate(("", "_space-T1w", "_space-MNI152NLin2009cAsym_res-2")):
            volume(func / f"{stem}{space}_desc-preproc_bold.nii.gz", seed=i, shift=float(i))
            volume(func / f"{stem}{space}_desc-brain_mask.nii.gz", mask=True, shift=float(i))
            (func / f"{stem}{space}_desc-preproc_bold.json").write_text('{"RepetitionTime": 2.0, "StartTime": 1.0}')
        confounds(func / f"{stem}_desc-confounds_timeseries.tsv")
        rng = np.random.default_rng(7)
        for side, name in (("L", "Left"), ("R", "Right")):
            values = rng.normal(100, 1, (N, 10 if side == "L" else 12)).astype(np.float32)
            surface(func / f"{stem}_hemi-{side}_space-fsaverage5_bold.func.gii", values, name)
        grayordinates(func / f"{stem}_space-fsLR_den-91k_bold.dtseries.nii", rng.normal(100, 1, (N, 9)))
        for space in ("hemi-L_space-fsaverage5", "hemi-R_space-fsaverage5", "space-fsLR_den-91k"):
            (func / f"{stem}_{space}_bold.json").write_text('{"RepetitionTime": 2.0}')
    return raw


def test_space_mask_confounds_and_events_of_the_raw_data_set(study):
    prep = study / "derivatives" / "fmriprep"
    ds = na.load(prep, subject="01", space="MNI152NLin2009cAsym", confounds="24p+acompcor")
    file = prep / ds.attrs["bids_file"]
    assert file.name == "sub-01_task-see_run-1_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz"
    expected = nibabel.load(file).get_fdata().T.reshape(N, -1)
    assert_allclose(ds["bold"].values, expected)
    assert ds["bold"].dims == ("time", "voxel")
    assert ds.attrs["space"] == "MNI152NLin2009cAsym"
    assert ds["confounds"].dims == ("time", "confound")
    assert ds.sizes["confound"] == 24 + 2 + 1
    table = pd.read_csv(prep / "sub-01/func/sub-01_task-see_run-1_desc-confounds_timeseries.tsv", sep="\t")
    assert_allclose(ds["confounds"].sel(confound="rot_y"), table["rot_y"], rtol=1e-6)
    assert ds["sample_mask"].dtype == bool
    assert ds["sample_mask"].values.tolist() == [False] + [True] * (N - 1)
    assert ds.attrs["confound_strategy"] == "24p+acompcor"
    assert ds["trial_type"].values.tolist() == ["face", "house"]
    assert ds.attrs["participant_age"] == 31
    assert ds.attrs["bids_generated_by"] == ["fMRIPrep 23.1.0"]
    assert ds.attrs["start_time"] == 1.0


def test_result_survives_the_store(study, tmp_path):
    ds = read_bids(study / "derivatives" / "fmriprep", subject="01", space="T1w", confounds="6p+scrub")
    storage.save(ds, tmp_path / "store")
    again = storage.open(tmp_path / "store")
    xr.testing.assert_equal(again[["confounds", "bold"]].load(), ds[["confounds", "bold"]])
    assert_array_equal(again["sample_mask"], ds["sample_mask"])


def test_several_subjects_are_a_tree(study):
    tree = read_bids(study / "derivatives" / "fmriprep", subject=["01", "02"], space="T1w", confounds="6p")
    assert [n.path for n in tree.leaves] == ["/sub-01/run-1", "/sub-02/run-1"]
    assert tree["sub-02/run-1"]["confounds"].shape == (N, 6)
    assert tree["sub-02/run-1"].attrs["participant_age"] == 40


def test_native_space_and_resolution(study):
    prep = study / "derivatives" / "fmriprep"
    native = read_bids(prep, subject="01", space="none")
    assert "space" not in native.attrs
    assert read_bids(prep, subject="01", resolution="2").attrs["space"] == "MNI152NLin2009cAsym"
    with pytest.raises(SchemaError, match="MNI152NLin2009cAsym"):
        read_bids(prep, subject="01", space="MNI152NLin6Asym")


def test_masks_of_another_space_or_grid_are_refused(study):
    prep = study / "derivatives" / "fmriprep"
    folder = prep / "sub-01" / "func"
    mask = folder / "sub-01_task-see_run-1_space-T1w_desc-brain_mask.nii.gz"
    with pytest.raises(SchemaError, match="affines differ"):
        read_bids(prep, subject="01", res="2", mask=mask)
    twin = volume(folder / "sub-01_space-OTHER_label-GM_mask.nii.gz", mask=True, shift=2.0)
    with pytest.raises(SchemaError, match="OTHER"):
        read_bids(prep, subject="01", res="2", mask=twin)
    # The raw run has another grid than all masks of the derivative: none is taken.
    assert read_bids(study, subject="01")["bold"].dims == ("time", "k", "j", "i")


def test_hemispheres_are_one_recording(study):
    prep = study / "derivatives" / "fmriprep"
    ds = read_bids(prep, subject="01", space="fsaverage5", confounds="6p")
    folder = prep / "sub-01" / "func"
    sides = [
        nibabel.load(folder / f"sub-01_task-see_run-1_hemi-{s}_space-fsaverage5_bold.func.gii").agg_data() for s in "LR"
    ]
    assert ds["bold"].dims == ("time", "vertex")
    assert_allclose(ds["bold"].values, np.concatenate(sides).T)
    assert ds["hemi"].values.tolist() == ["L"] * 10 + ["R"] * 12
    assert ds.attrs["tr"] == 2.0
    assert ds["confounds"].shape == (N, 6)
    one = read_bids(prep, subject="01", space="fsaverage5", hemi="R")
    assert set(one["hemi"].values) == {"R"}


def test_grayordinates(study):
    prep = study / "derivatives" / "fmriprep"
    ds = read_bids(prep, subject="01", space="fsLR", density="91k", confounds="24p")
    file = prep / ds.attrs["bids_file"]
    assert_allclose(ds["bold"].values, nibabel.load(file).get_fdata(), rtol=1e-6)
    assert ds["bold"].dims == ("time", "grayordinate")
    assert ds["confounds"].shape == (N, 24)
    assert ds["trial_type"].values.tolist() == ["face", "house"]


def test_inherited_repetition_times_must_agree(study):
    prep = study / "derivatives" / "fmriprep"
    for path in prep.rglob("*_bold.json"):
        path.unlink()
    side = prep / "task-see_bold.json"
    for space in ("T1w", "fsaverage5", "fsLR"):
        side.write_text('{"RepetitionTime": 2.0, "SliceTiming": [0.0, 1.0]}')
        ds = read_bids(prep, subject="01", space=space)
        assert ds.attrs["tr"] == 2.0
        assert ds.attrs["slice_timing"] == [0.0, 1.0]
        side.write_text('{"RepetitionTime": 1.5}')
        if space == "fsaverage5":  # GIFTI knows no time
            assert read_bids(prep, subject="01", space=space).attrs["tr"] == 1.5
        else:
            with pytest.raises(SchemaError, match="repetition time"):
                read_bids(prep, subject="01", space=space)


def test_table_of_a_derivative(study):
    prep = study / "derivatives" / "fmriprep"
    table = list_recordings(prep, subject="01")
    assert set(table["space"]) == {None, "MNI152NLin2009cAsym", "T1w", "fsLR", "fsaverage5"}
    assert len(table) == 5
    assert set(table["tr"]) == {2.0}
    assert set(table["n_events"]) == {2.0}
    pair = table[table["space"] == "fsaverage5"].iloc[0]
    folder = prep / "sub-01" / "func"
    assert pair["bytes"] == sum(p.stat().st_size for p in folder.glob("*_hemi-*_bold.func.gii"))


def test_confounds_that_do_not_belong(study):
    prep = study / "derivatives" / "fmriprep"
    with pytest.raises(SchemaError, match="No table of confounds"):
        read_bids(study, subject="01", confounds="6p")
    table = confounds(prep / "sub-01/func/sub-01_task-see_run-1_desc-confounds_timeseries.tsv", n=N + 1)
    with pytest.raises(SchemaError, match=f"{N + 1} rows"):
        read_bids(prep, subject="01", space="T1w", confounds="6p")
    table.unlink()
    confounds(table.with_name("sub-01_task-see_run-1_desc-confounds_regressors.tsv"))
    assert read_bids(prep, subject="01", space="T1w", confounds="6p").sizes["confound"] == 6
    with pytest.raises(ConfigError, match="strategy"):
        read_bids(prep, subject="01", space="T1w", confounds={"n_compcor": 5})


def test_real_derivative_without_folders(real_data):
    folder = real_data("fmriprep-visualcontrol")
    with pytest.raises(SchemaError, match="tr="):
        na.load(folder)
    ds = na.load(folder, tr=1.0, confounds="6p+acompcor+scrub")
    file = folder / "sub-01_task-visualcontrol_space-T1w_desc-preproc_bold.nii.gz"
    assert_array_equal(ds["bold"].values, nibabel.load(file).get_fdata(dtype=np.float32).T)
    assert ds["confounds"].shape == (250, 6 + 6 + 2)
    table = pd.read_csv(folder / "sub-01_task-visualcontrol_desc-confounds_regressors.tsv", sep="\t")
    assert_allclose(ds["confounds"].sel(confound="trans_y"), table["Y"], rtol=1e-6)
    assert not ds["sample_mask"].values[0]
    assert ds["onset"].values[1] == 10.0143
    assert ds["event_event"].values[:2].tolist() == ["Fixation cross", "Checkerboard"]
    assert ds.attrs["subject"] == "01"


def test_events_for_files_without_folders(real_data, tmp_path):
    folder = real_data("fmriprep-visualcontrol")
    flat = tmp_path / "flat"
    shutil.copytree(folder, flat, ignore=shutil.ignore_patterns("*events*"))
    assert "onset" not in na.load(flat, tr=1.0).coords
    func = tmp_path / "raw" / "sub-01" / "func"
    func.mkdir(parents=True)
    shutil.copy(next(folder.glob("*events.tsv")), func / "sub-01_task-visualcontrol_events.tsv")
    assert na.load(flat, tr=1.0, raw=tmp_path / "raw").sizes["event"] == 13


def test_layout_of_openfmri_is_refused_with_a_remedy(real_data):
    with pytest.raises(SchemaError, match=r"OpenfMRI(.|\n)*tr="):
        na.load(real_data("haxby2001-pymvpa") / "haxby2001")


@pytest.fixture
def processed(tmp_path: Path) -> Path:
    """Files as MNE-BIDS-pipeline writes them."""
    root = tmp_path / "derivatives" / "mne-bids-pipeline"
    folder = root / "sub-01" / "ses-a" / "eeg"
    folder.mkdir(parents=True)
    made = [{"Name": "MNE-BIDS-Pipeline", "Version": "1.9.0"}]
    (root / "dataset_description.json").write_text(json.dumps({"Name": "d", "GeneratedBy": made}))
    rng = np.random.default_rng(0)
    info = mne.create_info(["Cz", "Pz", "Oz"], 100.0, "eeg")
    stem = folder / "sub-01_ses-a_task-see"
    for proc in ("filt", "clean"):
        raw = mne.io.RawArray(rng.normal(scale=1e-5, size=(3, 1000)), info, verbose="ERROR")
        raw.set_annotations(mne.Annotations([1.0, 5.0], [0.0, 0.0], ["face", "house"]))
        raw.save(f"{stem}_proc-{proc}_raw.fif", verbose="ERROR")
    events = np.column_stack([np.arange(100, 900, 100), np.zeros(8, int), np.tile([1, 2], 4)])
    epochs = mne.Epochs(raw, events, {"face": 1, "house": 2}, tmin=-0.1, tmax=0.3, baseline=None, verbose="ERROR")
    epochs.save(f"{stem}_epo.fif", verbose="ERROR")
    epochs.drop([0], verbose="ERROR").save(f"{stem}_proc-clean_epo.fif", verbose="ERROR")
    mne.write_evokeds(f"{stem}_ave.fif", [epochs[k].average() for k in ("face", "house")], verbose="ERROR")
    return root


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        yield


def test_recordings_of_the_pipeline(processed, quiet):
    clean = read_bids(processed, processing="clean")
    file = processed / clean.attrs["bids_file"]
    assert file.name == "sub-01_ses-a_task-see_proc-clean_raw.fif"
    expected = mne.io.read_raw_fif(file, verbose="ERROR").get_data()
    assert_array_equal(clean["eeg"].values, expected.astype(np.float32))
    assert clean["trial_type"].values.tolist() == ["face", "house"]
    assert clean.attrs["bids_generated_by"] == ["MNE-BIDS-Pipeline 1.9.0"]
    assert [n.path for n in read_bids(processed).leaves] == ["/sub-01/ses-a/proc-clean", "/sub-01/ses-a/proc-filt"]


def test_epochs_and_averages_of_the_pipeline(processed, quiet):
    epochs = read_bids(processed, suffix="epo", entities={"processing": "clean"})
    expected = mne.read_epochs(processed / epochs.attrs["bids_file"], verbose="ERROR")
    assert epochs["eeg"].dims == ("trial", "channel", "time")
    assert_array_equal(epochs["eeg"].values, expected.get_data().astype(np.float32))
    assert epochs.attrs["session"] == "a"
    assert read_bids(processed, suffix="epo", proc="none").sizes["trial"] == 8
    averages = read_bids(processed, suffix="ave")
    assert averages.sizes["trial"] == 2
    tree = read_bids(processed, suffix=["raw", "ave"], processing=["none", "clean"])
    assert [n.path for n in tree.leaves] == ["/sub-01/ses-a/proc-none/ave", "/sub-01/ses-a/proc-clean/raw"]


def test_only_epochs(processed):
    for path in processed.rglob("*_raw.fif"):
        path.unlink()
    with pytest.raises(SchemaError, match="suffix='ave'"):
        read_bids(processed)
    with pytest.raises(ConfigError, match="epo"):
        read_bids(processed, suffix="epochs")
    with pytest.raises(ConfigError, match="Only fMRI"):
        read_bids(processed, suffix="epo", confounds="6p")
