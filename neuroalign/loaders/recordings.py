"""What a BIDS data set holds, told by names and sidecars without reading a recording."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from neuroalign.errors import ConfigError
from neuroalign.loaders._entities import ENTITIES
from neuroalign.loaders._layout import SUFFIX_NAMES, Recording, find_recordings, open_study
from neuroalign.loaders._sidecars import merged_json, nearest, number_in
from neuroalign.loaders._study import Study
from neuroalign.loaders._text import read_text
from neuroalign.loaders.bids import events_file

__all__ = ["list_recordings"]

_FACTS = ("modality", "suffix", "file", "bytes", "sfreq", "tr", "duration", "n_channels", "n_events")
_COUNTS = (
    "EEGChannelCount", "EOGChannelCount", "ECGChannelCount", "EMGChannelCount", "MiscChannelCount",
    "TriggerChannelCount", "MEGChannelCount", "MEGREFChannelCount", "ECOGChannelCount", "SEEGChannelCount",
)  # fmt: skip


def list_recordings(
    root: str | Path,
    *,
    subject: str | Sequence[str] | None = None,
    session: str | Sequence[str] | None = None,
    task: str | Sequence[str] | None = None,
    run: str | int | Sequence[str | int] | None = None,
    modality: str | None = None,
    suffix: str | Sequence[str] | None = None,
    raw: str | Path | None = None,
    **entities: Any,
) -> pd.DataFrame:
    """Tell what a BIDS data set or derivative holds: one row a recording.

    Only names and sidecars are read, so recordings may be missing from the disk (DataLad) or of a format that no
    reader knows.

    Parameters
    ----------
    root : path-like
        Folder with the ``sub-*`` folders, as in `read_bids`.
    subject, session, task, run : str or sequence of str, optional
        Which recordings; by default all of them.
    modality : {'eeg', 'ieeg', 'meg', 'fmri'}, optional
        Kind of recording.
    suffix : str or sequence of str, optional
        End of the file names; by default all that `read_bids` knows.
    raw : path-like, optional
        Root of the raw data set of a derivative, for the number of events.
    **entities
        More entities by their long or short names, such as ``space="T1w"``.

    Returns
    -------
    DataFrame
        Columns ``subject``, ``session``, ``task``, ``run`` and the other entities that occur (None where a file has
        none), ``modality``, ``suffix``, ``file`` (below `root`), ``bytes``, and, NaN where no sidecar tells,
        ``sfreq`` (Hz), ``tr`` (s), ``duration`` (s), ``n_channels`` and ``n_events``.

    Raises
    ------
    ConfigError
        If the query is not valid.
    IntegrityError
        If there is no such folder.
    SchemaError
        If nothing fits, or a sidecar is wrong.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> (root / "sub-01" / "eeg").mkdir(parents=True)
    >>> _ = (root / "sub-01" / "eeg" / "sub-01_task-rest_eeg.edf").write_bytes(b"...")
    >>> _ = (root / "task-rest_eeg.json").write_text('{"SamplingFrequency": 500, "RecordingDuration": 60}')
    >>> list_recordings(root)[["sfreq", "duration"]].to_numpy().tolist()
    [[500.0, 60.0]]
    """
    if unknown := sorted(set(entities) - set(ENTITIES) - set(ENTITIES.values())):
        raise ConfigError("Unknown BIDS entity.", expected=", ".join(ENTITIES), got=unknown)
    study = open_study(root, raw, follow_links=True)
    query = {"subject": subject, "session": session, "task": task, "run": run, **entities}
    found = find_recordings(study, query, modality, SUFFIX_NAMES if suffix is None else suffix, check=False)
    used = {key for r in found for key in r.entities}
    always = ("subject", "session", "task", "run")
    names = [*always, *(name for name, key in ENTITIES.items() if key in used and name not in always)]
    rows = [{n: r.entities.get(ENTITIES[n]) for n in names} | _facts(study, r) for r in found]
    text = (*names, "modality", "suffix", "file")
    types = {name: object if name in text else float for name in (*names, *_FACTS)}
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in types.items()})


def _facts(study: Study, recording: Recording) -> dict[str, Any]:
    sidecar = merged_json(study, recording, recording.suffix)
    tr = _number(sidecar, "RepetitionTime")
    events = events_file(study, recording) if recording.suffix not in ("epo", "ave", "physio", "stim") else None
    return {
        "modality": recording.modality,
        "suffix": recording.suffix,
        "file": recording.path.relative_to(study.root).as_posix(),
        "bytes": sum(map(_size, (recording.path, *recording.mates))),
        "sfreq": 1 / tr if tr == tr else _number(sidecar, "SamplingFrequency"),
        "tr": tr,
        "duration": _number(sidecar, "RecordingDuration"),
        "n_channels": _n_channels(study, recording, sidecar),
        "n_events": float("nan") if events is None else _rows(events[-1]),
    }


def _number(sidecar: Mapping[str, Any], name: str) -> float:
    """A positive number, or NaN."""
    value = number_in(sidecar, name)
    return value if value is not None and value > 0 else float("nan")


def _rows(path: Path) -> float:
    """Lines of a table below its header."""
    return float(max(sum(1 for line in read_text(path).splitlines() if line.strip()) - 1, 0))


def _size(path: Path) -> float:
    """Bytes of a recording with all its data files; NaN where the content is not there."""
    stem = re.sub(r"_split-\w+?_", "_split-*_", path.name.split(".")[0])
    files = [p for p in path.parent.glob(f"{stem}.*") if p.suffix not in (".json", ".tsv")]
    parts = [p for file in files for p in (file.rglob("*") if file.is_dir() else (file,))]
    return float(sum(p.stat().st_size for p in parts if p.is_file())) if path.exists() else float("nan")


def _n_channels(study: Study, recording: Recording, sidecar: Mapping[str, Any]) -> float:
    if recording.modality == "fmri":
        return float("nan")
    if files := nearest(study, recording, "channels"):
        return _rows(files[0][0])
    counts = [value for name in _COUNTS if (value := _number(sidecar, name)) == value]
    return sum(counts) if counts else float("nan")
