"""Pieces of work on the threads of matrix products."""

import contextvars
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from neuroalign.compute import map_threads
from neuroalign.solvers import ridge_cv


def blas_threads():
    return max(lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas")


@pytest.fixture
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != 2:
            pytest.skip("the BLAS of this machine does not give two threads")
        yield


def test_results_are_in_the_order_of_the_items(two_threads):
    def late_if_small(n):
        time.sleep(0.02 / (1 + n))
        return n, threading.get_ident()

    found = map_threads(late_if_small, range(8))
    assert [n for n, _ in found] == list(range(8))
    assert len({thread for _, thread in found}) == 2


def test_products_inside_are_single_threaded_and_the_limit_is_taken_back(two_threads):
    assert map_threads(lambda _: blas_threads(), range(4)) == [1] * 4
    assert blas_threads() == 2


def test_too_few_items_keep_the_threads_of_products(two_threads):
    assert map_threads(lambda _: (blas_threads(), threading.get_ident()), [0]) == [(2, threading.get_ident())]


def test_work_inside_of_work_takes_no_more_threads(two_threads):
    def outer(_):
        here = threading.get_ident()
        return all(thread == here for thread in map_threads(lambda _: threading.get_ident(), range(4)))

    assert map_threads(outer, range(4)) == [True] * 4


def test_two_users_at_a_time_leave_the_limit_as_it_was(two_threads):
    users = [threading.Thread(target=map_threads, args=(lambda _: time.sleep(0.01), range(n))) for n in (4, 9, 2)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert blas_threads() == 2


def test_the_first_error_is_raised_and_the_rest_is_left(two_threads):
    done = []

    def fail(n):
        time.sleep(0.01)
        if n == 1:
            raise ValueError("one")
        done.append(n)

    with pytest.raises(ValueError, match="one"):
        map_threads(fail, range(50))
    assert len(done) < 25
    assert blas_threads() == 2


def test_error_states_of_numpy_reach_the_threads(two_threads):
    mark = contextvars.ContextVar("mark", default=0)
    mark.set(3)
    with np.errstate(divide="raise"):
        kept = map_threads(lambda _: (mark.get(), np.geterr()["divide"]), range(4))
    assert kept == [(3, "raise")] * 4


def test_ridge_gives_the_same_on_one_thread_and_on_two():
    rng = np.random.default_rng(0)
    X, test = rng.standard_normal((120, 40)), np.arange(120) < 60
    Y = X @ rng.standard_normal((40, 1100)) + 3 * rng.standard_normal((120, 1100))
    results = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads, user_api="blas"):
            results.append(ridge_cv(X, Y, alphas=[1.0, 10.0, 100.0], folds=[(test, ~test), (~test, test)]))
    one, two = results
    np.testing.assert_array_equal(one.alphas, two.alphas)
    np.testing.assert_allclose(one.coef, two.coef, atol=1e-10)
