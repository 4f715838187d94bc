"""The table of the best sites of a result."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.plots._data import as_array
from neuroalign.report.page import Section
from neuroalign.report.table import Table

# So many of the best sites are listed.
TOP = 15
LABELS = {
    "ceiling": "ceiling",
    "normalised": "score / ceiling",
    "p": "p",
    "q": "q (FDR)",
    "p_fwer": "p (FWER)",
}


def sites_section(data: xr.Dataset) -> Section | None:
    """List the best sites: the significant ones when there was a test.

    Parameters
    ----------
    data : Dataset
        A result with ``score``.

    Returns
    -------
    Section or None
        The part of the report; None where there is a single target.

    Examples
    --------
    >>> sites_section(xr.Dataset({"score": ("roi", [0.1, 0.3])})).table.rows
    [(1, 0.3), (0, 0.1)]
    """
    score = as_array(data)
    if score.ndim == 0:
        return None
    tested, known = "significant" in data, int(score.notnull().sum())
    marks = data["significant"].transpose(*score.dims).values.astype(bool) if tested else score.notnull().values
    total = int(marks.sum())
    if tested:
        text = f"{total} of {known} are significant, with a false discovery rate of {data.attrs.get('alpha', 0.05):g}."
    else:
        text = "No test was made. These are the best sites; the best of many would do less well on new data."
    heading = "Significant sites" if tested else "Best sites"
    if not total:
        return Section(heading, text)
    caption = f"The best {TOP} of {total}" if total > TOP else ""
    return Section(heading, text, table=_table(data, score, marks, caption))


def _table(data: xr.Dataset, score: xr.DataArray, marks: NDArray[np.bool_], caption: str) -> Table:
    ranked = np.where(marks, np.nan_to_num(score.values.astype(float), nan=-np.inf), -np.inf)
    order = np.argsort(-ranked, axis=None, kind="stable")[: min(TOP, int(marks.sum()))]
    places = dict(zip(map(str, score.dims), np.unravel_index(order, score.shape), strict=True))
    points = {dim: xr.DataArray(place, dims="row") for dim, place in places.items()}
    columns = _labels(score, points) | _numbers(data, score, points)
    return Table(list(columns), list(zip(*columns.values(), strict=True)), caption)


def _labels(score: xr.DataArray, points: dict[str, xr.DataArray]) -> dict[str, list[Any]]:
    """Name each site: its labels, region and position in mm, its time in ms."""
    columns: dict[str, list[Any]] = {}
    for name in dict.fromkeys([*points, "roi", "hemi", "x", "y", "z"]):
        if name not in score.coords:
            if name in points:
                columns[name] = points[name].values.tolist()
            continue
        coordinate = score[name]
        if coordinate.ndim and set(coordinate.dims) <= set(score.dims):
            found = coordinate.isel({str(dim): points[str(dim)] for dim in coordinate.dims}).values
            if name in ("x", "y", "z"):
                scale = 1e3 if "channel" in coordinate.dims else 1.0
                columns[f"{name} (mm)"] = (found.astype(float) * scale).round().tolist()
            elif name in ("time", "lag"):
                columns[f"{name} (ms)"] = (found.astype(float) * 1e3).round().tolist()
            else:
                columns[name] = found.tolist()
    return columns


def _numbers(data: xr.Dataset, score: xr.DataArray, points: dict[str, xr.DataArray]) -> dict[str, list[float]]:
    arrays = {"score": score}
    if data.sizes.get("fold", 1) > 1 and "fold_score" in data:
        arrays["SD over folds"] = data["fold_score"].std("fold", ddof=1)
    arrays |= {label: data[name] for name, label in LABELS.items() if name in data}
    return {
        label: array.isel({str(dim): points[str(dim)] for dim in array.dims}).values.astype(float).tolist()
        for label, array in arrays.items()
    }
