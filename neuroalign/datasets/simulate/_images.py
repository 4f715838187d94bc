"""Stimuli: small seeded pictures of six families that differ in colour, frequency, contrast and place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAMILIES", "SIZE", "make_images"]

SIZE = 32

Plane = NDArray[np.float64]


def _grid() -> tuple[Plane, Plane]:
    axis = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    x, y = np.meshgrid(axis, axis)
    return x, y


def _wave(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    frequency = np.exp(rng.uniform(np.log(1.0), np.log(6.0)))  # cycles over half the picture
    return np.sin(np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)


def _grating(rng: np.random.Generator) -> Plane:
    return _wave(rng)


def _plaid(rng: np.random.Generator) -> Plane:
    return (_wave(rng) + _wave(rng)) / 2


def _noise(rng: np.random.Generator) -> Plane:
    """Noise with the spectrum 1/f^a, a from 0 (white) to 2 (clouds)."""
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    f[0, 0] = np.inf
    spectrum = np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * f ** -rng.uniform(0, 2)
    plane = np.fft.ifft2(spectrum).real
    return np.clip(plane / (2 * plane.std()), -1, 1)


def _discs(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    plane = np.full((SIZE, SIZE), -1.0)
    for _ in range(rng.integers(1, 7)):
        cx, cy = rng.uniform(-0.9, 0.9, 2)
        plane[np.hypot(x - cx, y - cy) < rng.uniform(0.1, 0.45)] = rng.uniform(0, 1)
    return plane


def _edges(rng: np.random.Generator) -> Plane:
    """A polygon: the part of the plane on one side of two to five lines."""
    x, y = _grid()
    inside = np.ones((SIZE, SIZE), bool)
    for _ in range(rng.integers(2, 6)):
        angle = rng.uniform(0, 2 * np.pi)
        inside &= x * np.cos(angle) + y * np.sin(angle) < rng.uniform(0.1, 0.8)
    return np.where(inside, 1.0, -1.0)


def _rings(rng: np.random.Generator) -> Plane:
    x, y = _grid()
    cx, cy = rng.uniform(-0.5, 0.5, 2)
    return np.sin(np.pi * rng.uniform(1.5, 6) * np.hypot(x - cx, y - cy) + rng.uniform(0, 2 * np.pi))


FAMILIES: Mapping[str, Callable[[np.random.Generator], Plane]] = MappingProxyType(
    {"grating": _grating, "plaid": _plaid, "noise": _noise, "discs": _discs, "edges": _edges, "rings": _rings}
)


def _colour(plane: Plane, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blend between two colours by the plane's values, with a contrast and a brightness of its own."""
    low, high = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    weight = 0.5 + 0.5 * rng.uniform(0.4, 1.0) * plane[..., None]
    return np.round(255 * np.clip(low + (high - low) * weight, 0, 1)).astype(np.uint8)


def make_images(
    n: int, *, random_state: int | np.random.Generator | None = None
) -> tuple[NDArray[np.uint8], list[str]]:
    """Draw pictures, the families in turn.

    Parameters
    ----------
    n : int
        How many.
    random_state : int or Generator, optional
        Seed.

    Returns
    -------
    images : array of uint8, shape (n, 32, 32, 3)
        RGB values.
    families : list of str
        The family of each picture.

    Examples
    --------
    >>> images, families = make_images(7, random_state=0)
    >>> images.shape, families[0] == families[6]
    ((7, 32, 32, 3), True)
    """
    rng = np.random.default_rng(random_state)
    families = [list(FAMILIES)[k % len(FAMILIES)] for k in range(n)]
    return np.stack([_colour(FAMILIES[name](rng), rng) for name in families]), families
