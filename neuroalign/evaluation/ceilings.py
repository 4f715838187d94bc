"""Noise ceilings: how well the best possible model could score, estimated from repeated presentations.

The measured response to stimulus *s* in repeat *i* is taken as ``signal_s + noise_si`` with independent noise. The
**reliability** of an average over *k* repeats is the fraction of its variance across stimuli that the stimulus
drives::

    reliability = var(signal) / (var(signal) + var(noise) / k)

It is what a perfect model of the signal reaches in R2; its square root is what it reaches in Pearson r.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.evaluation._labels import STIMULUS_NAMES, codes, find_stimulus, named
from neuroalign.evaluation._targets import matrix, restore, template, tiles
from neuroalign.schema import sample_dim

__all__ = ["CEILINGS", "noise_ceiling", "normalise"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def noise_ceiling(
    y: Any,
    *,
    repeats: str | ArrayLike = "stimulus_id",
    method: str = "split_half_sb",
    n_splits: int = 100,
    random_state: int | np.random.Generator | None = None,
    level: str | float = "average",
    scorer: str = "r2",
    bias_corrected: bool = True,
) -> xr.DataArray:
    """Estimate the best score that any model could reach, per target, from repeats.

    Parameters
    ----------
    y : DataArray or array_like
        Responses, samples along the sample dimension (or the first axis), any target dimensions.
    repeats : str or array_like, default "stimulus_id"
        What was presented: the name of a coordinate along the samples, or one label a sample; samples with the same
        label are repeats. Or the name of a dimension of `y` that counts repeats. Their number may differ between
        stimuli.
    method : {"split_half_sb", "explainable_variance", "cc_max", "ncsnr"}
        ``split_half_sb``: the correlation across stimuli of the averages of two random halves of the repeats, mean
        over `n_splits` halvings, brought to the full number of repeats by the Spearman-Brown formula.
        ``explainable_variance``: analysis of variance; the variance of the averages minus the residual variance over
        the number of repeats, over the variance of the averages.
        ``cc_max``: signal power over the power of the averages, where what all stimuli share in their first, second,
        ... presentation (drift, habituation) counts as neither signal nor noise. ``scorer="r"`` gives CCmax itself.
        ``ncsnr``: the noise-ceiling signal-to-noise ratio of single trials from their total and their noise variance;
        the ceiling for k averaged trials is ``ncsnr**2 / (ncsnr**2 + 1 / k)``. From a ceiling c of ``level="single"``
        the ratio is ``sqrt(c / (1 - c))``. Nothing is rectified.
    n_splits : int, default 100
        Number of random halvings of ``split_half_sb``.
    random_state : int or numpy.random.Generator, optional
        Seeds the halvings.
    level : "average", "single" or a number, default "average"
        The ceiling for responses averaged over all repeats there are, for single presentations, or for averages over
        that many repeats.
    scorer : {"r2", "ev", "r"}, default "r2"
        For ``r2`` and ``ev`` the reliability; for ``r`` its square root.
    bias_corrected : bool, default True
        Take out that a ratio of estimated variances is too low on average; False gives the formulas as published.

    Returns
    -------
    DataArray
        The ceiling of each target, with the target labels of `y`. Negative reliabilities are kept (``r``: NaN), and
        nothing is clipped. NaN for targets that are constant or not finite.

    Raises
    ------
    SchemaError
        If no stimulus was presented twice.
    ConfigError
        If a name is not known.

    Notes
    -----
    Without the correction all methods are too low on average, by about ``2 * (1 - reliability) / n_stimuli``: a few
    hundredths with 100 stimuli, more than half of a low ceiling with 20. The correction is exact for normal data in
    ``explainable_variance`` and ``cc_max`` and close to it in the others. With equal numbers of repeats ``ncsnr`` then
    equals ``explainable_variance``.

    R2 within a test fold of n stimuli falls short of the reliability even for the true signal, on average by
    ``(1 - reliability) * (1 + 2 * reliability) / (n - 3)``, because its reference is the mean of these n responses.
    Use folds of many stimuli, the pooled score, or r.

    References
    ----------
    Spearman, C. (1910). Correlation calculated from faulty data. British Journal of Psychology, 3, 271-295.
    Sahani, M. & Linden, J. (2003). How linear are auditory cortical responses? NeurIPS 15.
    Hsu, A., Borst, A. & Theunissen, F. (2004). Quantifying variability in neural responses and its application for
    the validation of model predictions. Network 15, 91-109.
    Schoppe, O. et al. (2016). Measuring the performance of neural models. Frontiers in Comp. Neuroscience 10, 10.
    Allen, E. et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence.
    Nature Neuroscience 25, 116-126.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = np.repeat(rng.standard_normal((200, 1)), 4, axis=0)
    >>> y = signal + rng.standard_normal((800, 1))  # true reliability of the average: 1 / (1 + 1 / 4)
    >>> ceiling = noise_ceiling(y, repeats=np.repeat(np.arange(200), 4), method="explainable_variance")
    >>> bool(abs(ceiling[0] - 0.8) < 0.05)
    True
    """
    if method not in CEILINGS:
        raise ConfigError("Unknown noise ceiling.", expected=sorted(CEILINGS), got=method, where="method")
    values, number, turn, like = _repeated(y, repeats)
    counts = np.bincount(number)
    k = _level(level, counts)
    rng = np.random.default_rng(random_state)
    # The share of noise is 1 / F, whose mean is this much too high for normal data.
    shrink = (len(counts) - 3) / (len(counts) - 1) if len(counts) > 3 else np.nan
    shrink = shrink if bias_corrected else 1.0
    reliability = CEILINGS[method](values, number, k, turn=turn, n_splits=n_splits, rng=rng, shrink=shrink)
    out = restore(_for_scorer(reliability, scorer), like).rename("ceiling")
    mean_repeats = float(1 / np.mean(1 / counts))
    return out.assign_attrs(
        units="1", method=method, scorer=scorer, level=str(level), n_stimuli=len(counts), n_repeats=mean_repeats
    )


def normalise(
    score: xr.DataArray | ArrayLike, ceiling: xr.DataArray | ArrayLike, scorer: str = "r2", *, minimum: float = 0.05
) -> Any:
    """Divide scores by the best possible ones.

    R2 and explained variance are divided by the reliability, r by its square root.

    Parameters
    ----------
    score : DataArray or array_like
        Scores per target.
    ceiling : DataArray or array_like
        The ceiling of the same scorer, as `noise_ceiling` gives it.
    scorer : {"r2", "ev", "r"}, default "r2"
        What both are.
    minimum : float, default 0.05
        The least reliability; below it the ratio would mostly be noise and is NaN.

    Returns
    -------
    DataArray or ndarray
        The fraction of what can be explained; never clipped, so it can be negative or above 1.

    Examples
    --------
    >>> normalise(np.array([0.3, 0.3]), np.array([0.6, 0.01]))
    array([0.5, nan])
    """
    least = np.sqrt(minimum) if _check_scorer(scorer) == "r" else minimum
    if isinstance(ceiling, xr.DataArray):
        ratio = score / ceiling.where(ceiling >= least)
        return ratio.rename("normalised").assign_attrs(units="1", scorer=scorer, minimum=minimum)
    best = np.asarray(ceiling, dtype=np.float64)
    return np.asarray(score) / np.where(best >= least, best, np.nan)


def _repeated(y: Any, repeats: str | ArrayLike) -> tuple[NDArray[Any], Index, Index, xr.DataArray]:
    """Responses (n, t), for each row the number of the stimulus and of the repeat, and the template of the targets."""
    if isinstance(y, xr.DataArray) and isinstance(repeats, str) and repeats in y.dims and repeats != sample_dim(y):
        sample = sample_dim(y)
        y = y.transpose(sample, repeats, ...)
        like = template(y.isel({repeats: 0}, drop=True))
        labels = np.repeat(np.arange(y.sizes[sample]), y.sizes[repeats])
        values, turn = y.to_numpy().reshape(len(labels), -1), np.arange(len(labels)) % y.sizes[repeats]
        there = ~np.isnan(values).all(axis=1)  # stimuli with fewer repeats are filled up with NaN
        values, labels, turn = values[there], labels[there], turn[there]
    else:
        if isinstance(repeats, str) and repeats in STIMULUS_NAMES and find_stimulus(y) is None:
            raise _no_repeats("no stimulus labels along the samples")
        like, values, labels = template(y), matrix(y), named(repeats, y, role="repeats")
        turn = _turns(codes(labels, "repeats"))
    number = codes(labels, "repeats")
    if len(number) == number.max() + 1:
        raise _no_repeats(f"{len(number)} different labels for {len(number)} samples")
    return values, number, codes(turn, "repeats"), like


def _turns(number: Index) -> Index:
    """How often the stimulus of each row was there before."""
    order = np.argsort(number, kind="stable")
    turn = np.empty(len(number), dtype=np.int64)
    turn[order] = np.arange(len(number)) - np.searchsorted(number[order], number[order])
    return turn


def _no_repeats(got: str) -> SchemaError:
    return SchemaError(
        "A noise ceiling needs repeated presentations.",
        expected="at least one stimulus presented twice",
        got=got,
        where="repeats",
        fix="pass repeats= with a coordinate or labels that mark what was presented, or go without a ceiling",
    )


def _level(level: str | float, counts: Index) -> float:
    """Number of repeats averaged; with unequal numbers their harmonic mean, which gives the mean noise variance."""
    if level == "average":
        return float(1 / np.mean(1 / counts))
    if level == "single":
        return 1.0
    if isinstance(level, (int, float, np.number)) and level >= 1:
        return float(level)
    raise ConfigError("Unknown level.", expected="'average', 'single' or a number >= 1", got=level, where="level")


def _check_scorer(scorer: str) -> str:
    if scorer not in ("r2", "ev", "r"):
        raise ConfigError("No ceiling for this scorer.", expected=["ev", "r", "r2"], got=scorer, where="scorer")
    return scorer


def _for_scorer(reliability: Array, scorer: str) -> Array:
    if _check_scorer(scorer) != "r":
        return reliability
    return np.sqrt(np.where(reliability > 0, reliability, np.nan))


def averages(values: NDArray[Any], number: Index) -> Array:
    """Average the rows with the same number; shape (n_numbers, n_targets), float64."""
    counts = np.bincount(number)
    weights = sparse.csr_array((1 / counts[number], (number, np.arange(len(number)))), shape=(len(counts), len(number)))
    return np.asarray(weights @ values.astype(np.float64))


def _centred(values: NDArray[Any]) -> Array:
    """Targets in float64 around their mean; zeros for those that are constant or not finite."""
    varies = np.isfinite(values).all(axis=0) & (values != values[:1]).any(axis=0)
    block = np.where(varies, values, 0.0).astype(np.float64)
    return np.where(varies, block - block.mean(axis=0), 0.0)


def explainable_variance(values: NDArray[Any], number: Index, k: float, *, shrink: float, **_: Any) -> Array:
    """Reliability by analysis of variance, for averages over k repeats; shape (n_targets,)."""
    counts = np.bincount(number)
    mean_repeats = float(1 / np.mean(1 / counts))
    out = []
    for tile in tiles(values.shape[1], 32 * len(values)):
        block = _centred(values[:, tile])
        mean = averages(block, number)
        noise = np.square(block - mean[number]).sum(axis=0) / (len(number) - len(counts))
        out.append(_from_noise(noise / mean_repeats, mean.var(axis=0, ddof=1), shrink, k / mean_repeats))
    return np.concatenate(out)


def cc_max(values: NDArray[Any], number: Index, k: float, *, turn: Index, shrink: float, **_: Any) -> Array:
    """Reliability by signal and noise power, effects of the number of the repeat taken out; shape (n_targets,)."""
    counts = np.bincount(number)
    mean_repeats = float(1 / np.mean(1 / counts))
    design = np.eye(int(turn.max()) + 1)[turn]
    within = design - averages(design, number)[number]
    gram = within.T @ within
    solve = np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ within.T
    freedom = len(number) - len(counts) - int(np.linalg.matrix_rank(gram, tol=1e-10 * np.trace(gram), hermitian=True))
    if freedom < 1:
        return np.full(values.shape[1], np.nan)
    out = []
    for tile in tiles(values.shape[1], 32 * len(values)):
        block = _centred(values[:, tile])
        block -= design @ (solve @ block)
        mean = averages(block, number)
        noise = np.square(block - mean[number]).sum(axis=0) / freedom
        out.append(_from_noise(noise / mean_repeats, mean.var(axis=0, ddof=1), shrink, k / mean_repeats))
    return np.concatenate(out)


def ncsnr(values: NDArray[Any], number: Index, k: float, *, shrink: float, **_: Any) -> Array:
    """Reliability from the total and the noise variance of single trials, for averages of k; shape (n_targets,)."""
    counts, n = np.bincount(number), len(number)
    mean_repeats = float(1 / np.mean(1 / counts))
    # Trials of one stimulus share its signal, so that the variance of trials holds a little less than all of it.
    fraction = (n - np.square(counts).sum() / n) / (n - 1) if shrink < 1 else 1.0
    out = []
    for tile in tiles(values.shape[1], 32 * n):
        block = _centred(values[:, tile])
        noise = np.square(block - averages(block, number)[number]).sum(axis=0) / (n - len(counts))
        signal = (block.var(axis=0, ddof=1) - noise) / fraction
        noise_left = noise / mean_repeats
        out.append(_from_noise(noise_left, signal + noise_left, shrink, k / mean_repeats))
    return np.concatenate(out)


def _from_noise(noise: Array, total: Array, shrink: float, factor: float) -> Array:
    """Reliability from the noise in averages and their variance, for averages over `factor` as many repeats."""
    return _spearman_brown(1 - shrink * noise / np.where(total > 0, total, np.nan), factor)


def split_half_sb(
    values: NDArray[Any], number: Index, k: float, *, n_splits: int, rng: np.random.Generator, shrink: float, **_: Any
) -> Array:
    """Reliability by the correlation of random halves, for averages over k repeats; shape (n_targets,)."""
    if n_splits < 1:
        raise ConfigError("Not a number of halvings.", expected=">= 1", got=n_splits, where="n_splits")
    half = np.bincount(number) // 2
    used = half > 0
    if used.sum() < 2:
        return np.full(values.shape[1], np.nan)
    m = float(1 / np.mean(1 / half[used]))  # repeats in a half
    halvings = [_halves(number, half, rng) for _ in range(n_splits)]
    out = []
    for tile in tiles(values.shape[1], 32 * len(values), 2**22):  # small enough to stay in cache
        block = _centred(values[:, tile])
        r = sum(_correlation(first @ block, second @ block) for first, second in halvings) / n_splits
        whole = 1 - shrink * (1 - _spearman_brown(np.asarray(r), 2.0))
        out.append(_spearman_brown(whole, k / (2 * m)))
    return np.concatenate(out)


def _correlation(a: Array, b: Array) -> Array:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.sqrt(np.einsum("st,st->t", a, a) * np.einsum("st,st->t", b, b))
    return np.einsum("st,st->t", a, b) / np.where(norm > 0, norm, np.nan)


def _halves(number: Index, half: Index, rng: np.random.Generator) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Two matrices (n_stimuli with >= 2 repeats, n_samples) that average disjoint random halves of equal size."""
    order = rng.permutation(len(number))
    order = order[np.argsort(number[order], kind="stable")]  # by stimulus, at random within
    stimulus = number[order]
    rank = np.arange(len(order)) - np.searchsorted(stimulus, stimulus)
    row = np.cumsum(half > 0) - 1
    made = []
    for low, high in ((0, half), (half, 2 * half)):
        chosen = (rank >= np.broadcast_to(low, half.shape)[stimulus]) & (rank < high[stimulus])
        rows = row[stimulus[chosen]]
        weights = 1.0 / half[stimulus[chosen]]
        shape = (int((half > 0).sum()), len(number))
        made.append(sparse.csr_array((weights, (rows, order[chosen])), shape=shape))
    return made[0], made[1]


def _spearman_brown(r: Array, factor: float) -> Array:
    """Reliability of a measurement `factor` times as long; NaN where r is so negative that there is no such number."""
    bottom = 1 + (factor - 1) * r
    usable = bottom > 1e-12  # also False for NaN
    return np.where(usable, factor * r / np.where(usable, bottom, 1.0), np.nan)


#: Estimators of reliability by name: ``(values, number, k, *, turn, n_splits, rng, shrink) -> (n_targets,)``.
CEILINGS: dict[str, Any] = {
    "cc_max": cc_max,
    "explainable_variance": explainable_variance,
    "ncsnr": ncsnr,
    "split_half_sb": split_half_sb,
}
