"""A member whose disk was replaced by an empty one: it votes when every other member has shown what
it holds of it, or when its key is another one, and not before."""

import pytest
from stage import Disk, Stage

from tilth_ledger.journal_records import Blank, Promised, decode_record, frame, read_journal


@pytest.fixture
def stage():
    stage = Stage(4)
    for text in ("a", "b", "c"):
        stage.submit(0, text)
        stage.pass_ms(2_000)
    return stage


def wiped(stage, member, *, archive=None):
    stage.crash(member)
    stage.disks[member] = Disk() if archive is None else Disk(archive=archive)


def blanks(stage, member):
    records = (decode_record(body) for body in read_journal(stage.disks[member].journal).bodies)
    return [record.blank for record in records if isinstance(record, Blank)]


def test_a_wiped_member_votes_again_when_all_others_are_there(stage):
    wiped(stage, 3)
    stage.restart(3)
    stage.pass_ms(5_000)
    assert stage.replicas[3].votes or stage.alarms[3]
    assert len({replica.height for replica in stage.replicas.values()}) == 1


def test_a_wiped_member_follows_without_voting_while_one_is_missing(stage):
    stage.crash(1)
    archive = stage.disks[0].archive  # as a snapshot brings it
    wiped(stage, 3, archive=archive)
    stage.restart(3)
    stage.pass_ms(5_000)
    assert not stage.replicas[3].votes
    assert [alarm.kind for alarm in stage.alarms[3]].count("memory") >= 1
    assert blanks(stage, 3) == [True]


def test_a_restart_does_not_make_it_forget_that_it_knows_nothing(stage):
    stage.crash(1)
    wiped(stage, 3, archive=stage.disks[0].archive)
    stage.restart(3)
    stage.pass_ms(3_000)
    stage.crash(3)
    stage.restart(3)
    stage.pass_ms(3_000)
    assert not stage.replicas[3].votes


def test_the_last_one_that_shows_what_it_holds_lets_it_vote(stage):
    stage.crash(1)
    wiped(stage, 3, archive=stage.disks[0].archive)
    stage.restart(3)
    stage.pass_ms(3_000)
    stage.restart(1)
    stage.pass_ms(5_000)
    assert stage.replicas[3].votes
    assert blanks(stage, 3)[-1] is False or not blanks(stage, 3)
    stage.submit(3, "later")
    stage.pass_ms(3_000)
    assert len({replica.height for replica in stage.replicas.values()}) == 1


def test_a_new_member_that_lost_nothing_waits_for_a_quorum_only(stage):
    stage.crash(1)
    # As `tilth node init` leaves it: the keys are new, and the journal says so.
    fresh = Disk(archive=stage.disks[0].archive)
    fresh.journal = frame([Promised(0, 0, 0).encode()], 0)
    stage.crash(3)
    stage.disks[3] = fresh
    stage.restart(3)
    stage.pass_ms(5_000)
    assert stage.replicas[3].votes
    assert "memory" not in [alarm.kind for alarm in stage.alarms[3]]


def test_a_first_start_of_all_needs_no_more_than_a_quorum():
    stage = Stage(4, away=(3,))
    stage.submit(0, "a")
    stage.pass_ms(20_000)
    assert stage.replicas[0].height > 0
    assert not any(stage.alarms.values())
