"""The ``.neuro`` accessor of Datasets and DataArrays, and the registry of views."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from neuroalign.errors import ConfigError
from neuroalign.schema._build_spikes import spike_rates
from neuroalign.schema._names import modality_of
from neuroalign.schema._provenance import history
from neuroalign.schema._validate import validate

#: Views live on higher floors. They are named here and imported when asked for, so that data and results can
#: show themselves without this floor depending on plots or reports.
VIEWS = {
    "encoding_report": "neuroalign.report:encoding_report",
    "rsa_report": "neuroalign.report:rsa_report",
    **{name: f"neuroalign.convert:{name}" for name in ("to_mne", "to_nifti", "to_gifti", "to_cifti")},
    **{
        name: f"neuroalign.plots:{name}"
        for name in (
            "auto",
            "topomap",
            "timecourse",
            "bars",
            "distribution",
            "brain",
            "score_vs_ceiling",
            "layer_profile",
            "rdm",
            "rdm_grid",
            "rsa_bars",
            "response_function",
            "alphas",
            "venn_bars",
            "heat_map",
            "layout",
            "traces",
            "butterfly",
            "erp_image",
            "mean_epi",
            "carpet",
            "parcellation",
            "electrodes",
        )
    },
}


def view(name: str) -> Callable[..., Any]:
    """Give the function that draws or writes the named view.

    Parameters
    ----------
    name : str
        A key of `VIEWS`, for example ``"topomap"``.

    Returns
    -------
    callable
        The plotting or report function.

    Raises
    ------
    ConfigError
        If there is no such view.
    """
    try:
        module, _, function = VIEWS[name].partition(":")
    except KeyError:
        raise ConfigError("Unknown view.", expected=", ".join(sorted(VIEWS)), got=name) from None
    return getattr(importlib.import_module(module), function)


@xr.register_dataset_accessor("neuro")
@xr.register_dataarray_accessor("neuro")
class NeuroAccessor:
    """Helpers on Datasets and DataArrays: ``x.neuro.validate()``, ``.summary()``, ``.history()``, ``.plot()``.

    Parameters
    ----------
    obj : Dataset or DataArray
        The object it is called on.
    """

    def __init__(self, obj: xr.Dataset | xr.DataArray) -> None:
        self._obj = obj

    def validate(self, modality: str | None = None, **options: Any) -> xr.Dataset:
        """Check the recording against the data model; see `neuroalign.schema.validate`."""
        if isinstance(self._obj, xr.DataArray):
            name = self._obj.name or "values"
            ds = self._obj.to_dataset(name=name).assign_attrs(self._obj.attrs)
            return validate(ds, modality, **options)
        return validate(self._obj, modality, **options)

    def history(self) -> dict[str, Any]:
        """Read the provenance; see `neuroalign.schema.history`."""
        return history(self._obj)

    def summary(self) -> str:
        """Say in a few lines what the object holds.

        Returns
        -------
        str
            Modality, sizes, duration, units, events, bad channels and sources.
        """
        obj = self._obj
        kind = modality_of(obj) if isinstance(obj, xr.Dataset) else None
        sizes = " x ".join(f"{n} {d}" for d, n in obj.sizes.items())
        lines = [f"{kind or obj.__class__.__name__}: {sizes}"]
        attrs = obj.attrs
        if "sfreq" in attrs and "time" in obj.sizes:
            rate = f"TR {attrs['tr']:g} s" if "tr" in attrs else f"{attrs['sfreq']:g} Hz"
            lines.append(f"time:    {obj.sizes['time'] / attrs['sfreq']:.2f} s at {rate}")
        if isinstance(obj, xr.Dataset) and "spike" in obj.dims and kind == "spikes":
            lines += _spiking(obj)
        elif "units" in attrs:
            lines.append(f"units:   {attrs['units']}")
        for name in ("channel_type", "roi", "trial_type", "run", "space", "coord_frame"):
            if name in obj.coords and obj[name].ndim == 1:
                lines.append(f"{name + ':':<8} {_counts(obj[name])}")
            elif name in attrs:
                lines.append(f"{name + ':':<8} {attrs[name]}")
        if "bad" in obj.coords:
            bad = obj["channel"].values[obj["bad"].values.astype(bool)].tolist()
            lines.append(f"bad:     {', '.join(map(str, bad)) or 'none marked'}")
        sources = [f"{s['name']} (sha256 {s.get('sha256', 'not taken')[:12]})" for s in history(obj)["sources"]]
        if sources:
            more = f" and {len(sources) - 3} more" if len(sources) > 3 else ""
            lines.append(f"source:  {', '.join(sources[:3])}{more}")
        lines += [f"note:    {message}" for message in history(obj)["log"]]
        return "\n".join(lines)

    def to_mne(self, **options: Any) -> Any:
        """Give a Raw, Epochs or list of Evoked of MNE; see `neuroalign.convert.to_mne`."""
        return view("to_mne")(self._obj, **options)

    def to_nifti(self, variable: str | None = None, **options: Any) -> Any:
        """Give a NIfTI image; see `neuroalign.convert.to_nifti`."""
        return view("to_nifti")(self._obj, variable, **options)

    def to_gifti(self, variable: str | None = None, **options: Any) -> Any:
        """Give GIFTI images by hemisphere; see `neuroalign.convert.to_gifti`."""
        return view("to_gifti")(self._obj, variable, **options)

    def to_cifti(self, variable: str | None = None, **options: Any) -> Any:
        """Give a CIFTI-2 image; see `neuroalign.convert.to_cifti`."""
        return view("to_cifti")(self._obj, variable, **options)

    def plot(self, kind: str = "auto", variable: str | None = None, **options: Any) -> Any:
        """Draw the object.

        Parameters
        ----------
        kind : str
            Name of a view; ``"auto"`` picks the one that fits.
        variable : str, optional
            Of a Dataset, the variable to draw. Options that name one of its dimensions then select an entry, as in
            ``parts.neuro.plot("brain", variable="unique", band="semantics")``.
        **options
            Options of the plotting function in `neuroalign.plots`.

        Returns
        -------
        matplotlib.axes.Axes
            Where it was drawn.
        """
        obj = self._obj
        if variable is not None:
            obj, options = _chosen(obj, variable, options)
        if kind == "auto" and isinstance(obj, xr.Dataset):
            variables = list(obj.data_vars)
            if len(variables) != 1:
                raise ConfigError(
                    "A Dataset with several variables cannot be drawn at once.",
                    expected="one variable",
                    got=variables,
                    fix="ds['name'].neuro.plot()",
                )
            obj = obj[variables[0]].assign_attrs({**obj.attrs, **obj[variables[0]].attrs})
        return view(kind)(obj, **options)


def _chosen(
    obj: xr.Dataset | xr.DataArray, variable: str, options: dict[str, Any]
) -> tuple[xr.DataArray, dict[str, Any]]:
    """Take one variable with the attributes of its Dataset, and the entries that options name."""
    if not isinstance(obj, xr.Dataset) or variable not in obj:
        got = list(obj.data_vars) if isinstance(obj, xr.Dataset) else "a DataArray"
        raise ConfigError("No such variable.", expected=f"a Dataset with {variable!r}", got=got)
    array = obj[variable].assign_attrs({**obj.attrs, **obj[variable].attrs})
    picked = {key: value for key, value in options.items() if key in array.dims}
    return array.sel(picked), {key: value for key, value in options.items() if key not in picked}


def _spiking(ds: xr.Dataset) -> list[str]:
    rates = spike_rates(ds)
    window = f"time:    {ds.attrs['n_samples'] / ds.attrs['sfreq']:g} s observed, clock of {ds.attrs['sfreq']:g} Hz"
    if not rates.size:
        return [window]
    middle = float(np.median(rates))
    return [window, f"rates:   {rates.min():.3g} to {rates.max():.3g} Hz, median {middle:.3g} Hz"]


def _counts(values: xr.DataArray, most: int = 8) -> str:
    seen: dict[str, int] = {}
    for value in values.values.tolist():
        seen[str(value)] = seen.get(str(value), 0) + 1
    shown = ", ".join(f"{name} ({n})" for name, n in list(seen.items())[:most])
    return shown + (f" and {len(seen) - most} more" if len(seen) > most else "")
