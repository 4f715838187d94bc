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
from neuroalign.pipeline.options import ModelOptions
from neuroalign.preprocess import BandPass, Resampler, SingleTrialBetas
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


def one_array(obj: Any, role: str, where: str) -> xr.DataArray:
    """Give the one labelled array of an object: of a recording its data, of a Dataset its only variable."""
    if isinstance(obj, xr.Dataset):
        kind = modality_of(obj)
        names = [MODALITIES[kind]] if kind else [str(name) for name in obj.data_vars]
        if len(names) != 1:
            raise ConfigError(
                f"The {role} hold several variables.",
                expected="one, or a path with #variable",
                got=names,
                where=where,
                fix=f"{split_name(where)[0]}#{names[0] if names else 'variable'}",
            )
        obj = obj[names[0]].assign_attrs({**obj.attrs, **obj[names[0]].attrs})
    if not isinstance(obj, xr.DataArray):
        raise ConfigError(
            f"The {role} are not one array.", expected="a table or one recording", got=type(obj).__name__, where=where
        )
    sample_dim(obj)
    return obj if obj.name is not None else obj.rename(role)


def open_features(text: str, options: ModelOptions) -> xr.DataArray:
    """Load features; time series are resampled as asked."""
    return in_time(one_array(open_object(text), "features", text), options, text, filtered=False)


def open_responses(text: str, features: xr.DataArray, options: ModelOptions) -> xr.DataArray:
    """Load responses in the form that goes with the features.

    Features of stimuli need one response a trial: recordings of sensors are cut into epochs, fMRI runs become betas.
    """
    obj = in_time(open_object(text, modality=options.modality), options, text)
    kind = _modality(obj)
    continuous = isinstance(obj, xr.DataTree) or (isinstance(obj, xr.Dataset) and kind and sample_dim(obj) == "time")
    if continuous and sample_dim(features) != "time":
        if kind == "fmri":
            return SingleTrialBetas().fit_transform(obj)
        if options.window is None:
            raise ConfigError(
                "Features of stimuli need one response a trial.",
                expected="a window around each event",
                got=f"a continuous {kind} recording",
                where=text,
                fix="--window -0.1 0.6",
            )
        low, high = options.window
        return epochs(obj, tmin=low, tmax=high, baseline=(None, 0) if low < 0 else None)[str(kind)]
    if options.window is not None:
        raise ConfigError(
            "There is nothing to cut epochs from.",
            expected="a continuous recording with events, and features of stimuli",
            got=type(obj).__name__ if kind is None else f"{kind} along {sample_dim(obj)}",
            where=text,
            fix="leave --window out",
        )
    return one_array(obj, "responses", text)


def _modality(obj: Any) -> str | None:
    if isinstance(obj, xr.DataTree):
        return next((modality_of(node.to_dataset()) for node in obj.leaves if node.has_data), None)
    return modality_of(obj) if isinstance(obj, xr.Dataset) else None


def in_time(obj: Any, options: ModelOptions, where: str, *, filtered: bool = True) -> Any:
    """Filter and resample time series as asked; features are only resampled."""
    band = options.bandpass if filtered else None
    if band is None and (options.resample is None or (not filtered and "time" not in obj.dims)):
        return obj
    if isinstance(obj, xr.DataTree):
        return obj.map_over_datasets(lambda ds: in_time(ds, options, where) if ds.data_vars else ds)
    if not isinstance(obj, (xr.Dataset, xr.DataArray)) or "time" not in obj.dims:
        raise ConfigError(
            "Only time series can be filtered or resampled.",
            expected="a dimension time",
            got=type(obj).__name__,
            where=where,
        )
    if band is None:
        return Resampler(options.resample).fit_transform(obj)
    return BandPass(*band, resample=options.resample).fit_transform(obj)


def open_rdms(text: str, method: str) -> Any:
    """Load RDMs, or features or responses and compute their RDMs."""
    from neuroalign.rsa import rdm

    obj = open_object(text)
    if isinstance(obj, xr.DataTree):
        obj = None  # recordings have no conditions yet
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


def check_options(options: ModelOptions, features: xr.DataArray) -> None:
    """Refuse options that would do nothing."""
    if "time" in features.dims:
        return
    for name in ("resample", "lags", "delays"):
        if getattr(options, name, None) is not None:
            raise ConfigError(
                f"The option {name} needs time series.",
                expected="features along time",
                got=f"features along {sample_dim(features)}",
                where=name,
                fix=f"leave --{name} out",
            )


def by_label(values: xr.DataArray, name: str) -> dict[str, np.ndarray]:
    """Indices of targets for every value of a target coordinate, in order of appearance."""
    labels = [str(v) for v in values[name].values.tolist()]
    return {label: np.flatnonzero(np.array(labels) == label) for label in dict.fromkeys(labels)}
