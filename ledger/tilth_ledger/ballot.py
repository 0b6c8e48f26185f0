"""A voter's rules and its record of what it has signed.

Invariants, each one predicate of `VoterRules` (the simulator's mutants remove one at a time):
- parent certificate: a block stands on a block that is notarized or final;
- skip proof: every view between parent and block is proven to be over without a final block;
- one notarize per view;
- no finalize after nullify (nor beside a notarize or finalize of another block);
- no nullify after finalize.
Nothing is signed for a view at or below the finalized one: what is below is over, and so the
record of those views need not be kept.

Left to others: when to ask (replica), making the record durable before a vote leaves (effects).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tilth_ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    Header,
    Justification,
    Kind,
    Vote,
    starts,
)
from tilth_ledger.epochs import Epoch


@dataclass(slots=True)
class Ballot:
    """My own votes above the finalized view, by view and kind."""

    votes: dict[tuple[int, Kind], Vote] = field(default_factory=dict)

    def vote(self, view: int, kind: Kind) -> Vote | None:
        return self.votes.get((view, kind))

    def block(self, view: int, kind: Kind) -> bytes | None:
        """The block that I voted for, if I did."""
        vote = self.votes.get((view, kind))
        return None if vote is None else vote.block

    def record(self, vote: Vote) -> None:
        self.votes[vote.view, vote.kind] = vote

    def above(self, view: int, most: int) -> tuple[Vote, ...]:
        """My newest votes above a view, oldest first."""
        mine = sorted(key for key in self.votes if key[0] > view)
        return tuple(self.votes[key] for key in mine[-most:])

    def forget(self, finalized_view: int) -> None:
        for key in [key for key in self.votes if key[0] <= finalized_view]:
            del self.votes[key]


class VoterRules:
    """Pure predicates. Verifying signatures and executing leaves are not here."""

    def parent_is_certified(self, header: Header, why: Justification, epoch: Epoch) -> bool:
        """The justification holds a notarization or finality certificate of the parent."""
        if header.parent_view == epoch.parent_view:
            return starts(header, epoch) and why.parent is None
        parent = why.parent
        if parent is None or parent.kind is NULLIFY:
            return False
        return (parent.block, parent.view) == (header.parent, header.parent_view)

    def gaps_are_skipped(self, header: Header, why: Justification) -> bool:
        """There is a nullification of every view between the parent's and the block's."""
        first = header.parent_view + 1
        if len(why.skips) != header.view - first:
            return False
        return all(
            skip.kind is NULLIFY and skip.view == first + offset
            for offset, skip in enumerate(why.skips)
        )

    def notarizes_once(self, mine: Ballot, view: int, block: bytes) -> bool:
        """I notarized nothing in this view, and finalized no other block in it."""
        if mine.vote(view, NOTARIZE) is not None:
            return False
        return mine.block(view, FINALIZE) in (None, block)

    def finalizes_unnullified(self, mine: Ballot, view: int) -> bool:
        """I did not say that this view ends without a final block."""
        return mine.vote(view, NULLIFY) is None

    def finalizes_what_it_notarized(self, mine: Ballot, view: int, block: bytes) -> bool:
        """I notarized and finalized no other block in this view."""
        mine_of_view = (mine.block(view, NOTARIZE), mine.block(view, FINALIZE))
        return all(other in (None, block) for other in mine_of_view)

    def nullifies_unfinalized(self, mine: Ballot, view: int) -> bool:
        """I did not finalize a block in this view."""
        return mine.vote(view, FINALIZE) is None
