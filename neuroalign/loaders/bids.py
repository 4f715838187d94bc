"""BIDS data sets: recordings with all that their sidecars say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign import schema
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.loaders._bids_fmri import attach_confounds, read_bold
from neuroalign.loaders._bids_sensors import read_sensor_run
from neuroalign.loaders._confounds import Strategy, parse_strategy
from neuroalign.loaders._entities import ENTITIES, check_query
from neuroalign.loaders._layout import BESIDE, Recording, find_recordings, open_study
from neuroalign.loaders._physio import read_beside
from neuroalign.loaders._sidecars import describe_study, describe_subject, in_raw, merged_json, nearest
from neuroalign.loaders._study import Study
from neuroalign.loaders.events import read_events
from neuroalign.loaders.stimuli import name_stimuli

__all__ = ["read_bids"]

_ALWAYS = ("sub", "ses", "run")


@dataclass(frozen=True)
class _Wish:
    """What to read of each recording."""

    space: str | None
    confounds: Strategy | None
    options: Mapping[str, Any]


def read_bids(
    root: str | Path,
    *,
    subject: str | Sequence[str] | None = None,
    session: str | Sequence[str] | None = None,
    task: str | Sequence[str] | None = None,
    run: str | int | Sequence[str | int] | None = None,
    modality: str | None = None,
    space: str | None = None,
    suffix: str | Sequence[str] | None = None,
    entities: Mapping[str, Any] | None = None,
    confounds: str | Sequence[str] | Mapping[str, Any] | None = None,
    raw: str | Path | None = None,
    follow_links: bool = False,
    **options: Any,
) -> xr.Dataset | xr.DataTree:
    """Read recordings of a BIDS data set or derivative: EEG, iEEG, MEG or fMRI (BOLD).

    Parameters
    ----------
    root : path-like
        Folder with the ``sub-*`` folders, of a raw data set or a derivative (fMRIPrep, MNE-BIDS-pipeline); the folder
        of one subject, session or modality in it; or a folder with the files themselves.
    subject, session, task, run : str or sequence of str, optional
        Which recordings; by default all of them. ``"01"`` and ``"sub-01"`` mean the same, and so do runs ``1`` and
        ``"01"``, unless there are both. ``"none"`` stands for files without the entity.
    modality : {'eeg', 'ieeg', 'meg', 'fmri'}, optional
        Kind of recording.
    space : str, optional
        Space of electrode positions, or of the BOLD runs of a derivative.
    suffix : str or sequence of str, optional
        End of the file names. By default continuous recordings of the brain: ``eeg``, ``ieeg``, ``meg``, ``bold`` and
        ``raw``. Epochs (``epo``) and averages (``ave``) of MNE-BIDS-pipeline, and recordings of breathing, gaze or
        stimuli (``physio``, ``stim``) only when asked for.
    entities : mapping, optional
        More entities by their long or short names, such as ``{"acquisition": "ecog"}``. They may be options too:
        ``processing="clean"``, ``res="2"``.
    confounds : str, sequence of str, or mapping, optional
        For fMRIPrep: strategies joined by ``+``, or names and wildcards of columns. ``6p`` is ``trans_x`` to
        ``rot_z``; ``12p`` adds ``_derivative1``, ``24p`` also ``_power2`` and ``_derivative1_power2``; ``wm_csf`` is
        ``csf`` and ``white_matter``, ``global`` is ``global_signal``, ``wm_csf_full`` and ``global_full`` with the
        same three additions; ``9p`` is ``6p+wm_csf+global`` and ``36p`` all of these in full; ``high_pass`` is
        ``cosine*``; ``acompcor`` (``a_comp_cor_*`` of the combined mask), ``acompcor_separate`` (those of white
        matter and of CSF) and ``tcompcor`` take the cosines too, without which they would bring drifts back;
        ``aroma`` is ``aroma_motion_*``. ``scrub`` takes no column but marks volumes, and ``non_steady_state``
        nothing more than what is marked always. A mapping has these under ``"strategy"`` and options: ``n_compcor``
        (components a mask, by default all that were kept), ``fd`` (0.5 mm) and ``dvars`` (1.5), above which ``scrub``
        marks a volume, and ``min_segment`` (5), below which it marks what remains between marked volumes.
    raw : path-like, optional
        Root of the raw data set of a derivative, for events and participants.tsv that the derivative does not have.
        By default the folder above ``derivatives``.
    follow_links : bool
        Whether links may lead out of the data set. Links into ``.git`` (DataLad, git-annex) always may.
    **options
        Options of the reader: ``channels``, ``units``, ``lazy``, ``keep_phi``, ``allow_truncated`` for sensors;
        ``mask``, ``atlas``, ``tr``, ``lazy``, ``verify`` for fMRI. ``mask="auto"`` (the default) takes the one
        ``desc-brain_mask`` that belongs to the run, beside it or, on the same grid, in ``derivatives``; ``mask=None``
        gives volumes.

    Returns
    -------
    Dataset or DataTree
        A Dataset where exactly one recording fits, and otherwise a tree such as ``/sub-01/ses-01/run-01`` (with
        levels for the modality, the task and others where they differ).

        Events carry all columns of events.tsv, and ``subject``, ``session``, ``task`` and ``run``, which also stand
        in ``attrs``, like the columns of participants.tsv, sessions.tsv and scans.tsv (``participant_age``; names,
        dates, addresses and ``acq_time`` only with ``keep_phi=True``). What events.json says stands in the attributes
        of the columns. Types, units (where the file does not say), status and reference come from channels.tsv;
        positions (converted to m) from electrodes.tsv, in the frame that coordsystem.json names, with its other
        columns as ``electrode_*``.

        `confounds` adds the variable ``confounds`` (time, confound) and the coordinate ``sample_mask`` (time), False
        where a volume should be left out. The first volume has no derivatives and gets those of the second. Runs may
        have other numbers of components: regress confounds out before joining runs. Both hemispheres of a surface are
        one recording.

    Raises
    ------
    ConfigError
        If the query or a strategy is not valid, or no reader knows the format of a file.
    IntegrityError
        If a file is missing, cut or damaged, shorter than its sidecar says, or a link that leads out of the data set.
    SchemaError
        If nothing fits, or sidecars are wrong or contradict the file.

    References
    ----------
    .. [1] Gorgolewski, K. J. et al. (2016). The brain imaging data structure. Scientific Data 3, 160044.
    .. [2] Esteban, O. et al. (2019). fMRIPrep: a robust preprocessing pipeline for functional MRI. Nature Methods 16,
       111-116.
    .. [3] Wang, H.-T. et al. (2024). Continuous evaluation of denoising strategies in resting-state fMRI connectivity
       using fMRIPrep and Nilearn. PLOS Computational Biology 20, e1011942.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> read_bids(root, subject=["01", "02"], task="rest")
    Traceback (most recent call last):
    ...
    neuroalign.errors.SchemaError: No recording of the data set fits.
    ...
    """
    study = open_study(root, raw, follow_links=follow_links)
    more = {name: options.pop(name) for name in list(options) if name in ENTITIES or name in ENTITIES.values()}
    query = {"subject": subject, "session": session, "task": task, "run": run, **(entities or {}), **more}
    found = find_recordings(study, query, modality, suffix)
    if space is not None:
        found = _in_space(found, space)
    wish = _Wish(space, None if confounds is None else parse_strategy(confounds), options)
    if not any(r.suffix == "bold" for r in found):
        if confounds is not None:
            raise ConfigError("Only fMRI has confounds.", expected="BOLD runs", got=[r.path.name for r in found[:5]])
        wish = _Wish(space, None, {k: v for k, v in options.items() if k != "mask"})
    if all(r.suffix in BESIDE for r in found) and (unknown := sorted(set(options) - {"lazy", "keep_phi"})):
        raise ConfigError("Unknown option for this kind of recording.", expected="lazy, keep_phi", got=unknown)
    if len(found) == 1:
        return _read(study, found[0], wish)
    names = _node_names(found)
    return xr.DataTree.from_dict({name: _read(study, r, wish) for name, r in zip(names, found, strict=True)})


def _in_space(found: list[Recording], space: str) -> list[Recording]:
    """Keep runs of one space; sensors have a space only in their electrodes, and raw runs none at all."""
    value = check_query({"space": space})["space"][0]
    spaces = {r.entities.get("space") for r in found if r.modality == "fmri"}
    if spaces <= {None}:
        return found
    kept = [r for r in found if r.modality != "fmri" or r.entities.get("space", "none") == value]
    if not kept:
        known = sorted(s or "none" for s in spaces)
        raise SchemaError("No runs in this space.", expected=f"space= one of {known}", got=space)
    return kept


def _node_names(found: list[Recording]) -> list[str]:
    """Paths in the tree: subject and session, then what differs, then the run."""
    varying = [
        key for key in ENTITIES.values()
        if key not in (*_ALWAYS, "split") and len({r.entities.get(key) for r in found}) > 1
    ]  # fmt: skip
    used = {key for r in found for key in r.entities}
    modalities, suffixes = len({r.modality for r in found}) > 1, len({_kind(r) for r in found}) > 1
    names = []
    for r in found:
        parts = [f"{key}-{r.entities.get(key, 'none')}" for key in ("sub", "ses") if key in used]
        parts += [r.modality] if modalities else []
        parts += [f"{key}-{r.entities.get(key, 'none')}" for key in [*varying, "run"] if key in used]
        names.append("/" + "/".join([*parts, r.suffix] if suffixes else parts))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SchemaError(
            "Two files hold the same recording.",
            expected="one file a recording",
            got=[r.path.name for r, name in zip(found, names, strict=True) if name == twice],
        )
    return names


def _kind(recording: Recording) -> str:
    """Suffix, the same for the continuous recordings of all modalities."""
    return recording.suffix if recording.suffix in ("epo", "ave", *BESIDE) else "continuous"


def _read(study: Study, recording: Recording, wish: _Wish) -> xr.Dataset:
    sidecar = merged_json(study, recording, recording.suffix)
    options = dict(wish.options)
    if recording.suffix in BESIDE:
        ds = read_beside(recording, sidecar)
    elif recording.modality == "fmri":
        ds = read_bold(study, recording, sidecar, options)
        ds = ds if wish.confounds is None else attach_confounds(study, recording, ds, wish.confounds)
    else:
        options.pop("mask", None)
        ds = read_sensor_run(study, recording, sidecar, wish.space, options)
    if recording.suffix not in ("epo", "ave", *BESIDE):
        ds = _with_events(study, recording, ds)
    keep_phi = bool(wish.options.get("keep_phi", False))
    return _with_identity(study, recording, ds, keep_phi)


def _with_identity(study: Study, recording: Recording, ds: xr.Dataset, keep_phi: bool) -> xr.Dataset:
    """Say whose recording it is, in attrs and along the events."""
    names = {"subject": "sub", "session": "ses", "task": "task", "run": "run"}
    attrs = {name: recording.entities[key] for name, key in names.items() if key in recording.entities}
    file = recording.path.relative_to(study.root).as_posix()
    more = describe_study(study) | describe_subject(study, recording, keep_phi=keep_phi)
    taken = set(ds.coords)
    ds = ds.assign_attrs({**more, **attrs, "bids_file": file})
    if "event" in ds.dims:
        n = ds.sizes["event"]
        own = {name: value for name, value in attrs.items() if name not in taken}
        ds = ds.assign_coords({k: ("event", np.full(n, v, dtype=object)) for k, v in own.items()})
    return ds


def events_file(study: Study, recording: Recording) -> tuple[Study, Recording, Path] | None:
    """Find events.tsv of a recording; that of the raw data set for BOLD derivatives, which keep its clock."""
    places = [(study, recording), in_raw(study, recording) if recording.modality == "fmri" else None]
    for place in places:
        if place is not None and (files := nearest(*place, "events")):
            return *place, files[0][0]
    return None


def _with_events(study: Study, recording: Recording, ds: xr.Dataset) -> xr.Dataset:
    """Replace events by those of events.tsv, where there is one."""
    found = events_file(study, recording)
    if found is None:
        return ds
    home, run, path = found
    told = merged_json(home, run, "events")
    events = read_events(path, duration=ds.sizes["time"] / ds.attrs["sfreq"])
    events = name_stimuli(events, home.root / "stimuli")
    ds = ds.drop_vars([name for name, coord in ds.coords.items() if "event" in coord.dims])
    if _counts_from_one(events, ds.attrs["sfreq"]):
        ds = schema.log(
            ds, f"{path.name}: its samples count from 1, or its onsets are one sample early; taken as given"
        )
    coords = {}
    for name in map(str, events.columns):
        values = events[name].to_numpy()
        if values.dtype == object:
            values = np.array(["" if v is None else str(v) for v in values], dtype=object)
        own = f"event_{name}" if name in (*ds.coords, *ds.dims, *ds.data_vars, "event") else name
        coords[own] = ("event", values, _column_attrs(told.get(name)))
    return schema.stamp(ds.assign_coords(coords), "read_events", sources=[path])


def _counts_from_one(events: pd.DataFrame, sfreq: float) -> bool:
    """Whether the column ``sample`` is one more than its onset in every row; BIDS counts both from 0."""
    if "sample" not in events or events["sample"].dtype.kind not in "iuf" or not len(events):
        return False
    return bool((np.abs(events["sample"] - events["onset"] * sfreq - 1) < 0.05).all())


def _column_attrs(entry: Any) -> dict[str, str]:
    """What events.json says about a column: description, units and (as JSON) levels."""
    if not isinstance(entry, Mapping):
        return {}
    attrs = {k.lower(): entry[k] for k in ("Description", "Units") if isinstance(entry.get(k), str)}
    levels = entry.get("Levels")
    return attrs | ({"levels": json.dumps(levels, ensure_ascii=False)} if isinstance(levels, Mapping) else {})
