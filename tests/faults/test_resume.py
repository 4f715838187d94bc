"""Rows 27, 28, 32, 35 and 37: a fit to a store goes on after a kill, a full disk, a dead worker or Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import dask.array
import numpy as np
import pytest

from neuroalign import storage
from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError
from neuroalign.linear import fit_to_store, load_fitted
from neuroalign.storage import atomic

T, CHUNK = 1000, 64
N_BLOCKS = -(-T // CHUNK)

SCRIPT = """
import os, sys
import numpy as np
from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.linear import fit_to_store

def inputs():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4))
    return x, x @ rng.standard_normal((4, {T})) + rng.standard_normal((50, {T}))

if __name__ == "__main__":
    path, executor = sys.argv[1:3]
    x, y = inputs()
    fit_to_store(RidgeEncoder(alphas=[1.0, 10.0]), x, y, path, chunk={CHUNK}, executor=executor, n_workers=2)
""".replace("{T}", str(T)).replace("{CHUNK}", str(CHUNK))

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4))
    return x, x @ rng.standard_normal((4, T)) + rng.standard_normal((50, T))


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    return storage.open(fit(inputs, tmp_path_factory.mktemp("whole") / "r.zarr"), lazy=False)


def encoder():
    return RidgeEncoder(alphas=[1.0, 10.0])


def fit(inputs, path, **options):
    return fit_to_store(encoder(), *inputs, path, chunk=CHUNK, **options)


pytestmark = pytest.mark.filterwarnings("ignore:The grid of alphas")


def work(path):
    return path.with_name(f".{path.name}.unfinished")


def records(path):
    folder = work(path) / ".records"
    return {int(p.stem): p.stat().st_mtime_ns for p in folder.glob("*.json")} if folder.is_dir() else {}


def start(tmp_path, executor="serial", name="r.zarr"):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path / name), executor]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def wait_for_blocks(process, path, n):
    deadline = time.monotonic() + 120
    while len(records(path)) < n and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)


def same(path, whole):
    found = storage.open(path, verify="full", lazy=False)
    assert found.identical(whole)
    return True


@posix
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_kill_at_any_point(inputs, whole, tmp_path, seed):
    rng, path = np.random.default_rng(seed), tmp_path / "r.zarr"
    process = start(tmp_path)
    wait_for_blocks(process, path, int(rng.integers(0, N_BLOCKS)))
    time.sleep(rng.uniform(0, 0.05))
    process.kill()
    process.communicate()
    if path.exists():
        assert same(path, whole)
        return
    before = records(path)
    spy = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage.pieces.Pieces, "write", spied(storage.pieces.Pieces.write, spy))
        fit(inputs, path)
    assert same(path, whole)
    assert sorted(spy) == [k for k in range(N_BLOCKS) if k not in before]
    assert not work(path).exists()


def spied(write, calls):
    def spy(self, k, values, note):
        calls.append(k)
        return write(self, k, values, note)

    return spy


@posix
@pytest.mark.slow
def test_a_kill_with_workers_leaves_none_behind_and_resumes(inputs, whole, tmp_path):
    path = tmp_path / "r.zarr"
    process = start(tmp_path, "processes")
    wait_for_blocks(process, path, 2)
    process.kill()
    process.communicate()
    time.sleep(1)  # workers end when their parent has
    fit(inputs, path)
    assert same(path, whole)


@posix
@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_ctrl_c(inputs, whole, tmp_path, executor):
    path = tmp_path / "r.zarr"
    process = start(tmp_path, executor)
    wait_for_blocks(process, path, 1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    if process.returncode:
        assert b"KeyboardInterrupt" in told
        assert not path.exists()
        fit(inputs, path)
    assert same(path, whole)


class PowerCutError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("kind", [PowerCutError, OSError])
def test_an_end_at_every_operation(tmp_path, monkeypatch, kind):
    rng = np.random.default_rng(0)
    small = rng.standard_normal((20, 2)), rng.standard_normal((20, 6))

    def run(path):
        return fit_to_store(RidgeEncoder(alphas=[1.0, 10.0]), *small, path, chunk=3)

    expected = storage.open(run(tmp_path / "expected.zarr"), lazy=False)
    for k in range(0, 500, 7 if kind is OSError else 3):
        left = iter(range(k, -1, -1))

        def hook(operation, path, left=left):
            if next(left, 0) == 0:
                raise kind(28, "No space left on device") if kind is OSError else kind

        path = tmp_path / f"{k}" / "r.zarr"
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "operation_hook", hook)
            try:
                run(path)
                finished = True
            except (PowerCutError, IntegrityError):
                finished = False
        atomic.recover(path)
        if path.exists():
            assert storage.open(path, verify="full", lazy=False).identical(expected)
        assert storage.open(run(path), verify="full", lazy=False).identical(expected)
        shutil.rmtree(path.parent)
        if finished:
            break
    assert finished
    assert k > 20


LIMITED = (
    SCRIPT.split("if __name__")[0]
    + """
import resource
from neuroalign import storage
from neuroalign.errors import IntegrityError
x, y = inputs()
x = np.repeat(x, 40, axis=1)  # weights of 80 kB a block

def run(path):
    return fit_to_store(RidgeEncoder(alphas=[1.0, 10.0]), x, y, path, chunk=64)

free, most = resource.getrlimit(resource.RLIMIT_FSIZE)
try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, most))
    run(sys.argv[1])
except IntegrityError as error:
    assert "disk is full" in str(error) and "bytes free" in str(error) and "6 were not tried" in str(error), error
else:
    sys.exit("no error")
assert not os.path.exists(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (free, most))
there, here = (storage.open(run(path), verify="full", lazy=False) for path in (sys.argv[1], sys.argv[1] + ".2"))
assert there.identical(here)
"""
)


@posix
def test_a_full_disk(tmp_path):
    subprocess.run([sys.executable, "-W", "ignore", "-c", LIMITED, str(tmp_path / "r.zarr")], check=True, timeout=120)


def stopped(inputs, path, n):
    """Fit, and stop before the n-th block is written."""
    with pytest.MonkeyPatch.context() as patch:
        write, calls = storage.pieces.Pieces.write, []

        def stop(self, k, values, note):
            calls.append(k)
            if len(calls) > n:
                raise KeyboardInterrupt
            return write(self, k, values, note)

        patch.setattr(storage.pieces.Pieces, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(inputs, path)
    assert len(records(path)) == n


def test_a_damaged_finished_block_is_refused_and_named(inputs, whole, tmp_path):
    path = tmp_path / "r.zarr"
    stopped(inputs, path, 5)
    chunk = work(path) / "coef" / "c" / "0" / "3"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"chunk 4 of 16[\s\S]*coef/c/0/3[\s\S]*3\.json"):
        fit(inputs, path)
    chunk.unlink()
    with pytest.raises(IntegrityError, match="no file"):
        fit(inputs, path)
    record = work(path) / ".records" / "3.json"
    record.write_text("{")
    with pytest.raises(IntegrityError, match="not one"):
        fit(inputs, path)
    record.unlink()  # as the error says
    fit(inputs, path)
    assert same(path, whole)


def test_a_damaged_block_of_a_finished_store_is_refused_and_named(inputs, tmp_path):
    path = fit(inputs, tmp_path / "r.zarr")
    chunk = path / "coef" / "c" / "0" / "3"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(IntegrityError, match="coef/c/0/3"):
        load_fitted(path)
    assert load_fitted(path, isel={"target": slice(0, 64)}).predict(inputs[0]).shape == (50, 64)
    with pytest.raises(IntegrityError, match="coef/c/0/3"):
        storage.verify(path, "full")


def test_other_responses_are_not_mixed_in(inputs, whole, tmp_path):
    path = tmp_path / "r.zarr"
    stopped(inputs, path, 5)
    x, y = inputs
    changed = y.copy()
    changed[7, 70] += 1e-9
    with pytest.raises(ConfigError, match=r"chunk 2 of 16[\s\S]*resume=False"):
        fit((x, changed), path)
    with pytest.raises(ConfigError, match="not mixed"):
        fit((x + 1e-9, y), path)
    job = json.loads((work(path) / ".job.json").read_text())
    with pytest.raises(ConfigError, match="not mixed"):
        fit_to_store(encoder(), x, y, path, chunk=128)
    assert json.loads((work(path) / ".job.json").read_text()) == job
    fit(inputs, path)
    assert same(path, whole)
    fit((x, changed), path, resume=False)
    assert not storage.open(path, lazy=False).identical(whole)


def test_an_error_says_what_differs(inputs, whole, tmp_path):
    path, (x, y) = tmp_path / "r.zarr", inputs
    stopped(inputs, path, 3)
    finished = fit(inputs, tmp_path / "f.zarr")
    grid = np.repeat([0, 1, 2, 3, 4], 10)
    for estimator, arrays, options, words in (
        (RidgeEncoder(alphas=[1.0, 10.0], scorer="r"), inputs, {}, "another scorer: 'r2' then, 'r' now"),
        (
            RidgeEncoder(alphas=[1.0, 20.0], cv=3),
            inputs,
            {},
            r"another alphas: \[1.0, 10.0\] then.*another cv: None then",
        ),
        (TRFEncoder(alphas=[1.0, 10.0]), inputs, {}, "another estimator: 'RidgeEncoder' then, 'TRFEncoder' now"),
        (encoder(), (x + 1e-9, y), {}, "another X$"),
        (encoder(), (x, y.astype("float32")), {}, "another type of y: 'float64' then, 'float32' now"),
        (encoder(), (x, y[:, :999]), {}, "another number of targets"),
        (encoder(), inputs, {"groups": grid}, "another groups"),
        (encoder(), inputs, {"test": inputs}, "another held-out X"),
        (encoder(), inputs, {"chunk": 100}, r"another chunk: \[64\] then, \[100\] now"),
    ):
        for place in (path, finished):
            with pytest.raises(ConfigError, match=f"(?m){words}"):
                fit_to_store(estimator, *arrays, place, **{"chunk": CHUNK} | options)
    fit(inputs, path)
    assert same(path, whole)


def test_a_truncated_block_is_noticed(inputs, whole, tmp_path):
    path = tmp_path / "r.zarr"
    stopped(inputs, path, 5)
    chunk = work(path) / "coef" / "c" / "0" / "3"
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-7])
    with pytest.raises(IntegrityError, match=rf"chunk 4 of 16[\s\S]*{len(data)} bytes[\s\S]*{len(data) - 7} bytes"):
        fit(inputs, path)
    chunk.write_bytes(data)
    fit(inputs, path)
    assert same(path, whole)
    (path / "coef" / "c" / "0" / "3").write_bytes(data[:-7])
    with pytest.raises(IntegrityError, match=r"coef[/\\]c[/\\]0[/\\]3"):
        fit(inputs, path)


@pytest.mark.parametrize("n", [7, N_BLOCKS, N_BLOCKS + 7])
@pytest.mark.parametrize("way", [False, "pooled"])
def test_an_end_in_either_pass(inputs, tmp_path, way, n):
    """The scores of the first pass are kept: no block is scored, and none fitted, twice."""
    model, path = RidgeEncoder(alphas=[1.0, 10.0], alpha_per_target=way), tmp_path / "r.zarr"
    expected = storage.open(fit_to_store(model, *inputs, tmp_path / "w.zarr", chunk=CHUNK), lazy=False)
    write, calls = storage.pieces.Pieces.write, []

    def stop(self, k, values, note):
        if len(calls) == n:
            raise KeyboardInterrupt
        calls.append((self.stage, k))
        return write(self, k, values, note)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage.pieces.Pieces, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_to_store(model, *inputs, path, chunk=CHUNK)
        if n > 7:
            changed = inputs[1].copy()
            changed[7, 70] += 1e-9
            with pytest.raises(ConfigError, match=r"chunk 2 of 16"):
                fit_to_store(model, inputs[0], changed, path, chunk=CHUNK)
        patch.setattr(storage.pieces.Pieces, "write", spied(write, again := []))
        fit_to_store(model, *inputs, path, chunk=CHUNK)
    assert len(again) == 2 * N_BLOCKS - n
    assert same(path, expected)


def test_two_at_a_time_are_refused(inputs, whole, tmp_path):
    path = tmp_path / "r.zarr"
    stopped(inputs, path, 2)
    pieces = storage.pieces.Pieces(work(path), path, "", (T,), (CHUNK,))
    with pieces.held(), pytest.raises(IntegrityError, match="Another process"):
        fit(inputs, path)
    fit(inputs, path)
    assert same(path, whole)


def test_nothing_of_the_user_is_replaced(inputs, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(IntegrityError, match="something else"):
        fit(inputs, tmp_path / "notes")
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"


def deadly(block):
    """Kill the process that reads these targets, as long as a file says so."""
    if (block > 1e6).any() and os.path.exists(os.environ["NEUROALIGN_TEST_DEADLY"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return block


@posix
def test_a_worker_that_dies_takes_only_its_block(inputs, tmp_path, monkeypatch):
    marker, path = tmp_path / "deadly", tmp_path / "r.zarr"
    marker.touch()
    monkeypatch.setenv("NEUROALIGN_TEST_DEADLY", str(marker))
    x, y = inputs
    y = y.copy()
    y[:, 5 * CHUNK] += 1e7
    y = dask.array.from_array(y, chunks=(50, CHUNK)).map_blocks(deadly, dtype=y.dtype, meta=y[:0, :0])

    def run(**options):
        return fit((x, y), path, **options)

    with pytest.raises(NeuroalignError, match=rf"1 of {N_BLOCKS} blocks failed[\s\S]*died[\s\S]*chunk 6 of {N_BLOCKS}"):
        run(executor="processes", n_workers=1)
    before = records(path)
    assert sorted(before) == [k for k in range(N_BLOCKS) if k != 5]
    marker.unlink()
    with pytest.MonkeyPatch.context() as patch:
        calls = []
        patch.setattr(storage.pieces.Pieces, "write", spied(storage.pieces.Pieces.write, calls))
        run()
    assert calls == [5]
    assert np.isfinite(storage.open(path, verify="full")["coef"].values).all()
