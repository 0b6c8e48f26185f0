"""`tilth ledger`: entries of the ledger, as they were written."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilth.cli import extend
from tilth.cli.options import network, show, table, verb, verbs
from tilth.errors import InvalidInput


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    found = verb(actions, "list", _list, "entries in their order, one line each")
    found.add_argument(
        "--from", type=int, dest="start", metavar="INDEX", help="default: the last --limit entries"
    )
    found.add_argument("--limit", type=int, default=20, help="at most so many (default 20)")
    one = verb(actions, "show", _show, "one entry, decoded")
    prove = verb(actions, "prove", _prove, "write one entry as a proof bundle")
    for each in (one, prove):
        each.add_argument("index", type=int, help="from 0, as tilth ledger list prints it")
    prove.add_argument("--out", type=Path, help="file to write (default entry-INDEX.json)")
    prove.add_argument(
        "--since", type=int, default=0, metavar="SIZE", help="of a checkpoint the reader trusts"
    )
    row = verb(actions, "row", _row, "one row of the state the ledger adds up to")
    row.add_argument("key", help="such as organization/hospital-a")
    extend("ledger", actions)


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        start = arguments.start
        if start is None:
            start = max(0, net.status()["size"] - arguments.limit)
        found = net.entries(start, arguments.limit)
    rows = [(each["index"], *_summary(each["payload"]), each["id"][:16]) for each in found]
    show(arguments, found, table(("index", "by", "what", "id"), rows))


def _summary(payload: Mapping[str, Any]) -> tuple[str, str]:
    """Who wrote an entry and what it does; what has no author is the ledger's own."""
    if "predicate" in payload:
        facts = payload["predicate"]
        return "the ledger", f"certified result {facts['score']['value']} at {facts['worker']}"
    if "pair" in payload:
        accused = f"member {payload['member']} in view {payload['view']}"
        return "the ledger", f"evidence against {accused}: {payload['pair']}"
    if "root" in payload:
        return "the ledger", f"{payload['count']} rows of {payload['objective']} stand"
    if "members" in payload:
        return "the ledger", f"epoch {payload['epoch']} begins: {payload['change']['kind']}"
    counts: dict[str, int] = {}
    for operation in payload["operations"]:
        counts[operation["op"]] = counts.get(operation["op"], 0) + 1
    words = (name if count == 1 else f"{name} x {count}" for name, count in counts.items())
    return str(payload["organization"]), ", ".join(words)


def _show(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        entry = net.entry(arguments.index)
    show(arguments, entry, json.dumps(entry, indent=2, ensure_ascii=False))


def _prove(arguments: argparse.Namespace) -> None:
    file = arguments.out or Path(f"entry-{arguments.index}.json")
    with network(arguments) as net:
        net.prove(arguments.index, file, since=arguments.since)
    text = f"{file}\ncheck it anywhere: tilth verify {file} --genesis {net.profile.genesis}"
    show(arguments, {"file": str(file)}, text)


def _row(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        row = net.rows.get(arguments.key)
    if row is None:
        raise InvalidInput(
            "there is no such row",
            found=arguments.key,
            expected="a kind and a key, such as organization/hospital-a or plan/KEY",
            remedy="The kinds of rows stand in ledger/README.md.",
        )
    show(arguments, row, json.dumps(row, indent=2, ensure_ascii=False))
