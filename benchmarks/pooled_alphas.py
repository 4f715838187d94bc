"""Pooled penalties against a penalty for every target and one for all: R2 on samples that no fold has seen.

    python benchmarks/pooled_alphas.py [seeds]

Every line is a setting: mean R2 of the three over seeds (8 by default) and targets, what pooling loses to the better of
the two with its paired standard error, and how much was pooled. Lines whose loss is above both .005 and two standard
errors end in LOST. Simulated: samples, features, targets, how the targets differ, and white noise or autocorrelated
features and noise (folds are contiguous). Of hundreds of settings some lose by chance, and the better of two is better
than it is, so those that lost are drawn again, 60 times. With ``NEUROALIGN_TEST_DATA`` set, also recordings: 81
objects, 60 nouns, a story, and blocks of pictures.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import scipy.io  # noqa: E402
from scipy.signal import lfilter  # noqa: E402
from sklearn.model_selection import KFold  # noqa: E402

from neuroalign.linear._ridge import DEFAULT_GRID  # noqa: E402
from neuroalign.solvers import default_alphas, ridge_cv  # noqa: E402

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # x, y, train, test

WAYS = (True, False, "pooled")
KINDS = ("noise", "weak", "strong", "signal differs", "smoothness differs", "few informative")
SHAPES = ((5, 50), (30, 20), (30, 80), (100, 300), (500, 200))
N_TEST = 400


def autoregressive(rng: np.random.Generator, n: int, t: int, phi: float) -> np.ndarray:
    """Stationary noise of variance 1."""
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], rng.standard_normal((n + 100, t)), axis=0)[100:]


def simulate(n: int, p: int, t: int, kind: str, correlated: bool, seed: int) -> Split:
    """Features with a 1/k spectrum; signal that is a share of each target's variance."""
    rng = np.random.default_rng([n, p, t, KINDS.index(kind), correlated, seed])
    rows = n + 20 + N_TEST
    rank, odd = np.arange(1.0, p + 1)[:, None], np.arange(t) % 2
    x = autoregressive(rng, rows, p, 0.7 * correlated) * rank.T**-0.5
    smooth = np.where(odd, -2.0, 0.5) if kind == "smoothness differs" else np.zeros(t)
    signal = x @ (rng.standard_normal((p, t)) * rank**smooth)
    share = {
        "noise": np.zeros(t),
        "weak": np.full(t, 0.15),
        "strong": np.full(t, 0.7),
        "signal differs": np.where(odd, 0.9, 0.05),
        "smoothness differs": np.full(t, 0.5),
        "few informative": np.where(np.arange(t) % 20, 0.0, 0.7),
    }[kind]
    noise = autoregressive(rng, rows, t, 0.8 * correlated)
    y = signal / signal.std(axis=0) * share**0.5 + noise * (1 - share) ** 0.5
    return x, y, np.arange(n), np.arange(n + 20, rows)


def held_out(split: Split) -> tuple[list[float], float]:
    """Mean R2 on the test samples of the three ways, and the amount of pooling."""
    x, y, train, test = split
    grid = default_alphas(x[train], DEFAULT_GRID[0], decades=DEFAULT_GRID[1])
    folds, scores, pooling = list(KFold(5).split(train)), [], np.nan
    for way in WAYS:
        fit = ridge_cv(x[train], y[train], alphas=grid, folds=folds, alpha_per_target=way)
        error = np.square(y[test] - x[test] @ fit.coef - fit.intercept).mean(axis=0)
        scores.append(float(np.nanmean(1 - error / y.var(axis=0))))  # few test samples have a variance of their own
        pooling = fit.pooling
    return scores, pooling


def line(name: str, splits: Iterator[Split]) -> bool:
    """Print a setting; whether pooling loses."""
    results = [held_out(split) for split in splits]
    each, shared, pooled = np.transpose([scores for scores, _ in results])
    loss = max(each, shared, key=np.mean) - pooled
    error = loss.std(ddof=1) / np.sqrt(loss.size)
    lost = bool(loss.mean() > max(0.005, 2 * error))
    means = " ".join(f"{way.mean():8.4f}" for way in (each, shared, pooled))
    amount = np.mean([pooling for _, pooling in results])
    print(f"{name:50s} {means} {loss.mean():8.4f} {error:7.4f} {amount:7.2f}{'  LOST' * lost}", flush=True)
    return lost


def objects(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """81 categories of pictures: components of AlexNet and word2vec, fMRI of seven regions."""
    tables = [scipy.io.loadmat(folder / f"{name}.mat") for name in ("alexnet", "word2vec")]
    parts = [value for table in tables for key, value in table.items() if not key.startswith("__")]
    return np.hstack(parts).astype("f8"), np.load(folder / "roi_data.npz")["betas"].astype("f8")


def nouns(folder: Path, subject: int) -> tuple[np.ndarray, np.ndarray]:
    """Nouns with an embedding from behaviour, fMRI of 1000 voxels."""
    y = pd.read_csv(folder / f"scaled_1000_mitchell_targets_{subject}.txt", sep=" ", index_col="word")
    names = pd.read_csv(folder / "features" / "unique_id.csv")["id"]
    x = pd.DataFrame(np.load(folder / "features" / "spose_embedding_82d_sorted.npy"), index=names)
    known = [word for word in y.index if word in x.index]
    return x.loc[known].to_numpy("f8"), y.loc[known].to_numpy("f8")


def story(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Words of a story (30 components of GloVe, 4 delays), fMRI of 400 parcels."""
    vectors = json.loads((folder / "glove_embeddings.json").read_text())
    lines = (folder / "story_transcript.txt").read_text().splitlines()
    words = [[vectors[w] for w in map(str.strip, row.split(",")) if w in vectors] for row in lines]
    sums = np.array([np.sum(row, axis=0) if row else np.zeros(300) for row in words])
    u, s, _ = np.linalg.svd(sums - sums.mean(axis=0), full_matrices=False)
    delayed = [np.roll(u[:, :30] * s[:30], k, axis=0) for k in (2, 3, 4, 5)]
    return np.hstack(delayed)[10:], np.load(folder / "story_parcels.npy").astype("f8")[10:]


def pictures(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks of eight categories (convolved), fMRI of a slice without drifts, and the runs."""
    import nibabel as nib

    inside = np.asarray(nib.load(folder / "mask.nii.gz").dataobj).astype(bool).ravel()
    y = np.asarray(nib.load(folder / "bold.nii.gz").dataobj).astype("f8").reshape(inside.size, -1)[inside].T
    table = pd.read_csv(folder / "attributes_literal.txt", sep=" ", header=None, names=["label", "run"])
    label, run = table["label"].to_numpy(), table["run"].to_numpy()
    seconds = np.arange(0, 25, 2.5)
    response = seconds**5 * np.exp(-seconds)
    x = np.zeros((len(label), 8))
    for part in (np.flatnonzero(run == r) for r in np.unique(run)):
        for k, category in enumerate(sorted(set(label) - {"rest"})):
            x[part, k] = np.convolve(label[part] == category, response)[: part.size]
        drifts = np.polynomial.legendre.legvander(np.linspace(-1, 1, part.size), 2)
        y[part] -= drifts @ np.linalg.lstsq(drifts, y[part], rcond=None)[0]
    return x, y[:, y.std(axis=0) > 0], run


def recordings(root: Path, seeds: int) -> Iterator[tuple[str, Iterator[Split]]]:
    x, y = objects(root / "objects81-fmri-alexnet-w2v")
    orders = [np.random.default_rng(seed).permutation(81) for seed in range(seeds)]
    for n in (10, 15, 25, 40, 60):
        yield f"objects, {n} samples", ((x, y, order[:n], order[n:]) for order in orders)
    for subject in range(1, 10):
        x, y = nouns(root / "mitchell2008-60nouns", subject)
        splits = [s for seed in (0, 1) for s in KFold(5, shuffle=True, random_state=seed).split(x)]
        yield f"nouns, subject {subject}, 5 folds", ((x, y, *split) for split in splits)
    x, y = story(root / "narratives-black-glove")
    for n in (20, 40, 80, 160, 320):
        starts = np.linspace(0, len(x) - n - 10, seeds).astype(int)
        far = [np.r_[: max(lo - 10, 0), lo + n + 10 : len(x)] for lo in starts]
        yield f"story, {n} samples", ((x, y, np.arange(lo, lo + n), test) for lo, test in zip(starts, far, strict=True))
    x, y, run = pictures(root / "haxby2001-pymvpa")
    for n in (20, 40, 121):
        trains = [np.flatnonzero(run == k)[:n] for k in range(min(seeds, 12))]
        yield f"pictures, {n} samples of a run", ((x, y, a, np.flatnonzero(run != run[a[0]])) for a in trains)


def named(n: int, p: int, t: int, kind: str, correlated: bool) -> str:
    return f"{n} x {p}, {t} targets, {kind}{', AR' * correlated}"


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    print(f"{'':50s} {'each':>8s} {'shared':>8s} {'pooled':>8s} {'loss':>8s} {'s.e.':>7s} {'amount':>7s}")
    settings = [
        (n, *shape, kind, correlated)
        for n in (10, 20, 40, 80, 200, 1000)
        for shape in SHAPES
        for kind in KINDS
        for correlated in (False, True)
    ]
    suspects = [one for one in settings if line(named(*one), (simulate(*one, seed) for seed in range(seeds)))]
    print(f"simulated: pooling lost in {len(suspects)} of {len(settings)}; these again:")
    lost = [line(named(*one), (simulate(*one, seed) for seed in range(1000, 1060))) for one in suspects]
    print(f"simulated: pooling lost in {sum(lost)} of {len(lost)} again")
    if root := os.environ.get("NEUROALIGN_TEST_DATA"):
        lost = [line(name, splits) for name, splits in recordings(Path(root), seeds)]
        print(f"recordings: pooling lost in {sum(lost)} of {len(lost)}")


if __name__ == "__main__":
    main()
