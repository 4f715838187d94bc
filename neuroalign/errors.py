"""Every error that neuroalign raises on purpose, and the one way to word them.

An error says what went wrong, what was expected, what came, where, and what to do.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import PurePath
from types import ModuleType

__all__ = [
    "AlignmentError",
    "ConfigError",
    "IntegrityError",
    "LabelsLostError",
    "MissingDependencyError",
    "NeuroalignError",
    "NeuroalignWarning",
    "SchemaError",
    "require",
    "warn",
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


def warn(message: str, *, stacklevel: int = 2) -> None:
    """Emit a `NeuroalignWarning` that points at the caller of the calling function.

    Parameters
    ----------
    message : str
        What is unusual, and how it was handled.
    stacklevel : int
        How many calls up the warning points; 2 is the caller of the function that calls this.
    """
    warnings.warn(message, NeuroalignWarning, stacklevel=stacklevel + 1)


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
