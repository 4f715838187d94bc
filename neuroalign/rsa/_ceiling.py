"""Noise ceilings: how well any model could do, given how much the subjects agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroalign.rsa._compare import RANKED, Embedding, Pairs, compare_rows, is_flat

Array = NDArray[np.floating]


def normalise(method: str, data: Array, pairs: Pairs) -> Array:
    """Bring RDMs (s, p) to the comparator's own scale, so that their mean is the best common predictor.

    Ranks for rank comparators, z-scores for Pearson, unit size for the cosines.
    """
    if method in RANKED:
        return Embedding("spearman", data, pairs).ranks()
    if method == "pearson":
        centred = data - data.mean(1, keepdims=True)
        return centred / np.sqrt((centred**2).sum(1, keepdims=True))
    return Embedding(method, data, pairs).unit(None, None)[0]


def ceilings(method: str, data: Array, pairs: Pairs) -> tuple[float, float]:
    """Bound the score of the best model.

    Parameters
    ----------
    method : str
        The comparator.
    data : ndarray, shape (s, p)
        One RDM a subject. Constant ones are left out.
    pairs : tuple of two ndarrays of int, shape (p,)
        Conditions of each pair.

    Returns
    -------
    lower, upper : float
        Mean similarity of each subject's RDM to the pool of the others, and to the pool of all. NaN for fewer than
        two subjects. On pure noise the upper bound is about 1 / sqrt(s), not 0.
    """
    data = data[~is_flat(data)]
    if len(data) < 2:
        return np.nan, np.nan
    scaled = normalise(method, data, pairs)
    total = scaled.sum(0)
    upper = compare_rows(method, data, total[None], pairs)
    lower = [compare_rows(method, x[None], (total - z)[None], pairs)[0, 0] for x, z in zip(data, scaled, strict=True)]
    return float(np.mean(lower)), float(upper.mean())
