"""Surface sampling: known gradients, nilearn, masks, and real meshes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone

from neuroalign import load_model, schema
from neuroalign.errors import AlignmentError, ConfigError, IntegrityError, SchemaError
from neuroalign.preprocess import Parcellator, SurfaceSampler

AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2.1, -0.3, -20], [0, 0.3, 1.9, -18], [0, 0, 0, 1]])
SHAPE = (20, 20, 20)  # i j k
SLOPES = np.array([0.3, -0.2, 0.5])


def ball(radius: float = 8.0, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    """An octahedron, its triangles cut in four three times, on a sphere."""
    points = [*np.vstack([np.eye(3), -np.eye(3)])]
    triangles = [(0, 1, 2), (1, 3, 2), (3, 4, 2), (4, 0, 2), (1, 0, 5), (3, 1, 5), (4, 3, 5), (0, 4, 5)]
    for _ in range(3):
        middle: dict[tuple[int, int], int] = {}

        def half(a: int, b: int) -> int:
            key = (min(a, b), max(a, b))
            if key not in middle:  # noqa: B023
                middle[key] = len(points)  # noqa: B023
                points.append(points[a] + points[b])
            return middle[key]  # noqa: B023

        cut = []
        for a, b, c in triangles:
            ab, bc, ca = half(a, b), half(b, c), half(c, a)
            cut += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        triangles = cut
    xyz = np.array(points)
    return radius * xyz / np.linalg.norm(xyz, axis=1, keepdims=True) + centre, np.array(triangles)


def gradient(n: int = 3) -> xr.Dataset:
    """Volumes whose values are linear in x, y and z (mm)."""
    ijk = np.indices(SHAPE).reshape(3, -1).T
    line = (nib.affines.apply_affine(AFFINE, ijk) @ SLOPES).reshape(SHAPE)
    values = np.stack([10 * t + (t + 1) * line.T for t in range(n)])
    events = pd.DataFrame({"onset": [0.0], "duration": [1.0]})
    ds = schema.fmri_volume(values, affine=AFFINE, tr=2.0, space="MNI", events=events)
    return ds.assign(confounds=(("time", "confound"), np.zeros((n, 1))))


def expected(points: np.ndarray, n: int = 3) -> np.ndarray:
    return np.stack([10 * t + (t + 1) * (points @ SLOPES) for t in range(n)])


def test_a_gradient_is_found_at_the_vertices() -> None:
    left, right = ball(6.0, (-8.0, 0.0, 0.0)), ball(5.0, (8.0, 0.0, 0.0))
    out = SurfaceSampler(left, right, space="balls").fit_transform(gradient())
    schema.validate(out, "fmri")
    points = np.concatenate([left[0], right[0]])
    np.testing.assert_allclose(out["bold"].values, expected(points), atol=1e-5)
    same = schema.fmri_surface(
        out["bold"].values, hemi=["L"] * len(left[0]) + ["R"] * len(right[0]), tr=2.0, positions=points, space="balls"
    )
    for name in ("vertex", "hemi", "node", "x", "y", "z"):
        np.testing.assert_array_equal(out[name].values, same[name].values)
    assert out["onset"].values.tolist() == [0.0]
    assert out["confounds"].sizes == {"time": 3, "confound": 1}
    assert out.attrs["space"] == out["bold"].attrs["space"] == "balls"
    assert not {"affine", "volume_shape"} & {*out.attrs, *out["bold"].attrs}
    assert schema.history(out)["steps"][-1]["step"] == "SurfaceSampler"


@pytest.mark.parametrize("kind", ["line", "ball", "auto"])
@pytest.mark.parametrize("interpolation", ["linear", "nearest_most_frequent"])
def test_it_equals_nilearn(kind: str, interpolation: str) -> None:
    from nilearn.surface import InMemoryMesh, vol_to_surf

    values = np.random.default_rng(0).integers(0, 9, (4, *SHAPE[::-1])).astype(np.float32)
    ds = schema.fmri_volume(values, affine=AFFINE, tr=2.0)
    mesh = ball(7.0)
    ours = SurfaceSampler(right=mesh, radius=2.5, kind=kind, interpolation=interpolation).fit_transform(ds)
    image = nib.Nifti1Image(values.T.astype(float), AFFINE)
    theirs = vol_to_surf(image, InMemoryMesh(*mesh), radius=2.5, kind=kind, interpolation=interpolation)
    np.testing.assert_allclose(ours["bold"].values, theirs.T, rtol=1e-6)
    assert set(ours["hemi"].values) == {"R"}


def test_samples_between_two_surfaces() -> None:
    inner, outer = ball(5.0), ball(9.0)
    out = SurfaceSampler(outer, left_inner=inner).fit_transform(gradient())
    np.testing.assert_allclose(out["bold"].values, expected((inner[0] + outer[0]) / 2), atol=1e-5)
    depth = SurfaceSampler(outer, left_inner=inner, kind="depth").fit_transform(gradient())
    np.testing.assert_array_equal(depth["bold"].values, out["bold"].values)


def test_voxels_outside_a_mask_do_not_count() -> None:
    ds, mesh = gradient(), ball(6.0)
    points = nib.affines.apply_affine(AFFINE, np.argwhere(np.ones(SHAPE, dtype=bool))).reshape(*SHAPE, 3)
    keep = points[..., 0] < 0  # one half of the ball
    kji = np.argwhere(keep.T)
    options = {"affine": AFFINE, "tr": 2.0, "volume_shape": SHAPE}
    masked = schema.fmri_masked(ds["bold"].values[:, keep.T], ijk=kji[:, ::-1], **options)
    sampler = SurfaceSampler(mesh, radius=1.5)
    out = sampler.fit_transform(masked)["bold"].values
    inside, outside = mesh[0][:, 0] < -4, mesh[0][:, 0] > 4
    np.testing.assert_allclose(out[:, inside], expected(mesh[0][inside]), atol=1e-5)
    assert np.isnan(out[:, outside]).all()
    ones = sampler.fit_transform(masked.assign(bold=masked["bold"] * 0 + 7))["bold"].values
    np.testing.assert_allclose(ones[~np.isnan(ones)], 7, rtol=1e-6)  # no zeros are mixed in at the edge
    assert (np.isnan(ones) == np.isnan(out)).all()
    holes = ds.assign(bold=ds["bold"].where(xr.DataArray(keep.T, dims=("k", "j", "i"))))
    np.testing.assert_array_equal(sampler.fit_transform(holes)["bold"].values, out)
    once = ds["bold"].copy()
    once[1] = np.nan  # a volume that was left out
    lost = sampler.fit_transform(once).values
    assert np.isnan(lost[1]).all()
    np.testing.assert_allclose(lost[[0, 2]], expected(mesh[0])[[0, 2]], atol=1e-5)
    labels = masked.assign(bold=masked["bold"] * 0 + 4)
    nearest = SurfaceSampler(mesh, radius=1.5, interpolation="nearest_most_frequent").fit_transform(labels)["bold"]
    assert set(nearest.values[np.isfinite(nearest.values)]) == {4.0}
    assert np.isnan(nearest.values[:, outside]).all()
    far = SurfaceSampler(ball(60.0), radius=1.0).fit_transform(ds)["bold"].values
    assert np.isnan(far).all()
    with pytest.raises(SchemaError, match="inside the volumes"):
        SurfaceSampler(ball(60.0), interpolation="nearest_most_frequent").fit_transform(ds)


def test_meshes_in_all_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points, triangles = ball(6.0)
    arrays = [
        nib.gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(triangles.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    image = nib.GiftiImage(darrays=arrays)
    nib.save(image, tmp_path / "ball.surf.gii")
    info = {"head": [2, 0, 20], "valid": "1", "filename": "T1.mgz", "volume": [9, 9, 9], "voxelsize": [1.0, 1.0, 1.0]}
    info |= {"xras": [1.0, 0, 0], "yras": [0, 1.0, 0], "zras": [0, 0, 1.0], "cras": [0.0, 0.0, 0.0]}
    nib.freesurfer.write_geometry(tmp_path / "lh.pial", points, triangles, volume_info=info)
    dataset = schema.surface_mesh(points, triangles, hemi="L")
    ds = gradient()
    first = SurfaceSampler((points, triangles)).fit_transform(ds)["bold"].values
    both = schema.surface_mesh(
        np.concatenate([points[::-1] + 99, points]),
        np.concatenate([triangles, triangles + len(points)]),
        hemi=np.repeat(["R", "L"], len(points)),
    )
    for mesh in (image, tmp_path / "ball.surf.gii", str(tmp_path / "lh.pial"), dataset, both):
        np.testing.assert_allclose(SurfaceSampler(mesh).fit_transform(ds)["bold"].values, first, atol=1e-4)
    monkeypatch.setattr("neuroalign.preprocess._nuisance._TILE_BYTES", 1)  # a volume at a time
    np.testing.assert_array_equal(SurfaceSampler((points, triangles)).fit_transform(ds)["bold"].values, first)
    step = clone(SurfaceSampler(tmp_path / "ball.surf.gii", radius=2.0)).fit(ds)
    step.save(tmp_path / "model")
    (tmp_path / "ball.surf.gii").unlink()
    loaded = load_model(tmp_path / "model")
    np.testing.assert_allclose(loaded.transform(ds)["bold"].values, expected(points), atol=1e-4)


def test_trials_are_sampled_too() -> None:
    volumes = gradient()["bold"].rename(time="trial").drop_vars("trial")
    volumes = volumes.assign_coords(stimulus_id=("trial", ["a", "b", "c"]))
    out = SurfaceSampler(ball(6.0)).fit_transform(volumes)
    assert out.dims == ("trial", "vertex")
    assert out["stimulus_id"].values.tolist() == ["a", "b", "c"]
    tree = xr.DataTree.from_dict({"/run-1": gradient(2), "/run-2": gradient(4)})
    step = SurfaceSampler(ball(6.0)).fit(tree)
    xr.testing.assert_identical(step.transform(tree)["run-2"].to_dataset(), step.transform(gradient(4)))


def test_faults_are_named(tmp_path: Path) -> None:
    ds, mesh = gradient(), ball(6.0)
    (tmp_path / "cut.surf.gii").write_text("<?xml version='1.0'?><GIFTI")
    cases: list[tuple[dict[str, object], object, type[Exception], str]] = [
        ({}, ds, ConfigError, "no surface"),
        ({"left": mesh, "kind": "cube"}, ds, ConfigError, "Unknown kind"),
        ({"left": mesh, "interpolation": "cubic"}, ds, ConfigError, "Unknown interpolation"),
        ({"left": mesh, "radius": -1.0}, ds, ConfigError, "radius"),
        ({"left": mesh, "kind": "depth"}, ds, ConfigError, "inner"),
        ({"left_inner": mesh}, ds, ConfigError, "no outer"),
        ({"left": mesh, "left_inner": (mesh[0][:3], np.array([[0, 1, 2]]))}, ds, ConfigError, "inner side"),
        ({"left": mesh[0]}, ds, ConfigError, "not a mesh"),
        ({"right": schema.surface_mesh(*mesh, hemi="L")}, ds, ConfigError, "no right hemisphere"),
        ({"left": (mesh[0], mesh[1] + 1)}, ds, ConfigError, "not a mesh"),
        ({"left": tmp_path / "absent.gii"}, ds, IntegrityError, "cannot be read"),
        ({"left": tmp_path / "cut.surf.gii"}, ds, IntegrityError, "cannot be read"),
        ({"left": mesh}, ds["bold"].values, SchemaError, "no volumes"),
        ({"left": mesh}, schema.fmri_surface(np.ones((2, 3)), hemi="L", tr=1.0), SchemaError, "where their voxels"),
    ]
    for options, data, error, message in cases:
        with pytest.raises(error, match=message):
            SurfaceSampler(**options).fit(data)
    step = SurfaceSampler(mesh).fit(ds)
    moved = ds["bold"].assign_attrs(affine=(AFFINE + 1).ravel().tolist())
    with pytest.raises(AlignmentError, match="elsewhere"):
        step.transform(moved)


def test_real_meshes(real_data: Callable[[str], Path]) -> None:
    """Conte69 hemispheres in a volume with a gradient: every vertex has its own x, y and z; regions follow."""
    folder = real_data("brainspace-hcp")
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -100, -130, -80
    shape = (50, 52, 50)
    xyz = nib.affines.apply_affine(affine, np.indices(shape).reshape(3, -1).T).reshape(*shape, 3)
    ds = schema.fmri_volume(np.ascontiguousarray(xyz.T), affine=affine, tr=1.0)  # x, y, z as three volumes
    paths = [folder / f"conte69_32k_{side}h.gii" for side in "lr"]
    out = SurfaceSampler(*paths, space="fsLR32k").fit_transform(ds)
    points = np.concatenate([nib.load(path).agg_data("pointset") for path in paths])
    np.testing.assert_allclose(out["bold"].values, points.T, atol=2e-3)
    assert out.sizes["vertex"] == 64984
    from neuroalign.loaders import read_fmri

    meshes = [read_fmri(path) for path in paths]
    read = SurfaceSampler(*meshes, space="fsLR32k").fit_transform(ds)
    np.testing.assert_array_equal(read["bold"].values, out["bold"].values)
    codes = np.loadtxt(folder / "schaefer_400_conte69.csv", dtype=int)
    regions = Parcellator(codes).fit_transform(out)
    for row, axis in enumerate("xyz"):
        np.testing.assert_allclose(regions["bold"].values[row], regions[axis].values, atol=2e-3)
