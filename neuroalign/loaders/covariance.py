"""Noise covariances of sensors, as MNE writes them (-cov.fif)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from neuroalign import schema
from neuroalign.errors import IntegrityError, SchemaError, require
from neuroalign.loaders import _integrity
from neuroalign.loaders._mne import read_errors

__all__ = ["read_covariance"]

_COVARIANCE_BLOCK = 355


def read_covariance(path: str | Path) -> xr.DataArray:
    """Read a covariance of sensors, for example to whiten patterns before distances are taken.

    Parameters
    ----------
    path : path-like
        A ``-cov.fif`` or ``-cov.fif.gz`` file.

    Returns
    -------
    DataArray
        Dims (channel, channel_2), float64: products of V, T and T/m. Coordinate ``bad`` on ``channel``; attrs
        ``n_samples`` (degrees of freedom) and ``projections`` (descriptions of what was projected out).

    Raises
    ------
    IntegrityError
        If the file is missing, cut or damaged.
    SchemaError
        If it holds no covariance.

    Examples
    --------
    >>> import pathlib, tempfile, mne, numpy as np
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "rest-cov.fif"
    >>> mne.Covariance(np.eye(2), ["Cz", "Pz"], [], [], nfree=99).save(file, verbose="ERROR")
    >>> float(read_covariance(file).sel(channel="Cz", channel_2="Cz"))
    1.0
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise IntegrityError("There is no such file.", got=str(path), where=path.parent)
    if _COVARIANCE_BLOCK not in _integrity.scan_fif(path).blocks:
        raise SchemaError("The FIF file holds no covariance.", expected="a -cov.fif file", got=path.name, where=path)
    mne = require("mne", "eeg")
    with read_errors(path):
        cov = mne.read_cov(str(path), verbose="ERROR")
        values = np.diag(cov.data) if cov["diag"] else np.asarray(cov.data, dtype=np.float64)
        names = np.array(cov.ch_names, dtype=object)
    if values.shape != (names.size, names.size) or not np.isfinite(values).all():
        raise _integrity.damaged(path, "the matrix", f"{names.size} x {names.size} finite values", values.shape)
    bad = np.isin(names.astype(str), list(cov["bads"]))
    out = xr.DataArray(
        values,
        dims=("channel", "channel_2"),
        coords={"channel": names, "channel_2": names, "bad": ("channel", bad)},
        name="covariance",
        attrs={"n_samples": int(cov["nfree"]), "projections": [str(p["desc"]) for p in cov["projs"]]},
    )
    return schema.stamp(out, "read_covariance", sources=[path])
