"""Encoders on real recordings, and what the public page promises."""

from __future__ import annotations

import numpy as np

from neuroalign.align import join
from neuroalign.datasets import prepare
from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.evaluation import cross_validate
from neuroalign.storage import open as open_store


def test_early_visual_cortex_prefers_vision_and_pfs_meaning(real_data, tmp_path) -> None:
    name = "objects81-fmri-alexnet-w2v"
    tables = {key: open_store(path).load() for key, path in prepare(name, tmp_path, real_data(name)).items()}
    found = {}
    for layer in ("alexnet", "word2vec"):
        features, responses = join(tables[layer], tables["responses"])
        score = cross_validate(RidgeEncoder(scorer="r"), features, responses, cv=9).score
        assert score.dims == ("voxel",)
        found[layer] = score.groupby("roi").mean()
    difference = found["alexnet"] - found["word2vec"]
    assert float(difference.sel(roi="EVC")) > 0.15
    assert float(difference.sel(roi="PFS")) < -0.05


def test_encoders_refit_from_scratch() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    for estimator in (RidgeEncoder(cv=4), TRFEncoder(tmax=0.2, sfreq=10.0)):
        first = estimator.fit(x, y).predict(x)
        estimator.fit(rng.normal(size=(50, 7)), rng.normal(size=(50, 4, 2)))
        assert estimator.predict(np.zeros((5, 7))).shape == (5, 4, 2)
        np.testing.assert_array_equal(estimator.fit(x, y).predict(x), first)
