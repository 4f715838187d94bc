"""Small pieces of work on the threads that matrix products would use.

A product of small matrices hardly gains from a second thread, and nothing beside it does. Whole pieces of work on a
thread each, every one with single-threaded products, gain from all of them, and their results do not depend on the
number of threads.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

__all__ = ["map_threads"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_threads(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Call `work` on every item, on as many threads as matrix products of numpy use now.

    Products inside of `work` are single-threaded meanwhile. With fewer items than threads, or where other pieces of
    work are under way, the items are worked on one after the other.

    Parameters
    ----------
    work : callable
        Spends its time in numpy, where threads do not wait for each other, and writes to places of its own.
    items : sequence
        What it is called with.

    Returns
    -------
    list
        Results in the order of the items. The first exception is raised, and the items that have not begun are left.

    Examples
    --------
    >>> map_threads(lambda n: n * n, [1, 2, 3])
    [1, 4, 9]
    """
    with _own_threads(len(items)) as n_threads:
        if n_threads == 1:
            return [work(item) for item in items]
        with ThreadPoolExecutor(n_threads) as pool:
            futures = [pool.submit(contextvars.copy_context().run, partial(work, item)) for item in items]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


_limit = threading.Lock()  # of the whole process: who does not get it works on a single thread


@contextmanager
def _own_threads(n_items: int) -> Iterator[int]:
    if n_items < 2 or not _limit.acquire(blocking=False):
        yield 1
        return
    try:
        blas = _blas()
        n_threads = max((library["num_threads"] for library in blas.info()), default=1)
        if not 1 < n_threads <= n_items:
            yield 1
            return
        with blas.limit(limits=1):
            yield n_threads
    finally:
        _limit.release()


@cache
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")
