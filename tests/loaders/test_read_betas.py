"""Single-trial responses of other tools, written here as those tools write them."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import scipy.io
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import neuroalign
from neuroalign import align, schema
from neuroalign.errors import AlignmentError, ConfigError, IntegrityError, NeuroalignError, SchemaError
from neuroalign.loaders import read_betas

SHAPE, TRIALS = (5, 4, 3), 8  # i j k
AFFINE = np.array([[-1.8, 0, 0, 9], [0, 1.8, 0, -7], [0, 0.1, 1.8, 4], [0, 0, 0, 1]])
IDS = ["cat", "dog", "cat", "cow", "dog", "cat", "owl", "cow"]
REPEATS = [1, 1, 2, 1, 2, 3, 1, 2]


def betas(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (*SHAPE, TRIALS)).astype(np.float32)


def maps(seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"R2": rng.random(SHAPE) * 100, "HRFindex": rng.integers(0, 20, SHAPE), "noisepool": rng.random(SHAPE) > 0.5}


def table() -> pd.DataFrame:
    return pd.DataFrame({"stimulus_id": IDS, "run": np.repeat([1, 2], 4), "rt": np.arange(TRIALS) / 10})


def mask_image(seed: int = 2) -> nib.Nifti1Image:
    inside = np.random.default_rng(seed).random(SHAPE) > 0.4
    return nib.Nifti1Image(inside.astype(np.uint8), AFFINE)


def glmsingle_python(path: Path, values: np.ndarray, **more: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in {"betasmd": values, "FRACvalue": values[..., 0] * 0 + 0.5, **more}.items():
            file.create_dataset(name, data=array)
        file.create_dataset("xvaltrend", data=np.arange(4.0))
    return path


def matlab73(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """As MATLAB saves with -v7.3: axes reversed, the class of each variable, 512 bytes before the HDF5."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            dataset = file.create_dataset(name, data=np.ascontiguousarray(array.T))
            dataset.attrs["MATLAB_class"] = np.bytes_(
                {"f4": "single", "i2": "int16"}.get(array.dtype.str[1:], "double")
            )
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def flat(values: np.ndarray) -> np.ndarray:
    """(trial, voxel), voxels with i fastest."""
    return values.T.reshape(values.shape[-1], -1)


@pytest.mark.parametrize("kind", ["hdf5", "mat73", "mat5", "npz", "npy"])
def test_grids_of_all_files_are_the_same(tmp_path: Path, kind: str) -> None:
    values, extra = betas(), maps()
    stem = "TYPED_FITHRF_GLMDENOISE_RR"
    if kind == "hdf5":
        path = glmsingle_python(tmp_path / f"{stem}.hdf5", values, **extra)
    elif kind == "mat73":
        path = matlab73(tmp_path / f"{stem}.mat", {"modelmd": values, **{n: a * 1.0 for n, a in extra.items()}})
    elif kind == "mat5":
        path = tmp_path / f"{stem}.mat"
        scipy.io.savemat(path, {"modelmd": values, **extra})
    elif kind == "npz":
        path = tmp_path / "sub-01.npz"
        np.savez(path, betasmd=values, **extra)
    else:
        path = tmp_path / f"{stem}.npy"
        np.save(path, values)
    ds = read_betas(path, trials=table())
    schema.validate(ds)
    assert ds["betas"].dims == ("trial", "voxel")
    np.testing.assert_array_equal(ds["betas"].values, flat(values))
    np.testing.assert_array_equal(values[ds["i"].values, ds["j"].values, ds["k"].values].T, ds["betas"].values)
    if kind != "npy":
        for name, array in extra.items():
            np.testing.assert_allclose(ds[name].values, array.T.ravel())
    assert ds["stimulus_id"].values.tolist() == IDS
    assert ds["repeat"].values.tolist() == REPEATS
    assert ds["run"].values.tolist() == ["1"] * 4 + ["2"] * 4
    np.testing.assert_allclose(ds["rt"].values, np.arange(TRIALS) / 10)
    assert ds.attrs["units"] == ds["betas"].attrs["units"] == "%"
    assert ds.attrs["estimated_by"] == ("GLMsingle" if kind == "npz" else f"GLMsingle {stem}")
    assert ds.attrs["volume_shape"] == [*SHAPE]
    assert schema.history(ds)["sources"][0]["name"] == path.name
    image = mask_image()
    masked = read_betas(path, mask=image, space="T1w")
    inside = np.asarray(image.dataobj).T.ravel() > 0
    np.testing.assert_array_equal(masked["betas"].values, flat(values)[:, inside])
    xyz = nib.affines.apply_affine(AFFINE, np.column_stack([masked[a] for a in "ijk"]))
    np.testing.assert_allclose(np.column_stack([masked[a] for a in "xyz"]), xyz)
    np.testing.assert_allclose(schema.affine(masked), AFFINE)
    assert masked.attrs["space"] == masked["betas"].attrs["space"] == "T1w"
    assert "stimulus_id" not in masked.coords


@pytest.mark.parametrize("kind", ["hdf5", "mat73", "mat5", "npy", "npy2", "npy2t"])
def test_voxels_without_a_grid_follow_their_mask(tmp_path: Path, kind: str) -> None:
    """data[mask] in NumPy has k fastest, data(mask) in MATLAB has i fastest."""
    values, image = betas(), mask_image()
    inside = np.asarray(image.dataobj) > 0
    numpy_order, matlab_order = values[inside], values.transpose(2, 1, 0, 3)[inside.T]
    stem = tmp_path / "TYPEC_FITHRF_GLMDENOISE"
    if kind == "hdf5":
        path = glmsingle_python(stem.with_suffix(".hdf5"), numpy_order[:, None, None], R2=numpy_order[:, None, None, 0])
    elif kind == "mat73":
        path = matlab73(stem.with_suffix(".mat"), {"modelmd": matlab_order[:, None, None], "R2": matlab_order[:, :1]})
    elif kind == "mat5":
        path = stem.with_suffix(".mat")
        scipy.io.savemat(path, {"modelmd": matlab_order[:, None, None]})
    else:
        path = stem.with_suffix(".npy")
        np.save(path, {"npy": numpy_order[:, None, None], "npy2": numpy_order, "npy2t": numpy_order.T}[kind])
    ds = read_betas(path, trials=table(), mask=image)
    at = tuple(ds[axis].values for axis in "ijk")
    assert inside[at].all()
    np.testing.assert_array_equal(ds["betas"].values, values[at].T)
    if "R2" in ds.coords:
        np.testing.assert_array_equal(ds["R2"].values, values[at][:, 0])
    assert ds.attrs["volume_shape"] == [*SHAPE]
    bare = read_betas(path, trials=table())
    np.testing.assert_array_equal(bare["betas"].values, ds["betas"].values)
    assert not {"i", "x"} & set(bare.coords)
    if kind.startswith("npy2"):
        with pytest.raises(SchemaError, match="which axis"):
            read_betas(path)
    with pytest.raises(SchemaError, match="does not hold the voxels"):
        read_betas(path, trials=table(), mask=nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE))


def nsd(folder: Path, kind: str, session: int = 1, seed: int = 0) -> tuple[Path, np.ndarray]:
    """Percent signal change times 300 as int16; voxels without data are 0."""
    stored = np.rint(betas(seed) * 300).astype(np.int16)
    stored[0, 0] = 0
    folder = folder / "betas_fithrf_GLMdenoise_RR"
    folder.mkdir(exist_ok=True)
    path = folder / f"betas_session{session:02d}.{kind}"
    if kind.startswith("nii"):
        nib.save(nib.Nifti1Image(stored, AFFINE), path)
    elif kind == "mat":
        matlab73(path, {"betas": stored})
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("betas", data=stored.T, chunks=(1, *stored.T.shape[1:]))
    return path, stored


@pytest.mark.parametrize("kind", ["nii", "nii.gz", "hdf5", "mat"])
def test_nsd_sessions(tmp_path: Path, kind: str) -> None:
    path, stored = nsd(tmp_path, kind)
    ds = read_betas(path, trials=table(), space="func1pt8mm")
    expected = flat(stored) / np.float32(300)
    empty = ~expected.any(axis=0)
    assert empty.sum() == SHAPE[2]
    np.testing.assert_allclose(ds["betas"].values[:, ~empty], expected[:, ~empty], rtol=1e-6)
    assert np.isnan(ds["betas"].values[:, empty]).all()
    assert ds.attrs["units"] == "%"
    assert ds.attrs["estimated_by"] == "NSD betas_fithrf_GLMdenoise_RR"
    assert set(ds["session"].values) == {"01"}
    assert ds.attrs["session"] == "01"
    assert ("x" in ds.coords) == kind.startswith("nii")
    other = read_betas(path, scale=0.5, units="z")
    np.testing.assert_allclose(other["betas"].values[:, ~empty], flat(stored)[:, ~empty] / 2)
    assert other.attrs["units"] == "z"
    assert isinstance(neuroalign.load(path, trials=table()), xr.Dataset)
    xr.testing.assert_equal(neuroalign.load(path, trials=table())["betas"], ds["betas"])


def test_sessions_share_a_table_and_are_joined(tmp_path: Path) -> None:
    rows = pd.concat([table().assign(session=n) for n in (1, 2)], ignore_index=True)
    rows.to_csv(tmp_path / "trials.tsv", sep="\t", index=False)
    runs = [read_betas(nsd(tmp_path, "hdf5", n, seed=n)[0], trials=tmp_path / "trials.tsv") for n in (1, 2)]
    assert runs[0]["repeat"].values.tolist() == REPEATS
    assert runs[1]["repeat"].values.tolist() == [r + IDS.count(i) for r, i in zip(REPEATS, IDS, strict=True)]
    both = align.concat(runs)
    assert both.sizes["trial"] == 2 * TRIALS
    assert both["session"].values.tolist() == ["1"] * TRIALS + ["2"] * TRIALS
    assert [s["name"] for s in schema.history(runs[0])["sources"]] == ["betas_session01.hdf5", "trials.tsv"]
    np.save(tmp_path / "betas.npy", betas())
    plain = read_betas(tmp_path / "betas.npy", trials=rows, session="02")
    assert plain["repeat"].values.tolist() == runs[1]["repeat"].values.tolist()
    assert plain.attrs["units"] == "a.u."
    with pytest.raises(ConfigError, match="several sessions"):
        read_betas(tmp_path / "betas.npy", trials=rows)
    with pytest.raises(AlignmentError, match="does not fit"):
        read_betas(tmp_path / "betas.npy", trials=rows, session=7)


def test_masks_may_be_files_and_must_fit(tmp_path: Path) -> None:
    path, stored = nsd(tmp_path, "nii.gz")
    nib.save(mask_image(), tmp_path / "sub-01_space-T1w_mask.nii.gz")
    ds = read_betas(path, mask=tmp_path / "sub-01_space-T1w_mask.nii.gz")
    assert ds.attrs["space"] == "T1w"
    inside = np.asarray(mask_image().dataobj).T.ravel() > 0
    good = flat(stored)[:, inside].any(axis=0)
    np.testing.assert_allclose(ds["betas"].values[:, good], flat(stored)[:, inside][:, good] / 300, rtol=1e-5)
    moved = AFFINE.copy()
    moved[0, 3] += 2
    with pytest.raises(SchemaError, match="differ by 2 mm"):
        read_betas(path, mask=nib.Nifti1Image(np.ones(SHAPE, np.uint8), moved))
    with pytest.raises(SchemaError, match="another grid"):
        read_betas(path, mask=nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), AFFINE))


def test_slabs_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = glmsingle_python(tmp_path / "TYPED_FITHRF.hdf5", betas())
    reversed_path, _ = nsd(tmp_path, "hdf5")
    whole = [read_betas(p, mask=mask_image())["betas"].values for p in (path, reversed_path)]
    monkeypatch.setattr("neuroalign.loaders._betas._BLOCK_BYTES", 1)
    slabs = [read_betas(p, mask=mask_image())["betas"].values for p in (path, reversed_path)]
    for a, b in zip(whole, slabs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pickles_are_refused_with_the_remedy(tmp_path: Path) -> None:
    """GLMsingle saves a dictionary by np.save unless it is asked for HDF5."""
    path = tmp_path / "TYPED_FITHRF_GLMDENOISE_RR.npy"
    np.save(path, {"betasmd": betas(), "R2": 0}, allow_pickle=True)
    with pytest.raises(IntegrityError, match="wanthdf5") as caught:
        read_betas(path)
    assert "np.savez" in str(caught.value)
    with pytest.raises(IntegrityError, match="wanthdf5"):
        neuroalign.load(path)


def test_faults_are_named(tmp_path: Path) -> None:
    integers = tmp_path / "responses.npy"
    np.save(integers, (betas() * 100).astype(np.int16))
    with pytest.raises(ConfigError, match="without a scale"):
        read_betas(integers)
    assert read_betas(integers, scale=0.01, units="%").attrs["units"] == "%"
    with pytest.raises(ConfigError, match="Not a scale"):
        read_betas(integers, scale=0)
    with pytest.raises(ConfigError, match="max_bytes"):
        read_betas(integers, scale=1, max_bytes=100)
    with pytest.raises(AlignmentError, match="does not fit"):
        read_betas(integers, scale=1, trials=table().iloc[:5])
    with pytest.raises(ConfigError, match="not a table"):
        read_betas(integers, scale=1, trials=[1, 2])
    with pytest.raises(IntegrityError, match="no such file"):
        read_betas(tmp_path / "absent.npy")
    (tmp_path / "a.txt").write_text("1")
    with pytest.raises(ConfigError, match="kind of file"):
        read_betas(tmp_path / "a.txt")
    (tmp_path / "b.hdf5").write_bytes(b"nothing")
    with pytest.raises(IntegrityError, match="damaged"):
        read_betas(tmp_path / "b.hdf5")
    np.save(tmp_path / "cube.npy", np.ones((2, 3, 4)))
    with pytest.raises(SchemaError, match="no single-trial"):
        read_betas(tmp_path / "cube.npy")
    with h5py.File(tmp_path / "huge.hdf5", "w") as file:
        file.create_dataset("betas", shape=(750, 32000, 32000, 32000), dtype="i2", chunks=(1, 64, 64, 64))
    with pytest.raises(ConfigError, match="max_bytes"):
        read_betas(tmp_path / "huge.hdf5", scale=1)
    np.savez(tmp_path / "two.npz", a=np.ones((2, 3)), b=np.ones((2, 3)))
    with pytest.raises(SchemaError, match="known name"):
        read_betas(tmp_path / "two.npz")
    with pytest.raises(SchemaError, match="one response for all trials"):
        read_betas(glmsingle_python(tmp_path / "TYPEA_ONOFF.hdf5", betas()[..., :1]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), kind=st.sampled_from(["hdf5", "mat", "nii.gz", "nii"]))
def test_cut_files_are_refused_or_whole(tmp_path: Path, cut: float, kind: str) -> None:
    path, _ = nsd(tmp_path, kind)
    whole = read_betas(path)["betas"].values
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    try:
        np.testing.assert_array_equal(read_betas(path)["betas"].values, whole)
    except NeuroalignError:
        return
