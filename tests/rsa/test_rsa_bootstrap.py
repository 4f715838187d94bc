from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import squareform

from neuroalign.rsa import _bootstrap, _ceiling, _compare, rdm


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def literal(x, multiplicity):
    """Write a sample out: repeat rows and columns, and drop pairs of copies of one condition."""
    slots = np.repeat(np.arange(len(multiplicity)), multiplicity)
    rows, columns = np.triu_indices(len(slots), 1)
    keep = slots[rows] != slots[columns]
    full = np.array([squareform(one) for one in x])
    return full[:, slots[rows[keep]], slots[columns[keep]]], (rows[keep], columns[keep])


def dense_whitened(a, b, pairs):
    """Invert the covariance of the pairs that are there."""
    contrasts = np.zeros((len(pairs[0]), int(max(pairs[0].max(), pairs[1].max())) + 1))
    contrasts[np.arange(len(pairs[0])), pairs[0]], contrasts[np.arange(len(pairs[0])), pairs[1]] = 1, -1
    inverse = np.linalg.inv((contrasts @ contrasts.T) ** 2)
    return a @ inverse @ b.T / np.sqrt(np.outer(np.diag(a @ inverse @ a.T), np.diag(b @ inverse @ b.T)))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("method", ["pearson", "cosine", "spearman", "kendall-tau-b", "whitened-cosine"])
def test_weights_equal_the_sample_written_out(rng, method, ties):
    models, data = rng.random((3, 45)), rng.random((1, 4, 45))
    if ties:
        models = np.round(3 * models) + 1
    scorer = _bootstrap.Scorer(method, models, data, np.triu_indices(10, 1))
    for _ in range(5):
        m = rng.multinomial(10, np.full(10, 0.1))
        scores, gram = scorer(m[None])
        (a, pairs), (b, _) = literal(models, m), literal(data[0], m)
        if method == "whitened-cosine":
            expected, own = dense_whitened(a, b, pairs), dense_whitened(b, b, pairs)
        else:
            expected, own = (_compare.similarity(method, x, b) for x in (a, b))
        np.testing.assert_allclose(scores[0, :, 0], expected, atol=1e-10)
        np.testing.assert_allclose(gram[0, 0], own, atol=1e-10)


@pytest.mark.parametrize("method", ["rho-a", "kendall-tau-a"])
def test_copies_of_one_pair_are_no_tie(rng, method):
    data = rng.random((1, 2, 45))
    scorer = _bootstrap.Scorer(method, data[0], data, np.triu_indices(10, 1))
    m = rng.multinomial(10, np.full(10, 0.1))
    scores, gram = scorer(m[None])
    np.testing.assert_allclose(np.diag(scores[0, :, 0]), 1)
    np.testing.assert_allclose(np.diag(gram[0, 0]), 1)
    slow = _bootstrap.Scorer("spearman", data[0], data, np.triu_indices(10, 1))(m[None])[0]
    assert np.abs(scores[0, 0, 0, 1] - slow[0, 0, 0, 1]) < 0.1


def test_models_with_missing_pairs_do_not_disturb_others(rng):
    models, data = rng.random((3, 45)), rng.random((2, 4, 45))
    clean = _bootstrap.Scorer("spearman", models, data, np.triu_indices(10, 1))
    models = models.copy()
    models[1, :7] = np.nan
    scorer = _bootstrap.Scorer("spearman", models, data, np.triu_indices(10, 1))
    m = rng.multinomial(10, np.full(10, 0.1))
    np.testing.assert_allclose(scorer(m[None])[0][:, [0, 2]], clean(m[None])[0][:, [0, 2]])
    np.testing.assert_allclose(scorer(m[None])[1], clean(m[None])[1])
    alone = _compare.similarity("spearman", models[1:2, 7:], data[..., 7:].reshape(8, -1))
    np.testing.assert_allclose(scorer()[0][0, 1], alone.reshape(2, 4))


def test_unrelated_rdms_stay_unrelated_when_conditions_repeat(rng):
    scores, naive = [], []
    for _ in range(20):
        a, b = rdm(rng.normal(size=(2, 12, 40)), method="euclidean")
        scorer = _bootstrap.Scorer("pearson", a[None], b[None, None], np.triu_indices(12, 1))
        m, _ = _bootstrap.draw(rng, 20, 12, 3)
        scores += [float(scorer(one[None])[0].item()) for one in m]
        for one in m:
            slots = np.repeat(np.arange(12), one)
            copies = [squareform(squareform(x)[np.ix_(slots, slots)], checks=False) for x in (a, b)]
            naive.append(np.corrcoef(*copies)[0, 1])
    assert np.mean(naive) > 0.6  # what zeros between copies would do
    assert abs(np.mean(scores)) < 0.1


@pytest.mark.parametrize("method", _compare.METHODS)
def test_many_samples_at_a_time_equal_one_by_one(rng, method):
    models, data = rng.random((3, 45)), rng.random((2, 4, 45))
    models[2, :9] = np.nan
    scorer = _bootstrap.Scorer(method, models, data, np.triu_indices(10, 1))
    m = rng.multinomial(10, np.full(10, 0.1), 7)
    c = rng.multinomial(4, np.full(4, 0.25), 7)
    scores, gram = scorer(m)
    assert scores.shape == (7, 3, 2, 4)
    assert gram.shape == (7, 2, 4, 4)
    for i in range(7):
        one = scorer(m[i : i + 1])
        np.testing.assert_allclose(scores[i], one[0][0])
        np.testing.assert_allclose(gram[i], one[1][0])
    found = _bootstrap.resample(scorer, ("conditions", "subjects", "both"), m, c)
    np.testing.assert_allclose(found["conditions"][:, :-1], scores.mean(-1))
    np.testing.assert_allclose(found["subjects"][:, :-1], np.einsum("mts,ns->nmt", scorer()[0][0], c) / 4)
    np.testing.assert_allclose(found["both"][:, :-1], np.einsum("nmts,ns->nmt", scores, c) / 4)


def test_draw_redraws_poor_samples_and_counts_them():
    m, redrawn = _bootstrap.draw(np.random.default_rng(0), 500, 4, 3)
    assert ((m > 0).sum(1) >= 3).all()
    assert (m.sum(1) == 4).all()
    share = redrawn / (500 + redrawn)
    assert abs(share - 22 / 64) < 0.06  # chance of at most two distinct of four: (4 + 84) / 256 = 22 / 64


def test_subject_mean_leaves_out_undefined():
    scores = np.array([[1.0, 2.0, np.nan], [np.nan] * 3])
    found = _bootstrap.subject_mean(scores[None, :, None], np.array([[3, 1, 2]]))
    np.testing.assert_allclose(found[0, :, 0], [5 / 4, np.nan])


@pytest.mark.parametrize("method", ["pearson", "cosine", "whitened-cosine"])
def test_lower_bound_by_inner_products_is_the_pool_written_out(rng, method):
    pairs = np.triu_indices(9, 1)
    data = rng.random((5, 36)) + rng.random(36)
    scorer = _bootstrap.Scorer(method, data[:1], data[None], pairs)
    gram = scorer()[1]
    found = _bootstrap.lower_bound(gram, np.ones((1, 5), dtype=int)).item()
    np.testing.assert_allclose(found, _ceiling.ceilings(method, data, pairs)[0])
    counts = np.array([2, 0, 1, 1, 1])
    written = _ceiling.normalise(method, data[[0, 0, 2, 3, 4]], pairs)
    expected = []
    for place, subject in enumerate([0, 0, 2, 3, 4]):
        others = [i for i, s in enumerate([0, 0, 2, 3, 4]) if s != subject]
        pool = written[others].sum(0)
        expected.append(_compare.similarity(method, data[[0, 0, 2, 3, 4]][place : place + 1], pool[None], pairs)[0, 0])
    np.testing.assert_allclose(_bootstrap.lower_bound(gram, counts[None]).item(), np.mean(expected))


def test_two_factor_variance_is_unbiased():
    """Cells a_i + b_j + e_ij: the variance of their mean is known, and its estimate is right on average."""
    rng, n_subjects, n_conditions, n = np.random.default_rng(0), 8, 12, 300
    truth = 1.0 / n_subjects + 2.0 / n_conditions + 6.0 / (n_subjects * n_conditions)
    found, uncorrected = [], []
    for _ in range(150):
        cells = (
            rng.normal(size=(n_subjects, 1))
            + np.sqrt(2) * rng.normal(size=(1, n_conditions))
            + np.sqrt(6) * rng.normal(size=(n_subjects, n_conditions))
        )
        c = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), n) / n_subjects
        d = rng.multinomial(n_conditions, np.full(n_conditions, 1 / n_conditions), n) / n_conditions
        parts = {
            "subjects": _bootstrap.variance((c @ cells).mean(1)),
            "conditions": _bootstrap.variance((cells @ d.T).mean(0)),
            "both": _bootstrap.variance(np.einsum("bs,sc,bc->b", c, cells, d)),
        }
        found.append(float(_bootstrap.sampling_variance(parts, n_subjects, n_conditions)))
        uncorrected.append(float(parts["both"]))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 3.5 * error
    assert np.mean(uncorrected) > 1.1 * truth


def test_variance_of_one_factor_is_that_of_the_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(size=10)
    c = rng.multinomial(10, np.full(10, 0.1), 200_000) / 10
    found = _bootstrap.sampling_variance({"subjects": _bootstrap.variance(c @ x)}, 10, 50)
    np.testing.assert_allclose(found, x.var(ddof=1) / 10, rtol=0.02)


@pytest.mark.parametrize("method", ["pearson", "cosine", "spearman", "rho-a", "kendall-tau-a", "kendall-tau-b"])
def test_ceilings_agree_with_rsatoolbox(rng, method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inference = pytest.importorskip("rsatoolbox.inference")
        from rsatoolbox.rdm import RDMs
    theirs = {"pearson": "corr", "kendall-tau-a": "tau-a", "kendall-tau-b": "tau-b"}.get(method, method)
    data = rng.random((5, 45)) + rng.random(45)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for tau it says that ranks are averaged, as they are here
        expected = inference.boot_noise_ceiling(RDMs(data), method=theirs)
    np.testing.assert_allclose(_ceiling.ceilings(method, data, np.triu_indices(10, 1)), expected)


@pytest.mark.parametrize("method", _compare.METHODS)
def test_no_model_beats_the_upper_ceiling_and_noise_has_its_known_height(rng, method):
    pairs = np.triu_indices(12, 1)
    data = rng.random((9, 66)) + (1 if "cosine" in method else 0)
    lower, upper = _ceiling.ceilings(method, data, pairs)
    assert lower < upper
    candidates = np.concatenate([data, rng.random((50, 66)), data.mean(0)[None]])
    best = _compare.similarity(method, candidates, data, pairs).mean(1).max()
    assert best <= upper + 1e-3
    if method in ("pearson", "spearman", "rho-a"):
        assert abs(lower) < 0.12
        assert abs(upper - 1 / 3) < 0.06


def test_ceilings_need_two_subjects(rng):
    pairs = np.triu_indices(6, 1)
    data = rng.random((3, 15))
    assert np.isnan(_ceiling.ceilings("pearson", data[:1], pairs)).all()
    with_constant = np.concatenate([data, np.ones((1, 15))])
    np.testing.assert_allclose(
        _ceiling.ceilings("pearson", with_constant, pairs), _ceiling.ceilings("pearson", data, pairs)
    )
