"""read_table: every format against the array that was written, and real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.io import loadmat, savemat

from neuroalign import schema, storage
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.loaders.table import read_table

RealData = Callable[[str], Path]
VALUES = np.random.default_rng(0).normal(size=(4, 3))
IDS = np.array(["cat", "dog", "fox", "owl"])


@pytest.mark.parametrize("kind", ["f4", "f8", ">f8", "i2", "?", "u1", ">i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path: Path, kind: str, order: str) -> None:
    values = np.asarray(VALUES * 3, dtype=kind, order=order)
    np.save(tmp_path / "x.npy", values)
    out = read_table(tmp_path / "x.npy", dims=("stimulus", "unit"))
    np.testing.assert_array_equal(out.values, values.astype("f8"))
    assert out.dtype.isnative
    assert out.dtype.kind == "f"
    assert out.dims == ("stimulus", "unit")
    assert (out.name, out.attrs["units"]) == ("x", "a.u.")


def test_integers_that_float32_cannot_hold_become_float64(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[2**24 + 1, 5]]))
    out = read_table(tmp_path / "x.npy", dims=("stimulus", "unit"))
    assert out.dtype == np.float64
    assert out.values[0, 0] == 2**24 + 1


def test_npz_makes_coordinates_of_what_fits(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz",
        betas=VALUES,
        conds=IDS,
        region=np.array([[1, 1, 2]]),
        names=np.array(["a", "b"]),
        n=np.array(7),
    )
    out = read_table(tmp_path / "x.npz", dims=("stimulus", "voxel"), coords={"stimulus": "conds"})
    assert out["stimulus"].values.tolist() == IDS.tolist()
    assert out["region"].dims == ("voxel",)
    assert sorted(out.attrs["unused"]) == ["n", "names"]
    assert out.name == "betas"


def test_dims_may_stand_in_the_file(tmp_path: Path) -> None:
    labels = {"dims": np.array(["trial", "roi"]), "roi": np.array(["V1", "V2", "MT"])}
    np.savez_compressed(tmp_path / "x.npz", values=VALUES, **labels)
    out = read_table(tmp_path / "x.npz", units="uV", layer="conv1")
    assert out.dims == ("trial", "roi")
    assert out["roi"].values.tolist() == ["V1", "V2", "MT"]
    np.testing.assert_allclose(out.values, VALUES * 1e-6)
    assert (out.name, out.attrs["layer"], out.attrs["units"]) == ("conv1", "conv1", "V")


def test_vectors_get_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VALUES[0])
    assert read_table(tmp_path / "x.npy").dims == ("sample",)
    assert read_table(tmp_path / "x.npy", dims="time").dims == ("time",)


@pytest.mark.parametrize("compressed", [True, False])
def test_mat_5(tmp_path: Path, compressed: bool) -> None:
    cell = np.empty((1, 4), dtype=object)
    cell[0] = IDS
    waves = np.empty((1, 2), dtype=object)
    waves[0] = [np.arange(5.0)[:, None], np.ones((5, 1))]
    content = {"data": VALUES, "names": cell, "note": "text", "waves": waves, "info": {"rate": 5.0}}
    savemat(tmp_path / "x.mat", content, do_compression=compressed)
    out = read_table(tmp_path / "x.mat", variable="data", dims=("stimulus", "unit"), coords={"stimulus": "names"})
    np.testing.assert_array_equal(out.values, VALUES)
    assert out["stimulus"].values.tolist() == IDS.tolist()
    stacked = read_table(tmp_path / "x.mat", variable="waves", dims=("trial", "time"))
    np.testing.assert_array_equal(stacked.values, [np.arange(5), np.ones(5)])


def test_mat_73(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        data = file.create_dataset("data", data=VALUES.T)
        data.attrs["MATLAB_class"] = np.bytes_("double")
        refs = np.empty((4, 1), dtype=h5py.ref_dtype)
        for n, name in enumerate(IDS):
            text = file.create_dataset(f"#refs#/{n}", data=np.array([[ord(c)] for c in name], dtype="u2"))
            text.attrs["MATLAB_class"] = np.bytes_("char")
            refs[n, 0] = text.ref
        cell = file.create_dataset("names", data=refs, dtype=h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        file.create_dataset("info/rate", data=np.array([[5.0]]))
    with path.open("r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file".ljust(512))
    out = read_table(path, dims=("stimulus", "unit"), coords={"stimulus": "names"})
    np.testing.assert_array_equal(out.values, VALUES)
    assert out["stimulus"].values.tolist() == IDS.tolist()


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_text_tables(tmp_path: Path, suffix: str, end: str, bom: str) -> None:
    tab = "\t" if suffix == "tsv" else ","
    lines = [[name, *map(repr, row)] for name, row in zip(IDS, VALUES.tolist(), strict=True)]
    rows = [tab.join(cells) for cells in (["name", "a", '"b"', "c"], *lines)]
    path = tmp_path / f"x.{suffix}"
    path.write_bytes((bom + end.join(rows) + end).encode())
    out = read_table(path)
    np.testing.assert_array_equal(out.values, VALUES)
    assert out["stimulus"].values.tolist() == IDS.tolist()
    assert out["unit"].values.tolist() == ["a", "b", "c"]
    trials = read_table(path, dims=("trial", "unit"))
    assert trials["stimulus_id"].values.tolist() == IDS.tolist()


def test_text_table_variants(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("1,2\n3,n/a\n")
    out = read_table(path)
    assert out.dims == ("sample", "unit")
    assert np.isnan(out.values[1, 1])
    assert not out.coords
    path.write_text("a,word,b\n1,cat,2\n3,dog,4\n")
    out = read_table(path, index="word")
    assert out["stimulus"].values.tolist() == ["cat", "dog"]
    assert out["unit"].values.tolist() == ["a", "b"]
    path.write_text("stimulus_id,a\n17,1\n18,2\n")
    assert read_table(path)["stimulus"].values.tolist() == ["17", "18"]
    path.write_text("word,a\ncat,1\ncat,2\n")
    with pytest.raises(SchemaError, match="dims=\\('trial'"):
        read_table(path)
    assert read_table(path, dims=("trial", "unit"))["stimulus_id"].values.tolist() == ["cat", "cat"]


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    frame = pd.DataFrame(VALUES, columns=["a", "b", "c"])
    frame.insert(0, "stimulus", IDS)
    frame.to_parquet(tmp_path / "x.parquet")
    out = read_table(tmp_path / "x.parquet")
    np.testing.assert_array_equal(out.values, VALUES)
    assert out["stimulus"].values.tolist() == IDS.tolist()
    frame.set_index("stimulus").to_parquet(tmp_path / "y.parquet")
    xr.testing.assert_equal(read_table(tmp_path / "y.parquet"), out)
    frame.assign(d=IDS).to_parquet(tmp_path / "z.parquet")
    with pytest.raises(SchemaError, match="numbers"):
        read_table(tmp_path / "z.parquet")


def test_our_store_and_plain_zarr(tmp_path: Path) -> None:
    x = schema.features(VALUES, stimulus=IDS, layer="fc")
    storage.save(x, tmp_path / "ours.zarr")
    assert read_table(tmp_path / "ours.zarr").identical(x)
    ds = xr.Dataset({"fc": x, "conv": 2 * x})
    storage.save(ds, tmp_path / "layers.zarr")
    assert set(read_table(tmp_path / "layers.zarr")) == {"fc", "conv"}
    xr.testing.assert_equal(read_table(tmp_path / "layers.zarr", variable="conv"), 2 * x)
    xr.Dataset({"fc": (("stimulus", "unit"), VALUES)}).to_zarr(tmp_path / "plain.zarr", consolidated=False)
    np.testing.assert_array_equal(read_table(tmp_path / "plain.zarr", variable="fc").values, VALUES)
    renamed = read_table(tmp_path / "plain.zarr", variable="fc", dims=("trial", "voxel"))
    assert renamed.dims == ("trial", "voxel")
    with pytest.raises(ConfigError, match="no such variable"):
        read_table(tmp_path / "plain.zarr", variable="fc7")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES[:, :2])
    with pytest.raises(SchemaError, match=r"a \(4, 3\) float64, b \(4, 2\) float64"):
        read_table(tmp_path / "two.npz", dims=("stimulus", "unit"))
    with pytest.raises(SchemaError, match=r"a of shape \(4, 3\)"):
        read_table(tmp_path / "two.npz", variable="a")
    with pytest.raises(ConfigError, match="variable='c'"):
        read_table(tmp_path / "two.npz", variable="c")
    with pytest.raises(ConfigError, match="conds"):
        read_table(tmp_path / "two.npz", variable="a", coords={"stimulus": "conds"})
    with pytest.raises(SchemaError, match="does not fit"):
        read_table(tmp_path / "two.npz", variable="a", dims=("stimulus",))
    with pytest.raises(SchemaError, match="cannot be the coordinate"):
        read_table(tmp_path / "two.npz", variable="a", dims=("stimulus", "unit"), coords={"stimulus": "b"})
    with pytest.raises(SchemaError, match="Unknown unit"):
        read_table(tmp_path / "two.npz", variable="a", dims=("stimulus", "unit"), units="mmHg")
    np.savez(tmp_path / "square.npz", a=np.eye(3), names=np.array(["x", "y", "z"]))
    out = read_table(tmp_path / "square.npz", dims=("stimulus", "unit"))
    assert out.attrs["unused"] == ["names"]
    assert "unit" in read_table(tmp_path / "square.npz", dims=("stimulus", "unit"), coords={"unit": "names"}).coords


# Real files


def test_real_objects(real_data: RealData) -> None:
    folder = real_data("objects81-fmri-alexnet-w2v")
    coords = {"stimulus": "conds", "roi_index": "indices"}
    betas = read_table(folder / "roi_data.npz", dims=("stimulus", "voxel"), coords=coords)
    with np.load(folder / "roi_data.npz") as raw:
        np.testing.assert_array_equal(betas.values, raw["betas"])
        assert betas["stimulus"].values.tolist() == raw["conds"].tolist()
        np.testing.assert_array_equal(betas["roi_index"].values, raw["indices"][0])
    for name, width in (("alexnet", 20), ("word2vec", 30)):
        out = read_table(folder / f"{name}.mat", dims=("stimulus", "unit"), layer=name)
        assert out.shape == (81, width)
        np.testing.assert_array_equal(out.values, loadmat(folder / f"{name}.mat")[name])


def test_real_story(real_data: RealData) -> None:
    folder = real_data("narratives-black-glove")
    out = read_table(folder / "story_parcels.npy", dims=("time", "roi"))
    np.testing.assert_array_equal(out.values, np.load(folder / "story_parcels.npy"))
    with pytest.raises(SchemaError, match="line 2, column 'word'"):
        read_table(folder / "black_gentle.csv")


def test_real_cells_and_structs(real_data: RealData) -> None:
    envelopes = read_table(real_data("cocktail-party-eeg") / "F_env.mat", dims=("trial", "time"))
    raw = loadmat(real_data("cocktail-party-eeg") / "F_env.mat")["stim1"]
    np.testing.assert_array_equal(envelopes.values[7], raw[0, 7][:, 0])
    eeg = read_table(real_data("cocktail-party-eeg") / "1_1.mat", variable="eeg", dims=("time", "channel"))
    assert eeg.shape == (7680, 128)
    path = real_data("rdm92-kriegeskorte") / "92_modelRDMs.mat"
    rdms = read_table(path, variable="Models.RDM", dims=("model", "row", "column"), coords={"model": "Models.name"})
    raw = loadmat(path)["Models"]
    assert rdms["model"].values.tolist() == [str(v[0]) for v in raw["name"][0]]
    np.testing.assert_array_equal(rdms.values[3], raw["RDM"][0, 3])


def test_real_tables(real_data: RealData) -> None:
    folder = real_data("fmriprep-visualcontrol")
    confounds = read_table(next(folder.glob("*confounds_regressors.tsv")))
    assert confounds.dims == ("sample", "unit")
    assert confounds.shape[0] == 250
    matrix = read_table(real_data("brainspace-hcp") / "schaefer_400_mean_connectivity_matrix.csv")
    np.testing.assert_allclose(matrix.values, matrix.values.T)
