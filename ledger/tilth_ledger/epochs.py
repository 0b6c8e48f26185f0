"""Epochs: who votes, how many votes make a certificate, and where in the chain that began.

An epoch starts on a final block, its parent, as the whole ledger starts on the genesis block: the
parent needs no certificate of the new members. Views are never reset: the first view of an epoch is
the one after its parent's. Votes and certificates of two epochs never meet; they compare as
(epoch, view).

On the ledger an epoch is the row `epoch/<6 digits>` and, but for the first, a leaf that says the
same: the members in order, each with the keys that others verify by, q, k and the rules' version.

Left to others: how a membership changes (rules_members), what ends an epoch (voting, replica).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tilth_ledger import canonical
from tilth_ledger.canonical import sha256_hex
from tilth_ledger.genesis import MLDSA, Genesis, Organization
from tilth_ledger.keys import SIGNATURE_BYTES, PublicKey, SigningKey, unhex
from tilth_ledger.mldsa import MlDsaKey
from tilth_ledger.rows import Row, Rows

LISTED_KEYS = ("vote", "cosign", "log")  # of each member, in an epoch's row and leaf

_COPY_TAG = b"tilth/copy/1\0"
_COPY_TEXT = struct.Struct(">32sQ32s")  # net, size, root


@dataclass(frozen=True, slots=True)
class Membership:
    """Who votes and who follows, in an order that all share, and by which numbers."""

    number: int  # of the epoch: 0 is genesis'
    members: tuple[Organization, ...]
    organizations: tuple[Organization, ...]  # those that do not vote
    q: int
    k: int
    rules_version: int

    def everyone(self) -> tuple[Organization, ...]:
        """Members, then the organizations that do not vote."""
        return self.members + self.organizations

    @property
    def voters(self) -> tuple[PublicKey, ...]:
        """The members' vote keys, in order."""
        return tuple(member.keys.vote for member in self.members)

    def member_index(self, organization: str) -> int | None:
        """The member's place in the order of votes; None if it does not vote."""
        names = [member.organization for member in self.members]
        return names.index(organization) if organization in names else None

    @staticmethod
    def of_genesis(genesis: Genesis) -> Membership:
        """The one that a consortium begins with."""
        return Membership(
            0, genesis.members, genesis.organizations, genesis.q, genesis.k, genesis.rules_version
        )


@dataclass(frozen=True, slots=True)
class Epoch(Membership):
    """A membership in force: what votes, certificates and justifications are verified against."""

    net: bytes  # 32: the consortium's name
    parent: bytes  # hash of the final block that it starts on; of the first epoch: net
    parent_view: int
    parent_height: int

    @property
    def first_view(self) -> int:
        return self.parent_view + 1

    def leader(self, view: int) -> int:
        """The index of the member that leads `view`."""
        return view % len(self.members)

    @staticmethod
    def first(genesis: Genesis) -> Epoch:
        """The one that starts on the genesis block: view 0, height 0, the net as its hash."""
        return Epoch.starting(Membership.of_genesis(genesis), genesis.net_bytes)

    @staticmethod
    def starting(
        membership: Membership, net: bytes, parent: bytes = b"", view: int = 0, height: int = 0
    ) -> Epoch:
        """The epoch of these members on a final block; without one, on the genesis block."""
        return Epoch(
            membership.number,
            membership.members,
            membership.organizations,
            membership.q,
            membership.k,
            membership.rules_version,
            net,
            parent or net,
            view,
            height,
        )


def epoch_key(number: int) -> str:
    """The key of an epoch's row."""
    return f"epoch/{number:06}"


def membership_row(membership: Membership) -> Row:
    """What an epoch's row and the leaf that begins it state."""
    return {
        "members": [listed(member.as_dict()) for member in membership.members],
        "q": membership.q,
        "k": membership.k,
        "rules_version": membership.rules_version,
    }


def listed(party: Row) -> Row:
    """What an epoch's row and leaf state of a member, from its organization's row: three keys, and
    the digest of the ML-DSA-44 key, which would fill the leaf."""
    stated = {"organization": party["organization"]}
    stated |= {purpose: party["keys"][purpose] for purpose in LISTED_KEYS}
    if MLDSA in party:
        stated[MLDSA] = sha256_hex(bytes.fromhex(party[MLDSA]))
    return stated


def newest(rows: Rows) -> tuple[int, Row]:
    """The number and the row of the epoch in force."""
    [(key, row)] = deque(rows.scan("epoch/"), maxlen=1)
    return int(key.removeprefix("epoch/")), row


def membership_of(rows: Rows) -> Membership:
    """Who votes and who follows now, as the rows say."""
    number, row = newest(rows)
    parties = {
        party["organization"]: Organization.from_row(party)
        for _, party in rows.scan("organization/")
        if not party.get("removed")
    }
    members = tuple(parties.pop(member["organization"]) for member in row["members"])
    others = tuple(parties.values())
    return Membership(number, members, others, row["q"], row["k"], row["rules_version"])


@dataclass(frozen=True, slots=True)
class Signer:
    """The keys by which a member signs heads of the tree."""

    organization: str
    log: PublicKey
    cosign: PublicKey
    mldsa: MlDsaKey | None = None


@dataclass(frozen=True, slots=True)
class Signers:
    """Who signs heads in an epoch, in the members' order, and how many make a head complete."""

    epoch: int
    members: tuple[Signer, ...]
    k: int

    def place(self, organization: str) -> int | None:
        """A member's place; None if it is none."""
        names = [member.organization for member in self.members]
        return names.index(organization) if organization in names else None


def signers_of(rows: Rows, epoch: int, genesis: Genesis) -> Signers | None:
    """Who signs heads in an epoch, past or in force; None before it begins."""
    row = rows.get(epoch_key(epoch))
    if row is None:
        return None
    return Signers(
        epoch, tuple(_signer(rows, member, genesis) for member in row["members"]), row["k"]
    )


def _signer(rows: Rows, stated: Row, genesis: Genesis) -> Signer:
    log, cosign = (PublicKey.from_hex(stated[purpose]) for purpose in ("log", "cosign"))
    name, digest = stated["organization"], stated.get(MLDSA)
    known = (raw for raw in _mldsa_keys(rows, name, genesis) if sha256_hex(raw) == digest)
    raw = None if digest is None else next(known, None)
    return Signer(name, log, cosign, None if raw is None else MlDsaKey(raw))


def _mldsa_keys(rows: Rows, organization: str, genesis: Genesis) -> Iterator[bytes]:
    """Every ML-DSA-44 key that an organization ever had: its row's, that of genesis, and those of
    the member files by which it was admitted or rotated its keys, which stand in proposals."""
    yield bytes.fromhex((rows.get(f"organization/{organization}") or {}).get(MLDSA, ""))
    for party in genesis.everyone():
        if party.organization == organization and party.cosign_mldsa is not None:
            yield party.cosign_mldsa.raw
    for _, epoch in rows.scan("epoch/"):
        change = epoch.get("change", {})
        if change.get("organization") == organization:
            proposal = rows.get(f"proposal/{change['proposal']}") or {"change": {}}
            file = proposal["change"].get("member", '{"member":{}}')
            yield bytes.fromhex(canonical.loads(file.encode())["member"].get(MLDSA, ""))


def vote_key(rows: Rows, epoch: int, member: int) -> PublicKey | None:
    """The vote key that a member of any epoch had in it; None if there was no such member."""
    members = (rows.get(epoch_key(epoch)) or {"members": ()})["members"]
    return PublicKey.from_hex(members[member]["vote"]) if member < len(members) else None


def state_copy(net: bytes, size: int, root: bytes, key: SigningKey) -> dict[str, Any]:
    """The statement that the holder of a vote key holds the tree of this size and root."""
    signature = key.sign(_COPY_TAG + _COPY_TEXT.pack(net, size, root))
    return {"size": size, "root": root.hex(), "signature": signature.hex()}


def check_copy(net: bytes, stated: Mapping[str, Any], key: PublicKey) -> None:
    """Raise `InvalidInput` unless `key` signed the statement."""
    text = _COPY_TAG + _COPY_TEXT.pack(net, stated["size"], bytes.fromhex(stated["root"]))
    key.verify(unhex(stated["signature"], SIGNATURE_BYTES, "copy's signature"), text)
