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


def weighted_score(y, p, weights, scorer):
    """Score of samples that count so many times each."""
    n = weights.sum()
    mean = weights @ y / n
    lost = y - p - (weights @ (y - p) / n if scorer == "ev" else 0)
    if scorer != "r":
        return 1 - weights @ lost**2 / (weights @ (y - mean) ** 2)
    yc, pc = y - mean, p - weights @ p / n
    return weights @ (yc * pc) / np.sqrt(weights @ yc**2 * (weights @ pc**2))


def slow_shares(y, a, b, block, fold, scorer):
    """What each block adds to the difference, by counting it a little more, and its share of the reference."""
    added, reference = np.zeros((2, block.max() + 1, y.shape[1]))
    for f in np.unique(fold):
        rows = fold == f
        parts = [x[rows] for x in (y, a, b)]
        z, za, zb = ((x - x.mean(axis=0)) ** 2 for x in parts)
        z, za, zb = (x / x.sum(axis=0) for x in (z, za, zb))
        share = z / 2 + za / 4 + zb / 4 if scorer == "r" else z
        whole = [weighted_score(parts[0], x, np.ones(rows.sum()), scorer) for x in parts[1:]]
        for k in np.unique(block[rows]):
            ends = []
            for step in (1e-4, -1e-4):
                weights = 1 + step * (block[rows] == k)
                ends.append(np.subtract(*(weighted_score(parts[0], x, weights, scorer) for x in parts[1:])))
            reference[k] = share[block[rows] == k].sum(axis=0)
            added[k] = (ends[0] - ends[1]) / 2e-4 + (whole[0] - whole[1]) * reference[k]
    return added / len(np.unique(fold)), reference / len(np.unique(fold))


@pytest.mark.parametrize("scorer", ["r2", "r", "ev"])
@pytest.mark.parametrize("folds", [None, np.repeat([0, 1], 30)])
def test_the_interval_holds_what_turning_does_not_reject(scorer, folds):
    y, a, b = data()
    blocks = np.repeat(np.arange(12), 5)
    out = bootstrap_compare(y, a, b, blocks=blocks, folds=folds, scorer=scorer, n_bootstraps=200, random_state=3)
    fold = np.zeros(60, int) if folds is None else folds
    each = [[SCORERS[scorer](y[fold == f], x[fold == f]) for f in np.unique(fold)] for x in (a, b)]
    np.testing.assert_allclose(out.score_a, np.mean(each[0], axis=0), atol=1e-12)
    np.testing.assert_allclose(out.score_b, np.mean(each[1], axis=0), atol=1e-12)
    np.testing.assert_allclose(out.difference, out.score_a - out.score_b, atol=1e-12)

    part, reference = slow_shares(y, a, b, blocks, fold, scorer)
    np.testing.assert_allclose(part.sum(axis=0), out.difference, atol=1e-6)
    np.testing.assert_allclose(reference.sum(axis=0), 1)
    signs = np.random.default_rng(3).choice([-1.0, 1.0], size=(200, 12))

    def p(difference):
        left = part - difference * reference
        return (1 + (np.abs(signs @ left) >= np.abs(left.sum(axis=0)) - 1e-9).sum(axis=0)) / 201

    widen = 1.0 if scorer == "r2" else np.sqrt(12 / (12 - len(np.unique(fold))))
    observed = out.difference.values
    for end in out.ci.values:
        there = (end - observed) / widen
        assert (p(observed + 0.999 * there) > 0.05).all()
        assert (p(observed + 1.001 * there) <= 0.05).all()
    np.testing.assert_allclose(out.p, p(observed - observed / widen), atol=1e-3)


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


def test_likeness_of_neighbours_by_chance_does_not_widen():
    widened = 0
    for seed in range(60):
        y, a, b = data(seed, n=20, n_targets=1)
        in_time = bootstrap_compare(y, a, b, random_state=0).ci.diff("bound")
        labelled = bootstrap_compare(y, a, b, blocks=np.arange(20), random_state=0).ci.diff("bound")
        widened += bool(in_time[0, 0] > labelled[0, 0] * (1 + 1e-9))
    assert widened <= stats.binom.ppf(0.999, 60, stats.norm.sf(1))


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


def test_a_flat_prediction_adds_nothing_to_r():
    y, a, _ = data()
    out = bootstrap_compare(y, a, np.zeros_like(y), scorer="r", random_state=0)
    np.testing.assert_allclose(out.difference, SCORERS["r"](y, a))
    assert (out.p < 0.01).all()
    assert (out.ci.sel(bound="low") > 0).all()


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
    ("n", "blocks", "phi", "scorer"),
    [(20, 1, 0.0, "r2"), (20, 1, 0.0, "r"), (100, 1, 0.0, "r2"), (400, 20, 0.8, "r2"), (400, 20, 0.8, "r")],
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
        ({"n_bootstraps": 18}, ConfigError),
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
