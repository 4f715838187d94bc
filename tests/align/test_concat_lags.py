import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign import align, schema
from neuroalign.errors import AlignmentError


def run(names=("Cz", "Pz", "Oz"), sfreq=100.0, n=20, seed=0, label=None):
    values = np.random.default_rng(seed).normal(size=(len(names), n)) * 1e-5
    attrs = {} if label is None else {"run": label}
    return schema.sensors(values, modality="eeg", sfreq=sfreq, channel=list(names), units="V", attrs=attrs)


def test_channels_are_matched_by_name():
    a, b = run(), run(("Oz", "Cz", "Pz"), seed=1)
    both = align.concat([a, b])
    assert both["run"].values.tolist() == ["1"] * 20 + ["2"] * 20
    np.testing.assert_array_equal(both["eeg"].sel(channel="Oz")[20:], b["eeg"].sel(channel="Oz"))
    schema.validate(both)


def test_missing_channel_is_refused_or_marked():
    a, b = run(), run(("Cz", "Pz"))
    with pytest.raises(AlignmentError, match="Oz"):
        align.concat([a, b])
    both = align.concat([a, b], missing="nan")
    assert both["eeg"].sel(channel="Oz")[20:].isnull().all()
    assert both["bad"].values.tolist() == [False, False, True]
    with pytest.raises(AlignmentError, match="Fz"):
        align.concat([a, run(("Cz", "Pz", "Oz", "Fz"))])
    with pytest.raises(AlignmentError, match="repeat"):
        align.concat([a, run(("Cz", "Pz", "Pz"))])


@pytest.mark.parametrize(("rate", "fits"), [(999.9998, True), (999.99, False), (1000.0, True), (500.0, False)])
def test_sampling_rates(rate, fits):
    a, b = run(sfreq=1000.0), run(sfreq=rate)
    if fits:
        assert align.concat([a, b]).sizes["time"] == 40
    else:
        with pytest.raises(AlignmentError, match="resample"):
            align.concat([a, b])


def test_bad_in_one_run_is_bad_in_all():
    a = run()
    b = run().assign_coords(bad=("channel", [False, True, False]))
    assert align.concat([a, b])["bad"].values.tolist() == [False, True, False]


def explicit(x, lags, segments):
    out = np.zeros((len(x), len(lags), x.shape[1]))
    for t in range(len(x)):
        for column, lag in enumerate(lags):
            source = t - lag
            if 0 <= source < len(x) and segments[source] == segments[t]:
                out[t, column] = x[source]
    return out.reshape(len(x), -1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(-4, 0), st.integers(0, 9), st.integers(1, 3))
def test_lags_never_cross_a_run_edge(lengths, first, last, p):
    segments = np.repeat(np.arange(len(lengths)), lengths)
    x = np.random.default_rng(0).normal(size=(len(segments), p))
    lags = list(range(first, last + 1))
    np.testing.assert_array_equal(align.lagged(x, lags, segments), explicit(x, lags, segments))


def test_runs_must_be_contiguous():
    with pytest.raises(AlignmentError, match="contiguous"):
        align.lagged(np.zeros((3, 1)), [0], ["a", "b", "a"])


def test_subjects_and_sessions_are_told_apart_where_they_differ():
    parts = [run(label="1").assign_attrs(subject=subject, session="a") for subject in ("01", "02")]
    both = align.concat(parts)
    assert both["subject"].values[[0, -1]].tolist() == ["01", "02"]
    assert "session" not in both.coords
    x, _ = align.join(both["eeg"], both["eeg"])  # sample numbers of a run repeat, but not of a subject
    assert x.sizes["time"] == 40
