import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from neuroalign import storage
from neuroalign.errors import ConfigError, IntegrityError, SchemaError


def everything() -> xr.Dataset:
    rng = np.random.default_rng(0)
    eeg = rng.standard_normal((3, 20)).astype("float32")
    eeg[1, 4] = np.nan
    mixed = np.array(["a", np.nan, "é ö"], dtype=object)
    return xr.Dataset(
        {
            "eeg": (("channel", "time"), eeg, {"units": "V", "note": "µ", "list": [1, 2.5, "x"], "none": None}),
            "counts": (("trial",), np.array([0, 255], "uint8")),
            "zeros": (("trial", "channel"), np.zeros((2, 3))),
            "phase": (("channel",), np.array([1 + 2j, 0, -1j], "complex64")),
            "flag": (("trial",), np.array([True, False])),
            "half": (("trial",), np.array([0.5, np.inf], "float16")),
            "word": (("channel",), mixed),
            "scalar": ((), np.int64(-5)),
            "none": (("nothing", "trial"), np.zeros((0, 2))),
        },
        coords={
            "channel": ["Fz", "Cz", "P10"],
            "time": np.arange(20) / 128.0,
            "bad": ("channel", [False, True, False]),
            "trial": np.array(["x", "y"], dtype=object),
            "run": 3,
            "onset": ("trial", np.array([0.5, np.nan])),
        },
        attrs={"sfreq": 128.0, "coordinates_of": "head", "units": "seconds", "scale_factor": 3},
    )


def test_dataset_round_trip_keeps_values_types_order_and_attributes(tmp_path):
    ds = everything()
    path = storage.save(ds, tmp_path / "x.zarr", seed=3)
    for lazy in (True, False):
        back = storage.open(path, lazy=lazy, verify="full")
        xr.testing.assert_identical(back, ds)
        assert list(back.data_vars) == list(ds.data_vars)
        assert {n: v.dtype for n, v in back.variables.items()} == {n: v.dtype for n, v in ds.variables.items()}
    assert storage.verify(path)["seed"] == 3


def test_lazy_really_is_lazy_and_pickles_small(tmp_path):
    x = xr.DataArray(np.random.default_rng(0).standard_normal((64, 40000)).astype("f4"), dims=("channel", "time"))
    back = storage.open(storage.save(x, tmp_path / "x.zarr"))
    assert not back.variable._in_memory
    assert len(pickle.dumps(back)) < 10_000
    again = pickle.loads(pickle.dumps(back))
    np.testing.assert_array_equal(again.values, x.values)


@pytest.mark.parametrize(
    "index",
    [
        {"channel": 2},
        {"time": slice(100, 5000)},
        {"time": slice(None, None, -7)},
        {"channel": [5, 0, 3], "time": slice(8, 90, 3)},
        {"channel": [5, 0, 3], "time": [7, 7, 2]},
        {"channel": xr.DataArray([1, 2], dims="p"), "time": xr.DataArray([100, 4000], dims="p")},
    ],
)
def test_lazy_indexing_equals_numpy(tmp_path, index):
    x = xr.DataArray(np.arange(8 * 6000.0).reshape(8, 6000), dims=("channel", "time"), attrs={"sfreq": 128.0})
    back = storage.open(storage.save(x, tmp_path / "x.zarr"))
    xr.testing.assert_identical(back.isel(index).load(), x.isel(index))


@pytest.mark.parametrize("name", [None, "eeg", "time", "with space", "values"])
def test_dataarray_keeps_its_name(tmp_path, name):
    x = xr.DataArray([1.0, 2.0], dims="time", coords={"time": [0, 1]}, name=name, attrs={"units": "V"})
    back = storage.open(storage.save(x, tmp_path / "x.zarr"))
    xr.testing.assert_identical(back, x)
    assert back.name == name


def test_unnamed_dataarray_may_have_a_coordinate_of_any_name(tmp_path):
    x = xr.DataArray([1.0, 2.0], dims="k", coords={"values": ("k", [3, 4]), "values_": 1})
    xr.testing.assert_identical(storage.open(storage.save(x, tmp_path / "x.zarr")), x)


def test_datatree_round_trip(tmp_path):
    run = everything()
    tree = xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs={"subject": "all"}), "/sub-01/run-01": run, "/sub-01/run-02": run.isel(time=slice(5))},
        name="study",
    )
    back = storage.open(storage.save(tree, tmp_path / "tree.zarr"))
    xr.testing.assert_identical(back, tree)
    assert back.name == "study"


def test_plain_array_and_empty_dataset(tmp_path):
    for value in (np.arange(6.0).reshape(2, 3), np.array(3.5), np.array(["a", "bb"])):
        back = storage.open(storage.save(value, tmp_path / "a.zarr"))
        assert isinstance(back, np.ndarray)
        assert back.dtype == value.dtype
        np.testing.assert_array_equal(back, value)
    xr.testing.assert_identical(storage.open(storage.save(xr.Dataset(), tmp_path / "e.zarr")), xr.Dataset())


def test_dates_byte_order_and_pandas_text(tmp_path):
    ds = xr.Dataset(
        {
            "when": ("k", pd.to_datetime(["2001-01-02", None]).to_numpy()),
            "gap": ("k", np.array([1, 2], "timedelta64[ms]")),
            "big": ("k", np.array([1.5, -2.0], ">f4")),
        },
        coords={"k": pd.Index(["a", "b"], dtype="str")},
    )
    back = storage.open(storage.save(ds, tmp_path / "x.zarr"))
    xr.testing.assert_equal(back, ds)
    assert back["when"].dtype == ds["when"].dtype
    assert back["gap"].dtype == ds["gap"].dtype
    assert back["big"].dtype == np.dtype("f4")


def test_dask_is_written_in_its_own_time(tmp_path):
    x = xr.DataArray(np.random.default_rng(0).standard_normal((50, 333)), dims=("stimulus", "unit"))
    back = storage.open(storage.save(x.chunk(stimulus=7, unit=100), tmp_path / "x.zarr"))
    xr.testing.assert_identical(back.load(), x)


def test_other_readers_open_the_folder_without_a_warning(tmp_path):
    ds = everything().drop_vars(["word", "half"]).drop_attrs()
    path = storage.save(ds, tmp_path / "x.zarr")
    other = xr.open_zarr(path, chunks=None)
    assert set(other.coords) == set(ds.coords)
    np.testing.assert_array_equal(other["eeg"].values, ds["eeg"].values)
    assert zarr.open_array(path / "zeros", mode="r").nchunks_initialized == 1


def test_numpy_attributes_become_plain(tmp_path):
    x = xr.DataArray([1.0], dims="k", attrs={"a": np.float32(2), "b": np.arange(3), "c": (1, 2), "d": np.bool_(True)})
    assert storage.open(storage.save(x, tmp_path / "x.zarr")).attrs == {
        "a": 2.0,
        "b": [0, 1, 2],
        "c": [1, 2],
        "d": True,
    }


@pytest.mark.parametrize(
    ("obj", "word"),
    [
        (xr.DataArray([1.0], dims="k", attrs={"model": object()}), "attribute 'model'"),
        (xr.DataArray([1.0], dims="k", attrs={"neuroalign": 1}), "reserved"),
        (xr.Dataset({"a/b": ("k", [1.0])}), "a/b"),
        (xr.Dataset({"..": ("k", [1.0])}), "name"),
        (xr.Dataset({"v": ("k", np.array([1, "a"], dtype=object))}), "mixes"),
        (xr.Dataset({"v": ("k", np.array([{}, {}], dtype=object))}), "objects"),
        (xr.DataArray([[1.0]], dims=("a", "b"), coords={"a": [0], "b": [1]}).stack(s=("a", "b")), "MultiIndex"),
        ({"a": 1}, "dict"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_leaves_nothing(tmp_path, obj, word):
    with pytest.raises(SchemaError, match=word):
        storage.save(obj, tmp_path / "x.zarr")
    assert list(tmp_path.iterdir()) == []


def test_saving_again_replaces(tmp_path):
    path = tmp_path / "x.zarr"
    storage.save(xr.DataArray(np.arange(9.0), dims="k"), path)
    storage.save(xr.DataArray(np.arange(3.0), dims="k"), path)
    assert storage.open(path).size == 3
    assert [p.name for p in tmp_path.iterdir()] == ["x.zarr"]


def test_manifest_records_inputs_by_name_only(tmp_path):
    source = tmp_path / "raw.edf"
    source.write_bytes(b"abc")
    path = storage.save(xr.Dataset(), tmp_path / "x.zarr", inputs=[source])
    manifest = storage.verify(path, "full")
    assert manifest["inputs"] == {"raw.edf": storage.sha256_file(source)}
    assert str(tmp_path) not in (path / "manifest.json").read_text()
    assert set(manifest["created_by"]) >= {"neuroalign", "python", "zarr"}


def test_same_object_gives_the_same_bytes(tmp_path):
    one, two = (storage.save(everything(), tmp_path / f"{k}.zarr") for k in "ab")
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (None, (16, 1000)),
        ("windows", (16, 1000)),
        ("channels", (16, 30000)),
        ({"time": 300}, (16, 300)),
        ({"time": -1, "channel": 5}, (5, 40000)),
    ],
)
def test_layouts_of_chunks(tmp_path, chunks, expected):
    values = np.random.default_rng(0).standard_normal((16, 40000)).astype("f4")
    x = xr.DataArray(values, dims=("channel", "time"), attrs={"sfreq": 500.0}, name="eeg")
    path = storage.save(x, tmp_path / "x.zarr", chunks=chunks)
    assert zarr.open_array(path / "eeg", mode="r").chunks == expected
    back = storage.open(path)
    xr.testing.assert_identical(back.isel(time=slice(900, 31000, 7)).load(), x.isel(time=slice(900, 31000, 7)))
    xr.testing.assert_identical(back.load(), x)


@pytest.mark.parametrize(
    ("chunks", "words"),
    [("rows", "windows or channels"), ({"tme": 3}, "not there"), ({"time": 0}, "length"), ({"time": True}, "length")],
)
def test_unknown_layouts_are_refused(tmp_path, chunks, words):
    with pytest.raises(ConfigError, match=words):
        storage.save(xr.DataArray(np.zeros(3), dims="time"), tmp_path / "x.zarr", chunks=chunks)
    assert list(tmp_path.iterdir()) == []


def test_floats_that_do_not_compress_are_stored_as_they_are(tmp_path):
    noise = np.random.default_rng(0).standard_normal((16, 40000)).astype("f4")
    for values, codecs in ((noise, 1), (np.zeros_like(noise), 2)):
        x = xr.DataArray(values, dims=("stimulus", "unit"), name="x")
        path = storage.save(x, tmp_path / "x.zarr")
        assert len(zarr.open_array(path / "x", mode="r").compressors) == codecs
        xr.testing.assert_identical(storage.open(path).load(), x)


def test_windows_are_kept_within_a_bound_and_a_lost_file_is_noticed(tmp_path):
    from neuroalign.storage import chunks

    x = xr.DataArray(np.random.default_rng(0).standard_normal((64, 200_000)).astype("f4"), dims=("channel", "time"))
    path = storage.save(x.assign_attrs(sfreq=1000.0), tmp_path / "x.zarr")
    back = storage.open(path)
    for start in range(0, 199_000, 1500):
        window = slice(start, start + 1000)
        np.testing.assert_array_equal(back[:, window].values, x[:, window].values)
    assert 0 < chunks._recent.size <= 32 << 20
    (path / "values" / "c" / "0" / "0").unlink()
    with pytest.raises(IntegrityError, match="chunk"):
        back[:, :1000].load()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_reduction_by_dask_stays_within_bounds(tmp_path):
    """One hour of 64 channels at 250 Hz (230 MB), in a process whose memory is looked at."""
    code = (
        "import sys, xarray as xr, dask, dask.array, numpy\n"
        "from neuroalign import storage\n"
        # ru_maxrss would begin with what the process had that starts this one.
        "def peak():\n"
        "    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "ds = xr.open_dataset(sys.argv[1], engine='neuroalign', chunks={})\n"
        "ds['eeg'][:, :1000].values\n"
        "before = peak()\n"
        "with dask.config.set(scheduler='threads', num_workers=2):\n"
        "    assert abs(float(ds['eeg'].mean().values)) < 1\n"
        "print((peak() - before) / 1024)\n"
    )
    n = 3600 * 250
    values = np.random.default_rng(0).standard_normal((64, n), dtype="f4")
    x = xr.DataArray(values, dims=("channel", "time"), name="eeg", attrs={"sfreq": 250.0})
    path = storage.save(x, tmp_path / "x.zarr")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100


@pytest.mark.parametrize("name", ["a:b", "what?", "CON", "com1.x", "ends.", "a|b"])
def test_names_that_some_system_cannot_hold_are_refused(tmp_path, name):
    with pytest.raises(SchemaError, match="cannot be"):
        storage.save(xr.Dataset({name: ("x", [1.0])}), tmp_path / "x.zarr")
