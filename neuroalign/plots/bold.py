"""fMRI runs as they are: the mean image with its mask, all sites over time, and the regions of an atlas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import SchemaError, require
from neuroalign.plots._axes import INK, NORMAL, SMALL, colour, colours, new_axes, plain
from neuroalign.plots._data import SITE_DIMS, Labelled, as_recording, labels, require_dims
from neuroalign.plots._text import safe
from neuroalign.plots.volumes import cuts, follow, to_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLOCK = 32  # volumes in memory at a time
MOST_ROWS = 1500  # more rows than pixels show nothing; neighbours are averaged
MOST_GROUPS = 25


def mean_epi(run: Labelled, *, mask: Any = None, ax: Axes | None = None) -> Axes:
    """Draw the mean volume of an fMRI run as axial slices, with the outline of a mask.

    Parameters
    ----------
    run : Dataset or DataArray
        Dims (time, k, j, i), or (time, voxel) of a run inside a mask, whose outline is then drawn. A lazy run is read
        32 volumes at a time.
    mask : NIfTI image or path, optional
        Mask whose outline is drawn.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on; nilearn's panels lie within them.

    Raises
    ------
    SchemaError
        If this is no run with places in a volume.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from neuroalign.schema import fmri_volume
    >>> run = fmri_volume(np.ones((2, 3, 4, 5)), affine=np.diag([4.0, 4, 4, 1]), tr=2.0)
    >>> ax = mean_epi(run, ax=Figure().subplots())
    """
    plotting = require("nilearn.plotting", "fmri")
    array = as_recording(run)
    if "time" in array.dims:
        array = _mean_over_time(array)
    require_dims(array, ("k", "j", "i") if "k" in array.dims else ("voxel",))
    image, inside = to_image(array)
    low, high = np.quantile(array.values[np.isfinite(array.values)], [0.02, 0.998])
    ax = new_axes(ax, (7.4, 2.6))
    panel = plotting.plot_epi(
        image,
        figure=ax.figure,
        axes=ax,
        display_mode="z",
        cut_coords=cuts(image),
        cmap="gray",
        vmin=float(low),
        vmax=float(high),
        colorbar=False,
        annotate=False,
    )
    outline = mask if mask is not None else inside if "voxel" in array.dims else None
    if outline is not None:
        panel.add_contours(outline, levels=[0.5], colors=[colour(1)], linewidths=1.0)
    panel.annotate(size=int(SMALL))
    follow(panel, ax)
    return ax


def _mean_over_time(array: xr.DataArray) -> xr.DataArray:
    """Mean over the volumes that are valid, a few at a time."""
    keep = _valid(array)
    total = np.zeros([size for dim, size in array.sizes.items() if dim != "time"])
    for lo in range(0, array.sizes["time"], BLOCK):
        block = array.isel(time=slice(lo, lo + BLOCK)).transpose("time", ...).values
        total += block[keep[lo : lo + BLOCK]].sum(axis=0, dtype=np.float64)
    return array.isel(time=0, drop=True).copy(data=total / max(1, int(keep.sum())))


def _valid(array: xr.DataArray) -> NDArray[np.bool_]:
    for name in ("sample_mask", "valid"):
        if name in array.coords and array[name].dims == ("time",):
            return np.asarray(array[name].values, dtype=bool)
    return np.ones(array.sizes["time"], dtype=bool)


def carpet(
    run: Labelled,
    *,
    by: str | None = None,
    vlim: float = 2.0,
    motion: str = "framewise_displacement",
    ax: Axes | None = None,
) -> Axes:
    """Draw every site of an fMRI run over time in grey, grouped by region: motion and drift show as stripes.

    Each site is detrended and standardised. More than 1500 rows are averaged with their neighbours of the same group.

    Parameters
    ----------
    run : Dataset or DataArray
        Dims (time, voxel), (time, vertex), (time, grayordinate) or (time, roi).
    by : str, optional
        Coordinate of the sites by which they are grouped; by default ``roi``, ``network``, ``structure`` or ``hemi``,
        whichever is there.
    vlim : float, default 2
        Standard deviations from black to white on either side of the mean.
    motion : str, default "framewise_displacement"
        Confound that is drawn above, where the Dataset has confounds with this name.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes of the carpet. Volumes outside ``sample_mask`` are marked in orange at the bottom.

    Raises
    ------
    SchemaError
        If this is no run over time, or there is no such coordinate.

    References
    ----------
    Power, J. D. (2017). A simple but useful way to assess fMRI scan qualities. NeuroImage 154, 150-158.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from neuroalign.schema import fmri_regions
    >>> noise = np.random.default_rng(0).normal(100, 1, (20, 6))
    >>> run = fmri_regions(noise, roi=[f"r{i}" for i in range(6)], tr=2.0)
    >>> carpet(run, ax=Figure().subplots()).get_xlabel()
    'Time (s)'
    """
    array = as_recording(run)
    site = next((dim for dim in SITE_DIMS if dim in array.dims), None)
    if site is None or "time" not in array.dims:
        raise SchemaError(
            "A carpet needs sites over time.",
            expected="dims (time, voxel), (time, vertex), (time, grayordinate) or (time, roi)",
            got=tuple(map(str, array.dims)),
            fix="read the run with mask= or atlas=",
        )
    group, order = _groups(array, site, by)
    array = array.transpose("time", site)
    rows, starts, names = _rows(array, group, order)
    times = array["time"].values.astype(float)
    ax = new_axes(ax, (8.0, 4.4))
    edges = (times[0], times[-1], len(rows) - 0.5, -0.5)
    ax.imshow(rows, aspect="auto", cmap="gray", vmin=-vlim, vmax=vlim, extent=edges, interpolation="nearest")
    _name_groups(ax, starts, names, len(rows), site)
    ax.set_xlabel("Time (s)", fontsize=NORMAL)
    ax.tick_params(labelsize=SMALL)
    _censored(ax, times, _valid(array))
    if isinstance(run, xr.Dataset) and "confounds" in run and motion in run["confound"].values.tolist():
        _motion(ax, times, run["confounds"].sel(confound=motion).values, motion)
    return ax


def _groups(array: xr.DataArray, site: str, by: str | None) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Group of each site, and the order that puts groups together."""
    usable = [n for n in ("roi", "network", "structure", "hemi") if n in array.coords and n != site]
    name = by if by is not None else next(iter(usable), None)
    if name is None:
        return np.zeros(array.sizes[site], dtype=object), np.arange(array.sizes[site])
    if name not in array.coords or array[name].dims != (site,):
        raise SchemaError("The sites have no such coordinate.", expected=usable or list(array.coords), got=name)
    group = array[name].values.astype(str).astype(object)
    return group, np.argsort(group.astype(str), kind="stable")


def _rows(
    array: xr.DataArray, group: NDArray[Any], order: NDArray[np.intp]
) -> tuple[NDArray[np.float64], list[int], list[str]]:
    """Standardised rows (n_rows, n_times), where each group starts, and its name."""
    width = -(-len(order) // MOST_ROWS)
    rows: list[NDArray[np.float64]] = []
    starts: list[int] = []
    names: list[str] = []
    for name in dict.fromkeys(group[order].tolist()):
        starts.append(len(rows))
        names.append(str(name) if name != 0 else "")
        members = order[group[order] == name]
        for lo in range(0, len(members), width):
            values = array.isel({array.dims[1]: members[lo : lo + width]}).values.astype(np.float64)
            rows.append(_standardised(values).mean(axis=1))
    stacked = np.array(rows)
    blank = np.isnan(stacked).all(axis=0)  # volumes that are missing everywhere
    spread = stacked[:, ~blank].std(axis=1, keepdims=True)
    return stacked / np.where(spread > 0, spread, 1.0), starts, names


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column without its linear trend, in standard deviations; zero where it is constant or has holes.

    Times without any number, such as volumes that were left out of a regression, are NaN and do not count.
    """
    there = np.isfinite(values).any(axis=1)
    if not there.all() and there.any():
        out = np.full(values.shape, np.nan)
        out[there] = _standardised(values[there])
        return out
    values = np.where(np.isfinite(values).all(axis=0), values, 0.0)
    trend = np.linspace(-1, 1, len(values))
    values = values - values.mean(axis=0)
    values = values - trend[:, None] * (trend @ values / (trend @ trend))
    spread = values.std(axis=0)
    return values / np.where(spread > 0, spread, 1.0)


def _name_groups(ax: Axes, starts: list[int], names: list[str], n_rows: int, site: str) -> None:
    ends = [*starts[1:], n_rows]
    if len(names) < 2 or len(names) > MOST_GROUPS:
        ax.set_ylabel(f"{site}s" if site != "roi" else "regions", fontsize=NORMAL)
        ax.set_yticks([])
        return
    strip: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "linewidth": 4, "solid_capstyle": "butt"}
    for start, end, shade in zip(starts, ends, colours(len(names)), strict=True):
        ax.plot([-0.012] * 2, [start - 0.4, end - 0.6], color=shade, clip_on=False, **strip)
    wide = [
        n for n in range(len(names)) if ends[n] - starts[n] >= max(1, 0.03 * n_rows)
    ]  # names of others would collide
    ax.set_yticks([(starts[n] + ends[n]) / 2 - 0.5 for n in wide], [safe(names[n]) or "none" for n in wide])
    ax.tick_params(axis="y", length=0, pad=8)


def _censored(ax: Axes, times: NDArray[np.float64], keep: NDArray[np.bool_]) -> None:
    if not keep.all():
        ax.plot(times[~keep], np.full((~keep).sum(), -0.015), "|", color=colour(1), transform=ax.get_xaxis_transform(),
                markersize=6, clip_on=False)  # fmt: skip


def _motion(ax: Axes, times: NDArray[np.float64], values: NDArray[Any], name: str) -> None:
    above = ax.inset_axes((0.0, 1.04, 1.0, 0.22))
    above.plot(times, values.astype(float), color=INK, linewidth=0.9)
    above.set_xlim(times[0], times[-1])
    above.set_ylabel(safe(name).replace("_", "\n"), fontsize=7, rotation=0, ha="right", va="center")
    above.tick_params(labelbottom=False)
    plain(above)


def parcellation(
    atlas: Any, *, names: bool = True, background: Any = None, view: str = "slices", ax: Axes | None = None
) -> Axes:
    """Draw the regions of a volume, each in a colour of its own.

    Parameters
    ----------
    atlas : NIfTI image, path, Dataset or DataArray
        A volume of integer labels; or data whose regions are known: (…, roi) with the attribute ``atlas``, (…, voxel)
        with the coordinate ``roi``, or a ``map`` of labels (k, j, i).
    names : bool, default True
        Whether to name the regions in a legend, where there are at most 25 with names.
    background : NIfTI image or path, optional
        Anatomy behind the slices.
    view : {"slices", "glass"}, default "slices"
        Axial slices, or a glass brain.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on; nilearn's panels lie within them.

    Raises
    ------
    SchemaError
        If no region can be placed.

    Examples
    --------
    >>> import numpy as np, nibabel
    >>> from matplotlib.figure import Figure
    >>> image = nibabel.Nifti1Image(np.repeat([1, 2], 32).reshape(4, 4, 4).astype("i2"), np.diag([4.0, 4, 4, 1]))
    >>> ax = parcellation(image, ax=Figure().subplots())
    """
    plotting = require("nilearn.plotting", "fmri")
    if view not in ("slices", "glass"):
        raise SchemaError("Unknown view of the brain.", expected="'slices' or 'glass'", got=repr(view))
    image, known = _regions(atlas)
    found = np.unique(np.asarray(image.dataobj))
    found = found[found != 0]
    if not found.size:
        raise SchemaError("There is no region to draw.", expected="labels other than 0", got="zeros")
    ax = new_axes(ax, (7.6, 2.8))
    shades = colours(len(found))
    place: dict[str, Any] = {"figure": ax.figure, "axes": ax, "cmap": _listed(shades), "vmin": 1, "vmax": len(found)}
    numbered = _numbered(image, found)
    if view == "glass":
        panel = plotting.plot_glass_brain(numbered, colorbar=False, threshold=0.5, plot_abs=False, **place)
    else:
        looks: dict[str, Any] = {"black_bg": False, "alpha": 1.0, "annotate": False, "colorbar": False}
        panel = plotting.plot_roi(
            numbered, bg_img=background, display_mode="z", cut_coords=cuts(numbered), **looks, **place
        )
        panel.annotate(size=int(SMALL))
    follow(panel, ax)
    if names and known and len(found) <= MOST_GROUPS:
        for shade, label in zip(shades, found.tolist(), strict=True):
            ax.plot([], [], "s", color=shade, label=safe(known.get(int(label), str(int(label)))))
        ax.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=SMALL, frameon=False, ncols=1 + len(found) // 13
        )
    return ax


def _regions(atlas: Any) -> tuple[Any, dict[int, str]]:
    """Image of labels, and their names."""
    if not isinstance(atlas, xr.Dataset | xr.DataArray):
        return require("nilearn.image", "fmri").load_img(atlas), {}
    array = as_recording(atlas)
    sites = {str(dim) for dim in array.dims}
    array = array.isel({dim: 0 for dim in array.dims if str(dim) not in ("roi", "voxel", "k", "j", "i")}, drop=True)
    if "roi" in sites and "atlas" in array.attrs:
        image = require("nilearn.image", "fmri").load_img(array.attrs["atlas"])
        codes = np.unique(np.rint(np.asarray(image.dataobj, dtype=float)).astype(int))
        codes = array["label"].values.astype(int) if "label" in array.coords else codes[codes != 0]
        return image, dict(zip(codes.tolist(), labels(array, "roi"), strict=True))
    if "voxel" in sites and "roi" in array.coords:
        text = array["roi"].values.astype(str)
        known = [name for name in dict.fromkeys(text.tolist()) if name]
        code = {name: index + 1 for index, name in enumerate(known)} | {"": 0}
        return to_image(array.copy(data=np.array([code[name] for name in text], dtype=float)))[0], {
            index: name for name, index in code.items()
        }
    if {"k", "j", "i"} <= sites:
        return to_image(array)[0], {}
    raise SchemaError(
        "The regions cannot be placed.",
        expected="an atlas image; dims (roi,) with the attribute atlas; (voxel,) with the coordinate roi; or (k, j, i)",
        got=tuple(map(str, array.dims)),
        fix="pass the atlas: plots.parcellation('atlas.nii.gz')",
    )


def _numbered(image: Any, found: NDArray[Any]) -> Any:
    """Labels 1, 2, 3, ... so that each has its own colour."""
    nibabel = require("nibabel", "fmri")
    data = np.asarray(image.dataobj)
    index = np.searchsorted(found, data)
    index = np.where(found[np.minimum(index, len(found) - 1)] == data, index + 1, 0)
    return nibabel.Nifti1Image(index.reshape(data.shape[:3]).astype(np.int32), image.affine)


def _listed(shades: list[Any]) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(shades)
