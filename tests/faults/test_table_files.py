"""Cut, flipped and lying tables (rows 7 and 8 of the faults, and the invariant of every reader)."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError, SchemaError
from neuroalign.loaders.table import read_table

VALUES = np.random.default_rng(0).normal(size=(30, 8))


def _buffer(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


FILES: dict[str, bytes] = {
    "x.npy": _buffer(lambda b: np.save(b, VALUES)),
    "x.npz": _buffer(lambda b: np.savez(b, x=VALUES)),
    "y.npz": _buffer(lambda b: np.savez_compressed(b, x=VALUES, ids=np.arange(30).astype(str))),
    "x.mat": _buffer(lambda b: savemat(b, {"x": VALUES})),
    "y.mat": _buffer(lambda b: savemat(b, {"x": VALUES}, do_compression=True)),
}
CHECKED = ("x.npz", "y.npz", "y.mat")  # formats with a checksum over the values


def read(path: Path) -> np.ndarray:
    return read_table(path, dims=("stimulus", "unit")).values


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from([*FILES]), part=st.floats(0, 1, exclude_max=True))
def test_cut_files_are_refused(tmp_path_factory: pytest.TempPathFactory, name: str, part: float) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(FILES[name][: int(part * len(FILES[name]))])
    with pytest.raises(NeuroalignError) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", CHECKED)
def test_no_flipped_bit_is_silent_where_there_is_a_checksum(tmp_path: Path, name: str) -> None:
    content, path, silent = FILES[name], tmp_path / name, 0
    for bit in np.random.default_rng(1).choice(8 * len(content), 200, replace=False).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with contextlib.suppress(NeuroalignError):
            silent += not np.array_equal(read(path), VALUES)
    assert silent == 0


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from([*FILES]), byte=st.integers(0, 200), mask=st.integers(1, 255))
def test_damaged_headers_give_errors_of_ours_or_arrays(
    tmp_path_factory: pytest.TempPathFactory, name: str, byte: int, mask: int
) -> None:
    damaged = bytearray(FILES[name])
    damaged[byte] ^= mask
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(damaged)
    with contextlib.suppress(NeuroalignError):
        read(path)


def test_lying_npy_header(tmp_path: Path) -> None:
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + "\n"
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\0" * 800)
    with pytest.raises(IntegrityError, match="8000000000"):
        read(path)


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(_buffer(lambda b: np.save(b, np.zeros((1, 1)))))
        for _ in range(40):
            member.write(b"\0" * (1 << 20))
    with pytest.raises(ConfigError, match="max_bytes"):
        read_table(path, dims=("stimulus", "unit"), max_bytes=1 << 20)
    with pytest.raises(IntegrityError):
        read(path)


def test_mat_bomb(tmp_path: Path) -> None:
    element = zlib.compress(struct.pack("<II", 14, 64 << 20) + b"\0" * (64 << 20))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    (tmp_path / "x.mat").write_bytes(head + struct.pack("<II", 15, len(element)) + element)
    with pytest.raises(IntegrityError):  # its structure gives it away before it is unpacked
        read(tmp_path / "x.mat")
    savemat(tmp_path / "y.mat", {"x": np.zeros((1 << 10, 1 << 12))}, do_compression=True)
    with pytest.raises(ConfigError, match="max_bytes"):
        read_table(tmp_path / "y.mat", dims=("stimulus", "unit"), max_bytes=1 << 20)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("id,a,b\ncat,1,2\ndog,3\n", 3),
        ("id,a,b\ncat,1,2\ndog,3,4,5\n", 3),
        ("id,a,b\ncat,1,2\n\ndog,x,4\n", 4),
        ('id,a,b\ncat,"1,5",2\n', 2),
        ("id,a,b\ncat,1_000,2\n", 2),
        ('id,a,b\ncat,1,2\n"dog,3,4\n', 3),
        ('id,a,b\ncat,1,"2"x\n', 2),
    ],
)
def test_lines_of_text_tables_are_named(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(SchemaError, match=f"line {line}"):
        read_table(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"id,a\n", b"id\ncat\n", b"\xff\xfe\x00", b"id,a\ncat,\xe9\n"])
def test_empty_and_undecodable_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(NeuroalignError):
        read_table(tmp_path / "x.csv")


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300), suffix=st.sampled_from(["npy", "npz", "mat", "csv", "tsv", "parquet"]))
def test_any_bytes_give_an_array_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz.{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(NeuroalignError):
        read(path)


@pytest.mark.parametrize("value", [1 + 2j, np.datetime64("2020-01-01")])
def test_other_kinds_of_numbers_are_refused(tmp_path: Path, value: object) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 2), value))
    with pytest.raises(SchemaError):
        read(tmp_path / "x.npy")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for name in ("x.npy", "x.csv", "x.zarr"):
        with pytest.raises(IntegrityError, match="no such"):
            read_table(tmp_path / name)
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(IntegrityError):
        read_table(tmp_path / "x.zarr")
    (tmp_path / "x.xlsx").touch()
    with pytest.raises(ConfigError, match="Unknown kind"):
        read_table(tmp_path / "x.xlsx")
