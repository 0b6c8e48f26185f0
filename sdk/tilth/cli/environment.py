"""`tilth environment`: what code needs to run, named by the digest of what it is built from."""

import argparse

from tilth.cli.options import network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    add = verb(actions, "add", _add, "register an environment")
    add.add_argument("name")
    add.add_argument("--python", default=">=3.11", help="version (default >=3.11)")
    add.add_argument("--requirement", action="append", default=[], help="package; repeat")
    verb(actions, "list", _list, "environments of the consortium")


def _add(arguments: argparse.Namespace) -> None:
    spec = {"python": arguments.python, "requirements": sorted(arguments.requirement)}
    with network(arguments) as net:
        made = net.environments.add(arguments.name, spec)
    show(arguments, made, f"environment {made.name}: {made.key}\ndigest {made.digest}")


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.environments.list()
    rows = [(each.name, " ".join(each.requirements), each.key) for each in found]
    show(arguments, found, table(("name", "requirements", "key"), rows))
