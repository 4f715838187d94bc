"""BOLD runs of a BIDS data set, with the mask and the confounds that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign import schema
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.loaders._acquisition import Written, read_sidecar, repetition_time, sidecar_attrs
from neuroalign.loaders._confounds import Strategy, read_confounds
from neuroalign.loaders._entities import parse_name
from neuroalign.loaders._layout import Recording
from neuroalign.loaders._nifti import open_nifti
from neuroalign.loaders._sidecars import nearest
from neuroalign.loaders._study import Study, check_link
from neuroalign.loaders.fmri import read_fmri
from neuroalign.schema._build_fmri import AFFINE_TOLERANCE, corner_distance

__all__ = ["attach_confounds", "read_bold"]

_OPTIONS = ("atlas", "labels", "tr", "lazy", "verify", "keep_phi", "max_bytes")


def read_bold(study: Study, recording: Recording, sidecar: Mapping[str, Any], options: dict[str, Any]) -> xr.Dataset:
    """Read a run: volumes, or voxels of its brain mask; both hemispheres of a surface; grayordinates.

    Parameters
    ----------
    study : Study
        The data set.
    recording : Recording
        A recording in it.
    sidecar : mapping
        Its merged JSON sidecars.
    options : dict
        ``mask`` and the other options of `neuroalign.loaders.read_fmri`.

    Returns
    -------
    Dataset
        As from `neuroalign.loaders.read_fmri`.

    Raises
    ------
    ConfigError
        If an option is unknown, or several masks belong to the run.
    SchemaError
        If grids, spaces or repetition times contradict each other.
    """
    mask = options.pop("mask", "auto")
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise ConfigError("Unknown option for fMRI.", expected=", ".join(("mask", *_OPTIONS)), got=unknown)
    volume, cifti = recording.extension in (".nii", ".nii.gz"), recording.extension.endswith("tseries.nii")
    if isinstance(mask, str) and mask == "auto":
        mask = _brain_mask(study, recording) if volume and options.get("atlas") is None else None
    # A repetition time from a folder above, where read_fmri does not look, must agree with the image all the same.
    inherited = "RepetitionTime" in sidecar and "RepetitionTime" not in read_sidecar(recording.path)
    settle = inherited and options.get("tr") is None
    if settle and not cifti:
        header = open_nifti(recording.path) if volume else None
        written = Written(0.0, "unknown") if header is None else Written(header.zoom_t, header.time_unit)
        options["tr"] = repetition_time(recording.path, written, dict(sidecar), None)
    if mask is not None:
        options["mask"] = mask
    path: Any = (recording.path, *recording.mates) if recording.mates else recording.path
    ds = read_fmri(path, space=recording.entities.get("space"), **options)
    if settle and cifti:
        repetition_time(recording.path, Written(ds.attrs["tr"], "sec", "series axis"), dict(sidecar), None)
    return ds.assign_attrs({k: v for k, v in sidecar_attrs(dict(sidecar)).items() if k not in ds.attrs})


def _brain_mask(study: Study, recording: Recording) -> Path | None:
    """Find the brain mask that belongs to a run: beside it, or on its grid in the derivatives."""
    entities = recording.entities
    inside = Path(f"sub-{entities['sub']}") / (f"ses-{entities['ses']}" if "ses" in entities else "") / "func"
    for folders in ([recording.path.parent], sorted((study.root / "derivatives").glob(f"*/{inside}"))):
        fits: dict[Path, tuple[int, int]] = {}
        for path in (p for folder in folders for p in sorted(folder.glob("*_desc-brain_mask.nii*"))):
            parsed = parse_name(path.name)
            if parsed is None:
                continue
            own = {k: v for k, v in parsed[0].items() if k != "desc"}
            free = () if "space" in entities else ("space", "res")
            matches = all(entities.get(k) == v for k, v in own.items() if k not in free)
            if matches and ("space" in entities or _same_grid(check_link(study, path), recording.path)):
                # A run without a space is in its own: a mask of another one is second choice.
                fits[path] = (-len({"space", "res"} & set(own) - set(entities)), len(own))
        best = [path for path, depth in fits.items() if depth == max(fits.values())]
        if len(best) > 1:
            raise SchemaError(
                "Several brain masks belong to the run.",
                expected="one",
                got=[path.name for path in best],
                where=recording.path,
                fix="pass mask=path, or mask=None for volumes",
            )
        if best:
            return check_link(study, best[0])
    return None


def _same_grid(mask: Path, run: Path) -> bool:
    a, b = open_nifti(mask), open_nifti(run)
    if a.shape[-3:] != b.shape[-3:]:
        return False
    return corner_distance(a.matrix, b.matrix, b.shape[-3:]) <= AFFINE_TOLERANCE


def attach_confounds(study: Study, recording: Recording, ds: xr.Dataset, strategy: Strategy) -> xr.Dataset:
    """Add the variable ``confounds`` (time, confound) and the coordinate ``sample_mask`` (time).

    Parameters
    ----------
    study : Study
        A derivative of fMRIPrep.
    recording : Recording
        A run in it.
    ds : Dataset
        What `read_bold` gave for it.
    strategy : Strategy
        What to take.

    Returns
    -------
    Dataset
        With ``confound_strategy`` in attrs. Without the variable where the strategy takes no column.

    Raises
    ------
    SchemaError
        If there is no table, it lacks columns, or it has another number of rows than the run has volumes.
    """
    twin = replace(recording, entities={**recording.entities, "desc": "confounds"})
    found = nearest(study, twin, "timeseries") or nearest(study, twin, "regressors")
    if not found:
        raise SchemaError(
            "No table of confounds belongs to the run.",
            expected="*_desc-confounds_timeseries.tsv (or _regressors.tsv)",
            got=recording.path.name,
            where=recording.path.parent,
            fix="open the fMRIPrep derivative (derivatives/fmriprep), or leave out confounds=",
        )
    path = found[0][0]
    confounds = read_confounds(path, strategy)
    if len(confounds.sample_mask) != ds.sizes["time"]:
        raise SchemaError(
            "The confounds are of another run than the volumes.",
            expected=f"{ds.sizes['time']} rows, one a volume",
            got=f"{len(confounds.sample_mask)} rows",
            where=path,
        )
    ds = ds.assign_coords(sample_mask=("time", confounds.sample_mask))
    if confounds.table.shape[1]:
        names = np.array(confounds.table.columns.tolist(), dtype=object)
        values = confounds.table.to_numpy(dtype=np.float32)
        ds = ds.assign_coords(confound=names).assign(confounds=(("time", "confound"), values))
    for note in confounds.notes:
        ds = schema.log(ds, note)
    ds = ds.assign_attrs(confound_strategy="+".join(strategy.words))
    params = {k: v for k, v in vars(strategy).items() if k != "words"}
    return schema.stamp(ds, "read_confounds", sources=[path], strategy=list(strategy.words), **params)
