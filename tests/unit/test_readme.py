"""The README is held against the tree: what it names is there, and what is there is named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
CODE = re.findall(r"`([^`\n]+)`", README)
COMMANDS = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")} | {"collectstatic"}


def test_its_length():
    assert len(README.splitlines()) <= 150


def test_the_folder_map_is_the_tree():
    named = set(re.findall(r"^\| `(\w+)/` \|", README, re.MULTILINE))
    there = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    assert named == there - {"docs", "staticfiles"}


@pytest.mark.parametrize("path", sorted({text for text in CODE if re.fullmatch(r"\w+/[\w/]+\.py", text)}))
def test_every_file_it_names_is_there(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`manage\.py (\w+)", README))))
def test_every_command_it_names_is_there(command):
    assert command in COMMANDS


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\./dev (\w+)", README))))
def test_every_entry_of_dev_is_there(command):
    assert re.search(rf"^    {command}\)", (ROOT / "dev").read_text(), re.MULTILINE)


def test_its_pictures_are_there():
    assert all((ROOT / path).is_file() for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))
