"""Sensor recordings as they are: traces of the raw signal, and averages with maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError
from neuroalign.plots._axes import INK, MUTED, NORMAL, SMALL, colour, new_axes, plain, with_room, zero_lines
from neuroalign.plots._data import (
    SITE_DIMS,
    Labelled,
    as_recording,
    labels,
    of_one_unit,
    readable,
    require_dims,
    show_time,
    time_axis,
    valid_trials,
)
from neuroalign.plots._text import safe
from neuroalign.plots.montage import BAD
from neuroalign.plots.sensors import one_kind, positions, spread_out, topomap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A trace is drawn with at most this many points; between them its extremes are kept.
MOST_POINTS = 4000


def traces(
    recording: Labelled,
    *,
    start: float | None = None,
    duration: float = 10.0,
    channels: int | Sequence[str] = 20,
    height: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the raw signal of some channels below each other, as a scrolling display shows it.

    Each trace is drawn about its median. Bad channels are grey. Events are lines with their ``trial_type``. Only the
    stretch that is drawn is read.

    Parameters
    ----------
    recording : Dataset or DataArray
        Values of dims (channel, time), or another kind of site over time. Events are taken from a Dataset.
    start : float, optional
        First time in s on the clock of the recording; by default its beginning.
    duration : float, default 10
        Seconds to draw.
    channels : int or sequence of str, default 20
        How many channels, from the first, or their names.
    height : float, optional
        Distance of two traces in the unit shown; by default as the signals need, for each type of channel its own.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If there is nothing in this stretch, or no such channel.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from neuroalign.schema import sensors
    >>> eeg = sensors(np.ones((2, 500)), modality="eeg", sfreq=100, channel=["Cz", "Pz"], units="uV")
    >>> [label.get_text() for label in traces(eeg, ax=Figure().subplots()).get_yticklabels()]
    ['Cz', 'Pz']
    """
    array = as_recording(recording)
    site = next((dim for dim in SITE_DIMS if dim in array.dims), "channel")
    require_dims(array, (site, "time"), needed=(site, "time"))
    part = _stretch(_chosen(array, site, channels), start, duration).transpose(site, "time").load()
    names, seconds = labels(part, site), part["time"].values.astype(float)
    bad = part["bad"].values.astype(bool) if "bad" in part.coords else np.zeros(len(names), dtype=bool)
    ax = new_axes(ax, (9.0, min(10.0, 1.2 + 0.28 * len(names))))
    notes = []
    for kind, rows in _by_type(part, site):
        shown = readable(of_one_unit(part.isel({site: rows})) if site == "channel" else part)
        values = part.values[rows].astype(float) * shown.factor
        step = height if height is not None else _height(values[~bad[rows]] if (~bad[rows]).any() else values)
        notes.append(f"{kind}: {step:.3g} {shown.units}".rstrip() if kind else f"{step:.3g} {shown.units}".rstrip())
        for row, signal in zip(rows, values, strict=True):
            x, y = _thinned(seconds, (signal - np.nanmedian(signal)) / step)
            ax.plot(x, row - y, color=MUTED if bad[row] else INK, linewidth=0.6, alpha=0.6 if bad[row] else 1.0)
    ax.set_yticks(range(len(names)), [safe(name) for name in names], fontsize=SMALL)
    for tick, marked in zip(ax.get_yticklabels(), bad, strict=True):
        tick.set_color(BAD if marked else INK)
    ax.set_ylim(len(names) - 0.2, -0.8)
    ax.set_xlim(seconds[0], seconds[-1])
    ax.set_xlabel("Time (s)", fontsize=NORMAL)
    plain(ax, grid=None)
    if isinstance(recording, xr.Dataset):
        _events(ax, recording, seconds)
    ax.annotate(
        "between traces: " + ", ".join(notes),
        (1.0, 0.0),
        xycoords="axes fraction",
        xytext=(0, -20),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=SMALL,
    )
    return ax


def _chosen(array: xr.DataArray, site: str, channels: int | Sequence[str]) -> xr.DataArray:
    if isinstance(channels, int):
        return array.isel({site: slice(0, channels)})
    names = labels(array, site)
    missing = [name for name in channels if name not in names]
    if missing:
        raise SchemaError("There is no such channel.", expected=f"names such as {names[:5]}", got=missing)
    return array.isel({site: [names.index(name) for name in channels]})


def _stretch(array: xr.DataArray, start: float | None, duration: float) -> xr.DataArray:
    times = array["time"].values
    first = float(times[0]) if start is None else start
    inside = np.flatnonzero((times >= first - 1e-9) & (times < first + duration))
    if inside.size < 2:
        raise SchemaError(
            "There is nothing to draw in this stretch.",
            expected=f"a start in {times[0]:g} to {times[-1]:g} s, and a duration of several samples",
            got=f"start={first:g}, duration={duration:g}",
        )
    return array.isel(time=slice(int(inside[0]), int(inside[-1]) + 1))


def _by_type(part: xr.DataArray, site: str) -> list[tuple[str, NDArray[np.intp]]]:
    """Rows of each type of channel: they differ in unit and size."""
    if "channel_type" not in part.coords or site != "channel":
        return [("", np.arange(part.sizes[site]))]
    types = part["channel_type"].values.astype(str)
    return [(kind, np.flatnonzero(types == kind)) for kind in dict.fromkeys(types.tolist())]


def _height(values: NDArray[np.float64]) -> float:
    """Distance at which neighbours mostly do not touch: four robust standard deviations of a typical channel."""
    middle = np.nanmedian(values, axis=1, keepdims=True)
    spread = np.nanquantile(np.abs(values - middle), 0.95, axis=1)
    usable = spread[np.isfinite(spread) & (spread > 0)]
    return float(2.0 * np.median(usable)) if usable.size else 1.0


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep the smallest and the largest value of every bin, so that no spike is lost."""
    width = -(-2 * len(x) // MOST_POINTS)
    if width < 4:
        return x, y
    n = len(x) // width
    blocks = np.nan_to_num(y[: n * width]).reshape(n, width)
    picks = np.sort(np.stack([blocks.argmin(axis=1), blocks.argmax(axis=1)], axis=1), axis=1)
    rows = (picks + width * np.arange(n)[:, None]).ravel()
    return x[rows], y[rows]


def _events(ax: Axes, recording: xr.Dataset, seconds: NDArray[np.float64]) -> None:
    """Mark events by lines; the label of each type is written at its first event."""
    if "onset" not in recording.coords or recording["onset"].dims != ("event",):
        return
    zero = float(recording.attrs.get("first_sample", 0)) / float(recording.attrs["sfreq"])
    onset = recording["onset"].values.astype(float) + zero
    inside = np.flatnonzero((onset >= seconds[0]) & (onset <= seconds[-1]))
    text = recording["trial_type"].values.astype(str) if "trial_type" in recording.coords else np.full(len(onset), "")
    kinds = list(dict.fromkeys(text[inside].tolist()))
    for index in inside:
        shade = colour(kinds.index(text[index]))
        ax.axvline(onset[index], color=shade, linewidth=0.9, zorder=0)
    for kind in kinds:
        first = next(i for i in inside if text[i] == kind)
        ax.annotate(
            safe(kind),
            (onset[first], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(1, 2),
            textcoords="offset points",
            color=colour(kinds.index(kind)),
            fontsize=7,
            rotation=30,
        )


def butterfly(
    values: Labelled,
    *,
    times: int | Sequence[float] = 3,
    channel_type: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw an average response: one line a sensor, coloured by where it lies, and maps at the peaks.

    Parameters
    ----------
    values : Dataset or DataArray
        Values of dims (channel, time) with positions; trials are averaged first.
    times : int or sequence of float, default 3
        How many maps, at the largest separate peaks of the spread over sensors (the global field power), or their
        times in s.
    channel_type : {"mag", "grad", "eeg"}, optional
        Which sensors to draw when there are several kinds; by default the first of these that is present.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes of the curves; the maps are inset above them.

    Raises
    ------
    SchemaError
        If sensors have no positions, or a time is not there.

    References
    ----------
    Lehmann, D. & Skrandies, W. (1980). Reference-free identification of components of checkerboard-evoked multichannel
    potential fields. Electroencephalography and Clinical Neurophysiology 48, 609-621.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from matplotlib.figure import Figure
    >>> angle = np.arange(8) * np.pi / 4
    >>> xyz = {"x": 0.08 * np.cos(angle), "y": 0.08 * np.sin(angle), "z": np.linspace(0, 0.04, 8)}
    >>> coords = {axis: ("channel", place) for axis, place in xyz.items()} | {"time": np.arange(5) / 100}
    >>> wave = xr.DataArray(angle[:, None] * np.ones(5), dims=("channel", "time"), coords=coords, attrs={"units": "V"})
    >>> ax = butterfly(wave, times=[0.02], ax=Figure().subplots())
    """
    array = _average(as_recording(values))
    array, _, kind = one_kind(array.transpose("channel", "time").load(), None, channel_type)
    array = array.rename(kind)  # a recording of MEG may hold EEG channels
    shown, (x, x_label) = readable(array), time_axis(array)
    rows, points = array.values.astype(float) * shown.factor, positions(array)
    power = np.sqrt(np.nanmean((rows - np.nanmean(rows, axis=0)) ** 2, axis=0))
    indices = _peaks(power, times) if isinstance(times, int) else _nearest(array, times)
    mapped = spread_out(points) and len(indices) > 0
    ax = with_room(ax, (7.2, 4.8), top=0.1) if mapped else new_axes(ax, (7.2, 3.6))
    zero_lines(ax, x)
    for row, shade in zip(rows, _place_colours(points), strict=True):
        ax.plot(x, row, color=shade, linewidth=0.6, rasterized=len(rows) > 64)
    ax.plot(x, power, color=INK, linewidth=1.6, label="global field power")
    ax.set_xlim(float(x[0]), float(x[-1]))
    ax.set_xlabel(x_label, fontsize=NORMAL)
    ax.set_ylabel(shown.label, fontsize=NORMAL)
    plain(ax)
    ax.legend(fontsize=SMALL, frameon=False, loc="lower right")
    if mapped:
        _maps(ax, array, x, indices)
    return ax


def _average(array: xr.DataArray) -> xr.DataArray:
    over = [dim for dim in ("trial", "stimulus", "repeat") if dim in array.dims]
    array = valid_trials(array).mean(over, keep_attrs=True) if over else array
    require_dims(array, ("channel", "time"), needed=("channel", "time"))
    return array


def _peaks(power: NDArray[np.float64], count: int) -> list[int]:
    """Largest local peaks that lie at least a tenth of the window apart, in order of time."""
    from scipy.signal import find_peaks

    found, _ = find_peaks(np.r_[0.0, power, 0.0], distance=max(1, len(power) // 10))
    found = found - 1
    best = found[np.argsort(-power[found], kind="stable")[:count]]
    return sorted(int(index) for index in best)


def _nearest(array: xr.DataArray, times: Sequence[float]) -> list[int]:
    grid = array["time"].values
    outside = [t for t in times if not grid[0] - 1e-9 <= t <= grid[-1] + 1e-9]
    if outside:
        raise SchemaError("There is no such time.", expected=f"{grid[0]:g} to {grid[-1]:g} s", got=outside)
    return sorted(int(np.abs(grid - t).argmin()) for t in times)


def _place_colours(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Red, green and blue by x, y and z, so that neighbours look alike."""
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    return 0.85 * (points - low) / np.where(span > 0, span, 1.0)


def _maps(ax: Axes, array: xr.DataArray, x: NDArray[np.float64], indices: list[int]) -> None:
    width = min(0.28, 0.9 / len(indices))
    limit = float(np.nanmax(np.abs(array.values[:, indices]))) * readable(array).factor
    signed = (array.values < 0).any()
    for rank, index in enumerate(indices):
        centre = (rank + 0.5) / len(indices)
        head = ax.inset_axes((centre - width / 2, 1.06, width, 0.46))
        moment = array.isel(time=index, drop=True)
        topomap(moment, ax=head, colorbar=False, vlim=(-limit if signed else 0.0, limit or 1.0))
        head.set_title(show_time(float(array["time"][index])), fontsize=SMALL)
        ax.axvline(float(x[index]), color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
        ax.annotate(
            "",
            xy=(float(x[index]), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(centre, 1.06),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.8},
        )
