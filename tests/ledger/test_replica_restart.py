"""What a member may do after a crash, after losing memory, and after losing data."""

from __future__ import annotations

import pytest
from disks import copied
from number_ledger import MemoryArchive
from stage import Disk, Stage

from tilth_ledger import core
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY
from tilth_ledger.effects import PeerConnected, Start
from tilth_ledger.journal_records import (
    Held,
    OwnVote,
    Promised,
    Proven,
    decode_record,
    frame,
    read_journal,
)
from tilth_ledger.messages import Proposal, Status, Votes


def restored_from_backup(stage: Stage, member: int) -> None:
    """The member's folder is replaced by an older copy: an empty one."""
    stage.crash(member)
    stage.disks[member] = Disk()
    stage.restart(member)


@pytest.mark.rule("F1")
@pytest.mark.rule("F3")
def test_a_restored_backup_is_noticed_by_the_vote_that_another_member_holds() -> None:
    stage = Stage(3, away=[2])
    stage.cut(0, 1)
    stage.submit(0, "a")
    stage.pass_ms(2_000)
    lost = stage.vote(0, NULLIFY, 1)
    assert stage.signed(0, NULLIFY) == {(1, bytes(32))}
    stage.crash(0)
    stage.disks[0] = Disk()
    stage.away = set()
    stage.restart(0)
    assert not stage.replicas[0].votes, "nobody told it yet what it holds"
    stage.play(2, 0, Status(0, 1, 1, 0, 0, 0, bytes(32), False, (lost,)))
    assert [alarm.kind for alarm in stage.alarms[0]] == ["amnesia"]
    assert not stage.replicas[0].votes
    stage.crash(0)
    stage.restart(0)
    stage.play(2, 0, Status(0, 1, 1, 0, 0, 0, bytes(32), False, ()))
    assert not stage.replicas[0].votes, "a second start does not cure it"


def test_a_member_without_memory_still_follows() -> None:
    stage = Stage(3)
    stage.submit(0, "a")
    stage.settle()
    restored_from_backup(stage, 0)
    stage.pass_ms(10_000)
    assert stage.texts(0) == ["a"]
    stage.submit(1, "b")
    stage.pass_ms(10_000)
    assert stage.texts(0) == ["a", "b"]


def test_nobody_can_accuse_a_member_of_forgetting_without_its_signature() -> None:
    stage = Stage(3, away=[1, 2])
    stage.crash(0)
    stage.restart(0)
    forged = stage.vote(1, NULLIFY, 7)
    lie = OwnVote(forged).vote
    claim = type(lie)(lie.kind, lie.epoch, lie.view, lie.block, 0, lie.signature)
    stage.play(1, 0, Status(0, 1, 1, 0, 0, 0, bytes(32), False, (claim,)))
    assert [alarm.kind for alarm in stage.alarms[0]] == ["peer"]
    stage.play(2, 0, Status(0, 1, 1, 0, 0, 0, bytes(32), False, ()))
    assert stage.replicas[0].votes


def test_one_absent_member_never_forbids_a_restart() -> None:
    stage = Stage(3)
    stage.crash(2)
    for member in (0, 1):
        stage.crash(member)
    for member in (0, 1):
        stage.restart(member)
    stage.settle()
    assert stage.replicas[0].votes
    assert stage.replicas[1].votes


def test_a_member_alone_needs_nobody_to_start() -> None:
    stage = Stage(1)
    stage.crash(0)
    stage.restart(0)
    assert stage.replicas[0].votes


@pytest.mark.rule("F3")
def test_votes_of_before_the_crash_are_sent_again() -> None:
    stage = Stage(4, away=[2, 3])
    stage.cut(0, 1)
    stage.submit(0, "a")
    stage.pass_ms(1_000)
    assert stage.signed(0, NULLIFY)
    stage.crash(0)
    stage.sent.clear()
    stage.restart(0)
    assert stage.signed(0, NULLIFY) == {(1, bytes(32))}


def test_a_store_that_lost_blocks_is_repaired_before_the_next_vote() -> None:
    stage = Stage(3)
    for text in "abc":
        stage.submit(0, text)
        stage.settle()
    stage.isolate(0)
    stage.submit(0, "d")  # makes the journal promise what the store holds
    stage.pass_ms(2_000)
    promises = [decode_record(body) for body in read_journal(stage.disks[0].journal).bodies]
    assert max(p.height for p in promises if isinstance(p, Promised)) == 3
    stage.crash(0)
    archive = stage.disks[0].archive
    archive.blocks, archive.certificates = [], {}
    archive.state = stage.replicas[1]._core.executor.genesis_state()
    stage.restart(0)
    assert [alarm.kind for alarm in stage.alarms[0]] == ["repair"]
    assert not stage.replicas[0].votes
    stage.mend()
    stage.settle()
    assert stage.texts(0)[:3] == ["a", "b", "c"]
    assert stage.replicas[0].votes


@pytest.mark.rule("F8")
def test_a_store_that_lost_blocks_whose_votes_the_journal_dropped_votes_again_when_it_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The promise covers every view whose votes are in the journal no more: those that others show
    of them were not forgotten."""
    monkeypatch.setattr(core, "COMPACT_BYTES", 1)
    stage = Stage(3)
    for text in "abc":
        stage.submit(0, text)
        stage.settle()
    lost = copied(stage.disks[0].archive)
    for text in "def":
        stage.submit(0, text)
        stage.settle()
    stage.crash(0)
    stage.disks[0].archive = lost
    stage.restart(0)
    stage.settle()
    stage.pass_ms(5_000)
    assert [alarm.kind for alarm in stage.alarms[0]] == ["repair"]
    assert stage.texts(0) == list("abcdef")
    assert stage.replicas[0].votes


@pytest.mark.rule("F8")
@pytest.mark.parametrize("n", [1, 3])
def test_the_promise_is_exact_after_every_final_block(n: int) -> None:
    stage = Stage(n)
    for number in range(1, 6):
        stage.submit(0, f"leaf {number}")
        stage.settle()
        for disk in stage.disks:
            records = [decode_record(body) for body in read_journal(disk.journal).bodies]
            assert isinstance(records[-1], Promised)
            assert (records[-1].height, records[-1].size) == (number, number)


@pytest.mark.rule("F8")
def test_a_member_alone_whose_store_lost_blocks_does_not_vote() -> None:
    stage = Stage(1)
    for text in "abc":
        stage.submit(0, text)
    stage.crash(0)
    stage.disks[0].archive = MemoryArchive()
    stage.restart(0)
    stage.submit(0, "d")
    stage.pass_ms(10_000)
    assert not stage.replicas[0].votes
    assert stage.texts(0) == []
    assert stage.alarms[0][0].kind == "repair"
    assert "ledger.db" in stage.alarms[0][0].message


def test_a_member_whose_journal_was_damaged_at_its_end_waits_for_all_others() -> None:
    stage = Stage(3)
    stage.submit(0, "a")
    stage.settle()
    stage.isolate(0)
    stage.submit(0, "b")
    stage.pass_ms(2_000)
    disk = stage.disks[0]
    bodies = list(read_journal(disk.journal).bodies)
    while isinstance(decode_record(bodies[-1]), Promised):  # the power cut took it
        del bodies[-1]
    torn = bytearray(frame(bodies, 0))
    torn[-1] ^= 1
    stage.crash(0)
    stage.crash(2)
    disk.journal = bytes(torn)
    stage.mend()
    stage.restart(0)
    stage.pass_ms(5_000)
    assert not stage.replicas[0].votes, "one has not shown what it holds"
    assert "journal/votes" in next(a for a in stage.alarms[0] if a.kind == "memory").message
    stage.restart(2)
    stage.pass_ms(20_000)
    assert stage.replicas[0].votes or [a for a in stage.alarms[0] if a.kind == "amnesia"]


def test_the_journal_is_compacted_and_a_restart_from_it_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "COMPACT_BYTES", 2_000)
    stage = Stage(3)
    for number in range(60):
        stage.submit(number % 3, f"leaf {number}")
        stage.settle()
    assert any(effects.compact is not None for _, effects in stage.effects)
    assert max(len(disk.journal) for disk in stage.disks) < 8_000
    for member in range(3):
        stage.crash(member)
        stage.restart(member)
    stage.submit(0, "last")
    stage.pass_ms(60_000)
    assert all(len(stage.texts(member)) == 61 for member in range(3))


@pytest.mark.rule("F2")
@pytest.mark.rule("F8")
def test_a_compacted_journal_that_lost_its_end_holds_what_its_votes_promise() -> None:
    """Wherever it is cut: the block and its notarization stand before the finalize vote (seeds
    36738, 37327)."""
    stage = Stage(3, 3)
    stage.submit(1, "a")
    while not stage.signed(0, FINALIZE):
        stage.deliver_one()
    records = stage.replicas[0]._core.records()
    (vote,) = [r.vote for r in records if isinstance(r, OwnVote) and r.vote.kind is FINALIZE]
    before = records[: records.index(OwnVote(vote))]
    assert any(isinstance(r, Held) and r.block.hash == vote.block for r in before)
    proofs = [r.certificate for r in before if isinstance(r, Proven)]
    assert any((c.kind, c.view, c.block) == (NOTARIZE, vote.view, vote.block) for c in proofs)


def test_memory_does_not_grow_with_the_ledger() -> None:
    stage = Stage(3)
    for number in range(1_200):
        stage.submit(number % 3, f"leaf {number}")
        stage.settle()
    held = stage.replicas[0].held
    assert held["views"] <= 1_002
    assert (held["blocks"], held["leaves"]) == (0, 0)


@pytest.mark.rule("V6")
def test_votes_of_far_future_views_are_not_kept() -> None:
    stage = Stage(3, away=[2])
    for view in range(5, 2_000):
        stage.play(2, 0, Votes((stage.vote(2, NULLIFY, view),)))
    assert stage.replicas[0].held["views"] <= 2


def test_a_second_proposal_of_a_view_is_not_kept() -> None:
    stage = Stage(4, away=[1, 2, 3])
    for number in range(20):
        block, _ = stage.block(1, [f"text {number}"])
        stage.play(1, 0, Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block))
    assert stage.replicas[0].held["blocks"] == 1
    assert stage.alarms[0][0].kind == "evidence"


def test_a_frame_of_nothing_is_nothing() -> None:
    assert frame((), 0) == b""


def test_a_connection_that_stands_before_the_first_turn_is_not_forgotten() -> None:
    stage = Stage(3)
    stage.crash(0)
    stage.replicas[0] = stage.restored(0)
    stage.step(0, [PeerConnected(1), PeerConnected(2), Start()])
    for other in (1, 2):
        stage.step(other, [PeerConnected(0)])
    stage.submit(0, "a")
    stage.settle()
    assert stage.texts(0) == ["a"]
    assert stage.now == 0
