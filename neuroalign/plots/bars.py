"""Bars of scores by region, layer or any other label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError
from neuroalign.plots._axes import INK, NORMAL, colour, legend, name_ticks, new_axes, plain, zero_lines
from neuroalign.plots._data import Labelled, as_array, companion, labels, matched, mean_sem, readable
from neuroalign.plots._text import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def bars(
    values: Labelled,
    *,
    by: str = "roi",
    ceiling: xr.DataArray | None = None,
    error: xr.DataArray | None = None,
    significant: xr.DataArray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw scores as bars by region, layer or any other label, with error bars and ceiling ticks.

    `by` is a dimension, or a coordinate along one: then entries that share a label are averaged. One more dimension
    becomes bars side by side when it has eight labels or fewer (``layer``, ``band``, ``model``, ``modality``); all
    others are averaged, and the bars show the standard error of that mean.

    Parameters
    ----------
    values : DataArray or Dataset
        Scores. Of a Dataset, the variable ``score`` is drawn, with its ``ceiling`` and ``significant``.
    by : str, default "roi"
        Dimension or coordinate on the x axis.
    ceiling : DataArray, optional
        Noise ceiling, with dims among those of `values`; drawn as a black tick over each bar.
    error : DataArray, optional
        Half length of the error bars, with the dims left after averaging; replaces the standard error.
    significant : DataArray of bool, optional
        Bars to mark with an asterisk; averaged bars are marked where all their entries are significant.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If `by` is neither a dimension nor a coordinate of the values.

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> scores = xr.DataArray([0.1, 0.3], dims="roi", coords={"roi": ["EVC", "PFS"]}, name="score")
    >>> ax = bars(scores, ax=Figure().subplots())
    >>> [round(float(bar.get_height()), 1) for bar in ax.patches]
    [0.1, 0.3]
    """
    array = as_array(values)
    mask = matched(companion(values, significant, "significant"), array)
    top = matched(companion(values, ceiling, "ceiling"), array)
    mean, sem = _grouped(array, by)
    hue = next((str(dim) for dim in mean.dims if dim != by), None)
    half = matched(error, mean)
    half = sem if half is None else half
    order = [by] if hue is None else [hue, by]
    names, groups = labels(mean, by), [""] if hue is None else labels(mean, hue)
    shown = readable(array)
    heights = np.atleast_2d(mean.transpose(*order).values.astype(float)) * shown.factor
    halves = np.atleast_2d(np.broadcast_to(half.transpose(..., by).values, mean.transpose(*order).shape)) * shown.factor
    ax = new_axes(ax, (float(np.clip(1.6 + 0.36 * heights.size, 4.2, 11.0)), 3.8))
    places, width = _draw_bars(ax, heights, halves, groups)
    if top is not None:
        tops = _like(_grouped(top, by)[0], mean, order) * shown.factor
        ends = (places - width / 2).ravel(), (places + width / 2).ravel()
        ax.hlines(tops.ravel(), *ends, color=INK, linewidth=1.8, label="noise ceiling")
    if mask is not None:
        share = _like(_grouped(mask.astype(float), by)[0], mean, order)
        _asterisks(ax, places, heights + np.nan_to_num(halves), share >= 1)
    zero_lines(ax)
    name_ticks(ax, names, room=60)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_xlabel(safe(by.replace("_", " ")), fontsize=NORMAL)
    ax.set_ylabel(shown.label, fontsize=NORMAL)
    plain(ax)
    legend(ax, outside=True)
    return ax


def _grouped(array: xr.DataArray, by: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Average over all but `by` and one more dimension of few labels; give the mean and its standard error."""
    if by not in array.dims and by not in array.coords:
        raise SchemaError(
            f"The values have nothing named {by!r} to group by.",
            expected=f"by= one of {[*map(str, array.dims), *map(str, array.coords)]}",
            got=f"by={by!r}",
        )
    few = [str(dim) for dim in array.dims if dim != by and array.sizes[dim] <= 8]
    hue = next((dim for dim in ("modality", "layer", "band", "model", "roi") if dim in few), None)
    if by in array.dims:
        return mean_sem(array, [dim for dim in array.dims if dim not in (by, hue)])
    (along,) = array[by].dims or (None,)
    if along is None:
        return mean_sem(array.expand_dims(by), [dim for dim in array.dims if dim != hue])
    names = list(dict.fromkeys(array[by].values.tolist()))
    parts = []
    for name in names:
        part = array.isel({along: np.flatnonzero(array[by].values == name)})
        part = part.drop_vars([key for key in part.coords if along in part[key].dims])
        parts.append(mean_sem(part, [dim for dim in part.dims if dim != hue]))
    index = xr.DataArray(np.array(names, dtype=object), dims=by, name=by)
    mean, sem = (xr.concat([pair[k] for pair in parts], dim=index) for k in (0, 1))
    return mean, sem


def _like(part: xr.DataArray, whole: xr.DataArray, order: list[str]) -> NDArray[np.float64]:
    """Spread an average over the bars that it belongs to, as (group, bar)."""
    return np.atleast_2d(part.broadcast_like(whole).transpose(*order).values.astype(float))


def _draw_bars(
    ax: Axes, heights: NDArray[np.float64], halves: NDArray[np.float64], groups: list[str]
) -> tuple[NDArray[np.float64], float]:
    """Draw bars (group, bar) side by side; give their places and width."""
    width = 0.78 / len(groups)
    places = np.arange(heights.shape[1]) + (np.arange(len(groups))[:, None] - (len(groups) - 1) / 2) * width
    for index, name in enumerate(groups):
        ax.bar(places[index], heights[index], width * 0.94, color=colour(index), label=safe(name) or None)
        known = np.isfinite(halves[index])
        if known.any():
            x, y, half = (part[index][known] for part in (places, heights, halves))
            ax.errorbar(x, y, half, fmt="none", ecolor=INK, elinewidth=1.1)
    return places, width


def _asterisks(ax: Axes, places: NDArray[np.float64], tops: NDArray[np.float64], marks: NDArray[np.bool_]) -> None:
    for place, top in zip(places[marks], np.maximum(tops, 0)[marks], strict=True):
        ax.annotate("*", (place, top), (0, -1), textcoords="offset points", ha="center", va="bottom", fontsize=12)
    if marks.any():
        ax.margins(y=0.1)
