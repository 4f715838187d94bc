"""Banded ridge by random search: neuroalign against himalaya, one thread, float32, interleaved in one process.

    python benchmarks/banded_ridge.py --candidates 20
    python benchmarks/banded_ridge.py --gradient --targets 300

Workload E: 1500 samples, 3 bands of 200 features, 3000 targets, 10 alphas, 5 contiguous folds, an intercept; the same
band weights for all. The floor counts the products and decompositions of every candidate, at the measured rates. Its
products are held against the time that is left without that for a single target of every winning candidate.

With `--gradient`, ours refines the best of 10 candidates, and himalaya's hyper-gradient starts from its ridge solution;
both are judged on samples that neither has seen. `--iterations` are those of himalaya, whose default is 10.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from _common import compare, measure, print_rates, print_summary  # first: it sets the number of threads

import numpy as np  # isort: skip
import torch
from himalaya.backend import set_backend
from himalaya.kernel_ridge import MultipleKernelRidgeCV, solve_multiple_kernel_ridge_random_search
from himalaya.ridge import solve_group_ridge_random_search
from himalaya.scoring import r2_score
from sklearn.model_selection import KFold

from neuroalign.solvers import banded_ridge_cv

N_FOLDS = 5


def simulate(n: int, width: int, n_bands: int, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bands with 1/k spectra; each target follows one or two of them."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, width + 1) ** -0.5
    turn = [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(n_bands)]
    x = np.concatenate([rng.standard_normal((n, width)) * scale @ q for q in turn], axis=1).astype("float32")
    bands = np.repeat(np.arange(n_bands), width)
    share = rng.dirichlet(np.full(n_bands, 0.3), size=t).T[bands]
    y = x @ (rng.standard_normal((len(bands), t)) * np.sqrt(share)).astype("float32")
    y = y / y.std(axis=0) * np.linspace(0, 2, t, dtype="float32") + rng.standard_normal((n, t), dtype="float32")
    return x, y.astype("float32"), bands


def peers(
    x: np.ndarray, y: np.ndarray, bands: np.ndarray, alphas: np.ndarray, gammas: np.ndarray
) -> dict[str, Callable]:
    """Both random searches of himalaya, refitting weights as ours does."""
    set_backend("torch")
    parts = [torch.from_numpy(np.ascontiguousarray(x[:, bands == b])) for b in np.unique(bands)]
    target, weights = torch.from_numpy(y), torch.from_numpy(gammas.astype("float32"))
    options = {"alphas": alphas, "score_func": r2_score, "cv": KFold(N_FOLDS), "progress_bar": False}
    options |= {"fit_intercept": True, "n_iter": weights}

    def group() -> object:
        return solve_group_ridge_random_search(parts, target, return_weights=True, warn=False, **options)

    def kernels() -> object:
        grams = torch.stack([part @ part.T for part in parts])
        return solve_multiple_kernel_ridge_random_search(grams, target, return_weights="dual", **options)

    return {"himalaya group ridge torch": group, "himalaya multiple kernel torch": kernels}


def compare_gradients(x: np.ndarray, y: np.ndarray, bands: np.ndarray, iterations: int, repeats: int) -> None:
    """Gradient search of both on all but the last quarter of the samples, which judges them."""
    set_backend("torch")
    n = len(x) * 3 // 4
    train, test, folds = slice(0, n), slice(n, None), list(KFold(N_FOLDS).split(x[:n]))
    alphas, mean = np.logspace(-2, 4, 10), y[:n].mean(axis=0)
    centred = x - x[:n].mean(axis=0)
    grams = [centred[:, bands == b] @ centred[train][:, bands == b].T for b in np.unique(bands)]
    grams = torch.from_numpy(np.stack(grams))
    target = torch.from_numpy(y[train] - mean)

    def search(kind: str) -> Callable:
        options = {"bands": bands, "alphas": alphas, "folds": folds, "n_iter": 10, "random_state": 0}
        return lambda: banded_ridge_cv(x[train], y[train], search=kind, **options)

    def peer() -> object:
        model = MultipleKernelRidgeCV(
            kernels="precomputed",
            solver="hyper_gradient",
            solver_params={
                "max_iter": iterations,
                "initial_deltas": "ridgecv",
                "score_func": r2_score,
                "progress_bar": False,
            },
            cv=KFold(N_FOLDS),
        )
        return model.fit(grams[:, train], target)

    methods = {"neuroalign": search("gradient"), "himalaya hyper_gradient": peer, "neuroalign random": search("random")}
    results = compare(methods, repeats)
    for name, found in results.items():
        if name.startswith("neuroalign"):
            guess, inner = x[test] @ found.coef + found.intercept, found.cv_scores
        else:
            guess = np.asarray(found.predict(grams[:, test])) + mean
            inner = np.asarray(found.cv_scores_)[-1]
        held = r2_score(torch.from_numpy(y[test]), torch.from_numpy(np.asarray(guess, "float32"))).numpy()
        print(f"{name:34s} mean R2 of held-out samples {held.mean():.4f}, of the inner folds {inner.mean():.4f}")
    ours, theirs = results.seconds["neuroalign"], results.seconds["himalaya hyper_gradient"]
    width = x.shape[1] // len(grams)
    print_summary(
        f"banded ridge, gradient: {n} samples, {len(grams)} x {width} features, {y.shape[1]} targets",
        f"himalaya hyper_gradient, {iterations} iterations",
        (ours, theirs),
        (results.memory["neuroalign"], results.memory["himalaya hyper_gradient"]),
    )


def eigh_seconds(size: int) -> float:
    """Best CPU time of one float64 eigendecomposition."""
    x = np.random.default_rng(0).standard_normal((2 * size, size))
    gram, best = x.T @ x, np.inf
    for _ in range(3):
        start = time.process_time()
        np.linalg.eigh(gram)
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--width", type=int, default=200, help="features of a band")
    parser.add_argument("--bands", type=int, default=3)
    parser.add_argument("--targets", type=int, default=3000)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="no peer")
    parser.add_argument("--gradient", action="store_true", help="gradient search instead of random search")
    parser.add_argument("--iterations", type=int, default=10, help="of himalaya's gradient search")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x, y, bands = simulate(options.samples, options.width, options.bands, options.targets)
    if options.gradient:
        print(f"gradient search: {options.samples} samples, {options.bands} x {options.width} features, t {y.shape[1]}")
        compare_gradients(x, y, bands, options.iterations, options.repeats)
        return
    (n, p), t, alphas = x.shape, y.shape[1], np.logspace(-2, 4, 10)
    rng = np.random.default_rng(0)  # himalaya's default samples; none is zero, on which its group ridge fails
    gammas = np.stack([rng.dirichlet(np.full(options.bands, (0.1, 1.0)[i % 2])) for i in range(options.candidates)])
    gammas = np.maximum(gammas, 1e-12)
    folds = list(KFold(N_FOLDS).split(x))
    print(f"workload E: n {n}, {options.bands} x {options.width} features, t {t}, 10 alphas, {len(gammas)} candidates")
    rates = print_rates()
    n_test = n // N_FOLDS
    work = len(gammas) * N_FOLDS
    products = 2 * p * t * (2 * p + min(n_test, p)) / rates["float32"] / 1e9  # rotation, test rows, pairs
    print(f"floor: {work * (products + eigh_seconds(min(n - n_test, p))):.1f} s")

    def ours() -> object:
        return banded_ridge_cv(x, y, bands=bands, alphas=alphas, folds=folds, gammas=gammas)

    methods: dict[str, Callable] = {"neuroalign": ours}
    if not options.alone:
        methods |= peers(x, y, bands, alphas, gammas)
    results = compare(methods, options.repeats)
    mine, spent = results["neuroalign"], results.seconds["neuroalign"]
    some = np.unique(mine.gammas, axis=1, return_index=True)[1]  # a target of each winner, for which all is decomposed
    few = min(
        measure(lambda: banded_ridge_cv(x, y[:, some], bands=bands, alphas=alphas, folds=folds, gammas=gammas))[0]
        for _ in range(options.repeats)
    )
    least = work * products * (t - some.size) / t
    share = least / (spent - few)
    print(
        f"{some.size} targets {few:.2f} s; the others {spent - few:.2f} s, floor {least:.2f} s: "
        f"{share:.0%} of the measured matrix rate"
    )
    for name, result in results.items():
        if name != "neuroalign":
            deltas, scores = np.asarray(result[0]), np.asarray(result[2])
            found = np.log(np.maximum(mine.gammas, 1e-38) / mine.alphas)
            same = np.isclose(np.maximum(deltas, found.min()), found, atol=1e-2).all(axis=0).mean()
            print(f"{name}: same weights in {100 * same:.2f} %, scores differ by {abs(scores - mine.scores).max():.1e}")
            what = f"banded ridge, random: {n} samples, {options.bands} x {options.width} features, {t} targets"
            memory = results.memory["neuroalign"], results.memory[name]
            print_summary(what, name, (spent, results.seconds[name]), memory, share)


if __name__ == "__main__":
    main()
