"""`tilth node scrub FOLDER`: is every byte on the disk as it was written?

Exit codes: 0 clean, 1 damage, each with file and remedy. Nothing heavy is imported before it runs.
Left to others: looking (scrubbing); a running node calls the same as a process of its own.
"""

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

WORDS = "read every byte of ledger and journal again, and name what is damaged"


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `scrub` to the verbs of `tilth node`."""
    parser = verbs.add_parser(
        "scrub",
        help=WORDS,
        description=WORDS,
        epilog="Exit codes: 0 clean, 1 damage. A node may run on the folder meanwhile.",
    )
    parser.add_argument("folder", type=Path, help="of the node")
    parser.add_argument(
        "--share", type=_percent, default=100, metavar="PERCENT", help="of one core (default 100)"
    )
    parser.add_argument("--rows", action="store_true", help="look at the ledger's rows alone")
    parser.add_argument(
        "--progress", action="store_true", help="print a line for each percent, before the rest"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_scrub)


def _percent(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError("1 to 100")
    return value


def _scrub(arguments: argparse.Namespace) -> int:
    from tilth_node import scrubbing

    if arguments.share < 100:
        os.nice(19)
    look = scrubbing.scrub_rows if arguments.rows else scrubbing.scrub
    found = look(arguments.folder, _pace(arguments.share, progress=arguments.progress))
    counts = f"{found.blocks:,} blocks, {found.leaves:,} leaves, {found.rows:,} rows"
    lines = [f"read    {counts}, {found.records:,} records of the journal"]
    lines += [f"        {found.blobs:,} blobs"]
    for each in found.damages:
        lines += [f"damaged {each.file}: {each.what}", f"        {each.remedy}"]
    lines += ["clean"] if found.clean else []
    sys.stdout.write((json.dumps(found.as_dict()) if arguments.json else "\n".join(lines)) + "\n")
    return 0 if found.clean else 1


def _pace(share: int, *, progress: bool) -> Callable[[float, int], None]:
    """Stands still so long after each piece of work that it takes this share of a core."""
    idle = threading.Event()  # that nobody sets: its timeout is the pace
    told = 0

    def rest(worked: float, percent: int) -> None:
        nonlocal told
        if progress and percent > told:
            told = percent
            sys.stdout.write(f"{percent} %\n")
            sys.stdout.flush()
        idle.wait(worked * (100 - share) / share)

    return rest
