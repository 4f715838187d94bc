"""Devices that run out of memory: fewer targets at a time, else an error that says so."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from neuroalign.errors import ConfigError, warn
from neuroalign.solvers._arrays import Buffers

__all__ = ["in_shrinking_tiles", "tells_of_memory"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def in_shrinking_tiles(work: Callable[[slice, Buffers], None], n_targets: int, step: int) -> int:
    """Call `work` on consecutive targets, on fewer at a time when a device has not the memory; give the last number.

    Raises
    ------
    ConfigError
        If there is no memory for a single target.
    """
    lo, buffers, errors = 0, Buffers(), _out_of_memory()
    while lo < n_targets:
        here, full = slice(lo, min(lo + step, n_targets)), False
        try:
            work(here, buffers)
            lo = here.stop
        except errors as error:
            full = True
            if here.stop - here.start == 1:
                raise _no_memory("a single target", error) from error
        if full:  # outside of the handler, which holds on to what did not fit
            buffers, step = Buffers(), max(1, min(step, n_targets) // 2)
            sys.modules["torch"].cuda.empty_cache()
            warn(f"The device is out of memory; going on with {step} targets at a time.", stacklevel=5)
    return step


def tells_of_memory(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function whose work cannot be cut into targets say so when a device has not the memory."""

    @functools.wraps(function)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except _out_of_memory() as error:
            raise _no_memory("this many samples and features", error) from error

    return told


def _no_memory(what: str, error: BaseException) -> ConfigError:
    return ConfigError(
        f"The device has no memory for {what}.",
        got=str(error),
        where="X",
        fix="pass fewer samples or features, or arrays on the CPU",
    )


def _out_of_memory() -> tuple[type[BaseException], ...]:
    torch = sys.modules.get("torch")
    return () if torch is None else (torch.OutOfMemoryError,)
