"""The extractor against plain forward passes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from neuroalign import schema
from neuroalign.activations import ActivationExtractor, to_tree, weights_sha256
from neuroalign.errors import ConfigError, SchemaError

torch = pytest.importorskip("torch")
nn = torch.nn


class Vision(nn.Module):
    """A small image network that works in place, drops units and normalises."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.block2 = nn.Sequential(nn.Conv2d(6, 4, 3, stride=2), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.block2(self.block1(x)).mean((2, 3)))


class Tokens(nn.Module):
    """A transformer on token ids; `fc` is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.mix = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.fc = nn.Linear(8, 8)
        self.rnn = nn.LSTM(8, 3, batch_first=True)

    def forward(self, ids):
        x = self.fc(self.mix(self.embed(ids)))
        x = self.fc(torch.tanh(x))
        return {"last": self.rnn(x)[0]}


def seeded(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


@pytest.fixture
def vision():
    return seeded(Vision)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (7, 12, 10, 3), dtype=np.uint8)
    ids = [f"im{k}" for k in (3, 1, 2, 0, 6, 5, 4)]
    return xr.Dataset(
        {"image": (("stimulus", "row", "column", "rgb"), pixels)}, coords={"stimulus": np.array(ids, object)}
    )


def test_equals_a_plain_forward_pass(vision, images):
    acts = ActivationExtractor(vision, batch_size=3)(images)
    vision.eval()
    x = torch.as_tensor(images["image"].to_numpy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        first = vision.block1(x)
        second = vision.block2(first)
        want = {"block1": first, "block2": second, "head": vision.head(second.mean((2, 3)))}
    assert list(acts) == ["block1", "block2", "head"]
    for name, layer in acts.items():
        assert layer.dims == ("stimulus", "unit")
        assert layer.dtype == np.float32
        assert layer.attrs["layer"] == layer.name == name
        assert list(layer["stimulus"].values) == list(images["stimulus"].values)
        np.testing.assert_allclose(layer.values, want[name].flatten(1).numpy(), rtol=1e-5, atol=1e-6)


def test_copies_what_a_later_layer_overwrites_in_place(vision, images):
    acts = ActivationExtractor(vision, layers="block1.*")(images)
    assert (acts["block1.1"].values < 0).any()
    np.testing.assert_array_equal(np.maximum(acts["block1.1"], 0).values, acts["block1.2"].values)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_batch_size_does_not_matter(vision, images, size):
    one = ActivationExtractor(vision, batch_size=5)(images)
    two = ActivationExtractor(vision, batch_size=size)(images)
    for name in one:
        np.testing.assert_allclose(one[name].values, two[name].values, rtol=1e-5, atol=1e-6)


def test_three_kinds_of_stimuli_agree(vision, images):
    read = ActivationExtractor(vision)
    table, array = read(images), read(images["image"])
    mapping = read({str(k): images["image"].sel(stimulus=k).values for k in images["stimulus"].values})
    for name in table:
        xr.testing.assert_identical(table[name], array[name])
        xr.testing.assert_identical(table[name], mapping[name])


def test_pooling(vision, images):
    full = ActivationExtractor(vision, layers="block1")(images)["block1"].values.reshape(7, 6, -1)
    for pool, want in [
        ("mean", full.mean(2)),
        ("max", full.max(2)),
        (lambda x: x.flatten(2).std(2), full.std(2, ddof=1)),
    ]:
        got = ActivationExtractor(vision, layers="block1", pool=pool)(images)["block1"]
        np.testing.assert_allclose(got.values, want, rtol=1e-4, atol=1e-6)


def test_tokens_reused_modules_and_nested_outputs():
    net = seeded(Tokens)
    stimuli = {f"s{k}": np.random.default_rng(k).integers(0, 20, 5) for k in range(4)}
    ids = torch.as_tensor(np.stack(list(stimuli.values())))
    net.eval()
    with torch.no_grad():
        first = net.fc(net.mix(net.embed(ids)))
        second = net.fc(torch.tanh(first))
    read = ActivationExtractor(net, layers=["fc", "fc:1", "rnn"], pool="last")
    acts = read(stimuli)
    assert list(acts) == ["fc", "fc:1", "rnn"]
    np.testing.assert_allclose(acts["fc"].values, first[:, -1].numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(acts["fc:1"].values, second[:, -1].numpy(), rtol=1e-5, atol=1e-6)
    assert acts["rnn"].shape == (4, 3)
    cls = ActivationExtractor(net, layers="fc", pool="cls")(stimuli)["fc"]
    np.testing.assert_allclose(cls.values, first[:, 0].numpy(), rtol=1e-5, atol=1e-6)
    mean = ActivationExtractor(net, layers="fc", pool="mean")(stimuli)["fc"]
    np.testing.assert_allclose(mean.values, first.mean(1).numpy(), rtol=1e-5, atol=1e-6)


def test_forward_can_be_replaced(vision, images):
    acts = ActivationExtractor(vision, layers="block1", forward=lambda m, b: m.block1(b))(images)
    assert list(acts) == ["block1"]


def test_table_of_layers(vision, images):
    table = ActivationExtractor(vision, layers="**", dtype="float64").layers(images)
    assert list(table.columns) == ["name", "type", "shape", "units", "bytes"]
    row = table.set_index("name").loc["block1.0"]
    assert (row["type"], row["shape"], row["units"], row["bytes"]) == ("Conv2d", (6, 10, 8), 480, 480 * 7 * 8)
    pooled = ActivationExtractor(vision, pool="mean").layers(images).set_index("name")
    assert pooled.loc["block1", "units"] == 6


def test_the_model_is_left_as_it_was(vision, images):
    vision.train()
    vision.block2.eval()
    before = weights_sha256(vision)
    ActivationExtractor(vision, layers="**")(images)
    with pytest.raises(RuntimeError):
        ActivationExtractor(vision, preprocess=lambda x: x.astype(np.float32))(images)
    assert vision.training
    assert vision.block1[0].training
    assert not vision.block2[0].training
    assert weights_sha256(vision) == before
    assert all(not m._forward_hooks for m in vision.modules())
    assert all(p.requires_grad and not p.is_inference() for p in vision.parameters())


def test_hooks_go_when_the_model_fails_midway(images):
    class Breaks(Vision):
        def forward(self, x):
            self.block1(x)
            if len(x) > 1:
                raise ZeroDivisionError
            return x

    net = seeded(Breaks)
    with pytest.raises(ZeroDivisionError):
        ActivationExtractor(net, layers="block1")(images)
    assert all(not m._forward_hooks for m in net.modules())
    assert net.training


def test_nan_is_refused_with_layer_and_stimulus(images):
    net = seeded(Vision)
    bad = images["image"].astype("float32").transpose("stimulus", "rgb", "row", "column").copy()
    bad[4, 0, 0, 0] = np.nan
    with pytest.raises(SchemaError, match="layer block1, stimulus im6"):
        ActivationExtractor(net, batch_size=3)(bad)


def test_large_finite_values_are_not_refused():
    big = {"a": np.full(64, 3e38), "b": np.full(64, 3e38)}
    assert ActivationExtractor(nn.Sequential(nn.Identity()))(big)["0"].values.max() == np.float32(3e38)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(images, kind):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(kind)
    acts = ActivationExtractor(net, pool="mean")(images)
    assert acts["1"].dtype == np.float32
    assert np.isfinite(acts["1"]).all()


def test_batch_dimension_is_checked():
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 3)

        def forward(self, x):
            return self.rnn(x.transpose(0, 1))

    # Four stimuli of four steps: the shapes agree by accident, so only the one-stimulus probe can tell.
    stimuli = {str(k): np.ones((4, 4), np.float32) for k in range(4)}
    with pytest.raises(SchemaError, match="first axis"):
        ActivationExtractor(TimeFirst(), batch_size=4)(stimuli)


def test_a_layer_that_is_not_always_called_is_refused(images):
    class Sometimes(Vision):
        def forward(self, x):
            out = self.block1(x)
            return self.block2(out) if len(x) == 1 else out

    with pytest.raises(SchemaError, match="not called for every stimulus"):
        ActivationExtractor(seeded(Sometimes), layers="block2")(images)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("blok1", "block1"), ("block1*conv", "block1.conv"), (["block1", "haed"], "head"), ("zzz", "layers='\\*\\*'")],
)
def test_misspelt_layers_name_near_misses(images, spec, hint):
    net = nn.Module()
    net.block1 = nn.Sequential()
    net.block1.add_module("conv", nn.Conv2d(3, 2, 3))
    net.head = nn.Identity()
    read = ActivationExtractor(net, layers=spec, forward=lambda m, b: m.head(m.block1(b)))
    with pytest.raises(ConfigError, match=hint):
        read(images)


def test_layers_by_regex_and_function(vision, images):
    import re

    assert list(ActivationExtractor(vision, layers=re.compile(r"block\d"))(images)) == ["block1", "block2"]
    assert list(ActivationExtractor(vision, layers=lambda n: n.endswith("0"))(images)) == ["block1.0", "block2.0"]
    with pytest.raises(ConfigError, match="No layer is selected"):
        ActivationExtractor(vision, layers=lambda n: False)(images)


@pytest.mark.parametrize(
    ("stimuli", "match"),
    [
        ([1, 2], "Not a set of stimuli"),
        ({}, "No stimuli"),
        ({"a": np.zeros((4, 4), np.uint8)}, "not an RGB image"),
        ({"a": np.zeros((3, 9, 9)), "b": np.zeros((3, 9, 8))}, "stimulus b"),
        (xr.Dataset({"text": ("stimulus", [1.0])}), "no images"),
        (xr.DataArray(np.zeros((2, 3)), dims=("stimulus", "x")), "does not name its stimuli"),
        (xr.DataArray(np.zeros((2, 3)), dims=("stimulus", "x"), coords={"stimulus": ["a", "a"]}), "repeat"),
    ],
)
def test_stimuli_that_are_refused(vision, stimuli, match):
    with pytest.raises(SchemaError, match=match):
        ActivationExtractor(vision)(stimuli)


def test_arguments_that_are_refused(vision, images):
    for wrong in ({"dtype": "float16"}, {"batch_size": 0}, {"pool": "median"}):
        with pytest.raises(ConfigError):
            ActivationExtractor(vision, **wrong)
    with pytest.raises(ConfigError, match="device"):
        ActivationExtractor(vision, device="abacus")(images)
    with pytest.raises(SchemaError, match="no tokens"):
        ActivationExtractor(vision, layers="block1", pool="cls")(images)
    with pytest.raises(SchemaError, match="pooling function"):
        ActivationExtractor(vision, layers="block1", pool=lambda x: x.mean())(images)


def test_a_result_larger_than_the_memory_is_refused(vision, images, monkeypatch):
    import neuroalign.activations._extract as module

    monkeypatch.setattr(module.os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 1)
    with pytest.raises(ConfigError, match="do not fit into memory"):
        ActivationExtractor(vision)(images)


def test_provenance_and_storage_form(vision, images):
    acts = ActivationExtractor(vision, layers="block*", pool="mean")(images)
    history = schema.history(acts["block2"])
    step = history["steps"][-1]
    assert step["step"] == "activations"
    assert step["weights_sha256"] == weights_sha256(vision)
    assert (step["layer"], step["model"], step["pooling"]) == ("block2", "Vision", "mean")
    assert "torch" in history["versions"]
    tree = to_tree(acts)
    assert set(tree.children) == {"block1", "block2"}
    np.testing.assert_array_equal(tree["block2"]["activation"].values, acts["block2"].values)


def test_importing_does_not_import_torch():
    code = "import sys, neuroalign.activations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
