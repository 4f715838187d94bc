"""PriorRidgeEncoder: known truth, wrong priors, dense Gaussian algebra, and nouns of other subjects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuroalign import load_model
from neuroalign.encoding import PriorRidgeEncoder, RidgeEncoder
from neuroalign.errors import AlignmentError, SchemaError
from neuroalign.metrics import r2_score
from neuroalign.solvers import WeightPrior, prior_ridge, weight_prior
from neuroalign.solvers import prior as module

P = 60


@parametrize_with_checks([PriorRidgeEncoder()])
@pytest.mark.filterwarnings("ignore:.*targets are constant")
def test_scikit_learn_contract(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def world(right: bool, n: int, t: int = 60, seed: int = 0):
    """Others with low-rank weights about a mean, and new targets of the same kind or of none."""
    rng = np.random.default_rng(seed)
    loads, mean = rng.normal(size=(P, 5)) / np.sqrt(5 * P), 0.5 * rng.normal(size=P) / np.sqrt(P)
    others = mean[:, None] + loads @ rng.normal(size=(5, 150))
    new = mean[:, None] + loads @ rng.normal(size=(5, t)) if right else rng.normal(size=(P, t)) / np.sqrt(P)
    x_others, x, test = rng.normal(size=(250, P)), rng.normal(size=(n, P)), rng.normal(size=(300, P))
    y_others = x_others @ others + rng.normal(size=(250, 150))
    return (x_others, y_others), (x, x @ new + rng.normal(size=(n, t)) + 2), (test, test @ new + 2)


@pytest.mark.parametrize("n", [5, 10, 20, 40])
def test_a_right_prior_wins_and_a_wrong_one_does_not_hurt(n: int) -> None:
    for right in (True, False):
        others, few, test = world(right, n)
        model = PriorRidgeEncoder().fit_prior(*others).fit(*few)
        usual, none = RidgeEncoder().fit(*few), PriorRidgeEncoder().fit(*few)
        score, plain, bare = (m.score(*test) for m in (model, usual, none))
        if right:
            assert score > plain + 0.25
            assert model.trust_.mean() > 0.5
            if n >= 10:
                assert score > 0.15
        else:
            assert score > max(plain, bare) - (0.03 if n > 5 else 0.12)
        alone = test[0] @ model.prior_mean_[:, None] + model.intercept_
        assert score > r2_score(test[1], alone).mean() - 0.05 or not right
    assert n < 20 or model.trust_.mean() < 0.2


def test_many_samples_forget_the_prior() -> None:
    others, few, test = world(False, 600)
    model = PriorRidgeEncoder().fit_prior(*others).fit(*few)
    assert model.score(*test) > RidgeEncoder().fit(*few).score(*test) - 0.01


def test_weights_and_evidence_are_those_of_dense_gaussians(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 7)) + 1, rng.normal(size=(12, 3))
    table = rng.normal(size=(7, 30)) + 1
    prior = weight_prior(table)
    sigma = prior.times(np.eye(7))
    np.testing.assert_allclose(sigma, LedoitWolf().fit(table.T).covariance_, atol=1e-10)
    centred, own = x - x.mean(axis=0), y - y.mean(axis=0)
    unit = np.trace(centred @ sigma @ centred.T) / 11
    monkeypatch.setattr(module, "ALPHAS", np.array([0.7]))
    monkeypatch.setattr(module, "TRUST", (1.0,))
    monkeypatch.setattr(module, "PULL", (1.0,))
    result = prior_ridge(x, y, prior=prior)
    metric = sigma / unit / 0.7
    solve = np.linalg.inv(centred @ metric @ centred.T + np.eye(12))
    coef = prior.mean[:, None] + metric @ centred.T @ solve @ (own - centred @ prior.mean[:, None])
    np.testing.assert_allclose(result.coef, coef, atol=1e-10)
    np.testing.assert_allclose(result.intercept, y.mean(axis=0) - x.mean(axis=0) @ coef, atol=1e-10)
    left = []  # leave one out, each sample in turn, the size of the prior kept
    for i in range(12):
        keep = np.arange(12) != i
        part, target = x[keep] - x[keep].mean(axis=0), y[keep] - y[keep].mean(axis=0)
        solve = np.linalg.inv(part @ metric @ part.T + np.eye(11))
        w = prior.mean[:, None] + metric @ part.T @ solve @ (target - part @ prior.mean[:, None])
        left.append(y[keep].mean(axis=0) + (x[i] - x[keep].mean(axis=0)) @ w)
    np.testing.assert_allclose(result.loo_scores, r2_score(y, np.array(left)), atol=1e-9)
    model = module._Model(x, prior)
    contrasts = model._contrasts
    cov = contrasts.T @ (centred @ metric @ centred.T + np.eye(12)) @ contrasts
    student = scipy.stats.multivariate_t(shape=cov, df=1e-9)  # the limit of a prior 1 / s2
    found = model.evidence(own, np.ones(3))[0]
    rest = contrasts.T @ (own - centred @ prior.mean[:, None])
    np.testing.assert_allclose(
        found - found[0], [student.logpdf(r) - student.logpdf(rest[:, 0]) for r in rest.T], atol=1e-6
    )


def test_without_a_prior_it_is_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = world(True, 30)[1]
    monkeypatch.setattr(module, "ALPHAS", np.array([0.3]))
    result = prior_ridge(x, y, prior=None)
    penalty = 0.3 * np.square(x - x.mean(axis=0)).sum() / 29
    peer = Ridge(alpha=penalty).fit(x, y)
    np.testing.assert_allclose(result.coef, peer.coef_.T, atol=1e-10)
    np.testing.assert_allclose(result.intercept, peer.intercept_, atol=1e-10)
    assert (result.trust == 0).all()


def test_labels_clones_and_files(tmp_path) -> None:
    (x_others, y_others), (x, y), _ = world(True, 12, t=4)
    units = {"unit": [f"u{k}" for k in range(P)]}

    def labelled(values, dim, **coords):
        return xr.DataArray(values, dims=("stimulus", dim), coords={"stimulus": np.arange(len(values)), **coords})

    model = PriorRidgeEncoder().fit_prior(labelled(x_others, "unit", **units), labelled(y_others, "voxel"))
    copy = clone(model)
    assert not hasattr(copy, "solution_coef_")
    few = labelled(x, "unit", **units), labelled(y, "voxel")
    model.fit(*few)
    xr.testing.assert_identical(copy.fit(*few).coef_, model.coef_)
    assert model.coef_.dims == ("unit", "voxel")
    assert model.trust_.dims == model.pull_.dims == model.alphas_.dims == model.cv_scores_.dims == ("voxel",)
    again = load_model(model.save(tmp_path / "model"))
    xr.testing.assert_identical(again.predict(few[0]), model.predict(few[0]))
    # The prior is saved as well; where it lies in memory may change the last digit of products.
    xr.testing.assert_allclose(again.fit(*few).coef_, model.coef_, rtol=1e-6)
    with pytest.raises(AlignmentError, match="other names along unit"):
        model.fit(few[0].assign_coords(unit=units["unit"][::-1]), few[1])
    with pytest.raises(AlignmentError, match="other features"):
        PriorRidgeEncoder().fit_prior(x_others, y_others).fit(x[:, :5], y)
    with pytest.raises(SchemaError, match="do not say which"):
        PriorRidgeEncoder().use_prior(model.coef_)
    with pytest.raises(SchemaError, match="One target says nothing"):
        PriorRidgeEncoder().use_prior(np.ones((4, 1)))
    with pytest.raises(SchemaError, match="must be a table"):
        PriorRidgeEncoder().use_prior(np.ones(4))
    with pytest.raises(SchemaError, match="other features"):
        prior_ridge(x[:, :5], y, prior=weight_prior(x.T))
    bad = y.copy()
    bad[:, 1], bad[2, 2] = 3.0, np.nan
    with pytest.warns(UserWarning, match="NaN"):
        model = PriorRidgeEncoder().fit(x, bad)
    assert model.predict(x)[:, 1].tolist() == [3.0] * 12
    assert np.isnan(model.predict(x)[:, 2]).all()


@pytest.mark.parametrize("unit", [1e-13, 1e9])
def test_units_do_not_matter(unit: float) -> None:
    (x_others, y_others), (x, y), _ = world(True, 12, t=5)
    usual = PriorRidgeEncoder().fit_prior(x_others, y_others).fit(x, y).predict(x)
    other = PriorRidgeEncoder().fit_prior(x_others, y_others * unit).fit(x, y * unit).predict(x)
    np.testing.assert_allclose(other / unit, usual, rtol=1e-6)
    other = PriorRidgeEncoder().fit_prior(x_others * unit, y_others).fit(x * unit, y).predict(x * unit)
    np.testing.assert_allclose(other, usual, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 12), p=st.integers(1, 30), t=st.integers(1, 4), others=st.integers(2, 40), seed=st.integers(0, 99)
)
def test_any_shape_is_finite(n: int, p: int, t: int, others: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prior = weight_prior(rng.normal(size=(p, others)))
    assert isinstance(prior, WeightPrior)
    result = prior_ridge(rng.normal(size=(n, p)), rng.normal(size=(n, t)), prior=prior)
    assert np.isfinite(result.coef).all()
    assert np.isfinite(result.intercept).all()
    assert ((result.trust >= 0) & (result.trust <= 1 + 1e-9)).all()


def test_nouns_of_other_subjects(real_data) -> None:
    """Few-shot on 53 nouns: random voxels of eight subjects do not hurt the ninth, on nouns that nobody saw."""
    folder = real_data("mitchell2008-60nouns")
    names = pd.read_csv(folder / "features" / "unique_id.csv")["id"].tolist()
    table = np.load(folder / "features" / "spose_embedding_82d_sorted.npy")
    subjects = [
        pd.read_csv(folder / f"scaled_1000_mitchell_targets_{s}.txt", sep=" ", index_col=0) for s in range(1, 10)
    ]
    nouns = [noun for noun in subjects[0].index if noun in names]
    assert len(nouns) == 53
    x = table[[names.index(noun) for noun in nouns]]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    order = np.random.default_rng(0).permutation(53)
    few, test = order[:15], order[33:]
    gains = []
    for own in range(0, 9, 4):
        y = subjects[own].loc[nouns].values[:, ::5]
        rest = np.hstack([s.loc[nouns].values[:, ::5] for i, s in enumerate(subjects) if i != own])
        seen = order[:33]
        model = PriorRidgeEncoder().fit_prior(x[seen], rest[seen]).fit(x[few], y[few])
        usual = RidgeEncoder().fit(x[few], y[few])
        scores = [r2_score(y[test], m.predict(x[test])).mean() for m in (model, usual)]
        gains.append(scores[0] - scores[1])
    assert np.mean(gains) > 0
    assert min(gains) > -0.02
