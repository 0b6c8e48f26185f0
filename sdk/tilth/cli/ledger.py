"""`tilth ledger`: entries of the ledger, as they were written."""

import argparse
import json

from tilth.cli.options import network, show, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    one = verb(actions, "show", _show, "one entry, decoded")
    one.add_argument("index", type=int, help="from 0")
    row = verb(actions, "row", _row, "one row of the state the ledger adds up to")
    row.add_argument("key", help="such as organization/hospital-a")


def _show(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        entry = net.entry(arguments.index)
    show(arguments, entry, json.dumps(entry, indent=2, ensure_ascii=False))


def _row(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        row = net.rows.get(arguments.key)
    show(arguments, row, "none" if row is None else json.dumps(row, indent=2, ensure_ascii=False))
