"""Band envelopes against MNE, known amplitudes and run edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuroalign import schema
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.preprocess import BandEnvelope

SFREQ = 500.0


def recording(n: int = 3000, *, first_sample: int = 0, seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    events = pd.DataFrame({"onset": [1.0, 2.0], "stimulus_id": ["cat", "dog"]})
    return schema.sensors(
        rng.normal(size=(3, n)) * 1e-5,
        modality="ieeg",
        sfreq=SFREQ,
        channel=["A1", "A2", "A3"],
        units="V",
        events=events,
        first_sample=first_sample,
    )


def test_envelope_equals_mne() -> None:
    mne = pytest.importorskip("mne")
    ds = recording()
    ours = BandEnvelope(70, 150).fit_transform(ds)["ieeg"].values
    raw = mne.io.RawArray(ds["ieeg"].values.astype(float), mne.create_info(3, SFREQ, "seeg"), verbose="error")
    iir = {"order": 4, "ftype": "butter", "output": "sos"}
    raw.filter(70, 150, method="iir", iir_params=iir, picks="all", verbose="error")
    raw.apply_hilbert(envelope=True, picks="all", verbose="error")
    theirs = raw.get_data()
    np.testing.assert_allclose(ours[:, 200:-200], theirs[:, 200:-200], rtol=1e-3, atol=1e-9)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999


def test_a_dataset_keeps_its_labels_and_events() -> None:
    ds = recording()
    out = BandEnvelope(70, 150).fit_transform(ds)
    schema.validate(out, "ieeg")
    assert out["ieeg"].dims == ("channel", "time")
    assert out["ieeg"].dtype == ds["ieeg"].dtype
    for name in ("channel", "time", "onset", "stimulus_id", "bad"):
        np.testing.assert_array_equal(out[name].values, ds[name].values)
    assert schema.history(out)["steps"][-1]["step"] == "BandEnvelope"


def test_known_amplitude_is_found() -> None:
    t = np.arange(5000) / SFREQ
    carrier = np.sin(2 * np.pi * 100 * t)
    modulation = 2 + np.sin(2 * np.pi * 1.5 * t)
    x = np.column_stack([modulation * carrier + 5 * np.sin(2 * np.pi * 10 * t), 0.5 * carrier])
    out = BandEnvelope(80, 120, sfreq=SFREQ).fit_transform(x)
    np.testing.assert_allclose(out[250:-250, 0], modulation[250:-250], rtol=0.03)
    np.testing.assert_allclose(out[250:-250, 1], 0.5, rtol=0.01)


def test_resampling_gives_a_new_clock() -> None:
    ds = recording(first_sample=1000)
    whole, out = BandEnvelope(70, 150).fit_transform(ds), BandEnvelope(70, 150, resample=50).fit_transform(ds)
    schema.validate(out, "ieeg")
    assert out.sizes["time"] == 300
    assert (out.attrs["sfreq"], out.attrs["first_sample"]) == (50.0, 100)
    np.testing.assert_allclose(out["time"].values, np.arange(100, 400) / 50)
    smooth = np.roll(whole["ieeg"].values, 5, axis=1).reshape(3, 300, 10).mean(axis=-1)  # about each new sample
    assert np.corrcoef(out["ieeg"].values[:, 5:-5].ravel(), smooth[:, 5:-5].ravel())[0, 1] > 0.9
    assert float(out["ieeg"].min()) > 0
    with pytest.raises(SchemaError, match="leave out the first 7 samples"):
        BandEnvelope(70, 150, resample=50).fit_transform(recording(first_sample=1003))
    with pytest.raises(ConfigError, match="resampled"):
        BandEnvelope(70, 150, resample=1000).fit_transform(ds)


def test_runs_are_filtered_alone() -> None:
    a, b = recording(seed=1)["ieeg"], recording(seed=2)["ieeg"] * 1000
    both = xr.concat([a.assign_coords(run=("time", ["1"] * 3000)), b.assign_coords(run=("time", ["2"] * 3000))], "time")
    out = BandEnvelope(70, 150).fit_transform(both)
    for part, alone in ((slice(0, 3000), a), (slice(3000, 6000), b)):
        np.testing.assert_array_equal(out.isel(time=part).values, BandEnvelope(70, 150).fit_transform(alone).values)
    down = BandEnvelope(70, 150, resample=100).fit_transform(both)
    assert down["run"].values.tolist() == ["1"] * 600 + ["2"] * 600


def test_trials_are_filtered_along_time() -> None:
    ds = recording(3000)["ieeg"]
    trials = xr.concat([ds, 2 * ds], dim="trial")
    out = BandEnvelope(70, 150).fit_transform(trials)
    assert out.dims == trials.dims
    np.testing.assert_allclose(out.isel(trial=0).values, BandEnvelope(70, 150).fit_transform(ds).values, rtol=1e-5)
    np.testing.assert_allclose(out.isel(trial=1).values, 2 * out.isel(trial=0).values, rtol=1e-5)


def test_logarithm() -> None:
    ds = recording()
    out = BandEnvelope(70, 150, log=True).fit_transform(ds)
    np.testing.assert_allclose(out["ieeg"].values, np.log(BandEnvelope(70, 150).fit_transform(ds)["ieeg"].values), 1e-4)
    assert out.attrs["units"] == "a.u."
    dead = np.zeros((1000, 2))
    with pytest.raises(SchemaError, match="2 of 2 channels"):
        BandEnvelope(70, 150, log=True, sfreq=SFREQ).fit_transform(dead)


@pytest.mark.parametrize(("low", "high"), [(0, 10), (10, 5), (100, 250), (100, 300), (-1, 5)])
def test_impossible_bands_are_refused(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match="band"):
        BandEnvelope(low, high).fit_transform(recording())


def test_short_runs_nan_and_features_are_refused() -> None:
    with pytest.raises(SchemaError, match="too short"):
        BandEnvelope(1, 4).fit_transform(recording(500))
    ds = recording()
    with pytest.raises(SchemaError, match="NaN"):
        BandEnvelope().fit_transform(ds["ieeg"].where(ds["ieeg"] > 0))
    with pytest.raises(SchemaError, match="Not a recording"):
        BandEnvelope().fit(xr.Dataset({"x": ("time", np.ones(9))}))
