"""Errors say what was expected, what came, where, and what to do."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings

import pytest

from neuroalign import errors

KINDS = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.NeuroalignError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_its_parts_also_between_processes(kind: type[errors.NeuroalignError]) -> None:
    error = kind("It broke.", expected="3 runs", got=[1, 2], where="a/b.tsv", fix="record a third")
    assert str(error) == (
        "It broke.\n  expected: 3 runs\n  got:      [1, 2]\n  where:    a/b.tsv\n  fix:      record a third"
    )
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert (again.problem, again.expected, again.got, again.where, again.fix) == (
            "It broke.",
            "3 runs",
            [1, 2],
            "a/b.tsv",
            "record a third",
        )
    assert str(kind("It broke.")) == "It broke."


def test_errors_can_be_caught_as_what_they_are() -> None:
    for kind, usual in (
        (errors.SchemaError, ValueError),
        (errors.AlignmentError, ValueError),
        (errors.LabelsLostError, errors.AlignmentError),
        (errors.IntegrityError, OSError),
        (errors.ConfigError, ValueError),
        (errors.MissingDependencyError, ImportError),
    ):
        assert issubclass(kind, usual)
        assert issubclass(kind, errors.NeuroalignError)


def test_long_values_are_shortened_and_false_ones_shown() -> None:
    text = str(errors.SchemaError("Wrong.", expected="x" * 10_000, got=0, where="", fix="y" * 10_000))
    assert len(text) < 3000
    assert "got:      0" in text
    assert "…" in text


def test_a_missing_library_names_its_extra() -> None:
    assert errors.require("json", "eeg").loads("1") == 1
    with pytest.raises(errors.MissingDependencyError, match=r'no_such_library[\s\S]*pip install "neuroalign\[fmri\]"'):
        errors.require("no_such_library.deep", "fmri")


def test_warnings_point_at_the_caller() -> None:
    def library() -> None:
        errors.warn("Look here.")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        library()
        line = inspect.currentframe().f_lineno - 1
    assert caught[0].category is errors.NeuroalignWarning
    assert caught[0].filename == __file__
    assert caught[0].lineno == line
