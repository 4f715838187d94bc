"""Weights: their fingerprint, and a copy of a network with new ones."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING

from neuroalign.errors import require

if TYPE_CHECKING:
    import torch

__all__ = ["randomize", "weights_sha256"]

# Standard deviation of parameters that no module knows how to draw, such as class tokens and position
# embeddings: the value used by ViT and BERT.
_LOOSE_STD = 0.02


def weights_sha256(model: torch.nn.Module) -> str:
    """Hash the weights and persistent buffers of a network.

    Parameters
    ----------
    model : torch.nn.Module
        Any network. The device that it is on does not matter.

    Returns
    -------
    str
        sha256 over name, dtype, shape and little-endian bytes of each entry of ``state_dict()``, sorted by name.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(2, 1)
    >>> weights_sha256(net) == weights_sha256(torch.nn.Linear(2, 1))
    False
    """
    torch = require("torch", "torch")
    digest = hashlib.sha256()
    state = {key: value for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        # As bytes, because numpy has no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def randomize(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give the same network with new random weights: the control for every claim of alignment.

    Each module with ``reset_parameters`` draws by its own default (running statistics of normalisation go back to
    0 and 1); parameters that no module resets, such as class tokens, are drawn from N(0, 0.02). Constant buffers
    (masks, position indices) are part of the architecture and stay.

    Parameters
    ----------
    model : torch.nn.Module
        The network; it is not changed.
    seed : int
        Seed of the draws. The global random state of torch is left alone.

    Returns
    -------
    torch.nn.Module
        A deep copy with the same training flag and device, every parameter drawn anew.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(3, 2)
    >>> control = randomize(net, seed=0)
    >>> torch.equal(control.weight, randomize(net, seed=0).weight), torch.equal(control.weight, net.weight)
    (True, False)
    """
    torch = require("torch", "torch")
    twin = copy.deepcopy(model)
    devices = {name: p.device for name, p in twin.named_parameters()}
    home = next(iter(devices.values()), torch.device("cpu"))
    if len(set(devices.values())) <= 1:
        twin.cpu()  # so that a GPU model gets the same draws as a CPU one
    before = {id(p): p._version for p in twin.parameters()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.random.default_generator.manual_seed(seed)
        for module in twin.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
        for parameter in twin.parameters():
            # The version counter moves on every in-place draw, so it tells which ones nobody reached.
            if before.get(id(parameter)) == parameter._version and parameter.is_floating_point():
                parameter.normal_(0.0, _LOOSE_STD)
    return twin.to(home) if len(set(devices.values())) <= 1 else twin
