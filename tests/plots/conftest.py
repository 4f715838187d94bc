"""Values to draw: a score map on a real montage, a real evoked response, voxels of a real mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close what a test opened; a test may open any number of figures without a warning."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="session")
def scores() -> xr.DataArray:
    """Pearson r of 128 BioSemi channels over time: one source near A21 at 170 ms, and noise."""
    mne = pytest.importorskip("mne")
    montage = mne.channels.make_standard_montage("biosemi128")
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    points = np.array([channel["loc"][:3] for channel in info["chs"]])
    times = np.arange(-20, 81) / 128
    near = np.exp(-((points - points[20]) ** 2).sum(axis=1) / 0.004)
    noise = np.random.default_rng(0).normal(scale=0.02, size=(128, len(times)))
    return xr.DataArray(
        0.3 * near[:, None] * np.exp(-(((times - 0.17) / 0.05) ** 2)) + noise,
        dims=("channel", "time"),
        coords={
            "channel": montage.ch_names,
            "channel_type": ("channel", ["eeg"] * 128),
            **{axis: ("channel", points[:, k]) for k, axis in enumerate("xyz")},
            "time": times,
        },
        name="score",
        attrs={"units": "1", "scorer": "r"},
    )


@pytest.fixture(scope="session")
def result(scores: xr.DataArray) -> xr.Dataset:
    """A whole result, as an evaluation gives it."""
    score = scores.drop_attrs().assign_attrs(scores.attrs)
    ceiling = (score.clip(0) + 0.1).assign_attrs(method="split_half_sb", units="1")
    data = xr.Dataset({"score": score, "ceiling": ceiling, "significant": score > 0.08})
    data["fold_score"] = xr.concat([score - 0.01, score + 0.01], "fold")
    data["normalised"] = data["score"] / data["ceiling"]
    data["p"] = xr.where(data["significant"], 0.001, 0.4)
    data["q"] = data["p"] * 1.5
    # The units of the recording stay in the attrs of a result; they are not those of its scores.
    return data.assign_attrs(estimator="TRFEncoder", scorer="r", n_folds=2, alpha=0.05, units="V")


@pytest.fixture
def evoked(real_data: Callable[[str], Path]) -> Callable[[str], xr.DataArray]:
    """Read one kind of sensors of a real evoked response, in the head frame and in SI units."""
    mne = pytest.importorskip("mne")
    path = real_data("meg-mne-audvis") / "test-ave.fif.gz"
    whole = mne.read_evokeds(path, condition=0, verbose="ERROR").apply_baseline((None, 0), verbose="ERROR")

    def pick(kind: str) -> xr.DataArray:
        part = whole.copy().pick(kind)
        points = np.array([channel["loc"][:3] for channel in part.info["chs"]])
        if kind != "eeg":
            move = part.info["dev_head_t"]["trans"]
            points = points @ move[:3, :3].T + move[:3, 3]
        return xr.DataArray(
            part.data,
            dims=("channel", "time"),
            coords={
                "channel": part.ch_names,
                "channel_type": ("channel", [kind] * len(part.ch_names)),
                **{axis: ("channel", points[:, k]) for k, axis in enumerate("xyz")},
                "time": part.times,
            },
            name="evoked",
            attrs={"units": {"eeg": "V", "mag": "T", "grad": "T/m"}[kind]},
        )

    return pick


@pytest.fixture
def voxels() -> Callable[..., xr.DataArray]:
    """Put scores into the voxels of a mask image."""

    def build(mask: object, **attrs: object) -> xr.DataArray:
        inside = np.asarray(mask.dataobj) > 0  # type: ignore[attr-defined]
        affine = mask.affine  # type: ignore[attr-defined]
        index = np.argwhere(inside)
        points = index @ affine[:3, :3].T + affine[:3, 3]
        values = np.random.default_rng(1).normal(scale=0.1, size=len(index))
        coords = {axis: ("voxel", index[:, k]) for k, axis in enumerate("ijk")}
        coords |= {axis: ("voxel", points[:, k]) for k, axis in enumerate("xyz")}
        flat = {"affine": affine.ravel().tolist(), "volume_shape": list(inside.shape)}
        return xr.DataArray(values, dims="voxel", coords=coords, name="score", attrs=flat | attrs)

    return build
