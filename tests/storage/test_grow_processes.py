"""Rows 27 and 29 with real processes: readers while a store grows, and several writers at once."""

import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from neuroalign import storage
from neuroalign.errors import IntegrityError
from neuroalign.storage import locks

STEP = 700  # samples of an addition, no multiple of the chunk

WRITER = """
import sys
import numpy as np, xarray as xr
from neuroalign import storage
path, count, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for k in range(1, count):
    values = np.arange(k * step, (k + 1) * step, dtype="f4")
    x = xr.Dataset({"x": (("channel", "time"), np.stack([values, -values]))}, coords={"time": values / 100})
    storage.append(x, path, dim="time")
"""

READER = """
import sys, time
import numpy as np
from neuroalign import storage
path, count, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
first = storage.open(path)
start = first.sizes["time"]
sizes = set()
while True:
    ds = storage.open(path, verify="full")
    n = ds.sizes["time"]
    values = ds["x"].values
    assert n % step == 0 and (values[0] == np.arange(n)).all() and (values[1] == -np.arange(n)).all(), n
    assert (ds["time"].values == np.arange(n, dtype="f4") / 100).all()
    old = first["x"].isel(time=slice(start - 50, None)).values
    assert first.sizes["time"] == start and (old[0] == np.arange(start - 50, start)).all()
    sizes.add(n)
    if n == count * step:
        break
print(len(sizes))
"""


def begin(path):
    values = np.arange(STEP, dtype="f4")
    ds = xr.Dataset({"x": (("channel", "time"), np.stack([values, -values]))}, coords={"time": values / 100})
    return storage.save(ds, path, chunks={"time": 256})


def start(code, *args):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    try:
        return process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


@pytest.mark.slow
def test_readers_see_the_state_before_or_after_and_never_damage(tmp_path):
    path = begin(tmp_path / "x.zarr")
    processes = [*(start(READER, path, 25, STEP) for _ in range(2)), start(WRITER, path, 25, STEP)]
    for process in reversed(processes):
        out, err = finish(process)
        if process.returncode:
            for other in processes:
                other.kill()
                other.communicate()
        assert process.returncode == 0, err
    assert int(out) >= 1


TRIALS = """
import sys
import numpy as np, xarray as xr
from neuroalign import storage
path, first = sys.argv[1], int(sys.argv[2])
for k in range(5):
    n = first + 10 * k + np.arange(10)
    storage.append(xr.Dataset({"x": ("trial", n * 2.0)}, coords={"trial": n}), path)
"""


@pytest.mark.slow
def test_writers_take_turns_and_lose_nothing(tmp_path):
    path = storage.save(xr.Dataset({"x": ("trial", [-2.0])}, coords={"trial": [-1]}), tmp_path / "x.zarr")
    writers = [start(TRIALS, path, 1000 * k) for k in range(3)]
    for writer in writers:
        _, err = finish(writer)
        assert writer.returncode == 0, err
    got = storage.open(path, verify="full").load()
    assert got.sizes["trial"] == 151
    assert got.indexes["trial"].is_unique
    np.testing.assert_array_equal(got["x"], 2.0 * got["trial"])


HOLDER = """
import sys, time
from pathlib import Path
from neuroalign.storage import locks
with locks.hold(Path(sys.argv[1]), timeout=5, what="this store"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_store_that_is_held_names_its_holder_and_a_dead_holder_is_none(tmp_path):
    path = begin(tmp_path / "x.zarr")
    holder = start(HOLDER, path / ".lock")
    assert holder.stdout.readline() == "held\n"
    more = xr.Dataset({"x": (("channel", "time"), np.ones((2, 3), "f4"))}, coords={"time": np.float32([8, 9, 10])})
    with pytest.raises(IntegrityError, match=f"process {holder.pid} on") as caught:
        storage.append(more, path, dim="time", timeout=0.2)
    assert "more than 0.2 s" in str(caught.value)
    assert storage.open(path, verify="full").sizes["time"] == STEP  # reading needs no lock
    holder.kill()
    holder.communicate()
    storage.append(more, path, dim="time", timeout=10)
    assert storage.open(path).sizes["time"] == STEP + 3


def test_a_reader_waits_for_a_writer_at_work(tmp_path):
    path = begin(tmp_path / "x.zarr")
    (path / ".append.json").write_text('{"staged": ".append.%s.partial", "files": []}' % ("0" * 32))
    code = "import sys; from neuroalign import storage; print(storage.open(sys.argv[1]).sizes['time'])"
    with locks.hold(path / ".lock", timeout=5, what="this store"):
        reader = start(code, path)
        time.sleep(3)
        assert reader.poll() is None
        (path / ".append.json").unlink()
    out, err = reader.communicate(timeout=60)
    assert out == f"{STEP}\n", err


@pytest.mark.parametrize(
    "record", ["", "[]", '{"staged": "../x", "files": []}', '{"staged": ".append.%s.partial", "files": ["../x"]}']
)
def test_a_strange_record_is_refused(tmp_path, record):
    path = begin(tmp_path / "x.zarr")
    (path / ".append.json").write_text(record.replace("%s", "0" * 32))
    with pytest.raises(IntegrityError, match="record of an addition is damaged"):
        storage.open(path)
