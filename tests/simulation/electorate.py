"""Real members, each step of which is taken once, and all blocks that they could ever be shown.

A member's next state follows from its own state and what happens to it; so states and events are
numbers, and a search over many members is a search over tuples of numbers (voters).

States of a member that will never again act differently have one number: by `_decisive`, which is
a guess, and held by every step. All states with one number take every step that any of them takes,
and `Incongruent` is raised unless they come out with one number again: so no state is left out.
Members that lead no view are of one kind, and share their states.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from number_ledger import Consortium, Keys, MemoryArchive, NumberExecutor, Numbers, write_leaf
from snapshots import Local, cloned, copied, votes_of, written

from tilth_ledger import voting
from tilth_ledger.ballot import VoterRules
from tilth_ledger.blocks import ZERO_HASH, Block, Header, Justification
from tilth_ledger.effects import Effects, Event, PeerConnected, Received, Start, Submitted, Tick
from tilth_ledger.errors import InvalidInput
from tilth_ledger.messages import Body, Certificates, FetchBlock, Proposal, Status
from tilth_ledger.replica import Replica

WALL_MS = 1_700_000_000_000
PATIENCE_MS = 600_000
NOBODY = Status(0, 1, 1, 0, 0, 0, ZERO_HASH, False, ())

Move = int  # what happens to a member, by number
World = tuple[int, ...]  # the state of each honest member, by number

PATIENCE, CRASH = OWN = (0, 1)  # moves that nobody else has a part in


@dataclass(frozen=True)
class Setting:
    """How many members, votes and liars; for how many views; how often a member may crash."""

    n: int
    q: int
    liars: frozenset[int] = frozenset()
    views: int = 2
    crashes: int = 0
    contents: int = 2  # equal blocks on one parent in one view


@dataclass
class Universe:
    """All blocks that were ever made, and the states after them."""

    made: Consortium
    blocks: dict[bytes, Block] = field(default_factory=dict)
    states: dict[bytes, Numbers] = field(default_factory=dict)
    _known: dict[Any, bytes] = field(default_factory=dict)

    def block(self, view: int, parent: bytes, content: int, why: Justification) -> bytes:
        """The hash of the block that a leader would make so."""
        key = (view, parent, content, why)
        if key not in self._known:
            block, after = self._write(view, parent, content, why)
            self._known[key] = block.hash
            self.blocks[block.hash], self.states[block.hash] = block, after
        return self._known[key]

    def line(self, block: bytes) -> list[bytes]:
        """A block and its ancestors."""
        line = []
        while block in self.blocks:
            line.append(block)
            block = self.blocks[block].header.parent
        return line

    def _write(
        self, view: int, parent: bytes, content: int, why: Justification
    ) -> tuple[Block, Numbers]:
        genesis = self.made.genesis
        below = self.blocks[parent].header if parent in self.blocks else None
        moment = WALL_MS + view
        leaf = write_leaf(f"v{view}c{content}p{parent.hex()[:8]}")
        built = NumberExecutor(genesis).build(self.states.get(parent, Numbers()), [leaf], moment)
        after = built.state
        header = Header(
            net=genesis.net_bytes,
            epoch=0,
            view=view,
            height=1 + (below.height if below else 0),
            parent=parent,
            parent_view=below.view if below else 0,
            skips=why.skips_digest,
            leaf_count=len(built.leaves),
            size=after.size,
            root=after.root,
            state=after.digest,
            time_ms=moment,
            proposer=self.made.epoch.leader(view),
        )
        return Block(header, built.leaves, why), after


class Incongruent(AssertionError):
    """States with one number came apart: `_decisive` leaves something out."""


class Members:
    """Real members, each step of which is taken once."""

    def __init__(
        self, setting: Setting, rules: VoterRules, universe: Universe, *, merges: bool
    ) -> None:
        """`merges`: states that act alike are one; `_decisive` is true of all rules together."""
        self._setting, self._rules, self._universe = setting, rules, universe
        self._merges = merges and not setting.crashes
        self._alike: list[list[tuple[int, Local]]] = []  # by number: states that act alike
        self._marks: set[Any] = set()  # of all of them
        self._numbers: dict[Any, int] = {}
        self._said: list[int] = []  # of each state, the number of what was said in it
        self._sayings: dict[Any, int] = {}
        self._moves: list[tuple[Any, ...]] = [("patience",), ("crash",)]
        self._move_numbers: dict[tuple[Any, ...], Move] = {}
        self._next: list[dict[Move, int]] = []  # by number
        self._unheld: list[tuple[int, int, Local]] = []  # states that did not take all steps yet
        self.steps = 0

    def kind(self, member: int) -> int:
        """The same for members of which nobody can tell which is which: they lead no view. Where
        members crash all that is in their journals counts, and that tells who they are."""
        leads = {self._universe.made.epoch.leader(v) for v in range(1, self._setting.views + 1)}
        return -1 if self._merges and member not in leads else member

    def first(self, member: int) -> int:
        archive = MemoryArchive()
        local = Local(self._replica(member, archive, ()), archive)
        waits = write_leaf(f"waits{member}")
        events = [*self._greeting(member), Submitted(waits)]
        number = self._number(member, self._run(local, events))
        self._hold()
        return number

    @property
    def states(self) -> int:
        """How many states of members there are behind the numbers."""
        return len(self._marks)

    def __getitem__(self, number: int) -> Local:
        return self._alike[number][0][1]

    def __len__(self) -> int:
        return len(self._alike)

    def said_in(self, world: World) -> tuple[int, ...]:
        """What tells apart what was said in two worlds."""
        return tuple(self._said[number] for number in world)

    def move(self, *what: Any) -> Move:
        """The number of something that may happen to a member."""
        if what not in self._move_numbers:
            self._move_numbers[what] = len(self._moves)
            self._moves.append(what)
        return self._move_numbers[what]

    def told(self, number: int, move: Move) -> str:
        """In words what happened."""
        what, *rest = self._moves[move]
        words = str(what)
        if what == "certificate":
            words = f"{rest[0].kind.name.lower()} certificate of view {rest[0].view}"
        elif rest:
            words = f"{what} of block {rest[-1].hex()[:6]}"
        return f"member {self._alike[number][0][0]}: {words}"

    def after(self, number: int, move: Move) -> int | None:
        """The state after an event; None if it changes nothing."""
        if move not in self._next[number]:
            for member, local in tuple(self._alike[number]):
                self._take(number, member, local, move)
            self._hold()
        after = self._next[number][move]
        return None if after == number else after

    def _take(self, number: int, member: int, local: Local, move: Move) -> None:
        try:
            after = self._number(member, self._moved(member, local, self._moves[move]))
        except InvalidInput:
            after = number
        if self._next[number].setdefault(move, after) != after:
            raise Incongruent(self.told(number, move))

    def _hold(self) -> None:
        """States that were found to act like others take the steps that those took."""
        while self._unheld:
            number, member, local = self._unheld.pop()
            for move in tuple(self._next[number]):
                self._take(number, member, local, move)

    def _moved(self, member: int, local: Local, move: tuple[Any, ...]) -> Local:
        match move:
            case ("offer", view, block):
                return self._offer(copied(local), view, self._universe.blocks[block])
            case ("proposal", leader, vote, block):
                proposal = Proposal(vote, self._universe.blocks[block])
                return self._run(copied(local), [Received(leader, proposal)])
            case ("certificate", certificate):
                sender = next(m for m in certificate.members if m != member)
                told = Received(sender, Certificates((certificate,)))
                return self._run(copied(local), [told])
            case ("patience",) if local.replica.view <= self._setting.views:
                late = replace(copied(local), now=local.now + PATIENCE_MS)
                return self._run(late, [Tick()])
            case ("crash",) if local.crashes < self._setting.crashes:
                return self._crash(member, local)
            case _:
                return local

    def _offer(self, local: Local, view: int, block: Block) -> Local:
        """A leader's own proposal, as if it had made it."""
        core = local.replica._core
        if core.view != view:
            return local
        voting.check_justification(core, block)
        core.tree.add(block, block.hash)
        core.proposals[view] = block.hash
        return self._run(local, [])

    def _crash(self, member: int, local: Local) -> Local:
        archive = cloned(local.archive, {})
        replica = self._replica(member, archive, local.journal)
        again = replace(local, replica=replica, archive=archive, crashes=local.crashes + 1)
        waits = write_leaf(f"waits{member}")
        return self._run(again, [*self._greeting(member), Submitted(waits)])

    def _greeting(self, member: int) -> list[Event]:
        """A start, and members that say that they hold no vote that is not in the journal."""
        others = [m for m in range(self._setting.n) if m != member]
        met: list[Event] = [PeerConnected(m) for m in others]
        return [Start(), *met, *(Received(m, NOBODY) for m in others)]

    def _run(self, local: Local, events: list[Event]) -> Local:
        """A step; blocks that it asks for are there at once. Nobody is silent for so long that it
        is not waited for: that patience ends is a move of its own."""
        given: set[bytes] = set()
        while True:
            self.steps += 1
            effects = local.replica.step(local.now, WALL_MS, events)
            local.archive.apply(effects)
            for member in range(self._setting.n):
                local.replica._core.pace.heard(member)
            said = local.said | votes_of(effects, local.replica._core.me)
            said = frozenset(vote for vote in said if vote.view <= self._setting.views)
            local = replace(local, journal=written(local.journal, effects), said=said)
            asked = self._asked(effects) - given
            if not asked:
                return local
            given |= asked
            bodies = [self._universe.blocks[block] for block in sorted(asked)]
            other = next(iter(sorted(local.replica._core.connected)))
            events = [Received(other, Body(block)) for block in bodies]

    @staticmethod
    def _asked(effects: Effects) -> set[bytes]:
        return {s.message.block for s in effects.send if isinstance(s.message, FetchBlock)}

    def _number(self, member: int, local: Local) -> int:
        said = frozenset((v.kind, v.view, v.block) for v in local.said)
        whole = _mark(local)
        acts = _decisive(local, self._setting.views) if self._merges else whole
        kind = self.kind(member)
        key = (kind, said, acts)
        if key not in self._numbers:
            self._numbers[key] = len(self._alike)
            self._alike.append([])
            self._next.append({})
            self._said.append(self._sayings.setdefault((kind, said), len(self._sayings)))
        number = self._numbers[key]
        if (member, whole) not in self._marks:
            self._marks.add((member, whole))
            self._alike[number].append((member, local))
            self._unheld.append((number, member, local))
        return number

    def _replica(self, member: int, archive: MemoryArchive, journal: tuple[bytes, ...]) -> Replica:
        genesis = self._universe.made.genesis
        return Replica(
            genesis,
            f"m{member}",
            Keys(member, cheap=True),
            NumberExecutor(genesis),
            archive,
            archive.restored(journal),
            self._rules,
        )


def _mark(local: Local) -> Any:
    """All by which a member decides, but for clocks and for who signed a certificate."""
    core = local.replica._core
    views = core.table._views.items()
    certain = frozenset((v, *key) for v, known in views for key in known.certificates)
    return (
        core.view,
        core.tree.tip.hash,
        core.is_halted,
        certain,
        frozenset((c.hash, c.executed, c.journaled, c.failure) for c in core.tree),
        frozenset(
            (v, kind, m, vote.block)
            for v, known in views
            for (kind, m), vote in known.votes.items()
            if v >= core.view and (v, kind, vote.block) not in certain
        ),
        frozenset((v, kind, vote.block) for (v, kind), vote in core.ballot.votes.items()),
        frozenset(core.proposals.items()),
        frozenset(core.invalid),
        frozenset((v.kind, v.view, v.block) for v in local.said),
        local.crashes,
    )


def _decisive(local: Local, views: int) -> Any:
    """What a member's later votes depend on, beside what it said: its view, what was proposed in it
    and who voted in it, whether it has a reason to give it up at once, and what is final. A
    certificate of a view that is over matters when it comes: once known it was acted on."""
    core = local.replica._core
    view = min(core.view, views + 1)
    known = core.table._views.get(view) if view <= views else None
    votes = {} if known is None else known.votes
    heard = sorted((kind, vote.block) for (kind, m), vote in votes.items() if m != core.me)
    open_view = (core.proposals.get(view), voting.is_hopeless(core), tuple(heard))
    place = (view, core.tree.tip.hash, core.is_halted, local.crashes)
    return (*place, open_view) if view <= views else place
