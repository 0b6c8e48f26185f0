"""A world of simulated nodes: virtual time, a bad network, disks that forget what was not synced.

One seed is one run. Faults reign until `faulty_ms`; then everything is healed and the run must end
with every leaf settled and every node silent.

    World(seed).run()        # raises Violation
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Any

from checker import Checker, Violation
from churn import Churn
from clients import Clients
from disks import SECTOR, ZEROS, whole_sectors
from false_follower import FalseFollower
from faults import Faults, of_seed
from liar import Liar, liar_of
from links import Network, Node
from machines import Machines
from number_ledger import (
    Consortium,
    Keys,
    MemoryArchive,
    NumberExecutor,
    Numbers,
    consortium,
)
from places import party_of, renumbered

from tilth_ledger import core as core_module
from tilth_ledger.ballot import VoterRules
from tilth_ledger.effects import (
    Effects,
    Event,
    Executor,
    Keyring,
    Start,
    Tick,
)
from tilth_ledger.epochs import Epoch
from tilth_ledger.evidence import Name
from tilth_ledger.journal_records import Journal, frame
from tilth_ledger.leaf import leaf_id
from tilth_ledger.replica import Replica, Restored

HEALED_MS = 40 * 60_000  # by then everything must be settled and still
CRASHES = ("before the sync", "in the sync", "after the sync", "after the store", "while sending")
WALL_MS = 1_700_000_000_000


class World:
    """Everything, driven by one queue of events."""

    def __init__(
        self,
        seed: int,
        faults: Faults | None = None,
        rules: Callable[[], VoterRules] | None = None,
    ) -> None:
        self.seed = seed
        self.faults = faults or of_seed(seed)
        self.random = Random(f"world {seed}")
        self.now = 0
        self.healed = False
        self.trace = sha256()
        self.steps = 0  # of replicas and liars
        self.events = 0  # taken from the queue
        self.met: Counter[str] = Counter()  # faults that happened, by name
        self.rules = rules
        f = self.faults
        parties = f.n + f.followers + f.false_followers
        self.consortium: Consortium = self._found(parties - f.n)
        traitors = frozenset(self.random.sample(range(f.n), f.traitors))
        self.false = frozenset(range(f.n + f.followers, parties))
        everyone = parties + f.strangers
        honest = frozenset(range(everyone)) - traitors - self.false
        self.machines = Machines(self, f, sorted(honest & frozenset(range(f.n))))
        self.checker = self._checker(honest)
        self.liars = traitors if f.liars else frozenset()
        members = [*range(everyone), *sorted(traitors - self.liars)]
        self.nodes = [
            Node(number, member, self.new_archive()) for number, member in enumerate(members)
        ]
        self.instances = [
            [node for node in self.nodes if node.member == member] for member in range(everyone)
        ]
        for node in self.nodes:
            node.skew_ms = self.random.randint(-f.skew_ms, f.skew_ms)
            node.offset_ms = self.random.randint(0, 10**9)
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self.network = Network(self, f, self.random)
        self.churn = Churn(self)
        self._at_healing = (0, 0)
        self.clients = self._clients()

    # What the ledger is made of: another world may have another state machine.

    def _found(self, followers: int) -> Consortium:
        f = self.faults
        return consortium(f.n, f.q, f.delta_ms, f.cheap_keys, followers)

    def new_archive(self) -> MemoryArchive:
        """An empty disk's."""
        return MemoryArchive()

    def _checker(self, honest: frozenset[int]) -> Checker:
        fragile, strict = self.machines.fragile, self.faults.wire
        return Checker(self.consortium.genesis, honest, fragile, strict=strict)

    def _clients(self) -> Clients:
        return Clients(self)

    def _liar(self, node: Node) -> Liar:
        return liar_of(self, node)

    def _keyring(self, member: int) -> Keyring:
        return Keys(member, cheap=self.faults.cheap_keys)

    def _load(self, node: Node, found: Journal) -> tuple[Executor, Restored]:
        """What a node starts from, beside its archive."""
        executor: Any = NumberExecutor(self.consortium.genesis)
        return executor, node.archive.restored(found.bodies, doubtful=found.damaged)

    def run(self) -> World:
        """The whole run; raises `Violation`."""
        before = core_module.COMPACT_BYTES
        core_module.COMPACT_BYTES = self.faults.compact_bytes
        try:
            self._run()
        finally:
            core_module.COMPACT_BYTES = before
        return self

    def _run(self) -> None:
        """Faults, healing, and the end."""
        f = self.faults
        for node in self.nodes:
            self.at(self.random.randint(0, 200), self.boot, node)
        self.clients.schedule()
        self.churn.schedule()
        if f.partition_every_ms:
            self.at(self.random.randint(0, f.partition_every_ms), self.network.partition)
        if f.reset_ms:
            self.at(self.random.randint(0, f.reset_ms), self.network.reset)
        self.machines.begin()
        self._drain(f.faulty_ms)
        self._heal()
        for _ in range(20):  # leaves that need one another take a round each
            # What was planned for a longer time of faults (looks: twice as long) passes first.
            self._drain(self.now + HEALED_MS + 2 * f.faulty_ms * bool(f.most_steps))
            if self._queue and not self._asks_a_liar():
                raise Violation("the network does not fall silent")
            if not self.clients.resubmit():
                break
        self._check_end()

    def _asks_a_liar(self) -> bool:
        """Whether a member that may have lost votes asks for what the others hold: it asks until
        all have told it, and a liar need not."""
        waiting = (n.replica for n in self.present() if n.replica and not n.replica.follows)
        return bool(self.liars) and not all(replica.votes for replica in waiting)

    # The queue.

    def at(self, delay: int, action: Callable[..., None], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, action, arguments))

    def _drain(self, until: int) -> None:
        most = self.faults.most_steps
        while self._queue and self._queue[0][0] <= until:
            if most and not self.healed and self.steps >= most:
                return
            self.now, _, action, arguments = heapq.heappop(self._queue)
            self.events += 1
            action(*arguments)
        if not self.healed:
            self.now = until

    # Machines.

    def boot(self, node: Node) -> None:
        if node.replica is not None:
            return
        if node.member in self.liars:
            node.replica = self._liar(node)
        elif node.member in self.false:
            node.replica = FalseFollower(self.consortium, node.member, self.random)
        else:
            node.replica = self._restore(node)
        node.inbox = []
        node.incarnation += 1
        self.step(node, [Start()])
        for other in self.nodes:
            if other.member != node.member:
                self.at(
                    self.random.randint(0, 50), self.network.connect, node, other, node.incarnation
                )

    def _restore(self, node: Node) -> Replica:
        found = self.machines.read_journal(node)
        node.journal = (node.journal + ZEROS)[: found.good_bytes]
        node.sequence = found.sequence
        self.checker.found(node.member, found.bodies)
        archive = node.archive
        if node.member in self.checker.honest:
            self.checker.same_chain(node.member, archive.blocks)
        genesis = self.consortium.genesis
        executor, restored = self._load(node, found)
        rules = self.rules() if self.rules else None
        keys = self._keyring(node.member)
        return Replica(genesis, f"m{node.member}", keys, executor, archive, restored, rules)

    def crash(self, node: Node) -> None:
        """The process ends; in a while it is started again."""
        self.machines.lose_unsynced(node)
        node.replica = None
        node.stalled = None
        node.timer += 1
        for other in self.nodes:
            self.network.disconnect(node, other)
        if not self.healed:
            self.at(self.random.randint(*self.faults.down_ms), self.boot, node)

    def step(self, node: Node, events: list[Event]) -> None:
        replica = node.replica
        if replica is None:
            return
        if node.stalled is not None:
            node.stalled += events
            return
        self.steps += 1
        mono = self.now + node.offset_ms
        wall = WALL_MS + self.now + node.skew_ms + node.jumped_ms
        epoch = replica.epoch
        own = [each for each in (renumbered(epoch, event) for event in events) if each]
        effects = replica.step(mono, wall, own)
        self._note(node, events, effects)
        if effects.halt is not None:
            raise Violation(f"node {node.number} halts: {effects.halt}")
        for alarm in effects.alarms:
            self._check_alarm(node, alarm)
        self._carry_out(node, effects, epoch)
        if node.replica is not None and node.member in self.checker.honest:
            held, view = node.replica.held, node.replica.view
            self.checker.memory(node.member, held, view, len(node.journal))

    def _check_alarm(self, node: Node, alarm: Any) -> None:
        if alarm.kind == "evidence" and self.checker.may_lie(alarm.evidence.name):
            return
        if alarm.kind == "unlisted":
            return
        if alarm.kind == "clock" and node.member not in self.churn.listed():
            return  # a removed member that talks to itself
        if self.machines.explains(node, alarm):
            return
        if node.member in self.checker.honest:
            raise Violation(f"node {node.number}: {alarm.kind}: {alarm.message}")

    def _accuse(self, node: Node, name: Name) -> None:
        if self.checker.may_lie(name) and node.member in self.checker.honest:
            self.checker.accused.add(name)

    def _carry_out(self, node: Node, effects: Effects, epoch: Epoch) -> None:
        """In the order of effects, with a crash somewhere in between if the dice say so."""
        doing = bool(effects.persist or effects.finalized or effects.send)
        crash = not self.healed and doing and self.random.random() < self.faults.crash
        point = self.random.randint(0, 4) if crash else 9
        if crash:
            self.met[f"crash: {CRASHES[point]}"] += 1
        if point == 0:
            return self.crash(node)
        if self.machines.disk_fails(node, effects):
            return self.crash(node)
        if effects.persist:
            written = frame(effects.persist, node.sequence)
            if point == 1 and self.faults.torn:
                self.met["disk: torn write"] += 1
                part = self._torn(written, len(node.journal))
                node.journal += part
                node.unsynced += len(part)
                return self.crash(node)
            node.journal += written
            node.sequence += len(effects.persist)
            node.unsynced = 0
        self.checker.durable(node.member, effects, epoch)
        for alarm in effects.alarms:  # not before it is on disk: until then a crash may forget it
            if alarm.kind == "evidence":
                self._accuse(node, alarm.evidence.name)
        if point in (1, 2) or (effects.finalized and self.machines.store_fails(node)):
            return self.crash(node)
        if effects.finalized:
            self._apply(node, effects)
        if effects.compact is not None:
            node.before = node.journal
            node.journal, node.sequence = frame(effects.compact, 0), len(effects.compact)
            node.unsynced = 0
        elif effects.promise is not None:
            mark = frame((effects.promise,), node.sequence)
            node.journal += mark
            node.sequence += 1
            node.unsynced += len(mark)
        self.machines.cosign(node, effects)
        if point == 3:
            return self.crash(node)
        sends = list(effects.send)
        if point == 4:
            sends = sends[: self.random.randint(0, len(sends))]
        for send in sends:
            self.network.send(node, send, epoch)
        if point == 4:
            return self.crash(node)
        if effects.timer_ms is not None:
            node.timer += 1
            wait = max(0, effects.timer_ms - node.offset_ms - self.now)
            self.at(wait, self._tick, node, node.timer)
        else:
            node.timer += 1
        if effects.epoch is not None:
            self.met["membership: epoch entered"] += 1
            self.network.meet(node)
            if party_of(effects.epoch, node.member) is None:
                self.clients.turn_away(node)
        return None

    def _torn(self, written: bytes, at: int) -> bytes:
        """What a crash leaves of bytes that begin at a place of the file: the first of its sectors,
        or any of them, and zeros in the others."""
        cut = self.random.randint(0, len(written) - 1)
        kept = self.random.choice((None, None, 0, cut))
        if kept is None:
            return written[: whole_sectors(at, cut)]
        left = bytearray(written)
        start = 0
        while start < len(written):
            end = start + SECTOR - (at + start) % SECTOR
            if start == 0 or kept >> start // SECTOR & 1 == 0:
                left[start:end] = bytes(len(left[start:end]))
            start = end
        return bytes(left)

    def _apply(self, node: Node, effects: Effects) -> None:
        first = len(node.archive.blocks) + 1
        if node.member in self.checker.honest:
            self.checker.finalized(node.member, effects, first)
        node.archive.apply(effects)
        if node.member in self.checker.honest:
            self.clients.answer(node, [final.block for final in effects.finalized])
            for final in effects.finalized:
                header = final.block.header
                place = header.size - header.leaf_count
                for index, leaf in enumerate(final.block.leaves, place):
                    self.checker.acknowledge(leaf_id(leaf), index)

    def _tick(self, node: Node, generation: int) -> None:
        # Nobody tells a removed member that it is one: it looks for the others for ever.
        outside = self.healed and node.member not in self.churn.listed()
        if node.timer == generation and not outside:
            self.step(node, [Tick()])

    def hand(self, node: Node, event: Event) -> None:
        if not self.faults.batch_ms:
            return self.step(node, [event])
        if not node.inbox:
            wait = self.random.randint(0, self.faults.batch_ms)
            self.at(wait, self._flush, node, node.incarnation)
        node.inbox.append(event)
        return None

    def _flush(self, node: Node, incarnation: int) -> None:
        if node.incarnation == incarnation and node.inbox:
            events, node.inbox = node.inbox, []
            self.step(node, events)

    # The end.

    def _heal(self) -> None:
        self.healed = True
        self.network.heal()
        self.machines.heal()
        for node in self.nodes:
            if node.replica is None:
                self.boot(node)
            if isinstance(node.replica, Liar):
                node.replica.tire()
        self._at_healing = self._furthest()
        for a in self.nodes:
            for b in self.nodes:
                if a.number < b.number and a.member != b.member:
                    self.at(self.random.randint(50, 100), self.network.connect, a, b)
        self.at(200, self.clients.resubmit)

    def _furthest(self) -> tuple[int, int]:
        """The highest view and height of any honest node."""
        honest = [node for node in self.nodes if node.member in self.checker.honest]
        views = [node.replica.view for node in honest if node.replica is not None]
        return max(views, default=0), max(len(node.archive.blocks) for node in honest)

    def lost_views(self) -> int:
        """Views since the healing that brought no final block."""
        view, height = self._furthest()
        return view - self._at_healing[0] - (height - self._at_healing[1])

    def final_state(self) -> Numbers:
        honest = [node for node in self.nodes if node.member in self.checker.honest]
        return max((node.archive.state for node in honest), key=lambda state: state.size)

    def present(self) -> list[Node]:
        """Honest nodes whose organizations take part at last."""
        listed = self.churn.listed()
        return [n for n in self.nodes if n.member in self.checker.honest and n.member in listed]

    def _check_end(self) -> None:
        honest = self.present()
        heights = {node.number: len(node.archive.blocks) for node in honest}
        if len(set(heights.values())) != 1:
            raise Violation(f"nodes end at different heights: {heights}")
        if any(node.archive.state != honest[0].archive.state for node in honest):
            raise Violation("nodes end in different states")
        for node in honest:
            self.checker.whole_chain(node.member, node.archive.blocks)
        there = {(node.number, node.incarnation) for node in honest}
        if unanswered := [n for n, asked in self.clients.reading.items() if asked in there]:
            raise Violation(f"{len(unanswered)} readers were never answered")
        self.checker.finish(self.clients.submitted, honest[0].archive.state)
        if {node.replica.epoch.number for node in honest if node.replica} != {
            self.checker.epochs[-1].number
        }:
            raise Violation("nodes end in different epochs")
        faults = self.faults
        if not faults.traitors and not faults.changes and self.lost_views() > faults.n + 3:
            raise Violation(f"{self.lost_views()} views were lost after the healing")

    def _note(self, node: Node, events: list[Event], effects: Effects) -> None:
        """The trace: equal for equal seeds, whatever the hash seed of the process."""
        kinds = ",".join(type(event).__name__ for event in events)
        sent = ",".join(f"{send.to}{type(send.message).__name__}" for send in effects.send)
        final, timer = len(effects.finalized), effects.timer_ms
        line = f"{self.now} {node.number} {kinds} {sent} {timer} {final}"
        self.trace.update(line.encode())
        for body in effects.persist:
            self.trace.update(body)
