"""Every kind of message in every way that it can be bad, from a peer whom TLS proved.

A cell says with which reason it is counted, and that nothing changes; or that it is answered and
changes nothing; or, in words, why there is no such badness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import pytest
from number_ledger import write_leaf
from stage import Stage
from test_replica_hostile import (
    HOSTILE,
    ONE,
    OTHER_NET,
    TWO,
    accusation,
    certificate,
    foreign_vote,
    known_certificate,
    known_evidence,
    proposal,
    protocol_state,
    status,
    vote,
)

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Certificate, Vote
from tilth_ledger.effects import Received
from tilth_ledger.errors import InvalidInput
from tilth_ledger.evidence import Evidence
from tilth_ledger.messages import (
    MAX_MESSAGE_BYTES,
    Accusation,
    Barrier,
    Body,
    Certificates,
    Chain,
    Cosignatures,
    FetchBlock,
    FetchChain,
    Gossip,
    Message,
    Proposal,
    Signed,
    Status,
    Votes,
    decode_message,
)

FOLLOWER = 4  # an organization without a vote
NONCE = b"n" * 16

Kind = type[Message]
Make = Callable[[Stage], Message]
Cell = tuple[Make, str] | tuple[Make, str, int] | Make | str
KINDS: tuple[Kind, ...] = (
    *(Gossip, Proposal, Votes, Certificates, Status, FetchBlock),
    *(Body, FetchChain, Chain, Accusation, Barrier, Cosignatures),
)


class Badness(Enum):
    """What can be wrong with a message; malformed and oversized ones never become messages."""

    REPLAYED = "replayed"
    REORDERED = "reordered"
    FOREIGN = "foreign"
    WRONG_EPOCH = "wrong epoch"
    NON_MEMBER = "non-member"
    DUPLICATE = "duplicate"


def played(make: Make, sender: int = HOSTILE) -> Make:
    """The message, after it has had its effect once."""

    def again(stage: Stage) -> Message:
        message = make(stage)
        stage.play(sender, 0, message)
        return message

    return again


def twice(make: Make) -> Make:
    """All that a message lists, twice in one, after it has had its effect once."""

    def doubled(stage: Stage) -> Message:
        match played(make)(stage):
            case Gossip(items):
                return Gossip(items * 2)
            case Votes(items):
                return Votes(items * 2)
            case Certificates(items):
                return Certificates(items * 2)
            case Accusation(items):
                return Accusation(items * 2)
            case Barrier(items):
                return Barrier(items * 2)
            case other:
                raise AssertionError(other)

    return doubled


def final_block(stage: Stage) -> Message:
    return Body(stage.disks[0].archive.blocks[-1])


def final_chain(stage: Stage) -> Message:
    block = stage.disks[0].archive.blocks[-1].encode()
    return Chain((block, block), None)


def other_block(stage: Stage) -> Message:
    block = stage.disks[0].archive.blocks[-1]
    return Body(replace(block, header=replace(block.header, net=b"f" * 32)))


def later_block(stage: Stage) -> Message:
    block = stage.disks[0].archive.blocks[-1]
    return Body(replace(block, header=replace(block.header, epoch=1)))


def other_vote(stage: Stage, member: int, block: bytes, view: int = 5) -> Vote:
    """A vote for another ledger with the same members."""
    kind = NULLIFY if block == bytes(32) else NOTARIZE
    return Vote.sign(OTHER_NET, stage.consortium.keys[member], member, kind, view, block)


def other_certificate(stage: Stage) -> Message:
    votes = [other_vote(stage, member, bytes(32), 2) for member in (0, 1, 2)]
    return Certificates((Certificate.of(votes, 4),))


def other_evidence(stage: Stage) -> Message:
    return Accusation((Evidence.of(other_vote(stage, 1, ONE), other_vote(stage, 1, TWO)),))


def later_proposal(stage: Stage) -> Message:
    message = proposal(stage)
    assert isinstance(message, Proposal)
    return replace(message, vote=replace(message.vote, epoch=1))


def own_vote_twice(stage: Stage) -> Message:
    mine = [
        each
        for sender, _, told in stage.sent
        if sender == 0 and isinstance(told, Votes)
        for each in told.votes
    ]
    return status(mine[-1], mine[-1])


NOT_ASKED = "not asked for"
ANYBODY = "an organization without a vote may say it as well"
BY_ITSELF = "it means the same whenever it comes"
OF_NO_EPOCH = "it is of no epoch"
OF_NO_LEDGER = "it names no ledger"
NO_LIST = "it lists nothing"
APART = "the replica never sees it: nothing is decided by it (node/test_cosigning.py)"

MATRIX: dict[Badness, dict[Kind, Cell]] = {
    Badness.REPLAYED: {
        Gossip: (lambda s: Gossip((write_leaf("final"),)), "known"),
        Proposal: (lambda s: proposal(s, 1), "of a view that is over"),
        Votes: (played(vote), "repeated"),
        Certificates: (known_certificate, "known"),
        Status: played(lambda s: status()),
        FetchBlock: played(lambda s: FetchBlock(s.disks[0].archive.blocks[-1].hash)),
        Body: (final_block, NOT_ASKED),
        FetchChain: played(lambda s: FetchChain(1)),
        Chain: (final_chain, NOT_ASKED),
        Accusation: (known_evidence, "known"),
        Barrier: (played(lambda s: Barrier((NONCE,))), "known"),
        Cosignatures: APART,
    },
    Badness.REORDERED: {
        Gossip: "an entry waits for no other: the rules judge entries in the order of a block",
        Proposal: (
            lambda s: proposal(s, 3, parent=b"p" * 32),
            "the leader's proposal is not justified",
        ),
        Votes: (lambda s: vote(s, view=4), "of a later view"),
        Certificates: "one of any view counts whenever it comes (V6)",
        Status: lambda s: status(),
        FetchBlock: lambda s: FetchBlock(ONE),
        Body: (final_block, NOT_ASKED),
        FetchChain: lambda s: FetchChain(1 << 60),
        Chain: (final_chain, NOT_ASKED),
        Accusation: BY_ITSELF,
        Barrier: BY_ITSELF,
        Cosignatures: APART,
    },
    Badness.FOREIGN: {
        Gossip: (lambda s: Gossip((b"\x09of another kind",)), "unknown leaf version"),
        Proposal: (
            lambda s: proposal(s, 3, net=b"f" * 32),
            "the leader's proposal is not justified",
        ),
        Votes: (foreign_vote, "signature does not verify"),
        Certificates: (other_certificate, "signature does not verify"),
        Status: (
            lambda s: status(other_vote(s, 0, ONE, 2)),
            "signature does not verify",
        ),
        FetchBlock: lambda s: FetchBlock(TWO),
        Body: (other_block, NOT_ASKED),
        FetchChain: OF_NO_LEDGER,
        Chain: (final_chain, NOT_ASKED),
        Accusation: (other_evidence, "signature does not verify"),
        Barrier: OF_NO_LEDGER,
        Cosignatures: APART,
    },
    Badness.WRONG_EPOCH: {
        Gossip: OF_NO_EPOCH,
        Proposal: (later_proposal, "of another epoch"),
        Votes: (lambda s: vote(s, epoch=1), "of another epoch"),
        Certificates: (lambda s: certificate(s, epoch=1), "of another epoch"),
        Status: (lambda s: status(epoch=7), "of another epoch"),
        FetchBlock: OF_NO_EPOCH,
        Body: (later_block, "of another epoch"),
        FetchChain: OF_NO_EPOCH,
        Chain: (final_chain, NOT_ASKED),
        Accusation: (lambda s: accusation(s, 1, epoch=5), "evidence is against no member"),
        Barrier: OF_NO_EPOCH,
        Cosignatures: APART,
    },
    Badness.NON_MEMBER: {
        Gossip: ANYBODY,
        Proposal: (proposal, "only members say this"),
        Votes: (vote, "only members say this"),
        Certificates: (certificate, "only members say this"),
        Status: ANYBODY,
        FetchBlock: ANYBODY,
        Body: (final_block, "only members say this"),
        FetchChain: ANYBODY,
        Chain: (final_chain, NOT_ASKED),
        Accusation: ANYBODY,
        Barrier: ANYBODY,
        Cosignatures: APART,
    },
    Badness.DUPLICATE: {
        Gossip: (twice(lambda s: Gossip((write_leaf("waits"),))), "known", 2),
        Proposal: played(lambda s: proposal(s, 3)),
        Votes: (twice(vote), "repeated", 2),
        Certificates: (twice(known_certificate), "known", 2),
        Status: own_vote_twice,
        FetchBlock: NO_LIST,
        Body: (final_block, NOT_ASKED),
        FetchChain: NO_LIST,
        Chain: (final_chain, NOT_ASKED),
        Accusation: (twice(lambda s: accusation(s, HOSTILE)), "known", 2),
        Barrier: (twice(lambda s: Barrier((NONCE,))), "known", 2),
        Cosignatures: APART,
    },
}
CELLS = [
    pytest.param(badness, kind, cell, id=f"{kind.__name__}, {badness.value}")
    for badness, row in MATRIX.items()
    for kind, cell in row.items()
    if not isinstance(cell, str)
]


@pytest.fixture
def stage() -> Stage:
    """One leaf is final, one waits, and view 2 is open; a member and a follower are ours."""
    stage = Stage(4, away=[HOSTILE, FOLLOWER], followers=1)
    stage.submit(0, "final")
    stage.settle()
    stage.cut(0, 1)
    stage.cut(0, 2)
    stage.submit(0, "waits")
    stage.settle()
    assert stage.replicas[0].view == 2
    return stage


def counted(stage: Stage, sender: int) -> dict[str, int]:
    return dict(stage.replicas[0].faults.get(f"m{sender}", {}))


def test_every_kind_has_its_cell_for_every_badness() -> None:
    assert {badness: set(row) for badness, row in MATRIX.items()} == {
        badness: set(KINDS) for badness in Badness
    }
    assert set(KINDS) == set(Message.__args__)


@pytest.mark.rule("V6")
@pytest.mark.parametrize(("badness", "kind", "cell"), CELLS)
def test_it_is_counted_by_its_reason_and_changes_nothing(
    stage: Stage, badness: Badness, kind: Kind, cell: Cell
) -> None:
    sender = FOLLOWER if badness is Badness.NON_MEMBER else HOSTILE
    make, reason, times = (*cell, 1)[:3] if isinstance(cell, tuple) else (cell, "", 0)
    message = make(stage)
    assert isinstance(message, kind)
    before, old = protocol_state(stage), counted(stage, sender)
    effects = stage.step(0, [Received(sender, message)])
    assert protocol_state(stage) == before
    assert (effects.persist, effects.compact, effects.finalized) == ((), None, ())
    new = counted(stage, sender)
    told = f"{kind.__name__}: {reason}"
    assert new.pop(told, 0) - old.pop(told, 0) == times
    assert new == old


KNOWN_OF_A_FOLLOWER: dict[Kind, Make] = {
    Gossip: lambda s: Gossip((write_leaf("waits"),)),
    Accusation: known_evidence,
    Barrier: played(lambda s: Barrier((NONCE,)), FOLLOWER),
}


@pytest.mark.parametrize("kind", KNOWN_OF_A_FOLLOWER)
def test_what_an_organization_without_a_vote_repeats_is_counted(stage: Stage, kind: Kind) -> None:
    message = KNOWN_OF_A_FOLLOWER[kind](stage)
    before, old = protocol_state(stage), counted(stage, FOLLOWER)
    stage.play(FOLLOWER, 0, message)
    assert protocol_state(stage) == before
    new = counted(stage, FOLLOWER)
    assert new.pop(f"{kind.__name__}: known") == 1
    assert new == old


def test_one_that_asks_for_much_at_once_is_answered_once_a_turn(stage: Stage) -> None:
    asked = [Received(FOLLOWER, FetchChain(1)), Received(FOLLOWER, FetchBlock(ONE))]
    effects = stage.step(0, asked)
    assert [type(send.message) for send in effects.send if FOLLOWER in send.to] == [Chain]
    assert counted(stage, FOLLOWER) == {"FetchBlock: more than one at once": 1}


def examples(stage: Stage) -> list[Message]:
    signed = Signed(1, 1, bytes(64))
    return [
        Gossip((write_leaf("a"),)),
        proposal(stage),
        vote(stage),
        certificate(stage),
        status(stage.vote(0, FINALIZE, 2, ONE)),
        FetchBlock(ONE),
        final_block(stage),
        FetchChain(1),
        final_chain(stage),
        accusation(stage, 1),
        Barrier((NONCE,)),
        Cosignatures(True, 0, 3, bytes(32), (signed,)),
    ]


@pytest.mark.rule("V6")
def test_what_is_malformed_or_oversized_is_no_message_of_any_kind(stage: Stage) -> None:
    messages = examples(stage)
    assert {type(each) for each in messages} == set(KINDS)
    for message in messages:
        data = message.encode()
        assert decode_message(data) == message
        for bad in (data[:-1], data[:2], data + b"\0", data.ljust(MAX_MESSAGE_BYTES + 1, b"\0")):
            with pytest.raises(InvalidInput):
                decode_message(bad)
