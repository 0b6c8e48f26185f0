"""Branches that parted at an epoch's end: noticed in the epochs after, by whoever meets the other
branch, and by an old certificate alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from number_ledger import Numbers
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Vote
from tilth_ledger.journal_records import Forked, decode_record, read_journal
from tilth_ledger.messages import Certificates, Chain, FetchChain, Proposal, Status, Votes

FALSE = 2  # leads view 2


def proposal_of(stage: Stage, member: int, nth: int = 0) -> Block:
    made = [
        message.block
        for sender, _, message in stage.sent
        if sender == member and isinstance(message, Proposal)
    ]
    return list(dict.fromkeys(made))[nth]


def parted(mine: str, other: str) -> Stage:
    """Three members, q = 2: the false one ends the epoch with member 1 in view 1, and otherwise
    with member 0 in view 2."""
    stage = Stage(3, away=[FALSE])
    stage.cut(0, 1)
    stage.submit(1, mine)
    stage.settle()
    block = proposal_of(stage, 1)
    for kind in (NOTARIZE, FINALIZE):
        stage.play(FALSE, 1, Votes((stage.vote(FALSE, kind, 1, block.hash),)))
    stage.play(FALSE, 0, Votes((stage.vote(FALSE, NULLIFY, 1),)))
    stage.submit(0, "b")
    stage.pass_ms(700)
    skip = stage.certificate(NULLIFY, 1, members=[0, FALSE])
    block, _ = stage.block(2, [other], skips=[skip])
    stage.play(FALSE, 0, Proposal(stage.vote(FALSE, NOTARIZE, 2, block.hash), block))
    stage.play(FALSE, 0, Votes((stage.vote(FALSE, FINALIZE, 2, block.hash),)))
    return stage


def go_on(stage: Stage) -> None:
    """One more block on member 0's branch, in its new epoch: member 0 leads view 3."""
    epoch, key = stage.replicas[0].epoch, stage.consortium.keys[FALSE]
    tip = stage.disks[0].archive.blocks[-1].header
    stage.play(FALSE, 0, Status(1, 3, 3, tip.view, 1, tip.size, tip.root, False, ()))
    stage.settle()
    block = next(
        message.block
        for _, _, message in stage.sent
        if isinstance(message, Proposal) and message.block.header.epoch == 1
    )
    for kind in (NOTARIZE, FINALIZE):
        vote = Vote.sign(epoch, key, FALSE, kind, block.header.view, block.hash)
        stage.play(FALSE, 0, Votes((vote,)))
    stage.settle()


def halted(stage: Stage) -> list[bool]:
    return [stage.replicas[member].halted for member in (0, 1)]


def kept(stage: Stage, member: int) -> list[Forked]:
    bodies = read_journal(stage.disks[member].journal).bodies
    return [each for each in map(decode_record, bodies) if isinstance(each, Forked)]


def accused(stage: Stage, member: int) -> set[int]:
    return {each.evidence.member for each in stage.alarms[member] if each.evidence is not None}


@pytest.mark.rule("V5")
@pytest.mark.parametrize(
    ("mine", "other"),
    [("e epoch:q=3", "f epoch:q=2"), ("e epoch:q=3", "f"), ("e", "f epoch:q=3")],
)
def test_two_ends_of_one_epoch_halt_both_sides_and_both_certificates_are_kept(
    mine: str, other: str
) -> None:
    stage = parted(mine, other)
    assert halted(stage) == [False, False]
    stage.mend()
    stage.pass_ms(10_000)
    assert halted(stage) == [True, True]
    for member in (0, 1):
        [record] = kept(stage, member)
        assert record.mine.block != record.theirs.block
        assert "fork" in {alarm.kind for alarm in stage.alarms[member]}
        assert accused(stage, member) <= {FALSE}
    assert FALSE in accused(stage, 0) | accused(stage, 1)


@pytest.mark.rule("V5")
def test_a_branch_that_went_on_in_another_epoch_is_noticed_below_it() -> None:
    stage = parted("e epoch:q=3", "f epoch:q=2")
    go_on(stage)
    assert stage.heights()[:2] == [2, 1]
    stage.mend()
    stage.pass_ms(10_000)
    assert halted(stage) == [True, True]


def in_their_second_epoch() -> tuple[Stage, Block, Numbers]:
    """Two members that agree, the third played by the test; and another end of epoch 0."""
    stage = Stage(3, away=[FALSE])
    stage.submit(1, "e epoch:q=2")
    stage.pass_ms(5_000)
    assert [stage.replicas[member].epoch.number for member in (0, 1)] == [1, 1]
    view = stage.disks[0].archive.blocks[0].header.view
    return stage, *stage.block(view, ["other"])


def fetches(stage: Stage) -> int:
    return sum(to == FALSE and isinstance(message, FetchChain) for _, to, message in stage.sent)


@pytest.mark.rule("V5")
def test_an_old_certificate_of_another_block_halts_by_itself() -> None:
    stage, other, _ = in_their_second_epoch()
    proof = stage.certificate(FINALIZE, other.header.view, other.hash, [0, FALSE])
    stage.play(FALSE, 1, Certificates((proof,)))
    assert halted(stage) == [False, True]
    assert accused(stage, 1) == {0}  # whose key the test used on both
    stage.settle()
    stage.crash(1)
    stage.restart(1)
    assert stage.replicas[1].halted


@pytest.mark.rule("V5")
def test_an_old_certificate_that_nobody_signed_is_a_fault_and_halts_nothing() -> None:
    stage, other, _ = in_their_second_epoch()
    proof = stage.certificate(FINALIZE, other.header.view, other.hash, [0, FALSE])
    forged = replace(proof, signatures=(bytes(64), bytes(64)))
    before = stage.replicas[1].refused
    stage.play(FALSE, 1, Certificates((forged,)))
    assert halted(stage) == [False, False]
    assert stage.replicas[1].refused > before


@pytest.mark.rule("V5")
def test_the_certificates_that_ended_the_epoch_halt_nothing_and_ask_for_nothing() -> None:
    stage, _, _ = in_their_second_epoch()
    asked = fetches(stage)
    end = stage.disks[0].archive.blocks[0]
    for view in (end.header.view,):
        stage.play(FALSE, 1, Certificates((stage.certificate(FINALIZE, view, end.hash),)))
    assert halted(stage) == [False, False]
    assert fetches(stage) == asked


@pytest.mark.rule("V5")
def test_a_certificate_above_the_end_of_an_epoch_is_judged_by_the_blocks_below_it() -> None:
    stage, other, state = in_their_second_epoch()
    end = stage.disks[0].archive.blocks[0]
    standing = stage.certificate(NOTARIZE, end.header.view, end.hash)
    view = end.header.view + 1
    void, _ = stage.block(view, [], end, standing, state=stage.disks[0].archive.state)
    proof = stage.certificate(FINALIZE, view, void.hash, [0, FALSE])
    stage.play(FALSE, 1, Certificates((proof,)))
    stage.play(FALSE, 1, Chain((end.encode(), void.encode()), proof))
    assert halted(stage) == [False, False], "an empty block above the end that all know"

    standing = stage.certificate(NOTARIZE, other.header.view, other.hash)
    above, _ = stage.block(view, ["x"], other, standing, state=state)
    proof = stage.certificate(FINALIZE, view, above.hash, [0, FALSE])
    asked = fetches(stage)
    stage.play(FALSE, 1, Certificates((proof,)))
    assert fetches(stage) == asked + 1, "only its blocks can tell"
    assert halted(stage) == [False, False]
    stage.play(FALSE, 1, Chain((other.encode(), above.encode()), proof))
    assert halted(stage) == [False, True]
