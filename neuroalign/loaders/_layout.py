"""File names of BIDS data sets: entities, queries, and the recordings that a data set holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders._entities import Query, check_query, parse_name
from neuroalign.loaders._formats import SUFFIXES, is_sensor_file
from neuroalign.loaders._study import Study, check_link

__all__ = [
    "Recording",
    "find_recordings",
    "is_bids",
    "is_openfmri",
    "open_study",
    "sensor_file",
]

#: Folder -> modality.
MODALITIES = {"eeg": "eeg", "ieeg": "ieeg", "meg": "meg", "func": "fmri"}
FOLDER_OF = {modality: folder for folder, modality in MODALITIES.items()}
#: Folder -> suffix of its recordings.
_FOLDERS = {"eeg": "eeg", "ieeg": "ieeg", "meg": "meg", "func": "bold"}
_BOLD = (".nii", ".nii.gz", ".func.gii", ".dtseries.nii", ".ptseries.nii")
#: Extensions of sensor files in data sets; those that no reader knows are refused where a query meets them.
_SENSORS = {
    "eeg": (".vhdr", ".edf", ".bdf", ".set", ".fif", ".fif.gz", ".cnt", ".mff", ".gdf", ".nwb"),
    "ieeg": (".vhdr", ".edf", ".bdf", ".set", ".fif", ".fif.gz", ".nwb", ".mefd"),
    "meg": (".fif", ".fif.gz", ".ds", ".sqd", ".con", ".kdf", ".raw", ".mhd", ""),
}
_UNREAD = {"meg": (".raw",)}  # of another maker than the EEG files that end so
#: Suffixes that MNE-BIDS-pipeline writes, all of them FIF.
_PROCESSED = ("raw", "epo", "ave")
#: Suffixes of recordings beside the brain, such as breathing.
BESIDE = ("physio", "stim")
#: Suffixes that are read where none is asked for.
CONTINUOUS = (*_FOLDERS.values(), "raw")
SUFFIX_NAMES = (*CONTINUOUS, "epo", "ave", *BESIDE)


@dataclass(frozen=True)
class Recording:
    """One recording of a data set: its file, its entities and its modality.

    Attributes
    ----------
    path : Path
        The file; that of the left hemisphere where there is one a hemisphere.
    entities : mapping of str to str
        By their short names.
    modality : str
        ``eeg``, ``ieeg``, ``meg`` or ``fmri``.
    suffix, extension : str
        Such as ``bold`` and ``.nii.gz``.
    mates : tuple of Path
        Other files of the same recording.
    """

    path: Path
    entities: Mapping[str, str]
    modality: str
    suffix: str
    extension: str
    mates: tuple[Path, ...] = ()


def is_bids(folder: Path) -> bool:
    """Tell whether a folder is a BIDS data set, a part of one, or holds files with BIDS names."""
    if not folder.is_dir():
        return False
    if (folder / "dataset_description.json").is_file() or _root_above(folder) is not None:
        return True
    if any((p / s).is_dir() for p in (*folder.glob("sub-*"), *folder.glob("sub-*/ses-*")) for s in _FOLDERS):
        return True
    return any(_flat(path) for path in folder.glob("sub-*_*"))


def _root_above(folder: Path) -> Path | None:
    """Root of the data set where this is the folder of a subject, session or modality with recordings."""
    path = folder.parent if folder.name in _FOLDERS else folder
    path = path.parent if re.fullmatch(r"ses-[A-Za-z0-9]+", path.name) else path
    if not re.fullmatch(r"sub-[A-Za-z0-9]+", path.name) or (folder / "dataset_description.json").is_file():
        return None
    return path.parent if next(_below(folder), None) is not None else None


def open_study(folder: str | Path, raw: str | Path | None = None, *, follow_links: bool = False) -> Study:
    """Find the root of a data set, and the raw data set of a derivative.

    Parameters
    ----------
    folder : path-like
        The root, or the folder of one subject, session or modality.
    raw : path-like, optional
        Root of the raw data set; by default the folder above ``derivatives``.
    follow_links : bool
        Whether links may lead out of the data set.

    Returns
    -------
    Study
        The data set.

    Raises
    ------
    IntegrityError
        If there is no such folder.
    """
    folder = Path(folder).expanduser()
    for path in (folder, *([] if raw is None else [Path(raw).expanduser()])):
        if not path.is_dir():
            raise IntegrityError("There is no such folder.", got=str(path), where=path.parent)
    above = _root_above(folder.absolute())
    root = folder if above is None else above
    if raw is None and root.absolute().parent.name == "derivatives":
        raw = root.absolute().parent.parent
    origin = None if raw is None else Path(raw).expanduser()
    return Study(root, origin, None if above is None else folder.absolute(), follow_links)


def is_openfmri(folder: Path) -> bool:
    """Tell whether a folder has the layout that OpenfMRI used before BIDS."""
    return any(path.is_dir() for path in folder.glob("sub[0-9]*/BOLD"))


def find_recordings(
    study: Study,
    query: Mapping[str, Any],
    modality: str | None,
    suffix: str | Sequence[str] | None = None,
    *,
    check: bool = True,
) -> list[Recording]:
    """List the recordings of a data set that fit a query.

    Parameters
    ----------
    study : Study
        The data set.
    query : mapping
        Entity (long or short name) -> value, several values, or None for any; ``"none"`` for files without it.
    modality : {'eeg', 'ieeg', 'meg', 'fmri'} or None
        Kind of recording.
    suffix : str or sequence of str, optional
        Of the file names; by default those of continuous recordings.
    check : bool
        Refuse recordings that cannot be read: without content, or in a format that is not known here.

    Returns
    -------
    list of Recording
        Sorted by file name.

    Raises
    ------
    ConfigError
        If the query is not valid.
    IntegrityError
        If a link leads out of the data set, or nowhere.
    SchemaError
        If nothing fits; with what there is.
    """
    wanted = check_query(query)
    suffixes = _check_suffix(suffix)
    if modality is not None and modality not in MODALITIES.values():
        raise ConfigError("Unknown modality.", expected=", ".join(MODALITIES.values()), got=modality)
    everything = [r for r in _scan(study.root) if study.within is None or r.path.is_relative_to(study.within)]
    if "hemi" not in wanted:
        everything = _pairs(everything)
    kind = [r for r in everything if modality in (None, r.modality) and r.suffix in suffixes]
    asked = Query(wanted, [r.entities for r in kind])
    found = [r for r in kind if asked.fits(r.entities)]
    _check_folders(kind, asked)
    missing = asked.missing([r.entities for r in found])
    if not found or missing:
        raise _nothing(study.root, everything, wanted, modality, suffixes, missing if found else {})
    for r in found if check else []:
        for path in (r.path, *r.mates):
            check_link(study, path)
        if r.suffix in _SENSORS:
            sensor_file(r)
    return found


def _check_suffix(suffix: str | Sequence[str] | None) -> tuple[str, ...]:
    if suffix is None:
        return CONTINUOUS
    chosen = (suffix,) if isinstance(suffix, str) else tuple(suffix)
    if not chosen or set(chosen) - set(SUFFIX_NAMES):
        raise ConfigError("Unknown suffix.", expected=", ".join(SUFFIX_NAMES), got=suffix)
    return chosen


def _nothing(
    root: Path,
    everything: list[Recording],
    wanted: Mapping[str, Sequence[str]],
    modality: str | None,
    suffixes: Sequence[str],
    missing: Mapping[str, Sequence[str]],
) -> SchemaError:
    asked = [f"{k}-{v}" for k, values in (missing or wanted).items() for v in values]
    what: Any = {k: sorted({r.entities[k] for r in everything if k in r.entities}) for k in [*wanted, "sub"]}
    what |= {"modality": sorted({r.modality for r in everything}), "suffix": sorted({r.suffix for r in everything})}
    fix = None
    if not everything:
        what = "no recordings at all in sub-*/[ses-*/]{eeg,ieeg,meg,func}"
        if is_openfmri(root):
            what = "the layout of OpenfMRI (sub001/BOLD/task001_run001), which is older than BIDS"
            fix = "open single runs, such as load('sub001/BOLD/task001_run001/bold.nii.gz', tr=...), or convert to BIDS"
        elif other := sorted(p.name for p in root.glob("sub-*/**/*_nirs.*") if p.suffix != ".json"):
            what = f"near-infrared spectroscopy, which is not read here: {other[0]}"
    elif not set(suffixes) & set(what["suffix"]):
        fix = f"pass suffix={what['suffix'][0]!r}"
    return SchemaError(
        "No recording of the data set fits." if not missing else "The data set lacks some of what was asked for.",
        expected=" ".join([*asked, *([f"({modality})"] if modality else [])]) or f"files such as *_{suffixes[0]}.*",
        got=what,
        where=root,
        fix=fix,
    )


def _scan(root: Path) -> Iterator[Recording]:
    for subject in sorted(root.glob("sub-*")):
        yield from _below(subject)
    yield from filter(None, (_flat(path) for path in sorted(root.glob("sub-*_*"))))


def _below(folder: Path) -> Iterator[Recording]:
    """Recordings in the folder of a subject, session or modality."""
    places = [place / kind for place in (folder, *sorted(folder.glob("ses-*"))) for kind in _FOLDERS]
    for place in (folder, *places) if folder.name in _FOLDERS else places:
        if place.is_dir():
            yield from filter(None, (_recording(path, place.name) for path in sorted(place.iterdir())))


def _flat(path: Path) -> Recording | None:
    """A recording outside the folders of BIDS; the suffix tells the kind."""
    parsed = parse_name(path.name)
    kind = next((k for k, suffix in _FOLDERS.items() if parsed is not None and suffix == parsed[1]), None)
    return _recording(path, kind) if kind is not None else None


def _recording(path: Path, kind: str) -> Recording | None:
    parsed = parse_name(path.name)
    if parsed is None or "sub" not in parsed[0]:
        return None
    entities, suffix, extension = parsed
    own: tuple[str, ...] = (".tsv.gz",) if suffix in BESIDE else ()
    if suffix == _FOLDERS[kind]:
        own = _BOLD if kind == "func" else _SENSORS[kind]
    elif suffix in _PROCESSED and kind != "func":
        own = (".fif", ".fif.gz")
    # MNE follows a split FIF file from its first part; calibration and crosstalk files are no recordings.
    later = entities.get("split", "1").lstrip("0") not in ("1", "")
    if extension not in own or later or entities.get("acq") in ("crosstalk", "calibration"):
        return None
    if extension == "" and not path.is_dir():
        return None
    return Recording(path, entities, MODALITIES[kind], suffix, extension)


def _pairs(found: Sequence[Recording]) -> list[Recording]:
    """Make one recording of the files of both hemispheres."""
    groups: dict[Any, list[Recording]] = {}
    for r in found:
        rest = tuple(sorted((k, v) for k, v in r.entities.items() if k != "hemi"))
        own = r.path if r.extension != ".func.gii" else None
        groups.setdefault((r.path.parent, rest, r.extension, r.suffix, own), []).append(r)
    joined = []
    for group in groups.values():
        sides = {r.entities.get("hemi"): r for r in group}
        if set(sides) == {"L", "R"} and len(group) == 2:
            entities = {k: v for k, v in sides["L"].entities.items() if k != "hemi"}
            joined.append(replace(sides["L"], entities=entities, mates=(sides["R"].path,)))
        else:
            joined += group
    return joined


def _check_folders(kind: Iterable[Recording], asked: Query) -> None:
    """Refuse a file whose name speaks of another subject or session than its folder."""
    for r in kind:
        folders = {p.name[:3]: p.name[4:] for p in list(r.path.parents)[1:3] if re.match(r"(sub|ses)-", p.name)}
        if "sub" not in folders or all(r.entities.get(k) == v for k, v in folders.items()):
            continue
        if asked.fits(r.entities) or asked.fits({**r.entities, **folders}):
            raise SchemaError(
                "The name of a file and its folder speak of different recordings.",
                expected="_".join(f"{k}-{v}" for k, v in sorted(folders.items(), reverse=True)),
                got=r.path.name,
                where=r.path.parent,
                fix="find out which one is right, and rename or move the file",
            )


def sensor_file(recording: Recording) -> Path:
    """Give the file to open: of a folder without an extension (4D/BTi), the one recording in it.

    Raises
    ------
    ConfigError
        If no reader knows the format.
    """
    path, unread = recording.path, _UNREAD.get(recording.suffix, ())
    if recording.extension in SUFFIXES and recording.extension not in unread:
        return path
    inside = [p for p in sorted(path.iterdir()) if p.is_file() and is_sensor_file(p)] if path.is_dir() else []
    if len(inside) == 1 and recording.extension == "":
        return inside[0]
    raise ConfigError(
        "No reader knows the format of this recording.",
        expected=", ".join(e for e in _SENSORS[recording.suffix] if e in SUFFIXES and e not in unread),
        got=recording.path.name,
        where=recording.path.parent,
        fix="leave it out by subject=, task=, run= or modality=, or convert it with MNE",
    )
