"""Curves over time or lag: scores of many sites, and response functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError
from neuroalign.plots._axes import (
    FAINT,
    INK,
    MUTED,
    NORMAL,
    colour,
    legend,
    new_axes,
    plain,
    significance_bar,
    zero_lines,
)
from neuroalign.plots._data import (
    SITE_DIMS,
    Labelled,
    as_array,
    companion,
    labels,
    matched,
    mean_sem,
    peak,
    readable,
    require_dims,
    show_time,
    time_axis,
)
from neuroalign.plots._text import safe
from neuroalign.plots.sensors import SENSOR_TYPES, positions, spread_out, topomap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Up to this many curves each gets its own colour and name; more become a butterfly.
FEW = 8


def timecourse(
    values: Labelled,
    *,
    ceiling: xr.DataArray | None = None,
    significant: xr.DataArray | None = None,
    best: int = 3,
    ax: Axes | None = None,
) -> Axes:
    """Draw values over time: one line per site, their mean, and the best sites by name.

    Up to eight sites are drawn in colours of their own; more become a butterfly in grey with the mean in black
    and the best few in colour. A bar along the bottom marks the times at which any site is significant.

    Parameters
    ----------
    values : DataArray or Dataset
        Values of dims (time,) or (site, time), where site is a channel, ROI, layer or the like; ``time`` in seconds.
        Of a Dataset, the variable ``score`` is drawn, with its ``ceiling`` and ``significant``.
    ceiling : DataArray, optional
        Noise ceiling, with dims among those of `values`; its mean over sites is drawn.
    significant : DataArray of bool, optional
        Significance, with dims among those of `values`.
    best : int, default 3
        How many of the best sites to name in a butterfly.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If there is no time, or more dims than one beside it.

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> scores = xr.DataArray([0.0, 0.2, 0.1], dims="time", coords={"time": [0.0, 0.1, 0.2]}, name="score")
    >>> timecourse(scores, ax=Figure().subplots()).get_xlabel()
    'Time (ms)'
    """
    array = as_array(values)
    site = _other_dim(array, "time")
    ceiling = matched(companion(values, ceiling, "ceiling"), array)
    mask = matched(companion(values, significant, "significant"), array)
    ax = new_axes(ax, (6.4, 3.6))
    x = _curves(ax, array, site, "time", best)
    if ceiling is not None:
        _ceiling_line(ax, ceiling, x, readable(array).factor)
    if mask is not None and "time" in mask.dims:
        others = [dim for dim in mask.dims if dim != "time"]
        any_site = mask.astype(bool).any(others) if others else mask.astype(bool)
        significance_bar(ax, x, any_site.values, label=f"significant in a {site}" if others else "significant")
    legend(ax, outside=True)
    return ax


def _other_dim(array: xr.DataArray, dim: str) -> str | None:
    """Name the one dimension beside `dim`, if there is one."""
    others = sorted((str(other) for other in array.dims if other != dim), key=lambda name: name not in SITE_DIMS)
    require_dims(array, (dim, *others[:1]), needed=(dim,))
    return others[0] if others else None


def _curves(ax: Axes, array: xr.DataArray, site: str | None, dim: str, best: int) -> NDArray[np.float64]:
    """Draw the curves, label both axes, and give the x values."""
    shown, (x, x_label) = readable(array), time_axis(array, dim)
    rows = np.atleast_2d((array if site is None else array.transpose(site, dim)).values.astype(float) * shown.factor)
    zero_lines(ax, x)
    if site is None:
        ax.plot(x, rows[0], color=colour(0), linewidth=1.6)
    elif len(rows) <= FEW:
        for index, name in enumerate(labels(array, site)):
            ax.plot(x, rows[index], color=colour(index), linewidth=1.4, label=safe(name))
    else:
        _butterfly(ax, x, rows, labels(array, site), site, best)
    ax.set_xlim(float(x.min()), float(x.max()))
    ax.set_xlabel(x_label, fontsize=NORMAL)
    ax.set_ylabel(shown.label, fontsize=NORMAL)
    plain(ax)
    return x


def _butterfly(
    ax: Axes, x: NDArray[np.float64], rows: NDArray[np.float64], names: list[str], site: str, best: int
) -> None:
    ax.plot(x, rows.T, color=FAINT, linewidth=0.6, zorder=2, rasterized=len(rows) > 64)
    heights = np.where(np.isnan(rows), 0, np.abs(rows)).max(axis=1)
    for rank, index in enumerate(np.argsort(-heights, kind="stable")[:best]):
        ax.plot(x, rows[index], color=colour(rank), linewidth=1.4, label=safe(names[index]), zorder=3)
    counts = np.isfinite(rows).sum(axis=0)
    mean = np.divide(np.nansum(rows, axis=0), counts, out=np.full(len(x), np.nan), where=counts > 0)
    ax.plot(x, mean, color=INK, linewidth=1.8, label=f"mean of {len(rows)} {site}s", zorder=4)


def _ceiling_line(ax: Axes, ceiling: xr.DataArray, x: NDArray[np.float64], factor: float) -> None:
    level = ceiling.mean([dim for dim in ceiling.dims if dim != "time"]) * factor
    heights = np.broadcast_to(level.values.astype(float), x.shape)
    ax.plot(x, heights, color=MUTED, linewidth=1.4, linestyle=(0, (5, 2)), label="mean noise ceiling", zorder=2)


def response_function(
    response: Labelled,
    *,
    feature: Any = None,
    best: int = 3,
    map_at: float | None = None,
    inset: bool = True,
    interval: xr.DataArray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a temporal response function: lag on x, one line a channel, and a map of the channels at its peak.

    Weights of several folds or runs (a dimension ``fold``, ``run``, ``repeat`` or ``subject``) are drawn as their
    mean, with the 95 % interval of Student's t around the named channels.

    Parameters
    ----------
    response : DataArray or Dataset
        Weights of dims (lag,), (lag, channel) or (feature, lag, channel); ``lag`` in seconds.
    feature : label, optional
        Which feature to draw; by default the only one, or the one with the largest weights.
    best : int, default 3
        How many channels to name.
    map_at : float, optional
        Lag in seconds of the map; by default where the weights are largest.
    inset : bool, default True
        Whether to draw the map; it is drawn only where channels have positions on a head.
    interval : DataArray, optional
        Lower and upper ends, with a dimension ``bound`` of two and those of the response; shaded around the channels
        that have a colour.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If there is no lag, or no such feature.

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> weights = xr.DataArray([0.0, 0.2, 0.1], dims="lag", coords={"lag": [0.0, 0.1, 0.2]})
    >>> response_function(weights, ax=Figure().subplots()).get_ylabel()
    'weight (a.u.)'
    """
    whole, interval = _averaged(as_array(response, "response"), interval)
    array, name = _one_feature(whole, feature)
    site = _other_dim(array, "lag")
    mapped = inset and site == "channel" and _on_a_head(array)
    ax = new_axes(ax, (7.6, 3.6) if mapped else (6.4, 3.6))
    x = _curves(ax, array, site, "lag", best)
    if interval is not None:
        _bands(ax, _one_feature(interval, name if name is not None else feature)[0], array, site, x)
    if array.name is None and "units" not in array.attrs:
        ax.set_ylabel("weight (a.u.)", fontsize=NORMAL)
    if name is not None:
        ax.set_title(safe(name), fontsize=NORMAL, loc="left")
    legend(ax, outside=mapped, **({"bbox_to_anchor": (1.0, 0.34)} if mapped else {}))
    if mapped:
        index = peak(array, "lag") if map_at is None else int(np.abs(array["lag"].values - map_at).argmin())
        ax.axvline(float(x[index]), color=MUTED, linewidth=1.0, linestyle=":", zorder=1)
        head = ax.inset_axes((1.02, 0.36, 0.34, 0.58))
        topomap(array.isel(lag=index, drop=True), ax=head, colorbar=False)
        head.set_title(f"at {show_time(float(array['lag'][index]))}", fontsize=NORMAL)
    return ax


#: Dimensions of weights that were fitted several times.
FITTED = ("fold", "run", "repeat", "subject")


def _averaged(array: xr.DataArray, interval: xr.DataArray | None) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Mean over folds or runs and its interval; an interval that was given is checked against the weights."""
    over = next((dim for dim in FITTED if dim in array.dims), None)
    if over is not None and interval is None and array.sizes[over] > 1:
        from scipy import stats

        mean, sem = mean_sem(array, [over])
        half = sem * float(stats.t.ppf(0.975, array.sizes[over] - 1))
        interval = xr.concat([mean - half, mean + half], "bound")
        return mean.assign_attrs(array.attrs).rename(array.name), interval
    array = array if over is None else mean_sem(array, [over])[0].assign_attrs(array.attrs).rename(array.name)
    if interval is not None and (set(interval.dims) != {"bound", *array.dims} or interval.sizes["bound"] != 2):
        raise SchemaError(
            "The interval does not fit the response.",
            expected=f"dims ('bound', {', '.join(map(str, array.dims))}) with two bounds",
            got=dict(interval.sizes),
            where="interval",
        )
    return array, interval


def _bands(ax: Axes, interval: xr.DataArray, array: xr.DataArray, site: str | None, x: NDArray[np.float64]) -> None:
    """Shade the interval around every curve that has a name, in its colour."""
    factor = readable(array).factor
    ends = matched(interval, array.expand_dims(bound=2))
    if ends is None:
        return
    named = {line.get_label(): line.get_color() for line in ax.lines}
    rows = [(None, ax.lines[-1].get_color())] if site is None else list(enumerate(labels(array, site)))
    for index, name in rows:
        one = ends if index is None else ends.isel({str(site): index})
        shade = name if index is None else named.get(safe(name))
        if shade is not None:
            low, high = one.transpose("bound", "lag").values * factor
            ax.fill_between(x, low, high, color=shade, alpha=0.2, linewidth=0, zorder=1)


def _one_feature(array: xr.DataArray, feature: Any) -> tuple[xr.DataArray, str | None]:
    dim = next((name for name in ("feature", "band", "unit") if name in array.dims), None)
    if dim is None:
        return array, None
    names = labels(array, dim)
    if feature is None:
        index = peak(array, dim)
    elif str(feature) in names:
        index = names.index(str(feature))
    else:
        raise SchemaError("There is no such feature.", expected=f"one of {names}", got=repr(feature))
    return array.isel({dim: index}, drop=True), names[index] if len(names) > 1 or dim in array.coords else None


def _on_a_head(array: xr.DataArray) -> bool:
    if any(axis not in array.coords for axis in "xyz") or array.sizes["channel"] < 4:
        return False
    types = set(array["channel_type"].values.astype(str)) if "channel_type" in array.coords else {"eeg"}
    points = positions(array)
    placed = points[np.isfinite(points).all(axis=1)]
    return len(placed) >= 4 and spread_out(placed) and not types.isdisjoint(SENSOR_TYPES)


def has_sensors(array: xr.DataArray) -> bool:
    """Tell whether the values lie on channels that can be drawn on a head."""
    return "channel" in array.dims and _on_a_head(array)
