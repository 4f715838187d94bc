"""How to draw it: axes, colours, colour bars and the few marks that all pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.align._lags import true_stretches
from neuroalign.plots._data import Scale
from neuroalign.plots._text import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar

# Okabe and Ito's colours, which people with any colour vision can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5B5B5B")
LINES = ("-", "--", "-.", ":")
INK, MUTED, FAINT, ACCENT = "#222222", "#8A8A8A", "#C8C8C8", "#D55E00"
SMALL, NORMAL = 8.5, 10.0


def new_axes(ax: Axes | None, size: tuple[float, float] = (6.0, 4.0)) -> Axes:
    """Give the axes to draw on: those passed, or the axes of a new pyplot figure of `size` inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout="constrained").subplots()


def with_room(ax: Axes | None, size: tuple[float, float], *, top: float = 0.0, bottom: float = 0.0) -> Axes:
    """Give axes as `new_axes` does; a new figure keeps these shares free for labels of insets, which no layout sees."""
    made = new_axes(ax, size)
    if ax is None:
        made.figure.get_layout_engine().set(rect=(0.0, bottom, 1.0, 1.0 - top - bottom))  # type: ignore[union-attr, call-arg]
    return made


def colour(index: int) -> str:
    """Give the colour of the index-th group."""
    return PALETTE[index % len(PALETTE)]


def colours(n: int) -> list[str]:
    """Give `n` different colours: beyond the palette the hue steps by the golden angle, so that neighbours differ."""
    if n <= len(PALETTE):
        return list(PALETTE[:n])
    from matplotlib.colors import hsv_to_rgb, to_hex

    turn = np.arange(n) * 0.61803398875 % 1.0
    parts = np.stack([turn, np.resize([0.75, 0.5, 0.9], n), np.resize([0.85, 0.95], n)], axis=1)
    return [to_hex(shade) for shade in hsv_to_rgb(parts)]


def line_style(index: int) -> str:
    """Give the line style of the index-th group; it changes when the colours start again."""
    return LINES[(index // len(PALETTE)) % len(LINES)]


def colour_bar(ax: Axes, shades: Scale, label: str, **kwargs: Any) -> Colorbar:
    """Put a labelled colour bar beside the axes, with arrows where values lie beyond the limits."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    mappable = ScalarMappable(Normalize(shades.low, shades.high), shades.cmap)
    options: dict[str, Any] = {"shrink": 0.75, "aspect": 18, "extend": shades.extend, "pad": 0.03} | kwargs
    bar = ax.figure.colorbar(mappable, ax=ax, ticks=MaxNLocator(5), **options)
    bar.set_label(label, fontsize=NORMAL)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    return bar


def plain(ax: Axes, *, grid: str | None = "y") -> None:
    """Drop the frame's top and right, and draw a faint grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis=grid, color="#E6E6E6", linewidth=0.8)  # type: ignore[arg-type]


def zero_lines(ax: Axes, x: NDArray[Any] | None = None, *, y: bool = True) -> None:
    """Mark time zero (where the axis holds it) and the zero of the values."""
    if y:
        ax.axhline(0, color=MUTED, linewidth=0.8, zorder=1)
    if x is not None and x.min() <= 0 <= x.max():
        ax.axvline(0, color=MUTED, linewidth=0.8, linestyle="--", zorder=1)


def significance_bar(ax: Axes, x: NDArray[Any], mask: NDArray[np.bool_], *, label: str) -> None:
    """Draw a bar along the bottom edge wherever the mask is true; each sample covers its own width."""
    if not mask.any():
        return
    step = float(np.median(np.diff(x))) if x.size > 1 else 1.0
    spans = [(x[first] - step / 2, x[last - 1] - x[first] + step) for first, last in true_stretches(mask)]
    ax.broken_barh(
        spans, (0.0, 0.025), transform=ax.get_xaxis_transform(), color=ACCENT, linewidth=0, label=label, zorder=4
    )


def legend(ax: Axes, *, outside: bool = False, **kwargs: Any) -> None:
    """Add a legend in small type when there is something to name; outside it never hides data."""
    handles, _ = ax.get_legend_handles_labels()
    if not handles:
        return
    options: dict[str, Any] = {"fontsize": SMALL, "frameon": False} | kwargs
    if outside:
        options = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.3} | options
    ax.legend(**options)


def name_ticks(ax: Axes, names: Sequence[str], *, axis: str = "x", room: int = 40) -> None:
    """Label positions 0..n-1; long names are turned, and when there is no room only every k-th is written."""
    every = max(1, int(np.ceil(len(names) / room)))
    places = range(0, len(names), every)
    shown = [safe(names[place]) for place in places]
    if axis == "y":
        ax.set_yticks(places, shown, fontsize=SMALL)
        return
    crowded = sum(map(len, shown)) > 55 or max(map(len, shown), default=0) > 12
    turn: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    ax.set_xticks(places, shown, fontsize=SMALL if len(shown) < 25 else 7, **turn)
