"""Model folders that are damaged, forged or something else (rows 20 and 21 of the faults)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from neuroalign import load_model
from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError
from neuroalign.preprocess import Standardizer
from neuroalign.protocol._save import _digest

MODELS: dict[str, Callable[[], Any]] = {"ridge": RidgeDecoder, "trf": lambda: TRFDecoder(tmax=0.1, sfreq=20.0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(40, 2))
    return RidgeDecoder().fit(x, x[:, :1]).save(tmp_path / "model")


def forge(folder: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None], *, sign: bool = True) -> None:
    """Change a model as somebody would who knows the format: all checksums are right again."""
    text = json.loads((folder / "model.json").read_text())
    tensors = load_file(str(folder / "model.safetensors"))
    change(text, tensors)
    if sign:
        save_file(tensors, str(folder / "model.safetensors"))
        text["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        text["sha256_json"] = _digest(text)
    (folder / "model.json").write_text(json.dumps(text))


def refused(path: Path, kind: type[NeuroalignError] = IntegrityError, match: str | None = None) -> None:
    with pytest.raises(kind, match=match) as caught:
        load_model(str(path))
    assert str(path) in str(caught.value)
    assert caught.value.expected is not None


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def archive(bomb: Canary) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(bomb))
    return buffer.getvalue()


def torch_file(bomb: Canary) -> bytes:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save({"weights": bomb}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("attack", [pickle.dumps, archive, torch_file], ids=["pickle", "zip", "pt"])
@pytest.mark.parametrize("place", ["model", "model.safetensors", "model.json"])
def test_nothing_in_a_pickle_runs(attack: Callable[[Canary], bytes], place: str, folder: Path) -> None:
    canary = folder.parent / "canary"
    content = attack(Canary(canary))
    if place == "model":
        path = folder.parent / "model.pt"
        path.write_bytes(content)
        refused(path, match="pickle, which could run any code")
    else:
        (folder / place).write_bytes(content)
        if place == "model.safetensors":
            text = json.loads((folder / "model.json").read_text())
            text["sha256"] = hashlib.sha256(content).hexdigest()  # even when the checksum agrees
            (folder / "model.json").write_text(json.dumps(text))
        refused(folder)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_files_that_are_missing_cut_or_empty(name: str, folder: Path) -> None:
    whole = (folder / name).read_bytes()
    for content in (b"", whole[:1], whole[: len(whole) // 2], whole[:-1], whole + b"\0", whole[::-1]):
        (folder / name).write_bytes(content)
        refused(folder)
    (folder / name).unlink()
    refused(folder, match="no such file")
    refused(folder.parent, match=r"Not a model folder[\s\S]*model.json")
    refused(folder.parent / "nothing")


def same(a: Any, b: Any) -> bool:
    mine, theirs = vars(a), vars(b)
    return mine.keys() == theirs.keys() and all(repr(mine[k]) == repr(theirs[k]) for k in mine)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(["model.json", "model.safetensors"]), where=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_or_harmless(
    name: str, where: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    x = np.random.default_rng(0).normal(size=(40, 2))
    if not folder.exists():
        TRFDecoder(tmax=0.1, sfreq=20.0).fit(x, x[:, :1]).save(folder)
    whole = (folder / name).read_bytes()
    place = int(where * (len(whole) - 1))
    damaged = bytearray(whole)
    damaged[place] ^= 1 << bit
    before = load_model(str(folder))
    try:
        (folder / name).write_bytes(bytes(damaged))
        with contextlib.suppress(NeuroalignError):
            assert same(load_model(str(folder)), before)  # white space, or the version that wrote it
    finally:
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "subprocess.Popen", "StandardScaler", "", None, 7, ["RidgeEncoder"], {}]
)
def test_only_our_own_classes_are_built(name: object, folder: Path) -> None:
    def rename(text: dict[str, Any], tensors: object) -> None:
        text["class"] = name

    forge(folder, rename)
    refused(folder, ConfigError, "Unknown class of model")


@pytest.mark.parametrize("name", ["LabelledEstimator", "LabelledTransformer", "Standardizer", "TRFEncoder"])
def test_a_class_that_is_not_the_one_saved(name: str, folder: Path) -> None:
    forge(folder, lambda text, tensors: text.update({"class": name}))
    refused(folder)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, 1.5])
def test_other_formats(version: object, folder: Path) -> None:
    forge(folder, lambda text, tensors: text.update(format=version, neuroalign="9.9"))
    refused(folder, ConfigError, r"another format[\s\S]*written by neuroalign 9\.9[\s\S]*update neuroalign")


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "{" * 10, "[]", "null", '"x"', "nan", "9" * 5000, "\x00", '{"a":' * 50 + "1" + "}" * 50]
)
def test_json_that_is_deep_or_no_object(text: str, folder: Path) -> None:
    (folder / "model.json").write_text(text)
    refused(folder)


def test_json_that_is_not_text_or_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.json").write_bytes(b'{"class": "\xff\xfe"}')
    refused(folder)
    monkeypatch.setattr("neuroalign.protocol._save._MAX_JSON", 10)
    refused(folder, match="too large")


@pytest.mark.parametrize(
    "name", ["evil_", "predict", "fit", "__class__", "__dict__", "_fit_", "coef_", "patterns_", "", "save_"]
)
def test_fitted_attributes_that_the_class_does_not_know(name: str, folder: Path) -> None:
    def add(text: dict[str, Any], tensors: object) -> None:
        text["fitted"][name] = 1

    forge(folder, add)
    refused(folder)


def test_a_transformer_lets_no_attribute_be_shadowed(tmp_path: Path) -> None:
    path = Standardizer().fit(np.eye(3)).save(tmp_path / "model")
    for name in ("transform", "__class__", "_transform", "_transform_"):
        forge(path, lambda text, tensors, name=name: text["fitted"].update({name: 1}))
        refused(path)
        forge(path, lambda text, tensors, name=name: text["fitted"].pop(name))
    load_model(str(path))


@pytest.mark.parametrize("kind", MODELS)
def test_every_fitted_attribute_is_needed_and_has_its_shape(kind: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    path = MODELS[kind]().fit(x, x[:, :2]).save(tmp_path / "model")
    whole = {file.name: file.read_bytes() for file in path.iterdir()}
    tensor_names = [*load_file(str(path / "model.safetensors"))]
    names = [*json.loads(whole["model.json"])["fitted"]]
    assert {"solution_coef_", "solution_patterns_", "feature_labels_", "n_features_in_"} <= {*names}
    load_model(str(path))

    def attempt(change: Callable[[dict[str, Any], dict[str, np.ndarray]], None], what: str) -> None:
        for file, content in whole.items():
            (path / file).write_bytes(content)
        forge(path, change)
        with pytest.raises(IntegrityError, match=re.escape(str(path))):
            pytest.fail(f"{what} was taken: {load_model(str(path))}")

    for name in names:
        if name not in ("alpha_edges_",):
            attempt(lambda text, tensors, name=name: text["fitted"].pop(name), f"no {name}")
            for value in ("text", [1, 2], {"tensor": "nothing"}, {"items": 1}, {"labels": 1}, {"labels": {}}, {}):
                attempt(
                    lambda text, tensors, name=name, value=value: text["fitted"].update({name: value}),
                    f"{name} = {value}",
                )
    for name in tensor_names:
        attempt(lambda text, tensors, name=name: tensors.update({name: tensors[name][..., :0]}), f"empty {name}")
        attempt(lambda text, tensors, name=name: tensors.update({name: tensors[name][None]}), f"{name} with an axis")
        attempt(lambda text, tensors, name=name: tensors.pop(name), f"no tensor {name}")
        if name in ("solution_coef_", "solution_patterns_"):
            attempt(lambda text, tensors, name=name: tensors[name].fill(np.nan), f"{name} of NaN")


@pytest.mark.parametrize(
    "change",
    [
        {"dims": ["unit", "unit"]},
        {"dims": [1]},
        {"dims": "unit"},
        {"shape": [-2]},
        {"shape": [2.0]},
        {"shape": [10**12]},
        {"shape": [True]},
        {"shape": []},
        {"name": ["a"]},
        {"coords": {"unit": [["unit"], {"items": ["a"], "shape": [1], "kind": "O"}]}},
        {"coords": {"unit": [["elsewhere"], {"items": ["a", "b"], "shape": [2], "kind": "O"}]}},
        {"coords": {"unit": [["unit"], {"items": ["a", "b"], "shape": [7], "kind": "O"}]}},
        {"coords": {"unit": [["unit"], {"items": ["a", "b"], "shape": [2], "kind": "V"}]}},
        {"coords": []},
        {"attrs": []},
    ],
)
def test_labels_that_do_not_fit(change: dict[str, Any], folder: Path) -> None:
    forge(folder, lambda text, tensors: text["fitted"]["feature_labels_"]["labels"].update(change))
    refused(folder)


@pytest.mark.parametrize("params", [{"evil": 1}, {"alphas": {"tensor": "nothing"}}, [], None, {"cv": {"a": 1}}])
def test_parameters_that_the_class_does_not_know(params: object, folder: Path) -> None:
    forge(folder, lambda text, tensors: text.update(params=params))
    refused(folder)


def test_an_unsigned_change_is_found(folder: Path) -> None:
    forge(folder, lambda text, tensors: text["params"].update(scorer="r"), sign=False)
    refused(folder, match="sha256_json")
    forge(folder, lambda text, tensors: text.pop("sha256_json"), sign=False)
    refused(folder)
    forge(folder, lambda text, tensors: text.update(sha256="0" * 64), sign=False)
    refused(folder, match="sha256 000")


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["tensor", "items", "labels", "dims", "shape", "coords", "kind", "name", "attrs", "dtype"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_in_the_place_of_labels(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    if not folder.exists():
        x = np.random.default_rng(0).normal(size=(40, 2))
        RidgeDecoder().fit(x, x[:, :1]).save(folder)
    whole = {file: file.read_bytes() for file in folder.iterdir()}
    try:
        forge(folder, lambda text, tensors: text["fitted"].update(target_labels_=value))
        with pytest.raises(IntegrityError):
            load_model(str(folder))
    finally:
        for file, content in whole.items():
            file.write_bytes(content)
