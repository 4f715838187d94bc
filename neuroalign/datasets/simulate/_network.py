"""The network behind the simulated responses: small, seeded, and different from block to block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neuroalign.datasets.simulate._images import make_images
from neuroalign.errors import require

if TYPE_CHECKING:
    import torch

__all__ = ["BLOCKS", "TRUE_LAYER", "simulate_network"]

BLOCKS = ("block1", "block2", "block3", "block4", "head")
TRUE_LAYER = "block3"
_N_UNITS = 12
_N_CALIBRATION = 192


def _architecture(torch: Any) -> torch.nn.Sequential:
    nn = torch.nn

    def block(*modules: Any, norm: Any) -> Any:
        # A slope of -1 rectifies both signs, as a complex cell does: |x|.
        return nn.Sequential(*modules, norm, nn.LeakyReLU(-1.0))

    blocks = {
        "block1": block(nn.Conv2d(3, 12, 5, stride=2, padding=2), norm=nn.BatchNorm2d(12, affine=False)),
        "block2": block(nn.Conv2d(12, 16, 3, stride=2, padding=1), norm=nn.BatchNorm2d(16, affine=False)),
        "block3": block(
            nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, _N_UNITS), norm=nn.BatchNorm1d(_N_UNITS, affine=False)
        ),
        "block4": block(nn.Linear(_N_UNITS, 24), norm=nn.BatchNorm1d(24, affine=False)),
        "head": nn.Linear(24, 10),
    }
    net = nn.Sequential()
    for name, module in blocks.items():
        net.add_module(name, module)
    return net


def _draw(net: torch.nn.Module, torch: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        scale = fan_in**-0.5 if parameter.ndim > 1 else 0.0
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def _calibrate(net: torch.nn.Module, torch: Any, seed: int) -> None:
    """Set the running statistics so that every unit is centred before it is rectified."""
    images, _ = make_images(_N_CALIBRATION, random_state=seed)
    x = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255
    norms: list[Any] = [module for module in net.modules() if hasattr(module, "running_mean")]
    for module in norms:
        module.momentum = 1.0
    net.train()
    net(x)
    for module in norms:
        module.momentum = 0.1
    net.eval()


def simulate_network(random_state: int = 0) -> torch.nn.Sequential:
    """Build the network whose layer ``block3`` drives the simulated recordings.

    Every block is linear, then centred, then rectified at both signs. A centred unit and its magnitude are nearly
    uncorrelated, so a linear model from one block explains little of the next one: only the true layer fits well.

    Parameters
    ----------
    random_state : int
        Seed of weights and calibration pictures. The same seed gives the same network.

    Returns
    -------
    torch.nn.Sequential
        In evaluation mode, with the modules ``block1`` to ``block4`` and ``head``. Input: float32 pictures in [0, 1],
        shape (stimulus, 3, 32, 32).

    Examples
    --------
    >>> [name for name, _ in simulate_network(0).named_children()]
    ['block1', 'block2', 'block3', 'block4', 'head']
    """
    torch = require("torch", "torch")
    net = _architecture(torch)
    with torch.no_grad():
        _draw(net, torch, random_state)
        _calibrate(net, torch, random_state)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net
