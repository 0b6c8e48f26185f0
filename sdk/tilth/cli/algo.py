"""`tilth algo`: algorithms, which are untrained code."""

import argparse
from pathlib import Path

from tilth.cli.options import network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    add = verb(actions, "add", _add, "register the algorithm in a folder")
    add.add_argument("folder", type=Path, help="holds algorithm.py, or tilth.toml and the code")
    add.add_argument("--name", help="default: as in tilth.toml")
    add.add_argument(
        "--environment",
        help="what it and the openers of its data need to run: name or key (default: Python with "
        "numpy and h5py)",
    )
    verb(actions, "list", _list, "algorithms of the consortium")
    one = verb(actions, "show", _show, "an algorithm and its parameters")
    code = verb(actions, "code", _code, "write its code into a new folder, to read it")
    withdraw = verb(actions, "withdraw", _withdraw, "no new use of it; what it made stays")
    for each in (one, code, withdraw):
        each.add_argument("algo", help="name or key")
    code.add_argument("--out", type=Path, default=Path("code"), help="folder (default code)")


def _add(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        environment = arguments.environment and net.environments.find(arguments.environment)
        algo = net.algos.add(arguments.folder, name=arguments.name, environment=environment or None)
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


def _code(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        folder = net.algos.code(net.algos.find(arguments.algo), arguments.out)
    show(arguments, {"folder": str(folder)}, f"{folder}\nread it before you approve or run it")


def _withdraw(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        algo = net.algos.find(arguments.algo)
        net.algos.withdraw(algo)
    show(arguments, {"withdrawn": algo.key}, f"algo {algo.name} is withdrawn")
