"""`tilth check`: try an algorithm on made-up data, in this process. No node is asked."""

import argparse
from pathlib import Path

from tilth.cli.options import show


def register(noun: argparse.ArgumentParser) -> None:
    noun.add_argument("folder", type=Path, help="holds tilth.toml and the code, your own")
    noun.add_argument("--opener", type=Path, required=True, help="folder of a dataset's opener")
    noun.add_argument("--rows", type=int, default=30, help="made-up rows per site (default 30)")
    noun.add_argument("--json", action="store_true", help="print JSON")
    noun.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    from tilth.trial import trial

    found = trial(arguments.folder, arguments.opener, rows=arguments.rows)
    show(arguments, found, str(found))
