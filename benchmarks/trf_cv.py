"""Temporal response functions: neuroalign against mTRFpy, MNE and the explicit delayed design, one thread.

    python benchmarks/trf_cv.py

Workload D: 128 channels, 64 Hz, 20 trials of 60 s, 16 bands, 33 lags, 10 alphas, 5 folds over trials. MNE has no grid:
one fit of `TimeDelayingRidge` on the training trials is timed, and multiplied by 10 alphas times 5 folds; `--mne-grid`
runs them all. The explicit
way builds the delayed design once, in float64, and does one eigendecomposition a fold. mTRFpy (``pip install mtrf``)
runs its own grid and folds on float32, as fast as it goes. The floor is what our way has to do at the least, at the
measured rate of float64 matrix products: the lagged products as products of spectra, the rotations, and an
eigendecomposition a fold and one for the refit, whose rate is measured. The part that grows with the targets is held
against the time that is left without that for a single target.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

from _common import compare, measure, print_rates, print_summary  # first: it sets the number of threads

import mne  # isort: skip
import numpy as np

from neuroalign.solvers import trf_cv

LAGS = np.arange(-1, 32)
ALPHAS = np.logspace(-1, 6, 10)
ONE_OF_MNE = "MNE, ONE fit of the 50"


def simulate(n_trials: int, n_samples: int, bands: int, channels: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    smooth = np.exp(-np.arange(10) / 3.0)
    xs, ys = [], []
    weights = rng.standard_normal((bands, channels))
    for _ in range(n_trials):
        x = rng.standard_normal((n_samples, bands))
        x = np.stack([np.convolve(column, smooth)[:n_samples] for column in x.T], axis=1)
        y = np.roll(x, 6, axis=0) @ weights + 10 * rng.standard_normal((n_samples, channels))
        xs.append(x.astype("float32"))
        ys.append(y.astype("float32"))
    return xs, ys


def delayed(x: np.ndarray) -> np.ndarray:
    out = np.zeros((len(x), LAGS.size, x.shape[1]))
    for i, lag in enumerate(LAGS):
        lo, hi = max(lag, 0), min(len(x) + lag, len(x))
        out[lo:hi, i] = x[lo - lag : hi - lag]
    return out.reshape(len(x), -1)


def explicit(xs: list[np.ndarray], ys: list[np.ndarray], folds: list) -> np.ndarray:
    designs = [delayed(x) for x in xs]
    scores = np.zeros((ALPHAS.size, ys[0].shape[1]))
    for train, test in folds:
        x, y = np.concatenate([designs[i] for i in train]), np.concatenate([ys[i] for i in train]).astype("f8")
        mean, offset = x.mean(axis=0), y.mean(axis=0)
        x -= mean
        values, vectors = np.linalg.eigh(x.T @ x)
        b = vectors.T @ (x.T @ (y - offset))
        rows = (np.concatenate([designs[i] for i in test]) - mean) @ vectors
        truth = np.concatenate([ys[i] for i in test]).astype("f8")
        truth -= truth.mean(axis=0)
        for i, alpha in enumerate(ALPHAS):
            predicted = rows @ (b / (values + alpha)[:, None])
            predicted -= predicted.mean(axis=0)
            norm = np.sqrt(np.square(truth).sum(axis=0) * np.square(predicted).sum(axis=0))
            scores[i] += (truth * predicted).sum(axis=0) / norm / len(folds)
    return scores


def one_fit_of_mne(xs: list[np.ndarray], ys: list[np.ndarray], train: list[int], alpha: float = 100.0) -> object:
    solver = mne.decoding.TimeDelayingRidge(int(LAGS[0]), int(LAGS[-1]), 1.0, alpha=alpha)
    x, y = (np.stack([side[i] for i in train], axis=1).astype("f8") for side in (xs, ys))
    return solver.fit(x, y)


def grid_of_mne(xs: list[np.ndarray], ys: list[np.ndarray], folds: list) -> None:
    """The fits of a grid search; the scores of the predictions are left out."""
    for train, _ in folds:
        for alpha in ALPHAS:
            one_fit_of_mne(xs, ys, train, alpha)


def grid_of_mtrf(xs: list[np.ndarray], ys: list[np.ndarray]) -> np.ndarray:
    """Mean score over channels for every penalty; lambda = alpha / (sampling rate * number of trials)."""
    import mtrf

    penalties = (ALPHAS / (64.0 * len(xs))).tolist()
    return mtrf.TRF().train(xs, ys, 64.0, LAGS[0] / 64.0, LAGS[-1] / 64.0, penalties, k=5, seed=0, verbose=False)


def best_of(method: Callable[[], object], repeats: int = 5) -> float:
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        method()
        spent.append(time.process_time() - start)
    return min(spent)


def eigh_seconds(k: int) -> float:
    """CPU seconds of an eigendecomposition of moments."""
    moments = np.cov(np.random.default_rng(0).standard_normal((k, 4 * k)))
    return best_of(lambda: np.linalg.eigh(moments))


def floor(n: int, features: int, targets: int, n_folds: int) -> tuple[float, float]:
    """GFLOP of the matrix work without eigendecompositions, for features alone and for the targets.

    Products of spectra, rotations of moments, squared predictions, and the refit; Fourier transforms are no products.
    """
    k, spectra = features * LAGS.size, 4e-9 * features * n * 8 / 7  # complex, blocks of 256 of which 32 overlap
    of_features = spectra * (features + 1) + n_folds * 4e-9 * k**3
    a_target = n_folds * 6e-9 * k * k + 4e-9 * k * k
    return of_features, (spectra + a_target) * targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--mne-grid", action="store_true", help="run all fits of a grid search with MNE")
    options = parser.parse_args()
    mne.set_log_level("error")
    xs, ys = simulate(options.trials, 64 * 60, 16, 128)
    parts = np.array_split(np.arange(options.trials), 5)
    folds = [(np.setdiff1d(np.arange(options.trials), part), part) for part in parts]
    print(f"workload D: {options.trials} trials of 3840 samples, 16 bands, 33 lags, 128 channels, 10 alphas, 5 folds")
    rates = print_rates()
    methods = {
        "neuroalign": lambda: trf_cv(xs, ys, lags=LAGS, alphas=ALPHAS, folds=folds),
        "mTRFpy, grid and folds": lambda: grid_of_mtrf(xs, ys),
        "explicit design, one eigh a fold": lambda: explicit(xs, ys, folds),
        ONE_OF_MNE: lambda: one_fit_of_mne(xs, ys, folds[0][0]),
    }
    if importlib.util.find_spec("mtrf") is None:
        print("mTRFpy is not installed: pip install mtrf")
        del methods["mTRFpy, grid and folds"]
    results = compare(methods, options.repeats)
    ours = results.seconds["neuroalign"]
    once, each = (work / rates["float64"] for work in floor(options.trials * 3840, 16, 128, len(folds)))
    once += (len(folds) + 1) * eigh_seconds(16 * LAGS.size)
    one = [y[:, :1] for y in ys]
    alone = best_of(lambda: trf_cv(xs, one, lags=LAGS, alphas=ALPHAS, folds=folds))
    share = each / (ours - alone)
    print(
        f"floor {once + each:.2f} CPU s, {(once + each) / ours:.0%} of ours; the targets but one {ours - alone:.2f} s, "
        f"floor {each:.2f} s: {share:.0%} of the measured matrix rate"
    )
    if options.mne_grid:
        spent, extra, _ = measure(lambda: grid_of_mne(xs, ys, folds))
        print(f"MNE's grid, all of its 50 fits: {spent:.1f} CPU s, {spent / ours:.0f} x ours")
    else:
        spent, extra = 50 * results.seconds[ONE_OF_MNE], results.memory[ONE_OF_MNE]
        print(f"MNE's grid, 50 times its fit: {spent / ours:.0f} x ours")
    difference = abs(results["neuroalign"].scores - results["explicit design, one eigh a fold"]).max()
    print(f"explicit design: scores differ by {difference:.1e}")
    if "mTRFpy, grid and folds" in results:
        difference = abs(results["neuroalign"].scores.mean(axis=1) - results["mTRFpy, grid and folds"]).max()
        print(f"mTRFpy: mean scores differ by {difference:.1e} (its penalty and folds differ a little)")
    what, memory = f"D: TRF, {options.trials} trials, 16 bands, 33 lags, 128 channels, 10 alphas", results.memory
    for name, seconds in results.seconds.items():
        if name not in ("neuroalign", ONE_OF_MNE):
            print_summary(what, name, (ours, seconds), (memory["neuroalign"], memory[name]), share)
    how = "all fits of a grid" if options.mne_grid else "50 times one fit"
    print_summary(what, f"MNE, {how}", (ours, spent), (memory["neuroalign"], extra), share)


if __name__ == "__main__":
    main()
