"""Names from data as text of a picture."""

from __future__ import annotations

import re

# Longer names would leave no room for the picture.
LONGEST = 36
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def safe(name: object) -> str:
    """Make a name from data fit for a picture: short, without control characters, and no formula to typeset.

    Examples
    --------
    >>> print(safe("left $1$"))
    left \\$1\\$
    """
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(name))
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    # matplotlib hides labels that begin with an underscore from legends.
    return text.replace("$", r"\$") if not text.startswith("_") else " " + text.replace("$", r"\$")
