"""Plain files read directly against the same files read by MNE."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.convert import recording_events
from neuroalign.errors import IntegrityError, NeuroalignWarning
from neuroalign.loaders import _direct, read_eeg, read_ieeg, read_meg
from neuroalign.loaders._lazy import SensorArray

_READERS = {"eeg": read_eeg, "ieeg": read_ieeg, "meg": read_meg}
_TINY = "eeg-formats/tiny_bids/sub-01/ses-eeg/eeg/sub-01_ses-eeg_task-rest_eeg.vhdr"
#: Files, the variable, and whether they are plain.
REAL = {
    "eeg-formats/test.vhdr": ("eeg", True),
    _TINY: ("eeg", True),
    "eeg-formats/test.edf": ("eeg", True),
    "eeg-formats/test_edf_stim_channel.edf": ("eeg", True),
    "eeg-formats/MB0400FU.EDF": ("eeg", False),  # EDF+D
    "eeg-formats/test.bdf": ("eeg", True),
    "ieeg-mne-misc/sample_ecog.edf": ("ieeg", True),
    "ieeg-mne-misc/sample_seeg.edf": ("ieeg", True),
    "ieeg-naplib/tiny_test.edf": ("ieeg", True),
    "ieeg-mne-misc/sample_ecog_ieeg.fif": ("ieeg", True),
    "meg-ctf-kit-bti/bti/exported4D_linux_raw.fif": ("meg", True),
    "meg-ctf-kit-bti/ctf/test_ctf_comp_raw.fif": ("meg", False),  # compensated
    "meg-mne-audvis/sample_audvis_trunc_raw_sss.fif": ("meg", True),
    "eeglab-visattention-32ch/eeglab_data.set": ("eeg", True),
}
PLAIN = [name for name, (_, plain) in REAL.items() if plain]


def read(path: Path, modality: str = "eeg", **options) -> xr.DataArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        return _READERS[modality](path, **options)[modality]


def lazy_array(values: xr.DataArray) -> SensorArray:
    found = values.variable._data
    while not isinstance(found, SensorArray):
        found = found.array
    return found


def slow_twin(array: SensorArray) -> SensorArray:
    """The same values through MNE."""
    return SensorArray(array.source, array.shape, picks=array.picks, scale=array.scale, gaps=array.gaps)


def both_ways(array: SensorArray) -> tuple[np.ndarray, np.ndarray]:
    every = [np.arange(n) for n in array.shape]
    return array._values(*every), slow_twin(array)._values(*every)


def of_mne(values: xr.DataArray, path: Path) -> np.ndarray:
    raw = mne.io.read_raw(path, verbose="ERROR")
    scale = np.reshape(lazy_array(values).scale, (-1, 1))
    expected = raw.get_data(picks=[raw.ch_names.index(name) for name in values["channel"].values], verbose="ERROR")
    return (expected.astype(np.float32) * scale).astype(np.float32)


@pytest.fixture(scope="module")
def opened(real_data):
    """Lazy arrays of all plain real files, and what MNE gives for them."""
    found = {}
    for name in PLAIN:
        path = real_data(name.split("/")[0]) / name.partition("/")[2]
        values = read(path, REAL[name][0])
        found[name] = (lazy_array(values), of_mne(values, path))
    return found


@pytest.mark.parametrize("name", REAL)
def test_real_files_equal_mne(real_data, name):
    modality, plain = REAL[name]
    path = real_data(name.split("/")[0]) / name.partition("/")[2]
    values = read(path, modality)
    array = lazy_array(values)
    assert (array.layout is not None) == plain
    if plain:
        assert array.layout.end(len(mne.io.read_raw(path, verbose="ERROR").ch_names)) <= os.path.getsize(
            array.layout.path
        )
    fast, slow = both_ways(array)
    assert_array_equal(fast, slow)
    assert_array_equal(fast, of_mne(values, path))
    assert_array_equal(values.values, fast)
    assert fast.dtype == np.float32


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_choice_of_real_files_equals_mne(opened, name, data):
    array, expected = opened[name]
    n, m = array.shape
    rows = data.draw(st.lists(st.integers(-n, n - 1), max_size=8))
    if data.draw(st.booleans()):
        start, stop = sorted((data.draw(st.integers(0, m)), data.draw(st.integers(0, m))))
        times: object = slice(start, stop, data.draw(st.sampled_from([None, 1, 2, 7, 500])))
    else:
        times = np.array(data.draw(st.lists(st.integers(0, m - 1), max_size=8)), dtype=int)
    rows = np.array(rows, dtype=int)
    values = array._read((rows, times))
    assert_array_equal(values, expected[rows][:, times])


@pytest.mark.parametrize("name", PLAIN)
def test_what_travels_is_small(opened, name):
    array, _ = opened[name]
    sent = pickle.dumps(array)
    assert len(sent) < 600 + 30 * array.shape[0]  # three numbers a channel, not its samples
    back = pickle.loads(sent)
    assert hash(back.layout) == hash(array.layout)
    assert_array_equal(back._read((slice(0, 2), slice(5, 9))), array._read((slice(0, 2), slice(5, 9))))


def test_dask_moves_no_values(real_data):
    dask = pytest.importorskip("dask")
    values = read(real_data("eeg-formats") / "test.vhdr")
    chunked = values.chunk(time=1000)
    graph = chunked.data.__dask_graph__()
    assert len(pickle.dumps(dict(graph))) < 64_000  # the values take 1 MB
    with dask.config.set(scheduler="synchronous"):
        assert_array_equal(chunked.values, values.values)
        assert_allclose(chunked.std("time").values, values.std("time").values, rtol=1e-5)


# --- files made here: every layout, with blocks of every size against pieces of every size


def numbers(n_channels: int, n_times: int, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    if dtype.endswith("f4"):
        return (rng.normal(size=(n_channels, n_times)) * 50).astype(dtype)
    return rng.integers(-30000, 30000, size=(n_channels, n_times)).astype(dtype)


def brainvision(folder: Path, data: np.ndarray, kind: str, order: str = "MULTIPLEXED", **more: str) -> Path:
    lines = ["Brain Vision Data Exchange Header File Version 1.0", "[Common Infos]", "DataFile=a.eeg"]
    lines += ["DataFormat=BINARY", f"DataOrientation={order}", f"NumberOfChannels={len(data)}"]
    lines += ["SamplingInterval=1000", "[Binary Infos]", f"BinaryFormat={kind}"]
    lines += [f"{key}={value}" for key, value in more.items()] + ["[Channel Infos]"]
    lines += [f"Ch{i + 1}=E{i + 1},,{0.05 * (1 + i % 2)},µV" for i in range(len(data))]
    (folder / "a.vhdr").write_text("\n".join([*lines, ""]), encoding="latin-1")
    (data.T if order == "MULTIPLEXED" else data).ravel().tofile(folder / "a.eeg")
    return folder / "a.vhdr"


@pytest.fixture(params=[2**18, 200])
def piece(request, monkeypatch):
    """Pieces that hold many blocks, and pieces smaller than a block."""
    monkeypatch.setattr(_direct, "_PIECE", request.param)


@pytest.mark.parametrize("order", ["MULTIPLEXED", "VECTORIZED"])
@pytest.mark.parametrize(("kind", "dtype"), [("INT_16", "<i2"), ("INT_32", "<i4"), ("IEEE_FLOAT_32", "<f4")])
def test_brainvision(tmp_path, piece, kind, dtype, order):
    data = numbers(19, 3000, dtype)
    path = brainvision(tmp_path, data, kind, order)
    values = read(path)
    array = lazy_array(values)
    assert array.layout.by_sample == (order == "MULTIPLEXED")
    raw = mne.io.read_raw_brainvision(path, verbose="ERROR").get_data().astype(np.float32)
    for rows, times in [(slice(None), slice(None)), ([0, 18], slice(7, 2900)), ([4], slice(0, 3000, 400))]:
        got = array._read((np.array(rows) if isinstance(rows, list) else rows, times))
        assert_array_equal(got, raw[rows][:, times])
    assert_array_equal(read(path, channels=["E9", "E2"]).values, raw[[8, 1]])


def test_big_endian_brainvision_is_left_to_mne(tmp_path):
    path = brainvision(tmp_path, numbers(3, 500, "<i2"), "INT_16", UseBigEndianOrder="YES")
    assert lazy_array(read(path)).layout is None


@pytest.mark.parametrize(("form", "dtype"), [("single", ">f4"), ("double", ">f8"), ("int", ">i4"), ("short", ">i2")])
def test_fif(tmp_path, piece, form, dtype):
    raw = mne.io.RawArray(
        np.random.default_rng(0).normal(scale=2e-5, size=(5, 2345)),
        mne.create_info([f"E{i}" for i in range(5)], 250.0, "eeg"),
        first_samp=77,
        verbose="ERROR",
    )
    path = tmp_path / "a_raw.fif"
    raw.save(path, fmt=form, buffer_size_sec=1, verbose="ERROR")
    values = read(path)
    array = lazy_array(values)
    assert array.layout is not None
    assert array.layout.dtype == dtype
    expected = mne.io.read_raw_fif(path, verbose="ERROR").get_data().astype(np.float32)
    assert values.values.dtype == np.dtype("=f4")  # big-endian in the file, native here
    assert_array_equal(values.values, expected)
    assert_array_equal(array._read((np.array([3, 1]), slice(200, 2344, 3))), expected[[3, 1], 200:2344:3])


def saved(folder: Path, name: str = "a_raw.fif", change=None, **options) -> Path:
    info = mne.create_info(["E0", "E1", "E2"], 250.0, "eeg")
    values = np.random.default_rng(0).normal(scale=2e-5, size=(3, 5000))
    raw = mne.io.RawArray(values, info, verbose="ERROR")
    if change is not None:
        change(raw)
    raw.save(folder / name, buffer_size_sec=1, verbose="ERROR", **options)
    return folder / name


def referenced(raw: mne.io.BaseRaw) -> None:
    raw.set_eeg_reference(projection=True, verbose="ERROR").apply_proj(verbose="ERROR")


def with_pause(raw: mne.io.BaseRaw) -> None:
    raw.set_annotations(mne.Annotations([4.0], [6.0], ["BAD_ACQ_SKIP"]))


@pytest.mark.parametrize(
    ("name", "change", "options"),
    [
        ("a_raw.fif.gz", None, {}),
        ("a_raw.fif", referenced, {}),
        ("a_raw.fif", with_pause, {}),
    ],
)
def test_other_fif_files_are_left_to_mne(tmp_path, name, change, options):
    path = saved(tmp_path, name, change, **options)
    values = read(path)
    array = lazy_array(values)
    fast, slow = both_ways(array)
    assert_array_equal(fast, slow)
    expected = mne.io.read_raw_fif(path, verbose="ERROR").get_data().astype(np.float32)
    known = np.isfinite(fast)
    assert_array_equal(fast[known], expected[known])
    assert (array.layout is None) or change is with_pause


# --- EDF and BDF with annotation signals anywhere, and triggers


def edf(path: Path, counts: list[int], *, width: int = 2, plus: str = "", records: int = 4, status: str = ""):
    names = [("BDF" if width == 3 else "EDF") + " Annotations" if c < 0 else f"E{i}" for i, c in enumerate(counts)]
    if status:
        names[-1] = "Status"
    n, most = len(counts), 2 ** (8 * width - 1)
    low, high = [-100 - i for i in range(n)], [200 + i for i in range(n)]
    if status == "whole":
        low[-1], high[-1] = -most, most - 1
    fields = [
        (names, 16), ([""] * n, 80), (["uV" if c > 0 else "" for c in counts], 8), (low, 8),
        (high, 8), ([-most] * n, 8), ([most - 1] * n, 8), ([""] * n, 80),
        ([abs(c) for c in counts], 8), ([""] * n, 32),
    ]  # fmt: skip
    head = ("\xffBIOSEMI" if width == 3 else "0").ljust(8) + "X X X X".ljust(80) + "Startdate X X X X".ljust(80)
    head += "01.01.2000.00.00" + str(256 * (n + 1)).ljust(8) + plus.ljust(44) + str(records).ljust(8)
    head += "1".ljust(8) + str(n).ljust(4) + "".join(str(v).ljust(size) for cells, size in fields for v in cells)
    rng = np.random.default_rng(0)
    body = b""
    for k in range(records):
        for c in counts:
            mark = f"+{k}\x14\x14\0".encode()
            body += rng.bytes(c * width) if c > 0 else mark.ljust(-c * width, b"\0")
    path.write_bytes(head.encode("latin-1") + body)
    return path


@pytest.mark.parametrize(("width", "suffix"), [(2, ".edf"), (3, ".bdf")])
@pytest.mark.parametrize(
    ("counts", "plain"),
    [
        ([250] * 7, True),
        ([250] * 7 + [-40], True),
        ([-40] + [250] * 7, True),
        ([250, 250, -250, 250], True),
        ([250, 250, -40, 250], False),
        ([250, 250, 125], False),
    ],
)
def test_edf(tmp_path, piece, counts, plain, width, suffix):
    kind = "BDF+C" if width == 3 else "EDF+C"
    path = edf(tmp_path / f"a{suffix}", counts, width=width, plus=kind if min(counts) < 0 else "")
    values = read(path)
    array = lazy_array(values)
    assert (array.layout is not None) == plain
    expected = of_mne(values, path)
    assert_array_equal(values.values, expected)
    assert_array_equal(array._read((np.array([2, 0]), slice(3, 977, 5))), expected[[2, 0], 3:977:5])


@pytest.mark.parametrize(
    ("width", "suffix", "status", "plain"),
    [(2, ".edf", "whole", True), (2, ".edf", "scaled", False), (3, ".bdf", "whole", True), (3, ".bdf", "scaled", True)],
)
def test_triggers_are_numbers(tmp_path, width, suffix, status, plain):
    path = edf(tmp_path / f"a{suffix}", [100] * 4, width=width, status=status)
    values = read(path, events="none")
    assert values["channel_type"].values.tolist() == ["eeg"] * 3 + ["stim"]
    assert (lazy_array(values).layout is not None) == plain
    expected = of_mne(values, path)
    assert_array_equal(values.values, expected)
    assert values.values[3].min() >= 0
    assert values.values[3].max() < 2**17


def triggers(folder: Path) -> Path:
    """Two trigger channels; the numbers of one are too large for float32."""
    rng = np.random.default_rng(0)
    values = rng.normal(scale=2e-5, size=(4, 4000))
    values[1:3] = 0
    values[1, 500:520], values[1, 900:905], values[2, 3000:3100] = 3, 65535, 2**25 + 1
    info = mne.create_info(["E0", "T0", "T1", "E1"], 250.0, ["eeg", "stim", "stim", "eeg"])
    mne.io.RawArray(values, info, first_samp=33, verbose="ERROR").save(
        folder / "a_raw.fif", fmt="double", verbose="ERROR"
    )
    return folder / "a_raw.fif"


@pytest.mark.parametrize("events", ["auto", "stim"])
@pytest.mark.parametrize("name", ["test.bdf", "test.edf", None])
def test_events_of_triggers_equal_mne(real_data, tmp_path, name, events):
    path = triggers(tmp_path) if name is None else real_data("eeg-formats") / name
    expected = recording_events(mne.io.read_raw(path, verbose="ERROR"), events)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        ds = read_eeg(path, events=events)
    assert lazy_array(ds["eeg"]).layout is not None
    assert name is not None or expected["value"].tolist() == [3, 65535, 2**25 + 1]
    for column in expected.columns if len(expected) else []:
        assert_array_equal(ds[column].values, expected[column])


def test_discontinuous_edf_is_left_to_mne(tmp_path):
    path = edf(tmp_path / "a.edf", [250, 250, -40], plus="EDF+D")
    values = read(path)
    assert lazy_array(values).layout is None
    expected = of_mne(values, path)
    assert_array_equal(values.values, expected)


def test_values_that_mne_reads_otherwise_are_left_to_mne(tmp_path, monkeypatch):
    path = brainvision(tmp_path, numbers(3, 500, "<i2"), "INT_16")
    before = read(path).values
    monkeypatch.setattr("neuroalign.loaders._direct_formats._calibration", lambda raw: 3.0)
    values = read(path)
    assert lazy_array(values).layout is None
    assert_array_equal(values.values, before)


# --- damage after opening


@pytest.mark.parametrize("how", ["cut", "rewritten", "gone", "header"])
def test_a_file_that_changed_is_refused(tmp_path, how):
    path = brainvision(tmp_path, numbers(3, 5000, "<i2"), "INT_16")
    values = read(path)
    data = tmp_path / "a.eeg"
    if how == "cut":
        os.truncate(data, 600)
    elif how == "rewritten":
        data.write_bytes(data.read_bytes())
        os.utime(data, ns=(1, 1))
    elif how == "gone":
        data.unlink()
    else:
        path.write_text(path.read_text(encoding="latin-1") + "\n", encoding="latin-1")
    assert lazy_array(values).layout is not None
    with pytest.raises(IntegrityError, match="changed after it was opened"):
        values[:, :3].values  # noqa: B018


def test_a_file_cut_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = brainvision(tmp_path, numbers(3, 5000, "<i2"), "INT_16")
    values = read(path)
    os.truncate(tmp_path / "a.eeg", 600)
    monkeypatch.setattr("neuroalign.loaders._lazy.check_unchanged", lambda source: None)
    assert values[:, :100].shape == values[:, :100].values.shape
    with pytest.raises(IntegrityError, match="cut short") as caught:
        values[:, 50:200].values  # noqa: B018
    assert "a.eeg" in str(caught.value)
    assert "600" in str(caught.value)
    (tmp_path / "a.eeg").unlink()
    with pytest.raises(IntegrityError, match="cannot be opened again"):
        values[:, :3].values  # noqa: B018


def test_a_layout_beyond_the_end_of_the_file_is_not_used(tmp_path, monkeypatch):
    path = brainvision(tmp_path, numbers(3, 500, "<i2"), "INT_16")
    monkeypatch.setattr("neuroalign.loaders._direct_formats.binary_format", lambda path: ("<i4", True))
    assert lazy_array(read(path)).layout is None
