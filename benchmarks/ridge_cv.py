"""Ridge with an alpha per target: neuroalign against himalaya, one thread, float32, interleaved in one process.

    python benchmarks/ridge_cv.py --workload A --targets 2000

Workloads (samples, features, targets, alphas): A 3000, 1000, 10000, 10; B 1000, 8000, 20000, 20; C 10000, 768, 50000,
20; each with 5 contiguous folds and an intercept. `--targets` makes them smaller.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from _common import compare, print_rates  # first: it sets the number of threads

import numpy as np  # isort: skip
import torch
from himalaya.backend import set_backend
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import RidgeCV
from himalaya.scoring import r2_score
from sklearn.model_selection import KFold

from neuroalign.solvers import ridge_cv

WORKLOADS = {"A": (3000, 1000, 10000, 10), "B": (1000, 8000, 20000, 20), "C": (10000, 768, 50000, 20)}


def simulate(n: int, p: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Features with a 1/k spectrum, targets of every signal-to-noise ratio."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, p)) * np.arange(1, p + 1) ** -0.5
    x = (x @ np.linalg.qr(rng.standard_normal((p, p)))[0]).astype("float32") if p < 2000 else x.astype("float32")
    y = x @ rng.standard_normal((p, t), dtype="float32")
    y /= y.std(axis=0)
    y *= np.linspace(0, 2, t, dtype="float32")
    y += rng.standard_normal((n, t), dtype="float32")
    return x, y


def loop_over_alphas(x: np.ndarray, y: np.ndarray, alphas: np.ndarray, folds: list) -> np.ndarray:
    """The usual script: an SVD a fold, a product and a score for every alpha; no refit."""
    scores = np.zeros((len(alphas), y.shape[1]))
    for train, test in folds:
        mean, offset = x[train].mean(axis=0), y[train].mean(axis=0)
        u, s, v = np.linalg.svd(x[train] - mean, full_matrices=False)
        rotated, rows = u.T @ (y[train] - offset), (x[test] - mean) @ v.T
        total = np.square(y[test] - y[test].mean(axis=0)).sum(axis=0)
        for i, alpha in enumerate(alphas):
            predicted = rows @ ((s / (s**2 + alpha)).astype("float32")[:, None] * rotated) + offset
            scores[i] += (1 - np.square(y[test] - predicted).sum(axis=0) / total) / len(folds)
    return scores


def peers(workload: str, x: np.ndarray, y: np.ndarray, alphas: np.ndarray, batch: int | None) -> dict[str, Callable]:
    set_backend("torch")
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    options = {"score_func": r2_score, "n_targets_batch": batch}
    cv = KFold(5)
    if workload == "B":
        model = KernelRidgeCV(alphas=alphas, cv=cv, fit_intercept=True, solver_params=options)
    else:
        model = RidgeCV(alphas=alphas, cv=cv, fit_intercept=True, solver_params=options)
    return {f"himalaya {type(model).__name__} torch": lambda: model.fit(*tensors)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", choices=WORKLOADS, default="A")
    parser.add_argument("--targets", type=int, help="fewer targets than the workload has")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--batch", type=int, help="himalaya's n_targets_batch")
    parser.add_argument("--loop", action="store_true", help="run the loop over alphas as well")
    parser.add_argument("--alone", action="store_true", help="no peer")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, p, t, n_alphas = WORKLOADS[options.workload]
    x, y = simulate(n, p, options.targets or t)
    folds, alphas = list(KFold(5).split(x)), np.logspace(-2, 4, n_alphas)
    print(f"workload {options.workload}: n {n}, p {p}, t {y.shape[1]}, {n_alphas} alphas, 5 folds")
    print_rates()
    methods: dict[str, Callable] = {"neuroalign": lambda: ridge_cv(x, y, alphas=alphas, folds=folds)}
    if not options.alone:
        methods |= peers(options.workload, x, y, alphas, options.batch)
    if options.loop:
        methods["loop over alphas"] = lambda: loop_over_alphas(x, y, alphas, folds)
    results = compare(methods, options.repeats)
    mine = results["neuroalign"]
    for name, result in results.items():
        if hasattr(result, "cv_scores_"):
            best, scores = np.asarray(result.best_alphas_), np.asarray(result.cv_scores_).ravel()
            same = np.isclose(mine.alphas, best, rtol=1e-3).mean()
            print(
                f"{name}: same alpha in {100 * same:.2f} %, scores differ by {abs(mine.cv_scores - scores).max():.1e}"
            )
        elif name != "neuroalign":
            print(f"{name}: scores differ by {abs(mine.scores - result).max():.1e}")


if __name__ == "__main__":
    main()
