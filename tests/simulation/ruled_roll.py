"""Who votes, and with which keys, read from nothing but the entries of the final chain: a second,
plain account of the rules about members, against which epochs, their leaves and policies are held.

Left to others: when it is asked (ruled_checker).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from checker import Violation

from tilth_ledger import policies
from tilth_ledger.checkpoints import origin_of
from tilth_ledger.epochs import Epoch, check_copy, signers_of
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import KEY_NAMES, Genesis, Organization, parse_member_file
from tilth_ledger.keys import PublicKey
from tilth_ledger.leaf import ENTRY, EPOCH_END, Leaf, leaf_type
from tilth_ledger.rows import Rows

Keys = Mapping[str, str]  # public, hex, by purpose


@dataclass(frozen=True, slots=True)
class Voters:
    """Who votes in one epoch, in order, with which keys; q and k."""

    members: tuple[tuple[str, Keys], ...]
    q: int
    k: int

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.members]


@dataclass(slots=True)
class Roll:
    """The account of one chain."""

    genesis: Genesis
    keys: dict[str, Keys] = field(default_factory=dict)  # of all that are listed
    epochs: list[Voters] = field(default_factory=list)
    _proposals: dict[str, Any] = field(default_factory=dict)
    _approvals: dict[str, dict[str, str]] = field(default_factory=dict)  # member and its key

    def __post_init__(self) -> None:
        self.keys = {party.organization: _keys(party) for party in self.genesis.everyone()}
        members = tuple((m.organization, _keys(m)) for m in self.genesis.members)
        self.epochs = [Voters(members, self.genesis.q, self.genesis.k)]

    def follow(self, leaves: tuple[bytes, ...], roots: Mapping[int, bytes]) -> None:
        """The leaves of the next final block; `roots` of final trees by their size."""
        for data in leaves:
            if leaf_type(data) == ENTRY:
                self._hear(json.loads(Leaf.decode(data).payload))
            elif leaf_type(data) == EPOCH_END:
                self._end(json.loads(Leaf.decode(data).payload), roots)

    def _hear(self, entry: Any) -> None:
        for operation in entry["operations"]:
            match operation["op"]:
                case "member.propose":
                    self._proposals[operation["key"]] = operation
                    self._approve(operation["key"], entry)
                case "member.approve":
                    self._approve(operation["proposal"], entry)

    def _approve(self, proposal: str, entry: Any) -> None:
        author = entry["organization"]
        self._approvals.setdefault(proposal, {})[author] = entry["author"]

    def _end(self, stated: Any, roots: Mapping[int, bytes]) -> None:
        """A leaf says that the old members began an epoch."""
        proposal = self._proposals[stated["change"]["proposal"]]
        self._check_approvals(self._approvals[stated["change"]["proposal"]])
        after = self._after(proposal["change"], roots)
        after = replace(after, q=proposal["q"], k=proposal["k"])
        n = len(after.members)
        if not (n < 2 * after.q and after.q <= after.k <= n):
            raise Violation(f"an epoch has q = {after.q} and k = {after.k} of {n} members")
        listed = [(each["organization"], each) for each in stated["members"]]
        _same(listed, after, ("vote", "cosign", "log"), "the leaf")
        if (stated["q"], stated["k"], stated["epoch"]) != (after.q, after.k, len(self.epochs)):
            raise Violation(f"the leaf of epoch {stated['epoch']} states other numbers")
        self.epochs.append(after)

    def _check_approvals(self, given: Mapping[str, str]) -> None:
        """By q of the old members, each with the admin key that it has."""
        now = dict(self.epochs[-1].members)
        valid = [
            name
            for name, author in given.items()
            if name in now and author == PublicKey.from_hex(now[name]["admin"]).key_id
        ]
        if len(valid) < self.epochs[-1].q:
            raise Violation(f"an epoch ended by the word of {sorted(valid)} alone")

    def _after(self, change: Any, roots: Mapping[int, bytes]) -> Voters:
        before = self.epochs[-1]
        match change["kind"]:
            case "admit" | "rotate":
                party = _proven(change["member"])
                name = party.organization
                self.keys[name] = _keys(party)
                members = [(m, self.keys[m]) for m in before.names]
                if change.get("votes"):
                    self._check_copy(change, name, roots)
                    members.append((name, self.keys[name]))
            case "remove":
                name = change["organization"]
                self.keys.pop(name)
                members = [each for each in before.members if each[0] != name]
            case "votes":
                name = change["organization"]
                members = [each for each in before.members if each[0] != name]
                if change["votes"]:
                    self._check_copy(change, name, roots)
                    members.append((name, self.keys[name]))
            case _:
                members = list(before.members)
        return replace(before, members=tuple(members))

    def _check_copy(self, change: Any, name: str, roots: Mapping[int, bytes]) -> None:
        """Who begins to vote said, with its vote key, that it holds this ledger."""
        stated = change.get("copy")
        if stated is None or roots.get(stated["size"], b"").hex() != stated["root"]:
            raise Violation(f"{name} votes without a copy of the ledger")
        try:
            key = PublicKey.from_hex(self.keys[name]["vote"])
            check_copy(self.genesis.net_bytes, stated, key)
        except InvalidInput as error:
            raise Violation(f"{name} votes without proof of its vote key: {error}") from error

    # What nodes make of it.

    def check_epoch(self, epoch: Epoch) -> None:
        """The epoch that votes are counted by is the account's."""
        told = self.epochs[epoch.number]
        _same([(m.organization, _keys(m)) for m in epoch.members], told, KEY_NAMES, "the epoch")
        if (epoch.q, epoch.k) != (told.q, told.k):
            raise Violation(f"epoch {epoch.number} counts by other numbers")

    def check_policies(self, rows: Rows) -> None:
        """What a node publishes of each epoch: its members' keys, no others, and k."""
        origin = origin_of(self.genesis.name, self.genesis.net)
        for number, told in enumerate(self.epochs):
            signers = signers_of(rows, number, self.genesis)
            if signers is None:
                raise Violation(f"a node knows no signers of epoch {number}")
            policy = policies.Policy.parse(policies.write(origin, signers))
            logs = sorted(key.key.hex() for key in policy.logs)
            cosigners = sorted(key.key.hex() for key in policy.witnesses.values())
            for purpose, found in (("log", logs), ("cosign", cosigners)):
                if found != sorted(keys[purpose] for _, keys in told.members):
                    raise Violation(f"the policy of epoch {number} has other {purpose} keys")
            if policy.groups[policy.quorum].threshold != told.k:
                raise Violation(f"the policy of epoch {number} asks for others than {told.k}")


def _keys(party: Organization) -> Keys:
    return {purpose: getattr(party.keys, purpose).hex for purpose in KEY_NAMES}


def _proven(text: str) -> Organization:
    try:
        return parse_member_file(text.encode())
    except InvalidInput as error:
        raise Violation(f"keys were taken without proof: {error}") from error


def _same(found: Any, told: Voters, purposes: tuple[str, ...], where: str) -> None:
    listed = [(name, {purpose: keys[purpose] for purpose in purposes}) for name, keys in found]
    expected = [(name, {p: keys[p] for p in purposes}) for name, keys in told.members]
    if listed != expected:
        raise Violation(f"{where} lists other members or keys than the entries gave")
