"""`tilth organization`: the parties of the consortium, and what yours says of itself."""

import argparse

from tilth.cli.options import network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    verb(actions, "list", _list, "the organizations that share the ledger")
    update = verb(actions, "update", _update, "change what yours says of itself (admin)")
    update.add_argument(
        "--aggregates", action=argparse.BooleanOptionalAction, help="offers to mix models"
    )
    update.add_argument("--name", help="its name for people")
    update.add_argument("--peer-address", metavar="HOST:PORT", help="where other nodes reach it")
    update.add_argument("--client-address", metavar="HOST:PORT", help="where people reach it")


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.organizations.list()
    rows = [(e["organization"], e["name"], _yes(e["votes"]), _yes(e["aggregates"])) for e in found]
    show(arguments, found, table(("organization", "name", "votes", "aggregates"), rows))


def _update(arguments: argparse.Namespace) -> None:
    names = ("aggregates", "name", "peer_address", "client_address")
    chosen = {name: getattr(arguments, name) for name in names}
    facts = {name: value for name, value in chosen.items() if value is not None}
    with network(arguments) as net:
        after = net.organizations.update(**facts)
    show(arguments, after, "\n".join(f"{name}: {after.get(name)}" for name in names))


def _yes(value: object) -> str:
    return "yes" if value else "no"
