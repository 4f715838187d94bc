"""Stacked parts of a variance and maps of layers by regions: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuroalign.errors import SchemaError
from neuroalign.plots import heat_map, response_function, venn_bars

SUBSETS = ["vision", "semantics", "vision + semantics"]


@pytest.fixture
def parts() -> xr.Dataset:
    rois = np.repeat(["V1", "PPA", "IPS"], 4)
    shared = np.repeat([[0.2, 0.1, 0.05], [0.02, 0.15, 0.01], [0.1, 0.05, -0.03]], 4, axis=1)
    shared = shared + np.random.default_rng(0).normal(scale=0.001, size=shared.shape)
    coords = {"subset": SUBSETS, "roi": ("voxel", rois)}
    array = xr.DataArray(shared, dims=("subset", "voxel"), coords=coords, attrs={"units": "1", "scorer": "r2"})
    total = array.sum("subset").assign_attrs(units="1", scorer="r2")
    return xr.Dataset({"shared": array, "total": total})


def test_parts_are_stacked_by_region(parts: xr.Dataset) -> None:
    ax = venn_bars(parts)
    heights = np.array([bar.get_height() for bar in ax.patches]).reshape(3, 3)
    expected = np.stack([parts["shared"].values[:, parts.roi.values == r].mean(1) for r in ("V1", "PPA", "IPS")], 1)
    np.testing.assert_allclose(heights, expected)
    bases = np.array([bar.get_y() for bar in ax.patches]).reshape(3, 3)
    np.testing.assert_allclose(bases[2], [heights[:2, 0].sum(), heights[:2, 1].sum(), 0])  # the negative one hangs
    lines = next(part for part in ax.collections if part.get_label() == "total")
    np.testing.assert_allclose([line[0, 1] for line in lines.get_segments()], expected.sum(axis=0))
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "shared by vision + semantics" in shown
    assert "unique to vision" in shown
    assert ax.get_ylabel() == "R²"


def test_bars_of_single_targets_and_of_all(parts: xr.Dataset) -> None:
    few = parts.isel(voxel=slice(0, 4)).drop_vars("roi")
    assert len(venn_bars(few).patches) == 12
    many = xr.concat([parts.drop_vars("roi")] * 5, "voxel")
    assert len(venn_bars(many).patches) == 3
    assert len(venn_bars(parts, by="voxel").patches) == 36
    assert parts.neuro.plot("venn_bars").get_ylabel() == "R²"


def test_parts_that_are_none_are_refused(parts: xr.Dataset) -> None:
    with pytest.raises(SchemaError, match="not the parts"):
        venn_bars(parts[["total"]])
    with pytest.raises(SchemaError, match="nothing named 'network'"):
        venn_bars(parts, by="network")


@pytest.fixture
def layered() -> xr.DataArray:
    values = np.random.default_rng(0).normal(scale=0.02, size=(5, 12))
    values[np.repeat([1, 3, 4], 4), np.arange(12)] += 0.5
    coords = {"layer": [f"block{k}" for k in range(5)], "roi": ("voxel", np.repeat(["V1", "V4", "IT"], 4))}
    attrs = {"units": "1", "scorer": "r"}
    return xr.DataArray(values, dims=("layer", "voxel"), coords=coords, name="score", attrs=attrs)


def test_the_best_layer_of_each_region_is_framed(layered: xr.DataArray) -> None:
    ax = heat_map(layered)
    assert [patch.get_xy() for patch in ax.patches] == [(-0.5, 0.5), (0.5, 2.5), (1.5, 3.5)]
    drawn = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(drawn, layered.values.reshape(5, 3, 4).mean(axis=2))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == layered.layer.values.tolist()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["V1", "V4", "IT"]


def test_regions_without_scores_have_no_frame(layered: xr.DataArray) -> None:
    holed = layered.where(layered.roi != "V4")
    assert len(heat_map(holed).patches) == 2
    assert len(heat_map(layered, by="voxel").patches) == 12
    with pytest.raises(SchemaError, match="no layers"):
        heat_map(layered.rename(layer="stage"))
    assert len(heat_map(layered.rename(layer="stage"), dim="stage").patches) == 3
    assert len(heat_map(xr.Dataset({"candidate_score": layered, "score": layered[0]})).patches) == 3


def response(n: int = 3) -> xr.DataArray:
    lags = np.arange(20) / 50
    curves = np.sin(lags * 10)[:, None] * np.arange(1, n + 1)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(6, 20, n))
    coords = {"lag": lags, "channel": [f"E{k}" for k in range(n)]}
    return xr.DataArray(curves + noise, dims=("fold", "lag", "channel"), coords=coords)


def test_intervals_over_folds() -> None:
    from scipy import stats

    weights = response()
    ax = response_function(weights)
    np.testing.assert_allclose(
        [line.get_ydata() for line in ax.lines if line.get_label().startswith("E")], weights.mean("fold").T
    )
    half = stats.t.ppf(0.975, 5) * stats.sem(weights.values, axis=0)
    spread = ax.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(spread.max(), (weights.mean("fold").values + half)[:, 0].max())
    assert len(ax.collections) == 3
    mean = weights.mean("fold")
    given = response_function(mean, interval=xr.concat([mean - half, mean + half], "bound"))
    np.testing.assert_allclose(given.collections[0].get_paths()[0].vertices[:, 1].max(), spread.max())
    with pytest.raises(SchemaError, match="does not fit"):
        response_function(mean, interval=mean)


def test_only_named_channels_of_a_butterfly_get_an_interval() -> None:
    assert len(response_function(response(12), best=2).collections) == 2
