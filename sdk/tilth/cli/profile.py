"""`tilth profile`: which node to talk to, and with which key."""

import argparse
from dataclasses import replace
from pathlib import Path

from tilth.cli.options import show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    add = verb(actions, "add", _add, "make or replace a profile")
    add.add_argument("name")
    add.add_argument("--address", required=True, metavar="HOST:PORT", help="the node's client port")
    add.add_argument("--organization", required=True, help="whose node it is")
    add.add_argument("--genesis", required=True, type=Path, help="the consortium's genesis file")
    add.add_argument("--key", type=Path, help="your key file (default: a new one is made)")
    add.add_argument("--ca", type=Path, help="TLS authority, PEM (default: as in the genesis file)")
    again = verb(actions, "refresh", _refresh, "take up the address and TLS authority of now")
    again.add_argument("name")
    again.add_argument("--ca", type=Path, help="its TLS authority (default: the node is asked)")
    again.add_argument("--address", metavar="HOST:PORT", help="where the node is now")
    verb(actions, "list", _list, "the profiles of this machine")
    remove = verb(actions, "remove", _remove, "forget a profile; its key file stays")
    remove.add_argument("name")


def _add(arguments: argparse.Namespace) -> None:
    from tilth import profiles

    made = profiles.add(
        arguments.name,
        address=arguments.address,
        organization=arguments.organization,
        genesis=arguments.genesis,
        key=arguments.key,
        tls_authority=arguments.ca,
    )
    public = made.signing_key().public.raw.hex()
    facts = {"name": made.name, "public": public, "key": str(made.key)}
    text = f"profile {made.name}: {made.organization} at {made.address}\npublic key {public}"
    if arguments.key is None:
        text += (
            f"\nnew key in {made.key}; an admin of {made.organization} lets it in with\n"
            f"  tilth identity add {public} --role scientist --role owner"
        )
    show(arguments, facts, text)


def _refresh(arguments: argparse.Namespace) -> None:
    from tilth import client, profiles

    profile = profiles.load(arguments.name)
    if arguments.address is not None:
        profile = replace(profile, address=arguments.address)
    if arguments.ca is not None:
        authority = arguments.ca.read_text(encoding="ascii")
    else:
        # Whom the profile knows says it: an authority vouches for the one in its place.
        with client.Network(profile) as net:
            row = net.rows.get(f"organization/{profile.organization}") or {}
        authority = row.get("tls_authority", "")
    made = profiles.refresh(profile, authority, arguments.address)
    show(arguments, made, f"profile {made.name}: {made.organization} at {made.address}")


def _list(arguments: argparse.Namespace) -> None:
    from tilth import profiles

    known = [profiles.load(name) for name in profiles.names()]
    rows = [(each.name, each.organization, each.address, each.key) for each in known]
    show(arguments, known, table(("name", "organization", "address", "key"), rows))


def _remove(arguments: argparse.Namespace) -> None:
    from tilth import profiles

    profiles.remove(arguments.name)
    show(arguments, {"removed": arguments.name}, f"profile {arguments.name} forgotten")
