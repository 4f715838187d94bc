import sys
import types

import pytest

from neuroalign.compute import resolve_device
from neuroalign.errors import ConfigError


def fake_torch(monkeypatch, n_gpus):
    cuda = types.SimpleNamespace(is_available=lambda: n_gpus > 0, device_count=lambda: n_gpus)
    torch = types.ModuleType("torch")
    torch.__spec__ = types.SimpleNamespace()
    torch.cuda = cuda
    monkeypatch.setitem(sys.modules, "torch", torch)


@pytest.mark.parametrize(
    ("n_gpus", "asked", "expected"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda"), (2, "cpu", "cpu"), (2, "cuda:1", "cuda:1")],
)
def test_devices(monkeypatch, n_gpus, asked, expected):
    fake_torch(monkeypatch, n_gpus)
    assert resolve_device(asked) == expected


@pytest.mark.parametrize(("n_gpus", "asked"), [(0, "cuda"), (1, "cuda:1"), (1, "gpu"), (1, "cuda:"), (1, "CPU")])
def test_what_is_not_there_is_refused(monkeypatch, n_gpus, asked):
    fake_torch(monkeypatch, n_gpus)
    with pytest.raises(ConfigError):
        resolve_device(asked)
