"""How well models explain measured RDMs: bars or time courses with intervals, ceilings and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuroalign.align._lags import true_stretches
from neuroalign.errors import SchemaError
from neuroalign.plots._axes import (
    INK,
    NORMAL,
    colour,
    legend,
    line_style,
    name_ticks,
    new_axes,
    plain,
    zero_lines,
)
from neuroalign.plots._data import as_dataset, labels, time_axis
from neuroalign.plots._text import safe
from neuroalign.plots.bars import bars

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CEILING = "#D4D4D4"


def is_rsa(result: xr.Dataset) -> bool:
    """Tell whether a Dataset is the outcome of `neuroalign.rsa.evaluate`."""
    return "score" in result and "ci" in result and "model" in result["score"].dims


def rsa_bars(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the score of each model with its interval, the band between both noise ceilings, and the tests.

    One score a model gives bars, scores over time give lines, scores over anything else groups of bars. A dot below
    a bar (a line below a curve) says that the score is above zero after correction for multiple tests.

    Parameters
    ----------
    result : RSAResult or Dataset
        What `neuroalign.rsa.evaluate` found: ``score`` and ``p_fdr`` of dims (model, ...), ``ci`` (bound, model, ...)
        and ``ceiling`` (bound, ...).
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If it is not such a result, or has more than one dimension beside ``model``.

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> found = xr.Dataset({"score": ("model", [0.3]), "ci": (("bound", "model"), [[0.2], [0.4]])})
    >>> found = found.assign_coords(model=["V1"], bound=["lower", "upper"])
    >>> ax = rsa_bars(found, ax=Figure().subplots())
    """
    data = as_dataset(result)
    if not isinstance(data, xr.Dataset) or not is_rsa(data):
        raise SchemaError(
            "This is not a result of RSA.",
            expected="what neuroalign.rsa.evaluate gives",
            got=type(result).__name__ if not isinstance(data, xr.Dataset) else [str(name) for name in data],
        )
    lead = [str(dim) for dim in data["score"].dims if dim != "model"]
    if len(lead) > 1:
        picks = ", ".join(f"{dim}=0" for dim in lead[1:])
        raise SchemaError("Too many dims for one picture.", got=lead, fix=f"result.data.isel({picks})")
    if lead and lead[0] != "time":
        return _groups(ax, data, lead[0])
    width = 6.4 if lead else float(np.clip(2.6 + 0.7 * data.sizes["model"], 4.6, 10))
    ax = new_axes(ax, (width, 3.8))
    if lead:
        _curves(ax, data)
    else:
        _bars(ax, data)
    ax.set_ylabel(f"RDM agreement ({data.attrs.get('compare', 'score')})", fontsize=NORMAL)
    plain(ax)
    legend(ax, outside=True)
    return ax


def _significant(data: xr.Dataset) -> xr.DataArray:
    """Compare corrected p-values with the level of the result; where there is no test, nothing is significant."""
    if "p_fdr" not in data:
        return xr.zeros_like(data["score"], dtype=bool)
    return data["p_fdr"] < float(data.attrs.get("alpha", 0.05))


def _has_ceiling(data: xr.Dataset) -> bool:
    return "ceiling" in data and bool(data["ceiling"].notnull().any())


def _bars(ax: Axes, data: xr.Dataset) -> None:
    score, x = data["score"].values.astype(float), np.arange(data.sizes["model"])
    low, high = (data["ci"].sel(bound=bound).values.astype(float) for bound in ("lower", "upper"))
    if _has_ceiling(data):
        lower, upper = (float(data["ceiling"].sel(bound=bound)) for bound in ("lower", "upper"))
        ax.axhspan(lower, upper, color=CEILING, linewidth=0, label="noise ceiling", zorder=0)
    ax.bar(x, score, 0.7, color=[colour(index) for index in range(len(x))], zorder=2)
    known = np.isfinite(low) & np.isfinite(high)
    spread = np.stack([score - low, high - score])[:, known]
    ax.errorbar(x[known], score[known], spread, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3, zorder=3)
    zero_lines(ax)
    marks = _significant(data).values
    if marks.any():
        floor = np.min(np.append(low[known], 0.0)) - 0.05 * (np.nanmax(np.append(high[known], 0.1)))
        label = f"above 0 (FDR {data.attrs.get('alpha', 0.05):g})"
        ax.plot(x[marks], np.full(marks.sum(), floor), "o", color=INK, markersize=4.5, label=label)
    ax.margins(y=0.08)
    ax.set_xlim(-0.6, len(x) - 0.4)
    name_ticks(ax, labels(data["score"], "model"))


def _curves(ax: Axes, data: xr.Dataset) -> None:
    x, x_label = time_axis(data["score"])
    if _has_ceiling(data):
        bounds = [data["ceiling"].sel(bound=bound).values.astype(float) for bound in ("lower", "upper")]
        ax.fill_between(x, bounds[0], bounds[1], color=CEILING, linewidth=0, label="noise ceiling", zorder=0)
    marks, step = _significant(data), float(np.median(np.diff(x))) if len(x) > 1 else 1.0
    for index, name in enumerate(labels(data["score"], "model")):
        one = data.isel(model=index)
        low, high = (one["ci"].sel(bound=bound).values.astype(float) for bound in ("lower", "upper"))
        ax.fill_between(x, low, high, color=colour(index), alpha=0.2, linewidth=0, zorder=1)
        ax.plot(
            x, one["score"].values, color=colour(index), linestyle=line_style(index), linewidth=1.5, label=safe(name)
        )
        spans = [(x[a] - step / 2, x[b - 1] - x[a] + step) for a, b in true_stretches(marks.isel(model=index).values)]
        height = -0.02 - 0.025 * index
        ax.broken_barh(
            spans, (height, 0.016), transform=ax.get_xaxis_transform(), color=colour(index), linewidth=0, clip_on=False
        )
    ax.spines["bottom"].set_position(("axes", -0.02 - 0.025 * data.sizes["model"]))
    zero_lines(ax, x)
    ax.set_xlim(float(x.min()), float(x.max()))
    ax.set_xlabel(x_label, fontsize=NORMAL)


def _groups(ax: Axes | None, data: xr.Dataset, lead: str) -> Axes:
    options: dict[str, Any] = {"error": data["se"]} if "se" in data else {}
    if _has_ceiling(data):
        options["ceiling"] = data["ceiling"].sel(bound="lower", drop=True)
    score = data["score"].assign_attrs(long_name=f"RDM agreement ({data.attrs.get('compare', 'score')})")
    return bars(score, by=lead, significant=_significant(data), ax=ax, **options)
