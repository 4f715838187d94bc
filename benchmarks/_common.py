"""What every benchmark shares: CPU time of interleaved methods, peak extra memory, the matrix rate of the machine."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy starts its threads, which burn CPU time while they wait

import numpy as np  # noqa: E402


def matrix_rate(dtype: str, size: int = 1000, repeats: int = 5) -> float:
    """Best rate of a square product, in GFLOP per CPU second."""
    a = np.random.default_rng(0).standard_normal((size, size)).astype(dtype)
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        a @ a
        best = min(best, time.process_time() - start)
    return 2e-9 * size**3 / best


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def measure(method: Callable[[], object]) -> tuple[float, float, object]:
    """CPU seconds, peak extra memory in MB, and the result of one call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is resident now
    before, start = _status("VmRSS"), time.process_time()
    result = method()
    seconds = time.process_time() - start
    return seconds, (_status("VmHWM") - before) / 1e6, result


class Compared(dict[str, object]):
    """Results by method, with the best CPU time and the largest peak extra memory of each."""

    seconds: dict[str, float]
    memory: dict[str, float]


def compare(methods: dict[str, Callable[[], object]], repeats: int) -> Compared:
    """Run the methods in turn, print best CPU time, ratio to the first, and peak extra memory; give the results."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    results = Compared()
    results.memory = {}
    for _ in range(repeats):
        for name, method in methods.items():
            spent, extra, results[name] = measure(method)
            seconds[name].append(spent)
            results.memory[name] = max(results.memory.get(name, 0.0), extra)
    results.seconds = {name: min(spent) for name, spent in seconds.items()}
    first = next(iter(results.seconds.values()))
    print(f"{'method':34s} {'CPU s':>8s} {'(worst)':>8s} {'x ours':>7s} {'peak MB':>8s}")
    for name, spent in seconds.items():
        print(f"{name:34s} {min(spent):8.2f} {max(spent):8.2f} {min(spent) / first:7.2f} {results.memory[name]:8.0f}")
    return results


def print_summary(
    what: str,
    peer: str,
    seconds: tuple[float, float],
    memory: tuple[float, float] | None = None,
    share: float | None = None,
) -> None:
    """Print a row for the table of the site: ours and the peer's seconds and MB, the share of the matrix rate."""
    ours, theirs = seconds
    sizes = ("", "") if memory is None else (f"{memory[0]:.0f}", f"{memory[1]:.0f}")
    rate = "" if share is None else f"{100 * share:.0f} %"
    cells = ("summary", what, peer, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f} x", *sizes, rate)
    print(" | ".join(cells))


def print_rates() -> dict[str, float]:
    """Print and give the measured rates of the machine."""
    rates = {"float32": matrix_rate("float32"), "float64": matrix_rate("float64")}
    print(f"machine: sgemm {rates['float32']:.0f}, dgemm {rates['float64']:.0f} GFLOP per CPU second")
    return rates
