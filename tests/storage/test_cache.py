import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

import filelock
import numpy as np
import pytest
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignWarning
from neuroalign.storage import Cache


def value(k: int = 0) -> xr.DataArray:
    return xr.DataArray(np.arange(5.0) + k, dims="time", name="x", attrs={"k": k})


def never():
    raise AssertionError("computed again")


def test_computed_once_and_read_back(tmp_path):
    cache = Cache(tmp_path / "c")
    first = cache.get_or_compute("abc", value)
    xr.testing.assert_identical(first, value())
    xr.testing.assert_identical(cache.get_or_compute("abc", never), value())
    assert "abc" in cache
    cache.remove("abc")
    cache.remove("abc")
    assert "abc" not in cache


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "metadata", "manifest"])
def test_damage_is_healed_with_one_warning_and_kept_aside(tmp_path, damage):
    cache = Cache(tmp_path)
    cache.get_or_compute("abc", value)
    chunk = cache.path("abc") / "x" / "c" / "0"
    if damage == "flip":
        _flip(chunk)
    elif damage == "cut":
        chunk.write_bytes(chunk.read_bytes()[:-3])
    elif damage == "missing":
        chunk.unlink()
    else:
        (cache.path("abc") / ("x/zarr.json" if damage == "metadata" else "manifest.json")).unlink()
    with pytest.warns(NeuroalignWarning, match="damaged") as caught:
        xr.testing.assert_identical(cache.get_or_compute("abc", value), value())
    assert len(caught) == 1
    assert cache.path("abc").with_name("abc.bad").is_dir()
    xr.testing.assert_identical(cache.get_or_compute("abc", never), value())


def test_an_error_stores_nothing(tmp_path):
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_compute("abc", lambda: 1 / 0)
    assert "abc" not in cache
    cache.get_or_compute("abc", value)


@pytest.mark.parametrize("key", ["", "../x", "a/b", "a\0", "a b", "x" * 129, "é"])
def test_keys_cannot_leave_the_folder(tmp_path, key):
    with pytest.raises(ConfigError, match="cache key"):
        Cache(tmp_path).get_or_compute(key, value)


def test_a_lock_that_nobody_gives_back_times_out_and_says_what_to_do(tmp_path):
    cache = Cache(tmp_path, timeout=0.2)
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "abc.owner").write_text('{"host": "node17", "pid": 4242}')
    with (
        filelock.FileLock(tmp_path / ".locks" / "abc.lock"),
        pytest.raises(IntegrityError, match=r"process 4242 on node17[\s\S]*delete"),
    ):
        cache.get_or_compute("abc", value)
    cache.get_or_compute("abc", value)


def _worker(root, n_keys):
    cache = Cache(root, timeout=60)
    total = 0.0
    for k in range(n_keys):

        def compute(k=k):
            with (root / f"calls-{k}").open("ab") as file:
                file.write(b"x")
            time.sleep(0.001)
            return value(k)

        total += float(cache.get_or_compute(f"key{k}", compute).sum())
    return total


def test_processes_that_race_compute_each_key_once(tmp_path):
    n_keys = 10
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        sums = [future.result() for future in [pool.submit(_worker, tmp_path, n_keys) for _ in range(3)]]
    assert sums == [sum(float(value(k).sum()) for k in range(n_keys))] * 3
    assert [len((tmp_path / f"calls-{k}").read_bytes()) for k in range(n_keys)] == [1] * n_keys


class CacheMachine(RuleBasedStateMachine):
    """The cache against a dict: same answers whatever is read, removed or damaged in between."""

    @initialize(folder=st.uuids())
    def start(self, folder):
        self.cache = Cache(CacheMachine.root / folder.hex, timeout=5)
        self.model: dict[str, int] = {}
        self.damaged: set[str] = set()

    @rule(key=st.sampled_from("abc"), k=st.integers(0, 9))
    def get(self, key, k):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = self.cache.get_or_compute(key, lambda: value(k))
        assert len([w for w in caught if w.category is NeuroalignWarning]) == (key in self.damaged)
        if key in self.damaged:
            self.model.pop(key)
            self.damaged.discard(key)
        assert int(got.attrs["k"]) == self.model.setdefault(key, k)

    @rule(key=st.sampled_from("abc"))
    def remove(self, key):
        self.cache.remove(key)
        self.model.pop(key, None)
        self.damaged.discard(key)

    @rule(key=st.sampled_from("abc"), victim=st.sampled_from(["x/c/0", "x/zarr.json", "zarr.json"]))
    def damage(self, key, victim):
        if key in self.model and key not in self.damaged:
            _flip(self.cache.path(key) / victim)
            self.damaged.add(key)

    @invariant()
    def knows_its_keys(self):
        assert {key for key in "abc" if key in self.cache} == set(self.model)


def test_cache_behaves_like_a_dict(tmp_path_factory):
    CacheMachine.root = tmp_path_factory.mktemp("cache")
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(CacheMachine, settings=settings(max_examples=8, stateful_step_count=12, deadline=None))
