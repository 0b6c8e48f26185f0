"""`tilth identity`: the people and keys of your organization."""

import argparse

from tilth.cli.options import network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    add = verb(actions, "add", _add, "let a key act for your organization (admin)")
    add.add_argument("public", help="public key, 64 hexadecimal digits")
    add.add_argument(
        "--role",
        action="append",
        required=True,
        choices=("admin", "owner", "organizer", "scientist", "auditor"),
        help="what it may do; repeat for several",
    )
    verb(actions, "list", _list, "identities of all organizations")
    revoke = verb(actions, "revoke", _revoke, "no more new entries from this key (admin)")
    revoke.add_argument("identity", help="key id, as tilth identity list prints it")


def _add(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        key = net.identities.add(arguments.public, roles=arguments.role)
    show(arguments, {"identity": key}, f"identity {key}: {', '.join(arguments.role)}")


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.identities.list()
    rows = [(e["organization"], e["key"], ",".join(e["roles"]), e["status"]) for e in found]
    show(arguments, found, table(("organization", "identity", "roles", "status"), rows))


def _revoke(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        net.identities.revoke(arguments.identity)
    show(arguments, {"revoked": arguments.identity}, f"identity {arguments.identity} revoked")
