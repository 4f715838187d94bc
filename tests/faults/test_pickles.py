"""Files that would run code are refused before anything is opened (row 20 of the faults)."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuroalign import load_model
from neuroalign.errors import NeuroalignError
from neuroalign.loaders.load import load
from neuroalign.loaders.table import read_table


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def npy(bomb: Canary) -> bytes:
    array = np.empty((1, 2), dtype=object)
    array[0, 0] = bomb
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(bomb: Canary) -> bytes:
    array = np.empty((2, 2), dtype=object)
    array[0, 0] = bomb
    buffer = io.BytesIO()
    np.savez(buffer, x=array)
    return buffer.getvalue()


def joblib_file(bomb: Canary) -> bytes:
    import joblib

    buffer = io.BytesIO()
    joblib.dump([bomb, np.ones(3)], buffer)
    return buffer.getvalue()


def torch_file(bomb: Canary) -> bytes:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save({"weights": bomb}, buffer)
    return buffer.getvalue()


def zipped_pickle(bomb: Canary) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(bomb))
    return buffer.getvalue()


def named_header(bomb: Canary) -> bytes:
    """A .npy header whose dictionary is code."""
    text = (
        f"{{'descr': __import__('pathlib').Path({str(bomb.path)!r}).touch(), 'fortran_order': False, 'shape': (1, 1)}}"
    )
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


ATTACKS: dict[str, Callable[[Canary], bytes]] = {
    "pickle 5": pickle.dumps,
    "pickle 2": lambda bomb: pickle.dumps(bomb, protocol=2),
    "pickle 0": lambda bomb: pickle.dumps(bomb, protocol=0),
    "npy": npy,
    "npz": npz,
    "joblib": joblib_file,
    "torch": torch_file,
    "zip": zipped_pickle,
    "header": named_header,
}
SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".npz", ".mat", ".csv", ".tsv", ".parquet", ".nii")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("attack", [*ATTACKS])
def test_nothing_runs(tmp_path: Path, attack: str, suffix: str) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / f"model{suffix}"
    path.write_bytes(ATTACKS[attack](Canary(canary)))
    ways: list[Callable[[], object]] = [
        lambda: load(path),
        lambda: read_table(path, dims=("stimulus", "unit")),
        lambda: load_model(str(path)),
    ]
    for way in ways:
        with pytest.raises(NeuroalignError) as caught:
            way()
        assert str(path) in str(caught.value)
    assert not canary.exists()


def test_the_canary_sings_when_it_is_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()


def test_the_remedy_is_given(tmp_path: Path) -> None:
    path = tmp_path / "features.pkl"
    path.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(NeuroalignError, match=r"could run any code[\s\S]*np\.savez"):
        load(path)
