"""Row 22: hostile archives are refused, and nothing is written outside the folder or left inside it."""

import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile

import pytest

from neuroalign.datasets import safe_extract
from neuroalign.errors import IntegrityError


def tar_of(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content, changes in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


GOOD = ("a/good.txt", b"good", {})


def link(name, target, kind=tarfile.SYMTYPE):
    return (name, b"", {"type": kind, "linkname": target})


def lying_zip(path):
    """Declares 10 bytes, holds 5 MB."""
    zip_of(path, ("big.bin", b"\0" * 5_000_000, 0))
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = raw.index(signature) + offset
        raw[start : start + 4] = (10).to_bytes(4, "little")
    path.write_bytes(raw)
    return path


def header_bomb(path):
    """An extended header of 40 MB of zeros, in a file of 40 kB."""
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    info.size = 40_000_000
    with tarfile.open(path, "w:gz") as tar:
        tar.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(40):
            tar.fileobj.write(b"\0" * 1_000_000)
    return path


HOSTILE = {
    "parent": lambda p: tar_of(p, GOOD, ("../outside.txt", b"x", {})),
    "hidden parent": lambda p: tar_of(p, GOOD, ("a/../../outside.txt", b"x", {})),
    "absolute": lambda p: tar_of(p, GOOD, (str(p.parent / "outside.txt"), b"x", {})),
    "symlink then file": lambda p: tar_of(p, GOOD, link("d", ".."), ("d/outside.txt", b"x", {})),
    "hard link": lambda p: tar_of(p, GOOD, link("h", "../secret.txt", tarfile.LNKTYPE)),
    "device": lambda p: tar_of(p, GOOD, ("null", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})),
    "pipe": lambda p: tar_of(p, GOOD, ("pipe", b"", {"type": tarfile.FIFOTYPE})),
    "case clash": lambda p: tar_of(p, GOOD, ("A/GOOD.txt", b"other", {})),
    "unicode clash": lambda p: tar_of(p, ("é", b"1", {}), ("e\u0301", b"2", {})),
    "same name twice": lambda p: tar_of(p, GOOD, GOOD),
    "file as folder": lambda p: tar_of(p, ("f", b"x", {}), ("f/g", b"x", {})),
    "folder as file": lambda p: tar_of(p, ("f/g", b"x", {}), ("f", b"x", {})),
    "ratio bomb": lambda p: tar_of(p, GOOD, ("big.bin", b"\0" * 30_000_000, {})),
    "header bomb": header_bomb,
    "zip: parent": lambda p: zip_of(p, ("../outside.txt", b"x", 0)),
    "zip: absolute": lambda p: zip_of(p, ("/tmp/outside.txt", b"x", 0)),
    "zip: backslash": lambda p: zip_of(p, ("..\\outside.txt", b"x", 0)),
    "zip: drive": lambda p: zip_of(p, ("C:outside.txt", b"x", 0)),
    "zip: symlink": lambda p: zip_of(p, ("l", b"../secret.txt", stat.S_IFLNK | 0o777)),
    "zip: ratio bomb": lambda p: zip_of(p, ("big.bin", b"\0" * 30_000_000, 0)),
    "zip: lying length": lying_zip,
    "empty name": lambda p: tar_of(p, ("", b"x", {})),
}


def everything_outside(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives(tmp_path, kind):
    (tmp_path / "secret.txt").write_text("secret")
    archive = HOSTILE[kind](tmp_path / "x.archive")
    before = everything_outside(tmp_path)
    with pytest.raises(IntegrityError) as caught:
        safe_extract(archive, tmp_path / "root")
    assert "x.archive" in str(caught.value)
    assert everything_outside(tmp_path) == before
    assert (tmp_path / "secret.txt").read_text() == "secret"


def test_too_many_entries(tmp_path):
    archive = tar_of(tmp_path / "x.tgz", *[(f"f{k}", b"", {}) for k in range(51)])
    with pytest.raises(IntegrityError, match="too many entries"):
        safe_extract(archive, tmp_path / "root", max_entries=50)
    assert len(list(safe_extract(archive, tmp_path / "root", max_entries=51).iterdir())) == 51
    archive = zip_of(tmp_path / "x.zip", *[(f"f{k}", b"", 0) for k in range(51)])
    with pytest.raises(IntegrityError, match="too many entries"):
        safe_extract(archive, tmp_path / "root2", max_entries=50)


MILLION = """
import gzip, sys, tarfile
from neuroalign.datasets import safe_extract
from neuroalign.errors import IntegrityError
thousand = gzip.compress(b"".join(tarfile.TarInfo(f"f{k}").tobuf(tarfile.USTAR_FORMAT) for k in range(1000)))
with open(sys.argv[1], "wb") as file:
    file.write(thousand * 1000)
try:
    safe_extract(sys.argv[1], sys.argv[2])
except IntegrityError:
    sys.exit(0)
sys.exit("not refused")
"""


def test_a_million_entries_are_refused_at_once(tmp_path):
    command = [sys.executable, "-c", MILLION, str(tmp_path / "x.tgz"), str(tmp_path / "root")]
    subprocess.run(command, check=True, timeout=60)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_honest_tar(tmp_path, mode):
    members = [
        ("./", b"", {"type": tarfile.DIRTYPE}),
        ("a", b"", {"type": tarfile.DIRTYPE}),
        GOOD,
        ("b.bin", b"\1" * 99999, {}),
    ]
    root = safe_extract(tar_of(tmp_path / "x", *members, mode=mode), tmp_path / "root")
    assert (root / "a" / "good.txt").read_bytes() == b"good"
    assert (root / "b.bin").stat().st_size == 99999
    assert everything_outside(tmp_path) == ["root", "root/a", "root/a/good.txt", "root/b.bin", "x"]


def test_honest_zip(tmp_path):
    members = [
        ("a/", b"", stat.S_IFDIR | 0o755),
        ("a/good.txt", b"good", stat.S_IFREG | 0o6755),
        ("b.bin", b"x" * 999, 0),
    ]
    root = safe_extract(zip_of(tmp_path / "x.zip", *members), tmp_path / "root")
    assert (root / "a" / "good.txt").read_bytes() == b"good"
    if os.name != "nt":
        assert not (root / "a" / "good.txt").stat().st_mode & 0o6111  # neither setuid nor executable


def _cut(raw):
    return raw[: len(raw) // 2]


def _flip(raw):
    changed = bytearray(raw)
    changed[-6] ^= 1  # checksum of the gzip stream
    return bytes(changed)


@pytest.mark.parametrize("damage", [_cut, _flip, lambda raw: b"", lambda raw: b"<html>not found</html>"])
def test_damaged_archives(tmp_path, damage):
    archive = tar_of(tmp_path / "x.tgz", GOOD, ("b.bin", os.urandom(100_000), {}))
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(IntegrityError, match="archive"):
        safe_extract(archive, tmp_path / "root")
    assert everything_outside(tmp_path) == ["x.tgz"]


def test_a_failed_archive_keeps_the_earlier_folder(tmp_path):
    root = safe_extract(tar_of(tmp_path / "x.tgz", GOOD), tmp_path / "root")
    with pytest.raises(IntegrityError):
        safe_extract(HOSTILE["parent"](tmp_path / "y.tgz"), root)
    assert (root / "a" / "good.txt").read_bytes() == b"good"
