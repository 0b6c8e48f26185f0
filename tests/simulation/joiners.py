"""Nodes that begin in the middle of a simulated ledger: a newcomer, and one whose disk was emptied.

They take a snapshot with the real proofs (`Offer`, `Intake`) and fetch the past afterwards
(`Stretch`), over links that lose parts, damage them and break off, from nodes that crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from disks import flipped
from ruled_ledger import RuledArchive

from tilth_ledger.blocks import Certificate
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.history import Past, Stretch
from tilth_ledger.merkle import Frontier
from tilth_ledger.snapshots import Intake, Offer, Voters, write_rows

if TYPE_CHECKING:
    from links import Node
    from world import World

PAGE_ROWS = 24
STRETCH = 4  # blocks
AGAIN_MS = 300
BREAKS_OFF, IS_DAMAGED = 0.03, 0.06  # a part, while faults reign


class Joiner:
    """One node's way into the ledger."""

    def __init__(self, world: World, node: Node, random: Random, least: int) -> None:
        """`least`: blocks that the others must be ahead."""
        self._world, self._node, self._random, self._least = world, node, random, least
        self.joins = True  # its replica stands still

    def ask(self) -> None:
        """Ask anyone who has more for a snapshot; again later if there is nobody."""
        givers = [n for n in self._world.nodes if self._gives(n)]
        if not givers:
            self._world.at(AGAIN_MS, self.ask)
            return
        giver = self._random.choice(givers)
        parts = self._parts(giver.archive)
        self._take(giver, giver.incarnation, parts, None, {})

    def _gives(self, node: Node) -> bool:
        whole = isinstance(node.archive, RuledArchive) and node.archive.is_whole
        there = node is not self._node and node.replica is not None and whole
        return there and len(node.archive.blocks) >= self._least

    def _parts(self, archive: RuledArchive) -> Iterator[bytes]:
        """The offer, then the rows in order of keys: all of one moment."""
        rows = sorted(archive.rows.items())
        size = sum(len(key.encode()) + len(value) for key, value in rows)
        parts = [Offer((archive.milestone(),), len(rows), size).encode()]
        pages = (rows[at : at + PAGE_ROWS] for at in range(0, len(rows), PAGE_ROWS))
        return iter([*parts, *(write_rows(page) for page in pages)])

    def _take(
        self,
        giver: Node,
        incarnation: int,
        parts: Iterator[bytes],
        intake: tuple[Offer, Intake] | None,
        rows: dict[str, bytes],
    ) -> None:
        """The next part; damage is noticed, at the latest when all came."""
        if self._breaks_off(giver, incarnation):
            self._world.met["snapshot: breaks off"] += 1
            self._world.at(AGAIN_MS, self.ask)
            return
        part = next(parts, None)
        try:
            if part is None:
                assert intake is not None
                self._finish(*intake, rows)
                return
            part = self._perhaps_damaged(part)
            if intake is None:
                offer = Offer.decode(part)
                offer.check(self._world.consortium.genesis)
                intake = offer, Intake(offer)
            else:
                rows |= intake[1].take(part)
        except InvalidInput:
            self._world.met["snapshot: refused"] += 1
            self._world.at(AGAIN_MS, self.ask)
            return
        delay = self._random.randint(1, 100)
        self._world.at(delay, self._take, giver, incarnation, parts, intake, rows)

    def _finish(self, offer: Offer, intake: Intake, rows: dict[str, bytes]) -> None:
        accumulator = intake.finish()
        archive = self._node.archive
        assert isinstance(archive, RuledArchive)
        archive.adopt(offer.tip, rows, accumulator)
        self.joins = False
        self._world.met["snapshot: joined"] += 1
        self._world.at(0, self._world.boot, self._node)
        self._world.at(self._random.randint(1, 2_000), self.fetch_past)

    def fetch_past(self) -> None:
        """Blocks below the oldest that is here, until the first."""
        archive = self._node.archive
        if self.joins or not isinstance(archive, RuledArchive) or archive.is_whole:
            return
        above = max(h for h, block in enumerate(archive.blocks, 1) if block is None) + 1
        givers = [n for n in self._world.nodes if self._gives(n)]
        if givers:
            try:
                self._put(archive, self._stretch(self._random.choice(givers).archive, above), above)
            except InvalidInput:
                self._world.met["snapshot: past refused"] += 1
        self._world.at(self._random.randint(1, AGAIN_MS), self.fetch_past)

    def _stretch(self, archive: RuledArchive, above: int) -> bytes:
        """As its holder encodes it, perhaps damaged on the way."""
        heights = range(max(1, above - STRETCH), above)
        blocks = [archive.blocks[height - 1] for height in heights]
        stored = [archive.certificates.get(height) for height in heights]
        pasts = [
            Past(block, None if proof is None else Certificate.decode(proof))
            for block, proof in zip(blocks, stored, strict=True)
        ]
        first = blocks[0].header
        before = Frontier.read(first.size - first.leaf_count, archive.node)
        return self._perhaps_damaged(Stretch(before, tuple(pasts)).encode())

    def _put(self, archive: RuledArchive, data: bytes, above: int) -> None:
        genesis = self._world.consortium.genesis
        header = archive.blocks[above - 1].header
        stretch = Stretch.decode(data)
        checked = stretch.check(
            genesis.net_bytes, header, lambda number: Voters(Epoch.first(genesis), 0)
        )
        archive.put([(past.block, past.certificate, nodes) for past, nodes in checked])
        self._world.met["snapshot: past fetched"] += 1

    def _perhaps_damaged(self, part: bytes) -> bytes:
        if self._world.healed or self._random.random() >= IS_DAMAGED:
            return part
        self._world.met["snapshot: part damaged"] += 1
        return flipped(part, self._random)

    def _breaks_off(self, giver: Node, incarnation: int) -> bool:
        gone = giver.replica is None or giver.incarnation != incarnation
        return gone or (not self._world.healed and self._random.random() < BREAKS_OFF)
