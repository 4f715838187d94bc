"""Maps on the brain: voxels and regions as volumes, iEEG contacts as markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuroalign.convert import to_nifti
from neuroalign.errors import SchemaError, require
from neuroalign.plots._axes import INK, MUTED, SMALL, colour_bar, new_axes
from neuroalign.plots._data import Labelled, Scale, as_array, matched, readable, require_dims, scale
from neuroalign.plots._text import safe
from neuroalign.plots.sensors import positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Spaces whose brains have the shape of the glass brain's outline.
STANDARD = ("mni", "talairach", "tlrc", "fsaverage")
SLICES = 5


def brain(
    values: Labelled,
    *,
    atlas: Any = None,
    significant: xr.DataArray | None = None,
    view: str = "auto",
    background: Any = None,
    vlim: tuple[float, float] | None = None,
    cmap: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw values on the brain.

    Voxels in a mask are put back into their volume; regions are painted on their atlas; iEEG contacts, and regions
    known only by their coordinates, become markers. In a standard space (MNI and its kin) the brain is a glass
    brain; in any other space it is a row of axial slices through the data.

    Parameters
    ----------
    values : DataArray or Dataset
        Values of dims (voxel,) with the coordinates ``i j k`` and the attributes ``affine`` and ``volume_shape``;
        (roi,) with an atlas or with ``x y z`` in mm; (channel,) with ``x y z`` in m; or (k, j, i) with ``affine``.
        Of a Dataset, the variable ``score`` is drawn.
    atlas : NIfTI image or path, optional
        Labelled volume for regions; by default the attribute ``atlas``. Its labels are matched by the coordinate
        ``label`` along ``roi``, or else by rising order.
    significant : DataArray of bool, optional
        Only these voxels and regions are painted; markers of all other sites are small.
    view : {"auto", "glass", "slices"}, default "auto"
        Glass brain or axial slices.
    background : NIfTI image or path, optional
        Anatomy behind the slices; by default the volume's mask in grey.
    vlim : tuple of float, optional
        Limits of the colours, in the units shown.
    cmap : str, optional
        Colour map; by default RdBu_r about zero for values of both signs, else viridis.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Axes
        The axes drawn on; nilearn's panels lie within them.

    Raises
    ------
    SchemaError
        If what places the values in the brain is missing.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from matplotlib.figure import Figure
    >>> attrs = {"affine": np.diag([4.0, 4, 4, 1]).ravel().tolist(), "name": "score"}
    >>> volume = xr.DataArray(np.ones((3, 4, 5)), dims=("k", "j", "i"), attrs=attrs)
    >>> ax = brain(volume, ax=Figure().subplots())
    """
    plotting = require("nilearn.plotting", "fmri")
    if view not in ("auto", "glass", "slices"):
        raise SchemaError("Unknown view of the brain.", expected="'auto', 'glass' or 'slices'", got=repr(view))
    array = as_array(values)
    require_dims(array, tuple(map(str, array.dims[:1])) if "k" not in array.dims else ("k", "j", "i"))
    mask = matched(significant, array) if significant is not None else None
    shown = readable(array)
    shades = scale(array.values.astype(float) * shown.factor, vlim=vlim, cmap=cmap)
    if "channel" in array.dims or ("roi" in array.dims and atlas is None and "atlas" not in array.attrs):
        ax = new_axes(ax, (7.4, 2.9))
        panel = _markers(plotting, ax, array, mask, shades)
    else:
        glass = in_standard_space(array, "space") if view == "auto" else view == "glass"
        image, inside = to_image(array * shown.factor, atlas=atlas, significant=mask)
        ax = new_axes(ax, (7.4, 2.9))
        draw = _glass if glass else _slices
        panel = draw(plotting, ax, image, inside if background is None else background, shades)
    follow(panel, ax)
    colour_bar(ax, shades, shown.label, shrink=0.85)
    return ax


def in_standard_space(array: xr.DataArray, attribute: str) -> bool:
    """Tell whether positions are those of a brain that has the shape of the glass brain's outline."""
    return str(array.attrs.get(attribute, "")).lower().startswith(STANDARD)


def to_image(array: xr.DataArray, *, atlas: Any = None, significant: xr.DataArray | None = None) -> tuple[Any, Any]:
    """Put values back into a volume.

    Parameters
    ----------
    array : DataArray
        Values of dims (voxel,), (roi,) or (k, j, i).
    atlas : NIfTI image or path, optional
        Labelled volume for regions.
    significant : DataArray of bool, optional
        Sites that are false are left at zero.

    Returns
    -------
    image, mask : nibabel.Nifti1Image
        The values (zero elsewhere, float32), and 1 at every site that has a value.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> attrs = {"affine": np.eye(4).ravel().tolist()}
    >>> image, mask = to_image(xr.DataArray(np.ones((3, 4, 5)), dims=("k", "j", "i"), attrs=attrs))
    >>> image.shape
    (5, 4, 3)
    """
    if "voxel" not in array.dims and "roi" not in array.dims:
        require_dims(array, ("k", "j", "i"), needed=("k", "j", "i"))
    place = None
    if "roi" in array.dims:
        tools = require("nilearn.image", "fmri")
        place = tools.load_img(atlas if atlas is not None else array.attrs["atlas"])
    known = np.isfinite(array.values)
    shown = known if significant is None else known & significant.values.astype(bool)
    values = array.copy(data=np.where(shown, array.values, 0).astype(np.float32)).rename("shown")
    return to_nifti(values, atlas=place), to_nifti(values.copy(data=known), atlas=place)


def _glass(plotting: Any, ax: Axes, image: Any, _: Any, shades: Scale) -> Any:
    return plotting.plot_glass_brain(
        image,
        figure=ax.figure,
        axes=ax,
        cmap=shades.cmap,
        vmin=shades.low,
        vmax=shades.high,
        # Zero stands for "no voxel" here and must stay clear, whatever colour the map has for it.
        threshold=1e-9 * max(abs(shades.low), abs(shades.high)),
        plot_abs=False,
        symmetric_cbar=shades.signed,
        colorbar=False,
    )


def _slices(plotting: Any, ax: Axes, image: Any, background: Any, shades: Scale) -> Any:
    panel = plotting.plot_stat_map(
        image,
        bg_img=background,
        figure=ax.figure,
        axes=ax,
        display_mode="z",
        cut_coords=cuts(image),
        cmap=shades.cmap,
        vmin=shades.low,
        vmax=shades.high,
        black_bg=False,
        resampling_interpolation="nearest",
        threshold=1e-9 * max(abs(shades.low), abs(shades.high)),
        symmetric_cbar=shades.signed,
        colorbar=False,
        annotate=False,
    )
    panel.annotate(size=int(SMALL))
    return panel


def cuts(image: Any) -> list[float]:
    """Choose the heights (mm) of at most five slices, so that each stands for as many voxels with values."""
    filled = np.argwhere(np.asarray(image.dataobj) != 0)
    if len(filled) == 0:
        filled = np.array([[size // 2 for size in image.shape]])
    heights = np.sort((filled @ image.affine[:3, :3].T + image.affine[:3, 3])[:, 2])
    middles = (np.arange(SLICES) + 0.5) / SLICES
    chosen = heights[(middles * len(heights)).astype(int)]
    # One height a slice; rounding alone could lead out of an image of a single slice.
    return chosen[np.unique(chosen.round(3), return_index=True)[1]].tolist()


def _markers(plotting: Any, ax: Axes, array: xr.DataArray, mask: xr.DataArray | None, shades: Scale) -> Any:
    dim = str(array.dims[0])
    points = positions(array, dim) * (1000.0 if dim == "channel" else 1.0)
    data = array.values.astype(float) * readable(array).factor
    keep = np.isfinite(points).all(axis=1) & np.isfinite(data)
    if not keep.any():
        raise SchemaError("No site has both a position and a value.", fix="draw plots.bars instead")
    solid = np.ones(keep.sum(), bool) if mask is None else mask.values.astype(bool)[keep]
    size = float(np.clip(2000 / keep.sum(), 18, 60))
    panel = plotting.plot_markers(
        data[keep],
        points[keep],
        node_size=np.where(solid, size, 0.3 * size),
        node_cmap=shades.cmap,
        node_vmin=shades.low,
        node_vmax=shades.high,
        alpha=0.9,
        figure=ax.figure,
        axes=ax,
        node_kwargs={"edgecolors": [INK if full else MUTED for full in solid], "linewidths": 0.5},
        colorbar=False,
    )
    if dim == "channel" and not in_standard_space(array, "coord_frame"):
        frame = array.attrs.get("coord_frame", "unknown")
        ax.set_title(f"coordinate frame: {safe(frame)} (the outline is an MNI brain)", fontsize=SMALL)
    return panel


def follow(panel: Any, ax: Axes) -> None:
    """Keep nilearn's panels inside the axes when a layout moves these; nilearn places panels only once."""
    for cut in panel.axes.values():
        place = cut.ax.get_axes_locator()

        def locate(axes: Axes, renderer: Any, place: Any = place) -> Any:
            box = ax.get_position()
            panel.rect = (box.x0, box.y0, box.x1, box.y1)
            return place(axes, renderer)

        cut.ax.set_axes_locator(locate)
