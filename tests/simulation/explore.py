"""Every order of a few events over real members, to a bounded depth: deliver, lose, fire, crash.

    python tests/simulation/explore.py --setting three --states 200000

A state is some members, what is on their disks and what is on the wire. From each, every message
under way may be delivered, every timer may fire, and every member may crash and start again from
its disk, also between its journal's sync and its store's transaction. A message may always be late,
so losing it is no event of its own. Members' clocks are their own: a timer moves one of them.

Kept small: Status is delivered at once, a wall clock stands still, timers and crashes are counted.
States are told apart by what decides: journal, final blocks, votes, certificates, blocks, leaves,
the wire; not by clocks.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent.parent / "ledger"))

from checker import Violation  # noqa: E402
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
from snapshots import (  # noqa: E402
    Local,
    Scene,
    cloned,
    copied,
    mark_of,
    votes_of,
    with_member,
    written,
)

from tilth_ledger.ballot import VoterRules  # noqa: E402
from tilth_ledger.blocks import (  # noqa: E402
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    ZERO_HASH,
    Block,
    Header,
    Justification,
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
from tilth_ledger.evidence import conflict  # noqa: E402
from tilth_ledger.messages import Message, Proposal, Status, Votes  # noqa: E402
from tilth_ledger.replica import Replica  # noqa: E402

WALL_MS = 1_700_000_000_000
HARMLESS = ("peer", "clock")


@dataclass(frozen=True)
class Setting:
    """What is searched. A liar is the leader of view 1, and is not run: all that it could say of a
    block that it made, or that anybody voted for, is on the wire."""

    n: int
    q: int
    liar: bool = False
    leaves: tuple[tuple[int, str], ...] = ((1, "a"),)
    views: int = 3  # no timer fires beyond
    timers: int = 2  # of each member
    crashes: int = 1  # of all members together


SETTINGS = {
    "three": Setting(3, 2),
    "three, two leaves": Setting(3, 2, leaves=((1, "a"), (2, "b"))),
    "four, a liar": Setting(4, 3, liar=True, leaves=((2, "a"),), timers=1, crashes=1),
}
LIAR = 1


@dataclass
class Found:
    """What a search came to."""

    states: int = 0
    steps: int = 0
    depth: int = 0  # all states up to it were expanded
    final: int = 0  # states in which somebody holds a final block
    whole: bool = False  # nothing is left to expand


@dataclass
class Search:
    """A search: breadth first covers all orders of few events, depth first some of many."""

    setting: Setting
    rules: VoterRules | None = None
    deep: bool = False
    found: Found = field(default_factory=Found)

    def run(self, most_states: int) -> Found:
        """Raises `Violation` at the first state that must not be."""
        first = self._first()
        seen, queue = {first.mark}, deque([first])
        while queue and len(seen) < most_states:
            world = queue.pop() if self.deep else queue.popleft()
            self.found.depth = max(self.found.depth, world.depth)
            for following in self._successors(world):
                self.found.steps += 1
                if following.mark not in seen:
                    seen.add(following.mark)
                    self._check(following)
                    queue.append(following)
        self.found.states, self.found.whole = len(seen), not queue
        return self.found

    # The world at the beginning.

    @property
    def consortium(self) -> Consortium:
        return consortium(self.setting.n, self.setting.q, 300)

    @property
    def honest(self) -> list[int]:
        return [m for m in range(self.setting.n) if not (self.setting.liar and m == LIAR)]

    def _first(self) -> Scene:
        world = Scene({}, {})
        for member in self.honest:
            archive = MemoryArchive()
            local = Local(self._replica(member, archive, ()), archive)
            world = replace(world, members={**world.members, member: local})
        for member in self.honest:
            world = self._step(world, member, [Start()])
        for member in self.honest:
            met = [PeerConnected(m) for m in range(self.setting.n) if m != member]
            world = self._step(world, member, [*met])
        for member, text in self.setting.leaves:
            world = self._step(world, member, [Submitted(write_leaf(text))])
        return self._lead(world) if self.setting.liar else world

    def _replica(self, member: int, archive: MemoryArchive, journal: tuple[bytes, ...]) -> Replica:
        genesis = self.consortium.genesis
        return Replica(
            genesis,
            f"m{member}",
            Keys(member, cheap=True),
            NumberExecutor(genesis),
            archive,
            archive.restored(journal),
            self.rules,
        )

    def _greet(self, world: Scene, member: int) -> Scene:
        """A member starts; it and all others learn of one another's connections."""
        others = [m for m in range(self.setting.n) if m != member]
        world = self._step(world, member, [Start(), *(PeerConnected(m) for m in others)])
        for other in self.honest:
            if other != member:
                world = self._step(world, other, [PeerConnected(member)])
        return world

    # What may happen.

    def _successors(self, world: Scene) -> Iterator[Scene]:
        deeper = replace(world, depth=world.depth + 1)
        for key, message in world.wire.items():
            wire = {other: said for other, said in world.wire.items() if other != key}
            yield from self._both(replace(deeper, wire=wire), key[1], [Received(key[0], message)])
        for member, local in world.members.items():
            fires = local.timer is not None and local.timers < self.setting.timers
            if fires and local.replica.view <= self.setting.views:
                later = replace(local, now=max(local.now, local.timer or 0))
                later = replace(later, timers=local.timers + 1)
                yield from self._both(with_member(deeper, member, later), member, [Tick()])
            if self._may_crash(world):
                yield self._crash(deeper, member)

    def _both(self, world: Scene, member: int, events: list[Event]) -> Iterator[Scene]:
        """A step; and, if it makes a block final, the same with a crash before that is stored."""
        yield self._step(world, member, events)
        if self._may_crash(world):
            local = world.members[member]
            copy = copied(local)
            effects = copy.replica.step(copy.now, WALL_MS, events)
            if effects.finalized:
                # What is promised, and what it makes needless, is written after the store.
                torn = replace(local, journal=(*local.journal, *effects.persist))
                yield self._crash(with_member(world, member, torn), member)

    def _may_crash(self, world: Scene) -> bool:
        crashes = sum(local.crashes for local in world.members.values())
        return crashes < self.setting.crashes

    def _crash(self, world: Scene, member: int) -> Scene:
        local = world.members[member]
        archive = cloned(local.archive, {})
        replica = self._replica(member, archive, local.journal)
        again = replace(local, replica=replica, archive=archive, crashes=local.crashes + 1)
        return self._greet(with_member(world, member, again), member)

    def _step(self, world: Scene, member: int, events: list[Event]) -> Scene:
        """One step of one member; what it says of its state is heard at once."""
        local = copied(world.members[member])
        effects = local.replica.step(local.now, WALL_MS, events)
        if effects.halt is not None:
            raise Violation(f"member {member} halts: {effects.halt}")
        for alarm in effects.alarms:
            against = alarm.evidence.member if alarm.evidence is not None else None
            if alarm.kind not in HARMLESS and not (self.setting.liar and against == LIAR):
                raise Violation(f"member {member}: {alarm.kind}: {alarm.message}")
        local.archive.apply(effects)
        said = local.said | votes_of(effects, member)
        local = replace(
            local, journal=written(local.journal, effects), timer=effects.timer_ms, said=said
        )
        world = with_member(world, member, replace(local, mark=mark_of(local)))
        return self._post(world, member, effects)

    def _post(self, world: Scene, member: int, effects: Effects) -> Scene:
        wire, at_once = dict(world.wire), []
        for send in effects.send:
            for to in send.to:
                if to in world.members and isinstance(send.message, Status):
                    at_once.append((to, send.message))
                elif to in world.members:
                    wire[member, to, send.message.encode()] = send.message
        world = replace(world, wire=wire)
        if self.setting.liar:
            world = self._have_its_say(world, votes_of(effects, member))
        for to, status in at_once:
            world = self._step(world, to, [Received(member, status)])
        return world

    # The liar.

    def _lead(self, world: Scene) -> Scene:
        """Two blocks for one view, each for everybody; it votes for both, once anybody does."""
        wire = dict(world.wire)
        for text in ("x", "y"):
            proposal = self._proposal(text)
            for member in self.honest:
                wire[LIAR, member, proposal.encode()] = proposal
        return replace(world, wire=wire)

    def _have_its_say(self, world: Scene, votes: frozenset[Vote]) -> Scene:
        wire, told = dict(world.wire), set(world.told)
        for vote in sorted(votes, key=lambda vote: vote.encode()):
            about = (vote.view, vote.block)
            if about in told or vote.view > self.setting.views:
                continue
            told.add(about)
            for message in self._everything(*about):
                for member in self.honest:
                    wire[LIAR, member, message.encode()] = message
        return replace(world, wire=wire, told=frozenset(told))

    def _everything(self, view: int, block: bytes) -> list[Message]:
        kinds = (NULLIFY,) if block == ZERO_HASH else (NOTARIZE, FINALIZE)
        return [Votes((self._sign(kind, view, block),)) for kind in kinds]

    def _sign(self, kind: Any, view: int, block: bytes) -> Vote:
        key = self.consortium.keys[LIAR]
        return Vote.sign(self.consortium.epoch, key, LIAR, kind, view, block)

    def _proposal(self, text: str) -> Proposal:
        genesis, why = self.consortium.genesis, Justification(None, ())
        built = NumberExecutor(genesis).build(Numbers(), [write_leaf(text)], WALL_MS)
        after = built.state
        header = Header(
            net=genesis.net_bytes,
            epoch=0,
            view=1,
            height=1,
            parent=genesis.net_bytes,
            parent_view=0,
            skips=why.skips_digest,
            leaf_count=1,
            size=after.size,
            root=after.root,
            state=after.digest,
            time_ms=WALL_MS,
            proposer=LIAR,
        )
        block = Block(header, built.leaves, why)
        return Proposal(self._sign(NOTARIZE, 1, block.hash), block)

    # What must hold.

    def _check(self, world: Scene) -> None:
        chains = [
            [block.hash for block in local.archive.blocks] for local in world.members.values()
        ]
        longest = max(chains, key=len)
        if any(chain != longest[: len(chain)] for chain in chains):
            raise Violation("two members hold final blocks that exclude each other")
        self.found.final += bool(longest)
        votes = [vote for local in world.members.values() for vote in local.said]
        _check_honesty(votes)
        self._check_certificates(votes)

    def _check_certificates(self, votes: list[Vote]) -> None:
        """What could be certified now, with the liar's help: at most one block notarized in a
        view, none final beside a nullification or another one notarized."""
        needed = self.setting.q - self.setting.liar
        count: dict[tuple[int, Any, bytes], set[int]] = {}
        for vote in votes:
            count.setdefault((vote.view, vote.kind, vote.block), set()).add(vote.member)
        certain = {key for key, members in count.items() if len(members) >= needed}
        for view in {view for view, _, _ in certain}:
            standing = {(kind, block) for at, kind, block in certain if at == view}
            blocks = {block for kind, block in standing if kind is NOTARIZE}
            final = {block for kind, block in standing if kind is FINALIZE}
            if len(blocks) > 1 or (final and (NULLIFY, ZERO_HASH) in standing):
                raise Violation(f"view {view} may end in two ways")
            if len(final | blocks) > 1:
                raise Violation(f"view {view} may end with two blocks")


def _check_honesty(votes: list[Vote]) -> None:
    by_place: dict[tuple[int, int], list[Vote]] = {}
    for vote in votes:
        others = by_place.setdefault((vote.member, vote.view), [])
        if any(conflict(vote, other) for other in others):
            raise Violation(f"member {vote.member} signed what excludes itself, view {vote.view}")
        others.append(vote)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", choices=list(SETTINGS), default="three")
    parser.add_argument("--states", type=int, default=20_000)
    parser.add_argument("--without", choices=list(MUTANTS), help="a rule of voting to leave out")
    parser.add_argument("--deep", action="store_true", help="some orders of many events")
    options = parser.parse_args()
    rules = MUTANTS[options.without]() if options.without else None
    search = Search(SETTINGS[options.setting], rules, options.deep)
    began = time.perf_counter()
    try:
        found = search.run(options.states)
    except Violation as violation:
        print(f"violated at depth {search.found.depth}, {search.found.steps} steps: {violation}")
        return 1
    reached = f"some to depth {found.depth}" if options.deep else f"all to depth {found.depth - 1}"
    whole = "all of them" if found.whole else reached
    took = time.perf_counter() - began
    print(
        f"{options.setting}: {found.states} states, {whole}; {found.steps} steps,"
        f" {found.final} with a final block, {took:.0f} s: every invariant holds"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
