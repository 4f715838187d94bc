"""XML from files: well-formed, without entities, and what nibabel makes of it under one error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.parsers import expat

from neuroalign.errors import IntegrityError, NeuroalignError

__all__ = ["damaged", "nibabel_errors", "scan_xml"]

_MAX_DEPTH = 64
_CHUNK = 1 << 20


def damaged(path: Path, what: str, expected: object, got: object) -> IntegrityError:
    """Word the error of a GIFTI or CIFTI file of which a part cannot be true."""
    return IntegrityError(
        f"The file is damaged: {what}.", expected=expected, got=got, where=path, fix="copy or download the file again"
    )


def _refuse(path: Path, what: str) -> IntegrityError:
    return IntegrityError(
        "The XML of the file is not safe to read.",
        expected="plain XML without a document type of its own and without entities",
        got=what,
        where=path,
        fix="write the file again with nibabel, Workbench or FreeSurfer",
    )


def scan_xml(
    path: Path,
    content: bytes,
    *,
    start: Callable[[str, dict[str, str]], Any] | None = None,
    end: Callable[[str], Any] | None = None,
    text: Callable[[str], Any] | None = None,
) -> None:
    """Parse XML once from beginning to end, before any library builds objects from it.

    Parameters
    ----------
    path : Path
        The file, for messages.
    content : bytes
        The document.
    start, end, text : callable, optional
        Called with each element, its end, and pieces of text.

    Raises
    ------
    IntegrityError
        If it is cut or not well-formed, declares entities, uses undeclared ones, or is nested too deep.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def opened(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise _refuse(path, f"elements nested more than {_MAX_DEPTH} deep")
        if start is not None:
            start(name, attributes)

    def closed(name: str) -> None:
        nonlocal depth
        depth -= 1
        if end is not None:
            end(name)

    def doctype(name: str, system: str | None, public: str | None, internal: int) -> None:
        if internal:
            raise _refuse(path, f"a document type {name!r} with declarations")

    def entity(name: str, *_: Any) -> None:
        raise _refuse(path, f"the entity {name!r}")

    parser.StartElementHandler, parser.EndElementHandler = opened, closed
    parser.StartDoctypeDeclHandler, parser.EntityDeclHandler = doctype, entity
    parser.SkippedEntityHandler = entity
    if text is not None:
        parser.CharacterDataHandler = text
    try:
        for first in range(0, len(content), _CHUNK):
            parser.Parse(content[first : first + _CHUNK], False)
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: an unknown encoding
        raise IntegrityError(
            "The XML of the file is damaged.",
            expected="a whole, well-formed document",
            got=str(error),
            where=path,
            fix="copy or download the file again",
        ) from error


@contextmanager
def nibabel_errors(path: Path) -> Iterator[None]:
    """Turn whatever nibabel raises over damaged content into one error that names the file."""
    try:
        yield
    except (NeuroalignError, Warning):
        raise
    except Exception as error:  # nibabel raises anything over damaged bytes, from KeyError to struct.error
        raise IntegrityError(
            "nibabel cannot read the file.",
            expected="a whole file of this format",
            got=f"{type(error).__name__}: {error}",
            where=path,
            fix="copy or download it again",
        ) from error
