"""Line noise and high gamma: known courses, MNE, lines inside the band, channels that do not measure the brain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import signal
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuroalign import load_model, schema
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.preprocess import BandEnvelope, HighGamma, NotchFilter

SFREQ = 1000.0
ORDER_MATTERS = {
    "check_methods_sample_order_invariance": "samples are points in time, whose order matters",
    "check_methods_subset_invariance": "samples are points in time, whose neighbours matter",
}


@parametrize_with_checks(
    [
        NotchFilter(20, width=20, sfreq=100.0),
        HighGamma(20, 40, n_bands=1, line_freq=0, log=False, zscore=False, sfreq=100.0),
    ],
    expected_failed_checks=lambda _: ORDER_MATTERS,
)
def test_scikit_learn_contract(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def brownian(n: int, n_channels: int, seed: int = 0) -> np.ndarray:
    """Noise whose power falls with the square of frequency, as that of the brain does."""
    steps = np.random.default_rng(seed).normal(size=(n, n_channels))
    return signal.lfilter([1], [1, -0.98], steps, axis=0)


def course(n: int, sfreq: float = SFREQ) -> np.ndarray:
    t = np.arange(n) / sfreq
    return 1.5 + 0.6 * np.sin(2 * np.pi * 0.4 * t) + 0.3 * np.sin(2 * np.pi * 1.1 * t + 1)


def line(n: int, freq: float, sfreq: float = SFREQ, size: float = 20.0) -> np.ndarray:
    """A power line with harmonics that wanders by 0.05 Hz, and swells and fades."""
    t = np.arange(n) / sfreq
    phase = 2 * np.pi * (freq * t + 0.03 * np.sin(2 * np.pi * 0.25 * t))
    return size * (1 + 0.5 * np.sin(2 * np.pi * 0.05 * t)) * sum(np.sin(k * phase) / k for k in (1, 2, 3, 4))


def recording(values: np.ndarray, *, line_freq: float | None = 50.0, first_sample: int = 0) -> xr.Dataset:
    n = values.shape[1]
    return schema.sensors(
        np.vstack([1e-5 * values, np.arange(values.shape[1]) % 2]).astype(np.float32),
        modality="ieeg",
        sfreq=SFREQ,
        channel=[*(f"A{k + 1}" for k in range(len(values))), "TRIG"],
        channel_type=["seeg"] * len(values) + ["stim"],
        units=["V"] * len(values) + ["1"],
        events=pd.DataFrame({"onset": [1.0, n / SFREQ - 1], "trial_type": ["a", "b"]}),
        first_sample=first_sample,
        attrs={} if line_freq is None else {"line_freq": line_freq},
    )


# NotchFilter


@pytest.mark.parametrize("freq", [50.0, 60.0])
def test_line_noise_goes_and_the_rest_stays(freq: float) -> None:
    n = 20_000
    t = np.arange(n) / SFREQ
    kept = np.sin(2 * np.pi * 10 * t) + np.sin(2 * np.pi * (freq - 7) * t) + np.sin(2 * np.pi * (2 * freq + 7) * t)
    out = NotchFilter(freq, sfreq=SFREQ).fit_transform((kept + line(n, freq))[:, None])[:, 0]
    rest = (out - kept)[2000:-2000].std()
    assert rest < 0.003 * line(n, freq).std()
    mne = pytest.importorskip("mne")
    theirs = mne.filter.notch_filter(kept + line(n, freq), SFREQ, np.arange(freq, 500, freq), verbose="error")
    assert rest < 0.5 * (theirs - kept)[2000:-2000].std()


def test_attenuation_against_mne() -> None:
    mne = pytest.importorskip("mne")
    n = 20_000
    t = np.arange(n) / SFREQ
    inside = slice(4000, -4000)

    def gain(function: Callable[[np.ndarray], np.ndarray], f: float) -> float:
        return float(function(np.sin(2 * np.pi * f * t))[inside].std() * np.sqrt(2))

    def ours(x: np.ndarray) -> np.ndarray:
        return NotchFilter(50, sfreq=SFREQ).fit_transform(x[:, None])[:, 0]

    def theirs(x: np.ndarray) -> np.ndarray:
        return mne.filter.notch_filter(x, SFREQ, np.arange(50, 500, 50), verbose="error")

    for f in (50.0, 100.0, 450.0):
        assert gain(ours, f) < 1e-3
        assert gain(ours, f) <= gain(theirs, f)
        assert gain(ours, f + 0.1) < 1e-3  # a line that wanders
    for f in (5.0, 40.0, 45.0, 75.0, 110.0, 333.0):
        np.testing.assert_allclose(gain(ours, f), 1, atol=0.01)
        np.testing.assert_allclose(gain(theirs, f), 1, atol=0.01)
    np.testing.assert_allclose(gain(ours, 51.0), 0.5, atol=0.01)


def test_nothing_is_delayed() -> None:
    pulse = np.zeros((8001, 1))
    pulse[4000] = 1
    out = NotchFilter(50, sfreq=SFREQ).fit_transform(pulse)[:, 0]
    np.testing.assert_allclose(out, out[::-1], atol=1e-6)
    assert out.argmax() == 4000


def test_harmonics_and_several_lines() -> None:
    n = 10_000
    t = np.arange(n) / SFREQ
    waves = {f: np.sin(2 * np.pi * f * t) for f in (50, 100, 150, 60)}
    x = sum(waves.values())[:, None]

    def left(**options: Any) -> list[int]:
        out = NotchFilter(sfreq=SFREQ, **options).fit_transform(x)[2000:-2000, 0]
        return [f for f, wave in waves.items() if abs(np.mean(out * wave[2000:-2000])) > 0.4]

    assert left(freqs=50) == [60]
    assert left(freqs=50, harmonics=1) == [100, 150, 60]
    assert left(freqs=50, harmonics=2) == [150, 60]
    assert left(freqs=(60, 100), harmonics=1) == [50, 150]


def test_the_recording_may_tell_the_line() -> None:
    values = brownian(6000, 2).T + line(6000, 60)
    ds = recording(values, line_freq=60)
    out = NotchFilter().fit_transform(ds)
    np.testing.assert_array_equal(out["ieeg"].values, NotchFilter(60).fit_transform(ds)["ieeg"].values)
    np.testing.assert_array_equal(out["ieeg"].values[2], ds["ieeg"].values[2])  # triggers are left alone
    assert out["units"].identical(ds["units"])
    assert schema.history(out)["steps"][-1]["step"] == "NotchFilter"
    for unknown in (recording(values, line_freq=None), values.T):
        with pytest.raises(ConfigError, match="freqs=50"):
            NotchFilter(sfreq=SFREQ).fit(unknown)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freqs": 600}, "no line noise"),
        ({"freqs": -50}, "Not a frequency"),
        ({"freqs": ()}, "Not a frequency"),
        ({"freqs": 50, "harmonics": 0}, "harmonics"),
        ({"freqs": 50, "width": 0}, "cannot be notched"),
        ({"freqs": 50, "width": 200}, "cannot be notched"),
    ],
)
def test_wrong_notches_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NotchFilter(sfreq=SFREQ, **options).fit_transform(np.random.default_rng(0).normal(size=(5000, 1)))


def test_short_runs_are_refused() -> None:
    with pytest.raises(SchemaError, match="width="):
        NotchFilter(50, sfreq=SFREQ).fit_transform(np.ones((1000, 1)))


# HighGamma


@pytest.mark.parametrize("log", [True, False])
def test_the_course_of_activity_is_found(log: bool) -> None:
    n = 40_000
    hidden = course(n)
    noise = np.random.default_rng(1).normal(size=(n, 3))
    x = 6 * brownian(n, 3) + hidden[:, None] * signal.sosfiltfilt(
        signal.butter(4, (60, 170), "bandpass", fs=SFREQ, output="sos"), 40 * noise, axis=0
    )
    out = HighGamma(line_freq=0, log=log, resample=50, sfreq=SFREQ).fit_transform(x)
    assert out.shape == (2000, 3)
    truth = np.log(hidden[::20]) if log else hidden[::20]
    smooth = signal.sosfiltfilt(signal.butter(2, 2, fs=50, output="sos"), out, axis=0)
    for channel in smooth.T:
        assert np.corrcoef(channel[50:-50], truth[50:-50])[0, 1] > 0.9
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(out.std(axis=0), 1)


@pytest.mark.parametrize("freq", [50.0, 60.0])
def test_lines_inside_the_band_do_not_leak(freq: float) -> None:
    n = 60_000
    activity = (course(n) * np.random.default_rng(2).normal(size=n))[:, None]
    noisy = activity + line(n, freq)[:, None]

    def found(x: np.ndarray, line_freq: float) -> np.ndarray:
        return HighGamma(line_freq=line_freq, resample=100, sfreq=SFREQ).fit_transform(x)[200:-200, 0]

    clean = found(activity, freq)
    assert np.corrcoef(found(noisy, freq), clean)[0, 1] > 0.999
    assert np.corrcoef(found(noisy, 0), clean)[0, 1] < 0.97
    truth = np.log(course(n))[::10][200:-200]
    smooth = signal.sosfiltfilt(signal.butter(2, 2, fs=100, output="sos"), found(noisy, freq))
    assert np.corrcoef(smooth, truth)[0, 1] > 0.9


def test_bands_count_alike() -> None:
    n = 30_000
    rng = np.random.default_rng(3)
    low, high = (
        signal.sosfiltfilt(signal.butter(4, band, "bandpass", fs=SFREQ, output="sos"), rng.normal(size=n))
        for band in ((72, 100), (105, 148))
    )
    t = np.arange(n) / SFREQ
    slow, fast = 1 + 0.8 * np.sin(2 * np.pi * 0.3 * t), 1 + 0.8 * np.sin(2 * np.pi * 0.7 * t)
    x = (100 * slow * low + fast * high)[:, None]  # 40 dB between them
    both = HighGamma(line_freq=0, log=False, sfreq=SFREQ).fit_transform(x)[:, 0]
    plain = BandEnvelope(70, 150, sfreq=SFREQ).fit_transform(x)[:, 0]
    assert np.corrcoef(both, fast)[0, 1] > 0.25
    assert np.corrcoef(plain, fast)[0, 1] < 0.1


def test_one_band_is_the_band_envelope() -> None:
    x = np.random.default_rng(0).normal(size=(3000, 2))
    one = HighGamma(n_bands=1, line_freq=0, log=False, zscore=False, sfreq=SFREQ).fit_transform(x)
    plain = BandEnvelope(70, 150, sfreq=SFREQ).fit_transform(x)
    np.testing.assert_allclose(one, plain / plain.mean(axis=0), rtol=1e-12)


def test_a_dataset_keeps_what_measures_the_brain() -> None:
    ds = recording(brownian(8000, 2).T, first_sample=2000)
    out = HighGamma(resample=100).fit_transform(ds)
    schema.validate(out, "ieeg")
    assert out["channel"].values.tolist() == ["A1", "A2"]
    assert out.attrs["units"] == out["ieeg"].attrs["units"] == "z"
    assert "units" not in out.coords
    assert (out.attrs["sfreq"], out.attrs["first_sample"], out.sizes["time"]) == (100.0, 200, 800)
    assert (out.attrs["highpass"], out.attrs["lowpass"]) == (0.0, 50.0)
    np.testing.assert_array_equal(out["onset"], ds["onset"])
    part = HighGamma(resample=100).fit_transform(ds["ieeg"].assign_attrs(line_freq=50.0))
    np.testing.assert_array_equal(part.values, out["ieeg"].values)


def test_runs_stand_alone(tmp_path: Path) -> None:
    a, b = (recording(brownian(5000, 2, seed).T)["ieeg"] for seed in (1, 2))
    both = xr.concat(
        [a.assign_coords(run=("time", ["1"] * 5000)), (50 * b).assign_coords(run=("time", ["2"] * 5000))], "time"
    )
    model = HighGamma(line_freq=50, resample=100).fit(both)
    out = model.transform(both)
    for k, part in enumerate((a, b)):
        alone = HighGamma(line_freq=50, resample=100).fit_transform(part)
        np.testing.assert_allclose(out.values[:, 500 * k : 500 * (k + 1)], alone.values, atol=2e-4)
    model.save(tmp_path / "model")
    xr.testing.assert_identical(load_model(tmp_path / "model").transform(both), out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_bands": 0}, "set of bands"),
        ({"low": 150, "high": 70}, "set of bands"),
        ({"n_bands": 40}, "smaller n_bands"),
        ({"line_freq": None}, "line_freq=50"),
        ({"high": 600}, "band cannot be filtered"),
    ],
)
def test_wrong_bands_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HighGamma(**{"line_freq": 50, "sfreq": SFREQ} | options).fit_transform(brownian(5000, 1))


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_dead_channels_are_refused(value: float) -> None:
    x = brownian(5000, 2)
    x[:, 1] = value
    with pytest.raises(SchemaError, match="1 of 2 channels are constant"):
        HighGamma(line_freq=50, sfreq=SFREQ).fit_transform(x)
    ds = recording(x.T).isel(channel=[2])
    with pytest.raises(SchemaError, match="measures the brain"):
        HighGamma().fit(ds)


def test_real_seeg(real_data: Callable[[str], Path]) -> None:
    mne = pytest.importorskip("mne")
    raw = mne.io.read_raw_edf(real_data("ieeg-mne-misc") / "sample_seeg.edf", preload=True, verbose="error")
    x = raw.get_data()[:12].T
    out = HighGamma(line_freq=60, sfreq=1000.0, resample=100).fit_transform(x)
    assert out.shape == (2000, 12)
    assert np.isfinite(out).all()
    _, before = signal.welch(x, 1000.0, nperseg=2000, axis=0)
    freqs, after = signal.welch(NotchFilter(60, sfreq=1000.0).fit_transform(x), 1000.0, nperseg=2000, axis=0)
    at, beside = np.abs(freqs - 60) < 0.1, (np.abs(freqs - 60) > 5) & (np.abs(freqs - 60) < 10)
    assert (after[at] < 0.05 * after[beside].mean(axis=0)).all()
    np.testing.assert_allclose(after[beside], before[beside], rtol=0.05)


def test_real_trials(real_data: Callable[[str], Path]) -> None:
    with np.load(real_data("seeg-tensorpac-motor") / "seeg_data_pac.npz") as file:
        x = xr.DataArray(
            file["data"][:20].astype(float),
            dims=("trial", "time"),
            coords={"time": schema.time_index(4001, 1024.0, -1000)},
            attrs={"sfreq": 1024.0},
        )
    out = HighGamma(line_freq=50, resample=128.0).fit_transform(x)
    assert out.dims == ("trial", "time")
    assert out.sizes["time"] == 501
    assert out["time"].values[0] == -1000 / 1024
    np.testing.assert_allclose(out.std("time"), 1, rtol=1e-6)
    alone = HighGamma(line_freq=50, resample=128.0).fit_transform(x.isel(trial=[7]))
    np.testing.assert_allclose(alone.values[0], out.values[7], atol=1e-9)


@pytest.mark.parametrize("step", [NotchFilter(), HighGamma(20, 40, n_bands=2), BandEnvelope(20, 40)])
def test_runs_of_a_tree(step: Any) -> None:
    runs = [
        schema.sensors(
            brownian(2000, 2, seed).T, modality="ieeg", sfreq=200.0, channel=["a", "b"], units="V",
            channel_type=["seeg"] * 2, attrs={"line_freq": 50.0},
        )
        for seed in range(2)
    ]  # fmt: skip
    tree = xr.DataTree.from_dict({"/run-1": runs[0], "/run-2": runs[1]})
    out = step.fit(tree).transform(tree)
    xr.testing.assert_identical(out["run-2"].to_dataset(), step.transform(runs[1]))
