"""`tilth algo`: algorithms, which are untrained code."""

import argparse
from pathlib import Path

from tilth.cli.options import network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    add = verb(actions, "add", _add, "register the algorithm in a folder")
    add.add_argument("folder", type=Path, help="holds tilth.toml and the code")
    add.add_argument("--name", help="default: as in tilth.toml")
    verb(actions, "list", _list, "algorithms of the consortium")
    one = verb(actions, "show", _show, "an algorithm and its parameters")
    one.add_argument("algo", help="name or key")


def _add(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        algo = net.algos.add(arguments.folder, name=arguments.name)
    show(arguments, algo, f"algo {algo.name}: {algo.key}")


def _show(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        algo = net.algos.find(arguments.algo)
    head = ("parameter", "type", "default", "low", "high", "choices")
    rows = [
        (each["name"], each["type"], *(each.get(field, "") for field in head[2:]))
        for each in algo.parameters
    ]
    text = f"{algo.name} of {algo.owner}\nkey {algo.key}\narchive {algo.archive}\n"
    show(arguments, algo, text + table(head, rows))


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.algos.list()
    rows = [(e.name, e.owner, " ".join(e.capabilities), e.key) for e in found]
    show(arguments, found, table(("name", "owner", "can", "key"), rows))
