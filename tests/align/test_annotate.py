"""Columns of the stimulus table on trials and events."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neuroalign import align, schema
from neuroalign.errors import AlignmentError, ConfigError

TABLE = schema.stimulus_table(
    pd.DataFrame(
        {
            "stimulus_id": ["cat", "car", "dog"],
            "category": ["animal", "thing", "animal"],
            "height": [4, 7, 9],
            "duration": [0.5, 0.6, 0.7],
        }
    )
)


def trials(ids, **columns):
    frame = pd.DataFrame({"stimulus_id": ids, **columns})
    return schema.epochs(
        np.zeros((len(ids), 1, 3)), modality="eeg", sfreq=100, channel=["Cz"], units="V", first_sample=0, trials=frame
    )


def test_columns_arrive_by_id():
    out = align.annotate(trials(["dog", "cat", "dog"]), TABLE)
    assert out["category"].values.tolist() == ["animal"] * 3
    assert out["height"].values.tolist() == [9, 4, 9]
    assert out["height"].dtype.kind == "i"
    assert out["category"].dims == ("trial",)
    assert "category" in align.annotate(trials(["cat"])["eeg"], TABLE).coords
    assert schema.history(out)["steps"][-1]["columns"] == ["category", "height", "duration"]


def test_chosen_columns():
    out = align.annotate(trials(["dog"]), TABLE, ["category"])
    assert "height" not in out.coords
    with pytest.raises(ConfigError, match="no such column"):
        align.annotate(trials(["dog"]), TABLE, ["colour"])


def test_names_in_use_get_a_prefix_and_equal_columns_stay():
    out = align.annotate(trials(["dog", "car"], duration=[0.3, 0.3], category=["animal", "thing"]), TABLE)
    assert out["duration"].values.tolist() == [0.3, 0.3]
    assert out["stimulus_duration"].values.tolist() == [0.7, 0.6]
    assert "stimulus_category" not in out.coords


def test_events_and_rest():
    events = pd.DataFrame({"onset": [0.0, 0.1], "stimulus_id": ["car", ""]})
    ds = schema.sensors(np.zeros((1, 50)), modality="eeg", sfreq=100, channel=["Cz"], units="V", events=events)
    out = align.annotate(ds, TABLE)
    assert out["category"].values.tolist() == ["thing", ""]
    assert out["height"].dims == ("event",)
    assert np.isnan(out["height"].values[1])
    cut = align.epochs(out, tmin=0, tmax=0.05)
    assert cut["category"].values.tolist() == ["thing", ""]


def test_bad_ids():
    with pytest.raises(AlignmentError, match=r"1 stimuli are not in the table[\s\S]*emu"):
        align.annotate(trials(["emu", "cat"]), TABLE)
    with pytest.raises(AlignmentError, match="no stimulus ids"):
        align.annotate(trials(["cat"]).drop_vars("stimulus_id"), TABLE)
    with pytest.raises(AlignmentError, match="no ids"):
        align.annotate(trials(["cat"]), TABLE.drop_vars("stimulus"))
    with pytest.raises(AlignmentError, match="repeat"):
        align.annotate(trials(["cat"]), TABLE.isel(stimulus=[0, 0]))
