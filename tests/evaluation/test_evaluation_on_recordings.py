"""The evaluation on real recordings: known effects are found, and real autocorrelation does not fool the tests."""

import numpy as np
import xarray as xr
from scipy.io import loadmat
from scipy.signal import lfilter
from sklearn.linear_model import RidgeCV

from neuroalign.evaluation import StimulusSplit, cross_validate, permutation_test


def test_vision_and_semantics_in_seven_regions(real_data):
    folder = real_data("objects81-fmri-alexnet-w2v")
    with np.load(folder / "roi_data.npz") as file:
        betas, names, roi = file["betas"], file["conds"].astype(str), file["rois"].astype(str)
        roi = roi[file["indices"].ravel().astype(int) - 1]
    y = xr.DataArray(betas, dims=("stimulus", "voxel"), coords={"stimulus": names, "roi": ("voxel", roi)})
    results = {}
    for space in ("alexnet", "word2vec"):
        (features,) = (v for k, v in loadmat(folder / f"{space}.mat").items() if not k.startswith("_"))
        X = xr.DataArray(features, dims=("stimulus", "unit"), coords={"stimulus": names})
        results[space] = cross_validate(
            RidgeCV(np.logspace(-1, 5, 12)),
            X,
            y,
            cv=StimulusSplit(9, random_state=0),
            test="permutation",
            scorer="r",
            n_permutations=200,
            random_state=0,
        )
    assert (results["alexnet"].significant.sum() > 500) & (results["word2vec"].significant.sum() > 500)
    difference = results["alexnet"].compare(results["word2vec"], regions="roi", random_state=0)
    early, anterior = (difference.sel(region=name) for name in ("EVC", "PFS"))
    assert early.region_difference > 0.2
    assert early.region_p < 0.01
    assert anterior.region_difference < -0.1
    assert anterior.region_p < 0.05


def test_noise_does_not_predict_a_story(real_data):
    bold = np.load(real_data("narratives-black-glove") / "story_parcels.npy", allow_pickle=False)[:, ::10]
    rates = {}
    for scheme in ("circular", "block", "shuffle"):
        hits = []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            slow = lfilter([1], [1, -0.7], rng.standard_normal((len(bold) + 200, 1)), axis=0)[200:]
            guess = np.broadcast_to(slow, bold.shape)
            out = permutation_test(bold, guess, scheme=scheme, scorer="r", n_permutations=99, random_state=rng)
            hits.append((out.p <= 0.05).mean())
        rates[scheme] = np.mean(hits)
    # 0.045, 0.050 and 0.115 with 150 noises; parcels are alike, so that 60 leave some room
    assert rates["circular"] < 0.08
    assert rates["block"] < 0.08
    assert rates["shuffle"] > 0.09
