"""Ridge for a whole brain: targets and weights on disk, against the same solver in memory and batches by hand.

    python benchmarks/whole_brain.py --targets 300000

Features are in memory; responses and results are Zarr stores in a folder of temporary files (4 bytes for each sample,
and for each feature, of a target). The peer is himalaya's RidgeCV in a loop over batches of targets that are read from
the same store; it runs on fewer targets, and so does the solver in memory. CPU time is given per 1000 targets. The last
line fits a quarter of the targets: peak memory should not follow their number.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from _common import measure, print_rates, print_summary  # first: it sets the number of threads

import numpy as np  # isort: skip
import dask.array
import torch
import xarray as xr
from himalaya.backend import set_backend
from himalaya.ridge import RidgeCV
from sklearn.model_selection import KFold

from neuroalign import storage
from neuroalign.encoding import RidgeEncoder
from neuroalign.linear import fit_to_store, load_fitted

BLOCK = 4096  # targets of the store that lie together, and of a batch by hand
PEAK_MB = 1500


def features(n: int, p: int) -> np.ndarray:
    """Features with a 1/k spectrum."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, p)) * np.arange(1, p + 1) ** -0.5
    return (x @ np.linalg.qr(rng.standard_normal((p, p)))[0]).astype("float32")


def responses(x: np.ndarray, t: int, path: Path) -> xr.DataArray:
    """Responses of every signal-to-noise ratio, made and stored block by block."""

    def block(_: np.ndarray, block_info: dict) -> np.ndarray:
        lo, hi = block_info[None]["array-location"][1]
        rng = np.random.default_rng(lo)
        y = x @ rng.standard_normal((x.shape[1], hi - lo), dtype="float32")
        y *= np.linspace(0, 2, hi - lo, dtype="float32") / y.std(axis=0)
        return y + rng.standard_normal(y.shape, dtype="float32")

    hollow = dask.array.zeros((len(x), t), chunks=(len(x), BLOCK), dtype="float32")
    y = xr.DataArray(hollow.map_blocks(block, dtype="float32"), dims=("stimulus", "voxel"), name="betas")
    with dask.config.set(scheduler="synchronous"):
        storage.save(y, path, chunks={"voxel": BLOCK})
    return storage.open(path)


def by_hand(x: np.ndarray, y: xr.DataArray, alphas: np.ndarray, path: Path) -> None:
    """Batches that are read, fitted and written by hand, as scripts do with himalaya."""
    set_backend("torch")
    coef = np.lib.format.open_memmap(path, "w+", "float32", (x.shape[1], y.sizes["voxel"]))
    tensor = torch.from_numpy(x)
    for lo in range(0, y.sizes["voxel"], BLOCK):
        batch = torch.from_numpy(y[:, lo : lo + BLOCK].values)
        model = RidgeCV(alphas=alphas, cv=KFold(5), fit_intercept=True)
        coef[:, lo : lo + BLOCK] = model.fit(tensor, batch).coef_
    coef.flush()


def row(what: str, t: int, seconds: float, wall: float, memory: float, first: float | None) -> float:
    each = 1000 * seconds / t
    ratio = f"{each / first:7.2f}" if first else f"{1:7.2f}"
    print(f"{what:44s} {t:8d} {seconds:8.1f} {wall:8.1f} {each:10.3f} {ratio} {memory:8.0f}", flush=True)
    return each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=300_000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--features", type=int, default=500)
    parser.add_argument("--alphas", type=int, default=10)
    parser.add_argument("--memory-targets", type=int, default=4 * BLOCK, help="targets of the fit in memory")
    parser.add_argument("--peer-targets", type=int, default=2 * BLOCK)
    parser.add_argument("--folder", help="where the stores go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, p, t = options.samples, options.features, options.targets
    alphas = np.logspace(-2, 4, options.alphas)
    print(f"whole brain: n {n}, p {p}, t {t}, {options.alphas} alphas, 5 contiguous folds, float32")
    print_rates()
    x = features(n, p)
    X = xr.DataArray(x, dims=("stimulus", "unit"))
    encoder = RidgeEncoder(alphas=alphas, cv=5)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        y = responses(x, t, folder / "y.zarr")
        print(f"{'':44s} {'targets':>8s} {'CPU s':>8s} {'wall s':>8s} {'s / 1000':>10s} {'ratio':>7s} {'peak MB':>8s}")
        some = y[:, : options.memory_targets].load()
        start = time.perf_counter()
        seconds, memory, model = measure(lambda: encoder.fit(X, some))
        first = row("in memory", some.sizes["voxel"], seconds, time.perf_counter() - start, memory, None)
        start = time.perf_counter()
        seconds, memory, path = measure(lambda: fit_to_store(encoder, X, y, folder / "r.zarr"))
        each = row("fit_to_store", t, seconds, time.perf_counter() - start, memory, first)
        part = load_fitted(path, isel={"voxel": slice(0, 1000)})
        difference = abs(part.coef_ - model.coef_[:, :1000]).max().item()
        few, start = y[:, : options.peer_targets], time.perf_counter()
        seconds, peer_memory, _ = measure(lambda: by_hand(x, few, alphas, folder / "peer.npy"))
        theirs = row(
            "himalaya RidgeCV, batches by hand",
            few.sizes["voxel"],
            seconds,
            time.perf_counter() - start,
            peer_memory,
            first,
        )
        quarter, start = y[:, : t // 4], time.perf_counter()
        seconds, less, _ = measure(lambda: fit_to_store(encoder, X, quarter, folder / "q.zarr"))
        row("fit_to_store, a quarter of the targets", t // 4, seconds, time.perf_counter() - start, less, first)
    met = "met" if memory <= PEAK_MB else "NOT MET"
    print(f"weights of 1000 targets differ from those in memory by {difference:.1e}")
    print(f"peak extra memory {memory:.0f} MB, with a quarter of the targets {less:.0f} MB (goal <= {PEAK_MB}): {met}")
    print(f"CPU time per target against memory: {each / first:.2f}")
    what = f"whole brain on disk: n {n}, p {p}, t {t}, {options.alphas} alphas, s for 1000 targets"
    print_summary(what, "neuroalign in memory", (each, first))
    print_summary(what, "himalaya RidgeCV, batches by hand", (each, theirs), (memory, peer_memory))


if __name__ == "__main__":
    main()
