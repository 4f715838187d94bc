"""Real brains are read: which of two nouns, which of eight categories."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.model_selection import KFold

from neuroalign.decoding import RidgeDecoder
from neuroalign.evaluation import cross_validate
from neuroalign.metrics import nmcc, two_versus_two
from neuroalign.solvers import default_alphas, ridge_cv


def nouns(folder, subject, space):
    """Features and mean responses of the nouns that have features."""
    y = pd.read_csv(folder / f"scaled_1000_mitchell_targets_{subject}.txt", sep=" ", index_col="word")
    ids = pd.read_csv(folder / "features" / "unique_id.csv")["id"]
    if space == "embedding":
        table = pd.DataFrame(np.load(folder / "features" / "spose_embedding_82d_sorted.npy"), index=ids)
    else:
        table = pd.read_csv(folder / "features" / "things_property_ratings.csv", index_col="uniqueID")
        table = table[[name for name in table if name.endswith("_mean")]]
    names = [name for name in y.index if name in table.index]
    x = table.loc[names].to_numpy(float)
    return x, y.loc[names].to_numpy(float)


def told_apart(x, y, pairs):
    """Share of pairs of left-out nouns that are told apart; the other nouns choose the penalty."""
    told = []
    for pair in map(list, pairs):
        train = np.delete(np.arange(len(x)), pair)
        mean, sd = x[train].mean(axis=0), x[train].std(axis=0)
        z = (x - mean) / sd
        folds = list(KFold(5).split(train))
        fit = ridge_cv(z[train], y[train], alphas=default_alphas(z[train], 5), folds=folds, alpha_per_target=False)
        told.append(two_versus_two(y[pair], z[pair] @ fit.coef + fit.intercept))
    return float(np.mean(told))


@pytest.mark.parametrize(("space", "n_features"), [("embedding", 82), ("ratings", 11)])
def test_two_left_out_nouns_are_told_apart(real_data, space, n_features):
    """Nine subjects, 28 of all pairs each, not the same ones: .65 from the embedding, .62 from the ratings."""
    folder = real_data("mitchell2008-60nouns")
    found, chance = [], []
    for subject in range(1, 10):
        x, y = nouns(folder, subject, space)
        assert x.shape == (53, n_features)
        pairs = list(itertools.combinations(range(len(x)), 2))[subject::50]
        found.append(told_apart(x, y, pairs))
        chance.append(told_apart(x[np.random.default_rng(subject).permutation(len(x))], y, pairs))
    assert np.mean(found) > 0.6
    assert 0.4 < np.mean(chance) < 0.6


def test_categories_of_objects_in_visual_cortex(real_data):
    """Eight categories from half a slice, twelve runs, each left out once; chance is one in eight."""
    folder = real_data("haxby2001-pymvpa")
    inside = np.asarray(nibabel.load(folder / "mask.nii.gz").dataobj) > 0
    bold = np.asarray(nibabel.load(folder / "bold.nii.gz").dataobj)[inside].T.astype(float)
    table = pd.read_csv(folder / "attributes_literal.txt", sep=r"\s+", header=None, names=["label", "run"])
    for run in table["run"].unique():
        rows = (table["run"] == run).to_numpy()
        bold[rows] -= bold[rows].mean(axis=0)
    late = table["label"].shift(2, fill_value="rest")  # the response follows by about five seconds
    groups = table.assign(label=late).query("label != 'rest'").groupby(["run", "label"]).groups
    kinds = sorted({label for _, label in groups})
    samples = {"run": [run for run, _ in groups], "label": [label for _, label in groups]}
    X = xr.DataArray(
        np.stack([bold[list(rows)].mean(axis=0) for rows in groups.values()]),
        dims=("sample", "voxel"),
        coords={name: ("sample", values) for name, values in samples.items()},
    )
    y = xr.DataArray(
        np.array([[float(label == kind) for kind in kinds] for label in samples["label"]]),
        dims=("sample", "category"),
        coords={"category": kinds, **{name: ("sample", values) for name, values in samples.items()}},
    )
    result = cross_validate(RidgeDecoder(cv="run"), X, y, cv="run", groups="run")
    guessed = result.data["prediction"].argmax("category").values
    shown = result.data["observed"].argmax("category").values
    accuracy = float((guessed == shown).mean())
    assert len(shown) == 96
    assert accuracy > 0.6
    assert nmcc(shown, guessed) > 0.5
