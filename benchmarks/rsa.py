"""RSA against rsatoolbox: speed in one thread with the same numbers, and the false-positive rate of the tests.

    OMP_NUM_THREADS=1 python benchmarks/rsa.py [speed] [calibration] [--sets 400] [--repeats 5]

Speed is CPU time, peers interleaved, best of the repeats. Calibration scores unrelated random RDMs.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from neuroalign.rsa import _noise, compare, evaluate, permutation_test, rdm


def best(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of each function: the best of the repeats, one after the other in turn."""
    times = dict.fromkeys(functions, np.inf)
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name] = min(times[name], time.process_time() - start)
    return times


def report(what: str, ours: float, theirs: float, goal: str) -> None:
    print(f"{what:<58} {1e3 * ours:10.2f} ms {1e3 * theirs:10.2f} ms {theirs / ours:8.1f}x   goal {goal}")


def speed(repeats: int) -> None:
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import prec_from_residuals
    from rsatoolbox.inference import eval_dual_bootstrap
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs, calc_rdm
    from rsatoolbox.rdm import compare as their_compare

    rng = np.random.default_rng(0)
    print(f"{'workload, one thread, float64, CPU time':<58} {'neuroalign':>13} {'rsatoolbox':>13} {'ratio':>9}")

    x = rng.normal(size=(1000, 5000))
    single = x.astype(np.float32)
    dataset = Dataset(x, obs_descriptors={"stim": np.arange(1000)})
    np.testing.assert_allclose(
        rdm(x[:50], method="correlation"),
        calc_rdm(Dataset(x[:50], obs_descriptors={"stim": np.arange(50)}), "correlation", "stim").dissimilarities[0],
    )
    t = best(
        {
            "ours": lambda: rdm(x, method="correlation"),
            "f32": lambda: rdm(single, method="correlation"),
            "theirs": lambda: calc_rdm(dataset, "correlation", "stim"),
        },
        repeats,
    )
    report("correlation RDM, 1000 x 5000", t["ours"], t["theirs"], ">= 10x")
    report("  the same in float32", t["f32"], t["theirs"], "(21x in the prototype)")

    res = rng.normal(size=(736, 1000))
    t = best(
        {
            "ours": lambda: np.linalg.inv(_noise.ledoit_wolf(res, 700)),
            "theirs": lambda: prec_from_residuals(res, dof=700, method="shrinkage_eye"),
        },
        repeats,
    )
    report("noise precision, 736 x 1000 residuals", t["ours"], t["theirs"], ">= 10x")

    data, models = rng.random((20, 4186)), rng.random((50, 4186))
    for method, theirs, goal in (("spearman", "spearman", ">= 20x"), ("kendall-tau-a", "tau-a", ">= 6x")):
        left, right = RDMs(data), RDMs(models)
        np.testing.assert_allclose(
            compare(data[:2], models[:2], method=method), their_compare(RDMs(data[:2]), RDMs(models[:2]), method=theirs)
        )
        t = best(
            {
                "ours": lambda method=method: compare(data, models, method=method),
                "theirs": lambda left=left, right=right, theirs=theirs: their_compare(left, right, method=theirs),
            },
            repeats,
        )
        report(f"{method}, 20 x 50 RDMs of 92", t["ours"], t["theirs"], goal)

    descriptors = {"index": np.arange(92)}
    fixed = [ModelFixed(str(i), RDMs(m[None], pattern_descriptors=descriptors)) for i, m in enumerate(models)]
    brain = RDMs(data, pattern_descriptors=descriptors)
    for method, theirs, few, many, goal in (
        ("spearman", "spearman", 20, 120, ">= 150x"),
        ("kendall-tau-a", "tau-a", 10, 16, ">= 35x"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            t = best(
                {
                    "few": lambda m=method, n=few: evaluate(models, data, compare=m, n=n, random_state=0),
                    "many": lambda m=method, n=many: evaluate(models, data, compare=m, n=n, random_state=0),
                    "theirs": lambda m=theirs: eval_dual_bootstrap(fixed, brain, method=m, N=2),
                },
                2,
            )
        ours = (t["many"] - t["few"]) / (many - few)
        report(f"dual bootstrap with ceilings, {method}, 20 x 50, a sample", ours, t["theirs"] / 2, goal)


def null_p(
    rng: np.random.Generator, n_subjects: int, n_conditions: int, shared: float, **options: object
) -> tuple[float, float]:
    """p against 0, and between two models, when no model has to do with the brain."""
    models = rdm(rng.normal(size=(2, n_conditions, 6)))
    common, own = rng.normal(size=(n_conditions, 8)), rng.normal(size=(n_subjects, n_conditions, 8))
    data = rdm(np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
    result = evaluate(models, data, n=200, random_state=rng, ceiling=n_subjects > 1, **options)
    return float(result.p[0]), float(result.p_pairwise[0, 1])


def calibration(n_sets: int) -> None:
    rng = np.random.default_rng(0)
    error = np.sqrt(0.05 * 0.95 / n_sets)
    print(f"\nFalse positives at .05 in {n_sets} sets of unrelated RDMs (standard error {error:.3f}).")
    print("shared: part of the brain's geometry that all subjects have. With fixed conditions ('subjects'), a chance")
    print("likeness of model and shared geometry is real for these conditions, and is found.")
    head = ("subjects", 9), ("conditions", 11), ("shared", 8), ("against 0", 11), ("pairwise", 10)
    print(f"{'compare':<14}{'bootstrap':<12}" + "".join(f"{name:>{width}}" for name, width in head))
    designs = [("conditions", 1, 20, 1.0), ("conditions", 1, 60, 1.0), ("subjects", 8, 20, 0.0)]
    designs += [("subjects", 8, 20, 0.5), ("both", 8, 20, 0.0), ("both", 8, 20, 0.5), ("both", 20, 40, 0.5)]
    for method in ("rho-a", "pearson", "spearman"):
        for bootstrap, *sizes in designs:
            p = np.array([null_p(rng, *sizes, compare=method, bootstrap=bootstrap) for _ in range(n_sets)])
            rates = (p < 0.05).mean(0)
            n_subjects, n_conditions, shared = sizes
            print(
                f"{method:<14}{bootstrap:<12}{n_subjects:9d}{n_conditions:11d}{shared:8.1f}"
                f"{rates[0]:11.3f}{rates[1]:10.3f}",
                flush=True,
            )
    p = []
    for _ in range(n_sets):
        model, brain = rdm(rng.normal(size=(20, 6))), rdm(rng.normal(size=(20, 8)))
        p.append(permutation_test(model, brain, n=199, random_state=rng)["p"].item())
    print(f"permutation of conditions, rho-a, 20 conditions: {np.mean(np.array(p) <= 0.05):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="speed|calibration")
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    parts = arguments.parts or ["speed", "calibration"]
    if "speed" in parts:
        speed(arguments.repeats)
    if "calibration" in parts:
        calibration(arguments.sets)


if __name__ == "__main__":
    main()
