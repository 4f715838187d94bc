"""`permutation_test`: is the agreement of two RDMs more than that of shuffled conditions?"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.rsa import _compare
from neuroalign.rsa._bootstrap import Scorer, subject_mean
from neuroalign.rsa._inputs import Rdms, prepare
from neuroalign.rsa.form import pair_positions
from neuroalign.rsa.inference import _dataset, fdr
from neuroalign.schema import stamp

__all__ = ["permutation_test"]


def permutation_test(
    models: Rdms,
    data: Rdms,
    *,
    compare: str = "rho-a",
    n: int = 1000,
    random_state: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """Test model RDMs against shuffled condition labels.

    The conditions of the data are shuffled together in all subjects (and times), rows with columns; the null
    hypothesis is that the labels of the conditions are exchangeable. It says nothing about other subjects or
    conditions; for that use `evaluate`.

    Parameters
    ----------
    models, data : as in `evaluate`
        Model RDMs and measured RDMs, without missing pairs.
    compare : str
        The comparator, see `compare`.
    n : int
        Number of permutations.
    random_state : int, Generator or None
        Seed of the permutations.

    Returns
    -------
    Dataset
        ``score``, ``p`` (one-sided, (1 + larger) / (1 + n)), ``p_fdr`` and ``p_fwer`` (by the largest score of all
        models and times in each permutation), dims (model, ...).

    Raises
    ------
    SchemaError
        If pairs are missing.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign.rsa import rdm
    >>> truth = rdm(np.random.default_rng(0).normal(size=(12, 5)))
    >>> permutation_test({"truth": truth}, truth**2, n=99, random_state=0)["p"].values
    array([0.01])
    """
    _compare.check_method(compare)
    if n < 1:
        raise ConfigError("At least one permutation is needed.", got=n)
    inputs = prepare(models, data, compare)
    n_pairs = inputs.n_conditions * (inputs.n_conditions - 1) // 2
    if inputs.data.shape[-1] < n_pairs or not np.isfinite(inputs.models).all():
        raise SchemaError(
            "Permutation of conditions needs complete RDMs.", fix="pick the complete conditions with rsa.select"
        )
    rng = np.random.default_rng(random_state)
    score = _Pooled(compare, inputs.models, inputs.data, inputs.pairs)
    observed = score(None)
    largest = np.nanmax(observed) if np.isfinite(observed).any() else np.nan
    above, above_max = np.zeros(observed.shape), np.zeros(observed.shape)
    # Equal up to rounding counts as equally large, as a permutation that changes nothing must.
    slack = 1e-12 * max(abs(float(largest)), 1.0)
    for _ in range(n):
        null = score(pair_positions(rng.permutation(inputs.n_conditions), inputs.n_conditions))
        above += null >= observed - slack
        above_max += np.nanmax(null, initial=-np.inf) >= observed - slack
    undefined = ~np.isfinite(observed)
    p, fwer = (np.where(undefined, np.nan, (1 + count) / (1 + n)) for count in (above, above_max))
    out = _dataset(inputs, {"score": observed, "p": p, "p_fdr": fdr(p), "p_fwer": fwer})
    out = out.drop_vars(["bound", "model_2"]).assign_attrs(compare=compare, n_permutations=n)
    return stamp(out, "rsa.permutation_test", compare=compare, n=n)


class _Pooled:
    """Mean score over subjects for shuffled data; one product a permutation where the comparator allows it."""

    def __init__(
        self, method: str, models: NDArray[np.float64], data: NDArray[np.float64], pairs: _compare.Pairs
    ) -> None:
        self.arguments = (method, models, data, pairs)
        self.pool: NDArray[np.floating] | None = None
        if method not in _compare.KENDALL:
            t, s, p = data.shape
            right = _compare.Embedding(method, data.reshape(-1, p), pairs).unit(None, None)[1].reshape(t, s, p)
            there = np.asarray(np.isfinite(right).all(-1, keepdims=True))
            self.pool = np.where(there, right, 0).sum(1) / np.where(there.any(1), there.sum(1), np.nan)
            self.left = _compare.Embedding(method, models, pairs).unit(None, None)[0]

    def __call__(self, order: NDArray[np.int64] | None) -> NDArray[np.floating]:
        """Score with the pairs in this order: (m, t)."""
        if self.pool is not None:
            return self.left @ (self.pool if order is None else self.pool[:, order]).T
        method, models, data, pairs = self.arguments
        scores, _ = Scorer(method, models, data if order is None else data[..., order], pairs)()
        return subject_mean(scores, np.ones((1, data.shape[1]), dtype=np.int64))[0]
