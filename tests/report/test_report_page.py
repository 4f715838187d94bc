"""Pages: whole, self-contained, readable by a parser, and the same each time."""

from __future__ import annotations

import base64
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuroalign import schema
from neuroalign.errors import ConfigError
from neuroalign.report import Picture, Section, Table, provenance_tables, render, write_report
from neuroalign.report.table import show

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def figure(n: int = 5) -> Figure:
    drawn = Figure(figsize=(4, 3))
    drawn.subplots().plot(np.random.default_rng(0).random(n))
    return drawn


def sections() -> list[Section]:
    table = Table(["site", "score", "significant"], [["Cz", 0.123456, True], ["Pz", float("nan"), False]], "Sites")
    return [
        Section("Score map", ["First.", "Second."], [Picture(figure(), "A curve.", "The caption.")]),
        Section("Sites", "A table.", table=table),
    ]


def test_page_holds_what_it_was_given(tmp_path: Path) -> None:
    path = write_report(tmp_path / "page.html", title="A title", sections=sections(), summary={"sites": 2, "best": 0.5})
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    words = " ".join(page.words)
    for expected in (
        "A title",
        "Score map",
        "First.",
        "Second.",
        "The caption.",
        "0.123",
        "n/a",
        "yes",
        "sites",
        "0.5",
    ):
        assert expected in words
    assert [image["alt"] for image in page.all("img")] == ["A curve."]
    anchors = [link["href"] for link in page.all("a")]
    assert anchors == ["#section-1", "#section-2"]
    assert {f"#{part['id']}" for part in page.all("section")} == set(anchors)
    assert [box["lang"] for box in page.all("html")] == ["en"]
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_page_loads_and_runs_nothing() -> None:
    text = render(title="T", sections=sections())
    page = Page(text)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert all((image["src"] or "").startswith("data:image/") for image in page.all("img"))
    assert re.findall(r"(?:https?:)?//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)) == []
    assert "url(" not in text
    assert "@import" not in text
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    # A drawing inside a data URI is an image: it may not load anything either.
    for image in page.all("img"):
        source = base64.b64decode((image["src"] or "").partition("base64,")[2])
        assert not re.search(rb'(href|src)="(?!#|data:)', source.replace(b'xlink:href="#', b'href="#'))


def test_same_input_same_bytes() -> None:
    assert render(title="T", sections=sections()) == render(title="T", sections=sections())


def test_light_drawings_are_svg_and_dense_ones_png() -> None:
    assert Picture(figure(), "curve").source().startswith("data:image/svg+xml;base64,")
    crowd = Figure(figsize=(4, 3))
    crowd.subplots().scatter(*np.random.default_rng(0).random((2, 4000)))
    dense = Picture(crowd, "noise").source()
    assert dense.startswith("data:image/png;base64,")
    header = base64.b64decode(dense.partition("base64,")[2])[:24]
    assert struct.unpack(">II", header[16:24]) == (4 * 150, 3 * 150)
    assert Picture(figure(), "curve").width() == 384


def test_axes_do_for_a_figure() -> None:
    drawn = figure()
    assert Picture(drawn.axes[0], "curve").drawing() is drawn


def test_report_leaves_no_figure_and_no_setting_behind() -> None:
    import matplotlib
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    render(title="T", sections=sections())
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []


def test_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_report(path, title="Old", sections=[])
    old = path.read_bytes()

    class Broken(Section):
        def paragraphs(self) -> list[str]:
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        write_report(path, title="New", sections=[Section("Fine", "Text."), Broken("Bad")])
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


def test_crash_while_writing_keeps_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    path = tmp_path / "page.html"
    write_report(path, title="Old", sections=[])

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_report(path, title="New", sections=[])
    monkeypatch.undo()
    assert "Old" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000123456, "0.000123"),
        (1234.5678, "1.23e+03"),
        (np.float32(0.5), "0.5"),
        (3, "3"),
        (np.int64(12928), "12928"),
        (-94.0, "-94"),
        (True, "yes"),
        (np.bool_(False), "no"),
        (None, "n/a"),
        (float("nan"), "n/a"),
        (float("inf"), "inf"),
        ("a\x00b", "a\ufffdb"),
    ],
)
def test_values_as_people_write_them(value: object, text: str) -> None:
    assert show(value) == text


def test_provenance(tmp_path: Path) -> None:
    source = tmp_path / "sub-01_eeg.fif"
    source.write_bytes(b"abc")
    obj = schema.stamp(xr.Dataset(), "read_eeg", sources=[source])
    obj = schema.stamp(obj, "cross_validate", seed=7, settings={"alphas": "(1, 10)"}, n=3)
    tables = {table.caption: table for table in provenance_tables(obj)}
    assert tables["Sources"].rows[0][0] == "sub-01_eeg.fif"
    assert tables["Sources"].rows[0][2] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert tables["Steps, in order"].rows[1] == ["cross_validate", "7", "alphas = (1, 10); n = 3"]
    assert ["numpy", np.__version__] in [list(row) for row in tables["Versions"].rows]
    text = " ".join(Page(render(title="T", sections=[], provenance=obj)).words)
    assert "ba7816bf8f01cfea" in text
    assert str(tmp_path) not in text


def test_what_does_not_belong_is_refused() -> None:
    with pytest.raises(ConfigError, match="made of sections"):
        render(title="T", sections=["<p>text</p>"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="cannot see"):
        Picture(figure(), " ")
    with pytest.raises(ConfigError, match="another length"):
        Table(["a", "b"], [[1]])
