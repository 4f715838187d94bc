"""Hooks: read what modules give in one forward pass, and leave the network as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from neuroalign.activations._layers import call_name
from neuroalign.compute.device import resolve_device
from neuroalign.errors import ConfigError, require

if TYPE_CHECKING:
    import torch

__all__ = ["evaluating", "first_tensor", "listening"]


def first_tensor(output: Any) -> torch.Tensor | None:
    """Give the tensor of a module's output: itself, or the first one in a tuple, list or mapping."""
    torch = require("torch", "torch")
    if isinstance(output, torch.Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return next((found for value in values if (found := first_tensor(value)) is not None), None)


@contextmanager
def listening(
    model: torch.nn.Module, modules: set[str] | None, receive: Callable[[str, torch.nn.Module, torch.Tensor], None]
) -> Iterator[Callable[[], None]]:
    """Call `receive(name, module, tensor)` for every call of the named modules; hooks go whatever happens.

    Yields a function that must be called before each forward pass: it starts the call count anew.
    """
    counts: Counter[str] = Counter()
    handles = []

    def hook_for(path: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, _inputs: Any, output: Any) -> None:
            name = call_name(path, counts[path])
            counts[path] += 1
            tensor = first_tensor(output)
            if tensor is not None:
                receive(name, module, tensor)

        return hook

    try:
        for path, module in model.named_modules():
            if path and (modules is None or path in modules):
                handles.append(module.register_forward_hook(hook_for(path)))
        yield counts.clear
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: torch.nn.Module, device: str | None) -> Iterator[tuple[torch.device, torch.dtype]]:
    """Put the model in evaluation and inference mode on a device (None: where it is); flags and device are restored.

    Yields the device and the floating type that inputs must have.
    """
    torch = require("torch", "torch")
    flags = [(module, module.training) for module in model.modules()]
    target = None if device is None else torch.device(resolve_device(device))
    tensors = [*model.parameters(), *model.buffers()]
    homes = {tensor.device for tensor in tensors}
    if target is not None and len(homes) > 1:
        raise ConfigError("The model is spread over devices.", got=sorted(map(str, homes)), fix="device=None")
    home = tensors[0].device if tensors else torch.device("cpu")
    kind = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    try:
        model.eval()
        if target is not None and target != home:
            model.to(target)
        with torch.inference_mode():
            yield target or home, kind
    finally:
        for module, training in flags:
            module.training = training
        if target is not None and target != home:
            model.to(home)
