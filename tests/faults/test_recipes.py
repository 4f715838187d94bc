"""Recipes are read strictly: what YAML versions read differently, or could hurt, is refused with its line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.errors import ConfigError
from neuroalign.pipeline import read_recipe

GOOD = "step: encode\nfeatures: a.zarr\nresponses: b.zarr\nout: results\n"


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_good_recipe(tmp_path):
    text = GOOD + "# a comment\nlags: [-0.1, 4e-1]\nalpha: 1e-2\nby: 'no'\noverwrite: true\nagainst: ~\n"
    step, options = read_recipe(write(tmp_path, text))
    assert step == "encode"
    assert options.lags == (-0.1, 0.4)
    assert options.alpha == 0.01
    assert options.by == "no"
    assert options.overwrite is True
    assert options.features == str(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "by: !!python/object/apply:os.system ['touch canary']\n", "line 5"),
        (GOOD + "by: !!python/name:os.system\n", "Tags are not allowed"),
        (GOOD + "by: !custom x\n", "Tags are not allowed"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n" + GOOD, "Anchors and aliases"),
        (GOOD + "features: c.zarr\n", "stands twice"),
        (GOOD + "by: no\n", "two ways"),
        (GOOD + "seed: 012\n", "two ways"),
        (GOOD + "seed: 0x1F\n", "two ways"),
        (GOOD + "by: 12:30\n", "two ways"),
        (GOOD + "alpha: .nan\n", "two ways"),
        (GOOD + "permutation: 10\n", "line 5"),
        (GOOD + "permutation: 10\n", "did you mean 'permutations'"),
        (GOOD + "seed: twelve\n", "line 5"),
        (GOOD + "? [a, b]\n: 1\n", "not text"),
        (GOOD + "by: {" * 40, "not valid YAML|too deeply"),
        (GOOD + "by: " + "[" * 30 + "]" * 30 + "\n", "too deeply"),
        ("features: [1, 2\n", "line"),
        ("", "empty"),
        ("- a\n- b\n", "not a mapping"),
        (b"\xff\xfe\x00", "UTF-8|YAML"),
        ("step: destroy\nout: x\n", "encode or decode or rsa"),
        (GOOD + "# " + "x" * 2**20, "too large"),
    ],
)
def test_bad_recipes_are_refused_with_their_place(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        read_recipe(write(tmp_path, text))
    assert not (tmp_path / "canary").exists()


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_any_text_gives_options_or_a_config_error(tmp_path_factory, text):
    path = write(tmp_path_factory.mktemp("recipe"), (GOOD + text).encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigError):
        read_recipe(path)
