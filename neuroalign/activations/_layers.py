"""Which layers: names of module calls, and patterns that select among them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence

from neuroalign.errors import ConfigError

__all__ = ["LayerSpec", "call_name", "select_layers", "split_call"]

LayerSpec = str | re.Pattern[str] | Callable[[str], bool] | Sequence[str]


def call_name(module: str, call: int) -> str:
    """Name the k-th call (from 0) of a module in one forward pass: ``fc``, ``fc:1``, ``fc:2``."""
    return module if call == 0 else f"{module}:{call}"


def split_call(name: str) -> tuple[str, int]:
    """Give module path and call index of a name; the opposite of `call_name`."""
    module, _, call = name.partition(":")
    return module, int(call) if call.isdigit() else 0


def _glob(pattern: str) -> re.Pattern[str]:
    """Turn a glob into an expression: ``*`` and ``?`` stay within one module, ``**`` crosses dots."""
    parts = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    return re.compile("".join(parts.get(bit, re.escape(bit)) for bit in re.split(r"(\*\*|\*|\?)", pattern)))


def _unknown(pattern: str, available: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(pattern, available, n=5, cutoff=0.5)
    deeper = [name for name in available if re.fullmatch(pattern.replace("*", ".*") or "-", name)] if not near else []
    fix = f"did you mean {', '.join(near)}?" if near else "layers(stimuli) of an extractor with layers='**' lists all"
    if "*" in pattern and deeper:
        fix = f"* stays within one module: write ** to cross dots, as in {deeper[0]}"
    return ConfigError("No layer matches.", expected=list(available)[:20], got=pattern, fix=fix)


def select_layers(spec: LayerSpec, available: Sequence[str]) -> list[str]:
    """Select layers by glob, regular expression, function or list.

    Parameters
    ----------
    spec : str, re.Pattern, callable or sequence of str
        A glob over module paths (``*`` and ``?`` do not cross a dot, ``**`` does), a compiled expression that must
        match the whole name, a function of the name giving a bool, or a list of globs.
    available : sequence of str
        Names in the order of the forward pass.

    Returns
    -------
    list of str
        The selected names, in the order of `available`.

    Raises
    ------
    ConfigError
        When a pattern matches nothing; near misses are named.

    Examples
    --------
    >>> select_layers("block*", ["block1", "block1.conv", "block2", "head"])
    ['block1', 'block2']
    >>> select_layers("**conv", ["block1", "block1.conv", "block2", "head"])
    ['block1.conv']
    """
    if callable(spec) and not isinstance(spec, re.Pattern):
        chosen = {name for name in available if spec(name)}
        patterns: list[str | re.Pattern[str]] = []
    else:
        patterns = [spec] if isinstance(spec, (str, re.Pattern)) else list(spec)
        chosen = set()
    for pattern in patterns:
        regex = _glob(pattern) if isinstance(pattern, str) else pattern
        matched = {name for name in available if regex.fullmatch(name)}
        if not matched:
            raise _unknown(pattern if isinstance(pattern, str) else pattern.pattern, available)
        chosen |= matched
    if not chosen:
        raise ConfigError("No layer is selected.", expected=list(available)[:20], got=spec)
    return [name for name in available if name in chosen]
