"""Cut, flipped, lying and mismatched NIfTI files (rows 3, 4, 7, 8, 18, 38 of the faults)."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError, SchemaError
from neuroalign.loaders._stream import inflater
from neuroalign.loaders.fmri import read_fmri

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
ROOT = Path(__file__).resolve().parents[2]


def image(shape: tuple[int, ...] = (6, 5, 4, 12), seed: int = 0) -> nib.Nifti1Image:
    rng = np.random.default_rng(seed)
    out = nib.Nifti1Image(rng.integers(0, 2000, shape).astype(np.int16), AFFINE)
    out.header.set_xyzt_units("mm", "sec")
    if len(shape) > 3:
        out.header["pixdim"][4] = 2.0
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    out = {}
    for suffix in (".nii", ".nii.gz"):
        nib.save(image(), folder / f"run{suffix}")
        out[suffix] = (folder / f"run{suffix}").read_bytes()
    return out


@pytest.fixture(params=["isal", "zlib"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Decompress with isal, and as if it were not installed."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    else:
        pytest.importorskip("isal")
    made = inflater()[0]
    assert (made is zlib.decompressobj) == (request.param == "zlib")
    return str(request.param)


READ: dict[str, Callable[[Path], object]] = {
    "lazy": lambda path: read_fmri(path)["bold"].load(),
    "eager": lambda path: read_fmri(path, lazy=False)["bold"],
    "mask": lambda path: read_fmri(path, mask=nib.Nifti1Image(np.ones((6, 5, 4), "u1"), AFFINE))["bold"],
    "atlas": lambda path: read_fmri(path, atlas=nib.Nifti1Image(np.ones((6, 5, 4), "u1"), AFFINE))["bold"],
}


@settings(max_examples=60, deadline=None)
@given(
    part=st.floats(0, 1, exclude_max=True), suffix=st.sampled_from([".nii", ".nii.gz"]), way=st.sampled_from([*READ])
)
def test_cut_files_are_refused(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], part: float, suffix: str, way: str
) -> None:
    content = whole[suffix]
    path = tmp_path_factory.getbasetemp() / f"cut{suffix}"
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(IntegrityError) as caught:
        READ[way](path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("way", [*READ])
@pytest.mark.usefixtures("engine")
def test_no_flipped_bit_of_a_compressed_file_is_silent(tmp_path: Path, whole: dict[str, bytes], way: str) -> None:
    content = whole[".nii.gz"]
    path = tmp_path / "run.nii.gz"
    path.write_bytes(content)
    expected = np.asarray(READ[way](path))
    rng = np.random.default_rng(0)
    silent = 0
    for bit in rng.choice(8 * len(content), 200, replace=False).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            silent += not np.array_equal(np.asarray(READ[way](path)), expected)
        except NeuroalignError:
            continue
    assert silent == 0


@pytest.mark.usefixtures("engine")
def test_every_bit_of_the_gzip_header_and_trailer(tmp_path: Path, whole: dict[str, bytes]) -> None:
    content = whole[".nii.gz"]
    path = tmp_path / "run.nii.gz"
    path.write_bytes(content)
    expected = read_fmri(path, lazy=False)["bold"].values
    for bit in [*range(8 * 24), *range(8 * (len(content) - 12), 8 * len(content))]:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            values = read_fmri(path, lazy=False)["bold"].values
        except IntegrityError:
            continue
        np.testing.assert_array_equal(values, expected)  # times and names in the gzip header do not matter


@settings(max_examples=150, deadline=None)
@given(byte=st.integers(0, 351), bit=st.integers(0, 7), way=st.sampled_from(["lazy", "eager", "mask"]))
def test_a_damaged_plain_header_gives_an_error_of_ours_or_an_array(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], byte: int, bit: int, way: str
) -> None:
    damaged = bytearray(whole[".nii"])
    damaged[byte] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flip.nii"
    path.write_bytes(damaged)
    with contextlib.suppress(NeuroalignError):
        READ[way](path)


@pytest.mark.usefixtures("engine")
def test_members_padding_and_garbage_of_gzip(tmp_path: Path, whole: dict[str, bytes]) -> None:
    raw = whole[".nii"]
    path = tmp_path / "run.nii.gz"
    path.write_bytes(gzip.compress(raw[:400]) + gzip.compress(raw[400:]) + b"\0" * 100)
    expected = nib.Nifti1Image.from_bytes(raw).get_fdata().astype("f4").T
    np.testing.assert_array_equal(read_fmri(path)["bold"].values, expected)
    path.write_bytes(gzip.compress(raw) + b"garbage")
    with pytest.raises(IntegrityError, match="damaged"):
        read_fmri(path)
    path.write_bytes(gzip.compress(raw[:-2]))
    with pytest.raises(IntegrityError, match="fewer voxels"):
        read_fmri(path)


def test_a_plain_file_that_is_too_long_is_refused_unless_asked(tmp_path: Path, whole: dict[str, bytes]) -> None:
    path = tmp_path / "run.nii"
    path.write_bytes(whole[".nii"] + b"\0" * 8)
    with pytest.raises(IntegrityError, match="verify=False"):
        read_fmri(path)
    assert read_fmri(path, verify=False)["bold"].shape == (12, 4, 5, 6)


def test_a_file_that_changed_is_not_read(tmp_path: Path, whole: dict[str, bytes]) -> None:
    for suffix in whole:
        path = tmp_path / f"run{suffix}"
        path.write_bytes(whole[suffix])
        ds = read_fmri(path)
        os.utime(path, ns=(1, 1))
        with pytest.raises(IntegrityError, match="changed after it was opened"):
            ds["bold"].load()
        path.unlink()
        with pytest.raises(IntegrityError, match="gone"):
            ds["bold"].load()


def lying_header(shape: tuple[int, ...]) -> bytes:
    header = nib.Nifti1Header()
    header["dim"][: 1 + len(shape)] = [len(shape), *shape]
    header["dim"][1 + len(shape) :] = 1
    header.set_data_dtype(np.int16)
    header["pixdim"][1:5] = 3, 3, 3, 2
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_sform(AFFINE, 1)
    header.set_xyzt_units("mm", "sec")
    return header.binaryblock + b"\0" * 4


SHAPES = {"large": (32000, 32000, 32000, 20), "negative": (-5, 5, 5, 5), "zero": (4, 4, 0, 3), "many": (2, 2, 2, 2, 2)}


@pytest.mark.parametrize("shape", [*SHAPES.values()], ids=[*SHAPES])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("lazy", [True, False])
def test_lying_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...], suffix: str, lazy: bool) -> None:
    content = lying_header(shape) + b"\1" * 4000
    path = tmp_path / f"lie{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(IntegrityError):
        read_fmri(path, lazy=lazy)


@pytest.mark.parametrize("lazy", [True, False])
def test_lies_do_not_take_memory(tmp_path: Path, lazy: bool) -> None:
    """Under 1 GB of address space beyond what the imports take: a lie, a bomb, a sparse file that is honest."""
    (tmp_path / "lie.nii").write_bytes(lying_header((32000, 32000, 32000, 20)) + b"\1" * 4000)
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=1) as bomb:
        bomb.write(lying_header((64, 64, 64, 1000)))
        for _ in range(1):
            bomb.write(b"\0" * (64 << 20))
    with (tmp_path / "sparse.nii").open("wb") as sparse:
        sparse.write(lying_header((256, 256, 256, 1000)))
        sparse.truncate(352 + 2 * 256**3 * 1000)
    script = textwrap.dedent(
        f"""
        import resource, pathlib
        import nibabel
        from neuroalign.loaders.fmri import read_fmri
        from neuroalign.errors import NeuroalignError
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
        for name in ("lie.nii", "bomb.nii.gz", "sparse.nii"):
            try:
                ds = read_fmri(pathlib.Path({str(tmp_path)!r}) / name, lazy={lazy})
                ds["bold"].load()
            except NeuroalignError as error:
                print(name, type(error).__name__)
        """
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout.splitlines() == [
        "lie.nii IntegrityError",
        "bomb.nii.gz IntegrityError",
        "sparse.nii ConfigError",
    ], done.stderr


def test_max_bytes_is_named(tmp_path: Path, whole: dict[str, bytes]) -> None:
    path = tmp_path / "run.nii.gz"
    path.write_bytes(whole[".nii.gz"])
    with pytest.raises(ConfigError, match="max_bytes"):
        read_fmri(path, lazy=False, max_bytes=1000)
    lazy = read_fmri(path, max_bytes=1000)["bold"]
    assert lazy.isel(time=0).values.size == 120
    with pytest.raises(ConfigError, match="max_bytes"):
        lazy.load()


@pytest.mark.parametrize("kind", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_rgb_are_refused(tmp_path: Path, kind: object) -> None:
    out = nib.Nifti1Image(np.zeros((2, 2, 2, 2), dtype=kind), AFFINE)
    nib.save(out, tmp_path / "run.nii")
    with pytest.raises(SchemaError, match="not plain numbers"):
        read_fmri(tmp_path / "run.nii")


@pytest.mark.parametrize("content", [b"", b"x", b"\x1f\x8b", b"not an image" * 100, b"\x80\x04\x95" * 200])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_other_content_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        read_fmri(path)


def test_singular_affine_is_refused(tmp_path: Path, whole: dict[str, bytes]) -> None:
    header = nib.Nifti1Header(whole[".nii"][:348])
    header["srow_x"], header["qform_code"] = 0, 0
    (tmp_path / "run.nii").write_bytes(header.binaryblock + whole[".nii"][348:])
    with pytest.raises(IntegrityError, match="affine"):
        read_fmri(tmp_path / "run.nii")


def test_broken_sidecars_are_refused(tmp_path: Path, whole: dict[str, bytes]) -> None:
    path = tmp_path / "run.nii"
    path.write_bytes(whole[".nii"])
    for text in ("{", "[1]", "[" * 100_000):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(IntegrityError, match="sidecar"):
            read_fmri(path)


# Mask and atlas against the run


@settings(max_examples=40, deadline=None)
@given(shift=st.floats(-5, 5), column=st.integers(0, 3), row=st.integers(0, 2), role=st.sampled_from(["mask", "atlas"]))
def test_affines_are_compared(
    tmp_path_factory: pytest.TempPathFactory, shift: float, column: int, row: int, role: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "affine.nii"
    if not path.exists():
        nib.save(image(), path)
    moved = AFFINE.copy()
    moved[row, column] += shift
    other = nib.Nifti1Image(np.ones((6, 5, 4), dtype=np.uint8), moved)
    reach = 1 if column == 3 else (5, 4, 3)[column]
    if abs(shift) * reach <= 0.05:
        read_fmri(path, **{role: other})
    else:
        with pytest.raises(SchemaError, match="affines differ") as caught:
            read_fmri(path, **{role: other})
        assert str(AFFINE.tolist()) in str(caught.value)
        assert str(moved.round(4).tolist()) in str(caught.value)


def test_left_right_flip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.nii"
    nib.save(image(), path)
    flipped = AFFINE.copy()
    flipped[0] = [-3, 0, 0, 15]
    with pytest.raises(SchemaError, match="left and right"):
        read_fmri(path, mask=nib.Nifti1Image(np.ones((6, 5, 4), "u1"), flipped))


def test_spaces_are_compared(tmp_path: Path) -> None:
    path, mask = tmp_path / "sub-01_space-T1w_bold.nii.gz", tmp_path / "sub-01_space-MNI152_mask.nii.gz"
    nib.save(image(), path)
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), "u1"), AFFINE), mask)
    with pytest.raises(SchemaError, match="another space"):
        read_fmri(path, mask=mask)
    assert read_fmri(path, mask=mask, space="MNI152").attrs["space"] == "MNI152"


@pytest.mark.parametrize("values", [np.zeros((6, 5, 4)), np.full((6, 5, 4), np.nan), np.linspace(0, 1, 120)])
def test_masks_must_be_masks(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "run.nii"
    nib.save(image(), path)
    other = nib.Nifti1Image(values.reshape(6, 5, 4).astype("f4"), AFFINE)
    with pytest.raises(SchemaError, match="mask"):
        read_fmri(path, mask=other)
    with pytest.raises(SchemaError, match="atlas"):
        read_fmri(path, atlas=other)
    with pytest.raises(ConfigError, match="nibabel image"):
        read_fmri(path, mask=values > 0)


def test_missing_files_and_extras(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no such file"):
        read_fmri(tmp_path / "nothing.nii.gz")
    nib.save(image(), tmp_path / "whole.nii")
    with pytest.raises(IntegrityError, match="no such file"):
        read_fmri(tmp_path / "whole.nii", mask=tmp_path / "nothing.nii.gz")
    script = textwrap.dedent(
        """
        import sys, pathlib
        sys.modules["nibabel"] = None
        from neuroalign.loaders.fmri import read_fmri
        from neuroalign.errors import MissingDependencyError
        path = pathlib.Path(sys.argv[1]); path.write_bytes(b"x" * 400)
        try:
            read_fmri(path)
        except MissingDependencyError as error:
            print(error)
        """
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(tmp_path / "run.nii")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert 'pip install "neuroalign[fmri]"' in done.stdout, done.stderr
