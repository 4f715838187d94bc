"""Configuration of the documentation site."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from neuroalign import __version__

# Notebook kernels inherit the environment: one thread, and pictures in the page rather than another backend.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MPLBACKEND", None)

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# Sphinx reads only below its own folder; the notebooks live beside the package, for people who read the repository.
shutil.rmtree(HERE / "tutorials", ignore_errors=True)
shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials", ignore=shutil.ignore_patterns(".*", "*.py"))

project = "neuroalign"
author = "the neuroalign developers"
copyright = "2026, the neuroalign developers"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "numpydoc",
    "myst_nb",
    "from_code",
]
exclude_patterns = ["_build", "_ext", "_static", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = "neuroalign"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# A word in single backticks is a name: it links where it is documented here, and is plain code elsewhere.
default_role = "py:obj"

nb_execution_mode = "force"
nb_execution_timeout = 240
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# The outputs of notebooks hold pages of text/html and images made on the way; anything else is a mistake.
suppress_warnings = ["mystnb.unknown_mime_type"]


def _escape_stars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the star of ``(sample, *targets)`` in docstrings, where no second one follows to end an emphasis."""
    lone = re.compile(r"(?<=[\s(])\*(?=\w)(?!\w[^*(),]*\w\*)")
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else lone.sub(r"\\*", line) for line in lines]


def setup(app: Any) -> None:
    """Mend docstrings after numpydoc, which puts summaries of attributes into those of classes."""
    app.connect("autodoc-process-docstring", _escape_stars, priority=600)
