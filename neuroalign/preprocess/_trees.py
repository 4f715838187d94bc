"""Several runs in a tree: each is transformed on its own, since subjects have other sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr

from neuroalign.errors import AlignmentError

__all__ = ["first_run", "transform_runs"]

_FMRI = ("bold",)


def _runs(tree: xr.DataTree, variables: Sequence[str]) -> dict[str, xr.Dataset]:
    runs = {node.path: node.to_dataset() for node in tree.subtree if set(variables) & set(node.data_vars)}
    if not runs:
        raise AlignmentError(
            "There is no fMRI run." if variables == _FMRI else "There is no recording of sensors.",
            expected=f"a variable {' or '.join(variables)}",
            got=[node.path for node in tree.leaves],
        )
    return runs


def first_run(X: Any, variables: Sequence[str] = _FMRI) -> Any:
    """The first run of a tree; anything else as it is."""
    return next(iter(_runs(X, variables).values())) if isinstance(X, xr.DataTree) else X


def transform_runs(step: Any, tree: xr.DataTree, variables: Sequence[str] = _FMRI) -> xr.DataTree:
    """Fit a copy of a transformer to each run, and transform it.

    Parameters
    ----------
    step : transformer
        Its parameters count, not what it has learned.
    tree : DataTree
        Runs; other nodes stay as they are.
    variables : sequence of str
        Names of the variable that makes a node a run.

    Returns
    -------
    DataTree
        With the same paths.
    """
    runs = _runs(tree, variables)
    done = {path: type(step)(**step.get_params(deep=False)).fit(run).transform(run) for path, run in runs.items()}
    return xr.DataTree.from_dict({n.path: done.get(n.path, n.to_dataset(inherit=False)) for n in tree.subtree})
