"""Row 28: a full, limited, read-only or failing disk leaves the earlier result and gives one typed error."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import xarray as xr

from neuroalign import storage
from neuroalign.errors import IntegrityError
from neuroalign.storage import atomic

LIMITED = """
import resource, sys
import numpy as np, xarray as xr
from neuroalign import storage
from neuroalign.errors import IntegrityError

folder = sys.argv[1]
rng = np.random.default_rng(0)
small, large = (xr.DataArray(rng.standard_normal(n), dims="time") for n in (100, 200_000))
storage.save(small, folder + "/x.zarr")
storage.write_text(folder + "/x.txt", "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for write in (
    lambda: storage.save(large, folder + "/x.zarr"),
    lambda: storage.write_text(folder + "/x.txt", "n" * 200_000),
):
    try:
        write()
    except IntegrityError as error:
        assert "bytes free" in str(error) and "earlier result was kept" in str(error), error
    else:
        sys.exit("no error")
assert storage.open(folder + "/x.zarr", verify="full").identical(small)
assert open(folder + "/x.txt").read() == "old"
"""


def left_behind(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.mark.skipif(os.name == "nt", reason="no RLIMIT_FSIZE")
def test_size_limit_reached_while_writing(tmp_path):
    subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(LIMITED), str(tmp_path)], check=True, timeout=60
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.txt", "x.zarr"]


FULL = """
set -e
mount -t tmpfs -o size=4m tmpfs "$1"
"$2" -W error -c '
import sys, numpy as np, xarray as xr
from neuroalign import storage
from neuroalign.errors import IntegrityError
from pathlib import Path
folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
small, large = (xr.DataArray(rng.standard_normal(n), dims="time") for n in (1000, 2_000_000))
storage.save(small, folder / "x.zarr")
try:
    storage.save(large, folder / "x.zarr")
except IntegrityError as error:
    assert "16000000 bytes" in str(error) and "bytes free" in str(error), error
else:
    sys.exit("no error")
assert storage.open(folder / "x.zarr", verify="full").identical(small)
assert [p.name for p in folder.iterdir()] == ["x.zarr"]
' "$1"
"""


def can_mount(folder):
    if shutil.which("unshare") is None:
        return False
    trial = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def test_a_full_disk(tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("a small file system cannot be mounted here")
    subprocess.run(["unshare", "-rm", "sh", "-c", FULL, "sh", str(tmp_path), sys.executable], check=True, timeout=60)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "cannot be written"),
        (errno.EIO, "disk failed"),
        (errno.EACCES, "cannot be written"),
    ],
)
@pytest.mark.parametrize("earlier", [True, False])
def test_each_kind_of_error_is_typed_and_keeps_the_earlier_result(tmp_path, monkeypatch, number, words, earlier):
    target = tmp_path / "x.zarr"
    old = xr.DataArray(np.arange(3.0), dims="time")
    if earlier:
        storage.save(old, target)

    def hook(operation, path):
        if operation == "fsync":
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "operation_hook", hook)
        with pytest.raises(IntegrityError, match=words) as caught:
            storage.save(old + 1, target)
    assert ("kept" in str(caught.value)) is earlier
    assert "x.zarr" in str(caught.value)
    assert left_behind(tmp_path) == []
    assert target.exists() is earlier
    if earlier:
        xr.testing.assert_identical(storage.open(target), old)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(IntegrityError, match="cannot be written"):
            storage.write_text(tmp_path / "a", "x")
    finally:
        tmp_path.chmod(0o700)


def test_the_cache_says_where_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IntegrityError, match="cache cannot be written"):
        storage.Cache(tmp_path / "file").get_or_compute("k", lambda: np.zeros(1))
