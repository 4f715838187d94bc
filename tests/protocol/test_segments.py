"""Edges of runs and gaps of the clock."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.protocol import Samples, open_samples, sampling_rate, segment_labels


def samples_of(**coords: np.ndarray) -> Samples:
    n = len(next(iter(coords.values())))
    obj = xr.DataArray(np.zeros((n, 1)), dims=("time", "unit"), attrs={"sfreq": 100.0})
    return open_samples(obj.assign_coords({k: ("time", v) for k, v in coords.items()}))[1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5), st.booleans()), min_size=1, max_size=5))
def test_edges_are_where_the_clock_jumps_or_the_run_changes(pieces: list[tuple[int, int, bool]]) -> None:
    ticks: list[int] = []
    runs: list[int] = []
    expected: list[int] = []
    tick = run = 0
    for number, (length, gap, new_run) in enumerate(pieces):
        tick, run = (0, run + 1) if new_run else (tick + gap, run)
        for k in range(length):
            ticks.append(tick + k)
            runs.append(run)
            expected.append(number)
        tick += length
    got = segment_labels(samples_of(time=np.array(ticks) / 100.0, run=np.array(runs)))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["subject", "session", "run", "segment"])
def test_every_entity_makes_an_edge(name: str) -> None:
    labels = np.array(["a", "a", "b"], dtype=object)
    got = segment_labels(samples_of(time=np.arange(3) / 100, **{name: labels}))
    assert got is not None
    assert got.tolist() == [0, 0, 1]


def test_what_is_not_a_time_series() -> None:
    assert segment_labels(Samples(5)) is None
    with pytest.raises(SchemaError, match="not points in time"):
        segment_labels(Samples(5, "trial"))


def test_sampling_rate() -> None:
    known, unknown = Samples(5, "time", {}, 100.0), Samples(5)
    assert sampling_rate(known, None, "X") == sampling_rate(unknown, 100, "X") == 100.0
    for samples, rate, message in (
        (unknown, None, "needs the sampling rate"),
        (unknown, 0.0, "Not a sampling rate"),
        (unknown, np.nan, "Not a sampling rate"),
        (known, 0.01, "is not the sampling rate"),
    ):
        with pytest.raises(ConfigError, match=message):
            sampling_rate(samples, rate, "X")
