import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from neuroalign.compute import get_executor, map_chunks, spawn_seeds
from neuroalign.errors import ConfigError, NeuroalignError, SchemaError


def mean_of_noise(seed):
    return float(np.random.default_rng(seed).standard_normal(1000).mean())


def fail_on_two(k):
    if k == 2:
        raise ZeroDivisionError("no")
    return k * 10


def refuse(k):
    raise SchemaError("Unknown unit.", expected="V", got="mmHg", where="channel Fz", fix="pass units=")


def threads_and_pid(_):
    from threadpoolctl import threadpool_info

    return max([pool["num_threads"] for pool in threadpool_info()] or [1]), os.getpid()


def die(k):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def pool():
    with get_executor("processes", 2) as executor:
        yield executor


def test_order_and_values_do_not_depend_on_the_executor(pool):
    here = map_chunks(mean_of_noise, spawn_seeds(0, 9))
    assert map_chunks(mean_of_noise, spawn_seeds(0, 9), executor=pool) == here
    assert map_chunks(mean_of_noise, spawn_seeds(0, 3), executor=pool) == here[:3]


def test_a_failing_item_is_named(pool):
    for executor in (None, pool):
        with pytest.raises(NeuroalignError, match=r"ZeroDivisionError: no[\s\S]*item 3 of 5: run-02") as caught:
            map_chunks(fail_on_two, range(5), executor=executor, names=[f"run-0{k}" for k in range(5)])
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_our_own_errors_keep_their_type_and_fields(pool):
    with pytest.raises(SchemaError) as caught:
        map_chunks(refuse, ["a"], executor=pool)
    assert caught.value.where == "channel Fz (item 1 of 1: 'a')"
    assert (caught.value.got, caught.value.fix) == ("mmHg", "pass units=")


def test_serial_stops_at_the_first_failure():
    done = []

    def note(k):
        done.append(k)
        return fail_on_two(k)

    with pytest.raises(NeuroalignError):
        map_chunks(note, range(9))
    assert done == [0, 1, 2]


def test_workers_share_the_cpus_and_are_other_processes(pool):
    answers = map_chunks(threads_and_pid, range(4), executor=pool)
    limit = max(1, len(os.sched_getaffinity(0)) // 2)
    assert all(n <= limit and pid != os.getpid() for n, pid in answers)


def test_progress_counts_items(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert map_chunks(abs, [-1, -2], progress="fitting") == [1, 2]
    assert "fitting" in capsys.readouterr().err


def test_unknown_executor_and_no_worker():
    with pytest.raises(ConfigError, match=r"serial \| processes"):
        get_executor("threads")
    with pytest.raises(ConfigError, match="n_workers"):
        get_executor("processes", 0)


def test_a_worker_that_dies_is_reported():
    with get_executor("processes", 1) as executor, pytest.raises(NeuroalignError, match=r"died[\s\S]*item 1 of 2"):
        map_chunks(die, [1, 2], executor=executor)


SCRIPT = """
import os, sys, time
from neuroalign.compute import get_executor, map_chunks

def slow(k):
    open(os.path.join(sys.argv[1], f"{os.getpid()}.pid"), "x").close()
    time.sleep(60)

if __name__ == "__main__":
    with get_executor("processes", 1) as executor:
        map_chunks(slow, range(3), executor=executor)
"""


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tmp_path, sign):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    process = subprocess.Popen([sys.executable, script, tmp_path], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 40
        while not list(tmp_path.glob("*.pid")) and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
        assert workers
        process.send_signal(sign)
        process.communicate(timeout=20)
        deadline = time.monotonic() + 10
        while any(map(_alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(_alive, workers))
    finally:
        process.kill()


def test_a_script_without_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    text = SCRIPT.replace('if __name__ == "__main__":', "if True:").replace("time.sleep(60)", "pass")
    script.write_text(textwrap.dedent(text))
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=60, check=False)
    assert "freeze_support" in done.stderr  # Python's own advice, not an error of the cleaning up
    assert "can only join" not in done.stderr
