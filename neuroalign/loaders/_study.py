"""A BIDS data set on disk, and what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuroalign.errors import IntegrityError

__all__ = ["Study", "check_link"]


@dataclass(frozen=True)
class Study:
    """A data set on disk.

    Attributes
    ----------
    root : Path
        Folder with ``sub-*`` folders, or with the files themselves.
    raw : Path or None
        Root of the raw data set that a derivative was made from.
    within : Path or None
        Folder of one subject, session or modality, where only that is meant.
    follow_links : bool
        Whether links may lead out of the data set.
    """

    root: Path
    raw: Path | None = None
    within: Path | None = None
    follow_links: bool = False


def check_link(study: Study, path: Path) -> Path:
    """Refuse a link that leads out of the data set, or nowhere.

    Links into ``.git`` of the data set or of a folder above it (DataLad, git-annex) and, from a derivative, into its
    raw data set stay inside.

    Raises
    ------
    IntegrityError
        If the link leads elsewhere, or its content is not there.
    """
    if not path.exists():
        raise IntegrityError(
            "The file is a link without its content." if path.is_symlink() else "There is no such file.",
            got=str(path),
            where=path.parent,
            fix="fetch it, for example with: datalad get " + path.name if path.is_symlink() else None,
        )
    if study.follow_links:
        return path
    real, home = path.resolve(), study.root.resolve()
    inside = [home, *(p / ".git" for p in home.parents)]
    inside += [study.raw.resolve()] if study.raw is not None else []
    if not any(real.is_relative_to(folder) for folder in inside):
        raise IntegrityError(
            "A link leads out of the data set.",
            expected=f"a file below {home}",
            got=str(real),
            where=path,
            fix="pass follow_links=True if you trust the data set",
        )
    return path
