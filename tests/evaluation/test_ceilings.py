import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.evaluation import noise_ceiling, normalise

METHODS = ("split_half_sb", "explainable_variance", "cc_max", "ncsnr")


def simulate(seed, repeats, snr, n_targets):
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(len(repeats)), repeats)
    y = rng.standard_normal((len(repeats), n_targets))[ids] * np.sqrt(snr) + rng.standard_normal((len(ids), n_targets))
    order = rng.permutation(len(ids))
    return y[order], ids[order], snr / (snr + np.mean(1 / repeats))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("repeats", [np.full(150, 4), np.arange(150) % 5 + 1, np.full(150, 3)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_true_ceiling_is_found(method, repeats, seed):
    y, ids, truth = simulate(seed, repeats, 0.5, 1000)
    got = noise_ceiling(y, repeats=ids, method=method, n_splits=20, random_state=seed)
    assert abs(got.mean() - truth) < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_levels(method):
    y, ids, _ = simulate(0, np.full(200, 4), 0.5, 500)
    for level, truth in (("single", 0.5 / 1.5), (2, 0.5 / 1.0), ("average", 0.5 / 0.75)):
        got = noise_ceiling(y, repeats=ids, method=method, level=level, n_splits=20, random_state=0)
        assert abs(got.mean() - truth) < 0.02


def test_methods_agree_and_r_is_the_root():
    y, ids, _ = simulate(3, np.full(300, 4), 1.0, 3)
    half, variance, power, ratio = (noise_ceiling(y, repeats=ids, method=m, random_state=0) for m in METHODS)
    np.testing.assert_allclose(half, variance, atol=0.02)
    np.testing.assert_allclose(power, variance, atol=0.02)
    np.testing.assert_allclose(ratio, variance, rtol=1e-9)  # with equal numbers of repeats
    r = noise_ceiling(y, repeats=ids, method="explainable_variance", scorer="r")
    np.testing.assert_allclose(r**2, variance)


def test_split_half_against_the_slow_obvious_version():
    y, ids, _ = simulate(4, np.full(30, 2), 1.0, 2)
    got = noise_ceiling(y, repeats=ids, n_splits=500, random_state=0, bias_corrected=False)
    rng = np.random.default_rng(1)
    r = np.zeros((500, 2))
    for draw in r:
        pairs = [rng.permutation(y[ids == s]) for s in range(30)]
        for t in range(2):
            draw[t] = stats.pearsonr([p[0, t] for p in pairs], [p[1, t] for p in pairs])[0]
    mean = r.mean(axis=0)
    np.testing.assert_allclose(got, 2 * mean / (1 + mean), atol=0.01)


def test_explainable_variance_is_the_classical_analysis_of_variance():
    y, ids, _ = simulate(5, np.full(40, 3), 1.0, 1)
    f = stats.f_oneway(*(y[ids == s, 0] for s in range(40))).statistic
    got = noise_ceiling(y, repeats=ids, method="explainable_variance")
    np.testing.assert_allclose(got[0], 1 - (39 - 2) / 39 / f)


def cube(seed=9, n_stimuli=40, n_repeats=3, n_targets=2):
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n_stimuli, 1, n_targets))
    y = signal + rng.standard_normal((n_stimuli, n_repeats, n_targets))
    return xr.DataArray(y, dims=("stimulus", "repeat", "voxel"))


def test_cc_max_is_signal_power_over_the_power_of_the_mean():
    y = cube()
    values, n = y.values, y.sizes["repeat"]
    # Sahani and Linden's signal power, as in equation 1 of Schoppe et al.
    total = values.sum(axis=1).var(axis=0, ddof=1)
    each = values.var(axis=0, ddof=1).sum(axis=0)
    signal = (total - each) / (n * (n - 1))
    noise = each / n - signal
    expected = 1 / np.sqrt(1 + noise / (n * signal))
    got = noise_ceiling(y, repeats="repeat", method="cc_max", scorer="r", bias_corrected=False)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_cc_max_knows_drift_over_repeats_from_noise():
    y = cube(n_stimuli=200)
    drift = xr.DataArray([0.0, 5.0, -3.0], dims="repeat")
    options = {"repeats": "repeat", "method": "cc_max"}
    np.testing.assert_allclose(noise_ceiling(y + drift, **options), noise_ceiling(y, **options), rtol=1e-10)
    assert (noise_ceiling(y + drift, repeats="repeat", method="ncsnr") < 0.3).all()
    holed = (y + drift).where((y.stimulus % 4 > 0) | (y["repeat"] != 1))
    np.testing.assert_allclose(noise_ceiling(holed, **options), noise_ceiling(y, **options), atol=0.04)


def test_ncsnr_is_that_of_the_natural_scenes_data():
    y = cube()
    scaled = ((y - y.mean(("stimulus", "repeat"))) / y.std(("stimulus", "repeat"), ddof=1)).values
    noise = scaled.var(axis=1, ddof=1).mean(axis=0)
    ratio = np.sqrt(1 - noise) / np.sqrt(noise)
    for k in (1, 3, 12):
        got = noise_ceiling(y, repeats="repeat", method="ncsnr", level=k, bias_corrected=False)
        np.testing.assert_allclose(got, ratio**2 / (ratio**2 + 1 / k), rtol=1e-10)
    single = noise_ceiling(y, repeats="repeat", method="ncsnr", level="single", bias_corrected=False)
    np.testing.assert_allclose(np.sqrt(single / (1 - single)), ratio, rtol=1e-10)


def test_the_correction_is_what_low_ceilings_lack():
    y, ids, truth = simulate(11, np.full(30, 3), 0.1, 3000)
    for method in METHODS:
        plain, corrected = (
            noise_ceiling(y, repeats=ids, method=method, n_splits=10, random_state=0, bias_corrected=flag).mean()
            for flag in (False, True)
        )
        assert plain < truth - 0.03
        assert abs(corrected - truth) < 0.015


def test_the_true_signal_reaches_the_ceiling_less_the_known_shortfall():
    n, rel = 20, 0.6
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((n, 20000)) * np.sqrt(rel)
    y = signal + rng.standard_normal(signal.shape) * np.sqrt(1 - rel)
    r2 = 1 - np.square(y - signal).sum(0) / np.square(y - y.mean(0)).sum(0)
    assert abs(r2.mean() - (rel - (1 - rel) * (1 + 2 * rel) / (n - 3))) < 0.004


def test_labels_are_kept_and_repeats_may_be_a_dimension():
    y, ids, _ = simulate(6, np.full(20, 3), 1.0, 6)
    order = np.argsort(ids, kind="stable")
    cube = xr.DataArray(
        y[order].reshape(20, 3, 2, 3),
        dims=("stimulus", "repeat", "channel", "time"),
        coords={"channel": ["Cz", "Pz"], "x": ("channel", [0.0, 1.0])},
    )
    from_dim = noise_ceiling(cube, repeats="repeat", method="explainable_variance")
    assert from_dim.dims == ("channel", "time")
    assert from_dim.x.values.tolist() == [0.0, 1.0]
    trials = xr.DataArray(y.reshape(-1, 2, 3), dims=("trial", "channel", "time")).assign_coords(
        stimulus_id=("trial", ids)
    )
    from_ids = noise_ceiling(trials.transpose("channel", "trial", "time"), method="explainable_variance")
    np.testing.assert_allclose(from_dim, from_ids)
    missing = cube.copy()
    missing[0, 2] = np.nan
    assert np.isfinite(noise_ceiling(missing, repeats="repeat")).all()


@pytest.mark.parametrize("method", METHODS)
def test_nan_constant_and_negative(method):
    y, ids, _ = simulate(7, np.full(30, 2), 1.0, 5)
    y[:, 1], y[3, 2], y[4, 3] = 7.1, np.nan, np.inf
    y[:, 4] = np.where(np.arange(len(ids)) == np.unique(ids, return_index=True)[1][ids], 1.0, -1.0) * (1 + ids)
    got = noise_ceiling(y, repeats=ids, method=method, random_state=0)
    assert np.isfinite(got[0])
    assert np.isnan(got[1:4]).all()
    assert got[4] < 0 or np.isnan(got[4])
    assert np.isnan(noise_ceiling(y, repeats=ids, method="explainable_variance", scorer="r")[4])


def test_tiles_do_not_matter(monkeypatch):
    from neuroalign.evaluation import ceilings

    y, ids, _ = simulate(8, np.full(10, 3), 1.0, 7)
    whole = [noise_ceiling(y, repeats=ids, method=m, random_state=0) for m in METHODS]
    monkeypatch.setattr(ceilings, "tiles", lambda n, *_: [slice(i, min(n, i + 2)) for i in range(0, n, 2)])
    tiled = [noise_ceiling(y, repeats=ids, method=m, random_state=0) for m in METHODS]
    for a, b in zip(whole, tiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_refusals():
    y = xr.DataArray(np.zeros((4, 2)), dims=("trial", "voxel"))
    with pytest.raises(SchemaError, match="repeated presentations"):
        noise_ceiling(y)
    with pytest.raises(SchemaError, match="repeated presentations"):
        noise_ceiling(y.assign_coords(stimulus_id=("trial", list("abcd"))))
    with pytest.raises(ConfigError, match="No coordinate 'image'"):
        noise_ceiling(y, repeats="image")
    for wrong in ({"method": "best"}, {"level": "half"}, {"scorer": "auc"}, {"n_splits": 0}):
        with pytest.raises(ConfigError):
            noise_ceiling(y.values, repeats=list("aabb"), **wrong)


def test_normalise():
    score = xr.DataArray([0.2, 0.2, -0.1, np.nan], dims="voxel", coords={"voxel": list("abcd")})
    ceiling = xr.DataArray([0.4, 0.04, 0.5, 0.5], dims="voxel", coords={"voxel": list("abcd")})
    np.testing.assert_allclose(normalise(score, ceiling), [0.5, np.nan, -0.2, np.nan])
    # r is divided by the root of the reliability, and the minimum is one of reliability for both
    np.testing.assert_allclose(
        normalise(score, np.sqrt(ceiling), "r"), [0.2 / 0.4**0.5, np.nan, -0.1 / 0.5**0.5, np.nan]
    )
    assert normalise(np.array([0.9]), np.array([0.5]))[0] == 1.8  # not clipped


def test_a_masked_array_is_refused():
    y = np.ma.masked_greater(np.random.default_rng(0).standard_normal((40, 2)), 1.0)
    with pytest.raises(SchemaError, match="taken for data"):
        noise_ceiling(y, repeats=np.repeat(np.arange(20), 2))
