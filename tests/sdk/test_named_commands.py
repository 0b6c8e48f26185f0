"""A command that a message or a page tells people to run exists, with the options it names."""

import argparse
import ast
import re
from pathlib import Path

import pytest

from tilth.cli import build_parser

ROOT = Path(__file__).parents[2]
# `tilth` and the words behind it, up to where the sentence goes on.
NAMED = re.compile(r"(?<![<\w/.-])tilth (?!token \d)([a-zA-Z-][^\s`\"';,)]*(?: [^\s`\"';,()]+)*)")


def pieces(tree):
    """Texts that a module can print; what is filled in stands as X."""
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(p.value if isinstance(p, ast.Constant) else "X" for p in node.values)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            yield node.value


def named():
    for folder in ("ledger", "node", "sdk"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            source = file.read_text(encoding="utf-8")
            if "tilth " not in source:
                continue  # no worker of a run parses it in vain
            for text in pieces(ast.parse(source)):
                for match in NAMED.finditer(text):
                    yield f"{file.relative_to(ROOT)}: tilth {match[1]}"


@pytest.fixture(scope="module")
def parser():
    return build_parser()


@pytest.mark.parametrize("place", sorted(set(named())))
def test_a_named_command_exists(place, parser):
    words = place.partition(": tilth ")[2].split()
    while subs := [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]:
        if not words or not re.fullmatch("[a-z][a-z-]*", words[0]):
            return  # it speaks of a noun, or of the whole
        assert words[0] in subs[0].choices, (
            f"there is no such command; there are {list(subs[0].choices)}"
        )
        parser = subs[0].choices[words.pop(0)]
    known = {option for action in parser._actions for option in action.option_strings}
    options = {word.partition("=")[0].rstrip(".:") for word in words if word.startswith("--")}
    assert options - {"--X"} <= known  # X: which option, is filled in
