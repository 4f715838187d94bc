"""Text files as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neuroalign.errors import IntegrityError, SchemaError

__all__ = ["read_json", "read_text"]

MAX_BYTES = 2**28


def read_text(path: Path) -> str:
    """Read UTF-8 text (with or without a byte-order mark, any line ends) of bounded size."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise IntegrityError(
                "Too large for a text file.", expected=f"at most {MAX_BYTES} bytes", got=size, where=path
            )
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise IntegrityError(
            "The file is not UTF-8 text.", expected="UTF-8", got=str(error), where=path, fix="save it as UTF-8"
        ) from None
    except FileNotFoundError:
        raise IntegrityError("There is no such file.", got=str(path), where=path.parent) from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # also whole numbers of thousands of digits
        raise SchemaError("The file is not JSON.", expected="a JSON object", got=str(error), where=path) from None
    if not isinstance(content, dict):
        raise SchemaError("The file holds no JSON object.", expected="{...}", got=type(content).__name__, where=path)
    return content
