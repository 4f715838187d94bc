"""What goes in with labels comes out with labels; what goes in without comes out without."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone

from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.errors import AlignmentError, ConfigError, NeuroalignWarning, SchemaError
from neuroalign.preprocess import Delayer, Labelled, Standardizer
from neuroalign.solvers import ridge_cv

IDS = [f"image-{n}" for n in range(30)]
ESTIMATORS = [RidgeEncoder(cv=3), RidgeDecoder(cv=3), TRFEncoder(cv=3), TRFDecoder(cv=3)]


@pytest.fixture
def features() -> xr.DataArray:
    values = np.random.default_rng(0).normal(size=(30, 2, 3)).astype("f4")
    coords = {"stimulus": IDS, "band": ["low", "high"], "unit": [4, 5, 6], "category": ("stimulus", ["a", "b"] * 15)}
    return xr.DataArray(values, dims=("stimulus", "band", "unit"), coords=coords, attrs={"units": "a.u."})


@pytest.fixture
def responses(features: xr.DataArray) -> xr.DataArray:
    rng = np.random.default_rng(1)
    signal = features.values.reshape(30, 6) @ rng.normal(size=(6, 20)).astype("f4")
    values = (signal + 0.5 * rng.normal(size=(30, 20))).astype("f4").reshape(30, 4, 5)
    coords = {
        "stimulus": IDS,
        "channel": ["Fz", "Cz", "Pz", "Oz"],
        "time": np.arange(5) / 10,
        "x": ("channel", [0.0, 1.0, 2.0, 3.0]),
    }
    attrs = {"units": "V", "sfreq": 10.0, "neuro_log": ["private"]}
    return xr.DataArray(values, dims=("stimulus", "channel", "time"), coords=coords, name="eeg", attrs=attrs)


def test_several_dims_are_stacked_and_restored(features: xr.DataArray, responses: xr.DataArray) -> None:
    flat = RidgeEncoder(cv=5).fit(features.values.reshape(30, 6), responses.values.reshape(30, 20))
    model = RidgeEncoder(cv=5).fit(features, responses)
    predicted = model.predict(features)
    assert predicted.dims == ("stimulus", "channel", "time")
    assert predicted.dtype == np.float32
    assert predicted.name == "eeg"
    assert predicted.attrs == {"units": "V", "sfreq": 10.0}
    for name in ("channel", "time", "x"):
        assert predicted[name].identical(responses[name])
    for name in ("stimulus", "category"):
        np.testing.assert_array_equal(predicted[name], features[name])
    np.testing.assert_array_equal(predicted.values.reshape(30, 20), flat.predict(features.values.reshape(30, 6)))
    assert model.coef_.dims == ("band", "unit", "channel", "time")
    assert model.coef_["unit"].values.tolist() == [4, 5, 6]
    scores = model.score_map(features, responses)
    assert scores.dims == ("channel", "time")
    assert scores["x"].identical(responses["x"])
    assert (scores.attrs["units"], model.alphas_.attrs["units"], model.intercept_.attrs["units"]) == ("1", "a.u.", "V")
    assert model.score(features, responses) == pytest.approx(float(scores.mean()), rel=1e-6)


def test_any_order_of_dims(features: xr.DataArray, responses: xr.DataArray) -> None:
    usual = RidgeEncoder(cv=5).fit(features, responses)
    turned = RidgeEncoder(cv=5).fit(
        features.transpose("unit", "stimulus", "band"), responses.transpose("time", "channel", "stimulus")
    )
    xr.testing.assert_allclose(
        turned.predict(features).transpose("stimulus", "channel", "time"), usual.predict(features), rtol=1e-4
    )
    # at predict and score too, whatever the order at fit
    turned_y = responses.transpose("time", "stimulus", "channel")
    for order in (("unit", "band", "stimulus"), ("unit", "stimulus", "band"), ("stimulus", "unit", "band")):
        x = features.transpose(*order)
        xr.testing.assert_allclose(usual.predict(x), usual.predict(features), rtol=1e-4)
        xr.testing.assert_allclose(usual.score_map(x, turned_y), usual.score_map(features, responses))


def test_a_single_unnamed_target(features: xr.DataArray, responses: xr.DataArray) -> None:
    x, y = features.isel(band=0), responses.isel(channel=0, time=0)
    model = RidgeEncoder(cv=5).fit(x, y)
    assert model.predict(x).dims == ("stimulus",)
    assert model.score_map(x, y).dims == ()
    assert model.coef_.dims == ("unit",)
    np.testing.assert_allclose(
        model.predict(x), RidgeEncoder(cv=5).fit(x.values, y.values).predict(x.values), rtol=1e-6
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_numpy_in_numpy_out(estimator: RidgeEncoder, shape: tuple[int, ...], kind: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype(kind), rng.normal(size=(40, *shape)).astype(kind)
    model = estimator.fit(x, y)
    predicted = model.predict(x)
    assert type(predicted) is np.ndarray
    assert (predicted.shape, predicted.dtype) == (y.shape, kind)
    assert np.shape(model.score_map(x, y)) == shape
    assert model.coef_.shape[-len(shape) :] == shape or not shape
    assert model.alphas_.shape == model.intercept_.shape == model.cv_scores_.shape == shape
    assert isinstance(model.score(x, y), float)


def test_other_features_are_refused_naming_the_first_difference(
    features: xr.DataArray, responses: xr.DataArray
) -> None:
    model = RidgeEncoder(cv=5).fit(features, responses)
    with pytest.raises(AlignmentError, match=r"position 0: 4 against 6"):
        model.predict(features.isel(unit=[2, 1, 0]))
    with pytest.raises(AlignmentError, match=r"along band[\s\S]*position 1: 'high' against 'top'"):
        model.predict(features.assign_coords(band=["low", "top"]))
    with pytest.raises(AlignmentError, match=r"another shape[\s\S]*'unit': 3[\s\S]*'unit': 2"):
        model.predict(features.isel(unit=[0, 1]))
    with pytest.raises(AlignmentError, match="another shape"):
        model.predict(features.rename(unit="token"))
    with pytest.raises(AlignmentError, match=r"targets of y[\s\S]*'Fz' against 'Oz'"):
        model.score_map(features, responses.isel(channel=[3, 1, 2, 0]))
    with pytest.raises(ValueError, match="6 features"):
        model.predict(features.values.reshape(30, 6)[:, :5])


def test_samples_are_compared_by_label(features: xr.DataArray, responses: xr.DataArray) -> None:
    for estimator in (RidgeEncoder(), RidgeDecoder()):
        with pytest.raises(AlignmentError, match=r"position 0: 'image-0' against 'image-29'"):
            estimator.fit(features, responses[::-1])
        with pytest.raises(AlignmentError, match="different numbers of samples"):
            estimator.fit(features, responses[:-1])
    model = RidgeEncoder().fit(features, responses)
    with pytest.raises(AlignmentError, match="position 0"):
        model.score_map(features, responses[::-1])


def test_labels_that_clash_stay_apart() -> None:
    rng = np.random.default_rng(0)
    coords = {"stimulus": IDS, "unit": ["a", "b"], "voxel": ("stimulus", np.arange(30)), "feature": ("stimulus", IDS)}
    x = xr.DataArray(rng.normal(size=(30, 2)), dims=("stimulus", "unit"), coords=coords)
    same = xr.DataArray(x.values, dims=("stimulus", "unit"), coords={"stimulus": IDS, "unit": ["a", "b"]})
    coef = RidgeEncoder(cv=3).fit(x, same).coef_
    assert coef.dims == ("unit", "unit_out")
    assert coef["unit_out"].values.tolist() == ["a", "b"]
    voxels = same.rename(unit="voxel").assign_coords(voxel=["v1", "v2"])
    predicted = RidgeEncoder(cv=3).fit(x, voxels).predict(x)
    assert predicted["voxel"].values.tolist() == ["v1", "v2"]
    assert predicted["feature"].values.tolist() == IDS


def test_inputs_are_not_changed(features: xr.DataArray, responses: xr.DataArray) -> None:
    before = features.copy(deep=True), responses.copy(deep=True)
    for estimator in (RidgeEncoder(cv=3), RidgeDecoder(cv=3)):
        estimator.fit(features, responses).score_map(features, responses)
    xr.testing.assert_identical(features, before[0])
    xr.testing.assert_identical(responses, before[1])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_targets_that_are_not_finite_are_left_out(estimator: RidgeEncoder, bad: float) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 3))
    y[:, 0] += x[:, 0]
    holed = np.insert(y, 1, y[:, 0], axis=1)
    holed[7, 1] = bad
    alone = clone(estimator).fit(x, y)
    expected = alone.predict(x), alone.coef_, alone.alphas_, alone.score_map(x, y)
    with pytest.warns(NeuroalignWarning, match="1 of 4 targets hold NaN or Inf"):
        model = estimator.fit(x, holed)
    keep = [0, 2, 3]
    got = model.predict(x), model.coef_, model.alphas_, model.score_map(x, holed)
    for value, want in zip(got, expected, strict=True):
        np.testing.assert_array_equal(value[..., keep], want)
        assert np.isnan(value[..., 1]).all()
    assert model.score(x, holed) == alone.score(x, y)
    assert model.masked_targets_.tolist() == [False, True, False, False]
    with pytest.raises(SchemaError, match=r"1 of 4 targets[\s\S]*nan='mask'"):
        estimator.__class__(nan="raise").fit(x, holed)
    with pytest.raises(SchemaError, match="No target is finite"):
        estimator.fit(x, np.full((40, 2), bad))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e12])
def test_constant_targets_have_no_score_and_are_counted(estimator: RidgeEncoder, value: float) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 2))
    alone = clone(estimator).fit(x, y)
    expected, scores = alone.predict(x), alone.score_map(x, y)
    flat = np.column_stack([y, np.full(40, value)])
    with pytest.warns(NeuroalignWarning, match="1 of 3 targets are constant"):
        model = estimator.fit(x, flat)
    np.testing.assert_allclose(model.predict(x)[:, :2], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.predict(x)[:, 2], value)
    np.testing.assert_allclose(model.score_map(x, flat)[:2], scores, rtol=1e-9)
    assert np.isnan(model.score_map(x, flat)[2])
    assert np.isnan(model.alphas_[2])
    np.testing.assert_array_equal(model.coef_[..., 2], 0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_x_that_is_not_finite_is_refused(estimator: RidgeEncoder) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    x[4, 1] = np.nan
    coords = {"time": np.arange(30) / 10}
    labelled = [xr.DataArray(v, dims=("time", d), coords=coords) for v, d in ((x, "unit"), (y, "voxel"))]
    with pytest.raises(SchemaError, match=r"sample 4, feature 1"):
        estimator.fit(*labelled)
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(x, y)


def test_a_whole_recording_is_refused_with_the_variable_to_pass(
    features: xr.DataArray, responses: xr.DataArray
) -> None:
    recording = responses.to_dataset(name="eeg")
    tree = xr.DataTree.from_dict({"/sub-01": recording})
    for step in (Standardizer(), Delayer(), Labelled(Standardizer()), RidgeEncoder(cv=3)):
        with pytest.raises(ConfigError, match=r"pass X\['eeg'\]"):
            step.fit(recording, responses)
        with pytest.raises(ConfigError, match=r"join the runs first .* \['eeg'\]"):
            step.fit(tree, responses)
    with pytest.raises(ConfigError, match=r"pass y\['eeg'\]"):
        RidgeEncoder(cv=3).fit(features, recording)


def test_wrong_choices_are_refused() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 20, 2))
    for options, message in (
        ({"nan": "drop"}, "mask or raise"),
        ({"unlabelled": "maybe"}, "refuse or allow"),
        ({"scorer": "rmse"}, "Unknown scorer"),
        ({"alphas": [-1.0]}, ">= 0"),
        ({"alphas": []}, "alphas"),
        ({"cv": 1}, "folds"),
        ({"cv": [([0, 1], [1, 2])]}, "training and in test"),
        ({"cv": "run"}, "No (such )?coordinate"),
    ):
        for cls in (RidgeEncoder, RidgeDecoder, TRFEncoder, TRFDecoder):
            with pytest.raises(ConfigError, match=message):
                cls(**options).fit(x, y)
    with pytest.raises(ConfigError, match="weighted"):
        RidgeEncoder().fit(x, y).score(x, y, sample_weight=np.ones(20))


def test_all_parameters_are_keywords_and_few() -> None:
    for cls in (RidgeEncoder, RidgeDecoder, TRFEncoder, TRFDecoder):
        assert len(cls().get_params()) <= 8
        with pytest.raises(TypeError):
            cls([1.0])


def test_masks_are_not_lost_in_silence() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    hidden = np.ma.masked_greater(y, 1.0)
    with pytest.raises(SchemaError, match="masked array"):
        RidgeEncoder(cv=3).fit(X, hidden)
    with pytest.raises(SchemaError, match="masked array"):
        RidgeEncoder(cv=3).fit(np.ma.masked_greater(X, 1.0), y)
    with pytest.raises(SchemaError, match="masked array"):
        Standardizer().fit(np.ma.masked_greater(X, 1.0))
    open_to_all = RidgeEncoder(cv=3).fit(X, np.ma.masked_array(y))
    np.testing.assert_array_equal(open_to_all.coef_, RidgeEncoder(cv=3).fit(X, y).coef_)
    folds = [(np.arange(15), np.arange(15, 30))]
    with pytest.raises(SchemaError, match="taken for data"):
        ridge_cv(X, hidden, alphas=[1.0], folds=folds)
    with pytest.warns(NeuroalignWarning, match="hold NaN"):
        RidgeEncoder(cv=3).fit(np.c_[X, X], np.c_[hidden.filled(np.nan), y])
