"""Pieces of a store that several threads write."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xarray as xr
import zarr

from neuroalign.storage import pieces


def slowly(function):
    """Calls take turns of different length, so that threads enter and leave in all orders."""
    waits = itertools.cycle((0.001, 0.004, 0.002))

    def call(*args, **options):
        time.sleep(next(waits))
        return function(*args, **options)

    return call


def test_pieces_of_zeros_are_files_whatever_other_threads_write(tmp_path, monkeypatch):
    """A setting of the whole process, set and set back by every thread, would be lost in some."""
    template = xr.Dataset({"masked": ("target", np.zeros(60, bool))})
    work = pieces.begin(tmp_path / "r.zarr", template, ("target",), (1,), key="k")
    monkeypatch.setattr(zarr, "open_array", slowly(zarr.open_array))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda k: work.write(k, {"masked": np.zeros(1, bool)}, {}), range(len(work))))
    assert sorted(work.notes()) == list(range(60))
