"""Pooling: from the output of a layer to one vector a stimulus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from neuroalign.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    import torch

__all__ = ["POOLS", "PoolFunction", "get_pool", "pool_name"]

PoolFunction = Callable[["torch.Tensor"], "torch.Tensor"]


def _positions(output: torch.Tensor) -> tuple[int, ...]:
    """Axes that are positions: those between batch and unit of (stimulus, token, unit), else those after channel."""
    return (1,) if output.ndim == 3 else tuple(range(2, output.ndim))


def _mean(output: torch.Tensor) -> torch.Tensor:
    return output.mean(dim=_positions(output)) if output.ndim > 2 else output


def _max(output: torch.Tensor) -> torch.Tensor:
    return output.amax(dim=_positions(output)) if output.ndim > 2 else output


def _token(index: int) -> PoolFunction:
    def take(output: torch.Tensor) -> torch.Tensor:
        if output.ndim > 3:
            raise SchemaError(
                "This layer has no tokens.",
                expected="an output of shape (stimulus, token, unit)",
                got=f"shape {tuple(output.shape)}",
                fix="select other layers, or pool='mean'",
            )
        return output[:, index] if output.ndim == 3 else output

    return take


POOLS: Mapping[str, PoolFunction] = MappingProxyType({"mean": _mean, "max": _max, "cls": _token(0), "last": _token(-1)})


def get_pool(pool: str | PoolFunction | None) -> PoolFunction:
    """Look up a pooling function. ``None`` keeps every unit (the output is flattened afterwards)."""
    if pool is None:
        return lambda output: output
    if callable(pool):
        return pool
    if pool not in POOLS:
        raise ConfigError("Unknown pooling.", expected=f"None, a function or one of {sorted(POOLS)}", got=pool)
    return POOLS[pool]


def pool_name(pool: str | PoolFunction | None) -> str:
    """Give the name that the provenance keeps."""
    return "none" if pool is None else pool if isinstance(pool, str) else getattr(pool, "__name__", "function")
