"""Which feature space explains what: unique and shared variance, and each space's share in a joint model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.align import join
from neuroalign.errors import ConfigError, warns_once
from neuroalign.evaluation._jobs import Model, predict_many
from neuroalign.evaluation._targets import matrix, restore, template
from neuroalign.evaluation.ceilings import normalise
from neuroalign.evaluation.cross_validate import _ceiling, _check_inputs, _gather, _HeldOut, _Plan, _plan
from neuroalign.evaluation.folds import delay_span
from neuroalign.metrics import SCORERS
from neuroalign.schema import TRAVELLING, inherit, sample_dim, stamp

__all__ = ["partition_variance"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: Joins the names of the spaces of a subset.
PLUS = " + "


@warns_once
def partition_variance(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    cv: Any = None,
    spaces: Sequence[str] | Mapping[str, Any] | None = None,
    groups: str | ArrayLike | None = None,
    repeats: str | ArrayLike | bool | None = None,
    ceiling: str | xr.DataArray | None = None,
    scorer: str = "r2",
    split: bool = True,
    random_state: int | np.random.Generator | None = None,
    executor: str | Executor = "serial",
) -> xr.Dataset:
    """Divide the variance that two to four feature spaces explain into unique and shared parts.

    The estimator is cross-validated on every subset of the spaces, on the same folds; what it chooses, it chooses anew
    for each subset and fold. The parts follow by inclusion and exclusion.

    Parameters
    ----------
    estimator : estimator
        As for `cross_validate`. A fitted one is not changed; copies are fitted.
    X : DataArray, mapping of str to DataArray, or array
        Features with a coordinate ``band`` along the feature dimension, as `align.join` gives them for several
        spaces; the spaces themselves, which are joined; or an array with `spaces` that name its columns.
    y : DataArray or array_like
        Responses.
    cv, groups, repeats, ceiling, random_state, executor
        As for `cross_validate`.
    spaces : list of str or mapping, optional
        The bands to use, in this order; or names of spaces with the bands (of an array: the columns) that each is made
        of. By default all bands.
    scorer : {"r2", "ev"}, default "r2"
        The score that is divided. Correlations do not add up.
    split : bool, default True
        Also divide the score of the joint model by the product measure. Needs a linear model or ``predict_bands``.

    Returns
    -------
    Dataset
        - ``unique`` (band, ...): what the score loses without the space.
        - ``shared`` (subset, ...): what exactly the spaces of the subset have in common; for a subset of one its
          unique part, so that ``shared.sum("subset")`` is the total. Negative parts (suppression, or noise) are given
          as they are.
        - ``total`` (...): the score of all spaces; ``score`` (subset, ...): of each subset on its own.
        - ``split`` (band, ...): each space's share in the score of the joint model, which add up to the total.
        - with `ceiling`: ``ceiling``, and ``unique_normalised``, ``shared_normalised``, ``total_normalised``.

    Raises
    ------
    ConfigError
        If there are fewer than two or more than four spaces, a band is not known, X does not tell a banded model its
        bands, y has a dimension ``band`` or ``subset``, or the score cannot be divided.

    Notes
    -----
    The product measure of a space is ``sum(p_b * (2 y - p)) / sum(y ** 2)`` with centred held-out responses y,
    predictions p and what the space adds to them p_b. What R2 loses because the mean of a test fold is not that of
    its training samples belongs to no space and is taken from all in equal parts.

    References
    ----------
    Borcard, D., Legendre, P. & Drapeau, P. (1992). Partialling out the spatial component of ecological variation.
    Ecology 73, 1045-1055.
    Lescroart, M., Stansbury, D. & Gallant, J. (2015). Fourier power, subjective distance, and object categories all
    provide plausible models of BOLD responses in scene-selective visual areas. Front. Comput. Neurosci. 9, 135.
    Pratt, J. (1987). Dividing the indivisible: using simple symmetry to partition variance explained.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((400, 3))
    >>> y = X[:, :1] + X[:, 1:2] + X[:, 2:] + 0.1 * rng.standard_normal((400, 1))
    >>> parts = partition_variance(LinearRegression(), X, y, spaces={"a": [0, 1], "b": [1, 2]})
    >>> [round(float(part), 1) for part in (*parts.unique[:, 0], parts.shared.sel(subset="a + b")[0])]
    [0.3, 0.3, 0.3]
    """
    if scorer not in ("r2", "ev"):
        raise ConfigError("This score cannot be divided.", expected=["ev", "r2"], got=scorer, where="scorer")
    if isinstance(X, Mapping) and not isinstance(X, xr.Dataset):
        X, y = join(X, y)
    _check_inputs(X, y)
    columns = _columns(X, spaces)
    if taken := {"band", "subset"} & set(y.dims if isinstance(y, xr.DataArray) else ()):
        raise ConfigError(
            "The responses have a dimension of the name that the parts get.",
            expected="no target dimension 'band' or 'subset'",
            got=y.dims,
            where="y",
            fix=f"y.rename({sorted(map(str, taken))[0]}='frequency')",
        )
    if hasattr(estimator, "predict_bands") and not (isinstance(X, xr.DataArray) and "band" in X.coords):
        raise ConfigError(
            "A banded model would not know the bands.",
            expected="a coordinate 'band' along the features",
            got=[str(name) for name in X.coords] if isinstance(X, xr.DataArray) else type(X).__name__,
            where="X",
            fix="align.join({'vision': A, 'semantics': B}, y)",
        )
    plan = _plan(X, y, cv, groups, repeats, delay_span(estimator, X))
    like, function = template(y), SCORERS[scorer]
    subsets = [s for size in range(1, len(columns) + 1) for s in itertools.combinations(columns, size)]
    scores: dict[frozenset[str], Array] = {frozenset(): np.zeros(like.size)}
    narrow = [_narrow(X, [columns[name] for name in subset]) for subset in subsets]
    # Only the joint model, the last one, is asked what each space adds.
    models: list[Model] = [(estimator, part, None) for part, _ in narrow[:-1]]
    models.append((estimator, narrow[-1][0], narrow[-1][1] if split else None))
    made = predict_many(models, y, plan.folds, groups=plan.groups, executor=executor)
    for subset, guesses in zip(subsets, made, strict=True):
        parts = [guess if guess.ndim == 3 else guess[None] for guess in guesses]
        held = [_gather(matrix(y), [part[k] for part in parts], plan) for k in range(len(parts[0]))]
        scores[frozenset(subset)] = _by_fold(held[0], function).mean(axis=0)
    data = _table(scores, list(columns), subsets, like)
    if split:
        data["split"] = restore(_split(held, scorer), like, "band")
    if ceiling is not None:
        data = _normalised(
            data, _ceiling(y, plan, held[0], ceiling, scorer, np.random.default_rng(random_state)), scorer
        )
    return _describe(data, estimator, X, y, plan, scorer)


def _columns(X: Any, spaces: Any) -> dict[str, Index]:
    """The columns of each feature space."""
    if isinstance(X, xr.DataArray) and "band" in X.coords and X["band"].ndim == 1:
        bands = X["band"].values.astype(str)
        known = list(dict.fromkeys(bands.tolist()))
        named = dict.fromkeys(known) if spaces is None else spaces
        wanted = named if isinstance(named, Mapping) else dict.fromkeys(map(str, named))
        groups = {str(n): [str(n)] if v is None else [v] if isinstance(v, str) else list(v) for n, v in wanted.items()}
        missing = [band for members in groups.values() for band in members if band not in known]
        if missing:
            raise ConfigError("No such feature space.", expected=known, got=missing, where="spaces")
        found = {name: np.flatnonzero(np.isin(bands, members)) for name, members in groups.items()}
    elif isinstance(spaces, Mapping):
        n = int(np.prod(np.shape(X)[1:]))
        found = {
            str(name): np.arange(n)[np.asarray(part) if not isinstance(part, slice) else part]
            for name, part in spaces.items()
        }
    else:
        raise ConfigError(
            "It is not known which features belong together.",
            expected="a coordinate 'band' along the features",
            got=[str(name) for name in X.coords] if isinstance(X, xr.DataArray) else type(X).__name__,
            where="X",
            fix="align.join({'vision': A, 'semantics': B}, y), or spaces={'vision': columns, ...}",
        )
    if not 2 <= len(found) <= 4 or any(not part.size for part in found.values()):
        raise ConfigError(
            "This number of feature spaces cannot be partitioned.",
            expected="2 to 4 spaces of at least one feature",
            got={name: part.size for name, part in found.items()},
            where="spaces",
            fix="spaces={'name': ['band', 'other band'], ...} puts several together",
        )
    return found


def _narrow(X: Any, columns: list[Index]) -> tuple[Any, list[Index]]:
    """The features of some spaces (a feature of two of them once), and where each space is among them."""
    kept = np.unique(np.concatenate(columns))
    inside = [np.searchsorted(kept, part) for part in columns]
    if isinstance(X, xr.DataArray):
        (dim,) = (d for d in X.dims if d != sample_dim(X))
        return X.isel({dim: kept}), inside
    return np.asarray(X)[:, kept], inside


def _by_fold(held: _HeldOut, function: Any) -> Array:
    rows = [held.fold == f for f in range(int(held.fold.max()) + 1)]
    return np.stack([function(held.observed[r], held.predicted[r]) for r in rows])


def _table(
    scores: dict[frozenset[str], Array], names: list[str], subsets: list[tuple[str, ...]], like: xr.DataArray
) -> xr.Dataset:
    common = np.stack([_common(frozenset(subset), scores, frozenset(names)) for subset in subsets])
    return xr.Dataset(
        {
            "unique": restore(common[: len(names)], like, "band"),
            "shared": restore(common, like, "subset"),
            "total": restore(scores[frozenset(names)], like),
            "score": restore(np.stack([scores[frozenset(subset)] for subset in subsets]), like, "subset"),
        },
        coords={"band": names, "subset": [PLUS.join(subset) for subset in subsets]},
    )


def _common(subset: frozenset[str], scores: dict[frozenset[str], Array], everything: frozenset[str]) -> Array:
    """What exactly these spaces have in common, by inclusion and exclusion over their own subsets."""
    others, out = everything - subset, np.zeros_like(scores[everything])
    for size in range(len(subset) + 1):
        for part in itertools.combinations(sorted(subset), size):
            out += (-1) ** (size + 1) * scores[others | frozenset(part)]
    return out


def _split(held: list[_HeldOut], scorer: str) -> Array:
    """Each space's share in the score of the joint model, mean over folds; (space, t)."""
    folds = []
    for f in range(int(held[0].fold.max()) + 1):
        rows = held[0].fold == f
        y, p, *added = (x[rows].astype(np.float64) for x in (held[0].observed, *(h.predicted for h in held)))
        finite = np.isfinite(y).all(axis=0) & (y != y[:1]).any(axis=0)
        y, p, *added = (np.where(finite, x, 0.0) for x in (y, p, *added))
        total = np.where(finite, np.square(y - y.mean(axis=0)).sum(axis=0), np.nan)
        rest = 2 * (y - y.mean(axis=0)) - (p - p.mean(axis=0))
        shares = np.stack([((a - a.mean(axis=0)) * rest).sum(axis=0) / total for a in added])
        if scorer == "r2":
            shares -= len(y) * np.square(p.mean(axis=0) - y.mean(axis=0)) / total / len(added)
        folds.append(shares)
    return np.mean(folds, axis=0)


def _normalised(data: xr.Dataset, ceiling: xr.DataArray, scorer: str) -> xr.Dataset:
    ratios = {f"{name}_normalised": normalise(data[name], ceiling, scorer) for name in ("unique", "shared", "total")}
    return data.assign(ceiling=ceiling, **ratios)


def _describe(data: xr.Dataset, estimator: Any, X: Any, y: Any, plan: _Plan, scorer: str) -> xr.Dataset:
    """Geometry of the responses for the Dataset and each variable, so that one alone can be drawn or written."""
    old = y.attrs if isinstance(y, xr.DataArray) else {}
    geometry = {key: old[key] for key in TRAVELLING if key in old and key != "units"}
    for name in data.data_vars:
        data[name].attrs = {**geometry, **data[name].attrs, "units": "1", "scorer": scorer}
    n_nan = int(np.isnan(data["total"].values).sum())
    name = type(estimator).__name__
    data = data.assign_attrs(geometry, estimator=name, scorer=scorer, n_folds=len(plan.folds), n_nan_targets=n_nan)
    return stamp(inherit(data, y, X), "partition_variance", estimator=name, spaces=data["band"].values.tolist())
