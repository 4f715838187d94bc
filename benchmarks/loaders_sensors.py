"""Sensor files: neuroalign against MNE, one thread, each method in a process of its own.

    python benchmarks/loaders_sensors.py --minutes 10

Generated files of 64 channels at 1000 Hz, 60 minutes unless told otherwise: BrainVision int16, EDF and FIF float32,
which are read directly, and EDF+D, which stands for all formats that are read through MNE in blocks. For each goal: CPU
seconds and peak extra memory of both, their ratios, and whether the goal is met. `--repeats` takes the best of several
runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from _common import measure  # first: it sets the number of threads

import mne  # isort: skip
import numpy as np

from neuroalign.loaders import read_eeg

SFREQ, N_CHANNELS, N_WINDOWS = 1000, 64, 100


def blocks(minutes: float) -> Iterator[np.ndarray]:
    """One second after the other, (sample, channel), within 0.1 mV at 0.05 µV a step."""
    rng = np.random.default_rng(0)
    for _ in range(round(minutes * 60)):
        yield rng.integers(-2000, 2000, (SFREQ, N_CHANNELS), dtype="<i2")


def write_brainvision(folder: Path, minutes: float) -> Path:
    lines = ["Brain Vision Data Exchange Header File Version 1.0", "[Common Infos]", "Codepage=UTF-8", "DataFile=a.eeg"]
    lines += ["DataFormat=BINARY", "DataOrientation=MULTIPLEXED", f"NumberOfChannels={N_CHANNELS}"]
    lines += [f"SamplingInterval={1e6 / SFREQ:g}", "[Binary Infos]", "BinaryFormat=INT_16", "[Channel Infos]"]
    lines += [f"Ch{i + 1}=E{i + 1},,0.05,µV" for i in range(N_CHANNELS)]
    (folder / "a.vhdr").write_text("\n".join([*lines, ""]), encoding="utf-8")
    with (folder / "a.eeg").open("wb") as file:
        for block in blocks(minutes):
            file.write(block.tobytes())
    return folder / "a.vhdr"


def write_edf(path: Path, minutes: float, *, plus: bool = False) -> Path:
    """EDF, or EDF+D without pauses."""
    n = N_CHANNELS + plus
    names = [f"E{i + 1}" for i in range(N_CHANNELS)] + ["EDF Annotations"] * plus
    cells = [(names, 16), ([""] * n, 80), (["uV"] * n, 8), ([-1638.4] * n, 8), ([1638.35] * n, 8), ([-32768] * n, 8)]
    cells += [([32767] * n, 8), ([""] * n, 80), ([SFREQ] * N_CHANNELS + [20] * plus, 8), ([""] * n, 32)]
    head = "0".ljust(8) + "X X X X".ljust(80) + "Startdate X X X X".ljust(80) + "01.01.2000.00.00"
    head += str(256 * (n + 1)).ljust(8) + ("EDF+D" if plus else "").ljust(44) + str(round(minutes * 60)).ljust(8)
    head += "1".ljust(8) + str(n).ljust(4) + "".join(str(v).ljust(width) for values, width in cells for v in values)
    with path.open("wb") as file:
        file.write(head.encode())
        for k, block in enumerate(blocks(minutes)):
            file.write(block.T.tobytes())
            if plus:
                file.write(f"+{k}\x14\x14\0".encode().ljust(40, b"\0"))
    return path


def write_files(folder: Path, minutes: float) -> dict[str, Path]:
    folder.mkdir()
    files = {
        "BrainVision": write_brainvision(folder, minutes),
        "EDF": write_edf(folder / "a.edf", minutes),
        "EDF+D": write_edf(folder / "d.edf", minutes, plus=True),
        "FIF": folder / "a_raw.fif",
    }
    raw = mne.io.read_raw_brainvision(files["BrainVision"], verbose="ERROR")
    raw.save(files["FIF"], buffer_size_sec=1, verbose="ERROR")
    return files


def starts(n_times: int) -> list[int]:
    return np.random.default_rng(1).integers(0, n_times - SFREQ, N_WINDOWS).tolist()


def open_mne(path: Path) -> mne.io.BaseRaw:
    return mne.io.read_raw(path, verbose="ERROR")


def windows_ours(path: Path) -> Callable[[], object]:
    values = read_eeg(path)["eeg"]
    return lambda: [values[:, s : s + SFREQ].values for s in starts(values.sizes["time"])][-1]


def windows_mne(path: Path) -> Callable[[], object]:
    raw = open_mne(path)
    return lambda: [raw[:, s : s + SFREQ][0] for s in starts(raw.n_times)][-1]


def std_dask(path: Path) -> object:
    import dask

    with dask.config.set(scheduler="synchronous"):
        return read_eeg(path)["eeg"].chunk(time=10 * SFREQ).std("time").values


#: Name -> function of a path that prepares, and gives what is measured.
METHODS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "open": lambda path: lambda: read_eeg(path),
    "open MNE": lambda path: lambda: open_mne(path),
    "load": lambda path: lambda: read_eeg(path, lazy=False),
    "load MNE": lambda path: lambda: open_mne(path).get_data(),
    "windows": windows_ours,
    "windows MNE": windows_mne,
    "dask": lambda path: lambda: std_dask(path),
}


@dataclass(frozen=True)
class Goal:
    """At most so many times the CPU seconds and the memory of MNE, or so many MB."""

    what: str
    file: str
    method: str
    cpu: float | None = None
    memory: float | None = None
    megabytes: float | None = None


GOALS = [
    *(Goal("lazy open", name, "open", cpu=1.5, megabytes=60) for name in ("BrainVision", "EDF", "FIF", "EDF+D")),
    *(Goal("load all", name, "load", cpu=0.4, memory=0.55) for name in ("BrainVision", "EDF")),
    Goal("load all", "FIF", "load", cpu=0.5, memory=0.55),
    Goal("load all through MNE", "EDF+D", "load", cpu=1.3, memory=0.6),
    *(Goal("100 windows of 1 s", name, "windows", cpu=2.0) for name in ("BrainVision", "EDF", "FIF", "EDF+D")),
    *(Goal("std over time with dask", name, "dask", megabytes=100) for name in ("BrainVision", "EDF", "FIF", "EDF+D")),
]


def in_child(method: str, small: Path, path: Path, repeats: int) -> tuple[float, float]:
    """Best CPU seconds and lowest peak in MB of fresh processes."""
    command = [sys.executable, __file__, "--method", method, "--files", str(small), str(path)]
    runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(repeats)]
    return min(seconds for seconds, _ in runs), min(peak for _, peak in runs)


def run(method: str, small: Path, path: Path) -> None:
    METHODS[method](small)()  # imports and first calls are not what is compared
    runs = [measure(METHODS[method](path))[:2] for _ in range(5 if method.startswith("open") else 1)]
    print(json.dumps([min(seconds for seconds, _ in runs), max(peak for _, peak in runs)]))


def report(goal: Goal, small: Path, path: Path, repeats: int) -> None:
    seconds, peak = in_child(goal.method, small, path, repeats)
    line = f"{goal.what:24s} {goal.file:12s} {seconds:8.3f} {peak:6.0f}"
    met = goal.megabytes is None or peak <= goal.megabytes
    limits = [] if goal.megabytes is None else [f"{goal.megabytes:g} MB"]
    if goal.cpu is not None:
        peer, peer_peak = in_child(f"{goal.method} MNE", small, path, repeats)
        line += f" {peer:8.3f} {peer_peak:6.0f} {seconds / peer:7.2f} {peak / max(peer_peak, 0.1):7.2f}"
        met = met and seconds <= goal.cpu * peer and (goal.memory is None or peak <= goal.memory * peer_peak)
        limits.insert(0, f"{goal.cpu:g}x CPU")
        limits += [] if goal.memory is None else [f"{goal.memory:g}x memory"]
    print(f"{line:88s} {', '.join(limits):22s} {'met' if met else 'MISSED'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method:
        run(options.method, *options.files)
        return
    with tempfile.TemporaryDirectory() as folder:
        small = write_files(Path(folder) / "small", 0.2)
        files = write_files(Path(folder) / "large", options.minutes)
        print(f"{options.minutes:g} min, {N_CHANNELS} channels at {SFREQ} Hz; best of {options.repeats}")
        print(f"{'':37s} {'CPU s':>8s} {'MB':>6s} {'MNE s':>8s} {'MB':>6s} {'x CPU':>7s} {'x MB':>7s}  goal")
        for goal in GOALS:
            report(goal, small[goal.file], files[goal.file], options.repeats)


if __name__ == "__main__":
    main()
