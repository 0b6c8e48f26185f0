"""What an authenticated peer should not send: refused, counted by reason, nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from number_ledger import consortium, write_leaf
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Kind, Vote
from tilth_ledger.budget import AT_ONCE, REFILL_MS
from tilth_ledger.effects import Effects, Received
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.evidence import Evidence
from tilth_ledger.faults import MOST_REASONS, OTHER, Faults
from tilth_ledger.messages import (
    Accusation,
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
    decode_message,
)
from tilth_ledger.votes import KEPT_VIEWS

HOSTILE = 3  # of four; it leads view 3
ONE, TWO = b"1" * 32, b"2" * 32
OTHER_NET = Epoch.first(replace(consortium(4).genesis, net="ab" * 32))

Make = Callable[[Stage], Message]


@pytest.fixture
def stage() -> Stage:
    """One leaf is final, one waits, and view 2 is open."""
    stage = Stage(4, away=[HOSTILE])
    stage.submit(0, "final")
    stage.settle()
    stage.cut(0, 1)
    stage.cut(0, 2)
    stage.submit(0, "waits")
    stage.settle()
    assert stage.replicas[0].view == 2
    return stage


def protocol_state(stage: Stage) -> dict[str, Any]:
    """All that member 0 decides by, and what is on its disk."""
    core = stage.replicas[0]._core
    return {
        "view": core.view,
        "tip": core.tree.tip,
        "ballot": dict(core.ballot.votes),
        "blocks": {c.hash for c in core.tree},
        "pool": list(core.pool),
        "docket": list(core.docket),
        "certificates": core.table.certificates(0),
        "votes": [core.table.voted(v, k, m) for v in range(9) for k in Kind for m in range(4)],
        "confirmed": set(core.confirmed),
        "invalid": set(core.invalid),
        "proposals": dict(core.proposals),
        "ended": (core.forked, core.forgotten, core.halted),
        "journal": stage.disks[0].journal,
        "archive": stage.disks[0].archive.state,
    }


def vote(stage: Stage, **changed: Any) -> Message:
    return Votes((replace(stage.vote(HOSTILE, NULLIFY, 2), **changed),))


def foreign_vote(stage: Stage) -> Message:
    key = stage.consortium.keys[HOSTILE]
    return Votes((Vote.sign(OTHER_NET, key, HOSTILE, NULLIFY, 2, bytes(32)),))


def proposal(
    stage: Stage, view: int = 2, *, forged: bool = False, leader: int | None = None, **header: Any
) -> Message:
    """A proposal on the final block, right but for what is changed."""
    below = stage.disks[0].archive.blocks[-1]
    standing = stage.certificate(NOTARIZE, 1, below.hash, [0, 1, 2])
    skips = [stage.certificate(NULLIFY, v, members=[0, 1, 2]) for v in range(2, view)]
    state = stage.disks[0].archive.state
    block, _ = stage.block(view, ["mine"], below, standing, skips, state=state)
    block = replace(block, header=replace(block.header, **header))
    leader = stage.epoch.leader(view) if leader is None else leader
    mine = stage.vote(leader, NOTARIZE, view, block.hash)
    return Proposal(replace(mine, signature=bytes(64)) if forged else mine, block)


def certificate(stage: Stage, **changed: Any) -> Message:
    whole = stage.certificate(NULLIFY, 2, members=[0, 1, 2])
    return Certificates((replace(whole, **changed),))


def cut_short(stage: Stage) -> Message:
    whole = stage.certificate(NULLIFY, 2, members=[0, 1, 2])
    return Certificates(
        (replace(whole, members=whole.members[:2], signatures=whole.signatures[:2]),)
    )


def twice_the_same(stage: Stage) -> Message:
    whole = stage.certificate(NULLIFY, 2, members=[0, 1, 2])
    signatures = (whole.signatures[0], *whole.signatures[:2])
    return Certificates((replace(whole, members=(0, 0, 1), signatures=signatures),))


def accusation(stage: Stage, member: int, **changed: Any) -> Message:
    one, other = (stage.vote(member, NOTARIZE, 5, block) for block in (ONE, TWO))
    return Accusation((Evidence.of(replace(one, **changed), replace(other, **changed)),))


def stranger(stage: Stage) -> Message:
    one, other = (replace(stage.vote(1, NOTARIZE, 5, block), member=77) for block in (ONE, TWO))
    return Accusation((Evidence.of(one, other),))


def status(*votes: Vote, epoch: int = 0) -> Message:
    return Status(epoch, 1, 1, 0, 0, 0, bytes(32), False, votes)


def known_certificate(stage: Stage) -> Message:
    return Certificates(tuple(stage.replicas[0]._core.table.certificates(0)[:1]))


def known_evidence(stage: Stage) -> Message:
    message = accusation(stage, HOSTILE)
    stage.play(1, 0, message)
    return message


def final_block(stage: Stage) -> Message:
    return Body(stage.disks[0].archive.blocks[-1])


def final_chain(stage: Stage) -> Message:
    return Chain((stage.disks[0].archive.blocks[-1].encode(),), None)


HOSTILE_MESSAGES: dict[str, tuple[Make, str]] = {
    "vote with a forged signature": (
        lambda s: vote(s, signature=bytes(64)),
        "Votes: signature does not verify",
    ),
    "vote of another member": (lambda s: vote(s, member=1), "Votes: vote is not its sender's"),
    "vote of no member": (lambda s: vote(s, member=77), "Votes: vote is not its sender's"),
    "vote of another epoch": (lambda s: vote(s, epoch=1), "Votes: of another epoch"),
    "vote of a foreign ledger": (foreign_vote, "Votes: signature does not verify"),
    "vote of a far view": (lambda s: vote(s, view=1 << 60), "Votes: of a later view"),
    "proposal of who does not lead": (
        lambda s: proposal(s, leader=HOSTILE),
        "Proposal: proposal is not its leader's",
    ),
    "proposal with a forged vote": (
        lambda s: proposal(s, forged=True),
        "Proposal: signature does not verify",
    ),
    "proposal of a foreign ledger": (
        lambda s: proposal(s, 3, net=b"f" * 32),
        "Proposal: the leader's proposal is not justified",
    ),
    "proposal of another epoch": (
        lambda s: proposal(s, 3, epoch=4),
        "Proposal: the leader's proposal is not justified",
    ),
    "proposal without skip proofs": (
        lambda s: proposal(s, 3, skips=b"s" * 32),
        "Proposal: the leader's proposal is not justified",
    ),
    "proposal on a parent that is not certified": (
        lambda s: proposal(s, 3, parent=b"p" * 32),
        "Proposal: the leader's proposal is not justified",
    ),
    "proposal of a view that is over": (
        lambda s: proposal(s, 1),
        "Proposal: of a view that is over",
    ),
    "certificate with a forged signature": (
        lambda s: certificate(s, signatures=(bytes(64),) * 3),
        "Certificates: signature does not verify",
    ),
    "certificate of another epoch": (
        lambda s: certificate(s, epoch=1),
        "Certificates: of another epoch",
    ),
    "certificate of other members": (
        lambda s: certificate(s, width=5),
        "Certificates: certificate is of another number of members",
    ),
    "certificate of too few": (cut_short, "Certificates: certificate has too few votes"),
    "certificate of one member twice": (
        twice_the_same,
        "Certificates: certificate's members are not distinct and in order",
    ),
    "certificate that is known": (known_certificate, "Certificates: known"),
    "leaf that is none": (lambda s: Gossip((b"\x09garbage",)), "Gossip: unknown leaf version"),
    "leaf that waits already": (lambda s: Gossip((write_leaf("waits"),)), "Gossip: known"),
    "leaf that is final": (lambda s: Gossip((write_leaf("final"),)), "Gossip: known"),
    "status of another epoch": (
        lambda _: status(epoch=7),
        "Status: of another epoch",
    ),
    "vote of mine that I never signed": (
        lambda s: Status(
            0,
            1,
            1,
            1,
            1,
            1,
            bytes(32),
            False,
            (replace(s.vote(0, FINALIZE, 2, ONE), signature=bytes(64)),),
        ),
        "Status: signature does not verify",
    ),
    "block that nobody asked for": (final_block, "Body: not asked for"),
    "chain that nobody asked for": (final_chain, "Chain: not asked for"),
    "evidence with forged signatures": (
        lambda s: accusation(s, 1, signature=bytes(64)),
        "Accusation: signature does not verify",
    ),
    "evidence that waits already": (known_evidence, "Accusation: known"),
    "evidence against no member": (stranger, "Accusation: evidence is against no member"),
    "evidence of another epoch": (
        lambda s: accusation(s, 1, epoch=5),
        "Accusation: evidence is against no member",
    ),
}


def play(stage: Stage, message: Message) -> Effects:
    return stage.step(0, [Received(HOSTILE, message)])


@pytest.mark.rule("V6")
@pytest.mark.parametrize("name", HOSTILE_MESSAGES)
def test_it_is_refused_and_counted_and_changes_nothing(stage: Stage, name: str) -> None:
    make, reason = HOSTILE_MESSAGES[name]
    message = make(stage)
    before, counted = protocol_state(stage), stage.replicas[0].faults.get("m3", {})
    counted = dict(counted)
    effects = play(stage, message)
    assert protocol_state(stage) == before
    assert (effects.persist, effects.compact, effects.finalized) == ((), None, ())
    after = dict(stage.replicas[0].faults["m3"])
    assert after.pop(reason) == counted.pop(reason, 0) + 1
    assert after == counted


@pytest.mark.parametrize("name", HOSTILE_MESSAGES)
def test_members_go_on_after_it(name: str) -> None:
    """The same messages from the same sender, in a ledger that must go on without it."""
    stage = Stage(4, away=[HOSTILE])
    stage.submit(0, "final")
    stage.settle()
    for member in range(3):
        stage.play(HOSTILE, member, HOSTILE_MESSAGES[name][0](stage))
    stage.submit(0, "next")
    stage.pass_ms(10_000)
    assert all(stage.texts(m)[0] == "final" and "next" in stage.texts(m) for m in range(3))
    assert stage.texts(0) == stage.texts(1) == stage.texts(2)


@pytest.mark.rule("V6")
def test_an_honest_vote_counts_and_is_no_fault(stage: Stage) -> None:
    before = protocol_state(stage)
    play(stage, vote(stage))
    assert protocol_state(stage) != before
    assert stage.replicas[0].faults.get("m3", {}) == {}


@pytest.mark.parametrize("ask", [FetchBlock(ONE), FetchChain(1 << 60), FetchChain(0)])
def test_what_is_asked_is_answered_whatever_it_is(stage: Stage, ask: Message) -> None:
    before = protocol_state(stage)
    assert play(stage, ask).send
    assert protocol_state(stage) == before


def test_the_same_message_ten_thousand_times_costs_one_alarm_in_a_while(stage: Stage) -> None:
    message = Votes((stage.vote(2, NULLIFY, 2),))
    alarms = sum(len(play(stage, message).alarms) for _ in range(10_000))
    assert alarms == 14
    assert stage.replicas[0].faults["m3"] == {"Votes: vote is not its sender's": 10_000}


def test_false_signatures_are_verified_up_to_a_budget(stage: Stage) -> None:
    false = vote(stage, signature=bytes(64))
    for _ in range(10_000):
        play(stage, false)
    assert stage.replicas[0].faults["m3"] == {
        "Votes: signature does not verify": AT_ONCE,
        "Votes: after too many false signatures": 10_000 - AT_ONCE,
    }


def test_who_spent_his_budget_is_heard_again_after_a_second_and_in_all_else_at_once(
    stage: Stage,
) -> None:
    for _ in range(AT_ONCE):
        play(stage, vote(stage, signature=bytes(64)))
    before = protocol_state(stage)
    play(stage, vote(stage))
    assert protocol_state(stage) == before, "his votes are not looked at"
    assert play(stage, FetchChain(0)).send, "he may follow"
    skip = Certificates((stage.certificate(NULLIFY, 2, members=[1, 2, 3]),))
    play(stage, skip)
    assert stage.replicas[0].view == 3, "what he hands on is looked at"

    stage.pass_ms(REFILL_MS)
    play(stage, Votes((stage.vote(HOSTILE, NULLIFY, 3),)))
    assert stage.replicas[0]._core.table.voted(3, NULLIFY, HOSTILE)


def test_nobody_spends_the_budget_of_another(stage: Stage) -> None:
    of_another = replace(stage.vote(2, NULLIFY, 2), signature=bytes(64))
    certificate = stage.certificate(NULLIFY, 2, members=[1, 2, 3])
    false = replace(certificate, signatures=(bytes(64),) * 3)
    for _ in range(AT_ONCE + 5):
        play(stage, Votes((of_another,)))
        play(stage, Certificates((false,)))
    assert stage.replicas[0].faults["m3"] == {
        "Votes: vote is not its sender's": AT_ONCE + 5,
        "Certificates: signature does not verify": AT_ONCE,
        "Certificates: after too many false signatures": 5,
    }
    before = protocol_state(stage)
    stage.step(0, [Received(2, Votes((stage.vote(2, NULLIFY, 2),)))])
    assert protocol_state(stage) != before


@pytest.mark.rule("V6")
def test_floods_of_votes_of_many_views_and_of_unknown_messages_take_no_memory(stage: Stage) -> None:
    held = stage.replicas[0].held
    for start in range(10_000, 40_000, 1_000):
        views = range(start, start + 1_000)
        play(stage, Votes(tuple(stage.vote(HOSTILE, NULLIFY, view) for view in views)))
    assert stage.replicas[0].held == held
    assert decode_message(b"\xf1" + bytes(1_000)) is None


def test_old_certificates_shown_again_take_no_memory() -> None:
    stage = Stage(1)
    for number in range(KEPT_VIEWS + 50):
        stage.submit(0, f"leaf {number}")
        stage.settle()
    table = stage.replicas[0]._core.table
    held = len(table)
    for block in stage.disks[0].archive.blocks[:40]:
        table.learn(stage.certificate(FINALIZE, block.header.view, block.hash))
    assert len(table) == held


def test_reasons_are_bounded_whatever_is_told() -> None:
    faults = Faults()
    for number in range(1_000):
        faults.count("m3", f"reason {number}")
    assert len(faults.counts["m3"]) == MOST_REASONS + 1
    assert faults.counts["m3"][OTHER] == 1_000 - MOST_REASONS


@pytest.mark.parametrize("data", [b"", b"\x03\xff\xff", b"\x02" + bytes(50), b"\x0b\xff"])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_message(data)
