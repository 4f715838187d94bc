from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuroalign.errors import AlignmentError, ConfigError, LabelsLostError, NeuroalignWarning, SchemaError
from neuroalign.rsa import _compare, compare, from_square, rdm, reorder, square
from neuroalign.rsa._kendall import _by_inversions, _by_signs, dense_ranks, tau_matrix

METHODS = _compare.METHODS
THEIRS = {
    "pearson": "corr",
    "cosine": "cosine",
    "spearman": "spearman",
    "rho-a": "rho-a",
    "kendall-tau-a": "tau-a",
    "kendall-tau-b": "kendall",
    "whitened-cosine": "cosine_cov",
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def labelled(rng, n=8, lead=(), dims=()):
    half = np.triu(rng.random((*lead, n, n)), 1)
    names = [f"c{i}" for i in range(n)]
    full = xr.DataArray(
        half + np.swapaxes(half, -1, -2), dims=(*dims, "condition", "condition_2"), coords={"condition": names}
    )
    return from_square(full)


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_agree_with_scipy(rng, ties):
    a, b = rng.normal(size=(3, 45)), rng.normal(size=(4, 45))
    if ties:
        a, b = np.round(a), np.round(2 * b)
    for method, theirs in (
        ("pearson", stats.pearsonr),
        ("spearman", stats.spearmanr),
        ("kendall-tau-b", stats.kendalltau),
    ):
        expected = [[theirs(x, y)[0] for y in b] for x in a]
        np.testing.assert_allclose(compare(a, b, method=method), expected, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ties", [False, True])
def test_all_comparators_agree_with_rsatoolbox(rng, method, ties):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rdms = pytest.importorskip("rsatoolbox.rdm")
    a, b = rng.random((3, 66)), rng.random((4, 66))
    if ties:
        a, b = np.round(3 * a) + 1, np.round(5 * b) + 1
    theirs = rdms.compare(rdms.RDMs(a), rdms.RDMs(b), method=THEIRS[method])
    np.testing.assert_allclose(compare(a, b, method=method), theirs, atol=1e-10)


def slow_tau_a(x, y, w):
    signs = np.sign(x[:, None] - x) * np.sign(y[:, None] - y) * w[:, None] * w
    return signs.sum() / (w.sum() ** 2 - (w**2).sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 40), st.integers(1, 30))
def test_both_ways_to_kendall_agree_with_the_double_loop(seed, p, levels):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, levels + 1, (2, p)).astype(float), rng.integers(0, levels + 1, (3, p)).astype(float)
    w = rng.integers(1, 5, p).astype(float)
    ranks = dense_ranks(a), dense_ranks(b)
    np.testing.assert_array_equal(_by_signs(*ranks, w), _by_inversions(*ranks, w))
    found = tau_matrix(a, b, w)
    for i in range(2):
        for j in range(3):
            constant = np.ptp(a[i]) == 0 or np.ptp(b[j]) == 0
            np.testing.assert_allclose(found[i, j], np.nan if constant else slow_tau_a(a[i], b[j], w), atol=1e-12)


def test_kendall_beyond_sixteen_bits(rng):
    x = rng.normal(size=70_000)
    y = x + rng.normal(size=70_000)
    np.testing.assert_allclose(tau_matrix(x[None], y[None])[0, 0], stats.kendalltau(x, y)[0], atol=1e-12)


def test_whitened_cosine_is_the_dense_one_and_biased_linear_cka(rng):
    x, y = rng.normal(size=(2, 9, 30))
    a, b = rdm(x, method="sqeuclidean"), rdm(y, method="sqeuclidean")
    rows, columns = np.triu_indices(9, 1)
    contrasts = np.zeros((36, 9))
    contrasts[np.arange(36), rows], contrasts[np.arange(36), columns] = 1, -1
    inverse = np.linalg.inv((contrasts @ contrasts.T) ** 2)
    dense = a @ inverse @ b / np.sqrt((a @ inverse @ a) * (b @ inverse @ b))
    centred = [v - v.mean(0) for v in (x, y)]
    k, m = (v @ v.T for v in centred)
    cka = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    found = compare(a, b, method="whitened-cosine")
    np.testing.assert_allclose([found, found], [dense, cka])


def test_rho_a_is_spearman_without_ties_and_below_with(rng):
    a, b = rng.normal(size=(1, 45)), rng.normal(size=(1, 45))
    np.testing.assert_allclose(compare(a, b, method="rho-a"), compare(a, b, method="spearman"))
    tied = (a > 0).astype(float)
    assert abs(compare(tied, b, method="rho-a")[0, 0]) < abs(compare(tied, b, method="spearman")[0, 0])
    assert compare(tied, tied, method="rho-a")[0, 0] < 1
    np.testing.assert_allclose(compare(tied, tied, method="spearman"), 1)


def test_dims_are_the_outer_product_with_labels(rng):
    a = labelled(rng, lead=(2, 3), dims=("model", "time")).assign_coords(model=["m0", "m1"], time=[0.0, 0.1, 0.2])
    b = labelled(rng, lead=(4, 5), dims=("time", "subject")).assign_coords(time=[1.0, 2.0, 3.0, 4.0])
    found = compare(a, b, method="spearman")
    assert found.dims == ("model", "time", "time_2", "subject")
    assert found["time_2"].values.tolist() == [1.0, 2.0, 3.0, 4.0]
    one = compare(a.isel(model=1, time=2), b.isel(time=3, subject=0), method="spearman")
    assert one.ndim == 0
    np.testing.assert_allclose(found.isel(model=1, time=2, time_2=3, subject=0), one)


@pytest.mark.parametrize("method", METHODS)
def test_conditions_meet_by_label(rng, method):
    a, b = labelled(rng), labelled(rng)
    names = [f"c{i}" for i in rng.permutation(8)]
    np.testing.assert_allclose(compare(a, reorder(b, names), method=method), compare(a, b, method=method))


@pytest.mark.parametrize("method", METHODS)
def test_a_bad_rdm_harms_only_itself(rng, method):
    a, b = rng.random((3, 45)), rng.random((4, 45))
    clean = compare(a, b, method=method)
    a[1, 5:9], b[2, 7:12] = np.nan, np.nan
    found = compare(a, b, method=method)
    np.testing.assert_allclose(np.delete(np.delete(found, 1, 0), 2, 1), np.delete(np.delete(clean, 1, 0), 2, 1))
    common = np.r_[0:5, 12:45]
    if method != "whitened-cosine":
        alone = _compare.similarity(method, a[1:2, common], b[2:3, common])
        np.testing.assert_allclose(found[1, 2], alone[0, 0])


@pytest.mark.parametrize("method", METHODS)
def test_constant_rdm_is_nan_with_one_warning(rng, method):
    a, b = rng.random((3, 45)), rng.random((2, 45))
    a[1] = 0.3
    with pytest.warns(NeuroalignWarning, match="Constant RDM: 1 of 5") as caught:
        found = compare(a, b, method=method)
    assert len(caught) == 1
    assert np.isnan(found).tolist() == [[False] * 2, [True] * 2, [False] * 2]


def test_empty_rdm_is_nan(rng):
    a = rng.random((2, 45))
    a[0] = np.nan
    with pytest.warns(NeuroalignWarning, match="Constant RDM"):
        assert np.isnan(compare(a, a)).sum() == 3


def test_different_conditions_and_lost_labels_are_refused(rng):
    a, b = labelled(rng, 8), labelled(rng, 9)
    with pytest.raises(AlignmentError, match="c8"):
        compare(a, b)
    with pytest.raises(LabelsLostError, match="Only one"):
        compare(a, b.values)
    with pytest.raises(SchemaError, match="numbers of pairs"):
        compare(a.values, b.values)
    with pytest.raises(SchemaError, match="upper triangle"):
        compare(rng.random(7), rng.random(7))
    with pytest.raises(ConfigError, match="whitened-cosine"):
        compare(a, a, method="cka")
    with pytest.raises(SchemaError, match="not an RDM"):
        compare(square(a), a)


def test_biased_distances_are_named(rng):
    ids = np.tile([f"s{i}" for i in range(6)], 4).astype(object)
    x = xr.DataArray(
        rng.normal(size=(24, 5)),
        {"stimulus_id": ("trial", ids), "run": ("trial", np.repeat([0, 1], 12))},
        ("trial", "channel"),
    )
    biased, unbiased = rdm(x, method="sqeuclidean"), rdm(x)
    for method in ("cosine", "pearson", "whitened-cosine"):
        with pytest.warns(NeuroalignWarning, match="Biased distances"):
            compare(biased, unbiased, method=method)
        compare(unbiased, unbiased, method=method)
    compare(biased, unbiased, method="rho-a")
