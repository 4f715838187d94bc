"""Cut, flipped, lying and hostile GIFTI and CIFTI files (rows 3, 4, 6, 7, 8, 18 of the faults)."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.cifti2 import cifti2_axes

from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError, SchemaError
from neuroalign.loaders import read_fmri

ROOT = Path(__file__).resolve().parents[2]
TR = 2.0
VALUES = np.random.default_rng(0).uniform(size=(6, 40)).astype(np.float32)


def gifti(encoding: str = "GIFTI_ENCODING_B64GZ", intent: str = "NIFTI_INTENT_TIME_SERIES") -> bytes:
    arrays = [nib.gifti.GiftiDataArray(row, intent=intent, encoding=encoding) for row in VALUES]
    meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": "CortexLeft"})
    return nib.GiftiImage(meta=meta, darrays=arrays).to_bytes()


def axes() -> tuple:
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[1:3, 1:3, 1:3] = True
    brain = cifti2_axes.BrainModelAxis.from_surface(np.arange(0, 64, 2), 64, "CORTEX_LEFT")
    brain += cifti2_axes.BrainModelAxis.from_mask(mask, "THALAMUS_LEFT", affine=np.diag([2.0, 2, 2, 1]))
    return cifti2_axes.SeriesAxis(0, TR, 6, "SECOND"), brain


def cifti() -> bytes:
    return nib.Cifti2Image(VALUES, axes()).to_bytes()


WHOLE = {".func.gii": gifti(), ".dtseries.nii": cifti()}
PLAIN = gifti("GIFTI_ENCODING_B64BIN")


def read(path: Path, content: bytes, **options: object) -> np.ndarray:
    path.write_bytes(content)
    tr = {"tr": TR} if path.name.endswith(".gii") else {}
    return read_fmri(path, **tr, **options)["bold"].values


@pytest.fixture(scope="module", params=[*WHOLE])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_whole_files_are_read(tmp_path: Path, suffix: str) -> None:
    np.testing.assert_array_equal(read(tmp_path / f"run{suffix}", WHOLE[suffix]), VALUES)


@settings(max_examples=80, deadline=5000)
@given(part=st.floats(0, 1, exclude_max=True), suffix=st.sampled_from([*WHOLE]), lazy=st.booleans())
def test_cut_files_are_refused(tmp_path_factory: pytest.TempPathFactory, part: float, suffix: str, lazy: bool) -> None:
    path = tmp_path_factory.getbasetemp() / f"cut{suffix}"
    content = WHOLE[suffix].rstrip()
    with pytest.raises(IntegrityError) as caught:
        read(path, content[: int(part * len(content))], lazy=lazy)
    assert str(path) in str(caught.value)


def test_no_flipped_bit_of_compressed_gifti_data_is_silent(tmp_path: Path) -> None:
    content = WHOLE[".func.gii"]
    start, stop = content.index(b"<Data>") + 6, content.rindex(b"</Data>")
    rng = np.random.default_rng(0)
    silent = tried = 0
    inside = np.concatenate([
        np.arange(content.index(b"<Data>", at) + 6, content.index(b"</Data>", at))
        for at in (m for m in range(start - 6, stop) if content.startswith(b"<Data>", m))
    ])  # fmt: skip
    for byte in rng.choice(inside, 200):
        damaged = bytearray(content)
        damaged[byte] ^= 1 << int(rng.integers(8))
        try:
            silent += not np.array_equal(read(tmp_path / "run.func.gii", bytes(damaged)), VALUES)
        except NeuroalignError:
            continue
        finally:
            tried += 1
    assert (silent, tried) == (0, 200)


def test_what_no_checksum_protects(tmp_path: Path) -> None:
    """Uncompressed GIFTI arrays, CIFTI matrices and text of XML: a flip there cannot be seen in the file alone."""
    damaged = bytearray(WHOLE[".dtseries.nii"])
    damaged[-2] ^= 1
    assert not np.array_equal(read(tmp_path / "run.dtseries.nii", bytes(damaged)), VALUES)
    at = PLAIN.index(b"<Data>") + 10
    swapped = PLAIN[:at] + (b"B" if PLAIN[at : at + 1] != b"B" else b"C") + PLAIN[at + 1 :]
    assert not np.array_equal(read(tmp_path / "run.func.gii", swapped), VALUES)


@settings(max_examples=150, deadline=5000)
@given(data=st.data(), suffix=st.sampled_from([*WHOLE]))
def test_wild_bytes_give_an_error_of_ours_or_an_array(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
) -> None:
    content = bytearray(WHOLE[suffix])
    header = len(content) - VALUES.nbytes if suffix == ".dtseries.nii" else len(content)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NeuroalignError):
        read(tmp_path_factory.getbasetemp() / f"wild{suffix}", bytes(content))


def replaced(content: bytes, old: str, new: str) -> bytes:
    assert old.encode() in content, old
    return content.replace(old.encode(), new.encode(), 1)


GIFTI_LIES = {
    "dim": ('Dim0="40"', 'Dim0="41"'),
    "huge": ('Dim0="40"', 'Dim0="99999999999"'),
    "negative": ('Dim0="40"', 'Dim0="-40"'),
    "zero": ('Dim0="40"', 'Dim0="0"'),
    "words": ('Dim0="40"', 'Dim0="forty"'),
    "dimensionality": ('Dimensionality="1"', 'Dimensionality="9"'),
    "count": ('NumberOfDataArrays="6"', 'NumberOfDataArrays="7"'),
    "type": ("NIFTI_TYPE_FLOAT32", "NIFTI_TYPE_FLOAT128"),
    "other type": ("NIFTI_TYPE_FLOAT32", "NIFTI_TYPE_FLOAT64"),
    "encoding": ("GZipBase64Binary", "Base64Binary"),
    "unknown encoding": ("GZipBase64Binary", "Base32"),
    "no attribute": ('Dim0="40"', ""),
    "intent": ("NIFTI_INTENT_TIME_SERIES", "NIFTI_INTENT_NOTHING"),
}


@pytest.mark.parametrize("lie", [*GIFTI_LIES])
def test_lying_gifti_headers_are_refused(tmp_path: Path, lie: str) -> None:
    with pytest.raises((IntegrityError, ConfigError)):
        read(tmp_path / "run.func.gii", replaced(WHOLE[".func.gii"], *GIFTI_LIES[lie]))


@pytest.mark.parametrize(
    ("field", "value"),
    [("dim", [6, 1, 1, 1, 1, 6, 2**60, 1]), ("dim", [6, 1, 1, 1, 1, 40, 6, 1]), ("dim", [4, 1, 1, 1, 1, 6, 40, 1]),
     ("dim", [6, 1, 1, 1, 1, -6, 40, 1]), ("dim", [6, 1, 1, 1, 1, 12, 20, 1]), ("vox_offset", 2**62),
     ("vox_offset", -1), ("vox_offset", 560), ("datatype", 32), ("datatype", 9999)],
)  # fmt: skip
def test_lying_cifti_headers_are_refused(tmp_path: Path, field: str, value: object) -> None:
    content = WHOLE[".dtseries.nii"]
    header = nib.Nifti2Header(content[:540], check=False)
    header[field] = value
    with pytest.raises(IntegrityError):
        read(tmp_path / "run.dtseries.nii", header.binaryblock + content[540:])


def with_xml(change: tuple[str, str] | str) -> bytes:
    """Another XML in the same place of the CIFTI file: spaces at its end make room."""
    content = WHOLE[".dtseries.nii"]
    start = content.index(b"<?xml") if b"<?xml" in content[:2000] else content.index(b"<CIFTI")
    stop = content.index(b"</CIFTI>") + len(b"</CIFTI>")
    xml = content[start:stop].decode()
    new = change if isinstance(change, str) else xml.replace(*change, 1)
    assert new != xml
    size = 16 * -(-(8 + len(new)) // 16)
    matrix = content[-VALUES.nbytes :]
    header = nib.Nifti2Header(content[:540], check=False)
    header["vox_offset"] = 544 + size
    order = header.endianness
    extension = np.array([size, 32], dtype=f"{order}i4").tobytes() + new.encode().ljust(size - 8, b"\0")
    return header.binaryblock + b"\1\0\0\0" + extension + matrix


CIFTI_LIES = {
    "points": ('NumberOfSeriesPoints="6"', 'NumberOfSeriesPoints="7"'),
    "many points": ('NumberOfSeriesPoints="6"', 'NumberOfSeriesPoints="999999999999"'),
    "exponent": ('SeriesExponent="0"', 'SeriesExponent="999999999"'),
    "count": ('IndexCount="32"', 'IndexCount="900000000"'),
    "offset": ('IndexOffset="32"', 'IndexOffset="31"'),
    "mesh": ('SurfaceNumberOfVertices="64"', 'SurfaceNumberOfVertices="8"'),
    "vertices": ("<VertexIndices>0 2", "<VertexIndices>-1 2"),
    "not numbers": ("<VertexIndices>0 2", "<VertexIndices>zero two"),
    "fewer": ("<VertexIndices>0 2", "<VertexIndices>0"),
    "volume": ('VolumeDimensions="4,4,4"', 'VolumeDimensions="2,2,2"'),
    "model": ("CIFTI_MODEL_TYPE_SURFACE", "CIFTI_MODEL_TYPE_NOTHING"),
    "structure": ("CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_TAIL"),
    "map": ("CIFTI_INDEX_TYPE_SERIES", "CIFTI_INDEX_TYPE_NOTHING"),
    "version": ('Version="2.0"', 'Version="9.0"'),
}


@pytest.mark.parametrize("lie", [*CIFTI_LIES])
def test_lying_cifti_xml_is_refused(tmp_path: Path, lie: str) -> None:
    with pytest.raises(NeuroalignError):
        read(tmp_path / "run.dtseries.nii", with_xml(CIFTI_LIES[lie]))


BOMB = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol"}">' for n in range(9))
DOCTYPES = {
    "bomb": f"<!DOCTYPE {{root}} [{BOMB}]>",
    "file": '<!DOCTYPE {root} [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    "parameter": '<!DOCTYPE {root} [<!ENTITY % x SYSTEM "http://127.0.0.1/x"> %x;]>',
}


@pytest.mark.parametrize("kind", [*DOCTYPES])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_before_they_expand(tmp_path: Path, kind: str, encoding: str) -> None:
    doctype, entity = DOCTYPES[kind], {"bomb": "&l8;", "file": "&x;", "parameter": ""}[kind]
    xml = WHOLE[".func.gii"].decode()
    hostile = xml[xml.index("<GIFTI") :].replace("CortexLeft", f"CortexLeft{entity}")
    hostile = f'<?xml version="1.0" encoding="{encoding}"?>{doctype.format(root="GIFTI")}{hostile}'
    start = time.monotonic()
    with pytest.raises(IntegrityError, match="not safe"):
        read(tmp_path / "run.func.gii", hostile.encode(encoding))
    with pytest.raises(IntegrityError, match="not safe"):
        read(tmp_path / "run.dtseries.nii", with_xml(f"{doctype.format(root='CIFTI')}<CIFTI>{entity}</CIFTI>"))
    assert time.monotonic() - start < 5


def test_undeclared_entities_and_deep_nesting_are_refused(tmp_path: Path) -> None:
    content = replaced(WHOLE[".func.gii"], "CortexLeft", "Cortex&left;")
    with pytest.raises(IntegrityError):
        read(tmp_path / "run.func.gii", content)
    for deep in (b"<a>" * 100_000, b'<GIFTI NumberOfDataArrays="1">' + b"<MetaData>" * 5000):
        with pytest.raises(IntegrityError, match="nested"):
            read(tmp_path / "run.func.gii", deep)


def test_the_usual_document_type_is_read(tmp_path: Path) -> None:
    doctype = '<!DOCTYPE GIFTI SYSTEM "http://gifti.projects.nitrc.org/gifti.dtd">'
    content = WHOLE[".func.gii"]
    content = content if b"<!DOCTYPE" in content else replaced(content, "<GIFTI", f"{doctype}<GIFTI")
    np.testing.assert_array_equal(read(tmp_path / "run.func.gii", content), VALUES)


def bomb(declared: int, held: int) -> bytes:
    packed = base64.b64encode(zlib.compress(b"\0" * held, 9)).decode()
    array = f"""<DataArray Intent="NIFTI_INTENT_SHAPE" DataType="NIFTI_TYPE_UINT8" ArrayIndexingOrder="RowMajorOrder"
        Dimensionality="1" Dim0="{declared}" Encoding="GZipBase64Binary" Endian="LittleEndian" ExternalFileName=""
        ExternalFileOffset=""><Data>{packed}</Data></DataArray>"""
    return f'<?xml version="1.0"?><GIFTI Version="1.0" NumberOfDataArrays="1">{array}</GIFTI>'.encode()


def test_bombs_do_not_take_memory(tmp_path: Path) -> None:
    """Under 1 GB of address space beyond what the imports take."""
    (tmp_path / "lh.bomb.gii").write_bytes(bomb(1000, 100 << 20))
    (tmp_path / "lh.honest.gii").write_bytes(bomb(100 << 20, 100 << 20))
    (tmp_path / "counts.dtseries.nii").write_bytes(with_xml(CIFTI_LIES["count"]))
    header = nib.Nifti2Header(WHOLE[".dtseries.nii"][:540], check=False)
    header["dim"][5] = 2**40
    (tmp_path / "lie.dtseries.nii").write_bytes(header.binaryblock + WHOLE[".dtseries.nii"][540:])
    script = textwrap.dedent(
        f"""
        import resource, pathlib
        import nibabel
        from neuroalign.loaders import read_fmri
        from neuroalign.errors import NeuroalignError
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
        for path in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):
            try:
                read_fmri(path)
            except NeuroalignError as error:
                print(path.name, type(error).__name__)
        """
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=60)
    names = ["counts.dtseries.nii", "lh.bomb.gii", "lh.honest.gii", "lie.dtseries.nii"]
    assert done.stdout.splitlines() == [f"{name} IntegrityError" for name in names], done.stderr


def external(name: str, offset: int = 0) -> bytes:
    content = gifti()
    start, stop = content.index(b"<DataArray"), content.rindex(b"</DataArray>") + len(b"</DataArray>")
    array = f"""<DataArray Intent="NIFTI_INTENT_TIME_SERIES" DataType="NIFTI_TYPE_FLOAT32"
        ArrayIndexingOrder="RowMajorOrder" Dimensionality="1" Dim0="40" Encoding="ExternalFileBinary"
        Endian="LittleEndian" ExternalFileName="{name}" ExternalFileOffset="{offset}"><Data/></DataArray>"""
    return replaced(
        content[:start] + array.encode() + content[stop:], 'NumberOfDataArrays="6"', 'NumberOfDataArrays="1"'
    )


def test_external_data_lie_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(VALUES.tobytes())
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "data.bin").write_bytes(b"1234" + VALUES[1].tobytes())
    path = folder / "run.func.gii"
    np.testing.assert_array_equal(read(path, external("data.bin", 4)), VALUES[1:2])
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for name in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "./../in/../secret.bin"):
        with pytest.raises(IntegrityError, match="out of its folder"):
            read(path, external(name))
    for name, offset in (("data.bin", 5), ("none.bin", 0)):
        with pytest.raises(IntegrityError, match="external file"):
            read(path, external(name, offset))


def test_other_content_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"x", b"<GIFTI/>", b"<html></html>", b"\x80\x04\x95" * 200, WHOLE[".dtseries.nii"]):
        with pytest.raises(IntegrityError):
            read_fmri(write(tmp_path / "run.gii", content), hemi="L")
    with pytest.raises(IntegrityError, match="no such file"):
        read_fmri(tmp_path / "none.gii", hemi="L")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f4", "i2", "f8"])
def test_byte_orders_and_types_of_cifti(tmp_path: Path, order: str, kind: str) -> None:
    values = np.rint(VALUES * 100).astype(order + kind)
    header = nib.Nifti2Header(endianness=order)
    header.set_data_dtype(values.dtype)
    path = tmp_path / "run.dtseries.nii"
    nib.Cifti2Image(values, axes(), nifti_header=header).to_filename(path)
    ds = read_fmri(path)
    np.testing.assert_array_equal(ds["bold"].values, np.asarray(nib.load(path).dataobj, dtype=np.float32))
    assert ds["bold"].dtype == np.dtype("=f4")


@pytest.mark.parametrize("endian", ["GIFTI_ENDIAN_BIG", "GIFTI_ENDIAN_LITTLE"])
@pytest.mark.parametrize("encoding", ["GIFTI_ENCODING_ASCII", "GIFTI_ENCODING_B64BIN", "GIFTI_ENCODING_B64GZ"])
def test_byte_orders_and_encodings_of_gifti(tmp_path: Path, endian: str, encoding: str) -> None:
    whole = np.arange(40, dtype=np.float32)
    array = nib.gifti.GiftiDataArray(whole, intent="NIFTI_INTENT_SHAPE", encoding=encoding, endian=endian)
    path = write(tmp_path / "lh.thing.gii", nib.GiftiImage(darrays=[array]).to_bytes())
    np.testing.assert_array_equal(read_fmri(path)["map"].values[0], nib.load(path).darrays[0].data)


def test_a_cifti_file_that_changed_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "run.dtseries.nii", WHOLE[".dtseries.nii"])
    ds = read_fmri(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(IntegrityError, match="changed after it was opened"):
        ds["bold"].load()


def test_repetition_times_and_other_axes(tmp_path: Path) -> None:
    path = write(tmp_path / "sub-01_bold.dtseries.nii", WHOLE[".dtseries.nii"])
    assert read_fmri(path).attrs["tr"] == TR
    for name in ("sub-01_bold.json", "sub-01_bold.dtseries.json"):
        (tmp_path / name).write_text('{"RepetitionTime": 1.5, "StartTime": 0.7}')
        with pytest.raises(SchemaError, match="not that of the JSON sidecar"):
            read_fmri(path)
        (tmp_path / name).write_text('{"RepetitionTime": 2.0, "StartTime": 0.7}')
        assert read_fmri(path).attrs["start_time"] == 0.7
    with pytest.warns(match="tr=1.5 s was taken"):
        assert read_fmri(path, tr=1.5).attrs["tr"] == 1.5
    for unit, step in (("HERTZ", 2.0), ("SECOND", 0.0), ("SECOND", 2000.0)):
        series = cifti2_axes.SeriesAxis(0, step, 6, unit)
        nib.Cifti2Image(VALUES, (series, axes()[1])).to_filename(tmp_path / "b.dtseries.nii")
        with pytest.raises(SchemaError):
            read_fmri(tmp_path / "b.dtseries.nii")
    brain = axes()[1]
    nib.Cifti2Image(np.ones((40, 40), np.float32), (brain, brain)).to_filename(tmp_path / "c.dconn.nii")
    with pytest.raises(SchemaError, match="kind of CIFTI matrix"):
        read_fmri(tmp_path / "c.dconn.nii")


def test_hemispheres_and_pairs(tmp_path: Path) -> None:
    shape = gifti(intent="NIFTI_INTENT_SHAPE").replace(b"CortexLeft", b"CortexBoth")
    for name, side in (
        ("sub-01_hemi-L_bold.func.gii", "L"), ("rh.thickness.gii", "R"), ("mesh_lh.gii", "L"), ("s.R.curv.gii", "R")
    ):  # fmt: skip
        assert set(read_fmri(write(tmp_path / name, shape))["hemi"].values) == {side}
        with pytest.raises(SchemaError, match="other hemisphere"):
            read_fmri(tmp_path / name, hemi="LR".replace(side, ""))
        with pytest.raises(IntegrityError, match="other hemisphere was not found"):
            read_fmri(tmp_path / name, pair=True)
    with pytest.raises(SchemaError, match="hemi="):
        read_fmri(write(tmp_path / "thickness.gii", shape))
    assert read_fmri(tmp_path / "thickness.gii", hemi="R").sizes["vertex"] == 40
    pair = read_fmri(write(tmp_path / "lh.thickness.gii", shape), pair=True)
    assert pair["hemi"].values.tolist() == ["L"] * 40 + ["R"] * 40
    with pytest.raises(ConfigError, match="twice"):
        read_fmri([tmp_path / "lh.thickness.gii"] * 2)
    with pytest.raises(SchemaError, match="different things"):
        read_fmri([tmp_path / "lh.thickness.gii", write(tmp_path / "rh.x.gii", gifti().replace(b"Left", b"Right"))])
    fewer = shape.replace(b'NumberOfDataArrays="6"', b'NumberOfDataArrays="5"')
    cut = fewer.rindex(b"<DataArray"), fewer.rindex(b"</DataArray>") + len(b"</DataArray>")
    with pytest.raises(SchemaError, match="do not match"):
        read_fmri([tmp_path / "lh.thickness.gii", write(tmp_path / "rh.y.gii", fewer[: cut[0]] + fewer[cut[1] :])])
    with pytest.raises(ConfigError, match="mask="):
        read_fmri(tmp_path / "lh.thickness.gii", mask=tmp_path / "mask.nii")
    with pytest.raises(ConfigError, match="max_bytes"):
        read_fmri(tmp_path / "lh.thickness.gii", max_bytes=1000)


REAL = [
    ("nibabel-nifti-gifti-cifti", "task.func.gii", {"hemi": "L", "tr": 2.0}),
    ("nibabel-nifti-gifti-cifti", "rh.aparc.annot.gii", {}),
    ("brainspace-hcp", "conte69_32k_lh.gii", {}),
    ("nibabel-nifti-gifti-cifti", "Conte69.MyelinAndCorrThickness.32k_fs_LR.ptseries.nii", {}),
    ("nibabel-nifti-gifti-cifti", "Conte69.MyelinAndCorrThickness.32k_fs_LR.dscalar.nii", {}),
    ("nibabel-nifti-gifti-cifti", "Conte69.parcellations_VGD11b.32k_fs_LR.dlabel.nii", {}),
]


@pytest.mark.parametrize(("folder", "name", "options"), REAL, ids=[name for _, name, _ in REAL])
def test_real_files_cut_and_with_wild_bytes(
    real_data: Callable[[str], Path], tmp_path: Path, folder: str, name: str, options: dict
) -> None:
    content = (real_data(folder) / name).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / name
    for part in rng.uniform(size=4):
        with pytest.raises(IntegrityError):
            read_fmri(write(path, content[: int(part * len(content.rstrip()))]), **options)
    for place in rng.integers(0, min(len(content), 20_000), size=(8, 3)):
        damaged = bytearray(content)
        for byte in place:
            damaged[byte] = int(rng.integers(256))
        start = time.process_time()
        with contextlib.suppress(NeuroalignError):
            read_fmri(write(path, bytes(damaged)), **options)
        assert time.process_time() - start < 5
