"""Epochs: who votes, how many votes make a certificate, and where in the chain that began.

An epoch starts on a final block, its parent, as the whole ledger starts on the genesis block: the
parent needs no certificate of the new members. Views are never reset: the first view of an epoch is
the one after its parent's. Votes and certificates of two epochs never meet; they compare as
(epoch, view).

Left to others: how a membership changes (rules_members), what ends an epoch (voting, replica).
"""

from __future__ import annotations

from dataclasses import dataclass

from tilth_ledger.genesis import Genesis, Organization
from tilth_ledger.keys import PublicKey


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
