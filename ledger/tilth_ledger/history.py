"""The past of a ledger that a node began in its middle: final blocks, fetched backwards.

Invariants:
- A `Stretch` ends right below a header that its taker trusts; each block is the parent, by hash, of
  the one above it, and its leaves give its root on the tree below. So every stretch is verified by
  itself, and a taker holds one in memory, never more.
- The first block stands on genesis and on the empty tree.

Left to others: whom to ask, storing (the node). Authors and rules are not judged again: the members
did so before they voted, and an audit does it from the stored bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tilth_ledger.blocks import Block, Certificate, Header
from tilth_ledger.errors import InvalidInput
from tilth_ledger.merkle import Frontier, NewNode
from tilth_ledger.reader import Reader
from tilth_ledger.snapshots import (
    MAX_VOID,
    Voters,
    check_final,
    grown,
    read_frontier,
    sized,
    take_sized,
    write_frontier,
)

STRETCH_BLOCKS = 256
STRETCH_BYTES = 1 << 20
MAX_STRETCH_BYTES = 80 << 20  # one block may be as large as a block can be

VotersOf = Callable[[int], Voters | None]


@dataclass(frozen=True, slots=True)
class Past:
    """A final block as it is stored; `certificate` and `void` as they were stored, if they were."""

    block: Block
    certificate: Certificate | None = None
    void: tuple[Block, ...] = ()

    def encode(self) -> bytes:
        certificate = b"" if self.certificate is None else self.certificate.encode()
        void = b"".join(sized(each.encode()) for each in self.void)
        return b"".join(
            (
                sized(self.block.encode()),
                sized(certificate),
                struct.pack(">H", len(self.void)),
                void,
            )
        )

    @staticmethod
    def read(reader: Reader) -> Past:
        block, final = Block.decode(take_sized(reader)), take_sized(reader)
        count = reader.number(2)
        if count > MAX_VOID:
            raise InvalidInput("stretch lists too many void blocks", found=count)
        void = tuple(Block.decode(take_sized(reader)) for _ in range(count))
        return Past(block, Certificate.decode(final) if final else None, void)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive final blocks, and the tree below them.

    Layout: size u64 and peaks before the first block, count u16, then each block as `Past` says.
    """

    before: Frontier
    blocks: tuple[Past, ...]

    def encode(self) -> bytes:
        head = write_frontier(self.before) + struct.pack(">H", len(self.blocks))
        return head + b"".join(each.encode() for each in self.blocks)

    @staticmethod
    def decode(data: bytes) -> Stretch:
        if len(data) > MAX_STRETCH_BYTES:
            raise InvalidInput("stretch is too long", found=len(data), expected=MAX_STRETCH_BYTES)
        reader = Reader(data, "stretch")
        before = read_frontier(reader)
        count = reader.number(2)
        if not 1 <= count <= STRETCH_BLOCKS:
            raise InvalidInput("stretch has no or too many blocks", found=count)
        blocks = tuple(Past.read(reader) for _ in range(count))
        reader.end()
        return Stretch(before, blocks)

    def check(
        self, net: bytes, above: Header, voters_of: VotersOf
    ) -> list[tuple[Past, list[NewNode]]]:
        """The blocks with the tree nodes that they completed. Raises `InvalidInput` unless they end
        below `above` and each is what the one above it says."""
        parent, height = above.parent, above.height - 1
        for past in reversed(self.blocks):
            header = past.block.header
            if (past.block.hash, header.height) != (parent, height):
                raise InvalidInput(
                    "past blocks do not link", found=header.height, expected=f"height {height}"
                )
            parent, height = header.parent, height - 1
        if height == 0 and (parent, self.before.size) != (net, 0):
            raise InvalidInput("the first block does not stand on genesis")
        frontier, checked = self.before, []
        for past in self.blocks:
            _check_votes(past, frontier.size, voters_of)
            frontier, nodes = grown(frontier, past.block)
            checked.append((past, nodes))
        return checked


def _check_votes(past: Past, size: int, voters_of: VotersOf) -> None:
    voters = voters_of(past.block.header.epoch)
    if voters is None:
        raise InvalidInput("past block is of an unknown epoch", found=past.block.header.epoch)
    voters.check(past.block, size)
    if past.certificate is not None:
        check_final(past.block, past.void, past.certificate, voters.epoch)
