"""Which picture values get, and that plots touch nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from neuroalign import plots, schema
from neuroalign.errors import SchemaError
from neuroalign.evaluation import Result
from neuroalign.plots._auto import choose
from neuroalign.plots._data import as_array, mean_sem, readable, scale

CUBE = {"affine": np.eye(4).ravel().tolist(), "volume_shape": [2, 2, 2]}


def array(*dims: str, size: int = 4, **attrs: Any) -> xr.DataArray:
    shape = tuple(size + k for k in range(len(dims)))
    return xr.DataArray(np.random.default_rng(0).random(shape), dims=dims, name="score", attrs=attrs)


def placed(values: xr.DataArray, dim: str, axes: str = "xyz") -> xr.DataArray:
    n = values.sizes[dim]
    return values.assign_coords({axis: (dim, np.arange(n) ** k * 0.01) for k, axis in enumerate(axes)})


@pytest.mark.parametrize(
    ("values", "function"),
    [
        (array("pair"), plots.rdm),
        (array("time", "pair"), plots.rdm),
        (array("model", "pair"), plots.rdm_grid),
        (array("lag", "channel"), plots.response_function),
        (array("layer", "target"), plots.layer_profile),
        (array("channel", "time"), plots.timecourse),
        (array("trial", "channel", "time"), plots.timecourse),
        (placed(array("channel"), "channel"), plots.topomap),
        (placed(array("channel"), "channel").assign_coords(channel_type=("channel", ["seeg"] * 4)), plots.brain),
        (placed(array("voxel", size=8, **CUBE), "voxel", "xyzijk"), plots.brain),
        (array("time", "k", "j", "i"), plots.brain),
        (array("roi", atlas="atlas.nii.gz"), plots.brain),
        (array("unit", size=5000), plots.distribution),
        (array("channel", "feature", "band"), plots.distribution),
    ],
)
def test_choice(values: xr.DataArray, function: Callable[..., Any]) -> None:
    assert choose(values) is function


def test_sites_without_a_place_are_bars() -> None:
    values = array("roi").assign_coords(roi=["a", "b", "c", "d"])
    ax = plots.auto(values)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "c", "d"]
    ax = plots.auto(array("voxel", size=300).assign_coords(roi=("voxel", ["a", "b"] * 150)))
    assert len(ax.patches) == 2


def test_every_picture_has_a_name_that_views_know() -> None:
    for name, function in plots.PLOTS.items():
        assert getattr(plots, name) is function
    for name in ("topomap", "timecourse", "bars", "brain", "rdm", "rsa_bars", "auto", "alphas"):
        assert schema.view(name) is plots.PLOTS[name]


def test_result_draws_itself(result: xr.Dataset) -> None:
    pytest.importorskip("mne")
    outcome = Result(result)
    assert outcome.plot.topomap(time=0.17).get_title().endswith("ms")
    assert outcome.plot().get_ylabel() == "Pearson r"
    assert outcome.score.neuro.plot("topomap", time=0.1).images
    assert outcome.plot.score_vs_ceiling().collections


def test_recording_draws_itself_by_its_first_stretch() -> None:
    recording = schema.sensors(np.ones((2, 9000)), modality="eeg", sfreq=100.0, channel=["Cz", "Pz"], units="uV")
    ax = recording.neuro.plot()
    assert ax.get_xlabel() == "Time (s)"
    assert ax.get_ylabel() == "eeg (µV)"
    assert len(ax.lines[-1].get_xdata()) == 4000


def test_units_of_a_recording_are_not_those_of_its_scores(result: xr.Dataset) -> None:
    assert readable(as_array(result)).label == "Pearson r"
    shown = readable(result["normalised"].assign_attrs(units="V"))
    assert (shown.factor, shown.label) == (1.0, "score / noise ceiling")


def test_what_scores_are_measured_in() -> None:
    values = xr.DataArray([0.1], dims="voxel", attrs={"units": "1", "scorer": "r2"})
    shown = [readable(values.rename(name)).label for name in ("score", "ceiling", "unique", "candidate_score", "p")]
    assert shown == ["R²", "noise ceiling (R²)", "unique (R²)", "candidate score (R²)", "p"]
    assert readable(values.rename("unique").assign_attrs(long_name="unique part")).label == "unique part"
    assert readable(values.rename("ceiling").drop_attrs()).label == "noise ceiling"


def test_limits() -> None:
    assert (scale(np.array([-1.0, 2.0])).low, scale(np.array([-1.0, 2.0])).cmap) == (-2.0, "RdBu_r")
    assert (scale(np.array([0.5, 2.0])).low, scale(np.array([0.5, 2.0])).cmap) == (0.0, "viridis")
    assert (scale(np.array([np.nan])).low, scale(np.array([np.nan])).high) == (0.0, 1.0)
    outlier = scale(np.append(np.ones(999), 1e6))
    assert (outlier.high, outlier.extend) == (1.0, "max")
    with pytest.raises(SchemaError, match="wrong order"):
        scale(np.ones(3), vlim=(1, 0))


def test_mean_and_standard_error_leave_nan_out() -> None:
    values = array("roi", "voxel", size=6)
    values[0, :3] = np.nan
    values[1] = np.nan
    mean, sem = mean_sem(values, ["voxel"])
    np.testing.assert_allclose(mean, values.mean("voxel"))
    np.testing.assert_allclose(sem, values.std("voxel", ddof=1) / np.sqrt(values.count("voxel")), equal_nan=True)


def test_importing_plots_loads_no_backend() -> None:
    code = (
        "import sys, neuroalign.plots; "
        "print([name for name in ('matplotlib.pyplot', 'mne', 'nilearn', 'nibabel', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
