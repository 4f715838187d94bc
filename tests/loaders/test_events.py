"""The strict table parser."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.loaders import read_events, read_tsv


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
