"""RDMs and model comparison: the matrix in its order, bars with their intervals, on real RDMs too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.io import loadmat
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from neuroalign.errors import SchemaError
from neuroalign.plots import rdm, rdm_grid, rsa_bars
from neuroalign.rsa import concat, evaluate, from_square


def random_rdm(n: int, seed: int, *, low: float = 0.0) -> xr.DataArray:
    values = np.random.default_rng(seed).uniform(low, 1, n * (n - 1) // 2)
    return from_square(squareform(values), [f"c{k}" for k in range(n)])


def drawn(ax: object) -> np.ndarray:
    return np.ma.getdata(ax.images[0].get_array())  # type: ignore[attr-defined]


def test_matrix_and_names() -> None:
    values = random_rdm(6, 0)
    ax = rdm(values)
    upper = np.triu_indices(6, 1)
    np.testing.assert_allclose(drawn(ax)[upper], values.values)
    np.testing.assert_allclose(drawn(ax).T[upper], values.values)
    assert np.ma.getmaskarray(ax.images[0].get_array())[np.diag_indices(6)].all()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [f"c{k}" for k in range(6)]


def test_conditions_are_sorted_by_category() -> None:
    values = random_rdm(6, 0)
    kinds = {"c0": "face", "c1": "place", "c2": "face", "c3": "place", "c4": "face", "c5": "place"}
    ax = rdm(values, category=kinds)
    order = [0, 2, 4, 1, 3, 5]
    np.testing.assert_allclose(
        drawn(ax)[np.triu_indices(6, 1)], squareform(values.values)[np.ix_(order, order)][np.triu_indices(6, 1)]
    )
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["face", "place"]
    np.testing.assert_allclose(drawn(rdm(values, category=list(kinds.values()))), drawn(ax))
    with pytest.raises(SchemaError, match="no category"):
        rdm(values, category={"c0": "face"})
    with pytest.raises(SchemaError, match="number of categories"):
        rdm(values, category=["face"])


def test_percentiles() -> None:
    values = random_rdm(8, 1)
    ax = rdm(values, rank=True)
    np.testing.assert_allclose(drawn(ax)[np.triu_indices(8, 1)], 100 * (rankdata(values) - 0.5) / 28)
    assert ax.images[0].get_clim() == (0, 100)


def test_crossvalidated_distances_are_centred_on_zero() -> None:
    image = rdm(random_rdm(8, 1, low=-0.5)).images[0]
    low, high = image.get_clim()
    assert (low, image.get_cmap().name) == (-high, "RdBu_r")
    assert rdm(random_rdm(8, 1)).images[0].get_cmap().name == "viridis"


def test_time_is_cut_at_its_peak() -> None:
    values = xr.concat([random_rdm(5, 0) * scale for scale in (0.1, 3.0, 0.2)], "time").assign_coords(
        time=[0.0, 0.1, 0.2]
    )
    ax = rdm(values)
    assert ax.get_title() == "at 100 ms"
    np.testing.assert_allclose(drawn(ax)[np.triu_indices(5, 1)], values[1])


def test_refusals() -> None:
    with pytest.raises(SchemaError, match="rdm_grid"):
        rdm(xr.DataArray(np.zeros((2, 3, 3))))
    with pytest.raises(SchemaError, match="no set of RDMs"):
        rdm_grid({})


def test_grid_of_real_models(real_data: Callable[[str], Path]) -> None:
    table = loadmat(real_data("rdm92-kriegeskorte") / "92_modelRDMs.mat")["Models"][0]
    names = [f"image {k}" for k in range(92)]
    models = {str(entry["name"][0]): from_square(entry["RDM"], names) for entry in table}
    axes = rdm_grid(models)
    assert [ax.get_title() for ax in axes] == list(models)
    assert len(axes) == 8
    first = models["monkeyIT"]
    ax = axes[list(models).index("monkeyIT")]
    np.testing.assert_allclose(drawn(ax)[np.triu_indices(92, 1)], 100 * (rankdata(first) - 0.5) / 4186)


@pytest.fixture(scope="module")
def outcome() -> object:
    truth, other = random_rdm(20, 0), random_rdm(20, 1)
    subjects = {f"sub-{k}": truth + 0.3 * random_rdm(20, k + 2).values for k in range(6)}
    return evaluate({"truth": truth, "other": other}, concat(subjects), n=50, random_state=0)


def test_bars_have_intervals_ceiling_and_dots(outcome: object) -> None:
    data = outcome.data  # type: ignore[attr-defined]
    ax = rsa_bars(outcome)
    (band, *bars) = ax.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(tuple(data["ceiling"].values))
    np.testing.assert_allclose([bar.get_height() for bar in bars], data["score"])
    segments = np.array([path.vertices[:, 1] for path in ax.collections[0].get_paths()])
    np.testing.assert_allclose(segments.T, data["ci"], rtol=1e-6)
    dots = [line for line in ax.lines if line.get_label().startswith("above 0")]
    assert [list(line.get_xdata()) for line in dots] == [[0]]
    assert ax.get_ylabel() == "RDM agreement (rho-a)"


def test_scores_over_time_and_place() -> None:
    truth, times = random_rdm(12, 0), np.linspace(-0.1, 0.4, 11)
    size = np.exp(-(((times - 0.2) / 0.1) ** 2))
    parts = [
        xr.concat([truth * s + random_rdm(12, 100 * k + j).values for j, s in enumerate(3 * size)], "time")
        for k in range(5)
    ]
    measured = xr.concat(parts, "subject").assign_coords(time=times)
    found = evaluate({"truth": truth, "other": random_rdm(12, 7)}, measured, n=50, random_state=0)
    ax = rsa_bars(found)
    line = next(part for part in ax.lines if part.get_label() == "truth")
    np.testing.assert_allclose(line.get_ydata(), found.score.sel(model="truth"))
    np.testing.assert_allclose(line.get_xdata(), times * 1e3)
    places = measured.rename(time="roi").assign_coords(roi=[f"roi{k}" for k in range(11)])
    found = evaluate({"truth": truth, "other": random_rdm(12, 7)}, places, n=50, random_state=0)
    ax = rsa_bars(found)
    heights = np.array([bar.get_height() for bar in ax.patches]).reshape(2, 11)
    np.testing.assert_allclose(heights, found.score.transpose("model", "roi"))


def test_something_else_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"rsa\.evaluate"):
        rsa_bars(xr.Dataset({"score": ("roi", [1.0])}))
