"""Surfaces, grayordinates and maps: labels, validation and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from neuroalign import schema
from neuroalign.errors import SchemaError

LEFT, THALAMUS = "CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_THALAMUS_LEFT"
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])


def test_a_surface_run_is_valid_and_numbers_its_vertices_by_hemisphere() -> None:
    ds = schema.fmri_surface(np.ones((3, 5)), hemi=[*"LLRRR"], tr=1.5, space="fsaverage5", positions=np.ones((5, 3)))
    schema.validate(ds, "fmri")
    assert ds["node"].values.tolist() == [0, 1, 0, 1, 2]
    assert (ds["bold"].attrs["tr"], ds["bold"].attrs["space"]) == (1.5, "fsaverage5")
    assert float(ds["z"][0]) == 1
    kept = schema.fmri_surface(np.ones((3, 2)), hemi="R", node=[10, 40], tr=1.0)
    assert kept["node"].values.tolist() == [10, 40]


@pytest.mark.parametrize(
    "options",
    [
        {"hemi": "left"},
        {"hemi": ["L", "R"]},
        {"hemi": "L", "node": [0, 0, 1]},
        {"hemi": "L", "node": [0, 1]},
        {"hemi": "L", "node": [0, 1, -1]},
        {"hemi": "L", "positions": np.ones((3, 2))},
        {"hemi": "L", "tr": 0.0},
    ],
)
def test_wrong_vertices_are_refused(options: dict) -> None:
    with pytest.raises(SchemaError):
        schema.fmri_surface(np.ones((2, 3)), **{"tr": 1.0, **options})


def test_grayordinates_are_vertices_or_voxels() -> None:
    ijk = [[-1] * 3, [45, 63, 36]]
    options = {"structure": [LEFT, THALAMUS], "vertex": [4, -1], "tr": 0.72}
    ds = schema.fmri_grayordinates(np.ones((2, 2)), ijk=ijk, affine=AFFINE, volume_shape=(91, 109, 91), **options)
    schema.validate(ds, "fmri")
    assert [float(ds[axis][1]) for axis in "xyz"] == [0, 0, 0]
    assert np.isnan(ds["x"][0])
    for wrong in ({"ijk": ijk}, {"ijk": [[1, 1, 1], [2, 2, 2]], "affine": AFFINE}, {}, {"ijk": [[-1] * 3] * 3}):
        with pytest.raises(SchemaError):
            schema.fmri_grayordinates(np.ones((2, 2)), **options, **wrong)


def test_maps_carry_names_and_the_sites_of_a_recording() -> None:
    ds = schema.maps(
        np.ones((2, 3)), map_name=["a", "b"], dim="vertex", coords={"hemi": ("vertex", [*"LLL"])}, units="z", space="x"
    )
    assert ds["map"].dims == ("map_name", "vertex")
    assert ds["map"].sel(map_name="b").attrs == {"units": "z", "space": "x"}
    with pytest.raises(SchemaError):
        schema.maps(np.ones((2, 3)), map_name=["a"], dim="vertex", coords={})


def test_a_mesh_names_only_vertices_that_exist() -> None:
    ds = schema.surface_mesh(np.eye(4, 3), [[0, 1, 2], [1, 2, 3]], hemi="R", space="fsLR32k")
    assert ds["triangle"].dims == ("face", "corner")
    assert ds["hemi"].values.tolist() == [*"RRRR"]
    for points, corners in ((np.eye(3), [[0, 1, 3]]), (np.eye(3), [[0, 1]]), (np.full((3, 3), np.nan), [[0, 1, 2]])):
        with pytest.raises(SchemaError):
            schema.surface_mesh(points, corners, hemi="L")


def test_slicing_keeps_the_affine_right() -> None:
    rng = np.random.default_rng(0)
    oblique = np.eye(4)
    oblique[:3] = rng.normal(size=(3, 4)) + 3 * np.eye(3, 4)
    ds = schema.fmri_volume(rng.normal(size=(2, 6, 7, 8)), affine=oblique, tr=1.0)
    for key in (
        {"i": slice(5, 8)},
        {"i": slice(1, None, 3), "k": slice(2, 4)},
        {"j": slice(None, None, -1)},
        {"k": 3},
        {"k": [4], "i": [2, 4, 6]},
        {"j": slice(6, None), "i": slice(None, None, -2)},
    ):
        part = ds["bold"].isel(key)
        matrix = schema.affine(part)
        for k, j, i in np.ndindex(*(part.sizes.get(name, 1) for name in "kji")):
            here = part.isel({n: p for n, p in zip("kji", (k, j, i), strict=True) if n in part.dims})
            there = oblique @ [*(float(here[axis]) for axis in "ijk"), 1]
            np.testing.assert_allclose(matrix @ [i, j, k, 1], there, atol=1e-12)
    with pytest.raises(SchemaError, match="not equally spaced"):
        schema.affine(ds.isel(i=[0, 1, 5]))
    masked = schema.fmri_masked(np.ones((2, 1)), ijk=[[1, 2, 3]], affine=oblique, tr=1.0, volume_shape=(8, 7, 6))
    np.testing.assert_array_equal(schema.affine(masked.isel(voxel=0)), oblique)


def test_label_maps_keep_large_numbers_and_name_them() -> None:
    big = 2**24 + 1  # float32 has no such number
    ds = schema.label_maps(
        [[0, big], [3, 3]], map_name=["a", "b"], dim="vertex", coords={"hemi": [*"LL"]}, names=[{big: "V1"}, {}]
    )
    assert ds["label"].dtype == np.int32
    assert ds["label"].values.tolist() == [[0, big], [3, 3]]
    assert ds["roi"].isel(map_name=0).values.tolist() == ["", "V1"]
    for wrong in ([[0.5, 1.0]], [0, 1]):
        with pytest.raises(SchemaError, match="Not maps of labels"):
            schema.label_maps(wrong, map_name=["a"], dim="vertex", coords={}, names=[{}])
