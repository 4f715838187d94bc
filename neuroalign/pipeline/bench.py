"""Run a script of the folder benchmarks/, which comes with the repository and not with the package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from neuroalign.errors import ConfigError

__all__ = ["bench"]

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SOURCE = "https://github.com/neuroalign/neuroalign"


def bench(
    name: str | None = None, arguments: Sequence[str] = (), *, folder: Path | None = None
) -> tuple[list[str], int]:
    """Run a benchmark by name; its output goes to this process' own.

    Parameters
    ----------
    name : str, optional
        Name of a script, without ``.py``. Without it nothing is run.
    arguments : sequence of str
        Options of the script.
    folder : Path, optional
        The folder of the scripts; by default ``benchmarks/`` of the checkout that neuroalign is installed from.

    Returns
    -------
    names : list of str
        All benchmarks.
    code : int
        Exit code of the script.

    Raises
    ------
    ConfigError
        If the scripts are not here, or none has this name.
    """
    folder = FOLDER if folder is None else folder
    names = sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))
    if not names:
        raise ConfigError(
            "The benchmarks come with the repository, not with the package.",
            expected=f"scripts in {folder}",
            fix=f"git clone {SOURCE}, then pip install -e '.[all,test]' in it",
        )
    if name is None:
        return names, 0
    if name not in names:
        raise ConfigError("No such benchmark.", expected=" | ".join(names), got=name)
    return names, subprocess.run([sys.executable, str(folder / f"{name}.py"), *arguments], check=False).returncode
