"""The extractor: layers of a network on labelled stimuli, in one pass and in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroalign import schema
from neuroalign.activations._hooks import evaluating, first_tensor, listening
from neuroalign.activations._layers import LayerSpec, select_layers, split_call
from neuroalign.activations._pool import PoolFunction, get_pool, pool_name
from neuroalign.activations._stimuli import Preprocess, StimulusBatches
from neuroalign.activations._weights import weights_sha256
from neuroalign.errors import ConfigError, SchemaError, require

if TYPE_CHECKING:
    import torch

__all__ = ["ActivationExtractor", "to_tree"]


class ActivationExtractor:
    """Read activations of any `torch.nn.Module`, with the stimulus ids kept.

    Calling the extractor on stimuli gives one DataArray a layer. They come in a plain ``dict``, keyed and ordered by
    layer: layers differ in their number of units, and an `xarray.Dataset` holds one size a dimension, so a Dataset
    would need a dimension name a layer (and every later step would have to know it) or padding with values that no
    unit has. Every array has the dims (stimulus, unit) and its own provenance; `to_tree` packs them for storage.

    Parameters
    ----------
    model : torch.nn.Module
        The network. It is put in evaluation mode while reading and left as it was, hooks removed, even after an error.
    layers : str, re.Pattern, callable or sequence of str
        Which layers, by module path. In a glob ``*`` stays within one module and ``**`` crosses dots: ``"*"`` are the
        top-level modules, ``"**"`` all. ``"fc:1"`` is the second call of a module that is used again. A compiled
        expression must match the whole name; a function of the name gives a bool.
    preprocess : callable, optional
        From one stimulus (numpy array) to the array or tensor that enters the network. By default uint8 pixels
        (row, column, rgb) become float32 in [0, 1], channels first.
    forward : callable, optional
        ``forward(model, batch)`` runs the network; by default ``model(batch)``. Example: ``lambda m, b: m.encode(b)``.
    pool : {None, "mean", "max", "cls", "last"} or callable
        ``None`` flattens. ``"mean"`` and ``"max"`` go over positions: all axes after the channel in (stimulus, channel,
        row, column), the middle one in (stimulus, token, unit). ``"cls"`` and ``"last"`` take the first and last token.
        Layers that are (stimulus, unit) already stay. A function maps the tensor, batch first.
    batch_size : int
        Stimuli a forward pass. Results do not depend on it beyond rounding (relative 1e-5 on a CPU in float32).
    device : {"cpu", "cuda", "auto"}, optional
        Where to run; ``None`` leaves the model where it is.
    dtype : {"float32", "float64"}
        Type of the result; half precision is stored as this too.

    Examples
    --------
    >>> import numpy as np, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> acts = ActivationExtractor(net)({"cat": np.ones(4), "dog": np.zeros(4)})
    >>> {name: layer.shape for name, layer in acts.items()}
    {'0': (2, 3), '1': (2, 3), '2': (2, 2)}
    >>> acts["2"].sel(stimulus="dog").sizes
    Frozen({'unit': 2})
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        layers: LayerSpec = "*",
        preprocess: Preprocess | None = None,
        forward: Callable[[Any, Any], Any] | None = None,
        pool: str | PoolFunction | None = None,
        batch_size: int = 32,
        device: str | None = "cpu",
        dtype: str = "float32",
    ) -> None:
        if dtype not in ("float32", "float64"):
            raise ConfigError("Unknown result type.", expected="float32 or float64", got=dtype)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError("Invalid batch size.", expected="an integer >= 1", got=batch_size)
        self.model, self.pool, self.batch_size, self.dtype = model, pool, batch_size, dtype
        self.preprocess, self.forward, self.device = preprocess, forward, device
        self._spec, self._pool = layers, get_pool(pool)

    def __repr__(self) -> str:
        name = type(self.model).__name__
        return f"ActivationExtractor({name}, layers={self._spec!r}, pool={pool_name(self.pool)!r})"

    def __call__(self, stimuli: xr.Dataset | xr.DataArray | Mapping[str, Any]) -> dict[str, xr.DataArray]:
        """Read the selected layers.

        Parameters
        ----------
        stimuli : Dataset, DataArray or mapping of str to array
            A stimulus table with a variable ``image`` (stimulus, row, column, rgb), an array with the dimension
            ``stimulus``, or one array an id. Sources on disk are read batch by batch.

        Returns
        -------
        dict of str to DataArray
            One array a layer, dims (stimulus, unit), in the order of the forward pass.

        Raises
        ------
        ConfigError
            When a pattern matches no layer, or the result would not fit into memory.
        SchemaError
            When a layer does not keep the stimuli on its first axis, or gives NaN or infinite values.
        """
        source = StimulusBatches(stimuli, self.preprocess)
        with evaluating(self.model, self.device) as (device, kind):
            run = _Run(self, source, device, kind)
            values = run.read()
        return self._label(values, source.ids)

    def layers(self, stimuli: xr.Dataset | xr.DataArray | Mapping[str, Any]) -> pd.DataFrame:
        """Tabulate the selected layers without reading them all: one forward pass on the first stimulus.

        Parameters
        ----------
        stimuli : Dataset, DataArray or mapping of str to array
            As for a call; only the first stimulus enters the network.

        Returns
        -------
        DataFrame
            Columns ``name``, ``type`` (of the module), ``shape`` (of the output for one stimulus), ``units`` (after
            pooling) and ``bytes`` (of the result for all these stimuli).
        """
        source = StimulusBatches(stimuli, self.preprocess)
        with evaluating(self.model, self.device) as (device, kind):
            rows = _Run(self, source, device, kind).probe()
        frame = pd.DataFrame(rows)
        frame["bytes"] = frame["units"] * len(source) * np.dtype(self.dtype).itemsize
        return frame

    def _label(self, values: Mapping[str, NDArray[Any]], ids: list[str]) -> dict[str, xr.DataArray]:
        facts: dict[str, Any] = {
            "model": type(self.model).__name__,
            "weights_sha256": weights_sha256(self.model),
            "pooling": pool_name(self.pool),
        }
        out = {}
        for name, array in values.items():
            layer = schema.features(array, stimulus=ids, layer=name).assign_attrs(facts)
            out[name] = schema.stamp(layer, "activations", layer=name, **facts)
        return out


class _Run:
    """One reading: forward passes, checks and the arrays that they fill."""

    def __init__(self, plan: ActivationExtractor, source: StimulusBatches, device: Any, kind: Any) -> None:
        self.plan, self.source, self.device, self.kind = plan, source, device, kind
        self.forward = plan.forward or (lambda model, batch: model(batch))

    def _to_device(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.to(self.device, dtype=self.kind if batch.is_floating_point() else None)

    def probe(self) -> list[dict[str, Any]]:
        """Run the first stimulus alone: what is called, in which order, with which shapes."""
        seen: dict[str, tuple[str, torch.Tensor]] = {}

        def receive(name: str, module: torch.nn.Module, output: torch.Tensor) -> None:
            seen[name] = (type(module).__name__, output.clone())  # a later layer may work in place

        with listening(self.plan.model, None, receive) as start:
            start()
            self.forward(self.plan.model, self._to_device(self.source.batch(0, 1)))
        if not seen:
            raise ConfigError("No module was called in the forward pass.", got=type(self.plan.model).__name__)
        rows = []
        for name in select_layers(self.plan._spec, list(seen)):
            kind, output = seen[name]
            units = self._pooled(name, output, 1).shape[1]
            rows.append({"name": name, "type": kind, "shape": tuple(output.shape[1:]), "units": units})
        return rows

    def read(self) -> dict[str, NDArray[Any]]:
        """Fill one array a layer, batch by batch."""
        rows = self.probe()
        n, itemsize = len(self.source), np.dtype(self.plan.dtype).itemsize
        _check_memory(sum(row["units"] for row in rows) * n * itemsize, rows)
        values = {row["name"]: np.empty((n, row["units"]), self.plan.dtype) for row in rows}
        at = slice(0)
        filled: set[str] = set()

        def receive(name: str, _module: torch.nn.Module, output: torch.Tensor) -> None:
            if name in values:
                self._store(name, output, values[name], at)
                filled.add(name)

        with listening(self.plan.model, {split_call(name)[0] for name in values}, receive) as start:
            for first, batch in self.source.batches(self.plan.batch_size):
                at = slice(first, first + len(batch))
                filled.clear()
                start()
                self.forward(self.plan.model, self._to_device(batch))
                self._check_filled(set(values) - filled, at)
        return values

    def _store(self, name: str, output: torch.Tensor, target: NDArray[Any], at: slice) -> None:
        pooled = self._pooled(name, output, at.stop - at.start)
        if pooled.shape[1] != target.shape[1]:
            raise SchemaError(
                "A layer changed its size between stimuli.",
                expected=f"{target.shape[1]} units",
                got=f"{pooled.shape[1]} units",
                where=f"layer {name}, stimuli {self.source.ids[at.start]} to {self.source.ids[at.stop - 1]}",
                fix="pool='mean', or preprocess= to bring stimuli to one shape",
            )
        self._check_finite(name, pooled, at.start)
        target[at] = pooled.cpu().numpy()

    def _pooled(self, name: str, output: torch.Tensor, n: int) -> torch.Tensor:
        torch = require("torch", "torch")
        if output.ndim == 0 or output.shape[0] != n:
            raise SchemaError(
                "A layer does not keep the stimuli on its first axis.",
                expected=f"shape ({n}, ...) for {n} stimuli",
                got=f"shape {tuple(output.shape)}",
                where=f"layer {name}",
                fix="leave this layer out, build the model batch first, or pass forward=",
            )
        if output.is_complex():
            raise SchemaError("A layer gives complex values.", expected="real numbers", where=f"layer {name}")
        # Half precision is widened before pooling, so that a mean over positions does not overflow.
        wide = output if output.dtype in (torch.float32, torch.float64) else output.to(torch.float32)
        pooled = first_tensor(self.plan._pool(wide))
        if pooled is None or pooled.ndim == 0 or pooled.shape[0] != n:
            raise SchemaError(
                "The pooling function does not keep the stimuli on the first axis.",
                expected=f"shape ({n}, ...)",
                got=None if pooled is None else f"shape {tuple(pooled.shape)}",
                where=f"layer {name}",
            )
        return pooled.reshape(n, -1)

    def _check_finite(self, name: str, pooled: torch.Tensor, first: int) -> None:
        # One cheap reduction first: a finite sum has only finite terms.
        if bool(pooled.sum().isfinite()):
            return
        bad = (~pooled.isfinite()).sum(dim=1).cpu().numpy()
        if not bad.any():
            return
        row = int(np.flatnonzero(bad)[0])
        raise SchemaError(
            "A layer gives NaN or infinite values.",
            expected="finite numbers",
            got=f"{bad[row]} of {pooled.shape[1]} units",
            where=f"layer {name}, stimulus {self.source.ids[first + row]}",
            fix="check preprocess= and the weights; half precision may overflow: model.float()",
        )

    def _check_filled(self, missing: set[str], at: slice) -> None:
        if missing:
            raise SchemaError(
                "A layer was not called for every stimulus.",
                expected="the same modules in each forward pass",
                got=f"not called: {sorted(missing)}",
                where=f"stimuli {self.source.ids[at.start]} to {self.source.ids[at.stop - 1]}",
                fix="leave these layers out",
            )


def _check_memory(n_bytes: int, rows: list[dict[str, Any]]) -> None:
    """Refuse a result that is larger than the memory of this machine."""
    if not hasattr(os, "sysconf"):  # Windows does not say
        return
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if n_bytes > available:
        largest = max(rows, key=lambda row: row["units"])
        raise ConfigError(
            "The activations do not fit into memory.",
            expected=f"at most {available / 2**30:.1f} GiB",
            got=f"{n_bytes / 2**30:.1f} GiB",
            where=f"the largest layer is {largest['name']} with {largest['units']} units",
            fix="select fewer layers, or pool='mean'",
        )


def to_tree(activations: Mapping[str, xr.DataArray]) -> xr.DataTree:
    """Pack the layers of an extraction in one `xarray.DataTree`, to be stored as one.

    Parameters
    ----------
    activations : mapping of str to DataArray
        What an `ActivationExtractor` gives.

    Returns
    -------
    DataTree
        One node a layer, each with the variable ``activation`` (stimulus, unit).

    Examples
    --------
    >>> import numpy as np, torch
    >>> tree = to_tree(ActivationExtractor(torch.nn.Sequential(torch.nn.Linear(4, 3)))({"cat": np.ones(4)}))
    >>> tree["0"]["activation"].shape
    (1, 3)
    """
    nodes = {name: layer.rename("activation").to_dataset() for name, layer in activations.items()}
    return xr.DataTree.from_dict(nodes)
