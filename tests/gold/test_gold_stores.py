"""Stores that released versions wrote still open, with the values that were saved."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neuroalign import storage

HERE = Path(__file__).parent
VERSIONS = sorted(p.name for p in HERE.glob("store-*"))


def run() -> xr.Dataset:
    ramp = np.arange(4 * 200, dtype="f4").reshape(4, 200)
    return xr.Dataset(
        {
            "eeg": (("channel", "time"), np.sin(ramp) * 1e-5, {"units": "V", "sfreq": 100.0}),
            "word": ("trial", np.array(["a", None, "é"], dtype=object)),
            "when": ("trial", np.array(["2001-01-02", "NaT", "2001-01-03"], "datetime64[ns]")),
            "none": (("nothing",), np.zeros(0)),
        },
        coords={
            "channel": ["Fz", "Cz", "Pz", "Oz"],
            "time": np.arange(200) / 100.0,
            "bad": ("channel", [False, True, False, False]),
            "trial": [1, 2, 3],
        },
        attrs={"sfreq": 100.0, "units": "V"},
    )


def sharded() -> xr.DataArray:
    values = np.zeros((64, 6000), "f4")
    values[:, ::500] = np.arange(64)[:, None] + 1
    return xr.DataArray(values, dims=("channel", "time"), name="eeg", attrs={"units": "V", "sfreq": 1000.0})


EXPECTED = {
    "dataset.zarr": run,
    "tree.zarr": lambda: xr.DataTree.from_dict(
        {"/sub-01/run-01": run()[["eeg"]].isel(time=slice(50)), "/sub-01/run-02": run()[["word"]]}
    ),
    "sharded.zarr": sharded,
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXPECTED)
def test_a_store_of_an_earlier_version_opens(version, name):
    for lazy in (True, False):
        got = storage.open(HERE / version / name, verify="full", lazy=lazy)
        expected = EXPECTED[name]()
        if isinstance(got, xr.DataTree):
            for node in got.leaves:
                xr.testing.assert_allclose(node.to_dataset(), expected[node.path].to_dataset(), rtol=1e-6, atol=1e-11)
        else:
            xr.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-11)


def test_there_are_stores_to_open():
    assert "store-0.1" in VERSIONS
