"""Open what a step was pointed at, as DataArrays with labelled samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign.align import epochs
from neuroalign.errors import ConfigError
from neuroalign.loaders import load
from neuroalign.preprocess import SingleTrialBetas
from neuroalign.schema import MODALITIES, modality_of, sample_dim


def split_name(text: str) -> tuple[str, str | None]:
    """Split ``path#variable`` into its parts; the variable is None where there is none."""
    path, mark, variable = text.rpartition("#")
    return (path, variable) if mark else (text, None)


def open_object(text: str, *, modality: str | None = None) -> Any:
    """Load ``path`` or ``path#variable``."""
    path, variable = split_name(text)
    obj = load(Path(path), modality=modality)
    if variable is None:
        return obj
    if not isinstance(obj, Mapping) or variable not in obj:
        names = [str(name) for name in obj] if isinstance(obj, Mapping) else "one array"
        raise ConfigError("No such variable.", expected=names, got=variable, where=path)
    return obj[variable]


def open_array(text: str, role: str, *, modality: str | None = None) -> xr.DataArray:
    """Load one labelled array; of a recording its data, of a Dataset its only variable."""
    obj = open_object(text, modality=modality)
    if isinstance(obj, xr.Dataset):
        kind = modality_of(obj)
        names = [MODALITIES[kind]] if kind else [str(name) for name in obj.data_vars]
        if len(names) != 1:
            raise ConfigError(
                f"The {role} hold several variables.",
                expected="one, or a path with #variable",
                got=names,
                where=text,
                fix=f"{split_name(text)[0]}#{names[0] if names else 'variable'}",
            )
        obj = obj[names[0]].assign_attrs({**obj.attrs, **obj[names[0]].attrs})
    if not isinstance(obj, xr.DataArray):
        raise ConfigError(
            f"The {role} are not one array.", expected="a table or one recording", got=type(obj).__name__, where=text
        )
    sample_dim(obj)
    return obj if obj.name is not None else obj.rename(role)


def open_responses(
    text: str,
    features: xr.DataArray,
    *,
    window: tuple[float, float] | None,
    bandpass: tuple[float, float] | None,
    modality: str | None = None,
) -> xr.DataArray:
    """Load responses in the form that goes with the features.

    Features of stimuli need one response a trial: recordings of sensors are cut into epochs, fMRI runs become betas.
    """
    obj = open_object(text, modality=modality)
    kind = modality_of(obj) if isinstance(obj, xr.Dataset) else None
    if isinstance(obj, xr.DataTree):
        kind = next((modality_of(n.to_dataset()) for n in obj.leaves if n.has_data), None)
    if bandpass is not None:
        obj = _filtered(obj, bandpass, text)
    continuous = isinstance(obj, xr.DataTree) or (isinstance(obj, xr.Dataset) and sample_dim(obj) == "time")
    if kind and continuous and sample_dim(features) != "time":
        if kind == "fmri":
            return SingleTrialBetas().fit_transform(obj)
        if window is None:
            raise ConfigError(
                "Features of stimuli need one response a trial.",
                expected="a window around each event",
                got=f"a continuous {kind} recording",
                where=text,
                fix="--window -0.1 0.6",
            )
        return epochs(obj, tmin=window[0], tmax=window[1], baseline=(None, 0) if window[0] < 0 else None)[kind]
    if isinstance(obj, xr.DataArray):
        return obj if obj.name is not None else obj.rename("responses")
    return open_array(text, "responses", modality=modality) if bandpass is None else obj[MODALITIES[str(kind)]]


def _filtered(obj: Any, band: tuple[float, float], where: str) -> Any:
    if isinstance(obj, xr.DataTree):
        return obj.map_over_datasets(lambda ds: _filtered(ds, band, where) if ds.data_vars else ds)
    if isinstance(obj, xr.Dataset) and (kind := modality_of(obj)):
        name = MODALITIES[kind]
        return obj.assign({name: _filtered(obj[name], band, where)})
    if not isinstance(obj, xr.DataArray) or "time" not in obj.dims:
        raise ConfigError(
            "Only time series can be filtered.", expected="a dimension time", got=type(obj).__name__, where=where
        )
    from neuroalign.preprocess import BandPass
    return BandPass(low=band[0], high=band[1]).fit_transform(obj).transpose(*obj.dims)


def open_rdms(text: str, method: str) -> Any:
    """Load RDMs, or features or responses and compute their RDMs."""
    from neuroalign.rsa import rdm

    obj = open_object(text)
    if isinstance(obj, xr.DataArray):
        return obj if "pair" in obj.dims else rdm(obj, method=method)
    if isinstance(obj, Mapping):
        return {str(k): v if "pair" in v.dims else rdm(v, method=method) for k, v in obj.items()}
    raise ConfigError(
        "Not RDMs and not patterns.",
        expected="a dimension pair, or stimuli by units",
        got=type(obj).__name__,
        where=text,
    )


def by_label(values: xr.DataArray, name: str) -> dict[str, np.ndarray]:
    """Indices of targets for every value of a target coordinate, in order of appearance."""
    labels = [str(v) for v in values[name].values.tolist()]
    return {label: np.flatnonzero(np.array(labels) == label) for label in dict.fromkeys(labels)}
