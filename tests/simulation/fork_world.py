"""Worlds with one traitor more than the ledger is safe from: it may fork, and then must say so.

    ForkWorld(seed).run()        # raises Violation

Whatever forks, no honest key signs what excludes itself; what left the nodes names at least 2q - n
members that did; and once all is healed, honest members on different branches have halted and
accuse somebody, never one another.
"""

from __future__ import annotations

from dataclasses import replace

from checker import Checker, Violation
from faults import of_seed
from world import World

from tilth_ledger.blocks import Block, Certificate, Vote
from tilth_ledger.effects import Effects
from tilth_ledger.epochs import Epoch
from tilth_ledger.evidence import conflict
from tilth_ledger.messages import Message, Proposal, Status, Votes
from tilth_ledger.replica import Replica

SIZES = ((3, 2), (3, 2), (4, 3), (5, 3))  # n, q: 2q - n traitors


class Witness(Checker):
    """Sees a fork instead of refusing it, and all that was signed."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.forked = False
        self.said: dict[tuple[int, int], set[Vote]] = {}  # member, view

    def released(self, member: int, message: Message, epoch: Epoch) -> None:
        if isinstance(message, Votes):
            self._heard(message.votes)
        if isinstance(message, Proposal):
            self._heard((message.vote,))
        if not (self.forked and isinstance(message, Status)):
            super().released(member, message, epoch)

    def finalized(self, member: int, effects: Effects, first_height: int) -> None:
        below = self.hashes[first_height - 1 : first_height]
        for height, final in enumerate(effects.finalized, first_height):
            standing = self.hashes[height : height + 1]
            linked = below == [final.block.header.parent]
            if not linked or standing not in ([], [final.block.hash]):
                self.forked = True
            below = [final.block.hash]
            if self.forked:
                self._certificate(final.certificate)
        if not self.forked:
            super().finalized(member, effects, first_height)

    def acknowledge(self, name: str, height: int) -> None:
        if not self.forked:
            super().acknowledge(name, height)

    def answered(self, member: int, block: Block) -> list[bytes]:
        asked = [n for n in block.justification.barriers if n in self.reads]
        return asked if self.forked else super().answered(member, block)

    def same_chain(self, member: int, blocks: list[Block]) -> None:
        if not self.forked:
            super().same_chain(member, blocks)

    def _certificate(self, certificate: Certificate) -> None:
        self._heard(certificate.votes())
        try:
            super()._certificate(certificate)
        except Violation as violation:
            if "exclude each other" in str(violation):
                raise  # an honest member did
            self.forked = True

    def _heard(self, votes: object) -> None:
        for vote in votes:  # type: ignore[attr-defined]
            self.said.setdefault((vote.member, vote.view), set()).add(vote)

    def traitors(self) -> set[int]:
        """Who signed what excludes itself, of all that left any node."""
        return {
            member
            for (member, _), votes in self.said.items()
            if any(conflict(one, other) for one in votes for other in votes)
        }


class ForkWorld(World):
    """One run with 2q - n twins."""

    def __init__(self, seed: int) -> None:
        n, q = SIZES[seed % len(SIZES)]
        faults = replace(
            of_seed(seed),
            n=n,
            q=q,
            traitors=2 * q - n,
            liars=False,
            severed=False,
            followers=0,
            false_followers=0,
            changes=0,
            strangers=0,
            partition_every_ms=2_000,
            delta_ms=300,
            delay=(1, 5),
            slow_chance=0.0,
            loss=0.0,
            crash=0.0,
            leaves=20,
            gap_ms=300,
            faulty_ms=15_000,
            fragile=0,
            rotten=0,
            jumpers=0,
            cosigns=False,
        )
        super().__init__(seed, faults)
        genesis, honest = self.consortium.genesis, self.checker.honest
        self.checker: Witness = Witness(genesis, honest)
        self.apart = 0  # pairs of honest members that end on different branches

    def _check_alarm(self, node: object, alarm: object) -> None:
        if getattr(alarm, "kind", "") != "fork":
            super()._check_alarm(node, alarm)  # type: ignore[arg-type]

    def _check_end(self) -> None:
        if not self.checker.forked:
            super()._check_end()
            return
        least = 2 * self.faults.q - self.faults.n
        named = self.checker.traitors()
        if len(named) < least or named & self.checker.honest:
            raise Violation(f"a fork, and the extractor names {sorted(named)}")
        honest = [node for node in self.nodes if node.member in self.checker.honest]
        for one in honest:
            for other in honest:
                self._check_pair(one.archive.blocks, other.archive.blocks, one.replica)

    def _check_pair(self, mine: list[Block], theirs: list[Block], replica: object) -> None:
        """Who stands on another branch than an honest member has halted, and accuses a traitor."""
        common = min(len(mine), len(theirs))
        if common == 0 or mine[common - 1].hash == theirs[common - 1].hash:
            return
        self.apart += 1
        if not isinstance(replica, Replica) or not replica.halted:
            raise Violation("two honest members are on different branches and one goes on")
        core = replica._core
        accused = {each.member for each in core.docket}
        accused |= {name[2] for name in core.tree.tip.state.evidence}
        if not accused or accused & self.checker.honest:
            raise Violation(f"a halted member accuses {sorted(accused)}")
