"""read_fmri against nibabel and nilearn, on images made here and on real ones."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign import schema
from neuroalign.errors import ConfigError, NeuroalignWarning, SchemaError
from neuroalign.loaders.fmri import read_fmri

RealData = Callable[[str], Path]
AFFINE = np.array([[-3.0, 0.1, 0, 60], [0.1, 2.9, -0.4, -35], [0, 0.4, 3.1, 5], [0, 0, 0, 1]])
SHAPE = (4, 3, 2, 9)


def write(
    path: Path,
    data: np.ndarray,
    *,
    tr: float = 2.0,
    units: tuple[str, str] = ("mm", "sec"),
    affine: np.ndarray = AFFINE,
    slope: float | None = None,
    inter: float = 0.0,
    version: int = 1,
) -> Path:
    image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(data, affine)
    image.header.set_xyzt_units(*units)
    if data.ndim == 4:
        image.header["pixdim"][4] = tr
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    nib.save(image, path)
    return path


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.default_rng(0).integers(-500, 3000, SHAPE).astype(np.int16)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["i2", "u1", "f4", "f8", "i4", ">i2", ">f4"])
@pytest.mark.parametrize("lazy", [True, False])
def test_values_are_those_of_nibabel(tmp_path: Path, data: np.ndarray, suffix: str, kind: str, lazy: bool) -> None:
    values = np.abs(data).astype(kind) if kind == "u1" else data.astype(kind)
    header = nib.Nifti1Header(endianness=">" if kind[0] == ">" else "<")
    header.set_data_dtype(np.dtype(kind))
    header.set_xyzt_units("mm", "sec")
    image = nib.Nifti1Image(values, AFFINE, header)
    image.header["pixdim"][4] = 2.0
    path = tmp_path / f"run{suffix}"
    nib.save(image, path)
    bold = read_fmri(path, lazy=lazy)["bold"]
    expected = nib.load(path).get_fdata().astype(np.float32).T
    assert bold.dims == ("time", "k", "j", "i")
    assert bold.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(bold.values, expected)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaling_is_applied(tmp_path: Path, data: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    image = nib.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.0
    image.header.set_slope_inter(0.37656, -12.5)
    nib.save(image, path)
    expected = nib.load(path).get_fdata().astype(np.float32).T
    assert not np.array_equal(expected, data.T)
    np.testing.assert_array_equal(read_fmri(path)["bold"].values, expected)
    np.testing.assert_array_equal(read_fmri(path, lazy=False)["bold"].values, expected)


def slices(n: int) -> st.SearchStrategy[slice]:
    """Slices that xarray itself can take apart: it fails on empty ones with a negative step."""
    return st.slices(n).filter(lambda s: (s.step or 1) > 0 or len(range(n)[s]) > 0)


KEYS = st.one_of(
    st.integers(-2, 1),
    slices(2),
    st.lists(st.integers(0, 1), min_size=1, max_size=3),
)


@settings(max_examples=40, deadline=None)
@given(
    time=st.one_of(st.integers(-9, 8), slices(9), st.lists(st.integers(0, 8), min_size=1, max_size=5)),
    k=KEYS,
    j=KEYS,
    i=KEYS,
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_lazy_slices_equal_eager_ones(
    tmp_path_factory: pytest.TempPathFactory,
    data: np.ndarray,
    time: object,
    k: object,
    j: object,
    i: object,
    suffix: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"slices{suffix}"
    if not path.exists():
        write(path, data, slope=0.5, inter=3.0)
    key = {"time": time, "k": k, "j": j, "i": i}
    whole = read_fmri(path, lazy=False)["bold"]
    xr.testing.assert_identical(read_fmri(path)["bold"].isel(key).load(), whole.isel(key))


def test_lazy_holds_a_path_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "run.nii", np.zeros((20, 20, 20, 100), dtype=np.int16))
    ds = read_fmri(path)
    assert len(pickle.dumps(ds)) < 10_000
    assert not ds["bold"].variable._in_memory
    again = pickle.loads(pickle.dumps(ds))
    np.testing.assert_array_equal(again["bold"].isel(time=3).values, 0)


def test_geometry_clock_and_provenance(tmp_path: Path, data: np.ndarray) -> None:
    path = write(tmp_path / "sub-01_space-T1w_bold.nii.gz", data)
    ds = schema.validate(read_fmri(path), "fmri")
    np.testing.assert_allclose(schema.affine(ds), AFFINE, atol=1e-5)
    assert (ds.attrs["tr"], ds.attrs["space"], ds.attrs["units"]) == (2.0, "T1w", "a.u.")
    np.testing.assert_allclose(ds["time"].values, np.arange(9) * 2.0)
    assert schema.history(ds)["sources"][0]["name"] == path.name


def test_nifti2_and_4d_of_one_volume(tmp_path: Path, data: np.ndarray) -> None:
    path = write(tmp_path / "run.nii.gz", data[..., :1], version=2)
    assert read_fmri(path)["bold"].shape == (1, 2, 3, 4)


def test_a_3d_image_is_a_map_without_clock(tmp_path: Path, data: np.ndarray) -> None:
    path = write(tmp_path / "stat.nii.gz", data[..., 0])
    ds = read_fmri(path)
    assert ds["map"].dims == ("k", "j", "i")
    assert "time" not in ds.coords
    assert "tr" not in ds.attrs
    np.testing.assert_array_equal(ds["map"].values, data[..., 0].T)
    mask = write(tmp_path / "mask.nii.gz", (data[..., 1] > 0).astype(np.uint8))
    assert read_fmri(path, mask=mask)["map"].dims == ("voxel",)


def test_mask_streams_the_voxels_inside(tmp_path: Path, data: np.ndarray) -> None:
    path = write(tmp_path / "run.nii.gz", data, slope=0.5)
    inside = data[..., 0] > 800
    mask = write(tmp_path / "mask.nii.gz", inside.astype(np.uint8))
    ds = schema.validate(read_fmri(path, mask=mask), "fmri")
    stored = nib.load(path).get_fdata().astype(np.float32)
    for n in range(ds.sizes["voxel"]):
        i, j, k = (int(ds[axis][n]) for axis in "ijk")
        assert inside[i, j, k]
        np.testing.assert_array_equal(ds["bold"][:, n].values, stored[i, j, k])
        expected = nib.affines.apply_affine(nib.load(path).affine, (i, j, k))
        np.testing.assert_allclose([float(ds[axis][n]) for axis in "xyz"], expected, atol=1e-5)
    assert ds.sizes["voxel"] == inside.sum()
    assert ds.attrs["volume_shape"] == list(SHAPE[:3])
    image = nib.load(mask)
    xr.testing.assert_equal(ds, read_fmri(path, mask=image))


def test_atlas_gives_region_means(tmp_path: Path, data: np.ndarray) -> None:
    path = write(tmp_path / "run.nii.gz", data, slope=0.5, inter=7.0)
    labels = np.random.default_rng(1).choice([0, 2, 5, 7], size=SHAPE[:3]).astype(np.float32)
    atlas = write(tmp_path / "atlas.nii.gz", labels)
    ds = schema.validate(read_fmri(path, atlas=atlas, labels=["V1", "V2", "MT"]), "fmri")
    stored = nib.load(path).get_fdata()
    for name, value in (("V1", 2), ("V2", 5), ("MT", 7)):
        np.testing.assert_allclose(ds["bold"].sel(roi=name).values, stored[labels == value].mean(axis=0), rtol=1e-5)
        assert int(ds["n_voxels"].sel(roi=name)) == (labels == value).sum()
    by_number = read_fmri(path, atlas=atlas, labels={2: "V1", 5: "V2", 7: "MT", 9: "not there"})
    xr.testing.assert_equal(ds, by_number)
    assert read_fmri(path, atlas=atlas)["roi"].values.tolist() == ["2", "5", "7"]


def test_mask_and_atlas_name_the_region_of_each_voxel(tmp_path: Path, data: np.ndarray) -> None:
    path = write(tmp_path / "run.nii.gz", data)
    labels = np.zeros(SHAPE[:3], dtype=np.uint8)
    labels[0], labels[1] = 1, 4
    mask = write(tmp_path / "mask.nii.gz", np.ones(SHAPE[:3], dtype=np.uint8))
    ds = read_fmri(path, mask=mask, atlas=write(tmp_path / "atlas.nii.gz", labels), labels=["A", "B"])
    expected = np.array(["A", "B", "", ""])[ds["i"].values]
    assert ds["roi"].values.tolist() == expected.tolist()


@pytest.mark.parametrize("labels", [["A"], ["A", "B", "C", "D"], {2: "A"}])
def test_labels_must_fit(tmp_path: Path, data: np.ndarray, labels: object) -> None:
    path = write(tmp_path / "run.nii.gz", data)
    atlas = write(tmp_path / "atlas.nii.gz", np.arange(24, dtype=np.uint8).reshape(4, 3, 2) % 4)
    with pytest.raises(ConfigError, match="does not fit the atlas"):
        read_fmri(path, atlas=atlas, labels=labels)


@pytest.mark.parametrize(
    ("pixdim", "units", "sidecar", "tr", "expected"),
    [
        (2.0, "sec", None, None, 2.0),
        (2000.0, "msec", None, None, 2.0),
        (2e6, "usec", None, None, 2.0),
        (2.0, "sec", 2.0, None, 2.0),
        (2.0, "sec", 2.0004, None, 2.0004),
        (1.35, "sec", None, None, 1.35),
        (1.0, "unknown", 2.0, None, 2.0),
        (0.0, "sec", 2.0, None, 2.0),
        (2000.0, "unknown", 2.0, None, 2.0),
        (2000.0, "sec", None, 2.0, 2.0),
        (2.0, "sec", 3.0, 3.0, 3.0),
        (2.0, "sec", 2, None, 2.0),
    ],
)
def test_repetition_time_is_settled(
    tmp_path: Path,
    data: np.ndarray,
    pixdim: float,
    units: str,
    sidecar: float | None,
    tr: float | None,
    expected: float,
) -> None:
    path = write(tmp_path / "run.nii.gz", data, tr=pixdim, units=("mm", units))
    if sidecar is not None:
        (tmp_path / "run.json").write_text(
            json.dumps({"RepetitionTime": sidecar, "SliceTiming": [0, 1], "StartTime": 1})
        )
    ds = read_fmri(path, tr=tr)
    assert ds.attrs["tr"] == expected
    if sidecar is not None:
        assert ds.attrs["slice_timing"] == [0.0, 1.0]
        assert ds.attrs["start_time"] == 1.0


@pytest.mark.parametrize(
    ("pixdim", "units", "sidecar", "tr"),
    [
        (2000.0, "sec", None, None),
        (0.0, "sec", None, None),
        (1.0, "unknown", None, None),
        (2.0, "unknown", None, None),
        (2.0, "sec", 3.0, None),
        (2000.0, "sec", 2.0, None),
        (2.0, "sec", 0.01, None),
        (2.0, "sec", "2 s", None),
        (2.0, "sec", None, 2000.0),
        (2.0, "sec", None, 0.0),
    ],
)
def test_unclear_repetition_time_is_refused_and_names_the_argument(
    tmp_path: Path, data: np.ndarray, pixdim: float, units: str, sidecar: object, tr: float | None
) -> None:
    path = write(tmp_path / "run.nii.gz", data, tr=pixdim, units=("mm", units))
    if sidecar is not None:
        (tmp_path / "run.json").write_text(json.dumps({"RepetitionTime": sidecar}))
    with pytest.raises(SchemaError, match="tr="):
        read_fmri(path, tr=tr)


def test_milliseconds_are_recognised_in_the_message(tmp_path: Path, data: np.ndarray) -> None:
    path = write(tmp_path / "run.nii.gz", data, tr=2000.0)
    with pytest.raises(SchemaError, match=r"another unit: tr=2\b"):
        read_fmri(path)


def test_unequal_volumes_are_refused(tmp_path: Path, data: np.ndarray) -> None:
    path = write(tmp_path / "run.nii.gz", data)
    (tmp_path / "run.json").write_text('{"VolumeTiming": [0, 2, 5]}')
    with pytest.raises(SchemaError, match="not equally spaced"):
        read_fmri(path)


# Real recordings


@pytest.mark.parametrize(
    ("folder", "name", "tr"),
    [
        ("haxby2001-pymvpa", "bold.nii.gz", None),
        ("fmriprep-visualcontrol", "sub-01_task-visualcontrol_space-T1w_desc-preproc_bold.nii.gz", 1.0),
        ("nibabel-nifti-gifti-cifti", "example4d.nii.gz", 2.0),
        ("nibabel-nifti-gifti-cifti", "functional.nii", None),
        ("nibabel-nifti-gifti-cifti", "anatomical.nii", None),
        ("nibabel-nifti-gifti-cifti", "someones_epi.nii.gz", None),
        ("narratives-black-glove", "story_atlas.nii.gz", None),
    ],
)
def test_real_images_equal_nibabel(real_data: RealData, folder: str, name: str, tr: float | None) -> None:
    path = real_data(folder) / name
    ds = read_fmri(path, tr=tr)
    values = ds["bold" if "bold" in ds else "map"]
    image = nib.load(path)
    expected = image.get_fdata().astype(np.float32).T
    np.testing.assert_array_equal(values.values, expected)
    np.testing.assert_allclose(schema.affine(ds), image.affine)
    if "bold" in ds:
        part = values.isel(time=slice(1, None, 7), j=[0, 2], i=1)
        np.testing.assert_array_equal(part.values, expected[1::7, :, [0, 2], 1])


def test_real_bytes_after_the_image_are_noted(real_data: RealData) -> None:
    path = real_data("nitime-fmri-spikes") / "fmri1.nii.gz"
    with pytest.warns(NeuroalignWarning, match="352 bytes follow the image"):
        ds = read_fmri(path)
    np.testing.assert_array_equal(ds["bold"].values, nib.load(path).get_fdata().astype(np.float32).T)
    assert schema.history(ds)["log"]


def test_real_millisecond_header_and_missing_unit_are_refused(real_data: RealData) -> None:
    with pytest.raises(SchemaError, match="tr=2"):
        read_fmri(real_data("nibabel-nifti-gifti-cifti") / "example4d.nii.gz")
    folder = real_data("fmriprep-visualcontrol")
    with pytest.raises(SchemaError, match="pass tr="):
        read_fmri(next(folder.glob("*_bold.nii.gz")))


def test_real_cifti_is_no_mask(real_data: RealData) -> None:
    folder = real_data("nibabel-nifti-gifti-cifti")
    for path in folder.glob("Conte69*.nii"):
        with pytest.raises(SchemaError, match="CIFTI-2"):
            read_fmri(folder / "functional.nii", mask=path)


def test_real_mask_equals_nilearn(real_data: RealData) -> None:
    from nilearn.maskers import NiftiMasker

    folder = real_data("haxby2001-pymvpa")
    ds = read_fmri(folder / "bold.nii.gz", mask=folder / "mask.nii.gz")
    mask = nib.load(folder / "mask.nii.gz")
    theirs = NiftiMasker(mask_img=mask, standardize=None, dtype="float32").fit().transform(folder / "bold.nii.gz")
    # nilearn lists voxels with k fastest; ours carry their indices.
    order = np.lexsort((ds["k"], ds["j"], ds["i"]))
    np.testing.assert_allclose(ds["bold"].values[:, order], theirs, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning:nilearn", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_real_regions_equal_nilearn(real_data: RealData) -> None:
    from nilearn.maskers import NiftiLabelsMasker

    folder = real_data("fmriprep-visualcontrol")
    bold, atlas = next(folder.glob("*_bold.nii.gz")), next(folder.glob("*_dseg.nii.gz"))
    ds = read_fmri(bold, atlas=atlas, tr=1.0)
    theirs = NiftiLabelsMasker(atlas, standardize=None, keep_masked_labels=False, verbose=0).fit().transform(bold)
    np.testing.assert_allclose(ds["bold"].values, theirs, rtol=1e-4)
    assert ds.attrs["space"] == "T1w"


def test_real_masks_that_are_not_masks(real_data: RealData) -> None:
    folder = real_data("haxby2001-pymvpa") / "haxby2001" / "sub001"
    bold = folder / "BOLD" / "task001_run001" / "bold_25mm.nii.gz"
    with pytest.raises(SchemaError, match="not a mask"):
        read_fmri(bold, mask=folder / "masks" / "25mm" / "hoc.nii.gz")
    with pytest.raises(SchemaError, match="another grid"):
        read_fmri(bold, mask=real_data("haxby2001-pymvpa") / "mask.nii.gz")
    assert read_fmri(bold, atlas=folder / "masks" / "25mm" / "hoc.nii.gz").sizes["roi"] == 21
