"""What the documents say is true: commands exist, code compiles, links and paths lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from tilth.cli import build_parser

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (tilth|make) .*$", re.MULTILINE)


def blocks(language):
    """(document, text) of every fenced block in that language."""
    for path in DOCUMENTS:
        for found, text in FENCE.findall(path.read_text("utf-8")):
            if found == language:
                yield path.relative_to(ROOT).as_posix(), text


def commands():
    """(document, words) of every command line a document shows."""
    for path in DOCUMENTS:
        name, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        lines = [line for _, block in FENCE.findall(text) for line in block.splitlines()]
        lines += [match.group().strip() for match in INDENTED.finditer(text)]
        for line in lines:
            words = line.removeprefix("$ ").strip()
            if words.split(" ")[0] in ("tilth", "make"):
                yield name, shlex.split(words, comments=True)


COMMANDS = list(commands())


def named(case):
    return f"{case[0]}: {' '.join(case[1])}"


@pytest.mark.parametrize("case", [c for c in COMMANDS if c[1][0] == "tilth"], ids=named)
def test_a_command_that_a_document_shows_is_one_that_the_program_takes(case):
    arguments = build_parser().parse_args(case[1][1:])

    assert callable(arguments.run)


@pytest.mark.parametrize("case", [c for c in COMMANDS if c[1][0] == "make"], ids=named)
def test_a_make_target_that_a_document_names_exists(case):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)

    assert {word for word in case[1][1:] if "=" not in word} <= set(targets)


@pytest.mark.parametrize("case", list(blocks("python")), ids=lambda case: case[0])
def test_python_in_a_document_compiles(case):
    compile(case[1], case[0], "exec")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_paths_lead_somewhere(path):
    text = path.read_text("utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    paths = re.findall(r"`((?:ledger|node|sdk|metrics|protos|tests|deploy)/[\w./-]*)`", text)
    missing = [link for link in links if not (path.parent / link).exists()]
    missing += [place for place in paths if not (ROOT / place).exists()]

    assert missing == []


def test_the_first_screen_of_the_readme_shows_the_two_commands():
    first = "\n".join((ROOT / "README.md").read_text("utf-8").splitlines()[:15])

    assert "make demo" in first
    assert "make test" in first


def test_the_license_is_there():
    text = (ROOT / "LICENSE").read_text("utf-8")

    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_names_the_current_version():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert version
    assert f"## {version.group(1)}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
