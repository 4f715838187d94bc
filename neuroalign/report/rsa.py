"""The standard page of a representational similarity analysis, and sections for MNE's reports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign import plots
from neuroalign.errors import SchemaError, require
from neuroalign.plots._data import as_dataset, show_time
from neuroalign.plots.rsa import is_rsa
from neuroalign.report.encoding import rdm_section
from neuroalign.report.figures import picture
from neuroalign.report.page import Section, write_report
from neuroalign.report.table import Table, show


def rsa_report(
    result: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "Representational similarity analysis",
    rdm: xr.DataArray | Mapping[str, xr.DataArray] | None = None,
    category: Any = None,
    extra_sections: Iterable[Section] = (),
) -> Path:
    """Write the standard page of an RSA: scores of the models, ceilings, tests, RDMs and provenance.

    Parameters
    ----------
    result : RSAResult or Dataset
        What `neuroalign.rsa.evaluate` found.
    path : path-like
        The HTML file.
    title : str
        Title of the page.
    rdm : DataArray or mapping of str to DataArray, optional
        RDMs to show.
    category : mapping or array, optional
        Category of each condition, by which RDMs are sorted.
    extra_sections : iterable of Section, optional
        Parts to add before the provenance.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SchemaError
        If it is not such a result.

    Examples
    --------
    >>> import tempfile
    >>> found = xr.Dataset({"score": ("model", [0.3]), "ci": (("bound", "model"), [[0.2], [0.4]])})
    >>> found = found.assign_coords(model=["V1"], bound=["lower", "upper"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rsa_report(found, folder + "/page.html").name
    'page.html'
    """
    data = as_dataset(result)
    if not isinstance(data, xr.Dataset) or not is_rsa(data):
        raise SchemaError(
            "This is not a result of RSA.", expected="what neuroalign.rsa.evaluate gives", got=type(result).__name__
        )
    sections = [_models(data), _table(data)]
    if "p_pairwise_fdr" in data and data["score"].dims == ("model",) and data.sizes["model"] > 1:
        sections.append(_pairs(data))
    if rdm is not None:
        sections.append(rdm_section(rdm, **({} if category is None else {"category": category})))
    return write_report(
        path, title=title, sections=[*sections, *extra_sections], summary=_headline(data), provenance=data
    )


def _bests(data: xr.Dataset) -> tuple[str, xr.DataArray]:
    """Name the best model, and give its score where it is highest."""
    score = data["score"].fillna(-np.inf)
    flat = score.stack(place=score.dims) if score.ndim > 1 else score.rename(model="place")
    best = flat.isel(place=int(flat.argmax("place")))
    name = best["model"].item() if "model" in best.coords else best["place"].item()
    return str(name), best


def _headline(data: xr.Dataset) -> dict[str, Any]:
    name, best = _bests(data)
    cards: dict[str, Any] = {"models": data.sizes["model"], "best model": name, "its score": float(best)}
    if data["score"].ndim == 1 and "ceiling" in data and data["ceiling"].notnull().all():
        lower, upper = (float(data["ceiling"].sel(bound=bound)) for bound in ("lower", "upper"))
        cards["noise ceiling"] = f"{show(lower)} to {show(upper)}"
    for key, label in (("compare", "compared by"), ("n_subjects", "subjects"), ("n_conditions", "conditions")):
        if key in data.attrs:
            cards[label] = data.attrs[key]
    if "bootstrap" in data.attrs:
        cards["bootstrap"] = f"{data.attrs['bootstrap']}, {data.attrs.get('n_bootstrap', '?')} samples"
    return cards


def _models(data: xr.Dataset) -> Section:
    name, best = _bests(data)
    at = f" at {show_time(float(best['time']))}" if "time" in best.coords else ""
    level = data.attrs.get("alpha", 0.05)
    text = f"How well each model's dissimilarities agree with the measured ones. The best is {name}"
    text += f" ({show(float(best))}{at}). Error bars and bands are {1 - level:.0%} intervals of the bootstrap."
    if "ceiling" in data and data["ceiling"].notnull().any():
        text += " The grey band lies between the lower and the upper noise ceiling."
    text += f" Marks below say where a score is above zero, with a false discovery rate of {level:g}."
    width = 8.0 if data["score"].ndim > 1 else float(np.clip(3 + 0.75 * data.sizes["model"], 5, 9.5))
    alt = f"Score of {data.sizes['model']} models with intervals and noise ceiling; the best is {name}{at}."
    return Section("Models", text, [picture(plots.rsa_bars, data, size=(width, 4.0), alt=alt)])


def _table(data: xr.Dataset) -> Section:
    """List every model; of scores over time or place, each at its best."""
    score, rows = data["score"], []
    others = [str(dim) for dim in score.dims if dim != "model"]
    for index, name in enumerate(map(str, data["model"].values)):
        one = data.isel(model=index)
        spot: dict[str, int] = {}
        if others:
            filled = one["score"].fillna(-np.inf).values
            spot = dict(zip(others, (int(k) for k in np.unravel_index(filled.argmax(), filled.shape)), strict=True))
        here = one.isel(spot)
        places = [here[dim].item() if dim in here.coords else spot[dim] for dim in others]
        low, high = (float(here["ci"].sel(bound=bound)) for bound in ("lower", "upper"))
        tests = [float(here[key]) if key in here else None for key in ("p", "p_fdr", "p_ceiling_fdr")]
        rows.append([name, *places, float(here["score"]), low, high, *tests])
    columns = [
        "model",
        *("time (s)" if dim == "time" else dim for dim in others),
        "score",
        "interval from",
        "to",
        "p (above 0)",
        "corrected",
        "p (below ceiling), corrected",
    ]
    text = (
        "Tests against zero and against the lower noise ceiling are one-sided, corrected for the false discovery rate."
    )
    text += f" Each model is shown at its best {' and '.join(others)}." if others else ""
    return Section("Tests", text, table=Table(columns, rows))


def _pairs(data: xr.Dataset) -> Section:
    names = list(map(str, data["model"].values))
    p = data["p_pairwise_fdr"].values
    score = data["score"].values
    rows: list[list[Any]] = [
        [names[i], names[j], float(score[i] - score[j]), float(p[i, j])]
        for i in range(len(names))
        for j in range(i + 1, len(names))
    ]
    rows.sort(key=lambda row: (np.isnan(row[3]), row[3]))
    text = "Two-sided tests of the difference between two models, corrected for the false discovery rate."
    shown = rows[:40]
    caption = f"The {len(shown)} smallest p of {len(rows)}" if len(rows) > len(shown) else ""
    return Section(
        "Differences between models",
        text,
        table=Table(["model", "other", "difference", "p, corrected"], shown, caption),
    )


def to_mne_report(sections: Iterable[Section], *, title: str = "neuroalign") -> Any:
    """Give sections as an `mne.Report`, to go on with there.

    Parameters
    ----------
    sections : iterable of Section
        Parts of a report.
    title : str
        Title of the report.

    Returns
    -------
    mne.Report
        With a part for each text and table and a figure for each picture.

    Examples
    --------
    >>> len(to_mne_report([Section("Method", "Ridge regression.")]).html)
    1
    """
    mne = require("mne", "eeg")
    report = mne.Report(title=title, verbose="ERROR")
    for section in sections:
        words = "".join(f"<p>{_escaped(part)}</p>" for part in section.paragraphs())
        report.add_html(words + _html(section.table), title=section.heading, section=section.heading)
        for number, drawing in enumerate(section.pictures, 1):
            figure = drawing.drawing()
            name = f"{section.heading} ({number})"
            report.add_figure(figure, title=name, caption=drawing.caption or drawing.alt, section=section.heading)
    return report


def _escaped(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))


def _html(table: Table | None) -> str:
    if table is None:
        return ""
    head = "".join(f"<th>{_escaped(name)}</th>" for name in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{_escaped(text)}</td>" for text, _ in row) + "</tr>" for row in table.cells())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
