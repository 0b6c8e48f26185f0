"""Who votes changes while the ledger goes on: an epoch ends with a block that the old members make
final, and the next begins on it, in place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from number_ledger import Keys, holding, vote_key
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Certificate
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.journal_records import Forgotten, OwnVote, frame
from tilth_ledger.messages import (
    Certificates,
    Chain,
    FetchChain,
    Message,
    Proposal,
    Status,
    Votes,
)


@pytest.fixture
def stage() -> Stage:
    """Three members and a follower."""
    return Stage(3, followers=1)


def run(stage: Stage, member: int, *texts: str, ms: int = 20_000) -> None:
    stage.submit(member, *texts)
    stage.pass_ms(ms)


def epochs(stage: Stage) -> list[int]:
    return [replica.epoch.number for _, replica in sorted(stage.replicas.items())]


def names(stage: Stage, member: int = 0) -> list[str]:
    return [each.organization for each in stage.replicas[member].epoch.members]


def blocks(stage: Stage, member: int = 0) -> list[Block]:
    return stage.disks[member].archive.blocks


def agree(stage: Stage) -> bool:
    chains = [[b.hash for b in disk.archive.blocks] for disk in stage.disks]
    return all(chain == chains[0] for chain in chains)


def test_a_follower_becomes_a_voter(stage: Stage) -> None:
    run(stage, 0, "a")
    run(stage, 0, "e epoch:add=m3;q=3")
    assert epochs(stage) == [1] * 4
    assert names(stage) == ["m0", "m1", "m2", "m3"]
    assert all(stage.replicas[member].votes for member in range(4))
    run(stage, 3, "b")
    assert agree(stage)
    assert stage.texts(0) == ["a", "e epoch:add=m3;q=3", "b"]
    last = Certificate.decode(stage.disks[0].archive.certificates[len(blocks(stage))])
    assert (last.epoch, last.width, len(last.members) >= 3) == (1, 4, True)
    assert stage.is_silent()
    assert not any(stage.alarms.values())


def test_two_followers_of_which_one_becomes_a_voter_use_the_link_between_them() -> None:
    stage = Stage(3, followers=2)
    run(stage, 0, "e epoch:add=m3;q=3")
    assert epochs(stage) == [1] * 5
    for member in range(3):
        stage.part(4, member)
    run(stage, 0, "a")
    assert stage.texts(4) == ["e epoch:add=m3;q=3", "a"]
    run(stage, 4, "b")
    assert stage.texts(0)[-1] == "b"


def test_the_next_epoch_starts_on_the_block_that_ended_the_one_before(stage: Stage) -> None:
    run(stage, 0, "e epoch:q=3", ms=10)
    run(stage, 1, "b")
    end, first = blocks(stage)[-2:]
    assert (end.header.epoch, first.header.epoch) == (0, 1)
    assert first.header.parent == end.hash
    assert first.header.parent_view == end.header.view
    assert first.justification.parent is None
    epoch = stage.replicas[0].epoch
    assert epoch.first_view == end.header.view + 1
    first.justification.verify(first.header, epoch)
    with pytest.raises(InvalidInput):
        first.justification.verify(first.header, Epoch.first(stage.genesis))


def test_who_is_removed_counts_no_more_and_the_others_go_on(stage: Stage) -> None:
    run(stage, 0, "e epoch:remove=m2")
    assert names(stage) == ["m0", "m1"]
    before = len(blocks(stage))
    view = stage.replicas[0].view
    late = [
        stage.vote(2, kind, view, block)
        for kind, block in ((NULLIFY, bytes(32)), (FINALIZE, b"x" * 32))
    ]
    stage.play(2, 0, Votes(tuple(late)))
    run(stage, 1, "b")
    assert len(blocks(stage)) == before + 1
    assert not stage.replicas[2].votes
    assert stage.heights()[2] == before  # nobody tells it any more
    assert [alarm.kind for alarm in stage.alarms[2]] == ["unlisted"]
    stage.submit(2, "c")
    [(_, refusal)] = stage.refused[2]
    assert "does not list" in str(refusal)


def test_who_stops_voting_follows_on(stage: Stage) -> None:
    """In the tests' ledger who is removed is gone, so: the others' view of a member's old votes."""
    run(stage, 0, "e epoch:add=m3;q=3")
    stage.cut(0, 3)
    run(stage, 1, "b")
    assert stage.heights()[:3] == [2, 2, 2]


def test_an_organization_that_never_was_in_genesis_is_admitted(stage: Stage) -> None:
    run(stage, 0, "a", "b")
    stage.join(4)
    run(stage, 0, "c")
    assert stage.heights()[4] == 0
    run(stage, 1, "e epoch:add=m4;q=3")
    assert stage.replicas[4].epoch.number == 1
    assert stage.replicas[4].votes
    assert agree(stage)
    run(stage, 4, "d")
    assert agree(stage)
    assert stage.texts(4)[-1] == "d"


def test_a_newcomer_comes_in_where_no_member_of_genesis_is_left(caught_up: Stage) -> None:
    """It knows those who vote now as followers, and nobody else is there (seed 34427)."""
    assert names(caught_up, 2) == ["m1", "m2"]
    assert caught_up.texts(2) == caught_up.texts(1)
    run(caught_up, 2, "a")
    assert "a" in caught_up.texts(1)
    assert caught_up.is_silent()


def test_what_a_follower_says_of_a_later_epoch_counts_while_no_member_has_more() -> None:
    """One that lies is asked, and given up; those who vote are believed first."""
    stage = Stage(3, followers=2, away=[4])
    far = Status(7, 9, 9, 8, 9, 9, bytes(32), False, ())
    stage.play(4, 3, far)
    assert (3, 4, FetchChain(1)) in stage.sent
    stage.submit(0, "a")
    stage.pass_ms(30_000)
    assert stage.texts(3) == ["a"]
    assert stage.is_silent()


@pytest.fixture
def caught_up() -> Stage:
    """The one member of genesis admitted its follower and left; then came another."""
    stage = Stage(1, followers=1)
    run(stage, 0, "a epoch:add=m1")
    run(stage, 1, "b epoch:remove=m0")
    stage.crash(0)
    stage.join(2)
    run(stage, 1, "c epoch:add=m2")
    run(stage, 1, ms=60_000)
    return stage


def test_rotated_keys_vote_from_the_next_epoch_on(stage: Stage) -> None:
    run(stage, 0, "e epoch:rotate=m1;q=3")
    assert epochs(stage)[:3] == [1, 1, 1]
    run(stage, 1, "b")
    assert agree(stage)
    assert stage.texts(2)[-1] == "b"


def test_a_rotated_node_that_lacks_its_new_key_says_so_and_does_not_vote(stage: Stage) -> None:
    stage.crash(1)
    stage.keyrings[1] = holding(vote_key(1, 0, cheap=True))
    stage.restart(1)
    run(stage, 0, "e epoch:rotate=m1")
    assert not stage.replicas[1].votes
    assert [alarm.kind for alarm in stage.alarms[1]] == ["keys"]
    run(stage, 0, "b")
    assert agree(stage)  # it follows


def test_entries_that_came_while_the_epoch_ended_wait_for_the_next_one(stage: Stage) -> None:
    stage.submit(0, "e epoch:q=3")
    stage.submit(0, "a")
    stage.submit(1, "b")
    stage.submit(2, "c")
    stage.pass_ms(20_000)
    assert sorted(stage.texts(0)) == ["a", "b", "c", "e epoch:q=3"]
    assert agree(stage)


def test_only_empty_blocks_follow_before_the_end_is_final_and_they_are_void() -> None:
    """The finality of the block that ends the epoch is only proven by an empty one above it."""
    stage = Stage(3)
    leader = stage.epoch.leader(1)

    def without_first_finality(message: Message) -> Message:
        match message:
            case Votes(votes):
                return Votes(tuple(v for v in votes if (v.kind, v.view) != (FINALIZE, 1)))
        return message

    stage.passes = without_first_finality
    stage.submit(leader, "e epoch:q=3")
    stage.submit((leader + 1) % 3, "waits")
    stage.pass_ms(20_000)
    archive = stage.disks[0].archive
    assert [len(block.leaves) for block in archive.blocks[:1]] == [1]
    certificate = Certificate.decode(archive.certificates[1])
    void = [Block.decode(data) for data in archive.void(1)]
    assert void
    assert certificate.block == void[-1].hash != archive.blocks[0].hash
    assert all(not block.leaves and block.header.epoch == 0 for block in void)
    assert void[0].header.parent == archive.blocks[0].hash
    assert agree(stage)
    assert stage.texts(1) == ["e epoch:q=3", "waits"]
    # One who was not there goes the same way.
    stage.join(3)
    run(stage, 0, "f epoch:add=m3")
    assert stage.replicas[3].epoch.number == 2
    assert stage.texts(3) == stage.texts(0)


@pytest.mark.rule("M2")
def test_a_block_with_leaves_above_the_end_of_an_epoch_is_refused() -> None:
    leader, second = (Stage(3).epoch.leader(view) for view in (1, 2))
    stage = Stage(3, away=(leader, second))
    [voter] = stage.replicas
    state = stage.disks[voter].archive.state
    first, after = stage.block(1, ["e epoch:q=3"], state=state)
    stage.play(leader, voter, Proposal(stage.vote(leader, NOTARIZE, 1, first.hash), first))
    assert (1, first.hash) in stage.signed(voter, NOTARIZE)
    proof = stage.certificate(NOTARIZE, 1, first.hash)
    full, _ = stage.block(2, ["late"], parent=first, certificate=proof, state=after)
    stage.play(second, voter, Proposal(stage.vote(second, NOTARIZE, 2, full.hash), full))
    assert (2, full.hash) not in stage.signed(voter, NOTARIZE)
    empty, _ = stage.block(2, [], parent=first, certificate=proof, state=after)
    fresh = Stage(3, away=(leader, second))
    fresh.play(leader, voter, Proposal(fresh.vote(leader, NOTARIZE, 1, first.hash), first))
    fresh.play(second, voter, Proposal(fresh.vote(second, NOTARIZE, 2, empty.hash), empty))
    assert (2, empty.hash) in fresh.signed(voter, NOTARIZE)


def test_one_who_was_away_comes_through_every_epoch_in_order(stage: Stage) -> None:
    stage.crash(2)
    run(stage, 0, "a")
    run(stage, 0, "e epoch:add=m3;q=3")
    run(stage, 0, "b")
    run(stage, 0, "f epoch:rotate=m0;q=3")
    run(stage, 0, "c")
    assert [stage.replicas[m].epoch.number for m in (0, 1, 3)] == [2, 2, 2]
    stage.restart(2)
    stage.pass_ms(20_000)
    assert epochs(stage) == [2] * 4
    assert agree(stage)
    assert stage.replicas[2].votes
    assert stage.is_silent()
    assert not stage.alarms[2]


def test_an_epoch_is_found_again_after_a_restart_of_everybody(stage: Stage) -> None:
    run(stage, 0, "e epoch:add=m3;q=3")
    for member in range(4):
        stage.crash(member)
    for member in range(4):
        stage.restart(member)
    stage.pass_ms(20_000)
    assert epochs(stage) == [1] * 4
    run(stage, 3, "b")
    assert agree(stage)
    assert stage.texts(0)[-1] == "b"
    for member in range(4):
        stage.crash(member)
    for member in range(4):
        stage.restart(member)
    run(stage, 2, "c")
    assert stage.texts(3)[-1] == "c"


def test_votes_and_certificates_of_another_epoch_count_nothing(stage: Stage) -> None:
    run(stage, 0, "e epoch:q=3")
    view, height = stage.replicas[0].view, stage.heights()[0]
    forged = b"f" * 32
    old = stage.certificate(FINALIZE, view, forged, members=(1, 2))
    stage.play(1, 0, Certificates((old,)))
    stage.play(1, 0, Votes((stage.vote(1, NULLIFY, view),)))
    newer = replace(stage.vote(1, NULLIFY, view), epoch=7)
    stage.play(1, 0, Votes((newer,)))
    assert stage.replicas[0].view == view
    run(stage, 0, "b")
    assert stage.heights()[0] == height + 1
    assert not stage.alarms[0]


def test_a_chain_whose_end_the_old_members_did_not_certify_is_refused() -> None:
    """Without the certificate of the old members nobody enters an epoch."""
    stage = Stage(3, away=(0, 1))
    end, _ = stage.block(1, ["e epoch:remove=m1"])
    stage.play(0, 2, Status(1, 2, 2, 1, 1, 1, bytes(32), False, ()))
    alone = stage.certificate(FINALIZE, 1, end.hash, members=(0,))
    stage.play(0, 2, Chain((end.encode(),), alone))
    assert stage.replicas[2].epoch.number == 0
    assert any("too few votes" in alarm.message for alarm in stage.alarms[2])
    stage.play(0, 2, Status(1, 2, 2, 1, 1, 1, bytes(32), False, ()))
    stage.play(0, 2, Chain((end.encode(),), stage.certificate(FINALIZE, 1, end.hash)))
    assert stage.replicas[2].epoch.number == 1


def test_a_node_without_the_rules_in_force_stops_and_says_so(stage: Stage) -> None:
    for member in (0, 1):
        stage.crash(member)
        stage.known_rules[member] = (1, 2)
        stage.restart(member)
    run(stage, 0, "e epoch:rules=2")
    assert not stage.replicas[2].votes
    assert [alarm.kind for alarm in stage.alarms[2]] == ["rules"]
    assert "rules_version 2" in stage.alarms[2][0].message
    run(stage, 0, "b")
    assert stage.heights()[:3] == [2, 2, 1]
    assert stage.is_silent()
    stage.crash(2)
    stage.known_rules[2] = (1, 2)
    stage.restart(2)
    stage.pass_ms(20_000)
    assert stage.heights()[2] == 2
    assert stage.replicas[2].votes


def test_a_forgotten_vote_is_cured_by_another_key(stage: Stage) -> None:
    stage.crash(2)
    disk = stage.disks[2]
    lost = Forgotten(stage.vote(2, NULLIFY, 1))
    disk.journal, disk.sequence = frame([lost.encode()], 0), 1
    stage.restart(2)
    run(stage, 0, "a")
    assert not stage.replicas[2].votes
    run(stage, 0, "e epoch:add=m3;q=3")
    assert not stage.replicas[2].votes  # another epoch alone cures nothing
    run(stage, 0, "f epoch:rotate=m2;q=3")
    assert stage.replicas[2].votes
    stage.crash(2)
    stage.restart(2)
    stage.pass_ms(5_000)
    assert stage.replicas[2].votes
    run(stage, 2, "b")
    assert agree(stage)


def test_a_store_that_lost_an_epoch_s_end_votes_by_its_journal_when_it_is_back(
    stage: Stage,
) -> None:
    run(stage, 0, "e epoch:q=3")
    stage.cut(0, 1)
    stage.cut(0, 2)
    stage.cut(0, 3)
    stage.submit(0, "b")
    stage.pass_ms(3_000)
    signed = stage.replicas[0]._core.ballot.votes
    assert signed
    stage.crash(0)
    archive = stage.disks[0].archive
    archive.blocks, archive.state = [], type(archive.state)()  # the disk lost its ledger
    stage._cut.clear()
    stage.restart(0)
    stage.pass_ms(1)
    assert [a.kind for a in stage.alarms[0]] == ["repair"]
    stage.pass_ms(20_000)
    assert stage.replicas[0].epoch.number == 1
    assert agree(stage)
    core = stage.replicas[0]._core
    assert not core.later


def test_records_of_a_later_epoch_survive_compaction(stage: Stage) -> None:
    stage.crash(0)
    vote = replace(stage.vote(0, NULLIFY, 9), epoch=4)
    disk = stage.disks[0]
    disk.journal, disk.sequence = frame([OwnVote(vote).encode()], 0), 1
    stage.restart(0)
    assert OwnVote(vote) in stage.replicas[0]._core.records()


def test_keys_of_a_member_are_found_by_their_public_ones() -> None:
    ring = Keys(1, cheap=True)
    key = vote_key(1, 3, cheap=True)
    assert ring(key.public) == key
    assert ring(vote_key(2, 0, cheap=True).public) is None
