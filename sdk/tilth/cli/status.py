"""`tilth status`: the node and its ledger through a profile; what is wrong, and what to do."""

import argparse
import datetime
from typing import Any

from tilth.cli.options import common, network, show, table
from tilth.quorum import members, members_here

Facts = dict[str, Any]


def register(noun: argparse.ArgumentParser) -> None:
    common(noun, _status)


def _status(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        status = net.status()
        mine = net.rows.get(f"organization/{net.organization}") or {}
        epoch = net.rows.get(f"epoch/{status['epoch']:06}") or {}
        status["votes"] = bool(mine.get("votes"))
        status["rules_version"] = epoch.get("rules_version", 0)
        authority = net.profile.tls_authority.read_text(encoding="ascii", errors="replace")
        status["authority_is_old"] = mine.get("tls_authority", "") not in authority
    status["problems"] = problems(status)
    lines = [*_facts(status), *_joining(status), *status["problems"], _peers(status)]
    show(arguments, status, "\n".join(lines))


def _facts(status: Facts) -> list[str]:
    here, all_of_them = members_here(status), len(members(status))
    return [
        f"{status['organization']} in {status['name']} ({status['net'][:16]})",
        f"ledger: {status['size']} entries, height {status['height']}, {status['pending']} pending,"
        f" epoch {status['epoch']}, rules_version {status['rules_version']}",
        f"members: {here} of {all_of_them} are here, {status['quorum']} must vote,"
        f" {status['certification']} certify",
        f"node: {_vote(status)}, version {status['version']}",
        f"disk: {_disk(status['scrub'])}",
    ]


def _disk(scrub: Facts) -> str:
    """When every byte of the node's disk was last compared with what was written."""
    found = f"{scrub['found']} damages found" if scrub["found"] else "no damage"
    found += f", {scrub['left']} of them still there" if scrub["left"] else ""
    if scrub["rows_ms"]:
        read = f"all of it read by {_moment(scrub['all_ms'])}" if scrub["all_ms"] else ""
        rows = f"rows by {_moment(scrub['rows_ms'])}"
        said = f"{', '.join(filter(None, (read, rows)))}: {found}"
    else:
        said = "not looked through yet"
    return said + (f"; being looked through, {scrub['percent']} %" if scrub["runs"] else "")


def _moment(ms: int) -> str:
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def problems(status: Facts) -> list[str]:
    """What is wrong, the worst first, each with what to do about it."""
    found = []
    if status["halted"]:
        found.append(f"HALTED, reads go on: {status['halted']}")
    if status["alarm"] and status["alarm"] != status["halted"]:
        found.append(f"ALARM: {status['alarm']}")
    found += [f"EVIDENCE: {line}" for line in _accused(status["evidence"])]
    found += _absent(status)
    if status.get("authority_is_old"):
        found.append(
            "PROFILE: it knows the node by an older TLS authority, which vouches for the new one."
            " tilth profile refresh NAME"
        )
    return found + _refused(status["faults"])


def _absent(status: Facts) -> list[str]:
    """Who is not connected, and what that means for the ledger."""
    gone = [each for each in status["peers"] if not each["connected"]]
    here, quorum, count = members_here(status), status["quorum"], len(members(status))
    found = []
    if here < quorum:
        found.append(
            f"NO QUORUM: {here} of {count} members are here and {quorum} must vote: nothing new"
            " becomes final. Start the others; if they are gone for good:"
            " tilth ledger rebase --help"
        )
    elif here == quorum and here < count:
        found.append(
            f"NO SPARE: {here} of {count} members are here and {quorum} must vote: if one more"
            " goes, the ledger stands still. Start the others"
        )
    found += [
        f"AWAY: {each['organization']}{'' if each['member'] else ' (no vote)'}, at"
        f" {each['address'] or 'no address: it dials'}. Its operator: tilth node status FOLDER, and"
        " its log; if it moved: tilth organization update --peer-address"
        for each in gone
    ]
    return found


def _refused(faults: list[Facts]) -> list[str]:
    """What peers sent that no honest node sends; all counts are in --json."""
    from tilth_ledger.faults import is_harmless

    by: dict[str, list[Facts]] = {}
    for each in faults:
        if not is_harmless(each["reason"]):
            by.setdefault(each["organization"], []).append(each)
    return [
        f"REFUSED from {name}: {sum(each['count'] for each in many)} messages, such as"
        f" {max(many, key=lambda each: int(each['count']))['reason']!r}. Ask its operator which"
        " software runs there"
        for name, many in by.items()
    ]


def _peers(status: Facts) -> str:
    rows = [
        (
            each["organization"],
            "yes" if each["member"] else "no",
            "yes" if each["connected"] else "no",
            each["size"],
            each["address"],
        )
        for each in status["peers"]
    ]
    return table(("peer", "votes", "connected", "entries when it connected", "address"), rows)


def _joining(status: Facts) -> list[str]:
    """How far a node is that began with a snapshot instead of all entries."""
    found = []
    if rows := status["joined_rows"]:
        found.append(f"snapshot: {rows} rows have come")
    if missing := status["missing"]:
        found.append(f"past: the first {missing} entries are still fetched from other nodes")
    return found


def _accused(evidence: list[Facts]) -> list[str]:
    """One line for each member that signed what excludes itself: on the ledger for ever."""
    by: dict[str, list[Facts]] = {}
    for each in evidence:
        by.setdefault(each["organization"], []).append(each)
    return [
        f"{name} signed votes that exclude each other: {len(pairs)} pairs, the first"
        f" ({pairs[0]['pair']} in view {pairs[0]['view']}) at entry {pairs[0]['index']}"
        for name, pairs in by.items()
    ]


def _vote(status: Facts) -> str:
    """An organization without a vote follows, for ever; a member that does not vote yet (or no
    more: the alarm says why) is catching up."""
    if not status["votes"]:
        return "following, without a vote"
    return "voting" if status["voting"] else "catching up, not voting"
