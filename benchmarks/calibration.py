"""Do tests, intervals and ceilings keep what they promise? Measured on data whose truth is known.

Run ``python benchmarks/calibration.py [draws] [part ...]`` (2000 draws and all parts by default). Every line gives the
promise, what was measured, and the 99.9 % binomial interval around the promise; draws come from many seeds. Rates of
false positives should lie between 0.04 and 0.06, intervals cover 93 to 97 %; power curves follow.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import xarray as xr
from scipy import sparse, stats
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from sklearn.linear_model import Ridge

from neuroalign.encoding import RidgeEncoder
from neuroalign.evaluation import (
    bootstrap_compare,
    centre_of_mass,
    cluster_test,
    cross_validate,
    fdr_bh,
    noise_ceiling,
    permutation_test,
    select_model,
)


def ar1(rng, n, n_targets, phi):
    """Stationary AR(1) noise of variance 1."""
    x = rng.standard_normal((n + 200, n_targets))
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], x, axis=0)[200:]


def line(what, promise, hits, draws, *, one_sided=False):
    low, high = stats.binom.ppf([0.0005, 0.9995], draws, promise) / draws
    rate = hits / draws
    ok = rate <= high if one_sided else low <= rate <= high
    print(f"{what:<68} {promise:6.3f} {rate:8.4f}   [{low:.4f}, {high:.4f}]  {'ok' if ok else 'OFF'}", flush=True)


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


def two_models(rng, n, targets, phi, gain):
    signal, *errors = (ar1(rng, n, targets, phi) for _ in range(4))
    return signal + errors[0], signal + (1 - gain) * errors[1], signal + errors[2]


def bootstrap(draws, *, phi, blocks, n, scorer="r2", gain=0.0, targets=50):
    """Misses of the 95 % interval and p <= 0.05, for two models; the first has `gain` less error."""
    truth = 0.0
    if gain:
        y, a, b = two_models(np.random.default_rng(16), 200_000, 20, phi, gain)
        truth = float(bootstrap_compare(y, a, b, blocks=2000, scorer=scorer, n_bootstraps=9).difference.mean())
    misses = hits = done = 0
    while done < draws:
        rng = np.random.default_rng([13, done])
        y, a, b = two_models(rng, n, targets, phi, gain)
        out = bootstrap_compare(y, a, b, blocks=blocks, scorer=scorer, n_bootstraps=399, random_state=rng)
        low, high = out.ci.values
        misses += int(((low > truth) | (high < truth)).sum())
        hits += int((out.p.values <= 0.05).sum())
        done += targets
    return misses, hits, done


def subject_maps(rng, n_subjects, shape, effect=0.0, smooth=2.0):
    values = gaussian_filter1d(rng.standard_normal((n_subjects, *shape)), smooth, axis=-1)
    values /= values.std()
    values[:, : max(1, shape[0] // 2), shape[1] // 3 : shape[1] // 2] += effect
    return xr.DataArray(values, dims=("subject", "channel", "time"))


def clusters(draws, *, n_subjects, shape, threshold=None, effect=0.0, tail="greater"):
    """Share of draws with any cluster (or enhanced point) of p <= 0.05, over time and neighbouring channels."""
    chain = sparse.diags([1.0, 1.0], [-1, 1], shape=(shape[0], shape[0])) if shape[0] > 1 else "none"
    hits = 0
    for draw in range(draws):
        rng = np.random.default_rng([18, draw])
        maps = subject_maps(rng, n_subjects, shape, effect)
        options = {"threshold": threshold, "tail": tail, "n_permutations": 199, "random_state": rng}
        hits += bool((cluster_test(maps, adjacency=chain, **options).p.values <= 0.05).any())
    return hits, draws


def clusters_of_permuted_scores(draws, times=40):
    """The same for one subject, whose predictions of autocorrelated responses are shifted in a circle."""
    hits = 0
    for draw in range(draws):
        rng = np.random.default_rng([19, draw])
        y, p = (gaussian_filter1d(ar1(rng, 120, times, 0.7), 2, axis=1) for _ in range(2))
        y, p = (xr.DataArray(v, dims=("trial", "time")) for v in (y, p))
        options = {"scheme": "circular", "scorer": "r", "n_permutations": 199, "random_state": rng}
        hits += bool((cluster_test(permutation_test(y, p, keep_null=True, **options)).p.values <= 0.05).any())
    return hits, draws


def selection(draws, *, n=150, n_layers=4, units=6, targets=50, advantage=0.0):
    """p <= 0.05 of the chosen layer against the choice among a control's layers, which are as good (or worse)."""
    hits = done = 0
    while done < draws:
        rng = np.random.default_rng([20, done])
        latent = rng.standard_normal((n, units))
        trained, control = (
            {f"layer{k}": strength * latent + rng.standard_normal((n, units)) for k in range(n_layers)}
            for strength in (1 + advantage, 1)
        )
        y = latent @ rng.standard_normal((units, targets)) + 3 * rng.standard_normal((n, targets))
        out = select_model(Ridge(10.0), trained, y, rival=control, cv=5, inner=3, random_state=rng)
        hits += int((out.p.values <= 0.05).sum())
        done += targets
    return hits, done


def inflation(draws, *, n=100, n_layers=8, units=5):
    rng = np.random.default_rng(21)
    layers = {f"layer{k}": rng.standard_normal((n, units)) for k in range(n_layers)}
    out = select_model(Ridge(), layers, rng.standard_normal((n, draws)), cv=5, inner=3, scorer="r")
    naive, ours = float(out.candidate_score.max("candidate").mean()), float(out.score.mean())
    print(f"null data, best r of {n_layers} layers: naive {naive:.3f}, chosen inside the training samples {ours:.3f}")


def centres(draws, *, n_subjects=20):
    depths = np.arange(8)
    shape = 1 + np.exp(-((depths - 4.2) ** 2) / 4)
    truth, misses = (shape * depths).sum() / shape.sum(), 0
    for draw in range(draws):
        rng = np.random.default_rng([22, draw])
        scores = xr.DataArray(shape[:, None] + 0.3 * rng.standard_normal((8, n_subjects)), dims=("layer", "subject"))
        low, high = centre_of_mass(scores, over="subject", n_bootstraps=399, random_state=rng).ci.values
        misses += not low <= truth <= high
    return misses, draws


def correlated(draws, scheme, phi):
    def run(effect):
        hits = done = 0
        while done < draws:
            rng = np.random.default_rng([23, done])
            y, p = (ar1(rng, 300, 50, phi) for _ in range(2))
            out = permutation_test(y, p + effect * y, scheme=scheme, scorer="r", n_permutations=199, random_state=rng)
            hits, done = hits + int((out.p.values <= 0.05).sum()), done + 50
        return hits, done

    return run


def power(draws):
    print(f"\n{'power at .05 against the size of the effect':<56}" + "".join(f"{k:>8}" for k in range(5)) + "   step")
    few = max(100, draws // 10)
    compared = {"phi": 0.5, "blocks": 20, "n": 400}
    mapped = {"n_subjects": 16, "shape": (4, 40)}
    for what, step, run in (
        ("shuffle, 300 samples, weight in r", 0.05, correlated(draws, "shuffle", 0.0)),
        ("circular, 300 samples of AR(1) 0.7, weight in r", 0.1, correlated(draws, "circular", 0.7)),
        ("bootstrap, 20 blocks of 20, AR(1) 0.5, less error", 0.1, lambda e: bootstrap(draws, gain=e, **compared)[1:]),
        ("cluster mass, 16 subjects, 4 x 40, height in sd", 0.2, lambda e: clusters(few, effect=e, **mapped)),
        ("TFCE, the same", 0.2, lambda e: clusters(few, effect=e, threshold="tfce", **mapped)),
        ("chosen layer against a control, stronger by", 0.25, lambda e: selection(few, advantage=e)),
    ):
        rates = [hits / done for hits, done in (run(k * step) for k in range(5))]
        print(f"{what:<56}" + "".join(f"{rate:8.3f}" for rate in rates) + f"   {step:g}", flush=True)


def ceilings(draws):
    print(f"\n{'ceiling (mean of draws against the truth)':<60} {'truth':>7} {'mean':>8} {'sd':>7} {'off by':>8}")
    worst = {}
    for n_stimuli in (100, 300, 1000):
        for repeats in (2, 5, 10, "2-6"):
            counts = np.arange(n_stimuli) % 5 + 2 if repeats == "2-6" else np.full(n_stimuli, repeats)
            ids = np.repeat(np.arange(n_stimuli), counts)
            for snr in (0.1, 0.5, 2.0):
                rng = np.random.default_rng([14, n_stimuli, len(ids)])
                size = min(draws, 10**6 // len(ids))
                signal = rng.standard_normal((n_stimuli, size)) * np.sqrt(snr)
                y = signal[ids] + rng.standard_normal((len(ids), size))
                truth = snr / (snr + np.mean(1 / counts))
                for method in ("split_half_sb", "explainable_variance", "cc_max", "ncsnr"):
                    got = noise_ceiling(y, repeats=ids, method=method, n_splits=20, random_state=0).values
                    off = got.mean() - truth
                    name = f"{method}, {n_stimuli} stimuli, {repeats} repeats, SNR {snr}"
                    worst[method] = max(worst.get(method, (0.0, "")), (abs(off), name))
                    if n_stimuli == 100 and repeats in (2, "2-6"):
                        print(f"{name:<60} {truth:7.3f} {got.mean():8.4f} {got.std():7.3f} {off:8.4f}")
    for off, name in worst.values():
        print(f"worst of 36 designs: {off:.4f} ({name})", flush=True)


def permutations(draws):
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


def comparisons(draws):
    for phi, blocks, n in ((0.0, 1, 100), (0.3, 5, 100), (0.5, 20, 400), (0.8, 20, 400), (0.8, 40, 1600)):
        for scorer in ("r2", "r"):
            what = f"{scorer}, AR(1) {phi}, {n // blocks} blocks of {blocks}"
            misses, hits, done = bootstrap(draws, phi=phi, blocks=blocks, n=n, scorer=scorer)
            line(f"equal models, {what}: interval misses", 0.05, misses, done)
            line(f"equal models, {what}: p <= 0.05", 0.05, hits, done)
            misses, _, done = bootstrap(draws, phi=phi, blocks=blocks, n=n, scorer=scorer, gain=0.4)
            line(f"one is better, {what}: interval misses", 0.05, misses, done)
    misses, _, done = bootstrap(draws, phi=0.0, blocks=1, n=20)
    line("(equal models, r2, 20 blocks of one sample: conservative)", 0.05, misses, done)


def maps(draws):
    for n_subjects, shape, tail in ((8, (1, 60), "greater"), (16, (6, 30), "greater"), (20, (6, 30), "both")):
        what = f"cluster mass, {n_subjects} subjects, {shape[0]} channels x {shape[1]} times, {tail}"
        line(what, 0.05, *clusters(draws, n_subjects=n_subjects, shape=shape, tail=tail))
    what = "TFCE, 12 subjects, 4 channels x 20 times"
    line(what, 0.05, *clusters(draws, n_subjects=12, shape=(4, 20), threshold="tfce"))
    line("cluster mass of shifted scores, AR(1) 0.7, 40 times", 0.05, *clusters_of_permuted_scores(draws))


def choices(draws):
    line("select_model against an equal control, p <= 0.05", 0.05, *selection(draws))
    line("centre of mass, 20 subjects: interval misses", 0.05, *centres(draws))
    inflation(draws)


PARTS = {
    "permutations": permutations,
    "comparisons": comparisons,
    "maps": maps,
    "choices": choices,
    "ceilings": ceilings,
    "power": power,
}


def main(draws=2000, *parts):
    start = time.perf_counter()
    print(f"{draws} draws\n{'':<68} {'should':>6} {'measured':>8}")
    for part in parts or PARTS:
        PARTS[part](draws)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
