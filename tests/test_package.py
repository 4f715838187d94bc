"""What holds for the package as a whole: quick, side-effect-free import, documented names, typed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest
from numpydoc.validate import validate

import neuroalign

PUBLIC = [
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
    "plots",
    "preprocess",
    "protocol",
    "report",
    "rsa",
    "schema",
    "solvers",
    "storage",
]
# The parts of numpydoc that matter to a reader: every public name has a summary that ends in a period, documents all
# of its parameters and no others, in known sections.
CHECKS = {"GL03", "GL06", "GL07", "GL08", "SS01", "SS02", "SS03", "SS04", "PR01", "PR02", "RT03"}


def documented() -> dict[str, str]:
    """Public name -> where the object is defined (some functions share their name with a module)."""
    names = {}
    for part in PUBLIC:
        module = importlib.import_module(f"neuroalign.{part}")
        for name in module.__all__:
            if callable(obj := getattr(module, name)) and getattr(obj, "__module__", "").startswith("neuroalign"):
                names[f"neuroalign.{part}.{name}"] = f"{obj.__module__}.{obj.__qualname__}"
    return names


@pytest.mark.parametrize(("name", "defined"), documented().items(), ids=documented().keys())
def test_docstring(name, defined):
    obj = getattr(importlib.import_module(defined.rpartition(".")[0]), defined.rpartition(".")[2])
    # Errors take the arguments that NeuroalignError documents; results document theirs as attributes.
    free = isinstance(obj, type) and (issubclass(obj, Exception) or "Attributes\n" in (obj.__doc__ or ""))
    checks = CHECKS - {"PR01"} if free else CHECKS
    found = [f"{code}: {text}" for code, text in validate(defined)["errors"] if code in checks]
    assert not found, "\n".join(found)


HEAVY = [
    "torch",
    "mne",
    "nibabel",
    "nilearn",
    "sklearn",
    "matplotlib",
    "xarray",
    "pandas",
    "scipy",
    "zarr",
    "dask",
    "numpy",
]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_loads_nothing_heavy():
    loaded = json.loads(run("import sys, json, neuroalign; print(json.dumps(sorted(sys.modules)))"))
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


@pytest.mark.parametrize("part", PUBLIC)
def test_parts_load_optional_libraries_only_when_used(part):
    loaded = json.loads(run(f"import sys, json, neuroalign.{part}; print(json.dumps(sorted(sys.modules)))"))
    heavy = {"torch", "mne", "nibabel", "nilearn", "matplotlib.pyplot", "transformers", "distributed"}
    assert not set(loaded) & heavy


def test_import_has_no_side_effects(tmp_path):
    code = (
        "import logging, os, random, warnings, neuroalign\n"
        "assert not logging.getLogger('neuroalign').handlers and not logging.getLogger().handlers\n"
        "assert not os.listdir('.')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_public_names_resolve():
    for name in neuroalign.__all__:
        assert getattr(neuroalign, name) is not None
    assert set(neuroalign.__all__) <= set(dir(neuroalign))
    with pytest.raises(AttributeError, match="no attribute"):
        _ = neuroalign.nothing
