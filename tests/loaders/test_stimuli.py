"""Stimulus tables."""

from __future__ import annotations

import contextlib
import hashlib
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from scipy.io import wavfile

from neuroalign import align, loaders
from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders import read_stimuli
from neuroalign.loaders.stimuli import name_stimuli
from neuroalign.schema import features


def picture(path: Path, seed: int, size=(8, 6), mode: str = "RGB") -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate(["cat", "ape", "dog"]):
        picture(tmp_path / f"{name}.png", k)
    return tmp_path


def test_folder_of_images(folder):
    ds = read_stimuli(folder)
    assert ds["stimulus"].values.tolist() == ["ape", "cat", "dog"]
    assert ds["image"].dims == ("stimulus", "row", "column", "rgb")
    assert ds["image"].dtype == np.uint8
    assert ds["image"].shape == (3, 6, 8, 3)
    for k, name in enumerate(["cat", "ape", "dog"]):
        assert_array_equal(ds["image"].sel(stimulus=name).values, picture(folder / "other.png", k))
        digest = hashlib.sha256((folder / f"{name}.png").read_bytes()).hexdigest()
        assert ds["sha256"].sel(stimulus=name).item() == digest
    whole = read_stimuli(folder)["image"].sel(stimulus=["ape", "cat", "dog"]).values
    lazy = read_stimuli(folder)["image"]
    assert_array_equal(lazy[[2, 0], 1:3, 5].values, lazy.values[[2, 0], 1:3, 5])
    assert whole.shape[0] == 3


def test_table_with_ids(folder):
    (folder / "stimuli.tsv").write_text("stimulus_id\tpath\tcategory\n7\tdog.png\tanimal\n3\tcat.png\tn/a\n")
    ds = read_stimuli(folder)
    assert ds["stimulus"].values.tolist() == ["7", "3"]
    assert ds["category"].values.tolist() == ["animal", ""]
    assert ds["modality"].values.tolist() == ["image", "image"]
    assert_array_equal(ds["image"].sel(stimulus="3").values, picture(folder / "other.png", 0))
    assert read_stimuli(folder / "stimuli.tsv").equals(ds)


def test_names_of_files_as_in_bids(folder):
    (folder / "stimuli.tsv").write_text("stimulus_id\tfilename\na\tdog.png\n")
    assert read_stimuli(folder)["image"].sizes["stimulus"] == 1


def test_words_have_no_files(tmp_path):
    (tmp_path / "words.tsv").write_text("stimulus_id\ttext\nw1\tone\nw2\ttwo\n")
    ds = read_stimuli(tmp_path / "words.tsv")
    assert ds["text"].values.tolist() == ["one", "two"]
    assert "image" not in ds


def test_images_of_two_sizes_stay_a_table(folder):
    picture(folder / "elk.png", 9, size=(4, 4))
    assert "image" not in read_stimuli(folder)


def test_grey_and_palette_images_become_rgb(tmp_path):
    picture(tmp_path / "a.png", 0, mode="L")
    picture(tmp_path / "b.png", 1, mode="P")
    assert read_stimuli(tmp_path)["image"].values.shape == (2, 6, 8, 3)


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ("stimulus_id\tpath\na\tcat.png\na\tdog.png\n", "repeat"),
        ("stimulus_id\tpath\nn/a\tcat.png\n", "no id"),
        ("stimulus_id\tpath\na\t../cat.png\n", "leads out"),
        ("stimulus_id\tpath\na\t/etc/passwd\n", "leads out"),
        ("stimulus_id\tpath\n", "no stimuli"),
        ("name\tpath\na\tcat.png\n", "stimulus_id"),
    ],
)
def test_bad_tables(folder, rows, word):
    (folder / "stimuli.tsv").write_text(rows)
    with pytest.raises(SchemaError, match=word):
        read_stimuli(folder)


def test_missing_changed_and_broken_files(folder, tmp_path):
    (folder / "stimuli.tsv").write_text("stimulus_id\tpath\na\tnone.png\n")
    with pytest.raises(IntegrityError, match="missing"):
        read_stimuli(folder)
    (folder / "stimuli.tsv").write_text(f"stimulus_id\tpath\tsha256\na\tcat.png\t{'0' * 64}\n")
    with pytest.raises(IntegrityError, match="not the file"):
        read_stimuli(folder)
    (folder / "stimuli.tsv").unlink()
    data = (folder / "cat.png").read_bytes()
    (folder / "cat.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_stimuli(folder)["image"].values  # noqa: B018
    (folder / "cat.png").write_bytes(b"not an image")
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_stimuli(folder)


def test_empty_folder(tmp_path):
    with pytest.raises(SchemaError, match="No stimuli"):
        read_stimuli(tmp_path)


def test_real_images(real_data):
    images = next(p.parent for p in sorted(real_data("net2brain-78images-fmri").rglob("*.jpg")))
    ds = read_stimuli(images)
    assert ds.sizes["stimulus"] == 78
    assert "image" not in ds  # of many sizes
    digest = hashlib.sha256((images / ds["path"].values[5]).read_bytes()).hexdigest()
    assert ds["sha256"].values[5] == digest


def test_images_of_two_sizes_say_so_and_can_be_brought_to_one(folder):
    picture(folder / "elk.png", 9, size=(40, 20))
    ds = read_stimuli(folder)
    assert ds["width"].sel(stimulus=["elk", "cat"]).values.tolist() == [40, 8]
    assert ds["height"].sel(stimulus=["elk", "cat"]).values.tolist() == [20, 6]
    image = read_stimuli(folder, size=(10, 10))["image"]
    assert image.shape == (4, 10, 10, 3)
    assert not image.variable._in_memory
    with Image.open(folder / "elk.png") as elk:  # scaled to 20 x 10, and 5 columns cut off at each side
        expected = np.asarray(elk.resize((10, 10), Image.Resampling.BICUBIC, box=(10, 0, 30, 20)))
    assert_array_equal(image.sel(stimulus="elk").values, expected)
    same = read_stimuli(folder, size=(6, 8))["image"]
    assert_array_equal(same.sel(stimulus="cat").values, picture(folder / "other.png", 0))
    for size in [(0, 3), (2.5, 3), (3,)]:
        with pytest.raises(ConfigError, match="size"):
            read_stimuli(folder, size=size)


def test_folders_in_the_folder_are_part_of_the_ids(folder):
    (folder / "faces").mkdir()
    (folder / ".hidden").mkdir()
    picture(folder / "faces" / "anna.png", 3)
    picture(folder / ".hidden" / "eve.png", 3)
    assert read_stimuli(folder)["stimulus"].values.tolist() == ["ape", "cat", "dog", "faces/anna"]
    picture(folder / "cat.jpg", 3)
    with pytest.raises(SchemaError, match="repeat"):
        read_stimuli(folder)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.float32])
def test_sounds(tmp_path, dtype):
    wavfile.write(tmp_path / "mono.wav", 8000, np.zeros(2000, dtype))
    wavfile.write(tmp_path / "stereo.wav", 44100, np.zeros((4410, 2), dtype))
    (tmp_path / "packed.mp3").write_bytes(b"ID3 not decoded")
    ds = read_stimuli(tmp_path)
    assert ds["modality"].values.tolist() == ["audio"] * 3
    assert ds["duration"].sel(stimulus=["mono", "stereo"]).values.tolist() == [0.25, 0.1]
    assert ds["sfreq"].sel(stimulus=["mono", "stereo"]).values.tolist() == [8000, 44100]
    assert ds["n_channels"].sel(stimulus=["mono", "stereo"]).values.tolist() == [1, 2]
    assert np.isnan(ds["duration"].sel(stimulus="packed"))
    with pytest.raises(ConfigError, match="Only images"):
        read_stimuli(tmp_path, size=(3, 3))


def test_sounds_of_24_bits(tmp_path):
    with wave.open(str(tmp_path / "deep.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(48000)
        file.writeframes(bytes(3 * 4800))
    assert read_stimuli(tmp_path)["duration"].item() == 0.1


@pytest.mark.parametrize("at", [0, 3, 11, 20, 30, 43, 44, 100, 2000])
def test_cut_sounds_are_refused(tmp_path, at):
    wavfile.write(tmp_path / "a.wav", 8000, np.arange(2000, dtype=np.int16))
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:at])
    with pytest.raises(IntegrityError, match="sound cannot be read"):
        read_stimuli(tmp_path)


def test_texts_and_films(tmp_path):
    (tmp_path / "one.txt").write_text("A sentence.\n")
    (tmp_path / "film.mp4").write_bytes(b"frames")
    ds = read_stimuli(tmp_path)
    assert ds["text"].values.tolist() == ["", "A sentence."]
    assert ds["modality"].values.tolist() == ["video", "text"]
    assert ds["sha256"].sel(stimulus="film").item() == hashlib.sha256(b"frames").hexdigest()


def test_columns_of_the_table_stay(tmp_path):
    wavfile.write(tmp_path / "a.wav", 8000, np.zeros(800, np.int16))
    (tmp_path / "stimuli.tsv").write_text("stimulus_id\tpath\tduration\nx\ta.wav\t0.09\n")
    ds = read_stimuli(tmp_path)
    assert ds["duration"].item() == 0.09
    assert ds["sfreq"].item() == 8000


def test_events_name_their_stimuli(tmp_path):
    events = pd.DataFrame({"onset": [1.0, 2.0, 3.0], "stim_file": ["faces/anna.png", None, "/stimuli/cat.png"]})
    named = name_stimuli(events, tmp_path)
    assert named["stimulus_id"].tolist() == ["faces/anna", None, "cat"]
    (tmp_path / "stimuli.tsv").write_text("stimulus_id\tfilename\n01\tfaces/anna.png\n02\tcat.png\n")
    assert name_stimuli(events, tmp_path)["stimulus_id"].tolist() == ["01", None, "02"]
    assert name_stimuli(named, tmp_path)["stimulus_id"].tolist() == ["faces/anna", None, "cat"]
    assert name_stimuli(events.assign(stim_id=["7", None, "8"]), tmp_path)["stimulus_id"].tolist() == ["7", None, "8"]
    assert "stimulus_id" not in name_stimuli(events[["onset"]], tmp_path)
    with pytest.raises(SchemaError, match=r"table of stimuli lacks[\s\S]*emu.png"):
        name_stimuli(events.assign(stim_file="emu.png"), tmp_path)


def test_bids_events_join_the_stimuli(tmp_path):
    """From a data set without ids, through trials, to features by stimulus and columns of the table."""
    mne = pytest.importorskip("mne")
    root = tmp_path / "study"
    (root / "sub-01" / "eeg").mkdir(parents=True)
    (root / "stimuli" / "faces").mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    for k, name in enumerate(["faces/anna", "cat"]):
        picture(root / "stimuli" / f"{name}.png", k)
    info = mne.create_info(["Cz"], 100.0, "eeg")
    raw = mne.io.RawArray(np.random.default_rng(0).normal(size=(1, 1000)) * 1e-5, info, verbose="error")
    base = root / "sub-01" / "eeg" / "sub-01_task-see"
    mne.export.export_raw(f"{base}_eeg.edf", raw, verbose="error")
    lines = ["onset\tduration\tstim_file", "1.0\t0.5\tcat.png", "3.0\t0.5\tfaces/anna.png", "5.0\t0.5\tn/a"]
    (root / "sub-01" / "eeg" / "sub-01_task-see_events.tsv").write_text("\n".join(lines))
    eeg = loaders.read_bids(root)
    assert eeg["stimulus_id"].values.tolist() == ["cat", "faces/anna", ""]
    stimuli = read_stimuli(root / "stimuli")
    trials = align.annotate(align.epochs(eeg, tmin=0, tmax=0.2, where={"stimulus_id": ["cat", "faces/anna"]}), stimuli)
    assert trials["path"].values.tolist() == ["cat.png", "faces/anna.png"]
    acts = features([[1.0], [2.0]], stimulus=stimuli["stimulus"].values)
    assert align.join(acts, trials["eeg"])[0].values.ravel().tolist() == [1, 2]
    placed = align.place(acts, eeg, missing="zero")
    assert placed.values[[100, 300, 500], 0].tolist() == [1, 2, 0]


def test_damaged_sounds_are_refused_or_read(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.wav"
    wavfile.write(path, 8000, np.zeros((200, 2), np.int16))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(0, 60, 2)] = rng.integers(0, 256, 2)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(IntegrityError):
            assert read_stimuli(tmp_path)["duration"].item() >= 0
