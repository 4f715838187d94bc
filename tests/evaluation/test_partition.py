import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuroalign import schema
from neuroalign.align import join
from neuroalign.encoding import BandedRidgeEncoder, RidgeEncoder
from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.evaluation import cross_validate, noise_ceiling, normalise, partition_variance

N = 6000


def latent(n=N, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 8))


def banded(seed=0, n=200, n_targets=3):
    """Two spaces of labelled stimuli that share a feature, and the responses of voxels in a volume."""
    z = latent(n, seed)
    ids = [f"s{k}" for k in range(n)]
    spaces = {
        name: xr.DataArray(z[:, c], dims=("stimulus", "unit"), coords={"stimulus": ids})
        for name, c in (("vision", [0, 1]), ("semantics", [1, 2, 3]))
    }
    places = {axis: ("voxel", np.arange(n_targets)) for axis in "ijk"}
    y = z[:, :4] @ np.array([[1.0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0]])[:, :n_targets]
    y = y + np.random.default_rng(seed + 1).standard_normal(y.shape)
    y = xr.DataArray(y, dims=("stimulus", "voxel"), coords={"stimulus": ids} | places)
    attrs = {"volume_shape": [n_targets] * 3, "affine": np.eye(4).ravel().tolist(), "units": "a.u."}
    return spaces, y.assign_attrs(attrs)


def test_unique_and_shared_parts_of_overlapping_spaces():
    z = latent()
    weights = np.array([1.0, 0.5, 2.0, 1.5])
    y = z[:, :4] @ weights[:, None] + z[:, 4:5]
    parts = partition_variance(LinearRegression(), z, y, spaces={"a": [0, 1], "b": [1, 2], "c": [2, 3, 0]}, cv=4)
    share = np.square(weights) / (np.square(weights).sum() + 1)
    expected = {"a": 0, "b": 0, "c": share[3], "a + b": share[1], "a + c": share[0], "b + c": share[2], "a + b + c": 0}
    got = parts.shared[:, 0]
    assert got.subset.values.tolist() == list(expected)
    np.testing.assert_allclose(got, list(expected.values()), atol=0.02)
    np.testing.assert_allclose(got.sum(), parts.total[0], rtol=1e-12)
    np.testing.assert_allclose(parts.unique[:, 0], got[:3])
    # what a feature of two spaces adds is divided between them
    divided = [share[:2].sum() / 2, share[1:3].sum() / 2, share[3] + share[[0, 2]].sum() / 2]
    np.testing.assert_allclose(parts.split[:, 0], divided, atol=0.02)
    np.testing.assert_allclose(parts.score.sel(subset="a + b")[0], share[:3].sum(), atol=0.02)


def test_orthogonal_spaces_share_nothing_and_the_split_is_the_unique_part():
    z = latent()
    y = np.stack([z[:, 0] + z[:, 2] + z[:, 4], 2 * z[:, 0] + z[:, 4], z[:, 4]], axis=1)
    parts = partition_variance(LinearRegression(), z[:, :4], y, spaces={"a": slice(0, 2), "b": slice(2, 4)}, cv=4)
    np.testing.assert_allclose(parts.unique, [[1 / 3, 0.8, 0], [1 / 3, 0, 0]], atol=0.025)
    np.testing.assert_allclose(parts.shared.sel(subset="a + b"), 0, atol=0.025)
    np.testing.assert_allclose(parts.split, parts.unique, atol=0.01)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_correlated_spaces_and_suppression(sign):
    z, rho = latent(40000), 0.6
    a, b = z[:, 0], rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]
    y = (a + sign * b + z[:, 2])[:, None]
    parts = partition_variance(LinearRegression(), np.stack([a, b], 1), y, spaces={"a": [0], "b": [1]}, cv=2)
    total = 2 + 2 * sign * rho + 1
    np.testing.assert_allclose(parts.unique[:, 0], (1 - rho**2) / total, atol=0.012)
    shared = (2 * (1 + sign * rho) ** 2 - (2 + 2 * sign * rho)) / total
    assert np.sign(shared) == sign
    np.testing.assert_allclose(parts.shared[2, 0], shared, atol=0.015)  # negative where they suppress each other
    np.testing.assert_allclose(parts.split[:, 0], (1 + sign * rho) / total, atol=0.01)


@pytest.mark.parametrize("scorer", ["r2", "ev"])
@pytest.mark.parametrize("model", [Ridge(), make_pipeline(StandardScaler(), Ridge()), RidgeEncoder()])
def test_the_split_adds_up_to_the_total(model, scorer):
    spaces, y = banded(n=60)
    X, y = join(spaces, y + np.linspace(0, 5, 60)[:, None])
    parts = partition_variance(model, X, y, scorer=scorer)
    np.testing.assert_allclose(parts.split.sum("band"), parts.total, atol=1e-5)
    whole = cross_validate(model, X, y, scorer=scorer)
    np.testing.assert_allclose(parts.total, whole.score, rtol=1e-6)
    alone = cross_validate(model, X.isel(unit=X.band.values == "semantics"), y, scorer=scorer)
    np.testing.assert_allclose(parts.score.sel(subset="semantics"), alone.score, rtol=1e-6)
    np.testing.assert_allclose(parts.unique.sel(band="vision"), whole.score - alone.score, atol=1e-6)


def test_the_split_is_that_of_the_coefficients():
    spaces, y = banded(n=80)
    X, y = join(spaces, y)
    fold = [(np.arange(40), np.arange(40, 80))]
    parts = partition_variance(Ridge(), X, y, cv=fold, scorer="ev")
    model = Ridge().fit(X.values[:40], y.values[:40])
    test, yc = X.values[40:] - X.values[40:].mean(0), y.values[40:] - y.values[40:].mean(0)
    for name in ("vision", "semantics"):
        columns = X.band.values == name
        added = test[:, columns] @ model.coef_.T[columns]
        by_hand = (added * (2 * yc - test @ model.coef_.T)).sum(0) / np.square(yc).sum(0)
        np.testing.assert_allclose(parts.split.sel(band=name), by_hand, rtol=1e-6)


class Bands(RidgeEncoder):
    """A model that says itself what its bands add."""

    def predict_bands(self, X):
        parts = [self.predict(X.where(X.band == name, 0.0)) - self.intercept_ for name in dict.fromkeys(X.band.values)]
        return xr.concat(parts, "band").transpose(..., "band")


def test_a_model_may_say_itself_what_its_bands_add():
    spaces, y = banded(n=60)
    own, found = (partition_variance(model, spaces, y, cv=3) for model in (Bands(), RidgeEncoder()))
    np.testing.assert_allclose(own.split, found.split, atol=1e-6)


def test_spaces_are_joined_named_and_put_together():
    spaces, y = banded()
    parts = partition_variance(RidgeEncoder(), spaces, y)
    assert parts.band.values.tolist() == ["vision", "semantics"]
    assert parts.subset.values.tolist() == ["vision", "semantics", "vision + semantics"]
    turned = partition_variance(RidgeEncoder(), spaces, y, spaces=["semantics", "vision"])
    np.testing.assert_allclose(turned.unique, parts.unique[::-1], atol=1e-6)
    three = spaces | {"sound": spaces["vision"].copy(data=latent(200, 5)[:, :2])}
    both = partition_variance(RidgeEncoder(), three, y, spaces={"known": ["vision", "semantics"], "new": "sound"})
    np.testing.assert_allclose(both.score.sel(subset="known"), parts.total, rtol=1e-6)


def test_four_spaces():
    z = latent(300)
    y = z[:, :4] @ np.ones((4, 2)) + z[:, 4:6]
    parts = partition_variance(Ridge(), z, y, spaces={name: [k] for k, name in enumerate("abcd")})
    assert parts.sizes["subset"] == 15
    np.testing.assert_allclose(parts.shared.sum("subset"), parts.total)
    np.testing.assert_allclose(parts.unique, 0.2, atol=0.1)


def test_ceiling_repeats_and_normalised_parts():
    z = latent(80)
    ids = np.repeat([f"s{k}" for k in range(80)], 3)
    y = z[:, :2].repeat(3, axis=0) @ np.ones((2, 2)) + 1.5 * np.random.default_rng(2).standard_normal((240, 2))
    along = {"stimulus_id": ("trial", ids), "band": ("unit", list("aabb"))}
    X = xr.DataArray(z[:, :4].repeat(3, axis=0), dims=("trial", "unit"), coords=along)
    y = xr.DataArray(y, dims=("trial", "voxel"), coords={"stimulus_id": ("trial", ids)})
    parts = partition_variance(RidgeEncoder(), X, y, ceiling="explainable_variance")
    np.testing.assert_allclose(parts.ceiling, noise_ceiling(y, method="explainable_variance"))
    np.testing.assert_allclose(parts.total_normalised, normalise(parts.total, parts.ceiling))
    np.testing.assert_allclose(parts.shared_normalised.sum("subset"), parts.total_normalised)
    assert (parts.total_normalised > parts.total).all()


def test_maps_are_drawn_and_written_by_band():
    pytest.importorskip("nibabel")
    spaces, y = banded()
    parts = partition_variance(RidgeEncoder(), spaces, y)
    image = parts.neuro.to_nifti("unique", band="semantics")
    values = image.get_fdata()[np.arange(3), np.arange(3), np.arange(3)]
    np.testing.assert_allclose(values, parts.unique.sel(band="semantics"), rtol=1e-6)
    assert schema.history(parts)["steps"][-1]["step"] == "partition_variance"
    assert "units" not in parts.attrs
    assert parts.unique.attrs["volume_shape"] == [3, 3, 3]
    ax = parts.neuro.plot("bars", variable="unique", by="band")
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], parts.unique.mean("voxel"))
    one = parts.neuro.plot("bars", variable="unique", band="semantics", by="voxel")
    np.testing.assert_allclose([bar.get_height() for bar in one.patches], parts.unique.sel(band="semantics"))


def test_banded_models_with_a_band_in_two_spaces_or_that_never_changes():
    spaces, y = banded(n=120)
    still = xr.full_like(spaces["vision"], 2.0)
    X, y = join(spaces | {"still": still}, y)
    encoder = BandedRidgeEncoder(cv=3, n_iter=4, random_state=0)
    parts = partition_variance(encoder, X, y, cv=3)
    np.testing.assert_allclose(parts.unique.sel(band="still"), 0, atol=0.02)
    np.testing.assert_allclose(parts.split.sum("band"), parts.total, atol=1e-6)
    both = {"a": ["vision", "semantics"], "b": ["semantics", "still"]}
    parts = partition_variance(encoder, X, y, cv=3, spaces=both)
    np.testing.assert_allclose(parts.split.sum("band"), parts.total, atol=1e-6)
    with pytest.raises(ConfigError, match="would not know the bands"):
        partition_variance(encoder, X.values, y.values, spaces={"a": [0, 1], "b": [2, 3]})


def test_targets_that_cannot_be_scored():
    z = latent(60)
    y = z[:, :3] @ np.ones((3, 3))
    y[:, 1], y[4, 2] = 1.0, np.nan
    parts = partition_variance(Ridge(), z, y, spaces={"a": [0], "b": [1]})
    for name in ("unique", "shared", "split"):
        assert np.isfinite(parts[name][:, 0]).all()
        assert np.isnan(parts[name][:, 1:]).all()
    assert parts.attrs["n_nan_targets"] == 2


def test_the_executor_does_not_matter():
    spaces, y = banded(n=60)
    X, y = join(spaces, y)
    serial, processes = (
        partition_variance(RidgeEncoder(), X, y, cv=2, executor=kind) for kind in ("serial", "processes")
    )
    for name in ("unique", "split", "total"):
        np.testing.assert_allclose(serial[name], processes[name], atol=1e-6)


def test_refusals():
    spaces, y = banded(n=40)
    X, y = join(spaces, y)
    halves = {"a": [0, 1], "b": [2]}
    for options, message in (
        ({"scorer": "r"}, "cannot be divided"),
        ({"spaces": {"vision": [0]}}, "2 to 4 spaces|cannot be partitioned"),
        ({"spaces": None}, "belong together"),
        ({"ceiling": "best"}, "noise ceiling"),
    ):
        with pytest.raises(ConfigError, match=message):
            partition_variance(Ridge(), X.values, y.values, **({"spaces": halves} | options))
    with pytest.raises(ConfigError, match="No such feature space"):
        partition_variance(Ridge(), X, y, spaces=["vision", "sound"])
    with pytest.raises(ConfigError, match="belong together"):
        partition_variance(Ridge(), X.drop_vars("band"), y)
    with pytest.raises(ConfigError, match="split=False"):
        partition_variance(KNeighborsRegressor(), X, y)
    assert "split" not in partition_variance(KNeighborsRegressor(), X, y, split=False)
    with pytest.raises(ConfigError, match="rename"):
        partition_variance(Ridge(), X, y.rename(voxel="band"))
    with pytest.raises(AlignmentError):
        partition_variance(Ridge(), X[:-1], y)
