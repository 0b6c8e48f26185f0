"""`tilth status`: the node and its ledger, as seen through a profile."""

import argparse
from typing import Any

from tilth.cli.options import common, network, show, table


def register(noun: argparse.ArgumentParser) -> None:
    common(noun, _status)


def _status(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        status = net.status()
        mine = net.rows.get(f"organization/{net.organization}") or {}
        status["votes"] = bool(mine.get("votes"))
        authority = net.profile.tls_authority.read_text(encoding="ascii", errors="replace")
        status["authority_is_old"] = mine.get("tls_authority", "") not in authority
    peers = [
        (
            each["organization"],
            "yes" if each["member"] else "no",
            "yes" if each["connected"] else "no",
            each["size"],
            each["address"],
        )
        for each in status["peers"]
    ]
    text = (
        f"{status['organization']} in {status['name']} ({status['net'][:16]})\n"
        f"ledger: {status['size']} entries, height {status['height']}, "
        f"{status['pending']} pending, quorum {status['quorum']}\n"
        f"node: {_vote(status)}, version {status['version']}\n"
    )
    if status["halted"]:
        text += "HALTED: it decides nothing any more; reads go on\n"
    if status["alarm"]:
        text += f"ALARM: {status['alarm']}\n"
    if status["authority_is_old"]:
        text += (
            "this profile knows the node by an older TLS authority, which vouches for the new one:"
            " tilth profile refresh\n"
        )
    text += "".join(f"EVIDENCE: {line}\n" for line in _accused(status["evidence"]))
    show(
        arguments,
        status,
        text + table(("peer", "votes", "connected", "entries when it connected", "address"), peers),
    )


def _accused(evidence: list[dict[str, Any]]) -> list[str]:
    """One line for each member that signed what excludes itself: on the ledger for ever."""
    by: dict[str, list[dict[str, Any]]] = {}
    for each in evidence:
        by.setdefault(each["organization"], []).append(each)
    return [
        f"{name} signed votes that exclude each other: {len(pairs)} pairs, the first"
        f" ({pairs[0]['pair']} in view {pairs[0]['view']}) at entry {pairs[0]['index']}"
        for name, pairs in by.items()
    ]


def _vote(status: dict[str, Any]) -> str:
    """An organization without a vote follows, for ever; a member that does not vote yet (or no
    more: the alarm says why) is catching up."""
    if not status["votes"]:
        return "following, without a vote"
    return "voting" if status["voting"] else "catching up, not voting"
