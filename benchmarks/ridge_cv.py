"""Ridge with an alpha per target: neuroalign against himalaya, one thread, float32, interleaved in one process.

    python benchmarks/ridge_cv.py --workload A --targets 2000

Workloads (samples, features, targets, alphas): A 3000, 1000, 10000, 10; B 1000, 8000, 20000, 20; C 10000, 768, 50000,
20; each with 5 contiguous folds and an intercept. `--targets` makes them smaller. The peer of B has dual weights, and
so has `kernel_ridge_cv`; `ridge_cv` is timed beside it, with weights of all features, against the peer with the same.
`--threads` times one thread against two on the wall clock instead. The floor is the operations that grow with the
targets over the measured matrix rate; it is held against the time that is left without that for a single target.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from _common import compare, measure, print_rates, print_summary  # first: it sets the number of threads

import numpy as np  # isort: skip
import torch
from himalaya.backend import set_backend
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import RidgeCV
from himalaya.scoring import r2_score
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from neuroalign.solvers import kernel_ridge_cv, ridge_cv

WORKLOADS = {"A": (3000, 1000, 10000, 10), "B": (1000, 8000, 20000, 20), "C": (10000, 768, 50000, 20)}
WITH_WEIGHTS = "himalaya KernelRidgeCV, with weights"


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
    if workload != "B":
        model = RidgeCV(alphas=alphas, cv=cv, fit_intercept=True, solver_params=options)
        return {"himalaya RidgeCV torch": lambda: model.fit(*tensors)}
    dual, primal = (KernelRidgeCV(alphas=alphas, cv=cv, fit_intercept=True, solver_params=options) for _ in range(2))

    def with_weights() -> KernelRidgeCV:
        primal.weights_ = primal.fit(*tensors).get_primal_coef()
        return primal

    return {"himalaya KernelRidgeCV torch": lambda: dual.fit(*tensors), WITH_WEIGHTS: with_weights}


def floor(n: int, p: int, t: int, dual_weights: bool) -> float:
    """Operations that grow with the targets: X'Y, two or three products a fold, the refit; in GFLOP."""
    if p <= n * 4 // 5:
        a_target = n * p + 5 * (2 * p * p + min(p, n // 5) * p) + p * p
    else:
        k = n * 4 // 5
        a_target = n * n + 5 * (2 * k * k + n // 5 * k) + (n if dual_weights else p) * n
    return 2e-9 * a_target * t


def print_floor(method: Callable, fixed: Callable, size: tuple[int, int, int], dual: bool, rate: float) -> float:
    seconds, alone = (min(measure(run)[0] for _ in range(2)) for run in (method, fixed))
    least = floor(*size, dual) / rate
    share = least / (seconds - alone)
    print(
        f"one target {alone:.2f} s; the other targets {seconds - alone:.2f} s, floor {least:.2f} s: "
        f"{100 * share:.0f} % of the measured matrix rate"
    )
    return share


def print_threads(what: str, method: Callable, repeats: int) -> None:
    best = {1: np.inf, 2: np.inf}
    for _ in range(repeats):
        for threads in best:
            with threadpool_limits(threads):
                start = time.perf_counter()
                method()
                best[threads] = min(best[threads], time.perf_counter() - start)
    print(f"wall clock: 1 thread {best[1]:.2f} s, 2 threads {best[2]:.2f} s, {best[1] / best[2]:.2f} x")
    print_summary(f"{what}, 2 threads", "neuroalign, 1 thread", (best[2], best[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", choices=WORKLOADS, default="A")
    parser.add_argument("--targets", type=int, help="fewer targets than the workload has")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--batch", type=int, help="himalaya's n_targets_batch")
    parser.add_argument("--loop", action="store_true", help="run the loop over alphas as well")
    parser.add_argument("--alone", action="store_true", help="no peer")
    parser.add_argument("--threads", action="store_true", help="one thread against two, and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, p, t, n_alphas = WORKLOADS[options.workload]
    x, y = simulate(n, p, options.targets or t)
    folds, alphas = list(KFold(5).split(x)), np.logspace(-2, 4, n_alphas)
    what = f"{options.workload}: n {n}, p {p}, t {y.shape[1]}, {n_alphas} alphas"
    print(f"workload {what}, 5 folds")
    rates = print_rates()
    grid = {"alphas": alphas, "folds": folds}
    methods: dict[str, Callable] = {"neuroalign": lambda: ridge_cv(x, y, **grid)}
    dual = options.workload == "B"
    if dual:
        methods = {
            "neuroalign": lambda: kernel_ridge_cv(x, y, kernel="linear", **grid),
            "neuroalign ridge_cv": methods["neuroalign"],
        }
    if options.threads:
        print_threads(what, methods["neuroalign"], options.repeats)
        return
    if not options.alone:
        methods |= peers(options.workload, x, y, alphas, options.batch)
    if options.loop:
        methods["loop over alphas"] = lambda: loop_over_alphas(x, y, alphas, folds)
    results = compare(methods, options.repeats)
    mine = results["neuroalign"]
    alone = (
        (lambda: kernel_ridge_cv(x, y[:, :1], kernel="linear", **grid))
        if dual
        else lambda: ridge_cv(x, y[:, :1], **grid)
    )
    share = print_floor(methods["neuroalign"], alone, (n, p, y.shape[1]), dual, rates["float32"])
    for name, result in results.items():
        if hasattr(result, "cv_scores_"):
            best, scores = np.asarray(result.best_alphas_), np.asarray(result.cv_scores_).ravel()
            same = np.isclose(mine.alphas, best, rtol=1e-3).mean()
            print(
                f"{name}: same alpha in {100 * same:.2f} %, scores differ by {abs(mine.cv_scores - scores).max():.1e}"
            )
        elif not name.startswith("neuroalign"):
            print(f"{name}: scores differ by {abs(mine.scores - result).max():.1e}")
        if not name.startswith("neuroalign"):
            ours = "neuroalign ridge_cv" if name == WITH_WEIGHTS else "neuroalign"
            spent, extra = ((of[ours], of[name]) for of in (results.seconds, results.memory))
            print_summary(what, name, spent, extra, share if ours == "neuroalign" else None)


if __name__ == "__main__":
    main()
