"""The walk through MATLAB files: all that scipy writes passes, damage is refused before a library sees it."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from neuroalign.errors import ConfigError, IntegrityError
from neuroalign.loaders._mat5 import check_elements

CONTENT = {
    "x": np.arange(12.0).reshape(3, 4),
    "small": np.uint8(7),
    "z": np.arange(3) * 1j,
    "text": "hello",
    "empty": np.zeros((0, 3)),
    "cell": np.array([np.arange(3), "a", np.zeros((2, 2))], dtype=object),
    "struct": {"a": 1.0, "b": {"c": np.arange(4, dtype="i2")}},
    "sparse": scipy.sparse.random(5, 6, 0.4, random_state=0, format="csc"),
    "flag": np.array([True, False]),
}


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def file(request, tmp_path):
    savemat(tmp_path / "x.mat", CONTENT, do_compression=request.param)
    return tmp_path / "x.mat"


def test_what_scipy_writes_passes(file):
    check_elements(file, 2**20)


def test_a_file_that_unpacks_to_more_is_refused(tmp_path):
    savemat(tmp_path / "zeros.mat", {"x": np.zeros(10**6)}, do_compression=True)
    with pytest.raises(ConfigError, match="more memory"):
        check_elements(tmp_path / "zeros.mat", 2**20)


@pytest.mark.parametrize("bit", [1, 8, 64, 128])
def test_a_flip_in_the_structure_is_refused_or_harmless_to_scipy(tmp_path, bit):
    """What passes the walk is parsed by scipy without a crash; crashes end a child, not this process."""
    savemat(tmp_path / "x.mat", CONTENT, do_compression=False)
    content = (tmp_path / "x.mat").read_bytes()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:  # pragma: no cover
        for at in range(128, len(content), 3):
            data = bytearray(content)
            data[at] ^= bit
            (tmp_path / "y.mat").write_bytes(data)
            try:
                check_elements(tmp_path / "y.mat", 2**20)
                loadmat(tmp_path / "y.mat")
            except Exception:  # noqa: BLE001
                pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_wild_bytes_end_in_one_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("mat") / "x.mat"
    savemat(path, CONTENT, do_compression=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        check_elements(path, 2**20)
    except IntegrityError as error:
        assert "x.mat" in str(error)  # noqa: PT017
    except ConfigError:
        pass


def test_arrays_nested_too_deeply_are_refused(tmp_path):
    cell = np.array([1.0])
    for _ in range(70):
        outer = np.empty(1, dtype=object)
        outer[0] = cell
        cell = outer
    savemat(tmp_path / "deep.mat", {"x": cell})
    with pytest.raises(IntegrityError, match="inside 64 others"):
        check_elements(tmp_path / "deep.mat", 2**20)
