"""Maps over the head: the right value at the right place, on a real montage and a real evoked response."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from neuroalign.errors import SchemaError
from neuroalign.plots import topomap
from neuroalign.plots.sensors import positions, project

pytest.importorskip("mne")


def sampled(ax: object, places: np.ndarray) -> np.ndarray:
    """Read the painted map at places on the head."""
    image = ax.images[0]  # type: ignore[attr-defined]
    left, right, bottom, top = image.get_extent()
    grid = np.asarray(image.get_array())
    rows = (places[:, 1] - bottom) / (top - bottom) * (grid.shape[0] - 1)
    columns = (places[:, 0] - left) / (right - left) * (grid.shape[1] - 1)
    return grid[rows.round().astype(int), columns.round().astype(int)]


def test_each_sensor_has_its_value_at_its_place(scores: xr.DataArray) -> None:
    values = scores.isel(time=50, drop=True)
    ax = topomap(values)
    painted = sampled(ax, project(positions(values), "eeg"))
    assert np.corrcoef(painted, values.values)[0, 1] > 0.97


@pytest.mark.parametrize(("axis", "across"), [("x", 0), ("y", 1)])
def test_right_is_right_and_the_nose_is_up(scores: xr.DataArray, axis: str, across: int) -> None:
    values = scores[axis].rename("position").drop_attrs()
    ax = topomap(values)
    grid = np.asarray(ax.images[0].get_array())
    profile = grid[32] if across == 0 else grid[:, 32]
    assert profile[10] < profile[32] < profile[-10]


def test_sensors_are_placed_as_mne_places_them(scores: xr.DataArray) -> None:
    import mne
    from matplotlib.figure import Figure

    montage = mne.channels.make_standard_montage("biosemi128")
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    axes = Figure().subplots()
    mne.viz.plot_topomap(np.arange(128.0), info, axes=axes, show=False, sphere=0.095)
    theirs = np.vstack([part.get_offsets() for part in axes.collections if len(part.get_offsets()) == 128])
    mine = project(positions(scores.isel(time=0)), "eeg")
    np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize(("kind", "units"), [("eeg", "µV"), ("mag", "fT"), ("grad", "fT/cm")])
def test_real_evoked(evoked: Callable[[str], xr.DataArray], kind: str, units: str) -> None:
    values = evoked(kind)
    ax = topomap(values, time=0.1)
    assert units in ax.figure.axes[-1].get_ylabel()
    assert ax.get_title() == "100 ms"
    factor = {"eeg": 1e6, "mag": 1e15, "grad": 1e13}[kind]
    there = np.abs(values.sel(time=0.1, method="nearest").values).max() * factor
    assert ax.images[0].get_clim()[1] == pytest.approx(there, rel=0.3)


def test_magnetometers_make_the_map_that_mne_makes_of_them(evoked: Callable[[str], xr.DataArray]) -> None:
    """Head and device frame differ by a rotation and a shift; sites of high field stay the same sensors."""
    values = evoked("mag").sel(time=0.1, method="nearest", drop=True)
    places = project(positions(values), "mag")
    assert np.abs(places).max() < 0.2
    painted = sampled(topomap(values), places)
    assert np.corrcoef(painted, values.values)[0, 1] > 0.97


def test_two_gradiometers_make_one_point(evoked: Callable[[str], xr.DataArray]) -> None:
    values = evoked("grad").sel(time=0.1, method="nearest", drop=True)
    ax = topomap(values)
    pairs = np.sqrt(((values.values.reshape(-1, 2) * 1e13) ** 2).mean(axis=1))
    painted = sampled(ax, project(positions(values)[::2], "grad"))
    assert np.corrcoef(painted, pairs)[0, 1] > 0.95
    assert "RMS of pairs" in ax.figure.axes[-1].get_ylabel()
    dots = [len(part.get_offsets()) for part in ax.collections if len(part.get_offsets()) > 10]
    assert dots == [len(pairs)]


def test_by_default_the_strongest_time(scores: xr.DataArray) -> None:
    title = topomap(scores).get_title()
    assert abs(float(title.removesuffix(" ms")) - 170) < 25


def test_significant_sensors_are_marked(result: xr.Dataset) -> None:
    ax = topomap(result, time=0.17)
    at = result["significant"].sel(time=0.17, method="nearest")
    marks = [line for line in ax.lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in marks] == [int(at.sum())]
    values = result["score"].sel(time=0.17, method="nearest")
    expected = project(positions(values), "eeg")[at.values]
    np.testing.assert_allclose(np.c_[marks[0].get_xdata(), marks[0].get_ydata()], expected, atol=1e-6)


def test_a_mask_in_another_order_is_matched_by_name(result: xr.Dataset) -> None:
    at = result["significant"].isel(time=42)
    ax = topomap(result["score"].isel(time=42), significant=at[::-1])
    marks = next(line for line in ax.lines if line.get_marker() == "o")
    expected = project(positions(result["score"].isel(time=42)), "eeg")[at.values]
    np.testing.assert_allclose(marks.get_xdata(), expected[:, 0], atol=1e-6)


def test_missing_values_are_crossed_out(scores: xr.DataArray) -> None:
    values = scores.isel(time=50).copy()
    values[[3, 60]] = np.nan
    crosses = [line for line in topomap(values).lines if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in crosses] == [2]


def test_colours_are_symmetric_for_both_signs_and_start_at_zero_for_one(scores: xr.DataArray) -> None:
    image = topomap(scores.isel(time=50)).images[0]
    low, high = image.get_clim()
    assert (image.get_cmap().name, low) == ("RdBu_r", -high)
    image = topomap(abs(scores.isel(time=50))).images[0]
    assert (image.get_cmap().name, image.get_clim()[0]) == ("viridis", 0)


def test_drawn_where_asked_without_pyplot(scores: xr.DataArray) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    ax = Figure(layout="constrained").subplots()
    assert topomap(scores, ax=ax) is ax
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.drop_vars("x"), "positions"),
        (lambda s: s.assign_coords(x=s["x"] * 1000), "metres"),
        (lambda s: s.assign_coords(channel_type=("channel", ["seeg"] * 128)), "plots.brain"),
        (lambda s: s.expand_dims(band=2), "band=0"),
        (lambda s: s * np.nan, "three sensors"),
        (lambda s: s.values, "needs labels"),
    ],
)
def test_what_cannot_be_drawn_is_refused(scores: xr.DataArray, change: Callable, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        topomap(change(scores))


def test_no_such_time(scores: xr.DataArray) -> None:
    with pytest.raises(SchemaError, match="no such time"):
        topomap(scores, time=3.0)


def test_sensors_on_one_circle_have_a_map() -> None:
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    coords = {
        "x": ("channel", 0.08 * np.cos(angle)),
        "y": ("channel", 0.08 * np.sin(angle)),
        "z": ("channel", angle * 0),
    }
    values = xr.DataArray(np.sin(angle), dims="channel", coords=coords, name="score")
    painted = sampled(topomap(values), project(positions(values), "eeg"))
    assert np.corrcoef(painted, values.values)[0, 1] > 0.9


def test_sensors_on_one_line_have_none(scores: xr.DataArray) -> None:
    from neuroalign.plots import auto

    line = scores.isel(time=50, channel=[0, 1, 2, 3], drop=True).assign_coords(
        x=("channel", np.zeros(4)), y=("channel", np.arange(4) * 0.03 - 0.05), z=("channel", np.full(4, 0.09))
    )
    with pytest.raises(SchemaError, match="one line"):
        topomap(line)
    assert len(auto(line).patches) == 4
