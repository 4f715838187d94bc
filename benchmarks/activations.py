"""Throughput of the extractor against a bare forward loop with the same batches, in one run.

Both loops get the same arrays, ready in memory; the extractor also keeps the output of every block. Printed is bare CPU
time over extractor CPU time, the median over interleaved repeats. The goal is 0.95. Torch's fused transformer path is
off for both, because torch itself leaves it as soon as a module has a hook.

Run it with ``python benchmarks/activations.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import time

import numpy as np
import torch

from neuroalign.activations import ActivationExtractor


def convolutional(width: int) -> torch.nn.Module:
    """Give a network of four convolutional stages with global pooling at the end."""
    net = torch.nn.Sequential()
    for k, (n_in, n_out) in enumerate([(3, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 8 * width)]):
        conv = torch.nn.Conv2d(n_in, n_out, 3, padding=1)
        twin = torch.nn.Conv2d(n_out, n_out, 3, stride=2, padding=1)
        block = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(n_out), torch.nn.ReLU(), twin, torch.nn.ReLU())
        net.add_module(f"block{k + 1}", block)
    net.add_module("pool", torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    return net.eval()


def transformer(width: int) -> torch.nn.Module:
    """Give a small transformer encoder."""
    layer = torch.nn.TransformerEncoderLayer(4 * width, 4, 8 * width, batch_first=True)
    return torch.nn.TransformerEncoder(layer, 4).eval()


def bare(model: torch.nn.Module, tensors: list[torch.Tensor]) -> float:
    """Time a plain loop in inference mode."""
    start = time.process_time()
    with torch.inference_mode():
        for batch in tensors:
            model(batch)
    return time.process_time() - start


def extracted(read: ActivationExtractor, stimuli: dict[str, np.ndarray]) -> float:
    """Time the extractor on the same stimuli."""
    start = time.process_time()
    read(stimuli)
    return time.process_time() - start


def keep_freed_memory() -> None:
    """Stop glibc from giving pages back between batches: that alone moves either loop by 25 %, at random."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD


def compare(model: torch.nn.Module, shape: tuple[int, ...], options: argparse.Namespace) -> list[float]:
    """Give the ratio of each repeat, the two loops taking turns."""
    rng = np.random.default_rng(0)
    array = rng.standard_normal((options.stimuli, *shape), dtype=np.float32)
    stimuli = {f"s{k}": row for k, row in enumerate(array)}
    tensors = list(torch.from_numpy(array).split(options.batch))
    layers = "*" if isinstance(model, torch.nn.Sequential) else "layers.*"
    read = ActivationExtractor(model, layers=layers, batch_size=options.batch, pool=options.pool)
    bare(model, tensors), extracted(read, stimuli)
    return [bare(model, tensors) / extracted(read, stimuli) for _ in range(options.repeats)]


def main() -> None:
    """Print one line a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stimuli", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--pool", default=None)
    options = parser.parse_args()
    keep_freed_memory()
    torch.backends.mha.set_fastpath_enabled(False)
    cases = {"convolutional": (convolutional(32), (3, 64, 64)), "transformer": (transformer(64), (32, 256))}
    for name, (model, shape) in cases.items():
        ratios = compare(model, shape, options)
        verdict = "ok" if np.median(ratios) >= 0.95 else "below 0.95"
        print(f"{name}: {np.median(ratios):.3f}x of a bare loop ({min(ratios):.3f} to {max(ratios):.3f}), {verdict}")


if __name__ == "__main__":
    main()
