"""`tilth objective`: a metric with a direction, and the test sets it is measured on."""

import argparse

from tilth.cli.options import network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    add = verb(actions, "add", _add, "define an objective (organizer)")
    add.add_argument("name")
    add.add_argument("--metric", required=True, help="built-in metric, such as accuracy")
    add.add_argument(
        "--dataset", required=True, help="name: the test sets of all datasets so named"
    )
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
    verb(actions, "list", _list, "objectives of the consortium")
    one = verb(actions, "show", _show, "an objective and its test sets")
    one.add_argument("objective", help="name or key")
    accept = verb(actions, "accept", _accept, "accept your test sets into an objective (owner)")
    accept.add_argument("objective", help="name or key")


def _add(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        made = net.objectives.add(
            arguments.name,
            metric=arguments.metric,
            datasets=net.datasets.list(name=arguments.dataset),
            combine=arguments.combine,
            direction="minimize" if arguments.minimize else "maximize",
            minimum_grade=arguments.grade,
        )
    owners = ", ".join(each.owner for each in made.sets if not each.accepted)
    show(
        arguments, made, f"objective {made.name}: {made.key}\nmust accept it: {owners or 'nobody'}"
    )


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.objectives.list()
    rows = [
        (e.name, e.metric.get("builtin", "own"), e.direction, len(e.sets), e.revision, e.key)
        for e in found
    ]
    head = ("name", "metric", "direction", "test sets", "revision", "key")
    show(arguments, found, table(head, rows))


def _show(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        objective = net.objectives.find(arguments.objective)
    rows = [(e.owner, e.set, "accepted" if e.accepted else "pending") for e in objective.sets]
    text = (
        f"{objective.name} ({objective.key})\n"
        f"metric {objective.metric.get('builtin', 'own')}, {objective.direction}, "
        f"{objective.combine}, revision {objective.revision}, "
        f"isolation at least {objective.minimum_grade}\n"
    )
    show(arguments, objective, text + table(("owner", "test set", "state"), rows))


def _accept(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        done = net.objectives.accept(net.objectives.find(arguments.objective))
    text = "\n".join(f"accepted {each.set}" for each in done) or "nothing of yours is pending"
    show(arguments, done, text)
