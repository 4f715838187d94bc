"""Names in data are text, never markup: whatever a file calls its subjects and channels, a page stays a page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from neuroalign import schema
from neuroalign.report import Section, Table, encoding_report, render

ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</title><script src=//evil.example/x.js></script>",
    "<!-- ",
    "</style><style>body{background:url(http://evil.example/)}",
    "javascript:alert(1)",
    "sub-\x00\x1b[31m01",
    "$\\input{/etc/passwd}$",
    "被験者 一",
    "_hidden",
    "long " * 40,
]
KNOWN = frozenset(
    "html head meta title style body header h1 h2 dl div dt dd nav ol li a main section p figure img figcaption "  # noqa: SIM905
    "table caption thead tbody tr th td footer".split()
)
ALLOWED = frozenset(
    "lang charset name content http-equiv class aria-label href id src alt width tabindex scope".split()  # noqa: SIM905
)


class Strict(HTMLParser):
    """Fails on any tag or attribute that the template does not have."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in KNOWN, tag
        assert {name for name, _ in attrs} <= ALLOWED, attrs
        for name, value in attrs:
            if name == "href":
                assert (value or "").startswith("#"), value
            if name == "src":
                assert (value or "").startswith("data:image/"), value

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def everywhere(text: str) -> str:
    """Put a text into every place of a page that data can reach."""
    obj = schema.stamp(xr.Dataset(), text, settings={text: text}, note=text)
    obj = obj.assign_attrs(neuro_log=[text])
    section = Section(text, [text], table=Table([text, "value"], [[text, 1.0]], text), notes=[text])
    return render(title=text, sections=[section], summary={text: text}, provenance=obj)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_shown_as_text(attack: str) -> None:
    page = Strict(everywhere(attack))
    visible = attack.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")
    assert sum(visible in words for words in page.words) >= 8


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_in_a_result(attack: str, tmp_path: Path) -> None:
    names = np.array([attack, "Cz", "Pz"], dtype=object)
    score = xr.DataArray([0.5, 0.1, 0.2], dims="channel", coords={"channel": names, "subject": attack}, name="score")
    data = xr.Dataset({"score": score, "significant": score > 0.3}).assign_attrs(estimator=attack, scorer=attack)
    path = encoding_report(data, tmp_path / "page.html", title=f"Subject {attack}")
    page = Strict(path.read_text(encoding="utf-8"))
    assert "Cz" not in page.words  # not significant; the attack is the one site in the table
    assert any(attack[:4] in words for words in page.words)


def test_text_that_claims_to_be_safe_is_not_believed() -> None:
    Strict(everywhere(Markup("<script>alert(1)</script>")))


@given(st.text(min_size=1, max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text(text: str) -> None:
    Strict(everywhere(text))


def test_lone_surrogates_do_not_stop_a_page(tmp_path: Path) -> None:
    from neuroalign.report import write_report

    path = write_report(tmp_path / "page.html", title="bad \udcff name", sections=[])
    assert "bad \ufffd name" in path.read_text(encoding="utf-8")
