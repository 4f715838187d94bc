"""Where sensors and electrodes lie: the layout of a cap or helmet, and contacts in a glass brain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError, require
from neuroalign.plots._axes import INK, NORMAL, PALETTE, SMALL, colours, legend, new_axes
from neuroalign.plots._data import Labelled, as_recording, labels
from neuroalign.plots._text import safe
from neuroalign.plots.sensors import as_info, head_sphere, one_kind, positions, project
from neuroalign.plots.volumes import follow, in_standard_space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Names of more sensors than this cover each other.
MOST_NAMES = 80
BAD = "#C1121F"  # as in MNE, what is bad is red


def layout(
    recording: Labelled, *, channel_type: str | None = None, names: bool | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the sensors of a recording as seen from above, with the nose up; bad ones in red.

    Parameters
    ----------
    recording : Dataset or DataArray
        With the channel coordinates ``x``, ``y`` and ``z`` in metres.
    channel_type : {"mag", "grad", "eeg"}, optional
        Which sensors to draw when there are several kinds; by default the first of these that is present.
    names : bool, optional
        Whether to write names; by default where there are at most 80 sensors.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on.

    Raises
    ------
    SchemaError
        If no sensor of that type has a position, or positions are not in metres.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from neuroalign.schema import sensors
    >>> xyz = [[-0.07, 0, 0.04], [0.07, 0, 0.04], [0, 0.09, 0.03], [0, 0, 0.1]]
    >>> eeg = sensors(
    ...     np.zeros((4, 2)), modality="eeg", sfreq=100, channel=["C3", "C4", "Fpz", "Cz"], units="V", positions=xyz
    ... )
    >>> layout(eeg, ax=Figure().subplots()).get_title()
    '4 eeg sensors'
    """
    mne = require("mne", "eeg")
    array, _, kind = one_kind(_one_sample(as_recording(recording)), None, channel_type)
    points = positions(array)
    flat, bad = project(points, kind), _bad(array)
    ax = new_axes(ax, (5.2, 5.2))
    with mne.use_log_level("ERROR"):
        # An empty map draws the head, ears and nose where MNE's maps have them.
        mne.viz.plot_topomap(
            np.zeros(len(points)),
            as_info(mne, points + np.random.default_rng(0).uniform(-1e-5, 1e-5, points.shape), kind),
            axes=ax,
            show=False,
            contours=0,
            sensors=False,
            cmap="Greys",
            vlim=(0.0, 1.0),
            sphere=head_sphere(points, kind),
        )
    for chosen, shade, marker in ((~bad, PALETTE[0], "o"), (bad, BAD, "X")):
        ax.scatter(
            flat[chosen, 0], flat[chosen, 1], s=26, color=shade, marker=marker, linewidth=0, zorder=4, clip_on=False
        )
    if len(points) <= MOST_NAMES if names is None else names:
        _write_names(ax, flat, labels(array, "channel"), bad)
    noted = f", {int(bad.sum())} bad" if bad.any() else ""
    ax.set_title(f"{len(points)} {safe(kind)} sensors{noted}", fontsize=NORMAL)
    return ax


def _one_sample(array: xr.DataArray) -> xr.DataArray:
    """Drop all dimensions but the channels without reading values."""
    if "channel" not in array.dims:
        raise SchemaError("There are no channels.", expected="a dimension channel", got=tuple(map(str, array.dims)))
    kept = {str(name): coord for name, coord in array.coords.items() if coord.dims == ("channel",)}
    return xr.DataArray(np.zeros(array.sizes["channel"]), dims="channel", coords=kept, attrs=array.attrs)


def _bad(array: xr.DataArray) -> NDArray[np.bool_]:
    return array["bad"].values.astype(bool) if "bad" in array.coords else np.zeros(array.sizes["channel"], dtype=bool)


def _write_names(ax: Axes, flat: NDArray[np.float64], names: list[str], bad: NDArray[np.bool_]) -> None:
    for (x, y), name, marked in zip(flat, names, bad, strict=True):
        ax.annotate(
            safe(name),
            (x, y),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=BAD if marked else INK,
            zorder=5,
        )


def electrodes(recording: Labelled, *, by: str = "shaft", ax: Axes | None = None) -> Axes:
    """Draw the contacts of an intracranial recording in a glass brain, one colour a shaft; bad ones are hollow.

    Parameters
    ----------
    recording : Dataset or DataArray
        With the channel coordinates ``x``, ``y`` and ``z`` in metres. Contacts without a position are left out, and
        counted in the title.
    by : str, default "shaft"
        Channel coordinate that is coloured, such as ``"shaft"``, ``"channel_type"`` or ``"roi"``.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on; nilearn's panels lie within them.

    Raises
    ------
    SchemaError
        If no contact has a position, or there is no such coordinate.

    Notes
    -----
    The outline is that of an MNI brain. Positions in another frame are drawn all the same, and the title says so.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from neuroalign.schema import sensors
    >>> ieeg = sensors(
    ...     np.zeros((2, 2)), modality="ieeg", sfreq=100, channel=["LA1", "LA2"], units="V",
    ...     positions=[[-0.03, -0.02, 0.01], [-0.035, -0.02, 0.01]], coords={"shaft": ["LA", "LA"]},
    ... )
    >>> ax = electrodes(ieeg, ax=Figure().subplots())
    """
    plotting = require("nilearn.plotting", "fmri")
    array = _one_sample(as_recording(recording))
    points = positions(array) * 1e3
    inside = np.isfinite(points).all(axis=1)
    if not inside.any():
        raise SchemaError(
            "No contact has a position.",
            fix="load with electrodes=..., or a BIDS data set with electrodes.tsv and coordsystem.json",
        )
    groups = _groups(array, by)
    ax = new_axes(ax, (7.6, 3.0))
    panel = plotting.plot_glass_brain(None, figure=ax.figure, axes=ax, colorbar=False)
    bad = _bad(array)
    found = list(dict.fromkeys(groups[inside].tolist()))
    for name, shade in zip(found, colours(len(found)), strict=True):
        for chosen, face in ((~bad, shade), (bad, "none")):
            rows = inside & chosen & (groups == name)
            if rows.any():
                panel.add_markers(points[rows], marker_color=face, marker_size=14, edgecolors=shade, linewidths=0.9)
        ax.plot([], [], "o", color=shade, markersize=5, label=safe(name) or "other")
    follow(panel, ax)
    legend(ax, outside=True, ncols=1 + len(set(groups.tolist())) // 14)
    ax.set_title(_frame_title(array, int((~inside).sum())), fontsize=SMALL)
    return ax


def _groups(array: xr.DataArray, by: str) -> NDArray[np.object_]:
    if by in array.coords:
        return np.array([str(name) for name in array[by].values.tolist()], dtype=object)
    if by == "shaft":
        return np.full(array.sizes["channel"], "contacts", dtype=object)
    raise SchemaError(
        "The channels have no such coordinate.", expected=sorted(map(str, array.coords)), got=by, fix="choose by="
    )


def _frame_title(array: xr.DataArray, missing: int) -> str:
    frame = array.attrs.get("coord_frame", "unknown")
    parts = [f"{missing} contacts without a position are left out"] if missing else []
    if not in_standard_space(array, "coord_frame"):
        parts.append(f"coordinate frame: {safe(frame)} (the outline is an MNI brain)")
    return "; ".join(parts)
