"""Resampling: known waves, aliases, clocks, events, runs, trigger codes, and the way to MNE."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import signal

from neuroalign import schema
from neuroalign.align import epochs
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.preprocess import BandEnvelope, BandPass, Resampler

RATES = [(1000.0, 128.0), (2048.0, 100.0), (512.0, 100.0), (1000.0, 250.0), (999.4121105232217, 124.92651381540271)]


def recording(
    values: np.ndarray, sfreq: float, *, first_sample: int = 0, codes: np.ndarray | None = None, **attrs: float
) -> xr.Dataset:
    n = values.shape[1]
    rows = [values] if codes is None else [values, codes[None]]
    kinds = ["eeg"] * len(values) + ["stim"] * (codes is not None)
    onset = np.array([0.25, 0.5 * n / sfreq, 0.75 * n / sfreq])
    return schema.sensors(
        np.vstack(rows).astype(np.float32),
        modality="eeg",
        sfreq=sfreq,
        channel=[f"C{k}" for k in range(len(kinds))],
        channel_type=kinds,
        units=["V" if kind == "eeg" else "1" for kind in kinds],
        events=pd.DataFrame({"onset": onset, "trial_type": ["a", "b", "c"]}),
        first_sample=first_sample,
        attrs=attrs,
    )


def waves(t: np.ndarray, highest: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    freqs, phases = rng.uniform(0.5, highest, 40), rng.uniform(0, 2 * np.pi, 40)
    return np.sin(2 * np.pi * freqs * t[:, None] + phases).mean(axis=1)


@pytest.mark.parametrize(("old", "new"), RATES)
def test_waves_below_the_new_limit_are_kept(old: float, new: float) -> None:
    n = int(20 * old)
    highest = 0.8 * new / 2
    x = waves(np.arange(n) / old, highest)
    out = Resampler(new, sfreq=old).fit_transform(x[:, None])[:, 0]
    assert len(out) == np.ceil(n * new / old - 1e-6)
    truth = waves(np.arange(len(out)) / new, highest)
    inside = slice(int(new), -int(new))
    assert np.std((out - truth)[inside]) < 2e-3 * truth.std()


@pytest.mark.parametrize(("old", "new"), RATES)
def test_waves_above_the_new_limit_do_not_come_back(old: float, new: float) -> None:
    t = np.arange(int(20 * old)) / old
    for f in (0.6 * new, 0.75 * new, 0.99 * new):
        out = Resampler(new, sfreq=old).fit_transform(np.sin(2 * np.pi * f * t)[:, None])
        assert out[int(new) : -int(new)].std() < 2e-3  # 54 dB


def test_equal_to_scipy_and_close_to_mne() -> None:
    mne = pytest.importorskip("mne")
    x = waves(np.arange(20_000) / 1000, 50)[:, None]
    out = Resampler(128, sfreq=1000.0).fit_transform(x)
    np.testing.assert_allclose(out, signal.resample_poly(x, 16, 125, axis=0, padtype="symmetric"), atol=1e-12)
    out = Resampler(250, sfreq=1000.0).fit_transform(x)[:, 0]
    theirs = mne.filter.resample(x[:, 0], up=1, down=4, verbose="error")
    np.testing.assert_allclose(out[250:-250], theirs[250:-250], atol=2e-3 * np.abs(theirs).max())


@pytest.mark.parametrize(("old", "new", "first"), [(1000.0, 128.0, 1250), (2048.0, 100.0, 512 * 7), (500.0, 50.0, 0)])
def test_events_stay_where_they_were(old: float, new: float, first: int) -> None:
    n = int(8 * old)
    t = np.arange(n) / old
    ds = recording(np.zeros((1, n)), old, first_sample=first)
    bump = sum(np.exp(-0.5 * ((t - onset - 0.2) / 0.03) ** 2) for onset in ds["onset"].values)
    ds = ds.assign(eeg=ds["eeg"] + xr.DataArray(1e-5 * bump.astype(np.float32), dims="time"))
    out = Resampler(new).fit_transform(ds)
    schema.validate(out, "eeg")
    assert (out.attrs["sfreq"], out["eeg"].attrs["sfreq"]) == (new, new)
    assert out.attrs["first_sample"] == first * new / old
    np.testing.assert_array_equal(out["onset"], ds["onset"])
    np.testing.assert_allclose(out["time"].values[0], ds["time"].values[0], atol=1e-12)
    for data, sfreq in ((ds, old), (out, new)):
        peak = epochs(data, tmin=0.0, tmax=0.4)["eeg"].mean("trial")[0]
        np.testing.assert_allclose(float(peak["time"][int(np.argmax(peak.values))]), 0.2, atol=1 / sfreq)


def test_events_of_a_part_keep_their_time() -> None:
    ds = recording(waves(np.arange(4000) / 500, 20)[None], 500.0, first_sample=1003)
    part = ds.isel(time=slice(7, None))  # starts on a sample of the new clock; the file did not
    out = Resampler(50).fit_transform(part)
    assert out.attrs["first_sample"] == 100
    then = ds.attrs["first_sample"] / 500 + ds["onset"].values
    np.testing.assert_allclose(out.attrs["first_sample"] / 50 + out["onset"].values, then, atol=1e-12)
    with pytest.raises(SchemaError, match="leave out the first 7 samples"):
        Resampler(50).fit_transform(ds)


def test_runs_are_never_mixed() -> None:
    a, b = (recording(waves(np.arange(3001) / 1000, 40, seed)[None], 1000.0)["eeg"] for seed in (1, 2))
    a, b = (x.assign_coords(run=("time", [name] * 3001)) for x, name in ((a, "1"), (1000 * b, "2")))
    out = Resampler(128).fit_transform(xr.concat([a, b], "time"))
    alone = [Resampler(128).fit_transform(x) for x in (a, b)]
    np.testing.assert_array_equal(out.values, np.concatenate([x.values for x in alone], axis=1))
    np.testing.assert_array_equal(out["time"], np.concatenate([x["time"] for x in alone]))
    assert out["run"].values.tolist() == ["1"] * 385 + ["2"] * 385


def test_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(3000, 7)).astype(np.float32)
    whole = BandPass(5, 20, resample=100, sfreq=500).fit_transform(x)
    monkeypatch.setattr("neuroalign.preprocess._timewise._BLOCK", 8 * 3000 * 2)
    np.testing.assert_array_equal(BandPass(5, 20, resample=100, sfreq=500).fit_transform(x), whole)


def test_no_code_is_lost() -> None:
    codes = np.zeros(5000)
    codes[[100, 107, 2001, 2002, 4999]] = [3, 9, 5, 6, 7]
    codes[3000:3100] = 12
    ds = recording(waves(np.arange(5000) / 1000, 20)[None], 1000.0, codes=codes)
    out = Resampler(100).fit_transform(ds)["eeg"].values[1]
    expected = np.zeros(500)
    expected[[10, 200, 499]] = [3, 5, 7]
    expected[300:310] = 12
    np.testing.assert_array_equal(out, expected)
    odd = Resampler(128).fit_transform(ds)["eeg"].values[1]
    assert set(odd) == {0, 3, 9, 5, 12, 7}
    kept = BandPass(1, 20).fit_transform(ds)["eeg"].values[1]
    np.testing.assert_array_equal(kept, codes.astype(np.float32))
    trials = xr.concat([ds["eeg"], 2 * ds["eeg"]], "trial")
    both = Resampler(100).fit_transform(trials)
    np.testing.assert_array_equal(both.values[:, 1], [expected, 2 * expected])


def test_attrs_say_what_is_left_of_the_band() -> None:
    ds = recording(waves(np.arange(8000) / 1000, 20)[None], 1000.0, highpass=0.1, lowpass=330.0)
    ds = schema.stamp(ds, "read_eeg")

    def band(out: xr.Dataset) -> tuple[float, float]:
        return out.attrs["highpass"], out.attrs["lowpass"]

    assert band(Resampler(128).fit_transform(ds)) == (0.1, 64.0)
    assert band(Resampler(None).fit_transform(ds)) == (0.1, 330.0)
    assert band(BandPass(1, 40).fit_transform(ds)) == (1.0, 40.0)
    assert band(BandPass(1, 40, resample=50).fit_transform(ds)) == (1.0, 25.0)
    assert band(BandEnvelope(70, 150, resample=50).fit_transform(ds)) == (0.0, 25.0)
    steps = schema.history(BandPass(1, 40).fit_transform(Resampler(250).fit_transform(ds)))["steps"]
    assert [step["step"] for step in steps] == ["read_eeg", "Resampler", "BandPass"]


def test_rates_without_a_simple_ratio_name_one() -> None:
    x = recording(np.ones((1, 5000)), 1000.0)
    with pytest.raises(ConfigError, match=r"resample=100$"):
        Resampler(100.0005).fit_transform(x)
    with pytest.raises(ConfigError, match="simple ratio"):
        Resampler(2000).fit_transform(x)


def test_mne_gets_the_new_clock(real_data: Callable[[str], Path]) -> None:
    mne = pytest.importorskip("mne")
    from neuroalign.convert import from_mne, to_mne

    raw = mne.io.read_raw_fif(
        real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif", preload=True, verbose="error"
    )
    raw.pick(["MEG 0111", "MEG 0112", "EEG 001", "STI 014"])
    ds = from_mne(raw)
    out = Resampler(ds.attrs["sfreq"] / 3).fit_transform(ds.isel(time=slice(-ds.attrs["first_sample"] % 3, None)))
    back = to_mne(out)
    assert back.info["sfreq"] == pytest.approx(raw.info["sfreq"] / 3)
    assert back.info["lowpass"] == pytest.approx(min(raw.info["lowpass"], raw.info["sfreq"] / 6))
    ours, theirs = (mne.find_events(r, "STI 014", shortest_event=1, verbose="error") for r in (back, raw))
    np.testing.assert_array_equal(ours[:, 2], theirs[:, 2])
    np.testing.assert_allclose(ours[:, 0] / back.info["sfreq"], theirs[:, 0] / raw.info["sfreq"], atol=3 / 600)
    np.testing.assert_allclose(
        out["onset"].values + out.attrs["first_sample"] / out.attrs["sfreq"],
        ds["onset"].values + ds.attrs["first_sample"] / ds.attrs["sfreq"],
        atol=1e-9,
    )
