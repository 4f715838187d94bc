"""16-bit integers behind float32 values: the same values come back, bit for bit, or none are packed."""

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import neuroalign
from neuroalign import storage
from neuroalign.errors import ConfigError, NeuroalignWarning, SchemaError
from neuroalign.storage import packing


def whole_array(values):
    return [(slice(None), values)]


def bits(values):
    return np.ascontiguousarray(values, dtype=np.float32).view(np.int32)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1.0, 0.1, 0.0488281e-6, 1 / 3, 2.0**-20, 1e-15]),
    st.sampled_from([0.0, 0.5, 4.5e-12, -123.0, 20000.0]),
    st.sampled_from([20, 2000, 9000]),
)
def test_steps_are_found_whatever_their_size_and_offset(seed, scale, offset, spread):
    counts = np.clip(np.rint(np.random.default_rng(seed).standard_normal((3, 4000)) * spread), -32768, 32767)
    values = ((counts + offset) * scale).astype("f4")
    found = packing.find(whole_array(values), 0, 3)
    assert found is not None
    stored = found.pack(values)
    assert stored.dtype == np.int16
    np.testing.assert_array_equal(bits(found.unpack(stored)), bits(values))


def test_known_answers():
    counts = np.arange(-500, 500)
    found = packing.find(whole_array((counts * 1e-7).astype("f4")), None, 1)
    assert found.note() == {"axis": None, "scale": [1e-7], "offset": [0.0], "zero": [0], "missing": True}
    np.testing.assert_array_equal(found.pack((counts * 1e-7).astype("f4")), counts)
    sparse = np.float32([[0, 4, 10, 0, 4], [7, 7, 7, 7, 7]])
    found = packing.find(whole_array(sparse), 0, 2)
    assert found.scale.tolist() == [2.0, 0.0]
    np.testing.assert_array_equal(found.unpack(found.pack(sparse)), sparse)


def test_the_whole_range_of_codes_and_nan():
    counts = np.arange(-32768, 32768)
    values = (counts * 0.1).astype("f4")
    full = packing.find(whole_array(values), None, 1)
    assert not full.missing
    np.testing.assert_array_equal(full.pack(values), counts)
    with pytest.raises(packing.InexactError, match="none is left for NaN"):
        full.pack(np.append(values, np.float32(np.nan)))
    assert packing.find(whole_array(np.append(values, np.float32(np.nan))), None, 1) is None
    gap = values[1:].copy()
    gap[5:9] = np.nan
    found = packing.find(whole_array(gap), None, 1)
    np.testing.assert_array_equal(found.unpack(found.pack(gap)), gap)
    assert (found.pack(gap)[5:9] == packing.MISSING).all()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).standard_normal(5000),
        np.arange(70000),
        np.float32([0, 1, 2, np.inf]),
        np.cumsum([1, 2, 3, np.pi, 5]),
    ],
)
def test_other_values_are_not_packed(values):
    assert packing.find(whole_array(values.astype("f4")), None, 1) is None


def test_a_step_that_only_later_values_show():
    parts = [np.float32([[0, 8, 0, 8]]), np.float32([[0, 0, 0, 0]]), np.float32([[2, 8, 4, 0]])]
    found = packing.find([(slice(None), part) for part in parts], 0, 1)
    assert found.scale.tolist() == [2.0]


def long(integers=True, n=200_000):
    values = np.random.default_rng(0).standard_normal((8, n)) * 100
    values = (np.rint(values) + 0.0) * 1e-7 * np.arange(1, 9)[:, None] if integers else values
    return xr.Dataset({"eeg": (("channel", "time"), values.astype("f4"), {"units": "V", "sfreq": 1000.0})})


def size(path):
    return sum(p.stat().st_size for p in (path / "eeg" / "c").rglob("*") if p.is_file())


def test_a_store_of_integers_is_smaller_and_equal_and_says_so(tmp_path):
    ds = long()
    small = storage.save(ds, tmp_path / "i.zarr")
    large = storage.save(ds, tmp_path / "f.zarr", quantize=None)
    assert size(small) < 0.55 * size(large)
    for lazy in (True, False):
        got = storage.open(small, verify="full", lazy=lazy)
        xr.testing.assert_identical(got, ds)
        np.testing.assert_array_equal(bits(got["eeg"]), bits(ds["eeg"]))
    window = storage.open(small)["eeg"].isel(channel=[5, 2], time=slice(1990, 4100, 3))
    np.testing.assert_array_equal(window, ds["eeg"].isel(channel=[5, 2], time=slice(1990, 4100, 3)))
    assert storage.verify(small)["schema_version"] == 2  # earlier versions refuse what they would misread
    assert storage.verify(large)["schema_version"] == 1


def test_other_readers_see_values_or_no_units(tmp_path):
    ds = long()
    path = storage.save(ds, tmp_path / "x.zarr")
    other = xr.open_zarr(path, chunks=None)["eeg"]
    assert other.dtype == np.int16
    assert "units" not in other.attrs
    one = ds.isel(channel=[0])
    one["eeg"][0, 5] = np.nan
    path = storage.save(one, tmp_path / "y.zarr", quantize="int16")
    other = xr.open_zarr(path, chunks=None)["eeg"]
    np.testing.assert_allclose(other, one["eeg"], rtol=1e-6)
    assert other.attrs["units"] == "V"
    xr.testing.assert_identical(storage.open(path).load(), one)


def test_small_or_other_values_stay_floats_unless_asked(tmp_path):
    for ds in (long(n=100), long(integers=False)):
        path = storage.save(ds, tmp_path / "x.zarr")
        assert xr.open_zarr(path, chunks=None)["eeg"].dtype == np.float32
        xr.testing.assert_identical(storage.open(path).load(), ds)
    storage.save(long(n=100), path, quantize="int16")
    assert xr.open_zarr(path, chunks=None)["eeg"].dtype == np.int16
    with pytest.raises(SchemaError, match="did not come from 16-bit integers"):
        storage.save(long(integers=False, n=100), tmp_path / "y.zarr", quantize="int16")
    with pytest.raises(ConfigError, match="quantize"):
        storage.save(long(n=100), tmp_path / "y.zarr", quantize="int8")
    assert not (tmp_path / "y.zarr").exists()


def test_negative_zero_is_no_integer(tmp_path):
    ds = long()
    ds["eeg"][0, 7] = -0.0
    with pytest.raises(SchemaError, match="between the steps"):
        storage.save(ds, tmp_path / "x.zarr", quantize="int16")
    got = storage.open(storage.save(ds, tmp_path / "x.zarr"))
    np.testing.assert_array_equal(bits(got["eeg"]), bits(ds["eeg"]))


REAL = {
    "eeg-formats": ["test.vhdr", "test.edf", "test_edf_stim_channel.edf", "MB0400FU.EEG"],
    "ieeg-mne-misc": ["sample_ecog.edf", "sample_seeg.edf", "persyst/*.lay"],
    "ieeg-naplib": ["tiny_test.edf"],
    "nibabel-nifti-gifti-cifti": ["functional.nii", "anatomical.nii"],
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_of_16_bits(tmp_path, real_data, name):
    folder = real_data(name)
    for pattern in REAL[name]:
        (path,) = folder.glob(pattern)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NeuroalignWarning)
            ds = neuroalign.load(path, **({"modality": "ieeg"} if name.startswith("ieeg") else {}))
        (variable,) = ({"eeg", "ieeg", "bold", "map"} & set(ds.data_vars)) or [None]
        got = storage.open(storage.save(ds, tmp_path / "x.zarr", quantize="int16"), verify="full")
        np.testing.assert_array_equal(bits(got[variable]), bits(ds[variable]), err_msg=str(path))
        xr.testing.assert_identical(got.load(), ds.load())
        assert xr.open_zarr(tmp_path / "x.zarr", chunks=None, mask_and_scale=False)[variable].dtype == np.int16
