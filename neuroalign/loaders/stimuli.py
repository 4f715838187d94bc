"""Stimuli: a table with one row a stimulus, what their files say of themselves, and the pixels of images."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign import schema
from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders._lazy import wrap
from neuroalign.loaders._stimulus_files import ImageArray, image_facts, sound_facts, text_facts
from neuroalign.loaders.events import read_tsv

__all__ = ["name_stimuli", "read_stimuli"]

#: Suffix -> modality of a stimulus file.
KINDS = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"), "image"),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".ogg"), "audio"),
    **dict.fromkeys((".mp4", ".avi", ".mkv", ".mov", ".webm"), "video"),
    ".txt": "text",
}
_TEXT = ("stimulus_id", "path", "filename", "stim_file", "text", "sha256")


def read_stimuli(path: str | Path, *, table: str = "stimuli.tsv", size: tuple[int, int] | None = None) -> xr.Dataset:
    """Read a folder or a table of stimuli: images, sounds, films, words.

    Parameters
    ----------
    path : path-like
        A table with the columns ``stimulus_id`` and ``path`` (or, as in BIDS, ``filename``; relative to the table)
        and any others; or a folder with such a table in it; or a folder of files, also in folders of it, whose ids
        are then their paths in it without the suffix, such as ``faces/anna``.
    table : str
        Name of the table in a folder.
    size : (int, int), optional
        Rows and columns of ``image``. Each image is scaled to cover them, and what stands out at both sides of the
        longer way is cut off. By default images keep their pixels, and need one size to be one array.

    Returns
    -------
    Dataset
        Dim ``stimulus``, indexed by id, with ``modality``, ``path`` (relative to the folder of the table), ``sha256``,
        all columns of the table and, unless it has them, what the files say: ``width`` and ``height`` of images;
        ``duration`` (s), ``sfreq`` (Hz) and ``n_channels`` of ``.wav`` sounds; ``text`` of text files. Of films and
        compressed sounds nothing but the sha256 is read. Where all stimuli are images of one size, or `size` is
        given, the lazy variable ``image`` (stimulus, row, column, rgb) in uint8.

    Raises
    ------
    IntegrityError
        If a file is missing, is not an image although its name says so, or differs from the ``sha256`` of the table.
    SchemaError
        If ids repeat, a path leads out of the folder, or there are no stimuli.
    ConfigError
        If `size` is given and not all stimuli are images.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "stimuli.tsv"
    >>> _ = file.write_text("stimulus_id\\ttext\\tcategory\\nw1\\tcat\\tanimal\\nw2\\tcar\\tthing\\n")
    >>> read_stimuli(file)["text"].sel(stimulus="w2").item()
    'car'
    """
    path = Path(path).expanduser()
    if size is not None and not (len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        raise ConfigError("Not a size.", expected="(rows, columns), both at least 1", got=size)
    if path.is_dir() and (path / table).is_file():
        path = path / table
    if path.is_dir():
        folder, frame = path, _from_folder(path)
    else:
        folder, frame = path.parent, _from_table(path)
    if "path" in frame:
        frame = _with_facts(folder, _with_files(folder, frame))
    image = _images(folder, frame, size)
    ds = schema.stimulus_table(frame, image=image)
    if image is not None:
        ds["image"].attrs["units"] = "1"
    return schema.stamp(ds, "read_stimuli", sources=[path])


def name_stimuli(events: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Give events a column ``stimulus_id``, where they name stimuli as BIDS does.

    A column ``stimulus_id`` stays. Otherwise a column ``stim_id`` holds the ids. Otherwise the files of ``stim_file``
    (relative to the folder of stimuli) have the ids that the table ``stimuli.tsv`` in it gives them or, without a
    table, their paths without the suffix: the ids of `read_stimuli`. Events without a stimulus have no id (None).

    Parameters
    ----------
    events : DataFrame
        As from `read_events`.
    folder : Path
        The folder ``stimuli`` of the data set; it need not exist.

    Returns
    -------
    DataFrame
        The events, with the ids where they can be told.

    Raises
    ------
    SchemaError
        If the table lacks a file that was shown.

    Examples
    --------
    >>> events = pd.DataFrame({"onset": [0.5, 1.5], "stim_file": ["faces/anna.png", None]})
    >>> name_stimuli(events, Path("stimuli"))["stimulus_id"].tolist()
    ['faces/anna', None]
    """
    if "stimulus_id" in events or not {"stim_id", "stim_file"} & set(events):
        return events
    if "stim_id" in events:
        ids = [None if pd.isna(value) else str(value) for value in events["stim_id"]]
        return events.assign(stimulus_id=pd.Series(ids, dtype=object, index=events.index))
    table = folder / "stimuli.tsv"
    known = None
    if table.is_file():
        frame = _from_table(table)
        known = dict(zip(frame["path"], frame["stimulus_id"], strict=True)) if "path" in frame else None
    ids = [None if pd.isna(value) else _id_of_file(str(value), known, table) for value in events["stim_file"]]
    return events.assign(stimulus_id=pd.Series(ids, dtype=object, index=events.index))


def _id_of_file(file: str, known: dict[str, str] | None, table: Path) -> str:
    name = PurePosixPath(file.removeprefix("/").removeprefix("stimuli/"))
    if known is None:
        return name.with_suffix("").as_posix()
    if name.as_posix() not in known:
        raise SchemaError(
            "An event shows a file that the table of stimuli lacks.",
            expected=f"one of {sorted(map(str, known))[:5]}",
            got=file,
            where=f"stim_file, against {table}",
            fix="add it to stimuli.tsv, or write a column stimulus_id",
        )
    return known[name.as_posix()]


def _from_folder(folder: Path) -> pd.DataFrame:
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in KINDS and p.is_file()]
    files = sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))
    if not files:
        raise SchemaError(
            "No stimuli in the folder.",
            expected=f"stimuli.tsv, or files ending in {', '.join(KINDS)}",
            got=sorted(p.name for p in folder.iterdir())[:10],
            where=folder,
        )
    return pd.DataFrame({"stimulus_id": [file.rpartition(".")[0] for file in files], "path": files})


def _from_table(path: Path) -> pd.DataFrame:
    frame = read_tsv(path, required=("stimulus_id",), text=_TEXT)
    missing = np.flatnonzero(frame["stimulus_id"].isna())
    if missing.size:
        raise SchemaError("A stimulus has no id.", expected="text", got="n/a", where=f"{path}, line {missing[0] + 2}")
    if not len(frame):
        raise SchemaError("The table holds no stimuli.", expected="at least one row", where=path)
    named = next((name for name in ("path", "filename", "stim_file") if name in frame), None)
    return frame if named in (None, "path") else frame.assign(path=frame[named])


def _with_files(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Resolve the paths, and add (or compare) sha256 and modality."""
    root = folder.resolve()
    digests, kinds = [], []
    for name, path in zip(frame["stimulus_id"], frame["path"], strict=True):
        if path is None:
            digests.append("")
            kinds.append("text")
            continue
        file = root / path
        if not file.resolve().is_relative_to(root):
            raise SchemaError("A path leads out of the folder of the table.", got=path, where=f"stimulus {name}")
        if not file.is_file():
            raise IntegrityError("The file of a stimulus is missing.", expected=path, got="no such file", where=folder)
        with file.open("rb") as handle:
            digests.append(hashlib.file_digest(handle, "sha256").hexdigest())
        kinds.append(KINDS.get(file.suffix.lower(), "other"))
    if "sha256" in frame:
        for name, told, found in zip(frame["stimulus_id"], frame["sha256"], digests, strict=True):
            if told is not None and told.lower() != found:
                raise IntegrityError(
                    "A stimulus is not the file that the table means.",
                    expected=told,
                    got=found,
                    where=f"stimulus {name}",
                )
    frame = frame.assign(sha256=digests)
    return frame if "modality" in frame else frame.assign(modality=kinds)


def _with_facts(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Add what the files say of themselves, in columns that the table does not have."""
    readers = {"image": image_facts, "audio": sound_facts, "text": text_facts}
    facts: list[dict[str, Any]] = []  # one a stimulus, column to value
    for path in frame["path"]:
        kind = None if path is None else KINDS.get(Path(path).suffix.lower())
        facts.append(readers[kind](folder / path) if kind in readers else {})
    names = dict.fromkeys(name for entry in facts for name in entry if name not in frame)
    empty = {name: None if name == "text" else np.nan for name in names}
    for name in names:
        frame = frame.assign(**{name: pd.Series([entry.get(name, empty[name]) for entry in facts], index=frame.index)})
    return frame


def _images(folder: Path, frame: pd.DataFrame, size: tuple[int, int] | None) -> Any:
    """Give the lazy pixels, or None where the stimuli are not all images of one size."""
    images = "path" in frame and bool((frame["modality"] == "image").all())
    if size is not None:
        if not images:
            raise ConfigError("Only images have a size.", expected="a table of images", got=f"size={size}")
        return wrap(ImageArray(folder, frame["path"].tolist(), size, fit=True))
    if not images:
        return None
    sizes = {tuple(image_facts(folder / name).values()) for name in frame["path"]}
    if len(sizes) != 1:
        return None
    columns, rows = sizes.pop()
    return wrap(ImageArray(folder, frame["path"].tolist(), (rows, columns), fit=False))
