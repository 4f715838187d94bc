"""xarray opens recordings by the entry point; dask gets paths, not values."""

import pickle
import subprocess
import sys

import mne
import nibabel as nib
import numpy as np
import pytest
import xarray as xr

import neuroalign
from neuroalign import storage
from neuroalign.errors import ConfigError
from neuroalign.loaders.engine import NeuroalignBackend


@pytest.fixture
def edf(real_data):
    return real_data("eeg-formats") / "test.edf"


@pytest.fixture
def nii(real_data):
    return real_data("nibabel-nifti-gifti-cifti") / "functional.nii"


def written_nifti(folder):
    values = np.arange(6 * 5 * 4 * 3, dtype="i2").reshape(6, 5, 4, 3)
    image = nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.0
    nib.save(image, folder / "x.nii")
    return folder / "x.nii", values


def test_a_real_eeg_file_by_name_and_by_its_ending(edf):
    expected = neuroalign.load(edf)
    for options in ({"engine": "neuroalign"}, {}):
        got = xr.open_dataset(edf, **options)
        assert not got["eeg"].variable._in_memory
        xr.testing.assert_identical(got, expected)
    raw = mne.io.read_raw_edf(edf, verbose="error")
    one = xr.open_dataset(edf, engine="neuroalign", channels=raw.ch_names[:3])
    np.testing.assert_allclose(one["eeg"].values, raw.get_data()[:3], rtol=1e-6)


def test_a_real_image(nii):
    got = xr.open_dataset(nii, engine="neuroalign", chunks={})
    assert got["bold"].chunks is not None
    stored = np.asarray(nib.load(nii).dataobj).T
    np.testing.assert_allclose(got["bold"].values, stored, rtol=1e-6)


def test_an_image_with_chunks(tmp_path):
    path, values = written_nifti(tmp_path)
    got = xr.open_dataset(path, engine="neuroalign", chunks={"time": 2})
    assert got["bold"].chunks[0] == (2, 1)
    np.testing.assert_array_equal(got["bold"].values, values.T)


def test_stores_tables_and_trees(tmp_path):
    ds = xr.Dataset({"a": ("trial", np.arange(4.0)), "b": ("trial", np.ones(4))})
    path = storage.save(ds, tmp_path / "x.zarr")
    xr.testing.assert_identical(xr.open_dataset(path, engine="neuroalign").load(), ds)
    assert list(xr.open_dataset(path, engine="neuroalign", drop_variables="a")) == ["b"]
    tree = storage.save(xr.DataTree.from_dict({"/run-01": ds, "/run-02": ds + 1}), tmp_path / "t.zarr")
    with pytest.raises(ConfigError, match="open_datatree"):
        xr.open_dataset(tree, engine="neuroalign")
    got = xr.open_datatree(tree, engine="neuroalign")
    xr.testing.assert_identical(got["run-02"].to_dataset().load(), ds + 1)
    assert xr.open_groups(tree, engine="neuroalign").keys() == {"/", "/run-01", "/run-02"}
    one = xr.open_datatree(path, engine="neuroalign", drop_variables=["b"])
    assert list(one.data_vars) == ["a"]
    file = tmp_path / "x.npy"
    np.save(file, np.ones((3, 2)))
    assert xr.open_dataset(file, engine="neuroalign", dims=("stimulus", "unit")).sizes == {"stimulus": 3, "unit": 2}


def test_several_files_at_once(tmp_path):
    for k in range(2):
        x = xr.DataArray(np.full((2, 5), float(k)), dims=("channel", "time"), coords={"time": np.arange(5.0) + 5 * k})
        storage.save(x.to_dataset(name="eeg"), tmp_path / f"{k}.zarr")
    paths = [tmp_path / "0.zarr", tmp_path / "1.zarr"]
    got = xr.open_mfdataset(paths, engine="neuroalign", combine="nested", concat_dim="time", data_vars="all")
    np.testing.assert_array_equal(got["eeg"].values[0], [0] * 5 + [1] * 5)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("a/b.edf", True),
        ("b_bold.NII.GZ", True),
        ("sub/x.ds/", True),
        ("x_raw.fif", True),
        ("x.nc", False),
        ("x.zarr", False),
        ("x.h5", False),
        ("x.mat", False),
        ("x.csv", False),
    ],
)
def test_only_endings_of_recordings_are_claimed(name, ours):
    assert NeuroalignBackend().guess_can_open(name) is ours


def test_what_is_no_path_is_refused(tmp_path):
    assert NeuroalignBackend().guess_can_open(b"bytes") is False
    with pytest.raises(ConfigError, match="Not a path"):
        NeuroalignBackend().open_dataset(3)
    with pytest.raises(ConfigError, match="no option 'subjct'"):
        xr.open_dataset(written_nifti(tmp_path)[0], engine="neuroalign", subjct="01")


def test_the_engine_is_known_and_light():
    code = (
        "import sys, xarray\n"
        "assert not [m for m in sys.modules if m.startswith('neuroalign')]\n"
        "engine = xarray.backends.list_engines()['neuroalign']\n"
        "assert engine.description and engine.url\n"
        "heavy = {'mne', 'nibabel', 'nilearn', 'torch', 'matplotlib', 'sklearn', 'h5py', 'zarr', 'dask'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def sensors(folder):
    info = mne.create_info(16, 1000.0, "eeg")
    values = np.random.default_rng(0).standard_normal((16, 60_000)) * 1e-5
    path = folder / "x_raw.fif"
    mne.io.RawArray(values, info, verbose="error").save(path, verbose="error")
    return path


@pytest.mark.parametrize("kind", ["sensors", "image", "store"])
def test_dask_carries_paths_and_no_values(tmp_path, kind):
    path = sensors(tmp_path) if kind == "sensors" else written_nifti(tmp_path)[0]
    if kind == "store":
        x = xr.DataArray(np.random.default_rng(0).standard_normal((16, 60_000)), dims=("channel", "time"), name="eeg")
        path = storage.save(x.assign_attrs(sfreq=1000.0), tmp_path / "x.zarr")
    lazy = neuroalign.load(path)
    lazy = lazy if isinstance(lazy, xr.DataArray) else lazy["bold" if kind == "image" else "eeg"]
    chunked = [lazy.chunk(time=max(1, lazy.sizes["time"] // 10)).variable]
    if kind != "image":
        chunked.append(xr.open_dataset(path, engine="neuroalign", chunks={})["eeg"].variable)
    for variable in chunked:
        assert variable.chunks is not None
        data = pickle.dumps(variable)
        assert len(data) < 100_000
        np.testing.assert_array_equal(pickle.loads(data).values, lazy.values)


def test_preferred_chunks_are_stretches_of_all_channels(tmp_path):
    path = sensors(tmp_path)
    got = xr.open_dataset(path, engine="neuroalign", chunks={})["eeg"]
    assert got.chunks[0] == (16,)
    assert got.chunks[1] == (60_000,)  # 4 MB: one piece
    x = xr.DataArray(np.zeros((64, 300_000), "f4"), dims=("channel", "time"), name="eeg", attrs={"sfreq": 1000.0})
    store = storage.save(x, tmp_path / "x.zarr", quantize=None)
    assert xr.open_dataset(store, engine="neuroalign", chunks={})["eeg"].chunks[1][:2] == (32_000, 32_000)
