"""What holds of placing features in time, whatever the events."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neuroalign import align, schema

NAMES = ["a", "b", "c", "d"]
FEATURES = schema.features(np.random.default_rng(0).normal(size=(4, 3)), stimulus=NAMES)
N_TIMES = 400

rates = st.sampled_from([50.0, 64.0, 100.0, 1000 / 3])
shapes = st.sampled_from(["impulse", "hold"])
kinds = st.sampled_from(["eeg", "fmri"])


@st.composite
def event_tables(draw, sfreq, *, margin=60, on_grid=False):
    n = draw(st.integers(1, 8))
    number = st.integers(margin, N_TIMES - margin) if on_grid else st.floats(margin, N_TIMES - margin)
    onset = np.array(draw(st.lists(number, min_size=n, max_size=n))) / sfreq
    duration = np.array(draw(st.lists(st.floats(0.1, 40), min_size=n, max_size=n))) / sfreq
    ids = draw(st.lists(st.sampled_from(NAMES), min_size=n, max_size=n))
    return pd.DataFrame({"onset": onset, "duration": duration, "stimulus_id": ids})


def recording(events, sfreq, kind="eeg", first_sample=0):
    if kind == "fmri":
        return schema.fmri_regions(np.ones((N_TIMES, 1)), roi=["V1"], tr=1 / sfreq, events=events)
    return schema.sensors(
        np.zeros((1, N_TIMES)),
        modality="eeg",
        sfreq=sfreq,
        channel=["Cz"],
        units="V",
        events=events,
        first_sample=first_sample,
    )


@settings(deadline=None, max_examples=40)
@given(data=st.data(), sfreq=rates, first=st.integers(-500, 500))
def test_epochs_of_placed_features_have_the_features_at_lag_zero(data, sfreq, first):
    events = data.draw(event_tables(sfreq))
    samples = np.rint(events["onset"] * sfreq)
    assume(samples.is_unique)  # features of two stimuli at once are summed
    ds = recording(events, sfreq, first_sample=first)
    placed = align.place(FEATURES, ds)
    as_channels = schema.sensors(
        placed.values.T,
        modality="eeg",
        sfreq=sfreq,
        channel=["0", "1", "2"],
        units="V",
        events=events,
        first_sample=first,
    )
    trials = align.epochs(as_channels, tmin=0, tmax=2 / sfreq)
    x, y = align.join(FEATURES, trials["eeg"])
    np.testing.assert_array_equal(x.values, y.isel(time=0).values)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), sfreq=rates, shape=shapes, kind=kinds)
def test_the_order_of_events_changes_nothing(data, sfreq, shape, kind):
    events = data.draw(event_tables(sfreq))
    shuffled = events.iloc[data.draw(st.permutations(range(len(events))))].reset_index(drop=True)
    one, other = (align.place(FEATURES, recording(table, sfreq, kind), shape=shape) for table in (events, shuffled))
    np.testing.assert_array_equal(one.values, other.values)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), sfreq=rates, shape=shapes, kind=kinds, k=st.integers(-20, 20))
def test_later_onsets_shift_the_result(data, sfreq, shape, kind, k):
    events = data.draw(event_tables(sfreq, on_grid=True))
    later = events.assign(onset=events["onset"] + k / sfreq)
    one, other = (align.place(FEATURES, recording(table, sfreq, kind), shape=shape) for table in (events, later))
    np.testing.assert_allclose(np.roll(one.values, k, axis=0), other.values, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), sfreq=rates, k=st.integers(-20, 20), rate=st.sampled_from([0.5, 1.0, 3.0]))
def test_later_onsets_shift_streams(data, sfreq, k, rate):
    events = data.draw(event_tables(sfreq, on_grid=True))
    rng = np.random.default_rng(1)
    streams = {
        name: xr.DataArray(
            rng.normal(size=(int(10 * rate), 2)),
            dims=("time", "unit"),
            coords={"time": schema.time_index(int(10 * rate), sfreq * rate)},
            attrs={"sfreq": sfreq * rate},
        )
        for name in NAMES
    }
    later = events.assign(onset=events["onset"] + k / sfreq)
    one, other = (align.place(streams, recording(table, sfreq)) for table in (events, later))
    np.testing.assert_allclose(np.roll(one.values, k, axis=0), other.values, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), sfreq=rates, oversample=st.integers(1, 9))
def test_volumes_share_what_was_shown(data, sfreq, oversample):
    """The sum over volumes is the time shown, in samples, on any grid."""
    events = data.draw(event_tables(sfreq))
    ds = recording(events, sfreq, "fmri")
    placed = align.place(FEATURES, ds, shape="hold", oversample=oversample)
    shown = FEATURES.sel(stimulus=events["stimulus_id"].tolist()).values * events["duration"].values[:, None] * sfreq
    # up to a thousandth of a sample at both ends of each event is rounding of onsets
    np.testing.assert_allclose(placed.sum("time").values / oversample, shown.sum(axis=0), atol=0.02 * len(events))


@settings(deadline=None, max_examples=40)
@given(data=st.data(), sfreq=rates, kind=kinds, shape=shapes)
def test_placed_features_join_the_recording(data, sfreq, kind, shape):
    events = data.draw(event_tables(sfreq))
    ds = recording(events, sfreq, kind)
    x, y = align.join(align.place(FEATURES, ds, shape=shape), ds["bold" if kind == "fmri" else "eeg"])
    np.testing.assert_array_equal(x["time"], y["time"])
