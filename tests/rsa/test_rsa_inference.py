from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neuroalign.errors import AlignmentError, ConfigError, LabelsLostError, NeuroalignWarning, SchemaError
from neuroalign.rsa import RSAResult, compare, concat, evaluate, rdm, reorder, select
from neuroalign.rsa.inference import fdr

N = 14
NAMES = np.array([f"c{i:02d}" for i in range(N)], dtype=object)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def patterns(rng, *lead, n=N, p=10):
    dims = ("subject", "time")[: len(lead)]
    names = NAMES if n == N else np.array([f"c{i:02d}" for i in range(n)], dtype=object)
    return xr.DataArray(rng.normal(size=(*lead, n, p)), {"stimulus": names}, (*dims, "stimulus", "unit"))


@pytest.fixture
def study(rng):
    """One good model, one unrelated, one in between, and six noisy subjects."""
    truth = patterns(rng)
    data = rdm(truth + 0.8 * patterns(rng, 6), method="sqeuclidean")
    data = data.assign_coords(subject=[f"sub-{i:02d}" for i in range(1, 7)])
    models = {
        "good": rdm(truth, method="sqeuclidean"),
        "half": rdm(truth + patterns(rng), method="sqeuclidean"),
        "none": rdm(patterns(rng), method="sqeuclidean"),
    }
    return models, data


@pytest.mark.parametrize("method", ["rho-a", "pearson", "spearman", "kendall-tau-a", "kendall-tau-b"])
@pytest.mark.parametrize("bootstrap", ["both", "conditions", "subjects"])
def test_finds_the_true_model(study, method, bootstrap):
    models, data = study
    result = evaluate(models, data, compare=method, bootstrap=bootstrap, n=60, random_state=0)
    assert result.score.dims == ("model",)
    assert str(result.score.idxmax().item()) == "good"
    assert bool(result.significant.sel(model="good"))
    assert float(result.p.sel(model="none")) > 0.01
    assert float(result.p_pairwise.sel(model="good", model_2="none")) < 0.05
    low, high = result.ceiling.values
    assert low < high
    assert low - 0.1 < float(result.score.sel(model="good")) <= high
    assert float(result.p_ceiling.sel(model="none")) < 0.05 < float(result.p_ceiling.sel(model="good"))
    assert result.data.attrs["df"] == {"both": 5, "conditions": N - 1, "subjects": 5}[bootstrap]


def test_scores_are_those_of_compare(study):
    models, data = study
    result = evaluate(models, data, compare="spearman", n=10, random_state=0)
    for name, model in models.items():
        alone = compare(model, data, method="spearman")
        np.testing.assert_allclose(result.data["score_subject"].sel(model=name), alone)
        np.testing.assert_allclose(result.score.sel(model=name), alone.mean())


def test_subject_bootstrap_is_the_t_test(study):
    models, data = study
    result = evaluate(models, data, bootstrap="subjects", n=20_000, random_state=0)
    x = result.data["score_subject"]
    np.testing.assert_allclose(result.data["se"], x.std("subject", ddof=1) / np.sqrt(6), rtol=0.03)
    for name in models:
        expected = stats.ttest_1samp(x.sel(model=name), 0, alternative="greater")
        np.testing.assert_allclose(result.data["t"].sel(model=name), expected.statistic, rtol=0.03)
        low, high = stats.ttest_1samp(x.sel(model=name), 0).confidence_interval()
        np.testing.assert_allclose(result.ci.sel(model=name), [low, high], atol=0.01)
    paired = stats.ttest_rel(x.sel(model="half"), x.sel(model="none")).pvalue
    np.testing.assert_allclose(result.p_pairwise.sel(model="half", model_2="none"), paired, rtol=0.2)


def test_same_seed_same_result_and_order_of_conditions_does_not_matter(study, rng):
    models, data = study
    first = evaluate(models, data, n=50, random_state=3)
    again = evaluate(models, data, n=50, random_state=3)
    xr.testing.assert_identical(first.data, again.data)
    shuffled = {name: reorder(m, rng.permutation(NAMES)) for name, m in models.items()}
    xr.testing.assert_allclose(evaluate(shuffled, data, n=50, random_state=3).data, first.data)
    moved = evaluate(models, reorder(data, rng.permutation(NAMES)), n=50, random_state=3)
    np.testing.assert_allclose(moved.score, first.score)
    np.testing.assert_allclose(moved.ceiling, first.ceiling)
    assert first.data.attrs["neuro_steps"][-1] == again.data.attrs["neuro_steps"][-1]


def test_all_forms_of_input_agree(study):
    models, data = study
    expected = evaluate(models, data, n=20, random_state=0)
    stacked = concat(models, "model")
    by_subject = {str(s): data.sel(subject=s, drop=True) for s in data["subject"].values}
    for m in (stacked, xr.Dataset({k: v.drop_attrs() for k, v in models.items()})):
        for d in (data, by_subject, data.transpose("pair", "subject")):
            found = evaluate(m, d, n=20, random_state=0)
            np.testing.assert_allclose(found.score, expected.score)
            np.testing.assert_allclose(found.p, expected.p)
            assert found.score["model"].values.tolist() == list(models)
    plain = evaluate(stacked.values, data.values, n=20, random_state=0)
    np.testing.assert_allclose(plain.p, expected.p)
    one = evaluate(models["good"], data, n=20, random_state=0)
    np.testing.assert_allclose(one.score, expected.score[:1])


def test_time_courses_equal_one_time_after_the_other(rng):
    truth = patterns(rng)
    data = rdm(truth + patterns(rng, 5, 3), method="sqeuclidean").assign_coords(time=[0.0, 0.1, 0.2])
    models = concat({"good": rdm(truth), "none": rdm(patterns(rng))}, "model")
    whole = evaluate(models, data, n=40, random_state=0)
    assert whole.score.dims == ("model", "time")
    assert whole.ceiling.dims == ("bound", "time")
    assert whole.p_pairwise.dims == ("model", "model_2", "time")
    assert whole.data["score_subject"].dims == ("model", "time", "subject")
    for i in range(3):
        alone = evaluate(models, data.isel(time=i, drop=True), n=40, random_state=0)
        for name in ("score", "ceiling", "se", "p", "p_ceiling", "p_pairwise", "bootstrap"):
            np.testing.assert_allclose(whole.data[name].isel(time=i), alone.data[name])
    np.testing.assert_allclose(whole.data["p_fdr"], stats.false_discovery_control(whole.p.values.ravel()).reshape(2, 3))


def test_sessions_are_averaged_and_leave_together(rng):
    truth = patterns(rng)
    sessions = rdm(truth + patterns(rng, 5), method="sqeuclidean")
    both = concat({"ses-01": sessions, "ses-02": rdm(truth + patterns(rng, 5), method="sqeuclidean")}, "session")
    found = evaluate(rdm(truth), both, n=20, random_state=0)
    np.testing.assert_allclose(found.score, evaluate(rdm(truth), both.mean("session"), n=20, random_state=0).score)
    assert found.data.attrs["n_subjects"] == 5


def test_one_subject(study):
    models, data = study
    single = data.isel(subject=0, drop=True)
    with pytest.raises(ConfigError, match="one subject"):
        evaluate(models, single, bootstrap="subjects", n=10)
    with pytest.warns(NeuroalignWarning, match="one subject: there is no noise ceiling and conditions alone"):
        result = evaluate(models, single, n=30, random_state=0)
    assert result.data.attrs["bootstrap"] == "conditions"
    assert np.isnan(result.ceiling).all()
    assert np.isnan(result.p_ceiling).all()
    assert np.isfinite(result.p).all()
    evaluate(models, single, bootstrap="conditions", ceiling=False, n=10)  # nothing to warn about


def test_bad_rdms_harm_only_themselves(study):
    models, data = study
    clean = evaluate(models, data, n=30, random_state=0)
    models = {**models, "flat": models["good"] * 0 + 1}
    with pytest.warns(NeuroalignWarning, match=r"models \['flat'\]"):
        found = evaluate(models, data, n=30, random_state=0)
    np.testing.assert_allclose(found.p[:3], clean.p)
    np.testing.assert_allclose(found.data["p_fdr"][:3], clean.data["p_fdr"])
    assert np.isnan(found.p[3])
    broken = concat({**{str(s): data.sel(subject=s, drop=True) for s in data["subject"].values}}, "subject")
    extra = xr.concat([broken, broken[:1] * np.nan], "subject")
    with pytest.warns(NeuroalignWarning, match="1 of 7 data RDMs"):
        found = evaluate({"good": models["good"]}, extra, n=30, random_state=0)
    np.testing.assert_allclose(found.score, clean.score[:1])
    np.testing.assert_allclose(found.ceiling, clean.ceiling)


def test_missing_pairs(study):
    models, data = study
    holes = data.copy()
    holes[2, 4:6] = np.nan
    with pytest.warns(NeuroalignWarning, match="2 of 91 pairs"):
        found = evaluate(models, holes, n=20, random_state=0, compare="pearson")
    keep = np.r_[0:4, 6:91]
    np.testing.assert_allclose(
        found.score[0], np.mean([np.corrcoef(models["good"][keep], x[keep])[0, 1] for x in data.values])
    )
    partial = {**models, "good": models["good"].copy()}
    partial["good"][:3] = np.nan
    with pytest.warns(NeuroalignWarning, match=r"\['good'\] are scored on the pairs that they have"):
        found = evaluate(partial, data, n=20, random_state=0, compare="pearson")
    np.testing.assert_allclose(
        found.score[0], np.mean([np.corrcoef(models["good"][3:], x[3:])[0, 1] for x in data.values])
    )


def test_constant_in_a_sample_is_counted_not_hidden(rng):
    data = rdm(patterns(rng, 5, n=5), method="sqeuclidean")
    model = data.isel(subject=0, drop=True) * 0
    model[0] = 1.0  # one pair of ten: often absent from a sample
    with pytest.warns(NeuroalignWarning, match="have no score in up to"):
        result = evaluate(model, data, n=50, random_state=0)
    assert np.isfinite(result.p).all()
    assert result.data.attrs["n_redrawn"] >= 0


def test_cosine_of_positive_distances_gets_no_test_against_zero(study):
    models, data = study
    with pytest.warns(NeuroalignWarning, match="above 0 by construction"):
        result = evaluate(models, data, compare="cosine", n=20, random_state=0)
    assert np.isnan(result.p).all()
    assert np.isfinite(result.p_pairwise.values[np.triu_indices(3, 1)]).all()


def test_wrong_input_is_refused(study):
    models, data = study
    with pytest.raises(AlignmentError, match="c13"):
        evaluate({"good": select(models["good"], NAMES[:13])}, data, n=10)
    with pytest.raises(LabelsLostError, match="'good'"):
        evaluate({"good": models["good"].values}, data, n=10)
    with pytest.raises(LabelsLostError, match="plain array"):
        evaluate(models, data.values, n=10)
    with pytest.raises(SchemaError, match="wrong size"):
        evaluate(np.zeros((2, 10)), data.values, n=10)
    with pytest.raises(SchemaError, match="is not one RDM"):
        evaluate({"good": data}, data, n=10)
    with pytest.raises(SchemaError, match="models come first"):
        evaluate(data, concat(models, "model"), n=10)
    with pytest.raises(SchemaError, match="No models"):
        evaluate({}, data, n=10)
    with pytest.raises(SchemaError, match="No data RDM"), pytest.warns(NeuroalignWarning):
        evaluate(models, data * 0, n=10)
    with pytest.raises(ConfigError, match="Unknown comparator"):
        evaluate(models, data, compare="r2")
    with pytest.raises(ConfigError, match="Unknown bootstrap"):
        evaluate(models, data, bootstrap="pairs")
    with pytest.raises(ConfigError, match="alpha"):
        evaluate(models, data, alpha=5)
    with pytest.raises(ConfigError, match="Too few"):
        evaluate(models, data, n=1)


def test_fdr_ignores_undefined():
    p = np.array([[0.01, np.nan], [0.04, 0.5]])
    np.testing.assert_allclose(fdr(p), [[0.03, np.nan], [0.06, 0.5]])
    assert np.isnan(fdr(np.full(3, np.nan))).all()


@pytest.mark.parametrize(("n_subjects", "bootstrap"), [(1, "conditions"), (8, "subjects"), (8, "both")])
def test_false_positives_stay_at_the_nominal_rate(n_subjects, bootstrap):
    """Unrelated RDMs. With "subjects" their patterns are drawn anew for each, so that the null hypothesis holds."""
    rng, n_sets, hits, pairs = np.random.default_rng(5), 60, 0, 0
    for _ in range(n_sets):
        models = rdm(rng.normal(size=(2, 24, 6)))
        common = 0 if bootstrap == "subjects" else rng.normal(size=(24, 8))
        data = rdm(common + rng.normal(size=(n_subjects, 24, 8)))
        result = evaluate(
            models, data, compare="pearson", bootstrap=bootstrap, n=60, random_state=rng, ceiling=n_subjects > 1
        )
        hits += int((result.p < 0.05).sum())
        pairs += int(result.p_pairwise[0, 1] < 0.05)
    limit = 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_sets)
    assert hits / (2 * n_sets) < limit
    assert pairs / n_sets < limit


def test_result_is_what_it_says(study):
    result = evaluate(*study, n=20, random_state=0)
    assert isinstance(result, RSAResult)
    assert result.data["bootstrap"].dims == ("sample", "model")
    np.testing.assert_allclose(result.data["se"] * 0 + result.score, result.ci.mean("bound"))
