"""Spikes on a regular clock."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign import align, schema
from neuroalign.encoding import TRFEncoder
from neuroalign.errors import AlignmentError, ConfigError


def trains(samples, neuron=None, **changes):
    options = {"sfreq": 1000.0, "n_samples": 1000, "neurons": ["a", "b"]} | changes
    return schema.spikes(samples, neuron=["a"] * len(samples) if neuron is None else neuron, **options)


def test_counts_of_known_bins():
    ds = trains([0, 9, 10, 999, 10], ["a", "a", "a", "a", "b"])
    out = align.bin_spikes(ds, sfreq=100)
    assert out["spikes"].shape == (100, 2)
    assert out["spikes"].sel(neuron="a").values[[0, 1, 99]].tolist() == [2, 1, 1]
    assert out["spikes"].sel(neuron="b").values.sum() == 1
    assert out.attrs["left_out"] == 0
    schema.validate(out, "spikes")


def test_silent_neurons_have_zeros():
    out = align.bin_spikes(trains([5]), sfreq=10)
    assert out["spikes"].sel(neuron="b").values.tolist() == [0] * 10


@settings(deadline=None)
@given(
    samples=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=30),
    rate=st.sampled_from([1e6, 30000.0, 24414.0625, 1000.0]),
    down=st.sampled_from([1, 3, 10, 7, 250, 1890]),
)
def test_bins_are_exact(samples, rate, down):
    """Against fractions, where floats would round at the edges of bins."""
    sfreq = rate / down
    first, last = min(samples), max(samples)
    like = sorted({int(np.floor(Fraction(n, down))) for n in samples})
    clock = xr.DataArray(
        np.zeros(len(like)), dims="time", coords={"time": np.array(like) / sfreq}, attrs={"sfreq": sfreq}
    )
    ds = schema.spikes(
        samples,
        neuron=["a"] * len(samples),
        sfreq=rate,
        first_sample=first - down,
        n_samples=last - first + 2 * down + 1,
    )
    out = align.bin_spikes(ds, like=clock)["spikes"].values[:, 0]
    expected = [sum(Fraction(n, down) // 1 == k for n in samples) for k in like]
    assert out.tolist() == expected


def test_edges_of_bins_do_not_round():
    # 0.3 * 10 is 3.0000000000000004 and 0.7 * 10 is 6.999999999999999 in floats
    ds = trains(np.arange(0, 1000, 100), sfreq=1000)
    assert align.bin_spikes(ds, sfreq=10)["spikes"].sel(neuron="a").values.tolist() == [1] * 10


def test_parts_of_bins_are_left_out():
    ds = trains([5, 25, 95, 104], first_sample=5, n_samples=100)
    out = align.bin_spikes(ds, sfreq=100)
    assert out["time"].values[[0, -1]].tolist() == [0.01, 0.09]
    assert out.attrs["left_out"] == 2
    with pytest.raises(AlignmentError, match="shorter than a bin"):
        align.bin_spikes(ds, sfreq=5)


def test_like_takes_the_clock_and_joins():
    ds = trains([100, 350])
    eeg = schema.sensors(np.zeros((1, 25)), modality="eeg", sfreq=50, channel=["Cz"], units="V", first_sample=2)
    out = align.bin_spikes(ds, like=eeg)
    x, y = align.join(eeg["eeg"], out["spikes"])
    assert y.sel(neuron="a").values.nonzero()[0].tolist() == [3, 15]
    assert x.sizes["time"] == 25


def test_what_was_not_observed_is_not_silence():
    ds = trains([5], n_samples=100)
    like = xr.DataArray(np.zeros(12), dims="time", coords={"time": np.arange(12) / 100}, attrs={"sfreq": 100.0})
    with pytest.raises(AlignmentError, match="2 of 12 samples were not observed"):
        align.bin_spikes(ds, like=like)
    out = align.bin_spikes(ds, like=like, missing="nan")
    assert np.isnan(out["spikes"].values[10:]).all()
    assert out["valid"].values.tolist() == [True] * 10 + [False] * 2
    with pytest.raises(AlignmentError, match="no sample was observed"):
        align.bin_spikes(ds, like=like.assign_coords(time=like["time"] + 5), missing="nan")


@pytest.mark.parametrize(("first", "n", "observed"), [(0, 10, 1), (1, 9, 0), (0, 9, 0), (-1, 12, 1)])
def test_half_observed_bins(first, n, observed):
    like = xr.DataArray(np.zeros(2), dims="time", coords={"time": [0.0, 0.01]}, attrs={"sfreq": 100.0})
    ds = schema.spikes([first + 1], neuron=["a"], sfreq=1000, first_sample=first, n_samples=n)
    if not observed:
        with pytest.raises(AlignmentError, match="not observed"):
            align.bin_spikes(ds, like=like, missing="nan")
        return
    assert np.isfinite(align.bin_spikes(ds, like=like, missing="nan")["spikes"].values[:, 0]).tolist() == [True, False]


def test_options():
    ds = trains([1])
    like = align.bin_spikes(ds, sfreq=10)
    for options in ({}, {"sfreq": 10, "like": like}, {"sfreq": 10, "missing": "zero"}, {"sfreq": 3000}, {"sfreq": -1}):
        with pytest.raises(ConfigError):
            align.bin_spikes(ds, **options)
    with pytest.raises(AlignmentError, match="single spikes"):
        align.bin_spikes(like, sfreq=5)
    twice = xr.concat([like["spikes"], like["spikes"]], "time")
    with pytest.raises(AlignmentError, match="does not increase"):
        align.bin_spikes(ds, like=twice)


def test_epochs_of_spikes_keep_their_events():
    events = pd.DataFrame({"onset": [0.2, 0.5], "stimulus_id": ["cat", "dog"]})
    ds = trains([205, 210, 512], ["a", "b", "a"], events=events, first_sample=3, n_samples=900)
    trials = align.epochs(align.bin_spikes(ds, sfreq=100), tmin=-0.1, tmax=0.1)
    assert trials["spikes"].dims == ("trial", "neuron", "time")
    assert trials["stimulus_id"].values.tolist() == ["cat", "dog"]
    at = trials["spikes"].sel(neuron="a")
    assert at.isel(trial=0).values.nonzero()[0].tolist() == [10]  # 205 - (3 + 200) = 2 ms after the onset
    assert at.isel(trial=1).values.nonzero()[0].tolist() == [11]  # 512 - 503 = 9 ms: the next bin of the clock
    schema.validate(trials, "spikes")
    with pytest.raises(AlignmentError, match="bin_spikes"):
        align.epochs(ds, tmin=0, tmax=0.1)


def test_runs_of_a_tree():
    tree = xr.DataTree.from_dict(
        {"/run-1": trains([5]).assign_attrs(run="1"), "/run-2": trains([7]).assign_attrs(run="2")}
    )
    binned = align.bin_spikes(tree, sfreq=100)
    both = align.concat([node.to_dataset() for node in binned.leaves])
    assert both["spikes"].sizes == {"time": 200, "neuron": 2}
    assert both["run"].values[[0, -1]].tolist() == ["1", "2"]
    with pytest.raises(AlignmentError, match="bin_spikes"):
        align.concat([node.to_dataset() for node in tree.leaves])


def test_an_encoder_finds_a_known_response():
    """Rates follow the stimulus by 20 ms: the response function peaks there."""
    rng = np.random.default_rng(0)
    stimulus = np.convolve(rng.normal(size=6000), np.hanning(5), mode="same")
    rate = np.exp(np.roll(stimulus, 2))
    counts = rng.poisson(rate)
    # on the way through single spikes: k spikes of a bin lie at its first k milliseconds
    samples = [10 * n + k for n, count in enumerate(counts) for k in range(min(count, 10))]
    ds = schema.spikes(samples, neuron=["a"] * len(samples), sfreq=1000, n_samples=60000)
    x = xr.DataArray(stimulus[:, None], dims=("time", "unit"), coords={"time": np.arange(6000) / 100})
    x.attrs["sfreq"] = 100.0
    X, y = align.join(x, align.bin_spikes(ds, like=x)["spikes"])
    trf = TRFEncoder(tmin=0.0, tmax=0.05).fit(X[:4800], y[:4800])
    assert trf.response_.dims == ("unit", "lag", "neuron")
    assert float(trf.response_["lag"][int(np.argmax(trf.response_.values[0, :, 0]))]) == 0.02
    assert trf.score_map(X[4800:], y[4800:]).sel(neuron="a").item() > 0.5
