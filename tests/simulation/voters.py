"""All that real members may do for a few views, against an adversary: searched to the end.

    python tests/simulation/voters.py --setting three            # every state: none is a fork
    python tests/simulation/voters.py --setting four --without "skip proof"     # the shortest fork

The adversary offers to every leader whatever blocks can be made, hands on every certificate for
which there are votes whenever it likes, lets any member's patience end and any process crash, and
its liars vote for everything. Members are real replicas; only their own proposing is taken away.

What makes this small enough to be searched to its end:
- Single votes are not delivered: as soon as q stand, the certificate may reach anybody at any time
  or never. Not to have received it is the same as not to have acted on it.
- A member's next state follows from its own state and the event alone. So each step of the real
  code is taken once, and states of the world are tuples of numbers.
- Of two equal blocks on one parent the second is offered after the first. Where every rule holds
  only justified blocks are offered: others are refused, and a refusal is what a timeout is.

A state is bad when two blocks can be final that are not on one chain. Left to others: messages one
by one, and what two votes of one member say (explore).
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ledger"), str(HERE.parent.parent / "ledger")]

from mutants import MUTANTS  # noqa: E402
from number_ledger import (  # noqa: E402
    Consortium,
    Keys,
    MemoryArchive,
    NumberExecutor,
    Numbers,
    consortium,
    write_leaf,
)
from removals import Removal, removed  # noqa: E402
from snapshots import Local, cloned, copied, votes_of, written  # noqa: E402

from tilth_ledger import voting  # noqa: E402
from tilth_ledger.ballot import VoterRules  # noqa: E402
from tilth_ledger.blocks import (  # noqa: E402
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    ZERO_HASH,
    Block,
    Certificate,
    Header,
    Justification,
    Kind,
    Vote,
)
from tilth_ledger.effects import (  # noqa: E402
    Effects,
    Event,
    PeerConnected,
    Received,
    Start,
    Submitted,
    Tick,
)
from tilth_ledger.errors import InvalidInput  # noqa: E402
from tilth_ledger.messages import Body, Certificates, FetchBlock, Proposal, Status  # noqa: E402
from tilth_ledger.replica import Replica  # noqa: E402

WALL_MS = 1_700_000_000_000
PATIENCE_MS = 600_000
PARENT, SKIPS, NULLIFIES = "parent certificate", "skip proof", "no nullify after finalize"
NOBODY = Status(0, 1, 1, 0, 0, 0, ZERO_HASH, False, ())

# This rule stands twice in the code: a member that finalized has left the view. Both are taken out.
STAYS = Removal(
    "core:Core.certified",
    "if certificate.view >= self.view:",
    "if certificate.view >= self.view and certificate.kind is NULLIFY:",
    by="",
)

Said = tuple[Kind, int, bytes]  # a vote, but for who cast it
Move = int  # what happens to a member, by number
World = tuple[int, ...]  # the state of each honest member, by number

PATIENCE, CRASH = OWN = (0, 1)  # moves that nobody else has a part in


class ForkFound(AssertionError):
    """Two blocks can be final that exclude each other; `path` leads there."""

    def __init__(self, path: list[str]) -> None:
        super().__init__(f"a fork after {len(path)} events")
        self.path = path


@dataclass(frozen=True)
class Setting:
    """How many members, votes and liars; for how many views; how often a member may crash."""

    n: int
    q: int
    liars: frozenset[int] = frozenset()
    views: int = 2
    crashes: int = 0
    contents: int = 2  # equal blocks on one parent in one view


SETTINGS = {
    "three": Setting(3, 2),
    "three, one block a parent": Setting(3, 2, contents=1),
    "three, all vote": Setting(3, 3, frozenset({1, 2})),
    "four": Setting(4, 3, frozenset({1})),
    "four, a voter lies": Setting(4, 3, frozenset({3})),
    "four, it crashes": Setting(4, 3, frozenset({1}), crashes=1),
    "three, it crashes": Setting(3, 2, crashes=1),
    "three, three views": Setting(3, 2, views=3, contents=1),
    "two liars of four": Setting(4, 3, frozenset({1, 3})),
}


@dataclass
class Found:
    """What a search came to."""

    states: int = 0
    events: int = 0
    steps: int = 0  # of the real code
    whole: bool = False


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


class Members:
    """Real members, each step of which is taken once."""

    def __init__(self, setting: Setting, rules: VoterRules, universe: Universe) -> None:
        self._setting, self._rules, self._universe = setting, rules, universe
        self._locals: list[tuple[int, Local]] = []
        self._numbers: dict[Any, int] = {}
        self._said: list[int] = []  # of each state, the number of what was said in it
        self._sayings: dict[Any, int] = {}
        self._moves: list[tuple[Any, ...]] = [("patience",), ("crash",)]
        self._move_numbers: dict[tuple[Any, ...], Move] = {}
        self._next: dict[tuple[int, Move], int | None] = {}
        self.steps = 0

    def first(self, member: int) -> int:
        archive = MemoryArchive()
        local = Local(self._replica(member, archive, ()), archive)
        waits = write_leaf(f"waits{member}")
        return self._number(member, self._run(local, [*self._greeting(member), Submitted(waits)]))

    def __getitem__(self, number: int) -> Local:
        return self._locals[number][1]

    def __len__(self) -> int:
        return len(self._locals)

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
        return f"member {self._locals[number][0]}: {words}"

    def after(self, number: int, move: Move) -> int | None:
        """The state after an event; None if it changes nothing."""
        key = (number, move)
        if key not in self._next:
            member, local = self._locals[number]
            try:
                after = self._number(member, self._moved(member, local, self._moves[move]))
            except InvalidInput:
                after = number
            self._next[key] = None if after == number else after
        return self._next[key]

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
        """A step; blocks that it asks for are there at once."""
        given: set[bytes] = set()
        while True:
            self.steps += 1
            effects = local.replica.step(local.now, WALL_MS, events)
            local.archive.apply(effects)
            said = local.said | votes_of(effects, local.replica._core.me)
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
        mark = (member, _mark(local))
        if mark not in self._numbers:
            self._numbers[mark] = len(self._locals)
            self._locals.append((member, local))
            said = (member, frozenset((v.kind, v.view, v.block) for v in local.said))
            self._said.append(self._sayings.setdefault(said, len(self._sayings)))
        return self._numbers[mark]

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


class VoterSearch:
    """Breadth first, where the first fork that is found is a shortest one; or greedy, where it is
    found soon."""

    def __init__(self, setting: Setting, without: str = "", *, greedy: bool = False) -> None:
        self.setting, self.without, self.greedy = setting, without, greedy
        self.made = consortium(setting.n, setting.q, 300)
        rules = MUTANTS[without]() if without else VoterRules()
        self.universe = Universe(self.made)
        self.members = Members(setting, rules, self.universe)
        self.honest = [m for m in range(setting.n) if m not in setting.liars]
        self.found = Found()
        self._votes: dict[tuple[int, ...], dict[Said, tuple[int, ...]]] = {}
        self._heard: dict[tuple[int, ...], list[list[Move]]] = {}
        self._sound: dict[tuple[int, ...], bool] = {}

    def run(self, most_states: int = 10_000_000) -> Found:
        """Raises `ForkFound`."""
        with ExitStack() as stack:
            stack.enter_context(_no_proposals_of_their_own())
            if self.without == NULLIFIES:
                stack.enter_context(removed(STAYS))
            return self._run(most_states)

    def _run(self, most_states: int) -> Found:
        first = tuple(self.members.first(member) for member in self.honest)
        came: dict[World, tuple[World, Move] | None] = {first: None}
        queue = [(0, 0, 0, first)]
        while queue and len(came) < most_states:
            _, _, depth, world = heapq.heappop(queue)
            for following, move in self._successors(world):
                self.found.events += 1
                if following in came:
                    continue
                came[following] = (world, move)
                self.found.states = len(came)
                if self._forks(following):
                    raise ForkFound(self._path(came, following))
                rank = depth + 1 - self._promise(following)
                heapq.heappush(queue, (rank, len(came), depth + 1, following))
        self.found.steps, self.found.whole = self.members.steps, not queue
        return self.found

    def _promise(self, world: World) -> int:
        """How much of a fork there may be: what stands of certificates. A greedy search looks
        there first."""
        return 2 * len(self._certificates(world)) if self.greedy else 0

    # What may happen.

    def _successors(self, world: World) -> Iterator[tuple[World, Move]]:
        heard = self._may_hear(world)
        for place, number in enumerate(world):
            for move in (*heard[place], *OWN):
                after = self.members.after(number, move)
                if after is not None:
                    yield (*world[:place], after, *world[place + 1 :]), move

    def _may_hear(self, world: World) -> list[list[Move]]:
        """For each member what it may be told, as far as votes decide it."""
        key = self.members.said_in(world)
        if key not in self._heard:
            certificates = self._certificates(world)
            offers = self._offers(world, certificates)
            self._heard[key] = [
                [*self._proofs(member, certificates), *self._proposals(world, member, offers)]
                for member in self.honest
            ]
        return self._heard[key]

    def _proofs(self, member: int, certificates: dict[Said, Certificate]) -> Iterator[Move]:
        for certificate in certificates.values():
            if certificate.members != (member,):
                yield self.members.move("certificate", certificate)

    def _proposals(
        self, world: World, member: int, offers: list[tuple[int, bytes]]
    ) -> Iterator[Move]:
        for view, block in offers:
            leader = self.made.epoch.leader(view)
            if leader == member:
                yield self.members.move("offer", view, block)
            elif vote := self._vote_of(world, leader, view, block):
                yield self.members.move("proposal", leader, vote, block)

    def _vote_of(self, world: World, leader: int, view: int, block: bytes) -> Vote | None:
        """A leader's vote for its block: an honest one must have cast it."""
        if leader not in self.setting.liars:
            said = self.members[world[self.honest.index(leader)]].said
            stated = (NOTARIZE, view, block)
            if not any((v.kind, v.view, v.block) == stated for v in said):
                return None
        return self._sign(leader, NOTARIZE, view, block)

    def _offers(
        self, world: World, certificates: dict[Said, Certificate]
    ) -> list[tuple[int, bytes]]:
        """Blocks that stand on what is certified, or, without that rule, on anything."""
        offers: list[tuple[int, bytes]] = []
        said = self._said(world)
        for view in range(1, self.setting.views + 1):
            parents = [(0, self.made.genesis.net_bytes)]
            parents += [(block.header.view, hashed) for hashed, block in self._below(view)]
            for below, parent in parents:
                why = self._justify(view, below, parent, certificates)
                if why is None:
                    continue
                for content in range(self.setting.contents):
                    block = self.universe.block(view, parent, content, why)
                    offers.append((view, block))
                    known = self.made.epoch.leader(view) in self.setting.liars
                    if not known and not any(s[1:] == (view, block) for s in said):
                        break  # the second of two equal blocks comes after the first
        return offers

    def _below(self, view: int) -> list[tuple[bytes, Block]]:
        blocks = self.universe.blocks.items()
        return [(hashed, block) for hashed, block in blocks if block.header.view < view]

    def _justify(
        self, view: int, below: int, parent: bytes, certificates: dict[Said, Certificate]
    ) -> Justification | None:
        """The proofs that there are; None where some are missing that somebody would miss."""
        certificate = certificates.get((NOTARIZE, below, parent)) if below else None
        gaps = range(below + 1, view)
        skips = [certificates.get((NULLIFY, gap, ZERO_HASH)) for gap in gaps]
        if self.without == PARENT:
            certificate = None
        elif below and certificate is None:
            return None
        if self.without == SKIPS:
            return Justification(certificate, ())
        if any(skip is None for skip in skips):
            return None
        return Justification(certificate, tuple(skip for skip in skips if skip is not None))

    # What was said.

    def _said(self, world: World) -> dict[Said, tuple[int, ...]]:
        """Who cast each vote, liars but for nothing."""
        key = self.members.said_in(world)
        if key not in self._votes:
            who: dict[Said, list[int]] = {}
            for member, number in zip(self.honest, world, strict=True):
                for vote in self.members[number].said:
                    who.setdefault((vote.kind, vote.view, vote.block), []).append(member)
            self._votes[key] = {each: tuple(who[each]) for each in sorted(who)}
        return self._votes[key]

    def _certificates(self, world: World) -> dict[Said, Certificate]:
        """All that stand now, liars first among those who signed."""
        said, liars = self._said(world), tuple(sorted(self.setting.liars))
        certain: dict[Said, Certificate] = {}
        for (kind, view, block), who in said.items():
            signers = (*liars, *who)[: self.setting.q]
            if len(signers) == self.setting.q and view <= self.setting.views:
                votes = [self._sign(member, kind, view, block) for member in signers]
                certain[kind, view, block] = Certificate.of(votes, self.setting.n)
        return certain

    def _sign(self, member: int, kind: Kind, view: int, block: bytes) -> Vote:
        return Vote.sign(self.made.epoch, self.made.keys[member], member, kind, view, block)

    def _forks(self, world: World) -> bool:
        """Whether two blocks can be final that are not on one chain."""
        key = self.members.said_in(world)
        if key not in self._sound:
            needed = self.setting.q - len(self.setting.liars)
            said = self._said(world).items()
            final = {b for (kind, _, b), who in said if kind is FINALIZE and len(who) >= needed}
            lines = [(block, self.universe.line(block)) for block in sorted(final)]
            pairs = combinations(lines, 2)
            self._sound[key] = all(a in of_b or b in of_a for (a, of_a), (b, of_b) in pairs)
        return not self._sound[key]

    def _path(self, came: dict[World, tuple[World, Move] | None], world: World) -> list[str]:
        path = []
        while (step := came[world]) is not None:
            before, move = step
            place = next(p for p, number in enumerate(world) if number != before[p])
            path.append(self.members.told(before[place], move))
            world = before
        return path[::-1]


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


def _no_proposals_of_their_own() -> Any:
    """Leaders propose what they are offered and nothing else."""
    stack = ExitStack()
    before = voting.MOVES
    voting.MOVES = tuple(move for move in before if move is not voting._propose)
    stack.callback(setattr, voting, "MOVES", before)
    return stack


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", choices=list(SETTINGS), default="three")
    parser.add_argument("--without", choices=list(MUTANTS), default="")
    parser.add_argument("--greedy", action="store_true", help="to a fork soon, not a shortest one")
    parser.add_argument("--states", type=int, default=10_000_000)
    options = parser.parse_args()
    began = time.perf_counter()
    search = VoterSearch(SETTINGS[options.setting], options.without, greedy=options.greedy)
    try:
        found = search.run(options.states)
    except ForkFound as fork:
        took = time.perf_counter() - began
        print(f"{fork}; {search.found.states} states, {took:.1f} s")
        print("\n".join(f"  {event}" for event in fork.path))
        return 1
    took = time.perf_counter() - began
    whole = "every state" if found.whole else "not to the end"
    print(
        f"{options.setting}: {found.states} states ({whole}), {found.events} events,"
        f" {found.steps} steps of members, {took:.1f} s: no fork"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
