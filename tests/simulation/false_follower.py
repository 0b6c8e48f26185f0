"""A follower that lies: it says to members all that only members may say, and asks without end.

It has the replica's interface, as the liar has. It signs with its own key, in its own name and in
those of members, and repeats what it was given in other forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random

from number_ledger import Consortium, write_leaf

from tilth_ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    ZERO_HASH,
    Block,
    Certificate,
    Kind,
    Vote,
)
from tilth_ledger.effects import Effects, Event, Received, Send
from tilth_ledger.errors import InvalidInput
from tilth_ledger.messages import (
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

MOST_ACTS = 600


class FalseFollower:
    """One lying follower."""

    def __init__(self, consortium: Consortium, party: int, random: Random) -> None:
        self.genesis = consortium.genesis
        self.epoch = consortium.epoch
        self.party = party
        self.random = random
        self._key = consortium.keys[party]
        self._blocks: list[Block] = []
        self._acts = 0
        self._status = Status(0, 1, 1, 0, 0, 0, ZERO_HASH, True, ())
        self.view = 1
        self.height = 0
        self.held: dict[str, int] = {}

    def step(self, now_ms: int, clock_ms: int, events: Sequence[Event]) -> Effects:
        sends: list[Send] = []
        for event in events:
            if isinstance(event, Received) and self._acts < MOST_ACTS:
                self._acts += 1
                with suppress(InvalidInput):  # what it is handed may be damaged
                    self._learn(event.message)
                sends += [Send((self._someone(),), self._lie()) for _ in range(2)]
        return Effects(send=tuple(sends))

    def _learn(self, message: Message) -> None:
        match message:
            case Status():
                self._status = message
            case Chain(blocks):
                self._blocks += [Block.decode(block) for block in blocks[-4:]]
                self._blocks = self._blocks[-8:]

    def _someone(self) -> int:
        parties = len(self.genesis.everyone())
        return self.random.choice([p for p in range(parties) if p != self.party])

    def _lie(self) -> Message:
        told, view = self._status, self._status.view + self.random.randint(-2, 2)
        lies: list[Message] = [
            Votes(tuple(self._vote(kind, max(1, view)) for kind in Kind)),
            Certificates((self._certificate(max(1, view)),)),
            replace(told, asks=True, height=told.height + 1_000, view=told.view + 1_000, yours=()),
            replace(told, asks=False, yours=(self._vote(FINALIZE, max(1, view)),)),
            FetchChain(self.random.choice((0, 1, told.height, (1 << 64) - 1))),
            FetchBlock(self._hash()),
            Gossip((write_leaf("bad"), b"no leaf")),
            Gossip((write_leaf(f"follower{self.random.randint(0, 9)} claim:c1"),)),
        ]
        if self._blocks:
            block = self.random.choice(self._blocks)
            lies.append(Body(block))
            lies.append(Proposal(self._vote(NOTARIZE, block.header.view), block))
            lies.append(Chain((block.encode(),), self._certificate(block.header.view)))
            if block.justification.parent is not None:
                lies.append(Certificates((block.justification.parent,)))
        return self.random.choice(lies)

    def _hash(self) -> bytes:
        return self.random.choice([block.hash for block in self._blocks] or [b"\1" * 32])

    def _vote(self, kind: Kind, view: int) -> Vote:
        named = ZERO_HASH if kind is NULLIFY else self._hash()
        member = self.random.choice((self.party, self.random.randrange(len(self.genesis.members))))
        return Vote.sign(self.epoch, self._key, member, kind, view, named)

    def _certificate(self, view: int) -> Certificate:
        block = self._hash()
        votes = [
            Vote.sign(self.epoch, self._key, member, FINALIZE, view, block)
            for member in range(self.genesis.q)
        ]
        return Certificate.of(votes, len(self.genesis.members))
