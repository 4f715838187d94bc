"""From models and data as users hold them to arrays with the same conditions in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import LabelsLostError, SchemaError, warn
from neuroalign.rsa._compare import Pairs, is_flat
from neuroalign.rsa.comparison import warn_if_biased
from neuroalign.rsa.form import concat, conditions, labelled, n_conditions, reorder

Rdms = xr.DataArray | xr.Dataset | Mapping[Any, Any] | NDArray[Any]


@dataclass(frozen=True)
class Inputs:
    """Models and data on the same pairs.

    Attributes
    ----------
    models : ndarray, shape (m, p)
        NaN where a model has no value.
    data : ndarray, shape (t, s, p)
        Finite. Leading dimensions are flattened into `t`; there is always a subject axis.
    names : list
        Model labels.
    pairs : tuple of two ndarrays of int, shape (p,)
        Conditions of each pair.
    n_conditions : int
        Number of conditions.
    lead : dict
        Leading dimensions of the data with sizes.
    coords : dict
        Coordinates along leading dimensions and subject.
    """

    models: NDArray[np.float64]
    data: NDArray[np.float64]
    names: list[Any]
    pairs: Pairs
    n_conditions: int
    lead: dict[str, int]
    coords: dict[str, tuple[str, NDArray[Any]]]


def prepare(models: Rdms, data: Rdms, method: str) -> Inputs:
    """Match models and data by condition label, average sessions, and drop pairs that the data lack."""
    target = _data(data)
    order = conditions(target)
    if len(order) < 3:
        raise SchemaError("Inference needs at least three conditions.", got=order.tolist())
    warn_if_biased(method, target)
    found = _models(models, plain=isinstance(data, np.ndarray), n=len(order))
    rows = np.stack([reorder(m, order).values for m in found.values()]).astype(np.float64)
    lead = [str(d) for d in target.dims if d not in ("subject", "pair")]
    target = target if "subject" in target.dims else target.expand_dims("subject")
    values = target.transpose(*lead, "subject", "pair").values.astype(np.float64)
    sizes = {d: target.sizes[d] for d in lead}
    coords = {
        str(k): (str(c.dims[0]), c.values)
        for k, c in target.coords.items()
        if len(c.dims) == 1 and c.dims[0] in (*lead, "subject")
    }
    flat, keep = _complete(values.reshape(-1, *values.shape[-2:]))
    first, second = np.triu_indices(len(order), 1)
    clean = _clean_models(rows[:, keep], list(found))
    return Inputs(clean, flat, list(found), (first[keep], second[keep]), len(order), sizes, coords)


def _data(data: Rdms) -> xr.DataArray:
    if isinstance(data, np.ndarray):
        if data.ndim not in (1, 2):
            raise SchemaError("Plain data RDMs must be (n_pairs,) or (n_subjects, n_pairs).", got=data.shape)
        return labelled(data, np.arange(n_conditions(data.shape[-1])), ["subject"] * (data.ndim - 1))
    if isinstance(data, xr.Dataset):
        raise SchemaError(
            "The data must be one DataArray or a mapping of subject to RDM.", got=f"a Dataset of {list(data.data_vars)}"
        )
    out = data if isinstance(data, xr.DataArray) else concat(data, "subject")
    conditions(out)
    if "session" in out.dims:
        attrs = out.attrs
        out = out.mean("session", skipna=True).assign_attrs(attrs)
    if "model" in out.dims:
        raise SchemaError("The data have a dimension 'model'.", fix="evaluate(models, data): models come first")
    return out


def _models(models: Rdms, plain: bool, n: int) -> dict[Any, xr.DataArray]:
    """Take models apart: label -> RDM with the dimension pair only."""
    if isinstance(models, np.ndarray):
        if models.ndim not in (1, 2):
            raise SchemaError("Plain model RDMs must be (n_models, n_pairs).", got=models.shape)
        models = dict(enumerate(np.atleast_2d(models)))
    elif isinstance(models, xr.Dataset):
        models = {name: models[name] for name in models.data_vars}
    elif isinstance(models, xr.DataArray):
        models = _unstack(models)
    if not models:
        raise SchemaError("No models.", expected="at least one model RDM")
    return {name: _model(name, rdm, plain, n) for name, rdm in models.items()}


def _unstack(models: xr.DataArray) -> dict[Any, xr.DataArray]:
    others = [d for d in models.dims if d != "pair"]
    if len(others) > 1:
        raise SchemaError("Models must have one dimension besides 'pair'.", got=f"dims {tuple(models.dims)}")
    if not others:
        return {str(models.name or "model"): models}
    dim = others[0]
    labels = models[dim].values.tolist() if dim in models.coords else range(models.sizes[dim])
    return {label: models.isel({dim: i}) for i, label in enumerate(labels)}


def _model(name: Any, rdm: Any, plain: bool, n: int) -> xr.DataArray:
    if isinstance(rdm, xr.DataArray) and not plain:
        if set(rdm.dims) != {"pair"}:
            raise SchemaError(
                f"Model {name!r} is not one RDM.",
                expected="dims ('pair',)",
                got=f"dims {tuple(rdm.dims)}",
                fix="pick one entry of the other dimensions, or give each as a model of its own",
            )
        return rdm
    values = np.asarray(rdm)
    if isinstance(rdm, xr.DataArray) or not plain:
        raise LabelsLostError(
            f"Model {name!r} and the data do not both have condition labels.",
            expected="all RDMs as DataArrays, or all as plain arrays",
            got=f"model: {type(rdm).__name__}; data: {'plain array' if plain else 'labelled'}",
            fix="label it: neuroalign.rsa.from_square(x, conditions=[...])",
        )
    if values.ndim != 1 or n_conditions(values.shape[0]) != n:
        raise SchemaError(f"Model {name!r} has the wrong size.", expected=f"({n * (n - 1) // 2},)", got=values.shape)
    return labelled(values, np.arange(n))


def _complete(data: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Keep the pairs that all usable RDMs have; RDMs without variance become zeros and score NaN."""
    flat = is_flat(data)  # (t, s)
    if flat.any():
        n = int(flat.sum())
        warn(f"Constant RDM: {n} of {flat.size} data RDMs are empty or constant and are left out.", stacklevel=5)
    if flat.all():
        raise SchemaError("No data RDM has any variance.", got=f"{flat.size} empty or constant RDMs")
    keep = np.atleast_1d(np.isfinite(data[~flat]).all(0))
    if not keep.all():
        lost = int((~keep).sum())
        warn(f"{lost} of {len(keep)} pairs are missing in some data RDM and are left out of all.", stacklevel=5)
    if keep.sum() < 3:
        raise SchemaError("The data RDMs have fewer than three pairs in common.", got=int(keep.sum()))
    out = data[..., keep]
    out[flat] = 0
    return out, keep


def _clean_models(rows: NDArray[np.float64], names: list[Any]) -> NDArray[np.float64]:
    flat = is_flat(rows)
    if flat.any():
        bad = [name for name, one in zip(names, flat, strict=True) if one]
        warn(f"Constant RDM: models {bad[:5]} have no variance; their scores are NaN.", stacklevel=5)
        rows = rows.copy()
        rows[flat] = 0
    partial = np.atleast_1d(~np.isfinite(rows).all(1))
    if partial.any():
        bad = [name for name, one in zip(names, partial, strict=True) if one]
        warn(f"Missing values: models {bad[:5]} are scored on the pairs that they have.", stacklevel=5)
    return rows
