"""Pictures of representational similarity: RDMs, grids of them, and how well models explain them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError
from neuroalign.plots._axes import NORMAL, SMALL, colour_bar, new_axes
from neuroalign.plots._data import Scale, as_array, labels, peak, readable, scale, show_time
from neuroalign.plots._text import safe
from neuroalign.rsa.form import square

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Up to so many conditions are named one by one.
NAMED = 32


def rdm(
    rdm: xr.DataArray | ArrayLike,
    *,
    category: Mapping[Any, Any] | ArrayLike | None = None,
    rank: bool = False,
    vlim: tuple[float, float] | None = None,
    cmap: str | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw a representational dissimilarity matrix.

    Parameters
    ----------
    rdm : DataArray or array
        Dissimilarities of dims (pair,) as `neuroalign.rsa.rdm` gives them, or a square matrix with labels on its
        first dimension. A further ``time`` dimension is cut where the dissimilarities are largest.
    category : mapping or array, optional
        Category of each condition, by label or in order: conditions are then sorted by it, and its names are written.
    rank : bool, default False
        Whether to draw percentiles instead of the dissimilarities.
    vlim : tuple of float, optional
        Limits of the colours.
    cmap : str, optional
        Colour map; by default viridis, or RdBu_r about zero for cross-validated distances of both signs.
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
        If the values are not one RDM.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> ax = rdm(np.array([[0.0, 1, 2], [1, 0, 3], [2, 3, 0]]), ax=Figure().subplots())
    >>> ax.images[0].get_array().shape
    (3, 3)
    """
    matrix, names, label, title = _matrix(rdm)
    matrix, label = (_percentiles(matrix), "dissimilarity (percentile)") if rank else (matrix, label)
    groups = None if category is None else _categories(category, names)
    if groups is not None:
        order = np.argsort([list(dict.fromkeys(groups)).index(group) for group in groups], kind="stable")
        matrix, names, groups = matrix[np.ix_(order, order)], [names[k] for k in order], [groups[k] for k in order]
    shades = scale(matrix, vlim=vlim or _limits(matrix, rank), cmap=cmap)
    ax = new_axes(ax, (5.4, 4.6))
    _paint(ax, matrix, shades)
    _name_conditions(ax, names, groups)
    if title:
        ax.set_title(title, fontsize=NORMAL)
    if colorbar:
        colour_bar(ax, shades, label, shrink=0.8)
    return ax


def _limits(matrix: NDArray[np.float64], rank: bool) -> tuple[float, float] | None:
    """Choose limits without the diagonal, which is zero by definition; about zero where there are both signs."""
    if rank:
        return 0.0, 100.0
    entries = matrix[np.triu_indices(len(matrix), 1)]
    entries = entries[np.isfinite(entries)]
    if entries.size == 0 or np.ptp(entries) == 0:
        return None
    low, high = (float(value) for value in np.quantile(entries, (0.005, 0.995)))
    if low < 0:
        return -max(-low, high), max(-low, high)
    return (low, high) if low < high else (float(entries.min()), float(entries.max()))


def _matrix(rdm: xr.DataArray | ArrayLike) -> tuple[NDArray[np.float64], list[str], str, str]:
    """Give the square matrix, the names of its conditions, the label of its values, and a title."""
    array = rdm if isinstance(rdm, xr.DataArray | xr.Dataset) else xr.DataArray(rdm)
    array, title = as_array(array, "rdm"), ""
    if "time" in array.dims and array.ndim > 1:
        array = array.isel(time=peak(array, "time"))
        title = f"at {show_time(float(array['time']))}" if "time" in array.coords else ""
    if "pair" in array.dims and array.ndim == 1:
        array = square(array)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise SchemaError(
            "This is not one RDM.",
            expected="dims (pair,), or a square matrix",
            got=f"dims {tuple(map(str, array.dims))} of shape {array.shape}",
            fix="choose one first: rdm.isel(model=0), or draw plots.rdm_grid",
        )
    shown = readable(array, "dissimilarity")
    return array.values.astype(float) * shown.factor, labels(array, str(array.dims[0])), shown.label, title


def _percentiles(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    out = np.zeros_like(matrix)
    upper = np.triu_indices(len(matrix), 1)
    values = matrix[upper]
    known = np.isfinite(values)
    ranks = np.full(len(values), np.nan)
    ranks[known] = 100 * (rankdata(values[known]) - 0.5) / max(known.sum(), 1)
    out[upper] = out.T[upper] = ranks
    return out


def _categories(category: Mapping[Any, Any] | ArrayLike, names: list[str]) -> list[str]:
    if isinstance(category, Mapping):
        table = {str(key): str(value) for key, value in category.items()}
        missing = [name for name in names if name not in table]
        if missing:
            raise SchemaError("Some conditions have no category.", expected=f"{len(names)} conditions", got=missing[:5])
        return [table[name] for name in names]
    given = [str(value) for value in np.asarray(category).ravel()]
    if len(given) != len(names):
        raise SchemaError("Wrong number of categories.", expected=f"{len(names)}, one a condition", got=len(given))
    return given


def _paint(ax: Axes, matrix: NDArray[np.float64], shades: Scale) -> None:
    from matplotlib import colormaps

    shown = np.ma.masked_invalid(matrix)
    shown[np.diag_indices(len(matrix))] = np.ma.masked
    colours = colormaps[shades.cmap].with_extremes(bad="#D9D9D9")
    ax.imshow(shown, cmap=colours, vmin=shades.low, vmax=shades.high, interpolation="nearest")
    ax.spines[:].set_visible(False)


def _name_conditions(ax: Axes, names: list[str], groups: list[str] | None) -> None:
    """Write condition names; categories instead when given; when neither fits, every tenth number."""
    ax.tick_params(length=0, labelsize=SMALL)
    if groups is not None:
        starts = [k for k in range(len(groups)) if k == 0 or groups[k] != groups[k - 1]]
        ends = [*starts[1:], len(groups)]
        for start in starts[1:]:
            ax.axhline(start - 0.5, color="w", linewidth=1.2)
            ax.axvline(start - 0.5, color="w", linewidth=1.2)
        middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
        _turned(ax, middles, [groups[start] for start in starts], SMALL)
    elif len(names) <= NAMED:
        _turned(ax, range(len(names)), names, SMALL if len(names) <= 20 else 6.5)
    else:
        ax.set(xlabel=f"{len(names)} conditions", ylabel=f"{len(names)} conditions")


def _turned(ax: Axes, places: Sequence[float], names: Sequence[str], size: float) -> None:
    options: dict[str, Any] = {}
    names = [safe(name) for name in names]
    if sum(map(len, names)) > 40 or len(names) > 20:
        options = {"rotation": 90 if len(names) > 20 else 45, "ha": "center" if len(names) > 20 else "right"}
        options["rotation_mode"] = "default" if len(names) > 20 else "anchor"
    ax.set_xticks(places, names, fontsize=size, **options)
    ax.set_yticks(places, names, fontsize=size)


def rdm_grid(
    rdms: Mapping[str, xr.DataArray] | xr.DataArray,
    *,
    category: Mapping[Any, Any] | ArrayLike | None = None,
    rank: bool = True,
    columns: int = 4,
    figure: Any = None,
) -> NDArray[Any]:
    """Draw several RDMs side by side, as percentiles by default so that different measures can be compared.

    Parameters
    ----------
    rdms : mapping of str to DataArray, or DataArray
        RDMs by name, or dims (model or the like, pair).
    category : mapping or array, optional
        Category of each condition, as in `rdm`.
    rank : bool, default True
        Whether to draw percentiles.
    columns : int, default 4
        How many to draw in a row at most.
    figure : matplotlib Figure, optional
        Where to draw; by default a new figure.

    Returns
    -------
    ndarray of matplotlib Axes
        One for each RDM.

    Raises
    ------
    SchemaError
        If there is nothing to draw, or an entry is not one RDM.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> square = np.array([[0.0, 1, 2], [1, 0, 3], [2, 3, 0]])
    >>> len(rdm_grid({"brain": square, "model": square}, figure=Figure(layout="constrained")))
    2
    """
    table = _by_name(rdms)
    high = -(-len(table) // columns)
    wide = -(-len(table) // high)
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(2.5 * wide + 0.9, 2.5 * high + 0.2), layout="constrained")
    grid = np.atleast_1d(figure.subplots(high, wide)).ravel()
    for ax, (name, part) in zip(grid, table.items(), strict=False):
        rdm(part, category=category, rank=rank, colorbar=False, ax=ax)
        ax.set_title(safe(name), fontsize=NORMAL)
        ax.set(xlabel="", ylabel="")
        ax.set_xticks([])
        if category is None or ax not in grid[::wide]:
            ax.set_yticks([])
    for ax in grid[len(table) :]:
        ax.remove()
    if rank:
        bar = figure.colorbar(grid[0].images[0], ax=list(grid[: len(table)]), shrink=0.8, aspect=22, pad=0.02)
        bar.set_label("dissimilarity (percentile)", fontsize=NORMAL)
        bar.ax.tick_params(labelsize=SMALL)
        bar.outline.set_visible(False)
    return grid[: len(table)]


def _by_name(rdms: Mapping[str, xr.DataArray] | xr.DataArray) -> dict[str, xr.DataArray]:
    if isinstance(rdms, xr.DataArray):
        lead = str(rdms.dims[0])
        names = labels(rdms, lead) if rdms.ndim > 1 else []
        table = {name: rdms.isel({lead: index}) for index, name in enumerate(names)}
    else:
        table = {str(name): part for name, part in rdms.items()}
    if not table:
        raise SchemaError("There is no set of RDMs to draw.", expected="a mapping, or dims such as (model, pair)")
    return table
