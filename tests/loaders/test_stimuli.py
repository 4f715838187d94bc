"""Stimulus tables."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.loaders import read_stimuli


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
