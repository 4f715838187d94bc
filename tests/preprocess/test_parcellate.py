"""Region means against plain loops and nilearn, on voxels, surfaces and grayordinates, generated and real."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone

from neuroalign import load_model, schema
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.preprocess import Parcellator, Standardizer

AFFINE = np.array([[-3.0, 0.1, 0, 60], [0.1, 2.9, -0.4, -35], [0, 0.4, 3.1, 5], [0, 0, 0, 1]])
SHAPE = (5, 4, 3)  # i j k
RealData = Callable[[str], Path]


def atlas_values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, 0, 2, 5, 11], SHAPE).astype(np.int16)


def volume(n: int = 6, seed: int = 0) -> xr.Dataset:
    values = np.random.default_rng(seed).normal(100, 5, (n, *SHAPE[::-1])).astype(np.float32)
    events = pd.DataFrame({"onset": [0.0], "duration": [1.0]})
    return schema.fmri_volume(values, affine=AFFINE, tr=2.0, space="MNI", events=events)


def masked(ds: xr.Dataset, keep: np.ndarray) -> xr.Dataset:
    """The voxels where `keep` (i, j, k) is true, i fastest, as read_fmri gives them."""
    kji = np.argwhere(keep.T)
    values = ds["bold"].values[:, keep.T]
    return schema.fmri_masked(values, ijk=kji[:, ::-1], affine=AFFINE, tr=2.0, volume_shape=SHAPE, space="MNI")


def loop(values: np.ndarray, codes: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(sample, site) -> (sample, region), one mean after the other."""
    weights = np.ones(len(codes)) if weights is None else weights
    out = []
    for row in values.astype(float):
        good = np.isfinite(row)
        out.append(
            [
                np.average(row[good & (codes == c)], weights=weights[good & (codes == c)])
                if (good & (codes == c) & (weights > 0)).any()
                else np.nan
                for c in np.unique(codes[codes != 0])
            ]
        )
    return np.array(out)


def test_volumes_and_voxels_give_the_same_means() -> None:
    ds, codes = volume(), atlas_values()
    image = nib.Nifti1Image(codes, AFFINE)
    out = Parcellator(image).fit_transform(ds)
    schema.validate(out, "fmri")
    expected = loop(ds["bold"].values.reshape(6, -1), codes.T.ravel())
    np.testing.assert_allclose(out["bold"].values, expected, rtol=1e-6)
    assert out["roi"].values.tolist() == ["2", "5", "11"]
    assert out["n_voxels"].values.tolist() == [(codes == c).sum() for c in (2, 5, 11)]
    centre = nib.affines.apply_affine(AFFINE, np.argwhere(codes == 5)).mean(axis=0)
    np.testing.assert_allclose([out[a].sel(roi="5").item() for a in "xyz"], centre)
    assert out["onset"].values.tolist() == [0.0]
    assert (out.attrs["tr"], out.attrs["space"], "affine" in out.attrs) == (2.0, "MNI", False)
    assert schema.history(out)["steps"][-1] == {"step": "Parcellator", "n_rois": 3, "weights": None}
    keep = np.random.default_rng(1).random(SHAPE) > 0.3
    voxels = masked(ds, keep)
    some = Parcellator(image).fit_transform(voxels)
    np.testing.assert_allclose(
        some["bold"].values, loop(voxels["bold"].values, codes.T.ravel()[keep.T.ravel()]), rtol=1e-6
    )
    assert some["n_voxels"].values.tolist() == [(keep & (codes == c)).sum() for c in (2, 5, 11)]
    by_coordinate = voxels.assign_coords(roi=("voxel", [str(c) if c else "" for c in codes.T[keep.T]]))
    again = Parcellator().fit_transform(by_coordinate)
    xr.testing.assert_equal(again["bold"], some["bold"])
    as_map = schema.fmri_volume(codes.T[None], affine=AFFINE, tr=1.0).isel(time=0, drop=True).rename(bold="map")
    xr.testing.assert_equal(Parcellator(as_map).fit_transform(voxels)["bold"], some["bold"])
    flat = Parcellator(codes.T[keep.T], labels=["b", "e", "k"]).fit_transform(voxels["bold"])
    np.testing.assert_array_equal(flat.values, some["bold"].values)
    assert flat["roi"].values.tolist() == ["b", "e", "k"]
    array = Parcellator(codes.T[keep.T]).fit_transform(voxels["bold"].values)
    np.testing.assert_array_equal(array, some["bold"].values)


def test_matrix_weights_and_missing_sites() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 30))
    codes, weights = rng.integers(0, 4, 30), rng.random(30)
    weights[3] = 0
    step = Parcellator(codes, weights=weights).fit(values)
    np.testing.assert_allclose(step.transform(values), loop(values, codes, weights))
    np.testing.assert_allclose(values @ step.matrix_, loop(values, codes, weights))
    np.testing.assert_allclose(step.matrix_.sum(axis=0), 1)
    holes = values.copy()
    holes[rng.random(values.shape) > 0.6] = np.nan
    holes[:, 5] = np.nan
    np.testing.assert_allclose(step.transform(holes), loop(holes, codes, weights))
    run = schema.fmri_surface(holes, hemi="L", tr=1.0).assign_coords(area=("vertex", weights))
    out = Parcellator(codes, weights="area").fit_transform(run["bold"])
    np.testing.assert_allclose(out.values, loop(holes, codes, weights))
    counts = [(np.isfinite(holes).any(axis=0) & (codes == c)).sum() for c in (1, 2, 3)]
    assert out["n_voxels"].values.tolist() == counts
    assert out["hemi"].values.tolist() == ["L"] * 3
    gone = np.where(codes == 2, np.nan, values)
    assert np.isnan(step.transform(gone)[:, 1]).all()
    assert np.isfinite(step.transform(gone)[:, [0, 2]]).all()


def test_regions_without_sites_are_nan_and_names_come_from_the_whole_atlas() -> None:
    ds, codes = volume(), atlas_values()
    voxels = masked(ds, (codes != 5))
    out = Parcellator(nib.Nifti1Image(codes, AFFINE), labels={2: "two", 5: "five", 11: "eleven"}).fit_transform(voxels)
    assert out["roi"].values.tolist() == ["two", "five", "eleven"]
    assert out["n_voxels"].values[1] == 0
    assert np.isnan(out["bold"].sel(roi="five").values).all()


def test_regions_are_painted_back() -> None:
    ds, codes = volume(), atlas_values()
    step = Parcellator(nib.Nifti1Image(codes, AFFINE)).fit(ds)
    regions = step.transform(ds["bold"])
    back = step.inverse_transform(regions)
    assert back.dims == ds["bold"].dims
    for name in ("2", "11"):
        painted = back.values[:, int(name) == codes.T]
        np.testing.assert_array_equal(painted, np.repeat(regions.sel(roi=[name]).values, painted.shape[1], axis=1))
    assert np.isnan(back.values[:, codes.T == 0]).all()
    assert back.attrs["affine"] == ds.attrs["affine"]
    np.testing.assert_allclose(step.transform(back).values, regions.values, rtol=1e-6)
    scores = xr.DataArray([0.1, 0.2, 0.3], dims="roi", coords={"roi": regions["roi"].values, "alpha": 1.0})
    brain = step.inverse_transform(scores)
    assert brain.dims == ("k", "j", "i")
    assert float(brain.values[codes.T == 5][0]) == 0.2
    np.testing.assert_array_equal(step.inverse_transform(scores.values), brain.values.ravel())
    keep = codes != 0
    voxels = Parcellator(nib.Nifti1Image(codes, AFFINE)).fit(masked(ds, keep)).inverse_transform(scores)
    assert voxels.dims == ("voxel",)
    assert voxels["i"].values.tolist() == masked(ds, keep)["i"].values.tolist()
    assert voxels.attrs["volume_shape"] == list(SHAPE)
    with pytest.raises(AlignmentError, match="roi"):
        step.inverse_transform(scores.assign_coords(roi=["2", "11", "5"]))
    with pytest.raises(AlignmentError, match="other regions"):
        step.inverse_transform(np.zeros(4))
    with pytest.raises(AlignmentError, match="no regions"):
        step.inverse_transform(ds["bold"])


def gifti(codes: np.ndarray, names: dict[int, str], structure: str | None = None) -> nib.GiftiImage:
    table = nib.gifti.GiftiLabelTable()
    for key, name in names.items():
        label = nib.gifti.GiftiLabel(key=key)
        label.label = name
        table.labels.append(label)
    meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": structure} if structure else {})
    array = nib.gifti.GiftiDataArray(codes.astype(np.int32), intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32")
    return nib.GiftiImage(meta=meta, darrays=[array], labeltable=table)


def test_surfaces_with_gifti_labels() -> None:
    rng = np.random.default_rng(0)
    left, right = np.array([0, 1, 1, 2, 2, 2]), np.array([1, 0, 2, 2, 1])
    names = {0: "???", 1: "V1", 2: "MT"}
    run = schema.fmri_surface(rng.normal(size=(4, 11)), hemi=["L"] * 6 + ["R"] * 5, tr=1.0)
    images = {"R": gifti(right, names), "L": gifti(left, names)}
    out = Parcellator(images).fit_transform(run)
    assert out["roi"].values.tolist() == ["L_V1", "L_MT", "R_V1", "R_MT"]
    assert out["hemi"].values.tolist() == ["L", "L", "R", "R"]
    expected = loop(run["bold"].values, np.r_[left, np.where(right, right + 2, 0)])
    np.testing.assert_allclose(out["bold"].values, expected, rtol=1e-6)
    plain = Parcellator({"L": left, "R": right}).fit_transform(run)
    np.testing.assert_array_equal(plain["bold"].values, out["bold"].values)
    assert plain["roi"].values.tolist() == ["L_1", "L_2", "R_1", "R_2"]
    apart = Parcellator({"L": left, "R": np.where(right, right + 2, 0)}).fit_transform(run)
    assert apart["roi"].values.tolist() == ["1", "2", "3", "4"]
    np.testing.assert_array_equal(apart["bold"].values, out["bold"].values)
    shuffled = run.isel(vertex=[10, 3, 4, 0, 7])  # matched by hemisphere and vertex, not by position
    some = Parcellator(images).fit_transform(shuffled)
    np.testing.assert_allclose(some["bold"].sel(roi="R_V1").values, run["bold"].values[:, 10])
    assert np.isnan(some["bold"].sel(roi="L_V1").values).all()
    half = run.isel(vertex=slice(6, None))
    one = Parcellator(gifti(right, names, "CortexRight")).fit_transform(half)
    np.testing.assert_allclose(one["bold"].values, out["bold"].values[:, 2:], rtol=1e-6)
    assert one["roi"].values.tolist() == ["V1", "MT"]
    xr.testing.assert_equal(Parcellator(gifti(right, names)).fit_transform(half)["bold"], one["bold"])
    with pytest.raises(ConfigError, match="hemisphere of the atlas"):
        Parcellator(gifti(right, names)).fit(run)
    with pytest.raises(ConfigError, match="Unknown hemispheres"):
        Parcellator({"left": left}).fit(run)


def test_grayordinates_are_matched_by_structure() -> None:
    names = ["CIFTI_STRUCTURE_CORTEX_LEFT"] * 3 + ["CIFTI_STRUCTURE_CORTEX_RIGHT"] * 2
    names += ["CIFTI_STRUCTURE_THALAMUS_LEFT"] * 2
    ijk = np.r_[np.full((5, 3), -1), [[1, 1, 1], [2, 1, 0]]]
    run = schema.fmri_grayordinates(
        np.random.default_rng(0).normal(size=(4, 7)),
        structure=names, vertex=[0, 2, 5, 0, 1, -1, -1], ijk=ijk, affine=AFFINE, volume_shape=SHAPE, tr=1.0,
    )  # fmt: skip
    codes = np.array([1, 0, 1, 2, 2, 7, 7])
    expected = loop(run["bold"].values, codes)
    np.testing.assert_allclose(Parcellator(codes).fit_transform(run)["bold"].values, expected, rtol=1e-6)
    order = np.random.default_rng(1).permutation(7)
    atlas = run["bold"].isel(time=0, drop=True).copy(data=codes.astype(float)).isel(grayordinate=order)
    out = Parcellator(atlas, labels={1: "V1", 2: "A1", 7: "thalamus"}).fit_transform(run)
    np.testing.assert_allclose(out["bold"].values, expected, rtol=1e-6)
    centre = nib.affines.apply_affine(AFFINE, ijk[5:]).mean(axis=0)
    np.testing.assert_allclose([out[a].sel(roi="thalamus").item() for a in "xyz"], centre)
    assert np.isnan(out["x"].sel(roi="V1").item())
    hemispheres = {"L": np.array([1, 9, 9, 9, 9, 1]), "R": np.array([2, 2])}
    cortex = Parcellator(hemispheres).fit_transform(run)
    np.testing.assert_allclose(cortex["bold"].sel(roi=["1", "2", "9"]).values[:, :2], [[*r] for r in np.c_[
        run["bold"].values[:, [0, 2]].mean(axis=1), run["bold"].values[:, 3:5].mean(axis=1)]], rtol=1e-6)  # fmt: skip
    subcortex = np.zeros(SHAPE, dtype=np.int16)
    subcortex[1, 1, 1] = 3
    deep = Parcellator(nib.Nifti1Image(subcortex, AFFINE)).fit_transform(run)
    np.testing.assert_allclose(deep["bold"].values[:, 0], run["bold"].values[:, 5])


def test_trials_units_and_pipelines(tmp_path: Path) -> None:
    codes = np.array(["b", "a", "", "a"])
    betas = xr.DataArray(
        np.arange(12.0).reshape(3, 4),
        dims=("trial", "voxel"),
        coords={"stimulus_id": ("trial", ["cat", "dog", "cow"]), "x": ("voxel", [1.0, 2, 3, 4])},
        attrs={"units": "%"},
    )
    step = clone(Parcellator(codes)).fit(betas)
    out = step.transform(betas)
    assert (out.dims, out["stimulus_id"].values.tolist()) == (("trial", "roi"), ["cat", "dog", "cow"])
    assert out["roi"].values.tolist() == ["a", "b"]
    assert out.attrs["units"] == "%"
    np.testing.assert_array_equal(out.values, [[2, 0], [6, 4], [10, 8]])
    np.testing.assert_array_equal(Standardizer().fit_transform(out).values, Standardizer().fit_transform(out.values))
    image = Parcellator(nib.Nifti1Image(atlas_values(), AFFINE), weights=np.arange(60.0)).fit(volume())
    for n, model in enumerate((step, image)):
        data = betas if model is step else volume()["bold"]
        model.save(tmp_path / str(n))
        loaded = load_model(tmp_path / str(n))
        np.testing.assert_array_equal(loaded.transform(data).values, model.transform(data).values)
        assert loaded.transform(data)["roi"].values.tolist() == model.names_.tolist()
        again = clone(loaded).fit(data)  # regions of the sites stand for the atlas
        np.testing.assert_allclose(
            again.transform(data).sel(roi=model.names_).values, model.transform(data).values, rtol=1e-6
        )


def test_runs_of_a_tree_and_named_maps() -> None:
    ds, codes = volume(), atlas_values()
    keep = np.random.default_rng(1).random(SHAPE) > 0.3
    step = Parcellator(nib.Nifti1Image(codes, AFFINE))
    tree = xr.DataTree.from_dict({"/sub-01": masked(ds, keep), "/sub-02": masked(ds, ~keep)})  # other voxels
    out = step.fit(tree).transform(tree)
    for name, voxels in (("sub-01", keep), ("sub-02", ~keep)):
        xr.testing.assert_identical(out[name].to_dataset(), step.fit_transform(masked(ds, voxels)))
    with pytest.raises(AlignmentError, match="no fMRI run"):
        step.fit(xr.DataTree.from_dict({"/sub-01": xr.Dataset()}))
    values = np.random.default_rng(0).normal(size=(2, 6))
    maps = schema.maps(values, map_name=["myelin", "curv"], dim="vertex", coords={"hemi": ["L"] * 6})
    regions = Parcellator(["a", "a", "b", "b", "b", ""]).fit_transform(maps)
    assert regions["map"].dims == ("map_name", "roi")
    np.testing.assert_allclose(regions["map"].sel(roi="b").values, values[:, 2:5].mean(axis=1), rtol=1e-6)
    assert regions["map_name"].values.tolist() == ["myelin", "curv"]


def test_faults_are_named() -> None:
    ds, codes = volume(), atlas_values()
    moved = AFFINE.copy()
    moved[0, 3] += 1
    flipped = AFFINE.copy()
    flipped[:, 0] *= -1
    surface = schema.fmri_surface(np.ones((2, 4)), hemi="L", tr=1.0)
    as_map = xr.DataArray(codes.T, dims=("k", "j", "i"), attrs={"affine": AFFINE.ravel().tolist(), "space": "T1w"})
    cases: list[tuple[object, dict[str, object], xr.Dataset, type[Exception], str]] = [
        (nib.Nifti1Image(codes, moved), {}, ds, SchemaError, "differ by 1 mm"),
        (nib.Nifti1Image(codes, flipped), {}, ds, SchemaError, "left and right"),
        (nib.Nifti1Image(codes[:4], AFFINE), {}, ds, SchemaError, "another grid"),
        (as_map, {}, ds, SchemaError, "another space"),
        (nib.Nifti1Image(codes, AFFINE), {}, surface, AlignmentError, "no voxels"),
        (codes.ravel()[:5], {}, ds, AlignmentError, "number of sites"),
        (codes.T - 3, {}, ds, SchemaError, "not an atlas"),
        (codes.T + 0.5, {}, ds, SchemaError, "not an atlas"),
        (codes.T * 0, {}, ds, SchemaError, "no region"),
        (codes.T, {"labels": ["a", "b"]}, ds, ConfigError, "labels="),
        (codes.T, {"labels": {2: "a"}}, ds, ConfigError, "labels="),
        (codes.T, {"labels": ["a", "a", "b"]}, ds, ConfigError, "repeat"),
        (codes.T, {"weights": np.ones(3)}, ds, ConfigError, "weights="),
        (codes.T, {"weights": "area"}, ds, ConfigError, "No such weights"),
        ("atlas.nii.gz", {}, ds, ConfigError, "read_fmri"),
        (None, {}, ds, ConfigError, "no regions"),
        (xr.DataArray([1, 2], dims="vertex", coords={"hemi": ("vertex", ["R", "R"]), "node": ("vertex", [0, 1])}), {},
         surface, AlignmentError, "No site"),
        (xr.Dataset(), {}, ds, SchemaError, "no atlas"),
        (codes.T, {}, xr.Dataset(), SchemaError, "one variable"),
    ]  # fmt: skip
    for atlas, options, data, error, message in cases:
        with pytest.raises(error, match=message):
            Parcellator(atlas, **options).fit(data)  # type: ignore[arg-type]


def nilearn_means(bold: nib.Nifti1Image, atlas: nib.Nifti1Image) -> np.ndarray:
    from nilearn.maskers import NiftiLabelsMasker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return NiftiLabelsMasker(atlas, standardize=None, resampling_target=None).fit_transform(bold)


def test_real_voxels_equal_nilearn(real_data: RealData) -> None:
    from neuroalign.loaders import read_fmri

    folder = real_data("fmriprep-visualcontrol")
    path, aseg = next(folder.glob("*_bold.nii.gz")), next(folder.glob("*_dseg.nii.gz"))
    ours = Parcellator(read_fmri(aseg)).fit_transform(read_fmri(path, tr=1.0))
    theirs = nilearn_means(nib.load(path), nib.load(aseg))
    assert ours["bold"].shape == theirs.shape
    np.testing.assert_allclose(ours["bold"].values, theirs, rtol=1e-5)
    from_reader = read_fmri(path, atlas=aseg, tr=1.0)
    assert ours["roi"].values.tolist() == from_reader["roi"].values.tolist()
    np.testing.assert_allclose(ours["bold"].values, from_reader["bold"].values, rtol=1e-5)
    folder = real_data("haxby2001-pymvpa")
    path = folder / "bold.nii.gz"
    labels = nib.load(folder / "mask.nii.gz")
    codes = np.asarray(labels.dataobj) * (1 + np.arange(labels.shape[0])[:, None, None] // 10)
    image = nib.Nifti1Image(codes.astype(np.int16), nib.load(path).affine)
    ours = Parcellator(image).fit_transform(
        read_fmri(path, tr=2.5, mask=nib.Nifti1Image((codes > 0) * 1.0, image.affine))
    )
    np.testing.assert_allclose(ours["bold"].values, nilearn_means(nib.load(path), image), rtol=1e-5)
    path = real_data("nibabel-nifti-gifti-cifti") / "functional.nii"
    image = nib.load(path)
    codes = 1 + np.arange(np.prod(image.shape[:3])).reshape(image.shape[:3]) // 100
    atlas = nib.Nifti1Image(codes.astype(np.int16), image.affine)
    ours = Parcellator(atlas).fit_transform(read_fmri(path, tr=2.0))
    np.testing.assert_allclose(ours["bold"].values, nilearn_means(image, atlas), rtol=1e-5)


def test_real_surface_labels(real_data: RealData) -> None:
    """Gradients of connectivity on 64984 vertices, averaged over 400 regions; pandas as the plain reference."""
    folder = real_data("brainspace-hcp")
    codes = np.loadtxt(folder / "schaefer_400_conte69.csv", dtype=int)
    gradients = np.array([np.loadtxt(folder / f"conte69_32k_fc_gradient{n}.csv") for n in (0, 1)])
    run = schema.fmri_surface(gradients, hemi=["L"] * 32492 + ["R"] * 32492, tr=1.0, space="fsLR32k")
    step = Parcellator(codes)
    out = step.fit_transform(run)
    expected = pd.DataFrame(gradients.T).groupby(codes).mean().drop(index=0)
    np.testing.assert_allclose(out["bold"].values, expected.T.values, rtol=1e-5, atol=1e-5)
    assert out.sizes["roi"] == 400
    assert out["hemi"].values.tolist() == ["L"] * 200 + ["R"] * 200
    assert out["n_voxels"].values.sum() == ((codes > 0) & np.isfinite(gradients[0])).sum()
    by_side = Parcellator({"L": codes[:32492], "R": codes[32492:]}).fit_transform(run)
    xr.testing.assert_equal(by_side["bold"], out["bold"])
    back = step.inverse_transform(out["bold"])
    assert np.isnan(back.values).sum() == 2 * (codes == 0).sum()


def test_real_cifti_labels(real_data: RealData) -> None:
    """Myelin and thickness on 60951 grayordinates, labels on all 64984 vertices."""
    folder = real_data("nibabel-nifti-gifti-cifti")
    image = nib.load(next(folder.glob("*.dscalar.nii")))
    axis = image.header.get_axis(1)
    ds = schema.fmri_grayordinates(image.get_fdata(), structure=axis.name, vertex=axis.vertex, tr=1.0)
    dlabel = nib.load(next(folder.glob("*.dlabel.nii")))
    with pytest.raises(SchemaError, match="one map"):
        Parcellator(dlabel).fit(ds)
    axes = [dlabel.header.get_axis(n) for n in range(2)]
    values = np.asarray(dlabel.dataobj)[:1]
    single = nib.Cifti2Image(values, header=nib.Cifti2Header.from_axes((axes[0][:1], axes[1])))
    out = Parcellator(single).fit_transform(ds)
    table = {k: v[0] for k, v in axes[0].label[0].items()}
    place = {key: n for n, key in enumerate(zip(axes[1].name, axes[1].vertex, strict=True))}
    codes = np.array([values[0, place[key]] for key in zip(axis.name, axis.vertex, strict=True)]).astype(int)
    expected = pd.DataFrame(image.get_fdata().T).groupby(codes).mean()
    for name in out["roi"].values:
        (code,) = [k for k, v in table.items() if v == name]
        if code in expected.index:
            np.testing.assert_allclose(out["bold"].sel(roi=name).values, expected.loc[code].values, rtol=1e-4)
    assert out["n_voxels"].values.sum() == (codes > 0).sum()
    from neuroalign.loaders import read_fmri

    read = read_fmri(next(folder.glob("*.dlabel.nii"))).isel(map_name=[0])
    xr.testing.assert_equal(Parcellator(read).fit_transform(ds)["bold"], out["bold"])
    curvature = read_fmri(folder / "rh.shape.curv.gii")["map"].values[0]
    annotation = read_fmri(folder / "rh.aparc.annot.gii")
    run = schema.fmri_surface(curvature[None, :1000], hemi="R", tr=1.0)  # of another mesh: the first vertices will do
    found = Parcellator(annotation).fit_transform(run)
    names = annotation["roi"].values[0, :1000]
    for name in set(names) - {"???", "unknown"}:
        mean = curvature[:1000][names == name].mean(dtype=float)
        np.testing.assert_allclose(found["bold"].sel(roi=name).item(), mean, rtol=1e-5)
