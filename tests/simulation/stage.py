"""A stage for scenarios: replicas whose messages a test delivers, holds back or makes up.

stage = Stage(3)
stage.submit(0, "a")
stage.settle()                # deliver everything, fire no timer
stage.pass_ms(1_000)          # let time go by, firing timers and delivering
stage.cut(0, 1); stage.mend() # no messages between 0 and 1; all again, with new connections
stage.crash(2); stage.restart(2)
stage.play(3, to=0, message=...)  # member 3 is not run (`away`): the test speaks for it
stage.join(4)                 # a node of an organization that genesis does not list

Members are numbered for ever, as in their names `m0`, `m1`; a replica numbers parties by its epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from number_ledger import Keys, MemoryArchive, NumberExecutor, Numbers, consortium, write_leaf
from places import number_of, party_of, renumbered

from tilth_ledger.ballot import VoterRules
from tilth_ledger.blocks import Block, Certificate, Header, Justification, Kind, Vote
from tilth_ledger.effects import (
    Alarm,
    Effects,
    Event,
    Keyring,
    PeerConnected,
    PeerGone,
    Received,
    Start,
    Submitted,
    Tick,
)
from tilth_ledger.errors import Fatal, TilthError
from tilth_ledger.journal_records import frame, read_journal
from tilth_ledger.messages import Message, Proposal, Status, Votes
from tilth_ledger.replica import Replica

WALL_MS = 1_700_000_000_000


@dataclass
class Disk:
    """What survives a crash of one node."""

    archive: MemoryArchive = field(default_factory=MemoryArchive)
    journal: bytes = b""
    sequence: int = 0


class Stage:
    """Some replicas, one clock, no chance."""

    def __init__(
        self,
        n: int,
        q: int | None = None,
        rules: VoterRules | None = None,
        away: Sequence[int] = (),
        followers: int = 0,
    ) -> None:
        self.consortium = consortium(n, q, 300, followers=followers)
        self.genesis = self.consortium.genesis
        self.epoch = self.consortium.epoch
        self.rules = rules
        self.now = 0
        parties = n + followers
        self.disks = [Disk() for _ in range(parties)]
        self.replicas: dict[int, Replica] = {}
        self.sent: list[tuple[int, int, Message]] = []
        self.alarms: dict[int, list[Alarm]] = {m: [] for m in range(parties)}
        self.refused: dict[int, list[tuple[str, TilthError]]] = {m: [] for m in range(parties)}
        self.halted: dict[int, Fatal] = {}
        self.effects: list[tuple[int, Effects]] = []
        self.away = set(away)
        self.keyrings: dict[int, Keyring] = {}
        self.known_rules: dict[int, tuple[int, ...]] = {}
        self._met: set[frozenset[int]] = set()
        self.passes: Callable[[Message], Message] = lambda message: message  # what arrives of one
        self._timers: dict[int, int | None] = {}
        self._wire: deque[tuple[int, int, Message]] = deque()
        self._cut: set[tuple[int, int]] = set()
        for member in range(parties):
            if member not in self.away:
                self._start(member)
        for member in sorted(self.replicas):
            self._connect_all(member)
        self.settle()
        for member in sorted(self.replicas):
            self._greet_from_away(member)

    # What happens.

    def submit(self, member: int, *texts: str) -> None:
        self.step(member, [Submitted(write_leaf(text)) for text in texts])

    def settle(self, most: int = 10_000) -> None:
        """Deliver messages until none is left."""
        for _ in range(most):
            if not self._wire:
                return
            self.deliver_one()
        raise AssertionError("the replicas never stop talking")

    def deliver_one(self) -> None:
        """Deliver the oldest message."""
        sender, to, told = self._wire.popleft()
        message = self.passes(told)
        if to in self.replicas and (sender, to) not in self._cut:
            self.step(to, [Received(sender, message)])

    def pass_ms(self, duration: int) -> None:
        end = self.now + duration
        while True:
            self.settle()
            due = [(at, m) for m, at in self._timers.items() if at is not None and at <= end]
            if not due:
                break
            at, member = min(due)
            self.now = max(self.now, at)
            self._timers[member] = None
            self.step(member, [Tick()])
        self.now = end

    def cut(self, *pair: int) -> None:
        """Nothing passes between two members any more."""
        a, b = pair
        self._cut |= {(a, b), (b, a)}

    def part(self, a: int, b: int) -> None:
        """Two members have no connection any more, and know it."""
        self.cut(a, b)
        self.step(a, [PeerGone(b)])
        self.step(b, [PeerGone(a)])

    def isolate(self, member: int) -> None:
        for other in range(len(self.disks)):
            if other != member:
                self.cut(member, other)

    def mend(self) -> None:
        """Everything passes, over new connections."""
        self._cut = set()
        for member in sorted(self.replicas):
            for other in self._others(member):
                self.step(member, [PeerGone(other)])
        for member in sorted(self.replicas):
            self._connect_all(member)

    def crash(self, member: int) -> None:
        del self.replicas[member]
        self._timers.pop(member, None)
        self._wire = deque(w for w in self._wire if w[1] != member)
        for other in sorted(self.replicas):
            self.step(other, [PeerGone(member)])

    def restart(self, member: int) -> None:
        self._start(member)
        self._connect_all(member)
        for other in sorted(self.replicas):
            if other != member:
                self.step(other, [PeerConnected(member)])
        self._greet_from_away(member)

    def play(self, sender: int, to: int, message: Message) -> None:
        """A message that the test makes up for a member that is away, delivered at once."""
        self.step(to, [Received(sender, message)])

    def drop_messages(self) -> None:
        self._wire.clear()

    def step(self, member: int, events: Sequence[Event]) -> Effects:
        """One step of one replica, carried out."""
        epoch = self.replicas[member].epoch
        own = [each for each in (renumbered(epoch, event) for event in events) if each]
        effects = self.replicas[member].step(self.now, WALL_MS + self.now, own)
        disk = self.disks[member]
        bodies = effects.persist if effects.promise is None else (*effects.persist, effects.promise)
        disk.journal += frame(bodies, disk.sequence)
        disk.sequence += len(bodies)
        disk.archive.apply(effects)
        if effects.compact is not None:
            disk.journal, disk.sequence = frame(effects.compact, 0), len(effects.compact)
        for send in effects.send:
            for to in (number_of(epoch, party) for party in send.to):
                self.sent.append((member, to, send.message))
                self._wire.append((member, to, send.message))
        self.alarms[member] += effects.alarms
        self.refused[member] += effects.refused
        if effects.halt is not None:
            self.halted[member] = effects.halt
        self.effects.append((member, effects))
        self._timers[member] = effects.timer_ms
        if effects.epoch is not None:
            self._meet(member)
        return effects

    def join(self, member: int) -> None:
        """Run a node of `m<member>`, which genesis does not list."""
        while len(self.disks) <= member:
            number = len(self.disks)
            self.disks.append(Disk())
            self.alarms[number], self.refused[number] = [], []
        self._start(member)
        self._meet(member)

    def _meet(self, member: int) -> None:
        """Links to those that list this member and that it lists; none to others."""
        for other in self._others(member):
            pair, known = frozenset((member, other)), self._know(member, other)
            for at, to in ((member, other), (other, member)):
                if at in self.replicas and known != (pair in self._met):
                    self.step(at, [PeerConnected(to) if known else PeerGone(to)])
            (self._met.add if known else self._met.discard)(pair)

    def _know(self, a: int, b: int) -> bool:
        return all(
            at not in self.replicas or party_of(self.replicas[at].epoch, to) is not None
            for at, to in ((a, b), (b, a))
        )

    # What is so.

    def heights(self) -> list[int]:
        return [len(disk.archive.blocks) for disk in self.disks]

    def texts(self, member: int) -> list[str]:
        """The final leaves of a node, as their texts."""
        leaves = [leaf for b in self.disks[member].archive.blocks for leaf in b.leaves]
        return [leaf[7:-1].decode() for leaf in leaves]

    def is_silent(self) -> bool:
        """No message under way and no timer set."""
        return not self._wire and all(at is None for at in self._timers.values())

    def signed(self, member: int, kind: Kind) -> set[tuple[int, bytes]]:
        """(view, block) of every vote of this kind that left a member."""
        votes: list[Vote] = []
        for sender, _, message in self.sent:
            if sender == member and isinstance(message, Votes):
                votes += message.votes
            if sender == member and isinstance(message, Proposal):
                votes.append(message.vote)
        return {(vote.view, vote.block) for vote in votes if vote.kind is kind}

    # What a test makes up.

    def vote(self, member: int, kind: Kind, view: int, block: bytes = bytes(32)) -> Vote:
        key = self.consortium.keys[member]
        return Vote.sign(self.epoch, key, member, kind, view, block)

    def certificate(
        self, kind: Kind, view: int, block: bytes = bytes(32), members: Sequence[int] = ()
    ) -> Certificate:
        chosen = members or range(self.genesis.q)
        votes = [self.vote(member, kind, view, block) for member in chosen]
        return Certificate.of(votes, len(self.genesis.members))

    def block(
        self,
        view: int,
        texts: Sequence[str] = (),
        parent: Block | None = None,
        certificate: Certificate | None = None,
        skips: Sequence[Certificate] = (),
        state: Numbers | None = None,
        time_ms: int | None = None,
    ) -> tuple[Block, Numbers]:
        """A block that executes, on a parent whose state is given, and its own state."""
        below = state or Numbers()
        moment = time_ms if time_ms is not None else max(WALL_MS + self.now, below.time_ms + 1)
        executor = NumberExecutor(self.genesis)
        built = executor.build(below, [write_leaf(t) for t in texts], moment)
        why = Justification(certificate, tuple(skips))
        header = Header(
            net=self.genesis.net_bytes,
            epoch=0,
            view=view,
            height=(parent.header.height if parent else 0) + 1,
            parent=parent.hash if parent else self.genesis.net_bytes,
            parent_view=parent.header.view if parent else 0,
            skips=why.skips_digest,
            leaf_count=len(built.leaves),
            size=built.state.size,
            root=built.state.root,
            state=built.state.digest,
            time_ms=moment,
            proposer=self.epoch.leader(view),
        )
        return Block(header, built.leaves, why), built.state

    # Inside.

    def _start(self, member: int) -> None:
        self.replicas[member] = self.restored(member)
        self.step(member, [Start()])

    def restored(self, member: int) -> Replica:
        """A replica of what is on a member's disk, not started."""
        disk = self.disks[member]
        found = read_journal(disk.journal)
        disk.journal, disk.sequence = disk.journal[: found.good_bytes], found.sequence
        return Replica(
            self.genesis,
            f"m{member}",
            self.keyrings.get(member) or Keys(member, cheap=True),
            NumberExecutor(self.genesis, self.known_rules.get(member, (1,))),
            disk.archive,
            disk.archive.restored(found.bodies, doubtful=found.damaged),
            self.rules,
        )

    def _connect_all(self, member: int) -> None:
        for other in self._others(member):
            if self._know(member, other):
                self._met.add(frozenset((member, other)))
                self.step(member, [PeerConnected(other)])

    def _greet_from_away(self, member: int) -> None:
        """Members that the test plays say that they hold no vote of this one."""
        for other in sorted(self.away):
            self.play(other, member, Status(0, 1, 1, 0, 0, 0, bytes(32), False, ()))

    def _others(self, member: int) -> list[int]:
        """Those that run or are played by the test, and are not cut off."""
        everyone = sorted({*self.replicas, *self.away} - {member})
        return [other for other in everyone if (member, other) not in self._cut]
