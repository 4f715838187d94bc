import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.evaluation import bootstrap_compare
from neuroalign.evaluation.bootstrap import _block_codes, _draws
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
    drawn = _draws(_block_codes(blocks, y, fold), fold, 200, np.random.default_rng(3))
    differences = np.zeros((201, 4))
    for members, times in drawn:
        for m in range(201):
            rows = np.concatenate(
                [np.tile(np.flatnonzero(blocks == block), int(k)) for block, k in zip(members, times[m], strict=True)]
            )
            difference = SCORERS[scorer](y[rows], a[rows]) - SCORERS[scorer](y[rows], b[rows])
            differences[m] += difference / len(drawn)
    np.testing.assert_allclose(out.difference, differences[0], atol=1e-10)
    freedom = 12 - len(drawn)
    tail = stats.norm.cdf(np.sqrt(12 / freedom) * stats.t.ppf(0.025, freedom))
    np.testing.assert_allclose(out.ci, np.quantile(differences[1:], [tail, 1 - tail], axis=0), atol=1e-10)
    np.testing.assert_allclose(out.score_a - out.score_b, out.difference)


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


def test_misses_and_false_positives():
    misses, hits = [], []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        signal, noise, one, other = rng.standard_normal((4, 100, 25))
        out = bootstrap_compare(signal + noise, signal + one, signal + other, n_bootstraps=199, random_state=rng)
        misses.append((out.ci[0] > 0) | (out.ci[1] < 0))
        hits.append(out.p <= 0.05)
    low, high = stats.binom.interval(0.999, 600, 0.05)
    assert np.sum(misses) <= high + 6  # a percentile interval of 100 blocks misses 6 of 100, as measured in benchmarks
    assert low <= np.sum(hits) <= high + 6


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
