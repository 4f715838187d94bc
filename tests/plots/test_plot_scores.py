"""Bars, scatter, profile and histograms: the numbers that are drawn, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neuroalign.errors import SchemaError
from neuroalign.plots import alphas, bars, distribution, layer_profile, score_vs_ceiling

ROIS = ["EVC", "OPA", "PPA", "LOC", "PFS", "OFA", "FFA"]


@pytest.fixture
def voxels() -> xr.DataArray:
    rng = np.random.default_rng(0)
    names = np.repeat(ROIS, [100, 100, 100, 96, 100, 100, 100]).astype(object)
    return xr.DataArray(rng.random(696), dims="voxel", coords={"roi": ("voxel", names)}, name="score")


def heights(ax: object) -> list[float]:
    return [part.get_height() for part in ax.patches]  # type: ignore[attr-defined]


def texts(ax: object) -> list[str]:
    return [tick.get_text() for tick in ax.get_xticklabels()]  # type: ignore[attr-defined]


def test_bars_by_a_coordinate(voxels: xr.DataArray) -> None:
    ax = bars(voxels, by="roi")
    groups = [voxels.values[voxels["roi"].values == name] for name in ROIS]
    assert texts(ax) == ROIS
    np.testing.assert_allclose(heights(ax), [group.mean() for group in groups])
    segments = np.array([path.vertices[:, 1] for path in ax.collections[0].get_paths()])
    np.testing.assert_allclose(np.ptp(segments, axis=1) / 2, [stats.sem(group) for group in groups])


def test_bars_side_by_side_with_ceiling_and_significance() -> None:
    values = xr.DataArray(
        [[0.1, 0.2, np.nan], [0.3, -0.1, 0.5]],
        dims=("model", "roi"),
        coords={"model": ["A", "B"], "roi": ["x", "y", "z"]},
        attrs={"long_name": "R²"},
    )
    ceiling = xr.DataArray([0.6, 0.7, 0.8], dims="roi", coords={"roi": ["x", "y", "z"]})
    ax = bars(values, ceiling=ceiling[::-1], significant=values > 0.25)
    np.testing.assert_allclose(heights(ax), values.values.ravel())
    ticks = next(part for part in ax.collections if part.get_label() == "noise ceiling")
    tops = [segment[0, 1] for segment in ticks.get_segments()]
    np.testing.assert_allclose(tops, [0.6, 0.7, 0.8] * 2)
    assert [text.get_text() for text in ax.texts] == ["*", "*"]
    assert [text.xy[1] for text in ax.texts] == [0.3, 0.5]
    assert ax.get_ylabel() == "R²"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["noise ceiling", "A", "B"]


def test_given_errors_replace_the_standard_error(voxels: xr.DataArray) -> None:
    error = xr.DataArray(np.arange(7) + 1.0, dims="roi", coords={"roi": np.array(ROIS, object)})
    segments = [path.vertices[:, 1] for path in bars(voxels, error=error).collections[0].get_paths()]
    np.testing.assert_allclose(np.ptp(np.array(segments), axis=1) / 2, np.arange(7) + 1.0)


def test_many_bars_keep_labels_that_do_not_overlap() -> None:
    values = xr.DataArray(
        np.random.default_rng(0).random(98), dims="channel", coords={"channel": [f"LAMY {k}" for k in range(98)]}
    )
    ax = bars(values, by="channel")
    ax.figure.draw_without_rendering()
    places = [tick.get_position()[0] for tick in ax.get_xticklabels()]
    points = ax.transData.transform(np.c_[places, np.zeros(len(places))])[:, 0]
    size = ax.get_xticklabels()[0].get_fontsize() * ax.figure.dpi / 72
    assert np.diff(points).min() >= size
    assert len(heights(ax)) == 98


def test_bars_refuse_an_unknown_label(voxels: xr.DataArray) -> None:
    with pytest.raises(SchemaError, match="by='network'"):
        bars(voxels, by="network")


def test_scatter_against_the_ceiling(result: xr.Dataset) -> None:
    ax = score_vs_ceiling(result)
    drawn = np.concatenate([np.asarray(part.get_offsets()) for part in ax.collections])
    expected = np.c_[result["ceiling"].values.ravel(), result["score"].values.ravel()]
    order = lambda pairs: pairs[np.lexsort(pairs.T)]  # noqa: E731
    np.testing.assert_allclose(order(drawn), order(expected))
    identity = next(line for line in ax.lines if line.get_label() == "score = ceiling")
    np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
    assert ax.get_aspect() == 1
    assert ax.get_xlim() == ax.get_ylim()
    n = int(result["significant"].sum())
    assert f"significant ({n})" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_sites_without_a_ceiling_are_counted(voxels: xr.DataArray) -> None:
    ax = score_vs_ceiling(voxels, (voxels + 0.1).where(voxels > 0.5))
    assert f"({int((voxels <= 0.5).sum())} sites without one)" in ax.get_xlabel()
    with pytest.raises(SchemaError, match="split_half_sb"):
        score_vs_ceiling(voxels)


@pytest.fixture
def layered() -> xr.DataArray:
    values = np.random.default_rng(0).random((2, 5, 40)) + np.eye(5)[[1, 3], :, None]
    coords = {"modality": ["EEG", "fMRI"], "layer": [f"block{k}" for k in range(5)]}
    return xr.DataArray(values, dims=("modality", "layer", "target"), coords=coords, name="score")


def test_layer_profile(layered: xr.DataArray) -> None:
    ax = layer_profile(layered)
    curves = [line for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([line.get_ydata() for line in curves], layered.mean("target"))
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    assert [int(star.get_xdata()[0]) for star in stars] == [1, 3]
    assert texts(ax) == list(layered["layer"].values)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["EEG", "fMRI"]


def test_layer_profile_of_a_mapping_is_that_of_an_array(layered: xr.DataArray) -> None:
    ax = layer_profile({name: layered.sel(modality=name) for name in ("EEG", "fMRI")})
    curves = [line for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([line.get_ydata() for line in curves], layered.mean("target"))
    with pytest.raises(SchemaError, match="same layers"):
        layer_profile({"a": layered[0], "b": layered[0, :3]})


def test_constant_targets_do_not_pull_a_profile(layered: xr.DataArray) -> None:
    holed = layered.copy()
    holed[:, :, 0] = np.nan
    ax = layer_profile(holed)
    curves = [line for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([line.get_ydata() for line in curves], holed.mean("target"))


def test_alphas_count_choices_and_mark_the_edges() -> None:
    grid = 10.0 ** np.arange(-2, 4)
    chosen = np.repeat(grid, [3, 0, 5, 7, 0, 5])
    ax = alphas(chosen.astype(np.float32), grid)
    assert heights(ax) == [3, 0, 5, 7, 0, 5]
    assert [text.get_text() for text in ax.texts] == ["15%\nat the edge", "25%\nat the edge"]
    inside = alphas(chosen[3:], grid)
    assert [text.get_text() for text in inside.texts] == ["0%", "29%\nat the edge"]  # no words over the next bar
    with pytest.raises(SchemaError, match="not on the grid"):
        alphas(np.array([0.5]), grid)


def test_distribution_counts_every_site_once(result: xr.Dataset) -> None:
    ax = distribution(result)
    assert sum(heights(ax)) == result["score"].size
    assert f"significant ({int(result['significant'].sum())})" in [
        text.get_text() for text in ax.get_legend().get_texts()
    ]


def test_names_are_not_typeset_and_not_hidden() -> None:
    names = [r"$\input{x}$", "_E1", "a" * 80, "tab\there"]
    values = xr.DataArray(np.ones((4, 2)), dims=("model", "roi"), coords={"model": names, "roi": ["a", "b"]})
    ax = bars(values)
    ax.figure.draw_without_rendering()
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert shown[0] == r"\$\input{x}\$"
    assert shown[1] == " _E1"
    assert len(shown[2]) == 36
    assert shown[3] == "tab\ufffdhere"
