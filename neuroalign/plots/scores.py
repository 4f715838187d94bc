"""Pictures of scores: against the noise ceiling, over layers, how they spread, and of the penalties chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError
from neuroalign.plots._axes import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    NORMAL,
    SMALL,
    colour,
    legend,
    line_style,
    name_ticks,
    new_axes,
    plain,
    zero_lines,
)
from neuroalign.plots._data import Labelled, as_array, companion, labels, matched, mean_sem, readable, require_dims
from neuroalign.plots._text import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def score_vs_ceiling(
    score: Labelled,
    ceiling: xr.DataArray | None = None,
    *,
    significant: xr.DataArray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the score of each site against its noise ceiling, with the line where both are equal.

    Parameters
    ----------
    score : DataArray or Dataset
        Scores of any dims. Of a Dataset, ``score``, ``ceiling`` and ``significant`` are taken.
    ceiling : DataArray, optional
        Noise ceiling in the same measure, with dims among those of the score.
    significant : DataArray of bool, optional
        Sites to draw in colour; the others are grey.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If there is no ceiling.

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> score = xr.DataArray([0.1, 0.3], dims="voxel", name="score")
    >>> score_vs_ceiling(score, score + 0.1, ax=Figure().subplots()).get_xlabel()
    'noise ceiling'
    """
    array = as_array(score)
    top = matched(companion(score, ceiling, "ceiling"), array)
    if top is None:
        raise SchemaError("There is no ceiling to compare with.", fix="cross_validate(..., ceiling='split_half_sb')")
    mask = matched(companion(score, significant, "significant"), array)
    x = top.broadcast_like(array).transpose(*array.dims).values.astype(float).ravel()
    y = array.values.astype(float).ravel()
    marks = None if mask is None else mask.broadcast_like(array).transpose(*array.dims).values.astype(bool).ravel()
    ax = new_axes(ax, (4.6, 4.4))
    known = np.isfinite(x) & np.isfinite(y)
    size = _points(ax, x, y, known, marks)
    low = min(0.0, float(np.min(x[known], initial=0.0)), float(np.min(y[known], initial=0.0)))
    high = max(float(np.max(x[known], initial=0.0)), float(np.max(y[known], initial=0.0))) or 1.0
    edge = 0.04 * (high - low)
    ax.plot([low, high], [low, high], color=INK, linewidth=1.0, linestyle="--", label="score = ceiling", zorder=1)
    ax.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge), aspect="equal")
    zero_lines(ax)
    absent = int((~known).sum())
    measure = readable(top.rename("ceiling")).label
    ax.set_xlabel(measure + (f"  ({absent} sites without one)" if absent else ""), fontsize=NORMAL)
    ax.set_ylabel(readable(array).label, fontsize=NORMAL)
    plain(ax, grid="both")
    legend(ax, loc="upper left", markerscale=float(np.sqrt(28 / size)))
    return ax


def _points(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], known: NDArray[np.bool_], marks: NDArray[np.bool_] | None
) -> float:
    """Draw the points, those that are significant in colour; give their size."""
    size = float(np.clip(6000 / max(known.sum(), 1), 4, 28))
    options: dict[str, Any] = {
        "s": size,
        "linewidths": 0,
        "rasterized": bool(known.sum() > 500),
    }
    alpha = 0.75 if known.sum() < 500 else 0.4
    groups = [(known, colour(0), f"{int(known.sum())} sites", alpha)]
    if marks is not None:
        yes, no = known & marks, known & ~marks
        groups = [
            (no, MUTED, f"not significant ({int(no.sum())})", alpha * 0.7),
            (yes, colour(0), f"significant ({int(yes.sum())})", alpha),
        ]
    for keep, shade, label, opacity in groups:
        if keep.any():
            ax.scatter(x[keep], y[keep], color=shade, alpha=opacity, label=label, zorder=2, **options)
    return size


def layer_profile(
    scores: Labelled | Mapping[str, xr.DataArray],
    *,
    by: str | None = None,
    error: xr.DataArray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the score of each layer: mean and standard error over targets, with the winner starred.

    Parameters
    ----------
    scores : DataArray, Dataset or mapping of str to DataArray
        Scores with the dimension ``layer``; of a mapping (say, one entry a modality) each gives a line.
    by : str, optional
        Dimension, or coordinate along one, that gives one line each; by default ``modality`` where there is one.
    error : DataArray, optional
        Half length of the error bars, with the dims left after averaging; replaces the standard error.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If there is no layer, or lines have different layers.

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> scores = xr.DataArray([[0.1, 0.2], [0.3, 0.5]], dims=("layer", "voxel"), coords={"layer": ["conv1", "conv2"]})
    >>> ax = layer_profile(scores, ax=Figure().subplots())
    >>> [tick.get_text() for tick in ax.get_xticklabels()]
    ['conv1', 'conv2']
    """
    lines, label = profile_lines(scores, by)
    names = labels(next(iter(lines.values()))[0], "layer")
    ax = new_axes(ax, (float(np.clip(2.6 + 0.55 * len(names), 4.6, 10.0)), 3.6))
    for index, (name, (mean, sem)) in enumerate(lines.items()):
        if labels(mean, "layer") != names:
            raise SchemaError("The lines do not have the same layers.", expected=names, got=labels(mean, "layer"))
        own = error is not None and by in error.dims
        half = sem if error is None else (error.sel({by: name}) if own else error)
        _profile(ax, mean, half, index, name)
    zero_lines(ax)
    name_ticks(ax, names)
    ax.set_xlim(-0.4, len(names) - 0.6)
    ax.margins(y=0.12)
    ax.set_xlabel("layer (star: best)", fontsize=NORMAL)
    ax.set_ylabel(label, fontsize=NORMAL)
    plain(ax)
    legend(ax, outside=True)
    return ax


def _profile(ax: Axes, mean: xr.DataArray, half: xr.DataArray, index: int, name: str) -> None:
    """Draw one line, and a star at its best layer."""
    shade, x = colour(index), np.arange(mean.size)
    style: dict[str, Any] = {"linestyle": line_style(index), "marker": "o", "markersize": 4, "linewidth": 1.5}
    spread = None if half.isnull().all() else half.values
    ax.errorbar(x, mean.values, spread, color=shade, capsize=2, label=safe(name) or None, **style)
    if mean.notnull().any():
        best = int(mean.argmax("layer"))
        ax.plot(x[best], float(mean[best]), "*", color=shade, markersize=14, markeredgecolor="w", zorder=5)


Line = tuple[xr.DataArray, xr.DataArray]


def profile_lines(scores: Labelled | Mapping[str, xr.DataArray], by: str | None) -> tuple[dict[str, Line], str]:
    """Give mean and standard error over targets of each line, as arrays of dims (layer,), and the axis label."""
    if isinstance(scores, Mapping) and not isinstance(scores, xr.Dataset):
        first = next(iter(scores.values()))
        return {str(name): _over_targets(part) for name, part in scores.items()}, readable(first, "score").label
    array = as_array(scores)
    by = by or ("modality" if "modality" in array.dims else None)
    label = readable(array, "score").label
    if by is None:
        return {"": _over_targets(array)}, label
    if by not in array.dims and by not in array.coords:
        raise SchemaError(f"The scores have nothing named {by!r}.", expected=[*map(str, array.coords)], got=by)
    along = array[by].dims[0]
    kinds = dict.fromkeys(array[by].values.tolist())
    where = {str(kind): np.flatnonzero(array[by].values == kind) for kind in kinds}
    return {name: _over_targets(array.isel({along: index})) for name, index in where.items()}, label


def _over_targets(array: xr.DataArray) -> Line:
    require_dims(array, tuple(map(str, array.dims)), needed=("layer",))
    return mean_sem(array, [dim for dim in array.dims if dim != "layer"])


def alphas(alphas: Labelled | ArrayLike, grid: ArrayLike | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw how often each penalty was chosen; the edges of the grid are marked, for choices there need a wider grid.

    Parameters
    ----------
    alphas : DataArray, Dataset or array
        The penalty chosen for each target.
    grid : array, optional
        The penalties that could be chosen; by default those that were.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If a chosen penalty is not on the grid.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = alphas([1.0, 1.0, 100.0], [1.0, 10.0, 100.0], ax=Figure().subplots())
    >>> [int(bar.get_height()) for bar in ax.patches]
    [2, 0, 1]
    """
    chosen = as_array(alphas, "alphas").values if isinstance(alphas, xr.DataArray | xr.Dataset) else np.asarray(alphas)
    chosen = chosen.astype(float).ravel()
    chosen = chosen[np.isfinite(chosen)]
    steps = np.unique(chosen if grid is None else np.asarray(grid, dtype=float))
    counts = _counts(chosen, steps)
    edges = [] if grid is None or not counts.any() else sorted({0, len(steps) - 1})
    ax = new_axes(ax, (float(np.clip(2.4 + 0.42 * len(steps), 4.6, 9.0)), 3.2))
    ax.bar(np.arange(len(steps)), counts, 0.85, color=[ACCENT if k in edges else colour(0) for k in range(len(steps))])
    for index in edges:
        text = f"{counts[index] / len(chosen):.0%}" + ("\nat the edge" if counts[index] else "")
        where: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
        ax.annotate(text, (index, counts[index]), (0, 2), fontsize=SMALL, color=ACCENT, **where)
    name_ticks(ax, [f"{step:.3g}" for step in steps], room=24)
    ax.margins(y=0.25)
    ax.set_xlabel("penalty alpha", fontsize=NORMAL)
    ax.set_ylabel("targets", fontsize=NORMAL)
    plain(ax)
    return ax


def _counts(chosen: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count how often each step was chosen; penalties that were stored in float32 still meet their step."""
    near = np.abs(chosen[:, None] - steps).argmin(axis=1)
    off = ~np.isclose(steps[near], chosen, rtol=1e-3, atol=0)
    if off.any():
        raise SchemaError("A chosen penalty is not on the grid.", expected=steps.tolist(), got=float(chosen[off][0]))
    return np.bincount(near, minlength=len(steps))


def distribution(values: Labelled, *, significant: xr.DataArray | None = None, ax: Axes | None = None) -> Axes:
    """Draw a histogram of the values of all sites, with the significant ones in colour.

    Parameters
    ----------
    values : DataArray or Dataset
        Values of any dims. Of a Dataset, the variable ``score`` is drawn, with its ``significant``.
    significant : DataArray of bool, optional
        Sites to draw in colour.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> distribution(xr.DataArray([0.1, 0.3], dims="voxel", name="score"), ax=Figure().subplots()).get_xlabel()
    'score'
    """
    array = as_array(values)
    mask = matched(companion(values, significant, "significant"), array)
    shown = readable(array)
    data = array.values.astype(float).ravel() * shown.factor
    known = np.isfinite(data)
    ax = new_axes(ax, (6.0, 3.4))
    bins = min(60, max(10, int(np.sqrt(known.sum()))))
    edges = np.histogram_bin_edges(data[known], bins)
    if mask is None:
        ax.hist(data[known], edges.tolist(), color=colour(0), label=f"{int(known.sum())} sites")
    else:
        marks = mask.broadcast_like(array).transpose(*array.dims).values.astype(bool).ravel()
        yes, no = data[known & marks], data[known & ~marks]
        names = [f"significant ({len(yes)})", f"not significant ({len(no)})"]
        ax.hist([yes, no], edges.tolist(), stacked=True, color=[colour(0), FAINT], label=names)
    zero_lines(ax, edges, y=False)
    ax.set_xlabel(shown.label, fontsize=NORMAL)
    ax.set_ylabel("sites", fontsize=NORMAL)
    plain(ax)
    legend(ax, outside=True)
    return ax
