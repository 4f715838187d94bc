import importlib.util
import sys
from pathlib import Path

import pytest

from neuroalign.cli import main
from neuroalign.errors import ConfigError
from neuroalign.pipeline import bench

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "_common.py").write_text("")
    (tmp_path / "speed.py").write_text("import sys\nprint('ran', sys.argv[1:])\nsys.exit(len(sys.argv) - 1)\n")
    return tmp_path


def test_scripts_run_by_name(folder, capfd):
    assert bench(folder=folder) == (["speed"], 0)
    assert bench("speed", folder=folder) == (["speed"], 0)
    assert bench("speed", ["--workload", "A"], folder=folder) == (["speed"], 2)
    assert capfd.readouterr().out == "ran []\nran ['--workload', 'A']\n"


def test_unknown_or_absent(folder, tmp_path):
    with pytest.raises(ConfigError, match="speed"):
        bench("slow", folder=folder)
    with pytest.raises(ConfigError, match=r"git clone https://github.com/neuroalign/neuroalign"):
        bench("speed", folder=tmp_path / "nothing")


def test_the_command(folder, monkeypatch, capfd):
    monkeypatch.setattr(sys.modules[bench.__module__], "FOLDER", folder)
    assert main(["bench"]) == 0
    assert main(["bench", "speed", "--", "--workload", "A"]) == 2
    assert main(["bench", "slow"]) == 2
    told = capfd.readouterr()
    assert told.out.splitlines() == ["speed", "ran ['--workload', 'A']"]
    assert "No such benchmark" in told.err


def test_the_page_shows_what_scripts_printed(folder, monkeypatch):
    spec = importlib.util.spec_from_file_location("_page", ROOT / "benchmarks" / "_page.py")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    (folder / "speed.py").write_text(
        '"""How fast."""\nimport sys\nprint("ours 1.0", *sys.argv[1:])\nprint("summary | A | peer | 1.0")\n'
    )
    readme = folder / "README.md"
    readme.write_text(f"before\n{page.BEGIN}old\n{page.END}\nafter\n")
    places = {"HERE": folder, "RESULTS": folder / "results", "PAGE": folder / "page.md", "README": readme}
    for name, value in places.items():
        monkeypatch.setattr(page, name, value)
    monkeypatch.setattr(sys, "argv", ["_page.py", "--run", "speed", "--workload", "A"])
    page.main()
    text = (folder / "page.md").read_text()
    assert text.startswith("# Benchmarks\n")
    assert "## How fast (--workload A)\n\n`python benchmarks/speed.py --workload A`\n" in text
    assert "| A | peer | 1.0 |\n" in text
    assert "summary" not in text
    shown = readme.read_text()
    assert shown.startswith(f"before\n{page.BEGIN}| workload |")
    assert shown.endswith(f"| A | peer | 1.0 |\n{page.END}\nafter\n")
    assert "```text\nours 1.0 --workload A\n```" in text
    assert "numpy" in text
