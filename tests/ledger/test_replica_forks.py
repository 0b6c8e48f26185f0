"""A fork, built with one member's key in hand: the others go no further and keep the proof."""

from __future__ import annotations

from dataclasses import replace

import pytest
from number_ledger import Numbers, write_leaf
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block
from tilth_ledger.effects import PeerConnected, PeerGone, Received, Submitted
from tilth_ledger.errors import Refused
from tilth_ledger.journal_records import Forked, decode_record, read_journal
from tilth_ledger.messages import Certificates, FetchChain, Proposal, Votes

FALSE = 2  # leads view 2


def forked_apart(more: int = 0) -> Stage:
    """Three members, q = 2: the false one makes a block final with each of the two others, who
    cannot hear each other. Member 1's is of view 1, member 0's of view 2."""
    stage = Stage(3, away=[FALSE])
    stage.cut(0, 1)
    stage.submit(1, "a")
    stage.settle()
    mine = proposal_of(stage, 1)
    for kind in (NOTARIZE, FINALIZE):
        stage.play(FALSE, 1, Votes((stage.vote(FALSE, kind, 1, mine.hash),)))
    stage.play(FALSE, 0, Votes((stage.vote(FALSE, NULLIFY, 1),)))
    stage.submit(0, "b")
    stage.pass_ms(700)
    skip = stage.certificate(NULLIFY, 1, members=[0, FALSE])
    other, state = stage.block(2, ["b"], skips=[skip])
    stage.play(FALSE, 0, Proposal(stage.vote(FALSE, NOTARIZE, 2, other.hash), other))
    stage.play(FALSE, 0, Votes((stage.vote(FALSE, FINALIZE, 2, other.hash),)))
    for view in range(3, 3 + more):
        other, state = extend(stage, other, state, view)
    assert stage.heights()[:2] == [1 + more, 1]
    return stage


def extend(stage: Stage, below: Block, state: Numbers, view: int) -> tuple[Block, Numbers]:
    """One more block on member 0's branch, by whoever leads."""
    standing = stage.certificate(NOTARIZE, below.header.view, below.hash, [0, FALSE])
    block, after = stage.block(view, [f"leaf of view {view}"], below, standing, state=state)
    leader = stage.epoch.leader(view)
    stage.play(FALSE, 0, Proposal(stage.vote(leader, NOTARIZE, view, block.hash), block))
    stage.play(FALSE, 0, Votes((stage.vote(FALSE, NOTARIZE, view, block.hash),)))
    stage.play(FALSE, 0, Votes((stage.vote(FALSE, FINALIZE, view, block.hash),)))
    return block, after


def proposal_of(stage: Stage, member: int) -> Block:
    return next(
        message.block
        for sender, _, message in stage.sent
        if sender == member and isinstance(message, Proposal)
    )


def accused(stage: Stage, member: int) -> set[tuple[int, str]]:
    pairs = [alarm.evidence for alarm in stage.alarms[member] if alarm.evidence is not None]
    return {(evidence.member, evidence.pair) for evidence in pairs}


def halted(stage: Stage) -> list[bool]:
    return [stage.replicas[member].halted for member in (0, 1)]


@pytest.fixture
def met() -> Stage:
    """Both have heard of each other's final block."""
    stage = forked_apart()
    stage.mend()
    stage.pass_ms(5_000)
    return stage


@pytest.mark.rule("V5")
@pytest.mark.parametrize("more", [0, 1])
def test_members_of_both_branches_halt_and_name_who_signed_on_both(more: int) -> None:
    stage = forked_apart(more)
    assert halted(stage) == [False, False]
    stage.mend()
    stage.pass_ms(5_000)
    assert halted(stage) == [True, True]
    for member in (0, 1):
        assert {who for who, _ in accused(stage, member)} == {FALSE}
        assert "fork" in {alarm.kind for alarm in stage.alarms[member]}


@pytest.mark.rule("V5")
def test_members_that_agree_never_halt() -> None:
    stage = Stage(3)
    for number in range(5):
        stage.submit(number % 3, f"leaf {number}")
        stage.pass_ms(3_000)
        stage.mend()
    assert halted(stage) == [False, False]


def test_a_halted_member_is_silent_and_votes_for_nothing(met: Stage) -> None:
    assert met.is_silent()
    said = len(met.sent)
    block, _ = met.block(4, ["c"])
    met.play(FALSE, 1, Proposal(met.vote(1, NOTARIZE, 4, block.hash), block))
    met.play(FALSE, 1, Votes((met.vote(FALSE, NULLIFY, 3),)))
    met.pass_ms(60_000)
    assert len(met.sent) == said
    assert not met.replicas[1].votes
    assert met.heights()[:2] == [1, 1]


def test_a_halted_member_sets_no_timer_for_a_block_that_it_will_never_get(met: Stage) -> None:
    unknown = met.certificate(NOTARIZE, 40, b"u" * 32, [0, FALSE])
    effects = met.step(1, [Received(FALSE, Certificates((unknown,)))])
    assert effects.timer_ms is None


def test_a_halted_member_takes_no_entry_and_says_what_to_run(met: Stage) -> None:
    effects = met.step(0, [Submitted(write_leaf("late"))])
    [(_, refusal)] = effects.refused
    assert isinstance(refusal, Refused)
    assert "tilth ledger rebase" in refusal.remedy
    assert not effects.send


def test_entries_that_waited_are_answered_when_the_ledger_halts() -> None:
    stage = forked_apart()
    stage.cut(1, FALSE)
    stage.submit(1, "waits")
    stage.settle()
    stage.mend()
    stage.pass_ms(5_000)
    assert "halted" in {error.rule for _, error in stage.refused[1] if isinstance(error, Refused)}


def test_both_certificates_are_durable_before_anybody_is_told(met: Stage) -> None:
    bodies = read_journal(met.disks[1].journal).bodies
    [record] = [r for r in map(decode_record, bodies) if isinstance(r, Forked)]
    assert record.mine.block != record.theirs.block
    for certificate in (record.mine, record.theirs):
        certificate.verify(met.epoch)


def test_a_restart_and_a_compaction_do_not_undo_the_halt(
    met: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    met.crash(1)
    met.alarms[1].clear()
    met.restart(1)
    assert met.replicas[1].halted
    assert "fork" in {alarm.kind for alarm in met.alarms[1]}
    met.pass_ms(60_000)
    assert met.is_silent()


def test_a_halted_member_goes_on_serving_what_it_holds(met: Stage) -> None:
    effects = met.step(1, [Received(FALSE, FetchChain(1))])
    [send] = effects.send
    assert send.to == (FALSE,)
    assert getattr(send.message, "blocks", None)


def test_whoever_connects_to_a_halted_member_is_shown_both_certificates(met: Stage) -> None:
    met.step(1, [PeerGone(FALSE)])
    effects = met.step(1, [PeerConnected(FALSE)])
    [shown] = [s.message for s in effects.send if isinstance(s.message, Certificates)]
    assert len({certificate.block for certificate in shown.certificates}) == 2


def test_two_branches_of_one_view_are_noticed_by_what_they_hold() -> None:
    """As two copies of a folder make them: same views, same heights, other entries."""
    stage = Stage(3, away=[FALSE])
    stage.cut(0, 1)
    for member, text in ((0, "a"), (1, "b")):
        block, _ = stage.block(1, [text])
        stage.play(FALSE, member, Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block))
        for kind in (NOTARIZE, FINALIZE):
            stage.play(FALSE, member, Votes((stage.vote(FALSE, kind, 1, block.hash),)))
    assert [stage.texts(m) for m in (0, 1)] == [["a"], ["b"]]
    stage.mend()
    stage.pass_ms(5_000)
    assert halted(stage) == [True, True]
    assert FALSE in {who for who, _ in accused(stage, 0)}


def test_another_finality_certificate_of_a_final_view_halts_at_once() -> None:
    stage = Stage(3, away=[FALSE])
    stage.submit(0, "a")
    stage.settle()
    tip = stage.disks[0].archive.blocks[-1]
    other, _ = stage.block(tip.header.view, ["other"])
    final = stage.certificate(FINALIZE, tip.header.view, other.hash, [1, FALSE])
    stage.play(FALSE, 0, Certificates((final,)))
    assert stage.replicas[0].halted


def test_a_finality_certificate_that_nobody_signed_halts_nobody() -> None:
    stage = Stage(3, away=[FALSE])
    stage.submit(0, "a")
    stage.settle()
    tip = stage.disks[0].archive.blocks[-1]
    final = stage.certificate(FINALIZE, tip.header.view, b"f" * 32, [1, FALSE])
    forged = replace(final, signatures=(final.signatures[0], bytes(64)))
    stage.play(FALSE, 0, Certificates((forged,)))
    stage.play(FALSE, 0, Certificates((stage.certificate(NULLIFY, 9, members=[1, FALSE]),)))
    assert not stage.replicas[0].halted


def test_the_final_certificate_of_an_old_block_halts_nobody() -> None:
    stage = Stage(3)
    for number in range(8):
        stage.submit(number % 3, f"leaf {number}")
        stage.settle()
    archive = stage.disks[0].archive
    for block in archive.blocks:
        final = stage.certificate(FINALIZE, block.header.view, block.hash, [0, 1])
        stage.play(2, 0, Certificates((final,)))
    assert not stage.replicas[0].halted


@pytest.mark.parametrize("damage", ["another header", "no block"])
def test_a_damaged_disk_is_no_fork(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(3)
    for text in ("a", "b", "c"):
        stage.submit(0, text)
        stage.settle()
    block = stage.disks[0].archive.blocks[1]
    other = replace(block, header=replace(block.header, time_ms=block.header.time_ms + 1)).encode()
    stage.crash(0)
    rotten = other if damage == "another header" else other[:-1]
    monkeypatch.setattr(stage.disks[0].archive, "block", lambda height: rotten)
    stage.restart(0)
    final = stage.certificate(FINALIZE, block.header.view, block.hash)
    stage.play(1, 0, Certificates((final,)))
    assert not stage.replicas[0].halted
    assert stage.alarms[0] == []
