"""Resampling of conditions and subjects, and the variance of model scores that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.rsa._compare import KENDALL, Embedding, Pairs
from neuroalign.rsa._kendall import tau_matrix

Array = NDArray[np.floating]
Counts = NDArray[np.int64]


def draw(rng: np.random.Generator, n: int, n_items: int, fewest: int) -> tuple[Counts, int]:
    """Draw multiplicities of resampled items: (n, n_items), and how many samples were drawn anew.

    A sample with fewer than `fewest` distinct items is drawn again.
    """
    counts = rng.multinomial(n_items, np.full(n_items, 1 / n_items), size=n)
    redrawn = 0
    while (poor := (counts > 0).sum(1) < fewest).any():
        redrawn += int(poor.sum())
        counts[poor] = rng.multinomial(n_items, np.full(n_items, 1 / n_items), size=int(poor.sum()))
    return counts, redrawn


@dataclass(frozen=True)
class Group:
    """Models that have values at the same pairs.

    Attributes
    ----------
    index : ndarray of int
        Which models.
    keep : ndarray of bool, shape (p,)
        Their pairs.
    """

    index: NDArray[np.int64]
    keep: NDArray[np.bool_]


def group_by_mask(models: Array) -> list[Group]:
    """Group models (m, p) by the pairs that they have."""
    masks, codes = np.unique(np.isfinite(models), axis=0, return_inverse=True)
    return [Group(np.flatnonzero(codes.ravel() == i), mask) for i, mask in enumerate(masks)]


class Scorer:
    """Scores of models on subjects' RDMs for any resampling of the conditions.

    Parameters
    ----------
    method : str
        The comparator.
    models : ndarray, shape (m, p)
        Model RDMs; NaN where a model has no value.
    data : ndarray, shape (t, s, p)
        Subjects' RDMs at `t` times or places; finite.
    pairs : tuple of two ndarrays of int, shape (p,)
        Conditions of each pair.
    """

    def __init__(self, method: str, models: Array, data: Array, pairs: Pairs) -> None:
        self.method, self.models, self.data, self.pairs = method, models, data, pairs
        self.flat = data.reshape(-1, data.shape[-1])
        self.groups = [g for g in group_by_mask(models) if g.keep.sum() >= 3]
        if method not in KENDALL:
            self._whole = Embedding(method, self.flat, pairs)
            self._parts = [self._embed(group) for group in self.groups]

    def _embed(self, group: Group) -> tuple[Embedding, Embedding]:
        pairs = (self.pairs[0][group.keep], self.pairs[1][group.keep])
        model = Embedding(self.method, self.models[group.index][:, group.keep], pairs)
        whole = group.keep.all()
        return model, self._whole if whole else Embedding(self.method, self.flat[:, group.keep], pairs)

    def __call__(self, multiplicity: Counts | None = None) -> tuple[Array, Array]:
        """Score one sample: similarities (m, t, s) and inner products of the subjects (t, s, s)."""
        weights = None
        if multiplicity is not None:
            weights = (multiplicity[self.pairs[0]] * multiplicity[self.pairs[1]]).astype(np.float64)
        t, s, p = self.data.shape
        scores = np.full((len(self.models), t * s), np.nan)
        if self.method in KENDALL:
            return self._kendall(scores, weights)
        left, right = self._whole.unit(multiplicity, weights)
        gram = left.reshape(t, s, p) @ right.reshape(t, s, p).swapaxes(1, 2)
        for group, (model, data) in zip(self.groups, self._parts, strict=True):
            part = weights if weights is None else weights[group.keep]
            columns = right if data is self._whole else data.unit(multiplicity, part)[1]
            scores[group.index] = model.unit(multiplicity, part)[0] @ columns.T
        return scores.reshape(-1, t, s), gram

    def _kendall(self, scores: Array, weights: Array | None) -> tuple[Array, Array]:
        t, s, _ = self.data.shape
        adjust = self.method == "kendall-tau-b"
        gram = np.stack([tau_matrix(x, x, weights, adjust=adjust) for x in self.data])
        for group in self.groups:
            part = weights if weights is None else weights[group.keep]
            model, data = self.models[group.index][:, group.keep], self.flat[:, group.keep]
            scores[group.index] = tau_matrix(model, data, part, adjust=adjust)
        return scores.reshape(-1, t, s), gram


def subject_mean(scores: Array, counts: Counts) -> Array:
    """Average scores (..., s) over resampled subjects, leaving out undefined ones."""
    there = np.isfinite(scores)
    total = np.where(there, scores, 0) @ counts
    weight = there @ counts
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def lower_bound(gram: Array, counts: Counts) -> Array:
    """Mean similarity of each subject to the pool of all other subjects, from inner products (t, s, s) -> (t,).

    All copies of the left-out subject leave the pool.
    """
    gram = np.where(np.isfinite(gram), gram, 0)
    own = np.diagonal(gram, axis1=1, axis2=2)
    c = counts * (own > 0)  # (t, s): RDMs without variance take no part
    toward = np.einsum("tsu,tu->ts", gram, c)
    above = toward - c * own
    size = np.einsum("ts,ts->t", c, toward)[:, None] - 2 * c * toward + c**2 * own
    found = np.divide(above, np.sqrt(np.maximum(size, 0)), out=np.full(above.shape, np.nan), where=size > 1e-12)
    there = np.where(np.isfinite(found), c, 0)
    total = (np.where(np.isfinite(found), found, 0) * there).sum(1)
    weight = there.sum(1)
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def resample(scorer: Scorer, kinds: Sequence[str], conditions: Counts, subjects: Counts) -> dict[str, Array]:
    """Score all samples.

    Parameters
    ----------
    scorer : Scorer
        What is scored.
    kinds : sequence of {"conditions", "subjects", "both"}
        What is resampled. The same draws serve all kinds.
    conditions : ndarray of int, shape (n, n_conditions)
        Multiplicities of conditions.
    subjects : ndarray of int, shape (n, s)
        Multiplicities of subjects.

    Returns
    -------
    dict of ndarray, shape (n, m + 1, t)
        Mean scores of each model, and the lower noise ceiling last.
    """
    n, (t, s, _) = len(conditions), scorer.data.shape
    out: dict[str, Array] = {kind: np.empty((n, len(scorer.models) + 1, t)) for kind in kinds}
    ones = np.ones(s, dtype=np.int64)
    whole = scorer()
    for i in range(n):
        sample = scorer(conditions[i]) if set(kinds) != {"subjects"} else whole
        for kind in kinds:
            scores, gram = whole if kind == "subjects" else sample
            counts = ones if kind == "conditions" else subjects[i]
            out[kind][i, :-1] = subject_mean(scores, counts)
            out[kind][i, -1] = lower_bound(gram, counts)
    return out


def variance(samples: Array) -> Array:
    """Variance over the first axis, leaving out undefined samples; NaN with fewer than two."""
    there = np.isfinite(samples)
    n = there.sum(0)
    mean = np.where(there, samples, 0).sum(0) / np.maximum(n, 1)
    squares = (np.where(there, samples - mean, 0) ** 2).sum(0)
    return np.divide(squares, n - 1, out=np.full(squares.shape, np.nan), where=n > 1)


def sampling_variance(parts: dict[str, Array], n_subjects: int, n_conditions: int) -> Array:
    """Combine bootstrap variances into the variance of the score for new subjects, new conditions or both.

    With a subject part a / s, a condition part b / c and their interaction e / (s c), resampling subjects gives
    f (a / s + e / (s c)) with f = (s - 1) / s, resampling conditions g (b / c + e / (s c)) with g = (c - 1) / c, and
    resampling both counts the interaction three times: their sum plus f g e / (s c). Solving for
    a / s + b / c + e / (s c) gives the 2-factor estimate of Schütt et al. (2023), here with f and g.

    Parameters
    ----------
    parts : dict of ndarray
        Bootstrap variances by kind.
    n_subjects, n_conditions : int
        Sizes of the data.

    Returns
    -------
    ndarray
        Variances, not below that of either factor alone and not above the uncorrected one of both.
    """
    f, g = 1 - 1 / n_subjects, 1 - 1 / n_conditions
    if "both" not in parts:
        return parts["subjects"] / f if "subjects" in parts else parts["conditions"] / g
    one, other, both = parts["subjects"], parts["conditions"], parts["both"]
    estimate = one / f + other / g - (both - one - other) / (f * g)
    least = np.maximum(one / f, other / g)
    return np.maximum(np.minimum(estimate, both / (f * g)), least)
