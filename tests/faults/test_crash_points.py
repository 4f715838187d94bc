"""Row 27: whatever operation on the disk is the last, the earlier result or the new one is there, never a part."""

import errno
import itertools
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr
import zarr.storage

from neuroalign import storage
from neuroalign.errors import IntegrityError
from neuroalign.storage import atomic, journal

OLD = xr.Dataset({"x": ("time", np.arange(4.0))}, coords={"time": list("abcd")})
NEW = xr.Dataset({"x": ("time", np.arange(6.0) + 9)}, coords={"time": list("abcdef")})


class PowerCutError(BaseException):
    """The machine is gone: nothing after it reaches the disk."""


class Shim:
    """Counts the operations on the disk, and lets the k-th fail; after a power cut all later ones fail too."""

    def __init__(self, fail_at: int | None, *, dead_after: bool) -> None:
        self.fail_at, self.dead_after, self.count = fail_at, dead_after, 0
        self.log: list[tuple[str, str]] = []

    def __call__(self, operation: str, path: object) -> None:
        position, self.count = self.count, self.count + 1
        self.log.append((operation, str(path)))
        if self.fail_at is None:
            return
        if self.dead_after and position >= self.fail_at:
            raise PowerCutError
        if position == self.fail_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def shim(monkeypatch):
    def install(fail_at, *, dead_after=False):
        hook = Shim(fail_at, dead_after=dead_after)
        monkeypatch.setattr(atomic, "operation_hook", hook)

        async def counted(self, key, value):
            hook("write", key)
            await zarr_set(self, key, value)

        monkeypatch.setattr(zarr.storage.LocalStore, "set", counted)
        return hook

    zarr_set = zarr.storage.LocalStore.set
    return install


def save_store(path, new):
    storage.save(NEW if new else OLD, path)


def save_file(path, new):
    storage.write_json(path, {"new": new, "values": [1, 2, 3]})


def read_store(path):
    got = storage.open(path, verify="full", lazy=False)
    return next((new for new, ds in ((True, NEW), (False, OLD)) if got.identical(ds)), "wrong")


def read_file(path):
    return json.loads(path.read_text())["new"]


MORE = xr.Dataset({"x": ("time", np.arange(2.0) + 13)}, coords={"time": list("ef")})
GROWN = xr.concat([NEW.isel(time=slice(4)), MORE], "time")
RUN = xr.Dataset({"y": ("time", np.arange(5.0))})


def grow_store(path):
    storage.append(MORE, path, dim="time")


def grow_tree(path):
    storage.append(RUN, path, run="a/run-02")


GROWING = {
    "store": (NEW.isel(time=slice(4)), GROWN, grow_store),
    "tree": (
        xr.DataTree.from_dict({"/a/run-01": OLD}),
        xr.DataTree.from_dict({"/a/run-01": OLD, "/a/run-02": RUN}),
        grow_tree,
    ),
}


def grown(path, before, after):
    """Whether a store was added to; it must open whole, by the first who opens it, and be free of leftovers after."""
    got = storage.open(path, verify="full", lazy=False)
    assert not (path / ".append.json").exists()
    return next((new for new, ds in ((True, after), (False, before)) if got.identical(ds)), "wrong")


@pytest.mark.parametrize("case", GROWING)
@pytest.mark.parametrize("dead_after", [True, False])
def test_append_stopped_at_every_operation(tmp_path, shim, monkeypatch, case, dead_after):
    monkeypatch.setattr(journal, "PATIENCE_SECONDS", 0.0)
    before, after, grow = GROWING[case]
    outcomes = []
    for k in itertools.count():
        path = tmp_path / f"{k}.zarr"
        shim(None)
        storage.save(before, path)
        hook = shim(k, dead_after=dead_after)
        try:
            grow(path)
            finished = True
        except (PowerCutError, IntegrityError):
            finished = False
        count = hook.count
        shim(None)
        outcomes.append(grown(path, before, after))
        assert finished <= (outcomes[-1] is True)
        if outcomes[-1] is False and k % 5 == 0:  # what was left does not disturb the next
            grow(path)
            assert grown(path, before, after) is True
            assert not [p.name for p in path.iterdir() if p.name.endswith(".partial")]
        if count <= k:
            break
    assert len(outcomes) > 25
    assert set(outcomes) == {True, False}
    assert outcomes == sorted(outcomes)  # one moment at which it counts


def test_an_append_is_flushed_before_it_counts(tmp_path, shim):
    path = tmp_path / "x.zarr"
    storage.save(NEW.isel(time=slice(4)), path)
    hook = shim(None)
    grow_store(path)
    counts = [p.rsplit("/", 1)[-1] for op, p in hook.log if op == "replace"]
    assert counts[0] == ".append.json"
    assert counts[-1] == "manifest.json"
    first = next(k for k, (op, p) in enumerate(hook.log) if op == "replace" and p.endswith(".append.json"))
    flushed = [p for op, p in hook.log[:first] if op == "fsync"]
    assert all(any(p.endswith(".partial/" + name) for p in flushed) for name in ("manifest.json", "x/c/1", "zarr.json"))
    assert [op for op, p in hook.log if p.endswith(".append.json")][-1] == "remove"


CASES = {"file": (save_file, read_file), "store": (save_store, read_store)}


def states(folder):
    """Names in a folder that a person would take for a result."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("earlier", [False, True])
def test_power_cut_at_every_operation(tmp_path, shim, case, earlier):
    save, read = CASES[case]
    outcomes = []
    for k in itertools.count():
        folder = tmp_path / f"{k}"
        folder.mkdir()
        target = folder / "result"
        shim(None)
        if earlier:
            save(target, False)
        hook = shim(k, dead_after=True)
        try:
            save(target, True)
            finished = True
        except PowerCutError:
            finished = False
        shim(None)
        atomic.recover(target)
        outcomes.append(read(target) if target.exists() else "absent")
        assert states(folder) == (["result"] if target.exists() else [])
        if k % 4 == 0:  # the next run is not disturbed by what this one left
            save(target, True)
            assert read(target) is True
        if finished:
            break
    assert hook.count > (4 if case == "file" else 20)
    assert outcomes[-1] is True
    assert set(outcomes) <= {True, False if earlier else "absent"}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("earlier", [False, True])
def test_disk_error_at_every_operation(tmp_path, shim, case, earlier):
    save, read = CASES[case]
    for k in itertools.count():
        folder = tmp_path / f"{k}"
        folder.mkdir()
        target = folder / "result"
        shim(None)
        if earlier:
            save(target, False)
        shim(k)
        try:
            save(target, True)
            finished = True
        except IntegrityError:
            finished = False
        count = atomic.operation_hook.count
        shim(None)
        state = read(target) if target.exists() else "absent"
        assert state in ((True, False) if earlier else (True, "absent"))
        assert finished <= (state is True)
        partial = [p.name for p in folder.iterdir() if p.name.endswith(".partial")]
        assert partial == []
        if count <= k:
            break


KILLED = """
import itertools, sys
import numpy as np, xarray as xr
from neuroalign import storage
for k in itertools.count():
    storage.save(xr.Dataset({"x": ("time", np.full(1000, float(k)))}), sys.argv[1])
    print(k, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_process_leaves_a_whole_result(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(3):
        path = tmp_path / "x.zarr"
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.communicate()
        values = storage.open(path, verify="full")["x"].values
        assert (values == values[0]).all()


APPENDING = """
import itertools, sys
import numpy as np, xarray as xr
from neuroalign import storage
for k in itertools.count(1):
    x = xr.Dataset({"x": ("time", np.arange(k * 100.0, k * 100.0 + 100))})
    storage.append(x, sys.argv[1], dim="time")
    print(k, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_writer_leaves_whole_appends(tmp_path):
    rng = np.random.default_rng(0)
    for trial in range(3):
        path = tmp_path / f"{trial}.zarr"
        storage.save(xr.Dataset({"x": ("time", np.arange(100.0))}), path)
        process = subprocess.Popen([sys.executable, "-c", APPENDING, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.communicate()
        values = storage.open(path, verify="full")["x"].values
        assert values.size >= 200
        assert values.size % 100 == 0
        np.testing.assert_array_equal(values, np.arange(values.size))


def test_everything_is_flushed_before_it_gets_its_name(tmp_path, shim):
    hook = shim(None)
    save_store(tmp_path / "result", True)
    (renamed,) = [k for k, (op, path) in enumerate(hook.log) if op == "replace" and path.endswith("result")]
    flushed = {path for op, path in hook.log[:renamed] if op == "fsync"}
    files = [p.relative_to(tmp_path / "result").as_posix() for p in (tmp_path / "result").rglob("*") if p.is_file()]
    assert all(any(path.endswith(".partial/" + name) for path in flushed) for name in files)
    assert ("fsync", str(tmp_path)) in hook.log[renamed + 1 :]


def test_manifest_is_the_last_file_written(tmp_path, shim):
    hook = shim(None)
    save_store(tmp_path / "result", True)
    writes = [path for op, path in hook.log if op == "write"]
    assert "manifest.json" in writes[-1]
    assert not any("manifest.json" in path for path in writes[:-1])
