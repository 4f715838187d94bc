import numpy as np
import pytest
import xarray as xr

from neuroalign.align import join
from neuroalign.errors import AlignmentError, NeuroalignWarning

IDS = ["cat", "dog", "cow", "hen"]


def features(ids=IDS, n_units=3, name="layer"):
    values = np.arange(len(ids) * n_units, dtype=float).reshape(len(ids), n_units)
    return xr.DataArray(values, dims=("stimulus", "unit"), coords={"stimulus": ids, "unit": range(n_units)}, name=name)


def trials(ids, n_channels=2):
    values = np.random.default_rng(0).normal(size=(len(ids), n_channels))
    return xr.DataArray(
        values, dims=("trial", "channel"), coords={"trial": range(len(ids)), "stimulus_id": ("trial", ids)}
    )


def stimuli(ids):
    return xr.DataArray(np.arange(len(ids))[:, None] * 1.0, dims=("stimulus", "voxel"), coords={"stimulus": ids})


def series(n=10, first=0, sfreq=100.0, run=None, dims=("time", "unit")):
    coords = {"time": np.arange(first, first + n) / sfreq}
    if run is not None:
        coords["run"] = ("time", [run] * n)
    x = xr.DataArray(np.arange(n * 2.0).reshape(n, 2), dims=("time", "unit"), coords=coords, attrs={"sfreq": sfreq})
    return x.transpose(*dims)


def test_features_are_repeated_by_trial():
    X, y = join(features(), trials(["dog", "cat", "dog"]))
    np.testing.assert_array_equal(X.values, features().sel(stimulus=["dog", "cat", "dog"]).values)
    assert X.dims == ("trial", "unit")
    assert X["stimulus_id"].values.tolist() == y["stimulus_id"].values.tolist()


def test_unknown_stimulus_is_refused_by_name_or_dropped():
    y = trials(["dog", "emu", "cat"])
    with pytest.raises(AlignmentError, match="emu"):
        join(features(), y)
    with pytest.warns(NeuroalignWarning, match="1 trials"):
        X, kept = join(features(), y, drop=True)
    assert kept["stimulus_id"].values.tolist() == ["dog", "cat"]
    assert X.sizes["trial"] == 2
    with pytest.raises(AlignmentError, match="how stimulus ids are written"):
        join(features(), trials(["emu"]), drop=True)


def test_order_changes_only_when_asked():
    y = stimuli(IDS[::-1])
    with pytest.raises(AlignmentError, match="position 0: 'cat' against 'hen'"):
        join(features(), y)
    X, same = join(features(), y, reorder=True)
    assert X["stimulus"].values.tolist() == same["stimulus"].values.tolist() == IDS[::-1]
    np.testing.assert_array_equal(X.sel(stimulus="dog"), features().sel(stimulus="dog"))


def test_different_stimuli():
    with pytest.raises(AlignmentError, match="only in y"):
        join(features(), stimuli([*IDS[:3], "emu"]))
    with pytest.warns(NeuroalignWarning):
        X, y = join(features(), stimuli([*IDS[:3], "emu"]), drop=True)
    assert X["stimulus"].values.tolist() == y["stimulus"].values.tolist() == IDS[:3]


def test_repeated_ids_along_stimulus_are_refused():
    with pytest.raises(AlignmentError, match="repeat"):
        join(features(), stimuli(["cat", "cat", "cow", "hen"]))
    with pytest.raises(AlignmentError, match="repeat"):
        join(features(["cat", "cat", "dog", "hen"]), trials(["dog"]))


def test_bands_are_marked():
    X, _ = join({"vision": features(), "words": features(n_units=2)}, stimuli(IDS))
    assert X["band"].values.tolist() == ["vision"] * 3 + ["words"] * 2
    assert X.sizes["unit"] == 5
    with pytest.raises(AlignmentError, match="position"):
        join({"vision": features(), "words": features(IDS[::-1])}, stimuli(IDS))


def test_time_by_sample_number():
    X, y = join(series(), series(dims=("unit", "time")))
    assert y.dims[0] == "time"
    with pytest.raises(AlignmentError, match="different times"):
        join(series(), series(first=2))
    with pytest.warns(NeuroalignWarning, match="8 samples"):
        X, y = join(series(), series(first=2), drop=True)
    np.testing.assert_array_equal(X["time"], y["time"])
    assert X.values[0, 0] == 4.0


def test_time_rates_and_runs():
    with pytest.raises(AlignmentError, match="Sampling rates differ"):
        join(series(), series(sfreq=99.0))
    join(series(sfreq=1000.0), series(sfreq=999.9998))  # one part in a million counts as equal
    with pytest.raises(AlignmentError, match="run"):
        join(series(run="1"), series(run="2"))


def test_float_noise_in_time_does_not_matter():
    noisy = series()
    noisy = noisy.assign_coords(time=noisy["time"].values + 1e-9)
    X, _ = join(series(), noisy)
    assert X.sizes["time"] == 10


def test_shuffling_both_sides_alike_changes_nothing():
    rng = np.random.default_rng(1)
    y = trials(rng.choice(IDS, 20).tolist())
    X, _ = join(features(), y)
    order = rng.permutation(4)
    again, _ = join(features().isel(stimulus=order), y)
    np.testing.assert_array_equal(X.values, again.values)
