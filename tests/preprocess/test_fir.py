"""Responses estimated without an assumed shape: impulses of events through delays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.pipeline import make_pipeline

from neuroalign import schema
from neuroalign.align import place
from neuroalign.encoding import RidgeEncoder
from neuroalign.preprocess import Delayer, SingleTrialBetas, get_hrf
from neuroalign.preprocess.betas import volume_times
from neuroalign.preprocess.hrf import event_regressors

TR = 2.0


def conditions(names: list[str]) -> xr.DataArray:
    return schema.features(np.eye(len(names)), stimulus=names, unit=names)


def fir(run: xr.Dataset, names: list[str], n_delays: int) -> xr.DataArray:
    """Response of each condition, (lag, unit, roi), by an encoder that hardly shrinks."""
    impulses = place(conditions(names), run, by="trial_type")
    model = make_pipeline(Delayer(range(n_delays)), RidgeEncoder(alphas=[1e-6], cv=2))
    return model.fit(impulses, run["bold"])[-1].coef_


def test_known_responses_come_back() -> None:
    rng = np.random.default_rng(0)
    n, names = 300, ["face", "house"]
    frame = pd.DataFrame({"onset": TR * np.sort(rng.choice(np.arange(2, 280), 60, replace=False)), "duration": 0.0})
    frame["trial_type"] = rng.choice(names, 60)
    truth = rng.normal(size=(8, 2, 3))  # (lag, condition, roi)
    bold = np.zeros((n + 8, 3))
    for row in frame.itertuples():
        start = round(row.onset / TR)
        bold[start : start + 8] += truth[:, names.index(row.trial_type)]
    run = schema.fmri_regions(100 + bold[:n], roi=["a", "b", "c"], tr=TR, events=frame)
    found = fir(run, names, 8)
    assert found.dims == ("lag", "unit", "roi")
    assert found["unit"].values.tolist() == names
    np.testing.assert_allclose(found.values, truth, atol=1e-3)
    later = run.assign_attrs(start_time=TR / 2).assign_coords(onset=run["onset"] + TR / 2)  # mid-volume reference
    np.testing.assert_allclose(fir(later, names, 8).values, truth, atol=1e-3)


@pytest.mark.parametrize("start", [0.0, 0.9])
def test_the_response_function_is_found_from_its_own_responses(start: float) -> None:
    """Sampled at start_time + n * TR, the FIR of a convolved run is the response function at these times."""
    rng = np.random.default_rng(1)
    onset = TR * np.sort(rng.choice(np.arange(2, 380), 80, replace=False))
    frame = pd.DataFrame({"onset": onset, "duration": 0.0, "trial_type": "beep"})
    run = schema.fmri_regions(np.zeros((400, 1)), roi=["A1"], tr=TR, events=frame, attrs={"start_time": start})
    times = volume_times(run)
    np.testing.assert_allclose(times, start + TR * np.arange(400))
    bold = event_regressors("glover", onset, 0.0, times).sum(axis=1, keepdims=True)
    run = run.assign(bold=run["bold"].copy(data=bold))
    found = fir(run, ["beep"], 14).values.ravel()
    np.testing.assert_allclose(found, get_hrf("glover").density(start + TR * np.arange(14)), atol=2e-3)
    betas = SingleTrialBetas("glover", high_pass=None).fit_transform(run)
    np.testing.assert_allclose(betas.values, 1, atol=1e-4)


def test_real_event_related_responses(real_data: Callable[[str], Path]) -> None:
    """Six event types in a motion area: each has its peak at 4 to 8 s and an undershoot, as published shapes have."""
    frame = pd.read_csv(real_data("nitime-fmri-spikes") / "event_related_fmri.csv")
    codes = frame["events"].to_numpy().astype(int)
    rows = np.flatnonzero(codes)
    names = [f"type{c}" for c in range(1, 7)]
    events = pd.DataFrame({"onset": rows * TR, "duration": 0.0, "trial_type": [f"type{c}" for c in codes[rows]]})
    run = schema.fmri_regions(frame[["bold"]].to_numpy(), roi=["MT"], tr=TR, units="z", events=events)
    found = fir(run, names, 15)
    columns = [np.r_[np.zeros(lag), codes[: len(codes) - lag] == c] for lag in range(15) for c in range(1, 7)]
    design = np.column_stack([*columns, np.ones(len(codes))])
    dense = np.linalg.lstsq(design, frame["bold"].to_numpy(), rcond=None)[0][:-1].reshape(15, 6)
    np.testing.assert_allclose(found.values[..., 0], dense, atol=1e-3)
    seconds = found["lag"].values * TR
    peaks, troughs = seconds[dense.argmax(axis=0)], seconds[dense.argmin(axis=0)]
    assert ((peaks >= 4) & (peaks <= 8)).all()
    assert (troughs >= 16).all()
    assert np.corrcoef(dense.T).min() > 0.9
    assert np.corrcoef(dense.mean(axis=1), get_hrf("spm").density(seconds))[0, 1] > 0.85
