"""Do tests, intervals and ceilings keep what they promise? Measured on data whose truth is known.

Run ``python benchmarks/calibration.py [draws]`` (2000 draws by default, about two minutes on one core). Every line
gives the promise, what was measured, and the 99.9 % binomial interval around the promise.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from scipy import stats
from scipy.signal import lfilter

from neuroalign.encoding import RidgeEncoder
from neuroalign.evaluation import bootstrap_compare, cross_validate, fdr_bh, noise_ceiling, permutation_test


def ar1(rng, n, n_targets, phi):
    """Stationary AR(1) noise of variance 1."""
    x = rng.standard_normal((n + 200, n_targets))
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], x, axis=0)[200:]


def line(what, promise, hits, draws, *, one_sided=False):
    low, high = stats.binom.ppf([0.0005, 0.9995], draws, promise) / draws
    rate = hits / draws
    ok = rate <= high if one_sided else low <= rate <= high
    print(f"{what:<68} {promise:6.3f} {rate:8.4f}   [{low:.4f}, {high:.4f}]  {'ok' if ok else 'OFF'}")


def false_positives(draws, *, phi, scheme, block=None, scorer="r", n_runs=4, length=150, targets=50):
    """Share of p <= 0.05 where prediction and response have nothing in common."""
    hits = done = 0
    runs = np.repeat(np.arange(n_runs), length)
    while done < draws:
        rng = np.random.default_rng([11, done])
        y, p = (np.vstack([ar1(rng, length, targets, phi) for _ in range(n_runs)]) for _ in range(2))
        out = permutation_test(
            y,
            p,
            scheme=scheme,
            block=block,
            groups=runs,
            folds=runs,
            scorer=scorer,
            n_permutations=199,
            random_state=rng,
        )
        hits += int((out.p.values <= 0.05).sum())
        done += targets
    return hits, done


def cross_validated(draws, *, refit, level=0.05, targets=400, features=12, samples=100):
    """Share of p <= level of cross-validated ridge scores where features and responses have nothing in common.

    ``refit=False`` holds the predictions fixed and rearranges the held-out responses, for contrast.
    """
    hits = done = 0
    while done < draws:
        rng = np.random.default_rng([17, done])
        X, y = rng.standard_normal((samples, features)), rng.standard_normal((samples, targets))
        options = {"test": "permutation", "n_permutations": 199} if refit else {}
        result = cross_validate(RidgeEncoder(), X, y, random_state=rng, **options)
        if refit:
            p = result.p.values
        else:
            held = result.data
            fixed = permutation_test(
                held["observed"], held["prediction"], folds="fold_id", n_permutations=199, random_state=rng
            )
            p = fixed.p.values
        hits += int((p <= level).sum())
        done += targets
    return hits, done


def family_wise(draws, targets=30):
    hits_max = hits_fdr = 0
    for draw in range(draws):
        rng = np.random.default_rng([12, draw])
        mix = rng.standard_normal((targets, targets)) / 5 + np.eye(targets)
        y, p = rng.standard_normal((40, targets)) @ mix, rng.standard_normal((40, targets))
        out = permutation_test(y, p, scorer="r", n_permutations=999, random_state=rng)
        hits_max += bool((out.p_max.values <= 0.05).any())
        hits_fdr += bool((fdr_bh(out.p.values) <= 0.05).any())
    return hits_max, hits_fdr


def bootstrap(draws, *, phi, blocks, n, targets=50):
    """Misses of the 95 % interval and p <= 0.05, for two models that are equally good."""
    misses = hits = done = 0
    while done < draws:
        rng = np.random.default_rng([13, done])
        signal, *errors = (ar1(rng, n, targets, phi) for _ in range(4))
        y = signal + errors[0]
        out = bootstrap_compare(
            y, signal + errors[1], signal + errors[2], blocks=blocks, n_bootstraps=399, random_state=rng
        )
        low, high = out.ci.values
        misses += int(((low > 0) | (high < 0)).sum())
        hits += int((out.p.values <= 0.05).sum())
        done += targets
    return misses, hits, done


def ceilings(draws, n_stimuli=100):
    print(f"\n{'ceiling (mean of draws against the truth)':<52} {'truth':>7} {'mean':>8} {'sd':>7}")
    for repeats in (np.full(n_stimuli, 2), np.full(n_stimuli, 5), np.arange(n_stimuli) % 5 + 2):
        for snr in (0.1, 1.0):
            rng = np.random.default_rng(14)
            ids = np.repeat(np.arange(n_stimuli), repeats)
            signal = rng.standard_normal((n_stimuli, draws)) * np.sqrt(snr)
            y = signal[ids] + rng.standard_normal((len(ids), draws))
            truth = snr / (snr + np.mean(1 / repeats))
            for method in ("split_half_sb", "explainable_variance"):
                got = noise_ceiling(y, repeats=ids, method=method, random_state=0).values
                name = f"{method}, {repeats.min()}-{repeats.max()} repeats, SNR {snr}"
                print(f"{name:<52} {truth:7.3f} {got.mean():8.4f} {got.std():7.3f}")


def main(draws=2000):
    start = time.perf_counter()
    print(f"{draws} draws\n{'':<68} {'should':>6} {'measured':>8}")
    for scorer in ("r", "r2"):
        line(
            f"shuffle, independent samples, {scorer}",
            0.05,
            *false_positives(draws, phi=0.0, scheme="shuffle", scorer=scorer, length=25),
        )
    for phi in (0.5, 0.9):
        line(f"circular, AR(1) {phi}, 4 runs of 150", 0.05, *false_positives(draws, phi=phi, scheme="circular"))
        line(
            f"circular, AR(1) {phi}, 1 run of 600",
            0.05,
            *false_positives(draws, phi=phi, scheme="circular", n_runs=1, length=600),
        )
        line(
            f"block of 30, AR(1) {phi}, 4 runs of 150", 0.05, *false_positives(draws, phi=phi, scheme="block", block=30)
        )
        line(
            f"(shuffle, AR(1) {phi}: not valid, for comparison)",
            0.05,
            *false_positives(draws, phi=phi, scheme="shuffle"),
        )
    for level in (0.05, 0.01):
        what = f"cross-validated ridge, fitted again, p <= {level}"
        line(what, level, *cross_validated(draws, refit=True, level=level))
        what = f"(the same with predictions held fixed: not valid, p <= {level})"
        line(what, level, *cross_validated(draws, refit=False, level=level))
    by_max, by_fdr = family_wise(draws)
    line("maximum statistic: any of 30 correlated targets", 0.05, by_max, draws)
    line("FDR, no effect anywhere: any of 30 (at most)", 0.05, by_fdr, draws, one_sided=True)
    for phi, blocks, n in ((0.0, 1, 20), (0.0, 1, 100), (0.8, 20, 400), (0.8, 40, 1600)):
        misses, hits, done = bootstrap(draws, phi=phi, blocks=blocks, n=n)
        what = f"bootstrap, equal models, AR(1) {phi}, {n // blocks} blocks of {blocks}"
        line(f"{what}: interval misses", 0.05, misses, done)
        line(f"{what}: p <= 0.05", 0.05, hits, done)
    ceilings(draws)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
