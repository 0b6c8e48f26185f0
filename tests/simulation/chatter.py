"""What a liar says beside votes and blocks: forged, of another epoch, absurd, damaged, too much.

Its dice are its own. It signs with its own key only: what it says in the names of others is forged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from number_ledger import write_leaf

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, ZERO_HASH, Block, Certificate, Vote
from tilth_ledger.effects import Send
from tilth_ledger.evidence import Evidence
from tilth_ledger.messages import (
    Accusation,
    Barrier,
    Body,
    Certificates,
    Chain,
    FetchBlock,
    FetchChain,
    Gossip,
    Message,
    Proposal,
    Status,
    Votes,
)

if TYPE_CHECKING:
    from liar import Liar

OFTEN = 0.2  # of messages that it hears
FAR = 1 << 40


class Chatter:
    """One liar's talk."""

    def __init__(self, liar: Liar, random: Random, met: Counter[str]) -> None:
        self._liar = liar
        self._random = random
        self._met = met

    def talk(self, heard: Message, sender: int) -> list[Send]:
        """Perhaps something to somebody; an answer to whoever asks."""
        if isinstance(heard, FetchBlock | FetchChain):
            return self._answer(heard, sender)
        if self._random.random() >= OFTEN:
            return []
        said = self._random.choice(TALK)
        self._met[f"liar: {said.__name__[1:].replace('_', ' ')}"] += 1
        to = self._random.choice(self._liar.others)
        return [Send((to,), message) for message in said(self, to)]

    def _answer(self, asked: FetchBlock | FetchChain, sender: int) -> list[Send]:
        """Other blocks than were asked for, or the same, damaged."""
        block = self._block()
        if block is None or self._random.random() < 0.5:
            return []
        self._met["liar: damaged answer"] += 1
        damaged = replace(block, leaves=(write_leaf("garbage"), *block.leaves[1:]))
        told = self._random.choice((block, damaged))
        if isinstance(asked, FetchBlock):
            return [Send((sender,), Body(told))]
        proof = self._random.choice((None, self._own_certificate(FINALIZE, block)))
        return [Send((sender,), Chain((told.encode(),), proof))]

    def _forged_accusation(self, to: int) -> list[Message]:
        """Two votes of somebody else, signed by the liar."""
        whom = self._random.choice(self._liar.others)
        view = max(1, self._liar.view - self._random.randint(0, 3))
        votes = (self._vote(FINALIZE, view, whom, b"1"), self._vote(NULLIFY, view, whom))
        return [Accusation((Evidence.of(*votes),))]

    def _true_accusation(self, to: int) -> list[Message]:
        """Of itself: it signs what excludes itself anyway."""
        view, me = self._liar.view, self._liar.member
        votes = (self._vote(FINALIZE, view, me, b"1"), self._vote(NULLIFY, view, me))
        return [Accusation((Evidence.of(*votes),))]

    def _barriers(self, to: int) -> list[Message]:
        """More than one party may have waiting."""
        return [Barrier(tuple(self._random.randbytes(16) for _ in range(6)))]

    def _status_far_ahead(self, to: int) -> list[Message]:
        return [self._status(height=FAR, view=FAR, unproven=FAR, finalized_view=FAR, asks=True)]

    def _status_with_forged_votes(self, to: int) -> list[Message]:
        """The receiver is told that it forgot a vote."""
        view = self._liar.view + self._random.randint(0, 2)
        return [self._status(yours=(self._vote(FINALIZE, view, to, b"f"),))]

    def _status_of_another_root(self, to: int) -> list[Message]:
        block = self._block()
        header = None if block is None else block.header
        if header is None:
            return []
        return [
            self._status(
                height=header.height,
                finalized_view=header.view,
                size=header.size,
                root=self._random.randbytes(32),
            )
        ]

    def _next_epoch(self, to: int) -> list[Message]:
        """Votes, proofs and blocks of an epoch that did not begin: nobody ended this one."""
        next_one = self._liar.epoch.number + 1
        vote = self._vote(NOTARIZE, self._liar.view, self._liar.member, b"e")
        vote = replace(vote, epoch=next_one)
        block = self._block()
        said: list[Message] = [Votes((vote,)), self._status(epoch=next_one, height=FAR)]
        if block is not None:
            later = replace(block, header=replace(block.header, epoch=next_one))
            proof = replace(self._own_certificate(FINALIZE, later), epoch=next_one)
            said += [Proposal(replace(vote, block=later.hash), later), Body(later)]
            said += [Certificates((proof,)), Chain((later.encode(),), proof)]
        return [self._random.choice(said)]

    def _forged_certificate(self, to: int) -> list[Message]:
        """Of the liar's signatures alone; of one member, or of nobody."""
        block = self._block()
        if block is None:
            return []
        proof = self._own_certificate(self._random.choice((NOTARIZE, FINALIZE)), block)
        few = replace(proof, members=proof.members[:1], signatures=proof.signatures[:1])
        none = replace(proof, members=(), signatures=())
        return [Certificates((self._random.choice((proof, few, none)),))]

    def _votes_of_others(self, to: int) -> list[Message]:
        whom = self._random.choice(self._liar.others)
        return [Votes((self._vote(NULLIFY, self._liar.view, whom),))]

    def _votes_far_ahead(self, to: int) -> list[Message]:
        views = [self._liar.view + self._random.randint(2, 10**6) for _ in range(20)]
        return [Votes(tuple(self._vote(NULLIFY, view, self._liar.member) for view in views))]

    def _absurd_requests(self, to: int) -> list[Message]:
        far = self._random.choice((0, FAR, (1 << 64) - 1))
        return [FetchChain(far), FetchBlock(self._random.randbytes(32))]

    def _bad_leaves(self, to: int) -> list[Message]:
        return [Gossip((b"", self._random.randbytes(40), write_leaf("bad lie")))]

    def _unasked_blocks(self, to: int) -> list[Message]:
        block = self._block()
        return [] if block is None else [Body(block), Chain((block.encode(),), None)]

    # What these are made of.

    def _block(self) -> Block | None:
        known = self._liar.blocks
        return known[sorted(known)[self._random.randrange(len(known))]] if known else None

    def _vote(self, kind: object, view: int, member: int, block: bytes = b"") -> Vote:
        liar = self._liar
        named = block.ljust(32, b".") if block else ZERO_HASH
        signed = liar.sign(kind, view, named)  # type: ignore[arg-type]
        return replace(signed, member=member)

    def _own_certificate(self, kind: object, block: Block) -> Certificate:
        signed = self._liar.sign(kind, block.header.view, block.hash)  # type: ignore[arg-type]
        epoch = self._liar.epoch
        votes = [replace(signed, member=member) for member in range(epoch.q)]
        return Certificate.of(votes, len(epoch.members))

    def _status(self, **claims: object) -> Status:
        view = self._liar.view
        told = Status(0, view, view, 0, 0, 0, ZERO_HASH, False, ())
        return replace(told, **claims)  # type: ignore[arg-type]


TALK: tuple[Callable[[Chatter, int], list[Message]], ...] = (
    Chatter._forged_accusation,
    Chatter._true_accusation,
    Chatter._barriers,
    Chatter._status_far_ahead,
    Chatter._status_with_forged_votes,
    Chatter._status_of_another_root,
    Chatter._next_epoch,
    Chatter._forged_certificate,
    Chatter._votes_of_others,
    Chatter._votes_far_ahead,
    Chatter._absurd_requests,
    Chatter._bad_leaves,
    Chatter._unasked_blocks,
)
