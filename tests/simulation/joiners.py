"""Nodes that begin in the middle of a simulated ledger: a newcomer, and one whose disk was emptied.

They take a snapshot as nodes do (`Offer`, `Part`, `Taken`), from a ledger that grows meanwhile,
going on at any peer where one broke off, and fetch the past afterwards (`Stretch`): over links that
break off and damage what they carry, from nodes that crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from disks import flipped
from ruled_ledger import RuledArchive

from tilth_ledger.epochs import epoch_key
from tilth_ledger.errors import InvalidInput
from tilth_ledger.history import Stretch
from tilth_ledger.merkle import Frontier
from tilth_ledger.snapshot_rows import Change, Part, Place, Taken
from tilth_ledger.snapshots import Offer, Voters

if TYPE_CHECKING:
    from links import Node
    from world import World

PART_ROWS = 24
STRETCH = 4  # blocks
AGAIN_MS = 300
BREAKS_OFF, IS_DAMAGED = 0.03, 0.06  # a part, while faults reign


class Joiner:
    """One node's way into the ledger."""

    def __init__(self, world: World, node: Node, random: Random, least: int) -> None:
        """`least`: blocks that the others must be ahead."""
        self._world, self._node, self._random, self._least = world, node, random, least
        self.joins = True  # its replica stands still
        self._alone = False  # what several gave did not add up: one must give all
        self._clear()

    def _clear(self) -> None:
        self._taken, self._rows, self._givers = Taken(), dict[str, bytes](), set[int]()

    def ask(self) -> None:
        """Ask anyone who has more to go on; again later if there is nobody."""
        givers = [n for n in self._world.nodes if self._gives(n)]
        if not givers:
            self._world.at(AGAIN_MS, self.ask)
            return
        giver = self._random.choice(givers)
        if self._alone and self._givers - {giver.number}:
            self._clear()
        if self._taken.place.size > giver.archive.state.size:
            self._world.at(AGAIN_MS, self.ask)
            return
        self._world.met["snapshot: goes on elsewhere"] += bool(self._givers - {giver.number})
        assert isinstance(giver.archive, RuledArchive)
        parts = parts_of(giver.archive, self._taken.place)
        offer = giver.archive.offer()
        self._take(giver, giver.incarnation, offer, parts, 0)

    def _gives(self, node: Node) -> bool:
        whole = isinstance(node.archive, RuledArchive) and node.archive.is_whole
        there = node is not self._node and node.replica is not None and whole
        return there and len(node.archive.blocks) >= self._least

    def _take(
        self, giver: Node, incarnation: int, offer: bytes, parts: Iterator[Part], number: int
    ) -> None:
        """The next part; damage is noticed, at the latest when all came."""
        if self._breaks_off(giver, incarnation):
            self._world.met["snapshot: breaks off"] += 1
            self._world.at(AGAIN_MS, self.ask)
            return
        try:
            if number == 0:
                offer = self._perhaps_damaged(offer)
                Offer.decode(offer).check(self._world.consortium.genesis)
            part = Part.decode(self._perhaps_damaged(next(parts).encode()))
            self._keep(giver, part, Offer.decode(offer).tip.block.header.size)
            if part.ended:
                self._end(Offer.decode(offer), part, giver.number, first=number == 0)
                return
        except InvalidInput:
            self._world.met["snapshot: refused"] += 1
            self._world.at(AGAIN_MS, self.ask)
            return
        delay = self._random.randint(1, 100)
        self._world.at(delay, self._take, giver, incarnation, offer, parts, number + 1)

    def _keep(self, giver: Node, part: Part, proven: int) -> None:
        taken = self._taken.after(part, self._rows.get).within(proven)
        if part.anew:
            self._world.met["snapshot: anew"] += 1
            self._clear()
        self._world.met["snapshot: changed behind"] += bool(part.changed)
        for key, value in (*part.changed, *part.rows):
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self._taken = taken
        self._givers.add(giver.number)

    def _end(self, offer: Offer, part: Part, giver: int, *, first: bool) -> None:
        """All rows are here; if they are of the offered block, begin on it."""
        header = offer.tip.block.header
        if not first or part.size != header.size:
            self._world.at(0, self.ask)  # what changed since, and the block that states it
            return
        try:
            self._taken.check(header.state)
        except InvalidInput:
            self._alone = self._givers != {giver}
            self._clear()
            raise
        archive = self._node.archive
        assert isinstance(archive, RuledArchive)
        archive.adopt(offer, self._rows, self._taken.sum.state)
        self.joins = False
        self._world.met["snapshot: joined"] += 1
        self._world.met["snapshot: over epochs"] += len(offer.milestones) > 1
        self._world.at(0, self._world.boot, self._node)
        self._world.at(self._random.randint(1, 2_000), self.fetch_past)

    def fetch_past(self) -> None:
        """Blocks below the oldest that is here, until the first."""
        archive = self._node.archive
        if self.joins or not isinstance(archive, RuledArchive) or archive.is_whole:
            return
        above = max(h for h, block in enumerate(archive.blocks, 1) if block is None) + 1
        givers = [n for n in self._world.nodes if self._gives(n)]
        giver = self._random.choice(givers).archive if givers else None
        # One that is behind itself, after a crash, answers that it lacks them.
        if isinstance(giver, RuledArchive) and len(giver.blocks) >= above - 1:
            try:
                self._put(archive, self._stretch(giver, above), above)
            except InvalidInput:
                self._world.met["snapshot: past refused"] += 1
        self._world.at(self._random.randint(1, AGAIN_MS), self.fetch_past)

    def _stretch(self, archive: RuledArchive, above: int) -> bytes:
        """As its holder encodes it, perhaps damaged on the way."""
        pasts = tuple(archive.past(height) for height in range(max(1, above - STRETCH), above))
        first = pasts[0].block.header
        before = Frontier.read(first.size - first.leaf_count, archive.node)
        return self._perhaps_damaged(Stretch(before, pasts).encode())

    def _put(self, archive: RuledArchive, data: bytes, above: int) -> None:
        genesis = self._world.consortium.genesis
        header = archive.blocks[above - 1].header
        net, stretch = genesis.net_bytes, Stretch.decode(data)

        def voters(number: int) -> Voters | None:
            row = archive.rows.get(epoch_key(number))
            return None if row is None else Voters.of(number, row, net)

        archive.put(stretch.check(net, header, voters))
        self._world.met["snapshot: past fetched"] += 1

    def _perhaps_damaged(self, part: bytes) -> bytes:
        if self._world.healed or self._random.random() >= IS_DAMAGED:
            return part
        self._world.met["snapshot: part damaged"] += 1
        return flipped(part, self._random)

    def _breaks_off(self, giver: Node, incarnation: int) -> bool:
        gone = giver.replica is None or giver.incarnation != incarnation
        return gone or (not self._world.healed and self._random.random() < BREAKS_OFF)


def parts_of(archive: RuledArchive, place: Place) -> Iterator[Part]:
    """Rows from a place on, each part of the moment when it is asked for."""
    anew = False
    while True:
        now, keys = archive.state.size, archive.changed(place)
        if keys is None:
            place, anew, keys = Place(), True, []
        above = [key for key, _ in archive.rows.scan("", place.key, PART_ROWS)]
        rows = tuple((key, archive.rows.get_bytes(key) or b"") for key in above)
        ended = len(rows) < PART_ROWS
        changes: tuple[Change, ...] = tuple((key, archive.rows.get_bytes(key)) for key in keys)
        yield Part(now, changes, rows, ended, anew)
        if ended:
            return
        place, anew = Place(now, rows[-1][0]), False
