import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.signal import lfilter

from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.evaluation import fdr_bh, permutation_test
from neuroalign.evaluation.permutation import SCHEMES, _pieces, linear_form
from neuroalign.metrics import SCORERS


def data(seed=0, n=60, n_targets=4, strength=0.3):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, n_targets))
    return y, strength * y + rng.standard_normal((n, n_targets)) + 0.2


def binomial(rate, draws, p=0.05, coverage=0.999):
    low, high = stats.binom.interval(coverage, draws, p)
    return low <= rate * draws <= high


def mean_of_folds(y, p, fold, scorer):
    return np.mean([SCORERS[scorer](y[fold == f], p[fold == f]) for f in np.unique(fold)], axis=0)


@pytest.mark.parametrize("scorer", ["r2", "r", "ev"])
@pytest.mark.parametrize("scheme", ["shuffle", "block", "circular"])
def test_fast_path_is_the_slow_obvious_one(scorer, scheme):
    y, p = data()
    fold, run = np.repeat([0, 1], 30), np.repeat([0, 1, 2], 20)
    out = permutation_test(
        y,
        p,
        scheme=scheme,
        groups=run,
        folds=fold,
        scorer=scorer,
        n_permutations=50,
        random_state=5,
        block=4 if scheme == "block" else None,
    )
    # the same plan, arranged by hand
    pieces = _pieces(fold, run, ordered=scheme != "shuffle")
    assert [len(piece) for piece in pieces] == [20, 10, 10, 20]
    plan = SCHEMES[scheme](pieces, 4 if scheme == "block" else None, 50, np.random.default_rng(5))
    null = np.empty((50, 4))
    for m in range(50):
        arranged = y.copy()
        for i, piece in enumerate(pieces):
            if scheme == "circular":
                arranged[piece] = np.roll(y[piece], -plan.shifts[i][m], axis=0)
            else:
                size = 4 if scheme == "block" else 1
                blocks = np.split(piece, range(size, len(piece) // size * size + 1, size))  # the last is left over
                moved = np.concatenate([*(blocks[b] for b in plan.orders[i][m]), blocks[-1]])
                arranged[piece] = y[moved]
                assert sorted(moved) == sorted(piece)
        null[m] = mean_of_folds(arranged, p, fold, scorer)
    score = mean_of_folds(y, p, fold, scorer)
    np.testing.assert_allclose(out.score, score, atol=1e-12)
    np.testing.assert_allclose(out.null_max, null.max(axis=1), atol=1e-12)
    np.testing.assert_allclose(out.p, (1 + (null >= score).sum(axis=0)) / 51)
    np.testing.assert_allclose(out.p_max, (1 + (null.max(axis=1)[:, None] >= score).sum(axis=0)) / 51)


def test_linear_form_far_from_zero():
    y, p = data()
    fold = np.arange(60) % 2
    for scorer in SCORERS:
        constant, weights = linear_form(1e6 + y, 1e6 + p, fold, scorer)
        centred = 1e6 + y - (1e6 + y).mean(axis=0)
        np.testing.assert_allclose(
            constant + (centred * weights).sum(axis=0), mean_of_folds(1e6 + y, 1e6 + p, fold, scorer), rtol=1e-6
        )


def test_agrees_with_scipy():
    y, p = data(n_targets=1, n=40)
    mine = permutation_test(y, p, scorer="r", n_permutations=1999, random_state=0).p[0]
    theirs = stats.permutation_test(
        (y[:, 0],),
        lambda a: stats.pearsonr(a, p[:, 0])[0],
        permutation_type="pairings",
        alternative="greater",
        n_resamples=1999,
        rng=np.random.default_rng(1),
    ).pvalue
    assert abs(mine - theirs) < 0.03
    assert abs(mine - stats.pearsonr(y[:, 0], p[:, 0], alternative="greater").pvalue) < 0.03


def test_smallest_p_and_ties():
    y = np.arange(20.0)[:, None]
    assert permutation_test(y, y, n_permutations=99, random_state=0).p[0] == 0.01
    # two samples can only be swapped or left: every unswapped arrangement is a tie
    out = permutation_test(np.array([[0.1], [0.7]]), np.array([[0.3], [0.9]]), n_permutations=999, random_state=0)
    assert 0.4 < out.p[0] < 0.6


def test_nan_and_constant_targets_are_left_out():
    y, p = data(n_targets=5)
    clean = permutation_test(y[:, :2], p[:, :2], n_permutations=50, random_state=0)
    y[:, 2], y[3, 3], p[4, 4] = 1.3, np.nan, np.inf
    out = permutation_test(y, p, n_permutations=50, random_state=0)
    assert np.isnan(out.p[2:]).all()
    assert np.isnan(out.p_max[2:]).all()
    np.testing.assert_allclose(out.p[:2], clean.p)
    np.testing.assert_allclose(out.null_max, clean.null_max)
    assert np.isnan(permutation_test(y[:, 2:], p[:, 2:], n_permutations=5, random_state=0).null_max).all()


def test_flat_prediction_scores_zero_r():
    y, p = data()
    p[:, 0] = 0.1
    assert permutation_test(y, p, scorer="r", n_permutations=9, random_state=0).score[0] == 0


def test_tiles_and_precision_do_not_matter(monkeypatch):
    from neuroalign.evaluation import permutation

    y, p = data(n_targets=7)
    for scheme in SCHEMES:
        whole = permutation_test(y, p, scheme=scheme, n_permutations=40, random_state=0)
        with monkeypatch.context() as patch:
            patch.setattr(permutation, "tiles", lambda n, *_: [slice(i, min(n, i + 3)) for i in range(0, n, 3)])
            xr.testing.assert_allclose(permutation_test(y, p, scheme=scheme, n_permutations=40, random_state=0), whole)


def test_labels():
    y, p = data(n_targets=6)
    dims, coords = ("trial", "channel", "time"), {"channel": ["Cz", "Pz"], "run": ("trial", np.repeat([0, 1], 30))}
    observed, predicted = (xr.DataArray(v.reshape(60, 2, 3), dims=dims, coords=coords) for v in (y, p))
    out = permutation_test(observed, predicted.transpose("channel", "time", "trial"), groups="run", random_state=0)
    assert out.p.dims == ("channel", "time")
    assert out.p.channel.values.tolist() == ["Cz", "Pz"]
    np.testing.assert_allclose(
        out.p.values.ravel(), permutation_test(y, p, groups=np.repeat([0, 1], 30), random_state=0).p
    )
    with pytest.raises(AlignmentError, match="labels"):
        permutation_test(observed, predicted.assign_coords(channel=["Cz", "Oz"]))
    with pytest.raises(AlignmentError, match="shape"):
        permutation_test(y, p[:, :2])


@pytest.mark.parametrize("rounds", [1, 3])
def test_no_shift_comes_again_before_all_were_there(rounds):
    rng = np.random.default_rng(0)
    y, p = rng.standard_normal((2, 20, 1))
    options = {"scheme": "circular", "scorer": "r", "n_permutations": 20 * rounds - 1, "random_state": 1}
    out = permutation_test(y, p, **options)
    r = [np.corrcoef(np.roll(y[:, 0], shift), p[:, 0])[0, 1] for shift in range(20)]
    # After the first round the data as they are count as one of 20 shifts, and p is that of all 20 whatever the rounds.
    np.testing.assert_allclose(np.sort(out.null_max), np.sort(r[1:] + r * (rounds - 1)), atol=1e-12)
    np.testing.assert_allclose(out.p, sum(value >= r[0] for value in r) / 20)


def test_p_of_a_single_short_run_is_not_below_what_its_shifts_allow():
    y, p = np.random.default_rng(0).standard_normal((2, 24, 400))
    out = permutation_test(y, p, scheme="circular", scorer="r", n_permutations=239, random_state=0)
    assert out.p.min() == pytest.approx(1 / 24)  # 0.004 if the data as they are were not among the repeated shifts


def test_circular_keeps_the_least_shift():
    plan = SCHEMES["circular"]([np.arange(50), np.arange(50, 53)], 5, 2000, np.random.default_rng(0))
    moved = plan.shifts[0][plan.shifts[0] > 0]
    assert (moved.min(), moved.max()) == (5, 45)
    assert not plan.shifts[1].any()  # too short to be moved so far


@pytest.mark.parametrize(
    "wrong",
    [
        {"scheme": "rows"},
        {"scorer": "auc"},
        {"n_permutations": 0},
        {"scheme": "shuffle", "folds": np.arange(60)},
        {"scheme": "block", "block": 60},
        {"scheme": "block", "block": 0},
        {"scheme": "block", "block": 2.5},
        {"scheme": "circular", "block": 31},
        {"scheme": "shuffle", "block": 3},
        {"groups": "run"},
    ],
)
def test_refusals(wrong):
    y, p = data()
    with pytest.raises(ConfigError):
        permutation_test(y, p, **wrong)


def test_fdr_is_scipys():
    rng = np.random.default_rng(0)
    p = rng.random((20, 30)) ** 3
    np.testing.assert_allclose(fdr_bh(p), stats.false_discovery_control(p, axis=None).reshape(p.shape))
    p[::2, ::3] = np.nan
    there = np.isfinite(p)
    np.testing.assert_allclose(fdr_bh(p)[there], stats.false_discovery_control(p[there]))
    assert np.isnan(fdr_bh(p)[~there]).all()
    labelled = xr.DataArray(p, dims=("channel", "time"))
    assert fdr_bh(labelled).dims == ("channel", "time")
    assert np.isnan(fdr_bh([np.nan])).all()
    with pytest.raises(SchemaError):
        fdr_bh([1.2])


def ar1(rng, n, n_targets, phi=0.8):
    return lfilter([1], [1, -phi], rng.standard_normal((n + 100, n_targets)), axis=0)[100:]


@pytest.mark.parametrize(
    ("scheme", "block", "make"),
    [
        ("shuffle", None, lambda rng: rng.standard_normal((40, 25))),
        ("circular", None, lambda rng: ar1(rng, 160, 25)),
        ("block", 20, lambda rng: ar1(rng, 160, 25)),
    ],
)
def test_false_positives_stay_at_the_nominal_rate(scheme, block, make):
    hits = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        y, p = make(rng), make(rng)
        groups = np.arange(len(y)) * 2 // len(y)
        out = permutation_test(
            y, p, scheme=scheme, block=block, groups=groups, scorer="r", n_permutations=99, random_state=rng
        )
        hits.append(out.p.values <= 0.05)
    assert binomial(np.mean(hits), 600)


def test_shuffling_a_time_series_would_not_be_valid():
    rng = np.random.default_rng(0)
    out = permutation_test(ar1(rng, 160, 400), ar1(rng, 160, 400), scorer="r", n_permutations=99, random_state=rng)
    assert (out.p <= 0.05).mean() > 0.12


def test_maximum_statistic_controls_any_false_positive():
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y, p = rng.standard_normal((20, 15)), rng.standard_normal((20, 15))
        hits += bool((permutation_test(y, p, scorer="r", n_permutations=99, random_state=rng).p_max <= 0.05).any())
    assert binomial(hits / 200, 200)
