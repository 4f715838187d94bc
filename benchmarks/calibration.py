"""Do tests, intervals and ceilings keep what they promise?

Measured on data whose truth is known. Run ``python benchmarks/calibration.py [draws] [part ...]`` (4000 draws and all
parts by default). A line gives the promise, the rate that was measured in that many tests or intervals, and its
standard error between independent data sets (targets of one data set share their rearrangements; what they share is
counted). Rates of false positives should lie between 0.04 and 0.06 at .05, and 95 % intervals miss 3 to 7 % of truths.
Lines in brackets show what goes wrong where an assumption is broken.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import xarray as xr
from scipy import fft, sparse
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge

from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.evaluation import (
    bootstrap_compare,
    centre_of_mass,
    cluster_test,
    compare_models,
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


def oscillation(rng, n, n_targets):
    """A noisy rhythm of 10 samples a cycle, which loses its phase within 20."""
    angle, radius = 2 * np.pi / 10, 0.95
    noise = rng.standard_normal((n + 200, n_targets))
    return lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], noise, axis=0)[200:]


def pink(rng, n, n_targets):
    """1/f noise, a stretch of a series four times as long."""
    frequency = np.arange(2 * n + 1)
    size = np.where(frequency, np.maximum(frequency, 1) ** -0.5, 0.0)[:, None]
    phases = rng.standard_normal((2, 2 * n + 1, n_targets))
    return fft.irfft(size * (phases[0] + 1j * phases[1]), 4 * n, axis=0)[:n]


def scanner(rng, n, n_targets):
    """1/f and white noise after drift was taken out, as in fMRI: cosines slower than 64 samples a cycle."""
    x = pink(rng, n, n_targets)
    x = x / x.std() + 0.7 * rng.standard_normal(x.shape)
    drift, _ = np.linalg.qr(np.cos(np.pi * (np.arange(n)[:, None] + 0.5) * np.arange(n // 32 + 1) / n))
    return x - drift @ (drift.T @ x)


NOISE = {
    "white": lambda *size: ar1(*size, 0.0),
    "AR(1) 0.5": lambda *size: ar1(*size, 0.5),
    "AR(1) 0.9": lambda *size: ar1(*size, 0.9),
    "rhythm": oscillation,
    "1/f": pink,
    "1/f less drift": scanner,
}


def repeat(draws, seed, one, targets=1):
    """Hits of independent data sets, each from its own seed and of so many targets, and how many that were."""
    hits = np.array([one(np.random.default_rng([seed, k])) for k in range(-(-draws // targets))])
    return hits, len(hits) * targets


def line(what, promise, hits, draws, *, misses=False, at_most=False):
    """Print a rate with its standard error: between data sets where `hits` has one number for each."""
    rate = np.sum(hits) / draws
    error = np.std(hits) * np.sqrt(np.size(hits)) / draws if np.size(hits) > 1 else np.sqrt(rate * (1 - rate) / draws)
    low, high = (0.6, 1.4) if misses else (0.8, 1.2)
    ok = (at_most or low * promise <= rate) and rate <= high * promise
    verdict = "" if what.startswith("(") else "ok" if ok else "OFF"
    print(f"{what:<72} {promise:6.3f} {rate:8.4f} {error:7.4f}  {verdict}", flush=True)


def head(title):
    print(f"{title:<72} {'should':>6} {'measured':>8} {'s.e.':>7}", flush=True)


def false_positives(draws, *, noise="white", scheme, block=None, scorer="r", n_runs=4, length=150, targets=10):
    """p <= 0.05 where prediction and response have nothing in common."""
    runs, make = np.repeat(np.arange(n_runs), length), NOISE[noise]

    def one(rng):
        y, p = (np.vstack([make(rng, length, targets) for _ in range(n_runs)]) for _ in range(2))
        options = {"groups": runs, "folds": runs, "scorer": scorer, "n_permutations": 199, "random_state": rng}
        return int((permutation_test(y, p, scheme=scheme, block=block, **options).p.values <= 0.05).sum())

    return repeat(draws, 11, one, targets)


def cross_validated(draws, *, refit, targets=20, features=12, samples=100):
    """p <= 0.05 and <= 0.01 of cross-validated ridge scores where features and responses have nothing in common.

    ``refit=False`` holds the predictions fixed and rearranges the held-out responses, for contrast.
    """

    def one(rng):
        X, y = rng.standard_normal((samples, features)), rng.standard_normal((samples, targets))
        options = {"test": "permutation", "n_permutations": 99} if refit else {}
        result = cross_validate(RidgeEncoder(), X, y, random_state=rng, **options)
        if refit:
            p = result.p.values
        else:
            held = result.data
            fixed = permutation_test(
                held["observed"], held["prediction"], folds="fold_id", n_permutations=199, random_state=rng
            )
            p = fixed.p.values
        return [int((p <= level).sum()) for level in (0.05, 0.01)]

    return repeat(draws, 17, one, targets)


def cross_validated_runs(draws, *, noise, scheme, targets=5, features=6, n_runs=4, length=80):
    """p <= 0.05 of runs left out in turn, features and responses autocorrelated; and of any target, corrected."""
    make, n = NOISE[noise], n_runs * length
    coords = {"time": np.arange(n) / 10.0, "run": ("time", np.repeat(np.arange(n_runs), length))}

    def one(rng):
        X, y = (
            xr.DataArray(
                np.vstack([make(rng, length, width) for _ in range(n_runs)]),
                dims=("time", dim),
                coords=coords,
                attrs={"sfreq": 10.0},
            )
            for dim, width in (("unit", features), ("voxel", targets))
        )
        result = cross_validate(RidgeEncoder(), X, y, cv="run", test=scheme, n_permutations=59, random_state=rng)
        return [int((result.p.values <= 0.05).sum()), bool((result.p_fwer.values <= 0.05).any())]

    return repeat(draws, 24, one, targets)


def cross_validated_repeats(draws, *, targets=20, features=6, stimuli=40):
    """p <= 0.05 where stimuli were shown twice, share a feature and respond alike, but not because of the features."""
    ids = np.repeat([f"s{k:02d}" for k in range(stimuli)], 2)

    def one(rng):
        shared = rng.standard_normal((stimuli, targets)).repeat(2, 0)
        values = {"unit": rng.standard_normal((stimuli, features)).repeat(2, 0)}
        values["voxel"] = shared + rng.standard_normal(shared.shape)
        X, y = (
            xr.DataArray(v, dims=("trial", dim), coords={"stimulus_id": ("trial", ids)}) for dim, v in values.items()
        )
        result = cross_validate(RidgeEncoder(), X, y, test="permutation", n_permutations=99, random_state=rng)
        return int((result.p.values <= 0.05).sum())

    return repeat(draws, 25, one, targets)


def family_wise(draws, *, mixing, targets=30, real=0):
    """Any false p by the maximum; any false q <= 0.05; and the share of false ones among q <= 0.05.

    599 arrangements, so that 0.05 / 30 is a p that can come out; with fewer of them FDR is conservative.
    """

    def one(rng):
        mix = mixing * rng.standard_normal((targets, targets)) + np.eye(targets)
        y, p = rng.standard_normal((40, targets)) @ mix, rng.standard_normal((40, targets))
        p[:, :real] += y[:, :real]
        out = permutation_test(y, p, scorer="r", n_permutations=599, random_state=rng)
        found, false = fdr_bh(out.p.values) <= 0.05, np.arange(targets) >= real
        return [(out.p_max.values <= 0.05)[false].any(), found[false].any(), found[false].sum() / max(1, found.sum())]

    return repeat(draws, 12, one)


def two_models(rng, n, targets, noise, gain):
    signal, *errors = (NOISE[noise](rng, n, targets) for _ in range(4))
    return signal + errors[0], signal + (1 - gain) * errors[1], signal + errors[2]


def true_difference(scorer, gain):
    """Of the scores of `two_models`: signal and errors have the same variance."""
    left = (1 - gain) ** 2
    return (1 + left) ** -0.5 * 0.5**0.5 - 0.5 if scorer == "r" else (1 - left) / 2


def bootstrap(draws, *, noise="white", blocks=1, n, scorer="r2", gain=0.0, folds=1, region=False, targets=20):
    """Misses of the 95 % interval and p <= 0.05, for two models; the first has `gain` less error."""
    truth, fold = true_difference(scorer, gain), np.arange(n) * folds // n

    def one(rng):
        y, a, b = two_models(rng, n, targets, noise, gain)
        options = {"regions": np.arange(targets) // (targets // 2)} if region else {}
        out = bootstrap_compare(
            y, a, b, blocks=blocks, folds=fold, scorer=scorer, n_bootstraps=399, random_state=rng, **options
        )
        (low, high), p = (out["region_ci"], out["region_p"]) if region else (out["ci"], out["p"])
        return [int(((low > truth) | (high < truth)).sum()), int((p <= 0.05).sum())]

    if region:
        return repeat(draws, 13, one, 2)
    return repeat(draws, 13, one, targets)


def subject_maps(rng, n_subjects, shape, effect=0.0, smooth=2.0):
    values = gaussian_filter1d(rng.standard_normal((n_subjects, *shape)), smooth, axis=-1)
    values /= values.std()
    values[:, : max(1, shape[0] // 2), shape[1] // 3 : shape[1] // 2] += effect
    return xr.DataArray(values, dims=("subject", "channel", "time"))


def clusters(draws, *, n_subjects, shape, threshold=None, effect=0.0, tail="greater"):
    """Any cluster (or enhanced point) of p <= 0.05, over time and neighbouring channels."""
    chain = sparse.diags([1.0, 1.0], [-1, 1], shape=(shape[0], shape[0])) if shape[0] > 1 else "none"

    def one(rng):
        options = {"threshold": threshold, "tail": tail, "n_permutations": 99, "random_state": rng}
        found = cluster_test(subject_maps(rng, n_subjects, shape, effect), adjacency=chain, **options)
        return bool((found.p.values <= 0.05).any())

    return repeat(draws, 18, one)


def clusters_of_permuted_scores(draws, times=40, **options):
    """The same for one subject, whose predictions of autocorrelated responses are shifted in a circle."""

    def one(rng):
        y, p = (gaussian_filter1d(ar1(rng, 120, times, 0.7), 2, axis=1) for _ in range(2))
        y, p = (xr.DataArray(v, dims=("trial", "time")) for v in (y, p))
        shifts = {"scheme": "circular", "scorer": "r", "n_permutations": 99, "random_state": rng}
        found = cluster_test(permutation_test(y, p, keep_null=True, **shifts), **options)
        return bool((found.p.values <= 0.05).any())

    return repeat(draws, 19, one)


class Quick(BaseEstimator):
    """Ridge with an intercept, without any checks, for thousands of fits."""

    def __init__(self, penalty=10):
        self.penalty = penalty

    def fit(self, X, y):
        self.x_, self.y_ = X.mean(0), y.mean(0)
        X = X - self.x_
        self.coef_ = np.linalg.solve(X.T @ X + self.penalty * np.eye(X.shape[1]), X.T @ y)
        return self

    def predict(self, X):
        return (X - self.x_) @ self.coef_ + self.y_


def networks(rng, *, n, n_layers, units=6, targets=20, advantage=0.0, phi=0.0, signal=1.0):
    """Layers of a network and of a control, which is as good (or worse), and responses; all targets alike."""
    latent = ar1(rng, n, units, phi)
    pair = [
        {f"layer{k}": strength * latent + ar1(rng, n, units, phi) for k in range(n_layers)}
        for strength in (1 + advantage, 1)
    ]
    weights = rng.standard_normal((units, targets))
    weights *= np.sqrt(units) / np.linalg.norm(weights, axis=0)
    return *pair, signal * latent @ weights + 3 * ar1(rng, n, targets, phi)


def selection(
    draws, *, folds=5, named=False, truth=0.0, scorer="r2", per="target", blocks=1, targets=20, penalty=10, **design
):
    """By draw: misses of the 95 % interval and p <= 0.05, of the chosen layer against a control's or a named one."""
    misses, hits, options = [], [], {"cv": folds, "scorer": scorer, "per": per, "inner": 3, "blocks": blocks}
    for draw in range(max(1, draws // targets)):
        rng = np.random.default_rng([20, draw])
        trained, control, y = networks(rng, targets=targets, **{"n": 150, "n_layers": 4} | design)
        rival = "layer0" if named else control
        out = select_model(Quick(penalty), trained, y, rival=rival, random_state=rng, **options)
        low, high = out.ci.values
        misses.append(((low > truth) | (high < truth)).mean())
        hits.append((out.p.values <= 0.05).mean())
    return np.array(misses), np.array(hits)


def mean_difference(draws, *, folds=5, scorer="r2", per="target", targets=20, **design):
    """Mean over many data sets of what `selection` estimates."""
    found = []
    for draw in range(max(1, draws // targets)):
        trained, control, y = networks(np.random.default_rng([24, draw]), targets=targets, **design)
        options = {"cv": folds, "scorer": scorer, "per": per, "inner": 3, "n_halvings": 2}
        found.append(select_model(Quick(), trained, y, rival=control, **options).difference.values.mean())
    return float(np.mean(found))


def two_fixed(draws, *, n, scorer, folds=5, targets=20, penalty=10, blocks=1, **design):
    """The same for two models without any choice."""
    misses, hits = [], []
    for draw in range(max(1, draws // targets)):
        rng = np.random.default_rng([25, draw])
        one, other, y = networks(rng, n=n, n_layers=1, targets=targets, **design)
        pair = [(Quick(penalty), layers["layer0"]) for layers in (one, other)]
        out = compare_models(*pair, y, cv=folds, scorer=scorer, blocks=blocks, random_state=rng)
        low, high = out.ci.values
        misses.append(((low > 0) | (high < 0)).mean())
        hits.append((out.p.values <= 0.05).mean())
    return np.array(misses), np.array(hits)


def response_functions(draws, *, noise, n_runs, length=150, targets=10):
    """Share of lags and targets by draw, where the interval does not hold the response; features autocorrelated."""
    weights, misses = np.array([0.0, 0.5, 1.0, 0.5, -0.5, 0.0]), []
    coords = {"time": np.arange(n_runs * length) / 100, "run": ("time", np.repeat(np.arange(n_runs), length))}
    for draw in range(max(1, draws // targets)):
        rng = np.random.default_rng([28, draw])
        x = np.vstack([NOISE[noise](rng, length, 1) for _ in range(n_runs)])
        y = [lfilter(weights, [1.0], run, axis=0) for run in np.split(x, n_runs)]
        y = np.vstack([run + NOISE[noise](rng, length, targets) for run in y])
        X, Y = (
            xr.DataArray(values, dims=("time", dim), coords=coords, attrs={"sfreq": 100.0})
            for values, dim in ((x, "unit"), (y, "channel"))
        )
        model = TRFEncoder(tmin=0.0, tmax=0.05, alphas=[1e-6]).fit(X, Y)
        low, high = model.response_interval(X, Y, random_state=rng).values[:, 0]
        misses.append(((low > weights[:, None]) | (high < weights[:, None])).mean())
    return np.array(misses)


def inflation(draws, *, n=100, n_layers=8, units=5):
    rng = np.random.default_rng(21)
    layers = {f"layer{k}": rng.standard_normal((n, units)) for k in range(n_layers)}
    out = select_model(Ridge(), layers, rng.standard_normal((n, draws)), cv=5, inner=3, scorer="r")
    naive, ours = float(out.candidate_score.max("candidate").mean()), float(out.score.mean())
    print(f"null data, best r of {n_layers} layers: naive {naive:.3f}, chosen inside the training samples {ours:.3f}")


def centres(draws, *, n_subjects, skewed=False, targets=20):
    """Misses of the interval of the centre of mass; targets have noise of their own."""
    depths = np.arange(8)
    shape = 1 + np.exp(-((depths - 4.2) ** 2) / 4)
    truth = (shape * depths).sum() / shape.sum()

    def one(rng):
        size = (8, n_subjects, targets)
        noise = rng.exponential(size=size) - 1 if skewed else rng.standard_normal(size)
        scores = xr.DataArray(shape[:, None, None] + 0.5 * noise, dims=("layer", "subject", "voxel"))
        low, high = centre_of_mass(scores, over="subject").ci.values
        return int(((low > truth) | (high < truth)).sum())

    return repeat(draws, 22, one, targets)


def correlated(draws, scheme, noise):
    def run(effect):
        def one(rng):
            y, p = (NOISE[noise](rng, 300, 50) for _ in range(2))
            out = permutation_test(y, p + effect * y, scheme=scheme, scorer="r", n_permutations=199, random_state=rng)
            return int((out.p.values <= 0.05).sum())

        return repeat(draws, 23, one, 50)

    return run


def choice_power(draws, **design):
    hits = selection(draws, n_layers=2, **design)[1]
    return hits.sum(), len(hits)


def power(draws):
    print(f"{'power at .05 against the size of the effect':<56}" + "".join(f"{k:>8}" for k in range(5)) + "   step")
    few = max(100, draws // 10)

    def compared(**options):
        def run(effect):
            hits, done = bootstrap(draws // 2, gain=effect, **options)
            return hits[:, 1], done

        return run

    mapped = {"n_subjects": 16, "shape": (4, 40)}
    for what, step, run in (
        ("shuffle, 300 samples, weight in r", 0.05, correlated(draws, "shuffle", "white")),
        ("circular, 300 samples of AR(1) 0.5, weight in r", 0.1, correlated(draws, "circular", "AR(1) 0.5")),
        ("circular, 300 samples of AR(1) 0.9, weight in r", 0.1, correlated(draws, "circular", "AR(1) 0.9")),
        ("r2 of two models, 100 samples, less error", 0.2, compared(n=100)),
        ("r2, 20 blocks of 20, AR(1) 0.5, less error", 0.1, compared(noise="AR(1) 0.5", blocks=20, n=400)),
        ("cluster mass, 16 subjects, 4 x 40, height in sd", 0.2, lambda e: clusters(few, effect=e, **mapped)),
        ("TFCE, the same", 0.2, lambda e: clusters(few, effect=e, threshold="tfce", **mapped)),
        ("chosen layer against a control, stronger by", 0.25, lambda e: choice_power(few, advantage=e)),
    ):
        rates = [np.sum(hits) / done for hits, done in (run(k * step) for k in range(5))]
        print(f"{what:<56}" + "".join(f"{rate:8.3f}" for rate in rates) + f"   {step:g}", flush=True)


def repeated(rng, ids, size, snr, habituation=0.0):
    """Signal and responses to stimuli presented several times; later presentations may get weaker responses."""
    n_stimuli = ids.max() + 1
    signal = rng.standard_normal((n_stimuli, size)) * np.sqrt(snr)
    turn = np.arange(len(ids)) - np.searchsorted(ids, ids)
    return signal, signal[ids] - habituation * turn[:, None] + rng.standard_normal((len(ids), size))


def ceilings(draws):
    from neuroalign.evaluation.ceilings import CEILINGS

    print(f"{'ceiling: mean of estimates against the truth':<62} {'truth':>7} {'mean':>8} {'s.e.':>7} {'off by':>8}")
    worst = dict.fromkeys(CEILINGS, (0.0, ""))
    for n_stimuli in (50, 200, 1000):
        for repeats in (2, 5, "2-6"):
            counts = np.arange(n_stimuli) % 5 + 2 if repeats == "2-6" else np.full(n_stimuli, repeats)
            ids = np.repeat(np.arange(n_stimuli), counts)
            for snr in (0.2, 0.5, 2.0):
                # Estimates of low ceilings from few stimuli spread the most.
                size = int(draws * min(4, 400 / n_stimuli))
                rng = np.random.default_rng([14, n_stimuli, len(ids)])
                signal, y = repeated(rng, ids, size, snr)
                truth = snr / (snr + np.mean(1 / counts))
                for method in CEILINGS:
                    got = noise_ceiling(y, repeats=ids, method=method, n_splits=10, random_state=0).values
                    name = f"{method}, {n_stimuli} stimuli, {repeats} repeats, SNR {snr}"
                    off = got.mean() / truth - 1
                    worst[method] = max(worst[method], (abs(off), name))
                    if n_stimuli == 200 and snr == 0.5:
                        spread = got.std() / np.sqrt(size)
                        print(f"{name:<62} {truth:7.3f} {got.mean():8.4f} {spread:7.4f} {off:8.2%}", flush=True)
    for off, name in worst.values():
        print(f"worst of 27 designs: {off:.2%} ({name})  {'ok' if off <= 0.02 else 'OFF'}")
    ids, few = np.repeat(np.arange(200), 4), draws // 2
    signal, y = repeated(np.random.default_rng(26), ids, few, 0.5)
    average = y.reshape(200, 4, few).mean(axis=1)
    r = np.einsum("st,st->t", average - average.mean(0), signal - signal.mean(0)) / 200
    r = r / average.std(axis=0) / signal.std(axis=0)
    print(f"\n{'what it means: 200 stimuli, 4 repeats, SNR 0.5':<62} {'truth':>7} {'mean':>8}")
    both = {
        "the true signal's R2 (pooled) with the averages": 1 - np.mean((average - signal) ** 2) / np.mean(average**2),
        "the true signal's r with the averages, squared": np.mean(r**2),
        "explainable_variance": noise_ceiling(y, repeats=ids, method="explainable_variance").values.mean(),
        "cc_max, squared, by scorer='r'": np.mean(noise_ceiling(y, repeats=ids, method="cc_max", scorer="r") ** 2),
    }
    for what, value in both.items():
        print(f"{what:<62} {0.5 / 0.75:7.3f} {value:8.4f}")
    for level, k in (("single", 1), (10, 10)):
        got = noise_ceiling(y, repeats=ids, method="ncsnr", level=level).values.mean()
        print(f"{f'ncsnr, level={level!r}':<62} {0.5 / (0.5 + 1 / k):7.3f} {got:8.4f}")
    _, y = repeated(np.random.default_rng(27), ids, few, 0.5, habituation=0.5)
    for method in ("cc_max", "explainable_variance"):
        got = noise_ceiling(y, repeats=ids, method=method).values.mean()
        note = "" if method == "cc_max" else ": takes it for noise"
        print(f"{f'{method}, responses 0.5 sd weaker each time{note}':<62} {0.5 / 0.75:7.3f} {got:8.4f}", flush=True)


def permutations(draws):
    head("permutation_test: no effect, p <= 0.05")
    for scorer in ("r", "r2", "ev"):
        what = f"shuffle, 4 folds of 25 independent samples, {scorer}"
        line(what, 0.05, *false_positives(draws, scheme="shuffle", scorer=scorer, length=25))
    for noise in ("AR(1) 0.5", "AR(1) 0.9", "rhythm", "1/f less drift"):
        line(f"circular, {noise}, 4 runs of 150", 0.05, *false_positives(draws, noise=noise, scheme="circular"))
        what, once = f"circular, {noise}, 1 run of 600", {"n_runs": 1, "length": 600}
        line(what, 0.05, *false_positives(draws, noise=noise, scheme="circular", **once))
    for noise, block in (("AR(1) 0.5", 10), ("AR(1) 0.5", 30), ("1/f less drift", 50)):
        what = f"block of {block}, {noise}, 4 runs of 150"
        line(what, 0.05, *false_positives(draws, noise=noise, scheme="block", block=block))
    for what, options in (
        ("1/f with its drift, circular, 4 runs of 150", {"noise": "1/f", "scheme": "circular"}),
        ("short runs: circular, AR(1) 0.9, 12 of 50", {"noise": "AR(1) 0.9", "scheme": "circular", "n_runs": 12}),
        ("short blocks: of 10, AR(1) 0.9", {"noise": "AR(1) 0.9", "scheme": "block", "block": 10}),
        ("less short blocks: of 30, AR(1) 0.9", {"noise": "AR(1) 0.9", "scheme": "block", "block": 30}),
        ("shuffled time series, AR(1) 0.5", {"noise": "AR(1) 0.5", "scheme": "shuffle"}),
        ("shuffled time series, AR(1) 0.9", {"noise": "AR(1) 0.9", "scheme": "shuffle"}),
    ):
        line(f"({what})", 0.05, *false_positives(draws, length=50 if "of 50" in what else 150, **options))


def many(draws):
    head("many targets: permutation_test and fdr_bh")
    one = draws // 2
    for what, mixing in (("independent", 0.0), ("correlated", 0.2)):
        hits, done = family_wise(one, mixing=mixing)
        line(f"maximum statistic, any of 30 {what} targets", 0.05, hits[:, 0], done)
        sure = {"at_most": True} if mixing else {}
        line(f"FDR, any of 30 {what} targets{' (at most)' if mixing else ''}", 0.05, hits[:, 1], done, **sure)
    hits, done = family_wise(one, mixing=0.0, real=10)
    line("FDR, false share of what is found, 10 of 30 real (20/30 of .05)", 0.05 * 20 / 30, hits[:, 2], done)


def refits(draws):
    head("cross_validate(test=...): no effect, the model fitted again")
    fitted, fixed = (cross_validated(2 * draws, refit=refit) for refit in (True, False))
    for k, level in enumerate((0.05, 0.01)):
        line(f"ridge, 5 folds, 100 samples, p <= {level}", level, fitted[0][:, k], fitted[1])
        line(f"(the same with predictions held fixed, p <= {level})", level, fixed[0][:, k], fixed[1])
    line("stimuli shown twice, exchanged as pairs", 0.05, *cross_validated_repeats(draws))
    settings = (("circular", "AR(1) 0.5"), ("circular", "AR(1) 0.9"), ("block", "AR(1) 0.5"))
    anywhere = []
    for scheme, noise in settings:
        hits, done = cross_validated_runs(draws, noise=noise, scheme=scheme)
        line(f"{scheme}, {noise}, 4 runs of 80 left out in turn", 0.05, hits[:, 0], done)
        anywhere.extend(hits[:, 1])
    line("all of these: any of 5 targets, p_fwer", 0.05, anywhere, len(anywhere))


def comparisons(draws):
    head("bootstrap_compare: misses of the 95 % interval, and p <= 0.05 of equal models")
    for noise, blocks, n in (
        ("white", 1, 20),
        ("white", 1, 100),
        ("AR(1) 0.5", 20, 400),
        ("AR(1) 0.9", 40, 1600),
        ("rhythm", 40, 1600),
        ("1/f less drift", 60, 1200),
    ):
        for scorer in ("r2", "ev", "r"):
            what = f"{scorer}, {noise}, {n // blocks} blocks of {blocks}"
            setting = {"noise": noise, "blocks": blocks, "n": n, "scorer": scorer}
            hits, done = bootstrap(draws, **setting)
            line(f"equal models, {what}: p <= 0.05", 0.05, hits[:, 1], done)
            hits, done = bootstrap(draws, gain=0.4, **setting)
            line(f"one is better, {what}: misses", 0.05, hits[:, 0], done, misses=True)
    for what, setting in (
        ("r2, 5 folds of 20 samples", {"n": 100, "folds": 5}),
        ("r, 5 folds of 20 samples", {"n": 100, "folds": 5, "scorer": "r"}),
        ("r2, 6 runs of 50, AR(1) 0.5, Student's t", {"n": 300, "blocks": 50, "noise": "AR(1) 0.5"}),
        ("r2, mean of a region of 10, 100 samples", {"n": 100, "region": True}),
    ):
        hits, done = bootstrap(draws, **setting)
        line(f"equal models, {what}: p <= 0.05", 0.05, hits[:, 1], done)
        hits, done = bootstrap(draws, gain=0.4, **setting)
        line(f"one is better, {what}: misses", 0.05, hits[:, 0], done, misses=True)


def singles(draws):
    head("bootstrap_compare of single targets")
    for what, setting in (
        ("20 samples", {"n": 20}),
        ("AR(1) 0.9, 40 blocks of 40", {"n": 1600, "blocks": 40, "noise": "AR(1) 0.9"}),
    ):
        hits, done = bootstrap(draws, targets=1, **setting)
        line(f"equal models, r2, {what}: p <= 0.05", 0.05, hits[:, 1], done)
        hits, done = bootstrap(draws, targets=1, gain=0.4, **setting)
        line(f"one is better, r2, {what}: misses", 0.05, hits[:, 0], done, misses=True)


def maps(draws):
    head("cluster_test: any p <= 0.05 where there is nothing")
    few = draws // 2
    for n_subjects, shape, tail in ((8, (1, 60), "greater"), (16, (6, 30), "greater"), (20, (6, 30), "both")):
        what = f"cluster mass, {n_subjects} subjects, {shape[0]} x {shape[1]} channels and times, {tail}"
        line(what, 0.05, *clusters(few, n_subjects=n_subjects, shape=shape, tail=tail))
    for tail in ("less", "both"):
        what = f"TFCE, 12 subjects, 4 x 20 channels and times, {tail}"
        line(what, 0.05, *clusters(few, n_subjects=12, shape=(4, 20), threshold="tfce", tail=tail))
    line("cluster mass of shifted scores, AR(1) 0.7, 40 times", 0.05, *clusters_of_permuted_scores(draws))
    line("TFCE of shifted scores, the same", 0.05, *clusters_of_permuted_scores(draws, threshold="tfce"))


def choices(draws):
    head("select_model")
    for what, times, design in (
        ("4 layers, 150 samples", 1, {}),
        ("the same, r", 1, {"scorer": "r"}),
        ("8 layers, 400 samples, 2 folds", 1, {"n_layers": 8, "n": 400, "folds": 2}),
        ("2 layers, 60 samples", 1, {"n_layers": 2, "n": 60}),
        ("2 layers, 150 samples, 10 folds, r", 1, {"n_layers": 2, "folds": 10, "scorer": "r"}),
        ("the same, 3 folds", 1, {"n_layers": 2, "folds": 3, "scorer": "r"}),
        ("one choice for all, 3 folds", 1, {"per": "all", "folds": 3}),
        ("AR(1) 0.5, 400 samples, blocks of 10, 4 folds", 1, {"phi": 0.5, "n": 400, "blocks": 10, "folds": 4}),
        ("no signal", 2, {"signal": 0.0}),
        ("the same, 2 layers", 4, {"n_layers": 2, "signal": 0.0}),
        ("no signal, 2 layers, r", 2, {"n_layers": 2, "signal": 0.0, "scorer": "r"}),
        ("the same, penalty 1000", 2, {"n_layers": 2, "signal": 0.0, "scorer": "r", "penalty": 1000}),
        ("a named candidate", 1, {"named": True}),
    ):
        # Without signal a fixed part is left, so that rates lie close to the ends of what is promised: more draws.
        hits = selection(times * draws, **design)[1]
        line(f"against an equal rival, {what}: p <= 0.05", 0.05, hits, len(hits))
    hits = selection(draws, n_layers=2, n=60, folds=2)[1]
    line("(against an equal rival, 2 layers, 60 samples, 2 folds: p <= 0.05)", 0.05, hits, len(hits))


def pairs(draws):
    head("select_model, intervals; compare_models")
    for scorer in ("r2", "r"):
        design = {"n": 150, "n_layers": 2, "advantage": 1.0, "scorer": scorer}
        truth = mean_difference(10 * draws, **design)
        missed = selection(draws, truth=truth, **design)[0]
        line(f"against a worse control, {scorer}: interval misses", 0.05, missed, len(missed), misses=True)
    # Cheap, and close to the ends of what is promised: more draws.
    for what, design in (
        ("60 samples, r", {"n": 60, "scorer": "r"}),
        ("60 samples, R2, 3 folds", {"n": 60, "scorer": "r2", "folds": 3}),
        ("150 samples, R2", {"n": 150, "scorer": "r2"}),
        ("150 samples, R2, 10 folds", {"n": 150, "scorer": "r2", "folds": 10}),
        ("400 samples, r", {"n": 400, "scorer": "r"}),
        ("no signal, 150 samples, r", {"n": 150, "scorer": "r", "signal": 0.0}),
        ("no signal, 150 samples, R2", {"n": 150, "scorer": "r2", "signal": 0.0}),
        ("no signal, R2, penalty 1000", {"n": 150, "scorer": "r2", "signal": 0.0, "penalty": 1000}),
        ("no signal, r, penalty 1000", {"n": 150, "scorer": "r", "signal": 0.0, "penalty": 1000}),
    ):
        hits = two_fixed(4 * draws, **design)[1]
        line(f"two models without a choice, {what}: p <= 0.05", 0.05, hits, len(hits))
    hits = two_fixed(4 * draws, n=60, scorer="r2", folds=2)[1]
    line("(two models without a choice, 60 samples, R2, 2 folds)", 0.05, hits, len(hits))
    inflation(draws)


def series(draws):
    head("compare_models of time series: equal models, p <= 0.05")
    for what, design in (
        ("AR(1) 0.5, 400 samples, blocks of 10, R2", {"phi": 0.5, "n": 400, "blocks": 10, "scorer": "r2"}),
        ("the same, r", {"phi": 0.5, "n": 400, "blocks": 10, "scorer": "r"}),
        ("AR(1) 0.9, 1600 samples, blocks of 40, R2", {"phi": 0.9, "n": 1600, "blocks": 40, "scorer": "r2"}),
        ("the same, r", {"phi": 0.9, "n": 1600, "blocks": 40, "scorer": "r"}),
        ("(AR(1) 0.9, 400 samples, blocks of 40, R2: 10 blocks)", {"phi": 0.9, "n": 400, "blocks": 40, "scorer": "r2"}),
        ("(AR(1) 0.5, 400 single samples, R2)", {"phi": 0.5, "n": 400, "scorer": "r2"}),
        ("(AR(1) 0.9, 400 single samples, R2)", {"phi": 0.9, "n": 400, "scorer": "r2"}),
    ):
        hits = two_fixed(draws, folds=4, **design)[1]
        line(what, 0.05, hits, len(hits))


def responses(draws):
    head("TRFEncoder.response_interval: misses of the 95 % interval, penalty next to nothing")
    for what, setting in (
        ("5 runs of 150, white noise", {"noise": "white", "n_runs": 5}),
        ("8 runs of 150, AR(1) 0.5", {"noise": "AR(1) 0.5", "n_runs": 8}),
        ("8 runs of 150, rhythm", {"noise": "rhythm", "n_runs": 8}),
        ("20 runs of 150, AR(1) 0.9", {"noise": "AR(1) 0.9", "n_runs": 20}),
        ("one run of 1000, AR(1) 0.5", {"noise": "AR(1) 0.5", "n_runs": 1, "length": 1000}),
    ):
        hits = response_functions(draws, **setting)
        line(what, 0.05, hits, len(hits), misses=True)


def depths(draws):
    head("centre_of_mass: misses of the 95 % interval")
    for n_subjects in (3, 5, 8, 12, 20):
        line(f"{n_subjects} subjects", 0.05, *centres(draws, n_subjects=n_subjects), misses=True)
    for n_subjects in (5, 20):
        what = f"{n_subjects} subjects, skewed noise"
        line(what, 0.05, *centres(draws, n_subjects=n_subjects, skewed=True), misses=True)


READING = {
    "responses": """The share of intervals that do not hold the true response at a lag.""",
    "permutations": """Predictions and responses have nothing in common: one p in twenty should be 0.05 or less.
Brackets: what a scheme is not for (drift, runs or blocks hardly longer than the noise remembers, rows of a series).""",
    "many": """How often anything at all is found among 30 targets without an effect, and the share of false ones among
what is found where 10 of them have one. FDR of correlated targets may be on the safe side.""",
    "refits": """The same for whole cross-validations, in which the model is fitted again to every arrangement.
Brackets: predictions held fixed, which cross_validate does only with a single fold.""",
    "comparisons": """Equal models: the share of p of 0.05 or less. One is better (errors 0.6 as large): the share of
intervals that do not hold the true difference.""",
    "singles": """The same where every test has a data set of its own.""",
    "maps": """Maps of noise, smooth in time: how often any cluster or point is called significant.""",
    "choices": """An untrained control is as good as the network: how often the chosen layer is called better.
Brackets: too few samples to halve.""",
    "pairs": """The control is worse: the share of intervals that do not hold the true difference. Two models are as
good as each other: how often one is called better (brackets: too few samples to halve). Then what the best of many
useless layers seems to score, and what it does.""",
    "series": """Two models are as good as each other, features and responses autocorrelated: how often one is called
better. Brackets: too few blocks, and samples taken for independent.""",
    "depths": """The share of intervals that do not hold the true centre of mass of the layers.""",
    "ceilings": """Means of many estimates against the truth; the least favourable design of each; then whether the
ceiling is what the true signal reaches.""",
    "power": """How often effects of growing size are found. Column 0 is without an effect; the step is at the end.""",
}
PARTS = {
    "permutations": permutations,
    "many": many,
    "refits": refits,
    "comparisons": comparisons,
    "singles": singles,
    "maps": maps,
    "choices": choices,
    "pairs": pairs,
    "series": series,
    "responses": responses,
    "depths": depths,
    "ceilings": ceilings,
    "power": power,
}


def main(draws=4000, *parts):
    start = time.process_time()
    for part in parts or PARTS:
        print(f"{READING[part]} {draws} draws.\n")
        PARTS[part](draws)
        print()
    print(f"{time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
