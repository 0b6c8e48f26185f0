"""`tilth demo` on the command line; what it does is in play.py, loaded when it runs."""

import argparse
from pathlib import Path
from typing import Any

EPILOG = """\
Nothing leaves this machine. Without --folder everything is made in a temporary folder and
removed at the end; --keep leaves the folder and the running nodes, and prints how to go on."""


def register(nouns: Any) -> None:
    """Adds the command."""
    about = "three hospitals on this machine train, certify and rank a model"
    parser = nouns.add_parser("demo", help=about, description=about, epilog=EPILOG)
    parser.add_argument("--folder", type=Path, help="where to put everything; must be empty")
    parser.add_argument("--keep", action="store_true", help="leave the three nodes running")
    parser.add_argument("--stop", type=Path, metavar="FOLDER", help="end nodes that --keep left")
    parser.add_argument("--rounds", type=_rounds, metavar="N", help="of training (default 10)")
    parser.add_argument("--json", action="store_true", help="print only the results, as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tilth_node.demo import play

    return play.run(arguments)


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 1 to 100")
    return int(text)
