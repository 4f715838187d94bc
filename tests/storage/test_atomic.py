import errno
import os
import time

import pytest

from neuroalign.errors import IntegrityError
from neuroalign.storage import atomic, publish, write_bytes, write_json, write_text


def test_files_are_written_whole_and_nothing_else_stays(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "é\r\n")
    write_bytes(tmp_path / "deep" / "b.bin", b"\0\1")
    write_json(tmp_path / "deep" / "c.json", {"b": [1, "µ"]})
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "é\r\n".encode()
    assert (tmp_path / "deep" / "c.json").read_text(encoding="utf-8") == '{\n  "b": [\n    1,\n    "µ"\n  ]\n}\n'
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["a.txt", "b.bin", "c.json"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), FileNotFoundError(2, "no", "/nowhere/else")])
def test_an_error_in_the_block_passes_and_keeps_the_earlier_result(tmp_path, error):
    target = tmp_path / "a"
    write_text(target, "old")

    def write():
        with publish(target) as temporary:
            temporary.write_text("new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def _folder(path, text):
    path.mkdir()
    (path / "f").write_text(text)


@pytest.mark.parametrize("kind", ["file", "folder", "empty"])
def test_an_earlier_result_is_replaced_whole(tmp_path, kind):
    target = tmp_path / "r"
    if kind == "file":
        target.write_text("old")
    else:
        target.mkdir()
        if kind == "folder":
            (target / "manifest.json").write_text("{}")
    with publish(target) as temporary:
        temporary.write_text("new") if kind == "file" else _folder(temporary, "new")
    assert (target if kind == "file" else target / "f").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]
    if kind != "file":
        assert [p.name for p in target.iterdir()] == ["f"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_neuroalign_did_not_write_is_never_replaced(tmp_path, kind):
    thesis = tmp_path / "r" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    with pytest.raises(IntegrityError, match="something else"), publish(tmp_path / "r") as temporary:
        temporary.write_text("new") if kind == "file" else _folder(temporary, "new")
    assert thesis.read_text() == "years of work"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_does_not_replace_a_folder_nor_the_reverse(tmp_path, kind):
    target = tmp_path / "r"
    if kind == "file":
        target.mkdir()
        (target / "manifest.json").write_text("{}")
    else:
        target.write_text("old")
    with pytest.raises(IntegrityError, match="stands where"), publish(target) as temporary:
        temporary.write_text("new") if kind == "file" else _folder(temporary, "new")
    assert target.is_dir() == (kind == "file")
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(IntegrityError, match="Nothing was written"), publish(tmp_path / "a"):
        pass


def test_a_failing_swap_brings_the_earlier_folder_back(tmp_path, monkeypatch):
    target = tmp_path / "r"
    _folder(target, "old")
    (target / "manifest.json").write_text("{}")
    seen = []

    def hook(operation, path):
        if operation == "replace":
            seen.append(path)
            if len(seen) == 2:
                raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(atomic, "operation_hook", hook)
    with pytest.raises(IntegrityError, match="earlier result was kept"), publish(target) as temporary:
        _folder(temporary, "new")
    assert (target / "f").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_stale_leftovers_are_swept_and_young_ones_are_not(tmp_path):
    stale, young, foreign, other = (
        tmp_path / f".a.{'0' * 32}.partial",
        tmp_path / f".a.{'1' * 32}.partial",
        tmp_path / ".a.mine.partial",
        tmp_path / f".b.{'0' * 32}.partial",
    )
    for path in (stale, young, foreign, other):
        path.write_text("x")
    for path in (stale, foreign, other):
        os.utime(path, (time.time() - 90000,) * 2)
    write_text(tmp_path / "a", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a", young.name, foreign.name, other.name])


def test_a_result_that_was_moved_aside_comes_back(tmp_path):
    _folder(tmp_path / f".r.{'a' * 32}.old", "old")
    assert atomic.recover(tmp_path / "r")
    assert (tmp_path / "r" / "f").read_text() == "old"
    assert not atomic.recover(tmp_path / "r")
    assert not atomic.recover(tmp_path / "no" / "r")


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(IntegrityError, match="cannot be written"):
        write_text(tmp_path / "f" / "a.txt", "x")
    with pytest.raises(IntegrityError, match="cannot be written"):
        write_text(tmp_path / "f" / "g" / "a.txt", "x")
