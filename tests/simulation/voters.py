"""All that real members may do for a few views, against an adversary: searched to the end.

    python tests/simulation/voters.py --setting three            # every state: none is a fork
    python tests/simulation/voters.py --setting four --without "skip proof"     # the shortest fork

The adversary offers to every leader whatever blocks can be made, hands on every certificate for
which there are votes whenever it likes, lets any member's patience end and any process crash, and
its liars vote for everything. Members are real replicas; only their own proposing is taken away.

What makes this small enough to be searched to its end:
- Single votes are not delivered: as soon as q stand, the certificate may reach anybody at any time
  or never. Not to have received it is the same as not to have acted on it.
- Each step of the real code is taken once (electorate): states of the world are tuples of numbers.
- States of a member that will never again act differently are one, and so are worlds that differ in
  which of the members that lead no view did what. Both are held at every step (electorate).
- One certificate stands for all that say the same: nobody decides by who signed it.
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
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ledger"), str(HERE.parent.parent / "ledger")]

from electorate import OWN, Members, Move, Setting, Universe, World  # noqa: E402
from mutants import MUTANTS  # noqa: E402
from number_ledger import consortium  # noqa: E402
from removals import Removal, removed  # noqa: E402

from tilth_ledger import voting  # noqa: E402
from tilth_ledger.ballot import VoterRules  # noqa: E402
from tilth_ledger.blocks import (  # noqa: E402
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    ZERO_HASH,
    Block,
    Certificate,
    Justification,
    Kind,
    Vote,
)

PARENT, SKIPS, NULLIFIES = "parent certificate", "skip proof", "no nullify after finalize"

# This rule stands twice in the code: a member that finalized has left the view. Both are taken out.
STAYS = Removal(
    "core:Core.certified",
    "if certificate.view >= self.view:",
    "if certificate.view >= self.view and certificate.kind is NULLIFY:",
    by="",
)

Said = tuple[Kind, int, bytes]  # a vote, but for who cast it


class ForkFound(AssertionError):
    """Two blocks can be final that exclude each other; `path` leads there."""

    def __init__(self, path: list[str]) -> None:
        super().__init__(f"a fork after {len(path)} events")
        self.path = path


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


class VoterSearch:
    """Breadth first, where the first fork that is found is a shortest one; or greedy, where it is
    found soon."""

    def __init__(self, setting: Setting, without: str = "", *, greedy: bool = False) -> None:
        self.setting, self.without, self.greedy = setting, without, greedy
        self.made = consortium(setting.n, setting.q, 300)
        rules = MUTANTS[without]() if without else VoterRules()
        self.universe = Universe(self.made)
        self.members = Members(setting, rules, self.universe, merges=not without)
        self.honest = [m for m in range(setting.n) if m not in setting.liars]
        self.found = Found()
        self._votes: dict[tuple[int, ...], dict[Said, tuple[int, ...]]] = {}
        self._heard: dict[tuple[int, ...], list[list[Move]]] = {}
        self._sound: dict[tuple[int, ...], bool] = {}
        self._formed: dict[Said, Certificate] = {}
        kinds = [self.members.kind(member) for member in self.honest]
        self._alike = [place for place, kind in enumerate(kinds) if kind < 0]

    def run(self, most_states: int = 10_000_000) -> Found:
        """Raises `ForkFound`."""
        with ExitStack() as stack:
            stack.enter_context(_no_proposals_of_their_own())
            if self.without == NULLIFIES:
                stack.enter_context(removed(STAYS))
            return self._run(most_states)

    def _run(self, most_states: int) -> Found:
        first = self._sorted(tuple(self.members.first(member) for member in self.honest))
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
                    yield self._sorted((*world[:place], after, *world[place + 1 :])), move

    def _sorted(self, world: World) -> World:
        """The one form of worlds that differ in which of the members that lead no view did what."""
        if len(self._alike) < 2:
            return world
        states = sorted(world[place] for place in self._alike)
        mixed = list(world)
        for place, state in zip(self._alike, states, strict=True):
            mixed[place] = state
        return tuple(mixed)

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
                certain[kind, view, block] = self._form(kind, view, block, signers)
        return certain

    def _form(self, kind: Kind, view: int, block: bytes, signers: tuple[int, ...]) -> Certificate:
        """One certificate for all that say the same, whoever signed: nobody decides by that."""
        if (kind, view, block) not in self._formed:
            votes = [self._sign(member, kind, view, block) for member in signers]
            self._formed[kind, view, block] = Certificate.of(votes, self.setting.n)
        return self._formed[kind, view, block]

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
            left = Counter(before) - Counter(world)
            path.append(self.members.told(next(iter(left)), move))
            world = before
        return path[::-1]


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
        f" {len(search.members)} states of members that differ of {search.members.states},"
        f" {found.steps} steps, {took:.1f} s: no fork"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
