"""Run pieces of work that do not take each other down: a failed piece, or a dead worker, is noted and the rest ends."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from neuroalign.compute.executor import SerialExecutor, WorkerPool, available_cpus, get_executor
from neuroalign.compute.progress import Advance
from neuroalign.compute.progress import progress as show_progress
from neuroalign.compute.share import received, share
from neuroalign.errors import ConfigError, NeuroalignError

__all__ = ["Outcome", "run_pieces"]

MAX_FAILURES = 10  # a full disk fails every piece: no need to try hundreds


@dataclass
class Outcome:
    """What became of the pieces.

    Attributes
    ----------
    results : dict of int to object
        Position of a piece, and what it gave.
    failures : dict of int to Exception
        Position of a piece, and its error.
    untried : list of int
        Pieces that were left out after ten failures.
    """

    results: dict[int, Any] = field(default_factory=dict)
    failures: dict[int, BaseException] = field(default_factory=dict)
    untried: list[int] = field(default_factory=list)


def run_pieces(
    fn: Callable[[Any, Any], Any],
    items: Sequence[Any] | Callable[[int], Any],
    n: int | None = None,
    *,
    shared: Any = None,
    executor: str | Executor | Any = "serial",
    n_workers: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: str | None = None,
) -> Outcome:
    """Apply a function to every item, whatever happens to the others.

    Only a few items are under way at a time, so that their inputs do not pile up. When a worker process dies, the
    items that it may have died of are tried again, each in a process of its own; the others go on in new workers.

    Parameters
    ----------
    fn : callable
        Takes an item and the shared value. For processes it must be importable (defined at the top of a module).
    items : sequence, or callable
        The pieces of work; or a function that makes the k-th of them when its turn comes.
    n : int, optional
        Number of items, where they are made by a function.
    shared : object, optional
        A value that all pieces use; sent once per worker.
    executor : {"serial", "processes"}, Executor or dask.distributed.Client
        Where to work.
    n_workers : int, optional
        Number of worker processes with ``"processes"``; by default one a CPU.
    folder : path-like, optional
        Where shared arrays lie while worker processes run.
    progress : str, optional
        Label of a progress bar.

    Returns
    -------
    Outcome
        Results and failures, by position.

    Raises
    ------
    ConfigError
        If the executor is unknown.

    Examples
    --------
    >>> outcome = run_pieces(lambda item, shared: item * shared, [1, 2], shared=10)
    >>> outcome.results, outcome.failures
    ({0: 10, 1: 20}, {})
    """
    pick = items if callable(items) else items.__getitem__
    total = n if n is not None else len(items)  # type: ignore[arg-type]
    work = _Work(fn, pick, deque(range(total)), Outcome())
    with show_progress(progress or "", total, show=None if progress else False) as advance:
        work.advance = advance
        while work.waiting:
            lost = work.round(lambda: _opened(executor, n_workers), shared, folder)
            if not lost:
                continue
            if executor != "processes":  # it is the caller's, and cannot be started again
                work.outcome.failures |= dict.fromkeys([*lost, *work.waiting], _died())
                break
            for k in lost:
                alone = _Work(fn, pick, deque([k]), work.outcome, advance)
                if alone.round(lambda: _opened("processes", 1), shared, folder):
                    work.outcome.failures[k] = _died()
    return work.outcome


@dataclass
class _Work:
    fn: Callable[[Any, Any], Any]
    pick: Callable[[int], Any]
    waiting: deque[int]
    outcome: Outcome
    advance: Advance = lambda n: None

    def round(self, opened: Callable[[], Any], shared: Any, folder: Any) -> list[int]:
        """Work through what waits; give the items that were under way when the workers died."""
        with opened() as pool, share(shared, pool, folder) as handle:
            running: dict[Future[Any], int] = {}
            lost: list[int] = []
            while (self.waiting and not lost) or running:
                while self.waiting and not lost and len(running) < _window(pool):
                    self._submit(pool, handle, running, lost)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._settle(future, running.pop(future), lost)
                if len(self.outcome.failures) >= MAX_FAILURES:
                    self.outcome.untried += self.waiting
                    self.waiting.clear()
        return lost

    def _submit(self, pool: Executor, handle: Any, running: dict[Future[Any], int], lost: list[int]) -> None:
        k = self.waiting.popleft()
        try:
            running[pool.submit(_call, self.fn, self.pick(k), handle)] = k
        except BrokenExecutor:
            lost.append(k)

    def _settle(self, future: Future[Any], k: int, lost: list[int]) -> None:
        error = future.exception()
        if error is None:
            self.outcome.results[k] = future.result()
            self.advance(1)
        elif isinstance(error, BrokenExecutor):
            lost.append(k)
        else:
            self.outcome.failures[k] = error


def _call(fn: Callable[[Any, Any], Any], item: Any, handle: Any) -> Any:
    return fn(item, received(handle))


@contextmanager
def _opened(executor: Any, n_workers: int | None) -> Iterator[Executor]:
    if isinstance(executor, str):
        with get_executor(executor, n_workers) as pool:
            yield pool
    elif isinstance(executor, Executor):
        yield executor
    elif hasattr(executor, "get_executor"):  # a client of dask.distributed
        yield executor.get_executor()
    else:
        raise ConfigError(
            "Not an executor.",
            expected="serial | processes, a concurrent.futures.Executor, or a dask.distributed.Client",
            got=type(executor).__name__,
            where="executor",
        )


def _window(pool: Any) -> int:
    """How many items to hand in at a time: what keeps all workers busy."""
    if isinstance(pool, WorkerPool):
        return pool.n_workers  # so that what was under way when a worker died is known
    client = getattr(pool, "_client", None)
    if client is not None:
        return 2 * max(1, sum(client.ncores().values()))
    return 1 if isinstance(pool, SerialExecutor) else 2 * available_cpus()


def _died() -> NeuroalignError:
    return NeuroalignError(
        "A worker process died before it gave a result (killed, or out of memory).",
        fix="use fewer workers or smaller pieces",
    )
