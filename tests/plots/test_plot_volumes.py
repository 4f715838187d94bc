"""Brains: values come back at their voxels, regions on their atlas, contacts at their places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuroalign.errors import SchemaError
from neuroalign.plots import brain
from neuroalign.plots.volumes import to_image

nibabel = pytest.importorskip("nibabel")
masking = pytest.importorskip("nilearn.masking")

Build = Callable[..., xr.DataArray]


@pytest.fixture(params=["mask.nii.gz", "haxby2001/sub001/masks/25mm/brain.nii.gz"])
def mask(request: pytest.FixtureRequest, real_data: Callable[[str], Path]) -> object:
    return nibabel.load(real_data("haxby2001-pymvpa") / request.param)


def test_voxels_go_back_where_nilearn_finds_them(mask: object, voxels: Build) -> None:
    values = voxels(mask)
    image, inside = to_image(values)
    clean = nibabel.Nifti1Image((np.asarray(mask.dataobj) > 0).astype(np.uint8), mask.affine)
    # nilearn takes voxels in the same order as np.argwhere.
    np.testing.assert_allclose(masking.apply_mask(image, clean), values.values, rtol=1e-6)
    np.testing.assert_array_equal(image.affine, mask.affine)
    np.testing.assert_array_equal(np.asarray(inside.dataobj), np.asarray(clean.dataobj))


def test_native_space_is_cut_into_slices(mask: object, voxels: Build) -> None:
    values = voxels(mask)
    ax = brain(values)
    names = {text.get_text() for part in ax.figure.axes for text in part.texts}
    heights = {f"z={int(z)}" for z in values["z"].values}
    cuts = {name for name in names if name.startswith("z=")}
    assert cuts
    assert cuts <= heights
    assert "score" in [part.get_ylabel() for part in ax.figure.axes]


def test_missing_and_insignificant_voxels_are_left_out(mask: object, voxels: Build) -> None:
    values = voxels(mask).copy()
    values[0] = np.nan
    shown = values > 0
    image, inside = to_image(values, significant=shown)
    data = np.asarray(image.dataobj)
    where = tuple(values[axis].values for axis in "ijk")
    np.testing.assert_allclose(data[where], np.where(shown, values.fillna(0), 0), rtol=1e-6)
    assert np.asarray(inside.dataobj).sum() == len(values) - 1
    assert np.isfinite(data).all()


def test_standard_space_is_a_glass_brain(voxels: Build) -> None:
    affine = np.diag([12.0, 12, 12, 1])
    affine[:3, 3] = [-72, -102, -60]
    cube = nibabel.Nifti1Image(np.ones((12, 14, 12), np.uint8), affine)
    ax = brain(voxels(cube, space="MNI152NLin2009cAsym"))
    texts = {text.get_text() for part in ax.figure.axes for text in part.texts}
    assert {"L", "R"} <= texts
    assert not any(text.startswith("z=") for text in texts)
    ax = brain(voxels(cube, space="MNI152NLin2009cAsym"), view="slices")
    assert any(text.get_text().startswith("z=") for part in ax.figure.axes for text in part.texts)


def test_panels_stay_inside_the_axes(voxels: Build) -> None:
    """nilearn places its panels once; a colour bar or a layout may move the axes after that."""
    from matplotlib.figure import Figure

    cube = nibabel.Nifti1Image(np.ones((6, 6, 6), np.uint8), np.diag([20.0, 20, 20, 1]))
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    right.set_ylabel("a label that takes room")
    brain(voxels(cube), ax=left)
    figure.draw_without_rendering()
    box = left.get_position()
    panels = [part for part in figure.axes if part not in (left, right) and not part.get_ylabel()]
    assert panels
    for panel in panels:
        inner = panel.get_position()
        assert inner.x0 >= box.x0 - 1e-6
        assert inner.x1 <= box.x1 + 1e-6


def test_regions_are_painted_on_their_atlas(real_data: Callable[[str], Path]) -> None:
    path = real_data("narratives-black-glove") / "story_atlas.nii.gz"
    atlas = nibabel.load(path)
    codes = np.rint(np.asarray(atlas.dataobj)).astype(int)
    values = xr.DataArray(
        np.linspace(0.1, 0.5, 400), dims="roi", coords={"roi": [f"parcel {k}" for k in range(1, 401)]}
    )
    image, _ = to_image(values, atlas=atlas)
    data = np.asarray(image.dataobj)
    for code in (1, 17, 400):
        np.testing.assert_allclose(data[codes == code], values.values[code - 1], rtol=1e-6)
    assert (data[codes == 0] == 0).all()
    shuffled = values.assign_coords(label=("roi", np.arange(1, 401)))[::-1]
    np.testing.assert_allclose(np.asarray(to_image(shuffled, atlas=str(path))[0].dataobj), data)
    with pytest.raises(SchemaError, match="do not match the atlas"):
        to_image(values[:7], atlas=atlas)


def test_contacts_of_a_real_patient(real_data: Callable[[str], Path]) -> None:
    table = pd.read_csv(real_data("ieeg-mne-misc") / "sample_seeg_electrodes_fsaverage.tsv", sep="\t", index_col=0)
    values = xr.DataArray(
        np.random.default_rng(0).normal(0.1, 0.1, len(table)),
        dims="channel",
        coords={"channel": table["name"].to_numpy(object)}
        | {axis: ("channel", table[column] / 1e3) for axis, column in zip("xyz", "RAS", strict=True)},
        name="score",
        attrs={"coord_frame": "mni_tal"},
    )
    ax = brain(values, significant=values > 0.1)
    drawn = [part for axes in ax.figure.axes for part in axes.collections if len(part.get_offsets()) == len(table)]
    top_view = [np.asarray(part.get_offsets()) for part in drawn]
    assert any(np.allclose(view, table[["R", "A"]], atol=1e-4) for view in top_view)
    assert len(np.unique(drawn[0].get_sizes())) == 2
    assert ax.get_title() == ""
    assert "head" in brain(values.assign_attrs(coord_frame="head")).get_title()


def test_volumes_keep_their_axes() -> None:
    data = np.random.default_rng(0).random((4, 5, 6))
    values = xr.DataArray(data, dims=("k", "j", "i"), attrs={"affine": np.eye(4).ravel().tolist()})
    image, _ = to_image(values)
    np.testing.assert_allclose(np.asarray(image.dataobj), data.transpose(2, 1, 0), rtol=1e-6)


def test_refusals(voxels: Build) -> None:
    cube = nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    values = voxels(cube)
    with pytest.raises(SchemaError, match="put back into a volume"):
        brain(values.drop_vars("i"))
    with pytest.raises(SchemaError, match="volume_shape"):
        brain(values.drop_attrs())
    with pytest.raises(SchemaError, match="'glass'"):
        brain(values, view="inflated")
    with pytest.raises(SchemaError, match="time=0"):
        brain(values.expand_dims(time=2, axis=1))
