"""`tilth member`: who votes, and changing it by the approvals of q members."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.cli.options import network, show, table, verb, verbs

if TYPE_CHECKING:
    from tilth.client import Network
    from tilth.members import Proposal


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    verb(actions, "list", _list, "who votes now, and proposed changes")
    propose = verb(actions, "propose", _propose, "propose a change (a member's admin)")
    what = propose.add_mutually_exclusive_group(required=True)
    what.add_argument("--admit", type=Path, metavar="FILE", help="a newcomer, by its member.json")
    what.add_argument("--vote", metavar="NAME", help="let an organization vote (needs --copy)")
    what.add_argument("--stop-vote", metavar="NAME", help="it stops voting and goes on working")
    what.add_argument("--remove", metavar="NAME", help="it takes part no more")
    what.add_argument("--quorum", action="store_true", help="change --q or --k alone")
    what.add_argument("--rules", type=int, metavar="N", help="a later version of the rules")
    propose.add_argument("--votes", action="store_true", help="with --admit: as a voter")
    propose.add_argument(
        "--copy", type=Path, metavar="FILE", help="what tilth node copy printed at the new voter's"
    )
    _numbers(propose)
    approve = verb(actions, "approve", _approve, "approve a change (a member's admin)")
    approve.add_argument("proposal", help="its key, or the first digits of it")
    rotate = verb(actions, "rotate", _rotate, "propose an organization's new keys (admin)")
    rotate.add_argument("file", type=Path, help="the member file that tilth node rotate wrote")
    _numbers(rotate)


def _numbers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--q", type=int, help="votes for a certificate after the change")
    parser.add_argument("--k", type=int, help="cosignatures for certification after the change")


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        epoch, proposals = net.members.epoch(), net.members.proposals()
    lines = [
        f"epoch {epoch.number}: {len(epoch.members)} members, q = {epoch.q}, k = {epoch.k},"
        f" rules_version {epoch.rules_version}",
        *(f"  {name}" for name in epoch.members),
        *(f"  {name} (no vote)" for name in epoch.organizations),
    ]
    rows = [
        (each.key.partition("/")[2][:12], each.words, each.state, _progress(each))
        for each in proposals
    ]
    if rows:
        lines.append(table(("proposal", "change", "state", "approved by"), rows))
    show(arguments, {"epoch": epoch, "proposals": proposals}, "\n".join(lines))


def _propose(arguments: argparse.Namespace) -> None:
    from tilth import members

    change: dict[str, Any]
    if arguments.admit is not None:
        change = members.admit(arguments.admit, votes=arguments.votes, copy=arguments.copy)
    elif arguments.vote is not None:
        change = members.vote(arguments.vote, votes=True, copy=arguments.copy)
    elif arguments.stop_vote is not None:
        change = members.vote(arguments.stop_vote, votes=False)
    elif arguments.remove is not None:
        change = members.remove(arguments.remove)
    elif arguments.rules is not None:
        change = members.rules(arguments.rules)
    else:
        change = dict(members.QUORUM)
    _record(arguments, change)


def _rotate(arguments: argparse.Namespace) -> None:
    from tilth import members

    _record(arguments, members.rotate(arguments.file))


def _record(arguments: argparse.Namespace, change: dict[str, Any]) -> None:
    with network(arguments) as net:
        made = net.members.propose(change, q=arguments.q, k=arguments.k)
        _tell(arguments, net, made)


def _approve(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        _tell(arguments, net, net.members.approve(arguments.proposal))


def _tell(arguments: argparse.Namespace, net: "Network", made: "Proposal") -> None:
    """What was proposed or approved, what is still needed, and what to think of."""
    lines = [f"{made.words}; then q = {made.q}, k = {made.k}", f"proposal {made.key}"]
    warnings: tuple[str, ...] = ()
    if made.state == "effective":
        lines.append(f"It is in force: epoch {net.members.epoch().number}.")
    else:
        warnings = net.members.warnings(made.change, made.q)
        short = made.key.partition("/")[2][:12]
        lines += [
            f"approved by {', '.join(made.approvals)}; {made.missing} more needed:"
            f" tilth member approve {short}",
            *(f"warning: {each}" for each in warnings),
        ]
    show(arguments, {"proposal": made, "warnings": warnings}, "\n".join(lines))


def _progress(proposal: "Proposal") -> str:
    more = f" ({proposal.missing} more needed)" if proposal.missing else ""
    return ", ".join(proposal.approvals) + more
