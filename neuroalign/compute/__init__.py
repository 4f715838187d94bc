"""Where and how work is done: executors, pieces, seeds, devices, progress."""

from neuroalign.compute.chunks import spawn_seeds, tiles
from neuroalign.compute.device import resolve_device
from neuroalign.compute.executor import EXECUTORS, available_cpus, get_executor, map_chunks
from neuroalign.compute.progress import notice, progress
from neuroalign.compute.share import received, share
from neuroalign.compute.survive import Outcome, run_pieces
from neuroalign.compute.threads import map_threads

__all__ = [
    "EXECUTORS",
    "Outcome",
    "available_cpus",
    "get_executor",
    "map_chunks",
    "map_threads",
    "notice",
    "progress",
    "received",
    "resolve_device",
    "run_pieces",
    "share",
    "spawn_seeds",
    "tiles",
]
