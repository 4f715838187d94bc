"""events.tsv as people (and fuzzers) write them: exact values, or an error that names the line."""

from __future__ import annotations

import math
import re

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neuroalign.errors import IntegrityError, NeuroalignError, SchemaError
from neuroalign.loaders import read_events, read_tsv

quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6)
words = st.text(
    st.characters(codec="utf-8", exclude_characters="\t\r\n\ufeff", exclude_categories=["Cs", "Cc"]), max_size=8
)


def write(tmp_path, content: bytes):
    path = tmp_path / "sub-01_events.tsv"
    path.write_bytes(content)
    return path


@quick
@given(
    rows=st.lists(st.tuples(numbers, st.one_of(st.none(), numbers.map(abs)), words), max_size=6),
    mark=st.sampled_from(["", "\ufeff"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_is_written_comes_back(tmp_path, rows, mark, end):
    lines = ["onset\tduration\ttrial_type"]
    lines += [f"{onset!r}\t{'n/a' if length is None else repr(length)}\t{word}" for onset, length, word in rows]
    path = write(tmp_path, (mark + end.join(lines) + end).encode())
    frame = read_events(path)
    assert frame["onset"].tolist() == [onset for onset, _, _ in rows]
    for got, (_, length, _) in zip(frame["duration"], rows, strict=True):
        assert math.isnan(got) if length is None else got == length
    for got, (_, _, word) in zip(read_tsv(path, text=("trial_type",))["trial_type"], rows, strict=True):
        assert got == (None if word.strip() in ("", "n/a") else word.strip())


@quick
@example(content=b"onset\tduration\n1\t1e999\n")
@example(content=b"onset\tduration\n1_0\t1\n")
@example(content="onset\tduration\n١\t1\n".encode())
@example(content=b"onset\tduration\n\t\n")
@example(content=b"\xef\xbb\xbf\xef\xbb\xbfonset\tduration\n1\t1\n")
@example(content=b"onset\tduration\n99999999999999999999\t1\n")
@given(content=st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda b: b"onset\tduration\n" + b)))
def test_wild_bytes_never_crash(tmp_path, content):
    try:
        frame = read_events(write(tmp_path, content))
    except (SchemaError, IntegrityError) as error:
        assert "sub-01_events.tsv" in str(error)  # noqa: PT017
    else:
        assert np.isfinite(frame["onset"]).all()
        assert not (frame["duration"] < 0).any()


@quick
@given(data=st.data())
def test_a_changed_character_is_never_another_number(tmp_path, data):
    """One character more, less or changed gives an error, or numbers that stand in the file as they are read."""
    good = "onset\tduration\tvalue\n0.5\t1.25\t3\n1.5\tn/a\t4\n20.75\t1\t5\n"
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + data.draw(st.sampled_from(["", ",", ".", "\t", " ", "\n", "x", ";", "-", "e"])) + good[at + 1 :]
    try:
        frame = read_events(write(tmp_path, bad.encode()))
    except NeuroalignError as error:
        assert re.search(r"line \d|sub-01_events", str(error))  # noqa: PT017
        return
    cells = [line.split("\t")[0].strip() for line in bad.strip("\n").split("\n")[1:]]
    assert frame["onset"].tolist() == [float(cell) for cell in cells]
