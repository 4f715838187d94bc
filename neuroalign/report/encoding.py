"""The standard page of an encoding or decoding result."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign import plots
from neuroalign.errors import SchemaError
from neuroalign.plots._auto import choose
from neuroalign.plots._data import SCORERS, as_array, as_dataset, peak, show_time
from neuroalign.plots.scores import profile_lines
from neuroalign.plots.timecourses import has_sensors
from neuroalign.report.figures import grid_picture, picture
from neuroalign.report.page import Picture, Section, write_report
from neuroalign.report.sites import sites_section
from neuroalign.report.table import show


def encoding_report(
    result: Any,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    layers: xr.DataArray | Mapping[str, xr.DataArray] | None = None,
    rdm: xr.DataArray | Mapping[str, xr.DataArray] | None = None,
    extra_sections: Iterable[Section] = (),
) -> Path:
    """Write the standard page of an evaluation: where, how well, how sure, and how it was made.

    Parameters
    ----------
    result : Result or Dataset
        With the variable ``score`` and, as far as known, ``ceiling``, ``normalised``, ``p``, ``q``, ``significant``
        and ``fold_score``. `neuroalign.evaluation.cross_validate` gives it.
    path : path-like
        The HTML file.
    title : str, optional
        Title of the page.
    layers : DataArray or mapping of str to DataArray, optional
        Scores with a dimension ``layer``, for the layer profile.
    rdm : DataArray or mapping of str to DataArray, optional
        RDMs to show.
    extra_sections : iterable of Section, optional
        Parts to add before the provenance.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SchemaError
        If there is no score.

    Examples
    --------
    >>> import tempfile
    >>> scores = xr.DataArray([0.1, 0.3], dims="roi", coords={"roi": ["EVC", "PFS"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     encoding_report(xr.Dataset({"score": scores}), folder + "/page.html").name
    'page.html'
    """
    data = as_dataset(result)
    if not isinstance(data, xr.Dataset) or "score" not in data:
        raise SchemaError(
            "There is nothing to report on.",
            expected="a Result, or a Dataset with a variable 'score'",
            got=type(result).__name__ if not isinstance(data, xr.Dataset) else [str(name) for name in data],
        )
    parts = [_map(data), _time(data), _against_ceiling(data), _regions(data), sites_section(data)]
    sections = [part for part in parts if part is not None]
    if layers is not None:
        sections.append(layer_section(layers))
    if rdm is not None:
        sections.append(rdm_section(rdm))
    name = data.attrs.get("estimator")
    title = title or (f"Held-out scores of {name}" if name else "Held-out scores")
    return write_report(
        path, title=title, sections=[*sections, *extra_sections], summary=headline(data), provenance=data
    )


def headline(data: xr.Dataset) -> dict[str, Any]:
    """Give the numbers that a reader looks for first.

    Parameters
    ----------
    data : Dataset
        A result with ``score``.

    Returns
    -------
    dict
        Value by name.

    Examples
    --------
    >>> headline(xr.Dataset({"score": ("roi", [0.1, 0.3])}))["best score"]
    0.3
    """
    score, cards = data["score"], dict[str, Any]()
    values = score.values.astype(float).ravel()
    known, name = values[np.isfinite(values)], _measure(data)
    cards["sites" if "time" not in score.dims else "sites × times"] = _sizes(score)
    if known.size:
        cards[f"median {name}"], cards[f"best {name}"] = float(np.median(known)), float(known.max())
    if known.size < values.size:
        cards["without a score"] = f"{values.size - known.size} of {values.size}"
    if "ceiling" in data and data["ceiling"].notnull().any():
        cards["median noise ceiling"] = float(data["ceiling"].median())
    if "normalised" in data and data["normalised"].notnull().any():
        cards["median share of the ceiling"] = f"{float(data['normalised'].median()):.0%}"
    if "significant" in data:
        level = data.attrs.get("alpha", 0.05)
        cards[f"significant (FDR {level:g})"] = f"{int(data['significant'].sum())} of {known.size}"
    for key, label in (("estimator", "model"), ("n_folds", "folds")):
        if key in data.attrs:
            cards[label] = data.attrs[key]
    return cards


def _measure(data: xr.Dataset) -> str:
    scorer = str(data["score"].attrs.get("scorer", data.attrs.get("scorer", "score")))
    return str(data["score"].attrs.get("long_name", SCORERS.get(scorer, scorer)))


def _sizes(array: xr.DataArray) -> str:
    return " × ".join(str(size) for size in array.shape) or "1"


def _best(score: xr.DataArray) -> dict[str, int]:
    """Give the position of the best entry along each dimension."""
    filled = score.fillna(-np.inf).values
    places = np.unravel_index(int(filled.argmax()), filled.shape)
    return {str(dim): int(place) for dim, place in zip(score.dims, places, strict=True)}


def _where(score: xr.DataArray) -> str:
    """Say where the best score is: channel Cz at 170 ms."""
    best = _best(score)
    words = []
    for dim, index in best.items():
        label = score[dim].values[index] if dim in score.coords else index
        words.append(f"at {show_time(float(label))}" if dim == "time" and dim in score.coords else f"{dim} {label}")
    return " ".join(sorted(words, key=lambda word: word.startswith("at "))) or "the one target"


def _map(data: xr.Dataset) -> Section | None:
    score = as_array(data)
    if score.ndim == 0 or not score.notnull().any():
        return None
    best = float(score.max())
    text = f"Held-out {_measure(data)} of each site. The best is {show(best)}, of {_where(score)}."
    alt = f"Map of held-out {_measure(data)} over {_sizes(score)} sites; the best is {show(best)}, of {_where(score)}."
    if has_sensors(score) and set(score.dims) <= {"channel", "time"}:
        options: dict[str, Any] = {"size": (5, 4.2), "alt": alt}
        options["caption"] = "Sensors with a white dot are significant." if "significant" in data else ""
        if "time" in score.dims:
            at = float(score["time"][peak(score, "time")])
            text += f" The map shows {show_time(at)}, where scores are largest over all channels."
            options["time"] = at
        return Section("Score map", text, [picture(plots.topomap, data, **options)])
    function = choose(data)
    if function is plots.timecourse:
        return None
    pictures = [picture(function, data, size=(7.6, 3.4), alt=alt)]
    if function is plots.brain:
        pictures += _brain_extras(data, score)
    return Section("Score map", text, pictures)


def _brain_extras(data: xr.Dataset, score: xr.DataArray) -> list[Picture]:
    """Show only what is significant as well, and how the scores spread."""
    extras = []
    if "significant" in data and data["significant"].any() and not data["significant"].all():
        extras.append(
            picture(
                plots.brain,
                data,
                significant=data["significant"],
                size=(7.6, 3.0),
                alt=f"The same map, of the {int(data['significant'].sum())} significant sites alone.",
                caption="Significant sites alone.",
            )
        )
    alt = f"Histogram of {_measure(data)} over {_sizes(score)} sites."
    return [*extras, picture(plots.distribution, data, size=(6.4, 3.0), alt=alt, caption="How the scores spread.")]


def _time(data: xr.Dataset) -> Section | None:
    score = as_array(data)
    if "time" not in score.dims or score.ndim > 2 or not score.notnull().any():
        return None
    at = show_time(float(score["time"][_best(score)["time"]]))
    text = f"{_measure(data)} over time. The largest score is at {at}."
    if "significant" in data and "time" in data["significant"].dims:
        others = [dim for dim in data["significant"].dims if dim != "time"]
        times = data["significant"].any(others).values if others else data["significant"].values
        marked = data["time"].values[times.astype(bool)]
        if marked.size:
            text += f" Significant scores lie between {show_time(marked.min())} and {show_time(marked.max())}."
    alt = f"Curves of {_measure(data)} over time, one a site; the largest is at {at}."
    return Section("Time course", text, [picture(plots.timecourse, data, size=(8.0, 3.6), alt=alt)])


def _against_ceiling(data: xr.Dataset) -> Section | None:
    if "ceiling" not in data or not (data["ceiling"].notnull() & data["score"].notnull()).any():
        return None
    method = data["ceiling"].attrs.get("method")
    text = "The ceiling is the best score that any model could reach with data this noisy"
    text += f" (method: {method})." if method else "."
    over = int((data["score"] > data["ceiling"]).sum())
    text += f" {over} of {data['score'].size} scores lie above their ceiling, which is itself an estimate."
    alt = f"Scatter of {_measure(data)} against the noise ceiling; {over} of {data['score'].size} points lie above it."
    drawing = picture(
        plots.score_vs_ceiling, data, size=(5.0, 4.8), alt=alt, caption="One point a site; dashed: equal."
    )
    return Section("Score against the noise ceiling", text, [drawing])


def _regions(data: xr.Dataset) -> Section | None:
    score = as_array(data)
    if "roi" not in score.coords or score["roi"].ndim != 1 or ("roi" in score.dims and choose(data) is not plots.brain):
        return None
    if choose(data) not in (plots.brain, plots.distribution, plots.timecourse, plots.topomap):
        return None  # the score map is bars by region already
    names = list(dict.fromkeys(map(str, score["roi"].values)))
    if not 2 <= len(names) <= 60:
        return None
    means = {}
    if score.ndim == 1:
        label = score["roi"].values.astype(str)
        means = {name: float(score.values[label == name].mean()) for name in names}
    best = max(means, key=lambda name: means[name]) if means else None
    text = "Mean over the sites of each region, with the standard error over sites."
    text += f" The highest mean is that of {best} ({show(means[best])})." if best else ""
    size = (float(np.clip(2 + 0.45 * len(names), 4.5, 9.5)), 3.6)
    alt = f"Bars of mean {_measure(data)} in {len(names)} regions" + (f"; the highest is {best}." if best else ".")
    return Section("Regions", text, [picture(plots.bars, data, by="roi", size=size, alt=alt)])


def layer_section(layers: xr.DataArray | Mapping[str, xr.DataArray]) -> Section:
    """Show the layer profile, and name the winner of each line.

    Parameters
    ----------
    layers : DataArray or mapping of str to DataArray
        Scores with a dimension ``layer``.

    Returns
    -------
    Section
        The part of the report.

    Examples
    --------
    >>> layers = xr.DataArray([0.1, 0.3], dims="layer", coords={"layer": ["conv1", "conv2"]})
    >>> layer_section(layers).text
    'Mean score of each layer over targets. Best layer: conv2.'
    """
    lines, _ = profile_lines(layers, None)
    winners = {name: str(mean["layer"].values[int(mean.argmax("layer"))]) for name, (mean, _) in lines.items()}
    words = ", ".join(f"{name}: {layer}" if name else layer for name, layer in winners.items())
    text = f"Mean score of each layer over targets. Best layer: {words}."
    size = (float(np.clip(3 + 0.6 * len(next(iter(lines.values()))[0]), 5.2, 9.5)), 3.8)
    return Section(
        "Layers", text, [picture(plots.layer_profile, layers, size=size, alt=f"Score by layer. Best: {words}.")]
    )


def rdm_section(rdm: xr.DataArray | Mapping[str, xr.DataArray], **options: Any) -> Section:
    """Show one RDM, or several side by side.

    Parameters
    ----------
    rdm : DataArray or mapping of str to DataArray
        RDMs.
    **options
        Of `neuroalign.plots.rdm` or `neuroalign.plots.rdm_grid`, such as ``category``.

    Returns
    -------
    Section
        The part of the report.

    Examples
    --------
    >>> from neuroalign.rsa import from_square
    >>> rdm_section(from_square([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"])).heading
    'RDMs'
    """
    text = "Dissimilarity of each pair of conditions"
    if isinstance(rdm, xr.DataArray) and set(map(str, rdm.dims)) <= {"pair", "time"}:
        alt = f"Matrix of {rdm.sizes['pair']} dissimilarities."
        return Section("RDMs", f"{text}.", [picture(plots.rdm, rdm, size=(5.6, 4.8), alt=alt, **options)])
    number = len(rdm) if isinstance(rdm, Mapping) else rdm.shape[0]
    high = -(-number // 4)
    size = (2.5 * -(-number // high) + 0.9, 2.5 * high + 0.2)
    drawing = grid_picture(
        plots.rdm_grid, rdm, size=size, alt=f"{number} dissimilarity matrices side by side.", **options
    )
    return Section("RDMs", f"{text}, as percentiles within each matrix.", [drawing])
