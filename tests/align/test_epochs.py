import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuroalign import align, schema
from neuroalign.errors import AlignmentError


def recording(onsets, n=1000, sfreq=100.0, first_sample=0, values=None, **columns):
    events = pd.DataFrame({"onset": onsets, "stimulus_id": [f"s{k}" for k in range(len(onsets))], **columns})
    data = np.arange(2 * n, dtype=float).reshape(2, n) * 1e-9 if values is None else values
    ds = schema.sensors(
        data, modality="eeg", sfreq=sfreq, channel=["Cz", "Pz"], units="V", events=events, first_sample=first_sample
    )
    return ds.assign_attrs(subject="01", run="1")


def test_windows_hold_the_right_samples():
    ds = recording([1.0, 2.004, 2.006])
    trials = align.epochs(ds, tmin=-0.1, tmax=0.2)
    assert trials["eeg"].shape == (3, 2, 31)
    np.testing.assert_array_equal(trials["eeg"][0, 0], ds["eeg"][0, 90:121])
    np.testing.assert_array_equal(trials["eeg"][1, 1], ds["eeg"][1, 190:221])
    np.testing.assert_array_equal(trials["eeg"][2, 0], ds["eeg"][0, 191:222])
    assert trials["time"].values[10] == 0.0
    assert trials["subject"].values.tolist() == ["01"] * 3


def test_first_sample_shifts_the_clock_not_the_data():
    a = align.epochs(recording([1.0]), tmin=0, tmax=0.1)
    b = align.epochs(recording([1.0], first_sample=500), tmin=0, tmax=0.1)
    np.testing.assert_array_equal(a["eeg"], b["eeg"])


def test_slicing_the_recording_keeps_events_in_place():
    ds = recording([5.0])
    whole = align.epochs(ds, tmin=0, tmax=0.1)
    part = align.epochs(ds.isel(time=slice(400, 700)), tmin=0, tmax=0.1)
    np.testing.assert_array_equal(whole["eeg"], part["eeg"])


@pytest.mark.parametrize(
    ("onset", "fits"),
    [(0.10, True), (0.09, False), (9.79, True), (9.80, False), (-1.0, False), (50.0, False), (9.794, True)],
)
def test_windows_beyond_the_recording(onset, fits):
    ds = recording([5.0, onset])
    if fits:
        assert align.epochs(ds, tmin=-0.1, tmax=0.2).sizes["trial"] == 2
        return
    with pytest.raises(AlignmentError, match=rf"event 1 \(s1\) at {onset:g} s"):
        align.epochs(ds, tmin=-0.1, tmax=0.2)
    kept = align.epochs(ds, tmin=-0.1, tmax=0.2, drop=True)
    assert kept["stimulus_id"].values.tolist() == ["s0"]
    assert "event 1" in kept.attrs["drop_log"][0]
    np.testing.assert_array_equal(kept["eeg"][0, 0], ds["eeg"][0, 490:521])


def test_windows_over_gaps_are_refused():
    ds = recording([5.0]).isel(time=[*range(505), *range(506, 1000)])
    with pytest.raises(AlignmentError, match="beyond"):
        align.epochs(ds, tmin=-0.1, tmax=0.2)


def test_baseline_and_where():
    ds = recording([1.0, 2.0, 3.0], trial_type=["image", "rest", "image"])
    trials = align.epochs(ds, tmin=-0.1, tmax=0.2, baseline=(None, 0), where={"trial_type": "image"})
    assert trials["stimulus_id"].values.tolist() == ["s0", "s2"]
    np.testing.assert_allclose(trials["eeg"].sel(time=slice(-0.1, 0)).mean("time"), 0, atol=1e-20)
    with pytest.raises(AlignmentError, match="column"):
        align.epochs(ds, tmin=0, tmax=0.1, where={"kind": "image"})
    with pytest.raises(ValueError, match="tmin < tmax"):
        align.epochs(ds, tmin=0.1, tmax=0.1)
    with pytest.raises(ValueError, match="baseline"):
        align.epochs(ds, tmin=0, tmax=0.1, baseline=(0.5, 0.6))


def test_lazy_gives_the_same():
    ds = recording([1.0, 5.0])
    lazy = ds.copy()
    lazy["eeg"] = (ds["eeg"].dims, ds["eeg"].variable.chunk(time=100)._data, ds["eeg"].attrs)
    np.testing.assert_array_equal(
        align.epochs(lazy, tmin=0, tmax=0.1)["eeg"].values, align.epochs(ds, tmin=0, tmax=0.1)["eeg"].values
    )


def test_runs_of_a_tree_are_cut_one_by_one():
    tree = xr.DataTree.from_dict({"/run-1": recording([1.0]), "/run-2": recording([2.0, 3.0]).assign_attrs(run="2")})
    trials = align.epochs(tree, tmin=0, tmax=0.1)
    assert trials["run"].values.tolist() == ["1", "2", "2"]
    assert trials["trial"].values.tolist() == [0, 1, 2]


def test_no_events():
    ds = recording([1.0]).drop_vars(["onset", "stimulus_id"])
    with pytest.raises(AlignmentError, match="no events"):
        align.epochs(ds, tmin=0, tmax=0.1)
