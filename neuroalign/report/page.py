"""One self-contained HTML page: headings, sentences, pictures and tables, with nothing to fetch and nothing to run."""

from __future__ import annotations

import base64
import io
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import xarray as xr

from neuroalign import storage
from neuroalign._version import __version__
from neuroalign.errors import ConfigError
from neuroalign.report.provenance import provenance_tables
from neuroalign.report.table import Table, clean, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A drawing with more SVG than this is smaller, and quicker to show, as pixels.
LIGHT_SVG = 150_000
# With more shapes than this it is not worth a try.
MANY_SHAPES = 1000
DPI = 150


@dataclass(frozen=True)
class Picture:
    """A drawing in a report.

    Parameters
    ----------
    figure : matplotlib Figure or Axes
        What was drawn.
    alt : str
        The same in words, for people who cannot see it.
    caption : str, optional
        The sentence below it.

    Raises
    ------
    ConfigError
        If there is no alternative text.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> Picture(Figure(figsize=(4, 3)), "An empty figure.").width()
    384
    """

    figure: Any
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ConfigError("A picture needs words for people who cannot see it.", fix="pass alt='what it shows'")

    def drawing(self) -> Figure:
        """Give the figure, also where its axes were passed."""
        return getattr(self.figure, "figure", None) or self.figure

    def source(self) -> str:
        """Give the drawing as a data URI: SVG where that is light, else PNG at 150 dpi."""
        return data_uri(self.drawing())

    def width(self) -> int:
        """Give the width on the page in CSS pixels, of which an inch has 96."""
        return round(self.drawing().get_figwidth() * 96)


@dataclass(frozen=True)
class Section:
    """A part of a report: a heading, sentences, pictures and a table.

    Parameters
    ----------
    heading : str
        The heading, which is also its line in the table of contents.
    text : str or sequence of str
        One paragraph, or several.
    pictures : sequence of Picture
        Drawings, shown in this order.
    table : Table, optional
        A table below the drawings.
    notes : sequence of str
        Remarks in small type at the end.

    Examples
    --------
    >>> Section("Method", "Ridge regression.").paragraphs()
    ['Ridge regression.']
    """

    heading: str
    text: str | Sequence[str] = ""
    pictures: Sequence[Picture] = ()
    table: Table | None = None
    notes: Sequence[str] = field(default=())

    def paragraphs(self) -> list[str]:
        """Give the sentences as a list of paragraphs."""
        return [part for part in ([self.text] if isinstance(self.text, str) else self.text) if part]


def data_uri(figure: Figure) -> str:
    """Encode a figure into the page itself.

    Parameters
    ----------
    figure : matplotlib Figure
        The figure; it need not be known to pyplot.

    Returns
    -------
    str
        ``data:image/svg+xml;base64,...`` or ``data:image/png;base64,...``.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> data_uri(Figure())[:18]
    'data:image/svg+xml'
    """
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes in the picture; the tables hold it as it is.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        return _encoded(figure)


def _encoded(figure: Figure) -> str:
    from matplotlib import rc_context
    from matplotlib.patches import Patch

    buffer, kind = io.BytesIO(), "svg+xml"
    light = len(figure.findobj(Patch)) < MANY_SHAPES
    if light:
        # A fixed salt makes the same figure the same bytes.
        with rc_context({"svg.hashsalt": "neuroalign", "svg.fonttype": "path"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    if not light or buffer.tell() > LIGHT_SVG:
        buffer, kind = io.BytesIO(), "png"
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["clean"] = clean
    return environment


def render(
    *,
    title: str,
    sections: Iterable[Section],
    summary: str | Mapping[str, Any] | None = None,
    provenance: xr.Dataset | xr.DataArray | None = None,
) -> str:
    """Give the page as text.

    Parameters
    ----------
    title, sections, summary, provenance
        As in `write_report`.

    Returns
    -------
    str
        The HTML.

    Examples
    --------
    >>> render(title="A test", sections=[]).count("<h1>A test</h1>")
    1
    """
    template = (resources.files("neuroalign.report") / "page.html.j2").read_text(encoding="utf-8")
    cards = {} if summary is None or isinstance(summary, str) else {key: show(value) for key, value in summary.items()}
    parts = list(sections)
    wrong = [part for part in parts if not isinstance(part, Section)]
    if wrong:
        raise ConfigError("A report is made of sections.", expected="Section", got=type(wrong[0]).__name__)
    return (
        _environment()
        .from_string(template)
        .render(
            title=title,
            lead=summary if isinstance(summary, str) else "",
            cards=cards,
            sections=parts,
            provenance=[] if provenance is None else provenance_tables(provenance),
            version=__version__,
        )
    )


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    sections: Iterable[Section],
    summary: str | Mapping[str, Any] | None = None,
    provenance: xr.Dataset | xr.DataArray | None = None,
) -> Path:
    """Write one HTML page that needs no network, no script and no other file.

    The page appears whole or not at all. Everything that comes from data (names of subjects, channels, files) is
    escaped, and the page forbids the browser to load or run anything.

    Parameters
    ----------
    path : path-like
        The HTML file.
    title : str
        Title of the page.
    sections : iterable of Section
        Its parts, in order.
    summary : str or mapping, optional
        A sentence, or the headline numbers by name.
    provenance : Dataset or DataArray, optional
        Object whose provenance (sources, steps, versions, seed) closes the page.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If a section is not a `Section`.
    IntegrityError
        If the file cannot be written; an older one stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(folder + "/report.html", title="A test", sections=[Section("One", "Words.")])
    ...     "<h2>One</h2>" in page.read_text(encoding="utf-8")
    True
    """
    text = render(title=title, sections=sections, summary=summary, provenance=provenance)
    storage.write_text(path, text)
    return Path(path)
