"""The one progress bar: on stderr, and silent where nobody looks at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Advance", "notice", "progress"]

Advance = Callable[[int], None]


@contextmanager
def progress(label: str, total: int | None = None, *, show: bool | None = None, unit: str = "") -> Iterator[Advance]:
    """Show how far a job is.

    Parameters
    ----------
    label : str
        What is being done.
    total : int, optional
        Number of steps. Without it the bar only moves.
    show : bool, optional
        None shows it when stderr is a terminal.
    unit : {"", "bytes"}
        ``bytes`` shows sizes and speed instead of counts.

    Yields
    ------
    callable
        ``advance(n)``: n further steps are done.

    Examples
    --------
    >>> with progress("fit", total=2, show=False) as advance:
    ...     advance(1)
    ...     advance(1)
    """
    if show is False or (show is None and not sys.stderr.isatty()):
        yield lambda n: None
        return
    from rich import progress as bars
    from rich.console import Console

    counts = [bars.DownloadColumn(), bars.TransferSpeedColumn()] if unit == "bytes" else [bars.MofNCompleteColumn()]
    columns = [bars.TextColumn("{task.description}"), bars.BarColumn(), *counts, bars.TimeRemainingColumn()]
    with bars.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.advance(task, n)


def notice(text: str, *, show: bool | None = None) -> None:
    """Show a line on stderr.

    Parameters
    ----------
    text : str
        The line.
    show : bool, optional
        None shows it when stderr is a terminal.
    """
    if show or (show is None and sys.stderr.isatty()):
        sys.stderr.write(text + "\n")
