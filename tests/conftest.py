"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import matplotlib
import pytest

matplotlib.use("Agg")

# The same examples in every run, so that a change is judged by what it changes. HYPOTHESIS_PROFILE=explore draws
# new ones.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.register_profile("explore", derandomize=False)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Give the folder of a set of real recordings; skip without it, fail where it is required."""
    root = Path(os.environ.get("NEUROALIGN_TEST_DATA", ROOT.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        path = root / name
        if not path.is_dir():
            if os.environ.get("NEUROALIGN_REQUIRE_DATA") == "1":
                pytest.fail(f"NEUROALIGN_REQUIRE_DATA=1, but {name} is not below NEUROALIGN_TEST_DATA")
            pytest.skip(f"{name} is not below NEUROALIGN_TEST_DATA")
        return path

    return folder
