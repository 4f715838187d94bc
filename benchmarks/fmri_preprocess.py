"""Confounds, regions and betas of fMRI: neuroalign against nilearn and h5py, one thread, interleaved in one process.

    python benchmarks/fmri_preprocess.py

Generated: 600 volumes of 37320 voxels with 24 confounds and a high-pass of 0.01 Hz; 600 volumes of 64 x 64 x 36 with
136 regions; a session of NSD's size (750 trials of 81 x 104 x 83, int16) with a mask of 48000 voxels.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

from _common import compare, print_rates  # first: it sets the number of threads

import h5py  # isort: skip
import nibabel as nib
import numpy as np
from nilearn.maskers import NiftiLabelsMasker
from nilearn.signal import clean

from neuroalign import schema
from neuroalign.loaders import read_betas
from neuroalign.preprocess import ConfoundRegressor, Parcellator

TR, N, VOXELS, SHAPE = 2.0, 600, 37320, (64, 64, 36)


def confounds(repeats: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, VOXELS), dtype=np.float32) + 1000
    table = rng.normal(size=(N, 24))
    ijk = np.argwhere(np.ones(SHAPE, dtype=bool))[:VOXELS]
    run = schema.fmri_masked(x, ijk=ijk, affine=np.eye(4), tr=TR, volume_shape=SHAPE)
    step = ConfoundRegressor(table, high_pass=0.01, standardize="z").fit(run)
    out = compare(
        {
            "neuroalign ConfoundRegressor": lambda: step.transform(run)["bold"].values,
            "nilearn signal.clean": lambda: clean(x, confounds=table, filter="cosine", high_pass=0.01, t_r=TR),
        },
        repeats,
    )
    mine, theirs = out.values()
    print(f"values differ by {np.abs(mine * np.sqrt((N - 1) / N) - theirs).max():.0e} standard deviations")


def regions(repeats: int) -> None:
    values = np.random.default_rng(0).standard_normal((N, *SHAPE[::-1]), dtype=np.float32)
    size = np.prod(SHAPE)
    atlas = nib.Nifti1Image((1 + np.arange(size) * 136 // size).reshape(SHAPE).astype(np.int16), np.eye(4))
    run = schema.fmri_volume(values, affine=np.eye(4), tr=TR)
    image = nib.Nifti1Image(values.T, np.eye(4))
    step = Parcellator(atlas).fit(run)
    masker = NiftiLabelsMasker(atlas, standardize=None, resampling_target=None).fit()
    out = compare(
        {
            "neuroalign Parcellator": lambda: step.transform(run)["bold"].values,
            "nilearn NiftiLabelsMasker": lambda: masker.transform(image),
        },
        repeats,
    )
    mine, theirs = out.values()
    print(f"values differ by {np.abs(mine - theirs).max() / np.abs(theirs).max():.0e} of the largest")


def session(folder: Path, repeats: int) -> None:
    path, rng = folder / "betas_session01.hdf5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("betas", shape=(750, 83, 104, 81), dtype="i2", chunks=(1, 83, 104, 81))
        for trial in range(len(stored)):
            stored[trial] = rng.integers(-900, 900, stored.shape[1:])
    inside = np.zeros((81, 104, 83), dtype=np.uint8)
    inside[20:60, 30:70, 20:50] = 1
    mask = nib.Nifti1Image(inside, np.eye(4))

    def whole() -> np.ndarray:
        with h5py.File(path) as file:
            return file["betas"][()][:, inside.T > 0] / np.float32(300)

    methods = {
        "neuroalign read_betas": lambda: read_betas(path, mask=mask)["betas"].values,
        "h5py, whole array": whole,
    }
    mine, theirs = compare(methods, repeats).values()
    print(f"values differ by {np.abs(mine - theirs).max():.0e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print_rates()
    confounds(options.repeats)
    regions(options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        session(Path(folder), options.repeats)


if __name__ == "__main__":
    main()
