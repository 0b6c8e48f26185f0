"""The guide's command table is the parser's, and its script is the one that is tested."""

import argparse
import ast
import re
from pathlib import Path

from tilth.cli import NOUNS, build_parser

ROOT = Path(__file__).parents[2]
README = ROOT / "sdk" / "README.md"


def commands(parser, path=()):
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner:
        yield " ".join(path), parser.description
    for action in inner:
        for name, child in action.choices.items():
            yield from commands(child, (*path, name))


def test_the_table_of_commands_is_the_parsers():
    real = [each for noun in NOUNS for each in commands(build_parser(noun))]
    written = re.findall(r"^\| `tilth ([a-z -]+)` \| (.*) \|$", README.read_text(), re.MULTILINE)

    assert written == real


def script(file):
    """The only Python block of a page, without its comments."""
    [block] = re.findall(r"^```python\n(.*?)^```$", file.read_text(), re.MULTILINE | re.DOTALL)
    return ast.dump(ast.parse(block))


def test_the_first_page_shows_the_script_that_is_tested():
    assert script(ROOT / "README.md") == script(README)
