"""Exact joins of features and responses by stimulus id, trial or sample number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from neuroalign.align._concat import check_same_sfreq
from neuroalign.errors import AlignmentError, SchemaError
from neuroalign.schema import RUN_NAMES, clock, log, sample_dim, stamp

Features = xr.DataArray | xr.Dataset | Mapping[str, xr.DataArray]


def first_difference(a: ArrayLike, b: ArrayLike) -> str | None:
    """Say where two label sequences first differ, or None if they are equal.

    Parameters
    ----------
    a, b : array_like
        Labels in order.

    Returns
    -------
    str or None
        A sentence for an error message.

    Examples
    --------
    >>> first_difference(["cat", "dog"], ["cat", "cow"])
    "position 1: 'dog' against 'cow'"
    """
    left, right = np.asarray(a), np.asarray(b)
    shared = min(len(left), len(right))
    differ = np.flatnonzero(left[:shared] != right[:shared])
    if differ.size:
        n = int(differ[0])
        return f"position {n}: {left[n : n + 1].tolist()[0]!r} against {right[n : n + 1].tolist()[0]!r}"
    return None if len(left) == len(right) else f"lengths {len(left)} and {len(right)}"


def check_same_samples(x: xr.DataArray, y: xr.DataArray, names: tuple[str, str] = ("X", "y")) -> None:
    """Refuse two objects whose samples do not carry the same labels in the same order.

    Parameters
    ----------
    x, y : DataArray
        Labelled objects. Stimuli and trials are compared by ``stimulus_id`` and index, times by sample number
        (and run).
    names : tuple of str
        What messages call them.

    Raises
    ------
    AlignmentError
        Naming the first labels that differ.
    """
    dx, dy = sample_dim(x), sample_dim(y)
    first, second = names
    join_them = f"{first}, {second} = neuroalign.align.join({first}, {second})"
    if x.sizes[dx] != y.sizes[dy]:
        raise AlignmentError(
            f"{first} and {second} have different numbers of samples.",
            expected=f"{x.sizes[dx]} along {dx}, as in {first}",
            got=f"{y.sizes[dy]} along {dy} in {second}",
            fix=join_them,
        )
    pairs = _label_pairs(x, y, dx, dy)
    labelled = [bool(_ids(obj) is not None or dim in obj.coords) for obj, dim in ((x, dx), (y, dy))]
    if not pairs and labelled[0] != labelled[1]:
        known, bare = (first, second) if labelled[0] else (second, first)
        raise AlignmentError(
            f"The samples of {bare} have no labels, those of {known} have.",
            expected="the same labels on both, or none on either",
            got=f"{bare} without a coordinate along {dy if labelled[0] else dx}",
            fix=f"{bare}.assign_coords({dy if labelled[0] else dx}=...)",
        )
    if not pairs and dx != dy:
        raise AlignmentError(
            f"{first} and {second} share no sample labels.",
            expected=f"the same sample dimension as {first} ({dx})",
            got=dy,
            fix=join_them,
        )
    for name, a, b in pairs:
        if (difference := first_difference(a, b)) is not None:
            raise AlignmentError(
                f"{first} and {second} differ in {name}.",
                expected="the same labels in the same order",
                got=difference,
                fix=f"{join_them} (reorder=True to bring {second} into the order of {first})",
            )


def _label_pairs(x: xr.DataArray, y: xr.DataArray, dx: str, dy: str) -> list[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = []
    a, b = _ids(x), _ids(y)
    if a is not None and b is not None:
        pairs.append(("stimulus_id", a, b))
    if dx == dy == "time" and "time" in x.coords and "time" in y.coords:
        (samples_x, rate_x), (samples_y, rate_y) = clock(x), clock(y)
        check_same_sfreq([rate_x, rate_y])
        pairs.append(("time (sample numbers)", samples_x, samples_y))
    elif dx == dy and dx in x.coords and dy in y.coords and (dx != "stimulus" or not pairs):
        pairs.append((dx, x[dx].values, y[dy].values))
    for name in RUN_NAMES:
        if _along(x, name, dx) and _along(y, name, dy):
            pairs.append((name, x[name].values.astype(str), y[name].values.astype(str)))
    return pairs


def _along(obj: xr.DataArray, name: str, dim: str) -> bool:
    return name in obj.coords and obj[name].dims == (dim,)


def _ids(obj: xr.DataArray) -> Any:
    """Stimulus ids of the samples, or None."""
    dim = sample_dim(obj)
    if "stimulus_id" in obj.coords and obj["stimulus_id"].dims == (dim,):
        return obj["stimulus_id"].values.astype(str)
    return obj[dim].values.astype(str) if dim == "stimulus" and dim in obj.coords else None


def _bands(x: Features) -> xr.DataArray:
    """Put several feature spaces side by side along ``unit``, each marked by ``band``."""
    if isinstance(x, xr.DataArray):
        return x
    parts = {str(name): part for name, part in x.items()}
    if not parts:
        raise SchemaError("No features.", expected="at least one feature space", got="none")
    first = next(iter(parts.values()))
    pieces = []
    for name, part in parts.items():
        dim = sample_dim(part)
        if part.dims != (dim, "unit"):
            raise SchemaError(
                "Features of several spaces must be flat.", expected=f"dims ({dim}, unit)", got=part.dims, where=name
            )
        check_same_samples(first, part)
        n = part.sizes["unit"]
        labels = {"band": ("unit", np.array([name] * n, dtype=object)), "unit": [f"{name}:{u}" for u in range(n)]}
        pieces.append(part.drop_vars([c for c in part.coords if "unit" in part[c].dims]).assign_coords(labels))
    joined = xr.concat(pieces, dim="unit", coords="minimal", compat="override", join="override", combine_attrs="drop")
    return joined.rename("features").assign_attrs(units="a.u.", bands=list(parts))


def join(
    x: Features, y: xr.DataArray, *, reorder: bool = False, drop: bool = False
) -> tuple[xr.DataArray, xr.DataArray]:
    """Bring features and responses together, exactly, by label.

    Features of stimuli are repeated for every trial that showed the stimulus. Time series are joined by sample
    number (and run). Nothing is matched by position.

    Parameters
    ----------
    x : DataArray, Dataset or mapping of name to DataArray
        Features with a sample dimension. Several feature spaces are put side by side along ``unit`` and marked
        by a coordinate ``band``.
    y : DataArray
        Responses with a sample dimension: (trial, ...), (stimulus, ...) or (..., time).
    reorder : bool
        Bring `x` into the order of `y` where both hold the same stimuli in another order.
    drop : bool
        Leave out samples that only one of the two has, instead of refusing; how many is noted in ``neuro_log``.

    Returns
    -------
    x, y : DataArray
        With the sample dimension first and equal labels along it.

    Raises
    ------
    AlignmentError
        Naming the first labels that do not match.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> x = xr.DataArray(np.eye(2), dims=("stimulus", "unit"), coords={"stimulus": ["cat", "dog"]})
    >>> y = xr.DataArray(np.zeros((3, 4)), dims=("trial", "voxel"))
    >>> y = y.assign_coords(stimulus_id=("trial", ["dog", "cat", "dog"]))
    >>> join(x, y)[0].values[:, 0]
    array([0., 1., 0.])
    """
    bands = _bands(x)
    dx, dy = sample_dim(bands), sample_dim(y)
    bands, y = bands.transpose(dx, ...), y.transpose(dy, ...)
    if dx == "stimulus" and dy == "trial":
        bands, y = _expand(bands, y, drop)
    elif dx == dy == "time":
        bands, y = _by_clock(bands, y, drop)
    elif dx == dy == "stimulus":
        bands, y = _by_stimulus(bands, y, reorder, drop)
    check_same_samples(bands, y)
    return stamp(bands, "join", with_=str(y.name)), y


def _unique(index: pd.Index, name: str) -> pd.Index:
    if not index.is_unique:
        repeated = index[index.duplicated()].unique()[:5].tolist()
        raise AlignmentError(
            f"Stimulus ids repeat in {name}.",
            expected="unique ids along stimulus (repeats belong along trial, with a coordinate stimulus_id)",
            got=repeated,
            fix=f"average or drop the copies of {repeated[0]!r}",
        )
    return index


def _expand(x: xr.DataArray, y: xr.DataArray, drop: bool) -> tuple[xr.DataArray, xr.DataArray]:
    ids = _ids(y)
    known = _ids(x)
    if ids is None or known is None:
        raise AlignmentError(
            "Trials cannot be matched to stimuli.",
            expected="a coordinate stimulus_id along trial",
            got=f"coordinates {list(y.coords)}",
        )
    position = _unique(pd.Index(known), "X").get_indexer(ids)
    lost = position < 0
    if lost.any():
        names = pd.unique(pd.Series(ids[lost])).tolist()
        if not drop or lost.all():
            raise AlignmentError(
                f"{int(lost.sum())} of {len(ids)} trials show stimuli that X does not have.",
                expected=f"the {len(known)} stimuli of X, such as {known[:3].tolist()}",
                got=f"{names[:5]}" + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
                fix="pass drop=True to leave these trials out"
                if not lost.all()
                else "check how stimulus ids are written",
            )
        y = log(y.isel(trial=~lost), f"join: {int(lost.sum())} trials without features were left out")
        position = position[~lost]
    out = x.isel(stimulus=xr.DataArray(position, dims="trial")).transpose("trial", ...)
    out = out.drop_vars([n for n, c in out.coords.items() if c.dims == ("trial",)])
    return out.assign_coords({n: c for n, c in y.coords.items() if c.dims == ("trial",)}), y


def _by_stimulus(x: xr.DataArray, y: xr.DataArray, reorder: bool, drop: bool) -> tuple[xr.DataArray, xr.DataArray]:
    a, b = _ids(x), _ids(y)
    if a is None or b is None:
        raise AlignmentError(
            "Stimuli have no ids.",
            expected="a coordinate stimulus",
            got=f"in X {list(x.coords)}, in y {list(y.coords)}",
        )
    left, right = _unique(pd.Index(a), "X"), _unique(pd.Index(b), "y")
    only = left.symmetric_difference(right)
    if only.size and (not drop or not left.intersection(right).size):
        raise AlignmentError(
            "X and y hold different stimuli.",
            expected=f"the same stimuli; only in X: {left.difference(right)[:5].tolist()}",
            got=f"only in y: {right.difference(left)[:5].tolist()}",
            fix="pass drop=True to keep the common ones",
        )
    if only.size:
        y = log(y.isel(stimulus=right.isin(left)), f"join: {only.size} stimuli that only one side has were left out")
        x = x.isel(stimulus=left.isin(right))
        left, right = left[left.isin(right)], right[right.isin(left)]
    if not left.equals(right):
        if not reorder:
            raise AlignmentError(
                "X and y hold the same stimuli in different orders.",
                expected="the same order",
                got=first_difference(left, right),
                fix="pass reorder=True to bring X into the order of y",
            )
        x = x.isel(stimulus=left.get_indexer(right))
    return x, y


def _by_clock(x: xr.DataArray, y: xr.DataArray, drop: bool) -> tuple[xr.DataArray, xr.DataArray]:
    shared = [name for name in RUN_NAMES if _along(x, name, "time") and _along(y, name, "time")]
    keys = [_time_keys(obj, shared) for obj in (x, y)]
    check_same_sfreq([clock(x)[1], clock(y)[1]])
    if keys[0].equals(keys[1]):
        return x, y
    common = keys[0].intersection(keys[1], sort=False)
    if not drop or not common.size:
        raise AlignmentError(
            "X and y cover different times.",
            expected=f"the same samples; X has {len(keys[0])}, from {keys[0][0]} to {keys[0][-1]}",
            got=f"y has {len(keys[1])}, from {keys[1][0]} to {keys[1][-1]} ; {common.size} in common",
            fix="pass drop=True to keep the common samples" if common.size else "check the run labels and first_sample",
        )
    y = log(y.isel(time=keys[1].isin(common)), f"join: kept the {common.size} samples that X and y have in common")
    return x.isel(time=keys[0].isin(common)), y


def _time_keys(obj: xr.DataArray, names: list[str]) -> pd.MultiIndex:
    samples, _ = clock(obj)
    index = pd.MultiIndex.from_arrays([*(obj[name].values.astype(str) for name in names), samples])
    if not index.is_unique:
        raise AlignmentError(
            "Sample numbers repeat.",
            expected="each sample of a run once",
            got=f"{index[index.duplicated()][0]}",
            fix="mark runs on both sides by coordinates such as run and session along time",
        )
    return index
