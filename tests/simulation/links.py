"""The links between simulated nodes, and all that goes wrong on them.

A connection has a number; what was sent over one is never delivered over the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from checker import Violation
from disks import Cosigner, Image
from false_follower import FalseFollower
from faults import Faults
from liar import Liar
from number_ledger import MemoryArchive
from places import number_of, party_of

from tilth_ledger.effects import Event, PeerConnected, PeerGone, Received, Send
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.messages import Message, Status, decode_message
from tilth_ledger.replica import Replica

if TYPE_CHECKING:
    from world import World


@dataclass
class Node:
    """One instance of a member: a twin of a traitor has a number of its own."""

    number: int
    member: int
    archive: MemoryArchive = field(default_factory=MemoryArchive)
    journal: bytes = b""
    before: bytes = b""  # the journal that a compacted one replaced: what its sectors held
    sequence: int = 0
    unsynced: int = 0  # bytes at the journal's end
    replica: Replica | Liar | FalseFollower | None = None
    inbox: list[Event] = field(default_factory=list)
    timer: int = 0  # generation
    incarnation: int = 0
    skew_ms: int = 0
    offset_ms: int = 0
    stalled: list[Event] | None = None  # of a paused process: what waits for it
    full_until: int = 0  # until then its disk takes nothing
    jumped_ms: int = 0  # of its wall clock
    image: Image | None = None  # an old copy of its disk
    cosigner: Cosigner = field(default_factory=Cosigner)


class Network:
    """All links of a world."""

    def __init__(self, world: World, faults: Faults, random: Random) -> None:
        self._world = world
        self._faults = faults
        self._random = random
        self._links: dict[tuple[int, int], int] = {}  # the connection's number; negative: gone
        self._blocked: set[tuple[int, int]] = set()
        self._last: dict[tuple[int, int], int] = {}
        self.clogged: dict[tuple[int, int], int] = {}  # direction -> until when
        pair = Random(f"severed {world.seed}").sample(range(faults.n), 2) if faults.severed else ()
        self._severed = frozenset(pair)

    def heal(self) -> None:
        """Everything passes again; the world is healed already."""
        self._blocked = set()
        self.clogged = {}

    def connect(self, a: Node, b: Node, incarnation: int | None = None) -> None:
        if a.replica is None or b.replica is None:
            return
        if incarnation is not None and a.incarnation != incarnation:
            return
        if {a.member, b.member} == self._severed or not self._know(a, b):
            return
        self.disconnect(a, b)
        pair = _pair(a, b)
        self._links[pair] = abs(self._links.get(pair, 0)) + 1
        self._world.step(a, [PeerConnected(b.member)])
        self._world.step(b, [PeerConnected(a.member)])

    def disconnect(self, a: Node, b: Node) -> None:
        pair = _pair(a, b)
        generation = self._links.get(pair, 0)
        if generation <= 0:
            return
        self._links[pair] = -generation
        for node, other in ((a, b), (b, a)):
            if not self._is_connected(node, other.member):
                self._world.step(node, [PeerGone(other.member)])

    def _is_connected(self, node: Node, member: int) -> bool:
        """Whether any instance of a member is connected."""
        return any(self._links.get(_pair(node, o), 0) > 0 for o in self._world.instances[member])

    def meet(self, node: Node) -> None:
        """A node entered an epoch: links to those that it lists and that list it, no others."""
        for other in self._world.nodes:
            if other.member == node.member or other.replica is None:
                continue
            linked = self._links.get(_pair(node, other), 0) > 0
            if linked and not self._know(node, other):
                self._world.at(0, self.disconnect, node, other)
            elif not linked:
                self._world.at(self._delay(), self.connect, node, other)

    def _know(self, a: Node, b: Node) -> bool:
        """Whether each lists the other in its epoch."""
        return all(
            at.replica is None or party_of(at.replica.epoch, to.member) is not None
            for at, to in ((a, b), (b, a))
        )

    def send(self, node: Node, send: Send, epoch: Epoch) -> None:
        message = send.message
        self._world.checker.released(node.member, message, epoch)
        if self._faults.wire and not self._survives_the_wire(node, message):
            return
        for member in (number_of(epoch, party) for party in send.to):
            for target in self._world.instances[member]:
                self._post(node, target, message)

    def _survives_the_wire(self, node: Node, message: Message) -> bool:
        """Whether it decodes to what it was; what a liar garbled may not decode at all, and is
        refused where it arrives."""
        try:
            decoded = decode_message(message.encode())
        except InvalidInput:
            if node.member in self._world.checker.honest:
                raise
            return False
        if decoded != message:
            raise Violation(f"{message} decodes to something else")
        return True

    def _post(self, node: Node, target: Node, message: Any) -> None:
        pair = _pair(node, target)
        generation = self._links.get(pair, 0)
        if generation <= 0:
            return
        if len(self._world.instances[target.member]) > 1 and isinstance(message, Status):
            message = _without_votes(message)  # twins must not notice each other
        copies, met = 1, self._world.met
        if not self._world.healed:
            if (node.number, target.number) in self._blocked:
                return
            if self._random.random() < self._faults.loss:
                met["network: loss"] += 1
                return
            copies += self._random.random() < self._faults.duplicate
            met["network: duplicate"] += copies - 1
        for _ in range(copies):
            delay = self._delay()
            direction = (node.number, target.number)
            if self._faults.fifo:
                arrival = max(self._world.now + delay, self._last.get(direction, 0))
                delay = arrival - self._world.now
            if self._world.now + delay < self._last.get(direction, 0):
                met["network: reorder"] += 1
            self._last[direction] = max(self._world.now + delay, self._last.get(direction, 0))
            clogged = self.clogged.get(direction, 0) - self._world.now
            event = Received(node.member, message)
            self._world.at(max(delay, clogged), self._deliver, target, pair, generation, event)
        wait = self._world.machines.replays_after()
        if wait is not None:
            self._world.at(wait, self._replay, target, pair, Received(node.member, message))

    def _replay(self, node: Node, pair: tuple[int, int], event: Event) -> None:
        """What was said long ago is heard once more, over whatever link there is."""
        if not self._world.healed:
            self._world.met["network: replay"] += 1
            self._deliver(node, pair, self._links.get(pair, 0), event)

    def _delay(self) -> int:
        if self._world.healed:
            return self._random.randint(0, self._faults.delta_ms // 10)
        if self._random.random() < self._faults.slow_chance:
            self._world.met["network: slow message"] += 1
            return self._random.randint(0, self._faults.slow_ms)
        return self._random.randint(*self._faults.delay)

    def _deliver(self, node: Node, pair: tuple[int, int], generation: int, event: Event) -> None:
        if generation <= 0 or self._links.get(pair) != generation or node.replica is None:
            return
        self._world.hand(node, event)

    def partition(self) -> None:
        """Cut the nodes in two, or one direction of one link, or nothing, for a while."""
        if self._world.healed:
            return
        f = self._faults
        numbers = [node.number for node in self._world.nodes]
        kind = self._random.choice(("halves", "halves", "one way", "alone", "none"))
        self._blocked = set()
        side = set(self._random.sample(numbers, self._random.randint(0, len(numbers))))
        if kind == "alone":
            side = {self._random.choice(numbers)}
        if kind in ("halves", "alone"):
            self._blocked = {(a, b) for a in numbers for b in numbers if (a in side) != (b in side)}
        if kind == "one way":
            self._blocked = {(a, b) for a in side for b in numbers if b not in side}
        self._world.met[f"network: partition, {kind}"] += bool(self._blocked)
        if self._random.random() < 0.5:
            for a, b in sorted(self._blocked):
                self.disconnect(self._world.nodes[a], self._world.nodes[b])
        self._world.at(self._random.randint(1, 2 * f.partition_every_ms), self._partition_ends)

    def _partition_ends(self) -> None:
        if self._world.healed:
            return
        self._blocked = set()
        for a in self._world.nodes:
            for b in self._world.nodes:
                if a.number < b.number and a.member != b.member:
                    self.connect(a, b)
        self._world.at(self._random.randint(1, 2 * self._faults.partition_every_ms), self.partition)

    def reset(self) -> None:
        if self._world.healed:
            return
        a, b = self._random.choice(self._world.nodes), self._random.choice(self._world.nodes)
        if a.member != b.member:
            self._world.met["network: reset"] += 1
            self.disconnect(a, b)
            self._world.at(self._random.randint(0, self._faults.reset_ms), self.connect, a, b)
        self._world.at(self._random.randint(1, 2 * self._faults.reset_ms), self.reset)


def _pair(a: Node, b: Node) -> tuple[int, int]:
    return (min(a.number, b.number), max(a.number, b.number))


def _without_votes(message: Status) -> Status:
    return replace(message, yours=())
