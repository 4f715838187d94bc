"""Single-trial responses that other tools estimated: GLMsingle, NSD, or any array or image of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign import schema
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.loaders._acquisition import space_of
from neuroalign.loaders._betas import Stored, open_betas
from neuroalign.loaders._grids import Grid, grid_from_image, grid_from_path, inside_of
from neuroalign.loaders._nifti_read import check_memory
from neuroalign.loaders.events import read_tsv
from neuroalign.schema._build_fmri import AFFINE_TOLERANCE, corner_distance

__all__ = ["read_betas"]

#: NSD stores percent signal change times 300 as int16.
NSD_SCALE = 1 / 300


def read_betas(
    path: str | os.PathLike[str],
    *,
    trials: pd.DataFrame | str | os.PathLike[str] | None = None,
    mask: Any = None,
    space: str | None = None,
    session: str | int | None = None,
    scale: float | None = None,
    units: str | None = None,
    max_bytes: int = 8 * 2**30,
) -> xr.Dataset:
    """Read single-trial responses of fMRI.

    Parameters
    ----------
    path : str or path-like
        - GLMsingle: ``TYPED_FITHRF_GLMDENOISE_RR.hdf5`` (Python) or ``.mat`` (MATLAB), and those of types B and C;
        - NSD: ``betas_session01.nii.gz``, ``.hdf5`` or ``.mat``;
        - a NIfTI image (i, j, k, trial); or ``.npy``, ``.npz`` or ``.mat`` with axes (i, j, k, trial),
          (voxel, 1, 1, trial), or with voxels and trials in either order if `trials` tells which is which.
    trials : DataFrame or path, optional
        One row a trial, in the order of the file: ``stimulus_id``, ``run``, ``session`` and any others. A path is
        that of a tab-separated table. ``repeat`` is counted from 1 for each stimulus where it is not given, over the
        whole table.
    mask : path or nibabel image, optional
        Volume with zeros outside and one other value inside. With a grid it chooses voxels; for a file without a grid
        it says where its voxels lie.
    space : str, optional
        Name of the space; by default the entity ``space-`` of the name of the file or the mask.
    session : str or int, optional
        Session of the file; by default the number in the name of an NSD file. It chooses the rows of `trials` where
        these have a column ``session`` with several values.
    scale : float, optional
        Factor from stored numbers to responses. By default 1/300 for NSD files of integers and 1 for floats.
    units : str, optional
        Unit of the responses; by default ``%`` for GLMsingle and NSD, and ``a.u.`` for others.
    max_bytes : int
        Refuse to allocate more than this.

    Returns
    -------
    Dataset
        Variable ``betas`` (float32) with dims (trial, voxel). Columns of `trials` are coordinates along ``trial``;
        ``i j k``, ``x y z`` (mm, where image or mask have an affine) and other values that the file has for each voxel
        (such as ``R2`` and ``HRFindex``) along ``voxel``. attrs ``units``, ``estimated_by``, ``volume_shape``,
        ``affine`` and ``space``. Voxels that are 0 in every trial of an NSD file of integers have no data and are NaN.

    Raises
    ------
    IntegrityError
        If the file is missing, cut or damaged, or a pickle (the ``.npy`` files of GLMsingle).
    SchemaError
        If the axes cannot be told, or the mask does not fit.
    AlignmentError
        If `trials` has another number of rows than the file has trials.
    ConfigError
        If integers have no known scale, or the result is larger than `max_bytes`.

    Notes
    -----
    Voxels without a grid are taken in the order in which they leave a mask: for ``.mat`` files as ``data(mask)`` does
    in MATLAB (i fastest), for all others as ``data[mask]`` does in NumPy (k fastest).

    References
    ----------
    .. [1] Prince, J. S., et al. (2022). Improving the accuracy of single-trial fMRI response estimates using
       GLMsingle. eLife 11.
    .. [2] Allen, E. J., et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial
       intelligence. Nature Neuroscience 25.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "betas.npz"
    >>> np.savez(file, betasmd=np.ones((2, 3, 1, 4), dtype="f4"), R2=np.zeros((2, 3, 1)))
    >>> ds = read_betas(file, trials=pd.DataFrame({"stimulus_id": ["cat", "dog", "cat", "cow"]}))
    >>> ds["betas"].dims, ds["repeat"].values.tolist(), ds.attrs["units"]
    (('trial', 'voxel'), [1, 1, 2, 1], '%')
    """
    path = Path(path).expanduser()
    table, table_path = _table(trials)
    file = open_betas(path, None if table is None else len(table), max_bytes)
    session = file.nsd.group(1).zfill(2) if session is None and file.nsd else session
    if table is not None:
        table = _of_session(table, session, file)
    grid = None if mask is None else _mask(mask, file)
    voxels, ijk = _voxels(file, grid)
    check_memory(path, 4 * file.n_trials * len(voxels[0]), max_bytes)
    values = _scaled(file, file.read(voxels), scale)
    affine = file.affine if grid is None else grid.affine
    shape = file.grid if len(file.grid) == 3 else grid.values.shape[::-1] if grid else None
    ds = _assemble(file, values, voxels, ijk, affine, shape, units)
    space = space or space_of(path.name) or (grid.space if grid else None)
    ds = _with_trials(ds, table, session).assign_attrs({"space": space} if space else {})
    for remark in file.remarks:
        ds = schema.log(ds, remark)
    sources = [path, *([Path(mask)] if isinstance(mask, str | os.PathLike) else []), *table_path]
    return schema.stamp(schema.travel(ds, "betas"), "read_betas", sources=sources, scale=scale, session=session)


def _table(trials: Any) -> tuple[pd.DataFrame | None, list[Path]]:
    if isinstance(trials, str | os.PathLike):
        table = read_tsv(Path(trials), text=("stimulus_id",))
        return table, [Path(trials)]
    if trials is None or isinstance(trials, pd.DataFrame):
        return trials, []
    raise ConfigError("trials= is not a table.", expected="a DataFrame or a path", got=type(trials).__name__)


def _same_label(a: Any, b: Any) -> bool:
    """Whether two labels of a session are one: 1, "1" and "01" are."""
    left, right = str(a), str(b)
    return left == right or (left.isdigit() and right.isdigit() and int(left) == int(right))


def _of_session(table: pd.DataFrame, session: Any, file: Stored) -> pd.DataFrame:
    """Count repeats over the whole table, then keep the rows of this file."""
    if "repeat" not in table and "stimulus_id" in table:
        table = table.assign(repeat=table.groupby("stimulus_id").cumcount().to_numpy() + 1)
    if "session" in table and table["session"].nunique() > 1:
        if session is None:
            raise ConfigError(
                "The table of trials has several sessions.",
                expected=f"session= one of {table['session'].unique().tolist()}",
                got=None,
                where=file.path,
            )
        table = table[[_same_label(value, session) for value in table["session"]]]
    if len(table) != file.n_trials:
        raise AlignmentError(
            "The table of trials does not fit the file.",
            expected=f"{file.n_trials} rows, one a trial",
            got=f"{len(table)}" + (f" of session {session}" if session is not None else ""),
            where=file.path,
            fix="pass the rows of this file alone, in its order; or session=",
        )
    return table.reset_index(drop=True)


def _mask(mask: Any, file: Stored) -> Grid:
    grid = grid_from_path(Path(mask), []) if isinstance(mask, str | os.PathLike) else grid_from_image(mask, "mask")
    if len(file.grid) == 3 and grid.values.shape != file.grid[::-1]:
        raise SchemaError(
            "The mask has another grid than the responses.",
            expected=f"{file.grid} voxels (i, j, k)",
            got=grid.values.shape[::-1],
            where=f"{grid.name} and {file.path}",
        )
    if file.affine is not None:
        distance = corner_distance(grid.affine, file.affine, file.grid[::-1])
        if distance > AFFINE_TOLERANCE:
            raise SchemaError(
                f"The mask lies elsewhere than the responses: their affines differ by {distance:.3g} mm.",
                expected=file.affine.round(4).tolist(),
                got=grid.affine.round(4).tolist(),
                where=f"{grid.name} and {file.path}",
                fix="resample the mask to the responses",
            )
    return grid


def _voxels(file: Stored, mask: Grid | None) -> tuple[tuple[NDArray[np.intp], ...], NDArray[np.intp] | None]:
    """Which voxels to read, and their i j k with the shape of their volume where these are known."""
    inside = None if mask is None else inside_of(mask)  # (k, j, i)
    if len(file.grid) == 3:
        kji = np.argwhere(np.ones(file.grid[::-1], dtype=bool) if inside is None else inside)
        return tuple(kji.T[::-1]), kji[:, ::-1]
    all_of_them = (np.arange(file.grid[0]),)
    if inside is None:
        return all_of_them, None
    if (found := int(inside.sum())) != file.grid[0]:
        raise SchemaError(
            "The mask does not hold the voxels of the file.",
            expected=f"{file.grid[0]} voxels",
            got=found,
            where=f"{mask.name if mask else ''} and {file.path}",
        )
    return all_of_them, np.argwhere(inside.T) if file.slow_first else np.argwhere(inside)[:, ::-1]


def _scaled(file: Stored, values: NDArray[Any], scale: float | None) -> NDArray[np.float32]:
    if scale is None and file.integers and not file.nsd:
        raise ConfigError(
            "The responses are stored as integers without a scale.",
            expected="scale=, the factor from stored numbers to responses",
            got=f"{file.path.name}",
            where=file.path,
            fix="pass scale=1/300 for NSD, or scale=1 if the integers are the responses",
        )
    if scale is not None and not (np.isfinite(scale) and scale != 0):
        raise ConfigError("Not a scale.", expected="a finite factor other than 0", got=scale)
    factor = scale if scale is not None else NSD_SCALE if file.integers else 1.0
    out = values.astype(np.float32, copy=False)  # read for this call alone, so it may be changed
    if file.nsd and file.integers:
        out[:, ~out.any(axis=0)] = np.nan
    if factor != 1.0:
        out *= np.float32(factor)
    return out


def _assemble(
    file: Stored,
    values: NDArray[np.float32],
    voxels: tuple[NDArray[np.intp], ...],
    ijk: NDArray[np.intp] | None,
    affine: NDArray[np.float64] | None,
    shape: tuple[int, ...] | None,
    units: str | None,
) -> xr.Dataset:
    coords: dict[str, Any] = {"trial": np.arange(len(values)), "voxel": np.arange(values.shape[1])}
    si, factor = schema.to_si(units or ("%" if file.estimated_by else "a.u."))
    attrs: dict[str, Any] = {"units": si, "estimated_by": file.estimated_by or "unknown"}
    if ijk is not None:
        coords |= {axis: ("voxel", ijk[:, m]) for m, axis in enumerate("ijk")}
    if ijk is not None and affine is not None:
        xyz = ijk @ affine[:3, :3].T + affine[:3, 3]
        coords |= {axis: ("voxel", xyz[:, m]) for m, axis in enumerate("xyz")}
        attrs["affine"] = affine.ravel().tolist()
    if shape is not None:
        attrs["volume_shape"] = [int(n) for n in shape]
    coords |= {name: ("voxel", np.asarray(a[voxels])) for name, a in file.maps.items() if name not in coords}
    values = values if factor == 1.0 else values * np.float32(factor)
    return xr.Dataset({"betas": (("trial", "voxel"), values)}, coords=coords, attrs=attrs)


def _with_trials(ds: xr.Dataset, table: pd.DataFrame | None, session: Any) -> xr.Dataset:
    coords: dict[str, Any] = {}
    columns = {} if table is None else {str(name): table[name].to_numpy() for name in table}
    for name, values in columns.items():
        taken = f"trial_{name}" if name in ds.coords else name
        label = name in ("stimulus_id", "session", "run", "subject") or values.dtype.kind not in "biuf"
        coords[taken] = ("trial", np.array([_text(v) for v in values], dtype=object) if label else values)
    if session is not None and "session" not in coords:
        coords["session"] = ("trial", np.full(ds.sizes["trial"], str(session), dtype=object))
    known = {"session": str(session)} if session is not None else {}
    return ds.assign_coords(coords).assign_attrs(known)


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float | np.floating) and value == int(value) else str(value)
