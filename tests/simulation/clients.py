"""Those who use a simulated ledger: clients that hand in leaves, readers that ask for barriers."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from checker import cannot_be, name_of
from number_ledger import write_leaf
from places import party_of

from tilth_ledger.blocks import Block
from tilth_ledger.effects import Asked, Submitted

if TYPE_CHECKING:
    from links import Node
    from world import World

READS = 10


class Clients:
    """All clients of a world. One that hears nothing comes back after the healing."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self.submitted: dict[str, str] = {}
        self._reader = Random(f"reads {world.seed}")
        self.reading: dict[bytes, tuple[int, int]] = {}  # node and incarnation that was asked
        self.answered_reads = 0

    def schedule(self) -> None:
        f, world = self._world.faults, self._world
        for burst in range(f.bursts):
            at = burst * f.faulty_ms // f.bursts
            for number in range(burst * f.leaves, (burst + 1) * f.leaves):
                at += self._random.randint(0, 2 * f.gap_ms)
                world.at(min(at, f.faulty_ms - 1), self._submit_new, number)
        for number in range(READS * f.bursts if world.seed % 2 else 0):
            world.at(self._reader.randint(0, f.faulty_ms + 60_000), self._read, number)

    def ask(self, text: str) -> None:
        """Hand in a change of who votes; nobody comes back to it."""
        if not self._world.healed:
            self._submit(text)

    def resubmit(self) -> bool:
        """Every client that still waits sends the same bytes again; whether there is one."""
        checker = self._world.checker
        waiting = [text for text, name in self.submitted.items() if name not in checker.ids]
        taken = self._world.final_state().taken
        waiting = [t for t in waiting if not cannot_be(t, taken) and "epoch:" not in t]
        for text in waiting:
            honest = self._world.present()
            self._world.hand(self._random.choice(honest), Submitted(write_leaf(text)))
        return bool(waiting)

    def answer(self, node: Node, blocks: list[Block]) -> None:
        """A node applied blocks: its readers whose nonces they list read."""
        for block in blocks:
            for nonce in self._world.checker.answered(node.member, block):
                if self.reading.get(nonce) == (node.number, node.incarnation):
                    del self.reading[nonce]
                    self.answered_reads += 1

    def turn_away(self, node: Node) -> None:
        """A node of an organization that is listed no more: its readers are told nothing."""
        self.reading = {n: at for n, at in self.reading.items() if at[0] != node.number}

    def _submit_new(self, number: int) -> None:
        if self._world.healed:
            return
        text = f"leaf{number}"
        if self._random.random() < self._world.faults.conditional:
            other = self._random.randint(0, self._world.faults.leaves)
            text += self._random.choice(
                (f" claim:c{other % 5}", f" needs:leaf{other}", f" needs:c{other % 5}", " bad")
            )
        self._submit(text)

    def _submit(self, text: str) -> None:
        """To one node."""
        self.submitted[text] = name_of(text)
        ready = [node for node in self._world.nodes if node.replica is not None]
        if ready:
            self._world.hand(self._random.choice(ready), Submitted(write_leaf(text)))

    def _read(self, number: int) -> None:
        """A reader asks one honest node, which may crash before it answers."""
        honest = self._world.checker.honest
        ready = [n for n in self._world.nodes if n.replica is not None and n.member in honest]
        waiting = {number for number, _ in self.reading.values()}
        ready = [node for node in ready if node.number not in waiting]
        ready = [n for n in ready if party_of(n.replica.epoch, n.member) is not None]
        if ready:
            node, nonce = self._reader.choice(ready), number.to_bytes(16)
            self._world.checker.asked(nonce)
            self.reading[nonce] = node.number, node.incarnation
            self._world.hand(node, Asked(nonce))
