"""load: the right reader for each path, and errors that help."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neuroalign import schema, storage
from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders.load import load

RealData = Callable[[str], Path]


@pytest.mark.parametrize(
    ("folder", "name", "variable"),
    [
        ("eeg-formats", "test.edf", "eeg"),
        ("eeg-formats", "test.bdf", "eeg"),
        ("eeglab-visattention-32ch", "eeglab_data.set", "eeg"),
        ("ieeg-mne-misc", "sample_ecog_ieeg.fif", "ieeg"),
        ("meg-mne-audvis", "sample_audvis_trunc_raw_sss.fif", "meg"),
        ("meg-mne-audvis", "fieldtrip_epoched_v7.mat", "meg"),
        ("meg-mne-audvis", "sample_audvis_trunc-meg-lh.stc", "source"),
        ("meg-ctf-kit-bti", "bti/test_pdf_linux", "meg"),
        ("haxby2001-pymvpa", "bold.nii.gz", "bold"),
        ("haxby2001-pymvpa", "mask.nii.gz", "map"),
    ],
)
def test_real_files_find_their_reader(real_data: RealData, folder: str, name: str, variable: str) -> None:
    assert variable in load(real_data(folder) / name).data_vars


def test_modality_may_be_given(real_data: RealData) -> None:
    assert (
        "ieeg" in load(real_data("ieeg-mne-misc") / "sample_seeg.edf", modality="ieeg", channel_type="seeg").data_vars
    )
    with pytest.raises(ConfigError, match="another modality"):
        load(real_data("haxby2001-pymvpa") / "bold.nii.gz", modality="eeg")
    with pytest.raises(ConfigError, match="another modality"):
        load(real_data("eeg-formats") / "test.edf", modality="fmri")


def test_modality_stands_in_a_bids_name(real_data: RealData, tmp_path: Path) -> None:
    (tmp_path / "sub-01_task-rest_ieeg.edf").symlink_to(real_data("ieeg-mne-misc") / "sample_seeg.edf")
    assert "ieeg" in load(tmp_path / "sub-01_task-rest_ieeg.edf", channel_type="seeg").data_vars


def test_options_go_to_the_reader(real_data: RealData) -> None:
    folder = real_data("haxby2001-pymvpa")
    ds = load(folder / "bold.nii.gz", mask=folder / "mask.nii.gz", lazy=False)
    assert ds["bold"].dims == ("time", "voxel")
    with pytest.raises(ConfigError, match="did you mean mask="):
        load(folder / "bold.nii.gz", msk=folder / "mask.nii.gz")
    with pytest.raises(ConfigError, match="no option 'subject'"):
        load(folder / "bold.nii.gz", subject="01")


def test_tables_stores_and_stimuli(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3))
    assert load(tmp_path / "x.npy", dims=("stimulus", "unit")).dims == ("stimulus", "unit")
    x = schema.features(np.eye(3), stimulus=["a", "b", "c"])
    storage.save(x, tmp_path / "store")
    assert load(tmp_path / "store").identical(x)
    xr.Dataset({"x": ("unit", np.ones(3))}).to_zarr(tmp_path / "plain.zarr", consolidated=False)
    assert "x" in load(tmp_path / "plain.zarr")
    folder = tmp_path / "stimuli"
    folder.mkdir()
    (folder / "stimuli.tsv").write_text("stimulus_id\ttext\nhello\tHello!\n")
    assert load(folder)["stimulus"].values.tolist() == ["hello"]
    assert load(folder / "stimuli.tsv")["stimulus"].values.tolist() == ["hello"]


def test_a_bids_root_is_found(real_data: RealData) -> None:
    root = real_data("eeg-formats") / "tiny_bids"
    with pytest.warns(UserWarning, match="RMS"):
        found = load(root, modality="eeg")
    assert isinstance(found, xr.Dataset | xr.DataTree)


def test_near_names_are_offered(tmp_path: Path) -> None:
    for name in ("sub-01_task-rest_eeg.vhdr", "sub-01_task-rest_eeg.vmrk", "other.txt"):
        (tmp_path / name).touch()
    with pytest.raises(IntegrityError, match="did you mean sub-01_task-rest_eeg"):
        load(tmp_path / "sub-01_task-rst_eeg.vhdr")
    with pytest.raises(IntegrityError, match="does not exist either"):
        load(tmp_path / "nowhere" / "x.edf")


def test_unknown_things_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.xyz").touch()
    with pytest.raises(ConfigError, match=r"\.vhdr .* \.nii\.gz"):
        load(tmp_path / "x.xyz")
    (tmp_path / "x.edff").touch()
    with pytest.raises(ConfigError, match=r"is it a \.edf file"):
        load(tmp_path / "x.edff")
    with pytest.raises(ConfigError, match="nothing that can be read"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="Unknown modality"):
        load(tmp_path, modality="EEG")
    for several in ([tmp_path / "x.xyz"], None, 3):
        with pytest.raises(ConfigError, match="the path of one file or folder"):
            load(several)  # type: ignore[arg-type]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    with pytest.raises(ConfigError, match="load_model"):
        load(tmp_path / "model")


def test_misspelt_options_and_lost_companions_say_what_to_do(real_data: RealData, tmp_path: Path) -> None:
    edf = real_data("eeg-formats") / "test.edf"
    for wrong, meant in (("unit", "units"), ("channel", "channels"), ("stim_chanel", "stim_channel")):
        with pytest.raises(ConfigError, match=rf"did you mean {meant}=\?"):
            load(edf, **{wrong: "uV"})
    shutil.copy(real_data("eeglab-visattention-32ch") / "eeglab_data.set", tmp_path)
    with pytest.raises(IntegrityError, match="keep all files of the recording together"):
        load(tmp_path / "eeglab_data.set")


def test_fif_files_without_a_recording(real_data: RealData) -> None:
    for name in ("small-src.fif.gz", "sample_audvis_trunc-trans.fif"):
        with pytest.raises(SchemaError, match="holds no recording"):
            load(real_data("meg-mne-audvis") / name)
