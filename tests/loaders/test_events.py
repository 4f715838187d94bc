"""The strict table parser."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError, SchemaError
from neuroalign.loaders import load, read_events, read_tsv


def write(tmp_path, content, name="events.tsv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_types_of_columns(tmp_path):
    path = write(
        tmp_path, "onset\tduration\ttrial_type\tlabel\tcode\tempty\n0.5\tn/a\tgo\t01\t3\tn/a\n1e1\t2\tn/a\t10\t4\tn/a\n"
    )
    frame = read_tsv(path)
    assert frame["onset"].tolist() == [0.5, 10.0]
    assert np.isnan(frame["duration"][0])
    assert frame["trial_type"].tolist() == ["go", None]
    assert frame["label"].tolist() == ["01", "10"]
    assert frame["code"].dtype == np.int64
    assert frame["empty"].tolist() == [None, None]


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_marks_and_line_ends(tmp_path, ends, mark):
    frame = read_tsv(write(tmp_path, mark + ends.join([b"onset\tduration", b"1\t2", b"3\t4", b""])))
    assert frame.columns.tolist() == ["onset", "duration"]
    assert_array_equal(frame.to_numpy(), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("content", "line", "word"),
    [
        ("onset\tduration\n1\t2\n3\n", "line 3", "cells"),
        ("onset\tduration\n1\t2\t3\n", "line 2", "cells"),
        ("onset\tonset\n1\t2\n", "line 1", "twice"),
        ("onset\t\n1\t2\n", "line 1", "no name"),
        ("onset\tduration\n1\t2\n\n3\t4\n", "line 3", "cells"),
        ("onset\tduration\n1\t2\n3,5\t4\n", "line 3", "comma"),
        ("onset,duration\n1,2\n", "line 1", "missing"),
        ("onset\tlength\n1\t2\n", "line 1", "'duration' is missing"),
        ("onset\tduration\n1\t2\nn/a\t4\n", "line 3", "no onset"),
        ("onset\tduration\n1\t2\nsoon\t4\n", "line 3", "not a number"),
        ("onset\tduration\n1\t-2\n", "line 2", "negative"),
        ("onset\tduration\nnan\t2\n", "line 2", "not a number"),
        ("onset\tduration\ninf\t2\n", "line 2", "not a number"),
        ("", "", "empty"),
    ],
)
def test_errors_name_the_line(tmp_path, content, line, word):
    with pytest.raises(SchemaError) as caught:
        read_events(write(tmp_path, content))
    assert line in str(caught.value)
    assert word in str(caught.value)


def test_text_may_hold_commas(tmp_path):
    frame = read_tsv(write(tmp_path, "name\tnote\na\t1,2\nb\tyes, no\n"))
    assert frame["note"].tolist() == ["1,2", "yes, no"]
    assert read_tsv(write(tmp_path, "ids\n1,2\n3,4\n"), text=("ids",))["ids"].tolist() == ["1,2", "3,4"]


def test_identities_stay_text(tmp_path):
    frame = read_events(write(tmp_path, "onset\tduration\tstimulus_id\n1\t1\t7\n2\t1\t8\n"))
    assert frame["stimulus_id"].tolist() == ["7", "8"]


def test_milliseconds_and_samples_are_noticed(tmp_path):
    ms = write(tmp_path, "onset\tduration\n1000\t100\n5000\t100\n9000\t100\n")
    with pytest.raises(SchemaError, match="milliseconds"):
        read_events(ms, duration=10.0)
    samples = write(tmp_path, "onset\tduration\n100000\t0\n500000\t0\n")
    with pytest.raises(SchemaError, match="samples"):
        read_events(samples, duration=10.0)
    late = write(tmp_path, "onset\tduration\n1\t1\n5\t1\n11\t1\n")
    assert len(read_events(late, duration=10.0)) == 3  # single late events are for the epoching to refuse


def test_no_events(tmp_path):
    frame = read_events(write(tmp_path, "onset\tduration\n"), duration=3.0)
    assert frame.columns.tolist() == ["onset", "duration"]
    assert len(frame) == 0


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(IntegrityError, match="no such file"):
        read_tsv(tmp_path / "none.tsv")
    with pytest.raises(IntegrityError, match="UTF-8"):
        read_tsv(write(tmp_path, b"onset\tduration\n\xff\xfe\t1\n"))


def test_event_files_of_mne(real_data, tmp_path):
    path = real_data("meg-mne-audvis") / "sample_audvis_trunc_raw-eve.fif"
    expected = mne.read_events(path, verbose="ERROR")
    frame = read_events(path, sfreq=300.0, first_sample=100)
    assert_allclose(frame["onset"], (expected[:, 0] - 100) / 300)
    assert_array_equal(frame["value"], expected[:, 2])
    assert_array_equal(frame["sample"], expected[:, 0])
    assert frame["trial_type"].tolist() == [str(code) for code in expected[:, 2]]
    mne.write_events(tmp_path / "text.eve", expected, verbose="ERROR")
    assert_array_equal(read_events(tmp_path / "text.eve", sfreq=300.0)["sample"], expected[:, 0])


def test_event_files_count_samples(real_data):
    path = real_data("meg-mne-audvis") / "test-eve.fif"
    for sfreq in (None, 0.0):
        with pytest.raises(ConfigError, match="first_sample="):
            read_events(path, sfreq=sfreq)
    with pytest.raises(SchemaError, match="after the end"):
        read_events(path, sfreq=600.0, duration=1.0)
    with pytest.raises(ConfigError, match="read_events"):
        load(path)


@pytest.mark.parametrize("rest", [0.0, 0.5, 0.99])
def test_cut_event_files(real_data, tmp_path, rest):
    content = (real_data("meg-mne-audvis") / "test-eve.fif").read_bytes()
    (tmp_path / "x-eve.fif").write_bytes(content[: int(rest * len(content))])
    with pytest.raises(IntegrityError, match=r"x-eve\.fif"):
        read_events(tmp_path / "x-eve.fif", sfreq=600.0)


@given(
    st.binary(max_size=120) | st.text(alphabet="onsetdurai\t\r\n0123456789.,-+eE/\ufeff ", max_size=120).map(str.encode)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_table_or_refused(tmp_path, content):
    try:
        frame = read_events(write(tmp_path, content))
    except NeuroalignError:
        return
    assert {"onset", "duration"} <= set(frame.columns)
    assert np.isfinite(frame["onset"]).all()


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.none() | st.floats(0, 100), st.sampled_from(["go", "stop", None]))),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(tmp_path, rows, ends, mark):
    cells = [["n/a" if value is None else str(value) for value in row] for row in rows]
    text = ends.join("\t".join(row) for row in [["onset", "duration", "trial_type"], *cells])
    frame = read_events(write(tmp_path, (mark + text + ends).encode()))
    assert frame["onset"].tolist() == [row[0] for row in rows]
    assert_array_equal(frame["duration"], [np.nan if row[1] is None else row[1] for row in rows])
    assert frame["trial_type"].tolist() == [row[2] for row in rows]
