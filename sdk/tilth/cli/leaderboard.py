"""`tilth leaderboard`: the certified results of an objective, best first (rules B1 to B4)."""

import argparse
from typing import TYPE_CHECKING

from tilth.cli.options import common, network, show, table
from tilth.errors import InvalidInput

if TYPE_CHECKING:
    from tilth.assets import Objective
    from tilth.client import Network
    from tilth.leaderboard import View


def register(noun: argparse.ArgumentParser) -> None:
    common(noun, _leaderboard)
    noun.add_argument("objective", help="name or key of the objective")
    noun.add_argument("--all", action="store_true", help="also models not marked final")
    noun.add_argument("--revision", type=int, help="an earlier revision (default: the current)")
    noun.add_argument("--at", type=_count, metavar="SIZE", help="as of so many entries")
    noun.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only rows of a plan, algo, organization or model (digest); repeatable",
    )
    noun.add_argument(
        "--group-by", metavar="FIELD", help="the best of each algo, plan, organization"
    )
    noun.add_argument("--top", type=_count, metavar="K", help="rows of rank 1 to K")
    noun.add_argument("--limit", type=_count, metavar="N", help="rows on a page")
    noun.add_argument("--page", type=int, metavar="CURSOR", help="the page after, as printed")
    instead = noun.add_mutually_exclusive_group()
    instead.add_argument(
        "--record", action="store_true", help="have the members record which rows stand now"
    )
    instead.add_argument("--history", action="store_true", help="every revision, newest first")
    instead.add_argument(
        "--curve", metavar="PLAN", help="certified values of a plan's models by rank"
    )


def _leaderboard(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        objective = net.objectives.find(arguments.objective)
        if arguments.record:
            _record(arguments, net, objective)
            return
        if arguments.curve:
            _show_curve(arguments, net, objective)
            return
        if arguments.history:
            boards = net.history(objective, **_view(arguments))
            text = "\n\n".join(str(each) for each in boards)
            show(arguments, [each.as_dict() for each in boards], text)
            return
        board = net.leaderboard(objective, **_view(arguments))
    show(arguments, board.as_dict(), str(board))


def _record(arguments: argparse.Namespace, net: "Network", objective: "Objective") -> None:
    made = net.record_leaderboard(objective, arguments.revision)
    text = (
        f"entry {made['index']}: {made['count']} rows of {objective.name} stood at size"
        f" {made['size']}\nprove one: tilth row export {objective.name!r}"
    )
    show(arguments, made, text)


def _show_curve(arguments: argparse.Namespace, net: "Network", objective: "Objective") -> None:
    points = net.certified_curve(objective, net.plans.find(arguments.curve).key)
    rows = [{"rank": rank, "value": value} for rank, value in points]
    show(arguments, rows, table(("rank", "score"), points))


def _view(arguments: argparse.Namespace) -> "View":
    view: View = {
        "finals_only": not arguments.all,
        "size": arguments.at,
        "where": dict(_pair(each) for each in arguments.where),
        "best": arguments.group_by or "",
        "top": arguments.top,
        "limit": arguments.limit,
        "page": arguments.page,
    }
    if arguments.revision is not None:
        view["revision"] = arguments.revision
    return view


def _pair(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(
            "--where is wrong",
            found=text,
            expected="FIELD=VALUE",
            remedy="For example: --where organization=hospital-a",
        )
    return field, value


def _count(text: str) -> int:
    """A whole number from 1; argparse says the rest."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
