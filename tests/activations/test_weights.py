"""Random twins of networks, and fingerprints of weights."""

from __future__ import annotations

import pytest

from neuroalign.activations import randomize, weights_sha256

torch = pytest.importorskip("torch")
nn = torch.nn


class Mixed(nn.Module):
    """Modules with and without a reset of their own, loose parameters, buffers, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.attention = nn.MultiheadAttention(8, 2)
        self.token = nn.Parameter(torch.full((1, 1, 8), 7.0))
        self.register_buffer("mask", torch.arange(5))
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)
        self.two.weight = self.one.weight


@pytest.fixture
def net():
    model = Mixed()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(3.0)
        model.norm.running_mean.fill_(5.0)
    return model


def test_every_parameter_is_drawn_again_and_the_model_is_not_touched(net):
    before = weights_sha256(net)
    twin = randomize(net, 1)
    assert weights_sha256(net) == before
    for name, parameter in twin.named_parameters():
        assert not (parameter == 3.0).any(), name
    assert abs(float(twin.token.detach().std()) - 0.02) < 0.02
    assert float(twin.norm.running_mean.abs().max()) == 0
    assert torch.equal(twin.mask, net.mask)
    assert twin.two.weight is twin.one.weight
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}


def test_seeds_and_global_state(net):
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = randomize(net, 1), randomize(net, 1), randomize(net, 2)
    assert torch.equal(torch.rand(3), want)
    assert weights_sha256(a) == weights_sha256(b) != weights_sha256(c)


def test_training_flags_are_kept(net):
    net.eval()
    assert not randomize(net, 0).training


def test_reparametrised_weights_are_drawn_too():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    twin = randomize(layer, 0)
    assert not torch.equal(twin.weight, layer.weight)


def test_fingerprint_follows_values_dtype_and_names():
    a = nn.Linear(2, 2)
    b = nn.Linear(2, 2)
    b.load_state_dict(a.state_dict())
    assert weights_sha256(a) == weights_sha256(b)
    with torch.no_grad():
        b.bias[0] += 1e-3
    assert weights_sha256(a) != weights_sha256(b)
    assert weights_sha256(a.to(torch.bfloat16)) != weights_sha256(b)
