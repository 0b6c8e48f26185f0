"""`tilth board`: the leaderboard of an objective."""

import argparse

from tilth.cli.options import common, network, show


def register(noun: argparse.ArgumentParser) -> None:
    common(noun, _board)
    noun.add_argument("objective", help="name or key of the objective")
    noun.add_argument("--all", action="store_true", help="also models not marked final")
    noun.add_argument("--revision", type=int, help="an earlier revision (default: the current)")


def _board(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        objective = net.objectives.find(arguments.objective)
        board = net.leaderboard(
            objective, revision=arguments.revision, finals_only=not arguments.all
        )
    show(arguments, board.as_dict(), str(board))
