"""Run pieces of work here or in worker processes, behind the interface of `concurrent.futures.Executor`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext, SpawnProcess
from types import TracebackType
from typing import Any, Literal, TypeVar

from neuroalign.compute.progress import progress as show_progress
from neuroalign.errors import ConfigError, NeuroalignError

__all__ = ["EXECUTORS", "SerialExecutor", "WorkerPool", "available_cpus", "get_executor", "map_chunks"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cpus() -> int:
    """Number of CPUs that this process may use.

    Returns
    -------
    int
        At least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


class SerialExecutor(Executor):
    """Runs each task at once, in the calling thread.

    Examples
    --------
    >>> with SerialExecutor() as executor:
    ...     executor.submit(sum, [1, 2]).result()
    3
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a task now.

        Parameters
        ----------
        fn : callable
            The task.
        *args, **kwargs : object
            Its arguments.

        Returns
        -------
        concurrent.futures.Future
            Finished.
        """
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  a future carries whatever its task raised
            future.set_exception(error)
        return future


class _RecordingContext(SpawnContext):
    """Fresh interpreters (safe beside torch and BLAS threads), and a list of the processes that were started."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        process = SpawnProcess(*args, **kwargs)
        self.started.append(process)
        return process


class WorkerPool(ProcessPoolExecutor):
    """Worker processes that share the CPUs and never outlive this process.

    Leaving the ``with`` block by an error or Ctrl-C ends the workers at once. Scripts that use it need the usual
    ``if __name__ == "__main__":`` guard.

    Parameters
    ----------
    n_workers : int, optional
        Number of processes; by default one a CPU.
    """

    def __init__(self, n_workers: int | None = None) -> None:
        n_workers = available_cpus() if n_workers is None else n_workers
        if n_workers < 1:
            raise ConfigError("A pool needs at least one worker.", expected="n_workers >= 1", got=n_workers)
        self.n_workers = n_workers
        self._context = _RecordingContext()
        n_threads = max(1, available_cpus() // n_workers)
        super().__init__(n_workers, mp_context=self._context, initializer=_start_worker, initargs=(n_threads,))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.shutdown(wait=False, cancel_futures=True)
            self.terminate()
        self.shutdown(wait=True)

    def terminate(self) -> None:
        """End all workers now; their tasks are lost."""
        for process in self._context.started:
            if process.is_alive():
                process.terminate()
        for process in self._context.started:
            if process.pid is not None:  # a start may have failed
                process.join(5)


def _start_worker(n_threads: int) -> None:
    """Set a worker up: few threads, Ctrl-C left to the parent, and an end when the parent dies."""
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(n_threads)  # for libraries that are loaded later, such as torch
    threadpool_limits(n_threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


EXECUTORS: dict[str, Callable[[int | None], Executor]] = {
    "serial": lambda n_workers: SerialExecutor(),
    "processes": WorkerPool,
}


def get_executor(kind: Literal["serial", "processes"] | str = "serial", n_workers: int | None = None) -> Executor:
    """Make an executor, to be used in a ``with`` block.

    Parameters
    ----------
    kind : {"serial", "processes"}
        Run in this process, or in worker processes.
    n_workers : int, optional
        Number of worker processes; by default one a CPU.

    Returns
    -------
    concurrent.futures.Executor
        The executor.

    Raises
    ------
    ConfigError
        If the kind is unknown.

    Examples
    --------
    >>> with get_executor("serial") as executor:
    ...     list(executor.map(abs, [-1, 2]))
    [1, 2]
    """
    if kind not in EXECUTORS:
        raise ConfigError("Unknown executor.", expected=" | ".join(EXECUTORS), got=kind)
    return EXECUTORS[kind](n_workers)


def map_chunks(
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    executor: Executor | None = None,
    progress: str | None = None,
    names: Iterable[str] | None = None,
) -> list[Result]:
    """Apply a function to every item, and give the results in the order of the items.

    Parameters
    ----------
    fn : callable
        Takes one item. For processes it must be importable (defined at the top of a module).
    items : iterable
        The pieces of work.
    executor : Executor, optional
        From `get_executor`; by default the work is done here.
    progress : str, optional
        Label of a progress bar.
    names : iterable of str, optional
        What errors call the items; by default their `repr`.

    Returns
    -------
    list
        One result an item.

    Raises
    ------
    NeuroalignError
        If an item fails: it names the item, and is chained to the original error. The rest is cancelled.

    Examples
    --------
    >>> map_chunks(len, ["a", "bb"])
    [1, 2]
    """
    work = list(items)
    labels = [repr(item) for item in work] if names is None else list(names)
    executor = SerialExecutor() if executor is None else executor
    futures: list[Future[Result]] = []
    with show_progress(progress or "", len(work), show=None if progress else False) as advance:
        try:
            for item in work:
                futures.append(executor.submit(fn, item))
                futures[-1].add_done_callback(lambda _: advance(1))
                if futures[-1].done() and futures[-1].exception() is not None:
                    break  # a serial executor need not go on after a failure
            return [_result(future, k, labels[k], len(work)) for k, future in enumerate(futures)]
        finally:
            for future in futures:
                future.cancel()


def _result(future: Future[Result], k: int, label: str, n: int) -> Result:
    place = f"item {k + 1} of {n}: {label if len(label) < 200 else label[:199] + '…'}"
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise NeuroalignError(
            "A worker process died before it gave a result (killed, or out of memory).",
            where=place,
            fix="use fewer workers or smaller pieces",
        ) from error
    except NeuroalignError as error:
        where = place if error.where is None else f"{error.where} ({place})"
        raise type(error)(error.problem, expected=error.expected, got=error.got, where=where, fix=error.fix) from error
    except Exception as error:
        raise NeuroalignError(f"{type(error).__name__}: {error}", where=place) from error
