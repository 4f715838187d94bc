"""BandedRidgeEncoder: bands by label, the true band, parts that sum to the prediction."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuroalign import load_model
from neuroalign.align import join
from neuroalign.datasets import prepare
from neuroalign.encoding import BandedRidgeEncoder, RidgeEncoder
from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning
from neuroalign.evaluation import cross_validate
from neuroalign.linear import AlphaGrid
from neuroalign.storage import open as open_store


@parametrize_with_checks([BandedRidgeEncoder(random_state=0)])
@pytest.mark.filterwarnings("ignore:.*targets are constant")
def test_scikit_learn_contract(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def spaces(n: int = 90, sizes: tuple[int, ...] = (6, 10, 4), seed: int = 0) -> tuple[dict, xr.DataArray]:
    """Feature spaces in very different units; voxel i follows space i."""
    rng = np.random.default_rng(seed)
    ids = {"stimulus": [f"image-{k}" for k in range(n)], "run": ("stimulus", np.arange(n) * 6 // n)}
    names = ["vision", "semantics", "sound", "d", "e", "f", "g", "h"][: len(sizes)]
    x, y = {}, []
    for k, (name, p) in enumerate(zip(names, sizes, strict=True)):
        values = rng.normal(size=(n, p))
        y.append(values @ rng.normal(size=p) / np.sqrt(p) + 0.4 * rng.normal(size=n))
        x[name] = xr.DataArray(values * 10.0 ** (3 * k - 3) + k, dims=("stimulus", "unit"), coords=ids)
    targets = xr.DataArray(np.stack(y, axis=1) + 3, dims=("stimulus", "voxel"), coords=ids)
    return x, targets.assign_coords(voxel=np.arange(len(sizes)) * 10)


@pytest.mark.parametrize("sizes", [(6, 10, 4), (5,) * 8, (90, 60)])
def test_the_true_band_has_the_weight(sizes: tuple[int, ...]) -> None:
    parts, y = spaces(150, sizes)
    X, y = join(parts, y)
    model = BandedRidgeEncoder(cv="run", random_state=0).fit(X, y)
    weights = model.band_weights_
    assert weights.dims == ("band", "voxel")
    assert weights["band"].values.tolist() == list(parts)
    np.testing.assert_allclose(weights.sum("band"), 1)
    right = weights.argmax("band").values == np.arange(len(sizes))
    assert right.mean() > 0.7
    assert float(np.diagonal(weights).mean()) > 0.6
    assert model.coef_.dims == ("unit", "voxel")
    assert model.coef_["band"].identical(X["band"])
    assert model.alphas_.dims == model.cv_scores_.dims == model.intercept_.dims == ("voxel",)
    usual = RidgeEncoder(cv="run").fit(X, y)
    assert float(model.cv_scores_.mean()) > float(usual.cv_scores_.mean())


def test_bands_sum_to_the_prediction() -> None:
    parts, y = spaces()
    X, y = join(parts, y)
    model = BandedRidgeEncoder(cv=KFold(4), random_state=0, n_iter=8).fit(X[:60], y[:60])
    each = model.predict_bands(X[60:])
    assert each.dims == ("band", "stimulus", "voxel")
    assert each["stimulus"].identical(X["stimulus"][60:])
    xr.testing.assert_allclose(
        (each.sum("band") + model.intercept_).transpose("stimulus", "voxel"), model.predict(X[60:])
    )
    plain = BandedRidgeEncoder(cv=KFold(4), random_state=0, n_iter=8).fit(
        X.values[:60], y.values[:60], bands=X["band"].values
    )
    np.testing.assert_allclose(plain.predict_bands(X.values[60:]), each, rtol=1e-6)
    np.testing.assert_allclose(plain.band_weights_, model.band_weights_)
    np.testing.assert_allclose(plain.predict(X.values[60:]), model.predict(X[60:]), rtol=1e-6)
    cube = y.expand_dims(band=["a", "b"])  # a target dimension of that name
    named = BandedRidgeEncoder(random_state=0, n_iter=4).fit(X, cube)
    assert named.predict_bands(X).dims == ("band", "stimulus", "band_out", "voxel")


@pytest.mark.filterwarnings("ignore:The grid of alphas")
def test_scikit_learn_on_scaled_bands() -> None:
    parts, y = spaces()
    X, y = join(parts, y)
    model = BandedRidgeEncoder(alphas=np.logspace(-6, 4, 11), cv=KFold(4), random_state=1, n_iter=6).fit(X, y)
    bands = X["band"].values.astype(str)
    for voxel in range(3):
        scale = np.empty(len(bands))
        for k, name in enumerate(parts):
            inside = bands == name
            scale[inside] = np.sqrt(model.band_weights_.values[k, voxel] / X.values[:, inside].var(axis=0).sum())
        peer = Ridge(alpha=float(model.alphas_[voxel]), solver="svd").fit(X.values * scale, y.values[:, voxel])
        np.testing.assert_allclose(model.predict(X)[:, voxel], peer.predict(X.values * scale), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:The grid of alphas")
def test_units_and_one_band() -> None:
    parts, y = spaces()
    X, y = join(parts, y)
    usual = BandedRidgeEncoder(random_state=0, n_iter=8).fit(X, y)
    scale = xr.where(X["band"] == "vision", 1e-12, 1e3)
    other = BandedRidgeEncoder(random_state=0, n_iter=8).fit(X * scale, y * 1e-6)
    np.testing.assert_allclose(other.predict(X * scale), usual.predict(X) * 1e-6, rtol=1e-5)
    np.testing.assert_allclose(other.band_weights_, usual.band_weights_)
    grid, x = np.logspace(-3, 3, 9), X.values[:, :6]
    one = BandedRidgeEncoder(alphas=grid / x.var(axis=0).sum()).fit(x, y.values)
    peer = RidgeEncoder(alphas=grid).fit(x, y.values)
    np.testing.assert_allclose(one.predict(x), peer.predict(x), rtol=1e-7)
    assert one.band_weights_.tolist() == [[1, 1, 1]]


def test_gradient_search_is_no_worse_and_all_is_saved(tmp_path) -> None:
    parts, y = spaces()
    X, y = join(parts, y)
    y[3, 1] = np.nan
    with pytest.warns(NeuroalignWarning, match="1 of 3 targets hold NaN"):
        random = BandedRidgeEncoder(random_state=0, n_iter=5).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        better = clone(random).set_params(search="gradient").fit(X, y)
    known = [0, 2]
    assert (better.cv_scores_.values[known] >= random.cv_scores_.values[known]).all()
    assert np.isnan(better.band_weights_.values[:, 1]).all()
    assert np.isnan(better.predict_bands(X).values[..., 1]).all()
    path = better.save(tmp_path / "model")
    again = load_model(path)
    assert isinstance(again, BandedRidgeEncoder)
    for name in ("band_weights_", "coef_", "alphas_", "cv_scores_", "intercept_"):
        xr.testing.assert_identical(getattr(again, name), getattr(better, name))
    xr.testing.assert_identical(again.predict_bands(X), better.predict_bands(X))
    again.feature_bands_ = again.feature_bands_ + 1
    with pytest.raises(IntegrityError, match="feature_bands_"):
        load_model(again.save(tmp_path / "forged"))


def test_bands_along_one_of_several_dimensions() -> None:
    rng = np.random.default_rng(0)
    coords = {"stimulus": np.arange(40), "band": ("unit", ["a", "a", "b"])}
    x = xr.DataArray(rng.normal(size=(40, 2, 3)), dims=("stimulus", "lag", "unit"), coords=coords)
    y = xr.DataArray(
        x.values[:, 0, 2:] + 0.1 * rng.normal(size=(40, 1)),
        dims=("stimulus", "voxel"),
        coords={"stimulus": np.arange(40)},
    )
    model = BandedRidgeEncoder(random_state=0, n_iter=5).fit(x, y)
    assert model.feature_bands_.tolist() == [0, 0, 1, 0, 0, 1]
    assert float(model.band_weights_.sel(band="b")[0]) > 0.6


def test_targets_choose_alone_together_or_drawn_towards_each_other(tmp_path) -> None:
    parts, y = spaces()
    X, y = join(parts, y)
    settings = {"random_state": 0, "n_iter": 6}
    shared = BandedRidgeEncoder(alphas=AlphaGrid(per_target=False), **settings).fit(X, y)
    assert np.unique(shared.alphas_).size == 1
    assert np.unique(shared.band_weights_, axis=1).shape == (3, 1)
    pooled = BandedRidgeEncoder(alphas=AlphaGrid(per_target="pooled"), **settings).fit(X, y)
    each = BandedRidgeEncoder(**settings).fit(X, y)
    assert float(each.cv_scores_.mean()) >= float(pooled.cv_scores_.mean()) >= float(shared.cv_scores_.mean())
    assert each.separable_targets
    assert not pooled.separable_targets
    again = load_model(pooled.save(tmp_path / "model"))
    xr.testing.assert_identical(again.predict(X), pooled.predict(X))
    xr.testing.assert_identical(again.fit(X, y).predict(X), pooled.predict(X))


def test_the_grid_reaches_far_enough() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 12))
    y = np.c_[x @ rng.normal(size=(12, 3)), np.zeros((60, 40))] + rng.normal(
        size=(60, 43)
    )  # clear targets, and nothing but noise
    bands = np.repeat(["a", "b"], 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = BandedRidgeEncoder(random_state=0, cv=KFold(4), n_iter=6).fit(x, y, bands=bands)
    scaled = x / np.sqrt([x[:, bands == band].var(axis=0).sum() for band in bands])
    mean = np.square(scaled - scaled.mean(axis=0)).sum() / 12
    assert model.alphas_.max() > 1e4 * mean
    assert model.alpha_edges_[0] == 0
    with pytest.warns(NeuroalignWarning, match="chose its smallest value, [1-9][0-9]*% its largest"):
        BandedRidgeEncoder(random_state=0, cv=KFold(4), alphas=[1e-3, 1e-2]).fit(x, y, bands=bands)


def test_wrong_bands_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=(30, 4))
    with pytest.raises(ConfigError, match="mark every feature"):
        BandedRidgeEncoder().fit(x, x, bands=["a", "b"])
    with pytest.raises(ConfigError, match="Unknown search"):
        BandedRidgeEncoder(search="grid").fit(x, x)
    with pytest.raises(ConfigError, match="each target on its own"):
        BandedRidgeEncoder(search="gradient", alphas=AlphaGrid(per_target="pooled")).fit(x, x)
    assert len(BandedRidgeEncoder().get_params()) <= 8


def test_pixels_for_early_and_meaning_for_late_visual_cortex(real_data, tmp_path) -> None:
    name = "objects81-fmri-alexnet-w2v"
    tables = {key: open_store(path).load() for key, path in prepare(name, tmp_path, real_data(name)).items()}
    X, y = join({layer: tables[layer] for layer in ("alexnet", "word2vec")}, tables["responses"])
    model = BandedRidgeEncoder(random_state=0, n_iter=12).fit(X, y)
    share = model.band_weights_.sel(band="word2vec").groupby("roi").mean()
    assert float(share.sel(roi="PFS")) > float(share.sel(roi="EVC")) + 0.1
    result = cross_validate(BandedRidgeEncoder(random_state=0, n_iter=4, scorer="r"), X, y[:, ::20], cv=3)
    assert np.isfinite(result.score).all()
