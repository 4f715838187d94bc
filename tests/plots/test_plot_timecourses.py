"""Curves: the data that is drawn, its units, its marks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from neuroalign.errors import SchemaError
from neuroalign.plots import response_function, timecourse


def line(ax: object, label: str) -> np.ndarray:
    found = [part for part in ax.lines if part.get_label() == label]  # type: ignore[attr-defined]
    assert len(found) == 1, [part.get_label() for part in ax.lines]  # type: ignore[attr-defined]
    return np.asarray(found[0].get_ydata())


def test_butterfly_names_the_best_and_draws_the_mean(result: xr.Dataset) -> None:
    ax = timecourse(result)
    score = result["score"]
    best = str(score["channel"].values[int(abs(score).max("time").argmax("channel"))])
    np.testing.assert_allclose(line(ax, best), score.sel(channel=best))
    np.testing.assert_allclose(line(ax, "mean of 128 channels"), score.mean("channel"))
    np.testing.assert_allclose(line(ax, "mean noise ceiling"), result["ceiling"].mean("channel"))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Time (ms)", "Pearson r")
    times = score["time"].values * 1e3
    assert ax.get_xlim() == pytest.approx((times[0], times[-1]))


def test_significant_times_are_barred(result: xr.Dataset) -> None:
    ax = timecourse(result)
    bar = next(part for part in ax.collections if part.get_label() == "significant in a channel")
    times = result["time"].values[result["significant"].any("channel").values] * 1e3
    step = 1000 / 128
    edges = np.concatenate([path.vertices[:, 0] for path in bar.get_paths()])
    assert edges.min() == pytest.approx(times.min() - step / 2)
    assert edges.max() == pytest.approx(times.max() + step / 2)


def test_few_sites_have_names_of_their_own(scores: xr.DataArray) -> None:
    some = scores.isel(channel=slice(0, 4))
    ax = timecourse(some)
    for name in some["channel"].values:
        np.testing.assert_allclose(line(ax, str(name)), some.sel(channel=name))


def test_units_of_real_fields(evoked: Callable[[str], xr.DataArray]) -> None:
    values = evoked("mag")
    ax = timecourse(values, best=1)
    assert ax.get_ylabel() == "evoked (fT)"
    np.testing.assert_allclose(line(ax, "mean of 102 channels"), values.mean("channel") * 1e15)
    zero = [part for part in ax.lines if list(part.get_xdata()) == [0, 0]]
    assert len(zero) == 1


def test_long_spans_are_in_seconds(scores: xr.DataArray) -> None:
    slow = scores.assign_coords(time=np.arange(101) * 2.0)
    assert timecourse(slow).get_xlabel() == "Time (s)"


def test_channels_without_values_leave_the_mean_alone(scores: xr.DataArray) -> None:
    holed = scores.copy()
    holed[5] = np.nan
    ax = timecourse(holed)
    np.testing.assert_allclose(line(ax, "mean of 128 channels"), holed.mean("channel"))


def test_refusals(scores: xr.DataArray) -> None:
    with pytest.raises(SchemaError, match=r"schema\.time_index"):
        timecourse(scores.drop_vars("time"))
    with pytest.raises(SchemaError, match="band=0"):
        timecourse(scores.expand_dims(band=2))
    with pytest.raises(SchemaError, match="same labels"):
        timecourse(scores, ceiling=scores.assign_coords(channel=[f"E{k}" for k in range(128)]))


@pytest.fixture
def response(scores: xr.DataArray) -> xr.DataArray:
    lags = scores.rename(time="lag").isel(lag=slice(0, 60)).transpose("lag", "channel")
    both = xr.concat([lags * 0.1, lags], "feature").assign_coords(feature=["onset", "envelope"])
    return both.rename("response").drop_attrs().assign_attrs(units="a.u.")


def test_response_function_has_lags_and_a_map_at_the_peak(response: xr.DataArray) -> None:
    pytest.importorskip("mne")
    ax = response_function(response)
    assert ax.get_title(loc="left") == "envelope"
    assert ax.get_xlabel() == "Lag (ms)"
    best = response.sel(feature="envelope")
    np.testing.assert_allclose(line(ax, "mean of 128 channels"), best.mean("channel"))
    (head,) = ax.child_axes
    at = float(best["lag"][int((best**2).mean("channel").argmax("lag"))]) * 1e3
    assert head.get_title() == f"at {at:.0f} ms"


def test_response_function_of_one_feature(response: xr.DataArray) -> None:
    ax = response_function(response, feature="onset", inset=False)
    np.testing.assert_allclose(line(ax, "mean of 128 channels"), response.sel(feature="onset").mean("channel"))
    assert ax.child_axes == []
    with pytest.raises(SchemaError, match="no such feature"):
        response_function(response, feature="pitch")


def test_response_function_without_positions_has_no_map(response: xr.DataArray) -> None:
    assert response_function(response.drop_vars(["x", "y", "z"])).child_axes == []
