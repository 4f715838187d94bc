"""Cut and lying EEG, iEEG and MEG files: one typed error, or the original data."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuroalign.errors import IntegrityError, NeuroalignError, NeuroalignWarning, SchemaError
from neuroalign.loaders import read_covariance, read_eeg, read_ieeg, read_meg, read_source

PERSYST = "persyst/sub-pt1_ses-02_task-monitor_acq-ecog_run-01_clip2"
NIHON = tuple(f"MB0400FU{end}" for end in (".EEG", ".21E", ".PNT", ".LOG"))
BTI = {f"bti-{part}": f"bti/test_{part}_linux" for part in ("pdf", "config", "hs")}


def read_nihon(path: Path, **options: Any) -> xr.Dataset:
    return read_eeg(path.with_suffix(".EEG"), **options)


def read_bti(path: Path, **options: Any) -> xr.Dataset:
    return read_meg(path.with_name("test_pdf_linux"), **options)


def whole(reader: Callable[..., Any], path: Path, *, lazy: bool) -> xr.Dataset:
    out = reader(path)
    return out if isinstance(out, xr.Dataset) else out.to_dataset()


#: Set, file that is damaged, files it needs, reader.
FILES: dict[str, tuple[str, str, tuple[str, ...], Callable[..., xr.Dataset]]] = {
    "edf": ("eeg-formats", "test_edf_stim_channel.edf", (), read_eeg),
    "edf-plus": ("eeg-formats", "MB0400FU.EDF", (), read_eeg),
    "bdf": ("eeg-formats", "test.bdf", (), read_eeg),
    "brainvision-header": ("eeg-formats", "test.vhdr", ("test.eeg", "test.vmrk"), read_eeg),
    "eeglab-header": ("eeglab-visattention-32ch", "eeglab_data.set", ("eeglab_data.fdt",), read_eeg),
    "eeglab-data": ("eeglab-visattention-32ch", "eeglab_data.fdt", ("eeglab_data.set",), read_eeg),
    "fif-ctf": ("meg-ctf-kit-bti", "ctf/test_ctf_comp_raw.fif", (), read_meg),
    "fif-ieeg": ("ieeg-mne-misc", "sample_ecog_ieeg.fif", (), read_ieeg),
    "fif-with-directory": ("meg-ctf-kit-bti", "bti/exported4D_linux_raw.fif", (), read_meg),
    "fif-gz": ("meg-mne-audvis", "test-ave.fif.gz", (), read_meg),
    "kit": ("meg-ctf-kit-bti", "kit/test.sqd", (), read_meg),
    "kit-umd": ("meg-ctf-kit-bti", "kit/test_umd-raw.sqd", (), read_meg),
    "eeglab-epochs": (
        "eeglab-visattention-32ch", "eeglab_data_epochs_ica.fdt", ("eeglab_data_epochs_ica.set",), read_eeg,
    ),
    "cnt": ("eeg-formats", "scan41_short.cnt", (), partial(read_eeg, data_format="int16")),
    "egi": ("eeg-formats", "test_egi.raw", (), read_eeg),
    **{f"nihon{name[8:]}": ("eeg-formats", name, NIHON, read_nihon) for name in NIHON},
    "persyst-header": ("ieeg-mne-misc", f"{PERSYST}.lay", (f"{PERSYST}.dat",), partial(read_ieeg, channel_type="ecog")),
    "persyst-data": ("ieeg-mne-misc", f"{PERSYST}.dat", (f"{PERSYST}.lay",), partial(read_ieeg, channel_type="ecog")),
    **{name: ("meg-ctf-kit-bti", file, tuple(BTI.values()), read_bti) for name, file in BTI.items()},
    "fieldtrip": ("meg-mne-audvis", "fieldtrip_epoched_v7.mat", (), read_meg),
    "source": (
        "meg-mne-audvis", "sample_audvis_trunc-meg-lh.stc", ("sample_audvis_trunc-meg-rh.stc",),
        partial(whole, read_source),
    ),
    "covariance": ("meg-mne-audvis", "sample_audvis_trunc-cov.fif", (), partial(whole, read_covariance)),
}  # fmt: skip
SLOW = {"fif-gz", "fif-with-directory", "bti-hs"}
quick = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def damage(real_data, tmp_path):
    """Copy a recording; give a function that writes other bytes into it and reads it, and the original."""

    @functools.cache  # once for all examples of a property
    def prepare(name: str) -> tuple[bytes, Callable[..., xr.Dataset], xr.Dataset]:
        folder, file, others, reader = FILES[name]
        for other in others:
            shutil.copyfile(real_data(folder) / other, tmp_path / Path(other).name)
        data = (real_data(folder) / file).read_bytes()
        target = tmp_path / Path(file).name

        def read(content: bytes, **options: Any) -> xr.Dataset:
            target.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NeuroalignWarning)
                return reader(target, lazy=False, **options)

        return data, read, read(data)

    return prepare


def same(a: xr.Dataset, b: xr.Dataset) -> bool:
    (name,) = b.data_vars
    equal = a[name].shape == b[name].shape and np.array_equal(a[name].values, b[name].values)
    return equal and ("channel" not in a.coords or a["channel"].equals(b["channel"]))


def stems(name: str) -> set[str]:
    """How an error may name the recording: the file that is damaged, or one that it belongs to."""
    return {Path(file).stem for file in (FILES[name][1], *FILES[name][2])}


@pytest.mark.parametrize("name", FILES)
@quick
@given(data=st.data())
def test_a_cut_is_refused_or_harmless(damage, name, data):
    content, read, original = damage(name)
    at = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(1, 64).map(lambda n: len(content) - n)))
    try:
        ds = read(content[:at])
    except IntegrityError as error:
        assert any(stem in str(error) for stem in stems(name))  # noqa: PT017
    else:
        if name == "persyst-data" and len(ds["time"]) >= 847 * 0.88:
            return  # after the last comment, whole samples cannot be told from a shorter recording
        assert same(ds, original)


@pytest.mark.parametrize("name", sorted(set(FILES) - SLOW))
@quick
@given(data=st.data())
def test_wild_bytes_in_a_header_never_crash(damage, name, data):
    content, read, _ = damage(name)
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, min(len(content), 6000) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(damaged))
    except NeuroalignError as error:
        assert str(error)  # noqa: PT017


@quick
@given(data=st.data())
def test_brainvision_data_cut_inside_a_sample_or_before_a_marker(real_data, tmp_path, data):
    folder = real_data("eeg-formats")
    for name in ("test.vhdr", "test.vmrk"):
        shutil.copyfile(folder / name, tmp_path / name)
    content = (folder / "test.eeg").read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    (tmp_path / "test.eeg").write_bytes(content[:at])
    last_marker = 7630 * 64
    if at % 64 == 0 and at >= last_marker:
        return  # cannot be told from a shorter recording
    with pytest.raises(IntegrityError) as caught:
        read_eeg(tmp_path / "test.vhdr")
    assert str(at) in str(caught.value)
    assert "cut short" in str(caught.value)


def test_missing_parts_of_brainvision(real_data, tmp_path):
    folder = real_data("eeg-formats")
    shutil.copyfile(folder / "test.vhdr", tmp_path / "test.vhdr")
    with pytest.raises(IntegrityError, match="DataFile"):
        read_eeg(tmp_path / "test.vhdr")
    shutil.copyfile(folder / "test.eeg", tmp_path / "test.eeg")
    with pytest.raises(IntegrityError, match="MarkerFile"):
        read_eeg(tmp_path / "test.vhdr")


def test_data_file_outside_the_folder(real_data, tmp_path):
    text = (real_data("eeg-formats") / "test.vhdr").read_bytes()
    (tmp_path / "test.vhdr").write_bytes(text.replace(b"DataFile=test.eeg", b"DataFile=../test.eeg"))
    with pytest.raises(IntegrityError, match="beside the header"):
        read_eeg(tmp_path / "test.vhdr")


@pytest.mark.parametrize("name", ["somMDYO-18av.meg4", "somMDYO-18av.res4"])
@pytest.mark.parametrize("rest", [0.0, 0.3, 0.999])
def test_cut_ctf(real_data, tmp_path, name, rest):
    source = real_data("meg-ctf-kit-bti") / "somMDYO-18av.ds"
    target = tmp_path / source.name
    target.mkdir()
    for file in source.iterdir():
        shutil.copyfile(file, target / file.name)
    content = (source / name).read_bytes()
    (target / name).write_bytes(content[: int(rest * len(content))])
    with pytest.raises(IntegrityError, match="somMDYO"):
        read_meg(target)


EDF_FIELDS = {
    "no records": (236, b"-1      ", IntegrityError),
    "too many records": (236, b"99999999", IntegrityError),
    "too few records": (236, b"0       ", IntegrityError),
    "no signals": (252, b"0   ", IntegrityError),
    "too many signals": (252, b"9999", IntegrityError),
    "signals in words": (252, b"many", IntegrityError),
    "header size": (184, b"512     ", IntegrityError),
    "no duration": (244, b"0       ", IntegrityError),
    "endless": (244, b"inf     ", IntegrityError),
    "not a number": (244, b"nan     ", IntegrityError),
}


@pytest.mark.parametrize("case", EDF_FIELDS)
def test_edf_header_lies(real_data, tmp_path, case):
    at, value, error = EDF_FIELDS[case]
    data = bytearray((real_data("eeg-formats") / "test_edf_stim_channel.edf").read_bytes())
    data[at : at + len(value)] = value
    (tmp_path / "lie.edf").write_bytes(data)
    with pytest.raises(error, match=r"lie\.edf"):
        read_eeg(tmp_path / "lie.edf")


@pytest.mark.parametrize("offset", [104, 112, 120, 128, 216])
def test_edf_signal_lies(real_data, tmp_path, offset):
    """Physical and digital minimum and maximum, and samples in a record, of the second signal."""
    data = bytearray((real_data("eeg-formats") / "test_edf_stim_channel.edf").read_bytes())
    n, other = int(data[252:256]), {104: 112, 112: 104, 120: 128, 128: 120, 216: None}[offset]
    at = 256 + offset * n + 8
    data[at : at + 8] = b"-5      " if other is None else data[256 + other * n + 8 : 256 + other * n + 16]
    (tmp_path / "lie.edf").write_bytes(data)
    with pytest.raises(IntegrityError, match="EEG Fp2"):
        read_eeg(tmp_path / "lie.edf")


def test_allowed_truncation_says_so(real_data, tmp_path):
    data = (real_data("eeg-formats") / "MB0400FU.EDF").read_bytes()
    path = tmp_path / "cut.edf"
    path.write_bytes(data[: len(data) // 2])
    with pytest.warns(NeuroalignWarning, match=f"308512 bytes, got {len(data) // 2}"):
        ds = read_eeg(path, allow_truncated=True)
    whole = read_eeg(real_data("eeg-formats") / "MB0400FU.EDF")
    assert ds.attrs["truncated"] == 1
    assert 0 < ds.sizes["time"] < whole.sizes["time"]
    assert ds.sizes["time"] == 200 * int((len(data) // 2 - 6912) // ((len(data) - 6912) / 29))
    np.testing.assert_array_equal(ds["eeg"].values, whole["eeg"].values[:, : ds.sizes["time"]])
    assert any("cut" in note for note in ds.attrs["neuro_log"])


def test_allowed_truncation_of_brainvision(real_data, tmp_path):
    folder = real_data("eeg-formats")
    for name in ("test.vhdr", "test.vmrk"):
        shutil.copyfile(folder / name, tmp_path / name)
    (tmp_path / "test.eeg").write_bytes((folder / "test.eeg").read_bytes()[: 64 * 5000 + 7])
    with pytest.warns(NeuroalignWarning):
        ds = read_eeg(tmp_path / "test.vhdr", allow_truncated=True)
    assert ds.sizes["time"] == 5000
    assert ds.attrs["truncated"] == 1


def test_a_pause_in_edf_plus_is_refused(real_data, tmp_path):
    """Records 10 and later start three seconds late."""
    data = bytearray((real_data("eeg-formats") / "MB0400FU.EDF").read_bytes())
    n = int(data[252:256])
    counts = [int(data[256 + 216 * n + 8 * i : 264 + 216 * n + 8 * i]) for i in range(n)]
    record = 2 * sum(counts)
    for k in range(10, 29):
        at = 256 * (n + 1) + k * record + 2 * sum(counts[:-1])
        old = f"+{k}".encode()
        assert data[at : at + len(old)] == old
        text = bytes(data[at : at + 2 * counts[-1]]).replace(old, f"+{k + 3}".encode())
        data[at : at + 2 * counts[-1]] = text[: 2 * counts[-1]].ljust(2 * counts[-1], b"\0")
    (tmp_path / "pause.edf").write_bytes(data)
    with pytest.raises(IntegrityError, match="pauses"):
        read_eeg(tmp_path / "pause.edf")


def test_fif_header_lies(real_data, tmp_path):
    data = bytearray((real_data("meg-ctf-kit-bti") / "ctf" / "test_ctf_comp_raw.fif").read_bytes())
    at = data.index(struct.pack(">iii", 200, 3, 4))  # number of channels
    data[at + 16 : at + 20] = struct.pack(">i", 2**31 - 1)
    (tmp_path / "lie_raw.fif").write_bytes(data)
    with pytest.raises(IntegrityError):
        read_meg(tmp_path / "lie_raw.fif")


def test_not_the_format_of_the_name(tmp_path):
    names = ("x.edf", "x.bdf", "x_raw.fif", "x_raw.fif.gz", "x.set", "x.vhdr", "x.cnt", "x.raw", "x.eeg", "x.lay")
    for name in (*names, "x.nwb", "x.sqd"):
        (tmp_path / name).write_bytes(b"\x80\x04something else entirely" * 40)
        with pytest.raises(IntegrityError, match=name.split(".")[0]):
            (read_meg if name.endswith("sqd") else read_eeg)(tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(IntegrityError):
            (read_meg if name.endswith("sqd") else read_eeg)(tmp_path / name)


def test_gzip_bomb(tmp_path):
    import gzip

    head = struct.pack(">iiii", 100, 31, 20, 0) + b"\0" * 20 + struct.pack(">iiii", 300, 3, 2**31 - 1, 0)
    with gzip.open(tmp_path / "bomb_raw.fif.gz", "wb", compresslevel=9) as file:
        file.write(head + bytes(2**24))
    with pytest.raises(IntegrityError):
        read_meg(tmp_path / "bomb_raw.fif.gz")


LIES = """
import resource, sys
from neuroalign.loaders import read_eeg
from neuroalign.errors import NeuroalignError
import mne
mne.io.read_raw_edf, mne.io.read_raw_brainvision
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
for path in sys.argv[1:]:
    try:
        read_eeg(path, lazy=False)
    except NeuroalignError as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory limits are set through /proc and rlimit")
def test_lies_are_found_before_allocation(real_data, tmp_path):
    folder = real_data("eeg-formats")
    for name in ("test.eeg", "test.vmrk"):
        shutil.copyfile(folder / name, tmp_path / name)
    header = (folder / "test.vhdr").read_bytes()
    (tmp_path / "test.vhdr").write_bytes(header.replace(b"NumberOfChannels=32", b"NumberOfChannels=2147483648"))
    edf = bytearray((folder / "test_edf_stim_channel.edf").read_bytes())
    edf[236:244] = b"99999999"
    (tmp_path / "lie.edf").write_bytes(edf)
    run = subprocess.run(
        [sys.executable, "-c", LIES, tmp_path / "test.vhdr", tmp_path / "lie.edf"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert run.stdout.split() == ["IntegrityError", "IntegrityError"], run.stderr


def test_truncation_keeps_the_unit_check(real_data, tmp_path):
    """Nothing else is relaxed by allow_truncated."""
    data = bytearray((real_data("eeg-formats") / "test_edf_stim_channel.edf").read_bytes())
    n = int(data[252:256])
    data[256 + 96 * n : 264 + 96 * n] = b"        "
    (tmp_path / "unit.edf").write_bytes(data)
    with pytest.raises(SchemaError, match="units="):
        read_eeg(tmp_path / "unit.edf", allow_truncated=True)
