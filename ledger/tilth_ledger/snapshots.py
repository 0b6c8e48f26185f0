"""Snapshots: what a node needs to go on from a final block without executing what came before.

A header states the root of the tree and the digest of all rows, so a finality certificate of any
block certifies a snapshot: an `Offer` proves the header, and rows that do not add up to its digest
are worth nothing (snapshot_rows).

Invariants:
- Nothing in an offer is believed: epochs are walked from genesis, each certificate is of the
  members that the block before made final, and a tree's peaks are those that give the stated root.

Left to others: reading and writing rows, whom to ask (the node), the past (history).
All integers are big-endian; layouts stand beside each class.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tilth_ledger.blocks import FINALIZE, Block, Certificate
from tilth_ledger.canonical import loads
from tilth_ledger.epochs import Epoch, Membership
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis, MemberKeys, Organization
from tilth_ledger.keys import PublicKey
from tilth_ledger.leaf import EPOCH_END, MAX_LEAF_BYTES, Leaf, leaf_type
from tilth_ledger.merkle import HASH_BYTES, Frontier, NewNode, leaf_hash
from tilth_ledger.reader import Reader

MAX_OFFER_BYTES = 64 << 20
MAX_MILESTONES = 10_000
MAX_VOID = 4_096

_BOUNDS = struct.Struct(">HQQ")  # milestones, rows, bytes
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Milestone:
    """A final block, with the tree before it and the certificate that makes it final.

    Layout: size u64 before the block, its peaks, then each behind its length (u32): block,
    certificate, and of the block that ended an epoch the void blocks through which it became final
    (count u16 first).
    """

    before: Frontier
    block: Block
    certificate: Certificate
    void: tuple[Block, ...] = ()

    def encode(self) -> bytes:
        void = b"".join(sized(each.encode()) for each in self.void)
        return b"".join(
            (
                write_frontier(self.before),
                sized(self.block.encode()),
                sized(self.certificate.encode()),
                len(self.void).to_bytes(2),
                void,
            )
        )

    @staticmethod
    def read(reader: Reader) -> Milestone:
        before = read_frontier(reader)
        block = Block.decode(take_sized(reader))
        certificate = Certificate.decode(take_sized(reader))
        count = reader.number(2)
        if count > MAX_VOID:
            raise InvalidInput("offer lists too many void blocks", found=count, expected=MAX_VOID)
        void = tuple(Block.decode(take_sized(reader)) for _ in range(count))
        return Milestone(before, block, certificate, void)

    def check(self, epoch: Epoch) -> None:
        """Raise `InvalidInput` unless `epoch` made the block final on that tree."""
        header = self.block.header
        if (header.net, header.epoch) != (epoch.net, epoch.number):
            raise InvalidInput(
                "block is of another consortium or epoch", found=header.epoch, expected=epoch.number
            )
        grown(self.before, self.block)
        self.block.justification.verify(header, epoch)
        check_final(self.block, self.void, self.certificate, epoch)

    @property
    def ends_epoch(self) -> bool:
        leaves = self.block.leaves
        return bool(leaves) and leaf_type(leaves[-1]) == EPOCH_END


@dataclass(frozen=True, slots=True)
class Offer:
    """The blocks that ended epochs, in order, and last the block whose rows are offered; `rows` and
    `row_bytes` are how many there are at most."""

    milestones: tuple[Milestone, ...]
    rows: int
    row_bytes: int

    @property
    def tip(self) -> Milestone:
        return self.milestones[-1]

    def encode(self) -> bytes:
        head = _BOUNDS.pack(len(self.milestones), self.rows, self.row_bytes)
        return head + b"".join(each.encode() for each in self.milestones)

    @staticmethod
    def decode(data: bytes) -> Offer:
        reader = Reader(data, "offer")
        count, rows, size = reader.unpack(_BOUNDS)
        if not 1 <= count <= MAX_MILESTONES:
            raise InvalidInput("offer has no or too many blocks", found=count)
        milestones = tuple(Milestone.read(reader) for _ in range(count))
        reader.end()
        return Offer(milestones, rows, size)

    def check(self, genesis: Genesis) -> None:
        """Raise `InvalidInput` unless the last block is final, as the members since genesis
        say."""
        epoch = Epoch.first(genesis)
        for milestone in self.milestones[:-1]:
            milestone.check(epoch)
            epoch = epoch_after(epoch, milestone.block)
        self.tip.check(epoch)


def epoch_after(epoch: Epoch, block: Block) -> Epoch:
    """The epoch that begins with the block that ended `epoch`, for verifying certificates."""
    header = block.header
    if not block.leaves or leaf_type(block.leaves[-1]) != EPOCH_END:
        raise InvalidInput("block ends no epoch", found=f"height {header.height}")
    stated = loads(Leaf.decode(block.leaves[-1]).payload, max_bytes=MAX_LEAF_BYTES)
    if stated.get("epoch") != epoch.number + 1:
        raise InvalidInput(
            "epochs leave a gap", found=stated.get("epoch"), expected=epoch.number + 1
        )
    membership = voters_of(stated["epoch"], stated)
    return Epoch.starting(membership, epoch.net, header.hash, header.view, header.height)


def voters_of(number: int, row: Mapping[str, Any]) -> Membership:
    """The members of any epoch as its row or leaf states them: enough for verifying what they
    signed, and no more."""
    members = tuple(_voter(each) for each in row["members"])
    return Membership(number, members, (), row["q"], row["k"], row["rules_version"])


def check_final(
    block: Block, void: Sequence[Block], certificate: Certificate, epoch: Epoch
) -> None:
    """Raise `InvalidInput` unless a certificate makes a block final, through void blocks or not."""
    if certificate.kind is not FINALIZE or certificate.block != _above(block, void):
        raise InvalidInput("certificate does not make the block final", found=block.header.height)
    certificate.verify(epoch)


@dataclass(frozen=True, slots=True)
class Voters:
    """Who voted in an epoch, for verifying its blocks long after; it began on a tree of `size`
    leaves."""

    epoch: Epoch
    size: int

    @staticmethod
    def of(number: int, row: Mapping[str, Any], net: bytes) -> Voters:
        """From the epoch's row."""
        return Voters(Epoch.starting(voters_of(number, row), net), row.get("index", -1) + 1)

    def check(self, block: Block, size: int) -> None:
        """Raise `InvalidInput` unless the block, on a tree of `size` leaves, may stand where it
        does: only the first of an epoch needs no certificate of its parent."""
        header, epoch = block.header, self.epoch
        if block.justification.parent is None and size == self.size:
            below = header.parent, header.parent_view, header.height - 1
            epoch = replace(epoch, parent=below[0], parent_view=below[1], parent_height=below[2])
        block.justification.verify(header, epoch)


def grown(before: Frontier, block: Block) -> tuple[Frontier, list[NewNode]]:
    """The tree after a block, and the nodes that it completed. Raises `InvalidInput` unless the
    block's header states that tree and the rest of the block."""
    header = block.header
    stated = header.leaf_count, header.size, header.skips
    found = len(block.leaves), before.size + len(block.leaves), block.justification.skips_digest
    if found != stated:
        raise InvalidInput("block is not what its header states", found=f"height {header.height}")
    frontier, nodes = before, []
    for leaf in block.leaves:
        frontier, new = frontier.append(leaf_hash(leaf))
        nodes += new
    if frontier.root() != header.root:
        raise InvalidInput(
            "leaves do not give the root of their block",
            found=frontier.root().hex(),
            expected=header.root.hex(),
        )
    return frontier, nodes


def write_frontier(frontier: Frontier) -> bytes:
    """Size u64 and the peaks, largest first."""
    return frontier.size.to_bytes(8) + b"".join(frontier.peaks)


def read_frontier(reader: Reader) -> Frontier:
    size = reader.number(8)
    return Frontier(size, tuple(reader.take(HASH_BYTES) for _ in range(size.bit_count())))


def take_sized(reader: Reader) -> bytes:
    """Bytes behind their length, u32."""
    return reader.take(reader.number(4))


def sized(data: bytes) -> bytes:
    """Bytes behind their length, u32."""
    return _LENGTH.pack(len(data)) + data


def _above(block: Block, void: Sequence[Block]) -> bytes:
    """The hash of the last of the void blocks that stand above a block, or its own."""
    top = block.hash
    for each in void:
        header, below = each.header, block.header
        same = header.size, header.root, header.state, header.epoch, header.leaf_count
        if header.parent != top or same != (below.size, below.root, below.state, below.epoch, 0):
            raise InvalidInput("void blocks do not stand on the block", found=header.height)
        top = each.hash
    return top


def _voter(stated: Mapping[str, Any]) -> Organization:
    vote, cosign, log = (PublicKey.from_hex(stated[name]) for name in ("vote", "cosign", "log"))
    keys = MemberKeys(vote, cosign, log, node=vote, admin=vote)  # the last two stand elsewhere
    name = stated["organization"]
    return Organization(name, name, votes=True, aggregates=False, keys=keys, tls_authority="")
