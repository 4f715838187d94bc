"""read_fmri on surfaces and grayordinates: through every door, lazily, and against nibabel and nilearn."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.cifti2 import cifti2_axes

import neuroalign
from neuroalign import schema
from neuroalign.errors import SchemaError
from neuroalign.loaders import read_fmri, read_table

RealData = Callable[[str], Path]


def series(path: Path, n_times: int = 9, n_sites: int = 30) -> np.ndarray:
    values = np.random.default_rng(0).uniform(size=(n_times, n_sites)).astype(np.float32)
    brain = cifti2_axes.BrainModelAxis.from_surface(np.arange(n_sites), n_sites + 2, "CORTEX_LEFT")
    nib.Cifti2Image(values, (cifti2_axes.SeriesAxis(0, 0.8, n_times, "SECOND"), brain)).to_filename(path)
    return values


KEYS = st.one_of(
    st.integers(-9, 8),
    st.slices(9).filter(lambda s: (s.step or 1) > 0 or len(range(9)[s]) > 0),
    st.lists(st.integers(0, 8), min_size=1, max_size=4),
)


@settings(max_examples=40, deadline=None)
@given(time=KEYS, grayordinate=KEYS)
def test_lazy_slices_equal_eager_ones(
    tmp_path_factory: pytest.TempPathFactory, time: object, grayordinate: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "lazy.dtseries.nii"
    if not path.exists():
        series(path)
    key = {"time": time, "grayordinate": grayordinate}
    whole = read_fmri(path, lazy=False)["bold"]
    xr.testing.assert_identical(read_fmri(path)["bold"].isel(key).load(), whole.isel(key))


def test_lazy_cifti_holds_a_path_and_nothing_else(tmp_path: Path) -> None:
    values = series(tmp_path / "run.dtseries.nii", 400, 300)
    ds = read_fmri(tmp_path / "run.dtseries.nii")
    assert not ds["bold"].variable._in_memory
    again = pickle.loads(pickle.dumps(ds))
    assert len(pickle.dumps(ds)) < 40_000 < values.nbytes
    np.testing.assert_array_equal(again["bold"].values, values)


@pytest.mark.parametrize(
    ("folder", "name", "variable"),
    [
        ("nibabel-nifti-gifti-cifti", "rh.shape.curv.gii", "map"),
        ("nibabel-nifti-gifti-cifti", "rh.aparc.annot.gii", "label"),
        ("nibabel-nifti-gifti-cifti", "Conte69.MyelinAndCorrThickness.32k_fs_LR.dscalar.nii", "map"),
        ("nibabel-nifti-gifti-cifti", "Conte69.MyelinAndCorrThickness.32k_fs_LR.dtseries.nii", "bold"),
        ("nibabel-nifti-gifti-cifti", "Conte69.MyelinAndCorrThickness.32k_fs_LR.ptseries.nii", "bold"),
        ("nibabel-nifti-gifti-cifti", "Conte69.parcellations_VGD11b.32k_fs_LR.dlabel.nii", "label"),
        ("brainspace-hcp", "conte69_32k_lh.gii", "triangle"),
    ],
)
def test_one_door(real_data: RealData, folder: str, name: str, variable: str) -> None:
    path = real_data(folder) / name
    ds = neuroalign.load(path)
    assert list(ds.data_vars) == [variable]
    xr.testing.assert_identical(ds, read_fmri(path))
    if variable == "bold":
        schema.validate(ds, "fmri")


def test_real_parcels_are_the_means_of_their_vertices(real_data: RealData) -> None:
    folder = real_data("nibabel-nifti-gifti-cifti")
    dense = read_fmri(folder / "Conte69.MyelinAndCorrThickness.32k_fs_LR.dtseries.nii")["bold"].values
    parcels = read_fmri(folder / "Conte69.MyelinAndCorrThickness.32k_fs_LR.ptseries.nii")
    theirs = nib.load(folder / "Conte69.MyelinAndCorrThickness.32k_fs_LR.dtseries.nii").header.get_axis(1)
    members = nib.load(folder / "Conte69.MyelinAndCorrThickness.32k_fs_LR.ptseries.nii").header.get_axis(1)
    place = {(name, int(v)): n for n, (name, v) in enumerate(zip(theirs.name, theirs.vertex, strict=True))}
    for n in range(1, parcels.sizes["roi"], 7):
        own = [
            place[name, int(v)] for name, index in members.vertices[n].items() for v in index if (name, int(v)) in place
        ]
        assert len(own) <= int(parcels["n_vertices"][n])
        np.testing.assert_allclose(parcels["bold"].values[:, n], dense[:, own].mean(axis=1), rtol=1e-3)


def test_real_mesh_equals_nilearn(real_data: RealData) -> None:
    from nilearn.surface import load_surf_mesh

    path = real_data("brainspace-hcp") / "conte69_32k_rh.gii"
    ds, theirs = read_fmri(path), load_surf_mesh(path)
    np.testing.assert_allclose(np.column_stack([ds[axis] for axis in "xyz"]), theirs.coordinates)
    np.testing.assert_array_equal(ds["triangle"], theirs.faces)
    assert set(ds["hemi"].values) == {"R"}


def test_real_tables_beside_the_surfaces(real_data: RealData) -> None:
    folder = real_data("brainspace-hcp")
    mesh = read_fmri(folder / "conte69_32k_lh.gii", pair=True)
    labels = read_table(folder / "schaefer_400_conte69.csv", dims=("vertex", "column"))
    assert labels.sizes["vertex"] in (mesh.sizes["vertex"], mesh.sizes["vertex"] - 1)  # the first row may be a header
    matrix = read_table(folder / "schaefer_400_mean_connectivity_matrix.csv", dims=("roi", "other"))
    assert matrix.sizes["other"] == 400
    gradient = read_table(folder / "conte69_32k_fc_gradient0.csv", dims=("vertex", "column"))
    assert gradient.size >= 64983


def test_real_time_series_of_a_surface_needs_hemisphere_and_repetition_time(real_data: RealData) -> None:
    path = real_data("nibabel-nifti-gifti-cifti") / "task.func.gii"
    with pytest.raises(SchemaError, match="hemi="):
        read_fmri(path, tr=2.0)
    with pytest.raises(SchemaError, match="tr="):
        read_fmri(path, hemi="L")
    ds = read_fmri(path, hemi="L", tr=2.0)
    np.testing.assert_array_equal(ds["bold"].values, [a.data for a in nib.load(path).darrays])


def test_sidecar_of_a_surface_gives_the_repetition_time(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(size=(4, 6)).astype(np.float32)
    for side in "LR":
        arrays = [nib.gifti.GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES") for row in values]
        nib.GiftiImage(darrays=arrays).to_filename(tmp_path / f"sub-01_hemi-{side}_space-fsaverage5_bold.func.gii")
        (tmp_path / f"sub-01_hemi-{side}_space-fsaverage5_bold.json").write_text(
            '{"RepetitionTime": 0.8, "StartTime": 0.39}'
        )
    ds = read_fmri(tmp_path / "sub-01_hemi-L_space-fsaverage5_bold.func.gii", pair=True)
    schema.validate(ds, "fmri")
    assert (ds.attrs["tr"], ds.attrs["start_time"], ds.attrs["space"]) == (0.8, 0.39, "fsaverage5")
    assert ds["bold"].attrs["start_time"] == 0.39  # regressors ask the variable
    np.testing.assert_array_equal(ds["bold"].values, np.concatenate([values, values], axis=1))
    (tmp_path / "sub-01_hemi-R_space-fsaverage5_bold.json").write_text('{"RepetitionTime": 0.9}')
    with pytest.raises(SchemaError, match="different repetition times"):
        read_fmri(tmp_path / "sub-01_hemi-L_space-fsaverage5_bold.func.gii", pair=True)


def test_one_array_of_all_time_points_and_listed_nodes(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)  # (vertex, time)
    array = nib.gifti.GiftiDataArray(values, intent="NIFTI_INTENT_TIME_SERIES")
    nib.GiftiImage(darrays=[array]).to_filename(tmp_path / "lh.run.func.gii")
    np.testing.assert_array_equal(read_fmri(tmp_path / "lh.run.func.gii", tr=1.0)["bold"].values, values.T)
    nodes = nib.gifti.GiftiDataArray(np.array([7, 9], np.int32), intent="NIFTI_INTENT_NODE_INDEX")
    shape = nib.gifti.GiftiDataArray(np.ones(2, np.float32), intent="NIFTI_INTENT_SHAPE")
    nib.GiftiImage(darrays=[nodes, shape]).to_filename(tmp_path / "lh.part.gii")
    ds = read_fmri(tmp_path / "lh.part.gii")
    assert ds["node"].values.tolist() == [7, 9]
    assert ds.neuro.to_gifti(n_nodes=10)["L"].darrays[0].data[[7, 9]].tolist() == [1, 1]


def test_names_of_labels_are_kept_apart_by_hemisphere(tmp_path: Path) -> None:
    for side in "lr":
        table = nib.gifti.GiftiLabelTable()
        for key, name in ((0, "???"), (1, f"{side}h_V1")):
            table.labels.append(nib.gifti.GiftiLabel(key, 1.0, 0.0, 0.0, 1.0))
            table.labels[-1].label = name
        array = nib.gifti.GiftiDataArray(np.array([0, 1, 9], np.int32), intent="NIFTI_INTENT_LABEL")
        nib.GiftiImage(darrays=[array], labeltable=table).to_filename(tmp_path / f"{side}h.x.label.gii")
    ds = read_fmri(tmp_path / "rh.x.label.gii", pair=True)
    assert ds["roi"].values[0].tolist() == ["???", "lh_V1", "", "???", "rh_V1", ""]
    back = ds.neuro.to_gifti()
    assert back["R"].labeltable.get_labels_as_dict() == {0: "???", 1: "rh_V1"}
