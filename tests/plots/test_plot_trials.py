"""Images of single trials: each trial on its row, in the order that was asked for."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import neuroalign as na
from neuroalign.errors import NeuroalignWarning, SchemaError
from neuroalign.plots import erp_image
from neuroalign.schema import epochs


@pytest.fixture
def visual(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        return na.load(real_data("eeglab-visattention-32ch") / "eeglab_data.set")


def simulated_trials():
    n, time = 30, np.arange(-20, 80) / 100
    latency = np.random.default_rng(1).permutation(np.linspace(0.2, 0.5, n))
    values = np.zeros((n, 2, 100))
    values[:, 1] = 5e-6 * np.exp(-(((time - latency[:, None]) / 0.03) ** 2))
    table = pd.DataFrame({"rt": latency, "valid": np.arange(n) != 3})
    return epochs(values, modality="eeg", sfreq=100, channel=["Cz", "Pz"], units="V", first_sample=-20, trials=table)


def test_erp_image_sorts_trials_and_finds_the_channel():
    ds = simulated_trials()
    ax = erp_image(ds, order="rt")
    assert ax.get_title(loc="left") == "Pz"
    image = np.asarray(ax.collections[0].get_array()).reshape(29, 100)
    peaks = image.argmax(axis=1)
    assert (np.diff(peaks) >= 0).all()
    assert image.max() == pytest.approx(5.0, rel=0.01)
    (marks,) = [line for line in ax.get_lines() if len(line.get_xdata()) == 29]
    assert np.abs(np.asarray(marks.get_xdata()) - (peaks - 20) * 10).max() <= 5.0
    mean = ax.child_axes[0].get_lines()[-1].get_ydata()
    assert np.allclose(mean, ds["eeg"].values[ds["valid"].values, 1].mean(axis=0) * 1e6, atol=1e-6)


def test_trials_that_are_not_valid_do_not_choose_the_channel():
    ds = simulated_trials()
    ds["eeg"].values[3, 0] = 1e-3
    assert erp_image(ds).get_title(loc="left") == "Pz"


def test_smoothing_over_trials_is_a_running_mean():
    ds = simulated_trials().isel(trial=slice(0, 3)).assign_coords(valid=("trial", [True] * 3))
    ax = erp_image(ds, channel="Pz", smooth=3)
    image = np.asarray(ax.collections[0].get_array()).reshape(3, 100)
    raw = ds["eeg"].values[:, 1] * 1e6
    assert np.allclose(image[1], raw.mean(axis=0), atol=1e-6)
    assert np.allclose(image[0], raw[:2].mean(axis=0), atol=1e-6)


def test_erp_image_of_real_trials(visual):
    trials = na.align.epochs(visual, tmin=-0.3, tmax=0.8, where={"trial_type": "square"}, drop=True)
    ax = erp_image(trials, smooth=5)
    assert ax.get_title(loc="left") in trials["channel"].values


def test_erp_image_refuses_what_is_not_there():
    with pytest.raises(SchemaError, match="no such channel"):
        erp_image(simulated_trials(), channel="Oz")
    with pytest.raises(SchemaError, match="no such coordinate"):
        erp_image(simulated_trials(), order="age")
    with pytest.raises(SchemaError, match="no fitting dimensions"):
        erp_image(xr.DataArray(np.zeros((2, 3)), dims=("channel", "time")))
