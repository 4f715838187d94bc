"""Where things are: electrodes, sensors, contacts and voxels, and which of them respond."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroalign.datasets.simulate._settings import BOLD

__all__ = [
    "FIDUCIALS",
    "Sites",
    "brain_mask",
    "brain_sites",
    "brain_voxels",
    "eeg_cap",
    "meg_helmet",
    "seeg_shafts",
    "volume_affine",
]

_HEAD = 0.095  # radius in m
FIDUCIALS = {"NAS": (0.0, _HEAD, 0.0), "LPA": (-_HEAD, 0.0, 0.0), "RPA": (_HEAD, 0.0, 0.0)}


@dataclass(frozen=True)
class Sites:
    """Recording sites of one subject.

    Attributes
    ----------
    names : tuple of str
        One a site.
    positions : array, shape (n_sites, 3)
        In m (sensors, contacts) or mm (voxels).
    active : array of bool, shape (n_sites,)
        Which ones respond to the pictures.
    """

    names: tuple[str, ...]
    positions: NDArray[np.float64]
    active: NDArray[np.bool_]


def _on_sphere(inclination: float, azimuth: float) -> NDArray[np.float64]:
    """Point of the unit sphere; degrees from the vertex, and from the front towards the right."""
    t, p = np.deg2rad(inclination), np.deg2rad(azimuth)
    return np.array([np.sin(t) * np.sin(p), np.sin(t) * np.cos(p), np.cos(t)])


def _ten_ten() -> dict[str, NDArray[np.float64]]:
    """Electrodes of the ideal 10-20 system on a sphere; the others lie amid their neighbours."""
    points = {"Fz": _on_sphere(36, 0), "Cz": _on_sphere(0, 0), "Pz": _on_sphere(36, 180), "Oz": _on_sphere(72, 180)}
    ring = {"Fp": 18, "F7": 54, "T7": 90, "P7": 126, "PO7": 144, "O": 162}
    for name, azimuth in ring.items():
        left, right = {"Fp": ("Fp1", "Fp2"), "O": ("O1", "O2")}.get(name, (name, name[:-1] + "8"))
        points[left], points[right] = _on_sphere(72, -azimuth), _on_sphere(72, azimuth)
    points |= {"C3": _on_sphere(36, -90), "C4": _on_sphere(36, 90)}
    amid = {
        "F3": "F7 Fz", "F4": "F8 Fz", "P3": "P7 Pz", "P4": "P8 Pz", "FC1": "Fz Cz F3 C3", "FC2": "Fz Cz F4 C4",
        "FC5": "F3 C3 F7 T7", "FC6": "F4 C4 F8 T8", "CP1": "Pz Cz P3 C3", "CP2": "Pz Cz P4 C4",
        "CP5": "P3 C3 P7 T7", "CP6": "P4 C4 P8 T8", "PO3": "P3 Pz O1 PO7", "PO4": "P4 Pz O2 PO8",
    }  # fmt: skip
    for name, neighbours in amid.items():
        middle = np.sum([points[other] for other in neighbours.split()], axis=0)
        points[name] = middle / np.linalg.norm(middle)
    return points


_EEG_NAMES = (
    "Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 P7 P3 Pz P4 P8 PO7 PO3 PO4 PO8 O1 Oz O2"
)


def eeg_cap() -> Sites:
    """Give 32 electrodes in head coordinates; the 16 rearmost respond."""
    points = _ten_ten()
    names = tuple(_EEG_NAMES.split())
    positions = _HEAD * np.stack([points[name] for name in names])
    return Sites(names, positions, _rearmost(positions, 16))


def meg_helmet(n: int = 64) -> Sites:
    """Give magnetometers spread evenly over a helmet, open at the face; the rear half responds."""
    k = np.arange(2 * n) + 0.5
    z = 1 - k / n  # a Fibonacci lattice on the whole sphere, of which the helmet keeps the top
    angle = np.pi * (1 + 5**0.5) * k
    points = np.column_stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z])
    height = points[:, 2] - 0.35 * points[:, 1]  # the rim rises towards the face
    chosen = points[np.sort(np.argsort(-height, kind="stable")[:n])]
    positions = chosen * (0.115, 0.125, 0.12) + (0, 0, 0.035)
    return Sites(tuple(f"MEG{j + 1:03d}" for j in range(n)), positions, _rearmost(positions, n // 2))


def seeg_shafts(rng: np.random.Generator) -> Sites:
    """Give three depth electrodes of eight contacts, 3.5 mm apart; half of each shaft responds."""
    entries = {"A": (-0.062, -0.070, 0.010), "B": (0.064, -0.058, 0.004), "C": (0.066, -0.020, -0.012)}
    names: list[str] = []
    positions, active = [], []
    for shaft, entry in entries.items():
        start = np.array(entry) + rng.normal(0, 0.002, 3)
        inwards = -start * (1, 0.1, 0.1)
        inwards /= np.linalg.norm(inwards)
        depth = np.arange(8)[::-1, None] * 0.0035  # contact 1 is the deepest
        names += [f"{shaft}{k + 1}" for k in range(8)]
        positions.append(start + depth * inwards)
        active.append(np.isin(np.arange(8), rng.integers(0, 5) + np.arange(4)))
    return Sites(tuple(names), np.concatenate(positions), np.concatenate(active))


def _rearmost(positions: NDArray[np.float64], n: int) -> NDArray[np.bool_]:
    active = np.zeros(len(positions), bool)
    active[np.argsort(positions[:, 1], kind="stable")[:n]] = True
    return active


def volume_affine() -> NDArray[np.float64]:
    """Voxel indices to mm, the middle of the volume at the origin."""
    affine = np.diag([BOLD.voxel_size] * 3 + [1.0])
    affine[:3, 3] = -BOLD.voxel_size * (np.array(BOLD.shape) - 1) / 2
    return affine


def brain_mask() -> NDArray[np.bool_]:
    """Give an ellipsoid that fills the volume up to a rim."""
    axes = np.ogrid[tuple(slice(n) for n in BOLD.shape)]
    radius = sum(((a - (n - 1) / 2) / (n / 2 - 0.4)) ** 2 for a, n in zip(axes, BOLD.shape, strict=True))
    return np.asarray(radius <= 1.0)


def brain_voxels() -> NDArray[np.int64]:
    """Give the indices i, j, k of the voxels in the mask, i running fastest, as they follow each other in the file."""
    return np.argwhere(brain_mask().T)[:, ::-1]


def brain_sites() -> Sites:
    """Give the voxels of `brain_voxels`; the rear half responds."""
    ijk = brain_voxels()
    positions = ijk @ volume_affine()[:3, :3].T + volume_affine()[:3, 3]
    names = tuple(f"{i}-{j}-{k}" for i, j, k in ijk)
    return Sites(names, positions, positions[:, 1] < 0)
