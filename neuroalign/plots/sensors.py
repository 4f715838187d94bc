"""Maps over sensors: values of EEG and MEG channels on the head, seen from above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError, require
from neuroalign.plots._axes import NORMAL, colour_bar, new_axes
from neuroalign.plots._data import (
    Labelled,
    Scale,
    as_array,
    companion,
    matched,
    of_one_unit,
    peak,
    readable,
    require_dims,
    scale,
    show_time,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# MNE's order when a recording holds several kinds of sensors.
SENSOR_TYPES = ("mag", "grad", "eeg")
HEAD_RADIUS = 0.095  # m, as MNE draws heads
HEAD_CENTRE = (0.0, 0.0, 0.04)  # m, the usual centre of a sphere model in the head frame
FAR = 0.5  # m; no sensor is farther from the head's centre


def topomap(
    values: Labelled,
    *,
    time: float | None = None,
    significant: xr.DataArray | None = None,
    channel_type: str | None = None,
    vlim: tuple[float, float] | None = None,
    cmap: str | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the values of EEG or MEG channels as a map over the head.

    Sensors are placed by their positions as MNE does it: the head circle is at the level of ears and nasion for EEG;
    for MEG the map is centred on the sphere that fits the helmet best. Two gradiometers at one place become one
    point: the root mean square for field gradients, the mean for scores. Channels whose value is NaN are left out
    of the map and marked with a cross.

    Parameters
    ----------
    values : DataArray or Dataset
        Values of dims (channel,) or (channel, time), with the channel coordinates ``x``, ``y`` and ``z`` in metres.
        Of a Dataset, the variable ``score`` is drawn, and its ``significant`` is used.
    time : float, optional
        Time in seconds; the nearest sample is drawn. By default the time at which the map is strongest.
    significant : DataArray of bool, optional
        Sensors to mark, of dims among those of `values`.
    channel_type : {"mag", "grad", "eeg"}, optional
        Which sensors to draw when there are several kinds; by default the first of these that is present.
    vlim : tuple of float, optional
        Limits of the colours, in the units shown.
    cmap : str, optional
        Colour map; by default RdBu_r about zero for values of both signs, else viridis.
    colorbar : bool, default True
        Whether to add a colour bar.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If positions are missing or not in metres, or no channel of that type is there.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from matplotlib.figure import Figure
    >>> angle = np.arange(8) * np.pi / 4
    >>> xyz = {"x": 0.08 * np.cos(angle), "y": 0.08 * np.sin(angle), "z": np.linspace(0, 0.04, 8)}
    >>> coords = {axis: ("channel", place) for axis, place in xyz.items()}
    >>> scores = xr.DataArray(angle, dims="channel", coords=coords, name="score")
    >>> ax = topomap(scores, ax=Figure().subplots())
    """
    mne = require("mne", "eeg")
    array, mask = _one_moment(as_array(values), companion(values, significant, "significant"), time)
    array, mask, kind = one_kind(array, mask, channel_type)
    shown = readable(array)
    data, points, marks = join_pairs(array, mask, kind)
    data = data * shown.factor
    shades, finite = scale(data, vlim=vlim, cmap=cmap), np.isfinite(data)
    if finite.sum() < 3 or not spread_out(points[finite]):
        raise SchemaError(
            "A map needs values at three sensors or more that do not lie on one line.",
            got=f"{int(finite.sum())} with a value",
            fix="draw plots.bars or plots.timecourse",
        )
    ax = new_axes(ax, (4.6, 4.0))
    with mne.use_log_level("ERROR"):
        _paint(mne, ax, data[finite], points[finite], marks[finite], kind, shades)
        _cross(ax, points, ~finite, kind)
    if "time" in array.coords and array["time"].ndim == 0:
        ax.set_title(show_time(float(array["time"])), fontsize=NORMAL)
    if colorbar:
        paired = f"{shown.label}, RMS of pairs" if kind == "grad" and array.attrs.get("units") == "T/m" else shown.label
        colour_bar(ax, shades, paired, shrink=0.7)
    return ax


def _one_moment(
    array: xr.DataArray, mask: xr.DataArray | None, time: float | None
) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Pick the time asked for, or the strongest one, from the values and their mask."""
    require_dims(array, ("channel", "time"), needed=("channel",))
    mask = matched(mask, array)
    if "time" not in array.dims:
        return array, mask
    if time is None:
        index = peak(array, "time")
    else:
        index = int(np.abs(array["time"].values - time).argmin())
        low, high = float(array["time"].min()), float(array["time"].max())
        if not low - 1e-9 <= time <= high + 1e-9:
            raise SchemaError("There is no such time.", expected=f"{low:g} to {high:g} s", got=f"time={time!r}")
    if mask is not None and "time" in mask.dims:
        mask = mask.isel(time=index)
    return array.isel(time=index), mask


def one_kind(
    array: xr.DataArray, mask: xr.DataArray | None, wanted: str | None
) -> tuple[xr.DataArray, xr.DataArray | None, str]:
    """Keep the sensors of one type that have a position; without ``channel_type`` they are taken for EEG."""
    if "channel_type" not in array.coords:
        kind, keep = wanted or "eeg", np.ones(array.sizes["channel"], dtype=bool)
    else:
        types = array["channel_type"].values.astype(str)
        present = [kind for kind in SENSOR_TYPES if (types == kind).any()]
        kind = wanted or (present[0] if present else "eeg")
        keep = types == kind
        if kind not in present:
            raise SchemaError(
                "No such sensors can be drawn on a head.",
                expected=f"channels of type {kind!r}" if wanted else f"channels of a type among {SENSOR_TYPES}",
                got=sorted(set(types.tolist())),
                fix="choose channel_type= among those present; iEEG contacts are drawn by plots.brain",
            )
    array = array.isel(channel=keep)
    points = positions(array)
    placed = np.isfinite(points).all(axis=1)
    if not placed.any():
        raise SchemaError(
            "No channel has a position.", fix="load with positions or a montage, or draw plots.bars or plots.timecourse"
        )
    if np.linalg.norm(points[placed], axis=1).max() > FAR:
        far = float(np.linalg.norm(points[placed], axis=1).max())
        raise SchemaError("Sensor positions are not in metres.", expected=f"within {FAR} m", got=f"{far:g} m")
    if mask is not None and "channel" in mask.dims:
        mask = mask.isel(channel=keep).isel(channel=placed)
    return of_one_unit(array.isel(channel=placed)), mask, kind


def positions(array: xr.DataArray, dim: str = "channel") -> NDArray[np.float64]:
    """Give the coordinates x, y, z of each site as (n, 3).

    Examples
    --------
    >>> import xarray as xr
    >>> coords = {"x": ("channel", [0.1]), "y": ("channel", [0.0]), "z": ("channel", [0.05])}
    >>> positions(xr.DataArray([1.0], dims="channel", coords=coords))
    array([[0.1 , 0.  , 0.05]])
    """
    missing = [axis for axis in "xyz" if axis not in array.coords]
    if missing:
        raise SchemaError(
            f"The values have no positions: the coordinates {missing} of {dim!r} are missing.",
            expected=f"coordinates x, y and z along {dim!r}",
            fix="load with positions or a montage, or draw plots.bars or plots.timecourse",
        )
    return np.stack([array[axis].values.astype(float) for axis in "xyz"], axis=1)


def spread_out(points: NDArray[np.float64]) -> bool:
    """Tell whether sensors cover an area; a few on the midline have no map."""
    if len(points) < 3:
        return False
    sizes = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(sizes[1] > 0.05 * sizes[0])


def join_pairs(
    array: xr.DataArray, mask: xr.DataArray | None, kind: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Make one point of the two gradiometers at one place; a point is marked when either of them is."""
    data, points = array.values.astype(float), positions(array)
    marks = np.zeros(data.shape, bool) if mask is None else np.broadcast_to(mask.values.astype(bool), data.shape)
    if kind != "grad":
        return data, points, marks
    places, group = np.unique(points.round(4), axis=0, return_inverse=True)
    group = group.reshape(-1)
    counts = np.bincount(group)
    if array.attrs.get("units") == "T/m":
        joined = np.sqrt(np.bincount(group, data**2) / counts)
    else:
        joined = np.bincount(group, data) / counts
    return joined, places, np.bincount(group, marks) > 0


def as_info(mne: Any, points: NDArray[np.float64], kind: str) -> Any:
    """Make an MNE Info with these sensors; pairs of gradiometers are already joined, so they go as magnetometers."""
    names = [f"s{index}" for index in range(len(points))]
    info = mne.create_info(names, 1.0, "eeg" if kind == "eeg" else "mag")
    for channel, point in zip(info["chs"], points, strict=True):
        channel["loc"][:3] = point
    return info


def head_sphere(points: NDArray[np.float64], kind: str) -> tuple[float, float, float, float]:
    """Give the sphere (centre and radius in m) from which sensors are projected to the plane.

    EEG electrodes lie on the head whose frame has its origin between the ears. MEG sensors lie on a helmet; its
    centre is found by least squares, from ``|p|^2 = 2 p.c + (r^2 - |c|^2)``.
    """
    if kind == "eeg":
        return 0.0, 0.0, 0.0, HEAD_RADIUS
    if len(points) < 10:
        return *HEAD_CENTRE, HEAD_RADIUS
    design = np.c_[2 * points, np.ones(len(points))]
    solution = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)[0]
    return float(solution[0]), float(solution[1]), float(solution[2]), HEAD_RADIUS


def _paint(
    mne: Any,
    ax: Axes,
    data: NDArray[np.float64],
    points: NDArray[np.float64],
    marks: NDArray[np.bool_],
    kind: str,
    shades: Scale,
) -> None:
    # Sensors on one circle can be joined to triangles in many ways; 10 µm more or less decide which.
    nudge = np.random.default_rng(0).uniform(-1e-5, 1e-5, points.shape) if _on_a_circle(points, kind) else 0.0
    mne.viz.plot_topomap(
        data,
        as_info(mne, points + nudge, kind),
        axes=ax,
        show=False,
        cmap=shades.cmap,
        vlim=(shades.low, shades.high),
        sphere=head_sphere(points, kind),
        mask=marks if marks.any() else None,
        mask_params={"marker": "o", "markerfacecolor": "w", "markeredgecolor": "k", "linewidth": 0, "markersize": 4.5},
        contours=0 if np.ptp(data) == 0 else 4,
    )


def _on_a_circle(points: NDArray[np.float64], kind: str) -> bool:
    flat = project(points, kind)
    design = np.c_[2 * flat, np.ones(len(flat))]
    squares = (flat**2).sum(axis=1)
    solution = np.linalg.lstsq(design, squares, rcond=None)[0]
    return bool(np.abs(design @ solution - squares).max() < 1e-9)


def _cross(ax: Axes, points: NDArray[np.float64], absent: NDArray[np.bool_], kind: str) -> None:
    """Mark the sensors that have no value with a grey cross at their place."""
    if not absent.any():
        return
    layout = project(points, kind)[absent]
    ax.plot(layout[:, 0], layout[:, 1], "x", color="0.25", markersize=6, markeredgewidth=1.4, zorder=5)


def project(points: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Project positions to the plane as MNE's maps do: arcs from the top of the head become straight."""
    x0, y0, z0, _ = head_sphere(points, kind)
    x, y, z = (points - (x0, y0, z0)).T
    flat = np.hypot(x, y)
    arc = np.hypot(flat, z) * np.arctan2(flat, z) / (np.pi / 2)
    azimuth = np.arctan2(y, x)
    return np.stack([x0 + arc * np.cos(azimuth), y0 + arc * np.sin(azimuth)], axis=1)
