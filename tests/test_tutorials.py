"""Notebooks are stored without outputs and run; the reference has every public name."""

from __future__ import annotations

import importlib
import os
import re
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

import neuroalign

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
API = ROOT / "docs" / "api"
PAGES = sorted(path.stem for path in API.glob("*.rst") if path.stem != "index")
# Every part, and the packages below them that have a page of their own.
PARTS = sorted({*neuroalign._MODULES, "datasets.simulate", "linear"})


def names(part: str) -> set[str]:
    return set(importlib.import_module(f"neuroalign.{part}").__all__)


def listed(page: str) -> set[str]:
    """Names in the tables and constants of a page of the reference."""
    text = (API / f"{page}.rst").read_text(encoding="utf-8")
    constants = re.findall(r"^\.\. py:data:: (\w+)$", text, flags=re.MULTILINE)
    tables = re.findall(r"^\.\. autosummary::\n   :toctree: generated\n\n((?:   \w+\n?)+)", text, flags=re.MULTILINE)
    return {*constants, *" ".join(tables).split()}


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_stored_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert str(ROOT) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook, as for a reader
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # A warning would show up as text on stderr: a tutorial has none.
    noise = [out.text for cell in code for out in cell.outputs if out.get("name") == "stderr"]
    assert not noise, "\n".join(noise)
    assert not list(tmp_path.iterdir())  # everything is written to temporary folders
    assert any(out.get("output_type") in ("stream", "execute_result") for cell in code for out in cell.outputs)


def test_every_part_has_a_page():
    assert set(PAGES) == set(PARTS)
    index = (API / "index.rst").read_text(encoding="utf-8")
    hidden = index.partition(".. toctree::")[2].split()
    assert [page for page in PAGES if page not in hidden] == []


@pytest.mark.parametrize("part", PARTS)
def test_reference_has_every_public_name(part):
    assert listed(part) == names(part)


def test_reference_has_the_names_of_the_package():
    index = (API / "index.rst").read_text(encoding="utf-8")
    for name in neuroalign.__all__:
        assert name in PAGES or re.search(rf"\b{name}\b", index), name


def test_documented_object_is_the_function_where_a_module_has_its_name():
    for part, name in (
        ("datasets", "fetch"),
        ("datasets", "prepare"),
        ("datasets", "simulate"),
        ("evaluation", "cross_validate"),
        ("loaders", "load"),
    ):
        assert callable(getattr(importlib.import_module(f"neuroalign.{part}"), name))
        assert name in listed(part)


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version"} <= set(citation)
    assert citation["version"] == neuroalign.__version__
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == project["urls"]["Source"]


def test_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{neuroalign.__version__}]" in text


def test_links_between_pages_lead_somewhere():
    for page in [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*/*.md")]:
        if "_build" in page.parts:
            continue
        for target in re.findall(r"\]\((?!https?:|#|<)([^)#]+)", page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            if "tutorials" in target:  # copied beside the pages when the site is built
                path = ROOT / "tutorials" / Path(target).name
            assert path.exists(), f"{page.name}: {target}"
