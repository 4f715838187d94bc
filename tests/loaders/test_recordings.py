"""The table of what a BIDS data set holds."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.loaders import list_recordings, read_bids
from neuroalign.pipeline import inspect


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Names and sidecars alone: the recordings themselves cannot be read."""
    for subject in ("01", "02"):
        for kind, name in (
            ("eeg", "task-see_run-1_eeg.vhdr"),
            ("eeg", "task-see_run-1_eeg.eeg"),
            ("func", "task-see_bold.nii.gz"),
            ("func", "task-see_physio.tsv.gz"),
            ("ieeg", "task-see_ieeg.mefd"),
        ):
            path = tmp_path / f"sub-{subject}" / kind / f"sub-{subject}_{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"12345")
    sidecar = {"SamplingFrequency": 500, "RecordingDuration": 60.5, "EEGChannelCount": 30, "EOGChannelCount": 2}
    (tmp_path / "task-see_eeg.json").write_text(json.dumps(sidecar))
    (tmp_path / "task-see_bold.json").write_text('{"RepetitionTime": 0.8}')
    (tmp_path / "task-see_events.tsv").write_text("onset\tduration\n1\t1\n2\t1\n3\t1\n")
    (tmp_path / "sub-02" / "eeg" / "sub-02_channels.tsv").write_text("name\ttype\tunits\nCz\tEEG\tV\n")
    return tmp_path


def test_one_row_a_recording(study):
    table = list_recordings(study)
    assert table.columns.tolist() == [
        "subject", "session", "task", "run",
        "modality", "suffix", "file", "bytes", "sfreq", "tr", "duration", "n_channels", "n_events",
    ]  # fmt: skip
    assert len(table) == 8
    eeg = table[table["modality"] == "eeg"]
    assert eeg["n_channels"].tolist() == [32, 1]
    assert eeg["sfreq"].tolist() == [500, 500]
    assert eeg["duration"].tolist() == [60.5, 60.5]
    assert eeg["bytes"].tolist() == [10, 10]
    assert eeg["run"].tolist() == ["1", "1"]
    assert eeg["session"].tolist() == [None, None]
    bold = table[table["suffix"] == "bold"].iloc[0]
    assert (bold["tr"], bold["sfreq"], bold["n_events"]) == (0.8, 1.25, 3)
    assert np.isnan(bold["n_channels"])
    assert bold["file"] == "sub-01/func/sub-01_task-see_bold.nii.gz"
    assert table[table["suffix"] == "physio"]["n_events"].isna().all()


def test_queries(study):
    assert list_recordings(study, subject="02", modality="eeg")["file"].tolist() == [
        "sub-02/eeg/sub-02_task-see_run-1_eeg.vhdr"
    ]
    assert list_recordings(study, suffix="physio", sub=["01", "02"])["subject"].tolist() == ["01", "02"]
    with pytest.raises(SchemaError, match="acq-x"):
        list_recordings(study, acquisition="x")
    with pytest.raises(ConfigError, match="acquisition"):
        list_recordings(study, acquire="x")
    with pytest.raises(IntegrityError):
        list_recordings(study / "nowhere")


def test_content_that_was_not_fetched(study):
    path = study / "sub-01" / "func" / "sub-01_task-see_bold.nii.gz"
    path.unlink()
    path.symlink_to(study / ".git" / "annex" / "gone.nii.gz")
    table = list_recordings(study, subject="01", modality="fmri", suffix="bold")
    assert table["bytes"].isna().all()
    assert table["tr"].tolist() == [0.8]
    with pytest.raises(IntegrityError, match="datalad get"):
        read_bids(study, subject="01", modality="fmri")


def test_inspect_prints_the_table(study):
    text = inspect(study, modality="eeg")
    lines = text.splitlines()
    assert len(lines) == 3
    assert "tr" not in lines[0].split()
    assert lines[1].split()[:3] == ["01", "see", "1"]
    assert "500" in lines[1]


def test_inspect_with_options_of_a_reader(study):
    with pytest.raises(IntegrityError):  # the recording itself is read, which holds five bytes
        inspect(study, modality="fmri", subject="01", tr=2.0)


def test_real_data_set(real_data):
    root = real_data("eeg-formats") / "tiny_bids"
    row = list_recordings(root).iloc[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        ds = read_bids(root)
    assert (row["sfreq"], row["n_channels"], row["n_events"]) == (
        ds.attrs["sfreq"],
        ds.sizes["channel"],
        ds.sizes["event"],
    )
    stem = root / row["file"].removesuffix(".vhdr")
    assert row["bytes"] == sum(os.path.getsize(f"{stem}{ending}") for ending in (".vhdr", ".vmrk", ".eeg"))


def test_simulated_data_set(tmp_path):
    simulate = pytest.importorskip("neuroalign.datasets.simulate").simulate
    simulate(tmp_path / "sim", n_subjects=1, n_images=16, n_repeats=2)
    table = list_recordings(tmp_path / "sim")
    assert set(table["modality"]) == {"eeg", "ieeg", "meg", "fmri"}
    for row in table[table["run"].isin(["1", "01"])].itertuples():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NeuroalignWarning)
            ds = read_bids(tmp_path / "sim", modality=row.modality, run=row.run)
        assert row.n_events == ds.sizes["event"]
        assert row.sfreq == pytest.approx(ds.attrs["sfreq"])
