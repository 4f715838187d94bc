"""Write the page of benchmarks of the site from what the scripts printed.

python benchmarks/_page.py                              # from benchmarks/results/*.txt
python benchmarks/_page.py --run ridge_cv --workload A  # run a script first, and keep its output there
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs" / "benchmarks.md"
PACKAGES = ("neuroalign", "numpy", "scipy", "torch", "himalaya", "mne", "scikit-learn")
HEAD = """# Benchmarks

What the scripts in `benchmarks/` printed, with the machine, the date and the versions. CPU time is that of one thread
where nothing else is said; methods take turns in one process; ratios are to the first line. Run one yourself from a
checkout with `neuroalign bench NAME`, as in `neuroalign bench ridge_cv -- --workload A`.
"""


def machine() -> str:
    """The processor, in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else f"{platform.processor() or platform.machine()}"


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join([*found, f"Python {platform.python_version()}"])


def keep(name: str, arguments: list[str]) -> None:
    """Run a script and keep what it prints, with where and when."""
    script = HERE / f"{name}.py"
    done = subprocess.run([sys.executable, str(script), *arguments], check=True, text=True, stdout=subprocess.PIPE)
    sys.stdout.write(done.stdout)
    command = " ".join(["python", f"benchmarks/{name}.py", *arguments])
    about = [f"# {command}", f"# {datetime.date.today()}, {machine()}", f"# {versions()}"]
    RESULTS.mkdir(exist_ok=True)
    label = "_".join([name, *(part.strip("-") for part in arguments)])
    (RESULTS / f"{label}.txt").write_text("\n".join([*about, done.stdout.rstrip(), ""]))


def section(path: Path) -> str:
    """One saved output as a section of the page."""
    lines = path.read_text().splitlines()
    about = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    shown = "\n".join(line for line in lines if not line.startswith("# "))
    script = HERE / f"{about[0].split()[1].removeprefix('benchmarks/').removesuffix('.py')}.py"
    title = script.read_text().splitlines()[0].strip('"').rstrip(".") if script.exists() else path.stem
    return f"## {title}\n\n`{about[0]}`\n\n{'. '.join(about[1:])}.\n\n```text\n{shown}\n```\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", metavar="NAME", help="run this script first; further arguments are its own")
    options, rest = parser.parse_known_args()
    if options.run:
        keep(options.run, rest)
    PAGE.write_text("\n".join([HEAD, *(section(path) for path in sorted(RESULTS.glob("*.txt")))]))


if __name__ == "__main__":
    main()
