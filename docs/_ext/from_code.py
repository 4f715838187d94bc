"""Directives that write pages from the code: the commands with their options, and the cards of the data sets."""

from __future__ import annotations

from typing import Any

import click
import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from neuroalign.cli import commands
from neuroalign.datasets import list_datasets, read_card


class FromCode(SphinxDirective):
    """Parse what `lines` gives as if it stood in the page, headings included."""

    def lines(self) -> list[str]:
        """Text in the language of the page (MyST)."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Give the nodes of the text."""
        return self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)


def _usage(name: str, command: click.Command) -> str:
    words = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in command.params if _is_argument(p)]
    return " ".join(["neuroalign", name, *words, "[OPTIONS]" if any(map(_is_option, command.params)) else ""]).strip()


def _is_argument(parameter: click.Parameter) -> bool:
    return parameter.param_type_name == "argument"


def _is_option(parameter: click.Parameter) -> bool:
    return parameter.param_type_name == "option" and parameter.name != "help"


def _row(parameter: Any) -> list[str]:
    option = _is_option(parameter)
    name = ", ".join(f"`{word}`" for word in parameter.opts) if option else f"`{parameter.name.upper()}`"
    text = (parameter.help or "").strip()
    if option and not parameter.is_flag:
        numbers = getattr(parameter, "nargs", 1)
        if numbers > 1:
            text += f" Takes {numbers} values."
        if parameter.required:
            text += " Required."
        elif parameter.default is not None:
            text += f" Default: `{parameter.default}`."
    return [f"* - {name}", f"  - {text}"]


class Commands(FromCode):
    """Every command: what it does, its arguments and options."""

    def lines(self) -> list[str]:
        """Describe the commands in the order in which the help shows them."""
        group = typer.main.get_command(commands)
        out: list[str] = []
        for name, command in group.commands.items():  # type: ignore[attr-defined]
            out += [f"## {name}", "", command.help or "", "", "```console", f"$ {_usage(name, command)}", "```", ""]
            rows = [_row(p) for p in command.params if _is_argument(p) or _is_option(p)]
            if rows:
                out += [":::{list-table}", ":widths: 24 76", "", *(line for row in rows for line in row), ":::", ""]
        return out


def _file(file: Any) -> str:
    size = f"{file.bytes / 1e6:.1f} MB" if file.bytes >= 1e5 else f"{file.bytes / 1e3:.1f} kB"
    place = f"[`{file.name}`]({file.url})" if file.url else f"`{file.name}` ({file.obtain})"
    return f"  - {place}, {size}, sha256 `{file.sha256[:12]}…`"


class Cards(FromCode):
    """Every data set with a card."""

    def lines(self) -> list[str]:
        """Describe the sets in alphabetical order."""
        out: list[str] = []
        for name in list_datasets():
            card = read_card(name)
            paper = card.paper if card.doi is None else f"{card.paper} [doi:{card.doi}](https://doi.org/{card.doi})"
            out += [f"## {name}", "", f"**{card.title}.**", "", card.description, ""]
            out += [f"- Modality: {card.modality}", f"- Split: {card.split}", f"- Paper: {paper}"]
            out += [f"- Source: <{card.source}>", f"- Licence: {card.licence}", "- Files:", ""]
            out += [*map(_file, card.files), ""]
        return out


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives."""
    app.add_directive("neuroalign-commands", Commands)
    app.add_directive("neuroalign-cards", Cards)
    return {"parallel_read_safe": True, "version": "1"}
