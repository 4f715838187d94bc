"""fMRI into a mask and into region means: neuroalign against nilearn, one thread, interleaved in one process.

    python benchmarks/loaders_fmri.py --folder /tmp/fmri

A generated run of 64 x 64 x 36 x 600 int16 with a mask of about 37320 voxels and 136 regions, plain and compressed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from _common import measure, print_rates  # first: it sets the number of threads

import nibabel as nib  # isort: skip
import numpy as np
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker

from neuroalign.loaders import read_fmri
from neuroalign.loaders._stream import inflater

SHAPE, N_REGIONS, TR = (64, 64, 36), 136, 2.0
#: Goals: CPU time and (for voxels) peak memory, as shares of the peer's and of the output.
GOALS = {("mask", ".nii"): 0.3, ("mask", ".nii.gz"): 0.5, ("atlas", ".nii"): 0.5, ("atlas", ".nii.gz"): 0.5}
PEAK = 1.3


def generate(folder: Path, n_volumes: int) -> None:
    """Smooth anatomy, slow drifts and noise, so that the compressed file shrinks as a recording does."""
    rng = np.random.default_rng(0)
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt((i / 0.8) ** 2 + (j / 0.95) ** 2 + (k / 0.9) ** 2)
    inside = radius < np.sort(radius.ravel())[37320]
    anatomy = np.where(inside, 700 + 300 * np.cos(5 * i) * np.cos(4 * j) * np.cos(3 * k), 15)
    run = np.empty((*SHAPE, n_volumes), dtype=np.int16, order="F")
    for n in range(n_volumes):
        noise = rng.standard_normal(SHAPE, dtype=np.float32) * np.where(inside, 12, 4)
        run[..., n] = np.maximum(anatomy * (1 + 0.01 * np.sin(n / 40)) + noise, 0)
    affine = np.diag([3.0, 3, 3, 1])
    image = nib.Nifti1Image(run, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = TR
    for suffix in (".nii", ".nii.gz"):
        nib.save(image, folder / f"run{suffix}")
    labels = np.where(inside, 1 + (np.cumsum(inside).reshape(SHAPE) - 1) * N_REGIONS // inside.sum(), 0)
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), affine), folder / "mask.nii.gz")
    nib.save(nib.Nifti1Image(labels.astype(np.int16), affine), folder / "atlas.nii.gz")


def methods(folder: Path, what: str, run: Path) -> dict[str, Callable[[], np.ndarray]]:
    image = folder / f"{what}.nii.gz"
    if what == "mask":
        masker = NiftiMasker(mask_img=str(image), standardize=None, dtype="float32").fit()
    else:
        masker = NiftiLabelsMasker(str(image), standardize=None, keep_masked_labels=False, verbose=0).fit()
    return {
        "neuroalign": lambda: read_fmri(run, **{what: image})["bold"].values,
        f"nilearn {type(masker).__name__}": lambda: masker.transform(str(run)),
    }


def line(name: str, seconds: list[float], peak: float, ours: float, output: float) -> None:
    ratio = ours / min(seconds)
    print(f"  {name:26s} {min(seconds):7.2f} {max(seconds):8.2f} {ratio:10.2f} {peak:8.0f} {peak / output:10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the generated files are kept; by default a temporary one")
    parser.add_argument("--volumes", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--zlib", action="store_true", help="as if isal were not installed")
    options = parser.parse_args()
    if options.zlib:
        sys.modules["isal"] = None
    warnings.simplefilter("ignore")
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "atlas.nii.gz").is_file():
        generate(folder, options.volumes)
    print_rates()
    print(f"gzip: {'isal' if 'isal' in str(inflater()[0]) else 'zlib'}; {options.volumes} volumes of {SHAPE}")
    print(f"  {'method':26s} {'CPU s':>7s} {'(worst)':>8s} {'ours/this':>10s} {'peak MB':>8s} {'x output':>10s}")
    for what, suffix in GOALS:
        print(f"{what}, {suffix}")
        tried = methods(folder, what, folder / f"run{suffix}")
        seconds: dict[str, list[float]] = {name: [] for name in tried}
        peaks: dict[str, float] = dict.fromkeys(tried, 0.0)
        results = {}
        for _ in range(options.repeats):
            for name, method in tried.items():
                spent, peak, results[name] = measure(method)
                seconds[name].append(spent)
                peaks[name] = max(peaks[name], peak)
        mine, theirs = results.values()
        best, output = min(seconds["neuroalign"]), mine.nbytes / 1e6
        for name in tried:
            line(name, seconds[name], peaks[name], best, output)
        spread = np.abs(np.sort(mine, axis=1) - np.sort(theirs, axis=1)).max() / np.abs(theirs).max()
        share = best / min(seconds[next(name for name in tried if name != "neuroalign")])
        met = share <= GOALS[what, suffix] and (what == "atlas" or peaks["neuroalign"] <= PEAK * output)
        goal = f"<= {GOALS[what, suffix]} CPU" + (f", peak <= {PEAK} x output" if what == "mask" else "")
        print(
            f"  goal {goal}: {'met' if met else 'NOT met'} ({share:.2f}); values differ by {spread:.0e} of the largest"
        )


if __name__ == "__main__":
    main()
