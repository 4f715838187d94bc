"""Re-referencing: MNE, the matrix that was multiplied out, gaps and bad contacts, lazy recordings, grids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign import load_model, schema, storage
from neuroalign.errors import AlignmentError, ConfigError, IntegrityError, NeuroalignWarning, SchemaError
from neuroalign.preprocess import Rereferencer, reference_matrix

METHODS = ("average", "bipolar", "shaft_average", "laplacian", "white_matter")


@parametrize_with_checks([Rereferencer()])
def test_scikit_learn_contract(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def recording(
    names: str = "LA1 LA2 LA3 LA4 ECG LB1 LB2 LB3", *, bad: str = "", n_times: int = 200, seed: int = 0
) -> xr.Dataset:
    channel = names.split()
    n = len(channel)
    shaft = ["" if name == "ECG" else name.rstrip("0123456789") for name in channel]
    coords: dict[str, Any] = {
        "shaft": shaft,
        "contact": [float(name[len(s) :]) if s else np.nan for name, s in zip(channel, shaft, strict=True)],
        "bad": [name in bad.split() for name in channel],
        "tissue": ["White" if name.endswith("3") else "gray" for name in channel],
    }
    return schema.sensors(
        (1e-4 * np.random.default_rng(seed).normal(size=(n, n_times))).astype(np.float32),
        modality="ieeg",
        sfreq=100.0,
        channel=channel,
        channel_type=["ecg" if name == "ECG" else "seeg" for name in channel],
        positions=np.arange(3 * n).reshape(n, 3) / 1000,
        units="V",
        coords=coords,
        events=pd.DataFrame({"onset": [0.5], "trial_type": ["go"]}),
        first_sample=50,
        attrs={"coord_frame": "mri"},
    )


# Known answers


def test_bipolar_pairs_neighbours_of_a_shaft() -> None:
    ds = recording()
    out = Rereferencer("bipolar").fit_transform(ds)
    x = ds["ieeg"].values.astype(float)
    assert out["channel"].values.tolist() == ["LA1-LA2", "LA2-LA3", "LA3-LA4", "ECG", "LB1-LB2", "LB2-LB3"]
    np.testing.assert_allclose(out["ieeg"].sel(channel="LA2-LA3"), x[1] - x[2], rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(out["ieeg"].sel(channel="ECG"), ds["ieeg"].sel(channel="ECG"))
    assert out["anode"].values.tolist() == ["LA1", "LA2", "LA3", "", "LB1", "LB2"]
    assert out["cathode"].values.tolist() == ["LA2", "LA3", "LA4", "", "LB2", "LB3"]
    assert out["reference"].values.tolist() == ["LA2", "LA3", "LA4", "", "LB2", "LB3"]
    assert out["channel_type"].values.tolist() == ["seeg", "seeg", "seeg", "ecg", "seeg", "seeg"]
    assert out["shaft"].values.tolist() == ["LA", "LA", "LA", "", "LB", "LB"]
    np.testing.assert_array_equal(out["contact"], [1, 2, 3, np.nan, 1, 2])
    np.testing.assert_allclose(out["x"].values[:2], (ds["x"].values[:2] + ds["x"].values[1:3]) / 2)
    assert out["tissue"].values.tolist() == ["gray", "", "", "gray", "gray", ""]
    assert out["ieeg"].dtype == np.float32
    for name in ("time", "onset", "trial_type"):
        assert out[name].identical(ds[name])
    schema.validate(out, "ieeg")


def test_averages_leave_out_bad_channels() -> None:
    ds = recording(bad="LA2")
    x = ds["ieeg"].values.astype(float)
    good = [0, 2, 3, 5, 6, 7]
    cases = {
        "average": x - x[good].mean(axis=0),
        "shaft_average": np.concatenate([x[:4] - x[[0, 2, 3]].mean(axis=0), x[4:5], x[5:] - x[5:].mean(axis=0)]),
        "white_matter": x - x[[2, 7]].mean(axis=0),
    }
    for method, expected in cases.items():
        expected[4] = x[4]
        out = Rereferencer(method).fit_transform(ds)
        np.testing.assert_allclose(out["ieeg"].values, expected, rtol=1e-5, atol=1e-10)
        assert out["reference"].values.tolist() == [method] * 4 + [""] + [method] * 3
        assert out["bad"].identical(ds["bad"].assign_coords(reference=out["reference"]))
    named = Rereferencer(reference=["LB1", "LA3"]).fit_transform(ds)
    np.testing.assert_allclose(named["ieeg"].values[0], x[0] - x[[2, 5]].mean(axis=0), rtol=1e-5, atol=1e-10)
    assert named["reference"].values[0] == "LA3,LB1"


def test_types_are_averaged_apart() -> None:
    ds = recording().assign_coords(channel_type=("channel", ["seeg"] * 4 + ["ecg"] + ["ecog"] * 3))
    x = ds["ieeg"].values.astype(float)
    out = Rereferencer().fit_transform(ds)["ieeg"].values
    np.testing.assert_allclose(out[:4], x[:4] - x[:4].mean(axis=0), rtol=1e-5, atol=1e-10)
    np.testing.assert_allclose(out[5:], x[5:] - x[5:].mean(axis=0), rtol=1e-5, atol=1e-10)


def test_laplacian_and_the_ends_of_shafts() -> None:
    ds = recording()
    x = ds["ieeg"].values.astype(float)
    out = Rereferencer("laplacian").fit_transform(ds)
    np.testing.assert_allclose(out["ieeg"].values[1], x[1] - (x[0] + x[2]) / 2, rtol=1e-5, atol=1e-10)
    np.testing.assert_allclose(out["ieeg"].values[0], x[0] - x[1], rtol=1e-5, atol=1e-10)
    inner = Rereferencer("laplacian", ends="drop").fit_transform(ds)
    assert inner["channel"].values.tolist() == ["LA2", "LA3", "ECG", "LB2"]
    with pytest.warns(NeuroalignWarning, match="leaves out LA2 "):
        gap = Rereferencer("laplacian", ends="drop").fit_transform(recording(bad="LA3"))
    assert gap["channel"].values.tolist() == ["LA3", "ECG", "LB2"]  # LA3 is bad, but has two good neighbours


def test_gaps_and_bad_contacts() -> None:
    gappy = recording("LA1 LA2 LA4 LA5")
    assert Rereferencer("bipolar").fit_transform(gappy)["channel"].values.tolist() == ["LA1-LA2", "LA4-LA5"]
    over = Rereferencer("bipolar", max_gap=1).fit_transform(gappy)
    assert over["channel"].values.tolist() == ["LA1-LA2", "LA2-LA4", "LA4-LA5"]
    marked = recording("LA1 LA2 LA3 LA4", bad="LA2")
    with pytest.warns(NeuroalignWarning, match=r"LA1-LA2 \(bad contact\), LA2-LA3 \(bad contact\), LA1 \(no good"):
        out = Rereferencer("bipolar").fit_transform(marked)
    assert out["channel"].values.tolist() == ["LA3-LA4"]
    assert "LA1-LA2" in schema.history(out)["log"][-1]
    with pytest.warns(NeuroalignWarning, match="LA1-LA2"):
        jump = Rereferencer("bipolar", max_gap=1).fit_transform(marked)
    assert jump["channel"].values.tolist() == ["LA1-LA3", "LA3-LA4"]
    kept = Rereferencer("bipolar", keep_bad=True).fit_transform(marked)
    assert kept["bad"].values.tolist() == [True, True, False]
    lap = Rereferencer("laplacian").fit(recording("LA1 LA2 LA4 LA5"))
    np.testing.assert_array_equal(lap.matrix_.toarray()[1], [-1, 1, 0, 0])
    wide = Rereferencer("laplacian", max_gap=1).fit(recording("LA1 LA2 LA4 LA5"))
    np.testing.assert_array_equal(wide.matrix_.toarray()[1], [-0.5, 1, -0.5, 0])


def test_order_in_the_file_does_not_matter() -> None:
    ds = recording()
    mixed = ds.isel(channel=[3, 6, 0, 4, 2, 7, 1, 5])
    for method in METHODS:
        a, b = (Rereferencer(method).fit_transform(x)["ieeg"] for x in (ds, mixed))
        xr.testing.assert_allclose(a, b.sel(channel=a["channel"]), rtol=1e-5)


# Against others


def test_equal_to_mne(real_data: Callable[[str], Path]) -> None:
    mne = pytest.importorskip("mne")
    raw = mne.io.read_raw_edf(real_data("ieeg-mne-misc") / "sample_seeg.edf", preload=True, verbose="error")
    raw.set_channel_types(
        {n: "ecg" if n.startswith("EKG") else "misc" if n.startswith("DC") else "seeg" for n in raw.ch_names},
        verbose="error",
    )
    raw.info["bads"] = ["L'3", "X'10"]
    shaft = [n.rstrip("0123456789") for n in raw.ch_names]
    ds = schema.sensors(
        raw.get_data(),
        modality="ieeg",
        sfreq=1000.0,
        channel=raw.ch_names,
        channel_type=raw.get_channel_types(),
        units="V",
        coords={
            "shaft": shaft,
            "contact": [float(n[len(s) :]) for n, s in zip(raw.ch_names, shaft, strict=True)],
            "bad": [n in raw.info["bads"] for n in raw.ch_names],
        },
    )
    good = ~ds["bad"].values  # bad channels keep their reference in MNE
    theirs = raw.copy().set_eeg_reference("average", ch_type="seeg", verbose="error").get_data()
    ours = Rereferencer().fit_transform(ds)["ieeg"].values
    np.testing.assert_allclose(ours[good], theirs[good], rtol=1e-9, atol=1e-15)
    theirs = raw.copy().set_eeg_reference(["G'1", "G'2"], ch_type="seeg", verbose="error").get_data()
    ours = Rereferencer(reference=["G'1", "G'2"]).fit_transform(ds)["ieeg"].values
    np.testing.assert_allclose(ours[good], theirs[good], rtol=1e-9, atol=1e-15)
    with pytest.warns(NeuroalignWarning, match="L'2-L'3"):
        pairs = Rereferencer("bipolar").fit_transform(ds)
    pairs = pairs.isel(channel=pairs["anode"].values != "")
    assert pairs.sizes["channel"] == 88 - 6 - 4  # six shafts; each bad contact takes two pairs
    anode, cathode = pairs["anode"].values.tolist(), pairs["cathode"].values.tolist()
    theirs = mne.set_bipolar_reference(raw, anode, cathode, verbose="error").get_data(pairs["channel"].values.tolist())
    np.testing.assert_allclose(pairs["ieeg"].values, theirs, rtol=1e-9, atol=1e-15)


def test_mne_is_told(real_data: Callable[[str], Path]) -> None:
    mne = pytest.importorskip("mne")
    from neuroalign.convert import from_mne, to_mne

    path = real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif"
    raw = mne.io.read_raw_fif(path, preload=True, verbose="error").pick(["meg", "eeg"])
    ours = to_mne(Rereferencer().fit_transform(from_mne(raw)))
    theirs = raw.copy().set_eeg_reference("average", verbose="error")
    good = mne.pick_types(raw.info, meg=True, eeg=True)
    scale = np.abs(theirs.get_data(good)).max(axis=1, keepdims=True)
    np.testing.assert_allclose(ours.get_data(good) / scale, theirs.get_data(good) / scale, atol=2e-6)
    assert ours.info["custom_ref_applied"] == theirs.info["custom_ref_applied"]
    assert ours.info["projs"] == theirs.info["projs"] == []
    assert ours.info["bads"] == theirs.info["bads"]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), method=st.sampled_from(METHODS), gap=st.integers(0, 2))
def test_blocks_and_parts_equal_the_dense_matrix(data: st.DataObject, method: str, gap: int) -> None:
    contacts = data.draw(st.lists(st.integers(1, 9), min_size=4, max_size=7, unique=True))
    bad = data.draw(st.sets(st.sampled_from(contacts), max_size=1))
    ds = recording(
        " ".join([*(f"A{n}" for n in contacts), "ECG", "B1", "B2", "B3"]), bad=" ".join(f"A{n}" for n in bad)
    )
    options = {"max_gap": gap} if method in ("bipolar", "laplacian") else {}
    model = Rereferencer(method, **options).fit(ds)
    matrix = model.matrix_.toarray()
    model.left_out_ = []  # what is left out is the subject of other tests
    expected = matrix @ ds["ieeg"].values.astype(float)
    out = model.transform(ds)
    np.testing.assert_allclose(out["ieeg"].values, expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(reference_matrix(out).values, matrix, atol=1e-15)
    for name in (f"A{n}" for n in bad):  # a bad contact goes nowhere but into its own output
        column = matrix[:, ds["channel"].values.tolist().index(name)]
        assert set(np.flatnonzero(column)) <= set(np.flatnonzero(out["channel"].values == name))


@pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
@pytest.mark.parametrize(
    ("name", "options", "pairs"),
    [
        ("ieeg-mne-misc/sample_seeg.edf", {}, 82),
        ("ieeg-naplib/tiny_test.edf", {"channel_type": "ecog"}, None),
        ("ieeg-mne-misc/sample_ecog.edf", {"channel_type": "ecog"}, None),
        ("ieeg-mne-misc/sample_ecog_ieeg.fif", {}, None),
    ],
)
def test_real_intracranial_files(
    name: str, options: dict[str, str], pairs: int | None, real_data: Callable[[str], Path]
) -> None:
    from neuroalign.loaders import read_ieeg

    ds = read_ieeg(real_data(name.split("/")[0]) / name.split("/")[1], **options)
    assert not Rereferencer().fit_transform(ds)["ieeg"].variable._in_memory
    for method in ("average", "shaft_average"):
        model = Rereferencer(method).fit(ds)
        out = model.transform(ds)
        dense = model.matrix_.toarray() @ ds["ieeg"].values.astype(float)
        np.testing.assert_allclose(out["ieeg"].values, dense, atol=1e-6 * np.abs(dense).max())
        schema.validate(out, "ieeg")
    if pairs is None:  # a grid among them
        with pytest.raises(SchemaError, match="grid"):
            Rereferencer("bipolar").fit(ds)
        return
    out = Rereferencer("bipolar").fit_transform(ds)
    assert (out["anode"].values != "").sum() == pairs
    schema.validate(out, "ieeg")


# Lazy recordings


class Spy(BackendArray):
    """Remembers what was read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.reads = values, values.shape, values.dtype, []

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        out = self.values[np.ix_(*(np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True)))]
        self.reads.append(out.shape)
        return out


def lazy(ds: xr.Dataset) -> tuple[xr.Dataset, Spy]:
    spy = Spy(ds["ieeg"].values)
    variable = xr.Variable(ds["ieeg"].dims, indexing.LazilyIndexedArray(spy), ds["ieeg"].attrs)
    return ds.assign(ieeg=variable), spy


@pytest.mark.parametrize("method", METHODS)
def test_lazy_recordings_stay_lazy(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = recording()
    whole = Rereferencer(method).fit_transform(ds)
    source, spy = lazy(ds)
    out = Rereferencer(method).fit_transform(source)
    assert not spy.reads
    assert not out["ieeg"].variable._in_memory
    np.testing.assert_array_equal(out["ieeg"][1, 20:30].values, whole["ieeg"].values[1, 20:30])
    assert spy.reads[-1][1] == 10
    if method in ("bipolar", "laplacian"):
        assert spy.reads[-1][0] <= 3
    np.testing.assert_array_equal(out["ieeg"][[4, 0]][:, ::7].values, whole["ieeg"].values[[4, 0]][:, ::7])
    spy.reads.clear()
    monkeypatch.setattr("neuroalign.preprocess._channel_map._BLOCK", 8 * 64 * 8)
    np.testing.assert_array_equal(out["ieeg"].values, whole["ieeg"].values)
    assert len(spy.reads) >= 3  # in blocks
    assert sum(n for _, n in spy.reads) == 200


def test_dask_stays_dask() -> None:
    pytest.importorskip("dask")
    ds = recording()
    out = Rereferencer("bipolar").fit_transform(ds.chunk({"time": 60}))
    assert out["ieeg"].chunksizes["time"] == (60, 60, 60, 20)
    xr.testing.assert_equal(out["ieeg"].compute(), Rereferencer("bipolar").fit_transform(ds)["ieeg"])


def test_epochs_and_arrays() -> None:
    ds = recording()
    trials = xr.concat([ds["ieeg"], 2 * ds["ieeg"], -ds["ieeg"]], dim="trial")
    model = Rereferencer("bipolar").fit(ds)
    one, many = model.transform(ds["ieeg"]), model.transform(trials)
    assert many.dims == ("trial", "channel", "time")
    np.testing.assert_allclose(many.values[1], 2 * one.values, rtol=1e-5)
    turned = model.transform(trials.transpose("time", "channel", "trial"))
    np.testing.assert_array_equal(turned.transpose(*many.dims).values, many.values)
    x = np.random.default_rng(0).normal(size=(50, 4))
    np.testing.assert_allclose(Rereferencer().fit_transform(x), x - x.mean(axis=1, keepdims=True), atol=1e-12)


def test_nan_does_not_spread() -> None:
    ds = recording(bad="LA2")
    holey = ds.assign(ieeg=ds["ieeg"].where(ds["channel"] != "LA2"))
    out = Rereferencer("average").fit_transform(holey)
    assert np.isnan(out["ieeg"].sel(channel="LA2")).all()
    assert np.isfinite(out["ieeg"].drop_sel(channel="LA2")).all()
    gap = ds["time"].values > 2
    unrecorded = ds.assign(ieeg=ds["ieeg"].where(~xr.DataArray(gap, dims="time")))
    with pytest.raises(SchemaError, match=r"LA1.*LA3"):
        Rereferencer("average").fit_transform(unrecorded)
    out = Rereferencer("average").fit_transform(unrecorded.assign_coords(valid=("time", ~gap)))
    np.testing.assert_array_equal(np.isnan(out["ieeg"].values).all(axis=0), gap)
    source, _ = lazy(ds.assign(ieeg=ds["ieeg"].where(ds["channel"] != "LB1")))
    late = Rereferencer("average").fit_transform(source)
    with pytest.raises(SchemaError, match="LB1"):
        late.load()


# What is kept


@pytest.mark.parametrize("method", METHODS)
def test_the_matrix_survives_the_store(method: str, tmp_path: Path) -> None:
    ds = recording()
    model = Rereferencer(method).fit(ds)
    out = model.transform(ds)
    storage.save(out, tmp_path / "out.zarr")
    opened = storage.open(tmp_path / "out.zarr")
    matrix = reference_matrix(opened)
    assert matrix["channel"].values.tolist() == out["channel"].values.tolist()
    assert matrix["channel_in"].values.tolist() == ds["channel"].values.tolist()
    np.testing.assert_allclose(matrix.values, model.matrix_.toarray(), atol=1e-15)
    step = schema.history(opened)["steps"][-1]
    assert (step["step"], step["method"]) == ("Rereferencer", method)
    with pytest.raises(SchemaError, match="was not re-referenced"):
        reference_matrix(ds)


def test_an_average_stays_small() -> None:
    ds = recording(" ".join(f"L{s}{n}" for s in "ABCDEFGHIJKLMNOP" for n in range(1, 17)), n_times=10)
    out = Rereferencer().fit_transform(ds)
    assert len(out.attrs["neuro_steps"][-1]) < 30_000
    assert reference_matrix(out).shape == (256, 256)


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_cloned(method: str, tmp_path: Path) -> None:
    ds = recording()
    model = clone(Rereferencer(method)).fit(ds)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.get_params() == model.get_params()
    xr.testing.assert_identical(again.transform(ds)["ieeg"], model.transform(ds)["ieeg"])
    np.testing.assert_array_equal(again.matrix_.toarray(), model.matrix_.toarray())


@pytest.mark.parametrize("what", ["column", "label", "bad", "cathode"])
def test_a_forged_model_is_refused(what: str, tmp_path: Path) -> None:
    from neuroalign.protocol._save import _digest

    model = Rereferencer("bipolar").fit(recording())
    if what == "bad":
        model.bad_ = model.bad_[:-1]
    elif what == "cathode":
        model.cathode_[0] = 99
    model.save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    text = json.loads(file.read_text())
    if what == "column":
        content = json.loads(text["fitted"]["channel_map_"])
        content["select"]["column"][0] = 99
        text["fitted"]["channel_map_"] = json.dumps(content)
    elif what == "label":
        text["fitted"]["reference_"].pop()
    file.write_text(json.dumps(text | {"sha256_json": _digest(text)}))
    with pytest.raises(IntegrityError, match="damaged"):
        load_model(tmp_path / "model")


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "csd"}, "Unknown reference"),
        ({"method": "bipolar", "reference": ["LA1"]}, "means nothing"),
        ({"method": "average", "max_gap": 1}, "means nothing"),
        ({"method": "laplacian", "keep_bad": True}, "means nothing"),
        ({"method": "bipolar", "ends": "drop"}, "means nothing"),
        ({"method": "bipolar", "max_gap": -1}, "number of contacts"),
        ({"method": "laplacian", "ends": "mirror"}, "ends of a shaft"),
        ({"reference": ["XX"]}, "not in the recording"),
        ({"reference": []}, "not in the recording"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rereferencer(**options).fit(recording())


def test_what_the_channels_do_not_tell() -> None:
    ds = recording()
    plain = ds.drop_vars(["shaft", "contact", "tissue"])
    for method in ("bipolar", "laplacian", "shaft_average"):
        with pytest.raises(SchemaError, match=r"assign_coords\(shaft="):
            Rereferencer(method).fit(plain)
    with pytest.raises(SchemaError, match="white matter"):
        Rereferencer("white_matter").fit(plain)
    with pytest.raises(SchemaError, match="marked as bad"):
        Rereferencer(reference=["LA2"]).fit(recording(bad="LA2"))
    with pytest.raises(SchemaError, match="No good channel"):
        Rereferencer("white_matter").fit(recording(bad="LA3 LB3"))
    with pytest.raises(SchemaError, match="no channel to re-reference"):
        Rereferencer().fit(ds.assign_coords(channel_type=("channel", ["misc"] * 8)))
    with pytest.raises(SchemaError, match="differences of two contacts"):
        Rereferencer().fit(Rereferencer("bipolar").fit_transform(ds))
    with pytest.raises(SchemaError, match="comes twice"):
        Rereferencer("bipolar").fit(ds.assign_coords(contact=("channel", [1.0, 1, 3, 4, np.nan, 1, 2, 3])))
    with pytest.raises(SchemaError, match="No channel is left"):
        Rereferencer("bipolar").fit(recording("LA1 LA3 LA5"))
    with pytest.raises(SchemaError, match="different units"):
        Rereferencer().fit(ds.assign_coords(units=("channel", ["V"] * 7 + ["1"])))
    with pytest.raises(SchemaError, match="channels over time"):
        Rereferencer().fit(xr.DataArray(np.ones((3, 4)), dims=("voxel", "time")))
    with pytest.raises(SchemaError, match="Not a recording"):
        Rereferencer().fit(xr.Dataset({"x": ("time", np.ones(9))}))


def test_grids_ask_for_their_rows() -> None:
    ds = recording(" ".join(f"G{n}" for n in range(1, 17)))
    ds = ds.assign_coords(channel_type=("channel", ["ecog"] * 16))
    for method in ("bipolar", "laplacian"):
        with pytest.raises(SchemaError, match=r"16 contacts on G[\s\S]*shaft="):
            Rereferencer(method).fit(ds)
    Rereferencer("shaft_average").fit(ds)
    rows = ds.assign_coords(shaft=("channel", [f"row {n // 4 + 1}" for n in range(16)]))
    out = Rereferencer("bipolar").fit_transform(rows)
    assert "G4-G5" not in out["channel"].values
    assert out.sizes["channel"] == 12
    assert Rereferencer("bipolar").fit_transform(ds.isel(channel=slice(8))).sizes["channel"] == 7


def test_other_recordings_of_the_same_channels() -> None:
    model = Rereferencer().fit(recording())
    with pytest.raises(AlignmentError, match="channel"):
        model.transform(recording().isel(channel=[1, 0, 2, 3, 4, 5, 6, 7]))
    with pytest.raises(SchemaError, match="were not at fit"):
        model.transform(recording(bad="LB1"))
    Rereferencer().fit(recording(bad="LB1")).transform(recording())


def test_runs_of_a_tree_have_references_of_their_own() -> None:
    first, second = recording(bad="LB1"), recording("RA1 RA2 RA3", seed=1)
    tree = xr.DataTree.from_dict({"/sub-01/run-1": first, "/sub-02/run-1": second, "/notes": xr.Dataset()})
    step = Rereferencer("shaft_average").fit(tree)
    out = step.transform(tree)
    xr.testing.assert_identical(out["sub-01/run-1"].to_dataset(), step.transform(first))
    xr.testing.assert_identical(out["sub-02/run-1"].to_dataset(), Rereferencer("shaft_average").fit_transform(second))
    with pytest.raises(AlignmentError, match="no recording of sensors"):
        step.fit(xr.DataTree.from_dict({"/notes": xr.Dataset()}))
