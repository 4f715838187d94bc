"""Dataset cards: what a public set holds, where it comes from, its licence, and the sha256 of every file."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from neuroalign.errors import ConfigError

__all__ = ["Card", "CardFile", "card_folder", "list_datasets", "parse_card", "read_card"]

_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CardFile(_Model):
    """One file of a set.

    Parameters
    ----------
    name : str
        Its name in the folder.
    sha256 : str
        Of its content.
    bytes : int
        Its length.
    url : str, optional
        Where it can be downloaded (https). Without it `obtain` says how to get the file.
    obtain : str, optional
        What a person has to do to get a file that has no address of its own.
    content : str, optional
        `storage.content_key` of the arrays of a ``.npz``: another file with equal arrays is accepted too.
    unpack : str, optional
        Folder into which an archive is unpacked.
    """

    name: Text
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]
    url: Text | None = None
    obtain: Text | None = None
    content: Sha256 | None = None
    unpack: Text | None = None

    @field_validator("name", "unpack")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        if value is not None and not all(_NAME.fullmatch(part) for part in PurePosixPath(value).parts):
            raise ValueError("must be a plain relative file name")
        return value

    @field_validator("url")
    @classmethod
    def _https(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("https://"):
            raise ValueError("must begin with https://")
        return value

    @model_validator(mode="after")
    def _obtainable(self) -> CardFile:
        if (self.url is None) == (self.obtain is None):
            raise ValueError("needs either url or obtain")
        return self


class Card(_Model):
    """What is known about a public set.

    Parameters
    ----------
    name : str
        Its name for `fetch` and `prepare`.
    title : str
        What was recorded, in one line.
    modality : str
        ``eeg``, ``ieeg``, ``meg``, ``fmri`` or ``rdm``.
    description : str
        What the files and tables hold.
    licence : str
        As the source states it, or that it states none.
    paper : str
        What to cite.
    doi : str, optional
        Of the paper.
    source : str
        The public page.
    prepare : str
        Key of `prepare.PREPARE`.
    split : str
        How to keep training and test apart.
    files : tuple of CardFile
        All files.
    """

    name: Text
    title: Text
    modality: Literal["eeg", "ieeg", "meg", "fmri", "rdm"]
    description: Text
    licence: Text
    paper: Text
    doi: Annotated[str, StringConstraints(pattern=r"^10\.\d{4,9}/\S+$")] | None = None
    source: Text
    prepare: Text
    split: Text
    files: Annotated[tuple[CardFile, ...], Field(min_length=1)]

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be letters, digits, . _ and -")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> Card:
        names = [file.name.casefold() for file in self.files]
        if len(set(names)) < len(names):
            raise ValueError("has two files of the same name")
        return self


def card_folder() -> Path:
    """Find the folder of the cards.

    Returns
    -------
    pathlib.Path
        ``cards`` beside this module in an installed package, or ``datasets`` in the root of the repository.

    Raises
    ------
    ConfigError
        If neither is there.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "cards", here.parents[1] / "datasets"):
        if any(folder.glob("*.toml")):
            return folder
    raise ConfigError("The dataset cards are not installed.", where=here, fix="install neuroalign again")


def list_datasets() -> list[str]:
    """Names of the public sets that `fetch` knows.

    Returns
    -------
    list of str
        In alphabetical order.

    Examples
    --------
    >>> "cocktail-party-eeg" in list_datasets()
    True
    """
    return sorted(path.stem for path in card_folder().glob("*.toml"))


def read_card(name: str) -> Card:
    """Read the card of a set.

    Parameters
    ----------
    name : str
        One of `list_datasets`.

    Returns
    -------
    Card
        The card, checked.

    Raises
    ------
    ConfigError
        If there is no such card, or it is not valid.

    Examples
    --------
    >>> read_card("narratives-black-glove").modality
    'fmri'
    """
    known = list_datasets()
    if name not in known:
        raise ConfigError("Unknown dataset.", expected=", ".join(known), got=name, fix=_did_you_mean(name, known))
    path = card_folder() / f"{name}.toml"
    card = parse_card(path.read_text(encoding="utf-8"), where=path.name)
    if card.name != name:
        raise ConfigError("A card must be called like its set.", expected=name, got=card.name, where=path.name)
    return card


def parse_card(text: str, *, where: str = "card") -> Card:
    """Parse and check the text of a card.

    Parameters
    ----------
    text : str
        TOML.
    where : str
        What errors call it.

    Returns
    -------
    Card
        The card.

    Raises
    ------
    ConfigError
        If it is no TOML, lacks a field, has an unknown one, or a value does not fit. All problems are named.
    """
    try:
        return Card.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The card is not valid TOML: {error}.", where=where) from error
    except ValidationError as error:
        problems = "; ".join(map(_describe, error.errors(include_url=False)))
        raise ConfigError(f"The card is not valid: {problems}.", where=where) from error


def _describe(problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        model = CardFile if place[0] == "files" else Card
        hint = _did_you_mean(place[-1], list(model.model_fields))
        return f"unknown key {'.'.join(place)}" + (f" ({hint})" if hint else "")
    return f"{'.'.join(place) or 'card'}: {problem['msg']}"


def _did_you_mean(word: str, known: list[str]) -> str | None:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else None
