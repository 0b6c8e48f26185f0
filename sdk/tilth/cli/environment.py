"""`tilth environment`: what code needs to run, named by the digest of what it is built from."""

import argparse
from pathlib import Path

from tilth.assets import Environment
from tilth.cli.options import names, network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    add = verb(actions, "add", _add, "register an environment")
    add.add_argument("name")
    add.add_argument(
        "source",
        type=Path,
        nargs="?",
        help="a requirements file (with hashes: a lock), or a folder with a Dockerfile",
    )
    add.add_argument("--python", default=">=3.11", help="version (default >=3.11)")
    add.add_argument("--base", default="", help="image to build on (default: each node's own)")
    add.add_argument(
        "--requirement", action="append", default=[], help="package that it holds; repeat"
    )
    verb(actions, "list", _list, "environments of the consortium")
    offer = verb(actions, "offer", _offer, "offer the image that your node built, as a file")
    offers = verb(actions, "offers", _offers, "images that organizations offer")
    for each in (offer, offers):
        each.add_argument("environment", help="name or key")
    offer.add_argument("file", type=Path, help="of: tilth node image export")
    offer.add_argument("--use", default="all", help="organizations with commas (default all)")
    withdraw = verb(actions, "withdraw-offer", _withdraw, "your image is offered no more")
    withdraw.add_argument("key", help="of the offer")
    code = verb(actions, "code", _code, "write its Dockerfile or lock into a new folder")
    code.add_argument("environment", help="name or key")
    code.add_argument("--out", type=Path, default=Path("code"), help="folder (default code)")


def _add(arguments: argparse.Namespace) -> None:
    source = arguments.source or arguments.requirement
    stated = {"python": arguments.python, "base": arguments.base}
    with network(arguments) as net:
        made = net.environments.add(
            arguments.name, source, requirements=arguments.requirement, **stated
        )
    show(arguments, made, f"environment {made.name}: {made.key}\ndigest {made.digest}")


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.environments.list()
    rows = [(each.name, " ".join(each.requirements), _built(each), each.key) for each in found]
    show(arguments, found, table(("name", "requirements", "built from", "key"), rows))


def _offer(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        environment = net.environments.find(arguments.environment)
        made = net.environments.offer(environment, arguments.file, use=names(arguments.use))
    show(arguments, made, f"offered {made.image}: {made.key}\nfile {made.file}")


def _offers(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.environments.offers(net.environments.find(arguments.environment))
    rows = [(each.organization, each.image, f"{each.size >> 20} MiB", each.key) for each in found]
    show(arguments, found, table(("organization", "image", "size", "key"), rows))


def _withdraw(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        net.environments.withdraw_offer(arguments.key)
    show(arguments, {"withdrawn": arguments.key}, f"{arguments.key} is offered no more")


def _built(environment: Environment) -> str:
    kinds = {"lock": environment.lock, "Dockerfile": environment.dockerfile}
    named = next((kind for kind, digest in kinds.items() if digest), "requirements")
    return f"{named} on {environment.base}" if environment.base else named


def _code(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        folder = net.environments.code(net.environments.find(arguments.environment), arguments.out)
    show(arguments, {"folder": str(folder)}, f"{folder}\nread it before you approve or run it")
