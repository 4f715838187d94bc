"""Stimuli in: whatever holds them, as ids and batches of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError, require

if TYPE_CHECKING:
    import torch

__all__ = ["Preprocess", "StimulusBatches", "default_preprocess"]

Preprocess = Callable[[NDArray[Any]], Any]


def default_preprocess(stimulus: NDArray[Any]) -> NDArray[Any]:
    """Prepare one stimulus as most vision networks take it.

    Parameters
    ----------
    stimulus : array
        Pixels of shape (row, column, 3), uint8; or any float or wide integer array.

    Returns
    -------
    array
        Pixels as float32 in [0, 1] of shape (3, row, column); floats as float32; token ids as int64.

    Raises
    ------
    SchemaError
        For uint8 values that are not an RGB image.
    """
    if stimulus.dtype == np.uint8:
        if stimulus.ndim != 3 or stimulus.shape[2] != 3:
            raise SchemaError(
                "uint8 values that are not an RGB image.",
                expected="shape (row, column, 3)",
                got=f"shape {stimulus.shape}",
                fix="pass preprocess= to say how they enter the network",
            )
        return np.ascontiguousarray(np.moveaxis(stimulus, 2, 0)).astype(np.float32) / np.float32(255)
    return stimulus.astype(np.int64 if stimulus.dtype.kind in "iu" else np.float32, copy=False)


class StimulusBatches:
    """Stimuli as an ordered list of ids and a source of batches.

    Parameters
    ----------
    stimuli : Dataset, DataArray or mapping of str to array
        A stimulus table with a variable ``image``, an array with the dimension ``stimulus``, or one array an id.
    preprocess : callable, optional
        From one stimulus (numpy array) to the array or tensor that enters the network.
    """

    def __init__(self, stimuli: Any, preprocess: Preprocess | None = None) -> None:
        self._source: xr.DataArray | Mapping[str, Any]
        if isinstance(stimuli, xr.Dataset):
            stimuli = _image(stimuli)
        if isinstance(stimuli, xr.DataArray):
            self._source, self.ids = _labelled(stimuli)
        elif isinstance(stimuli, Mapping):
            self._source, self.ids = stimuli, list(stimuli)
        else:
            raise SchemaError(
                "Not a set of stimuli.",
                expected="a stimulus table, a DataArray with dim stimulus, or a dict of id to array",
                got=type(stimuli).__name__,
                fix="read images with neuroalign.loaders.read_stimuli(folder)",
            )
        if not self.ids:
            raise SchemaError("No stimuli.", expected="at least one", got=0)
        self._preprocess = preprocess or default_preprocess

    def __len__(self) -> int:
        return len(self.ids)

    def _arrays(self, start: int, stop: int) -> list[NDArray[Any]]:
        if isinstance(self._source, xr.DataArray):  # one read a batch, for sources on disk
            return list(self._source.isel(stimulus=slice(start, stop)).to_numpy())
        return [np.asarray(self._source[name]) for name in self.ids[start:stop]]

    def batch(self, start: int, stop: int) -> torch.Tensor:
        """Give stimuli `start` to `stop` as one tensor, stacked along a new first axis."""
        torch = require("torch", "torch")
        items = [torch.as_tensor(self._preprocess(array)) for array in self._arrays(start, stop)]
        for name, item in zip(self.ids[start:stop], items, strict=True):
            if item.shape != items[0].shape:
                raise SchemaError(
                    "Stimuli differ in shape.",
                    expected=f"shape {tuple(items[0].shape)}, as {self.ids[start]}",
                    got=f"shape {tuple(item.shape)}",
                    where=f"stimulus {name}",
                    fix="pass preprocess= to bring them to one shape",
                )
        return torch.stack(items)

    def batches(self, size: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Give (start, batch) pairs in order; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield start, self.batch(start, min(start + size, len(self)))


def _image(table: xr.Dataset) -> xr.DataArray:
    if "image" not in table:
        raise SchemaError(
            "The stimulus table has no images.",
            expected="a variable image (stimulus, row, column, rgb)",
            got=list(table.data_vars),
            fix="read_stimuli(folder, size=(224, 224)) for images of several sizes, or pass the array of inputs itself",
        )
    return table["image"]


def _labelled(array: xr.DataArray) -> tuple[xr.DataArray, list[str]]:
    if "stimulus" not in array.dims or "stimulus" not in array.coords:
        raise SchemaError(
            "The array does not name its stimuli.",
            expected="a dimension and coordinate stimulus",
            got=f"dims {array.dims}, coordinates {list(array.coords)}",
        )
    array = array.transpose("stimulus", ...)
    ids = [str(name) for name in array["stimulus"].to_numpy()]
    if len(set(ids)) < len(ids):
        raise SchemaError(
            "Stimulus ids repeat.", expected="unique ids", got=sorted({i for i in ids if ids.count(i) > 1})
        )
    return array, ids
