"""Where and how work is done: executors, pieces, seeds, devices, progress."""

from neuroalign.compute.chunks import spawn_seeds, tiles
from neuroalign.compute.device import resolve_device
from neuroalign.compute.executor import EXECUTORS, available_cpus, get_executor, map_chunks
from neuroalign.compute.progress import notice, progress

__all__ = [
    "EXECUTORS",
    "available_cpus",
    "get_executor",
    "map_chunks",
    "notice",
    "progress",
    "resolve_device",
    "spawn_seeds",
    "tiles",
]
