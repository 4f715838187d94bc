"""Stimuli: a table with one row a stimulus, and the pixels of images of one size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign import schema
from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.loaders._lazy import wrap
from neuroalign.loaders.events import read_tsv

__all__ = ["read_stimuli"]

#: Suffix -> modality of a stimulus file.
KINDS = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"), "image"),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".ogg"), "audio"),
    **dict.fromkeys((".mp4", ".avi", ".mkv", ".mov", ".webm"), "video"),
    ".txt": "text",
}
MAX_PIXELS = 2**28
_TEXT = ("stimulus_id", "path", "filename", "stim_file", "text", "sha256")


def read_stimuli(path: str | Path, *, table: str = "stimuli.tsv") -> xr.Dataset:
    """Read a folder or a table of stimuli.

    Parameters
    ----------
    path : path-like
        A table with the columns ``stimulus_id`` and ``path`` (or, as in BIDS, ``filename``; relative to the table)
        and any others; or a folder with such a table in it; or a folder of files, whose ids are then their names
        without the suffix.
    table : str
        Name of the table in a folder.

    Returns
    -------
    Dataset
        Dim ``stimulus``, indexed by id, with ``modality``, ``path`` (relative to the folder of the table), ``sha256``
        and all columns of the table. Where all stimuli are images of one size, the lazy variable ``image`` (stimulus,
        row, column, rgb) in uint8.

    Raises
    ------
    IntegrityError
        If a file is missing, is not an image although its name says so, or differs from the ``sha256`` of the table.
    SchemaError
        If ids repeat, a path leads out of the folder, or there are no stimuli.
    """
    path = Path(path).expanduser()
    if path.is_dir() and (path / table).is_file():
        path = path / table
    if path.is_dir():
        folder, frame = path, _from_folder(path)
    else:
        folder, frame = path.parent, _from_table(path)
    if "path" in frame:
        frame = _with_files(folder, frame)
    image = _images(folder, frame)
    ds = schema.stimulus_table(frame, image=image)
    if image is not None:
        ds["image"].attrs["units"] = "1"
    return schema.stamp(ds, "read_stimuli", sources=[path])


def _from_folder(folder: Path) -> pd.DataFrame:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in KINDS and not p.name.startswith("."))
    if not files:
        raise SchemaError(
            "No stimuli in the folder.",
            expected=f"stimuli.tsv, or files ending in {', '.join(KINDS)}",
            got=sorted(p.name for p in folder.iterdir())[:10],
            where=folder,
        )
    return pd.DataFrame({"stimulus_id": [f.stem for f in files], "path": [f.name for f in files]})


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
        digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
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


class _ImageArray(BackendArray):
    """Lazy (stimulus, row, column, rgb) uint8 array over image files of one size."""

    def __init__(self, folder: Path, names: Sequence[str], size: tuple[int, int]) -> None:
        self.folder, self.names = str(folder.absolute()), tuple(names)
        self.shape = (len(names), size[1], size[0], 3)
        self.dtype = np.dtype(np.uint8)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.uint8]:
        which = np.arange(self.shape[0])[key[0]]
        images = np.stack([self._one(int(i)) for i in np.atleast_1d(which)]) if np.size(which) else None
        if images is None:
            images = np.empty((0, *self.shape[1:]), dtype=np.uint8)
        for axis, index in reversed(list(enumerate(key[1:], start=1))):
            images = images[(slice(None),) * axis + (index,)]
        return images if np.ndim(which) else images[0]

    def _one(self, i: int) -> NDArray[np.uint8]:
        file = Path(self.folder) / self.names[i]
        pixels = _open_image(file, lambda image: np.asarray(image.convert("RGB")))
        if pixels.shape != self.shape[1:]:
            raise IntegrityError(
                "An image changed after it was opened.", expected=self.shape[1:], got=pixels.shape, where=file
            )
        return pixels


def _open_image(file: Path, use: Any) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise IntegrityError(
                    "The image is too large.", expected=f"{MAX_PIXELS} pixels", got=image.size, where=file
                )
            return use(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, OSError) as error:
        if isinstance(error, IntegrityError):
            raise
        raise IntegrityError(
            "The image cannot be read.", expected="a whole image file", got=str(error), where=file, fix="copy it again"
        ) from error


def _images(folder: Path, frame: pd.DataFrame) -> Any:
    """Give the lazy pixels, or None where the stimuli are not all images of one size."""
    if "path" not in frame or not (frame["modality"] == "image").all():
        return None
    sizes = {_open_image(folder / name, lambda image: image.size) for name in frame["path"]}
    if len(sizes) != 1:
        return None
    return wrap(_ImageArray(folder, frame["path"].tolist(), sizes.pop()))
