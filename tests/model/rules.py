"""The rules of `voting.pml` for votes that were really cast: a trace is a run of the model, or
`Forbidden` names the vote and the rule.

As in the model, a certificate is there as soon as enough have signed, liars sign everything at
once, and a member's view is where its votes show it to be. What the model bounds (views, epochs,
members) is not bounded here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Kind, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.leaf import ENTRY, Leaf

Place = tuple[int, int]  # epoch, view


class Forbidden(AssertionError):
    """A vote that the model's rules do not allow."""


@dataclass
class Voted:
    """What one member signed in one view."""

    notarized: bytes | None = None
    finalized: bytes | None = None
    nullified: bool = False


@dataclass
class Model:
    """All that was signed so far. `liars` are organizations, also those whose disks forget."""

    liars: frozenset[str] = frozenset()
    blocks: dict[bytes, Block] = field(default_factory=dict)
    epochs: dict[int, Epoch] = field(default_factory=dict)
    signed: dict[tuple[Kind, Place, bytes], set[str]] = field(
        default_factory=lambda: defaultdict(set)
    )
    own: dict[tuple[str, int], dict[int, Voted]] = field(default_factory=lambda: defaultdict(dict))
    final: list[bytes] = field(default_factory=list)
    votes: int = 0

    def block(self, block: Block) -> None:
        """A block that an honest member holds."""
        self.blocks[block.hash] = block

    def vote(self, who: str, epoch: Epoch, vote: Vote) -> None:
        """A vote that became durable at an honest member. Raises `Forbidden`."""
        if who in self.liars:
            return
        self.epochs.setdefault(epoch.number, epoch)
        self._expect(who in _names(epoch), "only members of the epoch vote", vote)
        later = any(self.own[who, number] for number in self.epochs if number > epoch.number)
        self._expect(not later, "whoever is in an epoch votes in no older one", vote)
        mine = self.own[who, epoch.number].get(vote.view, Voted())
        match vote.kind:
            case Kind.NOTARIZE:
                self._notarize(who, epoch, vote, mine)
                mine.notarized = vote.block
            case Kind.FINALIZE:
                self._finalize(epoch, vote, mine)
                mine.finalized = vote.block
            case Kind.NULLIFY:
                self._nullify(who, epoch, vote, mine)
                mine.nullified = True
        self.own[who, epoch.number][vote.view] = mine
        self.signed[vote.kind, (epoch.number, vote.view), vote.block].add(who)
        self.votes += 1
        if vote.kind is FINALIZE and self._enough(FINALIZE, epoch, vote.view, vote.block):
            self._agree(vote)

    # What the model calls V1, V2 and V3.

    def _notarize(self, who: str, epoch: Epoch, vote: Vote, mine: Voted) -> None:
        self._expect(mine.notarized is None, "one notarize per view", vote)
        self._expect(mine.finalized in (None, vote.block), "one block per view", vote)
        self._stands_in(who, epoch, vote)
        self._judge(epoch, vote)

    def _finalize(self, epoch: Epoch, vote: Vote, mine: Voted) -> None:
        certified = self._enough(NOTARIZE, epoch, vote.view, vote.block)
        self._expect(certified, "no finalize without a notarization", vote)
        self._expect(not mine.nullified, "no finalize after nullify", vote)
        self._expect(mine.finalized is None, "one finalize per view", vote)
        self._expect(mine.notarized in (None, vote.block), "no finalize beside a notarize", vote)

    def _nullify(self, who: str, epoch: Epoch, vote: Vote, mine: Voted) -> None:
        self._expect(mine.finalized is None, "no nullify after finalize", vote)
        self._expect(not mine.nullified, "one nullify per view", vote)
        self._stands_in(who, epoch, vote)

    def _stands_in(self, who: str, epoch: Epoch, vote: Vote) -> None:
        """The member is in this view, or a certificate moves it there (V2, V4, V6)."""
        mine = self.own[who, epoch.number]
        last = max((v + (each.finalized is not None) for v, each in mine.items()), default=0)
        view = vote.view
        there = view in (last, epoch.first_view) or self._passed(epoch, view - 1)
        self._expect(view >= last and there, "a vote is of the member's view", vote)
        self._begun(epoch, vote)

    def _judge(self, epoch: Epoch, vote: Vote) -> None:
        """The block may stand where it does."""
        block = self.blocks.get(vote.block)
        self._expect(block is not None, "who votes for a block holds it", vote)
        assert block is not None
        header = block.header
        placed = (header.epoch, header.view) == (epoch.number, vote.view)
        self._expect(placed and header.parent_view < vote.view, "a block is of its view", vote)
        first = header.parent == epoch.parent
        certified = first or self._certified(epoch, header.parent_view, header.parent)
        self._expect(certified, "a block stands on a certified parent", vote)
        gaps = range(header.parent_view + 1, header.view)
        skipped = all(self._enough(NULLIFY, epoch, view, bytes(32)) for view in gaps)
        self._expect(skipped, "skipped views are proven", vote)
        above = any(ends_epoch(each) for each in self._below(block))
        self._expect(not above or not block.leaves, "only empty blocks above a change", vote)

    def _begun(self, epoch: Epoch, vote: Vote) -> None:
        """An epoch stands on a change that the members before made final."""
        if epoch.number == 0:
            return
        if epoch.number - 1 not in self.epochs:
            return  # one member decided alone before, and no vote of it is in the trace
        change = self.blocks.get(epoch.parent)
        self._expect(change is not None, "an epoch follows another", vote)
        assert change is not None
        self._expect(ends_epoch(change), "an epoch begins with a change", vote)
        self._expect(change.header.view == epoch.parent_view, "view(B) + 1 is first", vote)
        ended = any(self._is_below(change.hash, each) for each in self.final)
        self._expect(ended, "an epoch begins with a final change", vote)

    # Certificates and chains.

    def _enough(self, kind: Kind, epoch: Epoch, view: int, block: bytes) -> bool:
        members = _names(epoch)
        honest = self.signed[kind, (epoch.number, view), block] - self.liars
        return len(honest & members) + len(self.liars & members) >= epoch.q

    def _certified(self, epoch: Epoch, view: int, block: bytes) -> bool:
        return any(self._enough(kind, epoch, view, block) for kind in (NOTARIZE, FINALIZE))

    def _passed(self, epoch: Epoch, view: int) -> bool:
        if self._enough(NULLIFY, epoch, view, bytes(32)):
            return True
        place = (epoch.number, view)
        voted = [b for k, p, b in list(self.signed) if p == place and k is not NULLIFY]
        return any(self._certified(epoch, view, block) for block in voted)

    def _below(self, block: Block) -> list[Block]:
        """The ancestors of a block in its own epoch."""
        found: list[Block] = []
        parent = self.blocks.get(block.header.parent)
        while parent is not None and parent.header.epoch == block.header.epoch:
            found.append(parent)
            parent = self.blocks.get(parent.header.parent)
        return found

    def _is_below(self, old: bytes, young: bytes) -> bool:
        while young != old and young in self.blocks:
            young = self.blocks[young].header.parent
        return young == old

    def _agree(self, vote: Vote) -> None:
        """Any two final blocks are of one chain; void ones carry nothing."""
        block = self.blocks.get(vote.block)
        self._expect(block is not None, "a final block is held", vote)
        assert block is not None
        void = any(ends_epoch(each) for each in self._below(block))
        for other in self.final:
            between = self.blocks[other]
            if void or any(ends_epoch(each) for each in self._below(between)):
                continue
            one_chain = self._is_below(other, vote.block) or self._is_below(vote.block, other)
            self._expect(one_chain, "any two final blocks are of one chain", vote)
        if vote.block not in self.final:
            self.final.append(vote.block)

    def _expect(self, holds: bool, rule: str, vote: Vote) -> None:
        if not holds:
            place = f"{vote.kind.name} of member {vote.member} in {vote.epoch}/{vote.view}"
            raise Forbidden(f"{rule}: {place} for {vote.block.hex()[:8]} (vote {self.votes})")


def ends_epoch(block: Block) -> bool:
    """Whether a block of the simulator's ledger changes who votes (number_ledger)."""
    if not block.leaves:
        return False
    last = Leaf.decode(block.leaves[-1])
    return last.type == ENTRY and b"epoch:" in last.payload


def _names(epoch: Epoch) -> set[str]:
    return {member.organization for member in epoch.members}
