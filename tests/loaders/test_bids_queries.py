"""Queries of BIDS data sets: several values, parts of a data set, wrong names, links."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError, SchemaError
from neuroalign.loaders import read_bids
from neuroalign.loaders._entities import ENTITIES, check_query, parse_name
from neuroalign.loaders._layout import find_recordings, is_bids, open_study
from neuroalign.loaders._study import Study, check_link

FILES = [
    f"sub-{subject}/ses-{session}/eeg/sub-{subject}_ses-{session}_task-{task}_run-{run}_eeg.edf"
    for subject in ("01", "02")
    for session in ("a", "b")
    for task in ("rest", "see")
    for run in ("1", "2")
]


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return touch(tmp_path_factory.mktemp("bids"), *FILES)


def find(root: Path, suffix=None, modality=None, **query):
    return [r.path.relative_to(root).as_posix() for r in find_recordings(Study(root), query, modality, suffix)]


def test_several_values(root):
    assert find(root) == FILES
    assert find(root, subject=["01", "sub-02"], session="a", task=("rest",), run=[1, "02"]) == [
        f for f in FILES if "ses-a" in f and "rest" in f
    ]
    assert find(root, sub="02", ses="b", task="see", run=1) == [FILES[-2]]
    with pytest.raises(SchemaError, match=r"lacks(.|\n)*sub-09"):
        find(root, subject=["01", "09"])
    with pytest.raises(ConfigError, match="twice"):
        find(root, subject="01", sub="01")
    with pytest.raises(ConfigError, match="No value"):
        find(root, subject=[])


def test_numbers_mean_what_is_written_first(tmp_path):
    touch(tmp_path, *(f"sub-{s}/eeg/sub-{s}_eeg.edf" for s in ("1", "01", "x2")))
    assert find(tmp_path, subject="1") == ["sub-1/eeg/sub-1_eeg.edf"]
    assert find(tmp_path, subject="01") == ["sub-01/eeg/sub-01_eeg.edf"]
    assert len(find(tmp_path, subject="001")) == 2


def test_files_without_an_entity(tmp_path):
    touch(tmp_path, "sub-1/eeg/sub-1_task-a_eeg.edf", "sub-1/eeg/sub-1_task-a_acq-x_eeg.edf")
    assert find(tmp_path, acquisition="none") == ["sub-1/eeg/sub-1_task-a_eeg.edf"]
    assert len(find(tmp_path, acq=["none", "x"])) == 2


def test_entities_are_options_too(root, tmp_path):
    with pytest.raises(SchemaError, match="acq-x"):
        read_bids(root, acquisition="x")
    with pytest.raises(SchemaError, match="desc-y"):
        read_bids(root, desc="y")


def test_parts_of_a_data_set(root):
    for part in ("sub-01", "sub-01/ses-a", "sub-01/ses-a/eeg"):
        assert is_bids(root / part)
        study = open_study(root / part)
        assert study.root == root
        found = [r.path.relative_to(root).as_posix() for r in find_recordings(study, {}, None)]
        assert found == [f for f in FILES if f.startswith(part)]
    other = touch(root.parent / "sub-01" / "eeg", "manifest.json")
    assert not is_bids(other)  # a store that happens to be called so
    assert not is_bids(other.parent)


def test_files_without_folders(tmp_path):
    touch(tmp_path, "sub-1_task-a_eeg.edf", "sub-1_task-a_space-T1w_bold.nii.gz", "sub-1_events.tsv")
    assert is_bids(tmp_path)
    assert len(find(tmp_path)) == 2
    assert find(tmp_path, modality="fmri") == ["sub-1_task-a_space-T1w_bold.nii.gz"]


def test_a_file_in_the_folder_of_another_subject(tmp_path):
    touch(tmp_path, "sub-01/ses-a/eeg/sub-01_ses-a_eeg.edf", "sub-01/ses-a/eeg/sub-02_ses-a_eeg.edf")
    for query in ({}, {"subject": "01"}, {"subject": "02"}):
        with pytest.raises(SchemaError, match="different recordings"):
            find(tmp_path, **query)
    touch(tmp_path, "sub-03/ses-a/eeg/sub-03_ses-b_eeg.edf", "sub-04/ses-a/eeg/sub-04_ses-a_eeg.edf")
    with pytest.raises(SchemaError, match="ses-a"):
        find(tmp_path, subject="03")
    assert len(find(tmp_path, subject="04")) == 1


def test_formats_that_no_reader_knows(tmp_path):
    touch(tmp_path, "sub-1/nirs/sub-1_task-a_nirs.snirf", "sub-1/nirs/sub-1_task-a_nirs.json")
    with pytest.raises(SchemaError, match=r"near-infrared(.|\n)*snirf"):
        find(tmp_path)
    touch(tmp_path, "sub-1/ieeg/sub-1_ieeg.mefd", "sub-1/eeg/sub-1_eeg.edf")
    with pytest.raises(ConfigError, match=r"sub-1_ieeg\.mefd"):
        find(tmp_path)
    assert find(tmp_path, modality="eeg") == ["sub-1/eeg/sub-1_eeg.edf"]


def test_files_that_are_no_recordings(tmp_path):
    touch(
        tmp_path,
        "sub-1/meg/sub-1_acq-crosstalk_meg.fif",
        "sub-1/meg/sub-1_acq-calibration_meg.dat",
        "sub-1/meg/sub-1_task-a_split-02_meg.fif",
        "sub-1/meg/sub-1_task-a_meg.json",
        "sub-1/eeg/sub-1_task-a_eeg.vmrk",
        "sub-1/eeg/sub-1_task-a_eeg.eeg",
        "sub-1/func/sub-1_task-a_sbref.nii.gz",
        "sub-1/anat/sub-1_T1w.nii.gz",
        "sub-1/func/task-a_bold.nii.gz",
    )
    with pytest.raises(SchemaError, match="no recordings at all"):
        find(tmp_path)


def test_links_inside_and_outside(tmp_path):
    root = touch(tmp_path / "set", "sub-1/eeg/sub-1_task-a_eeg.edf", ".git/annex/objects/x/y.edf")
    secret = touch(tmp_path, "elsewhere/secret.edf") / "elsewhere" / "secret.edf"
    (root / "sub-1/eeg/sub-1_task-b_eeg.edf").symlink_to("../../.git/annex/objects/x/y.edf")
    assert len(find(root)) == 2
    # A derivative is its own root; the annex lies above it.
    inner = root / "derivatives" / "prep"
    (inner / "sub-1" / "eeg").mkdir(parents=True)
    (inner / "sub-1/eeg/sub-1_task-b_eeg.edf").symlink_to(root / ".git/annex/objects/x/y.edf")
    (inner / "sub-1/eeg/sub-1_task-a_eeg.edf").symlink_to(root / "sub-1/eeg/sub-1_task-a_eeg.edf")
    assert len(find_recordings(open_study(inner), {}, None)) == 2
    link = root / "sub-1/eeg/sub-1_task-c_eeg.edf"
    link.symlink_to(secret)
    with pytest.raises(IntegrityError, match=r"out of the data set(.|\n)*follow_links"):
        find(root)
    assert check_link(Study(root, follow_links=True), link) == link
    link.unlink()
    link.symlink_to("../../.git/annex/objects/x/gone.edf")
    with pytest.raises(IntegrityError, match="datalad get"):
        find(root, task="c")
    assert len(find(root, task=["a", "b"])) == 2


def test_linked_sidecars_stay_inside_too(tmp_path):
    root = touch(tmp_path / "set", "sub-1/eeg/sub-1_task-a_eeg.edf")
    (tmp_path / "out.json").write_text('{"SamplingFrequency": 1}')
    (root / "task-a_eeg.json").symlink_to(tmp_path / "out.json")
    with pytest.raises(IntegrityError, match="out of the data set"):
        read_bids(root)


@given(st.sampled_from([*ENTITIES, *ENTITIES.values()]), st.text(max_size=12))
def test_queries_hold_letters_and_digits_alone(name, value):
    key = ENTITIES.get(name, name)
    plain = value.removeprefix(f"{key}-")
    good = plain != "" and set(plain) <= set(string.ascii_letters + string.digits)
    try:
        assert check_query({name: value}) == {key: (plain,)}
        assert good
    except ConfigError:
        assert not good


@given(
    st.text(max_size=12) | st.sampled_from(["../../x", "..", "/etc", "01/../02", "a:b", "C:\\x", "01\x00", "~", "*"])
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_query_reaches_outside(root, value):
    """Whatever is asked for, a typed error comes, or files below the root with this very entity."""
    for name in ("subject", "session", "task", "run", "space"):
        try:
            found = find_recordings(Study(root), {name: value}, None)
        except NeuroalignError:
            continue
        assert all(r.path.resolve().is_relative_to(root.resolve()) for r in found)
        assert all(value.removeprefix("sub-") in r.path.name or value.isdecimal() or value == "none" for r in found)


@given(st.text(max_size=40))
def test_any_name_is_parsed_or_not(name):
    parsed = parse_name(name)
    if parsed is not None:
        entities, suffix, extension = parsed
        again = "_".join([*(f"{k}-{v}" for k, v in entities.items()), suffix]) + extension
        assert again in (name, name.replace("_desc-events", "_events"))
