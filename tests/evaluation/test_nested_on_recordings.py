"""The numbers of the README from real recordings, with nested folds: what is chosen is chosen without the test run."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from neuroalign import storage
from neuroalign.align import join
from neuroalign.datasets.prepare import prepare
from neuroalign.decoding import TRFDecoder
from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.evaluation import ContiguousSplit, cross_validate
from neuroalign.metrics import pearson_r
from neuroalign.preprocess import BandPass, Delayer, Resampler


@pytest.fixture(scope="module")
def tables(real_data, tmp_path_factory):
    """Labelled tables of a set."""

    def make(name):
        written = prepare(name, tmp_path_factory.mktemp(name), real_data(name))
        return {table: storage.open(path) for table, path in written.items() if path.suffix == ".zarr"}

    return make


def test_object_categories(tables):
    """Fifths of the categories are left out, and within the rest fifths again."""
    found, table = {}, tables("objects81-fmri-alexnet-w2v")
    for space in ("alexnet", "word2vec"):
        X, y = join(table[space], table["responses"])
        result = cross_validate(RidgeEncoder(cv=5, scorer="r"), X, y, cv=5)
        found[space] = result.score.groupby("roi").mean().sel(roi=["EVC", "PPA", "LOC", "PFS", "FFA"]).values
    np.testing.assert_allclose(found["alexnet"], [0.505, 0.580, 0.548, 0.080, 0.221], atol=0.02)
    np.testing.assert_allclose(found["word2vec"], [0.151, 0.470, 0.410, 0.430, 0.277], atol=0.02)


@pytest.fixture(scope="module")
def listener(tables):
    """EEG in V at 128 Hz, and the envelopes of both talkers at 32 Hz."""
    table = tables("cocktail-party-eeg")
    envelopes = [Resampler(32).fit_transform(table[name]) for name in ("attended", "unattended")]
    return table["eeg"]["eeg"].assign_attrs(table["eeg"].attrs), *envelopes


def test_runs_of_a_listener(listener):
    """Each of five runs is left out, and within the other four each is left out again."""
    eeg, attended, _ = listener
    X, y = join(attended, BandPass(2, 8, resample=32).fit_transform(eeg))
    result = cross_validate(TRFEncoder(tmin=-0.1, tmax=0.4, cv="run"), X, y, cv="run")
    assert result.data.sizes["fold"] == 5
    np.testing.assert_allclose(float(result.score.max()), 0.101, atol=0.003)
    np.testing.assert_allclose(float(result.score.median()), 0.051, atol=0.003)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # 25 decompositions of 1152 lagged channels
def test_the_attended_talker_is_reconstructed(listener):
    eeg, attended, unattended = listener
    X, y = join(BandPass(1, 8, resample=32).fit_transform(eeg), attended)
    held_out = cross_validate(TRFDecoder(tmin=0.0, tmax=0.25, cv="run"), X, y, cv="run").data["prediction"]
    place, run = held_out["position"].values, held_out["run"].values
    own, other = (
        [pearson_r(v.values[place][run == k], held_out.values[run == k])[0] for k in range(1, 6)]
        for v in (y, unattended.transpose(*y.dims))
    )
    np.testing.assert_allclose(own, [0.055, 0.084, 0.088, 0.078, 0.086], atol=0.005)
    np.testing.assert_allclose(other, [-0.003, 0.042, 0.054, 0.057, -0.015], atol=0.005)


def test_stretches_of_a_story(tables):
    """The one run is cut into stretches; what the delays reach is left out of training, outside and inside."""
    table = tables("narratives-black-glove")
    X, y = join(table["words"], table["responses"])
    folds = ContiguousSplit(5, gap=4)
    model = make_pipeline(Delayer([0, 1, 2, 3, 4]), RidgeEncoder(cv=folds, scorer="r"))
    result = cross_validate(model, X, y, cv=folds)
    np.testing.assert_allclose(float(result.score.max()), 0.396, atol=0.005)
    np.testing.assert_allclose(float(result.score.median()), 0.088, atol=0.005)
