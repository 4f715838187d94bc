"""Several fMRI runs in a tree: each is transformed on its own, since subjects have other sites."""

from __future__ import annotations

from typing import Any

import xarray as xr

from neuroalign.errors import AlignmentError

__all__ = ["first_run", "transform_runs"]


def _runs(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    runs = {node.path: node.to_dataset() for node in tree.subtree if "bold" in node.data_vars}
    if not runs:
        raise AlignmentError("There is no fMRI run.", expected="a variable bold", got=[n.path for n in tree.leaves])
    return runs


def first_run(X: Any) -> Any:
    """The first run of a tree; anything else as it is."""
    return next(iter(_runs(X).values())) if isinstance(X, xr.DataTree) else X


def transform_runs(step: Any, tree: xr.DataTree) -> xr.DataTree:
    """Fit a copy of a transformer to each run, and transform it.

    Parameters
    ----------
    step : transformer
        Its parameters count, not what it has learned.
    tree : DataTree
        Runs with a variable ``bold``; other nodes stay as they are.

    Returns
    -------
    DataTree
        With the same paths.
    """
    done = {p: type(step)(**step.get_params(deep=False)).fit(run).transform(run) for p, run in _runs(tree).items()}
    return xr.DataTree.from_dict({n.path: done.get(n.path, n.to_dataset(inherit=False)) for n in tree.subtree})
