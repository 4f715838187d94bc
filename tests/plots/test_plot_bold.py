"""Pictures of fMRI runs: mean image, carpet and parcellation, on real and generated runs."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

import neuroalign as na
from neuroalign.errors import SchemaError
from neuroalign.plots import carpet, mean_epi, parcellation
from neuroalign.plots.bold import _mean_over_time, _numbered
from neuroalign.schema import fmri_masked, fmri_regions


@pytest.fixture
def haxby(real_data):
    folder = real_data("haxby2001-pymvpa")
    return folder / "bold.nii.gz", folder / "mask.nii.gz"


def test_mean_epi_of_a_real_run(haxby):
    run = na.loaders.read_fmri(haxby[0], tr=2.5)
    ax = mean_epi(run, mask=str(haxby[1]))
    assert ax.figure.axes
    expected = np.asarray(nibabel.load(haxby[0]).dataobj).mean(axis=-1).T
    assert np.allclose(_mean_over_time(run["bold"]).values, expected, rtol=1e-5)


def test_mean_epi_of_voxels_draws_their_outline(haxby):
    run = na.loaders.read_fmri(haxby[0], mask=haxby[1], tr=2.5)
    assert mean_epi(run).figure.axes


def test_the_mean_leaves_out_censored_volumes():
    values = np.ones((4, 3))
    values[2] = 100.0
    run = fmri_masked(values, ijk=np.eye(3, dtype=int), affine=np.eye(4), tr=2.0, volume_shape=(2, 2, 2))
    kept = run.assign_coords(sample_mask=("time", [True, True, False, True]))
    assert np.allclose(_mean_over_time(kept["bold"]).values, 1.0)


def regions(n_times=80, n=6):
    rng = np.random.default_rng(0)
    values = rng.normal(100, 1, (n_times, n)) + np.linspace(0, 50, n_times)[:, None]
    values[40] += 30
    return fmri_regions(values, roi=[f"r{i}" for i in range(n)], tr=2.0, coords={"network": list("bababa")})


def test_a_carpet_is_detrended_standardised_and_grouped():
    ax = carpet(regions())
    image = np.asarray(ax.images[0].get_array())
    assert image.shape == (6, 80)
    assert np.allclose(image.mean(axis=1), 0, atol=1e-9)
    assert np.allclose(image.std(axis=1), 1)
    assert (image.argmax(axis=1) == 40).all()  # what happens everywhere at once is a stripe
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    slopes = np.polyfit(np.arange(80), image.T, 1)[0]
    assert np.abs(slopes).max() < 1e-3


def test_a_carpet_shows_motion_and_censored_volumes():
    run = regions().assign_coords(sample_mask=("time", np.arange(80) != 40), confound=["framewise_displacement"])
    run["confounds"] = (("time", "confound"), np.r_[np.zeros(40), 2.0, np.zeros(39)][:, None])
    ax = carpet(run)
    (motion,) = ax.child_axes
    assert np.asarray(motion.get_lines()[0].get_ydata()).argmax() == 40
    marks = [line for line in ax.get_lines() if line.get_marker() == "|"]
    assert marks[0].get_xdata().tolist() == [80.0]


def test_volumes_without_numbers_are_blank_and_do_not_count():
    run = regions().assign_coords(valid=("time", np.arange(80) != 40))
    image = np.ma.filled(carpet(run.where(run["valid"])).images[0].get_array(), np.nan)
    assert np.isnan(image[:, 40]).all()
    kept = np.delete(image, 40, axis=1)
    assert np.allclose(kept.mean(axis=1), 0, atol=1e-9)
    assert np.allclose(kept.std(axis=1), 1)


def test_a_carpet_of_many_voxels_averages_neighbours():
    rng = np.random.default_rng(0)
    ijk = np.argwhere(np.ones((20, 20, 10)))
    run = fmri_masked(
        rng.normal(size=(30, len(ijk))), ijk=ijk, affine=np.eye(4), tr=1.0, volume_shape=(20, 20, 10),
        roi=np.repeat(["left", "right"], 2000),
    )  # fmt: skip
    image = np.asarray(carpet(run).images[0].get_array())
    assert len(image) <= 1500
    assert [t.get_text() for t in carpet(run).get_yticklabels()] == ["left", "right"]


def test_a_carpet_of_a_real_run(haxby):
    run = na.loaders.read_fmri(haxby[0], mask=haxby[1], tr=2.5)
    assert np.asarray(carpet(run).images[0].get_array()).shape == (530, 1452)


def test_a_carpet_needs_sites_over_time(haxby):
    with pytest.raises(SchemaError, match="sites over time"):
        carpet(na.loaders.read_fmri(haxby[0], tr=2.5))
    with pytest.raises(SchemaError, match="no such coordinate"):
        carpet(regions(), by="lobe")


def test_parcellation_of_a_real_segmentation(real_data):
    path = real_data("fmriprep-visualcontrol") / "sub-01_task-visualcontrol_space-T1w_desc-aseg_dseg.nii.gz"
    assert parcellation(str(path)).figure.axes
    image = _numbered(nibabel.load(path), np.unique(np.asarray(nibabel.load(path).dataobj))[1:])
    n = len(np.unique(np.asarray(nibabel.load(path).dataobj))) - 1
    assert np.unique(np.asarray(image.dataobj)).tolist() == list(range(n + 1))


def test_parcellation_names_the_regions_of_voxels():
    ijk = np.argwhere(np.ones((4, 4, 4)))
    run = fmri_masked(
        np.zeros((2, 64)), ijk=ijk, affine=np.diag([4.0, 4, 4, 1]), tr=1.0, volume_shape=(4, 4, 4),
        roi=np.repeat(["V1", "", "V2", "V3"], 16),
    )  # fmt: skip
    ax = parcellation(run)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["V1", "V2", "V3"]
    assert parcellation(run, view="glass", names=False).get_legend() is None


def test_parcellation_of_regions_without_places_is_refused():
    with pytest.raises(SchemaError, match="cannot be placed"):
        parcellation(regions())
    empty = nibabel.Nifti1Image(np.zeros((3, 3, 3), dtype="i2"), np.eye(4))
    with pytest.raises(SchemaError, match="no region"):
        parcellation(empty)
