"""scikit-learn's own checks, and its tools on labelled data."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.errors import LabelsLostError
from neuroalign.preprocess import Delayer, Labelled, Standardizer

ORDER_MATTERS = {
    "check_methods_sample_order_invariance": "samples are points in time, whose order matters",
    "check_methods_subset_invariance": "samples are points in time, whose neighbours matter",
}
LAGGED = [TRFEncoder(tmin=-0.01, tmax=0.02, sfreq=100.0), TRFDecoder(tmin=0.0, tmax=0.02, sfreq=100.0)]


@parametrize_with_checks(
    [
        RidgeEncoder(),
        RidgeEncoder(alphas=[1.0], fit_intercept=False, alpha_per_target=False),
        RidgeDecoder(),
        TRFEncoder(),
        TRFDecoder(),
        *LAGGED,
    ],
    expected_failed_checks=lambda e: ORDER_MATTERS if getattr(e, "tmax", 0) else {},
)
@pytest.mark.filterwarnings("ignore:.*targets are constant")
def test_scikit_learn_contract(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def stimuli(n: int = 48, p: int = 5, t: int = 3, seed: int = 0) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(seed)
    ids = [f"image-{k}" for k in range(n)]
    x = rng.normal(2, 3, (n, p))
    y = x @ rng.normal(size=(p, t)) + 4 * rng.normal(size=(n, t)) + 7
    return (
        xr.DataArray(x, dims=("stimulus", "unit"), coords={"stimulus": ids, "unit": [f"u{k}" for k in range(p)]}),
        xr.DataArray(y, dims=("stimulus", "voxel"), coords={"stimulus": ids, "voxel": np.arange(t) * 10}),
    )


def test_cross_val_score_is_the_same_with_and_without_labels() -> None:
    x, y = stimuli()
    folds = KFold(4)
    labelled = cross_val_score(RidgeEncoder(cv=3), x, y, cv=folds)
    plain = cross_val_score(RidgeEncoder(cv=3), x.values, y.values, cv=folds)
    np.testing.assert_allclose(labelled, plain, rtol=1e-12)
    assert labelled.mean() > 0.3


def test_grid_search_on_labelled_pipelines() -> None:
    x, y = stimuli()
    pipeline = make_pipeline(Standardizer(), Labelled(PCA()), RidgeEncoder(cv=3))
    grid = {"labelled__transformer__n_components": [1, 5], "ridgeencoder__alpha_per_target": [True, False]}
    search = GridSearchCV(pipeline, grid, cv=KFold(3)).fit(x, y)
    assert search.best_params_["labelled__transformer__n_components"] == 5
    predicted = search.predict(x)
    assert isinstance(predicted, xr.DataArray)
    assert predicted.dims == ("stimulus", "voxel")
    assert predicted["voxel"].identical(y["voxel"])
    again = clone(search.best_estimator_).fit(x, y)
    np.testing.assert_array_equal(again.predict(x), predicted)


def test_cross_val_predict_keeps_the_order() -> None:
    x, y = stimuli()
    guess = cross_val_predict(RidgeEncoder(cv=3, alphas=[1.0]), x, y, cv=KFold(4))
    by_hand = [RidgeEncoder(cv=3, alphas=[1.0]).fit(x[a], y[a]).predict(x[b]) for a, b in KFold(4).split(x)]
    np.testing.assert_array_equal(guess, np.concatenate(by_hand))


def test_a_plain_scaler_loses_labels_and_the_error_says_how_to_keep_them() -> None:
    x, y = stimuli()
    with pytest.raises(LabelsLostError, match=r"Labelled\(StandardScaler\(\)\)") as caught:
        make_pipeline(StandardScaler(), RidgeEncoder()).fit(x, y)
    assert "X has lost its labels" in str(caught.value)
    cured = make_pipeline(Labelled(StandardScaler()), RidgeEncoder()).fit(x, y)
    assert cured.predict(x)["voxel"].identical(y["voxel"])
    with pytest.raises(LabelsLostError, match="y has lost"):
        cured.score(x, y.values)


def test_labels_may_be_lost_on_purpose() -> None:
    x, y = stimuli()
    allowed = make_pipeline(StandardScaler(), RidgeEncoder(cv=4, unlabelled="allow")).fit(x, y)
    plain = make_pipeline(StandardScaler(), RidgeEncoder(cv=4)).fit(x.values, y.values)
    assert isinstance(allowed.predict(x), np.ndarray)
    np.testing.assert_allclose(allowed.predict(x), plain.predict(x.values))
    turned = y.transpose("voxel", "stimulus")  # the sample dimension is found by name
    np.testing.assert_allclose(allowed[-1].score_map(x.values, turned), allowed[-1].score_map(x.values, y.values))


def test_an_fir_model_is_a_pipeline() -> None:
    x, y = stimuli(60, 2, 2)
    time = {"time": np.arange(60) * 2.0}
    x = x.drop_vars("stimulus").rename(stimulus="time").assign_coords(time)
    y = y.drop_vars("stimulus").rename(stimulus="time").assign_coords(time)
    coef = make_pipeline(Delayer((0, 1, 2)), RidgeEncoder(cv=3)).fit(x, y)[-1].coef_
    assert coef.dims == ("lag", "unit", "voxel")
    assert coef["lag"].values.tolist() == [0, 1, 2]
