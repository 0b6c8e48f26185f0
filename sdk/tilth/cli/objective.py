"""`tilth objective`: a metric with a direction, and the test sets it is measured on."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tilth.cli.options import network, show, table, verb, verbs

if TYPE_CHECKING:
    from tilth.assets import Dataset, Objective
    from tilth.client import Network


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    add = verb(actions, "add", _add, "define an objective (organizer)")
    add.add_argument("name", help="its name, such as 'digits accuracy'")
    add.add_argument(
        "--metric",
        required=True,
        help="built-in metric, such as accuracy; or a folder with metric.py: your own",
    )
    _choose_sets(add)
    add.add_argument(
        "--combine",
        choices=("by_count", "by_site", "pooled"),
        default="by_count",
        help="how scores of several test sets become one (default by_count)",
    )
    add.add_argument("--minimize", action="store_true", help="lower is better")
    add.add_argument(
        "--grade",
        choices=("A", "B", "C", "D"),
        default="B",
        help="least isolation that certifies (default B)",
    )
    add.add_argument("--environment", help="what your own metric needs to run: name or key")
    add.add_argument("--description", default="", help="what this is")
    verb(actions, "list", _list, "objectives of the consortium")
    one = verb(actions, "show", _show, "an objective and its test sets")
    accept = verb(actions, "accept", _accept, "accept your test sets into an objective (owner)")
    revise = verb(actions, "revise", _revise, "new revision on other test sets (organizer)")
    code = verb(actions, "code", _code, "write its own metric into a new folder, to read it")
    withdraw = verb(actions, "withdraw", _withdraw, "no new tests; its boards stay (organizer)")
    for each in (one, accept, revise, code, withdraw):
        each.add_argument("objective", help="name or key")
    _choose_sets(revise)
    code.add_argument("--out", type=Path, default=Path("metric"), help="folder (default metric)")


def _choose_sets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", metavar="NAME", help="the current test sets of all datasets so named"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY",
        help="a test set, also an older one (tilth data sets NAME); repeat for several",
    )


def _datasets(net: "Network", arguments: argparse.Namespace) -> "list[Dataset]":
    """The datasets that --dataset and --set name, each with the chosen test set."""
    chosen = [net.datasets.of_set(key) for key in arguments.set]
    if arguments.dataset:
        named = net.datasets.list(name=arguments.dataset)
        if not named:
            net.datasets.one(name=arguments.dataset)  # says which there are
        taken = {each.key for each in chosen}
        chosen += [each for each in named if each.key not in taken]
    return chosen


def _add(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        environment = arguments.environment and net.environments.find(arguments.environment)
        made = net.objectives.add(
            arguments.name,
            metric=arguments.metric,
            datasets=_datasets(net, arguments),
            combine=arguments.combine,
            direction="minimize" if arguments.minimize else "maximize",
            minimum_grade=arguments.grade,
            description=arguments.description,
            environment=environment or None,
        )
    show(arguments, made, f"objective {made.name}: {made.key}\n{_pending(made)}")


def _revise(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        objective = net.objectives.find(arguments.objective)
        made = net.objectives.revise(objective, _datasets(net, arguments) or None)
    text = f"objective {made.name}: revision {made.revision}, with a board of its own"
    show(arguments, made, f"{text}\n{_pending(made)}")


def _pending(objective: "Objective") -> str:
    if not objective.sets:
        return "it has no test sets: it certifies nothing"
    owners = ", ".join(each.owner for each in objective.sets if not each.accepted)
    command = f"tilth objective accept '{objective.name}'"
    return f"waits for {owners} to run: {command}" if owners else "all its test sets are accepted"


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.objectives.list()
    rows = [(e.name, e.metric_name, e.direction, len(e.sets), e.revision, e.key) for e in found]
    head = ("name", "metric", "direction", "test sets", "revision", "key")
    show(arguments, found, table(head, rows))


def _show(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        objective = net.objectives.find(arguments.objective)
    rows = [(e.owner, e.set, "accepted" if e.accepted else "pending") for e in objective.sets]
    text = (
        f"{objective.name} ({objective.key})\n"
        f"metric {objective.metric_name}, {objective.direction}, "
        f"{objective.combine}, revision {objective.revision}, "
        f"isolation at least {objective.minimum_grade}\n"
    )
    show(arguments, objective, text + table(("owner", "test set", "state"), rows))


def _accept(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        objective = net.objectives.find(arguments.objective)
        done = net.objectives.accept(objective)
    bound = f"bound to the metric {objective.metric_name}"
    text = "\n".join(f"accepted {each.set}, {bound}" for each in done)
    show(arguments, done, text or "no test set of yours waits for your word")


def _code(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        folder = net.objectives.code(net.objectives.find(arguments.objective), arguments.out)
    show(arguments, {"folder": str(folder)}, f"{folder}\nread it before you accept or run it")


def _withdraw(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        objective = net.objectives.find(arguments.objective)
        net.objectives.withdraw(objective)
    show(arguments, {"withdrawn": objective.key}, f"objective {objective.name} is withdrawn")
