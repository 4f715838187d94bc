"""Source estimates on the cortical surface, as MNE writes them (.stc)."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign import schema
from neuroalign.errors import ConfigError, IntegrityError, require
from neuroalign.loaders._integrity import cut, damaged
from neuroalign.loaders._mne import read_errors

__all__ = ["read_source"]

_HEMI = re.compile(r"-(lh|rh)\.stc$", re.IGNORECASE)


def read_source(path: str | Path, *, units: str | None = None, space: str | None = None) -> xr.Dataset:
    """Read a source estimate of both hemispheres.

    Parameters
    ----------
    path : path-like
        The ``-lh.stc`` or ``-rh.stc`` file; the other must lie beside it.
    units : str, optional
        What the values are, for example ``"z"`` for noise-normalised estimates; the file does not say. By default
        arbitrary units.
    space : str, optional
        The surface that the vertices belong to, such as ``"fsaverage"`` or a subject; the file does not say.

    Returns
    -------
    Dataset
        Variable ``source`` with dims (vertex, time), float32, left hemisphere first. Coordinates on ``vertex``:
        ``hemi`` (``"L"`` or ``"R"``) and ``node``, the number of the vertex on the surface of its hemisphere. Attrs
        ``sfreq``, ``first_sample``, ``units``, ``space``.

    Raises
    ------
    IntegrityError
        If a file is missing, cut or damaged.
    ConfigError
        If it is not a surface estimate.
    SchemaError
        If the unit is unknown.

    Examples
    --------
    >>> import pathlib, tempfile, mne, numpy as np
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> stc = mne.SourceEstimate(np.ones((3, 5)), [np.array([4, 7]), np.array([2])], tmin=0.1, tstep=0.01)
    >>> stc.save(folder / "face", verbose="ERROR")
    >>> ds = read_source(folder / "face-rh.stc", units="z", space="fsaverage")
    >>> ds["hemi"].values.tolist(), ds["node"].values.tolist(), float(ds["time"][0])
    (['L', 'L', 'R'], [4, 7, 2], 0.1)
    """
    si, factor = ("a.u.", 1.0) if units is None else schema.to_si(units)
    pair = _pair(Path(path).expanduser())
    for file in pair:
        _check(file)
    mne = require("mne", "eeg")
    with read_errors(pair[0]):
        stc = mne.read_source_estimate(str(pair[0]))
        values = np.asarray(stc.data, dtype=np.float32) * np.float32(factor)
    sfreq = round(1 / float(stc.tstep), 4)  # the step is stored as a 32-bit float
    first_sample = round(float(stc.tmin) * sfreq)
    coords: dict[str, Any] = {
        "hemi": ("vertex", np.repeat(np.array(["L", "R"], dtype=object), [len(v) for v in stc.vertices])),
        "node": ("vertex", np.concatenate(stc.vertices).astype(np.int64)),
        "time": ("time", schema.time_index(values.shape[1], sfreq, first_sample)),
    }
    attrs = {"units": si, "sfreq": sfreq, "first_sample": first_sample, "space": space or "unknown"}
    ds = xr.Dataset({"source": (("vertex", "time"), values, dict(attrs))}, coords=coords, attrs=attrs)
    given: dict[str, Any] = {} if units is None else {"units": units}
    return schema.stamp(ds, "read_source", sources=pair, **given)


def _pair(path: Path) -> tuple[Path, Path]:
    """The files of the left and right hemisphere."""
    match = _HEMI.search(path.name)
    if match is None:
        raise ConfigError(
            "Not a source estimate on a surface.",
            expected="a name that ends in -lh.stc or -rh.stc",
            got=path.name,
            where=path,
            fix="volume estimates need their source space: read them with mne.read_source_estimate",
        )
    left, right = (path.with_name(f"{path.name[: match.start()]}-{hemi}.stc") for hemi in ("lh", "rh"))
    for file in (left, right):
        if not file.is_file():
            raise IntegrityError("A hemisphere is missing.", expected=file.name, got="no such file", where=path)
    return left, right


def _check(path: Path) -> None:
    """Compare the numbers of vertices and samples with the size of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12:
            raise cut(path, 12, size, "bytes of header")
        tmin, step, n_vertices = struct.unpack(">ffI", head)
        file.seek(12 + 4 * n_vertices)
        count = file.read(4)
    if not (np.isfinite(tmin) and np.isfinite(step) and step > 0):
        raise damaged(path, "start and step", "finite numbers of ms", (tmin, step))
    n_times = struct.unpack(">I", count)[0] if len(count) == 4 else 1
    expected = 16 + 4 * n_vertices * (1 + n_times)
    if len(count) < 4 or expected != size or n_times < 1:
        raise cut(path, expected, size)
