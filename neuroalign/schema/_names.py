"""The words of the data model: dimensions, modalities and which dimension counts samples."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from neuroalign.errors import SchemaError

#: The sample dimension of an object is the first of these that it has: trials before time points.
SAMPLE_DIMS = ("trial", "stimulus", "segment", "sample", "time")

#: Coordinates that tell one uninterrupted piece of recording from another.
RUN_NAMES = ("subject", "session", "run", "story", "segment")

SENSOR_MODALITIES = ("eeg", "ieeg", "meg")

#: The variable that holds the recording, by modality.
MODALITIES = {"eeg": "eeg", "ieeg": "ieeg", "meg": "meg", "fmri": "bold", "spikes": "spikes"}

#: Attributes of the Dataset that its variable carries too, so that they survive ``ds["eeg"]``.
TRAVELLING = (
    "units", "sfreq", "tr", "tmin", "start_time", "affine", "space", "volume_shape", "coord_frame", "atlas",
    "nifti_header", "gifti", "cifti", "delay_span",
)  # fmt: skip

#: Those that say where sites lie, and mean nothing for other sites.
OF_SITES = ("affine", "volume_shape", "nifti_header", "gifti", "cifti")


def travel(ds: xr.Dataset, variable: str) -> xr.Dataset:
    """Give a variable the attributes that it needs when it leaves its Dataset.

    Parameters
    ----------
    ds : Dataset
        A recording; its variable is changed in place.
    variable : str
        Name of the variable.

    Returns
    -------
    Dataset
        The same Dataset.
    """
    ds[variable].attrs.update({name: ds.attrs[name] for name in TRAVELLING if name in ds.attrs})
    return ds


def sample_dim(obj: xr.DataArray | xr.Dataset) -> str:
    """Name the dimension that counts samples.

    Parameters
    ----------
    obj : DataArray or Dataset
        A labelled object of the data model.

    Returns
    -------
    str
        The first of `SAMPLE_DIMS` among the dimensions of `obj`.

    Raises
    ------
    SchemaError
        If there is none.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> sample_dim(xr.DataArray(np.zeros((3, 4, 5)), dims=("trial", "channel", "time")))
    'trial'
    """
    for name in SAMPLE_DIMS:
        if name in obj.dims:
            return name
    raise SchemaError(
        "No sample dimension.",
        expected=f"one of the dimensions {', '.join(SAMPLE_DIMS)}",
        got=f"dims {tuple(obj.dims)}",
        fix="rename the dimension that counts samples, for example x.rename(dim_0='trial')",
    )


def table_along(ds: xr.Dataset, dim: str) -> pd.DataFrame:
    """Columns along a dimension, under the names they had before they met variables of the same name."""
    columns = {str(n): c.values for n, c in ds.coords.items() if c.dims == (dim,) and n != dim}
    plain = {name: name.removeprefix(f"{dim}_") for name in columns}
    return pd.DataFrame({plain[n] if plain[n] in ds.variables else n: v for n, v in columns.items()})


def modality_of(ds: xr.Dataset) -> str | None:
    """Tell the modality of a recording from its variables.

    Parameters
    ----------
    ds : Dataset
        A recording, or anything else.

    Returns
    -------
    str or None
        ``eeg``, ``ieeg``, ``meg``, ``fmri`` or ``spikes``; None for other objects.
    """
    for modality, variable in MODALITIES.items():
        if variable in ds.data_vars:
            return modality
    return None
