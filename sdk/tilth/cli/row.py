"""`tilth row`: certified leaderboard rows as proof bundles."""

import argparse
from pathlib import Path

from tilth.cli.options import network, show, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    export = verb(actions, "export", _export, "write a row of a board as a proof bundle")
    export.add_argument("objective", help="name or key of the objective")
    export.add_argument("--rank", type=int, default=1, help="which row (default 1)")
    export.add_argument(
        "--out",
        type=Path,
        default=Path("row.json"),
        help="file to write, with a .tlog-proof beside it (default row.json)",
    )
    export.add_argument(
        "--standing",
        action="store_true",
        help="have the board recorded first: the bundle proves that the row stands now",
    )
    export.add_argument(
        "--since", type=int, default=0, metavar="SIZE", help="of a checkpoint the reader trusts"
    )


def _export(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        objective = net.objectives.find(arguments.objective)
        if arguments.standing:
            net.record_leaderboard(objective)
        board = net.leaderboard(objective)
        file = net.export(board.row(arguments.rank), arguments.out, since=arguments.since)
    text = f"{file}\ncheck it anywhere: tilth verify {file} --genesis {net.profile.genesis}"
    show(arguments, {"file": str(file)}, text)
