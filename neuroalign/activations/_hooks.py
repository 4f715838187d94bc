"""Hooks: read what modules give in one forward pass, and leave the network as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from neuroalign.activations._layers import call_name
from neuroalign.errors import ConfigError, require

if TYPE_CHECKING:
    import torch

__all__ = ["evaluating", "first_tensor", "listening", "resolve_device"]


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


def resolve_device(device: str | None) -> torch.device | None:
    """Turn ``"cpu"``, ``"cuda"``, ``"auto"`` into a device; ``None`` stands for where the model is."""
    torch = require("torch", "torch")
    if device is None:
        return None
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError("Unknown device.", expected="cpu, cuda or auto", got=device) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("No CUDA device.", expected="a GPU that torch can use", got=device, fix="device='auto'")
    return chosen


@contextmanager
def evaluating(model: torch.nn.Module, device: torch.device | None) -> Iterator[tuple[torch.device, torch.dtype]]:
    """Put the model in evaluation and inference mode on a device; flags and device are restored.

    Yields the device and the floating type that inputs must have.
    """
    torch = require("torch", "torch")
    flags = [(module, module.training) for module in model.modules()]
    tensors = [*model.parameters(), *model.buffers()]
    homes = {tensor.device for tensor in tensors}
    if device is not None and len(homes) > 1:
        raise ConfigError("The model is spread over devices.", got=sorted(map(str, homes)), fix="device=None")
    home = tensors[0].device if tensors else torch.device("cpu")
    kind = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    try:
        model.eval()
        if device is not None and device != home:
            model.to(device)
        with torch.inference_mode():
            yield device or home, kind
    finally:
        for module, training in flags:
            module.training = training
        if device is not None and device != home:
            model.to(home)
