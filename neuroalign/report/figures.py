"""Figures for reports: drawn without pyplot, so that a report leaves no window and no figure behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neuroalign.report.page import Picture


def picture(
    function: Callable[..., Any], *args: Any, size: tuple[float, float], alt: str, caption: str = "", **options: Any
) -> Picture:
    """Draw with a function of `neuroalign.plots` on a figure of its own.

    Parameters
    ----------
    function : callable
        Takes ``ax=``.
    *args
        What it draws.
    size : tuple of float
        Width and height in inches.
    alt : str
        The picture in words.
    caption : str, optional
        The sentence below it.
    **options
        Options of the function.

    Returns
    -------
    Picture
        The drawing.

    Examples
    --------
    >>> import xarray as xr
    >>> from neuroalign import plots
    >>> scores = xr.DataArray([0.1, 0.3], dims="roi", coords={"roi": ["EVC", "PFS"]}, name="score")
    >>> picture(plots.bars, scores, size=(4, 3), alt="Bars of two regions.").width()
    384
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    function(*args, ax=figure.subplots(), **options)
    return Picture(figure, alt, caption)


def grid_picture(
    function: Callable[..., Any], *args: Any, size: tuple[float, float], alt: str, caption: str = "", **options: Any
) -> Picture:
    """Draw with a function that takes ``figure=``, such as `neuroalign.plots.rdm_grid`; see `picture`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    function(*args, figure=figure, **options)
    return Picture(figure, alt, caption)
