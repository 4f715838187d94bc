"""`evaluate`: the one function for inference on model RDMs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from neuroalign.errors import ConfigError, warn
from neuroalign.rsa import _bootstrap, _ceiling, _compare
from neuroalign.rsa._inputs import Inputs, Rdms, prepare
from neuroalign.rsa.result import RSAResult
from neuroalign.schema import inherit, stamp

__all__ = ["evaluate"]

Array = NDArray[np.floating]
KINDS = {"conditions": ("conditions",), "subjects": ("subjects",), "both": ("conditions", "subjects", "both")}


def evaluate(
    models: Rdms,
    data: Rdms,
    *,
    compare: str = "rho-a",
    bootstrap: str = "both",
    n: int = 1000,
    random_state: int | np.random.Generator | None = None,
    alpha: float = 0.05,
    ceiling: bool = True,
) -> RSAResult:
    """Score model RDMs on measured RDMs, with noise ceilings, intervals and tests.

    Parameters
    ----------
    models : mapping of name to RDM, Dataset, DataArray with dims (model, pair), or ndarray (n_models, n_pairs)
        Model RDMs. They meet the data by condition label.
    data : DataArray with dims (..., [subject], [session], pair), mapping of subject to RDM, or ndarray
        Measured RDMs. Sessions of a subject are averaged. Other dimensions, such as time, are scored one by one
        with the same resampling.
    compare : str
        The comparator, see `compare`. The default, "rho-a", does not favour models that predict ties.
    bootstrap : {"both", "conditions", "subjects"}
        What the conclusions shall generalise to. With data of one subject "both" becomes "conditions", with a
        warning.
    n : int
        Number of bootstrap samples.
    random_state : int, Generator or None
        Seed of the resampling.
    alpha : float
        Level of the intervals (1 - alpha) and of `RSAResult.significant`.
    ceiling : bool
        Whether to bound the score by the agreement of subjects: the lower bound predicts each subject from all
        others, the upper from all. On pure noise the upper is about 1 / sqrt(n_subjects).

    Returns
    -------
    RSAResult
        With ``score``, ``ceiling``, ``ci``, ``p``, ``p_pairwise``, ``p_ceiling``, FDR-corrected as ``p_fdr`` ...

    Raises
    ------
    AlignmentError
        If models and data do not have the same conditions, or only one has labels.
    ConfigError
        If an option does not exist, or subjects are to be resampled and there is one.

    Notes
    -----
    A bootstrap sample draws conditions with replacement; pairs of copies of one condition are left out, and samples
    with fewer than three distinct conditions are drawn again (``n_redrawn``). Variances are those of the bootstrap,
    corrected for the finite number of subjects and conditions; with "both" they combine the bootstraps over
    subjects, over conditions and over both by the 2-factor correction. Tests are t-tests with df = n_conditions - 1,
    n_subjects - 1, or the smaller of the two. p-values against 0 and against the lower ceiling are one-sided (above
    0, below the ceiling), between models two-sided. FDR is Benjamini and Hochberg's, over all tests of a kind.
    The variance of the ceiling is taken where the comparator is an inner product (mean ranks are not ranked anew).

    References
    ----------
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023), eLife 12:e82566. Nili et al. (2014), PLoS Comput Biol
    10:e1003553 (ceilings).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> from neuroalign.rsa import rdm
    >>> truth = rdm(rng.normal(size=(20, 5)))
    >>> brain = truth + rng.normal(size=(8, 190))
    >>> result = evaluate({"truth": truth, "other": rdm(rng.normal(size=(20, 5)))}, brain, n=100, random_state=0)
    >>> result.significant.values
    array([ True, False])
    """
    _compare.check_method(compare)
    _check(bootstrap, n, alpha)
    inputs = prepare(models, data, compare)
    n_subjects = inputs.data.shape[1]
    bootstrap = _resolve(bootstrap, n_subjects, ceiling)
    rng = np.random.default_rng(random_state)
    scorer = _bootstrap.Scorer(compare, inputs.models, inputs.data, inputs.pairs)
    conditions, redrawn = _bootstrap.draw(rng, n, inputs.n_conditions, fewest=3)
    subjects, _ = _bootstrap.draw(rng, n, n_subjects, fewest=1)
    samples = _bootstrap.resample(scorer, KINDS[bootstrap], conditions, subjects)
    found = _measure(compare, inputs, scorer, ceiling and n_subjects > 1)
    sizes = {"conditions": inputs.n_conditions, "subjects": n_subjects}
    df = (min(sizes.values()) if bootstrap == "both" else sizes[bootstrap]) - 1
    _warn_undefined(samples[bootstrap])
    tests = _test(found, samples, (n_subjects, inputs.n_conditions), df, alpha)
    if compare in ("cosine", "whitened-cosine") and (inputs.data >= 0).all():
        warn(
            f"The {compare} of distances that are never negative is above 0 by construction: p against 0 is not given. "
            "Use cross-validated distances or another comparator.",
            stacklevel=2,
        )
        tests |= {name: np.full_like(tests[name], np.nan) for name in ("p", "p_fdr")}
    attrs = {"compare": compare, "bootstrap": bootstrap, "n_bootstrap": n, "df": df, "alpha": alpha}
    attrs |= {
        "n_subjects": n_subjects,
        "n_conditions": inputs.n_conditions,
        "n_redrawn": redrawn,
        "correction": "fdr_bh",
    }
    seed = random_state if isinstance(random_state, int) else None
    dataset = _dataset(inputs, {**found, **tests, "bootstrap": samples[bootstrap][:, :-1]}).assign_attrs(attrs)
    dataset = inherit(dataset, *(part for side in (data, models) for part in _parts(side)))
    return RSAResult(stamp(dataset, "rsa.evaluate", seed=seed, compare=compare, bootstrap=bootstrap, n=n))


def _parts(rdms: Rdms) -> list[Any]:
    return [rdms, *rdms.values()] if isinstance(rdms, Mapping) else [rdms]


def _check(bootstrap: str, n: int, alpha: float) -> None:
    if bootstrap not in KINDS:
        raise ConfigError("Unknown bootstrap.", expected=", ".join(KINDS), got=bootstrap)
    if n < 10:
        raise ConfigError("Too few bootstrap samples for a variance.", expected="n of at least 10", got=n)
    if not 0 < alpha < 1:
        raise ConfigError("alpha must lie between 0 and 1.", got=alpha)


def _resolve(bootstrap: str, n_subjects: int, ceiling: bool) -> str:
    if n_subjects > 1 or (bootstrap == "conditions" and not ceiling):
        return bootstrap
    if bootstrap == "subjects":
        raise ConfigError(
            "Subjects cannot be resampled: the data have one subject.",
            expected="a dimension 'subject' with at least two entries",
            fix="use bootstrap='conditions', or join subjects with neuroalign.rsa.concat({name: rdm, ...})",
        )
    lost = ["there is no noise ceiling"] if ceiling else []
    lost += (
        ["conditions alone are resampled, so that nothing is said about other subjects"] if bootstrap == "both" else []
    )
    warn(f"The data have one subject: {' and '.join(lost)}.", stacklevel=3)
    return "conditions"


def _warn_undefined(samples: Array) -> None:
    scores = samples[:, :-1]
    defined = np.isfinite(scores)
    odd = defined.any(0) & ~defined.all(0)
    if odd.any():
        share = 1 - defined.mean(0)[odd].min()
        warn(
            f"Constant RDM in resampled conditions: {int(odd.any(-1).sum())} models have no score in up to {share:.1%} "
            "of the bootstrap samples; these are left out.",
            stacklevel=3,
        )


def _measure(method: str, inputs: Inputs, scorer: _bootstrap.Scorer, ceiling: bool) -> dict[str, Array]:
    """Score the data themselves: each subject (m, t, s), their mean (m, t), and the ceilings (2, t)."""
    scores, _ = scorer()
    n_times = len(inputs.data)
    bounds = np.full((2, n_times), np.nan)
    if ceiling:
        bounds = np.array([_ceiling.ceilings(method, x, inputs.pairs) for x in inputs.data]).T
    ones = np.ones((1, inputs.data.shape[1]), dtype=np.int64)
    return {"score": _bootstrap.subject_mean(scores, ones)[0], "score_subject": scores[0], "ceiling": bounds}


def _test(
    found: dict[str, Array], samples: dict[str, Array], sizes: tuple[int, int], df: int, alpha: float
) -> dict[str, Array]:
    score, lower = found["score"], found["ceiling"][:1]

    def error(parts: dict[str, Array]) -> Array:
        spread = {kind: _bootstrap.variance(part) for kind, part in parts.items()}
        return np.sqrt(_bootstrap.sampling_variance(spread, *sizes))

    se = error({kind: x[:, :-1] for kind, x in samples.items()})
    t = _ratio(score, se)
    half = stats.t.ppf(1 - alpha / 2, df) * se
    t_low = _ratio(score - lower, error({kind: x[:, :-1] - x[:, -1:] for kind, x in samples.items()}))
    pairwise = np.empty((len(score), *score.shape))
    for i in range(len(score)):
        spread = error({kind: x[:, :-1] - x[:, i : i + 1] for kind, x in samples.items()})
        pairwise[:, i] = 2 * stats.t.sf(np.abs(_ratio(score - score[i], spread)), df)
        pairwise[i, i] = np.nan
    p, p_low = stats.t.sf(t, df), stats.t.cdf(t_low, df)
    out = {"se": se, "ci": np.stack([score - half, score + half]), "t": t, "p": p, "p_fdr": fdr(p)}
    out |= {"p_ceiling": p_low, "p_ceiling_fdr": fdr(p_low)}
    upper = np.triu_indices(len(score), 1)
    corrected = np.full_like(pairwise, np.nan)
    corrected[upper] = fdr(pairwise[upper])
    corrected[upper[::-1]] = corrected[upper]
    return out | {"p_pairwise": pairwise, "p_pairwise_fdr": corrected}


def _ratio(estimate: Array, error: Array) -> Array:
    """Estimate over its error; 0 where nothing varies and nothing differs."""
    same = (error == 0) & (estimate == 0)
    return np.divide(estimate, error, out=np.where(same, 0.0, np.nan), where=error > 0)


def fdr(p: Array) -> Array:
    """Benjamini-Hochberg adjusted p-values over all entries; NaN stays NaN and does not count."""
    out, there = np.full(p.shape, np.nan), np.isfinite(p)
    if there.any():
        out[there] = stats.false_discovery_control(p[there])
    return out


def _dataset(inputs: Inputs, values: dict[str, Array]) -> xr.Dataset:
    """Give every array its dimensions; the flat axis of times or places is unfolded again."""
    lead, sizes = tuple(inputs.lead), tuple(inputs.lead.values())
    front = {"ceiling": ("bound",), "ci": ("bound", "model"), "bootstrap": ("sample", "model")}
    front |= dict.fromkeys(("p_pairwise", "p_pairwise_fdr"), ("model", "model_2"))
    variables: dict[str, Any] = {}
    for name, array in values.items():
        dims = front.get(name, ("model",))
        tail = ("subject",) if name == "score_subject" else ()
        shape = (*array.shape[: len(dims)], *sizes, *array.shape[len(dims) + 1 :])
        variables[name] = ((*dims, *lead, *tail), array.reshape(shape))
    names = np.empty(len(inputs.names), dtype=object)
    names[:] = inputs.names
    if all(isinstance(name, (int, np.integer)) for name in inputs.names):
        names = np.array(inputs.names)
    coords: dict[str, Any] = {"model": names, "model_2": names, "bound": ["lower", "upper"], **inputs.coords}
    return xr.Dataset(variables, coords)
