import re
import tomllib

import pytest

from neuroalign.datasets import PREPARE, list_datasets, read_card
from neuroalign.datasets.cards import card_folder, parse_card
from neuroalign.errors import ConfigError

NAMES = ["cocktail-party-eeg", "narratives-black-glove", "objects81-fmri-alexnet-w2v", "rdm92-kriegeskorte"]
SHA = "0" * 64


def text(**changes: str) -> str:
    fields = {
        "name": '"demo"',
        "title": '"t"',
        "modality": '"eeg"',
        "description": '"d"',
        "licence": '"CC0"',
        "paper": '"p"',
        "source": '"https://example.org"',
        "prepare": '"objects81"',
        "split": '"folds"',
    } | changes
    return "\n".join(f"{key} = {value}" for key, value in fields.items() if value)


def file(**changes: str) -> str:
    fields = {"name": '"a.mat"', "sha256": f'"{SHA}"', "bytes": "3", "url": '"https://example.org/a.mat"'} | changes
    return "\n[[files]]\n" + "\n".join(f"{key} = {value}" for key, value in fields.items() if value)


def test_the_cards_are_there_and_valid():
    assert list_datasets() == NAMES
    for name in NAMES:
        card = read_card(name)
        assert card.prepare in PREPARE
        assert sum(file.bytes for file in card.files) > 100_000


@pytest.mark.parametrize("name", NAMES)
def test_addresses_point_to_one_commit_of_the_source(name):
    card = read_card(name)
    owner_repo = card.source.removeprefix("https://github.com/")
    for entry in card.files:
        pattern = rf"https://raw\.githubusercontent\.com/{re.escape(owner_repo)}/[0-9a-f]{{40}}/\S+"
        assert entry.url is None or re.fullmatch(pattern, entry.url)
    assert len({entry.url.split("/")[5] for entry in card.files if entry.url}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_cards_describe_the_real_files(real_data, name):
    from neuroalign.datasets.fetch import check_file

    folder = real_data(name)
    for entry in read_card(name).files:
        assert (folder / entry.name).stat().st_size == entry.bytes
        check_file(folder / entry.name, entry)


def test_a_missing_licence_is_said():
    assert "No licence stated" in read_card("cocktail-party-eeg").licence
    assert "No licence stated" in read_card("objects81-fmri-alexnet-w2v").licence


def test_a_converted_file_is_named_as_such():
    (converted,) = [f for f in read_card("objects81-fmri-alexnet-w2v").files if f.url is None]
    assert converted.name == "roi_data.npz"
    assert "never opens a pickle" in converted.obtain


def test_a_whole_card():
    assert parse_card(text() + file()).files[0].bytes == 3


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (text(licens='"x"') + file(), r"unknown key licens .*did you mean 'licence'"),
        (text() + file(sha265='"x"'), r"unknown key files\.0\.sha265 .*did you mean 'sha256'"),
        (text(licence="") + file(), "licence: Field required"),
        (text(modality='"xray"') + file(), "modality"),
        (text(title="3") + file(), "title"),
        (text(title='"  "') + file(), "title"),
        (text(doi='"https://doi.org/10.1/x"') + file(), "doi"),
        (text(files="[]"), "files"),
        (text(), "files"),
        (text() + file(url='"http://example.org/a"'), "https"),
        (text() + file(url='"file:///etc/passwd"'), "https"),
        (text() + file(url=""), "either url or obtain"),
        (text() + file(obtain='"by hand"'), "either url or obtain"),
        (text() + file(sha256='"abc"'), "sha256"),
        (text() + file(bytes="-1"), "bytes"),
        (text() + file(name='"../x"'), "plain relative file name"),
        (text() + file(name='"/x"'), "plain relative file name"),
        (text() + file(name='"a b"'), "plain relative file name"),
        (text() + file(unpack='".."'), "plain relative file name"),
        (text() + file() + file(name='"A.mat"'), "same name"),
        (text(name='"../x"') + file(), "name"),
        ("name = ", "not valid TOML"),
        ('name = "a"\nname = "b"', "not valid TOML"),
    ],
)
def test_bad_cards_are_refused_with_the_place(card, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_card(card, where="demo.toml")
    assert "demo.toml" in str(caught.value)


def test_an_unknown_set_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'cocktail-party-eeg'"):
        read_card("coctail-party")
    with pytest.raises(ConfigError, match="Unknown dataset"):
        read_card("../../etc/passwd")


def test_cards_hold_no_key_that_the_model_ignores():
    for name in NAMES:
        raw = tomllib.loads((card_folder() / f"{name}.toml").read_text(encoding="utf-8"))
        assert set(raw) <= set(type(read_card(name)).model_fields)
