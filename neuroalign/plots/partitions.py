"""Pictures of variance partitions, and of scores by layer and region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError
from neuroalign.plots._axes import FAINT, INK, NORMAL, SMALL, colour_bar, colours, legend, name_ticks, new_axes, plain
from neuroalign.plots._data import SITE_DIMS, Labelled, as_array, as_dataset, labels, mean_sem, readable, scale
from neuroalign.plots._text import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def venn_bars(parts: xr.Dataset, *, by: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw unique and shared variance as stacked bars, one a region or target, with negative parts below zero.

    Parameters
    ----------
    parts : Dataset
        From `evaluation.partition_variance`: ``shared`` (subset, ...) and ``total`` (...).
    by : str, optional
        A dimension or coordinate of the targets that gives a bar each; the others are averaged. By default ``roi``
        where there is one, or the targets where they are at most 24, else one bar for all.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on. The line across each bar is its total, which is less than its top where parts are negative.

    Raises
    ------
    SchemaError
        If these are not the parts of a variance.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> subsets = ["vision", "semantics", "vision + semantics"]
    >>> coords = {"subset": subsets, "roi": ["V1"]}
    >>> shared = xr.DataArray([[0.2], [0.1], [-0.05]], dims=("subset", "roi"), coords=coords)
    >>> parts = xr.Dataset({"shared": shared, "total": shared.sum("subset")})
    >>> [round(float(bar.get_height()), 2) for bar in venn_bars(parts, ax=Figure().subplots()).patches]
    [0.2, 0.1, -0.05]
    """
    parts = as_dataset(parts)
    if not isinstance(parts, xr.Dataset) or not {"shared", "total"} <= set(parts.data_vars):
        got = list(parts.data_vars) if isinstance(parts, xr.Dataset) else type(parts).__name__
        raise SchemaError("These are not the parts of a variance.", expected="'shared' and 'total'", got=got)
    by = _bars_of(parts["total"]) if by is None else by
    heights = _averaged(parts["shared"], "subset", by)
    total = _averaged(parts["total"].expand_dims("subset"), "subset", by).values[0]
    names = labels(heights, by) if by else ["all targets"]
    ax = new_axes(ax, (float(np.clip(3.6 + 0.5 * len(names), 4.6, 11.0)), 3.8))
    up, down = np.zeros(len(names)), np.zeros(len(names))
    places = np.arange(len(names))
    for shade, name, row in zip(colours(len(heights)), labels(heights, "subset"), heights.values, strict=True):
        base = np.where(row >= 0, up, down)
        lone = " + " not in name
        style: dict[str, Any] = {} if lone else {"hatch": "///", "edgecolor": "w"}
        text = f"unique to {name}" if lone else f"shared by {name}"
        ax.bar(places, row, 0.7, bottom=base, color=shade, linewidth=0, label=safe(text), **style)
        up, down = up + np.maximum(row, 0), down + np.minimum(row, 0)
    ax.hlines(total, places - 0.42, places + 0.42, color=INK, linewidth=1.8, label="total", zorder=3)
    ax.axhline(0, color=INK, linewidth=0.8, zorder=2)
    name_ticks(ax, names, room=60)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_ylabel(readable(parts["total"].rename("score")).label, fontsize=NORMAL)
    plain(ax)
    legend(ax, outside=True)
    return ax


def _bars_of(total: xr.DataArray) -> str:
    if "roi" in total.dims or ("roi" in total.coords and total["roi"].ndim == 1):
        return "roi"
    if total.ndim == 1 and total.size <= 24:
        return str(total.dims[0])
    return ""


def _averaged(values: xr.DataArray, first: str, by: str) -> xr.DataArray:
    """Average over all but `first` and the labels of `by`; dims (first, by), or (first, one) without it."""
    if not by:
        others = [dim for dim in values.dims if dim != first]
        return mean_sem(values, others)[0].expand_dims("one").transpose(first, "one")
    if by not in values.dims and (by not in values.coords or values[by].ndim != 1):
        expected = [*map(str, values.dims), *(str(name) for name, c in values.coords.items() if c.ndim == 1)]
        raise SchemaError(f"The values have nothing named {by!r}.", expected=expected, got=by, where="by")
    if by in values.dims:
        mean, _ = mean_sem(values, [dim for dim in values.dims if dim not in (first, by)])
        return mean.transpose(first, by)
    along = str(values[by].dims[0])
    groups = values[by].values
    names = list(dict.fromkeys(groups.tolist()))
    rest = [dim for dim in values.dims if dim != first]
    bare = values.drop_vars([name for name, c in values.coords.items() if along in c.dims])
    columns = [mean_sem(bare.isel({along: np.flatnonzero(groups == name)}), rest)[0] for name in names]
    return xr.concat(columns, dim=xr.DataArray(names, dims=by, name=by)).transpose(first, by)


def heat_map(
    scores: Labelled,
    *,
    by: str | None = None,
    dim: str | None = None,
    vlim: tuple[float, float] | None = None,
    cmap: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw scores of layers by regions as a map, with the best layer of each region framed and starred.

    Parameters
    ----------
    scores : DataArray or Dataset
        Scores with a dimension of layers. Of a Dataset, ``candidate_score`` or ``score`` is drawn.
    by : str, optional
        Dimension or coordinate of the columns, such as ``roi``, whose targets are averaged; by default ``roi`` where
        there is one, else the sites.
    dim : str, optional
        Dimension of the rows; by default ``layer``, ``candidate``, ``band`` or ``model``, whichever is there.
    vlim : tuple of float, optional
        Limits of the colours; by default symmetric about zero where scores take both signs.
    cmap : str, optional
        Colour map.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on. Scores of regions without any are grey. The best of many is too good an estimate of its own
        score; `evaluation.select_model` gives an honest one.

    Raises
    ------
    SchemaError
        If there are no layers, or nothing named `by`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> coords = {"layer": ["conv1", "conv2"], "roi": ["V1", "IT"]}
    >>> scores = xr.DataArray([[0.3, 0.1], [0.2, 0.4]], dims=("layer", "roi"), coords=coords, name="score")
    >>> ax = heat_map(scores, ax=Figure().subplots())
    >>> [tuple(map(float, patch.get_xy())) for patch in ax.patches]
    [(-0.5, -0.5), (0.5, 0.5)]
    """
    scores = as_dataset(scores)
    array = as_array(
        scores, "candidate_score" if isinstance(scores, xr.Dataset) and "candidate_score" in scores else "score"
    )
    dim = dim or next((name for name in ("layer", "candidate", "band", "model") if name in array.dims), None)
    if dim is None or dim not in array.dims:
        raise SchemaError(
            "There are no layers.", expected="a dimension layer, candidate, band or model", got=array.dims
        )
    if by is None:
        has_roi = "roi" in array.dims or ("roi" in array.coords and array["roi"].ndim == 1)
        by = "roi" if has_roi else next((name for name in SITE_DIMS if name in array.dims), "")
    mean = _averaged(array, dim, by)
    rows, columns = labels(mean, dim), labels(mean, by) if by else ["all targets"]
    values = mean.values.astype(float)
    ax = new_axes(
        ax, (float(np.clip(2.8 + 0.5 * len(columns), 4.2, 11.0)), float(np.clip(1.6 + 0.34 * len(rows), 3.0, 9.0)))
    )
    shades = scale(values, vlim=vlim, cmap=cmap)
    ax.set_facecolor(FAINT)
    ax.imshow(values, cmap=shades.cmap, vmin=shades.low, vmax=shades.high, aspect="auto", interpolation="nearest")
    _frame_best(ax, values)
    name_ticks(ax, columns, room=60)
    name_ticks(ax, rows, axis="y", room=40)
    ax.tick_params(length=0, labelsize=SMALL)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_ylabel(safe(dim), fontsize=NORMAL)
    ax.set_xlabel(f"{safe(by) or 'targets'} (star: best {safe(dim)})", fontsize=NORMAL)
    colour_bar(ax, shades, readable(array.rename("score")).label)
    return ax


def _frame_best(ax: Axes, values: NDArray[np.float64]) -> None:
    from matplotlib.patches import Rectangle

    for column, row in enumerate(np.where(np.isnan(values), -np.inf, values).argmax(axis=0).tolist()):
        if np.isfinite(values[row, column]):
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2.0))
            ax.plot(column, row, "*", color="w", markersize=9, markeredgecolor=INK, markeredgewidth=0.6)
