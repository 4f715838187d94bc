"""Resampling of conditions and subjects, and the variance of model scores that follows from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuroalign.rsa._compare import KENDALL, Embedding, Pairs, by_mask
from neuroalign.rsa._kendall import tau_matrix

Array = NDArray[np.floating]
Counts = NDArray[np.int64]

#: Entries of RDMs that are embedded at a time.
BLOCK = 2**17


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
        self.groups = [(rows, keep) for rows, keep in by_mask(np.isfinite(models)) if keep.sum() >= 3]
        if method not in KENDALL:
            self._whole = Embedding(method, self.flat, pairs)
            self._parts = [self._embed(rows, keep) for rows, keep in self.groups]

    def _embed(self, rows: Counts, keep: NDArray[np.bool_]) -> tuple[Embedding, Embedding]:
        """Embed models that have values at the same pairs, and the data at these pairs."""
        pairs = (self.pairs[0][keep], self.pairs[1][keep])
        model = Embedding(self.method, self.models[rows][:, keep], pairs)
        return model, self._whole if keep.all() else Embedding(self.method, self.flat[:, keep], pairs)

    def __call__(self, multiplicity: Counts | None = None) -> tuple[Array, Array]:
        """Score samples.

        Parameters
        ----------
        multiplicity : ndarray of int, shape (n, n_conditions), or None
            Copies of each condition; None for the data as they are.

        Returns
        -------
        scores : ndarray, shape (n, m, t, s)
            Similarities; n is 1 for None.
        gram : ndarray, shape (n, t, s, s)
            Inner products of the subjects' RDMs.
        """
        weights = None
        if multiplicity is not None:
            weights = (multiplicity[:, self.pairs[0]] * multiplicity[:, self.pairs[1]]).astype(np.float64)
        t, s, p = self.data.shape
        n = 1 if multiplicity is None else len(multiplicity)
        scores = np.full((n, len(self.models), t * s), np.nan)
        if self.method in KENDALL:
            samples = [self._kendall(scores[i], None if weights is None else weights[i]) for i in range(n)]
            return scores.reshape(n, -1, t, s), np.stack(samples)
        left, right = self._whole.unit(multiplicity, weights)
        gram = left.reshape(n, t, s, p) @ right.reshape(n, t, s, p).swapaxes(-1, -2)
        for (rows, keep), (model, data) in zip(self.groups, self._parts, strict=True):
            part = weights if weights is None else weights[:, keep]
            columns = right if data is self._whole else data.unit(multiplicity, part)[1]
            scores[:, rows] = model.unit(multiplicity, part)[0] @ columns.swapaxes(-1, -2)
        return scores.reshape(n, -1, t, s), gram

    def _kendall(self, scores: Array, weights: Array | None) -> Array:
        """Fill the scores (m, t s) of one sample and give the taus among subjects (t, s, s)."""
        adjust = self.method == "kendall-tau-b"
        for rows, keep in self.groups:
            part = weights if weights is None else weights[keep]
            scores[rows] = tau_matrix(self.models[rows][:, keep], self.flat[:, keep], part, adjust=adjust)
        return np.stack([tau_matrix(x, x, weights, adjust=adjust) for x in self.data])


def subject_mean(scores: Array, counts: Counts) -> Array:
    """Average scores (n, m, t, s) over resampled subjects (n, s), leaving out undefined ones: (n, m, t)."""
    there = np.isfinite(scores)
    total = np.einsum("nmts,ns->nmt", np.where(there, scores, 0), counts)
    weight = np.einsum("nmts,ns->nmt", there, counts)
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def lower_bound(gram: Array, counts: Counts) -> Array:
    """Mean similarity of each subject to the pool of all others, from inner products (n, t, s, s): (n, t).

    All copies of the left-out subject leave the pool.
    """
    gram = np.where(np.isfinite(gram), gram, 0)
    own = np.diagonal(gram, axis1=-2, axis2=-1)
    c = counts[:, None] * (own > 0)  # (n, t, s): RDMs without variance take no part
    toward = np.einsum("ntsu,ntu->nts", gram, c)
    above = toward - c * own
    size = np.einsum("nts,nts->nt", c, toward)[..., None] - 2 * c * toward + c**2 * own
    found = np.divide(above, np.sqrt(np.maximum(size, 0)), out=np.full(above.shape, np.nan), where=size > 1e-12)
    there = np.where(np.isfinite(found), c, 0)
    total, weight = (np.where(np.isfinite(found), found, 0) * there).sum(-1), there.sum(-1)
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def _reduce(scores: Array, gram: Array, counts: Counts) -> Array:
    """Mean score of each model over subjects, and the lower ceiling last: (n, m + 1, t)."""
    n = len(counts)
    scores, gram = (np.broadcast_to(x, (n, *x.shape[1:])) for x in (scores, gram))
    return np.concatenate([subject_mean(scores, counts), lower_bound(gram, counts)[:, None]], axis=1)


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
    whole, n = scorer(), len(conditions)
    parts: dict[str, list[Array]] = {kind: [] for kind in kinds}
    # Small RDMs go through many samples at a time, large ones one by one: the working set stays in the cache.
    step = max(1, BLOCK // (scorer.data.size + scorer.models.size))
    for start in range(0, n, step):
        chunk = slice(start, start + step)
        sample = scorer(conditions[chunk]) if set(kinds) != {"subjects"} else whole
        for kind in kinds:
            counts = np.ones_like(subjects[chunk]) if kind == "conditions" else subjects[chunk]
            parts[kind].append(_reduce(*(whole if kind == "subjects" else sample), counts))
    return {kind: np.concatenate(part) for kind, part in parts.items()}


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
