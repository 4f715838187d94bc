import io
import sys

import pytest

from neuroalign.compute import notice, progress


@pytest.mark.parametrize("unit", ["", "bytes"])
def test_shown_on_stderr_when_asked(capsys, unit):
    with progress("reading", total=2, show=True, unit=unit) as advance:
        advance(2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading" in err


def test_silent_when_stderr_is_no_terminal(capsys):
    with progress("reading", total=2) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_shown_on_a_terminal(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("reading", total=1) as advance:
        advance(1)
    assert "reading" in terminal.getvalue()


def test_notice(capsys):
    notice("licence", show=True)
    notice("not seen")
    notice("not seen", show=False)
    assert capsys.readouterr() == ("", "licence\n")
