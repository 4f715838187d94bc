import csv
import functools
import json
import shutil

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.stats import spearmanr

from neuroalign import rsa, schema, storage
from neuroalign.datasets import PREPARE, prepare, read_card
from neuroalign.errors import ConfigError, IntegrityError


@pytest.fixture(scope="module")
def tables(real_data):
    @functools.cache
    def make(name):
        return PREPARE[read_card(name).prepare](real_data(name))

    return make


def test_objects81_regions_prefer_what_they_should(tables):
    got = tables("objects81-fmri-alexnet-w2v")
    y = got["responses"].values - got["responses"].values.mean(axis=0)
    folds = np.random.default_rng(0).permutation(81) % 9

    def score(features):
        x = (features.values - features.values.mean(axis=0)) / features.values.std(axis=0)
        guess = np.zeros_like(y)
        for fold in range(9):
            train = folds != fold
            gram = x[train].T @ x[train] + 100 * np.eye(x.shape[1])
            guess[~train] = x[~train] @ np.linalg.solve(gram, x[train].T @ y[train])
        r = [np.corrcoef(guess[:, k], y[:, k])[0, 1] for k in range(y.shape[1])]
        return {roi: np.mean(np.array(r)[got["responses"]["roi"].values == roi]) for roi in ("EVC", "PFS")}

    vision, meaning = score(got["alexnet"]), score(got["word2vec"])
    assert vision["EVC"] > meaning["EVC"] + 0.2
    assert meaning["PFS"] > vision["PFS"] + 0.1


def test_objects81(tables):
    got = tables("objects81-fmri-alexnet-w2v")
    responses = got["responses"]
    assert responses.dims == ("stimulus", "voxel")
    assert responses.shape == (81, 696)
    assert got["alexnet"].shape == (81, 20)
    assert got["word2vec"].shape == (81, 30)
    names, counts = np.unique(responses["roi"].values, return_counts=True)
    assert dict(zip(names, counts.tolist(), strict=True)) == {
        "EVC": 100, "FFA": 100, "LOC": 96, "OFA": 100, "OPA": 100, "PFS": 100, "PPA": 100,
    }  # fmt: skip
    assert responses.indexes["voxel"].is_unique
    assert responses["voxel"].values[196:202].tolist() == [f"OPA-{k:03d}" for k in range(96, 100)] + [
        "PPA-000",
        "PPA-001",
    ]
    for name in ("alexnet", "word2vec"):
        assert (got[name]["stimulus"].values == responses["stimulus"].values).all()
    assert responses["stimulus"].values[[0, 1, 80]].tolist() == ["airplane", "armchair", "vase"]


def test_cocktail(tables):
    got = tables("cocktail-party-eeg")
    eeg = got["eeg"]
    schema.validate(eeg, "eeg")
    assert eeg["eeg"].shape == (128, 5 * 7680)
    assert eeg.attrs["units"] == "V"
    assert 5e-6 < float(np.median(eeg["eeg"].std("time"))) < 12e-6
    assert eeg["run"].values[[0, 7679, 7680, -1]].tolist() == [1, 1, 2, 5]
    for name in ("attended", "unattended"):
        assert got[name].dims == ("time", "unit")
        assert (got[name]["run"].values == eeg["run"].values).all()
        np.testing.assert_array_equal(got[name]["time"].values, eeg["time"].values)


def test_cocktail_channels_are_in_the_order_of_the_montage(tables):
    eeg = tables("cocktail-party-eeg")["eeg"]
    upper = np.triu_indices(128, 1)
    similar = np.corrcoef(eeg["eeg"].values[:, ::4])[upper]
    xyz = np.stack([eeg[axis].values for axis in "xyz"], axis=1)
    far = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1)[upper]
    assert spearmanr(similar, far)[0] < -0.6  # about 0 for any other order


def test_cocktail_streams_follow_the_published_order(real_data, tables):
    folder = real_data("cocktail-party-eeg")
    got = tables("cocktail-party-eeg")
    female, male = (loadmat(folder / f"{talker}_env.mat")["stim1"] for talker in "FM")
    order = loadmat(folder / "competing_speaker_order.mat")["blk1_M_Order"].ravel()
    assert order[:5].tolist() == [26, 23, 36, 31, 27]
    third = got["unattended"].values[got["unattended"]["run"].values == 3, 0]
    np.testing.assert_allclose(third, male[0, 35].ravel(), rtol=1e-6)
    third = got["attended"].values[got["attended"]["run"].values == 3, 0]
    np.testing.assert_allclose(third, female[0, 2].ravel(), rtol=1e-6)


def test_cocktail_brain_follows_the_attended_talker(tables):
    got = tables("cocktail-party-eeg")
    brain = got["eeg"]["eeg"].values
    brain = brain - brain.mean(axis=1, keepdims=True)

    def coupling(envelope):
        x = envelope.values[:, 0] - envelope.values[:, 0].mean()
        lagged = [np.corrcoef(brain[:, lag:].mean(axis=0), x[: len(x) - lag])[0, 1] for lag in range(6, 32, 2)]
        return max(map(abs, lagged))

    assert coupling(got["attended"]) > coupling(got["unattended"])


def test_narratives(tables):
    got = tables("narratives-black-glove")
    responses, words, rate = got["responses"], got["words"], got["word_rate"]
    assert responses.shape == (538, 400)
    assert words.shape == (538, 300)
    assert rate.shape == (538, 1)
    for table in got.values():
        assert table.attrs["sfreq"] == pytest.approx(1 / 1.5)
        np.testing.assert_array_equal(table["time"].values, np.arange(538) * 1.5)
    assert int(rate.sum()) == 1543
    silent = rate.values[:, 0] == 0
    assert silent.sum() == 73
    assert (words.values[silent] == 0).all()
    assert (np.abs(words.values[~silent]).sum(axis=1) > 0).all()
    assert (responses["hemi"].values[:200] == "L").all()
    assert (responses["hemi"].values[200:] == "R").all()
    assert np.abs(np.stack([responses[a].values for a in "xyz"])).max() < 110  # mm


def test_narratives_mean_vector_by_hand(real_data, tables):
    vectors = json.loads((real_data("narratives-black-glove") / "glove_embeddings.json").read_text())
    expected = (np.array(vectors["was"]) + vectors["a"] + vectors["junior"]) / 3
    np.testing.assert_allclose(tables("narratives-black-glove")["words"].values[3], expected, rtol=1e-5)


def test_auditory_parcels_follow_the_word_rate(tables):
    got = tables("narratives-black-glove")
    rate, bold = got["word_rate"].values[:, 0], got["responses"]
    # the transcript is late by two volumes, so the haemodynamic peak (4.5 s) comes at a delay of one
    r = [[np.corrcoef(rate[: 538 - lag], bold.values[lag:, k])[0, 1] for k in range(400)] for lag in range(6)]
    lag, site = np.unravel_index(np.argmax(r), (6, 400))
    assert lag == 1
    assert r[lag][site] > 0.25
    assert float(bold["x"][site]) < -50  # left, lateral
    assert -40 < float(bold["y"][site]) < 0
    assert -10 < float(bold["z"][site]) < 15


def test_transcript_stands_two_volumes_late(real_data, tables):
    with (real_data("narratives-black-glove") / "black_gentle.csv").open() as file:
        onsets = [float(row["onset"]) for row in csv.DictReader(file) if row["onset"]]
    expected = np.bincount(np.ceil(np.array(onsets) / 1.5).astype(int) + 1, minlength=538)[:538]
    differs = tables("narratives-black-glove")["word_rate"].values[:, 0] != expected
    assert differs.sum() <= 2  # one word of the list is not in the transcript


def test_rdm92(tables):
    got = tables("rdm92-kriegeskorte")
    human, monkey, models = got["human_it"], got["monkey_it"], got["models"]
    assert human.dims == ("subject", "session", "pair")
    assert human.shape == (4, 2, 4186)
    assert models.dims == ("model", "pair")
    assert got["judgements"].shape == (16, 4186)
    for table in (human, monkey, models, got["judgements"]):
        assert rsa.form.conditions(table).tolist() == got["stimuli"]["stimulus"].values.tolist()
    mean = human.mean(("subject", "session"))
    np.testing.assert_allclose(mean.values, got["human_it_published"].values, atol=1e-5)
    assert np.corrcoef(mean.values, monkey.values)[0, 1] == pytest.approx(0.49, abs=0.005)  # Kriegeskorte et al. 2008
    np.testing.assert_array_equal(models.sel(model="monkeyIT").values, monkey.values)
    animate = np.array([not kind.endswith("inanimate") for kind in got["stimuli"]["category"].values])
    expected = (animate[:, None] != animate[None])[np.triu_indices(92, 1)]
    np.testing.assert_array_equal(models.sel(model="animacy").values, expected)
    assert got["stimuli"]["image"].shape == (92, 175, 175, 3)


def test_rdm92_goes_through_rsa(tables):
    got = tables("rdm92-kriegeskorte")
    r = rsa.compare(got["human_it_published"], got["monkey_it"], method="pearson")
    assert float(r) == pytest.approx(0.49, abs=0.005)


@pytest.mark.parametrize("name", ["narratives-black-glove", "objects81-fmri-alexnet-w2v"])
def test_prepare_writes_stores(real_data, tmp_path, name):
    written = prepare(name, tmp_path / "out", folder=real_data(name))
    for table, path in written.items():
        if path.suffix == ".zarr":
            obj = storage.open(path, verify="full")
            assert obj.attrs["dataset"] == name
            assert obj.attrs["licence"]
            steps = schema.history(obj)["steps"]
            assert steps[-1]["table"] == table
            assert storage.verify(path)["inputs"]
    if name.startswith("narratives"):
        assert written["atlas"].name == "atlas.nii.gz"
        assert storage.open(written["responses"]).attrs["atlas"] == "atlas.nii.gz"


def test_missing_and_strange_raw_files(real_data, tmp_path):
    name = "objects81-fmri-alexnet-w2v"
    with pytest.raises(IntegrityError, match="missing"):
        prepare(name, tmp_path / "out", folder=tmp_path)
    twin = shutil.copytree(real_data(name), tmp_path / "twin")
    twin.chmod(0o755)
    damaged = twin / "alexnet.mat"
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.raises(IntegrityError, match=r"alexnet\.mat"):
        prepare(name, tmp_path / "out", folder=twin)
    with pytest.raises(ConfigError, match="Unknown dataset"):
        prepare("nothing", tmp_path / "out")
