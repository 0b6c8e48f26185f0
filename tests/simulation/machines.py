"""What happens to clocks, processes and disks while faults reign. Behind every journal stand the
zeros that the next records would have been written over.

Its dice are its own: a seed without these faults is the run that it was before they existed.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from disks import LOSSES, ZEROS, RottenArchive, image, whole_sectors, wipe
from faults import Faults

from tilth_ledger.effects import Alarm, Effects
from tilth_ledger.errors import Fatal
from tilth_ledger.journal_records import Journal, frame, read_journal

if TYPE_CHECKING:
    from links import Node
    from world import World

REPLAYED_MS = 20_000
HOUR_MS = 3_600_000
LOOKS = 20


class Machines:
    """All machines of a world."""

    def __init__(self, world: World, faults: Faults, honest: list[int]) -> None:
        self._world = world
        self._faults = faults
        self._random = Random(f"machines of {world.seed}")
        chosen = self._random.sample(honest, faults.fragile + faults.rotten + faults.jumpers)
        self.fragile = frozenset(chosen[: faults.fragile])
        self.rotten = frozenset(chosen[faults.fragile : faults.fragile + faults.rotten])
        self.jumpers = frozenset(chosen[faults.fragile + faults.rotten :])
        self.cosigned = 0

    def begin(self) -> None:
        f, world, random = self._faults, self._world, self._random
        every = {
            f.clog_every_ms: self._clog,
            f.pause_every_ms: self._pause,
            f.jump_every_ms: self._jump,
            f.full_every_ms: self._fill,
        }
        for mean in (f.clog_every_ms, f.pause_every_ms, f.jump_every_ms, f.full_every_ms):
            if mean:
                world.at(random.randint(0, mean), every[mean], mean)
        for node in world.nodes:
            if f.fragile and node.member in self.fragile:
                world.at(random.randint(0, f.faulty_ms), self._keep_image, node)
                for _ in range(random.randint(1, f.losses)):
                    world.at(random.randint(0, f.faulty_ms), self._lose, node)
            if node.member in self.rotten:
                node.archive = RottenArchive(node.archive, random, world.met)
            if node.member in self.jumpers:
                node.jumped_ms = random.randint(-HOUR_MS, HOUR_MS)
        for _ in range(LOOKS if f.cosigns else 0):
            world.at(random.randint(0, 2 * f.faulty_ms), self._look)

    def heal(self) -> None:
        """Clocks are right again, processes run, disks have room; what was lost stays lost."""
        for node in self._world.nodes:
            node.jumped_ms = node.full_until = 0
            self._resume(node)

    def replays_after(self) -> int | None:
        """How long until a message is heard again; None: never."""
        if not self._faults.replay or self._random.random() >= self._faults.replay:
            return None
        return self._random.randint(0, REPLAYED_MS)

    def disk_fails(self, node: Node, effects: Effects) -> bool:
        """Whether the disk takes no more, or its sync fails: some of it may be there later, and the
        process stops (F7)."""
        if self._world.now >= node.full_until or not effects.persist:
            return False
        full = self._random.random() < 0.5
        self._world.met["disk: full (ENOSPC)" if full else "disk: sync fails (EIO)"] += 1
        written = frame(effects.persist, node.sequence)
        # A full disk took a part; what a failed sync left is anything, the whole too.
        kept = len(written) if not full and self._random.random() < 0.5 else None
        cut = kept or self._random.randint(0, len(written))
        part = written[: kept or whole_sectors(len(node.journal), cut)]
        node.journal += part
        node.unsynced += len(part)
        return True

    def store_fails(self, node: Node) -> bool:
        """Whether the store's transaction fails, after the journal's sync: the process stops."""
        failing = self._world.now < node.full_until and self._random.random() < 0.5
        self._world.met["disk: store's transaction fails"] += failing
        return failing

    def lose_unsynced(self, node: Node) -> None:
        """The power fails with the process, or it does not."""
        if node.unsynced and self._random.random() < 0.5:
            node.journal = node.journal[: -node.unsynced]
        node.unsynced = 0

    def read_journal(self, node: Node) -> Journal:
        """The journal that a node starts from; of one that is damaged in its middle the operator
        keeps a copy, and the node begins with an empty folder."""
        node.cosigner.restart()
        if node.archive.blocks and self._cosigns(node):
            node.cosigner.schedule.final(node.archive.blocks[-1].header)
            node.cosigner.schedule.rest()
            self._sign(node)
        try:
            return read_journal(node.journal + ZEROS)
        except Fatal:
            if node.member not in self.fragile:
                raise
            self._world.met["disk: damage found, folder emptied"] += 1
            wipe(node, self._random)
            return read_journal(b"")

    def explains(self, node: Node, alarm: Alarm) -> bool:
        """Whether an honest node may say this: there are traitors, or damaged machines."""
        f = self._faults
        liars = bool(f.traitors or f.false_followers)
        match alarm.kind:
            case "peer":
                # An answer of before its disk was lost is heard again, and is none to what it asks.
                again = bool(f.replay) and node.member in self.fragile
                return liars or bool(self.rotten) or again
            case "clock":
                return liars or bool(f.jump_every_ms or self.jumpers)
            case "amnesia" | "repair":
                if node.member in self.fragile and alarm.kind == "amnesia":
                    self._world.met["disk: forgotten vote noticed"] += 1
                    self._world.churn.cure(node.member)
                return node.member in self.fragile
            case "memory":  # one that becomes a member late has an empty journal too
                return node.member in self.fragile or bool(f.changes) or f.torn
            case _:
                return False

    def cosign(self, node: Node, effects: Effects) -> None:
        """Heads of the tree that became final in this step, and whether the tip is due now."""
        if not self._cosigns(node):
            return
        for final in effects.finalized:
            ends = final.state.epoch != final.block.header.epoch
            node.cosigner.schedule.final(final.block.header, ends_epoch=ends)
        if effects.finalized and self._random.random() < 0.3:
            node.cosigner.schedule.rest()
        self._sign(node)

    def _cosigns(self, node: Node) -> bool:
        return self._faults.cosigns and node.member in self._world.checker.honest

    def _sign(self, node: Node) -> None:
        """What is due, durable before it leaves."""
        for head in node.cosigner.schedule.take():
            self._world.met["cosigned head"] += 1
            node.cosigner.newest = node.cosigner.schedule.newest = head.size
            self._world.checker.cosigns(node.member, head.size, head.root)
            self.cosigned += 1

    # What happens.

    def _again(self, mean: int, what: object) -> None:
        if not self._world.healed:
            self._world.at(self._random.randint(1, 2 * mean), what, mean)  # type: ignore[arg-type]

    def _someone(self) -> Node:
        return self._random.choice(self._world.nodes)

    def _clog(self, mean: int) -> None:
        """Nothing comes through one way for a while; then all of it at once."""
        if not self._world.healed:
            self._world.met["network: clog"] += 1
            until = self._world.now + self._random.randint(1, 4 * mean)
            self._world.network.clogged[self._someone().number, self._someone().number] = until
        self._again(mean, self._clog)

    def _pause(self, mean: int) -> None:
        node = self._someone()
        if not self._world.healed and node.replica is not None and node.stalled is None:
            node.stalled = []
            self._world.met["process: pause"] += 1
            self._world.at(
                self._random.randint(*self._faults.pause_ms), self._wake, node, node.incarnation
            )
        self._again(mean, self._pause)

    def _wake(self, node: Node, incarnation: int) -> None:
        if node.incarnation == incarnation:
            self._resume(node)

    def _resume(self, node: Node) -> None:
        waiting, node.stalled = node.stalled, None
        if waiting:
            self._world.step(node, waiting)

    def _jump(self, mean: int) -> None:
        node = self._someone()
        if not self._world.healed:
            far = node.member in self.jumpers
            reach = HOUR_MS if far else 4_000
            self._world.met["clock: jump by up to an hour" if far else "clock: jump"] += 1
            node.jumped_ms = self._random.randint(-reach, reach)
        self._again(mean, self._jump)

    def _fill(self, mean: int) -> None:
        if not self._world.healed:
            self._someone().full_until = self._world.now + self._random.randint(1, 2 * mean)
        self._again(mean, self._fill)

    def _keep_image(self, node: Node) -> None:
        node.image = image(node)

    def _lose(self, node: Node) -> None:
        """The machine stops, and its disk is not what it was."""
        if self._world.healed:
            return
        if node.replica is not None:
            self._world.crash(node)
        loss = self._random.choice(LOSSES)
        if loss(node, self._random):
            self._world.met[f"disk: {loss.__name__.strip('_').replace('_', ' ')}"] += 1
            if self._world.churn.is_under_way:
                self._world.met["membership: disk lost during a change"] += 1

    def _look(self) -> None:
        """A client reads what a node shows."""
        node = self._someone()
        if node.member in self._world.checker.honest and node.replica is not None:
            self._world.checker.read(node.member, node.archive.state)
