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
RESULTS, PAGE, README = HERE / "results", HERE.parent / "docs" / "benchmarks.md", HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->"
COLUMNS = ("workload", "against", "neuroalign, s", "peer, s", "ratio", "peak MB", "peer's", "of the matrix rate")
PACKAGES = ("neuroalign", "numpy", "scipy", "torch", "himalaya", "mne", "scikit-learn")
HEAD = """# Benchmarks

What the scripts in `benchmarks/` printed, with the machine, the date and the versions. CPU time is that of one thread
where nothing else is said; methods take turns in one process; ratios are to the first line. Run one yourself from a
checkout with `neuroalign bench NAME`, as in `neuroalign bench ridge_cv -- --workload A`.

The table gathers what the sections below print. Memory is the peak above what was resident before; the last column is
what the products that grow with the number of targets would take at the measured rate of a square product, over what
they took.
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
    shown = "\n".join(line for line in lines if not line.startswith("# ") and not is_row(line))
    script = HERE / f"{about[0].split()[1].removeprefix('benchmarks/').removesuffix('.py')}.py"
    title = script.read_text().splitlines()[0].strip('"').rstrip(".") if script.exists() else path.stem
    # Outputs of one script differ in their arguments, so their titles must.
    arguments = " ".join(about[0].split()[2:])
    title += f" ({arguments})" if arguments else ""
    return f"## {title}\n\n`{about[0]}`\n\n{'. '.join(about[1:])}.\n\n```text\n{shown}\n```\n"


def table(paths: list[Path]) -> str:
    """The summary rows of saved outputs."""
    rows = [line.split(" | ")[1:] for path in paths for line in path.read_text().splitlines() if is_row(line)]
    lines = [COLUMNS, ["---", "---", *["--:"] * (len(COLUMNS) - 2)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def is_row(line: str) -> bool:
    return line.startswith("summary | ")


def into_readme(rows: str) -> None:
    """Put the table between its marks."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{README} has no marks {BEGIN.strip()} and {END}")
    README.write_text(before + BEGIN + rows + END + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", metavar="NAME", help="run this script first; further arguments are its own")
    options, rest = parser.parse_known_args()
    if options.run:
        keep(options.run, rest)
    paths = sorted(RESULTS.glob("*.txt"))
    rows = table(paths)
    into_readme(rows)
    PAGE.write_text("\n".join([HEAD, rows, *(section(path) for path in paths)]))


if __name__ == "__main__":
    main()
