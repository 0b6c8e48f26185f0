"""The guide's command table is the parser's, and its script is the one that is tested."""

import argparse
import re
from pathlib import Path

from tilth.cli import NOUNS, build_parser

README = Path(__file__).parents[2] / "sdk" / "README.md"


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


def test_the_guide_holds_one_script():
    assert len(re.findall(r"^```python$", README.read_text(), re.MULTILINE)) == 1
