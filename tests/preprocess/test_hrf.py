"""Response functions against SciPy, numerical integration and nilearn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from neuroalign.errors import ConfigError
from neuroalign.preprocess import HRFS, DoubleGamma, get_hrf, hrf_kernel
from neuroalign.preprocess.hrf import cosine_drift, event_regressors

T = np.arange(0, 40, 0.1)


def test_spm_is_the_published_formula() -> None:
    expected = (stats.gamma.pdf(T, 6) - stats.gamma.pdf(T, 16) / 6) / (5 / 6)
    np.testing.assert_allclose(get_hrf("spm").density(T), expected, atol=1e-12)


def test_glover_is_the_published_formula() -> None:
    peak = T**6 * np.exp(-T / 0.9) / (5.4**6 * np.exp(-6))
    undershoot = T**12 * np.exp(-T / 0.9) / (10.8**12 * np.exp(-12))
    ours = get_hrf("glover").density(T)
    published = peak - 0.35 * undershoot
    np.testing.assert_allclose(ours / ours.max(), published / published.max(), atol=1e-10)


@pytest.mark.parametrize("name", [*HRFS])
def test_integral_is_that_of_the_density(name: str) -> None:
    hrf = get_hrf(name)
    for end in (0.5, 4.0, 12.0, 60.0):
        area, _ = integrate.quad(lambda t: float(hrf.density(t)), 0, end, epsabs=1e-10)
        assert float(hrf.cumulative(end)) == pytest.approx(area, abs=1e-8)
    assert hrf.cumulative([-3.0, 0.0]).tolist() == [0.0, 0.0]
    assert float(hrf.cumulative(500.0)) == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", [*HRFS])
def test_shapes_agree_with_nilearn(name: str) -> None:
    from nilearn.glm.first_level import hemodynamic_models

    theirs = getattr(hemodynamic_models, f"{name}_hrf")(0.1, oversampling=1, time_length=32.0)
    ours = get_hrf(name).density(np.arange(len(theirs)) * 0.1)
    # nilearn's Glover has an undershoot of another ratio and shape than the paper.
    assert np.corrcoef(ours, theirs)[0, 1] > (0.999 if name == "spm" else 0.99)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("tr", [0.8, 2.0])
def test_nilearn_has_exactly_these_double_gammas(tr: float) -> None:
    """Its responses start one step late, on a grid that ends at 32 s, with an SPM ratio rounded to 0.167."""
    from nilearn.glm.first_level import hemodynamic_models

    own = {
        "spm": DoubleGamma(peak=6.0, undershoot=16.0, scale=1.0, ratio=0.167),
        "glover": DoubleGamma(peak=6 / 0.9, undershoot=12 / 0.9, scale=0.9, ratio=0.48),
    }
    for name, ours in own.items():
        theirs = getattr(hemodynamic_models, f"{name}_hrf")(tr, oversampling=50, time_length=32.0)
        grid = np.linspace(0, 32.0, len(theirs)) - tr / 50
        expected = ours.density(grid)
        np.testing.assert_allclose(theirs, expected / expected.sum(), atol=1e-12)
        if name == "spm":
            np.testing.assert_allclose(get_hrf("spm").density(T), ours.density(T), atol=1e-3)
        same = get_hrf(ours.density)
        np.testing.assert_allclose(same.cumulative(T), ours.cumulative(T), atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_event_regressors_agree_with_nilearn() -> None:
    from nilearn.glm.first_level.hemodynamic_models import compute_regressor

    times = np.arange(100) * 2.0
    for onset, duration in ((10.0, 4.0), (31.3, 22.5), (100.0, 1.0)):
        theirs, _ = compute_regressor(np.array([[onset], [duration], [1.0]]), "spm", times, oversampling=50)
        ours = event_regressors("spm", [onset], [duration], times)
        np.testing.assert_allclose(ours[:, 0], theirs[:, 0], atol=0.02)
        assert np.corrcoef(ours[:, 0], theirs[:, 0])[0, 1] > 0.9995


def test_kernel_is_the_response_to_one_sample() -> None:
    for sfreq in (0.4, 1.0, 10.0):
        kernel = hrf_kernel("spm", sfreq, 40.0)
        times = np.arange(len(kernel)) / sfreq
        np.testing.assert_allclose(kernel, event_regressors("spm", [0.0], [1 / sfreq], times)[:, 0], atol=1e-6)
        assert kernel[0] == 0
        assert kernel.sum() == pytest.approx(1.0)


def test_an_event_without_duration_is_an_impulse() -> None:
    impulse = event_regressors("glover", [3.0], [0.0], T)[:, 0]
    short = event_regressors("glover", [3.0], [1e-4], T)[:, 0] / 1e-4
    np.testing.assert_allclose(impulse, short, atol=1e-4)


def test_a_function_of_time_is_a_model() -> None:
    same = get_hrf(lambda t: 17 * get_hrf("spm").density(t))
    np.testing.assert_allclose(same.density(T), get_hrf("spm").density(T), atol=1e-4)
    np.testing.assert_allclose(same.cumulative(T), get_hrf("spm").cumulative(T), atol=1e-4)


@pytest.mark.parametrize("model", ["canonical", lambda t: t[:3], lambda t: np.zeros_like(t), lambda t: t * np.nan])
def test_wrong_models_are_refused(model: object) -> None:
    with pytest.raises(ConfigError):
        get_hrf(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("n", "tr"), [(100, 2.0), (121, 2.5), (538, 1.5), (10, 1.0)])
def test_drift_spans_the_space_of_nilearn(n: int, tr: float) -> None:
    from nilearn.glm.first_level.design_matrix import create_cosine_drift

    theirs = create_cosine_drift(0.01, np.arange(n) * tr)  # with the constant
    ours = np.column_stack([cosine_drift(n, 1 / tr, 0.01), np.ones(n)])
    assert ours.shape == theirs.shape
    q = np.linalg.qr(ours)[0]
    np.testing.assert_allclose(q @ (q.T @ theirs), theirs, atol=1e-10)
