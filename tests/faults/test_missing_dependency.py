"""Without an optional library, the error says how to install it (row 38 of the faults)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
import numpy as np, xarray as xr
from pathlib import Path
import matplotlib
matplotlib.use("Agg")
import neuroalign
from neuroalign.errors import MissingDependencyError
folder = Path({folder!r})
def call():
{body}
try:
    call()
except MissingDependencyError as error:
    assert isinstance(error, ImportError)
    assert {name!r} in str(error).splitlines()[0], error
    assert error.fix == 'pip install "neuroalign[{extra}]"', error.fix
    print("refused")
"""

CASES = {
    "read_eeg": ("mne", "eeg", "neuroalign.loaders.read_eeg(folder / 'a_raw.fif')"),
    "read_meg": ("mne", "eeg", "neuroalign.loaders.read_meg(folder / 'a_raw.fif')"),
    "read_eeg_mff": (
        "mffpy",
        "mff",
        "(folder / 'a.mff').mkdir()\nneuroalign.loaders.read_eeg(folder / 'a.mff')",
    ),
    "read_ieeg": (
        "pynwb",
        "nwb",
        "(folder / 'a.nwb').write_bytes(b'anything')\nneuroalign.loaders.read_ieeg(folder / 'a.nwb')",
    ),
    "read_fmri": ("nibabel", "fmri", "neuroalign.loaders.read_fmri(folder / 'a.nii')"),
    "topomap": (
        "mne",
        "eeg",
        "from neuroalign.plots import topomap\n"
        "n = 8\n"
        "angle = np.linspace(0, 6, n)\n"
        "coords = {'channel': [f'E{k}' for k in range(n)], 'x': ('channel', 0.09 * np.cos(angle)),\n"
        "          'y': ('channel', 0.09 * np.sin(angle)), 'z': ('channel', np.full(n, 0.03))}\n"
        "topomap(xr.DataArray(np.arange(8.0), dims='channel', coords=coords, attrs={'units': 'V'}))",
    ),
    "brain": (
        "nilearn",
        "fmri",
        "from neuroalign.plots import brain\n"
        "ijk = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]])\n"
        "ds = neuroalign.schema.fmri_masked(np.ones((5, 4)), ijk=ijk, affine=np.eye(4), tr=2.0,\n"
        "                                   volume_shape=(3, 3, 3), space='MNI')\n"
        "brain(ds['bold'].isel(time=0))",
    ),
    "ActivationExtractor": (
        "torch",
        "torch",
        "from neuroalign.activations import ActivationExtractor\nActivationExtractor(lambda x: x)({'cat': np.ones(4)})",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_error_names_the_extra(case: str, tmp_path: Path) -> None:
    name, extra, body = CASES[case]
    mne, nibabel = pytest.importorskip("mne"), pytest.importorskip("nibabel")
    raw = mne.io.RawArray(np.zeros((2, 100)), mne.create_info(["Fz", "Cz"], 100.0, "eeg"), verbose="error")
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3, 4)), np.eye(4)), tmp_path / "a.nii")
    blocked = {name} if name != "nibabel" else {"nibabel", "nilearn"}
    code = BLOCK.format(
        blocked=blocked, folder=str(tmp_path), body=textwrap.indent(body, "    "), name=name, extra=extra
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "refused", done.stderr[-1500:]


def test_everything_else_works_without_the_optional_libraries(tmp_path: Path) -> None:
    code = BLOCK.split("folder =")[0].format(blocked={"mne", "nibabel", "nilearn", "torch"}) + (
        "from neuroalign.encoding import RidgeEncoder\n"
        "import neuroalign.loaders, neuroalign.activations, neuroalign.plots, neuroalign.report, neuroalign.pipeline\n"
        "x = np.random.default_rng(0).normal(size=(30, 2))\n"
        "model = RidgeEncoder().fit(x, x)\n"
        "assert (neuroalign.load_model(model.save('model')).predict(x) == model.predict(x)).all()\n"
        "print('works')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.strip() == "works", done.stderr[-1500:]
