"""How well does a neural network explain a brain?

Recordings and network activations become labelled xarray objects; every model is a scikit-learn estimator that takes
and gives such objects; every claim comes with a noise ceiling and a test.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from neuroalign._version import __version__

if TYPE_CHECKING:
    from neuroalign import (
        activations,
        align,
        convert,
        datasets,
        decoding,
        encoding,
        errors,
        evaluation,
        loaders,
        metrics,
        plots,
        preprocess,
        report,
        rsa,
        schema,
        solvers,
        storage,
    )
    from neuroalign.loaders import load

_MODULES = {
    "activations",
    "align",
    "compute",
    "convert",
    "datasets",
    "decoding",
    "encoding",
    "errors",
    "evaluation",
    "loaders",
    "metrics",
    "pipeline",
    "plots",
    "preprocess",
    "protocol",
    "report",
    "rsa",
    "schema",
    "solvers",
    "storage",
}

__all__ = [
    "__version__",
    "activations",
    "align",
    "convert",
    "datasets",
    "decoding",
    "encoding",
    "errors",
    "evaluation",
    "load",
    "load_model",
    "loaders",
    "metrics",
    "plots",
    "preprocess",
    "report",
    "rsa",
    "schema",
    "solvers",
    "storage",
]


def load_model(path: str) -> Any:
    """Load any model that neuroalign saved.

    Parameters
    ----------
    path : path
        Folder written by the ``save`` method of an estimator or transformer.

    Returns
    -------
    object
        The fitted estimator or transformer.

    Raises
    ------
    IntegrityError
        If the folder is incomplete, damaged, or not a model.
    """
    for name in ("encoding", "decoding", "preprocess"):  # every class that can be saved is defined there
        importlib.import_module(f"neuroalign.{name}")
    return importlib.import_module("neuroalign.protocol").load_model(path)


def __getattr__(name: str) -> Any:
    """Import a part of neuroalign when it is first asked for."""
    if name == "load":
        return importlib.import_module("neuroalign.loaders").load
    if name in _MODULES:
        return importlib.import_module(f"neuroalign.{name}")
    raise AttributeError(f"module 'neuroalign' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazy names too."""
    return sorted({*__all__, *_MODULES})
