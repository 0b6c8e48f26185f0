"""Organizations without a vote: what they learn, what they may say, and how little it counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from number_ledger import write_leaf
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY
from tilth_ledger.effects import PeerConnected, Received
from tilth_ledger.errors import Refused
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
from tilth_ledger.pool import Pool

FOLLOWER = 3


@pytest.fixture
def stage() -> Stage:
    return Stage(3, followers=1)


def said(stage: Stage, party: int) -> set[type]:
    return {type(message) for sender, _, message in stage.sent if sender == party}


def nothing_of_mine() -> Status:
    return Status(0, 1, 1, 0, 0, 0, bytes(32), False, ())


def test_a_follower_gets_what_is_final_at_once_and_then_all_are_silent(stage: Stage) -> None:
    stage.submit(0, "a")
    stage.settle()
    assert stage.texts(FOLLOWER) == ["a"]
    assert stage.disks[FOLLOWER].archive.state == stage.disks[0].archive.state
    assert stage.is_silent()


def test_an_entry_handed_in_by_a_follower_becomes_final_everywhere(stage: Stage) -> None:
    stage.submit(FOLLOWER, "a")
    stage.settle()
    assert [stage.texts(party) for party in range(4)] == [["a"]] * 4
    assert stage.is_silent()


def test_one_link_to_any_member_is_enough(stage: Stage) -> None:
    for member in (0, 2):
        stage.cut(FOLLOWER, member)
    stage.submit(FOLLOWER, "a")
    stage.pass_ms(5_000)
    assert [stage.texts(party) for party in range(4)] == [["a"]] * 4
    assert stage.is_silent()


def test_an_entry_that_does_not_hold_is_refused_to_the_follower_that_handed_it_in(
    stage: Stage,
) -> None:
    stage.submit(FOLLOWER, "bad")
    stage.pass_ms(20_000)
    [(_, error)] = stage.refused[FOLLOWER]
    assert isinstance(error, Refused)
    assert stage.is_silent()


def test_a_follower_signs_nothing_and_journals_nothing(stage: Stage) -> None:
    for party in range(4):
        stage.submit(party, f"of {party}")
        stage.pass_ms(1_000)
    assert not stage.replicas[FOLLOWER].votes
    assert stage.disks[FOLLOWER].journal == b""
    assert said(stage, FOLLOWER) <= {Gossip, Status, FetchChain}


def test_a_follower_fetches_each_block_once(stage: Stage) -> None:
    stage.submit(0, "a")
    stage.settle()
    chains = [to for _, to, message in stage.sent if isinstance(message, Chain)]
    assert chains == [FOLLOWER]


def test_a_follower_that_was_away_catches_up_and_goes_on(stage: Stage) -> None:
    stage.submit(FOLLOWER, "a")
    stage.settle()
    stage.crash(FOLLOWER)
    for number in range(300):
        stage.submit(number % 3, f"n{number}")
        stage.settle()
    stage.restart(FOLLOWER)
    stage.settle()
    assert stage.heights() == [301] * 4
    stage.submit(FOLLOWER, "b")
    stage.settle()
    assert stage.texts(0)[-1] == stage.texts(FOLLOWER)[-1] == "b"


def test_a_follower_stands_in_for_no_member(stage: Stage) -> None:
    stage.crash(1)
    stage.crash(2)
    stage.submit(FOLLOWER, "a")
    stage.pass_ms(60_000)
    assert stage.heights() == [0] * 4
    stage.restart(1)
    stage.pass_ms(60_000)
    assert stage.texts(FOLLOWER) == ["a"]


def test_what_a_follower_says_does_not_confirm_a_restarted_member(stage: Stage) -> None:
    stage.submit(0, "a")
    stage.settle()
    for member in range(3):
        stage.crash(member)
    stage.restart(0)
    stage.pass_ms(5_000)
    stage.play(FOLLOWER, to=0, message=nothing_of_mine())
    assert not stage.replicas[0].votes
    stage.restart(1)
    stage.settle()
    assert stage.replicas[0].votes


def only_of_members(stage: Stage) -> list[Message]:
    """Each thing that only members may say, as good as anybody could make it."""
    block, _ = stage.block(1, ["a"])
    vote = stage.vote(1, NOTARIZE, 1, block.hash)
    return [
        Votes((stage.vote(1, NULLIFY, 1),)),
        Certificates((stage.certificate(NULLIFY, 1),)),
        Proposal(vote, block),
        Body(block),
    ]


@pytest.mark.parametrize("which", range(4))
def test_what_only_members_may_say_is_a_fault_of_a_follower_and_changes_nothing(
    stage: Stage, which: int
) -> None:
    message = only_of_members(stage)[which]
    before = (stage.replicas[0].view, stage.replicas[0].held)
    stage.play(FOLLOWER, to=0, message=message)
    assert (stage.replicas[0].view, stage.replicas[0].held) == before
    [alarm] = stage.alarms[0]
    assert alarm.kind == "peer"
    assert type(message).__name__ in alarm.message


def test_final_blocks_of_a_follower_that_may_have_been_a_member_are_counted_and_unread(
    stage: Stage,
) -> None:
    block, _ = stage.block(1, ["a"])
    final = stage.certificate(FINALIZE, 1, block.hash)
    stage.play(FOLLOWER, to=0, message=Chain((block.encode(),), final))
    assert stage.replicas[0].height == 0
    assert stage.replicas[0].faults[f"m{FOLLOWER}"] == {"Chain: not asked for": 1}
    assert not stage.alarms[0]


def test_final_blocks_for_a_follower_of_one_that_was_a_member_too_are_no_fault() -> None:
    """Both were members when one asked; the change that made them followers came in between."""
    stage = Stage(3, followers=2)
    stage.play(4, to=3, message=Chain((), None))
    assert stage.replicas[3].faults["m4"] == {"Chain: not asked for": 1}
    assert not stage.alarms[3]


def test_certificates_move_a_member_when_a_member_says_them(stage: Stage) -> None:
    stage.play(1, to=0, message=Certificates((stage.certificate(NULLIFY, 1),)))
    assert stage.replicas[0].view == 2


def test_faults_of_a_follower_are_counted_and_told_ever_more_rarely(stage: Stage) -> None:
    vote = Votes((stage.vote(1, NULLIFY, 1),))
    for _ in range(20):
        stage.play(FOLLOWER, to=0, message=vote)
    assert len(stage.alarms[0]) == 5
    assert "fault 16 " in stage.alarms[0][-1].message


def test_a_vote_said_to_a_follower_is_a_fault_of_the_member(stage: Stage) -> None:
    stage.play(1, to=FOLLOWER, message=Votes((stage.vote(1, NULLIFY, 1),)))
    assert [alarm.kind for alarm in stage.alarms[FOLLOWER]] == ["peer"]
    assert stage.replicas[FOLLOWER].view == 1


def test_followers_say_nothing_to_one_another() -> None:
    stage = Stage(1, followers=2)
    stage.submit(1, "a")
    stage.settle()
    assert [stage.texts(party) for party in range(3)] == [["a"]] * 3
    assert not [1 for sender, to, _ in stage.sent if sender > 0 and to > 0]
    stage.play(1, to=2, message=Gossip((write_leaf("b"),)))
    assert stage.replicas[2].pending == 0
    assert stage.replicas[2].faults["m1"] == {"Gossip: this node does not vote": 1}


@pytest.mark.parametrize("ask", [FetchChain(1), FetchBlock(b"\1" * 32)])
def test_one_request_for_blocks_of_a_follower_is_answered_per_step(
    stage: Stage, ask: Message
) -> None:
    stage.submit(0, "a")
    stage.settle()
    effects = stage.step(0, [Received(FOLLOWER, ask)] * 50)
    assert len(effects.send) == 1
    assert len(stage.step(0, [Received(FOLLOWER, ask)]).send) == 1


def test_a_request_for_any_height_at_all_is_answered(stage: Stage) -> None:
    for height in (0, 1 << 63, (1 << 64) - 1):
        effects = stage.step(0, [Received(FOLLOWER, FetchChain(height))])
        assert [send.message for send in effects.send] == [Chain((), None)]


def test_followers_fill_a_quarter_of_the_pool_only() -> None:
    pool = Pool(most_leaves=8)
    for text in "ab":
        assert pool.add(write_leaf(text), local=False, share=4)
    with pytest.raises(Refused):
        pool.add(write_leaf("c"), local=False, share=4)
    assert pool.add(write_leaf("c"), local=False)
    assert pool.add(write_leaf("d"), local=True)


def test_a_member_that_claims_blocks_and_has_none_holds_a_follower_up_for_a_moment_only() -> None:
    stage = Stage(3, q=2, followers=1, away=(0,))
    stage.submit(1, "a")
    stage.play(0, to=FOLLOWER, message=replace(nothing_of_mine(), height=9))
    stage.pass_ms(20_000)
    assert stage.texts(FOLLOWER) == ["a"]


def test_a_follower_that_is_shown_another_final_chain_goes_no_further() -> None:
    stage = Stage(1, followers=1)
    stage.submit(0, "a")
    stage.settle()
    other, state = stage.block(1, ["b"])
    standing = stage.certificate(NOTARIZE, 1, other.hash)
    above, _ = stage.block(2, ["c"], other, standing, state=state)
    stage.crash(0)
    stage.step(1, [PeerConnected(0)])
    forked = Chain((above.encode(),), stage.certificate(FINALIZE, 2, above.hash))
    stage.play(0, to=1, message=replace(nothing_of_mine(), height=2))
    stage.play(0, to=1, message=forked)
    assert stage.replicas[1].halted
    assert [alarm.kind for alarm in stage.alarms[1]] == ["fork", "evidence"]


def test_an_organization_that_the_ledger_does_not_list_only_follows(stage: Stage) -> None:
    stage.join(9)
    assert stage.replicas[9].follows
    assert not stage.replicas[9].votes
    stage.submit(0, "a")
    stage.settle()
    assert stage.heights()[9] == 0  # nobody talks to it
