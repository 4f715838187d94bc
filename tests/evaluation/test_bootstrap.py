import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.evaluation import bootstrap_compare
from neuroalign.metrics import SCORERS


def data(seed=0, n=60, n_targets=4, gain=0.0):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, n_targets))
    a = y + (1 - gain) * rng.standard_normal((n, n_targets)) + 0.1
    b = y + rng.standard_normal((n, n_targets)) - 0.2
    return y, a, b


@pytest.mark.parametrize("scorer", ["r2", "r", "ev"])
@pytest.mark.parametrize("folds", [None, np.repeat([0, 1], 30)])
def test_fast_path_is_the_slow_obvious_one(scorer, folds):
    y, a, b = data()
    blocks = np.repeat(np.arange(12), 5)
    out = bootstrap_compare(y, a, b, blocks=blocks, folds=folds, scorer=scorer, n_bootstraps=200, random_state=3)
    fold = np.zeros(60, int) if folds is None else folds

    def difference(rows):
        each = [rows[fold[rows] == f] for f in np.unique(fold)]
        return np.mean([SCORERS[scorer](y[r], a[r]) - SCORERS[scorer](y[r], b[r]) for r in each], axis=0)

    np.testing.assert_allclose(out.difference, difference(np.arange(60)), atol=1e-12)
    left = np.stack([difference(np.flatnonzero(blocks != block)) for block in range(12)])
    groups = [np.unique(blocks[fold == f]) for f in np.unique(fold)]
    signs = np.random.default_rng(3).choice([-1.0, 1.0], size=(200, 12))
    added, variance = np.empty((12, 4)), 0
    for group in groups:  # the jackknife variance of a stratified statistic is a sum over strata
        n = len(group)
        added[group] = (n - 1) / n * (left[group].mean(axis=0) - left[group])
        variance += (n - 1) / n * np.square(left[group] - left[group].mean(axis=0)).sum(axis=0)
    t = np.empty((200, 4))
    for draw in range(200):
        turned = signs[draw][:, None] * added
        error = np.sqrt(sum(len(g) * turned[g].var(axis=0, ddof=1) for g in groups))
        t[draw] = turned.sum(axis=0) / error
    half = np.quantile(np.abs(t), 0.95, axis=0, method="higher") * np.sqrt(variance)
    np.testing.assert_allclose(out.ci, [out.difference - half, out.difference + half], atol=1e-10)
    observed = np.abs(out.difference.values) / np.sqrt(variance)
    np.testing.assert_allclose(out.p, (1 + (np.abs(t) >= observed).sum(axis=0)) / 201)
    np.testing.assert_allclose(out.score_a - out.score_b, out.difference)


def test_few_blocks_take_students_t():
    y, a, b = data()
    out = bootstrap_compare(y, a, b, blocks=np.repeat(np.arange(6), 10))
    error = (out.ci.sel(bound="high") - out.difference) / stats.t.ppf(0.975, 5)
    np.testing.assert_allclose(out.p, 2 * stats.t.sf(np.abs(out.difference) / error, 5))


def test_neighbours_that_are_alike_widen_the_interval():
    from scipy.signal import lfilter

    rng = np.random.default_rng(0)
    y, one, other = (lfilter([1], [1, -0.9], rng.standard_normal((600, 40)), axis=0) for _ in range(3))
    in_time = bootstrap_compare(y, y + one, y + other, blocks=10, random_state=0)
    labelled = bootstrap_compare(y, y + one, y + other, blocks=np.arange(600) // 10, random_state=0)
    ratio = in_time.ci.diff("bound") / labelled.ci.diff("bound")
    np.testing.assert_allclose(ratio, ratio[0, 0])
    assert 1.1 < ratio[0, 0] < 1.6
    shuffled = rng.permutation(600)
    y, one, other = y[shuffled], one[shuffled], other[shuffled]
    free = bootstrap_compare(y, y + one, y + other, blocks=10, random_state=0)
    same = bootstrap_compare(y, y + one, y + other, blocks=np.arange(600) // 10, random_state=0)
    assert (free.ci.diff("bound") / same.ci.diff("bound"))[0, 0] < 1.05


def test_a_better_model_is_found_and_sides_are_symmetric():
    y, a, b = data(n=200, gain=0.5)
    there = bootstrap_compare(y, a, b, random_state=0)
    back = bootstrap_compare(y, b, a, random_state=0)
    assert (there.p < 0.01).all()
    assert (there.ci.sel(bound="low") > 0).all()
    np.testing.assert_allclose(there.difference, -back.difference)
    np.testing.assert_allclose(there.p, back.p)


def test_equal_models_differ_by_nothing():
    y, a, _ = data()
    out = bootstrap_compare(y, a, a, random_state=0)
    assert (out.difference == 0).all()
    assert (out.p == 1).all()


def test_regions():
    y, a, b = data(n_targets=6)
    y[:, 5] = np.nan
    out = bootstrap_compare(y, a, b, regions=list("vvvwww"), random_state=0)
    assert out.region.values.tolist() == ["v", "w"]
    np.testing.assert_allclose(out.region_difference, [out.difference[:3].mean(), out.difference[3:5].mean()])
    assert (out.region_ci.sel(bound="low") < out.region_difference).all()
    # the mean of a region is surer than its sites
    widths = out.ci.sel(bound="high") - out.ci.sel(bound="low")
    assert out.region_ci.sel(bound="high")[0] - out.region_ci.sel(bound="low")[0] < widths[:3].mean()


def test_labels_and_names():
    y, a, b = data(n_targets=6)
    coords = {"stimulus_id": ("trial", np.repeat(np.arange(20), 3)), "roi": ("voxel", list("vvvwww"))}
    y, a, b = (xr.DataArray(v, dims=("trial", "voxel"), coords=coords) for v in (y, a, b))
    out = bootstrap_compare(y, a, b, blocks="stimulus_id", regions="roi", random_state=0)
    assert out.difference.roi.values.tolist() == list("vvvwww")
    assert out.ci.dims == ("bound", "voxel")
    again = bootstrap_compare(
        y.values, a.values, b.values, blocks=np.repeat(np.arange(20), 3), regions=list("vvvwww"), random_state=0
    )
    np.testing.assert_allclose(out.region_p, again.region_p)


def test_nan_constant_and_flat():
    y, a, b = data(n_targets=5)
    clean = bootstrap_compare(y[:, :1], a[:, :1], b[:, :1], scorer="r", random_state=0)
    y[:, 1], y[0, 2], a[0, 3], b[:, 4] = 2.2, np.nan, np.inf, 0.3
    out = bootstrap_compare(y, a, b, scorer="r", random_state=0)
    assert np.isnan(out.p[1:4]).all()
    assert np.isnan(out.ci[:, 1:4]).all()
    assert out.score_b[4] == 0
    np.testing.assert_allclose(out.p[0], clean.p[0])


def test_tiles_do_not_matter(monkeypatch):
    from neuroalign.evaluation import bootstrap

    y, a, b = data(n_targets=7)
    options = {"regions": list("vwvwvwv"), "random_state": 0, "n_bootstraps": 50}
    whole = bootstrap_compare(y, a, b, **options)
    monkeypatch.setattr(bootstrap, "tiles", lambda n, *_: [slice(i, min(n, i + 2)) for i in range(0, n, 2)])
    xr.testing.assert_allclose(bootstrap_compare(y, a, b, **options), whole)


def test_far_from_zero():
    y, a, b = data()
    near, far = (bootstrap_compare(y + s, a + s, b + s, scorer="r", random_state=0) for s in (0, 1e5))
    np.testing.assert_allclose(near.difference, far.difference, atol=1e-8)


@pytest.mark.parametrize(
    ("n", "blocks", "phi", "scorer"), [(100, 1, 0.0, "r2"), (400, 20, 0.8, "r2"), (400, 20, 0.8, "r")]
)
def test_misses_and_false_positives(n, blocks, phi, scorer):
    from scipy.signal import lfilter

    misses, hits = [], []
    for seed in range(48):
        rng = np.random.default_rng(seed)
        white = rng.standard_normal((n + 100, 4, 25))
        signal, noise, one, other = lfilter([np.sqrt(1 - phi**2)], [1, -phi], white, axis=0)[100:].swapaxes(0, 1)
        out = bootstrap_compare(
            signal + noise,
            signal + one,
            signal + other,
            blocks=blocks,
            scorer=scorer,
            n_bootstraps=199,
            random_state=rng,
        )
        misses.append((out.ci[0] > 0) | (out.ci[1] < 0))
        hits.append(out.p <= 0.05)
    low, high = stats.binom.interval(0.999, 1200, 0.05)
    assert low <= np.sum(misses) <= high
    assert low <= np.sum(hits) <= high


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"scorer": "auc"}, ConfigError),
        ({"blocks": 0}, ConfigError),
        ({"blocks": 60}, ConfigError),
        ({"blocks": "run"}, ConfigError),
        ({"n_bootstraps": 0}, ConfigError),
        ({"level": 95}, ConfigError),
        ({"regions": "roi"}, ConfigError),
        ({"regions": ["v"]}, ConfigError),
    ],
)
def test_refusals(wrong, error):
    y, a, b = data()
    with pytest.raises(error):
        bootstrap_compare(y, a, b, **wrong)
    with pytest.raises(AlignmentError):
        bootstrap_compare(y, a[:5], b)
