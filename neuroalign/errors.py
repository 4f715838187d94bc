"""Every error that neuroalign raises on purpose, and the one way to word them.

An error says what went wrong, what was expected, what came, where, and what to do.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import PurePath
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

__all__ = [
    "AlignmentError",
    "ConfigError",
    "IntegrityError",
    "LabelsLostError",
    "MissingDependencyError",
    "NeuroalignError",
    "NeuroalignWarning",
    "Notice",
    "SchemaError",
    "gather_warnings",
    "require",
    "tell",
    "warn",
    "warns_once",
]


def _shorten(value: object, limit: int = 300) -> str:
    text = str(value) if isinstance(value, (str, PurePath)) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class NeuroalignError(Exception):
    """Base class of all errors raised by neuroalign.

    Parameters
    ----------
    problem : str
        One sentence: what went wrong.
    expected, got : object, optional
        What was expected and what came instead.
    where : object, optional
        The file, field, row or label concerned.
    fix : str, optional
        What to do about it.

    Examples
    --------
    >>> print(NeuroalignError("Unknown unit.", expected="V or uV", got="mmHg", fix="pass units='uV'"))
    Unknown unit.
      expected: V or uV
      got:      mmHg
      fix:      pass units='uV'
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: object = None,
        got: object = None,
        where: object = None,
        fix: str | None = None,
    ) -> None:
        self.problem, self.expected, self.got, self.where, self.fix = problem, expected, got, where, fix
        lines = [problem]
        for label, value in (("expected", expected), ("got", got), ("where", where), ("fix", fix)):
            if value is not None:
                lines.append(f"  {label + ':':<9} {_shorten(value, 2000 if label in ('where', 'fix') else 300)}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments survive a process boundary
        return _rebuild, (type(self), self.problem, self.expected, self.got, self.where, self.fix)


def _rebuild(
    cls: type[NeuroalignError], problem: str, expected: object, got: object, where: object, fix: str | None
) -> NeuroalignError:
    return cls(problem, expected=expected, got=got, where=where, fix=fix)


class SchemaError(NeuroalignError, ValueError):
    """Data does not have the dimensions, coordinates, units or values that the data model asks for."""


class AlignmentError(NeuroalignError, ValueError):
    """Two labelled objects do not describe the same samples."""


class LabelsLostError(AlignmentError):
    """Only one of two objects that must be aligned still carries labels."""


class IntegrityError(NeuroalignError, OSError):
    """A file or store is cut, damaged, incomplete or could not be written whole."""


class ConfigError(NeuroalignError, ValueError):
    """An argument, option, recipe or card is not valid."""


class MissingDependencyError(NeuroalignError, ImportError):
    """An optional dependency is needed and not installed (or too old)."""


class NeuroalignWarning(UserWarning):
    """Something is unusual but was handled; the message says what and how."""


@dataclass(frozen=True)
class Notice:
    """A warning that waits for others of its kind.

    Attributes
    ----------
    message : str or callable
        The text, or a function that makes it of the flags.
    flags : dict of str to ndarray of bool
        Which targets it is about.
    n_fits : int
        How many fits it sums up.
    """

    message: str | Callable[..., str]
    flags: dict[str, Any] = field(default_factory=dict)
    n_fits: int = 1

    def __str__(self) -> str:
        if isinstance(self.message, str):
            return self.message
        several = f" This sums up {self.n_fits} fits." if self.n_fits > 1 else ""
        return self.message(**self.flags) + several

    @property
    def kind(self) -> tuple[Any, ...]:
        """What notices have in common that can be summed up."""
        return self.message, *((name, flag.shape) for name, flag in self.flags.items())

    def __add__(self, other: Notice) -> Notice:
        """Sum up: a target counts once, however many fits flag it."""
        flags = {name: flag | other.flags[name] for name, flag in self.flags.items()}
        return Notice(self.message, flags, self.n_fits + other.n_fits)


# Of its own thread, other than the filters of the module `warnings`: folds may be fitted in several.
_gathered: ContextVar[list[Notice] | None] = ContextVar("gathered", default=None)

_P = ParamSpec("_P")
_R = TypeVar("_R")


def warn(message: str | Callable[..., str], *, stacklevel: int = 2, **flags: Any) -> None:
    """Emit a `NeuroalignWarning` that points at the caller of the calling function.

    Inside of `gather_warnings` it waits.

    Parameters
    ----------
    message : str or callable
        What is unusual, and how it was handled; or a function (defined at the top of a module) that makes the text of
        the flags.
    stacklevel : int
        How many calls up the warning points; 2 is the caller of the function that calls this.
    **flags : ndarray of bool, shape (n_targets,)
        Which targets it is about.
    """
    _emit(Notice(message, flags), stacklevel + 1)


def _emit(notice: Notice, stacklevel: int) -> None:
    waiting = _gathered.get()
    if waiting is None:
        warnings.warn(str(notice), NeuroalignWarning, stacklevel=stacklevel + 1)
    else:
        waiting.append(notice)


@contextmanager
def gather_warnings() -> Iterator[list[Notice]]:
    """Hold back what `warn` says in this thread.

    Yields
    ------
    list of Notice
        What was said, for `tell`.
    """
    waiting: list[Notice] = []
    token = _gathered.set(waiting)
    try:
        yield waiting
    finally:
        _gathered.reset(token)


def tell(notices: Iterable[Notice], *, stacklevel: int = 2) -> None:
    """Say what was held back, each kind once.

    Parameters
    ----------
    notices : iterable of Notice
        From `gather_warnings`.
    stacklevel : int
        As in `warn`.
    """
    sums: dict[tuple[Any, ...], Notice] = {}
    for notice in notices:
        sums[notice.kind] = sums[notice.kind] + notice if notice.kind in sums else notice
    for notice in sums.values():
        _emit(notice, stacklevel + 1)


def warns_once(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function say each kind of warning once, when it ends, pointing at its caller.

    Parameters
    ----------
    function : callable
        What users call.

    Returns
    -------
    callable
        The same, with warnings held back until it ends.
    """

    @functools.wraps(function)
    def once(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with gather_warnings() as waiting:
            result = function(*args, **kwargs)
        tell(waiting)
        return result

    return once


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say how to install it.

    Parameters
    ----------
    module : str
        Dotted module name, for example ``"mne"``.
    extra : str
        The extra of neuroalign that brings it, for example ``"eeg"``.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingDependencyError
        If the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise MissingDependencyError(
            f"This needs {name}, which could not be imported ({error}).",
            fix=f'pip install "neuroalign[{extra}]"',
        ) from error
