"""Appending: what comes back is what one store of everything would hold."""

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuroalign import schema, storage
from neuroalign.errors import AlignmentError, ConfigError, IntegrityError, SchemaError


def recording(n, first_sample=0, *, n_channels=4, sfreq=100.0, seed=0, events=(), integers=False):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n_channels, n)) * 300
    values = (values.round() + 0.0) * 1e-7 if integers else values * 1e-7
    table = pd.DataFrame({"onset": np.array(events, float), "word": [f"w{k}" for k in events]}) if events else None
    return schema.sensors(
        values.astype("f4"),
        modality="eeg",
        sfreq=sfreq,
        channel=[f"E{k}" for k in range(n_channels)],
        units="V",
        first_sample=first_sample,
        events=table,
    )


@pytest.mark.parametrize("cuts", [(200, 300), (20, 5, 300), (900, 900), (1, 1, 1, 1)])
@pytest.mark.parametrize("chunks", [None, {"time": 64}, {"time": 37, "channel": 3}])
def test_time_goes_on(tmp_path, cuts, chunks):
    whole = recording(sum(cuts))
    edges = np.cumsum([0, *cuts])
    path = tmp_path / "x.zarr"
    for k, (a, b) in enumerate(itertools.pairwise(edges)):
        part = whole.isel(time=slice(a, b)).assign_attrs(first_sample=int(a))
        storage.append(part, path) if k else storage.save(part, path, chunks=chunks)
    for lazy in (True, False):
        xr.testing.assert_identical(storage.open(path, verify="full", lazy=lazy), whole)
    assert [p.name for p in path.iterdir() if p.name.startswith(".append")] == []


def test_zeros_are_written_too(tmp_path):
    x = xr.DataArray(np.zeros((2, 10)), dims=("channel", "time"), coords={"time": np.arange(10.0)}, name="x")
    path = storage.save(x, tmp_path / "x.zarr", chunks={"time": 4})
    storage.append(x.assign_coords(time=np.arange(10.0, 20.0)), path, dim="time")
    assert (storage.open(path).values == np.zeros((2, 20))).all()


def test_shards_and_integers_go_on(tmp_path):
    whole = recording(330_000, n_channels=8, sfreq=1000.0, integers=True)
    path = storage.save(whole.isel(time=slice(130_001)), tmp_path / "x.zarr", quantize="int16")
    files = {p: p.stat().st_mtime_ns for p in (path / "eeg/c").rglob("*") if p.is_file()}
    storage.append(whole.isel(time=slice(130_001, None)), path)
    xr.testing.assert_identical(storage.open(path, verify="full").load(), whole)
    assert len(files) == 1
    assert len([p for p in (path / "eeg/c").rglob("*") if p.is_file()]) == 3
    other = xr.open_zarr(path, chunks=None)
    np.testing.assert_allclose(other["eeg"].values, whole["eeg"].values, rtol=1e-6, atol=1e-12)


def test_values_between_the_steps_are_refused(tmp_path):
    whole = recording(2000, integers=True)
    path = storage.save(whole.isel(time=slice(1000)), tmp_path / "x.zarr", quantize="int16")
    late = recording(1000, 1000, integers=True, seed=3)
    with pytest.raises(SchemaError, match="between the steps"):
        storage.append(late.assign(eeg=late["eeg"] + np.float32(3e-8)), path)
    xr.testing.assert_identical(storage.open(path, verify="full").load(), whole.isel(time=slice(1000)))
    gap = late.copy(deep=True)
    gap["eeg"][:, 10:20] = np.nan
    storage.append(gap, path)
    np.testing.assert_array_equal(storage.open(path)["eeg"][:, 1000:], gap["eeg"])


def test_events_move_to_the_clock_of_the_store(tmp_path):
    path = storage.save(recording(500, events=(1, 2)), tmp_path / "x.zarr")
    storage.append(recording(500, 500, events=(1, 4)), path)
    storage.append(recording(100, 1000), path)  # a stretch without events
    got = storage.open(path)
    assert got["onset"].values.tolist() == [1.0, 2.0, 6.0, 9.0]
    assert got["word"].values.tolist() == ["w1", "w2", "w1", "w4"]
    assert got.sizes["time"] == 1100


def trials(first, n, words=True):
    ds = xr.Dataset(
        {"eeg": (("trial", "channel", "time"), np.random.default_rng(first).standard_normal((n, 3, 5)).astype("f4"))},
        coords={"trial": np.arange(first, first + n), "channel": ["a", "b", "c"], "time": np.arange(5) / 10.0},
        attrs={"sfreq": 10.0, "units": "V"},
    )
    if words:
        ds = ds.assign_coords(
            word=("trial", np.array([f"w{k}" if k % 3 else np.nan for k in range(first, first + n)], dtype=object)),
            name=("trial", [f"n{10**k}" for k in range(first, first + n)]),
            when=("trial", pd.date_range("2020-01-01", periods=first + n).to_numpy()[first:]),
        )
    return ds


def test_slices_of_a_recording_bring_their_events_once(tmp_path):
    whole = recording(1000, first_sample=7, events=(0.5, 3.2, 9.0))
    path = storage.save(whole.isel(time=slice(400)), tmp_path / "x.zarr")
    for start in (400, 700):
        storage.append(whole.isel(time=slice(start, start + 300)), path)
    xr.testing.assert_identical(storage.open(path).load(), whole)
    # Runs that start anew may hold the same events.
    run = recording(100, events=(0.5,))
    path = storage.save(run.assign_coords(run=("time", ["1"] * 100)), tmp_path / "runs.zarr")
    storage.append(run.assign_coords(run=("time", ["2"] * 100)), path)
    assert storage.open(path).sizes["event"] == 2


def test_the_same_word_at_another_time_is_another_event(tmp_path):
    path = storage.save(recording(1000, first_sample=7, events=(0.5, 3.2, 9.0)), tmp_path / "x.zarr")
    more = recording(200, first_sample=1007, events=(0.5,))
    storage.append(more, path)
    np.testing.assert_allclose(storage.open(path)["onset"].values, [0.5, 3.2, 9.0, 10.5])


def test_trials_go_on_with_text_missing_text_and_dates(tmp_path):
    parts = [trials(0, 4), trials(4, 3), trials(7, 1)]
    path = storage.save(parts[0], tmp_path / "x.zarr")
    for part in parts[1:]:
        storage.append(part, path)
    expected = xr.concat(parts, "trial")
    got = storage.open(path, verify="full")
    xr.testing.assert_identical(got.load(), expected)
    assert got["name"].dtype == expected["name"].dtype


def test_a_dataarray_goes_on_and_sources_are_collected(tmp_path):
    one, two = (trials(k, 4, words=False)["eeg"] for k in (0, 4))
    one = one.assign_attrs(neuro_sources=["a"], units="V")
    two = two.assign_attrs(neuro_sources=["b"], units="V")
    path = storage.save(one.rename(None), tmp_path / "x.zarr", inputs={"a": "0" * 64})
    storage.append(two, path, dim="trial", inputs={"b": "1" * 64})
    got = storage.open(path)
    assert got.name is None
    assert got.attrs["neuro_sources"] == ["a", "b"]
    np.testing.assert_array_equal(got.values, np.concatenate([one.values, two.values]))
    assert storage.verify(path, "full")["inputs"] == {"a": "0" * 64, "b": "1" * 64}


def test_a_tree_gets_another_run(tmp_path):
    tree = xr.DataTree.from_dict({"/sub-01/run-01": recording(50)})
    path = storage.save(tree, tmp_path / "x.zarr")
    storage.append(recording(70, seed=1), path, run="sub-01/run-02")
    storage.append(recording(60, seed=2, integers=True), path, run="/sub-02/ses-01/run-01/")
    storage.append(recording(30, 50, seed=3), path, run="sub-01/run-01", dim="time")
    got = storage.open(path, verify="full")
    assert [node.path for node in got.leaves] == ["/sub-01/run-01", "/sub-01/run-02", "/sub-02/ses-01/run-01"]
    assert got["sub-01/run-01"].sizes["time"] == 80
    xr.testing.assert_identical(got["sub-01/run-02"].to_dataset(), recording(70, seed=1))
    other = xr.open_datatree(path, engine="zarr", chunks=None)
    assert set(other.groups) == set(got.groups)


@pytest.mark.filterwarnings("error")
def test_appending_never_warns_about_text(tmp_path):
    path = storage.save(trials(0, 2), tmp_path / "x.zarr")
    storage.append(trials(2, 2), path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: ds.assign_coords(channel=list("abcd")), "channel is not the same"),
        (lambda ds: ds.isel(channel=[1, 0, 2, 3]), "channel is not the same"),
        (lambda ds: ds.isel(channel=slice(3)), "dimensions"),
        (lambda ds: ds.assign_coords(time=ds["time"] - 5), "does not go on"),
        (lambda ds: ds.assign_attrs(sfreq=99.0), "Another sfreq"),
        (lambda ds: ds.assign_attrs(units="T"), "Another units"),
        (lambda ds: ds.drop_vars("channel_type"), "Not the variables"),
        (lambda ds: ds.assign(more=ds["eeg"]), "Not the variables"),
        (lambda ds: ds.astype("f8"), "type that is stored"),
        (lambda ds: ds.rename(time="t"), "no dimension time"),
        (lambda ds: ds["eeg"], "kind of object"),
        (lambda ds: ds["eeg"].values, "cannot be appended"),
    ],
)
def test_what_does_not_go_on_is_refused_and_nothing_changes(tmp_path, change, words):
    path = storage.save(recording(100), tmp_path / "x.zarr")
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with pytest.raises((AlignmentError, SchemaError), match=words):
        storage.append(change(recording(100, 100)), path)
    after = {p: p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"}
    assert before == after


def test_labels_that_are_there_already_are_refused(tmp_path):
    path = storage.save(trials(0, 4), tmp_path / "x.zarr")
    with pytest.raises(AlignmentError, match=r"np\.arange\(new\.sizes\['trial'\]\) \+ 4"):
        storage.append(trials(0, 4), path)
    tree = storage.save(xr.DataTree.from_dict({"/run-01": recording(50)}), tmp_path / "t.zarr")
    with pytest.raises(AlignmentError, match="in the store already"):
        storage.append(recording(50), tree, run="run-01")
    with pytest.raises(ConfigError, match="no such run"):
        storage.append(recording(50), tree, run="run-09", dim="time")
    with pytest.raises(ConfigError, match="name the new one"):
        storage.append(recording(50), tree)
    with pytest.raises(ConfigError, match="DataTree"):
        storage.append(recording(50), path, run="run-01")
    with pytest.raises(SchemaError, match="cannot be stored"):
        storage.append(recording(50), tree, run="../x")
    with pytest.raises(IntegrityError, match="no manifest"):
        storage.append(recording(50), tmp_path / "none.zarr")


def test_bad_channels_of_either_stretch_are_bad(tmp_path):
    one, two = recording(20), recording(20, 20)
    one["bad"][0] = True
    two["bad"][3] = True
    path = storage.save(one, tmp_path / "x.zarr")
    storage.append(two, path)
    assert storage.open(path)["bad"].values.tolist() == [True, False, False, True]


def test_what_was_opened_before_stays_what_it_was(tmp_path):
    import pickle

    path = storage.save(recording(500), tmp_path / "x.zarr", chunks={"time": 64})
    before = storage.open(path)
    worker = pickle.dumps(before["eeg"].variable)
    for k in range(1, 4):
        storage.append(recording(500, 500 * k, seed=k), path)
    xr.testing.assert_identical(before.load(), recording(500))
    np.testing.assert_array_equal(pickle.loads(worker).values, recording(500)["eeg"].values)
    assert storage.open(path).sizes["time"] == 2000


def test_a_store_that_was_replaced_is_not_read_on(tmp_path):
    path = storage.save(recording(500), tmp_path / "x.zarr")
    same, other = storage.open(path), storage.open(path)
    storage.save(recording(500), path)
    xr.testing.assert_identical(same.load(), recording(500))  # the same content: nothing to tell apart
    storage.save(recording(500, seed=9), path)
    with pytest.raises(IntegrityError, match="replaced or removed"):
        other.load()
