import warnings

import numpy as np
import pytest
import xarray as xr
from scipy import sparse, stats
from scipy.ndimage import gaussian_filter1d

from neuroalign.encoding import RidgeEncoder
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.evaluation import adjacency, cluster_test, cross_validate, permutation_test


def maps(seed=0, n=14, shape=(8, 40), effect=0.0, smooth=2.0):
    rng = np.random.default_rng(seed)
    values = gaussian_filter1d(rng.standard_normal((n, *shape)), smooth, axis=-1)
    values /= values.std()
    values[:, 2:5, 15:25] += effect
    sites = {"channel": [f"E{k}" for k in range(shape[0])], "time": np.arange(shape[1]) / 100}
    return xr.DataArray(values, dims=("subject", "channel", "time"), coords=sites)


def ring(n):
    """Channels in a circle."""
    step = np.arange(n)
    return sparse.csr_array((np.ones(2 * n), (np.r_[step, step], np.r_[(step + 1) % n, (step - 1) % n])), shape=(n, n))


@pytest.mark.parametrize(("tail", "theirs"), [("greater", 1), ("less", -1), ("both", 0)])
def test_clusters_and_p_are_those_of_mne(tail, theirs):
    mne = pytest.importorskip("mne")
    data, threshold = maps(effect=0.9 if tail != "less" else -0.9), 2.0
    ours = cluster_test(data, adjacency=ring(8), threshold=threshold, tail=tail, n_permutations=2000, random_state=0)
    joint = mne.stats.combine_adjacency(ring(8).tocoo(), 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        t, clusters, p, null = mne.stats.permutation_cluster_1samp_test(
            data.values,
            threshold=-threshold if theirs < 0 else threshold,
            tail=theirs,
            adjacency=joint,
            n_permutations=2000,
            seed=1,
            out_type="mask",
            verbose=False,
        )
    np.testing.assert_allclose(ours.statistic, t, rtol=1e-10)
    mine = {
        tuple(np.flatnonzero((ours.cluster == k).values.ravel())): float(ours.cluster_p.sel(cluster_id=k))
        for k in ours.cluster_id.values
    }
    other = {tuple(np.flatnonzero(mask.ravel())): value for mask, value in zip(clusters, p, strict=True)}
    assert mine.keys() == other.keys()
    for points, value in other.items():
        assert abs(mine[points] - value) < 4 * np.sqrt(2 * value * (1 - value) / 2000) + 1e-3
    mass = {
        tuple(np.flatnonzero((ours.cluster == k).values.ravel())): float(ours.cluster_mass.sel(cluster_id=k))
        for k in ours.cluster_id.values
    }
    for points in other:
        np.testing.assert_allclose(mass[points], t.ravel()[list(points)].sum())
    assert ours.cluster_p[0] < 0.01
    np.testing.assert_allclose(np.quantile(ours.null_max, 0.5), np.median(np.abs(null)), rtol=0.1)


def test_enhancement_is_that_of_mne():
    mne = pytest.importorskip("mne")
    data = maps(effect=0.8, shape=(8, 20), n=12)
    ours = cluster_test(data, adjacency={"channel": ring(8)}, threshold="tfce", n_permutations=400, random_state=0)
    joint = mne.stats.combine_adjacency(ring(8).tocoo(), 20)
    t, _, p, _ = mne.stats.permutation_cluster_1samp_test(
        data.values,
        threshold={"start": 0, "step": 0.2},
        tail=1,
        adjacency=joint,
        n_permutations=400,
        seed=1,
        verbose=False,
    )
    np.testing.assert_allclose(ours.p.values.ravel(), p, atol=0.12)
    both = (ours.p.values.ravel() < 0.05) == (p < 0.05)
    assert both.mean() > 0.97
    assert (ours.enhanced.values[t < 0] == 0).all()


def test_components_of_a_graph_by_hand():
    data = xr.DataArray(np.zeros((4, 6)), dims=("subject", "time"))
    data[:] = np.array([[1.0], [1.1], [0.9], [1.2]])
    data[:, 2] = [1.0, -1.3, 0.8, -1.1]  # a gap
    found = cluster_test(data, threshold=3.0, random_state=0)
    assert found.cluster.values.tolist() == [2, 2, 0, 1, 1, 1]
    assert found.cluster_size.values.tolist() == [3, 2]
    assert found.null_max.size == 15  # all turns of four subjects but none turned
    assert found.cluster_p.values.min() == 1 / 16
    alone = cluster_test(data, threshold=3.0, adjacency="none")
    assert alone.cluster_size.values.tolist() == [1] * 5


def test_both_sides_never_join():
    data = maps(n=10, shape=(1, 20)).isel(channel=0, drop=True)
    data[:, :10], data[:, 10:] = data[:, :10] * 0.1 + 2, data[:, 10:] * 0.1 - 2
    found = cluster_test(data, tail="both")
    assert found.cluster_size.values.tolist() == [10, 10]
    assert sorted(np.sign(found.cluster_mass.values)) == [-1, 1]
    assert cluster_test(data, tail="less").cluster.values.tolist() == [0] * 10 + [1] * 10


def test_false_positives_over_time_and_space():
    hits = {"mass": 0, "tfce": 0}
    for seed in range(200):
        data = maps(seed, n=10, shape=(3, 20))
        for name, threshold in (("mass", None), ("tfce", "tfce")) if seed < 80 else (("mass", None),):
            found = cluster_test(data, adjacency=ring(3), threshold=threshold, n_permutations=99, random_state=seed)
            hits[name] += bool((found.p <= 0.05).any())
    assert stats.binom.interval(0.999, 200, 0.05)[0] <= hits["mass"] <= stats.binom.interval(0.999, 200, 0.05)[1]
    assert hits["tfce"] <= stats.binom.interval(0.999, 80, 0.05)[1]


def test_permuted_scores_of_a_cross_validation():
    rng = np.random.default_rng(0)
    X = xr.DataArray(rng.standard_normal((60, 4)), dims=("stimulus", "unit"))
    noise = gaussian_filter1d(rng.standard_normal((60, 1, 30)), 2, axis=-1) * 3
    noise[:, 0, 10:16] += 0.8 * X.values[:, :1]
    y = xr.DataArray(noise, dims=("stimulus", "channel", "time"), coords={"channel": ["Cz"]})
    result = cross_validate(
        RidgeEncoder(), X, y, cv=3, test="permutation", scorer="r", n_permutations=199, random_state=0, keep_null=True
    )
    assert result.data["null"].dims == ("permutation", "channel", "time")
    np.testing.assert_allclose(result.data["null"].max(("channel", "time")), result.data["null_max"], rtol=1e-6)
    found = cluster_test(result, adjacency={"channel": "none"})
    assert found.cluster_p[0] < 0.02
    assert found.cluster.values[0, 12] == 1
    assert (found.statistic.dims, found.null_max.size) == (("channel", "time"), 199)
    by_hand = (result.score - result.data["null"].mean("permutation")) / result.data["null"].std("permutation")
    np.testing.assert_allclose(found.statistic, by_hand, rtol=0.1)
    with pytest.raises(ConfigError, match="no permutations to keep"):
        cross_validate(RidgeEncoder(), X, y, keep_null=True)


def test_a_single_split_keeps_its_null_too():
    rng = np.random.default_rng(1)
    y = rng.standard_normal((40, 6))
    out = permutation_test(y, y + 3 * rng.standard_normal((40, 6)), n_permutations=50, random_state=0, keep_null=True)
    np.testing.assert_allclose(out.p, (1 + (out.null >= out.score).sum("permutation")) / 51)
    folds = [(np.arange(20), np.arange(20, 40))]
    held = cross_validate(
        RidgeEncoder(), y[:, :2], y, cv=folds, test="shuffle", n_permutations=30, keep_null=True, random_state=0
    )
    assert held.data["null"].shape == (30, 6)


def test_what_has_no_statistic_is_in_no_cluster():
    data = maps(effect=2.0)
    data[3, 3, 18], data[:, 0, 0] = np.nan, 1.0
    found = cluster_test(data, adjacency=ring(8), random_state=0)
    assert np.isnan(found.p.values[[3, 0], [18, 0]]).all()
    assert found.cluster.values[3, 18] == 0
    clean = cluster_test(maps(effect=2.0), adjacency=ring(8), random_state=0)
    assert found.cluster_size[0] == clean.cluster_size[0] - 1


def test_geometry_travels():
    data = maps().assign_coords(x=("channel", np.arange(8.0))).assign_attrs(sfreq=100.0, units="1")
    found = cluster_test(data, adjacency=ring(8), n_permutations=30, random_state=0)
    assert found.p.x.values.tolist() == list(range(8))
    assert found.attrs["sfreq"] == 100.0


def test_triangulation_of_a_montage_is_near_that_of_mne():
    mne = pytest.importorskip("mne")
    montage = mne.channels.make_standard_montage("biosemi64")
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    points = np.array([channel["loc"][:3] for channel in info["chs"]])
    values = xr.DataArray(
        np.zeros(64), dims="channel", coords={axis: ("channel", points[:, k]) for k, axis in enumerate("xyz")}
    )
    ours = adjacency(values, "channel").toarray()
    theirs = mne.channels.find_ch_adjacency(info, "eeg")[0].toarray().astype(bool)
    np.fill_diagonal(theirs, False)
    assert (ours == ours.T).all()
    assert not ours.diagonal().any()
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.85
    assert 4 < ours.sum(axis=1).mean() < 7
    split = values.assign_coords(channel_type=("channel", ["mag", "grad"] * 32))
    assert not adjacency(split, "channel").toarray()[::2, 1::2].any()


def test_grid_distance_and_order():
    k, j, i = np.unravel_index(np.arange(24), (2, 3, 4))
    voxels = xr.DataArray(
        np.zeros(24), dims="voxel", coords={n: ("voxel", v) for n, v in zip("kji", (k, j, i), strict=True)}
    )
    grid = adjacency(voxels, "voxel")
    lattice = sum(
        sparse.kron(sparse.kron(*parts[:2]), parts[2])
        for parts in (
            [
                sparse.diags([1.0, 1.0], [-1, 1], shape=(n, n)) if a == b else sparse.eye(n)
                for b, n in enumerate((2, 3, 4))
            ]
            for a in range(3)
        )
    )
    assert (grid.toarray() == (lattice.toarray() > 0)).all()
    metres = voxels.rename(k="x", j="y", i="z")
    assert (adjacency(metres, "voxel", kind="distance", radius=1.01).toarray() == grid.toarray()).all()
    assert adjacency(metres, "voxel", kind="none").nnz == 0
    assert adjacency(voxels.rename(voxel="time"), "time").nnz == 46


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "which entries of 'channel'"),
        ({"adjacency": ring(7)}, ConfigError, "not those of the values"),
        ({"adjacency": {"voxel": ring(8)}}, ConfigError, "No such dimension"),
        ({"adjacency": {"channel": "near"}}, ConfigError, "Unknown kind"),
        ({"adjacency": {"channel": "distance"}}, ConfigError, "radius"),
        ({"adjacency": {"channel": "delaunay"}}, SchemaError, "no positions"),
        ({"adjacency": ring(8), "tail": "up"}, ConfigError, "tail"),
        ({"adjacency": ring(8), "threshold": -1.0}, ConfigError, "threshold"),
        ({"adjacency": ring(8), "threshold": "high"}, ConfigError, "threshold"),
        ({"adjacency": ring(8), "n_permutations": 0}, ConfigError, "permutations"),
        ({"adjacency": ring(8), "over": "person"}, SchemaError, "nothing to compare"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        cluster_test(maps(n=4), **options)


def test_refusals_of_inputs():
    data = maps(n=4)
    with pytest.raises(SchemaError, match="One subject"):
        cluster_test(data[:1], adjacency=ring(8))
    with pytest.raises(SchemaError, match="Clusters need labels"):
        cluster_test(data.values)
    one, null = data[0], data.rename(subject="permutation")
    with pytest.raises(SchemaError, match="at least 19"):
        cluster_test(one, null=null, adjacency=ring(8))
    with pytest.raises(SchemaError, match="Subjects or permutations"):
        cluster_test(data, null=null, adjacency=ring(8))
    many = xr.concat([null] * 5, "permutation")
    with pytest.raises(AlignmentError, match="labels"):
        cluster_test(one, null=many.assign_coords(channel=list("abcdefgh")), adjacency=ring(8))
    lost = data.assign_coords({axis: ("channel", np.r_[np.nan, np.arange(7.0)]) for axis in "xyz"})
    with pytest.raises(SchemaError, match="such as E0"):
        cluster_test(lost)
