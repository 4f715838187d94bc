import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.linear_model import LinearRegression, Ridge

from neuroalign.activations import ActivationExtractor, randomize
from neuroalign.compute import get_executor
from neuroalign.encoding import BandedRidgeEncoder, RidgeEncoder
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.evaluation import centre_of_mass, compare_models, cross_validate, select_model
from neuroalign.evaluation.compare import compare_procedures, prepare
from neuroalign.evaluation.cross_validate import _held_out, _plan
from neuroalign.evaluation.select import LEFT_OF_CHOICES, _best, _mean
from neuroalign.plots import layer_profile

LAYERS = [f"block{k}" for k in range(6)]


def network(seed=0, n=80, n_units=5, n_targets=30, best=3, noise=1.0):
    """Layers of stimuli; responses follow one of them (none where best is None)."""
    rng = np.random.default_rng(seed)
    ids = {"stimulus": [f"s{k}" for k in range(n)]}
    layers = xr.Dataset(
        {
            name: xr.DataArray(rng.standard_normal((n, n_units)), dims=("stimulus", "unit"), coords=ids)
            for name in LAYERS
        }
    )
    y = noise * rng.standard_normal((n, n_targets))
    if best is not None:
        y += layers[LAYERS[best]].values @ rng.standard_normal((n_units, n_targets))
    roi = {"roi": ("voxel", ["V1", "V4", "IT"] * (n_targets // 3))}
    return layers, xr.DataArray(y, dims=("stimulus", "voxel"), coords=ids | roi)


class Broken(Ridge):
    def fit(self, X, y):
        raise AssertionError("what cannot be compared is refused before anything is fitted")


def test_the_layer_that_drives_the_responses_is_chosen():
    X, y = network()
    out = select_model(Ridge(), X, y, cv=4)
    assert (out.chosen == "block3").mean() > 0.95
    assert out.chosen_fold.dims == ("fold", "voxel")
    assert out.candidate.values.tolist() == LAYERS
    plain = cross_validate(Ridge(), X["block3"], y, cv=4)
    right = (out.chosen_fold == "block3").all("fold")
    np.testing.assert_allclose(out.score[right], plain.score[right])
    np.testing.assert_allclose(out.candidate_score.sel(candidate="block3"), plain.score)
    assert layer_profile(out.candidate_score.rename(candidate="layer")).get_xlabel().startswith("layer")


def test_the_choice_is_made_inside_the_training_samples():
    X, y = network()
    fold = [(np.arange(40), np.arange(40, 80))]
    out = select_model(Ridge(), X, y, cv=fold, inner=4)
    inner = [cross_validate(Ridge(), X[name][:40], y[:40], cv=4).score for name in LAYERS]
    np.testing.assert_allclose(out.inner_score, inner)
    assert out.chosen.values.tolist() == [LAYERS[k] for k in np.argmax(inner, axis=0)]
    changed = y.copy()
    changed[40:] = changed[40:].values[::-1]
    again = select_model(Ridge(), X, changed, cv=fold, inner=4)
    assert (again.chosen == out.chosen).all()


def test_nothing_is_chosen_for_targets_without_a_score():
    X, y = network(n_targets=6)
    y[:, 4] = 1.0
    out = select_model(Ridge(), X, y, cv=4)
    assert out.chosen.values[4] == ""
    assert (out.chosen_fold[:, 4] == "").all()
    assert set(np.delete(out.chosen.values, 4)) <= set(LAYERS)
    assert np.isnan(out.score[4])


def test_the_choice_goes_by_the_inner_folds_that_can_be_scored():
    """Rare events: where a target is constant in an inner fold, the others choose."""
    X, y = network(n=60, n_targets=6, noise=0.3)
    y[:15] = 0.0
    fold = [(np.arange(45), np.arange(45, 60))]
    out = select_model(Ridge(), X, y, cv=fold, inner=3)
    assert (out.chosen == "block3").all()
    assert np.isfinite(out.inner_score).all()
    inner = [(np.r_[0:15, 30:45], np.arange(15, 30)), (np.arange(30), np.arange(30, 45))]
    one = cross_validate(Ridge(), X["block3"][:45], y[:45], cv=inner)
    np.testing.assert_allclose(out.inner_score.sel(candidate="block3"), one.score)
    y[:45, 2] = 0.0
    blind = select_model(Ridge(), X, y, cv=[*fold, (np.arange(15, 60), np.arange(15))], inner=3, scorer="ev")
    assert blind.chosen_fold.values[:, 2].tolist() == ["", blind.chosen.values[2]]
    assert blind.chosen.values[2] in LAYERS
    assert np.isnan(blind.score[2])
    alone = select_model(Ridge(), X, y, cv=fold, inner=3)
    assert alone.chosen.values[2] == ""
    assert np.isnan(alone.score[2])
    assert np.isfinite(np.delete(alone.score.values, 2)).all()
    whole = select_model(Ridge(), X, y, cv=fold, inner=3, per="all")
    assert set(whole.chosen.values) == {"block3"}
    assert np.isfinite(whole.score[2])


class Silent(Ridge):
    def predict(self, X):
        return np.full_like(super().predict(X), np.nan)


def test_a_candidate_that_predicts_nothing_is_not_chosen():
    X, y = network(n_targets=6)
    out = select_model({"silent": Silent(), "ridge": Ridge()}, X["block3"], y, cv=3, per="all")
    assert set(out.chosen.values) == {"ridge"}
    assert np.isfinite(out.score).all()
    assert np.isnan(out.inner_score.sel(candidate="silent")).all()


def test_the_best_candidate_of_a_region():
    scores, region = np.array([[1.0, 0, 5, np.nan], [2, np.nan, 4, np.nan]]), np.array([0, 0, 1, 2])
    assert _best(scores, region).tolist() == [0, 0, 0, -1]
    assert _best(scores, np.arange(4)).tolist() == [1, 0, 0, -1]
    among = np.array([[False] * 4, [True] * 4])
    assert _best(scores, np.arange(4), among).tolist()[::2] == [1, 1]
    folds = np.array([[[1.0, np.nan], [3, np.nan]], [[5, 1.0], [7, np.nan]]])
    np.testing.assert_array_equal(_mean(folds), [[3, 1], [5, np.nan]])


def test_the_candidate_of_most_folds_is_reported():
    """One fold sees a strong response to another layer: its scores are higher, but it is one fold of three."""
    X, y = network(n=90, n_targets=3, n_units=3, noise=0.5)
    odd = 4 * X["block1"].values @ np.ones((3, 3))
    y[:30] = odd[:30]
    first, second, third = (np.arange(k, k + 30) for k in (0, 30, 60))
    cv = [(second, third), (third, second), (first, second)]
    out = select_model(Ridge(), X[["block1", "block3"]], y, cv=cv)
    assert out.chosen_fold[:, 0].values.tolist() == ["block3", "block3", "block1"]
    assert set(out.chosen.values) == {"block3"}


def test_labels_of_the_control_alone_count():
    """Groups, and the folds inside, go by labels of any side."""
    X, y = network(n=60, n_targets=3, n_units=3)
    plain = {k: X[k].values for k in ("block2", "block3")}
    runs = {"run": ("trial", np.arange(60) // 5 % 3), "group": ("trial", np.arange(60) // 5)}
    labelled = {k: xr.DataArray(v, dims=("trial", "unit"), coords=runs) for k, v in plain.items()}
    options = {"cv": 2, "inner": "run", "groups": "group", "blocks": "group", "n_halvings": 3, "random_state": 0}
    one = select_model(Ridge(), plain, y.values, rival=labelled, **options)
    other = select_model(Ridge(), labelled, y.values, rival=plain, **options)
    np.testing.assert_allclose(one.inner_score, other.inner_score)
    assert (one.difference == 0).all()
    assert (one.chosen == other.chosen).all()


def test_the_best_of_many_is_inflated_on_null_data_and_the_choice_is_not():
    naive, honest, fixed = [], [], []
    for seed in range(4):
        X, y = network(seed, best=None, n_targets=150)
        out = select_model(LinearRegression(), X, y, cv=4, scorer="r")
        naive.append(out.candidate_score.max("candidate"))
        honest.append(out.score)
        fixed.append(out.candidate_score.sel(candidate="block0"))
    naive, honest, fixed = (float(np.mean(part)) for part in (naive, honest, fixed))
    assert naive > 0.1
    assert abs(honest) < 0.05
    assert abs(honest - fixed) < 0.03


def test_choices_by_region_and_for_all():
    X, y = network(best=None, n_targets=30)
    y = y + np.where(y.roi == "V1", 1.0, 0.0) * X["block1"].values.sum(1, keepdims=True)
    y = y + np.where(y.roi == "IT", 3.0, 0.0) * X["block5"].values.sum(1, keepdims=True)
    regions = select_model(Ridge(), X, y, cv=4, per="roi")
    by_region = {name: set(regions.chosen.values[y.roi == name]) for name in ("V1", "V4", "IT")}
    assert (by_region["V1"], by_region["IT"]) == ({"block1"}, {"block5"})
    assert len(by_region["V4"]) == 1
    assert set(select_model(Ridge(), X, y, cv=4, per="all").chosen.values) == {"block5"}


def test_rivals_and_controls():
    X, y = network(noise=0.7, n=60, n_targets=6, n_units=3)
    control, _ = network(seed=9, n=60, n_units=3)
    X, control = X[["block2", "block3"]], control[["block2", "block3"]]
    options = {"cv": 2, "inner": 2, "per": "all", "random_state": 0, "n_halvings": 8}
    out = select_model(Ridge(), X, y, rival=control, **options)
    assert (out.difference > 0).all()
    assert (out.p < 0.05).mean() > 0.6
    assert (out.ci.sel(bound="low") < out.difference).all()
    np.testing.assert_allclose(out.difference, out.compared_score - out.rival_score)
    back = select_model(Ridge(), control, y, rival=X, **options)
    np.testing.assert_allclose(out.rival_score, back.compared_score)
    mean = select_model(Ridge(), X, y, rival=control, scorer="r", **options)
    np.testing.assert_allclose(mean.compared_score, mean.score)
    named = select_model(Ridge(), X, y, rival="block3", **options)
    assert (named.difference == 0).all()
    assert (named.p == 1).all()
    assert np.isnan(named.ci).all()
    other = select_model(Ridge(), X, y, rival="block2", **options)
    alone = cross_validate(Ridge(), X["block2"], y, cv=2)
    np.testing.assert_allclose(other.rival_score, alone.data.score_pooled)
    # Against one candidate all of what training adds is left; where the rival chooses as well, 0.8 of it.
    both = select_model(Ridge(), X, y, rival={"one": X["block2"], "two": X["block2"]}, **options)
    np.testing.assert_allclose(np.maximum(both.inflation - 1, 0), np.maximum(0.8 * (other.inflation - 1), 0))
    assert (other.p < 0.05).mean() > 0.6
    options["scorer"] = "r"  # and 0.85 of r
    other = select_model(Ridge(), X, y, rival="block2", **options)
    both = select_model(Ridge(), X, y, rival={"one": X["block2"], "two": X["block2"]}, **options)
    np.testing.assert_allclose(np.maximum(both.inflation - 1, 0), np.maximum(0.85 * (other.inflation - 1), 0))


def test_a_trained_network_against_its_random_twin():
    """Responses follow what a network has learned; a twin with random weights sees the same stimuli."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    net = torch.nn.Sequential(torch.nn.Linear(12, 24), torch.nn.ReLU(), torch.nn.Linear(24, 6), torch.nn.ReLU())
    torch.manual_seed(0)
    seen = torch.randn(400, 12)
    wanted = (seen[:, :6] * seen[:, 6:] > 0).float()  # no single linear map of the stimulus gives this
    rate = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(300):
        rate.zero_grad()
        torch.nn.functional.mse_loss(net(seen), wanted).backward()
        rate.step()
    stimuli = {f"s{k}": row for k, row in enumerate(rng.standard_normal((90, 12)).astype("f"))}
    trained, control = (ActivationExtractor(one)(stimuli) for one in (net, randomize(net, 1)))
    y = trained["2"] @ xr.DataArray(rng.standard_normal((6, 8)), dims=("unit", "voxel"))
    y = y / y.std("stimulus") + xr.DataArray(rng.standard_normal((90, 8)), dims=("stimulus", "voxel"))
    y = y.transpose("stimulus", "voxel").drop_vars("unit", errors="ignore")
    options = {"cv": 3, "inner": 2, "n_halvings": 8, "random_state": 0}
    out = select_model(Ridge(), trained, y, rival=control, **options)
    assert (out.difference > 0).all()
    assert (out.p < 0.05).mean() >= 0.5
    twins = [ActivationExtractor(randomize(net, seed))(stimuli) for seed in (2, 3)]
    assert (select_model(Ridge(), twins[0], y, rival=twins[1], **options).p < 0.05).mean() <= 0.25


def test_choosing_between_copies_is_no_choice():
    """A choice among copies of one layer against copies of another is the comparison of the two layers."""
    X, y = network(n=40, n_targets=3, n_units=3)
    copies = [{"one": X[name].values, "two": X[name].values} for name in ("block0", "block3")]
    options = {"cv": 2, "n_halvings": 3, "random_state": 1}
    out = select_model(Ridge(), copies[0], y.values, rival=copies[1], inner=2, **options)
    fixed = compare_models((Ridge(), copies[0]["one"]), (Ridge(), copies[1]["one"]), y.values, **options)
    np.testing.assert_allclose(out.difference, fixed.difference)
    # A choice might have been made: unlike for fixed models, 0.8 of what training adds is taken to be left.
    pair = [lambda rows, plan, X=X["one"]: _held_out(Ridge(), X[rows], y.values[rows], plan, "serial") for X in copies]
    plan = _plan(copies[0]["one"], y.values, 2, None, None, 0)
    halvings = prepare(plan, y.values, None, 1, 3, 0.95, 1)
    plain = compare_procedures(pair, y.values, plan, halvings, scorer="r2", left=LEFT_OF_CHOICES["r2"])
    for mine, theirs in (
        ("p", "p"),
        ("ci", "ci"),
        ("compared_score", "score_a"),
        ("rival_score", "score_b"),
        ("inflation", "inflation"),
    ):
        np.testing.assert_allclose(out[mine], plain[theirs])


def test_estimators_may_be_candidates_too():
    X, y = network()
    out = select_model({"weak": Ridge(1e6), "strong": Ridge(1.0)}, X["block3"], y, cv=3)
    assert set(out.chosen.values) == {"strong"}
    both = select_model({"weak": Ridge(1e6), "strong": Ridge(1.0)}, X[["block3", "block4"]], y, cv=3)
    assert "strong block3" in both.chosen.values


def test_targets_without_scores_do_not_choose():
    X, y = network()
    y[:, 0], y[3, 1] = 1.0, np.nan
    out = select_model(Ridge(), X, y, cv=3, per="all")
    assert set(out.chosen.values) == {"block3"}
    assert np.isnan(out.score[:2]).all()
    assert np.isfinite(out.score[2:]).all()


def test_a_control_of_other_samples_is_refused():
    X, y = network(n=20)
    order = np.random.default_rng(0).permutation(20)
    for rival in (X.isel(stimulus=order), X.isel(stimulus=slice(12)), {k: np.tile(v, (2, 1)) for k, v in X.items()}):
        with pytest.raises(AlignmentError):
            select_model(Ridge(), X, y, rival=rival)
        with pytest.raises(AlignmentError):
            select_model(Ridge(), {k: v.values for k, v in X.items()}, y, rival=rival)
    wrong = X.copy(deep=True)
    wrong["block0"][3] = np.nan
    with pytest.raises(SchemaError, match="NaN"):
        select_model(Ridge(), X, y, rival=wrong)
    mixed = {"one": X["block0"], "two": X["block1"].isel(stimulus=order)}
    with pytest.raises(AlignmentError, match="one and two differ in stimulus"):
        select_model(Ridge(), mixed, y.values)


def test_refusals():
    X, y = network(n=20)
    for args, options, message in (
        ((Ridge(), X["block0"], y), {}, "nothing to choose"),
        ((Ridge(), X, y), {"rival": "block9"}, "No such candidate"),
        ((Ridge(), X, y), {"rival": X[["block0"]]}, "(?s)nothing to choose.*rival"),
        ((Ridge(), X, y), {"per": "network"}, "No such coordinate"),
        ((Ridge(), X, y), {"scorer": "auc"}, "scorer"),
        (({"a": RidgeEncoder(scorer="r"), "b": RidgeEncoder()}, X, y), {}, "different scores"),
        ((Broken(), X, y), {"rival": X, "cv": 2, "blocks": 10}, "halved"),
    ):
        with pytest.raises(ConfigError, match=message):
            select_model(*args, **options)


def profile(n=20, seed=0, noise=0.02):
    depths = np.arange(6)
    shape = np.exp(-((depths - 3.2) ** 2) / 2)
    values = shape[:, None] + noise * np.random.default_rng(seed).standard_normal((6, n))
    coords = {"layer": LAYERS, "relative": ("layer", depths / 5)}
    return xr.DataArray(values, dims=("layer", "subject"), coords=coords)


def test_centre_of_mass_is_the_weighted_mean():
    scores = profile()
    mean = scores.mean("subject").clip(0)
    by_hand = float((mean * np.arange(6)).sum() / mean.sum())
    out = centre_of_mass(scores, over="subject")
    np.testing.assert_allclose(out.centre, by_hand)
    assert out.ci.sel(bound="low") < by_hand < out.ci.sel(bound="high")
    np.testing.assert_allclose(centre_of_mass(scores.mean("subject"), depth="relative").centre, by_hand / 5)
    assert centre_of_mass(scores).centre.dims == ("subject",)
    assert np.isnan(centre_of_mass(-scores.clip(0.1)).centre).all()


@pytest.mark.parametrize("n_subjects", [3, 5, 12])
def test_the_interval_of_the_centre_covers_the_truth(n_subjects):
    truth = float(centre_of_mass(profile(noise=0.0)[:, 0]).centre)
    maps = xr.concat([profile(n_subjects, seed, 0.1) for seed in range(600)], dim="voxel")
    low, high = centre_of_mass(maps, over="subject").ci.values
    misses = int(((truth < low) | (truth > high)).sum())
    expected = stats.binom.interval(0.999, 600, 0.05)
    assert expected[0] <= misses <= expected[1]


def test_the_interval_of_the_centre_is_the_jackknife():
    scores = profile(7)
    out = centre_of_mass(scores, over="subject", level=0.9)
    left = [float(centre_of_mass(scores.drop_isel(subject=k).mean("subject")).centre) for k in range(7)]
    half = stats.t.ppf(0.95, 6) * np.sqrt(6 / 7 * np.square(np.subtract(left, np.mean(left))).sum())
    np.testing.assert_allclose(out.ci, [out.centre - half, out.centre + half])


def test_missing_scores_of_a_subject_are_left_out():
    scores = profile()
    scores[2, 3] = np.nan
    out = centre_of_mass(scores, over="subject")
    np.testing.assert_allclose(out.centre, centre_of_mass(scores.mean("subject")).centre)
    assert np.isfinite(out.ci).all()
    scores[:, 3] = np.nan
    without = centre_of_mass(scores.drop_isel(subject=3), over="subject")
    xr.testing.assert_allclose(centre_of_mass(scores, over="subject"), without)


def test_centres_that_make_no_sense_are_refused():
    scores = profile()
    for options in ({"dim": "block"}, {"over": "voxel"}, {"depth": "stage"}, {"depth": [1, 2]}, {"level": 95}):
        with pytest.raises(ConfigError):
            centre_of_mass(scores, **options)
    with pytest.raises(SchemaError, match="no interval"):
        centre_of_mass(scores[:, :1], over="subject")


def test_the_executor_does_not_matter():
    """Same seed, same choice and scores, wherever the folds are fitted; also with an estimator that draws."""
    rng = np.random.default_rng(0)
    layers = {name: rng.standard_normal((60, 4)) for name in ("conv", "dense")}
    y = layers["dense"] @ rng.standard_normal((4, 3)) + rng.standard_normal((60, 3))
    model, options = BandedRidgeEncoder(n_iter=4, random_state=0), {"cv": 2, "inner": 2}
    one = select_model(model, layers, y, **options)
    with get_executor("processes", 1) as workers:
        other = select_model(model, layers, y, executor=workers, **options)
    for name in ("score", "inner_score", "candidate_score"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)
    assert one["chosen"].values.tolist() == other["chosen"].values.tolist()
