"""The pages that the steps write: the standard report with what the step adds to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign import plots
from neuroalign.evaluation import Result
from neuroalign.pipeline.options import DecodeOptions, EncodeOptions
from neuroalign.report import Picture, Section, Table, encoding_report, rsa_report
from neuroalign.report.figures import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _rows(table: pd.DataFrame, caption: str) -> Table:
    return Table(list(map(str, table.columns)), table.to_numpy(dtype=object).tolist(), caption)


def encoding_page(
    path: Path, result: Result, tables: dict[str, pd.DataFrame], extra: dict[str, Any], options: EncodeOptions
) -> Path:
    """Write the page of an encoding model.

    Parameters
    ----------
    path : Path
        The page.
    result : Result
        Scores of the model.
    tables, extra : dict
        What else the step found.
    options : EncodeOptions
        What the step was told.

    Returns
    -------
    Path
        The page.
    """
    sections = []
    if "comparison" in tables:
        sections.append(_comparison(tables["comparison"], result.data.attrs["scorer"]))
    if "response" in extra:
        sections.append(
            _response(extra["response"], "Response function", "How the response unfolds after the stimulus.")
        )
    return encoding_report(
        result,
        path,
        title=f"Encoding: {Path(options.features).stem} to {Path(options.responses).stem}",
        extra_sections=sections,
    )


def _comparison(table: pd.DataFrame, scorer: str) -> Section:
    by, a, b = str(table.columns[0]), str(table.columns[2]), str(table.columns[3])
    text = (
        f"Held-out score of {a} and of {b}, mean over the targets of each {by}, and their difference with its 95 % "
        "interval and p from a paired bootstrap over the held-out samples. A difference above 0 favours "
        f"{a}, below 0 {b}."
    )
    pictures = [
        _drawn(draw_comparison, table, scorer=scorer, alt=f"Bars: mean held-out score of {a} and {b} for each {by}."),
        _drawn(draw_differences, table, alt=f"Difference of score, {a} minus {b}, for each {by}, with 95 % intervals."),
    ]
    return Section("Two feature spaces", text, pictures, _rows(table, f"{a} against {b}"))


def _drawn(function: Callable[..., Any], *args: Any, alt: str, **options: Any) -> Picture:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    function(*args, figure.subplots(), **options)
    return Picture(figure, alt)


def draw_comparison(table: pd.DataFrame, ax: Axes, *, scorer: str) -> None:
    """Draw the mean scores of two feature spaces side by side.

    Parameters
    ----------
    table : DataFrame
        The comparison of `neuroalign.pipeline.encode`.
    ax : matplotlib Axes
        Where to draw.
    scorer : str
        Name of the score.
    """
    by, a, b = str(table.columns[0]), str(table.columns[2]), str(table.columns[3])
    scores = xr.DataArray(
        table[[a, b]].to_numpy(float).T,
        dims=("model", by),
        coords={"model": [a, b], by: table[by].astype(str).tolist()},
        name="score",
        attrs={"scorer": scorer, "units": "1"},
    )
    plots.bars(scores, by=by, ax=ax)


def draw_differences(table: pd.DataFrame, ax: Axes) -> None:
    """Draw the differences of two feature spaces with their intervals.

    Parameters
    ----------
    table : DataFrame
        The comparison of `neuroalign.pipeline.encode`.
    ax : matplotlib Axes
        Where to draw.
    """
    by, a, b = str(table.columns[0]), str(table.columns[2]), str(table.columns[3])
    place = np.arange(len(table))
    middle = table["difference"].to_numpy(float)
    low, high = table["ci_low"].to_numpy(float), table["ci_high"].to_numpy(float)
    ax.axhline(0, color="0.6", linewidth=1)
    ax.errorbar(place, middle, [middle - low, high - middle], fmt="o", color="0.15", capsize=3)
    ax.set_xticks(place, table[by].astype(str).tolist())
    ax.set_xlabel(by)
    ax.set_ylabel(f"{a} minus {b} (95 % interval)")
    ax.spines[["top", "right"]].set_visible(False)


def _response(response: xr.DataArray, heading: str, text: str) -> Section:
    squeezed = response.squeeze(
        [d for d in response.dims if d not in ("lag", "channel") and response.sizes[d] == 1], drop=True
    )
    if not {"lag", "channel"} >= set(squeezed.dims) or "lag" not in squeezed.dims:
        return Section(
            heading,
            f"{text} It has the dimensions {', '.join(map(str, response.dims))} and is in the results as a store.",
        )
    alt = "Response of every channel over lags, with a map of the channels at the peak."
    pictures = [picture(plots.response_function, squeezed, size=(7.4, 3.8), alt=alt)]
    return Section(heading, text, pictures)


def decoding_page(
    path: Path, result: Result, tables: dict[str, pd.DataFrame], extra: dict[str, Any], options: DecodeOptions
) -> Path:
    """Write the page of a decoder.

    Parameters
    ----------
    path : Path
        The page.
    result : Result
        Scores of the model.
    tables, extra : dict
        What else the step found.
    options : DecodeOptions
        What the step was told.

    Returns
    -------
    Path
        The page.
    """
    sections = []
    if "attention" in tables:
        sections.append(_attention(tables["attention"], options))
    if "identification" in tables:
        text = "Held-out stimuli, told from one another by correlating decoded with true features."
        sections.append(
            Section("Identification", text, (), _rows(tables["identification"], "Identification of stimuli"))
        )
    patterns = extra["patterns"]
    if "lag" in patterns.dims:
        text = "What the decoder reads, as forward patterns (Haufe et al., 2014); weights would not say where."
        sections.append(_response(patterns, "Patterns", text))
    title = f"Decoding: {Path(options.responses).stem} to {Path(options.features).stem}"
    return encoding_report(result, path, title=title, extra_sections=sections)


def _attention(table: pd.DataFrame, options: DecodeOptions) -> Section:
    names = (Path(options.features).stem, Path(str(options.against)).stem)
    right = int(table["correct"].sum())
    text = (
        f"The reconstruction was closer to {names[0]} than to {names[1]} in {right} of {len(table)} held-out runs. "
        "The decoder was trained on the other runs."
    )
    alt = f"Bars for each run: correlation of the reconstruction with {names[0]} and with {names[1]}."
    pictures = [_drawn(lambda t, ax: draw_attention(t, names, ax), table, alt=alt)]
    return Section("Which of the two?", text, pictures, _rows(table, "Correlations of held-out reconstructions"))


def draw_attention(table: pd.DataFrame, names: tuple[str, str], ax: Axes) -> None:
    """Draw how well reconstructions fit the decoded series and its rival, run by run.

    Parameters
    ----------
    table : DataFrame
        The table ``attention`` of `neuroalign.pipeline.decode`.
    names : tuple of str
        Names of the decoded series and of its rival.
    ax : matplotlib Axes
        Where to draw.
    """
    place = np.arange(len(table))
    bars = ((-0.19, "r_decoded", names[0], "#0072B2"), (0.19, "r_rival", names[1], "#999999"))
    for shift, column, name, colour in bars:
        ax.bar(place + shift, table[column].to_numpy(float), 0.36, label=name, color=colour)
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.set_xticks(place, [str(run) for run in table["run"]])
    ax.set_xlabel("run (held out)")
    ax.set_ylabel("r with the reconstruction")
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    ax.spines[["top", "right"]].set_visible(False)


def rsa_page(path: Path, result: Any, models: Any, data: xr.DataArray) -> Path:
    """Write the page of an RSA, with the RDMs of models and data.

    Parameters
    ----------
    path : Path
        The page.
    result : RSAResult
        What was found.
    models : mapping or DataArray
        RDMs of the models.
    data : DataArray
        Measured RDMs.

    Returns
    -------
    Path
        The page.
    """
    shown: dict[str, xr.DataArray] = {}
    others = [d for d in data.dims if d != "pair"]
    shown[str(data.name or "data")] = data.mean(others, keep_attrs=True) if others else data
    if isinstance(models, xr.DataArray):
        models = {str(name): models.sel(model=name, drop=True) for name in models["model"].values}
    order = np.argsort(-result.score.values.reshape(len(result.score["model"]), -1).max(axis=1))
    for name in result.score["model"].values[order][:7].tolist():
        shown[str(name)] = models[name]
    return rsa_report(result, path, rdm=shown)
