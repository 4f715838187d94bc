"""Single trials of a recording as an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError
from neuroalign.plots._axes import INK, NORMAL, SMALL, colour, colour_bar, plain, with_room, zero_lines
from neuroalign.plots._data import (
    Labelled,
    as_recording,
    labels,
    of_one_unit,
    readable,
    require_dims,
    scale,
    time_axis,
    valid_trials,
)
from neuroalign.plots._text import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def erp_image(
    trials: Labelled,
    *,
    channel: str | None = None,
    order: str | None = None,
    smooth: int = 1,
    vlim: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the single trials of one channel as an image, with their average below.

    Parameters
    ----------
    trials : Dataset or DataArray
        Values of dims (trial, channel, time), or (trial, time). Trials that are not ``valid`` are left out.
    channel : str, optional
        Which channel; by default the one whose average has the largest peak.
    order : str, optional
        Coordinate of the trials by which they are sorted, such as a reaction time; a black line marks it where it is
        in seconds within the window.
    smooth : int, default 1
        Average each trial with its neighbours, this many in all.
    vlim : tuple of float, optional
        Limits of the colours, in the unit shown.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes of the image; the average is inset below it.

    Raises
    ------
    SchemaError
        If there is no such channel or coordinate.

    References
    ----------
    Jung, T.-P. et al. (2001). Analysis and visualization of single-trial event-related potentials. Human Brain Mapping
    14, 166-185.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from matplotlib.figure import Figure
    >>> epochs = xr.DataArray(
    ...     np.random.default_rng(0).normal(size=(10, 2, 20)), dims=("trial", "channel", "time"),
    ...     coords={"channel": ["Cz", "Pz"], "time": np.arange(20) / 100},
    ... )
    >>> erp_image(epochs, channel="Cz", ax=Figure().subplots()).get_title(loc="left")
    'Cz'
    """
    array, name = _one_channel(valid_trials(as_recording(trials)), channel)
    array = array.transpose("trial", "time").load()
    if order is not None:
        if order not in array.coords or array[order].dims != ("trial",):
            known = sorted(str(n) for n, c in array.coords.items() if c.dims == ("trial",))
            raise SchemaError("The trials have no such coordinate.", expected=known, got=order)
        array = array.isel(trial=np.argsort(array[order].values, kind="stable"))
    shown, (x, x_label) = readable(array), time_axis(array)
    values = _smoothed(array.values.astype(float) * shown.factor, smooth)
    shades = scale(values, vlim=vlim)
    ax = with_room(ax, (6.4, 5.4), bottom=0.05)
    ax.pcolormesh(
        x, np.arange(len(values)), values, cmap=shades.cmap, vmin=shades.low, vmax=shades.high, rasterized=True
    )
    if x[0] <= 0 <= x[-1]:
        ax.axvline(0, color=INK, linewidth=0.8, linestyle="--")
    if order is not None:
        _order_line(ax, array[order].values, array["time"].values, x)
    ax.set_ylabel(f"trial, by {safe(order)}" if order else "trial", fontsize=NORMAL)
    ax.set_title(safe(name), fontsize=NORMAL, loc="left")
    ax.tick_params(labelbottom=False, labelsize=SMALL)
    colour_bar(ax, shades, shown.label)
    _average_below(ax, x, values, shown.label, x_label)
    return ax


def _one_channel(array: xr.DataArray, channel: str | None) -> tuple[xr.DataArray, str]:
    require_dims(array, ("trial", "channel", "time"), needed=("trial", "time"))
    if "channel" not in array.dims:
        return array, str(array.coords["channel"].item()) if "channel" in array.coords else "trials"
    names = labels(array, "channel")
    if channel is None:
        mean = of_one_unit(array.mean("trial", keep_attrs=True).load())
        bad = mean["bad"].values.astype(bool) if "bad" in mean.coords else np.zeros(len(names), dtype=bool)
        peaks = np.abs(mean.transpose("channel", "time").values).max(axis=1)
        channel = names[int(np.where(bad, -1.0, np.nan_to_num(peaks, nan=-1.0)).argmax())]
    elif channel not in names:
        raise SchemaError("There is no such channel.", expected=f"names such as {names[:5]}", got=channel)
    row = array.isel(channel=[names.index(channel)])
    return of_one_unit(row).isel(channel=0), channel


def _smoothed(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Running mean over trials; at the ends over the trials that there are."""
    if width < 2:
        return values
    from scipy.ndimage import convolve1d

    kernel = np.ones(min(width, len(values)))
    weight = convolve1d(np.ones(len(values)), kernel, mode="constant")
    return np.asarray(convolve1d(values, kernel, axis=0, mode="constant") / weight[:, None])


def _order_line(ax: Axes, by: NDArray[np.generic], seconds: NDArray[np.float64], x: NDArray[np.float64]) -> None:
    if by.dtype.kind not in "fiu" or not ((by >= seconds[0]) & (by <= seconds[-1])).mean() > 0.5:
        return
    factor = (x[-1] - x[0]) / (seconds[-1] - seconds[0])
    ax.plot(by * factor, np.arange(len(by)), color="k", linewidth=1.2)


def _average_below(ax: Axes, x: NDArray[np.float64], values: NDArray[np.float64], label: str, x_label: str) -> None:
    below = ax.inset_axes((0.0, -0.36, 1.0, 0.3))
    zero_lines(below, x)
    mean = np.nanmean(values, axis=0)
    error = np.nanstd(values, axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.zeros_like(mean)
    below.fill_between(x, mean - error, mean + error, color=colour(0), alpha=0.25, linewidth=0)
    below.plot(x, mean, color=colour(0), linewidth=1.4)
    below.set_xlim(float(x[0]), float(x[-1]))
    below.set_xlabel(x_label, fontsize=NORMAL)
    below.set_ylabel(label, fontsize=SMALL)
    plain(below)
