"""The steps from files to files, as the command line and recipes run them."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuroalign import storage
from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.evaluation import Result
from neuroalign.pipeline import DecodeOptions, EncodeOptions, RSAOptions, decode, encode, inspect, rsa
from neuroalign.rsa import rdm
from neuroalign.schema import features, sensors


def stimuli(n=60, p=4, t=12, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    ids = [f"image-{k:03d}" for k in range(n)]
    vision = features(rng.normal(size=(n, p)), stimulus=ids, layer="vision")
    words = features(rng.normal(size=(n, p)), stimulus=ids, layer="words")
    weights = rng.normal(size=(p, t // 2))
    values = np.hstack([vision.values @ weights, words.values @ weights]) + noise * rng.normal(size=(n, t))
    roi = np.array(["early"] * (t // 2) + ["late"] * (t // 2), dtype=object)
    coords = {"stimulus": ids, "voxel": np.arange(t), "roi": ("voxel", roi)}
    responses = xr.DataArray(
        values, dims=("stimulus", "voxel"), coords=coords, name="responses", attrs={"units": "a.u."}
    )
    return vision, words, responses


@pytest.fixture
def study(tmp_path):
    vision, words, responses = stimuli()
    paths = {"vision": vision, "words": words, "responses": responses}
    return {name: str(storage.save(obj, tmp_path / f"{name}.zarr")) for name, obj in paths.items()} | {
        "out": str(tmp_path / "out")
    }


def options(study, **more):
    return EncodeOptions(
        features=study["vision"], responses=study["responses"], out=study["out"], permutations=49, **more
    )


def test_encode_writes_scores_store_and_page(study, tmp_path):
    outcome = encode(options(study, against=study["words"]))
    assert sorted(p.name for p in outcome.folder.iterdir()) == [
        "comparison.tsv",
        "manifest.json",
        "report.html",
        "result.zarr",
        "rival.zarr",
        "scores.tsv",
    ]
    table = pd.read_csv(outcome.folder / "scores.tsv", sep="\t")
    assert (table.loc[table.roi == "early", "score"] > 0.4).all()
    assert table.loc[table.roi == "early", "significant"].all()
    assert not table.loc[table.roi == "late", "significant"].any()
    comparison = outcome.tables["comparison"].set_index("roi")
    assert comparison.loc["early", "difference"] > 0 > comparison.loc["late", "difference"]
    assert (comparison["p"] < 0.05).all()
    np.testing.assert_allclose(Result.open(outcome.folder / "result.zarr").score, outcome.result.score)
    page = outcome.report.read_text(encoding="utf-8")
    assert "Two feature spaces" in page
    assert not re.search(r"(src|href)=.https?:", page)
    assert not list(tmp_path.glob(".*partial"))


def test_an_earlier_result_is_kept_unless_asked(study, tmp_path):
    encode(options(study))
    with pytest.raises(ConfigError, match="exists already"):
        encode(options(study))
    encode(options(study, overwrite=True))
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="something else"):
        encode(options({**study, "out": str(other)}, overwrite=True))
    assert (other / "chapter.tex").read_text() == "years of work"


def test_nothing_is_left_when_a_step_fails(study, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ConfigError("The page cannot be drawn.")

    monkeypatch.setattr("neuroalign.pipeline.pages.encoding_report", broken)
    with pytest.raises(ConfigError, match="drawn"):
        encode(options(study))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["responses.zarr", "vision.zarr", "words.zarr"]


def test_order_of_stimuli_is_changed_only_when_asked(study, tmp_path):
    _, _, responses = stimuli()
    shuffled = responses.isel(stimulus=np.random.default_rng(1).permutation(60))
    path = str(storage.save(shuffled, tmp_path / "shuffled.zarr"))
    with pytest.raises(AlignmentError, match="position 0"):
        encode(options({**study, "responses": path}))
    outcome = encode(options({**study, "responses": path}, reorder=True))
    assert (outcome.result.score[:6] > 0.4).all()


def series(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    run = np.repeat([f"{k}" for k in range(5)], n // 5).astype(object)
    time = np.concatenate([np.arange(n // 5)] * 5) / 64.0
    stimulus, rival = rng.normal(size=(2, n, 1))
    eeg = 1e-5 * (np.roll(stimulus, 6, axis=0) * [1, -1, 0.5] + rng.normal(size=(n, 3)))
    coords = {"time": time, "run": ("time", run)}
    make = [
        xr.DataArray(v, dims=("time", "unit"), coords=coords, attrs={"sfreq": 64.0, "units": "a.u."})
        for v in (stimulus, rival)
    ]
    ds = sensors(eeg.T, modality="eeg", sfreq=64.0, channel=["Fz", "Cz", "Pz"], units="V")
    return make[0].rename("envelope"), make[1].rename("rival"), ds.assign_coords(coords)


@pytest.fixture
def speech(tmp_path):
    named = dict(zip(("attended", "rival", "eeg"), series(), strict=True))
    return {name: str(storage.save(obj, tmp_path / f"{name}.zarr")) for name, obj in named.items()} | {
        "out": str(tmp_path / "out")
    }


def test_lags_give_a_response_function(speech):
    told = EncodeOptions(
        features=speech["attended"], responses=speech["eeg"], lags=(-0.1, 0.2), permutations=19, out=speech["out"]
    )
    outcome = encode(told)
    response = storage.open(outcome.folder / "response.zarr")
    peak = response.squeeze("unit").sel(channel="Fz")
    assert float(peak["lag"][int(np.argmax(peak.values))]) == pytest.approx(6 / 64)
    assert (outcome.result.p.values <= 0.05).all()
    assert "Response function" in outcome.report.read_text(encoding="utf-8")


def test_decode_tells_the_stimulus_from_its_rival(speech):
    told = DecodeOptions(
        features=speech["attended"],
        responses=speech["eeg"],
        against=speech["rival"],
        lags=(0.0, 0.2),
        resample=32.0,
        permutations=0,
        out=speech["out"],
    )
    table = decode(told).tables["attention"]
    assert table["correct"].all()
    assert list(table["run"]) == ["0", "1", "2", "3", "4"]
    assert (table["r_decoded"] > 0.3).all()


def test_decode_identifies_stimuli(study):
    told = DecodeOptions(features=study["vision"], responses=study["responses"], permutations=0, out=study["out"])
    table = decode(told).tables["identification"].set_index("measure")
    assert table.loc["two versus two", "value"] > 0.75
    assert table.loc["relative median rank", "value"] < 0.25


def test_rsa_from_patterns_and_from_rdms(study, tmp_path):
    vision, words, responses = stimuli()
    models = xr.Dataset(
        {name: rdm(v, method="euclidean").drop_attrs() for name, v in (("vision", vision), ("words", words))}
    )
    path = str(storage.save(models, tmp_path / "models.zarr"))
    early = responses.isel(voxel=slice(0, 6))
    data = str(storage.save(early, tmp_path / "early.zarr"))
    with pytest.warns(UserWarning, match="one subject"):
        outcome = rsa(
            RSAOptions(models=path, data=data, method="euclidean", samples=50, compare="spearman", out=study["out"])
        )
    score = outcome.result.score
    assert float(score.sel(model="vision")) > 0.3 > float(score.sel(model="words"))
    assert outcome.report.is_file()


def test_inspect(study):
    text = inspect(study["responses"])
    assert "60 stimulus x 12 voxel" in text
    assert "early (6), late (6)" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lags": (0.2, 0.0)}, "smaller to a larger"),
        ({"lags": (0.0, 0.2), "delays": [1]}, "not both"),
        ({"permutation": 3}, "did you mean 'permutations'"),
        ({"folds": 1}, "folds"),
        ({"alpha": 2}, "alpha"),
        ({"modality": "pet"}, "modality"),
    ],
)
def test_options_are_checked(change, words):
    with pytest.raises(ConfigError, match=words):
        EncodeOptions.parse({"features": "a", "responses": "b", "out": "c"} | change)


def test_a_store_with_several_variables_needs_a_name(study, tmp_path):
    vision, words, _ = stimuli()
    both = xr.Dataset({"vision": vision, "words": words})
    path = str(storage.save(both, tmp_path / "both.zarr"))
    with pytest.raises(ConfigError, match="#vision"):
        encode(options({**study, "vision": path}))
    encode(options({**study, "vision": path + "#vision"}))
    with pytest.raises(ConfigError, match="No such variable"):
        encode(options({**study, "vision": path + "#sound", "out": study["out"] + "2"}))
