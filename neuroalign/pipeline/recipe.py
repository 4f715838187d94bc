"""Recipes: a step and its options in a YAML file, read strictly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from neuroalign.errors import ConfigError
from neuroalign.pipeline.options import DecodeOptions, EncodeOptions, Options, RSAOptions

if TYPE_CHECKING:
    from neuroalign.pipeline.steps import Outcome

MAX_BYTES = 2**20
MAX_DEPTH = 16
STEPS: dict[str, type[Options]] = {"encode": EncodeOptions, "decode": DecodeOptions, "rsa": RSAOptions}

_INT = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# YAML 1.1 reads these as truth values, octal or base-60 numbers, and YAML 1.2 as text: nobody should have to know.
_AMBIGUOUS = re.compile(
    r"(?i:yes|no|on|off|y|n)|[+-]?0[0-9_]+|[+-]?[0-9]+(:[0-5]?[0-9])+|0[xob][0-9a-fA-F_]+|[+-]?\.?(?i:inf|nan)"
)


class _Reader:
    """Builds plain values from YAML nodes, with the line of every top-level key."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, node: Any, problem: str, **details: Any) -> ConfigError:
        return ConfigError(problem, where=f"{self.where}, line {node.start_mark.line + 1}", **details)

    def build(self, node: yaml.Node, depth: int = 1) -> Any:
        if depth > MAX_DEPTH:
            raise self.fail(node, "The recipe is nested too deeply.", expected=f"at most {MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            self._plain_tag(node, "tag:yaml.org,2002:seq")
            return [self.build(child, depth + 1) for child in node.value]
        return self._scalar(node)

    def _plain_tag(self, node: yaml.Node, expected: str) -> None:
        if node.tag != expected:
            raise self.fail(
                node, "Tags are not allowed in recipes.", expected="plain values", got=node.tag, fix="remove the tag"
            )

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        self._plain_tag(node, "tag:yaml.org,2002:map")
        out: dict[str, Any] = {}
        for key, value in node.value:
            name = self.build(key, depth + 1)
            if not isinstance(name, str):
                raise self.fail(key, "A key is not text.", expected="the name of an option", got=name)
            if name in out:
                raise self.fail(
                    key,
                    f"The key {name!r} stands twice.",
                    expected="each option once",
                    got=name,
                    fix="remove one of them",
                )
            out[name] = self.build(value, depth + 1)
        return out

    def _scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        if node.tag not in {
            f"tag:yaml.org,2002:{kind}"
            for kind in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")
        }:
            raise self.fail(
                node, "Tags are not allowed in recipes.", expected="plain values", got=node.tag, fix="remove the tag"
            )
        if getattr(node, "style", None):  # quoted or block text is text
            return text
        if text in ("", "null", "~"):
            return None
        if text in ("true", "false"):
            return text == "true"
        if _INT.fullmatch(text):
            return int(text)
        if _AMBIGUOUS.fullmatch(text):
            raise self.fail(
                node,
                f"{text!r} can be read in two ways.",
                expected="true or false, a plain number, or quoted text",
                got=text,
                fix=f'write "{text}" in quotes if it is text',
            )
        if _FLOAT.fullmatch(text):
            return float(text)
        return text


def read_recipe(path: str | Path) -> tuple[str, Options]:
    """Read a recipe.

    Parameters
    ----------
    path : path
        A YAML file: ``step`` (encode, decode or rsa) and the options of that step. Anchors, tags, double keys and
        values that YAML versions read differently (``no``, ``012``) are refused.

    Returns
    -------
    step : str
        Name of the step.
    options : Options
        Its validated options. Relative paths count from the folder of the recipe.

    Raises
    ------
    ConfigError
        Naming the file, the line and what to do.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError("No such recipe.", expected="a YAML file", got=str(path))
    if file.stat().st_size > MAX_BYTES:
        raise ConfigError(
            "The recipe is too large.", expected=f"at most {MAX_BYTES} bytes", got=file.stat().st_size, where=file
        )
    values, lines = _parse(file)
    step = values.pop("step", None)
    if not isinstance(step, str) or step not in STEPS:
        raise ConfigError("Which step?", expected=f"step: {' or '.join(STEPS)}", got=step, where=file)
    for name in ("features", "responses", "against", "models", "data", "out"):
        if isinstance(values.get(name), str):
            values[name] = str(file.parent / values[name])
    return step, STEPS[step].parse(values, where=str(file), lines=lines)


def _parse(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    reader = _Reader(str(file))
    try:
        text = file.read_text(encoding="utf-8-sig")
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise reader.fail(
                    event, "Anchors and aliases are not allowed in recipes.", expected="values written out"
                )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(
            "The recipe is not UTF-8 text.", expected="a YAML file", got=str(error), where=file
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(
            "The recipe is not valid YAML.", expected="key: value lines", got=problem, where=f"{file}{line}"
        ) from error
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            "The recipe is empty or not a mapping.", expected="key: value lines", got=type(node).__name__, where=file
        )
    return reader.build(node), {str(key.value): key.start_mark.line + 1 for key, _ in node.value}


def run_recipe(path: str | Path) -> Outcome:
    """Run the step that a recipe describes.

    Parameters
    ----------
    path : path
        The recipe; see `read_recipe`.

    Returns
    -------
    Outcome
        What the step found and wrote.
    """
    from neuroalign.pipeline import steps

    name, options = read_recipe(path)
    return {"encode": steps.encode, "decode": steps.decode, "rsa": steps.rsa}[name](options)  # type: ignore[operator]
