"""The store: windows, size as 16-bit integers, a reduction by dask, saving, opening, appending; against MNE and NumPy.

    python benchmarks/loaders_store.py --minutes 60

A generated recording of 64 channels at 1000 Hz, as BrainVision int16. Windows are one second of all channels at random.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from _common import measure  # first: it sets the number of threads

import numpy as np  # isort: skip
import dask.array  # noqa: F401  (its import is not part of what is measured)
import mne
import xarray as xr

import neuroalign
from neuroalign import storage

CHANNELS, SFREQ, RESOLUTION = 64, 1000.0, 0.1
HEADER = """Brain Vision Data Exchange Header File Version 1.0
[Common Infos]
DataFile=x.eeg
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels={channels}
SamplingInterval={interval}
[Binary Infos]
BinaryFormat=INT_16
[Channel Infos]
{lines}
"""


def write_brainvision(folder: Path, n_times: int) -> Path:
    """Noise with a spectrum that falls, in steps of 0.1 uV."""
    rng = np.random.default_rng(0)
    with (folder / "x.eeg").open("wb") as file:
        for start in range(0, n_times, 60_000):
            noise = rng.standard_normal((min(60_000, n_times - start), CHANNELS)) * 30
            walk = noise + 0.02 * np.cumsum(noise, axis=0)
            file.write(np.rint(walk - walk.mean(axis=0)).clip(-32767, 32767).astype("<i2").tobytes())
    lines = "\n".join(f"Ch{k + 1}=E{k + 1},,{RESOLUTION},uV" for k in range(CHANNELS))
    text = HEADER.format(channels=CHANNELS, interval=round(1e6 / SFREQ), lines=lines)
    (folder / "x.vhdr").write_text(text, encoding="utf-8")
    return folder / "x.vhdr"


def size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def best(method: Callable[[], object], repeats: int) -> tuple[float, float, object]:
    """CPU seconds of the fastest call, extra memory of the worst, and the last result."""
    runs = [measure(method) for _ in range(repeats)]
    return min(r[0] for r in runs), max(r[1] for r in runs), runs[-1][2]


def row(what: str, ours: float, peer: float | None, unit: str, memory: float, goal: str = "", met: bool = True) -> None:
    ratio = f"{ours / peer:8.2f}" if peer else f"{'':8s}"
    theirs = f"{peer:10.3f}" if peer is not None else f"{'':10s}"
    verdict = f"{goal}: {'met' if met else 'NOT MET'}" if goal else ""
    print(f"{what:44s} {ours:10.3f} {theirs} {ratio} {unit:4s} {memory:8.0f}  {verdict}")


def windows(read: Callable[[int], np.ndarray], starts: np.ndarray) -> Callable[[], float]:
    return lambda: float(sum(read(int(s))[0, 0] for s in starts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    n_times, second = int(options.minutes * 60 * SFREQ), int(SFREQ)
    starts = np.random.default_rng(1).integers(0, n_times - second, options.windows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_brainvision(folder, n_times)
        print(f"{CHANNELS} channels, {options.minutes} min at {SFREQ:g} Hz, best of {options.repeats}")
        print(f"{'':44s} {'ours':>10s} {'peer':>10s} {'ratio':>8s} {'':4s} {'peak MB':>8s}")
        lazy = neuroalign.load(path)
        stores(folder, lazy, options.repeats)
        read_windows(folder, path, lazy, starts, options.repeats, second)
        reduce(folder, options.repeats)
        grow(folder, lazy, options.repeats)


def stores(folder: Path, lazy: xr.Dataset, repeats: int) -> None:
    for kind in ("int16", None):
        target = folder / f"{kind}.zarr"
        spent, memory, _ = best(lambda t=target, k=kind: storage.save(lazy, t, quantize=k), 1)
        row(f"save, quantize={kind!r}", spent, None, "s", memory)
    small, large = size(folder / "int16.zarr"), size(folder / "None.zarr")
    row("size of the int16 store / float32", small / 1e6, large / 1e6, "MB", 0, "<= 0.6", small <= 0.6 * large)
    spent, memory, ds = best(lambda: storage.open(folder / "int16.zarr"), repeats)
    row("open (verify='sizes')", spent, None, "s", memory)
    window = slice(0, int(600 * SFREQ))
    a, b = (x["eeg"].isel(time=window).values for x in (ds, lazy))
    print(f"{'':44s} equal bit for bit: {np.array_equal(a.view('i4'), b.view('i4'))}")


def read_windows(folder: Path, path: Path, lazy: xr.Dataset, starts: np.ndarray, repeats: int, second: int) -> None:
    raw = mne.io.read_raw_brainvision(path, verbose="error")
    raw[:, :second]
    ms = 1000 / len(starts)
    methods = {"MNE, raw file": windows(lambda s: raw[:, s : s + second][0].astype("f4"), starts)}
    methods["ours, raw file"] = windows(lambda s: lazy["eeg"][:, s : s + second].values, starts)
    mapped = np.memmap(path.with_suffix(".eeg"), "<i2", "r").reshape(-1, CHANNELS)
    methods["NumPy, memory map of the raw integers"] = windows(
        lambda s: mapped[s : s + second].T.astype("f4") * np.float32(1e-7), starts
    )
    for kind in ("int16", "None"):
        stored = storage.open(folder / f"{kind}.zarr")["eeg"]
        methods[f"ours, {kind} store"] = windows(lambda s, x=stored: x[:, s : s + second].values, starts)
    spent = {name: best(method, repeats) for name, method in methods.items()}
    peer = ms * spent["MNE, raw file"][0]
    for name, (seconds, memory, _) in spent.items():
        goals = {"ours, raw file": ("<= 2 x MNE", 2 * peer), "ours, int16 store": ("<= 1.5 ms", 1.5)}
        goals["ours, None store"] = ("<= 1.5 ms", 1.5)
        goal, limit = goals.get(name, ("", np.inf))
        row(f"one-second window: {name}", ms * seconds, peer, "ms", memory, goal, ms * seconds <= limit)


def reduce(folder: Path, repeats: int) -> None:
    import dask

    for kind in ("int16", "None"):

        def mean(kind: str = kind) -> np.ndarray:
            with dask.config.set(scheduler="threads", num_workers=2):
                ds = xr.open_dataset(folder / f"{kind}.zarr", engine="neuroalign", chunks={})
                return ds["eeg"].mean("time").values

        spent, memory, _ = best(mean, repeats)
        row(f"dask mean over time, {kind} store", spent, None, "s", memory, "peak <= 100 MB", memory <= 100)


def grow(folder: Path, lazy: xr.Dataset, repeats: int) -> None:
    events = [name for name, c in lazy.coords.items() if "event" in c.dims]
    n = int(60 * SFREQ)
    minute = lazy.drop_vars(events).isel(time=slice(0, n)).load()
    target = storage.save(minute, folder / "grow.zarr")
    k = iter(range(1, 1000))

    def add() -> None:
        first = next(k) * n
        later = minute.assign_coords(time=minute["time"] + first / SFREQ).assign_attrs(first_sample=first)
        storage.append(later, target)

    spent, memory, _ = best(add, repeats)
    row("append one minute", spent, None, "s", memory)


if __name__ == "__main__":
    main()
