"""A saved model gives the same predictions, labels and parameters back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from neuroalign import load_model, schema
from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.errors import ConfigError
from neuroalign.linear import RidgeModel
from neuroalign.preprocess import (
    BandEnvelope,
    BandPass,
    Delayer,
    HRFConvolver,
    Labelled,
    Resampler,
    Standardizer,
)
from neuroalign.protocol import REGISTRY, save_model

MODELS: dict[str, Callable[[], RidgeEncoder]] = {
    "ridge encoder": lambda: RidgeEncoder(alphas=np.logspace(-2, 5, 5), cv=3, scorer="r"),
    "ridge encoder, no choice": lambda: RidgeEncoder(alphas=[3], alpha_per_target=False, fit_intercept=False),
    "ridge decoder": lambda: RidgeDecoder(cv=[(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]),
    "trf encoder": lambda: TRFEncoder(tmin=-0.02, tmax=0.1, cv=None),
    "trf decoder": lambda: TRFDecoder(tmin=0.0, tmax=0.04, alphas=(0.1, 1e6), cv="run"),
}
FITTED = ("coef_", "intercept_", "alphas_", "cv_scores_")


def labelled(n: int = 60) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(0)
    along = {"time": np.arange(n) / 50, "run": ("time", np.repeat(["a", "b", "c"], n // 3))}
    names = np.array(["naïve", "<b>", None], dtype=object)
    x = xr.DataArray(rng.normal(size=(n, 3)), dims=("time", "unit"), coords=along | {"unit": [7, 8, 9]})
    y = xr.DataArray(
        (x.values @ rng.normal(size=(3, 6)) + rng.normal(size=(n, 6))).reshape(n, 3, 2).astype("f4"),
        dims=("time", "channel", "band"),
        coords=along
        | {
            "channel": ["Fz", "Cz", "Pz"],
            "band": [1.5, np.inf],
            "roi": ("channel", names),
            "mixed": ("channel", np.array([1, "two", 3.5], dtype=object)),
            "bad": ("channel", np.array([True, False, False])),
            "when": ("channel", np.array(["2020-01-01", "NaT", "2021-06-01"], dtype="M8[ns]")),
            "code": ("channel", np.array([b"ab", b"c", b""])),
            "x": ("channel", np.array([1.0, np.nan, 3.0], dtype=">f4")),
            "weight": (("channel", "band"), np.arange(6.0).reshape(3, 2)),
        },
        name="eeg",
        attrs={"units": "V", "sfreq": np.int64(50), "affine": np.eye(4), "space": "MNI"},
    )
    return x, y


@pytest.mark.filterwarnings("ignore:The grid of alphas")
@pytest.mark.parametrize("name", MODELS)
def test_labelled_models_come_back(name: str, tmp_path: Path) -> None:
    x, y = labelled()
    model = MODELS[name]().fit(x, y)
    assert model.save(tmp_path / "model") == tmp_path / "model"
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    for again in (load_model(str(tmp_path / "model")), type(model).load(tmp_path / "model")):
        assert type(again) is type(model)
        assert again.predict(x).equals(model.predict(x))
        assert again.score(x, y) == model.score(x, y)
        for attribute in (*FITTED, "patterns_") if hasattr(model, "patterns_") else FITTED:
            mine, theirs = getattr(model, attribute), getattr(again, attribute)
            xr.testing.assert_equal(theirs, mine)
            assert theirs.dtype == mine.dtype
            for coord in mine.coords:
                assert theirs[coord].dtype.kind == mine[coord].dtype.kind, coord
        assert {k: repr(np.asarray(v).tolist()) for k, v in again.get_params().items() if k != "cv"} == {
            k: repr(np.asarray(v).tolist()) for k, v in model.get_params().items() if k != "cv"
        }
        np.testing.assert_array_equal(again.fit(x, y).predict(x), model.predict(x))  # parameters are whole too
    if "trf" in name:
        np.testing.assert_array_equal(again.lags_, model.lags_)


@pytest.mark.filterwarnings("ignore:The grid of alphas")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_plain_models_come_back(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, *shape))
    model = MODELS[name]()
    params = {"cv": 3} | ({"sfreq": 50.0} if "trf" in name else {})
    model.set_params(**params).fit(x, y)
    again = load_model(str(model.save(tmp_path / "model")))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    np.testing.assert_array_equal(again.coef_, model.coef_)
    assert again.predict(x).shape == y.shape


def test_targets_without_a_model_stay_without_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 2)), rng.normal(size=(40, 4))
    y[3, 1], y[:, 2] = np.nan, 5.0
    for cls in (RidgeDecoder, TRFDecoder):
        with pytest.warns(UserWarning, match="1 of 4 targets hold NaN or Inf and 1 of 4 targets are constant"):
            model = cls().fit(x, y)
        again = load_model(str(model.save(tmp_path / cls.__name__)))
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
        np.testing.assert_array_equal(again.masked_targets_, [False, True, False, False])
        np.testing.assert_array_equal(again.alphas_, model.alphas_)


def test_names_of_columns_come_back(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["size", "hue"])
    model = RidgeEncoder().fit(frame, frame["size"].to_numpy())
    again = load_model(str(model.save(tmp_path / "model")))
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        again.predict(frame[["hue", "size"]])


def runs() -> xr.DataArray:
    coords = {
        "time": np.tile(schema.time_index(200, 100.0), 2),
        "run": ("time", np.repeat(["1", "2"], 200)),
        "channel": ["Fz", "Cz"],
    }
    values = np.random.default_rng(0).normal(3, 2, (400, 2))
    return xr.DataArray(values, dims=("time", "channel"), coords=coords, attrs={"sfreq": 100.0, "units": "V"})


@pytest.mark.parametrize(
    "transformer",
    [
        Standardizer(),
        Standardizer(by="run", with_mean=False),
        Delayer((0, 2, 3)),
        Delayer((0.0, 0.01), units="s"),
        HRFConvolver(),
        BandEnvelope(20, 40),
        BandPass(5, 20, resample=50.0),
        Resampler(25.0),
    ],
    ids=lambda t: type(t).__name__,
)
def test_transformers_come_back(transformer: Standardizer, tmp_path: Path) -> None:
    x = runs()
    fitted = transformer.fit(x)
    again = load_model(str(fitted.save(tmp_path / "model")))
    xr.testing.assert_identical(again.transform(x), fitted.transform(x))
    plain = transformer.set_params(**({"by": None} if "by" in transformer.get_params() else {}))
    if "sfreq" in plain.get_params():
        plain.set_params(sfreq=100.0)
    if not (isinstance(plain, Delayer) and plain.units == "s"):
        values = x.values[:200]
        plain.fit(values)
        again = type(plain).load(plain.save(tmp_path / "model"))  # over the older one
        np.testing.assert_array_equal(again.transform(values), plain.transform(values))


def test_what_cannot_be_saved_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 30, 2))
    ids = {"stimulus": np.arange(30)}
    odd = xr.DataArray(x, dims=("stimulus", "unit"), coords=ids | {"unit": np.array([1j, 2j])})
    response = xr.DataArray(y, dims=("stimulus", "voxel"), coords=ids)
    nested = odd.assign_coords(unit=np.array([(1, 2), 3], dtype=object))
    for model, message in (
        (RidgeEncoder(), "not fitted"),
        (Labelled(StandardScaler()).fit(x), "transformer is a StandardScaler"),
        (RidgeEncoder(cv=KFold(3)).fit(x, y), "cv is a KFold"),
        (RidgeEncoder(scorer=lambda a, b: -np.abs(a - b).mean(axis=0)).fit(x, y), "scorer is a function"),
        (RidgeEncoder().fit(odd, response), "complex128"),
        (RidgeEncoder().fit(nested, response), "tuple"),
        (StandardScaler().fit(x), "Not a model of neuroalign"),
    ):
        with pytest.raises(ConfigError, match=message):
            save_model(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_class_of_the_user_is_not_saved(tmp_path: Path) -> None:
    class RidgeEncoder(RidgeModel):
        """The same name as ours."""

    x = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(ConfigError, match="Not a model of neuroalign"):
        RidgeEncoder().fit(x, x).save(tmp_path / "model")
    assert REGISTRY["RidgeEncoder"].__module__ == "neuroalign.encoding.ridge"


def test_another_class_is_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    path = RidgeEncoder().fit(x, x).save(tmp_path / "model")
    for cls in (RidgeDecoder, TRFEncoder, Standardizer):
        with pytest.raises(ConfigError, match=rf"another class[\s\S]*{cls.__name__}[\s\S]*RidgeEncoder"):
            cls.load(path)
    assert isinstance(RidgeModel.load(path), RidgeEncoder)


def test_saving_over_a_model_keeps_the_old_one_when_it_fails(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    path = RidgeEncoder().fit(x, x).save(tmp_path / "model")
    before = (path / "model.json").read_bytes()
    with pytest.raises(ConfigError):
        RidgeEncoder(cv=KFold(3)).fit(x, x).save(path)
    assert (path / "model.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
