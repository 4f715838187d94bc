"""Events and features of stimuli -> features in time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import signal

from neuroalign import align, schema
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.preprocess import HRFConvolver, Resampler

ACTS = schema.features([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]], stimulus=["cat", "dog", "cow"], layer="conv1")


def eeg(onset, ids, duration=0.1, n=100, sfreq=100.0, first_sample=0, **columns):
    events = pd.DataFrame({"onset": onset, "duration": duration, "stimulus_id": ids, **columns})
    return schema.sensors(
        np.zeros((1, n)),
        modality="eeg",
        sfreq=sfreq,
        channel=["Cz"],
        units="V",
        events=events,
        first_sample=first_sample,
    )


def bold(events, n=100, tr=2.0, start_time=None):
    ds = schema.fmri_regions(np.ones((n, 1), np.float32), roi=["V1"], tr=tr, events=events)
    return ds if start_time is None else ds.assign_attrs(start_time=start_time)


def where_not_zero(out, unit=0):
    return out.values[:, unit].nonzero()[0].tolist()


def test_impulses():
    out = align.place(ACTS, eeg([0.1, 0.5], ["dog", "cat"]))
    assert out.dims == ("time", "unit")
    assert out.name == "conv1"
    assert where_not_zero(out) == [10, 50]
    np.testing.assert_array_equal(out.values[[10, 50]], [[2, 20], [1, 10]])
    assert out.attrs["layer"] == "conv1"
    assert out.attrs["sfreq"] == 100
    assert schema.history(out)["steps"][-1]["step"] == "place"


def test_held_and_summed():
    out = align.place(ACTS, eeg([0.1, 0.15], ["dog", "cat"], [0.1, 0.02]), shape="hold")
    assert out.values[9:21, 0].tolist() == [0, 2, 2, 2, 2, 2, 3, 3, 2, 2, 2, 0]


def test_the_result_joins_the_recording_exactly():
    ds = eeg([0.1], ["dog"], first_sample=37)
    x, _ = align.join(align.place(ACTS, ds), ds["eeg"])
    np.testing.assert_array_equal(x["time"], ds["time"])
    assert where_not_zero(x) == [10]  # onsets count from the first sample
    part = ds.isel(time=slice(5, 60))
    assert where_not_zero(align.place(ACTS, part)) == [5]
    align.join(align.place(ACTS, part), part["eeg"])


def test_runs_of_a_tree_keep_their_clocks():
    runs = {f"/run-{k}": eeg([0.1 * k], [name]).assign_attrs(run=str(k)) for k, name in [(1, "cat"), (2, "dog")]}
    tree = xr.DataTree.from_dict(runs)
    out = align.place(ACTS, tree)
    assert out["run"].values[[0, -1]].tolist() == ["1", "2"]
    assert where_not_zero(out) == [10, 120]
    x, _ = align.join(out, align.concat(list(runs.values()))["eeg"])
    np.testing.assert_array_equal(x, out)
    assert align.place(ACTS, xr.DataTree.from_dict({"/run-1": runs["/run-1"]}))["run"].values[0] == "1"


def test_events_that_were_left_out_name_their_run():
    runs = {f"/run-{k}": eeg([0.1, 5.0 * k], ["cat", "dog"]).assign_attrs(run=str(k)) for k in (1, 2)}
    out = align.place(ACTS, xr.DataTree.from_dict(runs), drop=True)
    assert out.attrs["drop_log"] == ["run 1: event 1 (dog) at 5 s", "run 2: event 1 (dog) at 10 s"]


def test_runs_of_several_subjects():
    runs = [eeg([0.1 * k], ["cat"]).assign_attrs(run="1", subject=f"0{k}") for k in (1, 2)]
    tree = xr.DataTree.from_dict({"/sub-01/run-1": runs[0], "/sub-02/run-1": runs[1]})
    x, y = align.join(align.place(ACTS, tree), align.concat(runs)["eeg"])
    assert where_not_zero(x) == [10, 120]
    assert y["subject"].values[[0, -1]].tolist() == ["01", "02"]


def test_several_feature_spaces():
    words = schema.features([[7.0], [8.0], [9.0]], stimulus=["cat", "dog", "cow"])
    out = align.place({"vision": ACTS, "semantics": words}, eeg([0.1], ["dog"]))
    assert out["band"].values.tolist() == ["vision", "vision", "semantics"]
    assert out.values[10].tolist() == [2, 20, 8]


def test_one_number_a_stimulus():
    length = xr.DataArray([3.0, 5.0], dims="stimulus", coords={"stimulus": ["cat", "horse"]}, name="length")
    assert align.place(length, eeg([0.1], ["horse"])).sel(unit="length").values[10] == 5


def test_ids_of_another_column():
    events = {"trial_type": ["animal", "thing", "rest"]}
    kinds = schema.features(np.eye(2), stimulus=["thing", "animal"])
    ds = eeg([0.1, 0.2, 0.3], ["a", "b", "c"], **events)
    out = align.place(kinds, ds, by="trial_type", missing="zero")
    assert [where_not_zero(out, unit) for unit in (0, 1)] == [[20], [10]]
    out = align.place(kinds, ds, by="trial_type", where={"trial_type": ["animal", "thing"]})
    assert [where_not_zero(out, unit) for unit in (0, 1)] == [[20], [10]]


def test_events_without_features_are_refused_by_name():
    ds = eeg([0.1, 0.2, 0.3], ["cat", "emu", ""])
    with pytest.raises(AlignmentError, match=r"2 of 3 events have no features[\s\S]*emu"):
        align.place(ACTS, ds)
    assert where_not_zero(align.place(ACTS, ds, missing="zero")) == [10]
    with pytest.raises(AlignmentError, match="how the ids are written"):
        align.place(ACTS, eeg([0.1], ["emu"]), missing="zero")
    with pytest.raises(AlignmentError, match="which stimulus"):
        align.place(ACTS, ds.drop_vars("stimulus_id"))


# The recording of 100 samples holds samples 0 to 99; halves are rounded to even, as in epochs.
@pytest.mark.parametrize(
    ("onset", "at"),
    [
        (0.0, 0),
        (-0.004, 0),
        (-0.005, 0),
        (-0.006, None),
        (-0.01, None),
        (0.004, 0),
        (0.015, 2),
        (0.025, 2),
        (0.99, 99),
        (0.994, 99),
        (0.9951, None),
        (1.0, None),
        (50.0, None),
    ],
)
def test_boundary_of_impulses(onset, at):
    ds = eeg([0.5, onset], ["dog", "cat"])
    if at is not None:
        assert sorted(where_not_zero(align.place(ACTS, ds))) == sorted([at, 50])
        return
    with pytest.raises(AlignmentError, match=rf"1 of 2 events[\s\S]*event 1 \(cat\) at {onset:g} s"):
        align.place(ACTS, ds)
    out = align.place(ACTS, ds, drop=True)
    assert where_not_zero(out) == [50]
    assert out.attrs["drop_log"] == [f"event 1 (cat) at {onset:g} s"]


@pytest.mark.parametrize(
    ("onset", "duration", "inside", "kept"),
    [
        (0.90, 0.10, True, range(90, 100)),
        (0.90, 0.104, True, range(90, 100)),
        (0.90, 0.11, False, range(90, 100)),
        (0.0, 0.02, True, range(2)),
        (-0.01, 0.03, False, range(2)),
        (0.5, 0.001, True, range(50, 51)),
    ],
)
def test_boundary_of_held_stimuli(onset, duration, inside, kept):
    ds = eeg([onset, 0.3], ["cat", "dog"], [duration, 0.01])
    if not inside:
        with pytest.raises(AlignmentError, match=r"event 0 \(cat\)"):
            align.place(ACTS, ds, shape="hold")
    out = align.place(ACTS, ds, shape="hold", drop=not inside)
    assert sorted(where_not_zero(out)) == sorted([*kept, 30])
    assert len(out.attrs["drop_log"]) == (not inside)


def test_nothing_left_is_refused_even_with_drop():
    with pytest.raises(AlignmentError, match="1 of 1 events"):
        align.place(ACTS, eeg([5.0], ["cat"]), drop=True)


def test_gaps_are_no_silence():
    ds = eeg([0.5, 0.2], ["cat", "dog"]).isel(time=[*range(50), *range(51, 100)])
    with pytest.raises(AlignmentError, match=r"event 0 \(cat\) at 0.5 s"):
        align.place(ACTS, ds)
    assert where_not_zero(align.place(ACTS, ds, drop=True)) == [20]
    held = align.place(ACTS, ds, shape="hold", drop=True)
    assert where_not_zero(held) == [*range(20, 30), *range(50, 59)]


def test_held_stimuli_need_a_duration():
    for duration in (np.nan, 0.0, [0.1, np.nan]):
        with pytest.raises(AlignmentError, match="no duration"):
            align.place(ACTS, eeg([0.1, 0.2], ["cat", "dog"], duration), shape="hold")
    with pytest.raises(AlignmentError, match="no column duration"):
        align.place(ACTS, eeg([0.1], ["cat"]).drop_vars("duration"), shape="hold")


def test_options_and_forms():
    ds = eeg([0.1], ["cat"])
    for options in ({"shape": "ramp"}, {"missing": "nan"}, {"oversample": 0}, {"oversample": 1.5}, {"max_bytes": 100}):
        with pytest.raises(ConfigError):
            align.place(ACTS, ds, **options)
    token = xr.DataArray(np.zeros((1, 2, 3)), dims=("stimulus", "token", "unit"), coords={"stimulus": ["cat"]})
    for features, word in [
        (token, "cannot be placed"),
        (ACTS.drop_vars("stimulus"), "do not name"),
        (xr.concat([ACTS, ACTS], "stimulus"), "repeat"),
        ({"cat": ACTS.isel(stimulus=0, drop=True)}, "cannot be placed"),
    ]:
        with pytest.raises(AlignmentError, match=word):
            align.place(features, ds)
    with pytest.raises(AlignmentError, match="bin_spikes"):
        align.place(ACTS, schema.spikes([1], neuron=["a"], sfreq=100, n_samples=9))
    with pytest.raises(AlignmentError, match="no events"):
        align.place(ACTS, ds.drop_vars(["onset", "duration", "stimulus_id"]))
    twice = xr.concat([ds.drop_dims("event")] * 2, "time").assign_coords({n: ds[n] for n in ("onset", "stimulus_id")})
    with pytest.raises(AlignmentError, match="does not increase"):
        align.place(ACTS, twice)


def test_spike_counts_are_recordings_too():
    events = pd.DataFrame({"onset": [0.05], "stimulus_id": ["cat"]})
    ds = align.bin_spikes(schema.spikes([52], neuron=["a"], sfreq=1000, n_samples=100, events=events), sfreq=100)
    x, y = align.join(align.place(ACTS, ds), ds["spikes"])
    assert where_not_zero(x) == [5] == y.values[:, 0].nonzero()[0].tolist()


# ------------------------------------------------------------------------------------------------ sounds and films


def sound(values, sfreq, first=0, **attrs):
    values = np.asarray(values, dtype=float).reshape(len(values), -1)
    times = schema.time_index(len(values), sfreq, first)
    return xr.DataArray(values, dims=("time", "unit"), coords={"time": times}, attrs={"sfreq": float(sfreq), **attrs})


def test_sounds_at_the_rate_of_the_recording_are_copied():
    sounds = {"cat": sound([1, 2, 3], 100), "dog": sound([5, 6], 100, first=1)}
    out = align.place(sounds, eeg([0.1, 0.12], ["cat", "dog"]))
    assert out.values[10:16, 0].tolist() == [1, 2, 3, 5, 6, 0]
    assert align.place(xr.Dataset(sounds).isel(time=slice(0, 2)), eeg([0.1], ["cat"])).values[10, 0] == 1


def test_frames_of_stimuli_of_different_length():
    values = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, np.nan]])[..., None]
    frames = xr.DataArray(values, dims=("stimulus", "frame", "unit"), coords={"stimulus": ["cat", "dog"]})
    ds = eeg([0.1, 0.2], ["cat", "dog"])
    for clocked in (frames.assign_attrs(sfreq=100.0), frames.assign_coords(time=("frame", [0.0, 0.01, 0.02]))):
        out = align.place(clocked, ds)
        assert out.values[[10, 11, 12, 20, 21], 0].tolist() == [1, 2, 3, 4, 0]
    with pytest.raises(SchemaError, match="clock"):
        align.place(frames, ds)


@pytest.mark.parametrize(
    ("rate", "sfreq"), [(1000, 100), (25, 100), (64, 100), (44100 / 512, 100), (100, 64), (30, 128)]
)
@pytest.mark.parametrize("first", [0, 7])
def test_resampling_keeps_the_phase(rate, sfreq, first):
    """A slow sine has at sample n of the recording the value that it has at that time."""
    tone = lambda t: np.sin(2 * np.pi * 0.7 * t + 0.3)  # noqa: E731
    times = schema.time_index(int(6 * rate), rate, first)
    ds = eeg([1.0], ["cat"], n=int(9 * sfreq), sfreq=float(sfreq))
    out = align.place({"cat": sound(tone(times), rate, first)}, ds)
    since = ds["time"].values - 1.0
    inside = (since >= times[0] + 1) & (since <= times[-1] - 1)
    np.testing.assert_allclose(out.values[inside, 0], tone(since[inside]), atol=5e-3)
    before = since < times[0] - 1e-9
    assert not out.values[before].any()
    assert out.values[~before].any()


def test_resampling_is_that_of_the_resampler():
    rng = np.random.default_rng(0)
    stream = sound(rng.normal(size=(400, 3)), 200)
    out = align.place({"cat": stream}, eeg([0.5], ["cat"], n=400))
    np.testing.assert_allclose(out.values[50:250], Resampler(100).fit_transform(stream).values, atol=1e-12)
    np.testing.assert_allclose(
        out.values[50:250], signal.resample_poly(stream.values, 1, 2, axis=0, padtype="symmetric"), atol=1e-12
    )


def test_high_frequencies_are_not_folded_back():
    times = np.arange(4000) / 1000
    out = align.place({"cat": sound(np.sin(2 * np.pi * 90 * times), 1000)}, eeg([0.0], ["cat"], n=500))
    assert np.abs(out.values[50:350]).max() < 0.01  # 90 Hz would come back as 10 Hz


def test_bad_streams():
    ds = eeg([0.1], ["cat"])
    with pytest.raises(AlignmentError, match="gaps"):
        align.place({"cat": sound(range(6), 100).isel(time=[0, 1, 3])}, ds)
    with pytest.raises(SchemaError, match="a filter would spread"):
        align.place({"cat": sound([0, np.nan, 1, 2], 50)}, ds)
    with pytest.raises(ConfigError, match="simple ratio"):
        align.place({"cat": sound(range(6), 99.99987)}, ds)
    with pytest.raises(AlignmentError, match="different features"):
        align.place({"cat": sound(range(6), 100), "dog": sound(np.ones((6, 2)), 100)}, ds)
    with pytest.raises(AlignmentError, match="beyond"):
        align.place({"cat": sound(range(95), 100)}, ds)
    out = align.place({"cat": sound(range(95), 100)}, ds, drop=True)
    assert out.values[99, 0] == 89


# ------------------------------------------------------------------------------------------------ fMRI


def test_held_stimuli_give_volumes_their_share():
    events = pd.DataFrame({"onset": [3.0, 21.0], "duration": [4.0, 0.5], "stimulus_id": ["cat", "dog"]})
    out = align.place(ACTS, bold(events), shape="hold")
    assert out.values[:12, 0].tolist() == [0, 0.5, 1, 0.5, 0, 0, 0, 0, 0, 0, 0.5, 0]
    x, _ = align.join(out, bold(events)["bold"])
    assert x.sizes["time"] == 100


def test_volumes_are_taken_at_start_time():
    events = pd.DataFrame({"onset": [0.0, 5.0], "duration": [4.0, 2.0], "stimulus_id": ["cat", "dog"]})
    out = align.place(ACTS, bold(events, start_time=1.0), shape="hold")
    # Volumes at 1, 3, 5 s ...: cat until 4 s; the second before the first volume counts to it.
    assert out.values[:5, 0].tolist() == [1.5, 0.5, 2, 0, 0]
    fine = align.place(ACTS, bold(events, start_time=1.0), shape="hold", oversample=4)
    assert fine.values.sum() == 4 * out.values.sum()


def nilearn_regressors(events, by, n, tr, start_time=0.0, *, impulse=False):
    glm = pytest.importorskip("nilearn.glm.first_level")
    columns = {}
    for name, rows in events.groupby(by):
        duration = np.zeros(len(rows)) if impulse else rows["duration"]
        condition = np.vstack([rows["onset"], duration, np.ones(len(rows))])
        times = np.arange(n) * tr + start_time
        columns[name] = glm.compute_regressor(condition, "spm", times, oversampling=100)[0][:, 0]
    return pd.DataFrame(columns)


def convolved(events, by, n, tr, start_time=0.0, **options):
    conditions = sorted(events[by].unique())
    features = schema.features(np.eye(len(conditions)), stimulus=conditions, unit=conditions)
    ds = bold(events, n, tr, start_time or None)
    out = HRFConvolver("spm").fit_transform(align.place(features, ds, by=by, drop=True, **options))
    if options.get("oversample", 1) > 1:
        out = Resampler(ds.attrs["sfreq"]).fit_transform(out)
    return align.join(out, ds["bold"])[0]


def smallest_r(ours, theirs):
    return min(np.corrcoef(ours.sel(unit=name), theirs[name])[0, 1] for name in theirs)


@pytest.mark.parametrize("oversample", [1, 16])
@pytest.mark.parametrize("start_time", [0.0, 0.5])
def test_real_blocks_match_nilearn(real_data, oversample, start_time):
    folder = real_data("haxby2001-pymvpa") / "haxby2001" / "sub001" / "BOLD" / "task001_run001"
    haxby = pd.read_csv(folder / "bold_events.tsv", sep="\t")
    checker = pd.read_csv(
        real_data("fmriprep-visualcontrol") / "sub-01_task-visualcontrol_desc-events.tsv", sep="\t"
    ).rename(columns={"event": "trial_type"})
    for events, n, tr in [(haxby, 121, 2.5), (checker, 250, 1.0)]:
        ours = convolved(events, "trial_type", n, tr, start_time * tr, shape="hold", oversample=oversample)
        assert smallest_r(ours, nilearn_regressors(events, "trial_type", n, tr, start_time * tr)) > 0.9995


def test_real_design_matches_nilearn(real_data):
    glm = pytest.importorskip("nilearn.glm.first_level")
    folder = real_data("haxby2001-pymvpa") / "haxby2001" / "sub001" / "BOLD" / "task001_run001"
    events = pd.read_csv(folder / "bold_events.tsv", sep="\t")
    design = glm.make_first_level_design_matrix(np.arange(121) * 2.5, events, hrf_model="spm", drift_model=None)
    ours = convolved(events, "trial_type", 121, 2.5, shape="hold")
    assert smallest_r(ours, design.drop(columns="constant")) > 0.9999


@pytest.mark.parametrize("shape", ["hold", "impulse"])
def test_short_events_between_volumes_match_nilearn(shape):
    rng = np.random.default_rng(0)
    onset = np.sort(rng.uniform(0, 250, 60))
    events = pd.DataFrame({"onset": onset, "duration": 0.5, "trial_type": rng.choice(["a", "b"], 60)})
    theirs = nilearn_regressors(events, "trial_type", 150, 2.0, impulse=shape == "impulse")
    assert smallest_r(convolved(events, "trial_type", 150, 2.0, shape=shape, oversample=16), theirs) > 0.999
    assert smallest_r(convolved(events, "trial_type", 150, 2.0, shape=shape), theirs) < 0.99  # why there is oversample
