"""Who votes on the ledger, and changing it: propose, approve, list.

A change takes effect when q members approved it; each approval is an entry of an admin. What a
change needs (files that a newcomer or a rotating site made) comes from `tilth node` there.

Invariants: q and k of the next epoch are always stated in a proposal; where the caller leaves them
out, they stay in the column that they are in (crash or byzantine), and else must be said.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.errors import InvalidInput

if TYPE_CHECKING:
    from tilth.client import Network

Change = dict[str, Any]
_STATES = {
    "effective": "it is in force",
    "lapsed": "another change came into force before it",
    "expired": "it was open for 30 days",
}


@dataclass(frozen=True, slots=True)
class Epoch:
    """Who votes now, and how many votes and cosignatures it takes."""

    number: int
    members: tuple[str, ...]
    organizations: tuple[str, ...]  # those that do not vote
    q: int
    k: int
    rules_version: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of who votes; `missing` approvals until it takes effect."""

    key: str
    state: str  # open, effective, lapsed (with its epoch), expired
    change: Mapping[str, Any]
    q: int
    k: int
    approvals: tuple[str, ...]
    missing: int

    @property
    def digits(self) -> str:
        """What tells it from others, in commands."""
        return self.key.partition("/")[2]

    @property
    def words(self) -> str:
        """The change in a few words."""
        return _words(self.change)


class Members:
    """The members of the consortium."""

    def __init__(self, net: "Network") -> None:
        self._net = net

    def epoch(self) -> Epoch:
        """The epoch in force."""
        [(key, row)] = list(self._net.rows.scan("epoch/"))[-1:]
        members = tuple(str(each["organization"]) for each in row["members"])
        rest = (
            str(each["organization"])
            for _, each in self._net.rows.scan("organization/")
            if not each.get("removed")
        )
        others = tuple(name for name in rest if name not in members)
        number = int(key.removeprefix("epoch/"))
        return Epoch(number, members, others, row["q"], row["k"], row["rules_version"])

    def proposals(self) -> tuple[Proposal, ...]:
        """All that were made, oldest first."""
        now = self.epoch()
        rows = sorted(self._net.rows.scan("proposal/"), key=lambda each: int(each[1]["index"]))
        at = int(self._net.status()["time_ms"])
        return tuple(_proposal(key.removeprefix("proposal/"), row, now, at) for key, row in rows)

    def propose(self, change: Change, *, q: int | None = None, k: int | None = None) -> Proposal:
        """Propose a change; this organization's own approval is in it. For admins of members."""
        now = self.epoch()
        after = _members_after(now, change)
        wanted_q, wanted_k = _numbers(now, len(after), q, k)
        self._check_new(change, wanted_q, wanted_k)
        key = self._net.new_key()
        operation = {"op": "member.propose", "key": key, "change": change}
        self._net.record({**operation, "q": wanted_q, "k": wanted_k})
        return self._one(key)

    def _check_new(self, change: Change, q: int, k: int) -> None:
        same = [
            each
            for each in self.proposals()
            if each.state == "open" and (each.change, each.q, each.k) == (change, q, k)
        ]
        if same:
            raise InvalidInput(
                "this change is proposed already",
                found=f"{same[0].words}, approved by {', '.join(same[0].approvals)}",
                remedy=f"Approve it: tilth member approve {same[0].key.partition('/')[2][:12]}",
            )

    def approve(self, proposal: str) -> Proposal:
        """Approve a proposal, by its key or the beginning of its digits. For admins of members."""
        key = self._find(proposal)
        self._net.record({"op": "member.approve", "proposal": key})
        return self._one(key)

    def warnings(self, change: Mapping[str, Any], q: int) -> tuple[str, ...]:
        """What the members should think of before they let it take effect."""
        now = self.epoch()
        after, alive = _members_after(now, change), self._alive()
        here = [name for name in after if name in alive]
        found = []
        if len(here) < q:
            found.append(
                f"only {len(here)} of the {len(after)} members after the change are connected now,"
                f" and {q} must vote: the ledger would stand still"
            )
        elif len(here) == q:
            found.append(
                f"no spare member: {len(here)} of the {len(after)} members after the change are"
                f" connected now, and {q} must vote"
            )
        return tuple(found)

    def _alive(self) -> set[str]:
        """Those that the node is connected to, and its own organization."""
        status = self._net.status()
        peers = {each["organization"] for each in status["peers"] if each["connected"]}
        return peers | {self._net.organization}

    def _one(self, key: str) -> Proposal:
        row = self._net.rows.get(f"proposal/{key}")
        if row is None:
            raise InvalidInput(
                "there is no such proposal",
                found=key,
                remedy="Look at them with: tilth member list",
            )
        return _proposal(key, row, self.epoch(), int(self._net.status()["time_ms"]))

    def _find(self, text: str) -> str:
        every = self.proposals()
        known = [each.key for each in every if each.state == "open"]
        fitting = [each for each in every if text in (each.key, each.digits[: len(text)])]
        found = [each.key for each in fitting if each.state == "open"]
        if len(found) == 1:
            return found[0]
        if not found and fitting:
            raise InvalidInput(
                "this proposal is not open any more",
                found=f"{fitting[0].words}: {_STATES[fitting[0].state]}",
                expected=", ".join(key.partition("/")[2][:12] for key in known) or "none is open",
                remedy="Propose the change again, if it is still wanted: tilth member propose",
            )
        raise InvalidInput(
            "no open proposal has this key" if not found else "several proposals begin so",
            found=text,
            expected=", ".join(key.partition("/")[2][:12] for key in known) or "none is open",
            remedy="Look at them with: tilth member list",
        )


def admit(member_file: Path, *, votes: bool, copy: Path | None = None) -> Change:
    """The change that admits an organization by its member file."""
    change: Change = {"kind": "admit", "member": _text(member_file), "votes": votes}
    return change | _copy(copy)


def remove(organization: str) -> Change:
    """The change that ends an organization's part: its keys sign nothing any more."""
    return {"kind": "remove", "organization": organization}


def vote(organization: str, *, votes: bool, copy: Path | None = None) -> Change:
    """The change by which an organization begins or stops to vote; it goes on working."""
    return {"kind": "votes", "organization": organization, "votes": votes} | _copy(copy)


def rotate(member_file: Path) -> Change:
    """The change to the keys in the new member file of an organization."""
    return {"kind": "rotate", "member": _text(member_file)}


def rules(version: int) -> Change:
    """The change to another version of the rules."""
    return {"kind": "rules", "rules_version": version}


QUORUM: Mapping[str, str] = {"kind": "quorum"}  # the change of q or k alone


def _copy(path: Path | None) -> Change:
    if path is None:
        return {}
    try:
        stated = json.loads(_text(path))
    except ValueError:
        stated = None
    wanted = {"size": int, "root": str, "signature": str}
    if not isinstance(stated, dict) or any(
        type(stated.get(name)) is not kind for name, kind in wanted.items()
    ):
        raise InvalidInput(
            f"{path} states no copy of the ledger",
            expected="what `tilth node copy FOLDER` prints",
            remedy="Ask the newcomer's operator to run it again.",
        )
    return {"copy": {name: stated[name] for name in wanted}}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"cannot read {path}", found=error, remedy="Check the path, and what it names."
        ) from None


def _party(change: Mapping[str, Any]) -> str:
    """Whom a change is about; empty for one about all."""
    if "member" in change:
        try:
            return str(json.loads(change["member"])["member"]["organization"])
        except (ValueError, KeyError, TypeError):
            return "a file that is no member file"
    return str(change.get("organization", ""))


def _members_after(now: Epoch, change: Mapping[str, Any]) -> Sequence[str]:
    name, kind = _party(change), change["kind"]
    without = [each for each in now.members if each != name]
    if kind in ("admit", "votes") and change["votes"]:
        return [*without, name]
    return without if kind in ("remove", "votes") else list(now.members)


def _numbers(now: Epoch, n: int, q: int | None, k: int | None) -> tuple[int, int]:
    """q and k of the next epoch, which has n members."""
    from tilth_ledger.genesis import byzantine_quorum, crash_quorum

    columns = (crash_quorum, byzantine_quorum)

    def kept(name: str, value: int) -> int:
        if n == len(now.members):
            return value
        for column in columns:
            if value == column(len(now.members)):
                return column(n)
        raise InvalidInput(
            f"state {name}: the one in force is of neither column",
            found=f"{name} = {value} of {len(now.members)} members",
            expected=f"{crash_quorum(n)} (crash) or {byzantine_quorum(n)} (byzantine) of {n}",
            remedy=f"Add --q {crash_quorum(n)} --k {byzantine_quorum(n)}, or others.",
        )

    chosen = kept("q", now.q) if q is None else q
    return chosen, max(chosen, kept("k", now.k)) if k is None else k


def _proposal(key: str, row: Mapping[str, Any], now: Epoch, time_ms: int) -> Proposal:
    """As it stands in the epoch of `now`, at a ledger time."""
    state = str(row["status"])
    if state == "open" and row["epoch"] != now.number:
        state = "lapsed"
    elif state == "open" and time_ms > row["expires_ms"]:
        state = "expired"
    approvals = tuple(str(each["organization"]) for each in row["approvals"])
    missing = max(0, now.q - len(approvals)) if state == "open" else 0
    return Proposal(key, state, row["change"], row["q"], row["k"], approvals, missing)


def _words(change: Mapping[str, Any]) -> str:
    name = _party(change)
    match change["kind"]:
        case "admit":
            return f"admit {name}, {'with' if change['votes'] else 'without'} a vote"
        case "votes":
            return f"{name} {'votes' if change['votes'] else 'stops voting'}"
        case "rules":
            return f"rules_version {change['rules_version']}"
        case "quorum":
            return "other q or k"
        case kind:
            return f"{kind} {name}"
