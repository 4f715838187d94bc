"""Recordings of MNE to Datasets and back: everything that matters survives, on every real file."""

from __future__ import annotations

import warnings
from functools import partial

import mne
import numpy as np
import pytest
from mne.utils import object_diff

import neuroalign as na
from neuroalign.convert import from_mne, to_mne
from neuroalign.errors import ConfigError, NeuroalignWarning, SchemaError
from neuroalign.schema import sensors

RAWS = {
    "fif-sss": ("meg-mne-audvis", "sample_audvis_trunc_raw_sss.fif", mne.io.read_raw_fif),
    "fif-ctf": ("meg-ctf-kit-bti", "ctf/test_ctf_comp_raw.fif", mne.io.read_raw_fif),
    "fif-bti": ("meg-ctf-kit-bti", "bti/exported4D_linux_raw.fif", mne.io.read_raw_fif),
    "fif-ecog": ("ieeg-mne-misc", "sample_ecog_ieeg.fif", mne.io.read_raw_fif),
    "kit": ("meg-ctf-kit-bti", "kit/test.sqd", mne.io.read_raw_kit),
    "edf": ("eeg-formats", "test.edf", mne.io.read_raw_edf),
    "edf-stim": ("eeg-formats", "test_edf_stim_channel.edf", mne.io.read_raw_edf),
    "bdf": ("eeg-formats", "test.bdf", mne.io.read_raw_bdf),
    "brainvision": ("eeg-formats", "test.vhdr", mne.io.read_raw_brainvision),
    "seeg": ("ieeg-mne-misc", "sample_seeg.edf", mne.io.read_raw_edf),
    "ieeg": ("ieeg-naplib", "tiny_test.edf", mne.io.read_raw_edf),
    "eeglab": ("eeglab-visattention-32ch", "eeglab_data.set", mne.io.read_raw_eeglab),
}


def read_bti(path, **options):
    beside = {"config_fname": path.with_name("test_config_linux"), "head_shape_fname": path.with_name("test_hs_linux")}
    return mne.io.read_raw_bti(path, **beside, **options)


PERSYST = "persyst/sub-pt1_ses-02_task-monitor_acq-ecog_run-01_clip2.lay"
#: Formats whose readers need more than the path; they go there and back too.
OTHERS = {
    "cnt": ("eeg-formats", "scan41_short.cnt", partial(mne.io.read_raw_cnt, data_format="int16")),
    "egi": ("eeg-formats", "test_egi.raw", mne.io.read_raw_egi),
    "nihon": ("eeg-formats", "MB0400FU.EEG", mne.io.read_raw_nihon),
    "edf-plus": ("eeg-formats", "MB0400FU.EDF", mne.io.read_raw_edf),
    "persyst": (
        "ieeg-mne-misc",
        PERSYST,
        mne.io.read_raw_persyst,
    ),
    "ecog": ("ieeg-mne-misc", "sample_ecog.edf", mne.io.read_raw_edf),
    "bti": ("meg-ctf-kit-bti", "bti/test_pdf_linux", read_bti),
    "ctf": ("meg-ctf-kit-bti", "somMDYO-18av.ds", mne.io.read_raw_ctf),
    "kit-umd": ("meg-ctf-kit-bti", "kit/test_umd-raw.sqd", mne.io.read_raw_kit),
}
#: Fields that are dropped with people and dates, or for their size.
DROPPED = {
    "subject_info", "meas_date", "experimenter", "description", "proj_name", "proj_id", "file_id", "meas_id",
    "utc_offset", "helium_info", "device_info", "acq_pars", "acq_stim", "xplotter_layout", "hpi_results", "hpi_meas",
    "cross_talk", "fine_calibration", "proc_history", "ctf_head_t", "events", "gantry_angle", "maxshield",
    "kit_system_id",  # compared below by value
}  # fmt: skip


def read_mne(path, reader):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return reader(path, verbose="error")


def read_ours(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        return na.load(path)


def check_info(ours, theirs):
    names = set(ours) & set(theirs) - DROPPED
    assert {"chs", "projs", "comps", "bads", "dev_head_t", "dig", "sfreq", "lowpass", "highpass"} <= names
    for name in sorted(names - {"chs"}):
        assert object_diff(ours[name], theirs[name], allclose=True) == "", name
    assert ours.get("kit_system_id") == theirs.get("kit_system_id")
    for a, b in zip(ours["chs"], theirs["chs"], strict=True):
        for field in ("ch_name", "kind", "unit", "coil_type", "coord_frame", "loc"):
            assert object_diff(a[field], b[field], allclose=True) == "", (a["ch_name"], field)


def check_annotations(ours, theirs):
    ours, theirs, shift = ours.annotations, theirs.annotations, theirs.first_time
    assert np.allclose(ours.onset - shift, theirs.onset - shift, atol=1e-9)
    assert np.allclose(ours.duration, theirs.duration)
    assert list(ours.description) == list(theirs.description)
    assert list(ours.ch_names) == list(theirs.ch_names)


@pytest.mark.parametrize("name", [*RAWS, *OTHERS])
def test_raw_through_from_mne_and_back(real_data, name):
    folder, file, reader = (RAWS | OTHERS)[name]
    raw = read_mne(real_data(folder) / file, reader)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        ds = from_mne(raw, dtype=np.float64)
    back = to_mne(ds)
    assert back.first_samp == raw.first_samp
    assert np.array_equal(back.get_data(), raw.get_data())
    check_info(back.info, raw.info)
    check_annotations(back, raw)


@pytest.mark.parametrize("name", [n for n in RAWS if n not in ("seeg", "ieeg")])
def test_file_read_by_us_equals_file_read_by_mne(real_data, name):
    folder, file, reader = RAWS[name]
    raw = read_mne(real_data(folder) / file, reader)
    ds = read_ours(real_data(folder) / file)
    back = to_mne(ds)
    assert back.ch_names == raw.ch_names
    scale = np.abs(raw.get_data()).max(axis=1, keepdims=True) + 1e-30
    if name != "edf":  # the unit of DC channels is told by us and taken as volts by MNE
        assert np.abs((back.get_data() - raw.get_data()) / scale).max() < 1e-6
        check_info(back.info, raw.info)
    assert back.info["bads"] == raw.info["bads"]
    check_annotations(back, raw)


def test_from_mne_equals_the_loader(real_data):
    path = real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif"
    ours, theirs = na.load(path), from_mne(read_mne(path, mne.io.read_raw_fif))
    assert set(ours.coords) == set(theirs.coords)
    for name in ours.variables:
        assert ours[name].equals(theirs[name]), name
    assert ours.attrs["mne_info"] == theirs.attrs["mne_info"]


def test_averages(real_data):
    path = real_data("meg-mne-audvis") / "test-ave.fif.gz"
    evokeds = mne.read_evokeds(path, verbose="error")
    back = to_mne(from_mne(evokeds, dtype=np.float64))
    assert len(back) == len(evokeds)
    for ours, theirs in zip(back, evokeds, strict=True):
        assert (ours.comment, ours.nave, ours.kind) == (theirs.comment, theirs.nave, theirs.kind)
        assert ours.baseline == pytest.approx(theirs.baseline)
        assert np.array_equal(ours.data, theirs.data)
        assert np.allclose(ours.times, theirs.times)
        check_info(ours.info, theirs.info)
    read = to_mne(na.load(path))
    assert [e.comment for e in read] == [e.comment for e in evokeds]
    assert np.allclose(read[0].data, evokeds[0].data, rtol=1e-6, atol=1e-18)


def test_epochs(real_data):
    path = real_data("eeglab-visattention-32ch") / "eeglab_data_epochs_ica.set"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        epochs = mne.read_epochs_eeglab(path, verbose="error")
    back = to_mne(from_mne(epochs, dtype=np.float64))
    assert np.array_equal(back.get_data(), epochs.get_data())
    assert np.array_equal(back.events[:, [0, 2]], epochs.events[:, [0, 2]])
    assert back.event_id == epochs.event_id
    assert back.drop_log == epochs.drop_log
    assert np.array_equal(back.selection, epochs.selection)
    assert np.allclose(back.times, epochs.times)
    check_info(back.info, epochs.info)


def simulated_epochs():
    rng = np.random.default_rng(0)
    info = mne.create_info(["Cz", "Pz", "EOG"], 100.0, ["eeg", "eeg", "eog"], verbose="error")
    info["bads"] = ["Pz"]
    events = np.column_stack([[50, 150, 250, 350], np.zeros(4, int), [3, 5, 3, 5]])
    import pandas as pd

    metadata = pd.DataFrame({"stimulus_id": list("abca"), "trial_type": ["x", "y", "x", "y"], "age": [1.0, 2, 3, 4]})
    raw = mne.io.RawArray(rng.normal(size=(3, 500)) * 1e-6, info, verbose="error")
    epochs = mne.Epochs(
        raw, events, {"face": 3, "house": 5}, tmin=-0.2, tmax=0.5, baseline=(None, 0), metadata=metadata,
        preload=True, verbose="error",
    )  # fmt: skip
    return epochs.drop([1], reason="MUSCLE", verbose="error")


def test_epochs_with_metadata_baseline_and_drops():
    epochs = simulated_epochs()
    ds = from_mne(epochs, dtype=np.float64)
    assert ds["stimulus_id"].values.tolist() == ["a", "c", "a"]
    back = to_mne(ds)
    assert np.array_equal(back.get_data(), epochs.get_data())
    assert back.event_id == epochs.event_id
    assert back.baseline == pytest.approx(epochs.baseline)
    assert back.drop_log == epochs.drop_log
    assert back.info["bads"] == ["Pz"]
    assert set(back.metadata.columns) == set(epochs.metadata.columns)
    assert back.metadata["trial_type"].tolist() == epochs.metadata["trial_type"].tolist()


def test_our_epochs_become_epochs_of_mne(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        ds = na.load(real_data("eeglab-visattention-32ch") / "eeglab_data.set")
        trials = na.align.epochs(ds, tmin=-0.2, tmax=0.5, baseline=(None, 0), where={"trial_type": "square"}, drop=True)
    epochs = to_mne(trials)
    assert len(epochs) == trials.sizes["trial"]
    assert set(epochs.event_id) == {"square"}
    assert np.allclose(epochs.get_data(), trials["eeg"].values)
    assert epochs.baseline == pytest.approx((float(trials["time"][0]), 0.0))


def test_a_part_of_a_recording_keeps_its_clock_and_events(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        ds = na.load(real_data("eeglab-visattention-32ch") / "eeglab_data.set")
    whole = read_mne(real_data("eeglab-visattention-32ch") / "eeglab_data.set", mne.io.read_raw_eeglab)
    part = to_mne(ds.isel(time=slice(1280, 2560), channel=[3, 1]))
    expected = whole.copy().crop(10.0, 20.0, include_tmax=False).pick([whole.ch_names[3], whole.ch_names[1]])
    assert part.first_samp == 1280
    assert part.ch_names == [whole.ch_names[3], whole.ch_names[1]]
    scale = np.abs(expected.get_data()).max()
    assert np.abs(part.get_data() - expected.reorder_channels(part.ch_names).get_data()).max() < 1e-6 * scale
    inside = (whole.annotations.onset >= 10) & (whole.annotations.onset < 20)
    assert np.allclose(part.annotations.onset, whole.annotations.onset[inside])


def test_events_of_a_clock_that_does_not_start_at_zero(tmp_path):
    info = mne.create_info(["Cz"], 100.0, "eeg", verbose="error")
    raw = mne.io.RawArray(np.zeros((1, 1000)), info, first_samp=500, verbose="error")
    raw.set_annotations(mne.Annotations([1.0], [0.0], ["a"]))
    assert from_mne(raw)["onset"].item() == pytest.approx(1.0)
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    ds = na.load(tmp_path / "x_raw.fif")
    assert ds["onset"].item() == pytest.approx(1.0)
    assert mne.events_from_annotations(to_mne(ds), verbose="error")[0][0, 0] == 600


def test_an_annotation_that_lasts_into_a_part_is_cut_to_it_as_by_mne():
    info = mne.create_info(["Cz"], 100.0, "eeg", verbose="error")
    raw = mne.io.RawArray(np.zeros((1, 1000)), info, first_samp=500, verbose="error")
    spans = [(0.5, 1.0, "over"), (1.0, 2.5, "BAD_blink"), (2.0, 0.0, "at"), (0.0, 10.0, "BAD_all")]
    raw.set_annotations(mne.Annotations(*map(list, zip(*spans, strict=True))), verbose="error")
    ds = from_mne(raw)
    for start in (200, 149, 340):
        part = to_mne(ds.isel(time=slice(start, 600))).annotations
        expected = raw.copy().crop(start / 100, 6.0, include_tmax=False, verbose="error").annotations
        found, wanted = ({a["description"]: (a["onset"], a["duration"]) for a in some} for some in (part, expected))
        assert found == {name: pytest.approx(span, abs=1e-6) for name, span in wanted.items()}


def test_gaps_become_an_annotation():
    ds = sensors(np.ones((1, 100)), modality="eeg", sfreq=100, channel=["Cz"], units="V")
    valid = np.ones(100, bool)
    valid[20:30] = False
    ds["eeg"].values[:, 20:30] = np.nan
    raw = to_mne(ds.assign_coords(valid=("time", valid)))
    assert list(raw.annotations.description) == ["BAD_ACQ_SKIP"]
    assert raw.annotations.onset[0] == pytest.approx(0.2)
    assert raw.annotations.duration[0] == pytest.approx(0.1)
    assert not raw.get_data()[:, 20:30].any()
    again = from_mne(raw)
    assert np.isnan(again["eeg"].values[0, 20:30]).all()
    assert again["valid"].values.tolist() == valid.tolist()


def test_what_the_dataset_says_wins(real_data):
    ds = na.load(real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif", channels=["MEG 0111", "EEG 001"])
    ds = ds.assign_coords(bad=("channel", [True, False]), x=("channel", [0.01, 0.02])).assign_attrs(lowpass=20.0)
    raw = to_mne(ds)
    assert raw.info["bads"] == ["MEG 0111"]
    assert raw.info["lowpass"] == 20.0
    assert raw.info["chs"][1]["loc"][0] == pytest.approx(0.02)
    renamed = to_mne(ds.assign_coords(channel=["MEG 0111", "new"]))
    assert renamed.ch_names == ["MEG 0111", "new"]
    assert renamed.info["projs"] == []


@pytest.mark.parametrize("keep_phi", [False, True])
def test_a_saved_fif_opens_again(real_data, tmp_path, keep_phi):
    raw = to_mne(na.load(real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif", keep_phi=keep_phi))
    raw.save(tmp_path / "again_raw.fif", verbose="error")
    ds = na.load(tmp_path / "again_raw.fif")
    assert ds["meg"].equals(na.load(real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif")["meg"])


def test_the_accessor_and_plain_arrays():
    ds = sensors(np.ones((1, 10)), modality="eeg", sfreq=100, channel=["Cz"], units="uV")
    assert ds.neuro.to_mne().get_data()[0, 0] == pytest.approx(1e-6)
    assert ds["eeg"].neuro.to_mne().ch_names == ["Cz"]


@pytest.mark.parametrize("obj", ["raw.fif", [], 3.0])
def test_what_is_no_recording_is_refused(obj):
    with pytest.raises(ConfigError, match="Not a recording of MNE"):
        from_mne(obj)


def test_what_mne_cannot_hold_is_refused():
    ds = sensors(np.ones((1, 10)), modality="eeg", sfreq=100, channel=["Cz"], units="V")
    with pytest.raises(SchemaError, match="holes"):
        to_mne(ds.isel(time=[0, 1, 5]))
    with pytest.raises(SchemaError, match="Only sensor recordings"):
        to_mne(ds.rename(eeg="score"))
