"""Volumes, surfaces and grayordinates back to nibabel: every real file there and back, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from nibabel.cifti2 import cifti2_axes

from neuroalign import schema
from neuroalign.convert import to_cifti, to_gifti, to_nifti
from neuroalign.convert._pick import PERSONAL
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.loaders import read_fmri

RealData = Callable[[str], Path]
AFFINE = np.array([[-3.0, 0.1, 0, 60], [0.1, 2.9, -0.4, -35], [0, 0.4, 3.1, 5], [0, 0, 0, 1]])
SHAPE = (4, 3, 2, 9)


@pytest.fixture
def image() -> nib.Nifti1Image:
    values = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    image = nib.Nifti1Image(values, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 1.5
    image.header["descrip"] = b"a run"
    return image


# NIfTI

NIFTI = [
    ("haxby2001-pymvpa", "bold.nii.gz", {}),
    ("haxby2001-pymvpa", "mask.nii.gz", {}),
    ("haxby2001-pymvpa", "haxby2001/sub001/BOLD/task001_run001/bold_25mm.nii.gz", {}),
    ("haxby2001-pymvpa", "haxby2001/sub001/masks/25mm/brain.nii.gz", {}),
    ("fmriprep-visualcontrol", "sub-01_task-visualcontrol_space-T1w_desc-preproc_bold.nii.gz", {"tr": 1.0}),
    ("fmriprep-visualcontrol", "sub-01_task-visualcontrol_space-T1w_desc-aseg_dseg.nii.gz", {}),
    ("nibabel-nifti-gifti-cifti", "example4d.nii.gz", {"tr": 2.0}),
    ("nibabel-nifti-gifti-cifti", "functional.nii", {}),
    ("nibabel-nifti-gifti-cifti", "anatomical.nii", {}),
    ("nibabel-nifti-gifti-cifti", "someones_epi.nii.gz", {}),
    ("nibabel-nifti-gifti-cifti", "someones_anatomy.nii.gz", {}),
    ("narratives-black-glove", "story_atlas.nii.gz", {}),
    ("nitime-fmri-spikes", "fmri1.nii.gz", {}),
    ("nitime-fmri-spikes", "fmri2.nii.gz", {}),
]
#: Fields that say how values are stored, not what they are, and the name of a person in db_name.
STORAGE = {"sizeof_hdr", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "magic", "db_name"}
STORAGE |= {"data_type", "extents", "session_error", "regular", "glmax", "glmin", "unused_str"}


@pytest.mark.filterwarnings("ignore:.*bytes follow the image")
@pytest.mark.parametrize(("folder", "name", "options"), NIFTI, ids=[name.split("/")[-1] for _, name, _ in NIFTI])
def test_real_nifti_goes_back(real_data: RealData, tmp_path: Path, folder: str, name: str, options: dict) -> None:
    path = real_data(folder) / name
    theirs, ds = nib.load(path), read_fmri(path, **options)
    ours = ds.neuro.to_nifti()
    ours.to_filename(tmp_path / "back.nii.gz")
    for back in (ours, nib.load(tmp_path / "back.nii.gz")):
        np.testing.assert_array_equal(back.get_fdata(dtype=np.float32), theirs.get_fdata(dtype=np.float32))
        np.testing.assert_array_equal(back.affine, theirs.affine)
        assert type(back) is type(theirs)
        for field in set(theirs.header.keys()) - STORAGE:
            if field == "pixdim":  # those of the axes that there are; tr= says that the header is wrong
                n = 4 if options else theirs.ndim + 1
                np.testing.assert_array_equal(back.header["pixdim"][:n], theirs.header["pixdim"][:n])
                assert not options or back.header["pixdim"][4] == options["tr"]
            elif field != "xyzt_units" or not options:
                assert back.header[field].tobytes() == theirs.header[field].astype(back.header[field].dtype).tobytes()
    again = read_fmri(tmp_path / "back.nii.gz", space=ds.attrs.get("space"))
    ignored = ("neuro_sources", "nifti_header", "neuro_log")
    variable = "bold" if "bold" in ds else "map"
    xr.testing.assert_equal(ds, again)
    assert {k: v for k, v in ds[variable].attrs.items() if k not in ignored} == {
        k: v for k, v in again[variable].attrs.items() if k not in ignored
    }


@pytest.mark.parametrize("slope", [None, 0.37656])
def test_stored_types_come_back(image: nib.Nifti1Image, tmp_path: Path, slope: float | None) -> None:
    stored = np.asarray(image.dataobj)
    if slope:
        image.header.set_slope_inter(slope, -12.5)
    image.to_filename(tmp_path / "run.nii.gz")
    ds = read_fmri(tmp_path / "run.nii.gz")
    to_nifti(ds, dtype="source").to_filename(tmp_path / "back.nii.gz")
    back = nib.load(tmp_path / "back.nii.gz")
    assert back.get_data_dtype() == np.int16
    np.testing.assert_allclose(back.get_fdata(), ds["bold"].values.T, atol=1e-2 if slope else 0)
    if slope is None:
        np.testing.assert_array_equal(back.dataobj.get_unscaled(), stored)
        assert (back.dataobj.slope, back.dataobj.inter) == (1, 0)
    with pytest.raises(ConfigError, match="source is not known"):
        to_nifti((ds["bold"] * 2).rename("score"), dtype="source")
    assert to_nifti(ds["bold"].isel(time=0), dtype=np.float64).get_data_dtype() == np.float64


@pytest.mark.parametrize(
    "key",
    [
        {"i": slice(1, 3)},
        {"i": slice(3, None, -1), "k": [1]},
        {"j": slice(None, None, 2), "time": slice(2, 8)},
        {"k": 1},
    ],
)
def test_slices_lie_where_nibabel_puts_them(image: nib.Nifti1Image, key: dict) -> None:
    image.header.set_qform(AFFINE, 2)
    ds = read_fmri(image)
    ours = to_nifti(ds.isel(key))
    take = {k: slice(v, v + 1) if isinstance(v, int) else slice(v[0], v[0] + 1) if isinstance(v, list) else v
            for k, v in key.items()}  # fmt: skip
    theirs = image.slicer[tuple(take.get(axis, slice(None)) for axis in ("i", "j", "k", "time"))]
    np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)
    np.testing.assert_allclose(ours.header.get_qform(), theirs.affine, atol=4e-2)  # no shears in a qform
    assert ours.header["qform_code"] == 2
    assert ours.header["toffset"] == (3.0 if "time" in key else 0.0)
    assert ours.header.get_zooms()[3] == 1.5


def test_voxels_in_a_mask_go_back_with_the_fill(image: nib.Nifti1Image) -> None:
    inside = image.get_fdata()[..., 0] > 300
    ds = read_fmri(image, mask=nib.Nifti1Image(inside.astype(np.uint8), AFFINE))
    expected = np.where(inside[..., None], image.get_fdata(), 0)
    np.testing.assert_array_equal(to_nifti(ds).get_fdata(), expected)
    hollow = to_nifti(ds, fill=np.nan, time=3.0)
    assert hollow.shape == SHAPE[:3]
    np.testing.assert_array_equal(np.isnan(hollow.get_fdata()), ~inside)
    np.testing.assert_array_equal(hollow.get_fdata()[inside], expected[inside, 2])
    part = to_nifti(ds.isel(voxel=slice(0, 4))["bold"])
    assert (part.get_fdata()[..., 0] != 0).sum() == 4
    np.testing.assert_allclose(part.affine, AFFINE, atol=1e-5)
    assert part.header["descrip"].item() == b"a run"


def test_scores_and_trials_take_the_place_and_not_the_meaning(image: nib.Nifti1Image) -> None:
    image.header["cal_max"], image.header["intent_code"] = 900, 0
    ds = read_fmri(image, mask=nib.Nifti1Image(np.ones(SHAPE[:3], np.uint8), AFFINE))
    score = ds["bold"].mean("time", keep_attrs=True).expand_dims(band=["vision", "semantics"]).rename("unique")
    out = xr.Dataset({"unique": score, "total": score * 2}).neuro.to_nifti("unique", band="semantics")
    np.testing.assert_allclose(out.get_fdata(), image.get_fdata().mean(-1), rtol=1e-6)
    assert (out.header["cal_max"], out.header["descrip"].item()) == (0, b"")
    assert out.header["sform_code"] == image.header["sform_code"]
    named = to_nifti(ds["bold"].mean("time", keep_attrs=True))  # score maps keep the name of the run
    assert named.header["cal_max"] == 0
    trials = ds["bold"].isel(time=[0, 5, 6]).rename(time="trial").drop_vars("trial")
    image4 = to_nifti(trials)
    assert image4.shape == (*SHAPE[:3], 3)
    assert image4.header.get_xyzt_units() == ("mm", "unknown")
    uneven = to_nifti(ds.isel(time=[0, 1, 5]))
    assert (uneven.header["pixdim"][4], uneven.header.get_xyzt_units()[1]) == (0, "unknown")
    assert to_nifti(ds.isel(time=slice(None, None, 3))).header["pixdim"][4] == 4.5


def test_regions_go_back_onto_their_atlas(image: nib.Nifti1Image) -> None:
    labels = np.random.default_rng(1).choice([0, 2, 5, 7], size=SHAPE[:3]).astype(np.int16)
    atlas = nib.Nifti1Image(labels, AFFINE)
    ds = read_fmri(image, atlas=atlas, labels=["V1", "V2", "MT"])
    out = to_nifti(ds, atlas=atlas, roi=["MT", "V1"], fill=np.nan).get_fdata()
    assert np.isnan(out[(labels == 0) | (labels == 5)]).all()
    for name, key in (("V1", 2), ("MT", 7)):
        for n in range(SHAPE[3]):
            assert (out[labels == key, n] == float(ds["bold"].sel(roi=name)[n])).all()
    with pytest.raises(ConfigError, match="atlas="):
        to_nifti(ds)
    with pytest.raises(SchemaError, match="do not match the atlas"):
        to_nifti(ds.drop_vars("label").isel(roi=[0]), atlas=atlas)


def test_what_has_no_place_is_refused(image: nib.Nifti1Image) -> None:
    ds = read_fmri(image, mask=nib.Nifti1Image(np.ones(SHAPE[:3], np.uint8), AFFINE))
    with pytest.raises(SchemaError, match="put back"):
        to_nifti(ds["bold"].drop_vars("i"))
    with pytest.raises(SchemaError, match="no place in a volume"):
        to_nifti(xr.DataArray(np.ones((2, 3)), dims=("time", "channel")))
    with pytest.raises(SchemaError, match="Too many dimensions"):
        to_nifti(ds["bold"].expand_dims(fold=[0, 1]))
    with pytest.raises(ConfigError, match="no dimension or coordinate"):
        to_nifti(ds, band="vision")
    with pytest.raises(ConfigError, match="no such voxel"):
        to_nifti(ds, voxel=99)
    with pytest.raises(ConfigError, match="Nothing has this i"):
        to_nifti(ds, i=99)
    with pytest.raises(ConfigError, match="Which variable"):
        to_nifti(xr.Dataset({"a": ds["bold"], "b": ds["bold"]}))
    with pytest.raises(ConfigError, match="no integer"):
        to_nifti(ds["bold"] * np.nan, dtype=np.int16)
    with pytest.raises(SchemaError, match="not equally spaced"):
        to_nifti(read_fmri(image).isel(i=[0, 1, 3]))


def test_a_nibabel_image_in_memory_reads_as_its_file_does(image: nib.Nifti1Image, tmp_path: Path) -> None:
    image.to_filename(tmp_path / "run.nii.gz")
    of_file = read_fmri(tmp_path / "run.nii.gz")
    for memory in (image, nib.load(tmp_path / "run.nii.gz")):
        ds = read_fmri(memory)
        xr.testing.assert_equal(ds, of_file)
        np.testing.assert_allclose(ds.attrs["affine"], of_file.attrs["affine"], atol=1e-6)
        assert ds.attrs["tr"] == of_file.attrs["tr"]
    mask = nib.Nifti1Image((np.arange(24).reshape(SHAPE[:3]) % 2).astype(np.uint8), AFFINE)
    xr.testing.assert_allclose(read_fmri(image, mask=mask), read_fmri(tmp_path / "run.nii.gz", mask=mask))
    xr.testing.assert_equal(read_fmri(image, atlas=mask), read_fmri(tmp_path / "run.nii.gz", atlas=mask))
    assert read_fmri(image.slicer[..., 0])["map"].dims == ("k", "j", "i")
    with pytest.raises(ConfigError, match="hemi="):
        read_fmri(image, hemi="L")
    axes = (cifti2_axes.ScalarAxis(["m"]), cifti2_axes.BrainModelAxis.from_surface([0, 1], 2, "CORTEX_LEFT"))
    with pytest.raises(SchemaError, match="Not a volume"):
        read_fmri(nib.Cifti2Image(np.ones((1, 2), np.float32), axes))
    for nothing in (nib.GiftiImage(), [], [1, 2], None):
        with pytest.raises(ConfigError, match="Nothing that can be read"):
            read_fmri(nothing)
    with pytest.raises(ConfigError, match=r"two \.gii files"):
        read_fmri([tmp_path / "run.nii.gz"] * 2)
    other = nib.MGHImage(np.ones((2, 3, 4), np.float32), np.eye(4))  # formats that nibabel knows besides NIfTI
    assert read_fmri(other)["map"].shape == (4, 3, 2)


# GIFTI

GIFTI = [
    ("nibabel-nifti-gifti-cifti", "task.func.gii", {"hemi": "L", "tr": 2.0}),
    ("nibabel-nifti-gifti-cifti", "rh.shape.curv.gii", {}),
    ("nibabel-nifti-gifti-cifti", "rh.aparc.annot.gii", {}),
    ("brainspace-hcp", "conte69_32k_lh.gii", {}),
    ("brainspace-hcp", "conte69_32k_rh.gii", {}),
]


def same_gifti(ours: nib.GiftiImage, theirs: nib.GiftiImage) -> None:
    assert len(ours.darrays) == len(theirs.darrays)
    for a, b in zip(ours.darrays, theirs.darrays, strict=True):
        np.testing.assert_array_equal(np.squeeze(a.data), np.squeeze(b.data))
        assert (a.intent, a.datatype, a.encoding) == (b.intent, b.datatype, b.encoding)
        assert (a.coordsys.dataspace, a.coordsys.xformspace) == (b.coordsys.dataspace, b.coordsys.xformspace)
        np.testing.assert_array_equal(a.coordsys.xform, b.coordsys.xform)
        assert dict(a.meta) == {k: v for k, v in b.meta.items() if k not in PERSONAL}
    kept = {k: v for k, v in theirs.meta.items() if k not in PERSONAL}
    assert {k: v for k, v in ours.meta.items() if k in kept} == kept
    assert [(e.key, e.label, e.rgba) for e in ours.labeltable.labels] == [
        (e.key, e.label, e.rgba) for e in theirs.labeltable.labels
    ] or ours.darrays[0].intent != nib.nifti1.intent_codes["NIFTI_INTENT_LABEL"]


@pytest.mark.parametrize(("folder", "name", "options"), GIFTI, ids=[name for _, name, _ in GIFTI])
def test_real_gifti_goes_back(real_data: RealData, tmp_path: Path, folder: str, name: str, options: dict) -> None:
    path = real_data(folder) / name
    ds = read_fmri(path, **options)
    (side, ours), *rest = to_gifti(ds).items()
    assert not rest
    same_gifti(ours, nib.load(path))
    ours.to_filename(tmp_path / "back.gii")
    again = read_fmri(tmp_path / "back.gii", tr=options.get("tr"))  # the hemisphere is in it now
    xr.testing.assert_equal(again, ds)
    assert set(again["hemi"].values) == {side}
    assert not PERSONAL & set(ours.meta)
    assert "sgerhard" not in str(ds.attrs)
    assert "sgerhard" in str(read_fmri(path, keep_phi=True, **options).attrs) or "annot" not in name


def test_real_mesh_pairs(real_data: RealData) -> None:
    folder = real_data("brainspace-hcp")
    left, right = (folder / f"conte69_32k_{side}h.gii" for side in "lr")
    pair = read_fmri(right, pair=True)
    xr.testing.assert_identical(pair.drop_attrs(), read_fmri([left, right]).drop_attrs())
    assert pair["hemi"].values[[0, -1]].tolist() == ["L", "R"]
    for side, path in (("L", left), ("R", right)):
        same_gifti(to_gifti(pair)[side], nib.load(path))
    corners = pair["hemi"].values[pair["triangle"].values]
    assert (corners == corners[:, :1]).all()  # no triangle reaches across


def test_labels_of_real_annotations_are_those_of_nibabel(real_data: RealData) -> None:
    path = real_data("nibabel-nifti-gifti-cifti") / "rh.aparc.annot.gii"
    ds, theirs = read_fmri(path), nib.load(path)
    table = theirs.labeltable.get_labels_as_dict()
    assert ds["roi"].values[0].tolist() == [table.get(int(key), "") for key in theirs.darrays[0].data]
    assert set(ds["hemi"].values) == {"R"}  # told by the name


def surface(n: int = 3) -> xr.Dataset:
    values = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
    return schema.fmri_surface(values, hemi=[*"LLRRR"], node=[0, 1, 0, 1, 4], tr=1.0)


def nib_file(folder: Path) -> Path:
    array = nib.gifti.GiftiDataArray(np.ones(5, np.float32), intent="NIFTI_INTENT_TIME_SERIES")
    nib.GiftiImage(darrays=[array]).to_filename(folder / "lh.run.gii")
    return folder / "lh.run.gii"


def test_scores_on_a_surface_and_vertices_left_out(tmp_path: Path) -> None:
    ds = surface()
    score = ds["bold"].mean("time", keep_attrs=True).rename("score")
    with pytest.raises(ConfigError, match="n_nodes="):
        to_gifti(score)
    with pytest.raises(ConfigError, match="too few"):
        to_gifti(score, n_nodes=4)
    images = to_gifti(score, n_nodes=5, fill=-1)
    assert images["R"].darrays[0].data.tolist() == [*score.values[2:4], -1, -1, score.values[4]]
    assert images["L"].meta["AnatomicalStructurePrimary"] == "CortexLeft"
    assert [*to_gifti(score, hemi="L")] == ["L"]
    named = read_fmri(nib_file(tmp_path), tr=1.0)["bold"].mean("time", keep_attrs=True)
    assert to_gifti(named)["L"].darrays[0].intent == 0
    stacked = to_gifti(ds["bold"].rename(time="fold").drop_vars("fold"), n_nodes=5)["R"]
    assert [a.meta["Name"] for a in stacked.darrays] == ["fold 0", "fold 1", "fold 2"]
    assert np.isnan(stacked.darrays[0].data[2])
    with pytest.raises(SchemaError, match="no place on a surface"):
        to_gifti(score.rename(vertex="voxel"))


# CIFTI

CIFTI = ["MyelinAndCorrThickness.32k_fs_LR.dscalar", "MyelinAndCorrThickness.32k_fs_LR.dtseries"]
CIFTI += ["MyelinAndCorrThickness.32k_fs_LR.ptseries", "parcellations_VGD11b.32k_fs_LR.dlabel"]


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("name", CIFTI)
def test_real_cifti_goes_back(real_data: RealData, tmp_path: Path, name: str, lazy: bool) -> None:
    path = real_data("nibabel-nifti-gifti-cifti") / f"Conte69.{name}.nii"
    theirs, ds = nib.load(path), read_fmri(path, lazy=lazy)
    ours = to_cifti(ds)
    ours.to_filename(tmp_path / f"back.{name.rsplit('.', 1)[1]}.nii")
    for back in (ours, nib.load(tmp_path / f"back.{name.rsplit('.', 1)[1]}.nii")):
        np.testing.assert_array_equal(back.get_fdata(), theirs.get_fdata())
        kept = {k: v for k, v in theirs.header.matrix.metadata.items() if k not in PERSONAL}
        assert dict(back.header.matrix.metadata) == kept
        for dim in range(2):
            a, b = back.header.get_axis(dim), theirs.header.get_axis(dim)
            if hasattr(b, "meta"):
                assert a.meta.tolist() == [
                    {k: v for k, v in meta.items() if k not in PERSONAL} for meta in b.meta.tolist()
                ]
                a.meta = b.meta
            assert a == b
        assert back.nifti_header["intent_code"] == theirs.nifti_header["intent_code"]
    xr.testing.assert_equal(read_fmri(tmp_path / f"back.{name.rsplit('.', 1)[1]}.nii"), ds)


def test_grayordinates_with_voxels_equal_nibabel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1:3, 2:5, 3] = True
    brain = (
        cifti2_axes.BrainModelAxis.from_surface([0, 3, 9], 12, "CORTEX_LEFT")
        + cifti2_axes.BrainModelAxis.from_surface([1, 2], 12, "CORTEX_RIGHT")
        + cifti2_axes.BrainModelAxis.from_mask(mask, "THALAMUS_LEFT", affine=AFFINE)
    )
    values = rng.uniform(size=(4, len(brain))).astype(np.float32)
    series = cifti2_axes.SeriesAxis(1.44, 0.72, 4, "SECOND")
    path = tmp_path / "run.dtseries.nii"
    nib.Cifti2Image(values, (series, brain)).to_filename(path)
    ds = schema.validate(read_fmri(path), "fmri", nan="keep")
    assert (ds.attrs["tr"], ds.attrs["start_time"]) == (0.72, 1.44)
    np.testing.assert_array_equal(ds["bold"].values, values)
    voxels = ds["vertex"].values < 0
    np.testing.assert_allclose(
        np.column_stack([ds[axis].values[voxels] for axis in "xyz"]),
        nib.affines.apply_affine(AFFINE, np.argwhere(mask)),
    )
    back = to_cifti(ds)
    assert back.header.get_axis(1) == brain
    assert back.header.get_axis(0) == series
    left = to_cifti(ds, structure="CIFTI_STRUCTURE_CORTEX_LEFT")
    assert left.header.get_axis(1) == brain[:3]
    score = ds["bold"].isel(time=0, drop=True).rename("score")
    assert to_cifti(score).header.get_axis(0).name.tolist() == ["score"]
    assert to_cifti(score.isel(grayordinate=[0, 6, 7])).shape == (1, 3)
    with pytest.raises(SchemaError, match="do not follow each other"):
        to_cifti(score.isel(grayordinate=[0, 3, 1]))
    with pytest.raises(SchemaError, match="meshes have is not known"):
        to_cifti(score.drop_attrs())
    with pytest.raises(SchemaError, match="not equally spaced"):
        to_cifti(ds.isel(time=[0, 1, 3]))
    with pytest.raises(SchemaError, match="no place in CIFTI"):
        to_cifti(surface())


def test_parcels_with_voxels_and_maps_of_them(tmp_path: Path) -> None:
    left = cifti2_axes.BrainModelAxis.from_surface([0, 3, 9], 12, "CORTEX_LEFT")
    below = cifti2_axes.BrainModelAxis.from_mask(np.ones((2, 2, 2), bool), "THALAMUS_LEFT", affine=AFFINE)
    parcels = cifti2_axes.ParcelsAxis.from_brain_models([("a", left), ("b", below)])
    values = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    path = tmp_path / "run.pscalar.nii"
    nib.Cifti2Image(values, (cifti2_axes.ScalarAxis(["m", "n"]), parcels)).to_filename(path)
    ds = read_fmri(path)
    assert ds["map"].dims == ("map_name", "roi")
    assert ds["n_voxels"].values.tolist() == [0, 8]
    back = to_cifti(ds)
    assert (back.header.get_axis(0), back.header.get_axis(1)) == (cifti2_axes.ScalarAxis(["m", "n"]), parcels)
    one = to_cifti(ds, roi=["b"], map_name="n")
    assert one.get_fdata().tolist() == [[4.0]]
    assert one.header.get_axis(0).name.tolist() == ["n"]
    with pytest.raises(SchemaError, match="not in the file"):
        to_cifti(ds.assign_coords(roi=["a", "c"]))
