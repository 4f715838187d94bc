"""Rows 5 and 6: a store that lost, cut, emptied or changed a file is refused, or gives the values that were saved."""

import shutil

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign import storage
from neuroalign.errors import IntegrityError


def original() -> xr.Dataset:
    values = np.zeros((8, 2000), "f4")  # zeros: what a reader that takes damage for "empty" would return
    values[3, 700] = 1.5
    return xr.Dataset(
        {"eeg": (("channel", "time"), values, {"units": "V", "sfreq": 100.0}), "word": ("trial", ["a", "bb", "é"])},
        coords={"channel": [f"E{k}" for k in range(8)], "bad": ("channel", [False, True] * 4)},
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return storage.save(original(), tmp_path_factory.mktemp("store") / "x.zarr")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    x = xr.DataArray(
        np.zeros((64, 30000), "f4"), dims=("channel", "time"), name="eeg", attrs={"units": "V", "sfreq": 1000.0}
    )
    path = storage.save(x, tmp_path_factory.mktemp("store") / "y.zarr")
    assert (path / "eeg/c/0/0").is_file()
    assert not (path / "eeg/c/0/1").exists()
    return path


def twin(store, tmp_path):
    return shutil.copytree(store, tmp_path / "twin.zarr")


FILES = ["eeg/c/0/0", "word/c/0", "channel/c/0", "bad/c/0", "eeg/zarr.json", "channel/zarr.json", "zarr.json"]
DAMAGE = {
    "missing": lambda p: p.unlink(),
    "cut": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "cut by one": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "empty": lambda p: p.write_bytes(b""),
    "longer": lambda p: p.write_bytes(p.read_bytes() + b"\0"),
}


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_missing_cut_or_empty_is_refused_on_open(store, tmp_path, name, damage):
    path = twin(store, tmp_path)
    DAMAGE[damage](path / name)
    if (name, damage) == ("manifest.json", "cut by one"):
        storage.open(path)  # its last byte is the line end
        return
    with pytest.raises(IntegrityError) as caught:
        storage.open(path)
    assert name.rsplit("/", 1)[-1] in str(caught.value)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(store, tmp_path_factory, data):
    path = twin(store, tmp_path_factory.mktemp("flip"))
    name = data.draw(st.sampled_from([*FILES, "manifest.json"]))
    raw = bytearray((path / name).read_bytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << (bit % 8)
    (path / name).write_bytes(raw)
    for level in ("full", "sizes"):
        try:
            got = storage.open(path, verify=level, lazy=False)
        except IntegrityError:
            continue
        assert name == "manifest.json"  # a flip in white space; anywhere else it must be noticed
        xr.testing.assert_identical(got, original())


@pytest.mark.parametrize("name", ["eeg/c/0/0", "word/c/0"])
def test_a_flip_that_keeps_the_length_is_noticed_when_the_chunk_is_read(store, tmp_path, name):
    path = twin(store, tmp_path)
    raw = bytearray((path / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (path / name).write_bytes(raw)
    with pytest.raises(IntegrityError, match="sha256"):
        storage.open(path, verify="full")
    with pytest.raises(IntegrityError, match="checksum"):
        storage.open(path)["eeg"].load()


@pytest.mark.parametrize("position", [0.001, 0.3, 0.7, 0.999])
def test_flips_in_a_shard_are_noticed(sharded, tmp_path, position):
    path = twin(sharded, tmp_path)
    chunk = path / "eeg/c/0/0"
    raw = bytearray(chunk.read_bytes())
    raw[int(position * len(raw))] ^= 1
    chunk.write_bytes(raw)
    with pytest.raises(IntegrityError, match="eeg"):
        storage.open(path).load()


@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_chunk_that_is_damaged_after_opening(store, sharded, tmp_path, damage):
    for k, source in enumerate((store, sharded)):
        path = shutil.copytree(source, tmp_path / f"{k}.zarr")
        lazy = storage.open(path, verify="none")
        DAMAGE[damage](path / "eeg/c/0/0")
        with pytest.raises(IntegrityError, match="eeg"):
            lazy.load()


@pytest.mark.parametrize("make", ["nothing", "empty folder", "file", "other zarr"])
def test_what_is_not_a_finished_store(tmp_path, make):
    path = tmp_path / "x.zarr"
    if make == "empty folder":
        path.mkdir()
    elif make == "file":
        path.write_bytes(b"x")
    elif make == "other zarr":
        xr.Dataset({"x": ("t", [1.0])}).to_zarr(path, zarr_format=3, consolidated=False)
    with pytest.raises(IntegrityError, match="no manifest"):
        storage.open(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"null", b"[" * 100000, b'{"files": {"../../x": [1, "a"]}}', b"\xff\xfe", b'{"a": NaN}'],
)
def test_a_strange_manifest_is_refused(store, tmp_path, content):
    path = twin(store, tmp_path)
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        storage.open(path)


def _forge(path, **changes):
    import json

    from neuroalign.storage.manifest import _checksum

    content = json.loads((path / "manifest.json").read_text()) | changes
    content["checksum"] = _checksum(content)
    (path / "manifest.json").write_text(json.dumps(content))


def test_a_manifest_of_the_future_is_refused(store, tmp_path):
    path = twin(store, tmp_path)
    _forge(path, schema_version=99)
    with pytest.raises(IntegrityError, match="newer neuroalign"):
        storage.open(path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x"])
def test_a_manifest_cannot_point_outside(store, tmp_path, name):
    path = twin(store, tmp_path)
    _forge(path, files={name: [1, "0" * 64]})
    with pytest.raises(IntegrityError, match="damaged"):
        storage.open(path)


def test_a_manifest_folder_that_is_no_store(tmp_path):
    storage.write_manifest(tmp_path)
    with pytest.raises(IntegrityError, match="no labelled data"):
        storage.open(tmp_path)
