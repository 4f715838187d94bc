"""Which device torch computes on."""

from __future__ import annotations

import importlib.util
import re

from neuroalign.errors import ConfigError, require

__all__ = ["resolve_device"]


def resolve_device(device: str = "auto") -> str:
    """Name of the device to use, checked to exist.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"``: CUDA where torch finds it, else the CPU.

    Returns
    -------
    str
        For ``torch.device``. ``"auto"`` and ``"cpu"`` do not need torch.

    Raises
    ------
    ConfigError
        If the name is unknown, or the GPU is not there.
    MissingDependencyError
        If CUDA is asked for and torch is not installed.

    Examples
    --------
    >>> resolve_device("cpu")
    'cpu'
    """
    match = re.fullmatch(r"cpu|auto|cuda(?::(\d+))?", str(device))
    if match is None:
        raise ConfigError("Unknown device.", expected="cpu | cuda | cuda:N | auto", got=device)
    if device == "cpu" or (device == "auto" and importlib.util.find_spec("torch") is None):
        return "cpu"
    cuda = require("torch", "torch").cuda
    n_gpus = cuda.device_count() if cuda.is_available() else 0
    if device == "auto":
        return "cuda" if n_gpus else "cpu"
    if int(match[1] or 0) >= n_gpus:
        raise ConfigError(
            "This GPU is not available.",
            expected=f"one of {n_gpus} GPUs",
            got=device,
            fix='pass device="auto" or "cpu"',
        )
    return device
