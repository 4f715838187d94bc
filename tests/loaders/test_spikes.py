"""Spike times from files."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import xarray as xr

import neuroalign as na
from neuroalign import align, schema
from neuroalign.encoding import TRFEncoder
from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError, NeuroalignWarning, SchemaError
from neuroalign.loaders import read_spikes
from neuroalign.preprocess import Resampler


def written(path, text):
    path.write_text(text)
    return path


def test_a_list_of_times(tmp_path):
    path = written(tmp_path / "cell.txt", "# header: 1\r\n% another\r\n\r\n6700\r\n9900\r\n13900\r\n\r\n")
    ds = read_spikes(path, units="us", stop=0.02)
    assert ds["spikes"].values.tolist() == [6700, 9900, 13900]
    assert ds["neuron"].values.tolist() == ["cell"]
    assert ds.attrs["sfreq"] == 1e6
    assert ds.attrs["n_samples"] == 20000
    assert schema.history(ds)["sources"][0]["name"] == "cell.txt"
    assert na.load(path, modality="spikes", units="us", stop=0.02).identical(ds)
    with pytest.raises(ConfigError, match="modality='spikes'"):
        na.load(path)


@pytest.mark.parametrize(
    ("units", "sfreq", "scale"),
    [("s", None, 1.0), ("ms", None, 1e-3), ("us", None, 1e-6), ("µs", None, 1e-6), ("samples", 20000.0, 1 / 20000)],
)
def test_units(tmp_path, units, sfreq, scale):
    rng = np.random.default_rng(0)
    samples = np.sort(rng.choice(10**6, 200, replace=False)) * (1 if units == "samples" else 2)
    values = samples if units == "samples" else samples / 1e6 / scale
    path = written(tmp_path / "cell.txt", "\n".join(f"{v:.10g}" for v in values))
    ds = read_spikes(path, units=units, sfreq=sfreq, stop=1000.0)
    np.testing.assert_array_equal(ds["spikes"], samples)


def test_tables_name_their_neurons(tmp_path):
    rows = [("a", 0.3), ("b", 0.1), ("a", 0.4), ("b", 0.4)]
    for suffix, comma in ((".csv", ","), (".tsv", "\t"), (".txt", "  ")):
        text = f"neuron{comma}time\n" + "".join(f"{n}{comma}{t}\n" for n, t in rows)
        ds = read_spikes(written(tmp_path / f"table{suffix}", text), units="s", stop=1.0, sfreq=1000)
        assert ds["spikes"].values.tolist() == [100, 300, 400, 400]
        assert ds["spike_neuron"].values.tolist() == ["b", "a", "a", "b"]
    text = "unit,when,where\na,0.3,x\nb,0.4,y\n"
    path = written(tmp_path / "odd.csv", text)
    with pytest.raises(ConfigError, match="pass times="):
        read_spikes(path, units="s", stop=1.0)
    ds = read_spikes(path, units="s", stop=1.0, times="when", neurons="where")
    assert ds["neuron"].values.tolist() == ["x", "y"]
    with pytest.raises(ConfigError, match="no such entry"):
        read_spikes(path, units="s", stop=1.0, times="then")


def test_arrays(tmp_path):
    times, clusters = np.array([0.25, 0.5, 0.75]), np.array([7, 3, 7])
    np.savez(tmp_path / "a.npz", spike_times=times, spike_clusters=clusters)
    scipy.io.savemat(tmp_path / "a.mat", {"spike_times": times, "spike_clusters": clusters.astype(float)})
    for name in ("a.npz", "a.mat"):
        ds = read_spikes(tmp_path / name, units="s", stop=1.0)
        assert ds["neuron"].values.tolist() == [3, 7]
        assert ds["spike_neuron"].values.tolist() == [7, 3, 7]
    np.save(tmp_path / "cell9.npy", (times * 30000).astype(np.uint64))
    ds = read_spikes(tmp_path / "cell9.npy", units="samples", sfreq=30000, stop=1.0)
    assert ds["spike_time"].values.tolist() == times.tolist()
    assert ds["neuron"].values.tolist() == ["cell9"]
    np.savez(tmp_path / "b.npz", spike_times=times, spike_clusters=clusters[:2])
    with pytest.raises(SchemaError, match="one neuron a spike"):
        read_spikes(tmp_path / "b.npz", units="s", stop=1.0)
    np.savez(tmp_path / "c.npz", spike_times=np.array([0.1, np.nan]))
    with pytest.raises(SchemaError, match="not finite"):
        read_spikes(tmp_path / "c.npz", units="s", stop=1.0)


def test_events_come_along(tmp_path):
    events = written(tmp_path / "events.tsv", "onset\tduration\tstimulus_id\n0.1\t0.1\tcat\n")
    ds = read_spikes(written(tmp_path / "cell.txt", "1.15\n"), units="s", start=1.0, stop=2.0, events=events)
    trials = align.epochs(align.bin_spikes(ds, sfreq=100), tmin=0, tmax=0.1)
    assert trials["spikes"].values.ravel().nonzero()[0].tolist() == [5]
    events.write_text("onset\tduration\n100\t0.1\n")
    with pytest.raises(SchemaError, match="milliseconds"):
        read_spikes(tmp_path / "cell.txt", units="s", start=1.0, stop=2.0, events=events)


@pytest.mark.parametrize(
    ("text", "options", "word"),
    [
        ("1\n2\n", {"stop": 9}, "unit of the spike times"),
        ("1\n2\n", {"units": "s"}, "when the recording of spikes ended"),
        ("1\n2\n", {"units": "mV", "stop": 9}, "Not a unit of time"),
        ("1\n2\n", {"units": "minutes", "stop": 9}, "Unknown unit"),
        ("1\n2\n", {"units": "samples", "stop": 9}, "which clock"),
        ("1\n2.5\n", {"units": "samples", "sfreq": 10, "stop": 9}, "whole numbers"),
        ("1\n2\n", {"units": "s", "stop": 2.0}, "1 of 2 spikes lie outside"),
        ("1\n2\n", {"units": "s", "stop": 9, "start": 1.5}, "1 of 2 spikes lie outside"),
        ("1\n3\n2\n", {"units": "s", "stop": 9}, r"line 3"),
        ("1\nx\n", {"units": "s", "stop": 9}, r"line 2"),
        ("1\n2,5\n", {"units": "s", "stop": 9}, "decimals with a point"),
        ("1\nnan\n", {"units": "s", "stop": 9}, "finite number"),
        ("1\n2 3\n", {"units": "s", "stop": 9}, "another length"),
        ("1 2\n2 3\n", {"units": "s", "stop": 9}, "no names"),
        ("1e300\n", {"units": "s", "stop": 9}, "too large"),
        ("1\n", {"units": "s", "stop": 0}, "Not a window"),
        ("1\n", {"units": "s", "stop": 9, "sfreq": 0}, "sampling rate"),
    ],
)
def test_bad_lists(tmp_path, text, options, word):
    with pytest.raises((SchemaError, ConfigError), match=word):
        read_spikes(written(tmp_path / "cell.txt", text), **options)


def test_bad_files(tmp_path):
    with pytest.raises(IntegrityError, match="no such file"):
        read_spikes(tmp_path / "none.txt", units="s", stop=1)
    with pytest.raises(ConfigError, match="kind of file"):
        read_spikes(written(tmp_path / "cell.doc", "1"), units="s", stop=1)
    (tmp_path / "cell.txt").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(IntegrityError, match="pickle"):
        read_spikes(tmp_path / "cell.txt", units="s", stop=1)


def test_no_spikes_are_no_error(tmp_path):
    ds = read_spikes(written(tmp_path / "cell.txt", "# silent\n"), units="s", stop=1.0)
    assert ds.sizes["spike"] == 0


def test_milliseconds_taken_for_microseconds_are_noted(tmp_path):
    times = "\n".join(str(n) for n in range(0, 9999, 7))
    with pytest.warns(NeuroalignWarning, match="wrong unit"):
        read_spikes(written(tmp_path / "cell.txt", times), units="us", stop=0.01)


@pytest.mark.parametrize("at", [0, 1, 7, 40, 80, 127, 200, 300, -1])
@pytest.mark.parametrize("kind", ["npy", "npz", "mat"])
def test_cut_arrays_are_refused(tmp_path, kind, at):
    path = tmp_path / f"spike_times.{kind}"
    times = np.arange(1, 40) / 10
    {
        "npy": lambda: np.save(path, times),
        "npz": lambda: np.savez(path, spike_times=times),
        "mat": lambda: scipy.io.savemat(path, {"spike_times": times}),
    }[kind]()
    data = path.read_bytes()
    path.write_bytes(data[:at])
    with pytest.raises(NeuroalignError):
        read_spikes(path, units="s", stop=10.0)


@pytest.mark.parametrize(("number", "n_spikes", "expected"), [(1, 929, 0.40), (2, 868, 0.33)])
def test_real_grasshopper(real_data, number, n_spikes, expected):
    """The amplitude of the sound predicts the spikes of an auditory receptor, in seconds that were not fitted."""
    folder = real_data("nitime-fmri-spikes")
    path = folder / f"grasshopper_spike_times{number}.txt"
    with pytest.raises(SchemaError, match="units="):
        read_spikes(path, stop=10.0)
    ds = na.load(path, modality="spikes", units="us", stop=10.0)
    known = np.array([int(line) for line in path.read_text().split("\n") if line and not line.startswith("#")])
    assert len(known) == n_spikes
    np.testing.assert_array_equal(ds["spikes"], known)
    assert f"median {n_spikes / 10:.3g} Hz" in ds.neuro.summary()
    micros, amplitude = np.loadtxt(folder / f"grasshopper_stimulus{number}.txt", unpack=True)
    sound = sound_of(micros, amplitude)
    X = Resampler(500).fit_transform(sound)
    X, y = align.join(X, align.bin_spikes(ds, like=X)["spikes"])
    assert float(y.sum()) == n_spikes
    trf = TRFEncoder(tmin=-0.01, tmax=0.04).fit(X[:4000], y[:4000])
    response = trf.response_.values[0, :, 0]
    assert 0.002 <= trf.lags_[np.argmax(response)] <= 0.008  # a receptor follows its sound by milliseconds
    assert trf.score_map(X[4000:], y[4000:]).item() > expected
    backwards = X.copy(data=X.values[::-1])
    null = TRFEncoder(tmin=-0.01, tmax=0.04).fit(backwards[:4000], y[:4000])
    assert abs(null.score_map(backwards[4000:], y[4000:]).item()) < 0.2


def sound_of(micros, amplitude):
    return xr.DataArray(
        amplitude[:, None],
        dims=("time", "unit"),
        coords={"time": schema.time_index(len(micros), 20000.0, round(micros[0] / 50)), "unit": ["amplitude"]},
        attrs={"sfreq": 20000.0},
    )
