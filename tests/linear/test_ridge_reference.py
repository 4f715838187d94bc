"""RidgeEncoder and RidgeDecoder against scikit-learn, himalaya and the obvious loop."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from himalaya.ridge import RidgeCV as HimalayaRidgeCV
from himalaya.scoring import correlation_score
from himalaya.scoring import r2_score as himalaya_r2
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, LeaveOneOut

from neuroalign.decoding import RidgeDecoder
from neuroalign.encoding import RidgeEncoder
from neuroalign.errors import ConfigError, NeuroalignWarning, SchemaError
from neuroalign.evaluation.splits import ContiguousSplit, GroupSplit
from neuroalign.metrics import SCORERS
from neuroalign.solvers import default_alphas

GRID = np.logspace(-1, 4, 8)
RUN = np.repeat(np.array(["a", "b", "c", "d"]), [12, 18, 10, 20])


def data(n: int = 60, p: int = 8, t: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(5, 2, (n, p))
    # noise from weak to strong, so that targets choose different penalties
    y = x @ rng.normal(size=(p, t)) + np.geomspace(0.1, 100, t) * rng.normal(size=(n, t)) + 100
    return x, y


def loop(x, y, folds, scorer, grid=GRID, intercept=True):
    """Choose a penalty for every target on its own: fold by fold, penalty by penalty."""
    best, scores = [], []
    for column in y.T:
        curve = []
        for alpha in grid:
            model = Ridge(alpha=alpha, fit_intercept=intercept)
            held_out = [(column[test], model.fit(x[train], column[train]).predict(x[test])) for train, test in folds]
            curve.append(np.mean([SCORERS[scorer](truth, guess) for truth, guess in held_out]))
        best.append(grid[int(np.argmax(curve))])
        scores.append(max(curve))
    return np.array(best), np.array(scores)


@pytest.mark.filterwarnings("ignore:The grid of alphas")
@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("p", [8, 90])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_loop_over_targets_penalties_and_folds(scorer, p, intercept):
    x, y = data(p=p)
    folds = list(KFold(4).split(x))
    if p == 8 or not intercept:
        model = RidgeEncoder(alphas=GRID, cv=folds, scorer=scorer, fit_intercept=intercept).fit(x, y)
    else:
        model = RidgeDecoder(alphas=GRID, cv=folds, scorer=scorer).fit(x, y)
    best, scores = loop(x, y, folds, scorer, intercept=intercept)
    np.testing.assert_array_equal(model.alphas_, best)
    assert len(set(best)) > 1 or not intercept
    np.testing.assert_allclose(model.cv_scores_, scores, atol=1e-8)
    final = Ridge(alpha=best, fit_intercept=intercept).fit(x, y)
    np.testing.assert_allclose(model.coef_, final.coef_.T, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, final.intercept_, atol=1e-6)
    new = data(seed=1, p=p)[0]
    np.testing.assert_allclose(model.predict(new), final.predict(new), rtol=1e-6)
    assert model.alpha_edges_ == [(best == GRID[0]).mean(), (best == GRID[-1]).mean()]


@pytest.mark.filterwarnings("ignore:The grid of alphas")
@pytest.mark.parametrize(("scorer", "theirs"), [("r2", himalaya_r2), ("r", correlation_score)])
@pytest.mark.parametrize("alpha_per_target", [True, False])
def test_himalaya(scorer, theirs, alpha_per_target):
    x, y = data()
    x -= x.mean(axis=0)
    folds = KFold(5)
    peer = HimalayaRidgeCV(
        alphas=GRID,
        fit_intercept=True,
        cv=folds,
        solver_params={"score_func": theirs, "local_alpha": alpha_per_target},
    ).fit(x, y)
    mine = RidgeEncoder(alphas=GRID, cv=folds, scorer=scorer, alpha_per_target=alpha_per_target).fit(x, y)
    np.testing.assert_allclose(mine.alphas_, peer.best_alphas_)
    np.testing.assert_allclose(mine.coef_, peer.coef_, atol=1e-7)
    np.testing.assert_allclose(mine.predict(x), peer.predict(x), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:The grid of alphas")
def test_every_way_to_say_folds():
    x, y = data()
    coords = {"stimulus": np.arange(60), "run": ("stimulus", RUN)}
    lx = xr.DataArray(x, dims=("stimulus", "unit"), coords=coords)
    ly = xr.DataArray(y, dims=("stimulus", "voxel"), coords={"stimulus": np.arange(60)})
    by_run = list(LeaveOneGroupOut().split(x, groups=RUN))
    for cv, groups, folds in (
        ("run", None, by_run),
        (None, None, by_run),  # runs stay together
        (GroupSplit(by="run"), None, by_run),
        (LeaveOneGroupOut(), RUN, by_run),
        (by_run, None, by_run),
        (4, RUN, by_run),
        (GroupKFold(2), RUN, list(GroupKFold(2).split(x, groups=RUN))),
        (KFold(3), None, list(KFold(3).split(x))),
        (ContiguousSplit(3, gap=2), None, list(ContiguousSplit(3, gap=2).split(lx))),
        ([(RUN != "a", RUN == "a")], None, [(RUN != "a", RUN == "a")]),
    ):
        model = RidgeEncoder(alphas=GRID, cv=cv).fit(lx, ly, groups=groups)
        np.testing.assert_array_equal(model.alphas_, loop(x, y, folds, "r2")[0], err_msg=str(cv))
    plain = RidgeEncoder(alphas=GRID, cv=6).fit(x, y)
    np.testing.assert_array_equal(plain.alphas_, loop(x, y, list(KFold(6).split(x)), "r2")[0])


def test_repeats_of_a_stimulus_stay_together():
    rng = np.random.default_rng(0)
    stimuli = np.tile(np.arange(20), 3)
    features, effect = rng.normal(size=(20, 40)), rng.normal(size=(20, 6))
    x, y = features[stimuli], effect[stimuli] + 0.1 * rng.normal(size=(60, 6))
    lx, ly = (
        xr.DataArray(v, dims=("trial", d), coords={"stimulus_id": ("trial", stimuli)}) for v, d in ((x, "f"), (y, "v"))
    )
    # features say nothing about responses: only seeing the same stimulus again could help
    assert RidgeEncoder().fit(lx, ly).cv_scores_.max() < 0.2
    with pytest.warns(UserWarning, match="stimulus is in training and in test of inner folds"):
        leaky = RidgeEncoder(cv=KFold(5, shuffle=True, random_state=0)).fit(lx, ly)
    assert leaky.cv_scores_.min() > 0.5


def test_the_default_grid_knows_no_units():
    x, y = data()
    usual = RidgeEncoder(cv=4).fit(x, y)
    assert usual.alphas_.min() >= default_alphas(x)[0]
    for factor in (1e-15, 1e-6, 1e6):
        scaled = RidgeEncoder(cv=4).fit(x * factor, y)
        np.testing.assert_allclose(scaled.predict(x * factor), usual.predict(x), rtol=1e-7)
        np.testing.assert_allclose(scaled.alphas_, usual.alphas_ * factor**2, rtol=1e-7)
        np.testing.assert_allclose(
            RidgeEncoder(cv=4).fit(x, y * factor).predict(x), usual.predict(x) * factor, rtol=1e-7
        )
        decoder = RidgeDecoder(cv=4).fit(x * factor, y)
        np.testing.assert_allclose(decoder.patterns_ / factor, RidgeDecoder(cv=4).fit(x, y).patterns_, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-15, 1e-6])
def test_float32_in_si_units(factor):
    x, y = data(200, 20, 3)
    usual = RidgeDecoder(cv=4).fit(x, y)
    single = RidgeDecoder(cv=4).fit((x * factor).astype("f4"), y.astype("f4"))
    assert single.predict((x * factor).astype("f4")).dtype == np.float32
    np.testing.assert_allclose(single.alphas_, usual.alphas_ * factor**2, rtol=1e-3)
    np.testing.assert_allclose(single.predict((x * factor).astype("f4")), usual.predict(x), rtol=2e-4)


def test_weights_are_recovered():
    rng = np.random.default_rng(0)
    x, true = rng.normal(size=(400, 10)), rng.normal(size=(10, 4))
    y = x @ true + 0.3 * rng.normal(size=(400, 4)) - 3
    model = RidgeEncoder().fit(x, y)
    assert np.corrcoef(model.coef_.ravel(), true.ravel())[0, 1] > 0.995
    np.testing.assert_allclose(model.intercept_, -3, atol=0.1)
    np.testing.assert_allclose(model.cv_scores_, 1 - 0.09 / y.var(axis=0), atol=0.02)
    noise = RidgeEncoder().fit(x, rng.normal(size=(400, 4)))
    assert noise.cv_scores_.max() < 0.05


def test_permuting_test_rows_changes_nothing():
    x, y = data()
    train, test = np.arange(40), np.arange(40, 60)
    model = RidgeEncoder(cv=4).fit(x[train], y[train])
    before = {k: np.copy(v) for k, v in vars(model).items() if k.startswith("solution_")}
    order = np.random.default_rng(0).permutation(test)
    np.testing.assert_allclose(model.predict(x[order]), model.predict(x[test])[order - 40], rtol=1e-12)
    np.testing.assert_allclose(model.score_map(x[order], y[order]), model.score_map(x[test], y[test]))
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(model, name), value)
    # what is learned on inner folds depends on the rows of a test fold, not on their order
    inside = np.arange(60)
    inside[:15] = np.random.default_rng(1).permutation(15)
    shuffled = RidgeEncoder(cv=4).fit(x[inside], y[inside])
    usual = RidgeEncoder(cv=4).fit(x, y)
    np.testing.assert_array_equal(shuffled.alphas_, usual.alphas_)
    np.testing.assert_allclose(shuffled.coef_, usual.coef_, rtol=1e-8)


def test_a_narrow_grid_warns_and_a_default_one_does_not():
    x, y = data()
    with pytest.warns(NeuroalignWarning, match=r"narrow: \d+% of targets chose its smallest value, \d+% its largest"):
        RidgeEncoder(alphas=[1e7, 1e8]).fit(x, y)
    RidgeEncoder().fit(x, y)
    RidgeEncoder(alphas=[1.0]).fit(x, y)


def test_scorer_may_be_a_function():
    x, y = data()

    def negative_error(truth, guess):
        return -np.square(truth - guess).mean(axis=0)

    model = RidgeEncoder(cv=4, scorer=negative_error).fit(x, y)
    np.testing.assert_array_equal(model.alphas_, RidgeEncoder(cv=KFold(4), scorer=negative_error).fit(x, y).alphas_)
    np.testing.assert_allclose(model.score_map(x, y), negative_error(y, model.predict(x)))


def test_no_model_of_nan_is_given():
    x, y = data()
    for n in (2,):
        with pytest.raises(SchemaError, match=rf"No penalty could be chosen[\s\S]*n_samples={n} "):
            RidgeEncoder().fit(x[:n], y[:n])
    for n in (3, 4, 5):  # an inner test fold has two samples
        assert np.isfinite(RidgeEncoder().fit(x[:n], y[:n]).predict(x)).all()
    for cls in (RidgeEncoder, RidgeDecoder):
        with pytest.raises(SchemaError, match="cv=2"):
            cls(cv=LeaveOneOut()).fit(x, y)
    assert np.isfinite(RidgeEncoder(cv=2).fit(x[:4], y[:4]).predict(x)).all()
    with pytest.raises(SchemaError, match="Too few samples"):
        RidgeEncoder().fit(x[:1], y[:1])
    # a target that moves only where it is never tested
    y[:, 1] = 0
    y[0, 1] = 1
    folds = [(np.arange(40), np.arange(40, 60)), (np.r_[0:20, 40:60], np.arange(20, 40))]
    with pytest.warns(NeuroalignWarning, match="1 of 5 targets are constant in every inner test fold"):
        model = RidgeDecoder(cv=folds).fit(x, y)
    assert np.isnan(model.coef_[:, 1]).all()
    assert np.isfinite(np.delete(model.coef_, 1, axis=1)).all()
    assert np.isfinite(np.delete(model.patterns_, 1, axis=1)).all()


def test_groups_of_another_length_are_refused():
    x, y = data()
    with pytest.raises((SchemaError, ConfigError), match=r"\(60,\)"):
        RidgeEncoder().fit(x, y, groups=RUN[:-1])
